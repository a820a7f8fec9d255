/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_XATTR_H
#define BASE_XATTR_H

/*
 * Extended attributes of an inode as one value: u16 name length, u32 value length, name, value, each, in ascending
 * order of names, none twice; big endian. So equal sets are equal bytes. Guest, wire, store and trees have the same
 * form.
 */
#include "base/buf.h"

#include <stdbool.h>

enum { XATTR_NAME_LEN = 255, XATTR_PACKED_LEN = 65520 };

/** xattr_is_user() - is it one that users keep ("user.x")? All others decide who may do what, and stay where they
 * are. */
bool xattr_is_user(struct span name);
/** xattrs_ok() - a well-formed list of users' attributes; none at all is fine. */
bool xattrs_ok(struct span packed);
/** xattrs_next() - take the first one off a list; false at its end, or where it makes no sense. */
bool xattrs_next(struct span *packed, struct span *ret_name, struct span *ret_value);
/** xattrs_get() - find one. Return: 0 and its value, which borrows from the list; -ENODATA. */
int xattrs_get(struct span packed, struct span name, struct span *ret) MUST_CHECK;
/** xattrs_with() - append to @to the list as it is when @name has that value; @value NULL: when it is not there.
 * @flags: XATTR_CREATE, XATTR_REPLACE of setxattr(2). Return: 0; -EEXIST; -ENODATA; -ENOSPC: it would be too long. */
int xattrs_with(struct span packed, struct span name, const struct span *value, int flags, struct buf *to) MUST_CHECK;
/** xattrs_add() - append one behind the others. Return: 0; -ENOSPC (nothing is appended). */
int xattrs_add(struct buf *to, struct span name, struct span value);

#endif
