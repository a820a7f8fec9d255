/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes come from the store, so they are what was once written; still every length is checked, and the depth is
 * bounded: a damaged index must not send us round in circles. */
#include "host/store/tree-read.h"

#include <errno.h>
#include <sys/stat.h>

enum { LEVELS_MAX = 16, LEAVES_MAX = 16 * 1024 * 1024 };

static int leaves_below(struct view *v, const struct digest *d, int level, tree_leaves *ret)
{
	enum tree_kind kind = TREE_LEAF;
	struct span node, name;
	uint32_t count = 0, i;
	size_t at = TREE_HEAD;
	struct digest below;
	int r = view_get(v, CT_TREE, d, false, &node);

	if (r == 0)
		r = tree_head_check(node, &kind, &count);
	if (r || kind == TREE_ROOT || level > LEVELS_MAX || ret->len > LEAVES_MAX)
		return -EIO;
	if (kind == TREE_LEAF) {
		vec_push(ret, *d);
		return 0;
	}
	for (i = 0; i < count && r == 0; i++) {
		r = tree_index_unpack(node, &at, &below, &name);
		if (r == 0)
			r = leaves_below(v, &below, level + 1, ret);
	}
	return r;
}

int tree_leaves_of(struct view *v, const struct digest *dir, tree_leaves *ret)
{
	return leaves_below(v, dir, 0, ret);
}

void tree_cursor_init(struct tree_cursor *c, struct view *v, const tree_leaves *leaves)
{
	*c = (struct tree_cursor){ .view = v, .leaf = leaves->v, .end = leaves->v + leaves->len };
}

int tree_next(struct tree_cursor *c, struct tree_entry *ret)
{
	enum tree_kind kind;

	while (!c->left) {
		if (c->leaf == c->end)
			return STORE_E_NONE;
		if (view_get(c->view, CT_TREE, c->leaf, false, &c->node) ||
		    tree_head_check(c->node, &kind, &c->left) || kind != TREE_LEAF)
			return -EIO;
		c->leaf++;
		c->at = TREE_HEAD;
	}
	c->left--;
	return tree_entry_unpack(c->node, &c->at, ret);
}

int tree_root_read(struct view *v, const struct digest *root, struct tree_root *ret)
{
	struct span node;
	int r = view_get(v, CT_TREE, root, false, &node);

	return r ? r : tree_root_unpack(node, ret);
}

int tree_item_of(const struct tree_entry *en, struct tree_item *ret)
{
	struct tree_item it = { .name = en->name,
				.mode = en->mode,
				.uid = en->uid,
				.gid = en->gid,
				.mtime_ns = en->mtime_ns,
				.rdev = en->rdev,
				.xattrs = en->xattrs };

	if (S_ISREG(en->mode)) {
		content_unpack(en->extra.p, &it.content);
		if (!content_ok(&it.content))
			return -EIO;
	} else if (S_ISDIR(en->mode)) {
		memcpy(it.dir.b, en->extra.p, DIGEST_LEN);
	} else {
		it.target = en->extra;
	}
	*ret = it;
	return 0;
}

static struct tree_item item_of_root(const struct tree_root *tr)
{
	return (struct tree_item){ .mode = tr->mode,
				   .uid = tr->uid,
				   .gid = tr->gid,
				   .mtime_ns = tr->mtime_ns,
				   .dir = tr->dir,
				   .xattrs = tr->xattrs };
}

int tree_stat(struct store *store, const struct digest *root, struct tree_item *ret, struct content *ret_links)
{
	struct tree_root tr;
	struct view v;
	int r = view_begin(&v, store);

	if (r)
		return r;
	r = tree_root_read(&v, root, &tr);
	view_end(&v);
	if (r)
		return r;
	*ret = item_of_root(&tr);
	*ret_links = tr.links;
	return 0;
}

int tree_each(struct store *store, const struct digest *dir, int (*fn)(void *ctx, const struct tree_item *it),
	      void *ctx)
{
	tree_leaves leaves = { 0 };
	struct tree_cursor c;
	struct tree_entry en;
	struct tree_item it;
	struct view v;
	int r = view_begin(&v, store);

	if (r)
		return r;
	r = tree_leaves_of(&v, dir, &leaves);
	tree_cursor_init(&c, &v, &leaves);
	while (r == 0 && (r = tree_next(&c, &en)) == 0) {
		r = tree_item_of(&en, &it);
		if (r == 0)
			r = fn(ctx, &it);
	}
	view_end(&v);
	vec_fini(&leaves);
	return r == STORE_E_NONE ? 0 : r;
}

/* The last leaf whose first name is not above @name has it, if anybody has. */
static int find_in(struct view *v, const struct digest *dir, struct span name, struct tree_item *ret)
{
	tree_leaves leaves = { 0 };
	struct tree_cursor c;
	struct tree_entry en;
	size_t low = 0, high;
	int r = tree_leaves_of(v, dir, &leaves);

	for (high = leaves.len; r == 0 && high - low > 1;) {
		tree_leaves one = { .v = leaves.v + (low + high) / 2, .len = 1 };
		size_t len;
		int order;

		tree_cursor_init(&c, v, &one);
		r = tree_next(&c, &en);
		if (r)
			break;
		len = MIN(en.name.len, name.len);
		order = memcmp(en.name.p, name.p, len);
		if (order < 0 || (order == 0 && en.name.len <= name.len))
			low = (low + high) / 2;
		else
			high = (low + high) / 2;
	}
	if (r == 0) {
		tree_leaves one = { .v = leaves.v + low, .len = leaves.len ? 1 : 0 };

		tree_cursor_init(&c, v, &one);
		while ((r = tree_next(&c, &en)) == 0 && !span_eq(en.name, name))
			;
	}
	vec_fini(&leaves);
	if (r)
		return r < 0 ? r : -ENOENT;
	return tree_item_of(&en, ret);
}

int tree_find(struct view *v, const struct digest *root, const char *path, struct tree_item *ret)
{
	struct tree_root tr;
	int r = tree_root_read(v, root, &tr);

	if (r)
		return r;
	*ret = item_of_root(&tr);
	while (r == 0 && *path) {
		size_t len = strcspn(path, "/");
		struct digest dir = ret->dir;

		r = S_ISDIR(ret->mode) ? find_in(v, &dir, SPAN(path, len), ret) : -ENOTDIR;
		path += len + (path[len] == '/');
	}
	return r;
}

int tree_resolve(struct store *store, const struct digest *root, const char *path, struct tree_item *ret)
{
	struct view v;
	int r = view_begin(&v, store);

	if (r)
		return r;
	r = tree_find(&v, root, path, ret);
	ret->name = ret->target = SPAN_NULL;
	view_end(&v);
	return r;
}

struct counting {
	uint64_t n;
	VEC(struct digest) todo;
};

static int count_one(void *ctx, const struct tree_item *it)
{
	struct counting *c = ctx;

	c->n++;
	if (S_ISDIR(it->mode))
		vec_push(&c->todo, it->dir);
	return 0;
}

int tree_names(struct store *store, const struct digest *dir, uint64_t *ret)
{
	struct counting c = { .n = 0 };
	int r = tree_each(store, dir, count_one, &c);

	while (r == 0 && c.todo.len) {
		struct digest next = c.todo.v[--c.todo.len];

		r = tree_each(store, &next, count_one, &c);
	}
	vec_fini(&c.todo);
	*ret = c.n;
	return r;
}
