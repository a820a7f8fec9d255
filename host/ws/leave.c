/* SPDX-License-Identifier: Apache-2.0 */
/* Leaving the agent: for good, or until the workspace goes live again. */
#include "base/clock.h"
#include "host/ws/state.h"

#include <errno.h>

static void tick_stop(void *ctx)
{
	struct ws *ws = ctx;

	loop_untimer(&ws->tick);
	loop_untimer(&ws->lazy);
	loop_untimer(&ws->pace);
	lock_take(&ws->lock);
	ws->is_pacing = false;
	lock_drop(&ws->lock);
}

void ws_refuse_changes(struct ws *ws, bool on)
{
	lock_take(&ws->lock);
	ws->is_refusing = on;
	lock_drop(&ws->lock);
	if (!on)
		thawed_tell(ws);
}

/* It does no harm where nothing was frozen. */
void thawed_tell(struct ws *ws)
{
	struct msg_THAWED m = { 0 };
	struct link *link = ws_link(ws);
	bool frozen;

	lock_take(&ws->lock);
	frozen = ws->is_refusing;
	lock_drop(&ws->lock);
	if (link && !frozen && link_speaks(link, MSG_THAWED))
		link_send(link, MSG_THAWED, &m);
}

/* Leave the agent, for good or not. Return: false when it was left already. */
static bool leave(struct ws *ws, enum ws_mode to)
{
	bool live;

	lock_take(&ws->lock);
	live = ws->mode == WS_LIVE;
	ws->mode = to;
	ws->stats.is_up = false;
	pthread_cond_broadcast(&ws->cond);
	lock_drop(&ws->lock);
	if (ws->link && to == WS_STOPPED)
		link_hangup(ws->link);
	else if (ws->link)
		link_sleep(ws->link);
	return live;
}

/* Whoever looked at a file whose newest content never came has its size; from now on it has that of the older one. */
static void tell_held(struct ws *ws)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct node n = { .fid = 0 };
	ws_changes list = { 0 };

	if (txn_read(ws->db, &t, NULL) < 0)
		return;
	while (node_next_pending(t, n.fid, &n) == 0)
		changes_add(&list, 0, SPAN_NULL, n.fid, false, true);
	ws_announce(ws, list.v, list.len);
	if (list.len)
		ws_tell(ws, &list, NULL, NULL);
}

void ws_stop(struct ws *ws)
{
	if (!leave(ws, WS_STOPPED))
		return;
	tell_held(ws);
	loop_post(ws->conf.loop, tick_stop, ws);
	loop_sync(ws->conf.loop);
	lock_take(&ws->lock);
	queue_drop_early(ws);
	lock_drop(&ws->lock);
	waiters_wake(ws, NULL, 0, true, -EPIPE);
	gone_forget(ws);
	(void)!wsdb_sync(ws->db, NULL); /* who needs to know has asked before: ws_sync() */
}

/* After the last frame that came: the strand has run, the kernel was told. */
static void nothing(void *ctx)
{
	struct ws *ws = ctx;

	lock_take(&ws->lock);
	ws->is_quiet = true;
	pthread_cond_broadcast(&ws->cond);
	lock_drop(&ws->lock);
}

static void quiet(void *ctx)
{
	struct ws *ws = ctx;

	strand_run(ws->notify, nothing, ws);
}

void ws_pause(struct ws *ws)
{
	if (!leave(ws, WS_PAUSED))
		return;
	loop_post(ws->conf.loop, tick_stop, ws);
	loop_sync(ws->conf.loop);
	waiters_wake(ws, NULL, 0, true, -EPIPE);
	ws->is_quiet = false; /* only who may pause it writes this before the jobs are queued */
	strand_run(ws->work, quiet, ws);
	lock_take(&ws->lock);
	while (!ws->is_quiet)
		lock_wait(&ws->lock, &ws->cond, CLOCK_NEVER);
	lock_drop(&ws->lock);
}
