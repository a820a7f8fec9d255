/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_NODE_H
#define GUEST_NODE_H

/* Inodes of the workspace: how they are opened, what identifies them, how they are told. */
#include "base/buf.h"
#include "base/err.h"
#include "wire/msg.h"

#include <stdbool.h>
#include <sys/stat.h>

enum { NODE_TARGET_MAX = 4095 };

struct node {
	uint64_t fid; /* never 0 */
	struct stat st;
	size_t target_len; /* of a symlink */
	char target[NODE_TARGET_MAX + 1];
	struct span xattrs; /* packed (base/xattr.h); only after node_look(), and until the next one */
};

/* The workspace: a descriptor of its root that is kept, and the root's identity. */
struct tree {
	int fd;
	dev_t dev;
	uint64_t fid;
	uint64_t disk; /* the same wherever it is mounted, on ext4; 0: not known */
	char *path; /* as given, for people and default directories */
};

/** tree_open() - open the workspace at @path. Return: 0 or -errno. */
int tree_open(struct tree *t, const char *path, struct err *e) MUST_CHECK;
void tree_close(struct tree *t);

/**
 * node_open() - openat2(2) that never leaves @dirfd and follows no magic links
 * @path: relative; "" opens @dirfd anew
 * @follow: true lets symlinks in the middle be followed as long as they stay below; false refuses every symlink
 * Return: a close-on-exec descriptor, yours; -errno (-EXDEV or -ELOOP for what would escape).
 */
int node_open(int dirfd, const char *path, int flags, mode_t mode, bool follow) MUST_CHECK;

/** node_at() - the inode that @name (one component) is in @dirfd; symlinks are not followed. Return: 0 or -errno. */
int node_at(int dirfd, const char *name, struct node *ret) MUST_CHECK;
/** node_of() - the inode behind a descriptor. Return: 0 or -errno. */
int node_of(int fd, struct node *ret) MUST_CHECK;
/** node_look() - node_at() with users' extended attributes; @name empty: node_of(). Return: 0 or -errno. */
int node_look(int dirfd, const char *name, struct node *ret) MUST_CHECK;
/** node_look_meant() - node_look() of @name, but when that is not the inode @fid (any more): of @fd, which is open. */
int node_look_meant(int dirfd, const char *name, int fd, uint64_t fid, struct node *ret) MUST_CHECK;
/** node_wire() - as a record; its target and extended attributes borrow from @n. */
struct msg_NODE node_wire(const struct node *n);

/** node_fid_of_handle() - identity from a file handle: also what fanotify reports. @type and @bytes as the kernel gave.
 */
uint64_t node_fid_of_handle(int type, const void *bytes, size_t len);
/** node_ino_of() - the inode number in a fid of ext4; of another file system, any number. */
uint32_t node_ino_of(uint64_t fid);

#endif
