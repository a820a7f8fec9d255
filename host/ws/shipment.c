/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents as they arrive. One shipment is open at a time, and one may rest; its bytes go to a content writer, whose
 * chunks travel to the store's writer thread while more come in. What is complete is collected in the pass and becomes
 * visible in its transaction, after pass_settle(): content is in the store before an inode names it, and durable
 * before that is.
 */
#include "base/clock.h"
#include "base/str.h"
#include "host/ws/state.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/stat.h>

enum { SMALL_GIVEN_B = 64 * 1024 };

static void count(struct ws *ws, const struct content_writer *w)
{
	ws->stored_b += content_writer_new_b(w);
	ws->quota.handed_b += content_writer_handed_b(w);
}

/* It is over, for good or bad. */
static void ship_drop(struct ws *ws, struct ws_ship *s)
{
	if (s->writer)
		count(ws, s->writer);
	content_writer_free(&s->writer);
	leaks_drop(s);
	memset(s, 0, sizeof(*s));
}

void ship_reset(struct ws *ws)
{
	ship_drop(ws, &ws->ship);
	ship_drop(ws, &ws->aside);
	unsure_reset(ws);
	lock_take(&ws->lock);
	ws->calm.owed = 0; /* a new connection begins with all its credit */
	ws->small_b = 0;
	lock_drop(&ws->lock);
}

/* --- how fast ----------------------------------------------------------------------------------------------------- */

static struct looks looks; /* of this process: its processors are what there is to share */

void ws_looked(struct ws *ws)
{
	looks_note(&looks, ws->tag, clock_now());
}

/* Large files are to wait: others look, and nobody waits for contents of this one. ws.lock is held. */
static bool is_calm(const struct ws *ws, uint64_t now)
{
	return !ws->hurry && !ws->waiting && looks_by_others(&looks, ws->tag, now);
}

static void give(struct ws *ws, uint64_t bytes)
{
	struct msg_WINDOW credit = { .stream = WIRE_IN, .bytes = bytes };

	if (bytes)
		link_send_ship(ws->link, MSG_WINDOW, &credit);
}

void ship_pace(void *ctx)
{
	struct ws *ws = ctx;
	uint64_t now = clock_now(), b, next;

	lock_take(&ws->lock);
	b = calm_due(&ws->calm, now, is_calm(ws, now));
	next = calm_next(&ws->calm);
	ws->is_pacing = next != CLOCK_NEVER && ws->pace;
	lock_drop(&ws->lock);
	give(ws, b);
	if (ws->pace)
		loop_rearm(ws->pace, next == CLOCK_NEVER ? next : MIN(next, now + CALM_LOOK_MS * CLOCK_MS));
}

void ship_hurry(struct ws *ws)
{
	uint64_t b;

	lock_take(&ws->lock);
	b = calm_due(&ws->calm, 0, false);
	lock_drop(&ws->lock);
	if (ws->link)
		give(ws, b);
}

/* So much has come: its credit goes back, of a large file perhaps later. */
static void came(struct ws *ws, uint64_t b)
{
	bool large = ws->ship.node.size > WIRE_SHIP_LARGE && link_speaks(ws->link, MSG_SHIP_ASIDE), arm = false;
	uint64_t now;

	if (large) {
		lock_take(&ws->lock);
		now = clock_now();
		b = calm_came(&ws->calm, now, b, is_calm(ws, now));
		arm = ws->calm.owed && !ws->is_pacing;
		ws->is_pacing |= arm;
		lock_drop(&ws->lock);
	}
	if (!large) { /* small ones come many at a time, and their credit goes back together */
		ws->small_b += b;
		b = ws->small_b >= SMALL_GIVEN_B ? ws->small_b : 0;
		ws->small_b -= b;
	}
	give(ws, b);
	if (arm)
		loop_post(ws->conf.loop, ship_pace, ws);
}

void ship_given(struct ws *ws)
{
	if (ws->small_b && ws->link)
		give(ws, ws->small_b);
	ws->small_b = 0;
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

static int check_quota(struct ws *ws, struct err *e)
{
	const struct content_writer *w[] = { ws->ship.writer, ws->aside.writer };
	uint64_t stored = 0, handed = 0;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_LEN(w); i++) {
		stored += w[i] ? content_writer_new_b(w[i]) : 0;
		handed += w[i] ? content_writer_handed_b(w[i]) : 0;
	}
	r = quota_check(ws, stored, handed, e);
	__atomic_store_n(&ws->quota.is_over, r < 0 && str_eq(e->slug, "quota-exceeded"), __ATOMIC_RELAXED);
	return r;
}

