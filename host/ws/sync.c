/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sync asks the agent, which answers when all that it knows of is shipped and acknowledged, and then looks for
 * itself what is still missing. How long that takes depends on how much there is: a backlog of a million files takes
 * minutes. So who waits may count the deadline from the last thing that came. A guest cannot prolong that for ever,
 * since only what was written before the sync is waited for; an agent that lies could, so there is an end in any
 * case.
 */
#include "base/clock.h"
#include "host/ws/state.h"

#include <errno.h>

enum { SYNC_TRIES = 3, LOOK_MS = 20, LOOKS_PER_PULL = 50, STEP_MS = 250 };

/* For how long to wait. */
struct patience {
	struct ws *ws;
	uint64_t quiet_ms; /* 0: until @until, whatever comes */
	uint64_t until, quiet_until, seen;
	const bool *stop; /* atomic; may be NULL */
};

static uint64_t so_far(struct ws *ws)
{
	return __atomic_load_n(&ws->counts.batches, __ATOMIC_RELAXED) +
	       __atomic_load_n(&ws->counts.ships, __ATOMIC_RELAXED) +
	       __atomic_load_n(&ws->counts.ship_b, __ATOMIC_RELAXED);
}

static bool is_stopped(const struct patience *p)
{
	return p->stop && __atomic_load_n(p->stop, __ATOMIC_RELAXED);
}

static bool is_over(struct patience *p)
{
	uint64_t now = clock_now(), seen = so_far(p->ws);

	if (p->quiet_ms && seen != p->seen) {
		p->seen = seen;
		p->quiet_until = clock_after_ms(p->quiet_ms);
	}
	return now >= p->until || now >= p->quiet_until || is_stopped(p);
}

/* --- asking the agent ------------------------------------------------------------------------------------------- */

/* Outlives the one who waits, when he gave up. */
struct asked {
	struct lock lock;
	pthread_cond_t cond;
	int refs; /* atomic */
	bool done;
	int result;
	struct err e;
};

