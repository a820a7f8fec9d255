/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent told becomes records of the store. Everything here runs on the workspace's strand inside the write
 * transaction of one pass; nothing is visible before its commit. The rules are in docs/workspace.md: when an inode is
 * pending, when it is dropped, what a scan removes, what is refused.
 */
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"
#include "host/ws/state.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 2048, HALT_MIN = 100, AGAIN_MAX = 16 * 1024 * 1024 };

void changes_add(ws_changes *list, uint64_t parent, struct span name, uint64_t fid, bool entry_new, bool data)
{
	struct ws_change c = {
		.parent = parent,
		.name = parent ? span_dup(name) : NULL,
		.fid = fid,
		.data = data,
		.entry_new = entry_new,
	};

	vec_push(list, c);
}

void changes_free(ws_changes *list)
{
	size_t i;

	for (i = 0; i < list->len; i++)
		str_free(&list->v[i].name);
	vec_fini(list);
}

void node_from_msg(const struct msg_NODE *m, struct node *ret)
{
	ret->fid = m->fid;
	ret->ino = m->ino;
	ret->mode = (uint32_t)m->mode & (S_IFMT | 07777); /* other bits mean something in trees */
	ret->nlink = (uint32_t)m->nlink;
	ret->uid = (uint32_t)m->uid;
	ret->gid = (uint32_t)m->gid;
	ret->rdev = m->rdev;
	ret->size = m->size;
	ret->blocks = m->blocks;
	ret->mtime_ns = m->mtime_ns;
	ret->ctime_ns = m->ctime_ns;
	ret->atime_ns = m->atime_ns;
}

static bool same_attr(const struct node *a, const struct node *b)
{
	return a->ino == b->ino && a->mode == b->mode && a->nlink == b->nlink && a->uid == b->uid && a->gid == b->gid &&
	       a->rdev == b->rdev && a->size == b->size && a->blocks == b->blocks && a->mtime_ns == b->mtime_ns &&
	       a->ctime_ns == b->ctime_ns && a->flags == b->flags;
}

/*
 * The content that is here was read when the file had the times and the size that are told. That does not say the same
 * bytes: a file gets its times before its bytes, and may have been read between, or written from here. What is told as
 * written is shipped again; what is kept as a name only when it is asked for, so it is, up to AGAIN_MAX. Until that has
 * come what is here stays: it is most likely the same, and the last that there is when the sandbox dies.
 */
static bool is_same_version(const struct node *old, const struct node *n)
{
	return old->content_ctime_ns == n->ctime_ns && old->size == n->size;
}

/* Whether the content that the store has is still the inode's, by the table of docs/workspace.md. */
static void settle_content(struct ws_pass *p, const struct node *old, struct node *n, unsigned how)
{
	bool written = how & APPLY_WRITTEN, scan = how & APPLY_SCAN;

	if (!S_ISREG(n->mode))
		return;
	if (n->size == 0) {
		n->content = (struct content){ .size = 0 };
		n->content_ctime_ns = n->ctime_ns;
		n->content_ship = 0;
		return;
	}
	/* What the host wrote itself is told as written, too. */
	if (old && written &&
	    !(is_same_version(old, n) && !(old->flags & NODE_PENDING) && !old->content_ship && !(how & APPLY_NAMES)))
		unsure_note(p, old, how & APPLY_NAMES);
	if (old && !content_is_elsewhere(&n->content) && is_same_version(old, n)) {
		if (!(old->flags & NODE_PENDING) && !(written && (how & APPLY_NAMES)))
			return;
		if ((how & APPLY_NAMES) && n->size <= AGAIN_MAX) {
			n->flags |= NODE_PENDING;
			vec_push(&p->fetch, n->fid);
			return;
		}
	} else if (old && !(old->flags & NODE_PENDING) && !content_is_elsewhere(&n->content)) {
		if (!written && !scan && old->size == n->size && old->mtime_ns == n->mtime_ns) {
			n->content_ctime_ns = n->ctime_ns;
			return;
		}
	}
	if (how & APPLY_NAMES) {
		n->content = content_elsewhere(n->size);
		n->content_ctime_ns = n->ctime_ns;
		n->content_ship = 0;
		return;
	}
	n->flags |= NODE_PENDING;
	if (!written)
		vec_push(&p->fetch, n->fid);
}

void apply_xattrs(struct ws_pass *p, struct node *n, struct span told)
{
	struct span has;

	if (!told.len && !(n->flags & NODE_XATTRS))
		return;
	if (!(n->flags & NODE_XATTRS) || node_xattrs(p->txn, n->fid, &has) != 0)
		has = SPAN_NULL;
	if (span_eq(has, told))
		return;
	node_set_xattrs(p->txn, n, told);
	story_did(p, n->fid, STORY_CHMOD);
	changes_add(&p->changes, 0, SPAN_NULL, n->fid, false, false);
}

