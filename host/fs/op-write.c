/* SPDX-License-Identifier: Apache-2.0 */
/* What changes something is handed to the workspace and answered from another thread. Owners on the mount are the
 * guest's account of the host and cannot be changed; new files belong inside to whoever owns their directory. */
#include "host/fs/state.h"

#include "base/clock.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* A request on its way, with what its answer needs. */
struct change {
	fuse_req_t req;
	struct fs *fs;
	struct ws *ws; /* borrowed from an inode the kernel holds for the request */
	struct fuse_file_info fi;
	uint64_t parent;
	size_t size;
	char name[256];
};

static struct change *change_new(fuse_req_t req, struct fs_inode *i)
{
	struct change *c = NEW(struct change);

	c->req = req;
	c->fs = fs_of(req);
	c->ws = i->ws;
	return c;
}

/* The inode of a directory in which something is to be changed; NULL after the refusal was answered. */
static struct fs_inode *dir_or_refuse(fuse_req_t req, fuse_ino_t parent)
{
	struct fs_inode *dir = inode_of(parent);

	if (!dir)
		fuse_reply_err(req, EPERM);
	return dir;
}

static void done_plain(void *ctx, int result, const struct node *n)
{
	struct change *c = ctx;

	(void)n;
	fuse_reply_err(c->req, result < 0 ? -result : 0);
	free(c);
}

static void done_entry(void *ctx, int result, const struct node *n)
{
	struct change *c = ctx;
	struct fuse_entry_param entry;

	if (result == 0 && !n)
		result = -EIO;
	if (result < 0) {
		fuse_reply_err(c->req, -result);
	} else {
		entry_of_node(c->fs, c->ws, n, &entry);
		if (fuse_reply_entry(c->req, &entry) < 0)
			inode_forget(c->fs, entry.ino, 1);
	}
	free(c);
}

static void done_attr(void *ctx, int result, const struct node *n)
{
	struct change *c = ctx;
	struct stat st;

	if (result == 0 && !n)
		result = -EIO;
	if (result < 0) {
		fuse_reply_err(c->req, -result);
	} else {
		attr_of(c->fs, c->ws, n, &st);
		fuse_reply_attr(c->req, &st, FS_TTL);
	}
	free(c);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);

	(void)rdev;
	if (!dir)
		return;
	if (S_ISCHR(mode) || S_ISBLK(mode))
		fuse_reply_err(req, EPERM);
	else
		ws_make(dir->ws, dir->fid, span_str(name), mode, SPAN_NULL, done_entry, change_new(req, dir));
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);

	if (dir)
		ws_make(dir->ws, dir->fid, span_str(name), S_IFDIR | (mode & 07777), SPAN_NULL, done_entry,
			change_new(req, dir));
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);

	if (dir)
		ws_make(dir->ws, dir->fid, span_str(name), S_IFLNK | 0777, span_str(target), done_entry,
			change_new(req, dir));
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fs_inode *dir = dir_or_refuse(req, parent), *i = inode_of(ino);

	if (!dir)
		return;
	if (!i || i->ws != dir->ws)
		fuse_reply_err(req, EXDEV);
	else
		ws_link_node(dir->ws, i->fid, dir->fid, span_str(name), done_entry, change_new(req, dir));
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);

	if (dir)
		ws_remove(dir->ws, dir->fid, span_str(name), 0, done_plain, change_new(req, dir));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);

	if (dir)
		ws_remove(dir->ws, dir->fid, span_str(name), WIRE_FS_DIR, done_plain, change_new(req, dir));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned flags)
{
	struct fs_inode *dir = dir_or_refuse(req, parent), *to_dir = inode_of(to);

	if (!dir)
		return;
	if (!to_dir || to_dir->ws != dir->ws)
		fuse_reply_err(req, EXDEV);
	else if (flags & ~3U)
		fuse_reply_err(req, EINVAL);
	else
		ws_rename(dir->ws, dir->fid, span_str(name), to_dir->fid, span_str(to_name), flags, done_plain,
			  change_new(req, dir));
}

