/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must not be taken away although no inode, tree or snapshot refers to it yet, or not any more: objects that were
 * handed over, writers of contents, uses (transactions and seals that are under way), holds. All of it is memory: a
 * daemon that dies forgets it, and nobody is left who could miss it.
 */
#include "host/store/gc.h"

#include "base/clock.h"

#include <errno.h>

struct store_hold {
	struct gc *gc; /* borrowed */
	struct list node;
	struct gc_ref ref;
};

void gc_init(struct store *store)
{
	struct gc *gc = NEW(struct gc);

	gc->store = store;
	random_bytes(gc->key, sizeof(gc->key));
	lock_init(&gc->lock, "store-gc", LOCK_STORE_GC);
	lock_cond_init(&gc->cond);
	list_init(&gc->holds);
	list_init(&gc->writers);
	gc_set_init(&gc->touched, 8, gc->key);
	gc_set_init(&gc->doomed, 8, gc->key);
	store->gc = gc;
}

void gc_fini(struct store *store)
{
	struct gc *gc = take(&store->gc);

	if (!gc)
		return;
	gc_set_fini(&gc->touched);
	gc_set_fini(&gc->doomed);
	vec_fini(&gc->grey);
	free(gc->own);
	pthread_cond_destroy(&gc->cond);
	lock_fini(&gc->lock);
	free(gc);
}

uint64_t gc_key(const struct gc *gc, enum content_table table, const void *digest)
{
	uint8_t name[1 + DIGEST_LEN];

	name[0] = (uint8_t)table;
	memcpy(name + 1, digest, DIGEST_LEN);
	return hash_keyed(gc->key, name, sizeof(name));
}

static void touch(struct gc *gc, uint64_t key)
{
	gc_set_add(&gc->touched, &key)->n = 1;
}

void gc_touch(struct gc *gc, enum content_table table, const struct digest *d, struct gc_writer *w)
{
	uint64_t key = gc_key(gc, table, d->b);

	lock_take(&gc->lock);
	while (gc_set_find(&gc->doomed, &key))
		(void)!lock_wait(&gc->lock, &gc->cond, CLOCK_NEVER);
	if (gc->state != GC_IDLE)
		touch(gc, key);
	if (w)
		vec_push(&w->put, key);
	lock_drop(&gc->lock);
}

/* Under the lock. */
static void shade(struct gc *gc, enum content_table table, const struct digest *d)
{
	struct gc_ref ref = { .d = *d, .table = (uint8_t)table };

	if (gc->state == GC_MARK && !digest_is_zero(d))
		vec_push(&gc->grey, ref);
}

void gc_shade(struct gc *gc, enum content_table table, const struct digest *d)
{
	lock_take(&gc->lock);
	shade(gc, table, d);
	lock_drop(&gc->lock);
}

static struct gc_ref ref_of(const struct content *c)
{
	return (struct gc_ref){ .d = c->root, .table = c->depth > 1 ? CT_LIST : CT_CHUNK };
}

/* --- writers ------------------------------------------------------------------------------------------------------ */

void gc_writer_begin(struct gc *gc, struct gc_writer *w, const struct content *base)
{
	struct gc_ref ref = ref_of(base);

	w->base = *base;
	lock_take(&gc->lock);
	list_append(&gc->writers, &w->node);
	shade(gc, (enum content_table)ref.table, &ref.d);
	lock_drop(&gc->lock);
}

void gc_writer_end(struct gc *gc, struct gc_writer *w)
{
	lock_take(&gc->lock);
	list_remove(&w->node);
	lock_drop(&gc->lock);
	vec_fini(&w->put);
}

/* --- uses --------------------------------------------------------------------------------------------------------- */

unsigned gc_use_begin(struct gc *gc)
{
	unsigned token;

	lock_take(&gc->lock);
	token = gc->phase & 1;
	gc->users[token]++;
	lock_drop(&gc->lock);
	return token;
}

void gc_use_end(struct gc *gc, unsigned token)
{
	lock_take(&gc->lock);
	gc->users[token]--;
	if (!gc->users[token] && gc->is_running)
		pthread_cond_broadcast(&gc->cond);
	lock_drop(&gc->lock);
}

/* --- holds -------------------------------------------------------------------------------------------------------- */