void ship_count(struct ws_pass *p)
{
	struct ws *ws = p->ws;

	if (ws->stored_b != ws->stored_known)
		meta_put_u64(p->txn, "stored", ws->stored_b);
	p->handed_b = ws->quota.handed_b;
	if (p->handed_b != ws->quota.handed_known)
		meta_put_u64(p->txn, "handed", p->handed_b);
	p->given_b = quota_given(ws);
	if (p->given_b != ws->quota.given_known)
		meta_put_u64(p->txn, "given", p->given_b);
}

int ship_charge(struct ws_pass *p, const struct content_writer *w)
{
	struct ws *ws = p->ws;
	int r;

	count(ws, w);
	r = quota_check(ws, 0, 0, NULL);
	if (r < 0)
		return r;
	ship_count(p);
	return 0;
}

static int not_stored(int r, struct err *e)
{
	if (r == -ENOSPC)
		return err_set(e, r, "store-full", "the store is full: there is no room for what the sandbox wrote");
	return err_sys(e, r, "storing content");
}

/* A delta is laid over the content that the named shipment brought, when that is what the store still has. */
static int ship_begin(struct ws_pass *p, const struct msg_SHIP *m, struct err *e)
{
	struct ws *ws = p->ws;
	struct span list = m->node;
	const struct content *base = NULL;
	struct msg_NODE told;
	struct node n;
	size_t i;
	int r;

	if (ws->ship.is_open || !msg_rec_next(&list, MSG_NODE, &told))
		return err_set(e, -EBADMSG, "bad-message", "a shipment out of order or of no inode");
	ws->ship.is_open = true;
	ws->ship.ship = m->ship;
	ws->ship.behind = m->behind;
	node_from_msg(&told, &ws->ship.node);
	r = node_get(p->txn, told.fid, &n);
	if (r < 0)
		return err_sys(e, r, "reading an inode");
	if (m->base) {
		if (r == 0 && n.content_ship == m->base && n.content_boot == ws->boot)
			base = &n.content;
		for (i = 0; i < p->ships.len; i++)
			if (p->ships.v[i].node.fid == told.fid && p->ships.v[i].ship == m->base &&
			    p->ships.v[i].is_known)
				base = &p->ships.v[i].content;
		ws->ship.is_bad = base == NULL;
	}
	/* A file that the agent cannot open is told as a shipment of nothing that ends as void. */
	ws->ship.is_bad |= !S_ISREG(told.mode);
	if (!ws->ship.is_bad)
		ws->ship.writer = content_writer_new(ws->conf.store, base);
	return 0;
}

static int ship_data(struct ws_pass *p, const struct msg_SHIP_DATA *m, struct err *e)
{
	struct ws *ws = p->ws;
	uint64_t end;
	int r;

	if (!ws->ship.is_open || __builtin_add_overflow(m->offset, m->data.len, &end) || end > ws->ship.node.size)
		return err_set(e, -EBADMSG, "bad-message", "bytes outside a shipment");
	__atomic_add_fetch(&ws->counts.ship_b, m->data.len, __ATOMIC_RELAXED);
	came(ws, m->data.len);
	if (ws->ship.is_bad)
		return 0;
	r = check_quota(ws, e);
	if (r < 0)
		return r;
	leaks_look(p, &ws->ship, m->offset, m->data);
	r = content_write(ws->ship.writer, m->offset, m->data);
	return r < 0 ? not_stored(r, e) : 0;
}

static int ship_end(struct ws_pass *p, const struct msg_SHIP_END *m, struct err *e)
{
	struct ws *ws = p->ws;
	struct ws_shipped done = {
		.ship = ws->ship.ship,
		.behind = ws->ship.behind,
		.node = ws->ship.node,
		.is_known = !ws->ship.is_bad,
	};
	int r = 0;

	if (!ws->ship.is_open)
		return err_set(e, -EBADMSG, "bad-message", "the end of no shipment");
	if (m->ok && done.is_known) {
		r = content_resize(ws->ship.writer, done.node.size);
		if (r == 0)
			r = content_finish(ws->ship.writer, &done.content);
	}
	if (m->ok && r == 0)
		vec_push(&p->ships, done);
	else if (m->gone)
		vec_push(&p->gone, done.node.fid);
	ship_drop(ws, &ws->ship);
	return r < 0 ? not_stored(r, e) : 0;
}

