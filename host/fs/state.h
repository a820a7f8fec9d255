/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_FS_STATE_H
#define HOST_FS_STATE_H

/* What the files of this room share. Not for other rooms. */
#define FUSE_USE_VERSION 312
#include "base/lock.h"
#include "base/map.h"
#include "base/vec.h"
#include "host/fs/fs.h"
#include "host/fs/gate.h"
#include "host/fs/table.h"

#include <fuse_lowlevel.h>
#include <sys/statvfs.h>

/* Identities of directories that only the mount has. */
#define FS_FID_BERTH (UINT64_MAX - 1)
#define FS_FID_PAST (UINT64_MAX - 2)

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

/* An inode that the kernel knows: what this process has beside the slot in the table. */
struct fs_inode {
	struct ws *ws; /* a reference; NULL: the workspace is not here (yet) */
	uint64_t fid;
	uint32_t slot;
	struct fs_list *list; /* guarded by fs.lock, as the next two */
	unsigned opens;	      /* handles, and opens that are not answered yet */
	bool is_held;	      /* the workspace keeps it without a name until it is closed */
};

/* A slot of a workspace in the table. */
struct fs_space {
	struct ws *ws;	   /* a reference, while it is shown or somebody is in it; NULL: it is not here (yet) */
	uint32_t nodes;    /* of the table that belong to it */
};

/* A list of changes that an earlier process did not get to tell. */
struct fs_left {
	uint32_t space, ticket; /* 0: told */
};

enum { FS_CHANNEL_B = 32 * 1024 };

struct fs {
	struct fs_conf conf;
	char *statfs_dir;
	struct fuse_session *se;
	int fuse_fd; /* the session's */
	pthread_t thread;
	bool has_thread;
	bool serving;	  /* atomic: notifications have somebody to reach */
	bool is_taken;	  /* an earlier process has served the mount */
	bool is_paused;   /* atomic: what is read from now on is left to the next process */
	unsigned working; /* atomic: threads that have a request */
	struct gate gate;
	uint64_t init_unique; /* of the first request, whose answer the kernel has had already; 0: none */
	bool init_fed;
	struct lock lock;
	pthread_cond_t cond; /* a channel is free, or the first request was answered */
	struct table table;  /* slots: guarded by lock */
	struct fs_inode **by_slot;
	struct map inodes; /* {tag, fid} -> fs_inode */
	struct map untold; /* {tag, fid} -> how many new contents the kernel is not told of yet */
	struct map spaces; /* id -> slot of the table + 1: those that are shown */
	struct map by_ws;  /* address -> slot of the table + 1 */
	struct fs_space *space; /* by slot of the table */
	VEC(struct fs_left) left;
	unsigned lists;
	int (*past)(void *ctx, struct ws *ws, const char *name, struct ws **ret); /* const once it is served */
	void *past_ctx;
	int fault; /* tests: the kind of change + 1 before whose answer this process ends */
	bool is_small; /* tests: the table has few slots */
	bool channel_busy[FS_CHANNELS_MAX]; /* guarded by lock, like the next two */
	bool is_renewing;  /* nobody takes a channel */
	unsigned renewals;
};

