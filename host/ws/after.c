/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Behind the commit of a pass: the kernel is told on the notify strand, then the agent gets its acknowledgements and
 * who waits the answer. What the kernel is told may have to wait for a change that was asked for through the mount and
 * holds its pages or its directory; so nothing that such a change waits for may wait for the kernel.
 */
#include "base/clock.h"
#include "host/ws/state.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>

enum { ACKS_B = 16384, AGAIN_MS = 1000 };

static void wake(struct ws *ws, const uint64_t *fids, size_t n, bool all, bool holders, int result)
{
	bool expired = result == -ETIMEDOUT;
	struct list *pos, *tmp, mine;
	uint64_t now = clock_now();
	size_t i;

	list_init(&mine);
	lock_take(&ws->lock);
	list_each_safe(pos, tmp, &ws->waiters) {
		struct ws_waiter *w = list_entry(pos, struct ws_waiter, node);
		bool hit = all || (expired && (w->until <= now || (w->seq && w->patience <= now)));

		for (i = 0; !hit && i < n && (w->is_holder || !holders); i++)
			hit = fids[i] == w->fid;
		if (hit) {
			list_remove(pos);
			ws->waiting--;
			list_append(&mine, pos);
		}
	}
	lock_drop(&ws->lock);
	while ((pos = list_shift(&mine))) {
		struct ws_waiter *w = list_entry(pos, struct ws_waiter, node);

		if (result < 0 && result != -ENOENT && w->seq && waiter_content(ws, w))
			continue;
		if (w->fid && (result == 0 || result == -ENOENT || (expired && w->until > now))) {
			waiter_again(ws, w, result == -ENOENT);
			continue;
		}
		w->fn(w->ctx, result, NULL);
		waiter_free(w);
	}
}

void waiters_wake(struct ws *ws, const uint64_t *fids, size_t n, bool all, int result)
{
	wake(ws, fids, n, all, false, result);
}

struct after {
	struct ws *ws;
	uint64_t ack;
	ws_ships ships;
	ws_fids gone;
	bool scan_done, is_soon;
	bool is_acked; /* the shipments are already */
	uint64_t commit, voided;
};

static void acknowledge(const struct after *a)
{
	int r = a->is_soon ? late_await(a->ws, a->commit, a->voided) : 0;
	struct link *link = ws_link(a->ws);
	struct buf acks;
	size_t i;

	if (r < 0 && r != -EIO && link)
		link_restart(link, AGAIN_MS, "it is not known whether what was told is durable");
	if (r < 0)
		return;
	if (link && a->ack) {
		struct msg_CHANGES_ACK ack = { .seq = a->ack };

		link_send(link, MSG_CHANGES_ACK, &ack);
	}
	buf_init(&acks, ACKS_B + FRAME_HEADER + FRAME_MAX);
	for (i = 0; link && !a->is_acked && i < a->ships.len; i++) {
		struct msg_SHIP_ACK ack = { .ship = a->ships.v[i].ship, .ok = a->ships.v[i].is_known };

		(void)!frame_put(&acks, MSG_SHIP_ACK, &ack);
		if (i + 1 == a->ships.len || buf_len(&acks) >= ACKS_B)
			link_send_ships(link, &acks);
	}
	buf_fini(&acks);
}

static void ack_early(void *ctx)
{
	struct after *a = ctx;

	acknowledge(a);
	vec_fini(&a->ships);
	free(a);
}

static bool has_holder(struct ws *ws)
{
	struct list *pos;
	bool has = false;

	lock_take(&ws->lock);
	list_each(pos, &ws->waiters)
		has |= list_entry(pos, struct ws_waiter, node)->is_holder;
	lock_drop(&ws->lock);
	return has;
}

/*
 * The first scan goes on when what it has told is acknowledged, and changes from the host that an earlier process was
 * asked for wait for its end; and a file is shipped once more when the shipment before is acknowledged. So neither must
 * wait for the kernel then, which may wait for such a change (it holds its pages, or the directory). That the first
 * scan was told is what everybody else waits for, behind the kernel.
 */
static void acknowledge_early(struct after *a, bool holders)
{
	struct after *early;
	size_t i;

	if (a->ws->is_told && !(a->ships.len && holders)) /* only this strand says that it is told */
		return;
	early = NEW(struct after);
	*early = (struct after){ .ws = a->ws, .is_soon = a->is_soon, .commit = a->commit,
				 .voided = a->voided };
	if (!a->ws->is_told) {
		early->ack = a->ack;
		a->ack = 0;
	}
	for (i = 0; i < a->ships.len; i++)
		vec_push(&early->ships, a->ships.v[i]);
	a->is_acked = true;
	strand_run(a->ws->acks, ack_early, early);
}

static void pass_acknowledge(void *ctx)
{
	struct after *a = ctx;
	struct ws *ws = a->ws;

	acknowledge(a);
	if (a->scan_done) {
		lock_take(&ws->lock);
		ws->is_ready = true;
		pthread_cond_broadcast(&ws->cond);
		lock_drop(&ws->lock);
	}
	vec_fini(&a->ships);
	free(a);
}

/* On the notify strand: the kernel shows the new state. It is acknowledged when it is durable, and neither the passes
 * behind it nor what the kernel is told wait for that. */
static void pass_shown(void *ctx)
{
	struct after *a = ctx;
	struct ws *ws = a->ws;
	size_t i;

	for (i = 0; i < a->ships.len; i++)
		waiters_wake(ws, &a->ships.v[i].node.fid, 1, false, 0);
	waiters_wake(ws, a->gone.v, a->gone.len, false, -ENOENT);
	vec_fini(&a->gone);
	if (a->is_soon)
		strand_run(ws->acks, pass_acknowledge, a);
	else
		pass_acknowledge(a);
}

/* Everything of before is committed: who waits for that must not wait for the kernel, which may wait for them. */
static void told(struct ws *ws)
{
	const uint64_t nobody = 0;

	lock_take(&ws->lock);
	ws->is_told = true;
	lock_drop(&ws->lock);
	waiters_wake(ws, &nobody, 1, false, 0);
}

void after_pass(struct ws_pass *p)
{
	struct ws *ws = p->ws;
	struct after *a = NEW(struct after);
	bool holders;
	size_t i;

	*a = (struct after){ .ws = ws, .ack = p->ack, .scan_done = p->scan_done, .is_soon = p->is_soon,
			     .commit = p->commit, .voided = p->voided };
	a->ships.v = p->ships.v;
	a->ships.len = p->ships.len;
	p->ships.v = NULL;
	a->gone.v = p->gone.v;
	a->gone.len = p->gone.len;
	p->gone.v = NULL;
	for (i = 0; i < a->ships.len; i++)
		unsure_shipped(ws, &a->ships.v[i]);
	holders = has_holder(ws);
	acknowledge_early(a, holders);
	if (p->scan_done)
		told(ws);
	for (i = 0; holders && i < a->ships.len; i++)
		wake(ws, &a->ships.v[i].node.fid, 1, false, true, 0);
	if (holders)
		wake(ws, a->gone.v, a->gone.len, false, true, -ENOENT);
	pull_pass(p); /* before anybody can ask for a sync, which would wait for these */
	ws_tell(ws, &p->changes, pass_shown, a);
}
