/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into the past: MOUNT/ID/.berth/snapshots/NAME. The first two are directories that only the mount has, with
 * identities that no inode of a workspace gets; behind the name is the root of another workspace, which somebody above
 * opens for us. No listing has ".berth": whoever knows the name finds it, and find(1) and git do not.
 *
 * Names of snapshots come and go: that there is none is not cached, and the listing is invalidated by
 * fs_snapshots_changed(). A change of which an earlier process did not get to tell is told when the mount is taken
 * over.
 */
#include "host/fs/state.h"

#include "base/str.h"

#include <errno.h>
#include <sys/stat.h>

static const char hidden[] = ".berth", snapshots[] = "snapshots";

bool past_hides(struct ws *ws, uint64_t parent, const char *name)
{
	return str_eq(name, hidden) && parent == ws_root(ws);
}

void past_node(struct ws *ws, uint64_t fid, struct node *ret)
{
	*ret = (struct node){ .fid = fid, .ino = fid, .mode = S_IFDIR | 0555, .nlink = 1, .size = 4096 };
	if (ws_getattr(ws, ws_root(ws), ret) == 0)
		*ret = (struct node){ .fid = fid,
				      .ino = fid,
				      .mode = S_IFDIR | (ret->mode & 0555) | 0500,
				      .nlink = 1,
				      .size = 4096,
				      .mtime_ns = ret->mtime_ns,
				      .ctime_ns = ret->ctime_ns,
				      .atime_ns = ret->atime_ns };
}

static void reply(fuse_req_t req, struct ws *ws, const struct node *n)
{
	struct fuse_entry_param entry;
	int r = entry_of_node(fs_of(req), ws, n, &entry);

	if (r < 0)
		fuse_reply_err(req, -r);
	else if (fuse_reply_entry(req, &entry) < 0)
		inode_forget(fs_of(req), entry.ino, 1);
}

static void lookup_snapshot(fuse_req_t req, struct ws *ws, const char *name)
{
	struct fs *fs = fs_of(req);
	AUTO(ws_unref) struct ws *view = NULL;
	struct node n;
	int r = fs->past ? fs->past(fs->past_ctx, ws, name, &view) : -ENOENT;

	if (r == 0)
		r = ws_getattr(view, ws_root(view), &n);
	if (r < 0)
		fuse_reply_err(req, -r); /* not remembered: it may be made in a moment */
	else
		reply(req, view, &n);
}

bool past_lookup(fuse_req_t req, struct fs_inode *dir, const char *name)
{
	struct node n;

	if (past_is(dir->fid)) {
		if (dir->fid == FS_FID_PAST) {
			lookup_snapshot(req, dir->ws, name);
		} else if (str_eq(name, snapshots)) {
			past_node(dir->ws, FS_FID_PAST, &n);
			reply(req, dir->ws, &n);
		} else {
			fuse_reply_err(req, ENOENT);
		}
		return true;
	}
	if (!past_hides(dir->ws, dir->fid, name) || ws_is_past(dir->ws))
		return false;
	past_node(dir->ws, FS_FID_BERTH, &n);
	reply(req, dir->ws, &n);
	return true;
}

struct names {
	void (*fn)(void *ctx, const char *name);
	void *ctx;
};

static int one_name(void *ctx, const struct snapshot *s)
{
	struct names *n = ctx;

	n->fn(n->ctx, s->name);
	return 0;
}

int past_list(struct fs_inode *dir, void (*fn)(void *ctx, const char *name), void *ctx)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct names n = { fn, ctx };
	int r;

	if (dir->fid == FS_FID_BERTH) {
		fn(ctx, snapshots);
		return 0;
	}
	r = txn_read(ws_db(dir->ws), &t, NULL);
	return r ? r : snapshot_each(t, one_name, &n);
}

void fs_on_past(struct fs *fs, int (*fn)(void *ctx, struct ws *ws, const char *name, struct ws **ret), void *ctx)
{
	fs->past = fn;
	fs->past_ctx = ctx;
}

void fs_snapshots_changed(struct fs *fs, struct ws *ws, const char *name)
{
	AUTO(mem_free) struct notes *notes = NULL;
	fuse_ino_t ino = inode_known(fs, ws, FS_FID_PAST);

	if (!ino || !__atomic_load_n(&fs->serving, __ATOMIC_ACQUIRE))
		return;
	notes = must_calloc(1, sizeof(*notes));
	notes->fs = fs;
	if (name)
		notes_entry(notes, ino, name, strlen(name), false);
	notes_inode(notes, ino, 0);
	notes_send(notes);
}

void fs_contents(void *ctx, void (*one)(void *to, const struct content *c), void *to)
{
	struct fs *fs = ctx;
	uint32_t i;

	lock_take(&fs->lock);
	for (i = 0; i < fs->table.head->handles_top; i++)
		if (fs->table.handles[i].used)
			one(to, &fs->table.handles[i].content);
	lock_drop(&fs->lock);
}

bool fs_needs(struct fs *fs, const char *id)
{
	uint32_t space;
	bool needed;

	lock_take(&fs->lock);
	space = table_space(&fs->table, id, false);
	needed = space != UINT32_MAX && fs->space[space].nodes;
	lock_drop(&fs->lock);
	return needed;
}
