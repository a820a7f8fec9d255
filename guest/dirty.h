/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_DIRTY_H
#define GUEST_DIRTY_H

/* Names that changed and were not told yet: each once, in the order in which they changed first. */
#include "base/list.h"
#include "base/map.h"

#include <stdint.h>

enum {
	DIRTY_ENTRY = 1,   /* the name itself came, went or was given to another inode */
	DIRTY_CREATED = 2, /* it is new */
	/* Its content may have changed. A rename sets it, too: the mark of the old name may have been looked at when
	 * another file had that name already, and what was written is then only known of the wrong one. */
	DIRTY_WRITTEN = 4,
	DIRTY_LIST = 8, /* of a directory itself: names in it changed for which there was no room: list it */
};

enum { DIRTY_MAX = 262144 };

/** dirty_max() - how many names an agent marks: DIRTY_MAX; in a file of its own, for agents of tests mark fewer. */
size_t dirty_max(void);

struct mark {
	struct list node;
	uint64_t ord;	 /* ascending along the list */
	uint64_t parent; /* fid of the directory */
	uint64_t tag;	 /* fid of a file that got this name by link(2); in the set of recent files: their times */
	unsigned flags;
	unsigned len;
	char name[]; /* NUL-terminated; "" means the directory itself */
};

struct dirty {
	struct list marks;
	struct map by_name;
	uint64_t ord;	 /* of the newest mark */
	size_t max;
	bool crowded;	 /* there was no room for a name, and its directory is to be listed */
	bool overflowed; /* nor for that: all were dropped, a full scan is due */
};

void dirty_init(struct dirty *d, size_t max);
void dirty_fini(struct dirty *d);
/** dirty_mark() - add flags to a name. Past the limit its directory is marked with DIRTY_LIST instead; when there are
 * too many of these, too, everything is dropped and overflowed is set.
 * Return: the mark, borrowed; NULL when the name has none. */
struct mark *dirty_mark(struct dirty *d, uint64_t parent, struct span name, unsigned flags);
/** dirty_first() - borrow the oldest; NULL when there is none. */
struct mark *dirty_first(const struct dirty *d);
/** dirty_take() - out of the set; yours, free() it. */
struct mark *dirty_take(struct dirty *d, struct mark *m);
void dirty_clear(struct dirty *d);
size_t dirty_len(const struct dirty *d);

#endif
