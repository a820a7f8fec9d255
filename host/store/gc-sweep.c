/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is neither marked nor touched goes, in small transactions between the writer's groups. Trees and lists go before
 * what they refer to, whatever moment a crash chooses: so an object that is there has all that it refers to, and
 * whoever hands it over again may skip it. Chunks, which refer to nothing, go last.
 *
 * Before a batch is deleted it is looked at once more under the lock: what was handed over meanwhile stays, and who
 * hands over one of the others from now on waits for the batch and finds it gone.
 */
#include "host/store/gc.h"

#include "base/clock.h"

#include <errno.h>
#include <time.h>

enum { BATCH = 512, BATCH_MIN = 8, SCAN_ROWS = 8192, PAUSE_MAX_MS = 100 };

struct sweep {
	struct gc_run *run;
	struct gc *gc;
	bool eager;
	size_t batch; /* objects in one transaction; less when there is no room for more */
	struct gc_set dead; /* trees and lists; n - 1: how many of the dead refer to it; owner: its table */
	gc_refs ready;	    /* nothing refers to these */
	struct digest at;   /* the last row that was looked at */
	gc_refs found;
	gc_refs below; /* what the batch referred to */
};

static void count_live(struct gc_run *run, const struct gc_item *item, size_t len)
{
	struct gc_stats *st = &run->stats;

	st->live++;
	st->live_b += len;
	if (!item)
		return;
	if (item->first)
		run->held.v[item->first - 1] += len;
	if (item->n > 1) {
		st->shared_b += len;
		st->saved_b += len * (uint64_t)(item->n - 1);
	} else if (item->owner) {
		run->own.v[item->owner - 1] += len;
	}
}

/* Some rows of a table behind s->at; those that nobody wants are found. Return: 0; DB_E_NONE: that was the last;
 * -errno. */
static int scan(struct sweep *s, enum content_table table, size_t *ret_found_b)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	struct span from = digest_is_zero(&s->at) ? SPAN_NULL : digest_span(&s->at), key, value;
	enum db_step step = DB_AT_LEAST;
	size_t rows;
	int r = db_begin(s->run->store->content, false, &t, NULL);

	for (rows = 0; r == 0 && rows < SCAN_ROWS && s->found.len < BATCH; rows++) {
		struct gc_ref ref = { .table = (uint8_t)table };
		struct gc_item *item;
		uint64_t k;
		bool touched;

		r = db_walk(t, table, step, from, &key, &value);
		step = DB_NEXT;
		if (r || key.len != DIGEST_LEN)
			continue; /* fsck tells of those */
		memcpy(ref.d.b, key.p, DIGEST_LEN);
		if (rows == 0 && digest_eq(&ref.d, &s->at))
			continue;
		s->at = ref.d;
		k = gc_key(s->gc, table, key.p);
		item = table == CT_CHUNK ? gc_set_find(&s->gc->chunks, &k) : gc_set_find(&s->gc->nodes, key.p);
		lock_take(&s->gc->lock);
		touched = !item && gc_set_find(&s->gc->touched, &k);
		lock_drop(&s->gc->lock);
		if (item || touched) {
			count_live(s->run, item, value.len);
		} else {
			vec_push(&s->found, ref);
			*ret_found_b += value.len;
		}
	}
	return r;
}

static void rest(struct sweep *s, uint64_t since)
{
	uint64_t took = clock_now() - since, most = PAUSE_MAX_MS * CLOCK_MS;
	struct timespec nap = { .tv_nsec = (long)MIN(took, most - 1) };

	if (!s->eager)
		nanosleep(&nap, NULL);
}

/* --- deleting ----------------------------------------------------------------------------------------------------- */

/* Those of the batch that were handed over meanwhile are taken out of it. Return: how many are left. */
static size_t doom(struct sweep *s, struct gc_ref *batch, size_t n)
{
	struct gc *gc = s->gc;
	size_t i, left = 0;

	lock_take(&gc->lock);
	for (i = 0; i < n; i++) {
		uint64_t key = gc_key(gc, (enum content_table)batch[i].table, batch[i].d.b);

		if (gc_set_find(&gc->touched, &key))
			continue;
		gc_set_add(&gc->doomed, &key)->n = 1;
		batch[left++] = batch[i];
	}
	lock_drop(&gc->lock);
	return left;
}

static void undoom(struct gc *gc)
{
	lock_take(&gc->lock);
	gc_set_fini(&gc->doomed);
	pthread_cond_broadcast(&gc->cond);
	lock_drop(&gc->lock);
}

static void note_below(void *ctx, struct gc_ref ref)
{
	struct sweep *s = ctx;

	if (ref.table != CT_CHUNK && gc_set_find(&s->dead, ref.d.b))
		vec_push(&s->below, ref);
}

static int delete_batch(struct sweep *s, const struct gc_ref *batch, size_t n, uint64_t *ret_b)
{
	struct db_txn *t = NULL;
	struct span value;
	size_t i;
	int r = db_begin(s->run->store->content, true, &t, NULL);

	*ret_b = 0;
	s->below.len = 0;
	if (r)
		return r;
	for (i = 0; i < n; i++) {
		enum content_table table = (enum content_table)batch[i].table;

		r = db_get(t, table, digest_span(&batch[i].d), &value);
		if (r < 0)
			break;
		if (r == DB_E_NONE)
			continue;
		*ret_b += value.len;
		if (table != CT_CHUNK)
			(void)!gc_each_ref(table, value, note_below, s); /* damaged: it goes, what is below stays */
		if (db_del(t, table, digest_span(&batch[i].d)) < 0)
			break;
	}
	return db_commit(&t);
}

