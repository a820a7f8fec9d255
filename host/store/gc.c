/* SPDX-License-Identifier: Apache-2.0 */
/* One run from its beginning to its end, and what is known of the last one. */
#include "host/store/gc.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

enum { BUDGET_TIMES = 4, BUDGET_MIN = 1000000, GARBAGE_MIN_B = 4 * 1024 * 1024, GARBAGE_PART = 16,
       YIELD_MS = 1000, FAILED_MS = 30000 };

bool gc_is_stopped(struct gc *gc)
{
	bool stopped;

	lock_take(&gc->lock);
	stopped = gc->stop || gc->inhibited;
	lock_drop(&gc->lock);
	return stopped;
}

/* Everybody tells us from here on; then whoever began before has ended. */
static int begin_mark(struct gc_run *run)
{
	struct gc *gc = run->gc;

	gc_set_init(&gc->nodes, DIGEST_LEN, gc->key);
	gc_set_init(&gc->chunks, 8, gc->key);
	gc_shade_all(gc);
	return gc_grace(gc);
}

/* Return: whether nothing is left to be marked; then the sweep may begin. */
static bool turn(struct gc *gc)
{
	bool done;

	lock_take(&gc->lock);
	done = !gc->grey.len;
	if (done)
		gc->state = GC_SWEEP;
	lock_drop(&gc->lock);
	return done;
}

static int mark(struct gc_run *run, struct err *e)
{
	struct gc *gc = run->gc;
	int r = begin_mark(run);

	if (gc->at)
		gc->at(gc->at_ctx, GC_AT_MARK);
	if (r == 0)
		r = gc_mark(run, e);
	if (gc->at)
		gc->at(gc->at_ctx, GC_AT_MARKED);
	if (r == 0)
		r = gc_grey(run, e);
	/* Who read a root before its workspace was marked, and did not tell yet. */
	if (r == 0)
		r = gc_grace(gc);
	if (r == 0)
		gc_shade_roots(gc);
	while (r == 0) {
		r = gc_grey(run, e);
		if (r == 0 && turn(gc))
			break;
	}
	if (gc->at)
		gc->at(gc->at_ctx, GC_AT_SWEEP);
	if (run->has_view)
		view_end(&run->view);
	run->has_view = false;
	if (r == -ETIMEDOUT)
		return err_set(e, r, "gc-busy", "a transaction has not ended for %d s", GC_GRACE_MS / 1000);
	return r;
}

static int budget(struct gc_run *run, struct err *e)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	uint64_t n = 0, all = 0;
	size_t table;
	int r = db_begin(run->store->content, false, &t, e);

	for (table = CT_CHUNK; r == 0 && table <= CT_TREE; table++) {
		r = db_count(t, table, &n);
		all += n;
	}
	run->budget = BUDGET_TIMES * all + BUDGET_MIN;
	return r;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct gc_own *)a)->id, ((const struct gc_own *)b)->id);
}

/* Under the lock. */
static void remember(struct gc_run *run)
{
	struct gc *gc = run->gc;
	struct gc_stats *st = &run->stats;
	size_t i;

	st->runs = gc->stats.runs + 1;
	st->failed = gc->stats.failed;
	st->freed_ever = gc->stats.freed_ever + st->freed;
	st->freed_ever_b = gc->stats.freed_ever_b + st->freed_b;
	gc->stats = *st;
	free(gc->own);
	gc->n_own = run->ids.len;
	gc->own = must_calloc(MAX(gc->n_own, (size_t)1), sizeof(*gc->own));
	for (i = 0; i < gc->n_own; i++) {
		snprintf(gc->own[i].id, sizeof(gc->own[i].id), "%s", run->ids.v[i]);
		gc->own[i].bytes = run->own.v[i];
		gc->own[i].held = run->held.v[i];
		gc->own[i].snapshots = run->snapshots.v[i];
	}
	qsort(gc->own, gc->n_own, sizeof(*gc->own), by_id);
}

/* Why none can be now, or why one ended early. */
static int refuse(struct gc *gc, struct err *e)
{
	bool stop;

	lock_take(&gc->lock);
	stop = gc->stop;
	lock_drop(&gc->lock);
	return stop ? err_set(e, -ESHUTDOWN, "gc-stopped", "the daemon ends")
		    : err_set(e, -EBUSY, "gc-busy", "a backup or a verification reads the store");
}

/* gc.lock is held. What is only added makes no garbage, what is only removed makes no file grow, and a large file of
 * which a little was changed hands over a little: so the smaller of the two. */
