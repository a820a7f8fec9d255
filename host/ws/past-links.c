/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hard links of a live workspace that goes back to a tree. A tree tells them beside its entries, so two trees may
 * differ in nothing else. Two names of one file that are to be two files must be parted before their bytes and
 * attributes are set, or the one would get the other's; names that are to be of one file are joined when it is there.
 */
#include "host/ws/back.h"

#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <sys/stat.h>

static int read_one(struct back *b, const struct digest *tree, struct map *ret, char **ret_text, struct err *e)
{
	struct content links;
	struct tree_item it;
	int r = tree_stat(b->ws->conf.store, tree, &it, &links);

	if (r == 0)
		r = links_read(b->ws->conf.store, &links, b->top, ret, ret_text);
	return r < 0 ? err_sys(e, r, "reading which names are of one file") : 0;
}

int back_links_read(struct back *b, const struct digest *from, struct err *e)
{
	int r = read_one(b, from, &b->was_links, &b->was_text, e);

	return r < 0 ? r : read_one(b, b->to, &b->links, &b->text, e);
}

/* The map's paths begin below what is restored. */
static char *whole(const struct back *b, struct span path)
{
	AUTO(str_free) char *rest = span_dup(path);

	return b->top[0] && rest[0] ? path_join(b->top, rest) : must_strdup(rest[0] ? rest : b->top);
}

static const char *below_top(const struct back *b, const char *path)
{
	size_t len = strlen(b->top);

	return !len || strlen(path) <= len ? path : path + len + 1;
}

/* The name by which a file is known that is to have several; of others, their own. */
static struct span known_as(const struct back *b, struct span path)
{
	const char *first = map_get(&b->links, path);

	return first ? span_str(first) : path;
}

bool back_is_link(const struct back *b, const char *path)
{
	struct span rest = span_str(below_top(b, path));

	return !span_eq(known_as(b, rest), rest);
}

static bool is_same_file(struct back *b, const char *path, const char *other)
{
	struct node m, n;

	return ws_resolve(b->ws, path, &m) == 0 && ws_resolve(b->ws, other, &n) == 0 && m.fid == n.fid;
}

/* A file of its own, as it is to be. Of what has no bytes the present one is copied: what it is to be comes later. */
static int part_one(struct back *b, const char *path)
{
	struct tree_item it;
	const char *name;
	uint64_t dir;
	int r = tree_resolve(b->ws->conf.store, b->to, path, &it);

	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && (!S_ISREG(it.mode) || tree_is_elsewhere(&it))))
		return 0; /* it goes, or something else comes in its place */
	if (r == 0)
		r = back_parent(b, path, &dir, &name);
	if (r == 0)
		r = back_put_file(b, dir, name, &it);
	back_touched(b, path);
	return r;
}

int back_part(struct back *b, struct err *e)
{
	struct map_slot *slot;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && (slot = map_next(&b->was_links, &pos))) {
		struct span path = SPAN(slot->key, slot->num), first = span_str(slot->value);
		AUTO(str_free) char *mine = whole(b, path);
		AUTO(str_free) char *other = whole(b, first);

		if (span_eq(path, first) || span_eq(known_as(b, path), known_as(b, first)) || back_is_link(b, mine) ||
		    !is_same_file(b, mine, other))
			continue;
		r = back_over(b) ? -ECANCELED : part_one(b, mine);
		if (r < 0)
			return err_sys(e, r, "/workspace/%s", mine);
	}
	return 0;
}

static int join_one(struct back *b, const char *path, const char *first)
{
	struct ws_wait *wait;
	struct node file, n;
	const char *name;
	char temp[64];
	uint64_t dir;
	int r = ws_resolve(b->ws, first, &file);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0; /* of a file that was not kept (docs/keep.md) */
	if (r == 0)
		r = back_parent(b, path, &dir, &name);
	if (r < 0 || (ws_resolve(b->ws, path, &n) == 0 && n.fid == file.fid))
		return r;
	back_temp(temp);
	wait = ws_wait_new();
	ws_link_node(b->ws, file.fid, dir, span_str(temp), ws_wait_done, wait);
	r = ws_wait_end(&wait, NULL);
	if (r < 0)
		return r;
	r = back_rename(b, dir, temp, name);
	if (r < 0)
		(void)!back_remove(b, dir, temp, 0);
	back_touched(b, path);
	return r;
}

int back_join(struct back *b, struct err *e)
{
	struct map_slot *slot;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && (slot = map_next(&b->links, &pos))) {
		struct span path = SPAN(slot->key, slot->num), first = span_str(slot->value);
		AUTO(str_free) char *mine = whole(b, path);
		AUTO(str_free) char *other = whole(b, first);

		if (span_eq(path, first))
			continue;
		r = back_over(b) ? -ECANCELED : join_one(b, mine, other);
		if (r < 0)
			return err_sys(e, r, "/workspace/%s", mine);
	}
	return 0;
}
