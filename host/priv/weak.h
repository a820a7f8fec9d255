/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_WEAK_H
#define HOST_PRIV_WEAK_H

/* Fences that a test takes down one by one, to see that what it tries does work without them. The product is built with
 * weak-none.c, where all of them stand and nobody can be asked; weak.c is in the program berthd-weak alone, which is
 * never installed. */
#include <stdbool.h>

enum weak {
	WEAK_EXE,     /* the agent's program: read-only, nobody's inside */
	WEAK_LEAK,    /* descriptors of the host end at the runtime */
	WEAK_MASK,    /* parts of /proc and /sys are covered */
	WEAK_NET,     /* a network namespace */
	WEAK_SETUID,  /* set-user-id bits in the workspace do not count */
	WEAK_DEVICES, /* nor do device nodes in the root */
	WEAK_IDS,     /* root inside is nobody outside */
	WEAK_CALLS,   /* the filter of system calls */
	WEAK_LIMITS,  /* control groups have limits */
	WEAK_N,
};

/** weak() - whether this fence is down. */
bool weak(enum weak fence);

#endif
