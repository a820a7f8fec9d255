/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

/* The last lines that the agent and, in a virtual machine, the kernel said, for a host that asks. */
#include "guest/ring.h"
#include "loop/loop.h"
#include "wire/msg.h"

struct console {
	struct ring ring;
	int kmsg; /* -1: the kernel's lines are not ours to read */
	struct loop_watch *watch;
};

/** console_init() - begin to keep the agent's own lines. */
void console_init(struct console *c);
/** console_kernel() - also the kernel's: from its buffer, and as they come. */
void console_kernel(struct console *c, struct loop *loop);
void console_fini(struct console *c);
/** console_read() - whole lines from @from on into a message; what it has borrows from @c until the next line. */
void console_read(const struct console *c, uint64_t from, struct msg_LOGS_IS *ret, struct buf *room);

#endif
