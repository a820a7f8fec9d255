/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes from the host. Live: the request goes to the agent by path (names of the store at this moment; the agent
 * resolves them below its root without following links), its answer is applied on the strand exactly like a change that
 * it told, committed, and only then is the asker answered. What the agent tells about the same change later finds
 * nothing different. A write of a file whose content is whole here is laid over that content at once, so that it can be
 * read back without waiting; the agent ships the file all the same, and its version wins.
 *
 * Stopped: local.c does it in the store. Paused: refused, nobody could perform it and the guest would not know.
 */
#include "host/ws/op.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static void op_free(struct op *op)
{
	str_free(&op->name);
	str_free(&op->to_name);
	str_free(&op->path);
	str_free(&op->words);
	str_free(&op->xattr);
	mem_free(&op->told.xattrs.p);
	mem_free(&op->dirs[0].xattrs.p);
	mem_free(&op->dirs[1].xattrs.p);
	mem_free(&op->target.p);
	mem_free(&op->data.p);
	ws_unref(&op->ws);
	free(op);
}

/* Give the answer. The workspace's reference goes last and not on one of its own strands. */
static void op_release(void *ctx)
{
	op_free(ctx);
}

void op_answer(struct op *op)
{
	op->fn(op->ctx, op->result, op->result == 0 && op->has_node ? &op->node : NULL);
	if (ws_unref_more(&op->ws))
		op_free(op);
	else
		pool_run(op->ws->conf.work, op_release, op);
}

/* --- live: what the agent did becomes records --------------------------------------------------------------------- */

/* What was laid over the old content is the inode's, unless @r says that it failed. Frees the writer. */
static int overlay_end(struct ws_pass *p, struct content_writer **w, int r, struct node *n)
{
	if (r == 0)
		r = content_finish(*w, &n->content);
	if (r == 0)
		r = ship_charge(p, *w);
	content_writer_free(w);
	if (r < 0)
		return r;
	n->flags &= ~(uint32_t)NODE_PENDING;
	n->content_ctime_ns = n->ctime_ns;
	n->content_ship = 0;
	return pass_settle(p, NULL);
}

/* Nothing to lay anything over. */
static bool no_bytes(const struct node *old)
{
	return (old->flags & NODE_PENDING) || content_is_elsewhere(&old->content);
}

static int overlay_write(struct ws_pass *p, struct op *op, const struct node *old, struct node *n)
{
	struct content_writer *w;
	uint64_t at = op->append ? n->size - op->data.len : op->offset;
	int r;

	if (no_bytes(old) || n->size < op->data.len || at + op->data.len > n->size ||
	    (op->append && old->size != at))
		return 0;
	w = content_writer_new(p->ws->conf.store, &old->content);
	r = content_write(w, at, op->data);
	if (r == 0)
		r = content_resize(w, n->size);
	return overlay_end(p, &w, r, n);
}

int op_allocate(struct ws_pass *p, const struct op *op, struct content *c, uint64_t size)
{
	struct content_writer *w = content_writer_new(p->ws->conf.store, c);
	bool zero = op->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	int r = content_resize(w, size);

	if (r == 0 && zero && op->offset < size)
		r = content_hole(w, op->offset, MIN(op->len, size - op->offset));
	if (r == 0)
		r = content_finish(w, c);
	if (r == 0)
		r = ship_charge(p, w);
	content_writer_free(&w);
	return r < 0 ? r : pass_settle(p, NULL);
}

static int overlay_alloc(struct ws_pass *p, struct op *op, const struct node *old, struct node *n)
{
	int r;

	if (no_bytes(old))
		return 0;
	r = op_allocate(p, op, &n->content, n->size);
	if (r < 0)
		return r;
	n->flags &= ~(uint32_t)NODE_PENDING;
	n->content_ctime_ns = n->ctime_ns;
	n->content_ship = 0;
	return 0;
}

/* The same for a new size: what is behind it is gone at once, not when the agent has shipped the file. */
static int overlay_size(struct ws_pass *p, const struct node *old, struct node *n)
{
	struct content_writer *w;
	int r;

	if (no_bytes(old))
		return 0;
	w = content_writer_new(p->ws->conf.store, &old->content);
	r = content_resize(w, n->size);
	return overlay_end(p, &w, r, n);
}

