/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_FILES_H
#define GUEST_FILES_H

/* The FS_* calls: what the host does to the workspace. No path leaves it. */
#include "base/list.h"
#include "guest/node.h"
#include "wire/conn.h"

struct files {
	const struct tree *tree; /* borrowed */
	struct conn *conn;	 /* borrowed: where answers go */
	struct list listings;	 /* FS_LIST that are not told to the end */
	size_t n_listings;
	uint64_t serial; /* of temporary names */
};

void files_init(struct files *f, const struct tree *tree);
/** files_attach() - answer on @conn (NULL: nobody); listings under way are forgotten. */
void files_attach(struct files *f, struct conn *conn);
/** files_frame() - perform a call and answer it. Return: 0; -EBADMSG; -ENOSYS (no FS_* message). */
int files_frame(struct files *f, const struct frame *frame, struct err *e) MUST_CHECK;
/** files_go_on() - the connection takes more: continue listings. */
void files_go_on(struct files *f);

/** remove_tree() - @name in @dirfd with everything below, using a bounded number of descriptors. Return: 0 or -errno.
 */
int remove_tree(int dirfd, const char *name) MUST_CHECK;

/* For calls.c: how a call is answered. */
void files_error(struct files *f, uint64_t call, int code, const char *what);
/** files_ok() - OK, or ERROR when @r is negative. */
void files_ok(struct files *f, uint64_t call, int r, const char *what);
void files_node(struct files *f, uint64_t call, int dirfd, const char *name);
/** files_done() - FS_NODE of the inode @fid, which *@fd has open and which @path has named; 0: of what @path names.
 * *@fd is closed before the answer. */
void files_done(struct files *f, uint64_t call, struct span path, int *fd, uint64_t fid);
/** files_parent() - open the directory that @path's last name is in.
 * @ret_name: the last name, in @room. Return: a descriptor; -EINVAL (no path of the workspace), -errno. */
int files_parent(const struct files *f, struct span path, char room[4096], const char **ret_name) MUST_CHECK;

/* The host means an inode (@fid not 0); a path may name another one by now. Return: 0; -ESTALE; -errno. */
int files_meant(int fd, uint64_t fid);

/* xattr.c: the FS_XATTR calls. */
void xattr_get(struct files *f, const void *msg);
void xattr_set(struct files *f, const void *msg);
void xattr_list(struct files *f, const void *msg);
void xattr_remove(struct files *f, const void *msg);

#endif
