/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents that nobody announced as written are asked for. A few at once; but after a scan, or when the agent's own
 * queue is full, they may be all files of the workspace, and neither a queue for them at the agent nor a list of them
 * here would have a bound. The store has a table of what is pending. So when more are wanted than fit into one lot
 * the table is walked from its beginning to its end, a lot at a time: the next one is asked for when most of the last
 * one has come. What is put off behind the place where the walk is makes it walk once more.
 *
 * A sync that ends while a walk is, or was since it began, cannot rely on the agent's word alone: the agent does not
 * know yet of what it will be asked for. It notes what is pending then, and waits for that.
 *
 * The agent ships what is asked for first, the last request before the others: so a lot is sent backwards.
 */
#include "base/str.h"
#include "host/ws/state.h"

#include <errno.h>

enum { LOT = 1024, LOT_LOW = 256 };

static void ask(struct link *link, struct txn *t, uint64_t fid)
{
	AUTO(str_free) char *path = NULL;
	struct msg_FETCH m = { .fid = fid };
	struct node n;

	if (node_get(t, fid, &n) != 0 || !(n.flags & NODE_PENDING) || node_path(t, fid, &path) != 0)
		return;
	m.path = span_str(path);
	link_send(link, MSG_FETCH, &m);
}

/* One lot. */
static void pull_some(struct ws *ws)
{
	struct link *link = ws_link(ws);
	AUTO(txn_abort) struct txn *t = NULL;
	ws_fids lot = { 0 };
	struct node n;
	int r = link ? txn_read(ws->db, &t, NULL) : -EPIPE;

	while (r == 0 && lot.len < LOT) {
		r = node_next_pending(t, ws->pull.at, &n);
		if (r == 0) {
			ws->pull.at = n.fid;
			vec_push(&lot, n.fid);
		} else if (r == STORE_E_NONE && ws->pull.again) {
			ws->pull.again = false;
			ws->pull.at = 0;
			r = 0;
		}
	}
	if (r != 0)
		__atomic_store_n(&ws->pull.is_on, false, __ATOMIC_RELEASE);
	ws->pull.open += lot.len;
	while (lot.len)
		ask(link, t, lot.v[--lot.len]);
	vec_fini(&lot);
}

static void pull_on(struct ws *ws)
{
	ws->pull.at = 0;
	ws->pull.again = false;
	ws->pull.open = 0;
	__atomic_store_n(&ws->pull.is_on, true, __ATOMIC_RELEASE);
}

void pull_pass(struct ws_pass *p)
{
	struct ws *ws = p->ws;
	struct link *link = ws_link(ws);
	AUTO(txn_abort) struct txn *t = NULL;
	size_t came = p->ships.len + p->gone.len, i;

	ws->pull.open -= MIN(ws->pull.open, came);
	if (p->fetch.len && (pull_is_on(ws) || p->fetch.len > LOT)) {
		__atomic_add_fetch(&ws->pull.put_off, 1, __ATOMIC_RELEASE);
		if (pull_is_on(ws))
			ws->pull.again = true;
		else
			pull_on(ws);
	} else if (p->fetch.len && link && txn_read(ws->db, &t, NULL) == 0) {
		for (i = 0; i < p->fetch.len; i++)
			ask(link, t, p->fetch.v[i]);
	}
	if (pull_is_on(ws) && ws->pull.open < LOT_LOW)
		pull_some(ws);
}

static void all(void *ctx)
{
	struct ws *ws = ctx;

	if (pull_is_on(ws))
		return;
	pull_on(ws);
	pull_some(ws);
}

void pull_all(struct ws *ws)
{
	strand_run(ws->work, all, ws);
}

/* Nothing came for a second: what was asked for may have been lost, or never rests. */
static void unstick(void *ctx)
{
	struct ws *ws = ctx;

	ws->pull.open = 0;
	if (pull_is_on(ws))
		pull_some(ws);
}

void pull_tick(struct ws *ws)
{
	uint64_t ships = __atomic_load_n(&ws->counts.ships, __ATOMIC_RELAXED);

	if (pull_is_on(ws) && ships == ws->pull.seen)
		strand_run(ws->work, unstick, ws);
	ws->pull.seen = ships;
}

uint64_t pull_mark(const struct ws *ws)
{
	return __atomic_load_n(&ws->pull.put_off, __ATOMIC_ACQUIRE);
}

bool pull_is_on(const struct ws *ws)
{
	return __atomic_load_n(&ws->pull.is_on, __ATOMIC_ACQUIRE);
}

void pull_reset(struct ws *ws)
{
	pull_on(ws);
	__atomic_store_n(&ws->pull.is_on, false, __ATOMIC_RELEASE);
}