/* An answer that cannot be true: nothing of it is applied. */
static int lie(int r)
{
	return r == STORE_E_NONE || r == -EBADMSG ? -EPROTO : r;
}

/* What was appended elsewhere than the asker thinks is in a wrong place there. @size: of the file behind it. */
static bool is_shown(const struct ws_pass *p, const struct op *op, uint64_t size)
{
	return p->is_shown && !(op->append && op->offset + op->data.len != size);
}

static int live_attr(struct ws_pass *p, struct op *op)
{
	struct node old, n;
	int r = node_get(p->txn, op->told.fid, &old);
	bool data;

	if (r != 0)
		return r < 0 ? r : -ENOENT;
	if ((old.mode & S_IFMT) != (op->told.mode & S_IFMT) || !xattrs_ok(op->told.xattrs))
		return -EPROTO;
	n = old;
	n.flags &= ~(uint32_t)NODE_PENDING;
	node_from_msg(&op->told, &n);
	n.nlink = S_ISDIR(n.mode) ? n.nlink : old.nlink;
	if (S_ISREG(n.mode) && n.size == 0) {
		n.content = (struct content){ .size = 0 };
		n.content_ctime_ns = n.ctime_ns;
		n.content_ship = 0; /* no difference may be laid over it */
	} else if (S_ISREG(n.mode) && content_is_elsewhere(&old.content) && !(old.flags & NODE_PENDING)) {
		n.content = content_elsewhere(n.size);
		n.content_ctime_ns = n.ctime_ns;
	} else if (S_ISREG(n.mode) && (op->kind == OP_WRITE || op->kind == OP_ALLOC || n.size != old.size)) {
		n.flags |= NODE_PENDING;
		if (op->kind == OP_WRITE)
			r = overlay_write(p, op, &old, &n);
		else if (op->kind == OP_ALLOC)
			r = overlay_alloc(p, op, &old, &n);
		else if (op->kind == OP_SETATTR && n.size == op->attr.size)
			r = overlay_size(p, &old, &n);
	} else if (S_ISREG(n.mode)) {
		n.flags |= old.flags & NODE_PENDING;
		if (!(n.flags & NODE_PENDING))
			n.content_ctime_ns = n.ctime_ns;
	}
	if (r == 0) {
		story_attr(p, &old, &n, op->kind == OP_WRITE || op->kind == OP_ALLOC);
		if (op->kind == OP_WRITE || op->kind == OP_ALLOC)
			story_did(p, n.fid, STORY_WRITTEN);
		node_put(p->txn, &n);
		apply_xattrs(p, &n, op->told.xattrs);
		/* The mount hears of its attributes with the answer; it does not when others ask. */
		data = !content_eq(&old.content, &n.content) && !is_shown(p, op, n.size);
		if (data || !op->is_own)
			changes_add(&p->changes, 0, SPAN_NULL, n.fid, false, data);
	}
	op->node = n;
	return r;
}

static int live_make(struct ws_pass *p, struct op *op)
{
	int r = apply_may_hold(p, op->parent, op->told.fid, (uint32_t)op->told.mode, NULL);

	op->told.target = op->target;
	if (r == 0)
		r = apply_node(p, &op->told, APPLY_WRITTEN, &op->node, NULL);
	if (r == 0)
		apply_entry(p, op->parent, span_str(op->name), &op->node);
	return lie(r);
}

static int live_link(struct ws_pass *p, struct op *op)
{
	int r = apply_may_hold(p, op->parent, op->told.fid, (uint32_t)op->told.mode, NULL);

	if (r != 0 || S_ISDIR(op->told.mode))
		return r < 0 && r != -EBADMSG ? r : -EPROTO;
	r = live_attr(p, op);
	if (r == 0)
		apply_entry(p, op->parent, span_str(op->name), &op->node);
	return r;
}