int apply_node(struct ws_pass *p, const struct msg_NODE *told, unsigned how, struct node *ret, struct err *e)
{
	struct node old, n = { .fid = 0 };
	int r;

	if (told->fid == 0)
		return err_set(e, -EBADMSG, "bad-message", "an inode without identity");
	if (told->xattrs.len && (!xattrs_ok(told->xattrs) || !(S_ISREG(told->mode) || S_ISDIR(told->mode))))
		return err_set(e, -EBADMSG, "bad-message", "impossible extended attributes");
	if (S_ISLNK(told->mode) && span_has_nul(told->target))
		return err_set(e, -EBADMSG, "bad-message", "an impossible target of a link");
	r = node_get(p->txn, told->fid, &old);
	if (r < 0)
		return err_sys(e, r, "reading an inode");
	if (r == 0) {
		if ((old.mode & S_IFMT) != (told->mode & S_IFMT))
			return err_set(e, -EBADMSG, "bad-message", "an inode changed its type");
		n = old;
		n.flags &= ~(uint32_t)NODE_PENDING;
	}
	node_from_msg(told, &n);
	if (!S_ISDIR(n.mode))
		n.nlink = r == 0 ? old.nlink : 1; /* as name_won() and name_lost() count */
	settle_content(p, r == 0 ? &old : NULL, &n, how);
	if (S_ISLNK(n.mode) && r == STORE_E_NONE)
		node_set_target(p->txn, n.fid, told->target);
	if (r == STORE_E_NONE)
		story_did(p, n.fid, STORY_NEW);
	else
		story_attr(p, &old, &n, how & (APPLY_WRITTEN | APPLY_SCAN));
	if (r == STORE_E_NONE || !same_attr(&old, &n) || old.content_ctime_ns != n.content_ctime_ns ||
	    !content_eq(&old.content, &n.content)) {
		node_put(p->txn, &n);
		if (r == 0 && !same_attr(&old, &n))
			changes_add(&p->changes, 0, SPAN_NULL, n.fid, false, n.size == 0 && old.size != 0);
	}
	apply_xattrs(p, &n, told->xattrs);
	*ret = n;
	return 0;
}

/* Would @dir become its own ancestor when it gets the parent @parent? */
static int check_loop(struct ws_pass *p, uint64_t dir, uint64_t parent, struct err *e)
{
	uint64_t root = txn_root(p->txn), at = parent;
	int depth;

	for (depth = 0; at != root; depth++) {
		struct span name;
		int r;

		if (at == dir || depth > DEPTH_MAX)
			return err_set(e, -EBADMSG, "bad-message", "a directory inside itself, or too deep");
		r = entry_of(p->txn, at, 0, SPAN_NULL, &at, &name);
		if (r < 0)
			return err_sys(e, r, "reading a directory");
		if (r == STORE_E_NONE)
			return 0;
	}
	return 0;
}

int apply_may_hold(struct ws_pass *p, uint64_t parent, uint64_t fid, uint32_t mode, struct err *e)
{
	struct node dir, n;
	int r = node_get(p->txn, parent, &dir);

	if (r < 0)
		return err_sys(e, r, "reading a directory");
	if (r == STORE_E_NONE || !S_ISDIR(dir.mode))
		return STORE_E_NONE;
	if (fid == txn_root(p->txn))
		return err_set(e, -EBADMSG, "bad-message", "a name for the root");
	if (S_ISDIR(mode))
		return check_loop(p, fid, parent, e);
	r = node_get(p->txn, fid, &n);
	if (r == 0 && n.nlink >= WS_LINKS_TOLD_MAX)
		return err_set(e, -EBADMSG, "bad-message", "more names of one file than any can have");
	return r < 0 ? err_sys(e, r, "reading an inode") : 0;
}

/* How many names a file has we know ourselves and need not believe. The first name finds a 1, and so does the last one
 * that goes: what has none then is dropped at the end of the pass, or gets another first one. */
static void set_links(struct ws_pass *p, struct node *n, uint32_t links)
{
	if (n->nlink == links)
		return;
	n->nlink = links;
	node_put(p->txn, n);
	changes_add(&p->changes, 0, SPAN_NULL, n->fid, false, false);
}

/* Before the name is there. */
static void name_won(struct ws_pass *p, struct node *n)
{
	uint64_t parent;
	struct span name;
	struct node is;

	if (S_ISDIR(n->mode) || node_get(p->txn, n->fid, &is) != 0)
		return;
	set_links(p, &is, entry_of(p->txn, n->fid, 0, SPAN_NULL, &parent, &name) == 0 ? is.nlink + 1 : 1);
	n->nlink = is.nlink;
}

