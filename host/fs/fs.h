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

enum { FS_CHANNELS_MAX = 8 };

struct fs_conf {
	uid_t uid; /* shown as owner of everything */
	gid_t gid;
	unsigned threads;    /* most handler threads, 1 to 64 */
	unsigned open_ms;    /* how long an open waits for content */
	const char *statfs_dir; /* whose file system the root's statfs shows */
	int channels[FS_CHANNELS_MAX]; /* sockets: a datagram of notifications is written to the kernel by the other
					* end, which answers with an int; borrowed. */
	unsigned n_channels;	/* 0: this process writes them */
	/* The other end is gone: others, as many. Return: 0 or -errno. NULL: this process writes them then. */
	int (*renew)(void *ctx, int *ret_channels, struct err *e);
	void *renew_ctx;
};

/** fs_new() - Return: 0 or -errno. */
int fs_new(const struct fs_conf *conf, struct fs **ret, struct err *e) MUST_CHECK;
/** fs_open() - @fuse_fd was mounted by the privileged process and @table_fd is a memory file for it: with @taken what
 * an earlier process has left in it, else empty. Both are taken over, also on failure. Nothing is answered yet.
 * Return: 0; -ESTALE slug "mount-format" (this one cannot go on from that); -errno. */
int fs_open(struct fs *fs, int fuse_fd, int table_fd, bool taken, struct err *e) MUST_CHECK;
/** fs_serve() - answer requests with threads of our own; returns when the kernel and we have agreed on how. Of a mount
 * that was taken over: call it when all workspaces were added; what the earlier process read and did not answer comes
 * again. */
int fs_serve(struct fs *fs, struct err *e) MUST_CHECK;
/** fs_survives() - can another process go on with this mount? (Linux 6.9 or newer.) */
bool fs_survives(const struct fs *fs);
/** fs_pause() - answer what was read, leave the rest to the next process (or to the end of the mount). Before the
 * workspaces stop: a request would be performed on the store alone then. */
void fs_pause(struct fs *fs);
/** fs_free() - end the threads, forget everything. */
void fs_free(struct fs **fs);

/** fs_add() - show a workspace under its id and follow its changes: register with ws_on_change() before ws_start(). One
 * that an earlier process has shown is added before ws_start(), too. */
void fs_add(struct fs *fs, struct ws *ws);
/** fs_remove() - no longer show it; open files answer EIO. */
void fs_remove(struct fs *fs, struct ws *ws);
/** fs_on_past() - who opens a snapshot of a workspace as a workspace that does not change, shown with fs_add() under an
 * id that begins with a dot; yields a reference. Return: 0; -ENOENT; -errno. Called on any thread of ours, may block
 * for the store. Before fs_serve(). */
void fs_on_past(struct fs *fs, int (*fn)(void *ctx, struct ws *ws, const char *name, struct ws **ret), void *ctx);
/** fs_snapshots_changed() - a snapshot of this name is there, or is not any more. Not from a thread that answers
 * requests. */
void fs_snapshots_changed(struct fs *fs, struct ws *ws, const char *name);
/** fs_contents() - @one with the content of each open file, which may be older than its inode's: for store_gc_roots(),
 * with @ctx the struct fs. */
void fs_contents(void *ctx, void (*one)(void *to, const struct content *c), void *to);
/** fs_needs() - does the kernel know anything of the workspace with this id? */
bool fs_needs(struct fs *fs, const char *id);
/** fs_listener - for ws_on_change(), with the fs as ctx. */
extern const struct ws_listener fs_listener;

#endif
