/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workspace's state as one hash. In it: names, modes, owners, mtimes, device numbers, targets, contents, and which
 * paths are one file. Not in it: inode numbers, fids, ctime, atime, blocks, sizes of directories: they differ between
 * states that a user calls equal. Groups of hard links are a list of paths beside the tree, as a content, so that a new
 * link changes the directory it is in and that list, and not every directory that comes later in some numbering.
 *
 * What is new since the last seal follows from the marks in "dirty": a marked directory, the directories that name a
 * marked inode, and all above them are built again, the deepest first; everybody else's hash is in "tree". Marks are
 * numbered with the transaction that made them, and only those that the sealed state held are taken away afterwards. A
 * mark of something that is there and not reachable stays: it may be linked in later.
 *
 * One read transaction sees the whole state; then the nodes are made durable; then the root is recorded.
 */
#include "host/store/gc.h"
#include "host/store/tree-dir.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { DEEP_MAX = 4096, GROUP_MAX_B = 64 * 1024 * 1024 };

struct dir {
	uint64_t fid;
	uint32_t depth; /* 1: the root */
	bool reached;
	struct digest hash;
};

struct mark {
	uint64_t fid, number;
	bool done;
};

struct seal {
	struct wsdb *ws;
	struct store *store;
	uint64_t epoch, root;
	unsigned flags;
	struct txn *t;
	struct map dirs; /* fid -> struct dir: looked at; owned */
	VEC(struct mark) marks;
	VEC(struct dir *) build; /* borrowed: dirs */
	VEC(char *) groups;	 /* owned: hard links, see pack_group() */
};

static int damaged(struct err *e, uint64_t fid)
{
	return err_set(e, -EIO, "workspace-damaged", "inode %llu does not hold together", (unsigned long long)fid);
}

/* The directory and all above it go on the list. Return: 0, whether it can be reached from the root or not; -errno. */
static int want_dir(struct seal *s, uint64_t fid, struct dir **ret)
{
	struct dir *d = map_get_u64(&s->dirs, fid), *above = NULL;
	VEC(uint64_t) way = { 0 };
	struct span name;
	uint64_t at = fid;
	int r = 0;

	/* Up to the root or to one that is known; then down again. */
	while (!d && r == 0 && way.len < DEEP_MAX) {
		vec_push(&way, at);
		if (at == s->root)
			break;
		r = entry_of(s->t, at, 0, SPAN_NULL, &at, &name);
		d = r ? NULL : map_get_u64(&s->dirs, at);
	}
	above = d;
	while (r >= 0 && way.len) {
		d = NEW(struct dir);
		d->fid = way.v[--way.len];
		d->reached = d->fid == s->root || (above && above->reached);
		d->depth = above ? above->depth + 1 : 1;
		map_put_u64(&s->dirs, d->fid, d);
		if (d->reached)
			vec_push(&s->build, d);
		above = d;
	}
	vec_fini(&way);
	*ret = d;
	return r < 0 ? r : 0;
}

/* What a marked inode makes us build. */
static int want_for(struct seal *s, struct mark *m, struct err *e)
{
	struct span name = SPAN_NULL;
	uint64_t parent = 0;
	struct node n;
	struct dir *d;
	char last[256];
	int r = node_get(s->t, m->fid, &n);

	m->done = r == STORE_E_NONE;
	if (r)
		return r < 0 ? damaged(e, m->fid) : 0;
	if (S_ISDIR(n.mode)) {
		r = want_dir(s, m->fid, &d);
		m->done = r == 0 && d->reached;
	}
	while (r == 0 && (r = entry_of(s->t, m->fid, parent, name, &parent, &name)) == 0) {
		memcpy(last, name.p, name.len);
		name = SPAN(last, name.len);
		r = want_dir(s, parent, &d);
		if (r || !d->reached)
			continue;
		m->done = !(n.flags & NODE_PENDING);
		if ((n.flags & NODE_PENDING) && !(s->flags & SEAL_OLD_CONTENT))
			return err_set(e, -EAGAIN, "workspace-pending", "the content of inode %llu has not arrived",
				       (unsigned long long)m->fid);
	}
	return r < 0 ? damaged(e, m->fid) : 0;
}

