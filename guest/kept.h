/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_KEPT_H
#define GUEST_KEPT_H

/* The rules of what is kept, applied to directories that are known by identity. docs/keep.md has the theory. */
#include "base/vec.h"
#include "guest/dirs.h"
#include "guest/links.h"
#include "keep/keep.h"

struct kept {
	struct keep *rules; /* NULL: everything is kept */
	struct dirs *dirs;  /* borrowed */
	uint64_t fid;	    /* directory whose path is in @path, as of @moved; 0: none */
	unsigned moved;
	struct buf path;
	VEC(uint64_t) away; /* directories whose name is gone */
	VEC(char *) hidden; /* names that nothing is told of; owned */
};

void kept_init(struct kept *k, struct dirs *dirs);
void kept_fini(struct kept *k);
/** kept_set() - other rules, before a full listing. Return: 0; as keep_parse(). */
int kept_set(struct kept *k, struct span text, struct err *e) MUST_CHECK;
static inline bool kept_any(const struct kept *k)
{
	return k->rules != NULL;
}

/** kept_class() - of an entry of a directory; KEEP_NONE when that is not known or not connected with the root. */
enum keep_class kept_class(struct kept *k, uint64_t parent, struct span name, bool is_dir);
/** kept_most() - of a file with several names: the highest of those that are known, and of @than. */
enum keep_class kept_most(struct kept *k, const struct links *links, uint64_t fid, enum keep_class than);

/** kept_hide() - a file of this name is not kept anywhere, until kept_show(): one that is not whole and has another
 * name later. The name is one that nobody else has. */
void kept_hide(struct kept *k, const char *name);
void kept_show(struct kept *k, const char *name);
/** kept_made() - a directory was made; it is known from now on, if it is kept. */
void kept_made(struct kept *k, uint64_t fid, uint64_t parent, struct span name);
/** kept_moved() - a directory that is known is at this place now: it is forgotten, or marked to be listed anew when
 * what is in it may be kept in another way. Others are left alone. */
void kept_moved(struct kept *k, uint64_t fid, uint64_t parent, struct span name);
/** kept_lost() - the host is going to forget this directory and what it has below it; if they are met again they are
 * listed anew. */
void kept_lost(struct kept *k, struct dir *dir);
/** kept_tidy() - everything that was marked was looked at: forget what is out of sight. @drop is told of each. */
void kept_tidy(struct kept *k, void (*drop)(void *ctx, struct dir *dir), void *ctx);

#endif
