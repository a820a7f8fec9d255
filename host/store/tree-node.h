/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_TREE_NODE_H
#define HOST_STORE_TREE_NODE_H

/* How tree nodes lie in their table: leaves and indexes of directories, and roots. See docs/store-format.md. */
#include "host/store/key.h"

enum tree_kind { TREE_LEAF = 0, TREE_INDEX = 1, TREE_ROOT = 2 };
enum { TREE_HEAD = 8, TREE_ENTRY_HEAD = 32, TREE_EXTRA_MAX = 4096, TREE_ROOT_LEN = 112, TREE_XATTRS_LEN = 48 };
enum {
	TREE_ENTRY_MAX = TREE_ENTRY_HEAD + 255 + TREE_EXTRA_MAX + TREE_XATTRS_LEN,
	TREE_INDEX_MAX = DIGEST_LEN + 2 + 255,
	TREE_ROOT_MAX = TREE_ROOT_LEN + TREE_XATTRS_LEN,
};

/* One entry of a leaf. @extra: a content (48 bytes), a target, the digest of a directory, or nothing; by the mode.
 * @xattrs: the packed list of extended attributes (xattr.h), empty: there are none. */
struct tree_entry {
	struct span name, extra;
	uint32_t mode, uid, gid;
	int64_t mtime_ns;
	uint64_t rdev;
	struct content xattrs;
};

struct tree_root {
	uint32_t mode, uid, gid;
	int64_t mtime_ns;
	struct digest dir;
	struct content links; /* groups of paths that are one file */
	struct content xattrs;
};

void tree_head(uint8_t *to, enum tree_kind kind, uint32_t level, uint32_t count);
/** tree_head_check() - Return: 0; -EIO: not a tree node. */
int tree_head_check(struct span node, enum tree_kind *ret_kind, uint32_t *ret_count) MUST_CHECK;
/** tree_entry_pack() - Return: bytes written into @to (TREE_ENTRY_MAX). */
size_t tree_entry_pack(const struct tree_entry *en, uint8_t *to);
/** tree_entry_unpack() - the entry at *@at of a leaf; moves *@at behind it. Return: 0 or -EIO. */
int tree_entry_unpack(struct span node, size_t *at, struct tree_entry *ret) MUST_CHECK;
/** tree_index_pack() - Return: bytes written into @to (TREE_INDEX_MAX). */
size_t tree_index_pack(const struct digest *d, struct span first_name, uint8_t *to);
int tree_index_unpack(struct span node, size_t *at, struct digest *ret, struct span *ret_name) MUST_CHECK;
/** tree_root_pack() - Return: bytes written into @to (TREE_ROOT_MAX), with the header. */
size_t tree_root_pack(const struct tree_root *root, uint8_t *to);
int tree_root_unpack(struct span node, struct tree_root *ret) MUST_CHECK;

typedef int (*tree_ref_fn)(void *ctx, const struct digest *tree, const struct content *content);
/** tree_each_ref() - check a node's form and call @fn with all that it refers to: a tree node, or a content (the other
 * is NULL). Return: 0; the first that @fn returned other than 0; -EIO: damaged. */
int tree_each_ref(struct span node, tree_ref_fn fn, void *ctx) MUST_CHECK;

#endif
