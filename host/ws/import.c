/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive of anybody's becomes a tree. Its members become inodes and names in an environment of its own that nobody
 * sees (a view, which the next start of the daemon removes when we did not get to it), which is then sealed. So the
 * order of members, names that come twice and links are what they would be in a file system, memory is that of a
 * transaction, and there is no path that leads anywhere: names are looked up in a table, links are never followed.
 */
#include "host/ws/archive.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "host/ws/state.h"
#include "seal/digest.h"

#include <errno.h>
#include <sys/stat.h>

enum { TXN_ENTRIES = 8192, TXN_B = 128 * 1024 * 1024 };

struct importer {
	struct store *store;
	struct wsdb *db;
	struct txn *t;
	struct tar_reader *tar;
	struct ws_import *io;
	uint64_t in_txn, in_txn_b;
	uint64_t root;
	char *dir; /* whose fid is known */
	uint64_t dir_fid;
};

static int refuse(struct importer *im, const struct tar_item *it, const char *why, struct err *e)
{
	(void)im;
	return err_set(e, -EBADMSG, "bad-archive", "%.*s: %s", (int)MIN(it->path.len, (size_t)200),
		       (const char *)it->path.p, why);
}

static int broken(int r, struct err *e)
{
	return e && e->code ? e->code : err_sys(e, r < 0 ? r : -EIO, "storing what is in the archive");
}

/* --- transactions ------------------------------------------------------------------------------------------------- */

static int commit(struct importer *im, struct err *e)
{
	int r = im->io->may(im->io->may_ctx, e);

	if (r == 0)
		r = store_settle(im->store, e);
	if (r < 0)
		return r;
	im->in_txn = im->in_txn_b = 0;
	return txn_commit(&im->t, e);
}

/* Attributes like a workspace's own; told as soon as it is so, not when all was read. */
static int count_attrs(struct importer *im, const struct tar_item *it, struct err *e)
{
	struct txn_counts c;
	int r = it->xattrs.len ? txn_counts(im->t, &c) : 0;

	if (r < 0)
		return broken(r, e);
	if (it->xattrs.len && c.attrs_b > im->io->bytes_max)
		return err_set(e, -EDQUOT, "quota-exceeded", "more than %llu bytes of extended attributes, at %.*s",
			       (unsigned long long)im->io->bytes_max, (int)MIN(it->path.len, (size_t)200),
			       (const char *)it->path.p);
	return 0;
}

static int count(struct importer *im, const struct tar_item *it, struct err *e)
{
	if (++im->io->entries > im->io->entries_max)
		return err_set(e, -EDQUOT, "quota-exceeded", "more than %llu names, at %.*s",
			       (unsigned long long)im->io->entries_max, (int)MIN(it->path.len, (size_t)200),
			       (const char *)it->path.p);
	im->in_txn++;
	return 0;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static uint64_t new_node(struct importer *im, uint32_t mode, struct node *n)
{
	uint64_t ino, fid = node_new_fid(im->t, &ino);

	*n = (struct node){ .fid = fid, .ino = ino, .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1 };
	n->mtime_ns = n->ctime_ns = n->atime_ns = n->content_ctime_ns = clock_wall();
	return fid;
}

/* The directory that @path, of a normal form, names; parents that no member told are made. */
static int dir_of(struct importer *im, const struct tar_item *it, struct span path, uint64_t *ret, struct err *e)
{
	const char *p = path.p, *end = p + path.len;
	uint64_t at = im->root, fid;
	struct node n;
	int r;

	if (im->dir && span_eq(span_str(im->dir), path)) {
		*ret = im->dir_fid;
		return 0;
	}
	while (p < end) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		struct span name = SPAN(p, (size_t)((slash ? slash : end) - p));

		r = entry_get(im->t, at, name, &fid);
		if (r == 0)
			r = node_get(im->t, fid, &n);
		if (r < 0)
			return broken(r, e);
		if (r == 0 && !S_ISDIR(n.mode))
			return refuse(im, it, "it would be below something that is no directory", e);
		if (r == STORE_E_NONE) {
			fid = new_node(im, S_IFDIR | 0755, &n);
			node_put(im->t, &n);
			entry_put(im->t, at, name, fid);
			r = count(im, it, e);
			if (r)
				return r;
		}
		at = fid;
		p = slash ? slash + 1 : end;
	}
	str_free(&im->dir);
	im->dir = span_dup(path);
	im->dir_fid = *ret = at;
	return 0;
}

