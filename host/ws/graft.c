/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tree is laid over a part of a stopped workspace, as guest/fill.c does in a live one: what is there gives way if it
 * is of the same kind, a link to a file, too; a directory goes on with what it has. Owners are those of what gives way,
 * or of the directory. One operation of the strand, one transaction.
 */
#include "host/ws/op.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"

#include <errno.h>
#include <sys/stat.h>

struct graft {
	struct ws_pass *p;
	struct store *store;
	const struct op *op;
	struct map links;
	char *links_text;
	char *dir; /* below the workspace, whose fid is known; NULL: of none */
	uint64_t dir_fid;
};

/* The fid of a path of the workspace. */
static int at_path(struct graft *g, const char *path, uint64_t *ret, struct node *n)
{
	struct txn *t = g->p->txn;
	uint64_t at = txn_root(t);
	const char *p = path;
	int r = node_get(t, at, n);

	while (r == 0 && *p) {
		struct span name = SPAN(p, strcspn(p, "/"));

		r = S_ISDIR(n->mode) ? pass_unpack(g->p, at) : -ENOTDIR;
		if (r == 0)
			r = entry_get(t, at, name, &at);
		if (r == 0)
			r = node_get(t, at, n);
		p += name.len + (p[name.len] == '/');
	}
	*ret = at;
	return r == STORE_E_NONE ? -ENOENT : r;
}

static int dir_of(struct graft *g, const char *path, uint64_t *ret, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = span_dup(SPAN(path, slash ? (size_t)(slash - path) : 0));
	struct node n;
	int r = 0;

	*ret_name = slash ? slash + 1 : path;
	if (!g->dir || !str_eq(g->dir, dir)) {
		str_free(&g->dir);
		r = at_path(g, dir, &g->dir_fid, &n);
		if (r == 0)
			r = S_ISDIR(n.mode) ? pass_unpack(g->p, g->dir_fid) : -ENOTDIR;
		if (r == 0)
			g->dir = take(&dir);
	}
	*ret = g->dir_fid;
	return r;
}

/* May something of @mode have the name? Yields what has it, whose mode is 0 when nobody does. */
static int look(struct graft *g, uint64_t dir, const char *name, uint32_t mode, struct node *ret)
{
	uint64_t fid;
	int r = entry_get(g->p->txn, dir, span_str(name), &fid);

	*ret = (struct node){ .mode = 0 };
	if (r == 0)
		r = node_get(g->p->txn, fid, ret);
	if (r)
		return r == STORE_E_NONE ? 0 : r;
	if ((ret->mode & S_IFMT) == (mode & S_IFMT) || (S_ISREG(mode) && S_ISLNK(ret->mode)))
		return 0;
	return S_ISDIR(mode) ? -ENOTDIR : S_ISDIR(ret->mode) ? -EISDIR : -EEXIST;
}

static int put_dir(struct graft *g, uint64_t dir, const char *name, const struct tree_item *it)
{
	struct node parent, n = { .mode = S_IFDIR | (it->mode & 07777), .nlink = 2, .size = 4096 };
	int r = node_get(g->p->txn, dir, &parent);

	if (r)
		return r < 0 ? r : -EIO;
	n.fid = node_new_fid(g->p->txn, &n.ino);
	n.uid = parent.uid;
	n.gid = parent.gid;
	n.mtime_ns = n.ctime_ns = n.atime_ns = n.content_ctime_ns = clock_wall();
	node_put(g->p->txn, &n);
	story_did(g->p, n.fid, STORY_NEW);
	apply_entry(g->p, dir, span_str(name), &n);
	local_touch(g->p, dir, 1);
	return 0;
}

static int put_link(struct graft *g, uint64_t dir, const char *name, const char *first, struct node *was)
{
	AUTO(str_free) char *to = path_join(g->op->path, first);
	struct node n;
	uint64_t fid;
	int r = at_path(g, to, &fid, &n);

	if (r < 0 || was->fid == fid)
		return r;
	if (n.nlink >= WS_LINKS_MAX)
		return -EMLINK;
	if (was->mode)
		local_unname(g->p, dir, name, was);
	n.ctime_ns = n.content_ctime_ns = clock_wall();
	node_put(g->p->txn, &n);
	apply_entry(g->p, dir, span_str(name), &n);
	changes_add(&g->p->changes, 0, SPAN_NULL, fid, false, false);
	local_touch(g->p, dir, 0);
	return 0;
}

