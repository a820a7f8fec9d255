/* SPDX-License-Identifier: Apache-2.0 */
/* Workspaces: names, inodes, facts, journal, and what happens at the limits. */
#include "store-lib.h"

#include <pthread.h>

static struct place place;
static struct wsdb *ws;

static void setup(void)
{
	place_make(&place, 1 << 28);
	cr_assert_eq(wsdb_open(place.store, "one", true, &ws, NULL), 0);
}

static void teardown(void)
{
	wsdb_close(&ws);
	place_free(&place);
}

TestSuite(wsdb, .init = setup, .fini = teardown);

static struct txn *begin(bool write)
{
	struct txn *t = NULL;

	cr_assert_eq(write ? txn_write(ws, &t, NULL) : txn_read(ws, &t, NULL), 0);
	return t;
}

static void commit(struct txn *t)
{
	struct err e = ERR_NULL;

	cr_assert_eq(txn_commit(&t, &e), 0, "%s", e.text);
}

Test(wsdb, nodes_come_back_as_they_went)
{
	struct node n = make_node(7, S_IFREG | 0644), m;
	struct txn *t = begin(true);
	struct span target;

	n.content = (struct content){ .size = 5, .depth = 1, .root = { { 1, 2, 3 } } };
	n.content_ctime_ns = -5;
	n.content_ship = 9;
	n.content_boot = 10;
	n.atime_ns = INT64_MIN;
	n.flags = NODE_PENDING;
	node_put(t, &n);
	node_set_target(t, 8, span_str("../x"));
	commit(t);
	t = begin(false);
	cr_assert_eq(node_get(t, 7, &m), 0);
	cr_assert_eq(memcmp(&n, &m, sizeof(n)), 0);
	cr_assert_eq(node_get(t, 9, &m), STORE_E_NONE);
	cr_assert_eq(node_target(t, 8, &target), 0);
	cr_assert(span_eq(target, span_str("../x")));
	txn_abort(&t);
	t = begin(true);
	node_del(t, 8);
	node_del(t, 7);
	commit(t);
	t = begin(false);
	cr_assert_eq(node_get(t, 7, &m), STORE_E_NONE);
	cr_assert_eq(node_target(t, 8, &target), STORE_E_NONE);
	txn_abort(&t);
}

Test(wsdb, names_are_walked_in_order_both_ways)
{
	struct txn *t = begin(true);
	char name[256], last[256] = "";
	struct span got = SPAN_NULL;
	uint64_t fid, parent;
	char *path = NULL;
	int i, n = 0;

	for (i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "n%d", i * 7919 % 500);
		entry_put(t, 1, span_str(name), (uint64_t)i + 100);
	}
	entry_put(t, 2, span_str("other"), 50);
	memset(name, 0xff, 255);
	entry_put(t, 1, SPAN(name, 255), 77);
	commit(t);
	t = begin(false);
	while (entry_next(t, 1, span_str(last), &got, &fid) == 0) {
		snprintf(name, sizeof(name), "%.*s", (int)got.len, (const char *)got.p);
		cr_assert_gt(strcmp(name, last), 0);
		strcpy(last, name);
		n++;
	}
	cr_assert_eq(n, 501);
	cr_assert_eq(fid, 77);
	cr_assert_eq(entry_of(t, 77, 0, SPAN_NULL, &parent, &got), 0);
	cr_assert_eq(parent, 1);
	cr_assert_eq(got.len, 255);
	cr_assert_eq(entry_of(t, 77, parent, got, &parent, &got), STORE_E_NONE);
	txn_abort(&t);
	t = begin(true);
	entry_put(t, 1, span_str("n3"), 50); /* a second name for 50, the first meaning goes */
	meta_put_u64(t, "root-fid", 9);
	entry_put(t, 9, span_str("a"), 1);
	commit(t);
	t = begin(false);
	cr_assert_eq(entry_get(t, 1, span_str("n3"), &fid), 0);
	cr_assert_eq(fid, 50);
	cr_assert_eq(txn_root(t), 9);
	cr_assert_eq(node_path(t, 50, &path), 0);
	cr_assert_str_eq(path, "a/n3");
	str_free(&path);
	cr_assert_eq(node_path(t, 9, &path), 0);
	cr_assert_str_eq(path, "");
	str_free(&path);
	cr_assert_eq(node_path(t, 4242, &path), STORE_E_NONE);
	txn_abort(&t);
}

