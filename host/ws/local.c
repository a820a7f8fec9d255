/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a stopped workspace: the store is the file system. Link counts, times and the rules of rename are kept
 * here as a kernel would. Inodes made here have identities with the highest bit set, which no agent's inode has a
 * reason to have; the workspace never goes live again, so they never meet.
 */
#include "base/clock.h"
#include "base/str.h"
#include "base/xattr.h"
#include "host/ws/op.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum { DEPTH_MAX = 2048 };

static int must(int r)
{
	return r == STORE_E_NONE ? -ENOENT : r;
}

void local_touch(struct ws_pass *p, uint64_t fid, int links)
{
	struct node n;

	if (node_get(p->txn, fid, &n) != 0)
		return;
	n.mtime_ns = n.ctime_ns = clock_wall();
	if (n.nlink > 1) /* 1: made from a tree, which does not tell how many directories are in one */
		n.nlink = (uint32_t)((int64_t)n.nlink + links);
	node_put(p->txn, &n);
	changes_add(&p->changes, 0, SPAN_NULL, fid, false, false);
}

static int dir_get(struct ws_pass *p, uint64_t fid, struct node *ret)
{
	int r = must(node_get(p->txn, fid, ret));

	if (r == 0 && !S_ISDIR(ret->mode))
		r = -ENOTDIR;
	return r == 0 ? pass_unpack(p, fid) : r;
}

static bool is_there(struct ws_pass *p, uint64_t parent, const char *name)
{
	uint64_t fid;

	return entry_get(p->txn, parent, span_str(name), &fid) == 0;
}

static int local_make(struct ws_pass *p, struct op *op)
{
	struct node dir, *n = &op->node;
	uint64_t fid, ino;
	int r = dir_get(p, op->parent, &dir);

	if (r == 0 && is_there(p, op->parent, op->name))
		r = -EEXIST;
	if (r == 0 && (S_ISBLK(op->mode) || S_ISCHR(op->mode)))
		r = -EPERM;
	if (r < 0)
		return r;
	fid = node_new_fid(p->txn, &ino);
	*n = (struct node){
		.fid = fid,
		.ino = ino,
		.mode = op->mode | (S_ISDIR(op->mode) ? dir.mode & S_ISGID : 0),
		.nlink = S_ISDIR(op->mode) ? 2 : 1,
		.uid = dir.uid,
		.gid = dir.gid,
		.size = op->target.len,
	};
	n->mtime_ns = n->ctime_ns = n->atime_ns = n->content_ctime_ns = clock_wall();
	node_put(p->txn, n);
	story_did(p, n->fid, STORY_NEW);
	if (S_ISLNK(op->mode))
		node_set_target(p->txn, n->fid, op->target);
	apply_entry(p, op->parent, span_str(op->name), n);
	local_touch(p, op->parent, S_ISDIR(op->mode) ? 1 : 0);
	op->has_node = true;
	return 0;
}

static int local_link(struct ws_pass *p, struct op *op)
{
	struct node dir;
	int r = dir_get(p, op->parent, &dir);

	if (r == 0)
		r = must(node_get(p->txn, op->fid, &op->node));
	if (r < 0)
		return r;
	if (S_ISDIR(op->node.mode))
		return -EPERM;
	if (is_there(p, op->parent, op->name))
		return -EEXIST;
	if (op->node.nlink >= WS_LINKS_MAX)
		return -EMLINK;
	op->node.ctime_ns = op->node.content_ctime_ns = clock_wall();
	node_put(p->txn, &op->node);
	changes_add(&p->changes, 0, SPAN_NULL, op->fid, false, false);
	apply_entry(p, op->parent, span_str(op->name), &op->node);
	local_touch(p, op->parent, 0);
	op->has_node = true;
	return 0;
}

/* A name is taken away from an inode: its link count follows, the last one drops it at the end of the pass. */
void local_unname(struct ws_pass *p, uint64_t parent, const char *name, struct node *n)
{
	apply_gone(p, parent, span_str(name));
	if (S_ISDIR(n->mode))
		return;
	n->nlink--;
	n->ctime_ns = n->content_ctime_ns = clock_wall();
	node_put(p->txn, n);
	changes_add(&p->changes, 0, SPAN_NULL, n->fid, false, false);
}

static bool is_empty(struct ws_pass *p, uint64_t fid)
{
	struct span name;
	uint64_t kid;

	return pass_unpack(p, fid) == 0 && entry_next(p->txn, fid, SPAN_NULL, &name, &kid) == STORE_E_NONE;
}

