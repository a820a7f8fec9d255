/* SPDX-License-Identifier: Apache-2.0 */
/* A tree as an archive, in the order of a walk. The first name of an inode has its data, the others are links to it. */
#include "host/ws/archive.h"

#include "base/map.h"
#include "base/path.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/ws/state.h"

#include <errno.h>
#include <sys/stat.h>

struct exporter {
	struct store *store;
	struct tar_writer w;
	struct map links;  /* path -> the path of its group that comes first here; in @links_text */
	char *links_text;
	struct tar_range *map;
	uint8_t *piece;
};

/* Where the data is, in whole blocks, since GNU tar reads each range as such. A file with too many holes gets those
 * behind the last range as zeros. */
static size_t map_of(struct exporter *x, const struct content *c)
{
	uint64_t at = 0, start, end;
	size_t n = 0;

	while (at < c->size && content_next_data(x->store, c, at, &at) == 0) {
		if (content_next_hole(x->store, c, at, &end) != 0 || n + 1 == TAR_MAP_MAX)
			end = c->size;
		if (!x->map)
			x->map = must_calloc(TAR_MAP_MAX, sizeof(*x->map));
		start = at - at % TAR_BLOCK;
		at = end;
		end = MIN((end + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK, c->size);
		if (n && start <= x->map[n - 1].at + x->map[n - 1].len)
			x->map[n - 1].len = end - x->map[n - 1].at;
		else
			x->map[n++] = (struct tar_range){ start, end - start };
	}
	return n;
}

static int put_range(struct exporter *x, const struct content *c, const struct tar_range *range)
{
	uint64_t at = range->at, end = range->at + range->len;

	while (at < end) {
		size_t len = (size_t)MIN(end - at, (uint64_t)TAR_PIECE);
		ssize_t n = content_read(x->store, c, at, x->piece, len, false);
		int r;

		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		r = tar_put_data(&x->w, x->piece, (size_t)n);
		if (r)
			return r;
		at += (uint64_t)n;
	}
	return 0;
}

static int put_member(struct exporter *x, const char *path, const struct tree_item *it)
{
	const char *first = S_ISDIR(it->mode) ? NULL : map_get(&x->links, span_str(path));
	AUTO(mem_free) uint8_t *xattrs = NULL;
	struct tar_item t = { .path = span_str(path), .mode = it->mode, .uid = it->uid, .gid = it->gid,
			      .mtime_ns = it->mtime_ns, .link = it->target };
	size_t n = 0, i;
	int r;

	if (first && !str_eq(first, path)) {
		t.is_link = true;
		t.link = span_str(first);
	} else if (it->xattrs.size) {
		if (it->xattrs.size > XATTRS_MAX)
			return -EIO;
		xattrs = must_calloc(1, it->xattrs.size);
		if (content_read(x->store, &it->xattrs, 0, xattrs, it->xattrs.size,
								 false) != (ssize_t)it->xattrs.size)
			return -EIO;
		t.xattrs = SPAN(xattrs, it->xattrs.size);
	}
	if (S_ISREG(it->mode) && !t.is_link) {
		t.size = it->content.size;
		n = map_of(x, &it->content);
	}
	r = tar_put_item(&x->w, &t, x->map, n);
	for (i = 0; r == 0 && i < n; i++)
		r = put_range(x, &it->content, &x->map[i]);
	return r ? r : tar_put_done(&x->w);
}

static int one(void *ctx, const char *path, const struct tree_item *it, bool again)
{
	bool goes = S_ISDIR(it->mode) || S_ISREG(it->mode) || S_ISLNK(it->mode) || S_ISFIFO(it->mode);

	return again || !goes || tree_is_elsewhere(it) ? 0 /* an archive cannot say that */ : put_member(ctx, path, it);
}

/* What is no directory: the target of a symbolic link is in its directory's listing alone. */
static int put_single(struct exporter *x, const struct tree_item *dir, const char *name)
{
	struct tree_walk *w = tree_walk_new(x->store);
	struct tree_item it;
	int r = tree_walk_enter(w, &dir->dir);

	while (r == 0 && (r = tree_walk_next(w, &it)) == 0 && !span_eq(it.name, span_str(name)))
		;
	if (r == 0)
		r = one(x, name, &it, false);
	tree_walk_free(&w);
	return r == STORE_E_NONE ? -ENOENT : r;
}

static int put_all(struct exporter *x, const struct digest *root, const char *path)
{
	struct content links;
	struct tree_item top, it;
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = slash ? span_dup(SPAN(path, (size_t)(slash - path))) : must_strdup("");
	int r = tree_stat(x->store, root, &top, &links);

	if (r == 0)
		r = links_read(x->store, &links, path, &x->links, &x->links_text);
	if (r == 0 && *path)
		r = tree_resolve(x->store, root, path, &it);
	if (r)
		return r;
	if (!*path || S_ISDIR(it.mode)) {
		if (*path)
			top = it;
		r = put_member(x, ".", &top);
		return r ? r : ws_walk(x->store, &top, one, x);
	}
	r = *dir ? tree_resolve(x->store, root, dir, &top) : 0;
	return r ? r : put_single(x, &top, slash ? slash + 1 : path);
}

static int count_one(void *ctx, const char *path, const struct tree_item *it, bool again)
{
	(void)path;
	*(uint64_t *)ctx += !again && tree_is_elsewhere(it);
	return 0;
}

int ws_left_out(struct store *store, const struct digest *root, const char *path, uint64_t *ret)
{
	struct tree_item it;
	int r = tree_resolve(store, root, path, &it);

	*ret = r == 0 && tree_is_elsewhere(&it);
	return r == 0 && S_ISDIR(it.mode) ? ws_walk(store, &it, count_one, ret) : r;
}

int ws_export(struct store *store, const struct digest *root, const char *path, tar_put_fn *put, void *ctx,
	      struct err *e)
{
	struct exporter x = { .store = store, .w = { .put = put, .ctx = ctx } };
	int r;

	x.piece = must_calloc(1, TAR_PIECE);
	r = put_all(&x, root, path);
	if (r == -ENOENT || r == -ENOTDIR)
		r = err_set(e, -ENOENT, "no-such-path", "there is no /workspace/%s in it", path);
	if (r == 0)
		r = tar_put_end(&x.w);
	map_fini(&x.links);
	mem_free(&x.links_text);
	free(x.map);
	free(x.piece);
	return r < 0 && e && !e->code ? err_sys(e, r, "writing the archive") : r;
}
