/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

/*
 * Mutexes with names and ranks. A thread may take a lock only when every lock that it holds has a lower rank; a breach
 * aborts, so that a possible deadlock shows in the first test that passes by and not in production. Ranks are in one
 * list, the order of the house.
 */
#include "base/own.h"

#include <pthread.h>
#include <stdbool.h>

enum lock_rank {
	LOCK_SANDBOX = 10, /* one sandbox: its state */
	LOCK_HUB = 20,     /* the table of sandboxes; short, nothing is called while it is held */
	LOCK_METER = 25,   /* one write of what sandboxes used */
	LOCK_WS = 30,      /* one workspace: waiters, handles */
	LOCK_FS = 40,      /* the inode table of the mount */
	LOCK_LINK = 50,    /* calls under way to an agent */
	LOCK_STORE_GC = 59,/* what a collection must not take away */
	LOCK_STORE = 60,   /* the writer's queue */
	LOCK_STORE_WS = 61,/* the table of open workspace environments */
	LOCK_STORE_SYNC_WS = 62,/* somebody makes a workspace's environment durable: held while the disk works */
	LOCK_STORE_SYNC = 63,  /* the same of the contents */
	LOCK_STORE_COMMIT = 64,/* somebody commits to an environment */
	LOCK_PRIV = 70,    /* one request at a time to the privileged process */
	LOCK_LOOP = 80,    /* the mail box of a loop */
	LOCK_POOL = 81,    /* a work pool's queue */
	LOCK_NOTIFY = 82,  /* the queue of invalidations */
	LOCK_LEAF = 90,    /* anything else that calls nothing while held */
};

struct lock {
	pthread_mutex_t mutex;
	const char *name;
	enum lock_rank rank;
};

void lock_init(struct lock *l, const char *name, enum lock_rank rank);
void lock_fini(struct lock *l);
/** lock_take() - take it; aborts when the order of ranks is broken. */
void lock_take(struct lock *l);
/** lock_drop() - give it back; locks may be dropped in any order. */
void lock_drop(struct lock *l);
/** lock_wait() - wait on @cond while holding @l and no other lock. @until as in clock.h. Return: 0 or -ETIMEDOUT. */
int lock_wait(struct lock *l, pthread_cond_t *cond, uint64_t until);
/** lock_cond_init() - a condition for lock_wait(), on the monotonic clock. */
void lock_cond_init(pthread_cond_t *cond);
/** lock_held() - how many locks this thread holds: assert zero before waiting on the wire, a child or the kernel. */
int lock_held(void);

#endif
