/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_TREE_READ_H
#define HOST_STORE_TREE_READ_H

/* Reading trees inside this room: the entries of a directory by its digest, leaf by leaf. */
#include "host/store/inside.h"
#include "host/store/tree-node.h"

#include "base/vec.h"

typedef VEC(struct digest) tree_leaves;

/** tree_leaves_of() - the leaves of a directory in the order of names. Return: 0; -EIO: missing or damaged. */
int tree_leaves_of(struct view *v, const struct digest *dir, tree_leaves *ret) MUST_CHECK;

/* A place in some leaves of a directory. Borrows from the view. */
struct tree_cursor {
	struct view *view;
	const struct digest *leaf, *end;
	struct span node;
	uint32_t left; /* entries of @node that are not read */
	size_t at;
};

void tree_cursor_init(struct tree_cursor *c, struct view *v, const tree_leaves *leaves);
/** tree_next() - Return: 0 and the next entry, which borrows from the view; STORE_E_NONE; -EIO. */
int tree_next(struct tree_cursor *c, struct tree_entry *ret) MUST_CHECK;
/** tree_root_read() - Return: 0; -EIO. */
int tree_root_read(struct view *v, const struct digest *root, struct tree_root *ret) MUST_CHECK;
/** tree_find() - as tree_resolve(), with spans that borrow from the view. */
int tree_find(struct view *v, const struct digest *root, const char *path, struct tree_item *ret) MUST_CHECK;
/** tree_item_of() - an entry as others see it. Return: 0; -EIO. */
int tree_item_of(const struct tree_entry *en, struct tree_item *ret) MUST_CHECK;

#endif
