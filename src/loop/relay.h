/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOOP_RELAY_H
#define LOOP_RELAY_H

/*
 * Bytes both ways between two descriptors, on a loop, with a bounded buffer each way: a slow reader stops the writer on
 * the other side. When one side ends, what it sent is still delivered, then both are over.
 */
#include "base/buf.h"
#include "loop/loop.h"

struct relay;

/** Called once on the loop's thread when both sides are over; the relay is gone then, the descriptors are the caller's.
 */
typedef void relay_done_fn(void *ctx);

/** relay_start() - begin; any thread. Both descriptors are made non-blocking and stay the caller's; @first: bytes that
 * were read from @a already (copied). */
void relay_start(struct loop *loop, int a, int b, const void *first, size_t len, relay_done_fn *done, void *ctx);

/* Somebody who looks at what comes from @b before @a gets it, and may change it. On the loop's thread. */
enum { RELAY_FILTER_ROOM = 64 * 1024 }; /* no more goes on while so much waits for a reader */
struct relay_filter {
	/** take what can be taken out of @in, append to @out; @ret_waits: something is kept back. Return: 0; -errno:
	 * both sides are over, what is in @out is delivered */
	int (*pass)(void *ctx, struct buf *in, struct buf *out, bool *ret_waits);
	/** it was kept back for @wait_ms: append it. Return: as above */
	int (*late)(void *ctx, struct buf *out);
	void (*end)(void *ctx); /* the relay is over: release */
	unsigned wait_ms;
	void *ctx;
};

/** relay_start_filtered() - the same with a filter, which may be NULL. */
void relay_start_filtered(struct loop *loop, int a, int b, const void *first, size_t len, struct relay_filter *filter,
			  relay_done_fn *done, void *ctx);

#endif
