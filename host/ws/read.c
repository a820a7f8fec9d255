/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: each call is one short read transaction of the store, on the caller's thread. Only content can be awaited.
 */
#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "host/ws/state.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/stat.h>

enum { RENEWED_MAX = 64, UNSURE_MS = 5000 };

uint64_t ws_root(struct ws *ws)
{
	AUTO(txn_abort) struct txn *t = NULL;

	return txn_read(ws->db, &t, NULL) < 0 ? 0 : txn_root(t);
}

int ws_same_disk(struct ws *ws, uint64_t disk, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	uint64_t known = 0;
	int r = txn_write(ws->db, &t, e);

	if (r < 0)
		return r;
	if (meta_get_u64(t, "disk", &known) == 0 && known != disk)
		return err_set(e, -EIO, "replication-halted",
			       "the workspace is on another disk; nothing was removed here");
	meta_put_u64(t, "disk", disk);
	return known ? 0 : txn_commit(&t, e);
}

int ws_usage(struct ws *ws, struct ws_usage *ret)
{
	AUTO(txn_abort) struct txn *t = NULL;
	uint64_t size = ws->size_b, handed;
	struct txn_counts c;
	int r = txn_read(ws->db, &t, NULL);

	if (r < 0)
		return r;
	*ret = (struct ws_usage){ .entries = 0 };
	r = txn_counts(t, &c);
	if (r < 0)
		return r;
	ret->entries = c.names;
	(void)!meta_get_u64(t, "stored", &ret->brought_b);
	handed = ret->brought_b;
	(void)!meta_get_u64(t, "handed", &handed);
	txn_abort(&t);
	ret->charged_b = quota_charged(ws, ret->brought_b, handed);
	if (size) {
		ret->entries_max = ws_entries_max(size);
		ret->brought_max_b = size * WS_STORED_TIMES;
	}
	return 0;
}

static int none(int r, int none_is)
{
	return r == STORE_E_NONE ? none_is : r;
}

/* A workspace that has stopped has no newer version than the one it holds: an older whole one, with its own size, beats
 * none, and zeros even more. */
static int as_held(struct ws *ws, int r, struct node *n)
{
	if (r != 0 || !(n->flags & NODE_PENDING) || ws_link(ws))
		return r;
	n->size = n->content.size;
	n->blocks = MIN(n->blocks, (n->size + 511) / 512);
	return 0;
}

int ws_getattr(struct ws *ws, uint64_t fid, struct node *ret)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r = txn_read(ws->db, &t, NULL);

	return r < 0 ? r : as_held(ws, none(node_get(t, fid, ret), -ENOENT), ret);
}

int ws_lookup(struct ws *ws, uint64_t parent, struct span name, struct node *ret)
{
	AUTO(txn_abort) struct txn *t = NULL;
	uint64_t fid;
	int r = txn_read(ws->db, &t, NULL);

	if (r == 0)
		r = ws_read_dir(ws, parent, &t);
	if (r == 0)
		r = none(entry_get(t, parent, name, &fid), -ENOENT);
	return r < 0 ? r : as_held(ws, none(node_get(t, fid, ret), -EIO), ret);
}

int ws_readlink(struct ws *ws, uint64_t fid, char **ret)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct span target;
	int r = txn_read(ws->db, &t, NULL);

	if (r == 0)
		r = none(node_target(t, fid, &target), -EINVAL);
	if (r == 0)
		*ret = span_dup(target);
	return r;
}

int ws_xattrs(struct ws *ws, uint64_t fid, struct buf *to)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct span packed;
	struct node n;
	int r = txn_read(ws->db, &t, NULL);

	if (r == 0)
		r = none(node_get(t, fid, &n), -ENOENT);
	if (r < 0 || !(n.flags & NODE_XATTRS))
		return r;
	r = none(node_xattrs(t, fid, &packed), -EIO);
	return r == 0 ? buf_append(to, packed.p, packed.len) : r;
}

int ws_resolve(struct ws *ws, const char *path, struct node *ret)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct node n;
	uint64_t fid;
	int r;

	if (!path_ok(span_str(path)))
		return -EINVAL;
	r = txn_read(ws->db, &t, NULL);
	if (r < 0)
		return r;
	r = none(node_get(t, txn_root(t), &n), -ENOENT);
	while (r == 0 && *path) {
		size_t len = strcspn(path, "/");

		if (!S_ISDIR(n.mode))
			return -ENOTDIR;
		r = ws_read_dir(ws, n.fid, &t);
		if (r == 0)
			r = none(entry_get(t, n.fid, SPAN(path, len), &fid), -ENOENT);
		if (r == 0)
			r = none(node_get(t, fid, &n), -EIO);
		path += len + (path[len] == '/');
	}
	if (r == 0)
		*ret = n;
	return as_held(ws, r, ret);
}

