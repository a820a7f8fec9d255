/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SEARCH_H
#define GUEST_SEARCH_H

/* Finds names of inode numbers by reading the names of the whole tree: rarely needed, see links.h. */
#include "guest/dirs.h"
#include "guest/links.h"

struct search {
	struct map wanted; /* inode numbers */
};

void search_fini(struct search *s);
/** search_add() - look for @ino at the next run; 0 is ignored. */
void search_add(struct search *s, uint64_t ino);
bool search_due(const struct search *s);
/** search_run() - tell @each every name of a wanted inode, once for all that are wanted. Nothing when none is. */
void search_run(struct search *s, struct dirs *dirs, links_fn *each, void *ctx);

#endif
