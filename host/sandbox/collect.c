/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread gives space back: stopped sandboxes that are too old or too many are removed, and snapshots of whole ones
 * that are too old; then what nothing refers to
 * any more is collected (docs/gc.md). It runs when something was removed, when so much was written anew that the
 * store's file would grow for it, when the disk is low, and now and then in any case.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

enum {
	LOOK_MS = 5000,
	SOON_MS = 20,
	REST_MS = 30000,     /* at least, between two runs */
	REST_LOW_MS = 10000, /* when the disk is low, as long as that brings something */
	REST_VAIN_MS = 60000,
	TIMES = 20,	 /* a run may take one part in so many of the time */
	TIMES_WANTED = 2, /* when the file would grow */
	TIMES_LOW = 2,	 /* when the disk is low */
};

struct kept {
	char id[PRIV_ID_MAX + 1];
	int64_t stopped_ns;
};

struct list_of_kept {
	VEC(struct kept) v;
};

static int take_stopped(void *ctx, const struct hub_info *i)
{
	struct list_of_kept *list = ctx;
	struct kept k = { .stopped_ns = i->stopped_ns };

	snprintf(k.id, sizeof(k.id), "%s", i->id);
	if (i->state == SANDBOX_STOPPED)
		vec_push(&list->v, k);
	return 0;
}

static int youngest_first(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->stopped_ns != y->stopped_ns)
		return x->stopped_ns < y->stopped_ns ? 1 : -1;
	return strcmp(x->id, y->id);
}

/* A failed one is somebody's to look at: its image may hold what never came here. */
static void retire(struct hub *hub)
{
	const struct hub_conf *c = &hub->conf;
	int64_t oldest = clock_wall() - (int64_t)(c->keep_stopped_ms * CLOCK_MS);
	struct list_of_kept list = { .v = { 0 } };
	size_t i;

	if (!c->keep_stopped_ms && !c->keep_stopped_count)
		return;
	(void)!hub_each(hub, true, take_stopped, &list);
	if (list.v.len)
		qsort(list.v.v, list.v.len, sizeof(*list.v.v), youngest_first);
	for (i = 0; i < list.v.len; i++) {
		struct kept *k = &list.v.v[i];
		bool old = c->keep_stopped_ms && k->stopped_ns < oldest;
		bool many = c->keep_stopped_count && i >= c->keep_stopped_count;
		struct err e = ERR_NULL;

		if (!old && !many)
			continue;
		if (hub_remove(hub, k->id, false, NULL, &e) == 0)
			log_info("sandbox", "removed", "id=%s why=%s", k->id,
				 old ? "store.keep-stopped" : "store.keep-stopped-count");
		else if (e.code != -ENOENT && e.code != -EBUSY)
			log_warn("sandbox", "not removed", "id=%s why=%s", k->id, e.text);
	}
	vec_fini(&list.v);
}

static void retire_snapshots(struct hub *hub)
{
	int64_t oldest = clock_wall() - (int64_t)(hub->conf.keep_snapshots_ms * CLOCK_MS);
	VEC(struct layer) old = { 0 };
	size_t i;

	if (!hub->conf.keep_snapshots_ms)
		return;
	lock_take(&hub->lock);
	for (i = 0; i < hub->layers.len; i++)
		if (hub->layers.v[i].snapshot[0] && hub->layers.v[i].created_ns < oldest)
			vec_push(&old, hub->layers.v[i]);
	lock_drop(&hub->lock);
	for (i = 0; i < old.len; i++) {
		struct layer *l = &old.v[i];
		struct err e = ERR_NULL;

		if (hub_snapshot_remove(hub, l->of, l->snapshot, &e) == 0)
			log_info("sandbox", "snapshot removed", "id=%s name=%s why=store.keep-snapshots", l->of,
				 l->snapshot);
		else if (e.code != -ENOENT)
			log_warn("sandbox", "not removed", "id=%s name=%s why=%s", l->of, l->snapshot, e.text);
	}
	vec_fini(&old);
}

static bool is_low(struct hub *hub)
{
	struct hub_disk d;

	hub_disk(hub, &d);
	return d.state != HUB_DISK_OK;
}