/* What the deleted ones referred to has one less that does. */
static void release_below(struct sweep *s)
{
	size_t i;

	for (i = 0; i < s->below.len; i++) {
		struct gc_item *item = gc_set_find(&s->dead, s->below.v[i].d.b);

		if (item && --item->n == 1)
			vec_push(&s->ready, s->below.v[i]);
	}
}

/* The last @n of a list. */
static int delete_some(struct sweep *s, gc_refs *list)
{
	struct gc_stats *st = &s->run->stats;
	uint64_t since = clock_now(), b;
	size_t n = MIN(list->len, s->batch), left = doom(s, list->v + list->len - n, n);
	int r = delete_batch(s, list->v + list->len - n, left, &b);

	undoom(s->gc);
	if (r == -ENOSPC && s->batch > BATCH_MIN) { /* deleting needs some pages itself */
		s->batch /= 4;
		list->len -= n - left;
		return 0;
	}
	if (r)
		return r;
	list->len -= n;
	st->freed += left;
	st->freed_b += b;
	release_below(s);
	if (s->gc->at)
		s->gc->at(s->gc->at_ctx, GC_AT_BATCH);
	rest(s, since);
	return gc_is_stopped(s->gc) ? -EINTR : 0;
}

/* --- trees and lists ---------------------------------------------------------------------------------------------- */

static void count_below(void *ctx, struct gc_ref ref)
{
	struct sweep *s = ctx;
	struct gc_item *item = ref.table == CT_CHUNK ? NULL : gc_set_find(&s->dead, ref.d.b);

	if (item)
		item->n++;
}

static int find_dead(struct sweep *s, enum content_table table)
{
	size_t b = 0, i;
	int r = 0;

	s->at = (struct digest){ .b = { 0 } };
	while (r == 0) {
		r = scan(s, table, &b);
		for (i = 0; i < s->found.len; i++)
			*gc_set_add(&s->dead, s->found.v[i].d.b) = (struct gc_item){ .owner = table, .n = 1 };
		s->found.len = 0;
		if (r == 0 && gc_is_stopped(s->gc))
			return -EINTR;
	}
	return MIN(r, 0);
}

/* How many of the dead refer to each of them. */
static int count_dead(struct sweep *s)
{
	const uint8_t *key;
	struct gc_item *item;
	struct span value;
	struct view v;
	size_t pos = 0, n = 0;
	int r = view_begin(&v, s->run->store);

	while (r == 0 && (item = gc_set_next(&s->dead, &pos, &key))) {
		r = db_get(v.t, item->owner, SPAN(key, DIGEST_LEN), &value);
		if (r == 0)
			(void)!gc_each_ref((enum content_table)item->owner, value, count_below, s);
		r = MIN(r, 0);
		if (++n % SCAN_ROWS == 0) {
			view_end(&v);
			r = gc_is_stopped(s->gc) ? -EINTR : view_begin(&v, s->run->store);
			if (r)
				return r;
		}
	}
	view_end(&v);
	return r;
}

static int sweep_nodes(struct sweep *s)
{
	const uint8_t *key;
	struct gc_item *item;
	size_t pos = 0;
	int r = find_dead(s, CT_TREE);

	if (r == 0)
		r = find_dead(s, CT_LIST);
	if (r == 0)
		r = count_dead(s);
	while (r == 0 && (item = gc_set_next(&s->dead, &pos, &key))) {
		struct gc_ref ref = { .table = (uint8_t)item->owner };

		if (item->n > 1)
			continue;
		memcpy(ref.d.b, key, DIGEST_LEN);
		vec_push(&s->ready, ref);
	}
	while (r == 0 && s->ready.len)
		r = delete_some(s, &s->ready);
	return r;
}

static int sweep_chunks(struct sweep *s)
{
	size_t b = 0;
	int r = 0, more = 0;

	s->at = (struct digest){ .b = { 0 } };
	while (r == 0 && more == 0) {
		more = scan(s, CT_CHUNK, &b);
		while (r == 0 && s->found.len)
			r = delete_some(s, &s->found);
		if (r == 0 && gc_is_stopped(s->gc))
			r = -EINTR;
	}
	return r ? r : MIN(more, 0);
}

int gc_sweep(struct gc_run *run, unsigned flags, struct err *e)
{
	struct sweep s = { .run = run, .gc = run->gc, .eager = flags & GC_EAGER, .batch = BATCH };
	int r;

	if (run->gc->batch)
		s.batch = run->gc->batch;
	gc_set_init(&s.dead, DIGEST_LEN, run->gc->key);
	r = sweep_nodes(&s);
	run->stats.memory_b += gc_set_bytes(&s.dead);
	if (r == 0)
		r = sweep_chunks(&s);
	gc_set_fini(&s.dead);
	vec_fini(&s.ready);
	vec_fini(&s.found);
	vec_fini(&s.below);
	if (r == -ENOSPC)
		return err_set(e, r, "store-full", "there is no room even for deleting: the disk or store.map-size");
	return r && r != -EINTR ? err_sys(e, r, "delete what nothing refers to") : r;
}
