/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_STREAM_H
#define HOST_API_E2B_STREAM_H

/* An answer that goes on: messages are put in on the loop, the server's thread takes the bytes out. */
#include "host/api/e2b/e2b.h"

struct e2b_stream;

struct e2b_stream_events {
	void (*drained)(void *ctx); /* it was full and has room again; may be NULL */
	void (*gone)(void *ctx);    /* once, the last call: the client has all, or went */
};

/** e2b_stream_new() - make @res such an answer. The events come on the server's thread. It is the server's; it may be
 * used until gone() was heard of. */
struct e2b_stream *e2b_stream_new(struct http_req *req, struct http_res *res, const struct e2b_stream_events *events,
				  void *ctx);
/** e2b_stream_give() - a message (none when @json is empty); with @last the end, with @why as its error or NULL. */
void e2b_stream_give(struct e2b_stream *s, struct span json, bool last, const struct err *why);
/** e2b_stream_full() - whoever makes messages should wait for drained(). */
bool e2b_stream_full(struct e2b_stream *s);
/** e2b_stream_free() - after gone(). */
void e2b_stream_free(struct e2b_stream **s);
/** e2b_keepalive_s() - how often the client wants to hear that it lives. */
unsigned e2b_keepalive_s(struct http_req *req);

#endif
