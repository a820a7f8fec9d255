/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going back to a tree inside a live workspace: what differs is collected first (nothing of the store is held while the
 * agent works), then performed by the agent, change by change. A file comes in one piece, under another name first.
 * Attributes of directories are set at last, the deepest first: what is made in them would change their times.
 */
#include "host/ws/back.h"

#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"
#include "seal/digest.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { PIECE = 1024 * 1024, CHANGES_MAX_B = 128 * 1024 * 1024 };

bool back_over(const struct back *b)
{
	return __atomic_load_n(b->stop, __ATOMIC_RELAXED);
}

static int collect(void *ctx, const char *path, const struct tree_item *before, const struct tree_item *after)
{
	struct back *b = ctx;
	struct going g = { .was = before, .is = after };

	b->bytes += sizeof(g) + strlen(path) + (after ? after->target.len : 0);
	if (b->bytes > CHANGES_MAX_B)
		return -E2BIG;
	if (after && tree_is_elsewhere(after))
		return 0; /* what is there stays, nothing can be made of it (docs/keep.md) */
	g.path = must_strdup(path);
	g.old_mode = before ? before->mode : 0;
	if (after) {
		g.it = *after;
		g.target = span_dup(after->target);
		g.it.name = g.it.target = SPAN_NULL;
	}
	vec_push(&b->list, g);
	return 0;
}

int back_parent(struct back *b, const char *path, uint64_t *ret, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = span_dup(SPAN(path, slash ? (size_t)(slash - path) : 0));
	struct node n;
	int r = ws_resolve(b->ws, dir, &n);

	*ret = n.fid;
	*ret_name = slash ? slash + 1 : path;
	return r;
}

static int make(struct back *b, uint64_t dir, const char *name, uint32_t mode, const char *target, struct node *ret)
{
	struct ws_wait *wait = ws_wait_new();

	ws_make(b->ws, dir, span_str(name), mode, span_str(target), ws_wait_done, wait);
	return ws_wait_end(&wait, ret);
}

int back_remove(struct back *b, uint64_t dir, const char *name, unsigned flags)
{
	struct ws_wait *wait = ws_wait_new();

	ws_remove(b->ws, dir, span_str(name), flags, ws_wait_done, wait);
	return ws_wait_end(&wait, NULL);
}

static int set_one(struct back *b, uint64_t fid, struct span name, const struct span *value)
{
	struct ws_wait *wait = ws_wait_new();

	ws_set_xattr(b->ws, fid, name, value, 0, ws_wait_done, wait);
	return ws_wait_end(&wait, NULL);
}

/* Extended attributes, before the times are set. */
static int set_xattrs(struct back *b, uint64_t fid, const struct tree_item *it)
{
	AUTO(mem_free) char *room = NULL;
	AUTO(buf_fini) struct buf is;
	struct span wanted, rest, name, value, has;
	int r;

	buf_init(&is, XATTRS_MAX);
	if (!S_ISREG(it->mode) && !S_ISDIR(it->mode))
		return 0;
	r = ws_xattrs(b->ws, fid, &is);
	if (r < 0 || (!buf_len(&is) && !it->xattrs.size))
		return r;
	room = must_calloc(1, XATTRS_MAX);
	if (it->xattrs.size > XATTRS_MAX ||
	    content_read(b->ws->conf.store, &it->xattrs, 0, room, it->xattrs.size, false) != (ssize_t)it->xattrs.size)
		return -EIO;
	wanted = SPAN(room, it->xattrs.size);
	for (rest = buf_span(&is); r == 0 && xattrs_next(&rest, &name, &value);)
		if (xattrs_get(wanted, name, &has) < 0)
			r = set_one(b, fid, name, NULL);
	for (rest = wanted; r == 0 && xattrs_next(&rest, &name, &value);)
		if (xattrs_get(buf_span(&is), name, &has) < 0 || !span_eq(has, value))
			r = set_one(b, fid, name, &value);
	return r;
}

