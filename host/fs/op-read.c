/* SPDX-License-Identifier: Apache-2.0 */
/* Names, attributes, contents: answered from the store on libfuse's thread. Only an open may be parked: its answer
 * comes from another thread when the content has arrived or the deadline passed. */
#include "host/fs/state.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void static_dir(struct fs *fs, fuse_ino_t ino, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = ino,
		/* Who is neither root nor in the group does not get in, whatever modes a guest gives its files. */
		.st_mode = S_IFDIR | (ino == FS_INO_ROOT ? 0750 : 0755),
		.st_nlink = 2,
		.st_uid = fs->conf.uid,
		.st_gid = fs->conf.gid,
	};
}

static void no_entry(fuse_req_t req)
{
	struct fuse_entry_param absent = { .ino = 0, .entry_timeout = FS_TTL };

	fuse_reply_entry(req, &absent);
}

static void reply_entry(fuse_req_t req, struct ws *ws, int r, const struct node *n)
{
	struct fuse_entry_param entry;

	if (r == -ENOENT) {
		no_entry(req);
	} else if (r < 0) {
		fuse_reply_err(req, -r);
	} else {
		r = entry_of_node(fs_of(req), ws, n, &entry);
		if (r < 0)
			fuse_reply_err(req, -r);
		else if (fuse_reply_entry(req, &entry) < 0)
			inode_forget(fs_of(req), entry.ino, 1);
	}
}

