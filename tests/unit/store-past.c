/* SPDX-License-Identifier: Apache-2.0 */
/* Workspaces that are made from trees, what differs between trees, and snapshots. Random trees are compared with a
 * plain walk of both. */
#include "store-lib.h"

#include "base/vec.h"
#include "host/store/tree-dir.h"

#include <malloc.h>
#include <stdlib.h>

static struct place place;

static void setup(void)
{
	place_make(&place, 1 << 30);
}

static void teardown(void)
{
	place_free(&place);
}

TestSuite(past, .init = setup, .fini = teardown);

static struct wsdb *new_ws(const char *id)
{
	struct wsdb *ws = NULL;

	cr_assert_eq(wsdb_open(place.store, id, true, &ws, NULL), 0);
	return ws;
}

static struct txn *begin(struct wsdb *ws)
{
	struct txn *t = NULL;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	return t;
}

static void commit(struct txn *t)
{
	struct err e = ERR_NULL;

	cr_assert_eq(txn_commit(&t, &e), 0, "%s", e.text);
}

static struct digest seal(struct wsdb *ws)
{
	struct err e = ERR_NULL;
	struct digest d;

	cr_assert_eq(tree_seal(ws, 0, &d, &e), 0, "%s", e.text);
	return d;
}

static void say(UNUSED void *ctx, const char *words)
{
	cr_log_error("%s", words);
}

static void sound(void)
{
	struct fsck_stats st;

	cr_assert_eq(store_fsck(place.store, say, NULL, &st, NULL), 0);
	cr_assert_eq(st.problems, 0);
}

static void put_root(struct txn *t)
{
	struct node n = make_node(1, S_IFDIR | 0755);

	n.mtime_ns = 5;
	node_put(t, &n);
	meta_put_u64(t, "root-fid", 1);
}

/* A file whose bytes are its name and @version; whatever had the name is gone, unless it is a directory. */
static void put_file(struct txn *t, uint64_t parent, const char *name, uint64_t fid, unsigned version)
{
	struct node n = make_node(fid, S_IFREG | 0644), old;
	char text[300];
	uint64_t was;

	if (entry_get(t, parent, span_str(name), &was) == 0) {
		cr_assert_eq(node_get(t, was, &old), 0);
		if (S_ISDIR(old.mode))
			return;
		node_del(t, was);
	}

	n.mtime_ns = version;
	snprintf(text, sizeof(text), "%s %u", name, version);
	cr_assert_eq(put_content(place.store, text, strlen(text), &n.content), 0);
	n.size = n.content.size;
	n.content_ctime_ns = 1;
	node_put(t, &n);
	entry_put(t, parent, span_str(name), fid);
}

static void put_dir(struct txn *t, uint64_t parent, const char *name, uint64_t fid)
{
	struct node n = make_node(fid, S_IFDIR | 0755);

	n.mtime_ns = 5;
	node_put(t, &n);
	entry_put(t, parent, span_str(name), fid);
}

static unsigned random_below(uint64_t *seed, unsigned n)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(*seed >> 33) % n;
}

/* Some thousand entries: directories 2 to 40, files from 1000 on. */
static void grow(struct txn *t, uint64_t *seed)
{
	char name[64];
	unsigned i;

	put_root(t);
	for (i = 2; i <= 40; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		put_dir(t, 1 + random_below(seed, i - 1), name, i);
	}
	for (i = 1000; i < 4000; i++) {
		snprintf(name, sizeof(name), "f%u", random_below(seed, 100000));
		put_file(t, 1 + random_below(seed, 40), name, i, 0);
	}
}

/* Every path of a tree with what it is, in one list. */
struct walked {
	char *path;
	uint32_t mode;
	int64_t mtime_ns;
	struct content content;
};

typedef VEC(struct walked) walk_list;

struct walk {
	walk_list *list;
	const char *prefix;
};

static int walk_one(void *ctx, const struct tree_item *it)
{
	struct walk *w = ctx, below = { .list = w->list };
	struct walked at = { .mode = it->mode, .mtime_ns = it->mtime_ns, .content = it->content };

	at.path = str_printf("%s%s%.*s", w->prefix, w->prefix[0] ? "/" : "", (int)it->name.len,
			     (const char *)it->name.p);
	vec_push(w->list, at);
	if (!S_ISDIR(it->mode))
		return 0;
	below.prefix = at.path;
	return tree_each(place.store, &it->dir, walk_one, &below);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct walked *)a)->path, ((const struct walked *)b)->path);
}

