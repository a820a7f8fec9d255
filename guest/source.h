/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SOURCE_H
#define GUEST_SOURCE_H

/*
 * Where events come from. A source reads the kernel's queue until it is empty, marks names in the dirty set and keeps
 * the map of directories as far as events say. Two kinds: fanotify with a mark on the file system, and inotify with a
 * watch on every directory.
 */
#include "guest/dirs.h"
#include "guest/dirty.h"
#include "guest/kept.h"
#include "guest/links.h"

#include <stdbool.h>

struct source_sink {
	const struct tree *tree;
	struct dirs *dirs;
	struct kept *kept;
	struct dirty *dirty;
	struct links *links;
	struct map counted; /* fids whose count of links changed, in this drain */
	struct map written; /* fids that were written to, in this drain */
	unsigned flags;	    /* that mark_linked() gives */
	bool overflowed;    /* the kernel dropped events */
};

struct source {
	const char *kind; /* for INFO */
	int fd;
	bool needs_watches; /* dir_found() must be called for each directory before it is listed */
	/** Read everything that is queued; @sink NULL: and forget it. Return: true when there was something. */
	bool (*drain)(struct source *s, struct source_sink *sink);
	/** A directory is known now; @fd is a descriptor of it. */
	void (*dir_found)(struct source *s, struct dir *dir, int fd);
	void (*dir_lost)(struct source *s, struct dir *dir);
	/** Tell nothing of writes to the regular file behind @fd (O_PATH will do), or do again; NULL: it cannot. What
	 * was written before makes an event still. Return: 0 or -errno. */
	int (*silence)(struct source *s, int fd, bool on);
	void (*free)(struct source *s);
};

/** source_fanotify() - on a group that was handed down (@fd >= 0, ours then), or on one of our own with a mark on the
 * workspace's file system. Return: 0; -EPERM and others when that is impossible here. */
int source_fanotify(int fd, const struct tree *tree, struct source **ret) MUST_CHECK;
/** source_inotify() - Return: 0 or -errno. */
int source_inotify(struct source **ret) MUST_CHECK;
void source_free(struct source **slot);

#endif
