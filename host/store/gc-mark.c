/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the workspaces down. Each tree and list is read once: what is below it is marked by then or waits in todo. It is
 * read once more for the second workspace that refers to it, so that both know that they share it, and for further ones
 * while the budget lasts, so that what sharing saves can be told.
 *
 * A workspace's roots are collected in one short transaction and followed when it is over.
 */
#include "host/store/gc.h"
#include "host/store/tree-node.h"

#include "base/str.h"

#include <errno.h>

enum { VIEW_LOOKS = 512 };

/* --- what an object refers to ------------------------------------------------------------------------------------- */

struct each_ref {
	void (*fn)(void *ctx, struct gc_ref ref);
	void *ctx;
};

static int tree_ref(void *ctx, const struct digest *tree, const struct content *content)
{
	struct each_ref *each = ctx;
	struct gc_ref ref = { .table = CT_TREE };

	if (tree) {
		ref.d = *tree;
	} else {
		ref.d = content->root;
		ref.table = content->depth > 1 ? CT_LIST : CT_CHUNK;
	}
	if (!digest_is_zero(&ref.d))
		each->fn(each->ctx, ref);
	return 0;
}

int gc_each_ref(enum content_table table, struct span value, void (*fn)(void *ctx, struct gc_ref ref), void *ctx)
{
	struct each_ref each = { .fn = fn, .ctx = ctx };
	uint32_t level, count, i;

	if (table == CT_TREE)
		return tree_each_ref(value, tree_ref, &each);
	level = list_level(value);
	if (level < 1 || level >= CONTENT_DEPTH_MAX || list_check(value, level, &count))
		return -EIO;
	for (i = 0; i < count; i++) {
		struct gc_ref ref = { .d = list_slot(value, i), .table = level == 1 ? CT_CHUNK : CT_LIST };

		if (!digest_is_zero(&ref.d))
			fn(ctx, ref);
	}
	return 0;
}

/* --- coming by ---------------------------------------------------------------------------------------------------- */

struct visit {
	struct gc_run *run;
	uint32_t owner; /* 0: a hold */
};

static struct gc_item *item_of(struct gc_run *run, const struct gc_ref *ref)
{
	uint64_t key;

	if (ref->table != CT_CHUNK)
		return gc_set_add(&run->gc->nodes, ref->d.b);
	key = gc_key(run->gc, CT_CHUNK, ref->d.b);
	return gc_set_add(&run->gc->chunks, &key);
}

static void visit(void *ctx, struct gc_ref ref)
{
	struct visit *v = ctx;
	struct gc_run *run = v->run;
	struct gc_item *item = item_of(run, &ref);

	if (!item->n) {
		item->n = 1;
	} else if (item->owner == v->owner || !v->owner || run->is_view) {
		return;
	} else if (item->owner) {
		if (item->n > 1 && !run->budget) {
			run->stats.saved_more = true;
			return;
		}
		run->budget -= run->budget ? 1 : 0;
		item->n++;
	}
	item->owner = v->owner;
	item->first = item->first ? item->first : v->owner;
	if (ref.table != CT_CHUNK)
		vec_push(&run->todo, ref);
}

/* A new state of the contents now and then: an old one keeps its free pages from being used. */
static int look(struct gc_run *run, const struct gc_ref *ref, struct span *ret)
{
	int r = 0;

	if (run->has_view && ++run->looked % VIEW_LOOKS == 0) {
		view_end(&run->view);
		run->has_view = false;
	}
	if (!run->has_view) {
		r = view_begin(&run->view, run->store);
		run->has_view = r == 0;
	}
	return r ? r : view_get(&run->view, (enum content_table)ref->table, &ref->d, false, ret);
}

static int missing(const struct gc_ref *ref, struct err *e)
{
	char hex[2 * DIGEST_LEN + 1];

	str_hex(ref->d.b, DIGEST_LEN, hex);
	return err_set(e, -EIO, "store-damaged", "%s %s is missing or damaged: nothing is collected, see berth fsck",
		       content_tables[ref->table], hex);
}

static int follow(struct gc_run *run, uint32_t owner, struct err *e)
{
	struct visit v = { .run = run, .owner = owner };
	struct span value;
	int r = 0;

	while (r == 0 && run->todo.len) {
		struct gc_ref ref = run->todo.v[--run->todo.len];

		if (run->looked % VIEW_LOOKS == 0 && gc_is_stopped(run->gc))
			return -EINTR;
		r = look(run, &ref, &value);
		if (r == 0)
			r = gc_each_ref((enum content_table)ref.table, value, visit, &v);
		if (r == -EIO && !owner)
			r = 0; /* of a content that is being made, and whose writing failed */
		if (r)
			r = r == -EIO ? missing(&ref, e) : err_sys(e, r, "read what is stored");
	}
	return r;
}

/* --- roots -------------------------------------------------------------------------------------------------------- */

static void root_content(struct visit *v, const struct content *c)
{
	if (!digest_is_zero(&c->root))
		visit(v, (struct gc_ref){ .d = c->root, .table = c->depth > 1 ? CT_LIST : CT_CHUNK });
}