/* A large one makes room for others, or goes on. */
static int ship_aside(struct ws *ws, const struct msg_SHIP_ASIDE *m, struct err *e)
{
	bool rests = m->ship == 0;
	struct ws_ship *from = rests ? &ws->ship : &ws->aside, *to = rests ? &ws->aside : &ws->ship;

	if (!from->is_open || to->is_open || (!rests && from->ship != m->ship))
		return err_set(e, -EBADMSG, "bad-message", "a shipment that cannot rest or go on");
	*to = *from;
	memset(from, 0, sizeof(*from));
	return 0;
}

int ship_frame(struct ws_pass *p, unsigned type, struct span payload, struct err *e)
{
	union {
		struct msg_SHIP begin;
		struct msg_SHIP_DATA data;
		struct msg_SHIP_END end;
		struct msg_SHIP_ASIDE aside;
	} m;
	int r = msg_decode((enum msg_type)type, payload, &m, e);

	if (r < 0)
		return r;
	if (type == MSG_SHIP)
		return ship_begin(p, &m.begin, e);
	if (type == MSG_SHIP_DATA)
		return ship_data(p, &m.data, e);
	if (type == MSG_SHIP_ASIDE)
		return ship_aside(p->ws, &m.aside, e);
	return ship_end(p, &m.end, e);
}

/* The shipped version becomes the inode's content; attributes told later than the shipment stay. */
static int ship_put(struct ws_pass *p, const struct ws_shipped *s)
{
	struct node n, old;
	bool is_new;
	int r = node_get(p->txn, s->node.fid, &n);

	if (r != 0)
		return MIN(r, 0);
	old = n;
	if (!S_ISREG(n.mode) || s->node.ctime_ns < n.content_ctime_ns)
		return 0;
	if (s->node.ctime_ns >= n.ctime_ns) {
		n.size = s->node.size;
		n.blocks = s->node.blocks;
		n.flags &= ~(uint32_t)NODE_PENDING;
	}
	if (s->node.ctime_ns > n.ctime_ns) { /* else what was told is as new at least, where a clock is coarse */
		n.mtime_ns = s->node.mtime_ns;
		n.ctime_ns = s->node.ctime_ns;
		n.mode = s->node.mode;
		n.uid = s->node.uid;
		n.gid = s->node.gid;
	}
	/* What was pending may have been written from here without being laid over: its pages are not what comes now.
	 */
	is_new = (old.flags & NODE_PENDING) || !content_eq(&old.content, &s->content);
	n.content = s->content;
	n.content_ctime_ns = s->node.ctime_ns;
	n.content_ship = s->ship;
	n.content_boot = p->ws->boot;
	node_put(p->txn, &n);
	story_attr(p, &old, &n, true);
	/* What the host itself wrote comes back as it is here already. The kernel must keep its pages then: it would
	 * drop those of writes under way, too, read the old bytes once more, and show them for ever. */
	changes_add(&p->changes, 0, SPAN_NULL, n.fid, false, is_new);
	__atomic_add_fetch(&p->ws->counts.ships, 1, __ATOMIC_RELAXED);
	return 0;
}

int ship_commit(struct ws_pass *p, struct err *e)
{
	size_t i;
	int r;

	if (!p->ships.len)
		return 0;
	r = pass_settle(p, e);
	for (i = 0; r == 0 && i < p->ships.len; i++) {
		if (!p->ships.v[i].is_known)
			continue;
		r = ship_put(p, &p->ships.v[i]);
	}
	return r < 0 && e && !e->code ? not_stored(r, e) : r;
}

void ship_tell(struct ws_pass *p)
{
	size_t i;

	for (i = 0; i < p->ships.len; i++) {
		const struct ws_shipped *s = &p->ships.v[i];
		struct journal_row row = { .kind = JOURNAL_CONTENT, .fid = s->node.fid, .size = s->node.size,
					   .root = s->content.root, .wall_ns = clock_wall() };

		if (s->is_known)
			journal_append(p->txn, &row);
	}
}