/* "./a//b/" is "a/b"; on the heap. Absolute paths, "..", and names that no file can have are refused. */
static int normal(struct importer *im, const struct tar_item *it, struct span path, char **ret, struct err *e)
{
	const char *p = path.p, *end = p + path.len;
	AUTO(str_free) char *to = must_calloc(1, path.len + 1);
	size_t len = 0;

	if (!path.len || *p == '/')
		return refuse(im, it, path.len ? "an absolute path" : "an empty path", e);
	while (p < end) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		struct span name = SPAN(p, (size_t)((slash ? slash : end) - p));

		p = slash ? slash + 1 : end;
		if (name.len == 0 || (name.len == 1 && *(const char *)name.p == '.'))
			continue;
		if (!path_name_ok(name))
			return refuse(im, it, "a name that no file here can have", e);
		if (len)
			to[len++] = '/';
		memcpy(to + len, name.p, name.len);
		len += name.len;
	}
	if (len > PATH_LEN_MAX)
		return refuse(im, it, "a path of more than 4,095 bytes", e);
	*ret = take(&to);
	return 0;
}

static struct span last_of(const char *path, struct span *ret_dir)
{
	const char *slash = strrchr(path, '/');

	*ret_dir = slash ? SPAN(path, (size_t)(slash - path)) : SPAN_NULL;
	return span_str(slash ? slash + 1 : path);
}

/* Somebody has the name already: a later member replaces an earlier one. */
static void unname(struct importer *im, uint64_t dir, struct span name, struct node *was)
{
	entry_del(im->t, dir, name);
	im->io->entries--;
	if (--was->nlink)
		node_put(im->t, was);
	else
		node_del(im->t, was->fid);
}

/* --- members ------------------------------------------------------------------------------------------------------ */

static int take_content(struct importer *im, const struct tar_item *it, struct content *ret, struct err *e)
{
	struct content_writer *w = content_writer_new(im->store, NULL);
	struct span piece;
	uint64_t at;
	int r = 0, n = 0;

	while (r == 0 && (n = tar_read(im->tar, &at, &piece, e)) == 0) {
		im->io->bytes += piece.len;
		im->in_txn_b += piece.len;
		if (im->io->bytes > im->io->bytes_max)
			n = err_set(e, -EDQUOT, "quota-exceeded", "more than %llu bytes",
				    (unsigned long long)im->io->bytes_max);
		if (n < 0)
			break;
		r = content_write(w, at, piece);
	}
	if (r == 0 && n >= 0)
		r = content_resize(w, it->size);
	if (r == 0 && n >= 0)
		r = content_finish(w, ret);
	im->io->new_b += content_writer_new_b(w);
	im->io->handed_b += content_writer_handed_b(w);
	content_writer_free(&w);
	return n < 0 ? n : r < 0 ? broken(r, e) : 0;
}

static void put_attributes(struct importer *im, const struct tar_item *it, struct node *n)
{
	n->mode = (n->mode & S_IFMT) | (it->mode & 07777);
	n->uid = it->uid;
	n->gid = it->gid;
	n->mtime_ns = n->atime_ns = it->mtime_ns;
	node_put(im->t, n);
	if (S_ISREG(n->mode) || S_ISDIR(n->mode))
		if (it->xattrs.len || (n->flags & NODE_XATTRS))
			node_set_xattrs(im->t, n, it->xattrs);
}

static int put_link(struct importer *im, const struct tar_item *it, uint64_t dir, struct span name, struct err *e)
{
	AUTO(str_free) char *to = NULL;
	struct span to_dir, to_name, part;
	uint64_t at = im->root, fid, was;
	struct node n, old;
	const char *p;
	int r = normal(im, it, it->link, &to, e);

	if (r)
		return r;
	to_name = last_of(to, &to_dir);
	for (p = to_dir.p; r == 0 && to_dir.len && p < (const char *)to_dir.p + to_dir.len; p += part.len + 1) {
		size_t left = (size_t)((const char *)to_dir.p + to_dir.len - p);
		const char *slash = memchr(p, '/', left);

		part = SPAN(p, slash ? (size_t)(slash - p) : left);
		r = entry_get(im->t, at, part, &at);
	}
	if (r == 0)
		r = entry_get(im->t, at, to_name, &fid);
	if (r == 0)
		r = node_get(im->t, fid, &n);
	if (r < 0)
		return broken(r, e);
	if (r || S_ISDIR(n.mode))
		return refuse(im, it, "a hard link to nothing before it that can have one", e);
	r = entry_get(im->t, dir, name, &was);
	if (r == 0 && was == fid)
		return 0;
	if (r == 0 && node_get(im->t, was, &old) == 0) {
		if (S_ISDIR(old.mode))
			return refuse(im, it, "a directory has this name", e);
		unname(im, dir, name, &old);
	}
	if (n.nlink >= WS_LINKS_MAX)
		return refuse(im, it, "more names of one file than it can have", e);
	n.nlink++;
	node_put(im->t, &n);
	entry_put(im->t, dir, name, fid);
	return count(im, it, e);
}

