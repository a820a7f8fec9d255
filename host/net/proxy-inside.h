/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_PROXY_INSIDE_H
#define HOST_NET_PROXY_INSIDE_H

/* What proxy.c (the thread, who connects), proxy-dial.c (until the proxy has connected) and proxy-pass.c (bytes both
 * ways) share. Everything belongs to the thread of the loop. */
#include "base/list.h"
#include "host/net/lookup.h"
#include "host/net/proxy.h"
#include "loop/loop.h"

#include <pthread.h>

enum {
	HOPS_MAX = 2048, /* connections */
	HOPS_EACH = 256, /* of one sandbox */
	DIAL_MS = 60000,
	ADDRESS_MS = 10000, /* for one address of the proxy's, when it has others */
	PASS_B = 64 * 1024,
	NEAR_B = 256 * 1024, /* what the kernel holds of a connection to a sandbox, each way: the way is short */
	FAR_B = 1024 * 1024,  /* of one to a proxy, what has come and nobody has taken */
	UNSENT_B = 128 * 1024 /* and what is to go, besides what is on its way */
};

struct stock {
	int fds[PROXY_SOCKETS_MAX];
	size_t n;
};

struct proxy {
	struct proxy_conf conf;
	struct loop *loop;
	pthread_t thread;
	struct loop_watch *listen[2];
	struct lookup *lookup;
	struct stock stock[2]; /* sockets of IPv4 and IPv6 that are not used yet */
	struct list hops;
	unsigned n_hops;
	uint16_t *each; /* by range */
	int spare;
};

enum { SANDBOX, PROXY }; /* ends of a hop */

/* One connection of a sandbox and the one to its proxy. */
struct hop {
	struct list node;
	struct proxy *of;
	uint32_t range;
	uint64_t since; /* of its way */
	char *name;	/* asked for by it; NULL: by address, which the filter judges packet by packet */
	int fd[2];
	struct loop_watch
		*watch[2]; /* NULL of one that is passed on: it is closed both ways, something may be left in it */
	struct buf out[2]; /* to be written to fd[] */
	/* until it is connected */
	struct proxy_way *way; /* zeroed when it is given back */
	struct lookup_wait *wait;
	struct loop_timer *timer;
	uint64_t until;
	struct priv_prefix at[LOOKUP_ADDRESSES_MAX];
	size_t n_at, next;
	struct socks socks;
	/* from then on */
	bool ended[2]; /* nothing more comes from it */
	bool shut[2];  /* nothing more goes to it */
};

/* proxy.c: both ends are closed, with a reset unless both directions have come to their ends. */
void hop_end(struct hop *h);
/* Of a socket to a proxy, or of a listener, from which those of sandboxes have it: a reset when it is closed, and who
 * is gone without a word is noticed. */
void hop_prepare(int fd);
/* proxy-dial.c: @h->way is set. It may end at once. */
void hop_dial(struct hop *h);
/* The way is not needed any more. */
void hop_forget_way(struct hop *h);
/* proxy-pass.c: it is connected. */
void hop_pass(struct hop *h);

#endif
