/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling the kernel what changed, from the notify strand of the workspace, with no lock held. The store shows the new
 * state already. The order closes the race with answers that were prepared from the old state:
 *
 *  1. inval_entry for each name that appeared, vanished or changed its inode: it takes the directory's lock in the
 * kernel and so waits for lookups and readdirs of that directory in flight;
 *  2. for each changed inode whose directory got none of these: inval_entry of a name that nobody uses, for the wait;
 *  3. inval_inode of everything changed, the directories' listings included.
 *
 * It may wait for a directory operation that is parked for the agent; that operation is answered without needing this.
 */
#include "host/fs/state.h"

#include <errno.h>

/* A name for the wait alone: should it exist, its dentry is looked up again, no more. */
static const char nobody[] = "\001berth";

static void inval_dir_once(struct notes *notes, struct ws *ws, struct map *done, uint64_t dir)
{
	fuse_ino_t ino = inode_known(notes->fs, ws, dir);

	if (ino && !map_put_u64(done, dir, notes))
		notes_entry(notes, ino, nobody, sizeof(nobody) - 1, false);
}

static void wait_for_parents(struct notes *notes, struct ws *ws, struct map *done, uint64_t fid)
{
	AUTO(txn_abort) struct txn *t = NULL;
	VEC(uint64_t) dirs = { 0 };
	uint64_t parent = 0;
	struct span name = SPAN_NULL;
	AUTO(str_free) char *last = NULL;
	size_t i;

	if (txn_read(ws_db(ws), &t, NULL) < 0)
		return;
	while (dirs.len < 64 && entry_of(t, fid, parent, name, &parent, &name) == 0) {
		str_free(&last);
		last = span_dup(name);
		name = SPAN(last, name.len);
		vec_push(&dirs, parent);
	}
	txn_abort(&t);
	for (i = 0; i < dirs.len; i++)
		inval_dir_once(notes, ws, done, dirs.v[i]);
	vec_fini(&dirs);
}

static void changed(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	struct fs *fs = ctx;
	AUTO(mem_free) struct notes *notes = malloc(sizeof(*notes));
	struct map dirs = MAP_NULL; /* directories that were waited for */
	fuse_ino_t ino;
	size_t i;

	if (!notes)
		abort();
	notes->fs = fs;
	notes->len = 0;
	for (i = 0; i < n; i++) {
		if (!changes[i].parent)
			continue;
		ino = inode_known(fs, ws, changes[i].parent);
		if (!ino)
			continue;
		notes_entry(notes, ino, changes[i].name, strlen(changes[i].name), changes[i].fid != 0);
		map_put_u64(&dirs, changes[i].parent, fs);
	}
	for (i = 0; i < n; i++)
		if (!changes[i].parent && inode_known(fs, ws, changes[i].fid))
			wait_for_parents(notes, ws, &dirs, changes[i].fid);
	for (i = 0; i < n; i++) {
		ino = changes[i].fid ? inode_known(fs, ws, changes[i].fid) : 0;
		if (ino)
			notes_inode(notes, ino, changes[i].data ? 0 : -1);
		ino = changes[i].parent ? inode_known(fs, ws, changes[i].parent) : 0;
		if (ino)
			notes_inode(notes, ino, 0);
	}
	notes_send(notes);
	map_fini(&dirs);
	untold_drop(fs, ws, changes, n);
	for (i = 0; i < n; i++) /* it may be made of several that were announced */
		unshown_drop(fs, changes[i].ticket);
}

/* A listing that somebody is reading is as old as it was when it was begun. */
static void known(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (changes[i].parent)
			(void)inode_known(ctx, ws, changes[i].parent);
}

static uint64_t announce(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	untold_add(ctx, ws, changes, n);
	return unshown_put(ctx, ws, changes, n);
}

static void retract(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	untold_drop(ctx, ws, changes, n);
	unshown_drop(ctx, changes[0].ticket);
}

const struct ws_listener fs_listener = {
	.announce = announce, .retract = retract, .changed = changed, .known = known, .is_open = inode_is_open,
};

/* --- the root ----------------------------------------------------------------------------------------------------- */

void root_changed(struct fs *fs, const char *id)
{
	AUTO(mem_free) struct notes *notes = malloc(sizeof(*notes));

	if (!notes)
		abort();
	notes->fs = fs;
	notes->len = 0;
	if (!__atomic_load_n(&fs->serving, __ATOMIC_ACQUIRE) || (id && id[0] == '.')) /* those are in no listing */
		return;
	if (id)
		notes_entry(notes, FS_INO_ROOT, id, strlen(id), false);
	notes_inode(notes, FS_INO_ROOT, 0);
	notes_send(notes);
}

void fs_add(struct fs *fs, struct ws *ws)
{
	bool is_new = false;
	uint32_t space;

	lock_take(&fs->lock);
	space = space_of(fs, ws);
	if (space == UINT32_MAX) {
		space = table_space(&fs->table, ws_id(ws), true);
		is_new = space != UINT32_MAX;
	}
	if (is_new) {
		fs->space[space].ws = ws_ref(ws);
		map_put_u64(&fs->by_ws, (uint64_t)(uintptr_t)ws, (void *)(uintptr_t)(space + 1));
		map_put(&fs->spaces, span_str(ws_id(ws)), (void *)(uintptr_t)(space + 1));
	}
	lock_drop(&fs->lock);
	if (!is_new)
		return;
	inode_join(fs, space, ws);
	unshown_retell(fs, space, ws);
	ws_let_go(ws);
	if (fs->table.spaces[space].state != SPACE_SHOWN) {
		root_changed(fs, ws_id(ws));
		lock_take(&fs->lock);
		fs->table.spaces[space].state = SPACE_SHOWN;
		lock_drop(&fs->lock);
	}
}

void fs_remove(struct fs *fs, struct ws *ws)
{
	struct ws *last = NULL;
	uint32_t space;

	lock_take(&fs->lock);
	space = space_of(fs, ws);
	if (space != UINT32_MAX) {
		map_remove(&fs->spaces, span_str(ws_id(ws)));
		fs->table.spaces[space].state = SPACE_GONE;
	}
	lock_drop(&fs->lock);
	root_changed(fs, ws_id(ws));
	lock_take(&fs->lock);
	if (space != UINT32_MAX)
		last = space_drop(fs, space);
	lock_drop(&fs->lock);
	ws_unref(&last);
}