static walk_list walk(const struct digest *root)
{
	walk_list list = { 0 };
	struct walk w = { .list = &list, .prefix = "" };
	struct content links;
	struct tree_item it;

	cr_assert_eq(tree_stat(place.store, root, &it, &links), 0);
	cr_assert_eq(tree_each(place.store, &it.dir, walk_one, &w), 0);
	qsort(list.v, list.len, sizeof(*list.v), by_path);
	return list;
}

static void walk_free(walk_list *list)
{
	size_t i;

	for (i = 0; i < list->len; i++)
		str_free(&list->v[i].path);
	vec_fini(list);
}

/* What tree_diff() told, as lines. */
typedef VEC(char *) lines;

static int tell_one(void *ctx, const char *path, const struct tree_item *before, const struct tree_item *after)
{
	lines *l = ctx;

	if (path[0] && !(before && after && S_ISDIR(before->mode)))
		vec_push(l, str_printf("%s %s", !before ? "+" : !after ? "-" : "~", path));
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void expect_same(lines *a, lines *b)
{
	size_t i;

	qsort(a->v, a->len, sizeof(*a->v), by_text);
	qsort(b->v, b->len, sizeof(*b->v), by_text);
	for (i = 0; i < a->len && i < b->len; i++)
		cr_assert_str_eq(a->v[i], b->v[i]);
	cr_assert_eq(a->len, b->len);
	for (i = 0; i < a->len; i++) {
		str_free(&a->v[i]);
		str_free(&b->v[i]);
	}
	vec_fini(a);
	vec_fini(b);
}

/* The same by comparing whole lists. */
static lines differ(const walk_list *a, const walk_list *b)
{
	lines l = { 0 };
	size_t i = 0, j = 0;

	while (i < a->len || j < b->len) {
		const struct walked *x = i < a->len ? &a->v[i] : NULL, *y = j < b->len ? &b->v[j] : NULL;
		int order = !x ? 1 : !y ? -1 : strcmp(x->path, y->path);

		if (order < 0 || (order == 0 && (x->mode & S_IFMT) != (y->mode & S_IFMT)))
			vec_push(&l, str_printf("- %s", x->path));
		if (order > 0 || (order == 0 && (x->mode & S_IFMT) != (y->mode & S_IFMT)))
			vec_push(&l, str_printf("+ %s", y->path));
		if (order == 0 && (x->mode & S_IFMT) == (y->mode & S_IFMT) && !S_ISDIR(x->mode) &&
		    (x->mtime_ns != y->mtime_ns || memcmp(&x->content, &y->content, sizeof(x->content)) != 0))
			vec_push(&l, str_printf("~ %s", x->path));
		i += order <= 0;
		j += order >= 0;
	}
	return l;
}

static void check_diff(const struct digest *a, const struct digest *b)
{
	walk_list x = walk(a), y = walk(b);
	lines told = { 0 }, want = differ(&x, &y);
	struct err e = ERR_NULL;

	cr_assert_eq(tree_diff(place.store, a, b, "", 0, tell_one, &told, &e), 0, "%s", e.text);
	expect_same(&told, &want);
	walk_free(&x);
	walk_free(&y);
}

Test(past, differences_are_those_of_two_whole_walks)
{
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	uint64_t seed = 7;
	struct digest was, is;
	unsigned round, i;
	char name[64];

	grow(t, &seed);
	commit(t);
	was = seal(ws);
	for (round = 0; round < 20; round++) {
		t = begin(ws);
		for (i = 0; i < 1 + round * 3; i++) {
			uint64_t dir = 1 + random_below(&seed, 40), fid = 10000 + round * 100 + i, first;
			struct span entry;

			snprintf(name, sizeof(name), "f%u", random_below(&seed, 100000));
			if (random_below(&seed, 3) && entry_next(t, dir, span_str(name), &entry, &first) == 0 &&
			    first >= 1000) {
				snprintf(name, sizeof(name), "%.*s", (int)entry.len, (const char *)entry.p);
				entry_del(t, dir, span_str(name));
				node_del(t, first);
			}
			if (random_below(&seed, 5) == 0 && entry_get(t, dir, span_str(name), &first))
				put_dir(t, dir, name, fid);
			else if (random_below(&seed, 2))
				put_file(t, dir, name, fid, round);
		}
		commit(t);
		is = seal(ws);
		check_diff(&was, &is);
		check_diff(&is, &was);
		was = is;
	}
	sound();
	wsdb_close(&ws);
}

static int count_change(void *ctx, UNUSED const char *path, UNUSED const struct tree_item *before,
			UNUSED const struct tree_item *after)
{
	++*(unsigned *)ctx;
	return 0;
}

static int stop_at_once(UNUSED void *ctx, UNUSED const char *path, UNUSED const struct tree_item *before,
			UNUSED const struct tree_item *after)
{
	return 77;
}

Test(past, a_whole_directory_is_one_change_when_asked_for)
{
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	struct digest was, is;
	unsigned n = 0, i;
	char name[64];

	put_root(t);
	commit(t);
	was = seal(ws);
	t = begin(ws);
	put_dir(t, 1, "d", 2);
	put_dir(t, 2, "e", 3);
	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "%u", i);
		put_file(t, 3, name, 100 + i, 0);
	}
	commit(t);
	is = seal(ws);
	cr_assert_eq(tree_diff(place.store, &was, &is, "", TREE_DIFF_WHOLE, count_change, &n, NULL), 0);
	cr_assert_eq(n, 1U);
	n = 0;
	cr_assert_eq(tree_diff(place.store, &was, &is, "", 0, count_change, &n, NULL), 0);
	cr_assert_eq(n, 102U);
	n = 0;
	cr_assert_eq(tree_diff(place.store, &is, &is, "", 0, count_change, &n, NULL), 0);
	cr_assert_eq(n, 0U);
	cr_assert_eq(tree_diff(place.store, &was, &is, "", 0, stop_at_once, NULL, NULL), 77);
	n = 0;
	cr_assert_eq(tree_diff(place.store, &was, &is, "d/e/7", 0, count_change, &n, NULL), 0);
	cr_assert_eq(n, 1U);
	n = 0;
	cr_assert_eq(tree_diff(place.store, &is, &was, "d/e", 0, count_change, &n, NULL), 0);
	cr_assert_eq(n, 101U);
	cr_assert_eq(tree_diff(place.store, &is, &was, "no", 0, count_change, &n, NULL), -ENOENT);
	wsdb_close(&ws);
}