static int attr_from(const struct fs *fs, const struct stat *st, int to_set, struct ws_attr *a)
{
	*a = (struct ws_attr){ .which = 0 };
	if ((to_set & FUSE_SET_ATTR_UID && st->st_uid != fs->conf.uid) ||
	    (to_set & FUSE_SET_ATTR_GID && st->st_gid != fs->conf.gid))
		return -EPERM;
	if (to_set & FUSE_SET_ATTR_MODE)
		a->which |= WIRE_ATTR_MODE;
	if (to_set & FUSE_SET_ATTR_SIZE)
		a->which |= WIRE_ATTR_SIZE;
	if (to_set & FUSE_SET_ATTR_MTIME)
		a->which |= to_set & FUSE_SET_ATTR_MTIME_NOW ? WIRE_ATTR_MTIME_NOW : WIRE_ATTR_MTIME;
	if (to_set & FUSE_SET_ATTR_ATIME)
		a->which |= to_set & FUSE_SET_ATTR_ATIME_NOW ? WIRE_ATTR_ATIME_NOW : WIRE_ATTR_ATIME;
	a->mode = st->st_mode & 07777;
	a->size = (uint64_t)st->st_size;
	a->mtime_ns = clock_ns(st->st_mtim);
	a->atime_ns = clock_ns(st->st_atim);
	return 0;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(ino);
	struct ws_attr a;
	int r;

	(void)fi;
	if (!i) {
		fuse_reply_err(req, EPERM);
		return;
	}
	r = attr_from(fs_of(req), st, to_set, &a);
	if (r < 0)
		fuse_reply_err(req, -r);
	else if (!a.which)
		op_getattr(req, ino, NULL);
	else
		ws_setattr(i->ws, i->fid, &a, done_attr, change_new(req, i));
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static void reply_create(struct change *c, const struct node *n)
{
	struct fs_handle *h = NEW(struct fs_handle);
	struct fuse_entry_param entry;

	h->content = n->content;
	h->flags = c->fi.flags;
	c->fi.fh = (uint64_t)(uintptr_t)h;
	c->fi.keep_cache = 1;
	entry_of_node(c->fs, c->ws, n, &entry);
	if (fuse_reply_create(c->req, &entry, &c->fi) < 0) {
		free(h);
		inode_forget(c->fs, entry.ino, 1);
	}
}

static void done_create(void *ctx, int result, const struct node *n)
{
	struct change *c = ctx;
	struct node there;

	/* Somebody inside was faster: without O_EXCL that is the file to open. */
	if (result == -EEXIST && !(c->fi.flags & O_EXCL) &&
	    ws_lookup(c->ws, c->parent, span_str(c->name), &there) == 0 && S_ISREG(there.mode)) {
		result = 0;
		n = &there;
	}
	if (result == 0 && !n)
		result = -EIO;
	if (result < 0)
		fuse_reply_err(c->req, -result);
	else
		reply_create(c, n);
	free(c);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);
	struct change *c;

	if (!dir)
		return;
	c = change_new(req, dir);
	c->fi = *fi;
	c->parent = dir->fid;
	snprintf(c->name, sizeof(c->name), "%s", name);
	ws_make(dir->ws, dir->fid, span_str(name), S_IFREG | (mode & 07777), SPAN_NULL, done_create, c);
}

static void done_write(void *ctx, int result, const struct node *n)
{
	struct change *c = ctx;

	(void)n;
	if (result < 0)
		fuse_reply_err(c->req, -result);
	else
		fuse_reply_write(c->req, c->size);
	free(c);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(ino);
	struct fs_handle *h = fi ? (struct fs_handle *)(uintptr_t)fi->fh : NULL;
	struct change *c;

	if (!i) {
		fuse_reply_err(req, EPERM);
		return;
	}
	c = change_new(req, i);
	c->size = size;
	ws_write(i->ws, i->fid, (uint64_t)off, SPAN(data, size), h && (h->flags & O_APPEND), done_write, c);
}