static int set_attr(struct back *b, uint64_t fid, const struct tree_item *it)
{
	struct ws_attr a = { .which = WIRE_ATTR_UID | WIRE_ATTR_GID | WIRE_ATTR_MTIME,
			     .mode = it->mode & 07777,
			     .uid = it->uid,
			     .gid = it->gid,
			     .mtime_ns = it->mtime_ns };
	struct ws_wait *wait;
	int r = set_xattrs(b, fid, it);

	if (r < 0)
		return r;
	wait = ws_wait_new();
	if (!S_ISLNK(it->mode))
		a.which |= WIRE_ATTR_MODE;
	ws_setattr(b->ws, fid, &a, ws_wait_done, wait);
	return ws_wait_end(&wait, NULL);
}

static int fill(struct back *b, uint64_t fid, const struct content *c)
{
	AUTO(mem_free) char *piece = must_calloc(1, PIECE);
	struct ws_attr size = { .which = WIRE_ATTR_SIZE, .size = c->size };
	uint64_t at = 0;
	int r = 0;

	/* Holes stay holes: only what is stored is written, the size comes at last. */
	while (r == 0 && at < c->size && content_next_data(b->ws->conf.store, c, at, &at) == 0) {
		struct ws_wait *wait;
		ssize_t n = content_read(b->ws->conf.store, c, at, piece, PIECE, false);

		if (back_over(b))
			return -ECANCELED;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		wait = ws_wait_new();
		ws_write(b->ws, fid, at, SPAN(piece, (size_t)n), false, ws_wait_done, wait);
		r = ws_wait_end(&wait, NULL);
		at += (uint64_t)n;
	}
	if (r == 0 && c->size) {
		struct ws_wait *wait = ws_wait_new();

		ws_setattr(b->ws, fid, &size, ws_wait_done, wait);
		r = ws_wait_end(&wait, NULL);
	}
	return r;
}

int back_rename(struct back *b, uint64_t dir, const char *from, const char *to)
{
	struct ws_wait *wait = ws_wait_new();

	ws_rename(b->ws, dir, span_str(from), dir, span_str(to), 0, ws_wait_done, wait);
	return ws_wait_end(&wait, NULL);
}

void back_temp(char to[64])
{
	uint64_t random;

	random_bytes(&random, sizeof(random));
	snprintf(to, 64, ".berth-%016llx", (unsigned long long)random);
}

int back_put_file(struct back *b, uint64_t dir, const char *name, const struct tree_item *it)
{
	struct node n;
	char temp[64];
	int r;

	back_temp(temp);
	r = make(b, dir, temp, S_IFREG | 0600, "", &n);
	if (r < 0)
		return r;
	r = fill(b, n.fid, &it->content);
	if (r == 0)
		r = set_attr(b, n.fid, it);
	if (r == 0)
		r = back_rename(b, dir, temp, name);
	if (r < 0)
		(void)!back_remove(b, dir, temp, 0);
	return r;
}

static int put_other(struct back *b, uint64_t dir, const char *name, const struct going *g)
{
	struct node n;
	int r;

	if (S_ISCHR(g->it.mode) || S_ISBLK(g->it.mode))
		return -EPERM;
	r = make(b, dir, name, g->it.mode, g->target, &n);
	return r == 0 && !S_ISDIR(g->it.mode) ? set_attr(b, n.fid, &g->it) : r;
}

/* The same file with the same bytes: its attributes alone. */
static bool keeps_bytes(struct back *b, const struct going *g)
{
	struct node n;

	return g->was && S_ISREG(g->it.mode) && ws_resolve(b->ws, g->path, &n) == 0 && S_ISREG(n.mode) &&
	       !(n.flags & NODE_PENDING) && !memcmp(&n.content, &g->it.content, sizeof(n.content));
}

static int perform(struct back *b, const struct going *g)
{
	bool is_dir = g->is && S_ISDIR(g->it.mode), was_dir = g->was && S_ISDIR(g->old_mode);
	const char *name;
	struct node n;
	uint64_t dir;
	int r;

	if (is_dir && was_dir)
		return 0; /* its attributes come at the end */
	r = back_parent(b, g->path, &dir, &name);
	if (r == 0 && g->is && back_is_link(b, g->path)) /* it takes the place of what is there at the end */
		return was_dir ? back_remove(b, dir, name, WIRE_FS_TREE) : 0;
	if (r == 0 && keeps_bytes(b, g)) {
		r = ws_resolve(b->ws, g->path, &n);
		return r ? r : set_attr(b, n.fid, &g->it);
	}
	if (r == 0 && g->was && !(g->is && S_ISREG(g->it.mode) && !was_dir))
		r = back_remove(b, dir, name, was_dir ? WIRE_FS_TREE : 0);
	if (r < 0 || !g->is)
		return r;
	return S_ISREG(g->it.mode) ? back_put_file(b, dir, name, &g->it) : put_other(b, dir, name, g);
}

