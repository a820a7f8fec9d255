/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes that users keep, from the store; changing them is in op-write.c. The kernel caches nothing of
 * them and asks for others with every listing (ACLs, security labels): those have their answer at once, and the answer
 * that they are unknown here makes most programs stop asking.
 */
#include "host/fs/state.h"

#include "base/xattr.h"

#include <errno.h>
#include <string.h>

static int packed_of(fuse_req_t req, fuse_ino_t ino, struct buf *to)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);

	buf_init(to, XATTRS_MAX);
	if (is_stale(fs_of(req), ino))
		return -ESTALE;
	return !i || past_is(i->fid) ? 0 : ws_xattrs(i->ws, i->fid, to);
}

/* @size 0: how many bytes are there? */
static void reply(fuse_req_t req, struct span data, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, data.len);
	else if (data.len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, data.p, data.len);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	AUTO(buf_fini) struct buf packed;
	struct span value;
	int r;

	buf_init(&packed, 0);
	if (!xattr_is_user(span_str(name))) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	r = packed_of(req, ino, &packed);
	if (r == 0)
		r = xattrs_get(buf_span(&packed), span_str(name), &value);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply(req, value, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	AUTO(buf_fini) struct buf packed;
	AUTO(buf_fini) struct buf names;
	struct span rest, name, value;
	int r = packed_of(req, ino, &packed);

	buf_init(&names, XATTRS_MAX);
	for (rest = buf_span(&packed); xattrs_next(&rest, &name, &value);) {
		buf_append(&names, name.p, name.len);
		buf_append(&names, "", 1);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply(req, buf_span(&names), size);
}
