/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_FIELDS_H
#define HOST_BROKER_FIELDS_H

/* What of a head goes on, and what is put in its place: of requests to the service, of answers to the sandbox. */
#include "host/broker/bind.h"
#include "host/broker/upstream.h"

enum { FIELDS_MAX = HEAD_FIELDS_MAX + RULE_HEADERS_MAX + 8 };

struct fields {
	char *url;
	char *v[FIELDS_MAX]; /* "Name: value"; wiped when they go */
	size_t n;
};

/** fields_build() - what goes to the service: none of the sandbox's that is of the connection, would carry a credential
 * or lead elsewhere; and the credential. The values of @b are open. Return: 0; -ENOMEM; -E2BIG. */
int fields_build(const struct head *h, const struct bound *b, struct fields *ret) MUST_CHECK;
void fields_fini(struct fields *f);

/* How an answer's body is told of. */
struct framing {
	bool has_body, chunked; /* neither chunked nor a length: until the end of the connection */
	bool has_length;
	uint64_t length;
	bool is_text;  /* may be rewritten */
};

/** fields_answer() - the head of the answer, as the sandbox is told it: masked, with URLs of the service turned into
 * ours. Return: 0; -EACCES, slug "redirect": it leads where the service's policy does not say that it may; -E2BIG. */
int fields_answer(struct up_answer *a, const struct head *h, const struct bound *b, bool keep, struct framing *ret,
		  struct buf *to, struct err *e) MUST_CHECK;

#endif
