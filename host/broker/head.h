/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_HEAD_H
#define HOST_BROKER_HEAD_H

/*
 * Requests of HTTP/1.1, read strictly: what two readers could understand differently is refused, so that nothing can be
 * hidden in a request which whoever reads it next would take for another one.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

enum { HEAD_MAX = 64 * 1024, HEAD_FIELDS_MAX = 128, HEAD_METHOD_MAX = 16, HEAD_TARGET_MAX = 16 * 1024 };

struct head_field {
	struct span name, value; /* without blanks around */
};

struct head {
	char method[HEAD_METHOD_MAX + 1];
	struct span path, query; /* of the target; query: behind '?', p NULL when there is none */
	bool is_10;		 /* HTTP/1.0 */
	bool keep;		 /* the connection is to go on */
	bool continue_;		 /* the client waits for "100 Continue" */
	bool chunked, has_length;
	uint64_t length;
	size_t n;
	struct head_field fields[HEAD_FIELDS_MAX]; /* borrowed from the bytes */
};

/** head_parse() - Return: how many bytes it is; 0: it is not all there; -EBADMSG, slug "bad-request", or
 * "head-too-large"; -EPERM "method" for CONNECT, TRACE and whatever else is never let through; "upgrade". */
ssize_t head_parse(struct span in, struct head *ret, struct err *e) MUST_CHECK;
/** head_get() - the value of a field, p NULL: none. */
struct span head_get(const struct head *h, const char *name);
bool head_is(struct span name, const char *word);

/* The body behind it. */
struct body {
	bool chunked, over;
	uint64_t left;	/* of the length, or of the chunk */
	unsigned state; /* chunked */
	unsigned line;	/* bytes of a line so far */
	uint64_t all;	/* that came */
};

void body_init(struct body *b, const struct head *h);
/** body_feed() - read from @in, append what is content to @to, as much as it has room for. Return: how many bytes of
 * @in were used; -EBADMSG. */
ssize_t body_feed(struct body *b, struct span in, struct buf *to, struct err *e) MUST_CHECK;

#endif
