/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inodes that the kernel knows, by workspace and identity. One object per identity lives exactly as long as the
 * kernel's lookup count; its address is the node id, so no request needs a table. Names are not kept: the store has
 * them.
 */
#include "host/fs/state.h"

#include "base/clock.h"

#include <sys/stat.h>

void attr_of(const struct fs *fs, const struct ws *ws, const struct node *n, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = (uint64_t)ws_tag(ws) << 32 | (n->ino & 0xffffffff),
		.st_mode = n->mode,
		.st_nlink = n->nlink,
		.st_uid = fs->conf.uid,
		.st_gid = fs->conf.gid,
		.st_size = (off_t)n->size,
		.st_blocks = (blkcnt_t)n->blocks,
		.st_blksize = 4096,
		.st_rdev = n->rdev,
	};
	ret->st_mtim = clock_timespec(n->mtime_ns);
	ret->st_ctim = clock_timespec(n->ctime_ns);
	ret->st_atim = clock_timespec(n->atime_ns);
}

static struct fs_key key_of(const struct ws *ws, uint64_t fid)
{
	return (struct fs_key){ .fid = fid, .tag = (uint64_t)(uintptr_t)ws };
}

struct fs_inode *inode_take(struct fs *fs, struct ws *ws, const struct node *n)
{
	struct fs_key key = key_of(ws, n->fid);
	struct fs_inode *i;

	lock_take(&fs->lock);
	i = map_get(&fs->inodes, SPAN(&key, sizeof(key)));
	if (!i) {
		i = NEW(struct fs_inode);
		i->ws = ws_ref(ws);
		i->fid = n->fid;
		map_put(&fs->inodes, SPAN(&key, sizeof(key)), i);
	}
	i->lookups++;
	i->last = *n;
	lock_drop(&fs->lock);
	return i;
}

void list_drop(struct fs *fs, struct fs_list **slot)
{
	struct fs_list *l = take(slot);
	size_t i;

	if (!l || --l->refs > 0)
		return;
	for (i = 0; i < l->len; i++)
		free(l->v[i].name);
	free(l->v);
	free(l);
	fs->lists--;
}

void inode_forget(struct fs *fs, fuse_ino_t ino, uint64_t n)
{
	struct fs_inode *i = inode_of(ino);
	struct ws *ws = NULL;

	if (!i)
		return;
	lock_take(&fs->lock);
	i->lookups -= MIN(n, i->lookups);
	if (i->lookups == 0) {
		struct fs_key key = key_of(i->ws, i->fid);

		map_remove(&fs->inodes, SPAN(&key, sizeof(key)));
		list_drop(fs, &i->list);
		ws = i->ws;
		free(i);
	}
	lock_drop(&fs->lock);
	ws_unref(&ws);
}

fuse_ino_t inode_known(struct fs *fs, struct ws *ws, uint64_t fid)
{
	struct fs_key key = key_of(ws, fid);
	struct fs_inode *i;

	lock_take(&fs->lock);
	i = map_get(&fs->inodes, SPAN(&key, sizeof(key)));
	if (i)
		list_drop(fs, &i->list);
	lock_drop(&fs->lock);
	return (fuse_ino_t)(uintptr_t)i;
}

void entry_of_node(struct fs *fs, struct ws *ws, const struct node *n, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .attr_timeout = FS_TTL, .entry_timeout = FS_TTL };
	ret->ino = (fuse_ino_t)(uintptr_t)inode_take(fs, ws, n);
	attr_of(fs, ws, n, &ret->attr);
}

struct ws *space_find(struct fs *fs, const char *id)
{
	struct ws *ws;

	lock_take(&fs->lock);
	ws = map_get(&fs->spaces, span_str(id));
	if (ws)
		ws_ref(ws);
	lock_drop(&fs->lock);
	return ws;
}
