/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SCAN_H
#define GUEST_SCAN_H

/* Lists directories for the host, a bounded number of entries at a time: the whole tree, or one that events cannot
 * tell. */
#include "base/vec.h"
#include "guest/source.h"
#include "guest/tell.h"

/** Somebody else tells the entry: watch.c, in the same way as for an event. */
typedef void scan_entry_fn(void *ctx, uint64_t parent, struct span name, const struct node *node, bool news,
			   enum keep_class keep);

struct scan_job {
	uint64_t fid;
	bool deep; /* directories in it, too */
	bool news; /* contents of files in it are news to the host */
};

struct scan {
	struct dirs *dirs;     /* borrowed, like the next three */
	struct source *source; /* NULL: no watcher */
	struct kept *kept;
	struct tell *tell;
	scan_entry_fn *entry;
	void *ctx;
	VEC(struct scan_job) todo; /* a stack */
	VEC(struct scan_job) lost; /* directories that were not where we thought: watch.c tries them again */
	struct scan_job now;
	int fd; /* of the directory that is being listed, -1 between two */
	char *room;
	size_t at, len;
	bool running, full;
	bool lossy; /* because events were lost, and the host knows it */
	bool known; /* full, and the host has laid out what is there: a directory that is new to us is none to it */
	bool fresh; /* full, and the root is still to come */
	bool settled; /* events up to the end of the last listing were drained: scan_settle() */
	int broken; /* not 0: the disk does not say what is there, and why; nothing more is told, and no end */
	struct node scratch;
};

void scan_fini(struct scan *s);
enum scan_for { SCAN_COMPARE, SCAN_NEWS, SCAN_KNOWN };

/** scan_full() - list the whole tree anew, for a host that compares it with what it has, has nothing, or knows all. */
void scan_full(struct scan *s, enum scan_for what);
/** scan_lossy() - tell the host that events were lost, once until the end of what there is to list. */
void scan_lossy(struct scan *s);
/** scan_dir() - list one directory as soon as possible. */
void scan_dir(struct scan *s, uint64_t fid, bool deep, bool news);
/** scan_step() - go on for about @budget entries, as long as tell_can(). @drop is told of directories that are gone. */
void scan_step(struct scan *s, unsigned budget, void (*drop)(void *ctx, struct dir *dir), void *ctx);
/** scan_is_listed() - all is listed, only the end is still to be told. A name that was renamed over while its directory
 * was listed may be in no part of the listing: whoever drains the events calls scan_settle(), and looks at what they
 * mark before the next scan_step(), which tells the end. */
bool scan_is_listed(const struct scan *s);
void scan_settle(struct scan *s);
/** scan_lost() - a known directory could not be opened where it should be: note it, once. */
void scan_lost(struct scan *s, struct dir *dir, bool deep);
/** scan_retry() - list the lost ones that can be opened now. */
void scan_retry(struct scan *s);
/** scan_stop() - forget what is left to do. */
void scan_stop(struct scan *s);

#endif
