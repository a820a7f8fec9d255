/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workspaces that were made from trees, and going back to one (docs/snapshots.md). A directory that is still a stub is
 * unpacked by whoever looks into it first.
 *
 * A restore of a stopped workspace is one operation of the strand, one transaction: what differs between the sealed
 * present and the tree is taken over, entry by entry, directories that come back as stubs. The caller has sealed the
 * workspace while nobody may change it. Trees with hard links are planted anew as a whole, since a link is between
 * directories.
 */
#include "host/ws/op.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <sys/stat.h>

enum { UNPACK_MORE = 4096 };

static int unpack(struct ws *ws, uint64_t fid)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r = txn_write(ws->db, &t, NULL);

	if (r == 0)
		r = node_unpack_dir(t, fid, UNPACK_MORE);
	return r ? r : txn_commit(&t, NULL);
}

int ws_read_dir(struct ws *ws, uint64_t fid, struct txn **t)
{
	struct node n;
	int r = node_get(*t, fid, &n);

	if (r || !(n.flags & NODE_STUB))
		return MIN(r, 0);
	txn_abort(t);
	r = unpack(ws, fid);
	return r ? r : txn_read(ws->db, t, NULL);
}

int pass_unpack(struct ws_pass *p, uint64_t fid)
{
	struct node n;

	return node_get(p->txn, fid, &n) == 0 && (n.flags & NODE_STUB) ? node_unpack_dir(p->txn, fid, 0) : 0;
}

/* --- restore ------------------------------------------------------------------------------------------------------ */

struct restore {
	struct ws_pass *p;
	struct store *store;
	/* The directory that was needed last. */
	char *dir;
	uint64_t dir_fid;
};

/* A directory came or went. Times stay: the tree tells them. */
static void count_dir(struct restore *t, uint64_t dir, uint32_t mode, int links)
{
	struct node n;

	if (!S_ISDIR(mode) || node_get(t->p->txn, dir, &n) != 0 || n.nlink < 2)
		return;
	n.nlink = (uint32_t)((int64_t)n.nlink + links);
	node_put(t->p->txn, &n);
	changes_add(&t->p->changes, 0, SPAN_NULL, dir, false, false);
}

/* The directory of a path; one that is missing (only the way to what is restored can be) is made. */
static int dir_of(struct restore *t, const char *path, uint64_t *ret, struct span *ret_name)
{
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = span_dup(SPAN(path, slash ? (size_t)(slash - path) : 0));
	struct txn *txn = t->p->txn;
	uint64_t at = txn_root(txn);
	const char *p = dir;
	int r = 0;

	*ret_name = span_str(slash ? slash + 1 : path);
	if (t->dir && str_eq(t->dir, dir)) {
		*ret = t->dir_fid;
		return 0;
	}
	while (r == 0 && *p) {
		struct span name = SPAN(p, strcspn(p, "/"));
		struct node n;
		uint64_t parent = at, ino;

		r = pass_unpack(t->p, at);
		if (r == 0)
			r = entry_get(txn, at, name, &at);
		if (r == STORE_E_NONE) {
			n = (struct node){ .mode = S_IFDIR | 0755, .nlink = 1 };
			n.fid = node_new_fid(txn, &ino);
			n.ino = ino;
			n.size = 4096;
			n.mtime_ns = n.ctime_ns = n.atime_ns = clock_wall();
			node_put(txn, &n);
			apply_entry(t->p, parent, name, &n);
			count_dir(t, parent, n.mode, 1);
			at = n.fid;
			r = 0;
		} else if (r == 0) {
			r = node_get(txn, at, &n) ? -EIO : S_ISDIR(n.mode) ? 0 : -ENOTDIR;
		}
		p += name.len + (p[name.len] == '/');
	}
	if (r == 0)
		r = pass_unpack(t->p, at);
	if (r)
		return r;
	str_free(&t->dir);
	t->dir = take(&dir);
	t->dir_fid = *ret = at;
	return 0;
}

/* What is below a directory is unpacked first, so that it is told. */
static int gone(struct restore *t, uint64_t dir, struct span name)
{
	uint64_t fid;
	struct node n;
	int r = entry_get(t->p->txn, dir, name, &fid);

	if (r == 0)
		r = node_get(t->p->txn, fid, &n);
	if (r)
		return r < 0 ? r : -EIO;
	if (S_ISDIR(n.mode))
		r = node_unpack_dir(t->p->txn, fid, SIZE_MAX);
	apply_gone(t->p, dir, name);
	count_dir(t, dir, n.mode, -1);
	return r;
}

static int made(struct restore *t, uint64_t dir, struct span name, const struct tree_item *after)
{
	uint64_t ino = 0, fid = node_new_fid(t->p->txn, &ino);
	struct node n;
	int r = node_from_item(t->p->txn, fid, ino, after, &n);

	if (r)
		return r;
	n.ctime_ns = n.content_ctime_ns = clock_wall();
	node_put(t->p->txn, &n);
	story_did(t->p, fid, STORY_NEW);
	apply_entry(t->p, dir, name, &n);
	count_dir(t, dir, n.mode, 1);
	return 0;
}

