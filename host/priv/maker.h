/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_MAKER_H
#define HOST_PRIV_MAKER_H

/* The child that makes one sandbox in a mount namespace of its own and then becomes the runtime. */
#include "host/priv/host.h"

enum { MAKER_LOOPS = 2, MAKER_STEPS_MAX = 16 };

/* In memory that the maker shares with its parent; written by the maker only. */
struct maker_report {
	struct err err;		/* code 0 while nothing failed */
	int loops[MAKER_LOOPS]; /* loop devices taken, -1: none */
	bool fanotify;
	int watch_errno; /* why there is no fanotify group */
	uint64_t template_ino;
	unsigned steps;		      /* begun so far */
	uint64_t at[MAKER_STEPS_MAX]; /* when each began, clock.h; the last is the runtime */
};

struct maker {
	struct host host; /* the maker's own copy: its descriptors are reopened in its namespace */
	const struct priv_box_spec *spec;
	int listen_fd, token_fd, fan_fd, oom_fd;
	struct maker_report *report;
	uid_t base;
	int place_userns, place_netns; /* of its network, borrowed; -1: it has none */
	/* made on the way */
	int workspace, disk, userns, netns;
};

/** maker_run() - in a forked child: do all steps, become the runtime. Never returns; a failure is in the report. */
NORETURN void maker_run(struct maker *m);
/** maker_steps() - how many steps there are; failing step @n is asked for by host.fail_at = n. */
unsigned maker_steps(void);
/** maker_step_name() - what step @i (from 0) is called. */
const char *maker_step_name(unsigned i);

#endif
