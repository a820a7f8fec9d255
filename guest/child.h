/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_CHILD_H
#define GUEST_CHILD_H

/* From an EXEC message to a running program, or to the reason why not. */
#include "base/err.h"
#include "wire/msg.h"

#include <stdbool.h>
#include <sys/types.h>

struct child {
	pid_t pid;
	int in, out, err; /* our ends, non-blocking, -1: there is none; with a terminal in and out are the same one */
	bool pty;
};

/**
 * child_start() - run it
 * @cwd: used when the message has none
 * @tag: a limit that limits nothing and that everything inherits, to find it by (kill.h)
 * Return: 0, and the descriptors are yours; else -errno and one of the slugs not-found, permission, not-executable,
 *         bad-directory, unknown-user, limits, bad-request.
 */
int child_start(const struct msg_EXEC *m, const char *cwd, uint64_t tag, struct child *ret, struct err *e) 
	MUST_CHECK;
/** child_resize() - set the size of a terminal. */
void child_resize(int pty, unsigned cols, unsigned rows);

#endif