static int root_tree(struct visit *v, struct span digest)
{
	struct gc_ref ref = { .table = CT_TREE };

	if (digest.len != DIGEST_LEN)
		return -EIO;
	memcpy(ref.d.b, digest.p, DIGEST_LEN);
	visit(v, ref);
	return 0;
}

static int roots_of_nodes(struct visit *v, struct txn *t)
{
	enum db_step step = DB_AT_LEAST;
	struct span key = SPAN_NULL, value;
	uint64_t fid;
	struct node n;
	int r = 0;

	while (r == 0 && (r = db_walk(t->t, WT_NODE, step, SPAN_NULL, &key, &value)) == 0) {
		r = key_u64_parse(key, &fid);
		if (r == 0)
			r = node_unpack(value, fid, &n);
		if (r == 0)
			root_content(v, &n.content);
		step = DB_NEXT;
	}
	return MIN(r, 0);
}

static int roots_of_trees(struct visit *v, struct txn *t)
{
	enum db_step step = DB_AT_LEAST;
	struct span key = SPAN_NULL, value;
	int r = 0;

	while (r == 0 && (r = db_walk(t->t, WT_TREE, step, SPAN_NULL, &key, &value)) == 0) {
		r = root_tree(v, value);
		step = DB_NEXT;
	}
	if (r >= 0)
		r = meta_get(t, "tree", &value);
	if (r == 0)
		r = root_tree(v, value);
	return MIN(r, 0);
}

static int root_snapshot(void *ctx, const struct snapshot *s)
{
	struct visit *v = ctx;

	v->run->snapshots.v[v->owner - 1]++;
	return root_tree(v, digest_span(&s->root));
}

static int mark_ws(struct gc_run *run, struct wsdb *ws, const char *id, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct visit v = { .run = run };
	int r = txn_read(ws, &t, e);

	if (r)
		return r;
	vec_push(&run->ids, must_strdup(id));
	vec_push(&run->snapshots, 0);
	vec_push(&run->own, 0);
	vec_push(&run->held, 0);
	v.owner = (uint32_t)run->ids.len;
	r = roots_of_nodes(&v, t);
	if (r == 0)
		r = roots_of_trees(&v, t);
	if (r == 0)
		r = snapshot_each(t, root_snapshot, &v);
	txn_abort(&t);
	if (r)
		return err_set(e, r, "store-damaged", "workspace %s cannot be read: nothing is collected", id);
	return follow(run, v.owner, e);
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

struct names {
	VEC(char *) v;
};

static int note(void *ctx, const char *id)
{
	struct names *names = ctx;

	vec_push(&names->v, must_strdup(id));
	return 0;
}

/* One that was removed a moment ago is among wsdb_removed(), or nobody has it. */
static int mark_id(struct gc_run *run, const char *id, struct err *e)
{
	AUTO(wsdb_close) struct wsdb *ws = NULL;
	struct err why = ERR_NULL;
	int r = wsdb_open(run->store, id, false, &ws, &why);

	if (r == 0)
		(void)!gc_drop_stale(ws); /* else it keeps more */
	if (r == 0)
		r = mark_ws(run, ws, id, &why);
	if (r == -ENOENT)
		return 0;
	if (r && e)
		*e = why;
	return r;
}

static int mark_removed(struct gc_run *run, struct err *e)
{
	struct wsdb *ws = NULL;
	int r = 0;

	while (r == 0 && (ws = wsdb_removed(run->store, ws))) {
		struct err why = ERR_NULL;

		r = mark_ws(run, ws, ".removed", &why);
		if (r == -ENOENT) /* not mapped any more, so nobody can read it */
			r = 0;
		else if (r && e)
			*e = why;
	}
	wsdb_close(&ws);
	return r;
}

int gc_mark(struct gc_run *run, struct err *e)
{
	struct names names = { .v = { 0 } };
	size_t i, n;
	int r = store_each_ws(run->store, note, &names);

	n = names.v.len;
	if (r == 0)
		r = store_each_view(run->store, note, &names);
	if (r)
		err_sys(e, r, "list the workspaces");
	for (i = 0; i < names.v.len; i++) {
		run->is_view = i >= n; /* they come behind what they look at, and are nobody who has it, too */
		if (r == 0)
			r = gc_is_stopped(run->gc) ? -EINTR : mark_id(run, names.v.v[i], e);
		free(names.v.v[i]);
	}
	run->is_view = false;
	vec_fini(&names.v);
	return r ? r : mark_removed(run, e);
}

int gc_grey(struct gc_run *run, struct err *e)
{
	struct visit v = { .run = run };
	struct gc *gc = run->gc;
	gc_refs list;
	size_t i;
	int r = 0;

	do {
		lock_take(&gc->lock);
		list = gc->grey;
		gc->grey = (gc_refs){ 0 };
		lock_drop(&gc->lock);
		for (i = 0; i < list.len; i++)
			visit(&v, list.v[i]);
		vec_fini(&list);
		i = run->todo.len;
		r = follow(run, 0, e);
	} while (r == 0 && i);
	return r;
}
