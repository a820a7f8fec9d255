/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_BACK_H
#define HOST_WS_BACK_H

/* Going back to a tree inside a live workspace: what past-live.c and past-links.c share. */
#include "host/ws/state.h"

struct going {
	char *path, *target; /* owned */
	bool was, is;
	uint32_t old_mode;
	struct tree_item it; /* after; its spans are nobody's */
};

struct back {
	struct ws *ws;
	const bool *stop; /* atomic */
	const struct digest *to;
	const char *top; /* what is restored, "": everything */
	VEC(struct going) list;
	size_t bytes; /* of it */
	struct map was_links, links; /* of the present, and as they are to be: links_read() below @top */
	char *was_text, *text;	     /* owned: their paths */
};

/* past-live.c. Return: 0 or -errno. back_over(): somebody waits to end the sandbox. */
bool back_over(const struct back *b);
int back_parent(struct back *b, const char *path, uint64_t *ret, const char **ret_name) MUST_CHECK;
int back_remove(struct back *b, uint64_t dir, const char *name, unsigned flags) MUST_CHECK;
int back_rename(struct back *b, uint64_t dir, const char *from, const char *to) MUST_CHECK;
int back_put_file(struct back *b, uint64_t dir, const char *name, const struct tree_item *it) MUST_CHECK;
void back_temp(char to[64]); /* a name that nobody has */
/* What is made in its directory changes that one's times, which are set at last. */
void back_touched(struct back *b, const char *path);

/* past-links.c: which names are of one file. back_links_read(): of both trees. back_part(): names of one file that are
 * not to be, get files of their own; before anything else. back_is_link(): what has that path will be a link of another
 * one that comes with back_join(), when all others are there. */
int back_links_read(struct back *b, const struct digest *from, struct err *e) MUST_CHECK;
int back_part(struct back *b, struct err *e) MUST_CHECK;
bool back_is_link(const struct back *b, const char *path);
int back_join(struct back *b, struct err *e) MUST_CHECK;

#endif