/* Unpack in pieces, look at everything, and seal: the tree is the same. */
static void plant_and_check(const struct digest *root, const char *id, size_t more)
{
	struct wsdb *ws = new_ws(id);
	struct txn *t = begin(ws);
	VEC(uint64_t) todo = { 0 };
	struct err e = ERR_NULL;
	struct digest again;
	walk_list list = walk(root);
	size_t names = 0;

	cr_assert_eq(txn_plant(t, root, 0, &e), 0, "%s", e.text);
	cr_assert_eq(txn_plant(t, root, 0, &e), -EEXIST);
	vec_push(&todo, txn_root(t));
	commit(t);
	sound();
	again = seal(ws);
	cr_assert(digest_eq(root, &again));
	while (todo.len) {
		uint64_t dir = todo.v[--todo.len], fid;
		struct span name = SPAN_NULL;
		struct node n;

		t = begin(ws);
		cr_assert_eq(node_unpack_dir(t, dir, more), 0);
		cr_assert_eq(node_get(t, dir, &n), 0);
		cr_assert_eq(n.flags & NODE_STUB, 0U);
		commit(t);
		cr_assert_eq(txn_read(ws, &t, NULL), 0);
		while (entry_next(t, dir, name, &name, &fid) == 0) {
			cr_assert_eq(node_get(t, fid, &n), 0);
			names++;
			if (S_ISDIR(n.mode))
				vec_push(&todo, fid);
		}
		txn_abort(&t);
	}
	cr_assert_eq(names, list.len);
	sound();
	t = begin(ws);
	put_file(t, txn_root(t), "one-more", 50, 1);
	commit(t);
	again = seal(ws);
	cr_assert_not(digest_eq(root, &again));
	t = begin(ws);
	entry_del(t, txn_root(t), span_str("one-more"));
	node_del(t, 50);
	commit(t);
	again = seal(ws);
	cr_assert(digest_eq(root, &again), "a tree that was unpacked and changed back is what it was");
	walk_free(&list);
	vec_fini(&todo);
	wsdb_close(&ws);
}