static void asked_unref(struct asked **slot)
{
	struct asked *a = take(slot);

	if (!a || __atomic_sub_fetch(&a->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	pthread_cond_destroy(&a->cond);
	lock_fini(&a->lock);
	free(a);
}

static void on_answer(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct asked *a = ctx;

	(void)type, (void)msg;
	lock_take(&a->lock);
	a->done = true;
	a->result = result;
	if (result < 0 && e)
		a->e = *e;
	pthread_cond_broadcast(&a->cond);
	lock_drop(&a->lock);
	asked_unref(&a);
}

static int ask_agent(struct link *link, struct patience *p, struct err *e)
{
	AUTO(asked_unref) struct asked *a = NEW(struct asked);
	struct msg_SYNC m = { .call = 0 };
	bool over = false;
	int r;

	a->refs = 2;
	lock_init(&a->lock, "sync", LOCK_LEAF);
	lock_cond_init(&a->cond);
	link_call(link, MSG_SYNC, &m, p->until, on_answer, a);
	lock_take(&a->lock);
	while (!a->done && !over) {
		(void)!lock_wait(&a->lock, &a->cond, MIN(p->quiet_until, clock_after_ms(STEP_MS)));
		over = is_over(p);
	}
	r = a->done ? a->result : -ETIMEDOUT;
	if (a->done && r < 0)
		*e = a->e;
	lock_drop(&a->lock);
	return r == -ETIMEDOUT && !e->code ? err_set(e, r, "timeout", "nothing came from the sandbox any more") : r;
}

/* --- what is missing -------------------------------------------------------------------------------------------- */

/* A version of a file that was told and not brought when a sync began. */
struct missing {
	uint64_t fid;
	int64_t ctime_ns;
};

typedef VEC(struct missing) missing_list;

static int missing_note(struct ws *ws, missing_list *list, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct node n = { .fid = 0 };
	int r = txn_read(ws->db, &t, NULL);

	while (r == 0 && (r = node_next_pending(t, n.fid, &n)) == 0) {
		struct missing one = { .fid = n.fid, .ctime_ns = n.ctime_ns };

		vec_push(list, one);
	}
	return r < 0 ? err_sys(e, r, "looking for contents that are missing") : 0;
}

/* Forget, from the end, those that came, were replaced by something newer that came, or are no more. Return: 0 or
 * -errno. */
static int missing_look(struct ws *ws, missing_list *list)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct node n;
	int r = txn_read(ws->db, &t, NULL);

	while (r >= 0 && list->len) {
		const struct missing *m = &list->v[list->len - 1];

		r = node_get(t, m->fid, &n);
		if (r == 0 && (n.flags & NODE_PENDING) &&
		    (n.content_ctime_ns < m->ctime_ns || n.ctime_ns == m->ctime_ns))
			break;
		list->len -= r >= 0;
	}
	return MIN(r, 0);
}

/*
 * The agent has said that all is shipped. It cannot know of a file that it takes for acknowledged, or of a request
 * to fetch that it never got: so what was missing before the sync is asked for again and awaited.
 */
static int missing_await(struct ws *ws, missing_list *list, struct patience *p, struct err *e)
{
	unsigned round;
	int r = missing_look(ws, list);

	for (round = 0; r == 0 && list->len; round++) {
		if (!ws_link(ws))
			return err_set(e, -EPIPE, "agent-gone", "the workspace was stopped");
		if (is_over(p))
			return err_set(e, -ETIMEDOUT, "content-missing", "the contents of up to %zu files did not come",
				       list->len);
		if (round % LOOKS_PER_PULL == 0)
			pull_all(ws);
		lock_take(&ws->lock);
		(void)!lock_wait(&ws->lock, &ws->cond, clock_after_ms(LOOK_MS));
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

/* --- all of it -------------------------------------------------------------------------------------------------- */

static int sync_for(struct ws *ws, struct patience *p, struct err *e)
{
	missing_list missing = { 0 };
	struct link *link = ws_link(ws);
	struct ws_stats stats;
	uint64_t mark = pull_mark(ws);
	bool put_off = pull_is_on(ws);
	int r, tries;

	if (!link)
		return wsdb_sync(ws->db, e);
	ws_stat(ws, &stats);
	if (stats.halted)
		return err_set(e, -EIO, "replication-halted", "replication halted: %s", stats.why);
	r = missing_note(ws, &missing, e);
	if (r == 0)
		r = ask_agent(link, p, e);
	/* A connection that breaks in between is made anew and all is told again: that is worth asking again, too. */
	for (tries = 0; r == -EPIPE && tries < SYNC_TRIES && !is_stuck(ws) && ws_mode(ws) == WS_LIVE; tries++) {
		*e = ERR_NULL;
		r = link_wait_up(link, MIN(p->until, p->quiet_until), e);
		if (r == 0)
			r = ask_agent(link, p, e);
	}
	if (r == 0 && (put_off || pull_mark(ws) != mark)) {
		missing.len = 0;
		r = missing_note(ws, &missing, e);
	}
	if (r == 0)
		r = missing_await(ws, &missing, p, e);
	if (r == 0) {
		ws_flush(ws, p->until);
		r = wsdb_sync(ws->db, e);
	}
	vec_fini(&missing);
	if (r < 0 && is_stopped(p)) {
		*e = ERR_NULL;
		return err_set(e, -ECANCELED, "busy", "somebody else wants the sandbox");
	}
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

static int sync_in_a_hurry(struct ws *ws, struct patience *p, struct err *e)
{
	struct err own = ERR_NULL;
	int r;

	hurry(ws, true);
	r = sync_for(ws, p, e ? e : &own);
	hurry(ws, false);
	return r;
}

int ws_sync(struct ws *ws, uint64_t until, struct err *e)
{
	struct patience p = { .ws = ws, .until = until, .quiet_until = until, .seen = so_far(ws) };

	return sync_in_a_hurry(ws, &p, e);
}

/* Is anything missing where nothing is written any more? */
static bool is_short(struct ws *ws)
{
	missing_list missing = { 0 };
	bool is_still, is = false;

	lock_take(&ws->lock);
	is_still = ws->is_refusing;
	lock_drop(&ws->lock);
	if (is_still && ws_link(ws))
		is = missing_note(ws, &missing, NULL) == 0 && missing.len;
	vec_fini(&missing);
	return is;
}

/*
 * What the agent told while it was asked may be without content: a file that was changed from here and renamed, say,
 * is asked for again behind the sync's own answer. Where the workload stands still and the host changes nothing, there
 * is an end to that, and before it nothing may be sealed.
 */
int ws_sync_all(struct ws *ws, uint64_t quiet_ms, const bool *stop, struct err *e)
{
	struct patience p = { .ws = ws, .quiet_ms = quiet_ms, .seen = so_far(ws), .stop = stop };
	unsigned again;
	int r;

	p.quiet_until = clock_after_ms(quiet_ms);
	p.until = clock_after_ms(MIN(quiet_ms, UINT64_MAX / WS_SYNC_TIMES) * WS_SYNC_TIMES);
	r = sync_in_a_hurry(ws, &p, e);
	for (again = 0; r == 0 && again < SYNC_TRIES && is_short(ws); again++)
		r = sync_in_a_hurry(ws, &p, e);
	return r;
}