/* What was removed or written since the last run, and how long ago that was. */
static bool is_due(struct hub *hub, uint64_t ended, uint64_t took_ms, bool low)
{
	uint64_t since_ms = (clock_now() - ended) / CLOCK_MS;
	struct gc_stats last;
	enum gc_want want = store_gc_wanted(hub->conf.store);
	bool dropped;

	if (!hub->conf.gc_interval_ms)
		return false;
	store_gc_last(hub->conf.store, &last);
	dropped = store_gc_dropped(hub->conf.store) > 0;
	if (low)
		return since_ms >= MAX((uint64_t)(dropped || last.freed ? REST_LOW_MS : REST_VAIN_MS),
				       took_ms * TIMES_LOW);
	if (want == GC_PRESSED || (want == GC_WANTED && since_ms >= took_ms * TIMES_WANTED))
		return true;
	if (dropped && since_ms >= MAX((uint64_t)REST_MS, took_ms * TIMES))
		return true;
	return since_ms >= hub->conf.gc_interval_ms;
}

static void collect(struct hub *hub, bool eager, uint64_t *took_ms)
{
	uint64_t began = clock_now();
	struct gc_stats st;
	struct err e = ERR_NULL;
	int r = store_gc(hub->conf.store, eager ? GC_EAGER : 0, &st, &e);

	*took_ms = (clock_now() - began) / CLOCK_MS;
	if (r == 0)
		log_info("sandbox", "collected", "objects=%llu bytes=%llu left=%llu ms=%llu",
			 (unsigned long long)st.freed, (unsigned long long)st.freed_b, (unsigned long long)st.live_b,
			 (unsigned long long)st.took_ms);
	else if (r != -ESHUTDOWN && r != -EBUSY)
		log_error("sandbox", "nothing was collected", "slug=%s why=%s", e.slug, e.text);
}

static uint64_t next_look(struct hub *hub, uint64_t ended, uint64_t took_ms)
{
	enum gc_want want = hub->conf.gc_interval_ms ? store_gc_wanted(hub->conf.store) : GC_NOT_WANTED;

	if (want == GC_NOT_WANTED)
		return clock_after_ms(MIN((uint64_t)LOOK_MS, MAX(hub->conf.gc_interval_ms, (uint64_t)100)));
	/* It may have to wait for its turn. Soon, but not at once: it may fail again and again. */
	return MAX(clock_after_ms(SOON_MS), want == GC_WANTED ? ended + took_ms * TIMES_WANTED * CLOCK_MS : 0);
}

static void *collect_main(void *ctx)
{
	struct hub *hub = ctx;
	uint64_t next = clock_after_ms(LOOK_MS), ended = clock_now(), took_ms = 0;
	bool low;

	lock_take(&hub->lock);
	while (!hub->collect_stop) {
		if (clock_now() < next && !hub->collect_wanted) {
			(void)!lock_wait(&hub->lock, &hub->cond, next);
			continue;
		}
		hub->collect_wanted = false;
		lock_drop(&hub->lock);
		retire(hub);
		retire_snapshots(hub);
		low = is_low(hub);
		if (is_due(hub, ended, took_ms, low)) {
			collect(hub, low || store_gc_wanted(hub->conf.store) == GC_PRESSED, &took_ms);
			ended = clock_now();
		}
		next = next_look(hub, ended, took_ms);
		lock_take(&hub->lock);
	}
	lock_drop(&hub->lock);
	return NULL;
}

/* The store says so, behind a commit. */
static void wanted(void *ctx)
{
	struct hub *hub = ctx;

	lock_take(&hub->lock);
	hub->collect_wanted = true;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
}

int collect_start(struct hub *hub, struct err *e)
{
	int r;

	store_gc_roots(hub->conf.store, fs_contents, hub->conf.fs);
	if (hub->conf.gc_interval_ms)
		store_gc_want(hub->conf.store, wanted, hub);
	r = pthread_create(&hub->collector, NULL, collect_main, hub);
	if (r)
		return err_sys(e, -r, "the thread that collects");
	(void)pthread_setname_np(hub->collector, "gc");
	hub->has_collector = true;
	return 0;
}

void collect_stop(struct hub *hub)
{
	store_gc_stop(hub->conf.store);
	store_gc_want(hub->conf.store, NULL, NULL);
	if (hub->has_collector) {
		lock_take(&hub->lock);
		hub->collect_stop = true;
		pthread_cond_broadcast(&hub->cond);
		lock_drop(&hub->lock);
		pthread_join(hub->collector, NULL);
		hub->has_collector = false;
	}
	store_gc_inhibit(hub->conf.store); /* one that the API began has ended, too */
	store_gc_roots(hub->conf.store, NULL, NULL);
}
