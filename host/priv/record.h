/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_RECORD_H
#define HOST_PRIV_RECORD_H

/* What is written down about a sandbox, in its directory. */
#include "host/priv/maker.h"

struct record {
	pid_t pid;	/* of the agent; 0: it never ran */
	uint64_t start; /* when it started, in the kernel's ticks */
	uint32_t kind;	/* enum priv_box_kind */
	uint32_t range;
	int loops[MAKER_LOOPS]; /* -1: none */
	uint64_t template_ino;
};

#define RECORD_NULL ((struct record){.loops = {-1, -1}})

/** record_write() - into the sandbox's directory @dir. Return: 0 or -errno. */
int record_write(int dir, const struct record *rec) MUST_CHECK;
/** record_read() - Return: 0; -ENOENT; -EINVAL (not understood; @ret is untouched); -errno. */
int record_read(int dir, struct record *ret) MUST_CHECK;
/** record_start_time() - when process @pid started. Return: 0; -ESRCH; -errno. */
int record_start_time(pid_t pid, uint64_t *ret) MUST_CHECK;

#endif
