/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KEEP_KEEP_H
#define KEEP_KEEP_H

/*
 * Rules of what is kept of a workspace, in the syntax of gitignore(5). docs/keep.md has the theory. Guest and host read
 * the same text and must come to the same classes, so this is pure: no I/O, nothing but the text and a path.
 */
#include "base/buf.h"
#include "base/err.h"

enum keep_class {
	KEEP_NONE,  /* not replicated: the host knows nothing of it */
	KEEP_NAMES, /* name and attributes; content when somebody opens it */
	KEEP_FULL,
};

enum {
	KEEP_TEXT_MAX = 32768,
	KEEP_RULES_MAX = 1024,
	KEEP_PATTERN_MAX = 1024,
	KEEP_FILE_MAX = 16000,
	KEEP_TRIES_MAX = 128
};

struct keep;

/** keep_parse() - Return: 0 and the rules, NULL when there is none; -EINVAL slug "bad-rules", naming the line; -E2BIG
 * slug "bad-rules": more text, rules, or names behind "**" in patterns than a path may cost (KEEP_TRIES_MAX). */
int keep_parse(struct span text, struct keep **ret, struct err *e) MUST_CHECK;
void keep_free(struct keep **slot);
/** keep_join() - the text of both, @second overrules. Return: 0; -E2BIG. */
int keep_join(struct span first, struct span second, struct buf *to) MUST_CHECK;

/**
 * keep_entry() - what an entry of a directory is
 * @k:	   NULL: no rules, everything is KEEP_FULL
 * @above: what that directory is; nothing in it is more
 * @path:  from the root of the workspace, without a slash in front; "" is the root itself
 */
enum keep_class keep_entry(const struct keep *k, enum keep_class above, struct span path, bool is_dir);
/** keep_path() - the same for a path of which nothing is known. */
enum keep_class keep_path(const struct keep *k, struct span path, bool is_dir);
/** keep_is_local() - true when a name and what its directory is decide, wherever that directory is. */
bool keep_is_local(const struct keep *k);
size_t keep_count(const struct keep *k);
/** keep_word() - "none", "names", "full". */
const char *keep_word(enum keep_class c);

#endif
