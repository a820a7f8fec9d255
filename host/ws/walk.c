/* SPDX-License-Identifier: Apache-2.0 */
/* Everything in a tree with its path, for those who send it somewhere: a directory, what is in it, then the directory
 * once more. Memory: that of the walk (host/store/tree-walk.c), and an item for each directory on the way. */
#include "host/ws/state.h"

#include "base/path.h"

#include <errno.h>
#include <sys/stat.h>

struct upper {
	struct tree_item it; /* its spans are nobody's */
	size_t len;	     /* of its path */
};

typedef VEC(struct upper) uppers;

static int down(struct tree_walk *w, uppers *way, const struct tree_item *it, size_t len)
{
	struct upper u = { .it = *it, .len = len };

	u.it.name = u.it.target = SPAN_NULL;
	vec_push(way, u);
	return tree_walk_enter(w, &it->dir);
}

int ws_walk(struct store *store, const struct tree_item *top, ws_walk_fn *fn, void *ctx)
{
	struct tree_walk *w = tree_walk_new(store);
	char path[PATH_LEN_MAX + 2] = "";
	uppers way = { 0 };
	int r = down(w, &way, top, 0);

	while (r == 0 && way.len) {
		size_t len = way.v[way.len - 1].len;
		struct tree_item it;

		r = tree_walk_next(w, &it);
		if (r == STORE_E_NONE) {
			path[len] = '\0';
			r = fn(ctx, path, &way.v[--way.len].it, true);
			continue;
		}
		if (r == 0 && len + 1 + it.name.len > PATH_LEN_MAX)
			r = -ENAMETOOLONG;
		if (r)
			break;
		if (len)
			path[len++] = '/';
		memcpy(path + len, it.name.p, it.name.len);
		len += it.name.len;
		path[len] = '\0';
		r = fn(ctx, path, &it, false);
		if (r == 0 && S_ISDIR(it.mode))
			r = down(w, &way, &it, len);
	}
	vec_fini(&way);
	tree_walk_free(&w);
	return r;
}
