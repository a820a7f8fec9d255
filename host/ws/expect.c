/* SPDX-License-Identifier: Apache-2.0 */
/* What the first scan is going to tell of a workspace whose files were laid out (fill.c): what has the name, the size
 * and the time that the tree says is taken for what we sent. */
#include "host/ws/fill.h"
#include "host/ws/state.h"

#include <sys/stat.h>

/* Names of one directory, and directories; what is beyond is shipped like any other file. */
enum { EXPECTED_MAX = 262144 };

struct expected {
	uint32_t mode;
	int64_t mtime_ns;
	struct content content;
	struct digest dir;
};

static void names_drop(struct ws *ws)
{
	void *one;

	while ((one = map_take_any(&ws->expect.names)))
		free(one);
	map_fini(&ws->expect.names);
	ws->expect.dir = 0;
}

static int expect_one(void *ctx, const struct tree_item *it)
{
	struct ws *ws = ctx;
	struct expected *x;

	if (ws->expect.names.len >= EXPECTED_MAX)
		return 1;
	x = NEW(struct expected);
	*x = (struct expected){ .mode = it->mode, .mtime_ns = it->mtime_ns, .content = it->content, .dir = it->dir };
	free(map_put(&ws->expect.names, it->name, x));
	return 0;
}

void expect_dir(struct ws *ws, uint64_t fid, bool is_root)
{
	AUTO(mem_free) struct digest *dir = NULL;

	if (!ws->expect.is_on)
		return;
	if (is_root && !ws->expect.has_begun) {
		ws->expect.has_begun = true;
		dir = must_memdup(&ws->expect.root, sizeof(*dir));
	} else {
		dir = map_remove_u64(&ws->expect.dirs, fid);
	}
	names_drop(ws);
	if (dir && tree_each(ws->conf.store, dir, expect_one, ws) >= 0)
		ws->expect.dir = fid;
}

bool expect_entry(struct ws *ws, uint64_t parent, struct span name, struct node *n)
{
	struct expected *x = ws->expect.is_on && ws->expect.dir == parent ? map_get(&ws->expect.names, name) : NULL;

	if (!x || (x->mode & S_IFMT) != (n->mode & S_IFMT))
		return false;
	if (S_ISDIR(n->mode) && ws->expect.dirs.len < EXPECTED_MAX)
		free(map_put_u64(&ws->expect.dirs, n->fid, must_memdup(&x->dir, sizeof(x->dir))));
	if (!S_ISREG(n->mode) || (!(n->flags & NODE_PENDING) && !content_is_elsewhere(&n->content)) ||
	    content_is_elsewhere(&x->content) || n->size != x->content.size || n->mtime_ns != x->mtime_ns)
		return false;
	n->content = x->content;
	n->content_ctime_ns = n->ctime_ns;
	n->content_ship = 0;
	n->flags &= ~(uint32_t)NODE_PENDING;
	return true;
}

void expect_end(struct ws *ws)
{
	void *one;

	names_drop(ws);
	while ((one = map_take_any(&ws->expect.dirs)))
		free(one);
	map_fini(&ws->expect.dirs);
	store_hold_free(&ws->expect.hold);
	ws->expect.is_on = false;
}

int ws_expect(struct ws *ws, const struct digest *root)
{
	struct content links;
	struct tree_item top;
	int r = tree_stat(ws->conf.store, root, &top, &links);

	if (r == 0)
		r = store_hold_tree(ws->conf.store, root, &ws->expect.hold);
	if (r < 0)
		return r;
	ws->expect.is_on = true;
	ws->expect.root = top.dir;
	return 0;
}
