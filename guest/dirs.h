/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_DIRS_H
#define GUEST_DIRS_H

/*
 * Which directories the workspace has: fid -> (fid of the parent, name). Inside a sandbox a file handle cannot be
 * opened, so this is how a directory that an event names is found.
 */
#include "base/map.h"
#include "guest/node.h"
#include "keep/keep.h"

struct dir {
	uint64_t fid, parent; /* the root's parent is 0 */
	char *name;
	unsigned round; /* of the last full scan that has listed it */
	int wd;		/* inotify's watch, -1 when there is none */
	bool queued;	/* it is going to be listed */
	bool stale;	/* an entry could not be looked at: list it when it is found again */
	bool relist;	/* it was moved, and what is in it may be kept in another way: list all of it when it is met */
	bool away;	/* its name is gone; it may be met under another */
	uint8_t keep;	/* enum keep_class */
	uint32_t told_in; /* the batch in which the host was told so first */
	uint64_t told, told_parent; /* where the host was last told that it is: hash of the place, directory */
};

struct dirs {
	const struct tree *tree; /* borrowed */
	struct map by_fid;
	struct map by_told; /* struct dir.told -> it */
	unsigned round;	 /* number of the current full scan; new directories get it */
	uint64_t cached; /* fid of the descriptor below */
	int cached_fd;
	unsigned moved;	 /* counts changes after which paths are others */
	bool dangling;	 /* some may hang on one that was removed: dirs_prune() */
};

void dirs_init(struct dirs *d, const struct tree *tree);
void dirs_fini(struct dirs *d);
/** dirs_get() - borrow a directory; NULL when it is not known. */
struct dir *dirs_get(const struct dirs *d, uint64_t fid);
/** dirs_put() - it is at (@parent, @name) now. Return: the directory, and whether it was not known before. */
struct dir *dirs_put(struct dirs *d, uint64_t fid, uint64_t parent, struct span name, bool *ret_new);
void dirs_remove(struct dirs *d, uint64_t fid);
/** dirs_path() - its path from the root into @b. Return: 0, -ENOENT (not connected with the root), -E2BIG. */
int dirs_path(const struct dirs *d, uint64_t fid, struct buf *b) MUST_CHECK;
/** dirs_open() - a descriptor of it, identity checked. Borrowed: valid until the next call here or dirs_uncache().
 * Return: a descriptor; -ESTALE (known, but not where we thought), -ENOENT (unknown), -errno. */
int dirs_open(struct dirs *d, uint64_t fid) MUST_CHECK;
/** dirs_uncache() - close the descriptor that dirs_open() keeps. */
void dirs_uncache(struct dirs *d);
/** dirs_sweep() - forget the directories that were last listed before @round; @drop is told of each. */
void dirs_sweep(struct dirs *d, unsigned round, void (*drop)(void *ctx, struct dir *dir), void *ctx);

/** dirs_prune() - forget the directories that are not connected with the root; @drop is told of each. */
void dirs_prune(struct dirs *d, void (*drop)(void *ctx, struct dir *dir), void *ctx);
/** dirs_told() - the host is told, in this batch, that it is at this place. */
void dirs_told(struct dirs *d, struct dir *dir, uint64_t parent, struct span name, uint64_t batch);
/** dirs_untell() - the connection was lost, and what was told behind the batch @acked with it, perhaps: whatever a host
 * was told first in these counts as not told. */
void dirs_untell(struct dirs *d, uint64_t acked);
/** dirs_is_told() - does the host know the directory, as far as we know? */
static inline bool dirs_is_told(const struct dirs *d, const struct dir *dir)
{
	return dir->told || dir->fid == d->tree->fid;
}
/** dirs_told_at() - the directory that is known and that the host was last told to be at this place; NULL. */
struct dir *dirs_told_at(const struct dirs *d, uint64_t parent, struct span name);
/** dirs_lost() - the host forgets it with all that it has below it: these are away, and @each is told of them. */
void dirs_lost(struct dirs *d, struct dir *dir, void (*each)(void *ctx, struct dir *dir), void *ctx);

#endif
