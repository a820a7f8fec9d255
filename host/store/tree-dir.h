/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_TREE_DIR_H
#define HOST_STORE_TREE_DIR_H

/* The hash of one directory, built from its entries in the order of names. */
#include "host/store/inside.h"
#include "host/store/tree-node.h"

struct tree_dir;

/** tree_dir_new() - about 64 KiB for each level that is used; reusable after tree_dir_finish(). */
struct tree_dir *tree_dir_new(struct store *store, uint64_t epoch);
void tree_dir_free(struct tree_dir **d);
/** tree_dir_add() - names in ascending order. Failures stick until the finish. */
void tree_dir_add(struct tree_dir *d, const struct tree_entry *en);
/** tree_dir_finish() - hand the nodes over. Return: 0 and the directory's hash; -errno. */
int tree_dir_finish(struct tree_dir *d, struct digest *ret) MUST_CHECK;

#endif
