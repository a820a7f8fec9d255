/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last sealed tree of a workspace that was changed since is of no use as a whole: the next seal builds every
 * directory anew that changed, or in or below which something did, and takes the digests of the others from their rows.
 * The rows of the former, and the fact "tree", would keep what was replaced and removed since, up to the next seal; so
 * they go before the workspace is marked. A stub's row stays: what is in it is nowhere else.
 */
#include "host/store/gc.h"

#include <errno.h>
#include <sys/stat.h>

enum { DEEP_MAX = 4096 };

struct stale {
	struct txn *t;
	struct map seen; /* fids of directories, each its own way up is done */
	VEC(uint64_t) rows;
};

/* The directory and all above it. */
static int climb(struct stale *s, uint64_t at)
{
	struct span name, v;
	struct node n;
	struct key k;
	int r = 0, depth;

	for (depth = 0; r == 0 && depth < DEEP_MAX && !map_get_u64(&s->seen, at); depth++) {
		map_put_u64(&s->seen, at, s);
		key_u64(&k, at);
		r = node_get(s->t, at, &n);
		if (r == 0 && !(n.flags & NODE_STUB) && db_get(s->t->t, WT_TREE, key_span(&k), &v) == 0)
			vec_push(&s->rows, at);
		if (r == 0)
			r = entry_of(s->t, at, 0, SPAN_NULL, &at, &name);
	}
	return MIN(r, 0);
}

/* Up from every name of what is marked; a directory from itself. */
static int climb_from(struct stale *s, uint64_t fid)
{
	struct span name = SPAN_NULL;
	uint64_t parent = 0;
	char last[256];
	struct node n;
	int r = node_get(s->t, fid, &n);

	if (r)
		return MIN(r, 0);
	if (S_ISDIR(n.mode))
		return climb(s, fid);
	while (r == 0 && (r = entry_of(s->t, fid, parent, name, &parent, &name)) == 0) {
		memcpy(last, name.p, name.len);
		name = SPAN(last, name.len);
		r = climb(s, parent);
	}
	return MIN(r, 0);
}

static int find(struct stale *s)
{
	enum db_step step = DB_AT_LEAST;
	struct span key = SPAN_NULL, v;
	uint64_t fid;
	int r = 0;

	while (r == 0 && (r = db_walk(s->t->t, WT_DIRTY, step, SPAN_NULL, &key, &v)) == 0) {
		r = key_u64_parse(key, &fid);
		if (r == 0)
			r = climb_from(s, fid);
		step = DB_NEXT;
	}
	return MIN(r, 0);
}

static void drop(struct stale *s)
{
	struct key k;
	size_t i;

	for (i = 0; i < s->rows.len; i++) {
		key_u64(&k, s->rows.v[i]);
		db_del(s->t->t, WT_TREE, key_span(&k));
	}
	db_del(s->t->t, WT_META, span_str("tree"));
}

/* Return: 1: there is something to be dropped, and it was when the transaction writes; 0; -errno. */
static int look(struct wsdb *ws, bool write)
{
	struct stale s = { .t = NULL };
	uint64_t marks = 0, rows = 0;
	struct span v;
	int found = 0, r = write ? txn_write(ws, &s.t, NULL) : txn_read(ws, &s.t, NULL);

	if (r == 0)
		r = db_count(s.t->t, WT_DIRTY, &marks);
	if (r == 0)
		r = db_count(s.t->t, WT_TREE, &rows);
	if (r == 0 && marks && rows)
		r = find(&s);
	if (r == 0 && marks)
		found = s.rows.len || meta_get(s.t, "tree", &v) == 0;
	if (r == 0 && found && write) {
		drop(&s);
		r = txn_commit(&s.t, NULL);
	}
	txn_abort(&s.t);
	map_fini(&s.seen);
	vec_fini(&s.rows);
	return r ? r : found;
}

int gc_drop_stale(struct wsdb *ws)
{
	int r = look(ws, false);

	return r == 1 ? MIN(look(ws, true), 0) : r;
}
