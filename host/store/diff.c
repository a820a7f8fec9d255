/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two trees at once. Of two directories with different digests the leaves that both have are skipped: a leaf's entries
 * follow from its digest, and a name is in one leaf only. What is left is merged in the order of names.
 *
 * A directory is a frame on the heap, so that depth costs no stack; its view lives as long as what it yields.
 */
#include "host/store/tree-read.h"

#include "base/path.h"

#include <errno.h>
#include <sys/stat.h>

enum { DIFF_DEPTH_MAX = 2 * PATH_LEN_MAX };

struct side {
	tree_leaves leaves;
	struct tree_cursor at;
	struct tree_entry en;
	bool has; /* @en is the next one */
};

struct frame {
	struct frame *up;
	struct side a, b;
	size_t path_len; /* of this directory's path */
};

struct diff {
	struct view view;
	unsigned flags;
	tree_diff_fn *fn;
	void *ctx;
	struct frame *top;
	unsigned depth;
	char path[DIFF_DEPTH_MAX];
	size_t path_len;
};

static void keep_only(tree_leaves *leaves, const struct map *common)
{
	size_t i, n = 0;

	for (i = 0; i < leaves->len; i++)
		if (!map_get(common, digest_span(&leaves->v[i])))
			leaves->v[n++] = leaves->v[i];
	leaves->len = n;
}

/* Drop what both have. */
static void drop_common(tree_leaves *a, tree_leaves *b)
{
	struct map mine = MAP_NULL, common = MAP_NULL;
	size_t i;

	for (i = 0; i < a->len; i++)
		map_put(&mine, digest_span(&a->v[i]), a);
	for (i = 0; i < b->len; i++)
		if (map_get(&mine, digest_span(&b->v[i])))
			map_put(&common, digest_span(&b->v[i]), b);
	if (common.len) {
		keep_only(a, &common);
		keep_only(b, &common);
	}
	map_fini(&mine);
	map_fini(&common);
}

static int side_next(struct side *s)
{
	int r = tree_next(&s->at, &s->en);

	s->has = r == 0;
	return r < 0 ? r : 0;
}

/* NULL: there is no directory on that side. */
static int push(struct diff *d, const struct digest *a, const struct digest *b)
{
	struct frame *f;
	int r = 0;

	if (d->depth >= PATH_LEN_MAX)
		return -ELOOP;
	f = NEW(struct frame);
	f->up = d->top;
	f->path_len = d->path_len;
	d->top = f;
	d->depth++;
	if (a)
		r = tree_leaves_of(&d->view, a, &f->a.leaves);
	if (r == 0 && b)
		r = tree_leaves_of(&d->view, b, &f->b.leaves);
	if (r)
		return r;
	if (a && b)
		drop_common(&f->a.leaves, &f->b.leaves);
	tree_cursor_init(&f->a.at, &d->view, &f->a.leaves);
	tree_cursor_init(&f->b.at, &d->view, &f->b.leaves);
	r = side_next(&f->a);
	return r ? r : side_next(&f->b);
}

static void pop(struct diff *d)
{
	struct frame *f = d->top;

	d->top = f->up;
	d->depth--;
	vec_fini(&f->a.leaves);
	vec_fini(&f->b.leaves);
	free(f);
}

static int enter(struct diff *d, const struct frame *f, struct span name)
{
	size_t at = f->path_len;

	if (at + name.len + 2 > sizeof(d->path))
		return -ENAMETOOLONG;
	if (at)
		d->path[at++] = '/';
	memcpy(d->path + at, name.p, name.len);
	d->path_len = at + name.len;
	d->path[d->path_len] = '\0';
	return 0;
}

static bool same_attr(const struct tree_item *a, const struct tree_item *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->mtime_ns == b->mtime_ns &&
	       !memcmp(&a->xattrs, &b->xattrs, sizeof(a->xattrs));
}

static bool same_file(const struct tree_item *a, const struct tree_item *b)
{
	return same_attr(a, b) && a->rdev == b->rdev && !memcmp(&a->content, &b->content, sizeof(a->content)) &&
	       span_eq(a->target, b->target);
}

