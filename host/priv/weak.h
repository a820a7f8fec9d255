/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_WEAK_H
#define HOST_PRIV_WEAK_H

/* Fences that a test takes down, one or a few at a time, to see that what it tries does work without them. The product
 * is built with weak-none.c, where all of them stand and nobody can be asked; weak.c is in the program berthd-weak
 * alone, which is never installed. */
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
	WEAK_PIDS,    /* control groups limit processes */
	WEAK_MEMORY,  /* and memory */
	WEAK_FILES,   /* descriptors are limited */
	WEAK_SCORE,   /* the score for the out-of-memory killer has a floor */
	WEAK_NODES,   /* /dev has none of the host's nodes */
	WEAK_CAPS,    /* capabilities are few */
	WEAK_USERNS,  /* there is a user namespace at all */
	WEAK_DEV,     /* /dev and what lies in it are ours, not the image's */
	WEAK_PROC,    /* likewise /proc */
	WEAK_N,
};

/** weak() - whether this fence is down. */
bool weak(enum weak fence);

#endif
