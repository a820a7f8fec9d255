/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inodes that the kernel knows, by workspace and identity. One slot of the table per identity lives exactly as long as
 * the kernel's lookup count; its number is the node id, and this process has an object for it. Names are not kept: the
 * store has them.
 */
#include "host/fs/state.h"

#include "base/clock.h"

#include <errno.h>
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

uint32_t space_of(const struct fs *fs, const struct ws *ws)
{
	uintptr_t slot = (uintptr_t)map_get_u64(&fs->by_ws, (uint64_t)(uintptr_t)ws);

	return slot ? (uint32_t)slot - 1 : UINT32_MAX;
}

struct ws *space_drop(struct fs *fs, uint32_t space)
{
	struct fs_space *s = &fs->space[space];

	if (s->nodes || fs->table.spaces[space].state != SPACE_GONE)
		return NULL;
	fs->table.spaces[space].state = SPACE_FREE;
	if (s->ws)
		map_remove_u64(&fs->by_ws, (uint64_t)(uintptr_t)s->ws);
	return take(&s->ws);
}

/* fs.lock is held. */
static struct fs_inode *inode_new(struct fs *fs, struct ws *ws, const struct node *n)
{
	uint32_t space = space_of(fs, ws);
	struct fs_key key = key_of(ws, n->fid);
	struct fs_inode *i;
	uint32_t slot;

	if (space == UINT32_MAX)
		return NULL;
	slot = table_node_new(&fs->table, space, n);
	if (slot == UINT32_MAX)
		return NULL;
	i = NEW(struct fs_inode);
	i->ws = ws_ref(ws);
	i->fid = n->fid;
	i->slot = slot;
	fs->by_slot[slot] = i;
	fs->space[space].nodes++;
	map_put(&fs->inodes, SPAN(&key, sizeof(key)), i);
	return i;
}

/* The kernel has forgotten it; fs.lock is held. Return: a reference to be given up without the lock, or NULL. */
static struct ws *inode_drop(struct fs *fs, uint32_t slot)
{
	struct fs_inode *i = fs->by_slot[slot];
	uint32_t space = fs->table.nodes[slot].space - 1;
	struct ws *ws = NULL;

	if (i && i->ws) {
		struct fs_key key = key_of(i->ws, i->fid);

		map_remove(&fs->inodes, SPAN(&key, sizeof(key)));
		ws = i->ws;
	}
	if (i)
		list_drop(fs, &i->list);
	fs->by_slot[slot] = NULL;
	free(i);
	table_node_free(&fs->table, slot);
	fs->space[space].nodes--;
	return ws;
}

fuse_ino_t inode_take(struct fs *fs, struct ws *ws, const struct node *n)
{
	struct fs_key key = key_of(ws, n->fid);
	struct fs_inode *i;
	fuse_ino_t id = 0;

	lock_take(&fs->lock);
	i = map_get(&fs->inodes, SPAN(&key, sizeof(key)));
	if (i) {
		__atomic_add_fetch(&fs->table.nodes[i->slot].lookups, 1, __ATOMIC_RELAXED);
		table_node_shown(&fs->table, i->slot, n);
	} else {
		i = inode_new(fs, ws, n);
	}
	if (i)
		id = table_node_id(&fs->table, i->slot);
	lock_drop(&fs->lock);
	return id;
}

void inode_forget(struct fs *fs, fuse_ino_t ino, uint64_t n)
{
	struct table_node *node;
	struct ws *ws = NULL, *last = NULL;
	uint32_t slot, space;

	lock_take(&fs->lock);
	slot = ino <= FS_INO_BYNAME ? UINT32_MAX : table_node_slot(&fs->table, ino);
	if (slot != UINT32_MAX) {
		node = &fs->table.nodes[slot];
		__atomic_store_n(&node->lookups, node->lookups - MIN(n, node->lookups), __ATOMIC_RELAXED);
		space = node->space - 1;
		if (node->lookups == 0) {
			ws = inode_drop(fs, slot);
			last = space_drop(fs, space);
		}
	}
	lock_drop(&fs->lock);
	ws_unref(&ws);
	ws_unref(&last);
}