static void lookup_root(fuse_req_t req, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param entry = { .ino = FS_INO_BYNAME, .attr_timeout = FS_TTL, .entry_timeout = FS_TTL };
	struct ws *ws;
	struct node n;
	int r;

	if (str_eq(name, "by-name")) {
		static_dir(fs, FS_INO_BYNAME, &entry.attr);
		fuse_reply_entry(req, &entry);
		return;
	}
	ws = name[0] == '.' ? NULL : space_find(fs, name);
	r = ws ? ws_getattr(ws, ws_root(ws), &n) : -ENOENT;
	reply_entry(req, ws, r, &n);
	ws_unref(&ws);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_inode *dir = inode_of(fs_of(req), parent);
	struct node n;

	if (parent == FS_INO_ROOT)
		lookup_root(req, name);
	else if (is_stale(fs_of(req), parent))
		fuse_reply_err(req, ESTALE);
	else if (strlen(name) > PATH_NAME_MAX)
		fuse_reply_err(req, ENAMETOOLONG);
	else if (!dir)
		no_entry(req);
	else if (!past_lookup(req, dir, name))
		reply_entry(req, dir->ws, ws_lookup(dir->ws, dir->fid, span_str(name), &n), &n);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	inode_forget(fs_of(req), ino, n);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	size_t i;

	for (i = 0; i < count; i++)
		inode_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* What the kernel was shown of an inode when it still had a name. */
static void node_shown_last(const struct fs *fs, uint32_t slot, struct node *ret)
{
	const struct table_node *s = &fs->table.nodes[slot];

	*ret = (struct node){
		.fid = s->fid,
		.ino = s->ino,
		.rdev = s->rdev,
		.size = s->size,
		.blocks = s->blocks,
		.mtime_ns = s->mtime_ns,
		.ctime_ns = s->ctime_ns,
		.atime_ns = s->atime_ns,
		.mode = s->mode,
		.nlink = s->nlink,
	};
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fs_inode *i = inode_of(fs, ino);
	struct stat st;
	struct node n;
	int r;

	(void)fi;
	if (is_stale(fs, ino)) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	if (!i) {
		static_dir(fs, ino, &st);
		fuse_reply_attr(req, &st, FS_TTL);
		return;
	}
	r = 0;
	if (past_is(i->fid))
		past_node(i->ws, i->fid, &n);
	else
		r = ws_getattr(i->ws, i->fid, &n);
	if (r == -ENOENT) { /* no name any more, but the kernel still has it: open, or somebody's directory */
		lock_take(&fs->lock);
		node_shown_last(fs, i->slot, &n);
		lock_drop(&fs->lock);
		n.nlink = 0;
	} else if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	attr_of(fs, i->ws, &n, &st);
	fuse_reply_attr(req, &st, FS_TTL);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);
	AUTO(str_free) char *target = NULL;
	int r = i ? ws_readlink(i->ws, i->fid, &target) : -EINVAL;

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_readlink(req, target);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

struct opening {
	fuse_req_t req;
	struct fs_inode *inode; /* the kernel holds it for the request */
	struct fuse_file_info fi;
};

/* Somebody pressed ^C. libfuse holds the request's lock here, so the answer must come from another thread. */
static void interrupted(fuse_req_t req, void *ctx)
{
	struct opening *o = ctx;

	(void)req;
	ws_open_cancel(o->inode->ws, o);
}

static void handle_free(struct fs *fs, uint64_t fh)
{
	lock_take(&fs->lock);
	table_handle_free(&fs->table, fh);
	lock_drop(&fs->lock);
}

/* The table's contents are kept from the moment they are in it (fs_contents()). One that was read before that may have
 * been written anew and collected meanwhile. */
int fs_handle_new(struct fs *fs, struct fs_inode *i, uint64_t ino, struct fuse_file_info *fi, struct content *c)
{
	struct table_handle *h;
	struct node n;
	int r;

	for (;;) {
		lock_take(&fs->lock);
		fi->fh = table_handle_new(&fs->table, ino, fi->flags, c);
		h = table_handle(&fs->table, fi->fh);
		lock_drop(&fs->lock);
		if (!h)
			return -ENFILE;
		r = ws_is_kept(i->ws, c);
		if (r != -ESTALE)
			break;
		r = ws_getattr(i->ws, i->fid, &n);
		if (r == 0 && memcmp(&n.content, c, sizeof(n.content)) == 0)
			r = -EIO;
		if (r == 0 && content_is_elsewhere(&n.content))
			r = -ESTALE; /* the kernel opens once more, and that one waits for it */
		if (r == -ENOENT)
			r = -ESTALE;
		if (r < 0)
			break;
		handle_free(fs, fi->fh);
		*c = n.content;
	}
	if (r < 0)
		handle_free(fs, fi->fh);
	return r;
}

static bool is_gone(struct fs_inode *i)
{
	struct node n;

	return ws_getattr(i->ws, i->fid, &n) == -ENOENT;
}

static void opened(void *ctx, int result, const struct node *n)
{
	struct opening *o = ctx;
	struct fs *fs = fs_of(o->req);
	struct content c;

	fuse_req_interrupt_func(o->req, NULL, NULL); /* waits for a running interrupted() */
	if (result < 0)
		inode_closed(fs, o->inode);
	if (result < 0 && result != -EINTR && __atomic_load_n(&fs->is_paused, __ATOMIC_ACQUIRE)) {
		free(o); /* the next process is asked again */
		return;
	}
	/* The name has been given to another file, which the kernel finds when it hears this. */
	if (result == -ENOENT || (result == 0 && (o->fi.flags & O_ACCMODE) != O_RDONLY && is_gone(o->inode)))
		result = -ESTALE;
	if (result == 0) {
		c = n->content;
		result = fs_handle_new(fs, o->inode, table_node_id(&fs->table, o->inode->slot), &o->fi, &c);
		if (result < 0)
			inode_closed(fs, o->inode);
	}
	if (result < 0) {
		fuse_reply_err(o->req, -result);
		free(o);
		return;
	}
	/* A content is committed a moment before the kernel is told to drop the old one's pages: whoever opens in that
	 * moment must not be shown them. At any other time it must keep them: those of writes under way are among them.
	 */
	o->fi.keep_cache = !untold_is(fs, o->inode->ws, o->inode->fid);
	if (fuse_reply_open(o->req, &o->fi) < 0) {
		handle_free(fs, o->fi.fh);
		inode_closed(fs, o->inode);
	}
	free(o);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);
	struct opening *o;
	struct node n;
	int r;

	if (!i) {
		fuse_reply_err(req, is_stale(fs_of(req), ino) ? ESTALE : EISDIR);
		return;
	}
	if (ws_is_past(i->ws) && (fi->flags & O_ACCMODE) != O_RDONLY) {
		fuse_reply_err(req, EROFS);
		return;
	}
	o = NEW(struct opening);
	o->req = req;
	o->inode = i;
	o->fi = *fi;
	inode_opens(fs_of(req), i);
	if ((fi->flags & O_ACCMODE) == O_WRONLY) {
		r = ws_getattr(i->ws, i->fid, &n);
		opened(o, r, &n);
		return;
	}
	fuse_req_interrupt_func(req, interrupted, o);
	ws_open_content(i->ws, i->fid, clock_after_ms(fs_of(req)->conf.open_ms), opened, o);
}

static struct table_handle *handle_of(fuse_req_t req, struct fuse_file_info *fi)
{
	return fi ? table_handle(&fs_of(req)->table, fi->fh) : NULL;
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);

	handle_free(fs_of(req), fi->fh);
	if (i)
		inode_closed(fs_of(req), i);
	fuse_reply_err(req, 0);
}

/* What a read sees: the newest whole content, with all that was written from here, also while a newer one is on its
 * way: never the one that the file was opened with, which is older. Of a file that is gone, or whose content went
 * elsewhere, that one. */
static struct content content_now(struct fs_inode *i, const struct table_handle *h)
{
	struct node n;