static uint64_t least(const struct gc *gc)
{
	return MIN(__atomic_load_n(&gc->fresh_b, __ATOMIC_RELAXED), gc->dead_b);
}

static uint64_t worth(const struct gc *gc)
{
	uint64_t grown = __atomic_load_n(&gc->fresh_b, __ATOMIC_RELAXED) - least(gc);

	return MAX((uint64_t)GARBAGE_MIN_B, (gc->stats.live_b + grown) / GARBAGE_PART);
}

static int enter(struct gc *gc, struct err *e)
{
	bool wanted;

	lock_take(&gc->lock);
	while (gc->is_running && !gc->stop)
		(void)!lock_wait(&gc->lock, &gc->cond, CLOCK_NEVER);
	wanted = !gc->stop && !gc->inhibited;
	if (wanted) {
		gc->is_running = true;
		gc->dropped = 0;
		gc->pending_b = least(gc);
		gc->dead_b = 0;
		__atomic_store_n(&gc->fresh_b, 0, __ATOMIC_RELAXED);
		gc->is_wanted = gc->is_asked = false;
		gc->begun++;
	}
	lock_drop(&gc->lock);
	return wanted ? 0 : refuse(gc, e);
}

static void leave(struct gc_run *run, int r)
{
	struct gc *gc = run->gc;
	size_t i;

	lock_take(&gc->lock);
	gc->state = GC_IDLE;
	gc->pending_b = 0;
	if (r == 0) {
		remember(run);
		gc->done = gc->begun;
	} else {
		gc->stats.failed++;
		if (r != -EINTR) /* a backup or a verification: then it may begin at once */
			gc->not_before = clock_after_ms(FAILED_MS);
		gc->dropped += r == -EINTR || r == -ETIMEDOUT; /* soon again */
		gc->stats.freed_ever += run->stats.freed;
		gc->stats.freed_ever_b += run->stats.freed_b;
	}
	gc_set_fini(&gc->touched);
	gc_set_fini(&gc->nodes);
	gc_set_fini(&gc->chunks);
	vec_fini(&gc->grey);
	gc->is_running = false;
	pthread_cond_broadcast(&gc->cond);
	lock_drop(&gc->lock);
	for (i = 0; i < run->ids.len; i++)
		str_free(&run->ids.v[i]);
	vec_fini(&run->ids);
	vec_fini(&run->snapshots);
	vec_fini(&run->own);
	vec_fini(&run->held);
	vec_fini(&run->todo);
}

int store_gc(struct store *store, unsigned flags, struct gc_stats *ret, struct err *e)
{
	struct gc_run run = { .gc = store->gc, .store = store };
	struct gc_stats *st = &run.stats;
	uint64_t began = clock_now();
	int r;

	if (!store->writer)
		return err_set(e, -EROFS, "erofs", "the store is open for reading only");
	r = enter(store->gc, e);
	if (r)
		return r;
	st->began_ns = clock_wall();
	r = budget(&run, e);
	if (r == 0)
		r = mark(&run, e);
	st->mark_ms = (clock_now() - began) / CLOCK_MS;
	st->memory_b = gc_set_bytes(&store->gc->nodes) + gc_set_bytes(&store->gc->chunks);
	/* What nothing refers to now, what is durable may refer to still: it would be back after a power loss. */
	if (r == 0)
		r = store_sync(store, e);
	if (r == 0)
		r = gc_sweep(&run, flags, e);
	st->took_ms = (clock_now() - began) / CLOCK_MS;
	for (size_t i = 0; i < run.snapshots.len; i++)
		st->snapshots += run.snapshots.v[i];
	leave(&run, r);
	if (r == -EINTR)
		r = refuse(store->gc, e);
	if (r == 0)
		store_gc_last(store, ret);
	return r;
}

void store_gc_last(struct store *store, struct gc_stats *ret)
{
	struct gc *gc = store->gc;

	lock_take(&gc->lock);
	*ret = gc->stats;
	lock_drop(&gc->lock);
}

/* gc.lock is held. */
static const struct gc_own *own_of(const struct gc *gc, const char *id)
{
	struct gc_own want;

	snprintf(want.id, sizeof(want.id), "%s", id);
	return gc->n_own ? bsearch(&want, gc->own, gc->n_own, sizeof(want), by_id) : NULL;
}