struct fs_key {
	uint64_t fid;
	uint64_t tag;
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
/* The inode of a node id; NULL for the root and the directory of links, and for what is_stale(). */
static inline struct fs_inode *inode_of(const struct fs *fs, fuse_ino_t ino)
{
	uint32_t slot = ino <= FS_INO_BYNAME ? UINT32_MAX : table_node_slot(&fs->table, ino);
	struct fs_inode *i = slot == UINT32_MAX ? NULL : fs->by_slot[slot];

	return i && i->ws ? i : NULL;
}
/* A node that an earlier process knew, of a workspace that is no more. */
static inline bool is_stale(const struct fs *fs, fuse_ino_t ino)
{
	return ino > FS_INO_BYNAME && !inode_of(fs, ino);
}

/* inode.c */
void attr_of(const struct fs *fs, const struct ws *ws, const struct node *n, struct stat *ret);
/* The kernel gets to know an inode (again): counts one lookup. */
/* Return: its node id; 0: the table is full. */
fuse_ino_t inode_take(struct fs *fs, struct ws *ws, const struct node *n);
void inode_forget(struct fs *fs, fuse_ino_t ino, uint64_t n);
/* It is about to be opened; it was closed, or not opened. The kernel has the inode meanwhile. */
void inode_opens(struct fs *fs, struct fs_inode *i);
void inode_closed(struct fs *fs, struct fs_inode *i);
/* For the workspace: has somebody a file open? Then it hears with ws_let_go() when nobody has any longer. */
bool inode_is_open(void *ctx, struct ws *ws, uint64_t fid);
/* The node id of an inode when the kernel knows it, else 0; its cached listing is dropped. */
fuse_ino_t inode_known(struct fs *fs, struct ws *ws, uint64_t fid);
/* Return: 0; -ENFILE, then @ret has attributes but no inode. */
int entry_of_node(struct fs *fs, struct ws *ws, const struct node *n, struct fuse_entry_param *ret);
/* All inodes of the table, of no workspace yet. */
void inode_load(struct fs *fs);
/* Those of a slot's workspace are its from now on. */
void inode_join(struct fs *fs, uint32_t space, struct ws *ws);
/* fs.lock is held. Return: the slot of a workspace, UINT32_MAX. */
uint32_t space_of(const struct fs *fs, const struct ws *ws);
/* Free the slot of one that is gone when nothing needs it any more; fs.lock is held. Return: a reference to give up. */
struct ws *space_drop(struct fs *fs, uint32_t space);
struct ws *space_find(struct fs *fs, const char *id); /* a reference, or NULL */
void list_drop(struct fs *fs, struct fs_list **slot); /* fs.lock held */
/* Infinite: whatever changes is invalidated. */
#define FS_TTL 86400.0 * 3650

/* past.c: directories that only the mount has. */
static inline bool past_is(uint64_t fid)
{
	return fid >= FS_FID_PAST;
}
void past_node(struct ws *ws, uint64_t fid, struct node *ret);
/* Is that a name which the mount has in the place of the guest's? */
bool past_hides(struct ws *ws, uint64_t parent, const char *name);
/* True: it is one of theirs, and answered. */
/* op-read.c: a handle for an inode that was opened with @c, which may become a newer one. Return: 0; -errno. */
int fs_handle_new(struct fs *fs, struct fs_inode *i, uint64_t ino, struct fuse_file_info *fi,
		  struct content *c) MUST_CHECK;
bool past_lookup(fuse_req_t req, struct fs_inode *dir, const char *name);
int past_list(struct fs_inode *dir, void (*fn)(void *ctx, const char *name), void *ctx);

/* notify.c: a name of the root is there, or is not any more; NULL: its listing alone. */
void root_changed(struct fs *fs, const char *id);

/* unshown.c: changes that are durable, or will be, and that the kernel was not told yet. */
uint64_t unshown_put(struct fs *fs, struct ws *ws, const struct ws_change *changes, size_t n);
void unshown_drop(struct fs *fs, uint64_t ticket);
/* Which files have a new content that the kernel is not told of yet: counted from before the commit. */
void untold_add(struct fs *fs, struct ws *ws, const struct ws_change *changes, size_t n);
void untold_drop(struct fs *fs, struct ws *ws, const struct ws_change *changes, size_t n);
bool untold_is(struct fs *fs, struct ws *ws, uint64_t fid);
void unshown_load(struct fs *fs);
/* Tell the lists of a space to its workspace; forget those whose workspace did not come. */
void unshown_retell(struct fs *fs, uint32_t space, struct ws *ws);
void unshown_forget(struct fs *fs);

/* channel.c: notifications, written to the kernel by somebody who does not keep us from ending. */
struct notes {
	struct fs *fs;
	size_t len;
	uint8_t bytes[FS_CHANNEL_B];
};
/* @is_there: the name means something, and is looked up again when it is used next; a directory that it may still mean,
 * and that somebody stands in, does not become one that is gone. Else it is forgotten. */
void notes_entry(struct notes *n, fuse_ino_t parent, const char *name, size_t len, bool is_there);
void notes_inode(struct notes *n, fuse_ino_t ino, int64_t off);
/* Returns when the kernel has taken them. */
void notes_send(struct notes *n);
/* Ask the kernel for everything again that was read and not answered. Return: 0 or -errno. */
int notes_resend(struct fs *fs);

/* again.c: what is changed for the kernel is told to the table before, and judged when it comes once more. */
struct fs_again {
	uint32_t intent; /* slot + 1 */
	bool is_again;	 /* this request was read by an earlier process */
	bool is_known;	 /* with .fid from then */
	uint64_t fid;	 /* that the name had before; 0: none */
};
/* Of the request that this thread has read. @name may be NULL. */
void again_begin(struct fs *fs, struct ws *ws, uint64_t parent, const char *name, struct fs_again *ret);
void again_end(struct fs *fs, struct fs_again *again);
void again_fault(const struct fs *fs, int kind);
extern __thread uint64_t fs_unique;

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
/** fs_room() - what statfs says where no guest is asked; @ws NULL: of the store. Return: 0 or -errno. */
int fs_room(struct fs *fs, struct ws *ws, struct statvfs *ret);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned flags);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len, struct fuse_file_info *fi);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi);

#endif