/* Everything below a directory, files with their other links respected. */
static int clear_tree(struct ws_pass *p, uint64_t fid)
{
	struct span name;
	struct node n;
	uint64_t kid;
	int r;

	while ((r = entry_next(p->txn, fid, SPAN_NULL, &name, &kid)) == 0) {
		AUTO(str_free) char *copy = span_dup(name);

		r = must(node_get(p->txn, kid, &n));
		if (r < 0)
			return r;
		if (S_ISDIR(n.mode) && !is_empty(p, kid)) {
			fid = kid; /* down; come back from the top when it is empty */
			continue;
		}
		local_unname(p, fid, copy, &n);
	}
	return MIN(r, 0);
}

static int local_remove(struct ws_pass *p, struct op *op)
{
	struct node n;
	uint64_t fid;
	int r = dir_get(p, op->parent, &n);

	if (r == 0)
		r = must(entry_get(p->txn, op->parent, span_str(op->name), &fid));
	if (r == 0)
		r = must(node_get(p->txn, fid, &n));
	if (r < 0)
		return r;
	if (S_ISDIR(n.mode) && op->flags == 0)
		return -EISDIR;
	if (!S_ISDIR(n.mode) && op->flags == WIRE_FS_DIR)
		return -ENOTDIR;
	while (S_ISDIR(n.mode) && op->flags == WIRE_FS_TREE && !is_empty(p, fid)) {
		r = clear_tree(p, fid);
		if (r < 0)
			return r;
	}
	if (S_ISDIR(n.mode) && !is_empty(p, fid))
		return -ENOTEMPTY;
	local_unname(p, op->parent, op->name, &n);
	local_touch(p, op->parent, S_ISDIR(n.mode) ? -1 : 0);
	return 0;
}

static bool is_below(struct ws_pass *p, uint64_t dir, uint64_t at)
{
	struct span name;
	int depth;

	for (depth = 0; depth < DEPTH_MAX; depth++) {
		if (at == dir)
			return true;
		if (entry_of(p->txn, at, 0, SPAN_NULL, &at, &name) != 0)
			return false;
	}
	return true;
}

static int replace_target(struct ws_pass *p, struct op *op, const struct node *n, uint64_t other)
{
	struct node o;
	int r = must(node_get(p->txn, other, &o));

	if (r < 0)
		return r;
	if (op->flags & 1)
		return -EEXIST;
	if (S_ISDIR(o.mode) && !S_ISDIR(n->mode))
		return -EISDIR;
	if (!S_ISDIR(o.mode) && S_ISDIR(n->mode))
		return -ENOTDIR;
	if (S_ISDIR(o.mode) && !is_empty(p, other))
		return -ENOTEMPTY;
	local_unname(p, op->to_parent, op->to_name, &o);
	story_replaced(p);
	if (S_ISDIR(o.mode))
		local_touch(p, op->to_parent, -1);
	return 0;
}

static int exchange(struct ws_pass *p, struct op *op, const struct node *n, uint64_t other)
{
	struct node o;
	int r = must(node_get(p->txn, other, &o));
	int a = S_ISDIR(n->mode), b;

	if (r < 0)
		return r;
	b = S_ISDIR(o.mode);
	if (b && is_below(p, o.fid, op->parent))
		return -EINVAL;
	story_lost(p, op->parent, span_str(op->name), n->fid, false);
	story_lost(p, op->to_parent, span_str(op->to_name), o.fid, false);
	entry_del(p->txn, op->parent, span_str(op->name));
	entry_del(p->txn, op->to_parent, span_str(op->to_name));
	entry_put(p->txn, op->parent, span_str(op->name), o.fid);
	entry_put(p->txn, op->to_parent, span_str(op->to_name), n->fid);
	story_got(p, op->parent, span_str(op->name), &o);
	story_got(p, op->to_parent, span_str(op->to_name), n);
	changes_add(&p->changes, op->parent, span_str(op->name), o.fid, true, false);
	changes_add(&p->changes, op->to_parent, span_str(op->to_name), n->fid, true, false);
	local_touch(p, op->parent, b - a);
	local_touch(p, op->to_parent, a - b);
	return 0;
}