static void name_lost(struct ws_pass *p, uint64_t fid)
{
	struct node n;

	vec_push(&p->orphans, fid);
	if (node_get(p->txn, fid, &n) == 0 && !S_ISDIR(n.mode) && n.nlink > 1)
		set_links(p, &n, n.nlink - 1);
}

void apply_gone(struct ws_pass *p, uint64_t parent, struct span name)
{
	uint64_t fid;

	suspects_gone(p->ws, parent, name);
	if (entry_get(p->txn, parent, name, &fid) != 0)
		return;
	story_lost(p, parent, name, fid, false);
	entry_del(p->txn, parent, name);
	name_lost(p, fid);
	changes_add(&p->changes, parent, name, 0, true, false);
}

void apply_entry(struct ws_pass *p, uint64_t parent, struct span name, struct node *n)
{
	uint64_t was;
	int r = entry_get(p->txn, parent, name, &was);

	suspects_told(p->ws, parent, name);
	if (r == 0 && was == n->fid)
		return;
	if (S_ISDIR(n->mode)) {
		uint64_t old_parent;
		struct span old_name;

		if (entry_of(p->txn, n->fid, 0, SPAN_NULL, &old_parent, &old_name) == 0) {
			AUTO(str_free) char *copy = span_dup(old_name);
			struct span kept = SPAN(copy, old_name.len);

			changes_add(&p->changes, old_parent, kept, 0, true, false);
			story_lost(p, old_parent, kept, n->fid, false);
			suspects_gone(p->ws, old_parent, kept);
			entry_del(p->txn, old_parent, kept);
		}
	}
	name_won(p, n);
	if (r == 0) {
		story_lost(p, parent, name, was, true);
		name_lost(p, was);
	}
	entry_put(p->txn, parent, name, n->fid);
	changes_add(&p->changes, parent, name, n->fid, true, false);
	story_got(p, parent, name, n);
}

/* --- scans -------------------------------------------------------------------------------------------------------- */

/* A directory's listing begins: whatever it has here is suspect. The first directory ever told is the root. */
static int scan_dir(struct ws_pass *p, const struct msg_CHANGE *c, const struct msg_NODE *told, struct err *e)
{
	struct node n;
	int r;

	if (told->fid != c->parent || !S_ISDIR(told->mode))
		return err_set(e, -EBADMSG, "bad-message", "a listing of something that is no directory");
	if (txn_root(p->txn) == 0)
		meta_put_u64(p->txn, "root-fid", told->fid);
	else if (told->fid != txn_root(p->txn) && node_get(p->txn, told->fid, &n) == STORE_E_NONE)
		return err_set(e, -EBADMSG, "bad-message", "a listing of an unknown directory");
	expect_dir(p->ws, told->fid, told->fid == txn_root(p->txn));
	r = apply_node(p, told, APPLY_SCAN, &n, e);
	if (r < 0)
		return r;
	r = suspects_dir(p, c->parent);
	return r < 0 ? err_sys(e, r, "listing a directory") : 0;
}

/* The scan is complete: what was not told again is gone; unless that would be most of the workspace, and it is the
 * first scan of a connection: later ones are of the same disk, and somebody removed what is not there. */
static int scan_end(struct ws_pass *p, struct err *e)
{
	struct ws *ws = p->ws;
	struct txn_counts c;
	uint64_t total;
	int r = txn_counts(p->txn, &c);

	if (r < 0)
		return err_sys(e, r, "counting names");
	total = c.names - (uint64_t)c.names_more;
	if (ws->is_first && ws->suspect_n >= HALT_MIN && ws->suspect_n > total / 2 && total)
		return err_set(e, -EIO, "replication-halted",
			       "%llu of %llu entries vanished at once; nothing was removed here",
			       (unsigned long long)ws->suspect_n, (unsigned long long)total);
	suspects_end(p);
	ws->is_first = false;
	expect_end(ws);
	p->scan_done = true;
	return 0;
}

/* --- one message -------------------------------------------------------------------------------------------------- */

