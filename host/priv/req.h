/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_REQ_H
#define HOST_PRIV_REQ_H

/*
 * What crosses the socketpair between the daemon and the privileged process. One request is one datagram of exactly the
 * size of its struct, with exactly the descriptors that its row in serve.c names; one reply answers it. Both ends are
 * the same binary, so there are no versions and no byte order; but the daemon's end is not trusted, so every string
 * must be terminated inside its field and every number is compared with a range before anything is done.
 */
#include "host/priv/priv.h"

enum { REQ_MAGIC = 0x62707276, REQ_KEEP_MAX = 1024, REQ_KEEP_ALL_MAX = 1 << 20, REQ_FDS_MAX = 4 };

enum req_op {
	REQ_MOUNT = 1,
	REQ_MOUNT_LINKS,
	REQ_MOUNT_KEEP,
	REQ_UNMOUNT,
	REQ_BOX_START,
	REQ_BOX_END,
	REQ_BOX_ALIVE,
	REQ_SWEEP,
	REQ_TEMPLATE_BUILD,
	REQ_TEMPLATE_REMOVE,
	REQ_BOX_FREEZE,
	REQ_BASE_KEEP,
	REQ_BASE_LAY,
	REQ_BASE_DROP,
	REQ_NET_OPEN,
	REQ_NET_POLICY,
	REQ_NET_NAMES,
	REQ_BROKER_START,
	REQ_LAYER_KEEP,
	REQ_LAYER_LAY,
	REQ_LAYER_DROP,
	REQ_LAYER_OPEN,
	REQ_FETCH_START,
	REQ_MOUNT_NOTIFY,
	REQ_NET_SOCKETS,
};

struct req_head {
	uint32_t magic;
	uint32_t op; /* enum req_op */
};

struct req_plain {
	struct req_head head;
};

struct req_mount_keep {
	struct req_head head;
	uint32_t window_ms;
};

struct req_box_start {
	struct req_head head;
	struct priv_box_spec spec;
};

struct req_box {
	struct req_head head;
	char id[PRIV_ID_MAX + 1];
	uint32_t keep; /* enum priv_disk */
};

struct req_box_freeze {
	struct req_head head;
	char id[PRIV_ID_MAX + 1];
	uint32_t level; /* enum priv_freeze */
};

struct req_base {
	struct req_head head;
	char name[PRIV_ID_MAX + 1];
	char id[PRIV_ID_MAX + 1]; /* not for BASE_DROP, LAYER_DROP and LAYER_OPEN, as the next */
	uint32_t disk;		  /* enum priv_disk */
};

struct req_sweep {
	struct req_head head;
	uint32_t n;
	uint32_t more; /* this is a part of them: nothing is done before the last */
	char keep[REQ_KEEP_MAX][PRIV_ID_MAX + 1];
};

struct req_template_build {
	struct req_head head;
	struct priv_template_spec spec;
};

struct req_template {
	struct req_head head;
	char name[PRIV_ID_MAX + 1];
};

struct req_fetch_start {
	struct req_head head;
	struct priv_fetch_spec spec;
};

struct req_net_policy {
	struct req_head head;
	struct priv_net_policy policy;
};

struct req_net_names {
	struct req_head head;
	uint32_t range, life_s, n;
	struct priv_prefix v[PRIV_NET_NAMES_MAX];
};

struct req_net_sockets {
	struct req_head head;
	uint32_t family, n;
};

union req {
	struct req_head head;
	struct req_plain plain;
	struct req_mount_keep mount_keep;
	struct req_box_start box_start;
	struct req_box box;
	struct req_box_freeze box_freeze;
	struct req_base base;
	struct req_sweep sweep;
	struct req_template_build template_build;
	struct req_template template_;
	struct req_fetch_start fetch_start;
	struct req_net_policy net_policy;
	struct req_net_names net_names;
	struct req_net_sockets net_sockets;
};

struct reply {
	struct err err; /* err.code 0: done */
	int32_t pid;	/* box_start */
	uint32_t fanotify;
	uint32_t uid_base;
	uint32_t alive;	 /* box_alive */
	uint32_t n_fds; /* that come with it */
	uint32_t taken; /* mount */
	uint32_t net_mode; /* net_open, as the next */
	char words[200];
};

#endif
