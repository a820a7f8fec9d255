/* SPDX-License-Identifier: Apache-2.0 */
/* What changes something is handed to the workspace and answered from another thread. Owners on the mount are the
 * guest's account of the host and cannot be changed; new files belong inside to whoever owns their directory. */
#include "host/fs/state.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/xattr.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { CHANGE_TOLD_MS = 20000 };

enum change_kind {
	CHANGE_MAKE,
	CHANGE_LINK,
	CHANGE_REMOVE,
	CHANGE_RENAME,
	CHANGE_SETATTR,
	CHANGE_CREATE,
	CHANGE_WRITE,
	CHANGE_XATTR,
	CHANGE_UNXATTR,
	CHANGE_ALLOC
};

/* A request on its way, with what its answer needs. Strings and data are the request's own until keep(), but for the
 * name, which is ours from go() on. */
struct change {
	enum change_kind kind;
	fuse_req_t req;
	struct fs *fs;
	struct ws *ws; /* borrowed from an inode the kernel holds for the request */
	struct fs_again again;
	struct fuse_file_info fi;
	uint64_t fid, parent, to_parent, offset, len;
	uint32_t mode, flags;
	bool append, is_kept;
	const char *name, *to_name, *target;
	struct span data;
	struct ws_attr attr;
};

static struct change *change_new(fuse_req_t req, enum change_kind kind, struct fs_inode *i)
{
	struct change *c = NEW(struct change);

	c->kind = kind;
	c->req = req;
	c->fs = fs_of(req);
	c->ws = i->ws;
	c->fid = i->fid;
	return c;
}

/* The request's memory goes when its handler returns. */
static void keep(struct change *c)
{
	c->is_kept = true;
	c->to_name = must_strdup(c->to_name);
	c->target = must_strdup(c->target);
	c->data = SPAN(must_memdup(c->data.p, c->data.len), c->data.len);
}

