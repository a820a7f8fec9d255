/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_LINK_PUMP_H
#define HOST_LINK_PUMP_H

/*
 * A tunnel as a plain socket: its frames become bytes on a loop. When either end closes its direction the other one
 * sees it, and when both have the tunnel ends. What was said by a socket whose other end is gone can still be read
 * inside for a minute.
 */
#include "base/err.h"
#include "loop/loop.h"

struct pump;

/** It is over and gone; on the loop's thread. */
typedef void pump_done_fn(void *ctx);

/** pump_start() - @fd: a tunnel that is open (docs/protocol.md), taken over. *@ret_fd: a non-blocking stream socket,
 * yours. Any thread. Return: 0; -errno. */
int pump_start(struct loop *loop, int fd, int *ret_fd, struct err *e) MUST_CHECK;
/** pump_new() - the same with a socket of your own, taken over too; on the loop's thread. Return: 0; -errno, and both
 * are closed: @done is not called. */
int pump_new(struct loop *loop, int fd, int sock, pump_done_fn *done, void *ctx, struct pump **ret) MUST_CHECK;
/** pump_free() - cut it; @done is not called. The loop's thread. */
void pump_free(struct pump **slot);

#endif
