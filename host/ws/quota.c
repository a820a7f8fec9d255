/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much a guest may make the store keep. Its file system is bounded; what it ships is not: voids, the same file
 * again and again, more bytes than it says to have. So what it hands over is counted, whether or not the store had it
 * (another workspace may, and give it up), and may not be more than some times the size of its file system. What a
 * collection has given back counts no more: then it is what the workspace and its snapshots held at that time, and what
 * was handed over since.
 *
 * A workspace that was written anew often enough asks for a run by itself. One that is over the bound and did not hold
 * that much when it was looked at last is only put off: its connection begins again a moment later. Who holds too much
 * is refused. Where nobody collects, what the store did not have before counts, ever.
 */
#include "host/ws/state.h"

#include <errno.h>

enum { ASK_PARTS = 2, SINCE_PARTS = 4 };

/*
 * ws.lock is held. @handed: so far. A run may have looked at this workspace at any time since the look before this one,
 * so what was handed over since then is taken for later: it counts until the next run.
 */
static void look(struct ws_quota *q, const struct gc_held *held, uint64_t handed)
{
	uint64_t then;

	if (held->done > q->done) {
		then = q->seen == held->done ? q->then : q->before;
		q->done = held->done;
		q->since = then;
		__atomic_store_n(&q->held_b, held->bytes, __ATOMIC_RELAXED);
		__atomic_store_n(&q->given_b, then - MIN(then, held->bytes), __ATOMIC_RELAXED);
	}
	if (held->begun > q->seen) {
		q->seen = held->begun;
		q->then = q->before;
	}
	q->before = handed;
	__atomic_store_n(&q->collects, held->collects, __ATOMIC_RELAXED);
}

static uint64_t counts(const struct ws *ws, uint64_t stored, uint64_t handed)
{
	uint64_t given = quota_given(ws), b = handed - MIN(given, handed);

	return __atomic_load_n(&ws->quota.collects, __ATOMIC_RELAXED) ? b : MIN(b, stored);
}

void quota_open(struct ws *ws, uint64_t handed, uint64_t given)
{
	struct ws_quota *q = &ws->quota;
	struct gc_held held;

	store_gc_held(ws->conf.store, ws->id, &held);
	q->done = q->seen = held.begun;
	q->handed_b = q->handed_known = q->before = handed;
	q->given_b = q->given_known = given;
	q->collects = held.collects;
}

uint64_t quota_given(const struct ws *ws)
{
	return __atomic_load_n(&ws->quota.given_b, __ATOMIC_RELAXED);
}

uint64_t quota_charged(struct ws *ws, uint64_t stored, uint64_t handed)
{
	struct gc_held held;

	store_gc_held(ws->conf.store, ws->id, &held);
	lock_take(&ws->lock);
	look(&ws->quota, &held, handed);
	lock_drop(&ws->lock);
	return counts(ws, stored, handed);
}

static bool is_over(const struct ws *ws, uint64_t b)
{
	return ws->size_b && b / WS_STORED_TIMES > ws->size_b;
}

int quota_check(struct ws *ws, uint64_t stored, uint64_t handed, struct err *e)
{
	if (!is_over(ws, counts(ws, ws->stored_b + stored, ws->quota.handed_b + handed)))
		return 0;
	if (!__atomic_load_n(&ws->quota.collects, __ATOMIC_RELAXED) ||
	    is_over(ws, __atomic_load_n(&ws->quota.held_b, __ATOMIC_RELAXED))) {
		return err_set(e, -EDQUOT, "quota-exceeded",
			       "quota-exceeded: with its snapshots it makes the store keep %d times its size",
			       WS_STORED_TIMES);
	}
	store_gc_ask(ws->conf.store);
	return err_set(e, -EDQUOT, "quota-waits", "%d times its size was written since the last collection: it waits",
		       WS_STORED_TIMES);
}

bool quota_is_met(const struct ws *ws)
{
	struct gc_held held;

	if (!__atomic_load_n(&ws->quota.is_over, __ATOMIC_RELAXED))
		return false; /* nothing has halted, or not for that */
	store_gc_held(ws->conf.store, ws->id, &held);
	return held.collects && !is_over(ws, held.bytes);
}

void quota_begin(struct ws *ws)
{
	uint64_t b, since;

	store_gc_yield(ws->conf.store);
	b = quota_charged(ws, ws->stored_b, ws->quota.handed_b);
	if (!ws->size_b || b < ws->size_b * WS_STORED_TIMES / ASK_PARTS)
		return;
	lock_take(&ws->lock);
	since = ws->quota.handed_b - MIN(ws->quota.since, ws->quota.handed_b);
	lock_drop(&ws->lock);
	if (since >= ws->size_b / SINCE_PARTS)
		store_gc_ask(ws->conf.store);
}