static void change_free(struct change *c)
{
	mem_free(&c->name);
	if (c->is_kept) {
		mem_free(&c->to_name);
		mem_free(&c->target);
		mem_free(&c->data.p);
	}
	free(c);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

/* The name is there, and the kernel hears that it was not made: it would go on to know that there is none. It is told
 * otherwise behind the answer, for which it keeps the directory locked. */
static void refuse_node(struct change *c, const struct node *n, int r)
{
	struct ws_change *one = NEW(struct ws_change);

	*one = (struct ws_change){ .parent = c->parent, .fid = n->fid, .entry_new = true };
	one->name = must_strdup(c->name);
	one->ticket = unshown_put(c->fs, c->ws, one, 1);
	fuse_reply_err(c->req, -r);
	ws_retell(c->ws, one, 1);
}

static void reply_node(struct change *c, const struct node *n)
{
	struct fuse_entry_param entry;
	int r = entry_of_node(c->fs, c->ws, n, &entry);

	if (r == 0 && c->kind == CHANGE_CREATE) {
		struct content content = n->content;

		r = fs_handle_new(c->fs, inode_of(c->fs, entry.ino), entry.ino, &c->fi, &content);
		c->fi.keep_cache = 1;
		if (r == 0)
			inode_opens(c->fs, inode_of(c->fs, entry.ino));
		else
			inode_forget(c->fs, entry.ino, 1);
	}
	if (r < 0) {
		refuse_node(c, n, r);
		return;
	}
	r = c->kind == CHANGE_CREATE ? fuse_reply_create(c->req, &entry, &c->fi) : fuse_reply_entry(c->req, &entry);
	if (r == 0)
		return;
	if (c->kind == CHANGE_CREATE) {
		lock_take(&c->fs->lock);
		table_handle_free(&c->fs->table, c->fi.fh);
		lock_drop(&c->fs->lock);
		inode_closed(c->fs, inode_of(c->fs, entry.ino));
	}
	inode_forget(c->fs, entry.ino, 1);
}

static void reply_change(struct change *c, const struct node *n)
{
	struct stat st;

	switch (c->kind) {
	case CHANGE_MAKE:
	case CHANGE_LINK:
	case CHANGE_CREATE:
		reply_node(c, n);
		break;
	case CHANGE_SETATTR:
		attr_of(c->fs, c->ws, n, &st);
		fuse_reply_attr(c->req, &st, FS_TTL);
		break;
	case CHANGE_WRITE:
		fuse_reply_write(c->req, c->data.len);
		break;
	case CHANGE_REMOVE:
	case CHANGE_RENAME:
	case CHANGE_XATTR:
	case CHANGE_UNXATTR:
	case CHANGE_ALLOC:
		fuse_reply_err(c->req, 0);
	}
}

/* What comes again and finds that done which it asks for, has done it: the attribute is there already, or not any more.
 */
static bool was_done(struct change *c, int result)
{
	AUTO(buf_fini) struct buf is;
	struct span value;

	buf_init(&is, XATTRS_MAX);
	if (!c->again.is_again)
		return false;
	if (c->kind == CHANGE_UNXATTR)
		return result == -ENODATA;
	return c->kind == CHANGE_XATTR && result == -EEXIST && ws_xattrs(c->ws, c->fid, &is) == 0 &&
	       xattrs_get(buf_span(&is), span_str(c->to_name), &value) >= 0 && span_eq(value, c->data);
}

/* Give the answer; but a failure at the end of this process is none: the next one is asked again. */
static void answer(struct change *c, int result, const struct node *n)
{
	bool needs_node = c->kind != CHANGE_REMOVE && c->kind != CHANGE_RENAME && c->kind != CHANGE_WRITE;
	bool is_extra = c->kind == CHANGE_XATTR || c->kind == CHANGE_UNXATTR || c->kind == CHANGE_ALLOC;
	bool leave = result < 0 && __atomic_load_n(&c->fs->is_paused, __ATOMIC_ACQUIRE);

	if (was_done(c, result))
		result = 0;
	else if (result == 0 && needs_node && !n)
		result = is_extra ? -EOPNOTSUPP : -EIO; /* an old agent */
	if (result == -ENOSYS) /* one that is too old, but the kernel would never ask again, for no workspace */
		result = -EOPNOTSUPP;
	if (!leave) {
		again_fault(c->fs, (int)c->kind);
		if (result < 0)
			fuse_reply_err(c->req, -result);
		else
			reply_change(c, n);
		again_end(c->fs, &c->again);
	}
	change_free(c);
}

static bool is_there(struct change *c, struct node *ret)
{
	return ws_lookup(c->ws, c->parent, span_str(c->name), ret) == 0;
}

static void done(void *ctx, int result, const struct node *n)
{
	struct change *c = ctx;
	struct node there = { .fid = 0 };

	/* Somebody inside was faster: without O_EXCL that is the file to open. */
	if (result == -EEXIST && c->kind == CHANGE_CREATE && !(c->fi.flags & O_EXCL) && is_there(c, &there) &&
	    S_ISREG(there.mode)) {
		result = 0;
		n = &there;
	}
	/* It was made, or taken away, for an earlier process. */
	if (c->again.is_again && ((result == -EEXIST && c->kind == CHANGE_XATTR) ||
				  (result == -ENODATA && c->kind == CHANGE_UNXATTR))) {
		result = 0;
		n = &there;
	}
	answer(c, result, n);
}

/* --- going ahead -------------------------------------------------------------------------------------------------- */

static void perform(struct change *c)
{
	struct span name = span_str(c->name);

	switch (c->kind) {
	case CHANGE_MAKE:
	case CHANGE_CREATE:
		ws_make(c->ws, c->parent, name, c->mode, span_str(c->target), done, c);
		break;
	case CHANGE_LINK:
		ws_link_node(c->ws, c->fid, c->parent, name, done, c);
		break;
	case CHANGE_REMOVE:
		ws_remove(c->ws, c->parent, name, c->flags, done, c);
		break;
	case CHANGE_RENAME:
		ws_rename(c->ws, c->parent, name, c->to_parent, span_str(c->to_name), c->flags, done, c);
		break;
	case CHANGE_SETATTR:
		ws_setattr(c->ws, c->fid, &c->attr, done, c);
		break;
	case CHANGE_WRITE:
		ws_write(c->ws, c->fid, c->offset, c->data, WS_SHOWN | (c->append ? WS_APPEND : 0U), done, c);
		break;
	case CHANGE_XATTR:
		ws_set_xattr(c->ws, c->fid, span_str(c->to_name), &c->data, (int)c->flags, done, c);
		break;
	case CHANGE_UNXATTR:
		ws_set_xattr(c->ws, c->fid, span_str(c->to_name), NULL, 0, done, c);
		break;
	case CHANGE_ALLOC:
		ws_allocate(c->ws, c->fid, (int)c->flags, c->offset, c->len, done, c);
	}
}

/* An append that comes again: are its bytes where it was to put them, or at the end? */
static void append_again(void *ctx, int result, const struct node *n)
{
	struct change *c = ctx;
	AUTO(mem_free) uint8_t *got = malloc(c->data.len + 1);
	uint64_t at[2];
	int i;

	if (result == 0 && got && n->content.size >= c->data.len) {
		at[0] = c->offset;
		at[1] = n->content.size - c->data.len;
		for (i = 0; i < 2; i++)
			if (ws_read(c->ws, &n->content, at[i], got, c->data.len) == (ssize_t)c->data.len &&
			    memcmp(got, c->data.p, c->data.len) == 0) {
				answer(c, 0, NULL);
				return;
			}
	}
	perform(c);
}

/* Was it performed for an earlier process, which did not come to say so? Then the name does not mean what it meant
 * before. @ret: what it means now. */
static bool was_performed(struct change *c, struct node *ret)
{
	bool there = c->name && is_there(c, ret);

	if (!c->again.is_known || !c->name)
		return false;
	switch (c->kind) {
	case CHANGE_MAKE:
	case CHANGE_CREATE:
		return there && ret->fid != c->again.fid && (ret->mode & S_IFMT) == (c->mode & S_IFMT);
	case CHANGE_LINK:
		return there && ret->fid == c->fid && ret->fid != c->again.fid;
	case CHANGE_REMOVE:
	case CHANGE_RENAME:
		return c->again.fid && (!there || ret->fid != c->again.fid);
	case CHANGE_SETATTR:
	case CHANGE_WRITE:
	case CHANGE_XATTR:
	case CHANGE_UNXATTR:
	case CHANGE_ALLOC:
		break;
	}
	return false;
}

static void told(void *ctx, int result, const struct node *unused)
{
	struct change *c = ctx;
	struct node n;

	(void)unused;
	if (__atomic_load_n(&c->fs->is_paused, __ATOMIC_ACQUIRE))
		change_free(c); /* the next process is asked again */
	else if (result == -ETIMEDOUT || result == -EAGAIN)
		answer(c, result, NULL);
	else if (!c->again.is_again)
		perform(c);
	else if (was_performed(c, &n))
		answer(c, 0, &n);
	else if (c->kind == CHANGE_WRITE && c->append)
		ws_held_content(c->ws, c->fid, clock_after_ms(c->fs->conf.open_ms), append_again, c);
	else
		perform(c);
}

/* A workspace that was just adopted may not know yet what its agent has done for an earlier process. */
static void go(struct change *c)
{
	c->name = must_strdup(c->name);
	again_begin(c->fs, c->ws, c->parent, c->name, &c->again);
	if (c->again.is_again || !ws_is_told(c->ws)) {
		keep(c);
		ws_when_told(c->ws, clock_after_ms(CHANGE_TOLD_MS), told, c);
	} else {
		perform(c);
	}
}

/* The inode of a directory in which something is to be changed; NULL after the refusal was answered. */
static struct fs_inode *dir_or_refuse(fuse_req_t req, fuse_ino_t parent)
{
	struct fs_inode *dir = inode_of(fs_of(req), parent);

	if (!dir)
		fuse_reply_err(req, is_stale(fs_of(req), parent) ? ESTALE : EPERM);
	if (!dir || !past_is(dir->fid))
		return dir;
	fuse_reply_err(req, EROFS);
	return NULL;
}

/* A name that the mount has itself. */
static bool is_fixed(fuse_req_t req, const struct fs_inode *dir, const char *name)
{
	bool is = past_hides(dir->ws, dir->fid, name);

	if (is)
		fuse_reply_err(req, EPERM);
	return is;
}

/* Where the kernel has not looked a name up, it has not heard that it is too long. */
static bool is_long(fuse_req_t req, const char *name)
{
	bool is = strlen(name) > PATH_NAME_MAX;

	if (is)
		fuse_reply_err(req, ENAMETOOLONG);
	return is;
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, const char *target)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);
	struct change *c;

	if (!dir || is_long(req, name))
		return;
	c = change_new(req, CHANGE_MAKE, dir);
	c->parent = dir->fid;
	c->name = name;
	c->mode = mode;
	c->target = target;
	go(c);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)rdev;
	if (S_ISCHR(mode) || S_ISBLK(mode))
		fuse_reply_err(req, EPERM);
	else
		make(req, parent, name, mode, NULL);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | (mode & 07777), NULL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, target);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fs_inode *dir = dir_or_refuse(req, parent), *i = inode_of(fs_of(req), ino);
	struct change *c;

	if (!dir || is_long(req, name))
		return;
	if (!i || i->ws != dir->ws) {
		fuse_reply_err(req, EXDEV);
		return;
	}
	c = change_new(req, CHANGE_LINK, i);
	c->parent = dir->fid;
	c->name = name;
	go(c);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, unsigned flags)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);
	struct change *c;

	if (!dir || is_fixed(req, dir, name))
		return;
	c = change_new(req, CHANGE_REMOVE, dir);
	c->parent = dir->fid;
	c->name = name;
	c->flags = flags;
	go(c);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, WIRE_FS_DIR);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned flags)
{
	struct fs_inode *dir = dir_or_refuse(req, parent), *to_dir = inode_of(fs_of(req), to);
	struct change *c;

	if (!dir || is_long(req, to_name) || is_fixed(req, dir, name) || (to_dir && is_fixed(req, to_dir, to_name)))
		return;
	if (!to_dir || past_is(to_dir->fid) || to_dir->ws != dir->ws || flags & ~3U) {
		fuse_reply_err(req, flags & ~3U ? EINVAL : EXDEV);
		return;
	}
	c = change_new(req, CHANGE_RENAME, dir);
	c->parent = dir->fid;
	c->name = name;
	c->to_parent = to_dir->fid;
	c->to_name = to_name;
	c->flags = flags;
	go(c);
}