Test(past, what_is_planted_is_the_tree)
{
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	uint64_t seed = 11;
	struct digest root;
	struct node n = make_node(500, S_IFLNK | 0777);
	struct node fifo = make_node(501, S_IFIFO | 0600);

	grow(t, &seed);
	node_put(t, &n);
	node_set_target(t, 500, span_str("some/where"));
	entry_put(t, 3, span_str("link"), 500);
	node_put(t, &fifo);
	entry_put(t, 3, span_str("fifo"), 501);
	cr_assert_eq(node_get(t, 1000, &n), 0);
	node_set_xattrs(t, &n, span_str("not empty"));
	cr_assert_eq(node_get(t, 1, &n), 0);
	node_set_xattrs(t, &n, span_str("of the root"));
	commit(t);
	root = seal(ws);
	wsdb_close(&ws);
	plant_and_check(&root, "b", 0);
	plant_and_check(&root, "c", 700);
	plant_and_check(&root, "d", SIZE_MAX);
}

Test(past, a_stub_that_is_changed_itself_keeps_what_is_in_it)
{
	struct wsdb *ws = new_ws("a"), *b;
	struct txn *t = begin(ws);
	struct digest root, is, want;
	struct node n;
	uint64_t dir;

	put_root(t);
	put_dir(t, 1, "d", 2);
	put_file(t, 2, "f", 3, 0);
	commit(t);
	root = seal(ws);
	t = begin(ws);
	cr_assert_eq(node_get(t, 2, &n), 0);
	n.mode = S_IFDIR | 0700;
	node_put(t, &n);
	commit(t);
	want = seal(ws);
	b = new_ws("b");
	t = begin(b);
	cr_assert_eq(txn_plant(t, &root, 0, NULL), 0);
	cr_assert_eq(node_unpack_dir(t, txn_root(t), 0), 0);
	cr_assert_eq(entry_get(t, txn_root(t), span_str("d"), &dir), 0);
	cr_assert_eq(node_get(t, dir, &n), 0);
	cr_assert_neq(n.flags & NODE_STUB, 0U);
	n.mode = S_IFDIR | 0700;
	node_put(t, &n);
	commit(t);
	is = seal(b);
	cr_assert(digest_eq(&is, &want));
	wsdb_close(&ws);
	wsdb_close(&b);
}

Test(past, hard_links_find_each_other)
{
	struct wsdb *ws = new_ws("a"), *b;
	struct txn *t = begin(ws);
	struct digest root, again;
	uint64_t x, y, d;
	struct node n;

	put_root(t);
	put_dir(t, 1, "d", 2);
	put_file(t, 1, "x", 3, 0);
	cr_assert_eq(node_get(t, 3, &n), 0);
	n.nlink = 3;
	node_put(t, &n);
	entry_put(t, 2, span_str("y"), 3);
	entry_put(t, 2, span_str("z"), 3);
	commit(t);
	root = seal(ws);
	b = new_ws("b");
	t = begin(b);
	cr_assert_eq(txn_plant(t, &root, 0, NULL), 0);
	commit(t);
	sound();
	cr_assert_eq(txn_read(b, &t, NULL), 0);
	cr_assert_eq(entry_get(t, txn_root(t), span_str("x"), &x), 0);
	cr_assert_eq(entry_get(t, txn_root(t), span_str("d"), &d), 0);
	cr_assert_eq(entry_get(t, d, span_str("z"), &y), 0);
	cr_assert_eq(x, y);
	cr_assert_eq(node_get(t, x, &n), 0);
	cr_assert_eq(n.nlink, 3U);
	txn_abort(&t);
	again = seal(b);
	cr_assert(digest_eq(&root, &again));
	wsdb_close(&ws);
	wsdb_close(&b);
}

Test(past, paths_are_found_in_trees)
{
	struct wsdb *ws = new_ws("a");
	struct txn *t = begin(ws);
	struct digest root;
	struct tree_item it;
	uint64_t seed = 3;
	walk_list list;
	size_t i;

	grow(t, &seed);
	commit(t);
	root = seal(ws);
	list = walk(&root);
	for (i = 0; i < list.len; i++) {
		AUTO(str_free) char *wrong = str_printf("%s ", list.v[i].path);

		cr_assert_eq(tree_resolve(place.store, &root, list.v[i].path, &it), 0, "%s", list.v[i].path);
		cr_assert_eq(it.mode, list.v[i].mode);
		cr_assert_eq(memcmp(&it.content, &list.v[i].content, sizeof(it.content)), 0);
		cr_assert_eq(tree_resolve(place.store, &root, wrong, &it), -ENOENT);
	}
	cr_assert_eq(tree_resolve(place.store, &root, "", &it), 0);
	cr_assert(S_ISDIR(it.mode));
	walk_free(&list);
	wsdb_close(&ws);
}