/* Return: 0; 1: whether it is in the store has to be looked up; -ESTALE: it is going to be deleted. */
static int enter(struct gc *gc, struct store_hold *h)
{
	uint64_t key = gc_key(gc, (enum content_table)h->ref.table, h->ref.d.b);
	bool live = true;

	lock_take(&gc->lock);
	shade(gc, (enum content_table)h->ref.table, &h->ref.d);
	if (gc->state == GC_SWEEP)
		live = gc_set_find(&gc->touched, &key) || (h->ref.table == CT_CHUNK ? gc_set_find(&gc->chunks, &key) :
							   gc_set_find(&gc->nodes, h->ref.d.b));
	if (live)
		list_append(&gc->holds, &h->node);
	lock_drop(&gc->lock);
	return live ? 0 : -ESTALE;
}

static int is_there(struct store *store, const struct gc_ref *ref)
{
	struct span value;
	struct view v;
	int r = view_begin(&v, store);

	if (r)
		return r;
	r = view_get(&v, (enum content_table)ref->table, &ref->d, false, &value);
	view_end(&v);
	return r == -EIO ? -ESTALE : r;
}

static int hold(struct store *store, struct gc_ref ref, struct store_hold **ret)
{
	struct store_hold *h = NEW(struct store_hold);
	int r = 0;

	h->gc = store->gc;
	h->ref = ref;
	list_init(&h->node);
	if (!digest_is_zero(&ref.d)) {
		r = enter(store->gc, h);
		/* From now on it stays; it may be too late, when a whole run went by since the caller saw it. */
		if (r == 0)
			r = is_there(store, &ref);
	}
	if (r) {
		store_hold_free(&h);
		return r;
	}
	*ret = h;
	return 0;
}

int store_hold_tree(struct store *store, const struct digest *root, struct store_hold **ret)
{
	return hold(store, (struct gc_ref){ .d = *root, .table = CT_TREE }, ret);
}

int store_hold_content(struct store *store, const struct content *c, struct store_hold **ret)
{
	return hold(store, ref_of(c), ret);
}

void store_hold_free(struct store_hold **slot)
{
	struct store_hold *h = take(slot);

	if (!h)
		return;
	lock_take(&h->gc->lock);
	list_remove(&h->node);
	lock_drop(&h->gc->lock);
	free(h);
}

/* --- the two ends of a mark --------------------------------------------------------------------------------------- */

static void shade_root(void *to, const struct content *c)
{
	struct gc *gc = to;
	struct gc_ref ref = ref_of(c);

	gc_shade(gc, (enum content_table)ref.table, &ref.d);
}

void gc_shade_roots(struct gc *gc)
{
	void (*roots)(void *ctx, void (*one)(void *to, const struct content *c), void *to);
	void *ctx;

	lock_take(&gc->lock);
	roots = gc->roots;
	ctx = gc->roots_ctx;
	lock_drop(&gc->lock);
	if (roots)
		roots(ctx, shade_root, gc);
}

void gc_shade_all(struct gc *gc)
{
	struct list *pos;
	size_t i;

	lock_take(&gc->lock);
	gc->state = GC_MARK;
	list_each(pos, &gc->holds) {
		struct store_hold *h = list_entry(pos, struct store_hold, node);

		shade(gc, (enum content_table)h->ref.table, &h->ref.d);
	}
	list_each(pos, &gc->writers) {
		struct gc_writer *w = list_entry(pos, struct gc_writer, node);
		struct gc_ref base = ref_of(&w->base);

		shade(gc, (enum content_table)base.table, &base.d);
		for (i = 0; i < w->put.len; i++)
			touch(gc, w->put.v[i]);
	}
	lock_drop(&gc->lock);
	gc_shade_roots(gc);
}

int gc_grace(struct gc *gc)
{
	uint64_t until = clock_after_ms(GC_GRACE_MS);
	unsigned old;
	int r = 0;

	lock_take(&gc->lock);
	/* Those that an earlier run waited for in vain come first: the two places are used in turns. */
	while (r == 0 && gc->users[(gc->phase + 1) & 1] && !gc->stop && !gc->inhibited)
		r = lock_wait(&gc->lock, &gc->cond, until);
	if (r == 0 && !gc->users[(gc->phase + 1) & 1]) {
		old = gc->phase++ & 1;
		while (r == 0 && gc->users[old] && !gc->stop && !gc->inhibited)
			r = lock_wait(&gc->lock, &gc->cond, until);
	}
	if (gc->stop || gc->inhibited)
		r = -EINTR;
	lock_drop(&gc->lock);
	return r;
}

void store_gc_roots(struct store *store,
		    void (*roots)(void *ctx, void (*one)(void *to, const struct content *c), void *to), void *ctx)
{
	struct gc *gc = store->gc;

	lock_take(&gc->lock);
	gc->roots = roots;
	gc->roots_ctx = ctx;
	lock_drop(&gc->lock);
}
