/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much a guest may make the store take. Its file system is bounded; what it ships is not: voids, the same file
 * again and again, more bytes than it says to have. So what the store took for it is counted, and may not be more than
 * some times the size of its file system. What a collection has given back counts no more: then it is what the
 * workspace and its snapshots held at that time, and what was brought since the run began.
 *
 * A workspace that was written anew often enough asks for a run by itself, and near the bound its changes wait for one.
 * So only who holds too much is ever refused; where nobody collects, who has brought too much.
 */
#include "host/ws/state.h"

enum { ASK_PARTS = 2, WAIT_NUM = 7, WAIT_DEN = 8, WAIT_MS = 1000 };

/* ws.lock is held. @brought: so far. Runs come one after the other; of one that began since the last time and in which
 * nothing was looked at here, nothing was brought since, either. */
static void look(struct ws *ws, const struct gc_held *held, uint64_t brought)
{
	struct ws_quota *q = &ws->quota;
	uint64_t then;

	if (held->done > q->done) {
		then = q->seen == held->done ? q->then : brought;
		q->done = held->done;
		q->since = then;
		__atomic_store_n(&q->given_b, then > held->bytes ? then - held->bytes : 0, __ATOMIC_RELAXED);
	}
	if (held->begun > q->seen) {
		q->seen = held->begun;
		q->then = brought;
	}
}

uint64_t quota_given(const struct ws *ws)
{
	return __atomic_load_n(&ws->quota.given_b, __ATOMIC_RELAXED);
}

uint64_t quota_charged(struct ws *ws, uint64_t brought)
{
	struct gc_held held;

	store_gc_held(ws->conf.store, ws->id, &held);
	lock_take(&ws->lock);
	look(ws, &held, brought);
	lock_drop(&ws->lock);
	return brought - MIN(quota_given(ws), brought);
}

bool quota_is_over(const struct ws *ws, uint64_t more)
{
	uint64_t b = ws->stored_b + more;

	b -= MIN(quota_given(ws), b);
	return ws->size_b && b / WS_STORED_TIMES > ws->size_b;
}

/* How much was brought since the last run that is reckoned with began. */
static uint64_t since(struct ws *ws)
{
	uint64_t b;

	lock_take(&ws->lock);
	b = ws->stored_b - MIN(ws->quota.since, ws->stored_b);
	lock_drop(&ws->lock);
	return b;
}

void quota_begin(struct ws *ws)
{
	uint64_t b, max = ws->size_b * WS_STORED_TIMES;

	store_gc_yield(ws->conf.store);
	b = quota_charged(ws, ws->stored_b);
	if (!ws->size_b || b < max / ASK_PARTS || since(ws) < ws->size_b)
		return;
	if (store_gc_ask(ws->conf.store, b >= max / WAIT_DEN * WAIT_NUM ? WAIT_MS : 0))
		(void)quota_charged(ws, ws->stored_b);
}
