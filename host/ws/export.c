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

enum { FOUND = 2 /* 1 is the end of a listing */ };

struct member {
	char *path, *target; /* owned; the path is that in the archive */
	struct tree_item it; /* its spans are nobody's */
};

typedef VEC(struct member) members;

struct exporter {
	struct store *store;
	struct tar_writer w;
	members todo; /* the next one is the last */
	members found;
	const char *above; /* of what is being collected */
	struct map links;  /* path -> the path of its group that comes first here; in @links_text */
	char *links_text;
	struct tar_range *map;
	uint8_t *piece;
};

static void member_free(struct member *m)
{
	str_free(&m->path);
	str_free(&m->target);
}

static int collect(void *ctx, const struct tree_item *it)
{
	struct exporter *x = ctx;
	struct member m = { .it = *it };

	if (strlen(x->above) + 1 + it->name.len > PATH_LEN_MAX)
		return -ENAMETOOLONG;
	m.path = str_printf("%s%s%.*s", x->above, x->above[0] ? "/" : "", (int)it->name.len, (const char *)it->name.p);
	m.target = it->target.len ? span_dup(it->target) : NULL;
	m.it.name = m.it.target = SPAN_NULL;
	vec_push(&x->found, m);
	return 0;
}

static int open_dir(struct exporter *x, const struct digest *dir, const char *path)
{
	size_t i;
	int r;

	x->above = path;
	x->found.len = 0;
	r = tree_each(x->store, dir, collect, x);
	for (i = x->found.len; i-- > 0;)
		vec_push(&x->todo, x->found.v[i]);
	x->found.len = 0;
	return r;
}

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

static int put_member(struct exporter *x, const struct member *m)
{
	const struct tree_item *it = &m->it;
	const char *first = S_ISDIR(it->mode) ? NULL : map_get(&x->links, span_str(m->path));
	AUTO(mem_free) uint8_t *xattrs = NULL;
	struct tar_item t = { .path = span_str(m->path), .mode = it->mode, .uid = it->uid, .gid = it->gid,
			      .mtime_ns = it->mtime_ns, .link = span_str(m->target ? m->target : "") };
	size_t n = 0, i;
	int r;

	if (first && !str_eq(first, m->path)) {
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

/* "path//path", a NUL behind each group. Of those below @top the first one is the file, the others are its links. */
static int walk(struct exporter *x)
{
	int r = 0;

	while (r == 0 && x->todo.len) {
		struct member m = x->todo.v[--x->todo.len];

		if (S_ISDIR(m.it.mode) || S_ISREG(m.it.mode) || S_ISLNK(m.it.mode) || S_ISFIFO(m.it.mode))
			r = put_member(x, &m);
		if (r == 0 && S_ISDIR(m.it.mode))
			r = open_dir(x, &m.it.dir, str_eq(m.path, ".") ? "" : m.path);
		member_free(&m);
	}
	return r ? r : tar_put_end(&x->w);
}

/* The target of a symbolic link is in its directory's listing alone. */
struct wanted {
	struct exporter *x;
	const char *name;
};

static int pick(void *ctx, const struct tree_item *it)
{
	struct wanted *w = ctx;

	if (!span_eq(it->name, span_str(w->name)))
		return 0;
	w->x->above = "";
	return collect(w->x, it) ? -EIO : FOUND;
}

static int begin(struct exporter *x, const struct digest *root, const char *path)
{
	struct member top = { .path = NULL };
	struct content links;
	struct tree_item it;
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = slash ? span_dup(SPAN(path, (size_t)(slash - path))) : must_strdup("");
	struct wanted w = { x, slash ? slash + 1 : path };
	int r = tree_stat(x->store, root, &top.it, &links);

	if (r == 0)
		r = links_read(x->store, &links, path, &x->links, &x->links_text);
	if (r == 0 && *path)
		r = tree_resolve(x->store, root, path, &it);
	if (r)
		return r;
	if (!*path || S_ISDIR(it.mode)) {
		if (*path)
			top.it = it;
		top.path = must_strdup(".");
		vec_push(&x->todo, top);
		return 0;
	}
	r = *dir ? tree_resolve(x->store, root, dir, &top.it) : 0;
	if (r == 0)
		r = tree_each(x->store, &top.it.dir, pick, &w);
	if (r != FOUND)
		return r ? r : -ENOENT;
	vec_push(&x->todo, x->found.v[0]);
	x->found.len = 0;
	return 0;
}

int ws_export(struct store *store, const struct digest *root, const char *path, tar_put_fn *put, void *ctx,
	      struct err *e)
{
	struct exporter x = { .store = store, .w = { .put = put, .ctx = ctx } };
	int r;

	x.piece = must_calloc(1, TAR_PIECE);
	r = begin(&x, root, path);
	if (r == -ENOENT || r == -ENOTDIR)
		r = err_set(e, -ENOENT, "no-such-path", "there is no /workspace/%s in it", path);
	if (r == 0)
		r = walk(&x);
	while (x.todo.len)
		member_free(&x.todo.v[--x.todo.len]);
	while (x.found.len)
		member_free(&x.found.v[--x.found.len]);
	vec_fini(&x.todo);
	vec_fini(&x.found);
	map_fini(&x.links);
	mem_free(&x.links_text);
	free(x.map);
	free(x.piece);
	return r < 0 && e && !e->code ? err_sys(e, r, "writing the archive") : r;
}