/* What one side has, or both. */
static int tell(struct diff *d, const struct tree_item *a, const struct tree_item *b)
{
	int r = 0;

	if (a && b && (a->mode & S_IFMT) == (b->mode & S_IFMT)) {
		if (S_ISDIR(a->mode) ? !same_attr(a, b) : !same_file(a, b))
			r = d->fn(d->ctx, d->path, a, b);
		return r == 0 && S_ISDIR(a->mode) && !digest_eq(&a->dir, &b->dir) ? push(d, &a->dir, &b->dir) : r;
	}
	/* Of another kind: gone first, then made; only one of the two can be a directory. */
	if (a)
		r = d->fn(d->ctx, d->path, a, NULL);
	if (r == 0 && b)
		r = d->fn(d->ctx, d->path, NULL, b);
	if (r == 0 && a && S_ISDIR(a->mode) && !d->flags)
		r = push(d, &a->dir, NULL);
	else if (r == 0 && b && S_ISDIR(b->mode) && !(d->flags & TREE_DIFF_WHOLE))
		r = push(d, NULL, &b->dir);
	return r;
}

static int by_name(const struct side *a, const struct side *b)
{
	size_t len;
	int r;

	if (!a->has || !b->has)
		return a->has ? -1 : 1;
	len = MIN(a->en.name.len, b->en.name.len);
	r = memcmp(a->en.name.p, b->en.name.p, len);
	return r ? r : a->en.name.len < b->en.name.len ? -1 : a->en.name.len > b->en.name.len;
}

/* One step of the topmost directory. */
static int step(struct diff *d)
{
	struct frame *f = d->top;
	struct tree_entry a = f->a.en, b = f->b.en;
	struct tree_item x, y;
	int order, r;

	if (!f->a.has && !f->b.has) {
		pop(d);
		return 0;
	}
	order = by_name(&f->a, &f->b);
	r = enter(d, f, order <= 0 ? a.name : b.name);
	/* On first: telling may put a directory on top of this one. */
	if (r == 0 && order <= 0)
		r = side_next(&f->a);
	if (r == 0 && order >= 0)
		r = side_next(&f->b);
	if (r == 0 && order <= 0)
		r = tree_item_of(&a, &x);
	if (r == 0 && order >= 0)
		r = tree_item_of(&b, &y);
	return r ? r : tell(d, order <= 0 ? &x : NULL, order >= 0 ? &y : NULL);
}

/* What a path is in a tree. Return: 0; STORE_E_NONE: it is not there; -EIO. */
static int resolve(struct diff *d, const struct digest *root, struct tree_item *ret)
{
	int r = tree_find(&d->view, root, d->path, ret);

	return r == -ENOENT || r == -ENOTDIR ? STORE_E_NONE : r;
}

static int diff_at(struct diff *d, const struct digest *a, const struct digest *b)
{
	struct tree_item i, j;
	int has_a = resolve(d, a, &i), has_b = resolve(d, b, &j), r = 0;

	if (has_a < 0 || has_b < 0)
		return MIN(has_a, has_b);
	if (has_a == STORE_E_NONE && has_b == STORE_E_NONE)
		return -ENOENT;
	r = tell(d, has_a ? NULL : &i, has_b ? NULL : &j);
	while (r == 0 && d->top)
		r = step(d);
	return r;
}

int tree_diff(struct store *store, const struct digest *a, const struct digest *b, const char *path, unsigned flags,
	      tree_diff_fn *fn, void *ctx, struct err *e)
{
	struct diff *d;
	int r = 0;

	if (digest_eq(a, b))
		return 0;
	d = NEW(struct diff);
	d->flags = flags;
	d->fn = fn;
	d->ctx = ctx;
	d->path_len = MIN(strlen(path), sizeof(d->path) - 1);
	memcpy(d->path, path, d->path_len);
	r = view_begin(&d->view, store);
	if (r == 0) {
		r = diff_at(d, a, b);
		while (d->top)
			pop(d);
		view_end(&d->view);
	}
	free(d);
	return r < 0 ? err_sys(e, r, "compare two trees") : r;
}
