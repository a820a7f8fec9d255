/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_FS_FS_H
#define HOST_FS_FS_H

/*
 * What the kernel sees: one FUSE mount whose root has a directory per workspace, and an empty directory "by-name" for
 * somebody to mount links on. libfuse's only home. docs/mount.md has the theory.
 */
#include "base/err.h"
#include "host/ws/ws.h"

#include <sys/types.h>

struct fs;

struct fs_conf {
	uid_t uid; /* shown as owner of everything */
	gid_t gid;
	unsigned threads;    /* most handler threads, 1 to 64 */
	unsigned open_ms;    /* how long an open waits for content */
	const char *statfs_dir; /* whose file system the root's statfs shows */
};

/** fs_new() - Return: 0 or -errno. */
int fs_new(const struct fs_conf *conf, struct fs **ret, struct err *e) MUST_CHECK;
/** fs_serve() - answer requests on @fuse_fd (mounted by the privileged process) with threads of our own; returns at
 * once. The descriptor is taken over. */
int fs_serve(struct fs *fs, int fuse_fd, struct err *e) MUST_CHECK;
/** fs_wait() - after the unmount: wait for the threads, at most @ms. Return: false when they still serve, since
 * somebody's mount namespace holds on to the mount; then fs_free() would wait, too, and the process had better just
 * end. */
bool fs_wait(struct fs *fs, unsigned ms);
/** fs_free() - after the unmount: wait for the threads, forget everything. */
void fs_free(struct fs **fs);

/** fs_add() - show a workspace under its id and follow its changes: register with ws_on_change() before ws_start(). */
void fs_add(struct fs *fs, struct ws *ws);
/** fs_remove() - no longer show it; open files answer EIO. */
void fs_remove(struct fs *fs, struct ws *ws);
/** fs_changed() - the listener for ws_on_change(), with the fs as ctx. */
void fs_changed(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n);

#endif
