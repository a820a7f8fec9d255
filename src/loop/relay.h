/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOOP_RELAY_H
#define LOOP_RELAY_H

/*
 * Bytes both ways between two descriptors, on a loop, with a bounded buffer each way: a slow reader stops the writer on
 * the other side. When one side ends, what it sent is still delivered, then both are over.
 */
#include "loop/loop.h"

struct relay;

/** Called once on the loop's thread when both sides are over; the relay is gone then, the descriptors are the caller's.
 */
typedef void relay_done_fn(void *ctx);

/** relay_start() - begin; any thread. Both descriptors are made non-blocking and stay the caller's; @first: bytes that
 * were read from @a already (copied). */
void relay_start(struct loop *loop, int a, int b, const void *first, size_t len, relay_done_fn *done, void *ctx);

#endif
