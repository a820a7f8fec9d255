/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A directory that is known carries its class; what is not kept is not known. Rules that say names alone need
 * no path; for the others the path of the last directory is kept, since most changes come many to a directory.
 *
 * A directory that was moved may make others of everything below it: it is listed anew as a whole. One that went out
 * of sight (below something that is not kept) is forgotten with all that hangs on it; when it comes back it is new.
 */
#include "guest/kept.h"

#include "base/str.h"

#include <errno.h>

enum { PATH_MAX_B = 65536, AWAY_MAX = 4096 };

void kept_init(struct kept *k, struct dirs *dirs)
{
	*k = (struct kept){ .dirs = dirs };
	buf_init(&k->path, PATH_MAX_B);
}

void kept_fini(struct kept *k)
{
	keep_free(&k->rules);
	buf_fini(&k->path);
	vec_fini(&k->away);
	while (k->hidden.len)
		free(k->hidden.v[--k->hidden.len]);
	vec_fini(&k->hidden);
}

int kept_set(struct kept *k, struct span text, struct err *e)
{
	struct keep *rules = NULL;
	int r = keep_parse(text, &rules, e);

	if (r < 0)
		return r;
	keep_free(&k->rules);
	k->rules = rules;
	k->fid = 0;
	return 0;
}

/* The path of a directory with a slash behind it. Return: false when it hangs on nothing. */
static bool path_of(struct kept *k, uint64_t fid)
{
	if (k->fid == fid && k->moved == k->dirs->moved)
		return true;
	buf_consume(&k->path, buf_len(&k->path));
	k->path.failed = false;
	k->fid = 0;
	if (dirs_path(k->dirs, fid, &k->path) < 0 || (buf_len(&k->path) && buf_append(&k->path, "/", 1) < 0))
		return false;
	k->fid = fid;
	k->moved = k->dirs->moved;
	return true;
}

static size_t hidden_at(const struct kept *k, struct span name)
{
	size_t i;

	for (i = 0; i < k->hidden.len; i++)
		if (span_eq(span_str(k->hidden.v[i]), name))
			break;
	return i;
}

void kept_hide(struct kept *k, const char *name)
{
	vec_push(&k->hidden, must_strdup(name));
}

void kept_show(struct kept *k, const char *name)
{
	size_t i = hidden_at(k, span_str(name));

	if (i == k->hidden.len)
		return;
	free(k->hidden.v[i]);
	k->hidden.v[i] = k->hidden.v[--k->hidden.len];
}

enum keep_class kept_class(struct kept *k, uint64_t parent, struct span name, bool is_dir)
{
	struct dir *dir;
	enum keep_class c;
	size_t len;

	if (k->hidden.len && !is_dir && hidden_at(k, name) < k->hidden.len)
		return KEEP_NONE;
	if (!k->rules)
		return KEEP_FULL;
	dir = dirs_get(k->dirs, parent);
	if (!dir)
		return KEEP_NONE;
	if (keep_is_local(k->rules))
		return keep_entry(k->rules, dir->keep, name, is_dir);
	if (!path_of(k, parent))
		return KEEP_NONE;
	len = buf_len(&k->path);
	if (buf_append(&k->path, name.p, name.len) < 0)
		return KEEP_NONE;
	c = keep_entry(k->rules, dir->keep, buf_span(&k->path), is_dir);
	k->path.end = k->path.start + len;
	return c;
}

struct most {
	struct kept *k;
	enum keep_class c;
};

static void one_name(void *ctx, uint64_t parent, struct span name)
{
	struct most *m = ctx;
	enum keep_class c = kept_class(m->k, parent, name, false);

	m->c = MAX(m->c, c);
}

enum keep_class kept_most(struct kept *k, const struct links *links, uint64_t fid, enum keep_class than)
{
	struct most m = { k, than };

	links_each(links, fid, one_name, &m);
	return m.c;
}

void kept_made(struct kept *k, uint64_t fid, uint64_t parent, struct span name)
{
	enum keep_class c = kept_class(k, parent, name, true);
	bool is_new;

	if (c != KEEP_NONE)
		dirs_put(k->dirs, fid, parent, name, &is_new)->keep = (uint8_t)c;
}

void kept_moved(struct kept *k, uint64_t fid, uint64_t parent, struct span name)
{
	struct dir *dir = dirs_get(k->dirs, fid);
	enum keep_class c;
	bool moved, is_new;

	if (!dir || fid == k->dirs->tree->fid)
		return;
	c = kept_class(k, parent, name, true);
	if (c == KEEP_NONE) {
		/* An inotify watch stays until somebody looks at the name: see not_kept() of watch.c. */
		if (dir->wd < 0)
			dirs_remove(k->dirs, fid);
		k->dirs->dangling = true;
		return;
	}
	moved = dir->parent != parent || !span_eq(span_str(dir->name), name);
	if (k->rules && (dir->keep != c || (moved && !keep_is_local(k->rules))))
		dir->relist = true;
	dir = dirs_put(k->dirs, fid, parent, name, &is_new);
	dir->keep = (uint8_t)c;
}

static void one_lost(void *ctx, struct dir *dir)
{
	struct kept *k = ctx;

	if (k->away.len < AWAY_MAX)
		vec_push(&k->away, dir->fid);
}

void kept_lost(struct kept *k, struct dir *dir)
{
	dirs_lost(k->dirs, dir, one_lost, k);
}

void kept_tidy(struct kept *k, void (*drop)(void *ctx, struct dir *dir), void *ctx)
{
	while (k->away.len) {
		struct dir *dir = dirs_get(k->dirs, k->away.v[--k->away.len]);

		if (!dir || !dir->away)
			continue;
		drop(ctx, dir);
		dirs_remove(k->dirs, dir->fid);
		k->dirs->dangling = true;
	}
	if (k->dirs->dangling)
		dirs_prune(k->dirs, drop, ctx);
}
