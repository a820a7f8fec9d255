/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_NET_INSIDE_H
#define HOST_PRIV_NET_INSIDE_H

/* What net.c, net-place.c and net-gate.c share. */
#include "host/priv/net.h"

#include <sys/types.h>

enum { NET_NAME_MAX = 64, AGAIN_MS = 500, AGAIN_MAX_MS = 60000 };

enum place_state {
	PLACE_UNKNOWN, /* perhaps a link of an earlier daemon's */
	PLACE_READY,
	PLACE_TAKEN,
};

struct place {
	enum place_state state;
	int userns, netns;		/* -1: none of ours */
	struct priv_net_policy *policy; /* what holds for it; NULL: it reaches nothing */
};

/* A process that outlives the daemon: its number alone may be somebody else's. */
struct net_process {
	pid_t pid; /* 0: none */
	uint64_t start;
};

struct net {
	enum priv_net_mode mode;
	char why[200];
	char link[16], table[NET_NAME_MAX]; /* of the host */
	uint32_t at;			    /* place of the uplink, net-plan.h */
	int home;			    /* the host's network namespace */
	int router;			    /* the router's */
	struct net_process gate, pasta;
	int pasta_fd; /* pidfd; -1 */
	uint64_t pasta_again; /* not before this */
	unsigned pasta_ms;    /* what is waited for the next time */
	int watch; /* of the host's addresses; -1 */
	struct nl in_home, in_router;
	struct rules *of_home, *of_router;
	bool v6, settled;
	struct place *places; /* conf.ranges of them */
	uint32_t ranges, ready_max;
	uint64_t work_after; /* no place is made ready before */
};

/* net-gate.c: the router and its way into the world. */
int gate_open(struct host *h, struct net *n, bool *ret_adopted, struct err *e) MUST_CHECK;
int gate_uplink(struct host *h, struct net *n, bool adopted, struct err *e) MUST_CHECK;
void gate_close(struct host *h, struct net *n);
/* Is there one of an earlier daemon, perhaps? */
bool gate_noted(const struct host *h);
int gate_note(struct host *h, const struct net *n) MUST_CHECK;
int pasta_start(struct host *h, struct net *n, struct err *e) MUST_CHECK;
int own_addresses(struct net *n, struct err *e) MUST_CHECK;
bool process_lives(const struct net_process *p);

/* net-place.c */
int place_make(struct host *h, struct net *n, uint32_t range, struct err *e) MUST_CHECK;
/* What is there of it, on the router's side, too. */
void place_clear(struct net *n, uint32_t range);

/* net.c */
/* In the namespace @ns from now on. */
int net_enter(int ns) MUST_CHECK;
/* Write a file below /proc/sys/net of the present namespace. Return: 0 or -errno. */
int net_sysctl(const char *path, const char *value);

#endif