Test(wsdb, bad_names_stick_and_nothing_is_kept)
{
	static const char *const bad[] = { "", ".", "..", "a/b" };
	struct err e = ERR_NULL;
	uint64_t fid;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		struct txn *t = begin(true);

		entry_put(t, 1, span_str("good"), 5);
		entry_put(t, 1, span_str(bad[i]), 5);
		entry_put(t, 1, span_str("later"), 5);
		cr_assert_eq(txn_commit(&t, &e), -EINVAL);
		cr_assert_null(t);
		t = begin(false);
		cr_assert_eq(entry_get(t, 1, span_str("good"), &fid), STORE_E_NONE);
		txn_abort(&t);
	}
}

Test(wsdb, the_journal_counts_without_gaps)
{
	struct journal_row row = { .kind = JOURNAL_ENTRY, .fid = 3, .parent = 1, .wall_ns = 17 }, got;
	struct txn *t;
	uint64_t after = 0;
	int i, k;

	row.name = span_str("x");
	for (i = 0; i < 5; i++) {
		t = begin(true);
		for (k = 0; k < 100; k++)
			journal_append(t, &row);
		if (i == 2)
			txn_abort(&t);
		else
			commit(t);
	}
	t = begin(false);
	while (journal_next(t, after, &got) == 0) {
		cr_assert_eq(got.seq, after + 1);
		cr_assert(span_eq(got.name, span_str("x")));
		cr_assert_eq(got.wall_ns, 17);
		after = got.seq;
	}
	cr_assert_eq(after, 400);
	txn_abort(&t);
}

Test(wsdb, a_reader_sees_one_state)
{
	struct node n = make_node(5, S_IFREG | 0600), m;
	struct txn *r, *t = begin(true);

	node_put(t, &n);
	commit(t);
	r = begin(false);
	t = begin(true);
	n.uid = 1;
	node_put(t, &n);
	commit(t);
	cr_assert_eq(node_get(r, 5, &m), 0);
	cr_assert_eq(m.uid, 1000);
	txn_abort(&r);
	r = begin(false);
	cr_assert_eq(node_get(r, 5, &m), 0);
	cr_assert_eq(m.uid, 1);
	txn_abort(&r);
}

static int collect(void *ctx, const char *id)
{
	strcat(ctx, id);
	return 0;
}

Test(wsdb, opened_once_created_once_removed_once)
{
	struct wsdb *again = NULL, *other = NULL;
	struct err e = ERR_NULL;
	char ids[64] = "";

	cr_assert_eq(wsdb_open(place.store, "one", false, &again, &e), 0);
	cr_assert_eq(again, ws);
	wsdb_close(&again);
	cr_assert_eq(wsdb_open(place.store, "one", true, &again, &e), -EEXIST);
	cr_assert_eq(wsdb_open(place.store, "two", false, &other, &e), -ENOENT);
	cr_assert_str_eq(e.slug, "no-such-workspace");
	cr_assert_eq(wsdb_open(place.store, "../x", true, &other, &e), -EINVAL);
	cr_assert_eq(store_each_ws(place.store, collect, ids), 0);
	cr_assert_str_eq(ids, "one");
	wsdb_close(&ws);
	cr_assert_eq(wsdb_remove(place.store, "one", &e), 0);
	cr_assert_eq(wsdb_remove(place.store, "one", &e), -ENOENT);
	ids[0] = '\0';
	cr_assert_eq(store_each_ws(place.store, collect, ids), 0);
	cr_assert_str_eq(ids, "");
	cr_assert_eq(wsdb_open(place.store, "one", true, &ws, &e), 0);
}

