/* SPDX-License-Identifier: Apache-2.0 */
/* Equal states have equal hashes, different ones have different hashes, and only what changed is written. */
#include "store-lib.h"

#include "host/store/tree-dir.h"

#include <pthread.h>
#include <stdatomic.h>

static struct place place;

static void setup(void)
{
	place_make(&place, 1 << 30);
}

static void teardown(void)
{
	place_free(&place);
}

TestSuite(tree, .init = setup, .fini = teardown);

static struct wsdb *new_ws(const char *id)
{
	struct wsdb *ws = NULL;

	cr_assert_eq(wsdb_open(place.store, id, true, &ws, NULL), 0);
	return ws;
}

static void put(struct txn *t, uint64_t parent, const char *name, uint64_t fid, uint32_t mode)
{
	struct node n = make_node(fid, mode);

	n.mtime_ns = 5; /* the fids differ between the workspaces, the states must not */
	node_put(t, &n);
	if (parent)
		entry_put(t, parent, span_str(name), fid);
	else
		meta_put_u64(t, "root-fid", fid);
}

static struct txn *begin(struct wsdb *ws)
{
	struct txn *t = NULL;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	return t;
}

static void commit(struct txn *t)
{
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

static struct digest seal(struct wsdb *ws)
{
	struct err e = ERR_NULL;
	struct digest d;

	cr_assert_eq(tree_seal(ws, 0, &d, &e), 0, "%s", e.text);
	return d;
}

static void sound(void)
{
	struct fsck_stats st;

	cr_assert_eq(store_fsck(place.store, NULL, NULL, &st, NULL), 0);
	cr_assert_eq(st.problems, 0);
}

Test(tree, equal_states_by_different_ways)
{
	struct wsdb *a = new_ws("a"), *b = new_ws("b");
	struct digest first, x, y;
	struct txn *t = begin(a);

	put(t, 0, NULL, 1, S_IFDIR | 0755);
	put(t, 1, "d", 2, S_IFDIR | 0755);
	put(t, 2, "f", 3, S_IFREG | 0644);
	put(t, 2, "g", 4, S_IFREG | 0600);
	commit(t);
	first = seal(a);

	t = begin(b);
	put(t, 0, NULL, 100, S_IFDIR | 0755);
	put(t, 100, "tmp", 50, S_IFDIR | 0755);
	put(t, 50, "g", 9, S_IFREG | 0600);
	put(t, 50, "h", 8, S_IFREG | 0644);
	commit(t);
	y = seal(b);
	cr_assert_not(digest_eq(&first, &y));
	t = begin(b);
	entry_del(t, 100, span_str("tmp"));
	entry_put(t, 100, span_str("d"), 50);
	entry_del(t, 50, span_str("h"));
	entry_put(t, 50, span_str("f"), 8);
	commit(t);
	y = seal(b);
	cr_assert(digest_eq(&first, &y));

	t = begin(a);
	put(t, 2, "f", 3, S_IFREG | 0755);
	commit(t);
	x = seal(a);
	cr_assert_not(digest_eq(&first, &x));
	t = begin(a);
	put(t, 2, "f", 3, S_IFREG | 0644);
	commit(t);
	x = seal(a);
	cr_assert(digest_eq(&first, &x));
	x = seal(a);
	cr_assert(digest_eq(&first, &x));
	sound();
	wsdb_close(&a);
	wsdb_close(&b);
}

static struct digest linked(const char *id, uint64_t fid_one, uint64_t fid_two, bool cross)
{
	struct wsdb *ws = new_ws(id);
	struct txn *t = begin(ws);
	struct digest d;
	struct node n;
	uint64_t fids[] = { fid_one, fid_two };
	int i;

	put(t, 0, NULL, 1, S_IFDIR | 0755);
	put(t, 1, "d", 2, S_IFDIR | 0755);
	for (i = 0; i < 2; i++) {
		n = make_node(fids[i], S_IFREG | 0644);
		n.mtime_ns = 5;
		n.nlink = 2;
		node_put(t, &n);
	}
	entry_put(t, 1, span_str("a"), fid_one);
	entry_put(t, 1, span_str("b"), fid_two);
	entry_put(t, 2, span_str("a"), cross ? fid_two : fid_one);
	entry_put(t, 2, span_str("b"), cross ? fid_one : fid_two);
	commit(t);
	d = seal(ws);
	wsdb_close(&ws);
	return d;
}

Test(tree, hard_links_are_part_of_the_state)
{
	struct digest a = linked("a", 10, 20, false), b = linked("b", 21, 11, false), c = linked("c", 10, 20, true);

	cr_assert(digest_eq(&a, &b));
	cr_assert_not(digest_eq(&a, &c));
	sound();
}

Test(tree, pending_content_is_waited_for)
{
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	struct node n = make_node(3, S_IFREG | 0644);
	struct err e = ERR_NULL;
	struct digest d;

	cr_assert_eq(tree_seal(ws, 0, &d, &e), -ENOENT);
	cr_assert_str_eq(e.slug, "workspace-empty");
	put(t, 0, NULL, 1, S_IFDIR | 0755);
	n.flags = NODE_PENDING;
	node_put(t, &n);
	entry_put(t, 1, span_str("f"), 3);
	commit(t);
	cr_assert_eq(tree_seal(ws, 0, &d, &e), -EAGAIN);
	t = begin(ws);
	n.flags = 0;
	node_put(t, &n);
	commit(t);
	seal(ws);
	wsdb_close(&ws);
}

Test(tree, a_directory_linked_in_later_is_not_forgotten)
{
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	struct digest one, two;

	put(t, 0, NULL, 1, S_IFDIR | 0755);
	put(t, 2, "f", 3, S_IFREG | 0755);
	put(t, 4, "d", 2, S_IFDIR | 0755);
	node_del(t, 4);
	commit(t);
	one = seal(ws);
	t = begin(ws);
	entry_del(t, 4, span_str("d"));
	entry_put(t, 1, span_str("d"), 2);
	commit(t);
	two = seal(ws);
	cr_assert_not(digest_eq(&one, &two));
	sound();
	wsdb_close(&ws);
}

static uint64_t trees(void)
{
	struct db_txn *t = NULL;
	uint64_t n = 0;

	cr_assert_eq(db_begin(place.store->content, false, &t, NULL), 0);
	cr_assert_eq(db_count(t, CT_TREE, &n), 0);
	db_abort(&t);
	return n;
}

/* Sums what a directory's nodes hold, to see that nothing got lost between leaves and indexes. */
struct sum {
	uint64_t entries, nodes;
};

static void sum_nodes(struct sum *s, const struct digest *d)
{
	struct db_txn *t = NULL;
	struct span v = SPAN_NULL, name;
	struct tree_entry en;
	enum tree_kind kind;
	struct digest below;
	uint32_t count, i;
	size_t at = TREE_HEAD;

	cr_assert_eq(db_begin(place.store->content, false, &t, NULL), 0);
	cr_assert_eq(db_get(t, CT_TREE, digest_span(d), &v), 0);
	cr_assert_eq(tree_head_check(v, &kind, &count), 0);
	s->nodes++;
	for (i = 0; i < count; i++) {
		if (kind == TREE_LEAF) {
			cr_assert_eq(tree_entry_unpack(v, &at, &en), 0);
			s->entries++;
		} else {
			cr_assert_eq(tree_index_unpack(v, &at, &below, &name), 0);
			sum_nodes(s, &below);
		}
	}
	cr_assert_eq(at, v.len);
	db_abort(&t);
}

Test(tree, a_huge_directory_is_split_and_changed_in_part)
{
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	struct digest one, dir;
	struct sum s = { 0 };
	struct db_txn *c = NULL;
	struct span v;
	uint64_t before;
	char name[200];
	int i;

	put(t, 0, NULL, 1, S_IFDIR | 0755);
	for (i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "a-rather-long-name-for-a-file-%0100d", i);
		put(t, 1, name, (uint64_t)i + 10, S_IFREG | 0644);
	}
	commit(t);
	one = seal(ws);
	cr_assert_eq(db_begin(place.store->content, false, &c, NULL), 0);
	cr_assert_eq(db_get(c, CT_TREE, digest_span(&one), &v), 0);
	memcpy(dir.b, (const uint8_t *)v.p + 32, DIGEST_LEN);
	db_abort(&c);
	sum_nodes(&s, &dir);
	cr_assert_eq(s.entries, 20000);
	cr_assert_gt(s.nodes, 20);
	before = trees();
	t = begin(ws);
	put(t, 1, "a-rather", 5, S_IFREG | 0644);
	commit(t);
	seal(ws);
	/* A leaf, perhaps the one after it, the index, the root. */
	cr_assert_leq(trees() - before, 4);
	sound();
	wsdb_close(&ws);
}