/* The way to what is restored, where it is missing. */
static int make_way(struct back *b, const char *path)
{
	AUTO(str_free) char *way = must_strdup(path);
	uint64_t dir;
	const char *name;
	struct node n;
	char *p;
	int r = 0;

	for (p = strchr(way, '/'); p && r == 0; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (ws_resolve(b->ws, way, &n) == -ENOENT) {
			r = back_parent(b, way, &dir, &name);
			if (r == 0)
				r = make(b, dir, name, S_IFDIR | 0755, "", &n);
		}
		*p = '/';
	}
	return r;
}

void back_touched(struct back *b, const char *path)
{
	struct going g = { .was = true, .is = true, .old_mode = S_IFREG, .it = { .mode = S_IFREG } };

	g.path = must_strdup(path);
	vec_push(&b->list, g);
}

static int finish_dir(struct back *b, const char *path)
{
	struct tree_item it;
	struct node n;
	int r = tree_resolve(b->ws->conf.store, b->to, path, &it);

	if (r || !S_ISDIR(it.mode))
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	r = ws_resolve(b->ws, path, &n);
	return r ? r : set_attr(b, n.fid, &it);
}

static int finish_once(struct back *b, struct span dir, struct map *done)
{
	AUTO(str_free) char *path = NULL;

	if (map_get(done, dir))
		return 0;
	map_put(done, dir, b);
	path = span_dup(dir);
	return finish_dir(b, path);
}

/* What was made or removed in a directory changed its times. Directories above are not asked about. */
static int finish_dirs(struct back *b, struct err *e)
{
	struct map done = MAP_NULL;
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < b->list.len; i++) {
		struct going *g = &b->list.v[i];
		const char *slash = strrchr(g->path, '/');
		size_t up = slash ? (size_t)(slash - g->path) : 0;

		if (back_over(b))
			r = -ECANCELED;
		if (r == 0 && g->is && S_ISDIR(g->it.mode))
			r = finish_once(b, span_str(g->path), &done);
		if (r == 0 && g->path[0] && up >= strlen(b->top))
			r = finish_once(b, SPAN(g->path, up), &done);
		if (r < 0)
			r = err_sys(e, r, "attributes of /workspace/%s or what it is in", g->path);
	}
	map_fini(&done);
	return r;
}

static int perform_all(struct back *b, struct err *e)
{
	size_t i, n = b->list.len;
	int r = make_way(b, b->top);

	if (r < 0)
		return err_sys(e, r, "/workspace/%s", b->top);
	r = back_part(b, e);
	for (i = 0; r == 0 && i < n; i++) {
		r = back_over(b) ? -ECANCELED : perform(b, &b->list.v[i]);
		if (r < 0)
			return err_sys(e, r, "/workspace/%s (%zu of %zu changes were made)", b->list.v[i].path, i, n);
	}
	if (r == 0)
		r = back_join(b, e);
	return r < 0 ? r : finish_dirs(b, e);
}

int ws_restore_live(struct ws *ws, const struct digest *from, const struct digest *to, const char *path,
		    const bool *stop, struct err *e)
{
	struct back b = { .ws = ws, .stop = stop, .to = to, .top = path };
	size_t i;
	int r = tree_diff(ws->conf.store, from, to, path, TREE_DIFF_GONE_WHOLE, collect, &b, e);

	if (r == -E2BIG)
		r = err_set(e, r, "too-many-changes",
			    "what differs is too much (more than %d MiB of paths): restore it in parts, "
			    "or when it is stopped",
			    CHANGES_MAX_B >> 20);
	if (r == 0)
		r = back_links_read(&b, from, e);
	if (r == 0)
		r = perform_all(&b, e);
	for (i = 0; i < b.list.len; i++) {
		str_free(&b.list.v[i].path);
		str_free(&b.list.v[i].target);
	}
	vec_fini(&b.list);
	map_fini(&b.links);
	map_fini(&b.was_links);
	mem_free(&b.text);
	mem_free(&b.was_text);
	return r;
}