static int count_snapshot(void *ctx, UNUSED const struct snapshot *s)
{
	++*(unsigned *)ctx;
	return 0;
}

Test(past, snapshots_are_rows)
{
	struct wsdb *ws = new_ws("a");
	struct snapshot s = {
		.name = "first", .created_ns = 5, .journal_seq = 6, .entries = 7, .flags = SNAPSHOT_LIVE
	};
	struct snapshot back;
	struct err e = ERR_NULL;
	struct txn *t = begin(ws);
	unsigned n = 0;

	put_root(t);
	commit(t);
	s.root = seal(ws);
	t = begin(ws);
	cr_assert_eq(snapshot_put(t, &s, &e), 0);
	cr_assert_eq(snapshot_put(t, &s, &e), -EEXIST);
	cr_assert_str_eq(e.slug, "snapshot-exists");
	cr_assert_eq(snapshot_get(t, "first", &back), 0);
	cr_assert_eq(memcmp(&s, &back, sizeof(s)), 0);
	cr_assert_eq(snapshot_get(t, "second", &back), STORE_E_NONE);
	cr_assert_eq(snapshot_get(t, "", &back), STORE_E_NONE);
	snprintf(s.name, sizeof(s.name), "not/good");
	cr_assert_eq(snapshot_put(t, &s, &e), -EINVAL);
	snprintf(s.name, sizeof(s.name), "second");
	cr_assert_eq(snapshot_put(t, &s, &e), 0);
	cr_assert_eq(snapshot_each(t, count_snapshot, &n), 0);
	cr_assert_eq(n, 2U);
	cr_assert_eq(snapshot_del(t, "first", &e), 0);
	cr_assert_eq(snapshot_del(t, "first", &e), -ENOENT);
	commit(t);
	sound();
	wsdb_close(&ws);
}

static bool is_door(const char *key)
{
	return str_starts(key, "door/");
}

Test(past, what_is_stripped_has_its_snapshots)
{
	struct wsdb *ws = new_ws("a");
	struct snapshot s = { .name = "first" }, back;
	struct journal_row row = { .kind = JOURNAL_NOTE, .name = span_str("words") };
	uint64_t names = 0, attrs = 0;
	struct txn *t = begin(ws);
	struct fsck_stats st;
	struct err e = ERR_NULL;
	struct span v;

	put_root(t);
	journal_append(t, &row);
	meta_put(t, "door/first", span_str("{}"));
	meta_put(t, "keep", span_str("x"));
	commit(t);
	s.root = seal(ws);
	t = begin(ws);
	cr_assert_eq(snapshot_put(t, &s, &e), 0);
	commit(t);
	t = begin(ws);
	cr_assert_eq(txn_strip(t, is_door, &e), 0, "%s", e.text);
	commit(t);
	t = NULL;
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	cr_expect_eq(txn_root(t), 0U);
	cr_expect_eq(journal_last(t), 0U);
	cr_expect_eq(meta_get(t, "door/first", &v), 0);
	cr_expect_eq(meta_get(t, "keep", &v), STORE_E_NONE);
	cr_expect_eq(count_kept(t, &names, &attrs), 0);
	cr_expect_eq(names + attrs, 0U);
	cr_expect_eq(snapshot_get(t, "first", &back), 0);
	cr_expect(digest_eq(&s.root, &back.root));
	txn_abort(&t);
	cr_assert_eq(store_fsck(place.store, say, NULL, &st, NULL), 0);
	cr_expect_eq(st.problems, 0U);
	cr_expect_eq(st.nodes, 0U);
	wsdb_close(&ws);
}

/* --- walks that hold little --------------------------------------------------------------------------------------- */

static void walk_slowly(struct tree_walk *w, walk_list *list, const char *prefix)
{
	struct tree_item it;
	int r;

	while ((r = tree_walk_next(w, &it)) == 0) {
		struct walked at = { .mode = it.mode, .mtime_ns = it.mtime_ns, .content = it.content };

		at.path = str_printf("%s%s%.*s", prefix, prefix[0] ? "/" : "", (int)it.name.len,
				     (const char *)it.name.p);
		vec_push(list, at);
		if (S_ISDIR(it.mode)) {
			AUTO(str_free) char *below = must_strdup(at.path);

			cr_assert_eq(tree_walk_enter(w, &it.dir), 0);
			walk_slowly(w, list, below);
		}
	}
	cr_assert_eq(r, STORE_E_NONE);
}

