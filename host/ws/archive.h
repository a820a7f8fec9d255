/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_ARCHIVE_H
#define HOST_WS_ARCHIVE_H

/* Trees as tar archives, both ways. docs/snapshots.md, "Archives". */
#include "host/store/store.h"
#include "tar/tar.h"

/** ws_left_out() - how many files at @path and below have their content elsewhere (docs/keep.md). Reads all
 * directories. Return: 0; -ENOENT; -ENOTDIR; -EIO. */
int ws_left_out(struct store *store, const struct digest *root, const char *path, uint64_t *ret) MUST_CHECK;
/** ws_export() - write what is at @path ("": everything) of a tree as an archive. Sockets, devices, and files whose
 * content is elsewhere are left out.
 * Return: 0; -ENOENT slug "no-such-path"; @put's. Blocks. */
int ws_export(struct store *store, const struct digest *root, const char *path, tar_put_fn *put, void *ctx,
	      struct err *e) MUST_CHECK;

struct ws_import {
	uint64_t entries_max, bytes_max; /* limits; the latter of attributes, too */
	/* Asked before anything is read and again and again: may it go on? Return: 0; -errno, which ends it. */
	int (*may)(void *ctx, struct err *e);
	void *may_ctx;
	uint64_t entries, bytes;	 /* what there was */
	uint64_t new_b;			 /* that the store did not have */
	uint64_t handed_b;		 /* of contents, whether or not it had them */
	bool has_top;			 /* the root had a member of its own */
	uint64_t left_out;		 /* devices */
	struct digest tree;
	struct store_hold *hold; /* on it; yours */
};

/** ws_import() - read an archive into the store, as a tree; nothing of it touches a file system. Return: 0;
 * -EBADMSG slug "bad-archive"; -EDQUOT slug "quota-exceeded"; -errno of the store or of @get. Blocks. */
int ws_import(struct store *store, tar_get_fn *get, void *ctx, struct ws_import *io, struct err *e) MUST_CHECK;

#endif
