/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_HOT_H
#define GUEST_HOT_H

/*
 * Files that are written to again and again. An event for each write costs its writer more than the write, and tells
 * nothing that a look a moment later would not: so the kernel is told to be silent about the writes of such a file
 * (and of nothing else: closing, renaming and removing it are told as ever), and it is looked at every HOT_MS, and at
 * each barrier. When it has come to rest the kernel speaks again, and it is looked at once more.
 */
#include "guest/node.h"
#include "guest/source.h"

enum { HOT_FILES = 32, HOT_SEEN = 256, HOT_MS = 40 };

struct hot_file {
	int fd; /* O_PATH */
	uint64_t fid, parent;
	char *name;
	uint64_t times; /* as they were when it was looked at last, */
	int64_t looked_at; /* and when that was */
	unsigned told; /* turns since it was looked at */
};

struct hot_seen {
	uint64_t fid, when;
	unsigned n;
};

/* @fid may have been written to since it was looked at; it had this name then. */
typedef void hot_fn(void *ctx, uint64_t fid, uint64_t parent, struct span name);

struct hot {
	struct source *source; /* borrowed; NULL: there is none that can be silent */
	bool off; /* no more files are taken: the kernel refused one */
	struct hot_seen seen[HOT_SEEN];
	struct hot_file file[HOT_FILES];
	size_t n;
	hot_fn *fn;
	void *ctx;
	struct node scratch;
};

void hot_init(struct hot *h, struct source *source, hot_fn *fn, void *ctx);
void hot_fini(struct hot *h);
/** hot_times() - a number that changes when a file does. */
uint64_t hot_times(const struct stat *st);
/** hot_note() - a regular file was looked at, at the time @at, as @n, because it was written to; @dirfd: the directory
 * @parent. */
void hot_note(struct hot *h, int dirfd, uint64_t parent, struct span name, const struct node *n, int64_t at);
/** hot_ask() - tell of all. */
void hot_ask(struct hot *h);
/** hot_removed() - let go of files that have no name any more: their space is free when nobody has them open. */
void hot_removed(struct hot *h);
/** hot_turn() - the same, every HOT_MS while there are any; those that did not change are told and given up. */
void hot_turn(struct hot *h);

#endif
