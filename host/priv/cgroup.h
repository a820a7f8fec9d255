/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_CGROUP_H
#define HOST_PRIV_CGROUP_H

/* Control groups: /PARENT/NAME/ID in every hierarchy that is of use, whatever mixture of versions the host has. */
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { CGROUP_TREES_MAX = 8, CGROUP_PATH_MAX = 128, CGROUP_NAME_MAX = 192 };

struct cgroup_tree {
	char path[CGROUP_PATH_MAX]; /* mount point */
	bool unified;		    /* version 2 */
	unsigned controllers;	    /* bits of enum cgroup_controller */
};

enum cgroup_controller { CGROUP_MEMORY = 1, CGROUP_CPU = 2, CGROUP_PIDS = 4, CGROUP_EXTRA = 8, CGROUP_FREEZER = 16 };

struct cgroups {
	struct cgroup_tree trees[CGROUP_TREES_MAX];
	unsigned n;
	char name[CGROUP_NAME_MAX]; /* our directory in each tree */
};

struct cgroup_limits {
	uint64_t memory_b; /* 0: no limits at all */
	uint32_t cpu_milli, pids;
};

/** cgroup_init() - read the mount table and make our directory, @name below @parent (may be empty), in each tree.
 * Return: 0; -EBUSY slug "cgroup-moved" when sandboxes are in one at the root, of a daemon
 *	   without a parent; -ENOTSUP slug "no-cgroup" when memory, cpu or pids can be limited nowhere; -errno. */
int cgroup_init(struct cgroups *c, const char *parent, const char *name, struct err *e) MUST_CHECK;
/** cgroup_fini() - remove our directory from the trees where no sandbox is left in it. */
void cgroup_fini(const struct cgroups *c);
/** cgroup_make() - a group for @id with @limits. Return: 0 or -errno; what was made stays, use cgroup_remove(). */
int cgroup_make(const struct cgroups *c, const char *id, const struct cgroup_limits *limits, struct err *e) MUST_CHECK;
/** cgroup_enter() - move the calling process into the group of @id. Return: 0 or -errno. */
int cgroup_enter(const struct cgroups *c, const char *id, struct err *e) MUST_CHECK;
/** cgroup_oom_open() - the file that counts what the kernel killed in the group of @id for memory, for reading; -1 when
 * there is none. */
int cgroup_oom_open(const struct cgroups *c, const char *id);
enum cgroup_freeze { CGROUP_THAWED, CGROUP_FROZEN_WORK, CGROUP_FROZEN };

/** cgroup_freeze() - bring the group of @id to @level and wait until it is there. Everything but the process @agent
 * counts as work. Return: 0; -ETIMEDOUT (thawed again); -EOPNOTSUPP (no tree here can freeze); -errno. */
int cgroup_freeze(const struct cgroups *c, const char *id, pid_t agent, enum cgroup_freeze level, struct err *e)
	MUST_CHECK;
/** cgroup_kill() - SIGKILL everything in the group and wait until it is empty, at most some seconds.
 * Return: 0 (also when there is no group); -ETIMEDOUT; -errno. */
int cgroup_kill(const struct cgroups *c, const char *id, struct err *e) MUST_CHECK;
/** cgroup_remove() - remove the empty group. Return: 0 (also when there is none) or -errno. */
int cgroup_remove(const struct cgroups *c, const char *id, struct err *e) MUST_CHECK;
/** cgroup_each() - call @fn with the name of every group below ours, each once per tree: ids of sandboxes, and what
 * else this room makes. Return: 0 or the first non-zero. */
int cgroup_each(const struct cgroups *c, int (*fn)(void *ctx, const char *id), void *ctx);

#endif
