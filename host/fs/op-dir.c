/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading directories without handles. A position in a directory must stay valid while entries come and go and across
 * requests that carry nothing but a number, so it is a hash of the name that was given last, with a key that guests do
 * not know, and a directory is read in the order of these hashes. The sorted list is made when a reader starts at the
 * beginning and kept with the inode until somebody has read to its end or the directory changes; each name is looked up
 * again when it is given out.
 */
#include "host/fs/state.h"

#include "base/str.h"
#include "host/fs/cookie.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

static int by_cookie(const void *a, const void *b)
{
	const struct fs_list_entry *x = a, *y = b;

	if (x->cookie != y->cookie)
		return x->cookie < y->cookie ? -1 : 1;
	return strcmp(x->name, y->name);
}

typedef VEC(struct fs_list_entry) entries;

static void add(const struct fs *fs, entries *v, struct span name)
{
	struct fs_list_entry one = { .cookie = cookie_of(fs->table.head->dir_key, name), .name = span_dup(name) };

	vec_push(v, one);
}

struct adding {
	const struct fs *fs;
	entries *v;
};

static void add_name(void *ctx, const char *name)
{
	struct adding *a = ctx;

	add(a->fs, a->v, span_str(name));
}

static int list_ws(const struct fs *fs, struct fs_inode *i, entries *v)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct span name = SPAN_NULL;
	uint64_t fid;
	struct adding a = { fs, v };
	int r;

	if (past_is(i->fid))
		return past_list(i, add_name, &a);
	r = txn_read(ws_db(i->ws), &t, NULL);
	if (r == 0)
		r = ws_read_dir(i->ws, i->fid, &t);
	while (r == 0) {
		r = entry_next(t, i->fid, name, &name, &fid);
		if (r != 0)
			break;
		add(fs, v, name);
		name = SPAN(v->v[v->len - 1].name, name.len);
	}
	return MIN(r, 0);
}

static void list_root(struct fs *fs, entries *v)
{
	struct map_slot *slot;
	size_t pos = 0;

	add(fs, v, span_str("by-name"));
	lock_take(&fs->lock);
	while ((slot = map_next(&fs->spaces, &pos)))
		if (*(const char *)slot->key != '.')
			add(fs, v, SPAN(slot->key, slot->num));
	lock_drop(&fs->lock);
}

static int list_make(struct fs *fs, fuse_ino_t ino, struct fs_list **ret)
{
	struct fs_inode *i = inode_of(fs, ino);
	struct fs_list *l = NEW(struct fs_list);
	entries v = { 0 };
	int r = 0;

	if (i)
		r = list_ws(fs, i, &v);
	else if (ino == FS_INO_ROOT)
		list_root(fs, &v);
	if (v.len)
		qsort(v.v, v.len, sizeof(*v.v), by_cookie);
	l->refs = 1;
	l->v = v.v;
	l->len = v.len;
	lock_take(&fs->lock);
	fs->lists++;
	if (r < 0)
		list_drop(fs, &l);
	lock_drop(&fs->lock);
	*ret = l;
	return r;
}

/* The list to go on with; a new one at the start of a directory or when none is kept. */
static int list_get(struct fs *fs, fuse_ino_t ino, off_t off, struct fs_list **ret)
{
	struct fs_inode *i = inode_of(fs, ino);
	struct fs_list *l = NULL;
	int r;

	lock_take(&fs->lock);
	if (i && off != 0 && i->list) {
		l = i->list;
		l->refs++;
	}
	lock_drop(&fs->lock);
	if (l) {
		*ret = l;
		return 0;
	}
	r = list_make(fs, ino, &l);
	if (r < 0)
		return r;
	lock_take(&fs->lock);
	if (i && fs->lists <= FS_LISTS_MAX) {
		list_drop(fs, &i->list);
		i->list = l;
		l->refs++;
	}
	lock_drop(&fs->lock);
	*ret = l;
	return 0;
}

struct fill {
	fuse_req_t req;
	fuse_ino_t ino;
	struct txn *txn; /* NULL at the root */
	char *bytes;
	size_t size, used;
	bool plus;
};

