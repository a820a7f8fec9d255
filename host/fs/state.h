/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_FS_STATE_H
#define HOST_FS_STATE_H

/* What the files of this room share. Not for other rooms. */
#define FUSE_USE_VERSION 312
#include "base/lock.h"
#include "base/map.h"
#include "base/vec.h"
#include "host/fs/fs.h"

#include <fuse_lowlevel.h>

enum { FS_INO_ROOT = 1, FS_INO_BYNAME = 2, FS_LISTS_MAX = 512 };

/* Entries of a directory in the order of their cookies, as they were when somebody began to read it. */
struct fs_list_entry {
	uint64_t cookie;
	char *name;
};

struct fs_list {
	int refs; /* guarded by fs.lock */
	size_t len;
	struct fs_list_entry *v;
};

/* An inode that the kernel knows. Its address is the node id. */
struct fs_inode {
	struct ws *ws; /* a reference */
	uint64_t fid;
	uint64_t lookups;     /* guarded by fs.lock */
	struct fs_list *list; /* guarded by fs.lock */
	struct digest shown;  /* content whose pages the kernel may have, as of the last open; guarded by fs.lock */
	struct node last;     /* what was shown last: for files that are open and have no name any more */
};

struct fs_handle {
	struct content content;
	int flags;
};

struct fs {
	struct fs_conf conf;
	char *statfs_dir;
	struct fuse_session *se;
	pthread_t thread;
	bool serving;
	struct lock lock;
	struct map inodes; /* {tag, fid} -> fs_inode */
	struct map spaces; /* id -> ws (a reference) */
	unsigned lists;
};

struct fs_key {
	uint64_t fid;
	uint64_t tag;
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
/* The inode of a node id; NULL for the root and the directory of links. */
static inline struct fs_inode *inode_of(fuse_ino_t ino)
{
	return ino <= FS_INO_BYNAME ? NULL : (struct fs_inode *)(uintptr_t)ino; /* NOLINT: the id is the address */
}

/* inode.c */
void attr_of(const struct fs *fs, const struct ws *ws, const struct node *n, struct stat *ret);
/* The kernel gets to know an inode (again): counts one lookup. */
struct fs_inode *inode_take(struct fs *fs, struct ws *ws, const struct node *n);
void inode_forget(struct fs *fs, fuse_ino_t ino, uint64_t n);
/* The node id of an inode when the kernel knows it, else 0; its cached listing is dropped. */
fuse_ino_t inode_known(struct fs *fs, struct ws *ws, uint64_t fid);
void entry_of_node(struct fs *fs, struct ws *ws, const struct node *n, struct fuse_entry_param *ret);
struct ws *space_find(struct fs *fs, const char *id); /* a reference, or NULL */
void list_drop(struct fs *fs, struct fs_list **slot); /* fs.lock held */
/* Infinite: whatever changes is invalidated. */
#define FS_TTL 86400.0 * 3650

/* op-*.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned flags);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi);

#endif
