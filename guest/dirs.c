/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. The map may be behind or, where events were merged, even in contradiction with itself for a moment; so a walk
 * to the root is bounded in steps, and a directory that was opened by its path counts only when its fid is the expected
 * one. A descriptor, once checked, names the directory wherever it moves, which is why the last one is kept: most
 * changes come many to a directory.
 */
#include "guest/dirs.h"

#include "base/io.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>

enum { DEPTH_MAX = 2048, CHUNK = 3500 };

void dirs_init(struct dirs *d, const struct tree *tree)
{
	bool is_new;

	*d = (struct dirs){ .tree = tree, .cached_fd = -1 };
	dirs_put(d, tree->fid, 0, SPAN_NULL, &is_new);
}

static void untold(struct dirs *d, struct dir *dir);

static void dir_free(struct dir *dir)
{
	free(dir->name);
	free(dir);
}

void dirs_fini(struct dirs *d)
{
	struct dir *dir;

	dirs_uncache(d);
	while ((dir = map_take_any(&d->by_fid)))
		dir_free(dir);
	map_fini(&d->by_fid);
	map_fini(&d->by_told);
}

struct dir *dirs_get(const struct dirs *d, uint64_t fid)
{
	return map_get_u64(&d->by_fid, fid);
}

struct dir *dirs_put(struct dirs *d, uint64_t fid, uint64_t parent, struct span name, bool *ret_new)
{
	struct dir *dir = dirs_get(d, fid);

	*ret_new = !dir;
	if (!dir) {
		dir = NEW(struct dir);
		*dir = (struct dir){
			.fid = fid, .parent = parent, .wd = -1, .name = span_dup(name), .round = d->round,
			.keep = KEEP_FULL
		};
		map_put_u64(&d->by_fid, fid, dir);
	} else if (fid != d->tree->fid && (dir->parent != parent || !span_eq(span_str(dir->name), name))) {
		char *copy = span_dup(name); /* the name may be borrowed from this very directory */

		free(dir->name);
		dir->name = copy;
		dir->parent = parent;
		d->moved++;
	}
	return dir;
}

void dirs_remove(struct dirs *d, uint64_t fid)
{
	struct dir *dir = fid == d->tree->fid ? NULL : map_remove_u64(&d->by_fid, fid);

	if (!dir)
		return;
	if (d->cached == fid)
		dirs_uncache(d);
	d->moved++;
	untold(d, dir);
	dir_free(dir);
}

/* Directories from @fid up to, but without, the root. */
static int lineage(const struct dirs *d, uint64_t fid, const struct dir **line, size_t *ret_n)
{
	size_t n = 0;

	while (fid != d->tree->fid) {
		const struct dir *dir = dirs_get(d, fid);

		if (!dir)
			return -ENOENT;
		if (n == DEPTH_MAX)
			return -ELOOP;
		line[n++] = dir;
		fid = dir->parent;
	}
	*ret_n = n;
	return 0;
}

int dirs_path(const struct dirs *d, uint64_t fid, struct buf *b)
{
	const struct dir **line = must_calloc(DEPTH_MAX, sizeof(*line));
	size_t n = 0, at = 0;
	int r = lineage(d, fid, line, &n);

	for (; n && r == 0; at++) {
		const char *name = line[--n]->name;

		if (at)
			r = buf_append(b, "/", 1);
		if (r == 0)
			r = buf_append(b, name, strlen(name));
	}
	free(line);
	return r;
}

/* Walk down in pieces, so that no path is too long for the kernel. */
static int walk(const struct dirs *d, const struct dir **line, size_t n)
{
	AUTO(fd_close) int at = -1;
	AUTO(buf_fini) struct buf path;

	buf_init(&path, CHUNK + 512);
	do {
		int next;

		while (n && buf_len(&path) < CHUNK) {
			const char *name = line[--n]->name;

			if (buf_append(&path, name, strlen(name)) < 0 || (n && buf_append(&path, "/", 1) < 0))
				return -ENAMETOOLONG;
		}
		next = node_open(at < 0 ? d->tree->fd : at, buf_str(&path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
				 false);
		if (next < 0)
			return next;
		fd_close(&at);
		at = next;
		buf_consume(&path, buf_len(&path));
	} while (n);
	return fd_take(&at);
}

static bool is_dir(int fd, uint64_t fid)
{
	struct node *n = NEW(struct node);
	bool same = node_of(fd, n) == 0 && n->fid == fid;

	mem_free(&n);
	return same;
}

int dirs_open(struct dirs *d, uint64_t fid)
{
	const struct dir **line;
	AUTO(fd_close) int fd = -1;
	size_t n = 0;
	int r;

	if (fid == d->tree->fid)
		return d->tree->fd;
	if (d->cached == fid && d->cached_fd >= 0)
		return d->cached_fd;
	line = must_calloc(DEPTH_MAX, sizeof(*line));
	r = lineage(d, fid, line, &n);
	if (r == 0)
		fd = walk(d, line, n);
	free(line);
	if (r < 0)
		return r;
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || (fd >= 0 && !is_dir(fd, fid)))
		return -ESTALE;
	if (fd < 0)
		return fd;
	dirs_uncache(d);
	d->cached = fid;
	d->cached_fd = fd_take(&fd);
	return d->cached_fd;
}