static int local_rename(struct ws_pass *p, struct op *op)
{
	struct node dir, *n = &op->node;
	uint64_t fid, other;
	int r = dir_get(p, op->parent, &dir);

	if (r == 0)
		r = must(entry_get(p->txn, op->parent, span_str(op->name), &fid));
	if (r == 0)
		r = dir_get(p, op->to_parent, &dir);
	if (r == 0)
		r = must(node_get(p->txn, fid, n));
	if (r < 0)
		return r;
	if (S_ISDIR(n->mode) && is_below(p, fid, op->to_parent))
		return -EINVAL;
	r = entry_get(p->txn, op->to_parent, span_str(op->to_name), &other);
	op->has_node = true;
	if (op->flags & 2)
		return r == 0 ? exchange(p, op, n, other) : -ENOENT;
	if (r == 0 && other == fid)
		return op->flags & 1 ? -EEXIST : 0;
	if (r == 0) {
		r = replace_target(p, op, n, other);
		if (r < 0)
			return r;
	}
	story_lost(p, op->parent, span_str(op->name), fid, false);
	entry_del(p->txn, op->parent, span_str(op->name));
	entry_put(p->txn, op->to_parent, span_str(op->to_name), fid);
	story_got(p, op->to_parent, span_str(op->to_name), n);
	changes_add(&p->changes, op->parent, span_str(op->name), 0, true, false);
	changes_add(&p->changes, op->to_parent, span_str(op->to_name), fid, true, false);
	n->ctime_ns = n->content_ctime_ns = clock_wall();
	node_put(p->txn, n);
	local_touch(p, op->parent, S_ISDIR(n->mode) ? -1 : 0);
	local_touch(p, op->to_parent, S_ISDIR(n->mode) ? 1 : 0);
	return 0;
}

/* Blocks of a range that are data and no hole. */
static uint64_t blocks_in(struct ws_pass *p, const struct content *c, uint64_t from, uint64_t to)
{
	struct store *store = p->ws->conf.store;
	uint64_t at = from, hole, sum = 0;

	while (at < to && content_next_data(store, c, at, &at) == 0 && at < to) {
		if (content_next_hole(store, c, at, &hole) != 0)
			break;
		sum += MIN(hole, to) - at;
		at = hole;
	}
	return (sum + 511) / 512;
}

/* It has a new content; in what was changed were so many blocks of data, and are so many now. */
static void rewritten(struct ws_pass *p, struct node *n, uint64_t before, uint64_t now)
{
	n->size = n->content.size;
	n->blocks = MIN(MAX(n->blocks, before) - before + now, (n->size + 511) / 512);
	n->flags &= ~(uint32_t)NODE_PENDING;
	n->content_ship = 0;
	n->mtime_ns = n->ctime_ns = n->content_ctime_ns = clock_wall();
	changes_add(&p->changes, 0, SPAN_NULL, n->fid, false, !p->is_shown);
}

/* New bytes or a new size, as a new content value. */
static int rewrite(struct ws_pass *p, struct node *n, uint64_t offset, struct span data, uint64_t size)
{
	struct content_writer *w = content_writer_new(p->ws->conf.store, &n->content);
	uint64_t from = data.len ? offset : MIN(size, n->size), to = data.len ? offset + data.len : n->size;
	uint64_t before = blocks_in(p, &n->content, from, to);
	int r = data.len ? content_write(w, offset, data) : 0;

	if (r == 0 && !data.len)
		r = content_resize(w, size);
	if (r == 0)
		r = content_finish(w, &n->content);
	if (r == 0)
		r = ship_charge(p, w);
	content_writer_free(&w);
	if (r == 0)
		r = pass_settle(p, NULL);
	if (r < 0)
		return r;
	rewritten(p, n, before, blocks_in(p, &n->content, from, to));
	return 0;
}

static int local_write(struct ws_pass *p, struct op *op)
{
	struct node *n = &op->node;
	int r = must(node_get(p->txn, op->fid, n));

	if (r == 0 && !S_ISREG(n->mode))
		r = -EINVAL;
	if (r == 0 && op->append && op->offset != n->content.size)
		p->is_shown = false; /* it has them in another place */
	if (r == 0)
		r = rewrite(p, n, op->append ? n->content.size : op->offset, op->data, n->size);
	if (r == 0) {
		story_did(p, n->fid, STORY_WRITTEN);
		node_put(p->txn, n);
	}
	op->has_node = true;
	return r;
}

