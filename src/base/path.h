/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_PATH_H
#define BASE_PATH_H

/* What may be a name or a path. Paths of a workspace are relative to its root: "a/b", "" is the root itself. */
#include "base/buf.h"

enum { PATH_NAME_MAX = 255, PATH_LEN_MAX = 4095 };

/** path_name_ok() - one component as a kernel would take it: 1 to 255 bytes, no '/', no NUL, neither "." nor "..". */
bool path_name_ok(struct span name);
/** path_ok() - a relative path of such components joined by single slashes, at most 4095 bytes; "" is accepted. */
bool path_ok(struct span path);
/** path_join() - "@dir/@name" on the heap ("@name" when @dir is empty), or abort. Free with str_free(). */
char *path_join(const char *dir, const char *name);
/** path_normalise() - what a person typed ("/workspace/a/./b//", "a/b") as a path of the workspace. A leading @root
 * ("/workspace") is cut off; other absolute paths and ".." are refused.
 * Return: 0 and *@ret is yours; -EINVAL. */
int path_normalise(const char *typed, const char *root, char **ret);

/** path_walk_order() - which of two paths a walk comes to first that takes the names of each directory in the order of
 * their bytes: as strcmp(), with '/' before every other byte. */
int path_walk_order(const char *a, const char *b);

#endif