Test(wsdb, the_journal_is_bounded)
{
	struct journal_row row = { .kind = JOURNAL_NOTE, .name = SPAN("x", 1) }, got;
	struct fsck_stats stats;
	struct txn *t = NULL;
	unsigned i;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	for (i = 0; i < JOURNAL_ROWS + 1000; i++)
		journal_append(t, &row);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	cr_assert_eq(journal_next(t, 0, &got), 0);
	cr_assert_eq(got.seq, 1001);
	txn_abort(&t);
	cr_assert_eq(store_fsck(place.store, NULL, NULL, &stats, NULL), 0);
	cr_assert_eq(stats.problems, 0);
}

Test(wsdb, the_journal_is_bounded_in_bytes_too)
{
	static char name[8000];
	struct journal_row row = { .kind = JOURNAL_CREATE, .name = SPAN(name, sizeof(name)) }, got;
	struct fsck_stats stats;
	struct txn *t = NULL;
	uint64_t n = 0, bytes = 0, after = 0;
	unsigned i;

	memset(name, 'x', sizeof(name));
	for (i = 0; i < 6000; i++) {
		if (!t)
			cr_assert_eq(txn_write(ws, &t, NULL), 0);
		journal_append(t, &row);
		if (i % 100 == 99)
			cr_assert_eq(txn_commit(&t, NULL), 0);
	}
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	for (; journal_next(t, after, &got) == 0; after = got.seq, n++)
		bytes += got.name.len;
	cr_assert_eq(after, 6000);
	cr_assert_eq(journal_last(t), 6000);
	txn_abort(&t);
	cr_assert_gt(n, 4000);
	cr_assert_leq(bytes, JOURNAL_MAX_B);
	cr_assert_eq(store_fsck(place.store, NULL, NULL, &stats, NULL), 0);
	cr_assert_eq(stats.problems, 0);
}

Test(wsdb, removed_while_somebody_has_it_open)
{
	struct node n = make_node(2, S_IFDIR | 0755);
	struct wsdb *fresh = NULL;
	struct txn *t = NULL;
	char ids[64] = "";

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(wsdb_remove(place.store, "one", NULL), 0);
	cr_assert_eq(wsdb_remove(place.store, "one", NULL), -ENOENT);
	cr_assert_eq(store_each_ws(place.store, collect, ids), 0);
	cr_assert_str_eq(ids, "");
	/* A new one of the same name is another one. */
	cr_assert_eq(wsdb_open(place.store, "one", true, &fresh, NULL), 0);
	cr_assert_eq(txn_read(fresh, &t, NULL), 0);
	cr_assert_eq(node_get(t, 2, &n), STORE_E_NONE);
	txn_abort(&t);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	cr_assert_eq(node_get(t, 2, &n), 0);
	txn_abort(&t);
	wsdb_close(&ws);
	cr_assert_eq(txn_read(fresh, &t, NULL), 0);
	txn_abort(&t);
	wsdb_close(&fresh);
	cr_assert_eq(wsdb_open(place.store, "one", false, &ws, NULL), 0);
}

Test(wsdb, more_workspaces_than_maps)
{
	struct wsdb *all[300];
	char id[16];
	int i, round;

	for (i = 0; i < 300; i++) {
		snprintf(id, sizeof(id), "w%d", i);
		cr_assert_eq(wsdb_open(place.store, id, true, &all[i], NULL), 0);
	}
	cr_assert_leq(place.store->mapped, 256);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 300; i++) {
			struct txn *t = NULL;
			uint64_t v = 0;

			cr_assert_eq(txn_write(all[i], &t, NULL), 0);
			if (round)
				cr_assert_eq(meta_get_u64(t, "n", &v), 0);
			cr_assert_eq(v, round ? (uint64_t)i : 0);
			meta_put_u64(t, "n", (uint64_t)i);
			cr_assert_eq(txn_commit(&t, NULL), 0);
			cr_assert_leq(place.store->mapped, 256);
		}
	}
	for (i = 0; i < 300; i++)
		wsdb_close(&all[i]);
}