fuse_ino_t inode_known(struct fs *fs, struct ws *ws, uint64_t fid)
{
	struct fs_key key = key_of(ws, fid);
	struct fs_inode *i;
	fuse_ino_t id = 0;

	lock_take(&fs->lock);
	i = map_get(&fs->inodes, SPAN(&key, sizeof(key)));
	if (i) {
		list_drop(fs, &i->list);
		id = table_node_id(&fs->table, i->slot);
	}
	lock_drop(&fs->lock);
	return id;
}

void inode_opens(struct fs *fs, struct fs_inode *i)
{
	lock_take(&fs->lock);
	i->opens++;
	lock_drop(&fs->lock);
}

void inode_closed(struct fs *fs, struct fs_inode *i)
{
	bool let_go;

	lock_take(&fs->lock);
	i->opens -= i->opens > 0;
	let_go = i->opens == 0 && i->is_held;
	i->is_held &= !let_go;
	lock_drop(&fs->lock);
	if (let_go)
		ws_let_go(i->ws);
}

bool inode_is_open(void *ctx, struct ws *ws, uint64_t fid)
{
	struct fs *fs = ctx;
	struct fs_key key = key_of(ws, fid);
	struct fs_inode *i;
	bool is;

	lock_take(&fs->lock);
	i = map_get(&fs->inodes, SPAN(&key, sizeof(key)));
	is = i && i->opens;
	if (is)
		i->is_held = true;
	lock_drop(&fs->lock);
	return is;
}

int entry_of_node(struct fs *fs, struct ws *ws, const struct node *n, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .attr_timeout = FS_TTL, .entry_timeout = FS_TTL };
	attr_of(fs, ws, n, &ret->attr);
	ret->ino = inode_take(fs, ws, n);
	return ret->ino ? 0 : -ENFILE;
}

/* --- workspaces --------------------------------------------------------------------------------------------------- */

void inode_load(struct fs *fs)
{
	struct table *t = &fs->table;
	uint32_t slot, h;

	for (slot = 0; slot < t->head->nodes_top; slot++) {
		uint32_t space = t->nodes[slot].space;
		struct fs_inode *i;

		if (!space || space > TABLE_SPACES)
			continue;
		i = NEW(struct fs_inode);
		i->fid = t->nodes[slot].fid;
		i->slot = slot;
		fs->by_slot[slot] = i;
		fs->space[space - 1].nodes++;
	}
	for (h = 0; h < t->head->handles_top; h++) {
		slot = t->handles[h].used ? table_node_slot(t, t->handles[h].ino) : UINT32_MAX;
		if (slot == UINT32_MAX || !fs->by_slot[slot])
			continue;
		fs->by_slot[slot]->opens++;
		fs->by_slot[slot]->is_held = true; /* perhaps */
	}
}

void inode_join(struct fs *fs, uint32_t space, struct ws *ws)
{
	struct table *t = &fs->table;
	uint32_t slot;

	lock_take(&fs->lock);
	for (slot = 0; fs->space[space].nodes && slot < t->head->nodes_top; slot++) {
		struct fs_inode *i = t->nodes[slot].space == space + 1 ? fs->by_slot[slot] : NULL;
		struct fs_key key;

		if (!i || i->ws)
			continue;
		key = key_of(ws, i->fid);
		i->ws = ws_ref(ws);
		map_put(&fs->inodes, SPAN(&key, sizeof(key)), i);
	}
	lock_drop(&fs->lock);
}

struct ws *space_find(struct fs *fs, const char *id)
{
	struct ws *ws = NULL;
	uintptr_t slot;

	lock_take(&fs->lock);
	slot = (uintptr_t)map_get(&fs->spaces, span_str(id));
	if (slot)
		ws = ws_ref(fs->space[slot - 1].ws);
	lock_drop(&fs->lock);
	return ws;
}