static int live_rename(struct ws_pass *p, struct op *op)
{
	struct node a, b;
	uint64_t fid, other;
	int r = entry_get(p->txn, op->parent, span_str(op->name), &fid);

	if (r != 0 || node_get(p->txn, fid, &a) != 0)
		return 0; /* its own story told it already */
	op->node = a;
	r = apply_may_hold(p, op->to_parent, fid, a.mode, NULL);
	if (r != 0)
		return lie(r);
	if (op->flags & 2) {
		if (entry_get(p->txn, op->to_parent, span_str(op->to_name), &other) != 0 ||
		    node_get(p->txn, other, &b) != 0)
			return 0;
		r = apply_may_hold(p, op->parent, other, b.mode, NULL);
		if (r != 0)
			return lie(r);
		apply_gone(p, op->parent, span_str(op->name));
		apply_gone(p, op->to_parent, span_str(op->to_name));
		apply_entry(p, op->parent, span_str(op->name), &b);
		apply_entry(p, op->to_parent, span_str(op->to_name), &a);
		return 0;
	}
	apply_gone(p, op->parent, span_str(op->name));
	apply_entry(p, op->to_parent, span_str(op->to_name), &a);
	return 0;
}

/* What a directory shows of a change of its names; what the agent tells of it later may have been here already. */
static int live_dirs(struct ws_pass *p, struct op *op)
{
	struct node dir;
	unsigned i;
	int r = 0;

	for (i = 0; r == 0 && i < op->n_dirs; i++)
		if (S_ISDIR(op->dirs[i].mode) && node_get(p->txn, op->dirs[i].fid, &dir) == 0 &&
		    dir.ctime_ns < op->dirs[i].ctime_ns)
			r = lie(apply_node(p, &op->dirs[i], 0, &dir, NULL));
	return r;
}

/* The agent went by the path that the directory had when it was asked. When somebody inside moved it meanwhile, the
 * name was made or taken away in another directory: the agent tells of it by itself, and the asker has to look again.
 */
static bool was_moved(const struct op *op)
{
	uint64_t to = op->kind == OP_RENAME ? op->to_parent : op->parent;

	if (op->kind != OP_MAKE && op->kind != OP_LINK && op->kind != OP_REMOVE && op->kind != OP_RENAME)
		return false;
	return (op->n_dirs > 0 && op->dirs[0].fid != to) ||
	       (op->kind == OP_RENAME && op->n_dirs > 1 && op->dirs[1].fid != op->parent);
}

/* An answer for another inode than was asked about: an agent of before looked once more at a path that had been given
 * to another file. What was done is told by itself; to lay it over that one would be wrong for good. */
static bool is_another(const struct op *op)
{
	return (op->kind == OP_SETATTR || op->kind == OP_WRITE || op->kind == OP_ALLOC || op->kind == OP_XATTR) &&
	       op->has_node && op->told.fid != op->fid;
}

static int op_live(struct ws_pass *p, struct op *op)
{
	if (was_moved(op) || is_another(op))
		return -ESTALE;
	switch (op->kind) {
	case OP_MAKE:
		return live_make(p, op);
	case OP_LINK:
		return live_link(p, op);
	case OP_REMOVE:
		apply_gone(p, op->parent, span_str(op->name));
		return 0;
	case OP_RENAME:
		return live_rename(p, op);
	case OP_SETATTR:
	case OP_WRITE:
	case OP_ALLOC:
		return live_attr(p, op);
	case OP_XATTR:
		return op->has_node ? live_attr(p, op) : 0; /* an old agent has no more to say */
	case OP_RESTORE:
	case OP_GRAFT:
		break;
	}
	return -EINVAL;
}

static void op_told(void *ctx)
{
	op_answer(ctx);
}

