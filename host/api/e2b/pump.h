/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_PUMP_H
#define HOST_API_E2B_PUMP_H

/* A tunnel as a plain socket: its frames become bytes on a loop. */
#include "base/err.h"
#include "loop/loop.h"

/** pump_start() - @fd: a tunnel that is open (docs/protocol.md), taken over. *@ret_fd: a non-blocking stream socket,
 * yours; when either end closes its direction the other one sees it, and when both have the tunnel ends. Return: 0;
 * -errno. */
int pump_start(struct loop *loop, int fd, int *ret_fd, struct err *e) MUST_CHECK;

#endif