static int apply_one(struct ws_pass *p, const struct msg_CHANGE *c, bool scan, struct err *e)
{
	struct span list = c->node;
	struct msg_NODE told;
	struct node n;
	bool has = msg_rec_next(&list, MSG_NODE, &told);
	unsigned how = (c->flags & WIRE_ENT_WRITTEN ? APPLY_WRITTEN : 0U) | (scan ? APPLY_SCAN : 0U) |
		       ((c->flags & WIRE_ENT_NAMES) && p->ws->rules ? APPLY_NAMES : 0U);
	int r;

	if (c->flags & WIRE_ENT_ONLY)
		return has ? scan_dir(p, c, &told, e)
			   : err_set(e, -EBADMSG, "bad-message", "a listing without a directory");
	if (c->parent == 0) {
		if (!has)
			return err_set(e, -EBADMSG, "bad-message", "a change of nothing");
		r = node_get(p->txn, told.fid, &n);
		return r == 0 ? apply_node(p, &told, how, &n, e) : MIN(r, 0);
	}
	if (!path_name_ok(c->name))
		return err_set(e, -EBADMSG, "bad-message", "an impossible name");
	if (c->flags & WIRE_ENT_GONE) {
		apply_gone(p, c->parent, c->name);
		return 0;
	}
	if (!has)
		return err_set(e, -EBADMSG, "bad-message", "an entry without an inode");
	r = apply_may_hold(p, c->parent, told.fid, (uint32_t)told.mode, e);
	if (r == STORE_E_NONE) {
		if (!p->want_scan)
			log_debug("ws", "a name in a directory that is not known was told, a scan follows", "id=%s",
				  p->ws->id);
		p->want_scan = true;
		return 0;
	}
	if (r == 0)
		r = apply_node(p, &told, how, &n, e);
	if (r == 0 && scan && expect_entry(p->ws, c->parent, c->name, &n)) {
		node_put(p->txn, &n);
		if (p->fetch.len && p->fetch.v[p->fetch.len - 1] == n.fid)
			p->fetch.len--;
	}
	if (r == 0)
		apply_entry(p, c->parent, c->name, &n);
	return r;
}

/* It costs a scan, so who wonders should find it; a guest can do it as often as it likes, so not each is told. */
static void note_overflow(struct ws *ws)
{
	uint64_t n = __atomic_add_fetch(&ws->counts.overflows, 1, __ATOMIC_RELAXED);

	if ((n & (n - 1)) == 0)
		log_info("ws", "events were lost inside, a scan follows", "id=%s times=%llu", ws->id,
			 (unsigned long long)n);
}

int apply_changes(struct ws_pass *p, const struct msg_CHANGES *m, struct err *e)
{
	bool scan = m->flags & WIRE_CHG_SCAN;
	struct span records = m->records;
	struct msg_CHANGE c;
	int r = 0;

	if (m->flags & WIRE_CHG_OVERFLOW)
		note_overflow(p->ws);
	while (r == 0 && msg_rec_next(&records, MSG_CHANGE, &c)) {
		r = apply_one(p, &c, scan, e);
		__atomic_add_fetch(&p->ws->counts.records, 1, __ATOMIC_RELAXED);
	}
	if (r == 0 && (m->flags & WIRE_CHG_SCAN_END))
		r = scan_end(p, e);
	if (r == 0) {
		p->ack = m->seq;
		__atomic_add_fetch(&p->ws->counts.batches, 1, __ATOMIC_RELAXED);
	}
	return r;
}

/* Drop every inode that has no name any more, and below a directory everything that hangs on it alone. */
void apply_orphans(struct ws_pass *p)
{
	while (p->orphans.len) {
		uint64_t at = p->orphans.v[--p->orphans.len], parent, kid;
		struct span name;
		struct node n;

		if (at == txn_root(p->txn) || entry_of(p->txn, at, 0, SPAN_NULL, &parent, &name) != STORE_E_NONE ||
		    node_get(p->txn, at, &n) != 0)
			continue;
		suspects_drop(p->ws, at);
		while (S_ISDIR(n.mode) && entry_next(p->txn, at, SPAN_NULL, &name, &kid) == 0) {
			AUTO(str_free) char *copy = span_dup(name);

			story_lost(p, at, SPAN(copy, name.len), kid, false);
			entry_del(p->txn, at, SPAN(copy, name.len));
			name_lost(p, kid);
		}
		if (!held_keep(p, &n)) {
			gone_note(p->ws, &n);
			unsure_forget(p->ws, at);
			node_del(p->txn, at);
		}
	}
}

int apply_count(struct ws_pass *p, struct err *e)
{
	uint64_t size = p->ws->size_b, max = ws_entries_max(size);
	struct txn_counts c;
	int r = size ? txn_counts(p->txn, &c) : 0;

	if (r < 0)
		return err_sys(e, r, "counting names");
	/* A guest's file system would hold no more of them than of anything else. */
	if (size && c.attrs_more > 0 && c.attrs_b > size)
		return err_set(e, -EDQUOT, "quota-exceeded",
			       "quota-exceeded: extended attributes of more than %llu MiB",
			       (unsigned long long)size >> 20);
	if (size && c.names_more > 0 && c.names > max)
		return err_set(e, -EDQUOT, "quota-exceeded",
			       "quota-exceeded: more than %llu names in a workspace of %llu MiB",
			       (unsigned long long)max, (unsigned long long)size >> 20);
	return 0;
}