Test(tree, big_entries_fill_nodes_to_the_brim)
{
	struct tree_dir *d = tree_dir_new(place.store, writer_epoch(place.store->writer));
	uint8_t long_target[4095];
	struct tree_entry en = { .mode = S_IFLNK | 0777 };
	struct digest hash;
	struct sum s = { 0 };
	char name[32];
	int i;

	memset(long_target, 'x', sizeof(long_target));
	en.extra = SPAN(long_target, sizeof(long_target));
	for (i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "%08d", i);
		en.name = span_str(name);
		tree_dir_add(d, &en);
	}
	cr_assert_eq(tree_dir_finish(d, &hash), 0);
	cr_assert_eq(store_settle(place.store, NULL), 0);
	sum_nodes(&s, &hash);
	cr_assert_eq(s.entries, 5000);
	tree_dir_free(&d);
}

enum { CHANGES = 400 };

struct changer {
	struct wsdb *ws;
	_Atomic bool done;
};

/* The state after all changes follows from their number alone. */
static void *change(void *ctx)
{
	struct changer *c = ctx;
	uint64_t i;

	for (i = 0; i < CHANGES; i++) {
		struct txn *t = begin(c->ws);
		uint64_t dir = 100 + i % 7;
		char name[32];

		snprintf(name, sizeof(name), "d%d", (int)(i % 7));
		if (i < 7)
			put(t, i ? 100 + (i - 1) / 2 : 1, name, dir, S_IFDIR | 0755);
		snprintf(name, sizeof(name), "f%d", (int)(i % 50));
		if (i % 3)
			put(t, dir, name, 1000 + i, S_IFREG | (i % 0777));
		else
			entry_del(t, dir, span_str(name));
		commit(t);
	}
	c->done = true;
	return NULL;
}