/* One name with a node of a workspace. False: the buffer is full. */
static bool fill_node(struct fill *f, const char *name, struct ws *ws, const struct node *n, off_t next)
{
	struct fs *fs = fs_of(f->req);
	struct fuse_entry_param entry;
	size_t len, room = f->size - f->used;

	if (!f->plus) {
		struct stat st;

		attr_of(fs, ws, n, &st);
		len = fuse_add_direntry(f->req, f->bytes + f->used, room, name, &st, next);
		f->used += len <= room ? len : 0;
		return len <= room;
	}
	if (fuse_add_direntry_plus(f->req, NULL, 0, name, NULL, 0) > room)
		return false;
	(void)!entry_of_node(fs, ws, n, &entry); /* a full table: the name alone */
	f->used += fuse_add_direntry_plus(f->req, f->bytes + f->used, room, name, &entry, next);
	return true;
}

/* A name of which only the kind is told: ".", "..", the directory of links. */
static bool fill_plain(struct fill *f, const char *name, uint64_t ino, off_t next)
{
	struct fuse_entry_param entry = { .attr = { .st_ino = ino, .st_mode = S_IFDIR } };
	size_t len, room = f->size - f->used;

	if (f->plus)
		len = fuse_add_direntry_plus(f->req, f->bytes + f->used, room, name, &entry, next);
	else
		len = fuse_add_direntry(f->req, f->bytes + f->used, room, name, &entry.attr, next);
	f->used += len <= room ? len : 0;
	return len <= room;
}

static bool fill_one(struct fill *f, const struct fs_list_entry *one)
{
	struct fs_inode *i = inode_of(fs_of(f->req), f->ino);
	off_t next = (off_t)one->cookie;
	struct node n;
	uint64_t fid;

	if (i && past_is(i->fid)) /* its number is that of whoever it is when it is looked up */
		return fill_plain(f, one->name, one->cookie | 1, next);
	if (i) {
		if (past_hides(i->ws, i->fid, one->name))
			return true;
		if (entry_get(f->txn, i->fid, span_str(one->name), &fid) != 0 || node_get(f->txn, fid, &n) != 0)
			return true;
		return fill_node(f, one->name, i->ws, &n, next);
	}
	if (str_eq(one->name, "by-name"))
		return fill_plain(f, one->name, FS_INO_BYNAME, next);
	AUTO(ws_unref) struct ws *ws = space_find(fs_of(f->req), one->name);

	if (!ws || ws_getattr(ws, ws_root(ws), &n) < 0)
		return true;
	return fill_node(f, one->name, ws, &n, next);
}

static void fill_list(struct fill *f, const struct fs_list *l, uint64_t off)
{
	size_t lo = 0, hi = l->len;

	if (off < 1 && !fill_plain(f, ".", f->ino, 1))
		return;
	if (off < 2 && !fill_plain(f, "..", FS_INO_ROOT, 2))
		return;
	while (lo < hi) { /* the first entry behind the position */
		size_t mid = lo + (hi - lo) / 2;

		if (l->v[mid].cookie <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < l->len; lo++)
		if (!fill_one(f, &l->v[lo]))
			return;
}

static void readdir_any(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct fs *fs = fs_of(req);
	struct fs_inode *i = inode_of(fs, ino);
	struct fill f = { .req = req, .ino = ino, .size = size, .plus = plus };
	AUTO(mem_free) char *bytes = malloc(size ? size : 1);
	struct fs_list *l = NULL;
	int r = !bytes ? -ENOMEM : is_stale(fs, ino) ? -ESTALE : list_get(fs, ino, off, &l);

	if (r == 0 && i)
		r = txn_read(ws_db(i->ws), &f.txn, NULL);
	if (r == 0) {
		f.bytes = bytes;
		fill_list(&f, l, (uint64_t)off);
	}
	txn_abort(&f.txn);
	lock_take(&fs->lock);
	if (i && f.used == 0)
		list_drop(fs, &i->list);
	if (l)
		list_drop(fs, &l);
	lock_drop(&fs->lock);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, bytes, f.used);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	readdir_any(req, ino, size, off, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	readdir_any(req, ino, size, off, true);
}

/* Directories need no handle: after this answer the kernel never asks again and caches listings. */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}