static int read_marks(struct seal *s, struct err *e)
{
	uint64_t from = 0;
	size_t i;
	int r = 0;

	while (r == 0) {
		struct span key, v;
		struct mark m = { .done = false };
		struct key k;

		key_u64(&k, from);
		r = db_walk(s->t->t, WT_DIRTY, from ? DB_NEXT : DB_AT_LEAST, key_span(&k), &key, &v);
		if (r == 0)
			r = v.len == 8 ? key_u64_parse(key, &m.fid) : -EIO;
		if (r)
			break;
		m.number = get_u64(v.p);
		vec_push(&s->marks, m);
		from = m.fid;
	}
	if (r < 0)
		return damaged(e, from);
	for (i = 0, r = 0; i < s->marks.len && r == 0; i++)
		r = want_for(s, &s->marks.v[i], e);
	return r;
}

static int kept_hash(struct seal *s, uint64_t fid, struct digest *ret)
{
	struct span v;
	struct key k;
	int r;

	key_u64(&k, fid);
	r = db_get(s->t->t, WT_TREE, key_span(&k), &v);
	if (r || v.len != DIGEST_LEN)
		return -EIO;
	memcpy(ret->b, v.p, DIGEST_LEN);
	return 0;
}

static int dir_hash(struct seal *s, uint64_t fid, struct digest *ret)
{
	struct dir *d = map_get_u64(&s->dirs, fid);

	if (!d || !d->reached)
		return kept_hash(s, fid, ret);
	*ret = d->hash;
	return 0;
}

static int xattrs_of(struct seal *s, const struct node *n, struct content *ret)
{
	AUTO(content_writer_free) struct content_writer *w = NULL;
	struct span packed;
	int r;

	*ret = (struct content){ .size = 0 };
	if (!(n->flags & NODE_XATTRS))
		return 0;
	r = node_xattrs(s->t, n->fid, &packed);
	if (r)
		return -EIO;
	w = content_writer_new(s->store, NULL);
	r = content_write(w, 0, packed);
	return r ? r : content_finish(w, ret);
}

static int add_entry(struct seal *s, struct tree_dir *td, struct span name, uint64_t fid)
{
	uint8_t extra[48];
	struct tree_entry en = { .name = name };
	struct digest hash;
	struct node n;
	int r = node_get(s->t, fid, &n);

	if (r)
		return -EIO;
	r = xattrs_of(s, &n, &en.xattrs);
	if (r)
		return r;
	en.mode = n.mode;
	en.uid = n.uid;
	en.gid = n.gid;
	en.mtime_ns = n.mtime_ns;
	if (S_ISREG(n.mode)) {
		content_pack(&n.content, extra);
		en.extra = SPAN(extra, 48);
	} else if (S_ISDIR(n.mode)) {
		r = dir_hash(s, fid, &hash);
		memcpy(extra, hash.b, DIGEST_LEN);
		en.extra = SPAN(extra, DIGEST_LEN);
	} else if (S_ISLNK(n.mode)) {
		r = node_target(s->t, fid, &en.extra);
	} else {
		en.rdev = n.rdev;
	}
	if (r)
		return -EIO;
	tree_dir_add(td, &en);
	return 0;
}

static int build_dir(struct seal *s, struct tree_dir *td, struct dir *d)
{
	struct span name = SPAN_NULL;
	struct node n;
	uint64_t fid;
	int r = node_get(s->t, d->fid, &n);

	if (r == 0 && (n.flags & NODE_STUB)) /* its own attributes changed, not what is in it */
		return kept_hash(s, d->fid, &d->hash);
	while (r == 0 && (r = entry_next(s->t, d->fid, name, &name, &fid)) == 0)
		r = add_entry(s, td, name, fid);
	if (r < 0) {
		struct digest unused;

		(void)!tree_dir_finish(td, &unused);
		return r;
	}
	return tree_dir_finish(td, &d->hash);
}