void dirs_uncache(struct dirs *d)
{
	fd_close(&d->cached_fd);
	d->cached = 0;
}

typedef VEC(struct dir *) dir_list;

static void drop_all(struct dirs *d, dir_list *old, void (*drop)(void *ctx, struct dir *dir), void *ctx)
{
	size_t i;

	for (i = 0; i < old->len; i++) {
		drop(ctx, old->v[i]);
		dirs_remove(d, old->v[i]->fid);
	}
	vec_fini(old);
}

void dirs_sweep(struct dirs *d, unsigned round, void (*drop)(void *ctx, struct dir *dir), void *ctx)
{
	dir_list old = { 0 };
	struct map_slot *s;
	size_t pos = 0;

	while ((s = map_next(&d->by_fid, &pos))) {
		struct dir *dir = s->value;

		if (dir->round != round && dir->fid != d->tree->fid)
			vec_push(&old, dir);
	}
	drop_all(d, &old, drop, ctx);
}

void dirs_prune(struct dirs *d, void (*drop)(void *ctx, struct dir *dir), void *ctx)
{
	const struct dir **line = must_calloc(DEPTH_MAX, sizeof(*line));
	dir_list old = { 0 };
	struct map_slot *s;
	size_t pos = 0, n;

	d->dangling = false;
	while ((s = map_next(&d->by_fid, &pos)))
		if (lineage(d, ((struct dir *)s->value)->fid, line, &n) == -ENOENT)
			vec_push(&old, s->value);
	free(line);
	drop_all(d, &old, drop, ctx);
}

static uint64_t place_hash(uint64_t parent, struct span name)
{
	const uint8_t *p = name.p;
	uint64_t h = parent ^ 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < name.len; i++)
		h = (h ^ p[i]) * 0x100000001b3ULL;
	h = (h ^ h >> 32) * 0x94d049bb133111ebULL;
	h ^= h >> 29;
	return h ? h : 1;
}

static void untold(struct dirs *d, struct dir *dir)
{
	if (dir->told && map_get_u64(&d->by_told, dir->told) == dir)
		map_remove_u64(&d->by_told, dir->told);
	dir->told = 0;
}

void dirs_told(struct dirs *d, struct dir *dir, uint64_t parent, struct span name, uint64_t batch)
{
	uint64_t h = place_hash(parent, name);

	dir->told_parent = parent;
	if (dir->told == h && map_get_u64(&d->by_told, h) == dir)
		return;
	untold(d, dir);
	dir->told = h;
	dir->told_in = (uint32_t)batch;
	map_put_u64(&d->by_told, h, dir);
}

void dirs_untell(struct dirs *d, uint64_t acked)
{
	struct map_slot *s;
	size_t pos = 0;

	while ((s = map_next(&d->by_fid, &pos))) {
		struct dir *dir = s->value;

		if (dir->told && (int32_t)(dir->told_in - (uint32_t)acked) > 0)
			untold(d, dir);
	}
}

struct dir *dirs_told_at(const struct dirs *d, uint64_t parent, struct span name)
{
	return map_get_u64(&d->by_told, place_hash(parent, name));
}

/* As the host has it. */
static bool told_below(const struct dirs *d, const struct dir *dir, const struct dir *top)
{
	unsigned depth = 0;

	while (dir && dir != top && dir->told && depth++ < DEPTH_MAX)
		dir = dirs_get(d, dir->told_parent);
	return dir == top;
}

void dirs_lost(struct dirs *d, struct dir *dir, void (*each)(void *ctx, struct dir *dir), void *ctx)
{
	dir_list all = { 0 };
	struct map_slot *s;
	size_t pos = 0, i;

	while ((s = map_next(&d->by_fid, &pos)))
		if (told_below(d, s->value, dir))
			vec_push(&all, s->value);
	for (i = 0; i < all.len; i++) {
		untold(d, all.v[i]);
		all.v[i]->away = true;
		each(ctx, all.v[i]);
	}
	vec_fini(&all);
}