static int put_other(struct graft *g, uint64_t dir, const char *name, const struct tree_item *it, struct node *was)
{
	struct txn *t = g->p->txn;
	struct node parent, n;
	uint64_t ino, fid = node_new_fid(t, &ino);
	int r = node_get(t, dir, &parent);

	if (r == 0)
		r = node_from_item(t, fid, ino, it, &n);
	if (r)
		return r < 0 ? r : -EIO;
	n.uid = was->mode ? was->uid : parent.uid;
	n.gid = was->mode ? was->gid : parent.gid;
	n.ctime_ns = n.content_ctime_ns = clock_wall();
	if (was->mode)
		local_unname(g->p, dir, name, was);
	node_put(t, &n);
	story_did(g->p, fid, STORY_NEW);
	apply_entry(g->p, dir, span_str(name), &n);
	local_touch(g->p, dir, 0);
	return 0;
}

/* Attributes that a directory has besides stay. */
static int more_xattrs(struct graft *g, struct node *n, const struct tree_item *it)
{
	AUTO(mem_free) uint8_t *packed = must_calloc(1, XATTRS_MAX);
	AUTO(mem_free) void *old = NULL;
	struct span has = SPAN_NULL, rest, name, value;
	int r = n->flags & NODE_XATTRS ? node_xattrs(g->p->txn, n->fid, &has) : 0;
	ssize_t len = content_read(g->store, &it->xattrs, 0, packed, XATTRS_MAX, false);

	if (r || len < 0)
		return len < 0 ? (int)len : -EIO;
	old = must_memdup(has.p, has.len);
	has = SPAN(old, has.len);
	for (rest = SPAN(packed, (size_t)len); r == 0 && xattrs_next(&rest, &name, &value);) {
		AUTO(buf_fini) struct buf now;

		buf_init(&now, XATTR_PACKED_LEN);
		r = xattrs_with(has, name, &value, 0, &now);
		mem_free(&old);
		old = must_memdup(buf_span(&now).p, buf_len(&now));
		has = SPAN(old, buf_len(&now));
	}
	if (r == 0)
		node_set_xattrs(g->p->txn, n, has);
	return r;
}

static int finish_dir(struct graft *g, const char *path, const struct tree_item *it)
{
	struct node n, was;
	uint64_t fid;
	int r = at_path(g, path, &fid, &n);

	if (r < 0)
		return r;
	was = n;
	n.mode = S_IFDIR | (it->mode & 07777);
	n.mtime_ns = it->mtime_ns;
	n.ctime_ns = n.content_ctime_ns = clock_wall();
	story_attr(g->p, &was, &n, false);
	node_put(g->p->txn, &n);
	changes_add(&g->p->changes, 0, SPAN_NULL, fid, false, false);
	return it->xattrs.size ? more_xattrs(g, &n, it) : 0;
}

static int lay(struct graft *g, const char *path, const char *to, const struct tree_item *it, bool again)
{
	const char *first = S_ISDIR(it->mode) ? NULL : map_get(&g->links, span_str(path));
	const char *name;
	struct node was;
	uint64_t dir;
	int r;

	if (again)
		return !*path && g->op->keep_top ? 0 : finish_dir(g, to, it);
	if (strlen(to) > PATH_LEN_MAX)
		return -ENAMETOOLONG;
	r = dir_of(g, to, &dir, &name);
	if (r == 0)
		r = look(g, dir, name, it->mode, &was);
	if (r < 0)
		return r;
	if (S_ISDIR(it->mode))
		return was.mode ? 0 : put_dir(g, dir, name, it);
	if (first && !str_eq(first, path))
		return put_link(g, dir, name, first, &was);
	return put_other(g, dir, name, it, &was);
}

static int one(void *ctx, const char *path, const struct tree_item *it, bool again)
{
	struct graft *g = ctx;
	AUTO(str_free) char *to = *path ? path_join(g->op->path, path) : must_strdup(g->op->path);
	int r = lay(g, path, to, it, again);

	if (r < 0)
		*g->op->ret_place = take(&to);
	return r;
}

static int charge(struct graft *g)
{
	struct ws *ws = g->p->ws;
	int r;

	ws->stored_b += g->op->len;
	ws->quota.handed_b += g->op->offset;
	r = quota_check(ws, 0, 0, NULL);
	if (r < 0)
		return r;
	ship_count(g->p);
	return 0;
}

int local_graft(struct ws_pass *p, struct op *op)
{
	struct graft g = { .p = p, .store = p->ws->conf.store, .op = op };
	struct content links;
	struct tree_item top;
	int r = tree_stat(g.store, &op->to, &top, &links);

	if (r == 0)
		r = links_read(g.store, &links, "", &g.links, &g.links_text);
	if (r == 0 && op->path[0])
		r = one(&g, "", &top, false);
	if (r == 0)
		r = ws_walk(g.store, &top, one, &g);
	if (r == 0)
		r = charge(&g);
	map_fini(&g.links);
	mem_free(&g.links_text);
	str_free(&g.dir);
	return r == STORE_E_NONE ? -EIO : r;
}
