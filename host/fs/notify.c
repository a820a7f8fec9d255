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

static void inval_dir_once(struct fs *fs, struct ws *ws, struct map *done, uint64_t dir)
{
	fuse_ino_t ino = inode_known(fs, ws, dir);

	if (ino && !map_put_u64(done, dir, fs))
		fuse_lowlevel_notify_inval_entry(fs->se, ino, nobody, sizeof(nobody) - 1);
}

static void wait_for_parents(struct fs *fs, struct ws *ws, struct map *done, uint64_t fid)
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
		inval_dir_once(fs, ws, done, dirs.v[i]);
	vec_fini(&dirs);
}

void fs_changed(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	struct fs *fs = ctx;
	struct map dirs = MAP_NULL; /* directories that were waited for */
	fuse_ino_t ino;
	size_t i;

	for (i = 0; i < n; i++) {
		if (!changes[i].parent)
			continue;
		ino = inode_known(fs, ws, changes[i].parent);
		if (!ino)
			continue;
		fuse_lowlevel_notify_inval_entry(fs->se, ino, changes[i].name, strlen(changes[i].name));
		map_put_u64(&dirs, changes[i].parent, fs);
	}
	for (i = 0; i < n; i++)
		if (!changes[i].parent && inode_known(fs, ws, changes[i].fid))
			wait_for_parents(fs, ws, &dirs, changes[i].fid);
	for (i = 0; i < n; i++) {
		ino = changes[i].fid ? inode_known(fs, ws, changes[i].fid) : 0;
		if (ino)
			fuse_lowlevel_notify_inval_inode(fs->se, ino, changes[i].data ? 0 : -1, 0);
		ino = changes[i].parent ? inode_known(fs, ws, changes[i].parent) : 0;
		if (ino)
			fuse_lowlevel_notify_inval_inode(fs->se, ino, 0, 0);
	}
	map_fini(&dirs);
}

static void root_changed(struct fs *fs, const char *id)
{
	if (!fs->serving)
		return;
	fuse_lowlevel_notify_inval_entry(fs->se, FS_INO_ROOT, id, strlen(id));
	fuse_lowlevel_notify_inval_inode(fs->se, FS_INO_ROOT, 0, 0);
}

void fs_add(struct fs *fs, struct ws *ws)
{
	struct ws *old;

	ws_ref(ws);
	lock_take(&fs->lock);
	old = map_put(&fs->spaces, span_str(ws_id(ws)), ws);
	lock_drop(&fs->lock);
	ws_unref(&old);
	root_changed(fs, ws_id(ws));
}

void fs_remove(struct fs *fs, struct ws *ws)
{
	struct ws *old;

	lock_take(&fs->lock);
	old = map_remove(&fs->spaces, span_str(ws_id(ws)));
	lock_drop(&fs->lock);
	root_changed(fs, ws_id(ws));
	ws_unref(&old);
}
