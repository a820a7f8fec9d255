/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting until the host has all that the guest wrote: names and contents. */
#include "base/clock.h"
#include "host/ws/state.h"

#include <errno.h>

enum { FETCH_AT_ONCE = 1024, SYNC_TRIES = 3 };

/* A version of a file that was told and not brought when a sync began. */
struct missing {
	uint64_t fid;
	int64_t ctime_ns;
};

typedef VEC(struct missing) missing_list;

static int missing_note(struct ws *ws, missing_list *list)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct node n = { .fid = 0 };
	int r = txn_read(ws->db, &t, NULL);

	while (r == 0 && (r = node_next_pending(t, n.fid, &n)) == 0) {
		struct missing one = { .fid = n.fid, .ctime_ns = n.ctime_ns };

		vec_push(list, one);
	}
	return MIN(r, 0);
}

/* Forget those that came, were replaced by something newer that came, or are no more. Return: 0 or -errno. */
static int missing_look(struct ws *ws, missing_list *list)
{
	AUTO(txn_abort) struct txn *t = NULL;
	size_t i, left = 0;
	struct node n;
	int r = txn_read(ws->db, &t, NULL);

	for (i = 0; r >= 0 && i < list->len; i++) {
		r = node_get(t, list->v[i].fid, &n);
		if (r == 0 && (n.flags & NODE_PENDING) && n.content_ctime_ns < list->v[i].ctime_ns)
			list->v[left++] = list->v[i];
	}
	if (r >= 0)
		list->len = left;
	return MIN(r, 0);
}

static void missing_fetch(struct ws *ws, const missing_list *list)
{
	ws_fids fids = { 0 };
	size_t i;

	for (i = 0; i < list->len && i < FETCH_AT_ONCE; i++)
		vec_push(&fids, list->v[i].fid);
	ws_fetch_all(ws, &fids);
	vec_fini(&fids);
}

/*
 * The agent has said that all is shipped. It cannot know of a file that it takes for acknowledged, or of a request
 * to fetch that it never got: so what was missing before the sync is asked for again and awaited.
 */
static int missing_await(struct ws *ws, missing_list *list, uint64_t until, struct err *e)
{
	unsigned round;
	int r = missing_look(ws, list);

	for (round = 0; r == 0 && list->len; round++) {
		if (!ws_link(ws))
			return err_set(e, -EPIPE, "agent-gone", "the workspace was stopped");
		if (clock_now() >= until)
			return err_set(e, -ETIMEDOUT, "content-missing", "the contents of %zu files did not come",
				       list->len);
		if (round % 50 == 0)
			missing_fetch(ws, list);
		lock_take(&ws->lock);
		(void)!lock_wait(&ws->lock, &ws->cond, clock_after_ms(20));
		lock_drop(&ws->lock);
		r = missing_look(ws, list);
	}
	return r < 0 ? err_sys(e, r, "looking for contents that are missing") : 0;
}

/* The store takes nothing: whoever waits is told so now, not when all dials have been in vain. */
static bool is_stuck(struct ws *ws)
{
	bool stuck;

	lock_take(&ws->lock);
	stuck = ws->is_stuck && ws_in_trouble(ws);
	lock_drop(&ws->lock);
	return stuck;
}

static int sync_now(struct ws *ws, uint64_t until, struct err *e)
{
	missing_list missing = { 0 };
	struct msg_SYNC m = { .call = 0 };
	struct link *link = ws_link(ws);
	struct ws_stats stats;
	int r, tries;

	if (!link)
		return 0;
	ws_stat(ws, &stats);
	if (stats.halted)
		return err_set(e, -EIO, "replication-halted", "replication halted: %s", stats.why);
	r = missing_note(ws, &missing);
	if (r < 0)
		err_sys(e, r, "looking for contents that are missing");
	else
		r = link_wait(link, MSG_SYNC, &m, until, NULL, NULL, e);
	/* A connection that breaks in between is made anew and all is told again: that is worth asking again, too. */
	for (tries = 0; r == -EPIPE && tries < SYNC_TRIES && !is_stuck(ws) && ws_mode(ws) == WS_LIVE; tries++) {
		r = link_wait_up(link, until, e);
		if (r == 0)
			r = link_wait(link, MSG_SYNC, &m, until, NULL, NULL, e);
	}
	if (r == 0)
		r = missing_await(ws, &missing, until, e);
	if (r == 0)
		ws_flush(ws, until);
	vec_fini(&missing);
	ws_stat(ws, &stats);
	if (r < 0 && !stats.halted && stats.why[0])
		err_set(e, r, "not-durable", "not everything could be made durable: %s", stats.why);
	if (r == 0 && stats.halted)
		r = err_set(e, -EIO, "replication-halted", "replication halted: %s", stats.why);
	return r;
}

static void hurry(struct ws *ws, bool on)
{
	lock_take(&ws->lock);
	ws->hurry += on ? 1 : -1U;
	lock_drop(&ws->lock);
	if (on)
		ship_hurry(ws);
}

int ws_sync(struct ws *ws, uint64_t until, struct err *e)
{
	int r;

	hurry(ws, true);
	r = sync_now(ws, until, e);
	hurry(ws, false);
	return r;
}
