/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_LINKS_H
#define GUEST_LINKS_H

/*
 * Names of files that have several: when one of them goes, the others' inode has changed too, and no event names them.
 * Of those that had several and have one, some are kept: whoever opened such a file by a name that is gone writes to
 * it, and the kernel names the one that is gone.
 */
#include "base/list.h"
#include "base/map.h"
#include "guest/node.h"

struct links {
	struct map by_name; /* (parent, name) -> struct link */
	struct map by_fid;  /* fid -> struct link_group */
	struct list once;   /* groups with one name, the oldest first; nothing in it: not begun */
	size_t n_once;
};

/* Names kept; more files with several names lose count and time of the others. Of files with one name, the last. */
enum { LINKS_MAX = 65536, LINKS_ONCE_MAX = 1024 };

typedef void links_fn(void *ctx, uint64_t parent, struct span name);

void links_fini(struct links *l);
/**
 * links_seen() - (@parent, @name) is the inode @now; NULL: it is gone
 * @linked: it got this name by link(2), and so had another one
 * @each: called for the other names of the inode that this name was before, when that is another one now
 * Return: inode number of a file that lost this name and still has names that we do not know: search them; else 0.
 */
uint64_t links_seen(struct links *l, uint64_t parent, struct span name, const struct node *now, bool linked,
		    links_fn *each, void *ctx);
/** links_is() - is that a name of @fid as far as is known? Also when nothing is known of @fid. */
bool links_is(const struct links *l, uint64_t parent, struct span name, uint64_t fid);
/** links_each() - the names of @fid that are known. */
void links_each(const struct links *l, uint64_t fid, links_fn *each, void *ctx);

#endif
