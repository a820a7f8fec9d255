/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_GC_H
#define HOST_STORE_GC_H

/* Collecting what nobody refers to: what the files of it share, and where the rest of the room tells it what it does.
 * docs/gc.md is its theory. */
#include "base/list.h"
#include "base/vec.h"
#include "host/store/gc-set.h"
#include "host/store/inside.h"

enum { GC_GRACE_MS = 60000 };
enum gc_state { GC_IDLE, GC_MARK, GC_SWEEP };

struct gc_own {
	char id[65];
	uint64_t bytes, held, snapshots;
};

/* An object by name. */
struct gc_ref {
	struct digest d;
	uint8_t table; /* enum content_table */
};
typedef VEC(struct gc_ref) gc_refs;

/* For tests: called by the collector, no lock is held. */
enum gc_point { GC_AT_MARK, GC_AT_MARKED, GC_AT_SWEEP, GC_AT_BATCH };

struct gc {
	struct store *store; /* borrowed: parent */
	void (*at)(void *ctx, enum gc_point point);
	void *at_ctx;
	size_t batch; /* of a test: objects in one transaction; 0: the usual */
	uint8_t key[HASH_KEY_LEN];
	struct lock lock; /* what follows */
	pthread_cond_t cond;
	enum gc_state state;
	bool is_running, stop; /* stop: store_gc_stop() */
	unsigned inhibited;
	uint64_t dropped; /* workspaces and snapshots, since the last run began */
	/* Since it began: bytes of objects that the store did not have (atomic), and of contents that inodes had and
	 * have no more. The smaller one bounds by how much the file grew for want of a run. */
	uint64_t fresh_b, dead_b;
	uint64_t pending_b; /* that smaller one when the run began that is under way */
	bool is_wanted; /* that was told */
	bool is_asked; /* store_gc_ask(), since the last run began */
	uint64_t not_before; /* nobody may ask: a run failed */
	uint64_t begun, done; /* runs: the number of the last that began, of the last that came to its end */
	void (*want)(void *ctx);
	void *want_ctx;
	uint64_t phase;	   /* its lowest bit is the place in users */
	unsigned users[2]; /* who began in a phase of that parity and did not end yet */
	struct list holds, writers;
	struct gc_set touched; /* handed over since the mark began; keys of 8 bytes */
	struct gc_set doomed;  /* of the batch that is being deleted; keys of 8 bytes */
	gc_refs grey;	       /* to be marked, told by others */
	void (*roots)(void *ctx, void (*one)(void *to, const struct content *c), void *to);
	void *roots_ctx;
	struct gc_stats stats; /* of the last run that came to its end */
	struct gc_own *own;    /* of that: sorted by id; owned */
	size_t n_own;
	/* Written in GC_MARK by the collector, read in GC_SWEEP by anybody under the lock. */
	struct gc_set nodes;  /* trees and lists: keys of 32 bytes */
	struct gc_set chunks; /* keys of 8 bytes */
};

void gc_init(struct store *store);
void gc_fini(struct store *store);

/* --- what others tell ------------------------------------------------------------------------------------------- */

/* A content writer's part in it: the objects that it handed over and that no inode refers to yet. */
struct gc_writer {
	struct list node;
	struct content base;
	VEC(uint64_t) put; /* keys of 8 bytes */
};

void gc_writer_begin(struct gc *gc, struct gc_writer *w, const struct content *base);
void gc_writer_end(struct gc *gc, struct gc_writer *w);
/** gc_touch() - an object is going to be handed over (before anybody looks whether it is there): it is not deleted by a
 * collection that is under way. Waits when it is being deleted at this moment. @w may be NULL. No lock may be held. */
void gc_touch(struct gc *gc, enum content_table table, const struct digest *d, struct gc_writer *w);
/** gc_use_begin() - this thread is going to move references that no hold is on from one place to another: a collection
 * waits for it at the two ends of its mark. Return: a token for gc_use_end(). */
unsigned gc_use_begin(struct gc *gc);
void gc_use_end(struct gc *gc, unsigned token);
/** gc_dropped() - a workspace or a snapshot was removed. */
void gc_dropped(struct gc *gc);
/** gc_fresh() - an object was handed over that the store did not have. gc_dead() - a transaction that was committed
 * took contents of so many bytes from inodes. Any thread, no lock is held. */
void gc_fresh(struct gc *gc, size_t len);
void gc_dead(struct gc *gc, uint64_t bytes);
/** gc_shade() - during a mark: this is marked as well. */
void gc_shade(struct gc *gc, enum content_table table, const struct digest *d);

/* --- the run ------------------------------------------------------------------------------------------------------ */

struct gc_run {
	struct gc *gc;
	struct store *store;
	VEC(char *) ids; /* of owners from 1 on; owned */
	VEC(uint64_t) snapshots; /* likewise */
	gc_refs todo;
	uint64_t budget; /* of coming by again, for what sharing saves */
	struct view view;
	bool has_view;
	unsigned looked;
	bool is_view; /* that is marked now */
	VEC(uint64_t) own, held; /* bytes, by owner: that nobody else has; that nobody before it has */
	struct gc_stats stats;
};

uint64_t gc_key(const struct gc *gc, enum content_table table, const void *digest);
/** gc_is_stopped() - the run should end early. */
bool gc_is_stopped(struct gc *gc);
/** gc_shade_all() - the mark begins: holds, writers, and what store_gc_roots() was given. */
void gc_shade_all(struct gc *gc);
void gc_shade_roots(struct gc *gc);
/** gc_grace() - wait for all uses that began before. Return: 0; -EINTR: stopped; -ETIMEDOUT. */
int gc_grace(struct gc *gc) MUST_CHECK;
/** gc_mark() - everything that a workspace refers to, then what others told. Return: 0; -errno. */
int gc_mark(struct gc_run *run, struct err *e) MUST_CHECK;
/** gc_drop_stale() - what the last seal recorded and the next one will not use. Return: 0; -errno. */
int gc_drop_stale(struct wsdb *ws) MUST_CHECK;
/** gc_grey() - mark what others told so far. */
int gc_grey(struct gc_run *run, struct err *e) MUST_CHECK;
/** gc_sweep() - Return: 0; -errno. */
int gc_sweep(struct gc_run *run, unsigned flags, struct err *e) MUST_CHECK;
/** gc_each_ref() - all that a list or a tree refers to. Return: 0; -EIO: damaged. */
int gc_each_ref(enum content_table table, struct span value, void (*fn)(void *ctx, struct gc_ref ref),
		void *ctx) MUST_CHECK;

#endif