static int put_inode(struct importer *im, const struct tar_item *it, uint64_t dir, struct span name, struct err *e)
{
	struct node n, old;
	uint64_t was;
	int r = entry_get(im->t, dir, name, &was);

	if (r == 0)
		r = node_get(im->t, was, &old);
	if (r < 0)
		return broken(r, e);
	if (r == 0 && (S_ISDIR(old.mode) || S_ISDIR(it->mode))) {
		if ((old.mode & S_IFMT) != (it->mode & S_IFMT))
			return refuse(im, it, "a directory and something else with one name", e);
		put_attributes(im, it, &old);
		return count_attrs(im, it, e);
	}
	if (r == 0)
		unname(im, dir, name, &old);
	new_node(im, it->mode, &n);
	if (S_ISREG(it->mode)) {
		r = take_content(im, it, &n.content, e);
		if (r < 0)
			return r;
		n.size = n.content.size;
		n.blocks = (n.size + 511) / 512;
	}
	if (S_ISLNK(it->mode))
		n.size = it->link.len;
	put_attributes(im, it, &n);
	if (S_ISLNK(it->mode))
		node_set_target(im->t, n.fid, it->link);
	entry_put(im->t, dir, name, n.fid);
	r = count_attrs(im, it, e);
	return r ? r : count(im, it, e);
}

static int member(struct importer *im, const struct tar_item *it, struct err *e)
{
	AUTO(str_free) char *path = NULL;
	struct span dir, name;
	struct node n;
	uint64_t fid = 0;
	int r = normal(im, it, it->path, &path, e);

	if (r)
		return r;
	if (S_ISLNK(it->mode) && (!it->link.len || it->link.len > PATH_LEN_MAX))
		return refuse(im, it, "a symbolic link without a target, or with one that is too long", e);
	if (S_ISCHR(it->mode) || S_ISBLK(it->mode)) {
		im->io->left_out++;
		return 0;
	}
	if (!*path) {
		if (!S_ISDIR(it->mode) || node_get(im->t, im->root, &n) != 0)
			return refuse(im, it, "the root is no directory", e);
		im->io->has_top = true;
		put_attributes(im, it, &n);
		return count_attrs(im, it, e);
	}
	name = last_of(path, &dir);
	r = dir_of(im, it, dir, &fid, e);
	if (r)
		return r;
	r = it->is_link ? put_link(im, it, fid, name, e) : put_inode(im, it, fid, name, e);
	if (r == 0 && (im->in_txn >= TXN_ENTRIES || im->in_txn_b >= TXN_B)) {
		r = commit(im, e);
		if (r == 0)
			r = txn_write(im->db, &im->t, e);
	}
	return r;
}

static int read_all(struct importer *im, struct err *e)
{
	struct tar_item it;
	struct node n;
	int r = txn_write(im->db, &im->t, e);

	if (r)
		return r;
	im->root = new_node(im, S_IFDIR | 0755, &n);
	node_put(im->t, &n);
	meta_put_u64(im->t, "root-fid", im->root);
	while (r == 0 && (r = tar_next(im->tar, &it, e)) == 0)
		r = member(im, &it, e);
	return r == TAR_E_END ? commit(im, e) : r;
}

int ws_import(struct store *store, tar_get_fn *get, void *ctx, struct ws_import *io, struct err *e)
{
	struct importer im = { .store = store, .io = io };
	AUTO(str_free) char *id = NULL;
	uint8_t mark[8];
	char hex[2 * sizeof(mark) + 1];
	int r;

	r = io->may(io->may_ctx, e);
	if (r)
		return r;
	random_bytes(mark, sizeof(mark));
	str_hex(mark, sizeof(mark), hex);
	id = str_printf(STORE_VIEW_PREFIX "import-%s", hex);
	r = wsdb_open(store, id, true, &im.db, e);
	if (r)
		return r;
	im.tar = tar_reader_new(get, ctx);
	r = read_all(&im, e);
	txn_abort(&im.t);
	tar_reader_free(&im.tar);
	if (r == 0)
		r = tree_seal(im.db, 0, &io->tree, e);
	if (r == 0) {
		r = store_hold_tree(store, &io->tree, &io->hold);
		if (r < 0)
			err_sys(e, r, "keep a tree");
	}
	wsdb_close(&im.db);
	(void)!wsdb_remove(store, id, NULL);
	str_free(&im.dir);
	return r;
}