/* On the strand: one operation, one transaction. */
static void op_run(void *ctx)
{
	struct op *op = ctx;
	struct ws_pass p = { .ws = op->ws, .by = JOURNAL_BY_HOST };
	int r = op->result;
	bool when_told;
	size_t told = 0;

	p.is_shown = op->is_shown;
	p.is_soon = op->is_own;
	if (op->is_own)
		__atomic_store_n(&op->ws->late.host_at, clock_now(), __ATOMIC_RELAXED);
	quota_begin(op->ws);
	if (r == 0)
		r = txn_write(op->ws->db, &p.txn, NULL);
	if (r == 0)
		r = op->live ? op_live(&p, op) : op_local(&p, op);
	if (r == 0 && op->live)
		r = live_dirs(&p, op);
	if (r == 0) {
		apply_orphans(&p);
		r = apply_count(&p, NULL);
	}
	if (r == 0) {
		story_tell(&p);
		told = known_part(&p, op);
		ws_announce(op->ws, p.changes.v, told);
		r = pass_commit(&p, NULL);
		if (r < 0)
			ws_retract(op->ws, p.changes.v, told);
		known_drop(&p.changes, told);
	}
	txn_abort(&p.txn);
	story_free(&p);
	op->result = r;
	if (r == 0)
		follow_publish(op->ws->conf.watchers, op->ws->id);
	/* Whoever asked looks at the mount when it is answered; but for the mount itself: the kernel knows what it
	 * asked for, and would wait for us here. */
	when_told = r == 0 && !op->is_own;
	if (r == 0 && (told || when_told))
		ws_tell(op->ws, &p.changes, when_told ? op_told : NULL, op);
	changes_free(&p.changes);
	vec_fini(&p.orphans);
	vec_fini(&p.fetch);
	if (!when_told)
		op_answer(op);
}

static void told_of(struct msg_NODE *told)
{
	told->target = SPAN_NULL;
	told->xattrs = SPAN(must_memdup(told->xattrs.p, told->xattrs.len), told->xattrs.len);
}

static void take_dirs(struct op *op, struct span list)
{
	while (op->n_dirs < ARRAY_LEN(op->dirs) && msg_rec_next(&list, MSG_NODE, &op->dirs[op->n_dirs]))
		told_of(&op->dirs[op->n_dirs++]);
}

static void op_reply(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct op *op = ctx;

	(void)e;
	op->result = result;
	if (result == 0 && type == MSG_FS_NODE) {
		const struct msg_FS_NODE *m = msg;
		struct span list = m->node;

		op->has_node = msg_rec_next(&list, MSG_NODE, &op->told) && op->told.fid;
		if (op->has_node)
			told_of(&op->told);
		take_dirs(op, m->dirs);
	} else if (result == 0 && type == MSG_OK) {
		take_dirs(op, ((const struct msg_OK *)msg)->dirs);
	}
	if (result == 0 && !op->has_node && op->kind != OP_REMOVE && op->kind != OP_XATTR)
		op->result = -EPROTO;
	if (!op_retry(op))
		ws_run_behind(op->ws, op_run, op);
}

/* --- asking the agent --------------------------------------------------------------------------------------------- */

static int path_of(struct txn *t, uint64_t fid, const char *name, char **ret)
{
	AUTO(str_free) char *dir = NULL;
	int r = node_path(t, fid, &dir);

	if (r != 0)
		return r < 0 ? r : -ENOENT;
	*ret = name ? path_join(dir, name) : take(&dir);
	return strlen(*ret) > PATH_LEN_MAX ? -ENAMETOOLONG : 0;
}

static void send_make(struct op *op, struct link *link, struct span path, const struct node *dir)
{
	struct msg_FS_MAKE m = {
		.path = path,
		.mode = op->mode | (S_ISDIR(op->mode) ? dir->mode & S_ISGID : 0), /* as a kernel does */
		.uid = dir->uid,
		.gid = dir->gid,
		.target = op->target,
	};

	link_call_now(link, MSG_FS_MAKE, &m, clock_after_ms(WS_OP_MS), op_reply, op);
}

static void send_attr(struct op *op, struct link *link, struct span path)
{
	struct msg_FS_ATTR m = {
		.path = path,
		.fid = op->fid,
		.which = op->attr.which,
		.mode = op->attr.mode & 07777,
		.uid = op->attr.uid,
		.gid = op->attr.gid,
		.size = op->attr.size,
		.mtime_ns = op->attr.mtime_ns,
		.atime_ns = op->attr.atime_ns,
	};

	link_call_now(link, MSG_FS_ATTR, &m, clock_after_ms(WS_OP_MS), op_reply, op);
}

