/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk that may take long, because somebody slow takes what it yields, through directories of any size. Nothing of
 * the store is open between two steps. What it holds: one leaf (at most 64 KiB), and of each directory on the way 32
 * bytes for each of its leaves, which have some 250 names. A leaf that is come back to is read again.
 */
#include "host/store/tree-read.h"

#include "base/path.h"

#include <errno.h>

struct level {
	tree_leaves leaves;
	size_t leaf;	/* of them, the one that is read */
	uint32_t entry; /* of it, the next one */
};

struct tree_walk {
	struct store *store;
	VEC(struct level) way;
	struct buf node; /* a copy of the topmost level's leaf; empty: it has to be read */
	uint32_t count;
	size_t at; /* where its next entry is */
};

struct tree_walk *tree_walk_new(struct store *store)
{
	struct tree_walk *w = NEW(struct tree_walk);

	w->store = store;
	buf_init(&w->node, CHUNK_LEN);
	return w;
}

static void forget_leaf(struct tree_walk *w)
{
	buf_consume(&w->node, buf_len(&w->node));
}

static void leave(struct tree_walk *w)
{
	w->way.len--;
	vec_fini(&w->way.v[w->way.len].leaves);
	forget_leaf(w);
}

void tree_walk_free(struct tree_walk **slot)
{
	struct tree_walk *w = take(slot);

	if (!w)
		return;
	while (w->way.len)
		leave(w);
	vec_fini(&w->way);
	buf_fini(&w->node);
	free(w);
}

int tree_walk_enter(struct tree_walk *w, const struct digest *dir)
{
	struct level l = { .leaf = 0 };
	struct view v;
	int r;

	if (w->way.len >= PATH_LEN_MAX)
		return -ELOOP;
	r = view_begin(&v, w->store);
	if (r)
		return r;
	r = tree_leaves_of(&v, dir, &l.leaves);
	view_end(&v);
	if (r) {
		vec_fini(&l.leaves);
		return r;
	}
	vec_push(&w->way, l);
	forget_leaf(w);
	return 0;
}

/* The topmost level's leaf, up to the entry that is next. */
static int read_leaf(struct tree_walk *w, const struct level *l)
{
	enum tree_kind kind;
	struct tree_entry en;
	struct span node;
	struct view v;
	uint32_t i;
	int r = view_begin(&v, w->store);

	if (r)
		return r;
	r = view_get(&v, CT_TREE, &l->leaves.v[l->leaf], false, &node);
	if (r == 0)
		r = tree_head_check(node, &kind, &w->count);
	if (r == 0 && kind != TREE_LEAF)
		r = -EIO;
	if (r == 0)
		r = buf_append(&w->node, node.p, node.len);
	view_end(&v);
	w->at = TREE_HEAD;
	for (i = 0; r == 0 && i < l->entry; i++)
		r = i < w->count ? tree_entry_unpack(buf_span(&w->node), &w->at, &en) : -EIO;
	return r;
}

int tree_walk_next(struct tree_walk *w, struct tree_item *ret)
{
	struct level *l = &w->way.v[w->way.len - 1];
	struct tree_entry en;
	int r = 0;

	while (r == 0) {
		if (l->leaf == l->leaves.len) {
			leave(w);
			return STORE_E_NONE;
		}
		if (!buf_len(&w->node))
			r = read_leaf(w, l);
		if (r == 0 && l->entry < w->count)
			break;
		forget_leaf(w);
		l->leaf++;
		l->entry = 0;
	}
	if (r == 0)
		r = tree_entry_unpack(buf_span(&w->node), &w->at, &en);
	l->entry++;
	return r ? r : tree_item_of(&en, ret);
}