int store_gc_own(struct store *store, const char *id, uint64_t *ret_b, uint64_t *ret_snapshots)
{
	struct gc *gc = store->gc;
	const struct gc_own *own;

	lock_take(&gc->lock);
	own = own_of(gc, id);
	if (own) {
		*ret_b = own->bytes;
		*ret_snapshots = own->snapshots;
	}
	lock_drop(&gc->lock);
	return own ? 0 : STORE_E_NONE;
}

void store_gc_held(struct store *store, const char *id, struct gc_held *ret)
{
	struct gc *gc = store->gc;
	const struct gc_own *own;

	lock_take(&gc->lock);
	own = own_of(gc, id);
	*ret = (struct gc_held){ .begun = gc->begun, .done = gc->done, .bytes = own ? own->held : 0,
				 .collects = gc->want != NULL };
	lock_drop(&gc->lock);
}

void gc_dropped(struct gc *gc)
{
	lock_take(&gc->lock);
	gc->dropped++;
	lock_drop(&gc->lock);
}

void gc_fresh(struct gc *gc, size_t len)
{
	__atomic_add_fetch(&gc->fresh_b, len, __ATOMIC_RELAXED);
}


void gc_dead(struct gc *gc, uint64_t bytes)
{
	void (*want)(void *ctx) = NULL;
	void *ctx = NULL;

	lock_take(&gc->lock);
	gc->dead_b += bytes;
	if (!gc->is_wanted && least(gc) >= worth(gc)) {
		gc->is_wanted = true;
		want = gc->want;
		ctx = gc->want_ctx;
	}
	lock_drop(&gc->lock);
	if (want)
		want(ctx);
}

/* gc.lock is held. */
static bool is_pressed(const struct gc *gc)
{
	/* Before the first one has counted, nobody knows how much is worth it. */
	return gc->stats.runs && gc->pending_b + least(gc) >= worth(gc) * 4 / 3;
}

enum gc_want store_gc_wanted(struct store *store)
{
	const struct gc *gc = store->gc;
	enum gc_want is;

	lock_take(&store->gc->lock);
	is = is_pressed(gc) ? GC_PRESSED : gc->is_asked || least(gc) >= worth(gc) ? GC_WANTED : GC_NOT_WANTED;
	lock_drop(&store->gc->lock);
	return is;
}

void store_gc_yield(struct store *store)
{
	uint64_t until = clock_after_ms(YIELD_MS);
	struct gc *gc = store->gc;
	void (*want)(void *ctx);
	void *ctx;

	lock_take(&gc->lock);
	if (!gc->is_running && gc->want && is_pressed(gc)) { /* it may wait for its turn */
		want = gc->want;
		ctx = gc->want_ctx;
		lock_drop(&gc->lock);
		want(ctx);
		lock_take(&gc->lock);
	}
	while (gc->want && !gc->stop && !gc->inhibited && is_pressed(gc) && clock_now() < until)
		(void)!lock_wait(&gc->lock, &gc->cond, until);
	lock_drop(&gc->lock);
}

void store_gc_ask(struct store *store)
{
	struct gc *gc = store->gc;
	void (*want)(void *ctx) = NULL;
	void *ctx;

	lock_take(&gc->lock);
	ctx = gc->want_ctx;
	if (!gc->is_asked && !gc->inhibited && clock_now() >= gc->not_before) {
		want = gc->want;
		gc->is_asked = want != NULL;
	}
	lock_drop(&gc->lock);
	if (want)
		want(ctx);
}

void store_gc_want(struct store *store, void (*fn)(void *ctx), void *ctx)
{
	lock_take(&store->gc->lock);
	store->gc->want = fn;
	store->gc->want_ctx = ctx;
	lock_drop(&store->gc->lock);
}

uint64_t store_gc_dropped(struct store *store)
{
	uint64_t n;

	lock_take(&store->gc->lock);
	n = store->gc->dropped;
	lock_drop(&store->gc->lock);
	return n;
}

void store_gc_inhibit(struct store *store)
{
	struct gc *gc = store->gc;

	lock_take(&gc->lock);
	gc->inhibited++;
	pthread_cond_broadcast(&gc->cond);
	while (gc->is_running)
		(void)!lock_wait(&gc->lock, &gc->cond, CLOCK_NEVER);
	lock_drop(&gc->lock);
}

void store_gc_allow(struct store *store)
{
	struct gc *gc = store->gc;

	lock_take(&gc->lock);
	gc->inhibited--;
	lock_drop(&gc->lock);
}

void store_gc_stop(struct store *store)
{
	struct gc *gc = store->gc;

	lock_take(&gc->lock);
	gc->stop = true;
	pthread_cond_broadcast(&gc->cond);
	lock_drop(&gc->lock);
}