int ws_list(struct ws *ws, uint64_t fid, int (*fn)(void *ctx, struct span name, const struct node *n), void *ctx)
{
	AUTO(txn_abort) struct txn *t = NULL;
	AUTO(str_free) char *last = NULL;
	struct span name = SPAN_NULL;
	struct node n;
	uint64_t kid;
	int r = txn_read(ws->db, &t, NULL);

	if (r == 0)
		r = ws_read_dir(ws, fid, &t);
	if (r < 0)
		return r;
	while ((r = entry_next(t, fid, name, &name, &kid)) == 0) {
		str_free(&last);
		last = span_dup(name);
		name = SPAN(last, name.len);
		r = as_held(ws, none(node_get(t, kid, &n), -EIO), &n);
		if (r == 0)
			r = fn(ctx, name, &n);
		if (r != 0)
			return r;
	}
	return none(r, 0);
}

ssize_t ws_read(struct ws *ws, const struct content *c, uint64_t offset, void *to, size_t len)
{
	return content_read(ws->conf.store, c, offset, to, len, false);
}

int ws_is_kept(struct ws *ws, const struct content *c)
{
	struct store_hold *hold = NULL;
	int r = store_hold_content(ws->conf.store, c, &hold);

	store_hold_free(&hold);
	return r;
}

int ws_next_data(struct ws *ws, const struct content *c, uint64_t offset, uint64_t *ret)
{
	return content_next_data(ws->conf.store, c, offset, ret);
}

int ws_next_hole(struct ws *ws, const struct content *c, uint64_t offset, uint64_t *ret)
{
	return offset >= c->size ? -ENXIO : content_next_hole(ws->conf.store, c, offset, ret);
}

/* On its way, or to be asked for. */
static bool is_missing(const struct node *n)
{
	return S_ISREG(n->mode) && ((n->flags & NODE_PENDING) || content_is_elsewhere(&n->content));
}

void waiter_free(struct ws_waiter *w)
{
	str_free(&w->path);
	free(w);
}

static void waiter_answer(struct ws_waiter *w, int result, const struct node *n)
{
	w->fn(w->ctx, result, n);
	waiter_free(w);
}

/* Where it can be answered now it is, else it is listed. The waiter is listed before the state is looked at again, so
 * that no wake between the two is missed. */
static void waiter_wait(struct ws *ws, struct ws_waiter *w, struct link *link)
{
	AUTO(str_free) char *path = w->path ? must_strdup(w->path) : NULL;
	struct msg_FETCH m = { .fid = w->fid, .path = path ? span_str(path) : SPAN_NULL };
	uint64_t fid = w->fid;
	bool live, room, to_be_sure = w->seq;
	struct node n;

	lock_take(&ws->lock);
	live = ws->mode == WS_LIVE;
	room = ws->waiting < WS_WAITERS_MAX;
	if (live && room) {
		list_append(&ws->waiters, &w->node);
		ws->waiting++;
	}
	lock_drop(&ws->lock);
	if (!live || !room) { /* it stopped just now: nobody would wake this one; or too many wait already */
		waiter_answer(w, live ? -EAGAIN : -EPIPE, NULL);
		return;
	}
	if (ws_getattr(ws, fid, &n) == 0 && !is_missing(&n) && !(to_be_sure && unsure_seq(ws, fid))) {
		waiters_wake(ws, &fid, 1, false, 0);
		return;
	}
	link_send(link, MSG_FETCH, &m);
	ship_hurry(ws);
}

/*
 * A file that is replaced all the time by rename may be gone before its bytes are here. Who opened it looks its name up
 * once more when told so, and only once (the kernel does): so it is not told before what has the name then is whole.
 */
void waiter_again(struct ws *ws, struct ws_waiter *w, bool gone)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct link *link = ws_link(ws);
	struct node n;
	int r = txn_read(ws->db, &t, NULL);

	list_init(&w->node);
	w->seq = w->seq && unsure_seq(ws, w->fid) ? w->seq : 0;
	if (r == 0)
		r = none(node_get(t, w->fid, &n), -ENOENT);
	if (r == 0 && !w->path && (is_missing(&n) || w->seq) && link)
		(void)!node_path(t, w->fid, &w->path);
	txn_abort(&t);
	if (r == -ENOENT && !w->path && gone_get(ws, w->fid, &n)) {
		r = 0;
	} else if (r == -ENOENT || (r == 0 && gone && is_missing(&n))) {
		r = w->path && w->renewed++ < RENEWED_MAX ? ws_resolve(ws, w->path, &n) : -ESTALE;
		if (r == 0) {
			w->fid = n.fid;
			w->seq = unsure_seq(ws, n.fid);
		}
		if (r == -ENOENT || r == -ENOTDIR)
			r = -ESTALE;
	}
	if (r < 0 || !(is_missing(&n) || w->seq) || !link) {
		r = as_held(ws, r, &n);
		if (r == 0 && w->renewed)
			r = -ESTALE;
		if (r == 0 && content_is_elsewhere(&n.content))
			r = ws_mode(ws) == WS_PAUSED ? -EBUSY : -ENODATA;
		waiter_answer(w, r, r == 0 ? &n : NULL);
		return;
	}
	waiter_wait(ws, w, link);
}

