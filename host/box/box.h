/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BOX_BOX_H
#define HOST_BOX_BOX_H

/*
 * Where commands run. A kind of box is a table of functions; the hub knows nothing else of it. What every kind promises
 * is tested by one conformance test that is run for each (tests/flow/box-conformance.sh):
 *
 *  - start: the agent runs and answers on the address with the token, or nothing is left and the error says why;
 *  - /workspace inside is a file system of its own with the size that was asked for (kinds with BOX_SIZED);
 *  - the pidfd becomes readable when the agent has ended, for whatever reason;
 *  - end: no process, mount, device, group or file of it is left (but the image, when it is to be kept); twice is fine;
 *  - find: a box of an earlier daemon that still runs is found by its id.
 *
 * To add a kind: one file with its table, one line in box.c, its word in the configuration (host/conf.c).
 */
#include "base/err.h"
#include "host/priv/priv.h"

#include <stdbool.h>

/* What a kind can do. */
enum {
	BOX_ISOLATED = 1, /* hostile code may run in it */
	BOX_SIZED = 2,	  /* the workspace has a limit of bytes and inodes */
	BOX_LIMITED = 4,  /* memory, cpu and processes are limited */
	BOX_NETWORK = 8,  /* it can have a network (docs/network.md) */
};

struct box_env {
	struct priv *priv;
	const char *run_dir; /* of agents' sockets */
};

struct box_spec {
	const char *id, *template_;
	const uint8_t *token; /* WIRE_TOKEN_LEN bytes */
	uint32_t range;	      /* index of the id range */
	uint64_t memory_b, workspace_b;
	uint32_t cpu_milli, pids;
	bool net;  /* it has a network beside its loopback */
	bool laid; /* the workspace's disk is what base_lay() made for it */
	bool again; /* both disks are those that end() has kept */
	enum priv_root root;
	const struct priv_volume *volumes;
	uint32_t n_volumes;
};

struct box_started {
	int64_t pid; /* of the agent, host view */
	int pidfd;   /* yours */
	char address[300]; /* xport.h: where the agent listens */
};

struct box_kind {
	const char *name;
	unsigned can; /* BOX_* */
	/** start() - Return: 0; -errno with a slug; a failure leaves nothing behind. Blocks for the time of the work.
	 */
	int (*start)(const struct box_env *env, const struct box_spec *spec, struct box_started *ret, struct err *e);
	/** end() - Return: 0, also when nothing is there. @keep: leave this disk. */
	int (*end)(const struct box_env *env, const char *id, enum priv_disk keep, struct err *e);
	/** freeze() - see priv_box_freeze(). Return: 0; -errno, and what was frozen goes on. */
	int (*freeze)(const struct box_env *env, const char *id, enum priv_freeze level, struct err *e);
	/* Disks that others begin with (docs/base.md, docs/templates.md): see priv_base_keep() and the others. All
	 * NULL: this kind has none. */
	int (*base_keep)(const struct box_env *env, const char *id, const char *name, enum priv_disk disk,
			 struct err *e);
	int (*base_lay)(const struct box_env *env, const char *name, const char *id, enum priv_disk disk,
			struct err *e);
	int (*base_drop)(const struct box_env *env, const char *name, struct err *e);
	/* What was written outside of a workspace (docs/snapshots.md): see priv_layer_keep() and the others. All NULL:
	 * this kind has none. */
	int (*layer_keep)(const struct box_env *env, const char *id, const char *name, void (*copied)(void *ctx),
			  void *ctx, struct err *e);
	int (*layer_lay)(const struct box_env *env, const char *name, const char *id, struct err *e);
	int (*layer_drop)(const struct box_env *env, const char *name, struct err *e);
	int (*layer_open)(const struct box_env *env, const char *name, int *ret_fd, struct err *e);
	/** find() - Return: 1 and @ret for a box that runs; 0; -errno. */
	int (*find)(const struct box_env *env, const char *id, struct box_started *ret, struct err *e);
};

extern const struct box_kind box_oci, box_fake;

/** box_kind_find() - by its word in the configuration; NULL when there is none. */
const struct box_kind *box_kind_find(const char *name);

#endif
