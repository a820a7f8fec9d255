/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of any size as nodes of at most NODE_MAX bytes: leaves of entries, and above them indexes of (hash, first
 * name), as many levels as it takes. Where a node ends follows from the names alone: behind a name whose hash says so,
 * not before CUT_MIN entries, about every CUT_MIN + CUT_EVERY; or when it is full. So an insertion changes one leaf and
 * the path above it, and two directories with the same entries have the same nodes, whatever was done to get there.
 */
#include "host/store/tree-dir.h"

#include <errno.h>

enum { NODE_MAX = CHUNK_LEN, LEVELS = 8, CUT_MIN = 32, CUT_EVERY = 256 };

struct level {
	uint8_t *node; /* NODE_MAX bytes, allocated at first use */
	size_t len;
	uint32_t count;
	uint8_t first[255]; /* name of the first entry below */
	size_t first_len;
	bool had; /* a node of this level was handed over before */
};

struct tree_dir {
	struct store *store; /* borrowed */
	uint64_t epoch;
	int code;
	struct level levels[LEVELS + 1]; /* the last one stays empty */
};

struct tree_dir *tree_dir_new(struct store *store, uint64_t epoch)
{
	struct tree_dir *d = NEW(struct tree_dir);

	d->store = store;
	d->epoch = epoch;
	return d;
}

void tree_dir_free(struct tree_dir **slot)
{
	struct tree_dir *d = take(slot);
	size_t i;

	if (!d)
		return;
	for (i = 0; i < LEVELS; i++)
		free(d->levels[i].node);
	free(d);
}

static bool is_cut(struct span name)
{
	const uint8_t *p = name.p;
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	size_t i;

	for (i = 0; i < name.len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	return h % CUT_EVERY == 0;
}

static int close_node(struct tree_dir *d, uint32_t n, struct digest *ret)
{
	struct level *l = &d->levels[n];
	int r;

	if (!l->node)
		l->node = must_calloc(1, NODE_MAX);
	tree_head(l->node, n ? TREE_INDEX : TREE_LEAF, n, l->count);
	r = object_put(d->store, CT_TREE, SPAN(l->node, MAX(l->len, (size_t)TREE_HEAD)), d->epoch, NULL, NULL, ret);
	l->len = 0;
	l->count = 0;
	return r;
}

static int append(struct tree_dir *d, uint32_t n, struct span rec, struct span name);

/* Close the node of a level and name it in the level above. */
static int lift(struct tree_dir *d, uint32_t n)
{
	struct level *l = &d->levels[n];
	struct span first = SPAN(l->first, l->first_len);
	uint8_t rec[TREE_INDEX_MAX];
	struct digest digest;
	int r = close_node(d, n, &digest);

	l->had = true;
	return r ? r : append(d, n + 1, SPAN(rec, tree_index_pack(&digest, first, rec)), first);
}

static int append(struct tree_dir *d, uint32_t n, struct span rec, struct span name)
{
	struct level *l = &d->levels[n];
	int r = 0;

	if (n == LEVELS)
		return -EFBIG;
	if (l->count && l->len + rec.len > NODE_MAX)
		r = lift(d, n);
	if (r)
		return r;
	if (!l->node)
		l->node = must_calloc(1, NODE_MAX);
	if (!l->count) {
		l->len = TREE_HEAD;
		l->first_len = name.len;
		memcpy(l->first, name.p, name.len);
	}
	memcpy(l->node + l->len, rec.p, rec.len);
	l->len += rec.len;
	l->count++;
	return l->count >= CUT_MIN && is_cut(name) ? lift(d, n) : 0;
}

void tree_dir_add(struct tree_dir *d, const struct tree_entry *en)
{
	uint8_t rec[TREE_ENTRY_MAX];

	if (!d->code)
		d->code = append(d, 0, SPAN(rec, tree_entry_pack(en, rec)), en->name);
}

static void reset(struct tree_dir *d)
{
	size_t i;

	for (i = 0; i < LEVELS; i++) {
		d->levels[i].len = 0;
		d->levels[i].count = 0;
		d->levels[i].had = false;
	}
	d->code = 0;
}

int tree_dir_finish(struct tree_dir *d, struct digest *ret)
{
	struct digest digest = { .b = { 0 } };
	uint32_t n = 0;
	int r = d->code;

	/* Up through the levels that had more than one node; the first that had one only is the top. */
	for (; r == 0 && d->levels[n].had; n++)
		if (d->levels[n].count)
			r = lift(d, n);
	if (r == 0)
		r = close_node(d, n, &digest);
	reset(d);
	if (r == 0)
		*ret = digest;
	return r;
}