static void send_xattr(struct op *op, struct link *link, struct span path)
{
	struct msg_FS_XATTR_SET set = { .path = path, .name = span_str(op->xattr), .value = op->data, .fid = op->fid };
	struct msg_FS_XATTR_REMOVE gone = { .path = path, .name = span_str(op->xattr), .fid = op->fid };

	set.flags = op->flags | WIRE_XATTR_NODE;
	gone.flags = WIRE_XATTR_NODE;
	if (op->is_gone)
		link_call_now(link, MSG_FS_XATTR_REMOVE, &gone, clock_after_ms(WS_OP_MS), op_reply, op);
	else
		link_call_now(link, MSG_FS_XATTR_SET, &set, clock_after_ms(WS_OP_MS), op_reply, op);
}

static int op_ask(struct op *op, struct link *link)
{
	AUTO(txn_abort) struct txn *t = NULL;
	AUTO(str_free) char *path = NULL;
	AUTO(str_free) char *other = NULL;
	uint64_t until = clock_after_ms(WS_OP_MS);
	struct node dir = { .fid = 0 };
	int r = txn_read(op->ws->db, &t, NULL);

	if (r == 0)
		r = path_of(t, op->name ? op->parent : op->fid, op->name, &path);
	if (r == 0 && op->kind == OP_LINK)
		r = path_of(t, op->fid, NULL, &other);
	if (r == 0 && op->kind == OP_RENAME)
		r = path_of(t, op->to_parent, op->to_name, &other);
	if (r == 0 && op->kind == OP_MAKE)
		r = node_get(t, op->parent, &dir) == 0 ? 0 : -ENOENT;
	if (r == 0)
		r = kept_allow(op, t, path, other);
	if (r < 0)
		return r;
	txn_abort(&t);
	if (op->kind == OP_MAKE) {
		send_make(op, link, span_str(path), &dir);
	} else if (op->kind == OP_SETATTR) {
		send_attr(op, link, span_str(path));
	} else if (op->kind == OP_XATTR) {
		send_xattr(op, link, span_str(path));
	} else if (op->kind == OP_ALLOC) {
		struct msg_FS_ALLOC m = { .path = span_str(path), .mode = op->flags, .fid = op->fid };

		m.offset = op->offset;
		m.len = op->len;
		link_call_now(link, MSG_FS_ALLOC, &m, until, op_reply, op);
	} else if (op->kind == OP_LINK) {
		struct msg_FS_LINK m = { .from = span_str(other), .to = span_str(path) };

		link_call_now(link, MSG_FS_LINK, &m, until, op_reply, op);
	} else if (op->kind == OP_REMOVE) {
		struct msg_FS_REMOVE m = { .path = span_str(path), .flags = op->flags };

		link_call_now(link, MSG_FS_REMOVE, &m, until, op_reply, op);
	} else if (op->kind == OP_RENAME) {
		struct msg_FS_RENAME m = { .from = span_str(path), .to = span_str(other), .flags = op->flags };

		link_call_now(link, MSG_FS_RENAME, &m, until, op_reply, op);
	} else {
		struct msg_FS_WRITE m = { .path = span_str(path),
					  .flags = op->append ? WIRE_FS_APPEND : 0,
					  .data = op->data };

		m.offset = op->offset;
		m.fid = op->fid;
		link_call_now(link, MSG_FS_WRITE, &m, until, op_reply, op);
	}
	return 0;
}

void op_start(struct op *op)
{
	struct ws *ws = op->ws;
	struct link *link;
	int r;

	lock_take(&ws->lock);
	r = ws->is_past ? -EROFS : ws->mode == WS_PAUSED ? -EBUSY : 0;
	/* A restore is what the others are refused for. */
	if (r == 0 && ((ws->is_refusing && op->kind != OP_RESTORE) ||
		       ((op->kind == OP_RESTORE || op->kind == OP_GRAFT) && ws->mode == WS_LIVE)))
		r = -EBUSY;
	link = ws->mode == WS_LIVE ? ws->link : NULL;
	lock_drop(&ws->lock);

	if ((op->name && !path_name_ok(span_str(op->name))) || (op->to_name && !path_name_ok(span_str(op->to_name))))
		r = -EINVAL;
	if (r == 0 && link) {
		op->live = true;
		r = op_ask(op, link);
		if (r == 0)
			return;
		if (r == -ENOENT && !op->name && held_is(ws, op->fid)) {
			op->live = false;
			r = 0;
		}
	}
	op->result = r;
	if (r < 0)
		op_answer(op);
	else if (!op->is_own || !strand_try(ws->work, op_run, op))
		strand_run(ws->work, op_run, op);
}