/* Nothing is reserved: the store has no place that a file could own. */
static int local_allocate(struct ws_pass *p, struct op *op)
{
	struct node *n = &op->node;
	uint64_t end = op->offset + op->len, size, before;
	int r = must(node_get(p->txn, op->fid, n));

	if (r == 0 && !S_ISREG(n->mode))
		r = -ENODEV;
	if (r == 0 && end > INT64_MAX)
		r = -EFBIG;
	if (r < 0)
		return r;
	size = op->flags & FALLOC_FL_KEEP_SIZE ? n->content.size : MAX(n->content.size, end);
	before = blocks_in(p, &n->content, op->offset, end);
	r = op_allocate(p, op, &n->content, size);
	if (r < 0)
		return r;
	rewritten(p, n, before, blocks_in(p, &n->content, op->offset, end));
	story_did(p, n->fid, STORY_WRITTEN);
	node_put(p->txn, n);
	op->has_node = true;
	return 0;
}

static int local_setattr(struct ws_pass *p, struct op *op)
{
	const struct ws_attr *a = &op->attr;
	struct node *n = &op->node;
	int r = must(node_get(p->txn, op->fid, n));

	if (r < 0)
		return r;
	if (a->which & WIRE_ATTR_SIZE) {
		r = !S_ISREG(n->mode) ? -EINVAL : rewrite(p, n, 0, SPAN_NULL, a->size);
		if (r < 0)
			return r;
	}
	if (a->which & WIRE_ATTR_MODE)
		n->mode = (n->mode & S_IFMT) | (a->mode & 07777);
	if (a->which & WIRE_ATTR_UID)
		n->uid = a->uid;
	if (a->which & WIRE_ATTR_GID)
		n->gid = a->gid;
	n->ctime_ns = n->content_ctime_ns = clock_wall();
	if (a->which & (WIRE_ATTR_MTIME | WIRE_ATTR_MTIME_NOW))
		n->mtime_ns = a->which & WIRE_ATTR_MTIME_NOW ? n->ctime_ns : a->mtime_ns;
	if (a->which & (WIRE_ATTR_ATIME | WIRE_ATTR_ATIME_NOW))
		n->atime_ns = a->which & WIRE_ATTR_ATIME_NOW ? n->ctime_ns : a->atime_ns;
	if (n->flags & NODE_PENDING)
		n->size = n->content.size; /* as it is read */
	node_put(p->txn, n);
	if (a->which & WIRE_ATTR_SIZE)
		story_did(p, n->fid, STORY_WRITTEN);
	if (a->which & ~(unsigned)(WIRE_ATTR_SIZE | WIRE_ATTR_ATIME | WIRE_ATTR_ATIME_NOW))
		story_did(p, n->fid, STORY_CHMOD);
	changes_add(&p->changes, 0, SPAN_NULL, n->fid, false, false);
	op->has_node = true;
	return 0;
}

static int local_xattr(struct ws_pass *p, struct op *op)
{
	struct node *n = &op->node;
	struct span has = SPAN_NULL;
	AUTO(buf_fini) struct buf now;
	int flags = (op->flags & WIRE_XATTR_CREATE ? XATTR_CREATE : 0) |
		    (op->flags & WIRE_XATTR_REPLACE ? XATTR_REPLACE : 0);
	int r = must(node_get(p->txn, op->fid, n));

	buf_init(&now, XATTRS_MAX);
	if (r == 0 && !S_ISREG(n->mode) && !S_ISDIR(n->mode))
		r = -EPERM;
	if (r == 0 && (n->flags & NODE_XATTRS))
		r = node_xattrs(p->txn, n->fid, &has);
	if (r == 0)
		r = xattrs_with(has, span_str(op->xattr), op->is_gone ? NULL : &op->data, flags, &now);
	if (r)
		return r < 0 ? r : -EIO;
	n->ctime_ns = clock_wall();
	if (!(n->flags & NODE_PENDING))
		n->content_ctime_ns = n->ctime_ns;
	node_set_xattrs(p->txn, n, buf_span(&now));
	story_did(p, n->fid, STORY_CHMOD);
	changes_add(&p->changes, 0, SPAN_NULL, n->fid, false, false);
	op->has_node = true;
	return 0;
}

int op_local(struct ws_pass *p, struct op *op)
{
	static int (*const table[])(struct ws_pass *, struct op *) = {
		[OP_MAKE] = local_make,	    [OP_LINK] = local_link,	  [OP_REMOVE] = local_remove,
		[OP_RENAME] = local_rename, [OP_SETATTR] = local_setattr, [OP_WRITE] = local_write,
		[OP_XATTR] = local_xattr,   [OP_ALLOC] = local_allocate,  [OP_RESTORE] = local_restore,
		[OP_GRAFT] = local_graft,
	};

	return table[op->kind](p, op);
}
