/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_NAMES_INSIDE_H
#define HOST_NET_NAMES_INSIDE_H

/* What names.c (who asks) and names-up.c (who is asked) share. Everything belongs to the thread of the loop. */
#include "base/list.h"
#include "host/net/names.h"
#include "host/net/resolvers.h"
#include "loop/loop.h"

#include <netinet/in.h>
#include <pthread.h>

enum {
	QUERIES_MAX = 512,  /* under way at a time */
	QUERIES_EACH = 48,  /* of one sandbox */
	CLIENTS_MAX = 128,  /* connections */
	CLIENTS_EACH = 8,
	TRIES = 3,
	TRY_MS = 2500,
	CLIENT_MS = 15000,
	TOLD_MAX = 256 /* addresses in an answer */
};

struct names {
	struct names_conf conf;
	struct loop *loop;
	pthread_t thread;
	struct loop_watch *udp, *tcp;
	struct list queries, clients;
	unsigned n_queries, n_clients;
	uint16_t *asked, *connected; /* by range */
	struct resolvers resolvers;
	int spare;
};

/* A connection of somebody who asks. */
struct client {
	struct list node;
	struct names *names;
	uint32_t range;
	int fd;
	struct loop_watch *watch;
	struct loop_timer *timer;
	struct buf in, out;
	unsigned queries; /* under way for it: it is freed after the last */
	bool gone;
};

struct query {
	struct list node;
	struct names *names;
	uint32_t range;
	struct client *client; /* NULL: by datagram, from @from */
	struct sockaddr_in from;
	uint16_t id; /* of who asked */
	struct question q;
	enum policy_verdict verdict;
	uint8_t *m; /* the message, with two bytes of length before it that TCP wants */
	size_t len;
	unsigned tries;
	int fd;
	struct loop_watch *watch;
	struct loop_timer *timer;
	struct buf in; /* TCP */
	size_t sent;
};

/* names-up.c: ask the next resolver, or give up. The query is freed when it was answered. */
void query_ask(struct query *q);
void query_end(struct query *q);
/* names.c: @m is for who asked. */
void query_reply(struct query *q, uint8_t *m, size_t len);
void client_drop(struct client *c);

#endif