Test(tree, changes_during_a_seal_are_in_the_next, .timeout = 60)
{
	struct changer c = { .ws = new_ws("a") }, quiet = { .ws = new_ws("b") };
	struct txn *t = begin(c.ws);
	struct digest one, two;
	pthread_t thread;

	put(t, 0, NULL, 1, S_IFDIR | 0755);
	commit(t);
	t = begin(quiet.ws);
	put(t, 0, NULL, 1, S_IFDIR | 0755);
	commit(t);
	pthread_create(&thread, NULL, change, &c);
	while (!c.done)
		seal(c.ws);
	pthread_join(thread, NULL);
	change(&quiet);
	one = seal(c.ws);
	two = seal(quiet.ws);
	cr_assert(digest_eq(&one, &two));
	wsdb_close(&c.ws);
	wsdb_close(&quiet.ws);
}

static void expect_hex(const struct digest *d, const char *want)
{
	char hex[2 * DIGEST_LEN + 1];

	str_hex(d->b, DIGEST_LEN, hex);
	cr_assert_str_eq(hex, want);
}

/* The format is a promise: these are the hashes that version 1 gives. */
Test(tree, hashes_stay_what_they_are)
{
	static uint8_t bytes[300000];
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	struct content c;
	struct digest d;
	struct node n;
	char name[300];
	int i;

	fill(bytes, sizeof(bytes), 1);
	cr_assert_eq(put_content(place.store, bytes, sizeof(bytes), &c), 0);
	cr_assert_eq(store_settle(place.store, NULL), 0);
	put(t, 0, NULL, 1, S_IFDIR | 0755);
	put(t, 1, "dir", 2, S_IFDIR | 0700);
	put(t, 1, "link", 3, S_IFLNK | 0777);
	node_set_target(t, 3, span_str("dir/../dir"));
	n = make_node(4, S_IFREG | 0644);
	n.content = c;
	n.nlink = 2;
	node_put(t, &n);
	entry_put(t, 1, span_str("big"), 4);
	entry_put(t, 2, span_str("big too"), 4);
	n = make_node(5, S_IFCHR | 0600);
	n.rdev = 0x103;
	node_put(t, &n);
	entry_put(t, 2, span_str("null"), 5);
	for (i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%d-%0*d", i * 7919 % 3000, i % 200, i);
		put(t, 2, name, (uint64_t)i + 10, S_IFREG | 0644);
	}
	commit(t);
	expect_hex(&c.root, "0f77a184fd80802d4d971846766dc7379bd965d684c5ee12e614bb411e50b167");
	d = seal(ws);
	expect_hex(&d, "28773e0aafc6c584236f2e5e05101e7fc9af732007c4fd26764648d1f203de9a");
	wsdb_close(&ws);
}