static int attr_from(const struct fs *fs, const struct stat *st, int to_set, struct ws_attr *a)
{
	*a = (struct ws_attr){ .is_shown = true };
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
	struct fs_inode *i = dir_or_refuse(req, ino);
	struct ws_attr a;
	struct change *c;
	int r;

	(void)fi;
	if (!i)
		return;
	r = attr_from(fs_of(req), st, to_set, &a);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else if (!a.which) {
		op_getattr(req, ino, NULL);
	} else {
		c = change_new(req, CHANGE_SETATTR, i);
		c->attr = a;
		go(c);
	}
}

static void change_xattr(fuse_req_t req, fuse_ino_t ino, enum change_kind kind, const char *name, struct span value,
			 int flags)
{
	struct fs_inode *i;
	struct change *c;

	if (!xattr_is_user(span_str(name))) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	i = dir_or_refuse(req, ino);
	if (!i)
		return;
	c = change_new(req, kind, i);
	c->to_name = name;
	c->data = value;
	c->flags = (uint32_t)flags;
	go(c);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	change_xattr(req, ino, CHANGE_XATTR, name, SPAN(value, size), flags);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	change_xattr(req, ino, CHANGE_UNXATTR, name, SPAN_NULL, 0);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs_inode *dir = dir_or_refuse(req, parent);
	struct change *c;

	if (!dir || is_long(req, name))
		return;
	c = change_new(req, CHANGE_CREATE, dir);
	c->fi = *fi;
	c->parent = dir->fid;
	c->name = name;
	c->mode = S_IFREG | (mode & 07777);
	go(c);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs_inode *i = dir_or_refuse(req, ino);
	struct table_handle *h = fi ? table_handle(&fs_of(req)->table, fi->fh) : NULL;
	struct change *c;

	if (!i)
		return;
	c = change_new(req, CHANGE_WRITE, i);
	c->offset = (uint64_t)off;
	c->data = SPAN(data, size);
	/* Pages of a map go where they are, whoever has it open. */
	c->append = h && (h->flags & O_APPEND) && !fi->writepage;
	go(c);
}

/* Nothing is reserved in a workspace that does not run, but what can never be there is refused, as a write of it would
 * be. */
static int room_for(struct fs *fs, struct fs_inode *i, int mode, uint64_t end)
{
	struct statvfs st;
	struct node n;
	int r;

	if (mode & FALLOC_FL_PUNCH_HOLE || ws_link(i->ws))
		return 0;
	r = ws_getattr(i->ws, i->fid, &n);
	if (r == 0)
		r = fs_room(fs, i->ws, &st);
	if (r < 0)
		return r;
	return end > n.size && end - n.size > (uint64_t)st.f_bavail * st.f_frsize ? -EDQUOT : 0;
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len, struct fuse_file_info *fi)
{
	struct fs_inode *i = dir_or_refuse(req, ino);
	struct change *c;
	int r;

	(void)fi;
	if (!i)
		return;
	r = room_for(fs_of(req), i, mode, (uint64_t)offset + (uint64_t)len);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	c = change_new(req, CHANGE_ALLOC, i);
	c->flags = (uint32_t)mode;
	c->offset = (uint64_t)offset;
	c->len = (uint64_t)len;
	go(c);
}