static struct op *op_new(struct ws *ws, enum op_kind kind, ws_done_fn *fn, void *ctx)
{
	struct op *op = NEW(struct op);

	op->kind = kind;
	op->ws = ws_ref(ws);
	op->fn = fn;
	op->ctx = ctx;
	op->is_own = fn != ws_wait_done;
	return op;
}

void ws_make(struct ws *ws, uint64_t parent, struct span name, uint32_t mode, struct span target, ws_done_fn *fn,
	     void *ctx)
{
	struct op *op = op_new(ws, OP_MAKE, fn, ctx);

	op->parent = parent;
	op->name = span_dup(name);
	op->mode = mode;
	op->target = SPAN(must_memdup(target.p, target.len), target.len);
	op_start(op);
}

void ws_link_node(struct ws *ws, uint64_t fid, uint64_t parent, struct span name, ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_LINK, fn, ctx);

	op->fid = fid;
	op->parent = parent;
	op->name = span_dup(name);
	op_start(op);
}

void ws_remove(struct ws *ws, uint64_t parent, struct span name, unsigned flags, ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_REMOVE, fn, ctx);

	op->parent = parent;
	op->name = span_dup(name);
	op->flags = flags;
	op_start(op);
}

void ws_rename(struct ws *ws, uint64_t parent, struct span name, uint64_t to_parent, struct span to_name,
	       unsigned flags, ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_RENAME, fn, ctx);

	op->parent = parent;
	op->name = span_dup(name);
	op->to_parent = to_parent;
	op->to_name = span_dup(to_name);
	op->flags = flags;
	op_start(op);
}

void ws_setattr(struct ws *ws, uint64_t fid, const struct ws_attr *attr, ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_SETATTR, fn, ctx);

	op->fid = fid;
	op->attr = *attr;
	op->is_shown = attr->is_shown;
	op_start(op);
}

void ws_write(struct ws *ws, uint64_t fid, uint64_t offset, struct span data, unsigned how, ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_WRITE, fn, ctx);

	op->fid = fid;
	op->offset = offset;
	op->append = how & WS_APPEND;
	op->is_shown = how & WS_SHOWN;
	op->data = SPAN(must_memdup(data.p, data.len), data.len);
	op_start(op);
}

void ws_set_xattr(struct ws *ws, uint64_t fid, struct span name, const struct span *value, int flags, ws_done_fn *fn,
		  void *ctx)
{
	struct op *op = op_new(ws, OP_XATTR, fn, ctx);

	op->fid = fid;
	op->xattr = span_dup(name);
	op->is_gone = !value;
	op->flags = (flags & XATTR_CREATE ? WIRE_XATTR_CREATE : 0U) | (flags & XATTR_REPLACE ? WIRE_XATTR_REPLACE : 0U);
	if (value)
		op->data = SPAN(must_memdup(value->p, value->len), value->len);
	op_start(op);
}

void ws_allocate(struct ws *ws, uint64_t fid, int mode, uint64_t offset, uint64_t len, ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_ALLOC, fn, ctx);

	op->fid = fid;
	op->flags = (uint32_t)mode;
	op->is_shown = true;
	op->offset = offset;
	op->len = len;
	op_start(op);
}

void ws_restore(struct ws *ws, const struct digest *from, const struct digest *to, const char *path, const char *words,
		ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_RESTORE, fn, ctx);

	op->from = *from;
	op->to = *to;
	op->path = must_strdup(path);
	op->words = must_strdup(words);
	op_start(op);
}

void ws_graft(struct ws *ws, const struct digest *tree, const char *path, bool keep_top, uint64_t new_b,
	      uint64_t handed_b, char **ret_place, ws_done_fn *fn, void *ctx)
{
	struct op *op = op_new(ws, OP_GRAFT, fn, ctx);

	op->to = *tree;
	op->path = must_strdup(path);
	op->keep_top = keep_top;
	op->len = new_b;
	op->offset = handed_b;
	op->ret_place = ret_place;
	op_start(op);
}