Test(past, a_slow_walk_yields_the_tree)
{
	struct wsdb *ws = new_ws("a");
	uint64_t seed = 77;
	struct digest root;
	struct content links;
	struct tree_item it;
	struct tree_walk *w = tree_walk_new(place.store);
	walk_list is = { 0 }, want;
	struct txn *t = begin(ws);
	size_t i;

	grow(t, &seed);
	commit(t);
	root = seal(ws);
	want = walk(&root);
	cr_assert_eq(tree_stat(place.store, &root, &it, &links), 0);
	cr_assert_eq(tree_walk_enter(w, &it.dir), 0);
	walk_slowly(w, &is, "");
	tree_walk_free(&w);
	qsort(is.v, is.len, sizeof(*is.v), by_path);
	cr_assert_eq(is.len, want.len);
	for (i = 0; i < is.len; i++) {
		cr_assert_str_eq(is.v[i].path, want.v[i].path);
		cr_assert_eq(is.v[i].mode, want.v[i].mode);
		cr_assert_eq(is.v[i].mtime_ns, want.v[i].mtime_ns);
		cr_assert_eq(memcmp(&is.v[i].content, &want.v[i].content, sizeof(is.v[i].content)), 0);
	}
	walk_free(&is);
	walk_free(&want);
	wsdb_close(&ws);
}

Test(past, a_slow_walk_of_a_large_directory_holds_little)
{
	enum { NAMES = 100000 };
	struct wsdb *ws = new_ws("a");
	struct digest root;
	struct content links;
	struct tree_item it;
	struct tree_walk *w = tree_walk_new(place.store);
	struct txn *t = begin(ws);
	size_t i, n = 0, before, most = 0;
	char name[256];
	int r;

	put_root(t);
	for (i = 0; i < NAMES; i++) {
		struct node f = make_node(1000 + i, S_IFREG | 0644);

		snprintf(name, sizeof(name), "%0200zu", i);
		node_put(t, &f);
		entry_put(t, 1, span_str(name), f.fid);
	}
	commit(t);
	root = seal(ws);
	cr_assert_eq(tree_stat(place.store, &root, &it, &links), 0);
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	cr_assert_eq(tree_walk_enter(w, &it.dir), 0);
	for (; (r = tree_walk_next(w, &it)) == 0; n++)
		if (n % 1000 == 0)
			most = MAX(most, mallinfo2().uordblks + mallinfo2().hblkhd - before);
	cr_assert_eq(r, STORE_E_NONE);
	cr_assert_eq(n, NAMES);
	cr_assert_lt(most, 512 * 1024, "%zu bytes are held", most);
	tree_walk_free(&w);
	wsdb_close(&ws);
}

/* As many names as one file can have are one group, and that is no work for hours. */
Test(past, a_file_with_all_the_names_that_it_can_have, .timeout = 60)
{
	enum { LINKS = 65000 };
	struct wsdb *ws = new_ws("a"), *copy = new_ws("b");
	struct txn *t = begin(ws);
	struct digest root, again;
	struct node f = make_node(1000, S_IFREG | 0644);
	char name[64];
	uint64_t fid;
	size_t i;

	put_root(t);
	put_dir(t, 1, "d", 2);
	f.nlink = LINKS;
	node_put(t, &f);
	for (i = 0; i < LINKS; i++) {
		snprintf(name, sizeof(name), "name-%zu", i);
		entry_put(t, 1 + i % 2, span_str(name), f.fid);
	}
	commit(t);
	root = seal(ws);
	t = begin(copy);
	cr_assert_eq(txn_plant(t, &root, 0, NULL), 0);
	commit(t);
	t = begin(copy);
	cr_assert_eq(entry_get(t, txn_root(t), span_str("name-64998"), &fid), 0);
	cr_assert_eq(node_get(t, fid, &f), 0);
	cr_assert_eq(f.nlink, LINKS);
	f.mtime_ns++;
	node_put(t, &f);
	commit(t);
	again = seal(copy);
	cr_assert_not(digest_eq(&root, &again));
	sound();
	wsdb_close(&ws);
	wsdb_close(&copy);
}