static int deepest_first(const void *a, const void *b)
{
	const struct dir *x = *(struct dir *const *)a, *y = *(struct dir *const *)b;

	if (x->depth != y->depth)
		return x->depth < y->depth ? 1 : -1;
	return x->fid < y->fid ? -1 : x->fid > y->fid;
}

static int build_all(struct seal *s, struct err *e)
{
	AUTO(tree_dir_free) struct tree_dir *td = tree_dir_new(s->store, s->epoch);
	size_t i;
	int r;

	if (s->build.len)
		qsort(s->build.v, s->build.len, sizeof(*s->build.v), deepest_first);
	for (i = 0; i < s->build.len; i++) {
		r = build_dir(s, td, s->build.v[i]);
		if (r == -EIO)
			return damaged(e, s->build.v[i]->fid);
		if (r)
			return err_sys(e, r, "write a directory's tree");
	}
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One group as text: its paths in order, joined by "//", which no path holds; a NUL ends it when it is written. */
static int pack_group(struct seal *s, uint64_t fid)
{
	VEC(char *) paths = { 0 };
	struct span name = SPAN_NULL;
	uint64_t parent = 0;
	char last[256];
	size_t i;
	int r;

	while ((r = entry_of(s->t, fid, parent, name, &parent, &name)) == 0) {
		char *dir = NULL;

		memcpy(last, name.p, name.len);
		name = SPAN(last, name.len);
		r = node_path(s->t, parent, &dir);
		if (r < 0)
			break;
		if (r == 0)
			vec_push(&paths, str_printf("%s%s%.*s", dir, dir[0] ? "/" : "", (int)name.len, last));
		str_free(&dir);
	}
	if (r >= 0 && paths.len > 1) {
		struct buf group;

		buf_init(&group, GROUP_MAX_B);
		qsort(paths.v, paths.len, sizeof(*paths.v), by_text);
		for (i = 0; i < paths.len; i++)
			buf_printf(&group, "%s%s", i ? "//" : "", paths.v[i]);
		if (group.failed)
			r = -EFBIG;
		else
			vec_push(&s->groups, must_strdup(buf_str(&group)));
		buf_fini(&group);
	}
	for (i = 0; i < paths.len; i++)
		str_free(&paths.v[i]);
	vec_fini(&paths);
	return r < 0 ? r : 0;
}

static int read_links(struct seal *s)
{
	uint64_t fid = 0;
	int r = 0;

	while (r == 0) {
		struct span key, v;
		struct key k;

		key_u64(&k, fid + 1);
		r = db_walk(s->t->t, WT_LINKED, DB_AT_LEAST, key_span(&k), &key, &v);
		if (r == 0)
			r = key_u64_parse(key, &fid);
		if (r == 0)
			r = pack_group(s, fid);
	}
	return r < 0 ? r : 0;
}

static int write_links(struct seal *s, struct content *ret)
{
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(s->store, NULL);
	uint64_t at = 0;
	size_t i;
	int r = read_links(s);

	if (s->groups.len)
		qsort(s->groups.v, s->groups.len, sizeof(*s->groups.v), by_text);
	for (i = 0; i < s->groups.len && r == 0; i++) {
		struct span text = SPAN(s->groups.v[i], strlen(s->groups.v[i]) + 1);

		r = content_write(w, at, text);
		at += text.len;
	}
	return r ? r : content_finish(w, ret);
}

static int write_root(struct seal *s, struct digest *ret, struct err *e)
{
	uint8_t rec[TREE_ROOT_MAX];
	struct tree_root root;
	struct node n;
	int r = node_get(s->t, s->root, &n);

	if (r || dir_hash(s, s->root, &root.dir))
		return damaged(e, s->root);
	root.mode = n.mode;
	root.uid = n.uid;
	root.gid = n.gid;
	root.mtime_ns = n.mtime_ns;
	r = write_links(s, &root.links);
	if (r)
		return err_sys(e, r, "write the hard links of a tree");
	r = xattrs_of(s, &n, &root.xattrs);
	if (r)
		return err_sys(e, r, "write the extended attributes of a tree");
	r = object_put(s->store, CT_TREE, SPAN(rec, tree_root_pack(&root, rec)), s->epoch, NULL, NULL,
		       ret);
	return r ? err_sys(e, r, "write a tree's root") : 0;
}

/* Take the mark away unless it was made anew since; remember the hash of a directory that is still there. */
static int record(struct seal *s, const struct digest *root, struct err *e)
{
	struct txn *t = NULL;
	struct key k;
	struct span v;
	size_t i;
	int r = txn_write(s->ws, &t, e);

	if (r)
		return r;
	for (i = 0; i < s->marks.len; i++) {
		key_u64(&k, s->marks.v[i].fid);
		if (s->marks.v[i].done && db_get(t->t, WT_DIRTY, key_span(&k), &v) == 0 && v.len == 8 &&
		    get_u64(v.p) == s->marks.v[i].number)
			db_del(t->t, WT_DIRTY, key_span(&k));
	}
	for (i = 0; i < s->build.len; i++) {
		key_u64(&k, s->build.v[i]->fid);
		if (db_get(t->t, WT_NODE, key_span(&k), &v) == 0)
			db_put(t->t, WT_TREE, key_span(&k), digest_span(&s->build.v[i]->hash), DB_PUT_SET);
	}
	meta_put(t, "tree", digest_span(root));
	return txn_commit(&t, e);
}

static void seal_fini(struct seal *s)
{
	struct map_slot *slot;
	size_t i, pos = 0;

	txn_abort(&s->t);
	while ((slot = map_next(&s->dirs, &pos)))
		free(slot->value);
	map_fini(&s->dirs);
	for (i = 0; i < s->groups.len; i++)
		str_free(&s->groups.v[i]);
	vec_fini(&s->groups);
	vec_fini(&s->marks);
	vec_fini(&s->build);
}

/* Return: 0; STORE_E_NONE: nothing has changed and *@ret is the tree of before; -errno. */
static int seal_state(struct seal *s, struct digest *ret, struct err *e)
{
	struct span v;
	int r = txn_read(s->ws, &s->t, e);

	if (r)
		return r;
	s->root = txn_root(s->t);
	if (!s->root)
		return err_set(e, -ENOENT, "workspace-empty", "the workspace has no root directory");
	r = read_marks(s, e);
	if (r)
		return r;
	r = meta_get(s->t, "tree", &v);
	if (r == 0 && v.len == DIGEST_LEN && s->build.len == 0) {
		memcpy(ret->b, v.p, DIGEST_LEN);
		return STORE_E_NONE;
	}
	r = build_all(s, e);
	if (r == 0)
		r = write_root(s, ret, e);
	txn_abort(&s->t);
	return r;
}

int tree_seal(struct wsdb *db, unsigned flags, struct digest *ret, struct err *e)
{
	struct seal s = { .ws = db, .store = wsdb_store(db), .flags = flags };
	struct gc *gc = s.store->gc;
	unsigned use = gc_use_begin(gc);
	struct digest root;
	int r;

	s.epoch = s.store->writer ? writer_epoch(s.store->writer) : 0;
	r = seal_state(&s, &root, e);
	if (r == 0 && s.store->writer)
		r = writer_check(s.store->writer, s.epoch);
	if (r == 0)
		r = store_settle(s.store, e);
	/* What it refers to is what the workspace referred to when the seal began, and may not do so any more. */
	if (r == 0)
		gc_shade(gc, CT_TREE, &root);
	if (r == 0)
		r = record(&s, &root, e);
	if (r == STORE_E_NONE)
		r = 0;
	seal_fini(&s);
	gc_use_end(gc, use);
	if (r == 0)
		*ret = root;
	return r;
}