bool waiter_content(struct ws *ws, struct ws_waiter *w)
{
	struct node n;

	w->seq = 0;
	if (ws_getattr(ws, w->fid, &n) < 0 || is_missing(&n))
		return false;
	waiter_answer(w, w->renewed ? -ESTALE : 0, w->renewed ? NULL : &n);
	return true;
}

static void await_content(struct ws *ws, uint64_t fid, uint64_t until, bool is_holder, ws_done_fn *fn, void *ctx)
{
	struct ws_waiter *w = NEW(struct ws_waiter);

	*w = (struct ws_waiter){ .fid = fid, .until = until, .is_holder = is_holder, .fn = fn, .ctx = ctx };
	w->seq = unsure_seq(ws, fid);
	w->patience = clock_after_ms(UNSURE_MS);
	waiter_again(ws, w, false);
}

void ws_open_content(struct ws *ws, uint64_t fid, uint64_t until, ws_done_fn *fn, void *ctx)
{
	await_content(ws, fid, until, false, fn, ctx);
}

void ws_held_content(struct ws *ws, uint64_t fid, uint64_t until, ws_done_fn *fn, void *ctx)
{
	await_content(ws, fid, until, true, fn, ctx);
}

bool ws_is_told(struct ws *ws)
{
	bool told;

	lock_take(&ws->lock);
	told = ws->mode != WS_LIVE || ws->is_told || ws->stats.halted;
	lock_drop(&ws->lock);
	return told;
}

void ws_when_told(struct ws *ws, uint64_t until, ws_done_fn *fn, void *ctx)
{
	struct ws_waiter *w = NEW(struct ws_waiter);
	bool wait, room;

	*w = (struct ws_waiter){ .until = until, .fn = fn, .ctx = ctx };
	list_init(&w->node);
	lock_take(&ws->lock);
	wait = ws->mode == WS_LIVE && !ws->is_told && !ws->stats.halted;
	room = ws->waiting < WS_WAITERS_MAX;
	if (wait && room) {
		list_append(&ws->waiters, &w->node);
		ws->waiting++;
	}
	lock_drop(&ws->lock);
	if (wait && room)
		return;
	free(w);
	fn(ctx, wait ? -EAGAIN : 0, NULL);
}

static void cancelled(void *ctx)
{
	struct ws_waiter *w = ctx;

	waiter_answer(w, -EINTR, NULL);
}

void ws_open_cancel(struct ws *ws, void *ctx)
{
	struct list *pos, *tmp;

	lock_take(&ws->lock);
	list_each_safe(pos, tmp, &ws->waiters) {
		struct ws_waiter *w = list_entry(pos, struct ws_waiter, node);

		if (w->ctx != ctx)
			continue;
		list_remove(pos);
		ws->waiting--;
		pool_run(ws->conf.work, cancelled, w);
	}
	lock_drop(&ws->lock);
}

/* --- turning an answer into a wait -------------------------------------------------------------------------------- */

struct ws_wait {
	struct lock lock;
	pthread_cond_t cond;
	bool done;
	int result;
	struct node node;
};

struct ws_wait *ws_wait_new(void)
{
	struct ws_wait *w = NEW(struct ws_wait);

	lock_init(&w->lock, "ws-wait", LOCK_LEAF);
	lock_cond_init(&w->cond);
	return w;
}

void ws_wait_done(void *ctx, int result, const struct node *node)
{
	struct ws_wait *w = ctx;

	lock_take(&w->lock);
	w->done = true;
	w->result = result;
	if (node)
		w->node = *node;
	pthread_cond_broadcast(&w->cond);
	lock_drop(&w->lock);
}

int ws_wait_end(struct ws_wait **slot, struct node *ret)
{
	struct ws_wait *w = take(slot);
	int r;

	lock_take(&w->lock);
	while (!w->done)
		lock_wait(&w->lock, &w->cond, CLOCK_NEVER);
	r = w->result;
	if (ret && r >= 0)
		*ret = w->node;
	lock_drop(&w->lock);
	pthread_cond_destroy(&w->cond);
	lock_fini(&w->lock);
	free(w);
	return r;
}