Test(wsdb, a_full_workspace_says_so_and_goes_on)
{
	struct place small;
	struct wsdb *w = NULL;
	struct err e = ERR_NULL;
	uint64_t fid = 1, kept;
	struct node n;
	struct txn *t;
	int r, i;

	place_make(&small, 1 << 20);
	cr_assert_eq(wsdb_open(small.store, "w", true, &w, NULL), 0);
	do {
		kept = fid;
		cr_assert_eq(txn_write(w, &t, NULL), 0);
		for (i = 0; i < 100; i++, fid++) {
			n = make_node(fid, S_IFREG | 0644);
			node_put(t, &n);
		}
		r = txn_commit(&t, &e);
	} while (r == 0);
	cr_assert_eq(r, -ENOSPC);
	cr_assert_str_eq(e.slug, "workspace-full");
	cr_assert_gt(kept, 500);
	/* All that was acknowledged is there, nothing of the rest; deleting makes room. */
	cr_assert_eq(txn_write(w, &t, NULL), 0);
	for (i = 1; i < (int)kept; i++)
		cr_assert_eq(node_get(t, (uint64_t)i, &n), 0);
	cr_assert_eq(node_get(t, kept, &n), STORE_E_NONE);
	for (i = 1; i < 300; i++)
		node_del(t, (uint64_t)i);
	r = txn_commit(&t, &e);
	cr_assert_eq(r, 0, "%s", e.text);
	for (i = 0; i < 2; i++) {
		cr_assert_eq(txn_write(w, &t, NULL), 0);
		n = make_node(kept + (uint64_t)i, S_IFREG | 0644);
		node_put(t, &n);
		cr_assert_eq(txn_commit(&t, &e), 0, "%s", e.text);
	}
	wsdb_close(&w);
	place_free(&small);
}

enum { MANY = 270, TURNS = 1500 };

static struct wsdb *many[MANY];

static void *use_many(void *ctx)
{
	uint64_t seed = (uint64_t)(uintptr_t)ctx;
	struct txn *t = NULL;
	uint64_t v;
	int i;

	for (i = 0; i < TURNS; i++) {
		struct wsdb *w;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		w = many[(seed >> 33) % MANY];
		if (seed >> 60 == 0) {
			if (txn_write(w, &t, NULL))
				return (void *)1;
			if (meta_get_u64(t, "n", &v) < 0)
				return (void *)2;
			meta_put_u64(t, "n", v + 1);
			if (txn_commit(&t, NULL))
				return (void *)3;
		} else {
			if (txn_read(w, &t, NULL))
				return (void *)4;
			if (meta_get_u64(t, "n", &v))
				return (void *)5;
			txn_abort(&t);
		}
	}
	return NULL;
}

Test(wsdb, threads_share_what_is_mapped, .timeout = 120)
{
	pthread_t threads[4];
	uint64_t i;
	void *bad;
	char id[16];

	for (i = 0; i < MANY; i++) {
		struct txn *t = NULL;

		snprintf(id, sizeof(id), "w%d", (int)i);
		cr_assert_eq(wsdb_open(place.store, id, true, &many[i], NULL), 0);
		cr_assert_eq(txn_write(many[i], &t, NULL), 0);
		meta_put_u64(t, "n", 1);
		cr_assert_eq(txn_commit(&t, NULL), 0);
	}
	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, use_many, (void *)(uintptr_t)(i + 1));
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], &bad);
		cr_assert_null(bad, "%d", (int)(uintptr_t)bad);
	}
	for (i = 0; i < MANY; i++)
		wsdb_close(&many[i]);
}