	if (ws_getattr(i->ws, i->fid, &n) == 0 && (!content_is_elsewhere(&n.content) || !h))
		return n.content;
	return h ? h->content : (struct content){ .size = 0 };
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);
	AUTO(mem_free) char *bytes = malloc(size ? size : 1);
	struct content c;
	ssize_t n;

	if (!i || !bytes) {
		fuse_reply_err(req, i ? ENOMEM : EISDIR);
		return;
	}
	c = content_now(i, handle_of(req, fi));
	n = ws_read(i->ws, &c, (uint64_t)off, bytes, size);
	if (n == -EIO) { /* written anew and collected between the two lines */
		c = content_now(i, handle_of(req, fi));
		n = ws_read(i->ws, &c, (uint64_t)off, bytes, size);
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, bytes, (size_t)n);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);
	struct content c;
	uint64_t at;
	int r;

	if (!i || off < 0) {
		fuse_reply_err(req, i ? ENXIO : EISDIR);
		return;
	}
	c = content_now(i, handle_of(req, fi));
	if (whence == SEEK_DATA)
		r = ws_next_data(i->ws, &c, (uint64_t)off, &at);
	else if (whence == SEEK_HOLE)
		r = ws_next_hole(i->ws, &c, (uint64_t)off, &at);
	else
		r = -EINVAL;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_lseek(req, (off_t)at);
}

static void synced(void *ctx, int result, const struct node *n)
{
	(void)n;
	if (result < 0 && __atomic_load_n(&fs_of(ctx)->is_paused, __ATOMIC_ACQUIRE))
		return; /* the next process is asked again */
	fuse_reply_err(ctx, result < 0 ? -result : 0);
}

struct syncing {
	fuse_req_t req;
	struct ws *ws; /* a reference */
};

/* Its content is here; what was changed through the mount is durable only now. */
static void content_here(void *ctx, int result, const struct node *n)
{
	struct syncing *s = ctx;

	(void)n;
	if (result < 0)
		synced(s->req, result, NULL);
	else
		ws_settle(s->ws, synced, s->req);
	ws_unref(&s->ws);
	free(s);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);
	struct syncing *s;
	struct node n;

	(void)datasync;
	(void)fi;
	if (!i) {
		fuse_reply_err(req, EINVAL);
	} else if (ws_getattr(i->ws, i->fid, &n) == 0 && content_is_elsewhere(&n.content) &&
		   !(n.flags & NODE_PENDING)) {
		ws_settle(i->ws, synced, req); /* its bytes are kept inside, where they were written */
	} else {
		s = NEW(struct syncing);
		*s = (struct syncing){ .req = req, .ws = ws_ref(i->ws) };
		ws_open_content(i->ws, i->fid, clock_after_ms(fs_of(req)->conf.open_ms), content_here, s);
	}
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);

	(void)datasync;
	(void)fi;
	if (i)
		ws_settle(i->ws, synced, req);
	else
		fuse_reply_err(req, 0); /* the root of the mount */
}

/* --- statfs ------------------------------------------------------------------------------------------------------- */

static void statfs_told(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	const struct msg_FS_STATFS_IS *m = msg;
	struct statvfs st = { .f_namemax = 255 };

	(void)e;
	if (result < 0 || type != MSG_FS_STATFS_IS) {
		fuse_reply_err(ctx, result < 0 ? -result : EIO);
		return;
	}
	st.f_bsize = st.f_frsize = m->bsize;
	st.f_blocks = m->blocks;
	st.f_bfree = m->bfree;
	st.f_bavail = m->bavail;
	st.f_files = m->files;
	st.f_ffree = st.f_favail = m->ffree;
	fuse_reply_statfs(ctx, &st);
}

/* The disk of the store; of a workspace that does not run, what it may have and has not brought yet, as far as the disk
 * goes. The same as the API says. */
int fs_room(struct fs *fs, struct ws *ws, struct statvfs *ret)
{
	struct ws_usage u = { .entries = 0 };
	uint64_t left, disk;
	int r = statvfs(fs->statfs_dir, ret) < 0 ? -errno : 0;

	if (r == 0 && ws)
		r = ws_usage(ws, &u);
	if (r < 0 || !u.brought_max_b)
		return r;
	disk = (uint64_t)ret->f_bavail * ret->f_frsize;
	left = MIN(u.brought_max_b - MIN(u.charged_b, u.brought_max_b), disk);
	ret->f_bsize = ret->f_frsize = 4096;
	ret->f_blocks = u.brought_max_b / 4096;
	ret->f_bfree = ret->f_bavail = left / 4096;
	ret->f_files = u.entries_max;
	ret->f_ffree = ret->f_favail = u.entries_max - MIN(u.entries, u.entries_max);
	return 0;
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_inode *i = inode_of(fs_of(req), ino);
	struct link *link = i ? ws_link(i->ws) : NULL;
	struct msg_FS_STATFS m = { .call = 0 };
	struct statvfs st;
	int r;

	if (link) {
		link_call(link, MSG_FS_STATFS, &m, clock_after_ms(5000), statfs_told, req);
		return;
	}
	r = fs_room(fs_of(req), i ? i->ws : NULL, &st);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_statfs(req, &st);
}
