/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_UPSTREAM_H
#define HOST_BROKER_UPSTREAM_H

/*
 * Requests to services: libcurl's home in this room. Connections are kept and shared, HTTP/1.1 is spoken, TLS is always
 * verified, nothing is followed. All of it on the thread of the loop, callbacks too.
 */
#include "host/broker/head.h"
#include "loop/loop.h"
#include "seal/secret.h"

struct up;
struct up_call;

int up_new(struct loop *loop, struct up **ret, struct err *e) MUST_CHECK;
void up_free(struct up **slot);

enum { UP_NO_BODY = -2, UP_CHUNKED = -1 };

/* Borrowed for the call of up_start() only. */
struct up_request {
	const char *method;
	const char *url; /* may have a credential in its query */
	char *const *fields; /* "Name: value"; some may be credentials */
	size_t n_fields;
	int64_t length; /* of the body, or one of the above */
	bool private_;
	struct span ca; /* PEM; empty: the host's */
};

struct up_answer {
	int status;
	bool ahead; /* over HTTP/2: the service may send megabytes ahead of who reads, and they are kept */
	size_t n;
	struct head_field fields[HEAD_FIELDS_MAX];
};

/* What a call tells. None of them may end or resume the call. */
struct up_events {
	/* Body: as much as there is. Return: how much; 0: the end, UP_WAIT: up_more() will be called; UP_ABORT. */
	size_t (*body)(void *ctx, void *to, size_t room);
	/* Once, before data; fields are borrowed and may be written to. False: abort. */
	bool (*head)(void *ctx, struct up_answer *a);
	/* Return: 0; -EAGAIN: not now, the same again after up_more(); else abort. */
	int (*data)(void *ctx, struct span data);
	/* It is over, after which the call is gone. @e->code 0: whole. Slugs: "upstream-gone", "tls", "no-such-host",
	 * "private-address", "timeout", "aborted". */
	void (*end)(void *ctx, const struct err *e);
};
#define UP_WAIT SIZE_MAX
#define UP_ABORT (SIZE_MAX - 1)

/** up_start() - Return: 0; -ENOMEM; -EUSERS. @events stays. */
int up_start(struct up *up, const struct up_request *q, const struct up_events *events, void *ctx, struct up_call **ret,
	     struct err *e) MUST_CHECK;
/** up_more() - there is more body, or room for more data. */
void up_more(struct up_call *c);
/** up_stop() - break it off; end() is not called. */
void up_stop(struct up_call **slot);

#endif
