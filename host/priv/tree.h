/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_TREE_H
#define HOST_PRIV_TREE_H

/* Removing trees of files as root. */
#include "base/own.h"

/** tree_empty() - remove everything in directory @dirfd but the entry @except (may be NULL). Never follows a link,
 * never crosses into another mount. Return: 0; -EXDEV (something is mounted in there); -ELOOP (too deep); -errno. */
int tree_empty(int dirfd, const char *except) MUST_CHECK;
/** tree_remove() - remove entry @name of @dirfd and all that is below it. Return: 0; -ENOENT; as tree_empty(). */
int tree_remove(int dirfd, const char *name) MUST_CHECK;

#endif
