/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_TREE_H
#define HOST_PRIV_TREE_H

/* Removing trees of files as root. */
#include "base/own.h"

/** tree_empty() - remove everything in directory @dirfd but the entries @except (ended by NULL; may be NULL). Never
 * follows a link, never crosses into another mount. Return: 0; -EXDEV (something is mounted in there); -ELOOP (too
 * deep); -errno. */
int tree_empty(int dirfd, const char *const *except) MUST_CHECK;
/** tree_remove() - remove entry @name of @dirfd and all that is below it. Return: 0; -ENOENT; as tree_empty(). */
int tree_remove(int dirfd, const char *name) MUST_CHECK;
/** tree_remove_later() - rename entry @name of @dirfd to ".gone-…" now, and have a child remove it: for what is large
 * and nobody waits for. Return: 0; -ENOENT; -errno of the rename. */
int tree_remove_later(int dirfd, const char *name) MUST_CHECK;
/** tree_sweep() - remove the ".gone-…" entries of @dirfd that a child did not get done with. */
void tree_sweep(int dirfd);

#endif
