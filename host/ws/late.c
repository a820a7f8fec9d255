/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes that are not durable yet (docs/decisions/009): those from the mount, and what the agent tells. When their
 * sync fails they are void, and the kernel shows what is not any more: so they are listed until they are durable.
 * Nothing is listed for long: a commit that is not durable after so many waits for the disk (host/store/node.c).
 */
#include "host/ws/state.h"

#include "base/clock.h"

#include <errno.h>

enum { ACK_EVERY_NS = 20000000, HOST_WRITES_NS = 200000000, LISTED_MAX = 65536 };

static const char void_words[] = "the store could not be made durable; the last changes are void";

int pass_settle(struct ws_pass *p, struct err *e)
{
	struct store *store = p->ws->conf.store;

	return p->is_soon ? store_settle_soon(store, e) : store_settle(store, e);
}

void late_fini(struct ws *ws)
{
	changes_free(&ws->late.old);
	changes_free(&ws->late.young);
}

static void list_late(struct ws *ws, const ws_changes *changes)
{
	size_t i;

	for (i = 0; i < changes->len; i++) {
		const struct ws_change *c = &changes->v[i];
		struct span name = c->name ? span_str(c->name) : SPAN_NULL;

		changes_add(&ws->late.young, c->parent, name, c->fid, c->parent != 0, true);
	}
}

static void tell(struct ws *ws, ws_changes *list)
{
	ws_announce(ws, list->v, list->len);
	if (list->len)
		ws_tell(ws, list, NULL, NULL);
}

/* On the strand: what was durable since is forgotten, what became void is told. Return: whether there was such. */
static bool look_late(struct ws *ws)
{
	struct wsdb_late now;
	bool is_void;

	wsdb_late(ws->db, &now);
	is_void = now.voided > ws->late.voided; /* an environment that was closed and opened again counts from 0 */
	__atomic_store_n(&ws->late.voided, now.voided, __ATOMIC_RELAXED);
	if (is_void) {
		ws->is_broken = true; /* until the agent tells all of it again */
		tell(ws, &ws->late.old);
		tell(ws, &ws->late.young);
	} else if (now.commits == now.durable) {
		late_fini(ws);
	} else if (now.durable >= ws->late.upto) {
		changes_free(&ws->late.old);
		ws->late.old = ws->late.young;
		ws->late.young = (ws_changes){ .len = 0 };
		ws->late.upto = now.commits;
	}
	return is_void;
}

bool late_has_room(const struct ws *ws)
{
	return ws->late.old.len + ws->late.young.len < LISTED_MAX;
}

/* What was told before is void: it is told again, and what was told behind it must not be acknowledged over it. */
int pass_commit(struct ws_pass *p, struct err *e)
{
	struct wsdb_late now;
	int r;

	if (look_late(p->ws) && p->by != JOURNAL_BY_HOST)
		return err_set(e, -EIO, "eio", void_words);
	if (!p->is_soon)
		return txn_commit(&p->txn, e);
	p->voided = p->ws->late.voided;
	r = txn_commit_soon(&p->txn, e);
	if (r < 0)
		return r;
	list_late(p->ws, &p->changes);
	wsdb_late(p->ws->db, &now);
	p->commit = now.commits;
	return 0;
}

/* A sync makes everything durable that is committed, and while it lasts more comes for the next one. While the host
 * writes there is no hurry, since nobody waits for the echoes: who comes soon after another waits. An environment that
 * was closed meanwhile counts from 0 again; it was durable then. */
int late_await(struct ws *ws, uint64_t commit, uint64_t voided)
{
	const struct timespec nap = { .tv_nsec = (long)ACK_EVERY_NS };
	uint64_t now_ns = clock_now();
	struct wsdb_late now;
	int r;

	wsdb_late(ws->db, &now);
	if (now.voided > voided)
		return -EIO;
	if (now.durable >= commit)
		return 0;
	if (now_ns < ws->late.acked_at + ACK_EVERY_NS &&
	    now_ns < __atomic_load_n(&ws->late.host_at, __ATOMIC_RELAXED) + HOST_WRITES_NS)
		nanosleep(&nap, NULL);
	ws->late.acked_at = clock_now();
	r = wsdb_flush(ws->db, NULL);
	wsdb_late(ws->db, &now);
	if (now.voided > voided)
		return -EIO;
	return r == -EIO ? -EAGAIN : r;
}

static void void_told(void *ctx)
{
	struct ws *ws = ctx;

	look_late(ws);
	ws->is_broken = true;
	commands_forget(ws);
	ws_trouble(ws, "eio", void_words, false);
}

void late_void(void *ctx)
{
	struct ws *ws = ctx;

	strand_run(ws->work, void_told, ws);
}

struct settling {
	struct ws *ws; /* a reference */
	ws_done_fn *fn;
	void *ctx;
};

static void settle(void *ctx)
{
	struct settling *s = ctx;

	s->fn(s->ctx, wsdb_sync(s->ws->db, NULL), NULL);
	ws_unref(&s->ws);
	free(s);
}

void ws_settle(struct ws *ws, ws_done_fn *fn, void *ctx)
{
	struct settling *s = NEW(struct settling);

	*s = (struct settling){ .ws = ws_ref(ws), .fn = fn, .ctx = ctx };
	pool_run(ws->conf.work, settle, s);
}
