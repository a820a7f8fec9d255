/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_HOST_H
#define HOST_PRIV_HOST_H

/*
 * What the privileged process knows about the machine: the configuration it was forked with, descriptors of the
 * directories below the state directory, and where the control groups are. Everything else is on disk or in the kernel,
 * so that a new process finds what an old one left.
 *
 * The state directory is root's and nobody else may write into it. What the daemon needs besides is made for it before.
 *
 *	STATE/agent           copy of the agent program, bound into every sandbox
 *	STATE/bases/          images that others are copied from
 *	STATE/layers/         the same, that stay until somebody removes them
 *	STATE/boxes/ID/       one sandbox: images, bundle, mount points, record
 *	STATE/crun/           state of the runtime
 *	STATE/images/         empty file systems to copy from
 *	STATE/templates/NAME/ root file systems
 */
#include "base/vec.h"
#include "host/priv/cgroup.h"
#include "host/priv/priv.h"

struct net;

enum { HOST_BUILDS_MAX = 4, HOST_FETCHES_MAX = 4 };

/* A template that is being built. */
struct host_build {
	pid_t pid; /* also its process group; 0: none */
	int pidfd; /* tells whether the number is still its own */
	char name[PRIV_ID_MAX + 1];
};

struct host_id {
	char id[PRIV_ID_MAX + 1];
};

/* The mount as it is kept for the next daemon. */
struct host_mount {
	int fuse, table, links; /* -1: not there (yet) */
	int life;	    /* hangs up when the daemon is gone */
	int keeper;	    /* connection to the keeper; hangs up when it is gone */
	int notifier;	    /* process descriptor of who writes notifications */
	uint32_t window_ms; /* how long the keeper waits for the next daemon; 0: not at all */
	uint64_t dev;	    /* of the file system */
};

#define HOST_MOUNT_NULL                                                                                                \
	((struct host_mount){ .fuse = -1, .table = -1, .links = -1, .life = -1, .keeper = -1, .notifier = -1 })

struct host {
	struct priv_conf conf;
	struct cgroups cgroups;
	int boxes; /* directories */
	int templates;
	int images;
	int bases;
	int layers;
	int state;
	struct host_mount mount;
	int sock; /* to the daemon; borrowed, -1 in tests */
	struct host_build builds[HOST_BUILDS_MAX];
	struct net *net;   /* of sandboxes; NULL: they have none */
	char net_why[200]; /* and why */
	VEC(struct host_id) keep; /* parts of a list of sandboxes that a sweep is to keep, before the last of them */
	int broker; /* process descriptor of it; -1: none */
	int fetches[HOST_FETCHES_MAX]; /* likewise, of images that are fetched */
	unsigned fail_at; /* tests only: the step of a start that fails, counted from 1; 0: none */
};

#define HOST_NULL                                                                                                      \
	((struct host){ .boxes = -1,                                                                                   \
			.templates = -1,                                                                               \
			.images = -1,                                                                                  \
			.bases = -1,                                                                                   \
			.layers = -1,                                                                                  \
			.state = -1,                                                                                   \
			.sock = -1,                                                                                    \
			.broker = -1,                                                                                  \
			.fetches = { -1, -1, -1, -1 },                                                                 \
			.mount = HOST_MOUNT_NULL })

/** host_check_conf() - refuse what could not work or would be unsafe. Return: 0; -EINVAL slug "bad-config". */
int host_check_conf(const struct priv_conf *conf, struct err *e) MUST_CHECK;
/** host_init() - check @conf, make the directories, copy the agent, find the control groups. Return: 0 or -errno. */
int host_init(struct host *h, const struct priv_conf *conf, struct err *e) MUST_CHECK;
/** host_find_cgroups() - a part of it, also once more: our group is there in every tree. */
int host_find_cgroups(struct host *h, struct err *e) MUST_CHECK;
/** host_reopen() - open the directories anew, in the mount namespace of the calling process. Return: 0 or -errno. */
int host_reopen(struct host *h, struct err *e) MUST_CHECK;
/** host_fini() - close what host_init() opened. */
void host_fini(struct host *h);
/** host_reap() - collect the children that have ended; never waits. */
void host_reap(void);

#endif
