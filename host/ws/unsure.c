/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file gets its times before its bytes, so a shipment with the ctime that is told may have been read between the two.
 * The agent tells such a file as written once more, and ships it once more. Until then it is noted here: the number of
 * the batch that told so, behind which a shipment has to be sent to have those bytes. Who opens the file waits for that
 * one, for a while; nobody else does, since what is here is a whole content, and mostly the same. Nothing of it is
 * kept: with another connection all begins anew.
 */
#include "host/ws/state.h"

enum { UNSURE_MAX = 65536 };

static void remove_locked(struct ws *ws, uint64_t fid)
{
	map_remove_u64(&ws->unsure, fid);
	if (!ws->unsure.len)
		map_fini(&ws->unsure);
}

static bool is_waited_for(struct ws *ws, uint64_t fid)
{
	struct list *pos;

	list_each(pos, &ws->waiters)
		if (list_entry(pos, struct ws_waiter, node)->fid == fid)
			return true;
	return false;
}

void unsure_note(struct ws_pass *p, const struct node *old, bool is_name)
{
	struct ws *ws = p->ws;

	if (!p->seq)
		return;
	lock_take(&ws->lock);
	/* Of what is kept as a name no shipment comes but one that was asked for. */
	if ((!is_name || (old->flags & NODE_PENDING) || is_waited_for(ws, old->fid)) &&
	    (ws->unsure.len < UNSURE_MAX || map_get_u64(&ws->unsure, old->fid)))
		map_put_u64(&ws->unsure, old->fid, (void *)(uintptr_t)p->seq);
	lock_drop(&ws->lock);
}

uint64_t unsure_seq(struct ws *ws, uint64_t fid)
{
	uint64_t seq;

	lock_take(&ws->lock);
	seq = (uintptr_t)map_get_u64(&ws->unsure, fid);
	lock_drop(&ws->lock);
	return seq;
}

void unsure_shipped(struct ws *ws, const struct ws_shipped *s)
{
	uint64_t behind = s->behind ? s->behind : UINT64_MAX; /* an agent of before does not say */
	uint64_t fid = s->node.fid, seq;
	struct list *pos;

	if (!s->is_known)
		return;
	lock_take(&ws->lock);
	seq = (uintptr_t)map_get_u64(&ws->unsure, fid);
	if (seq && behind >= seq)
		remove_locked(ws, fid);
	list_each(pos, &ws->waiters) {
		struct ws_waiter *w = list_entry(pos, struct ws_waiter, node);

		if (w->fid == fid && behind >= w->seq)
			w->seq = 0;
	}
	lock_drop(&ws->lock);
}

void unsure_forget(struct ws *ws, uint64_t fid)
{
	if (!ws->unsure.len) /* only this strand changes it */
		return;
	lock_take(&ws->lock);
	remove_locked(ws, fid);
	lock_drop(&ws->lock);
}

void unsure_reset(struct ws *ws)
{
	struct list *pos;

	lock_take(&ws->lock);
	map_fini(&ws->unsure);
	list_each(pos, &ws->waiters)
		list_entry(pos, struct ws_waiter, node)->patience = 0; /* what they wait for may never come */
	lock_drop(&ws->lock);
}