static int xattrs_from(struct restore *t, struct node *n, const struct tree_item *after)
{
	AUTO(mem_free) uint8_t *packed = must_calloc(1, XATTRS_MAX);
	ssize_t len = content_read(t->store, &after->xattrs, 0, packed, XATTRS_MAX, false);

	if (len < 0)
		return (int)len;
	node_set_xattrs(t->p->txn, n, SPAN(packed, (size_t)len));
	return 0;
}

static int changed(struct restore *t, uint64_t fid, const struct tree_item *after)
{
	struct node n, old;
	int r = node_get(t->p->txn, fid, &n);
	bool data;

	if (r)
		return r < 0 ? r : -EIO;
	old = n;
	data = S_ISREG(n.mode) && memcmp(&n.content, &after->content, sizeof(n.content)) != 0;
	n.mode = after->mode;
	n.uid = after->uid;
	n.gid = after->gid;
	n.mtime_ns = after->mtime_ns;
	n.ctime_ns = n.content_ctime_ns = clock_wall();
	if (S_ISREG(n.mode)) {
		n.content = after->content;
		n.size = after->content.size;
		n.blocks = (n.size + 511) / 512;
		n.content_ship = 0;
	}
	story_attr(t->p, &old, &n, data);
	node_put(t->p->txn, &n);
	changes_add(&t->p->changes, 0, SPAN_NULL, fid, false, data);
	return (n.flags & NODE_XATTRS) || after->xattrs.size ? xattrs_from(t, &n, after) : 0;
}

static int one(void *ctx, const char *path, const struct tree_item *before, const struct tree_item *after)
{
	struct restore *t = ctx;
	uint64_t dir, fid;
	struct span name;
	int r;

	if (!path[0])
		return changed(t, txn_root(t->p->txn), after);
	r = dir_of(t, path, &dir, &name);
	if (r)
		return r;
	if (before && after && (S_ISDIR(after->mode) || S_ISREG(after->mode))) {
		r = entry_get(t->p->txn, dir, name, &fid);
		return r ? -EIO : changed(t, fid, after);
	}
	/* Links and special files do not change: another one takes the name. */
	if (before) {
		r = gone(t, dir, name);
		str_free(&t->dir); /* it may be what is gone */
	}
	return r == 0 && after ? made(t, dir, name, after) : r;
}

/* Everything of the root goes, the tree comes in its place. */
static int plant_anew(struct restore *t, const struct digest *root)
{
	struct txn *txn = t->p->txn;
	uint64_t fid, top = txn_root(txn);
	struct span name;
	struct node n;
	int r = pass_unpack(t->p, top);

	while (r == 0 && (r = entry_next(txn, top, SPAN_NULL, &name, &fid)) == 0) {
		AUTO(str_free) char *copy = span_dup(name);

		r = gone(t, top, SPAN(copy, name.len));
	}
	if (r == STORE_E_NONE)
		r = 0;
	apply_orphans(t->p);
	if (r == 0)
		r = txn_plant(txn, root, 0, NULL);
	if (r == 0)
		r = pass_unpack(t->p, top);
	name = SPAN_NULL;
	while (r == 0 && (r = entry_next(txn, top, name, &name, &fid)) == 0 && node_get(txn, fid, &n) == 0) {
		changes_add(&t->p->changes, top, name, fid, true, false);
		story_got(t->p, top, name, &n);
	}
	changes_add(&t->p->changes, 0, SPAN_NULL, top, false, false);
	return MIN(r, 0);
}

static bool has_links(struct restore *t, const struct digest *root)
{
	struct content links;
	struct tree_item it;

	return tree_stat(t->store, root, &it, &links) == 0 && links.size;
}

int local_restore(struct ws_pass *p, struct op *op)
{
	struct restore t = { .p = p, .store = p->ws->conf.store };
	bool links = has_links(&t, &op->from) || has_links(&t, &op->to);
	struct digest now;
	struct span v;
	int r = meta_get(p->txn, "tree", &v);

	if (r || v.len != DIGEST_LEN)
		return -EAGAIN;
	memcpy(now.b, v.p, DIGEST_LEN);
	if (!digest_eq(&now, &op->from))
		return -EAGAIN; /* sealed anew since it was asked for */
	if (links && !op->path[0])
		r = plant_anew(&t, &op->to);
	else
		r = tree_diff(t.store, &op->from, &op->to, op->path, TREE_DIFF_WHOLE, one, &t, NULL);
	str_free(&t.dir);
	if (r == 0) {
		struct journal_row row = { .kind = JOURNAL_NOTE, .wall_ns = clock_wall(), .name = span_str(op->words) };

		journal_append(p->txn, &row);
	}
	return r;
}
