/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of collecting share: a walk of its own over all that the workspaces refer to. */
#ifndef TESTS_UNIT_STORE_GC_LIB_H
#define TESTS_UNIT_STORE_GC_LIB_H

#include "store-lib.h"

#include "base/vec.h"
#include "host/store/gc.h"
#include "host/store/tree-node.h"

enum { ROOT = 1 };

struct walked {
	struct store *store;
	struct db_txn *t;
	struct map seen; /* table, digest -> itself */
	uint64_t bytes;
};

static inline void walk_object(void *ctx, struct gc_ref ref)
{
	struct walked *w = ctx;
	uint8_t name[1 + DIGEST_LEN];
	struct span value;
	struct digest is;

	name[0] = ref.table;
	memcpy(name + 1, ref.d.b, DIGEST_LEN);
	if (map_get(&w->seen, SPAN(name, sizeof(name))))
		return;
	map_put(&w->seen, SPAN(name, sizeof(name)), w);
	cr_assert_eq(db_get(w->t, ref.table, digest_span(&ref.d), &value), 0, "a %s is missing",
		     content_tables[ref.table]);
	is = object_digest((enum content_table)ref.table, value);
	cr_assert(digest_eq(&is, &ref.d));
	w->bytes += value.len;
	if (ref.table != CT_CHUNK)
		cr_assert_eq(gc_each_ref((enum content_table)ref.table, value, walk_object, w), 0);
}

static inline void walk_digest(struct walked *w, enum content_table table, struct span d)
{
	struct gc_ref ref = { .table = (uint8_t)table };

	cr_assert_eq(d.len, DIGEST_LEN);
	memcpy(ref.d.b, d.p, DIGEST_LEN);
	if (!digest_is_zero(&ref.d))
		walk_object(w, ref);
}

static inline int walk_snapshot(void *ctx, const struct snapshot *s)
{
	walk_digest(ctx, CT_TREE, digest_span(&s->root));
	return 0;
}

static inline int walk_ws(void *ctx, const char *id)
{
	struct walked *w = ctx;
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct span key, v;
	enum db_step step = DB_AT_LEAST;
	struct node n;
	uint64_t fid;

	cr_assert_eq(wsdb_open(w->store, id, false, &ws, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	while (db_walk(t->t, WT_NODE, step, SPAN_NULL, &key, &v) == 0) {
		step = DB_NEXT;
		cr_assert_eq(key_u64_parse(key, &fid), 0);
		cr_assert_eq(node_unpack(v, fid, &n), 0);
		walk_digest(w, n.content.depth > 1 ? CT_LIST : CT_CHUNK, digest_span(&n.content.root));
	}
	for (step = DB_AT_LEAST; db_walk(t->t, WT_TREE, step, SPAN_NULL, &key, &v) == 0; step = DB_NEXT)
		walk_digest(w, CT_TREE, v);
	if (meta_get(t, "tree", &v) == 0)
		walk_digest(w, CT_TREE, v);
	cr_assert_eq(snapshot_each(t, walk_snapshot, w), 0);
	txn_abort(&t);
	wsdb_close(&ws);
	return 0;
}

/* Everything that is referred to is there and whole; with @exact nothing else is. Return: bytes that are referred to.
 */
static inline uint64_t walk_store(struct store *store, bool exact)
{
	struct walked w = { .store = store };
	uint64_t n, all = 0;
	size_t table;

	cr_assert_eq(store_settle(store, NULL), 0);
	cr_assert_eq(db_begin(store->content, false, &w.t, NULL), 0);
	cr_assert_eq(store_each_ws(store, walk_ws, &w), 0);
	cr_assert_eq(store_each_view(store, walk_ws, &w), 0);
	for (table = CT_CHUNK; table <= CT_TREE; table++) {
		cr_assert_eq(db_count(w.t, table, &n), 0);
		all += n;
	}
	if (exact)
		cr_assert_eq(all, w.seen.len, "%llu objects are there, %zu are wanted", (unsigned long long)all,
			     w.seen.len);
	cr_assert_geq(all, w.seen.len);
	db_abort(&w.t);
	map_fini(&w.seen);
	return w.bytes;
}

static inline void fsck_clean(struct store *store)
{
	struct fsck_stats st;

	cr_assert_eq(store_fsck(store, NULL, NULL, &st, NULL), 0);
	cr_assert_eq(st.problems, 0);
}

/* A number below @n. */
static inline uint64_t draw(uint64_t *seed, uint64_t n)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (*seed >> 33) % n;
}

static inline struct wsdb *ws_make(struct store *store, const char *id)
{
	struct node root = make_node(ROOT, S_IFDIR | 0755);
	struct wsdb *ws = NULL;
	struct txn *t = NULL;

	cr_assert_eq(wsdb_open(store, id, true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &root);
	meta_put_u64(t, "root-fid", ROOT);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	return ws;
}

#endif
