/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object. Frames of the agent arrive on the loop, are copied to a bounded queue, and one job on the work strand
 * takes all that is queued as one pass: one transaction, one commit, then what after.c does.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "host/ws/state.h"
#include "seal/digest.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

enum { COMMANDS_MS = 50 };
enum { TROUBLE_MS = 1000, TROUBLE_STEPS = 5, TROUBLE_SHOWN_S = 60 };

/* --- life --------------------------------------------------------------------------------------------------------- */

static void counts_read(struct ws *ws)
{
	AUTO(txn_abort) struct txn *t = NULL;
	uint64_t stored = 0, handed, given = 0;

	if (txn_read(ws->db, &t, NULL) == 0)
		(void)!meta_get_u64(t, "stored", &stored);
	handed = stored; /* where that was all that was counted */
	if (t) {
		(void)!meta_get_u64(t, "handed", &handed);
		(void)!meta_get_u64(t, "given", &given);
	}
	ws->stored_b = ws->stored_known = stored;
	quota_open(ws, handed, given);
}

int ws_open(const struct ws_conf *conf, const char *id, bool create, struct ws **ret, struct err *e)
{
	struct digest d = digest_of("ws-tag", span_str(id));
	struct wsdb *db = NULL;
	struct ws *ws;
	int r = wsdb_open(conf->store, id, create, &db, e);

	if (r < 0)
		return r;
	ws = NEW(struct ws);
	ws->magic = WS_MAGIC;
	ws->refs = 1;
	ws->id = must_strdup(id);
	memcpy(&ws->tag, d.b, sizeof(ws->tag));
	ws->tag = (ws->tag & 0x7fffffff) | 1;
	ws->conf = *conf;
	ws->calm.rate = conf->calm_rate;
	ws->db = db;
	ws->work = strand_new(conf->work);
	ws->notify = strand_new(conf->notify);
	ws->acks = strand_new(conf->work);
	lock_init(&ws->lock, "ws", LOCK_WS);
	lock_cond_init(&ws->cond);
	list_init(&ws->queue);
	list_init(&ws->early);
	list_init(&ws->waiters);
	counts_read(ws);
	kept_load(ws);
	wsdb_on_void(db, late_void, ws);
	wsdb_on_settled(db, known_settled, ws);
	*ret = ws;
	return 0;
}

struct ws *ws_ref(struct ws *ws)
{
	__atomic_add_fetch(&ws->refs, 1, __ATOMIC_RELAXED);
	return ws;
}

bool ws_unref_more(struct ws **slot)
{
	int refs = __atomic_load_n(&(*slot)->refs, __ATOMIC_RELAXED);

	while (refs > 1)
		if (__atomic_compare_exchange_n(&(*slot)->refs, &refs, refs - 1, true, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED)) {
			*slot = NULL;
			return true;
		}
	return false;
}

void ws_unref(struct ws **slot)
{
	struct ws *ws = take(slot);

	if (!ws || __atomic_sub_fetch(&ws->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	assert(ws->magic == WS_MAGIC);
	ws_stop(ws);
	wsdb_on_void(ws->db, NULL, NULL);
	wsdb_on_settled(ws->db, NULL, NULL);
	strand_free(&ws->work); /* before the link, which their jobs use */
	strand_free(&ws->notify);
	strand_free(&ws->acks);
	link_close(&ws->link);
	loop_sync(ws->conf.loop);
	queue_reset(ws);
	ship_reset(ws);
	suspects_free(ws);
	late_fini(ws);
	gone_forget(ws);
	known_fini(ws);
	expect_end(ws);
	leaks_end(ws);
	map_fini(&ws->suspects);
	commands_forget(ws);
	vec_fini(&ws->commands.v);
	wsdb_close(&ws->db);
	pthread_cond_destroy(&ws->cond);
	lock_fini(&ws->lock);
	str_free(&ws->id);
	kept_fini(ws);
	ws->magic = 0;
	free(ws);
}

const char *ws_id(const struct ws *ws)
{
	return ws->id;
}

struct wsdb *ws_db(struct ws *ws)
{
	return ws->db;
}

uint32_t ws_tag(const struct ws *ws)
{
	return ws->tag;
}

enum ws_mode ws_mode(struct ws *ws)
{
	enum ws_mode mode;

	lock_take(&ws->lock);
	mode = ws->mode;
	lock_drop(&ws->lock);
	return mode;
}

struct link *ws_link(struct ws *ws)
{
	struct link *link;

	lock_take(&ws->lock);
	link = ws->mode == WS_LIVE ? ws->link : NULL;
	lock_drop(&ws->lock);
	return link;
}

void ws_limit(struct ws *ws, uint64_t size_b)
{
	ws->size_b = size_b;
}

uint64_t ws_entries_max(uint64_t size_b)
{
	return MAX(size_b / WS_ENTRY_B, (uint64_t)WS_ENTRIES_MIN);
}

void ws_set_past(struct ws *ws)
{
	ws->is_past = true;
}

bool ws_is_past(const struct ws *ws)
{
	return ws->is_past;
}

void ws_on_change(struct ws *ws, const struct ws_listener *listener, void *ctx)
{
	ws->listener = listener;
	ws->listener_ctx = ctx;
}

bool ws_in_trouble(const struct ws *ws)
{
	return ws->trouble_at && clock_now() - ws->trouble_at < TROUBLE_SHOWN_S * CLOCK_S;
}

void ws_stat(struct ws *ws, struct ws_stats *ret)
{
	lock_take(&ws->lock);
	*ret = ws->stats;
	ret->queued_b = ws->queue_b + ws->early_b;
	ret->held_b = ws->calm.held_b;
	ret->batches = __atomic_load_n(&ws->counts.batches, __ATOMIC_RELAXED);
	ret->records = __atomic_load_n(&ws->counts.records, __ATOMIC_RELAXED);
	ret->ships = __atomic_load_n(&ws->counts.ships, __ATOMIC_RELAXED);
	ret->ship_b = __atomic_load_n(&ws->counts.ship_b, __ATOMIC_RELAXED);
	if (ret->is_up && !ret->halted && !ws_in_trouble(ws))
		ret->why[0] = '\0';
	lock_drop(&ws->lock);
}

/* --- telling the kernel, then the rest ---------------------------------------------------------------------------- */

struct tell {
	struct ws *ws;
	ws_changes changes;
	pool_job_fn *then;
	void *ctx;
};

static void tell_run(void *ctx)
{
	struct tell *t = ctx;

	if (t->ws->listener && t->changes.len)
		t->ws->listener->changed(t->ws->listener_ctx, t->ws, t->changes.v, t->changes.len);
	if (t->then)
		t->then(t->ctx);
	changes_free(&t->changes);
	free(t);
}

void ws_tell(struct ws *ws, ws_changes *list, pool_job_fn *then, void *ctx)
{
	struct tell *t = NEW(struct tell);

	t->ws = ws;
	t->changes.v = list->v;
	t->changes.len = list->len;
	t->changes.cap = list->cap;
	t->then = then;
	t->ctx = ctx;
	list->v = NULL;
	list->len = list->cap = 0;
	strand_run(ws->notify, tell_run, t);
}

void ws_announce(struct ws *ws, struct ws_change *v, size_t n)
{
	if (ws->listener && n)
		v[0].ticket = ws->listener->announce(ws->listener_ctx, ws, v, n);
}

void ws_retract(struct ws *ws, const struct ws_change *v, size_t n)
{
	if (ws->listener && n)
		ws->listener->retract(ws->listener_ctx, ws, v, n);
}

void ws_retell(struct ws *ws, struct ws_change *changes, size_t n)
{
	ws_changes list = { .v = changes, .len = n, .cap = n };

	ws_tell(ws, &list, NULL, NULL);
}

/* --- a pass ------------------------------------------------------------------------------------------------------- */

static int pass_frame(struct ws_pass *p, const struct ws_frame *f, struct err *e)
{
	struct span payload = SPAN(f->bytes, f->len);
	struct msg_CHANGES m;
	int r;

	if (f->type == MSG_COMMANDS)
		return commands_frame(p, payload, e);
	if (f->type != MSG_CHANGES)
		return ship_frame(p, f->type, payload, e);
	p->has_changes = true;
	r = msg_decode(MSG_CHANGES, payload, &m, e);
	if (r == 0 && (m.flags & WIRE_CHG_SCAN))
		p->by = JOURNAL_BY_SCAN;
	if (r < 0)
		return r;
	p->seq = m.seq;
	r = apply_changes(p, &m, e);
	p->seq = 0;
	return r;
}

static int pass_run(struct ws_pass *p, struct list *frames, struct err *e)
{
	struct list *pos;
	uint64_t stored = 0;
	int r;

	quota_begin(p->ws);
	/* What is told is seen before it is durable, and acknowledged behind that. A first scan is too much for it:
	 * what is not durable yet takes room. But while the host writes, echoes come between, which must not wait. */
	p->is_soon = late_has_room(p->ws) && (p->ws->is_told || wsdb_is_lagging(p->ws->db));
	r = txn_write(p->ws->db, &p->txn, e);
	list_each(pos, frames) {
		if (r == 0)
			r = pass_frame(p, list_entry(pos, struct ws_frame, node), e);
	}
	if (r == 0)
		ship_given(p->ws);
	if (r == 0) {
		apply_orphans(p);
		r = apply_count(p, e);
	}
	if (r == 0)
		r = ship_commit(p, e);
	if (r == 0) {
		ship_count(p);
		story_tell(p);
		ship_tell(p);
		commands_finish(p);
		stored = p->ws->stored_b;
		ws_announce(p->ws, p->changes.v, p->changes.len);
		r = pass_commit(p, e);
		if (r < 0)
			ws_retract(p->ws, p->changes.v, p->changes.len);
	}
	if (r < 0)
		commands_forget(p->ws);
	if (r == 0) {
		p->ws->stored_known = stored;
		p->ws->quota.handed_known = p->handed_b;
		p->ws->quota.given_known = p->given_b;
		follow_publish(p->ws->conf.watchers, p->ws->id);
	}
	return r;
}

static void pass_fini(struct ws_pass *p)
{
	txn_abort(&p->txn);
	story_free(p);
	changes_free(&p->changes);
	vec_fini(&p->ships);
	vec_fini(&p->orphans);
	vec_fini(&p->gone);
	vec_fini(&p->fetch);
	vec_fini(&p->ended);
}

static void want_scan(struct ws *ws);

static void resume(void *ctx)
{
	struct ws *ws = ctx;
	struct link *link;

	lock_take(&ws->lock);
	link = ws->is_paused && ws->queue_b < WS_QUEUE_LOW ? ws->link : NULL;
	if (link)
		ws->is_paused = false;
	lock_drop(&ws->lock);
	if (link)
		link_pause(link, false);
}

static void drain(void *ctx)
{
	struct ws *ws = ctx;
	struct ws_pass p = { .ws = ws, .by = JOURNAL_BY_INSIDE };
	struct ws_frame *then;
	struct list frames;
	struct err e = ERR_NULL;
	bool paused, live;
	int r;

	list_init(&frames);
	lock_take(&ws->lock);
	then = queue_take(ws, &frames);
	ws->is_scheduled = false;
	ws_schedule(ws); /* what came behind it */
	paused = ws->is_paused;
	live = ws->mode == WS_LIVE && !ws->stats.halted && !ws->is_broken;
	lock_drop(&ws->lock);
	r = live && !list_empty(&frames) ? pass_run(&p, &frames, &e) : 0;
	if (r < 0) {
		ws->is_broken = true;
		ship_reset(ws);
		suspects_free(ws);
		ws_trouble(ws, e.slug, e.text,
			   str_eq(e.slug, "replication-halted") || str_eq(e.slug, "quota-exceeded"));
	} else if (p.ack || p.ships.len || p.gone.len || p.scan_done) {
		if (p.want_scan) /* before it is acknowledged: whoever waits for that waits for the scan, too */
			want_scan(ws);
		after_pass(&p);
	}
	if (paused)
		loop_post(ws->conf.loop, resume, ws);
	pass_fini(&p);
	queue_clear(ws, &frames);
	if (then)
		then->fn(then->ctx);
	free(then);
}

/* --- the link's side, on the loop --------------------------------------------------------------------------------- */

void ws_schedule(struct ws *ws)
{
	if (ws->is_scheduled || list_empty(&ws->queue))
		return;
	ws->is_scheduled = true;
	strand_run(ws->work, drain, ws);
}

static void on_lazy(void *ctx)
{
	struct ws *ws = ctx;

	lock_take(&ws->lock);
	ws_schedule(ws);
	lock_drop(&ws->lock);
}

static void on_frame(void *ctx, unsigned type, struct span payload)
{
	struct ws *ws = ctx;
	struct ws_frame *f;
	bool pause = false;

	if (type != MSG_CHANGES && type != MSG_SHIP && type != MSG_SHIP_DATA && type != MSG_SHIP_END &&
	    type != MSG_SHIP_ASIDE && type != MSG_COMMANDS)
		return;
	if (type == MSG_COMMANDS && ws->conf.log_commands == WS_LOG_OFF)
		return;
	f = malloc(sizeof(*f) + payload.len); /* not zeroed: it is large, and there are many */
	if (!f)
		abort();
	*f = (struct ws_frame){ .type = type, .len = payload.len };
	memcpy(f->bytes, payload.p, payload.len);
	list_init(&f->node);
	queue_number(f);
	lock_take(&ws->lock);
	queue_put(ws, f);
	/* A command of its own is not worth a commit at once: its changes may come in a moment, or its end. */
	if (type == MSG_COMMANDS && ws->lazy && ws->queue_b < WS_QUEUE_LOW)
		loop_rearm(ws->lazy, clock_after_ms(COMMANDS_MS));
	else
		ws_schedule(ws);
	if (ws->queue_b > WS_QUEUE_HIGH && !ws->is_paused)
		pause = ws->is_paused = true;
	lock_drop(&ws->lock);
	if (pause)
		link_pause(ws->link, true);
}

static void scan_asked(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct ws *ws = ctx;

	(void)type;
	(void)msg;
	if (result < 0 && result != -EPIPE)
		ws_trouble(ws, e->slug, e->text, result == -ESTALE || str_eq(e->slug, "root-changed"));
}

static void want_scan(struct ws *ws)
{
	struct msg_REPLICATE m = { .root_fid = ws_root(ws), .known = ws->expect.is_on, .rules = span_str(ws_keep(ws)) };
	struct link *link = ws_link(ws);

	if (link)
		link_call(link, MSG_REPLICATE, &m, clock_after_ms(WS_OP_MS), scan_asked, ws);
}

struct boot_job {
	struct ws *ws;
	uint64_t boot, disk;
};

/* On the strand, so that nothing of the old connection is half applied: then ask for a scan. */
static void begin(void *ctx)
{
	struct boot_job *j = ctx;
	struct err e = ERR_NULL;
	int r;

	ship_reset(j->ws);
	suspects_free(j->ws);
	j->ws->is_first = true;
	pull_reset(j->ws);
	r = j->disk && j->disk != j->ws->disk ? ws_same_disk(j->ws, j->disk, &e) : 0;
	j->ws->boot = j->boot;
	j->ws->is_broken = r < 0;
	if (r < 0) {
		ws_trouble(j->ws, e.slug, e.text, str_eq(e.slug, "replication-halted"));
	} else {
		if (j->disk)
			j->ws->disk = j->disk;
		want_scan(j->ws);
	}
	free(j);
}

static void on_up(void *ctx, uint64_t boot, uint64_t disk)
{
	struct ws *ws = ctx;
	struct boot_job *j = NEW(struct boot_job);

	j->ws = ws;
	j->boot = boot;
	j->disk = disk;
	lock_take(&ws->lock);
	ws->stats.is_up = true;
	if (!ws->stats.halted && !ws_in_trouble(ws))
		ws->stats.why[0] = '\0';
	lock_drop(&ws->lock);
	thawed_tell(ws);
	strand_run(ws->work, begin, j);
}

static void on_down(void *ctx, const char *why)
{
	struct ws *ws = ctx;

	lock_take(&ws->lock);
	ws->stats.is_up = false;
	if (!ws->stats.halted && !ws_in_trouble(ws))
		snprintf(ws->stats.why, sizeof(ws->stats.why), "%s", why);
	queue_reset(ws);
	ws->is_paused = false;
	lock_drop(&ws->lock);
}

void ws_trouble(struct ws *ws, const char *slug, const char *why, bool halt)
{
	struct link *link = ws_link(ws);
	unsigned delay_ms;
	bool full;

	log_warn("ws", halt ? "replication halted" : "replication in trouble", "id=%s slug=%s why=%s", ws->id, slug,
		 why);
	lock_take(&ws->lock);
	full = str_eq(slug, "store-full") || str_eq(slug, "workspace-full");
	ws->troubles = full && ws_in_trouble(ws) ? MIN(ws->troubles + 1, (unsigned)TROUBLE_STEPS) : 0;
	ws->trouble_at = clock_now();
	ws->is_stuck = full || str_eq(slug, "eio");
	delay_ms = (unsigned)TROUBLE_MS << ws->troubles;
	snprintf(ws->stats.why, sizeof(ws->stats.why), "%s", why);
	ws->stats.halted |= halt;
	if (halt && !str_eq(slug, "quota-exceeded"))
		__atomic_store_n(&ws->quota.is_over, false, __ATOMIC_RELAXED); /* less would not help */
	pthread_cond_broadcast(&ws->cond);
	lock_drop(&ws->lock);
	if (halt)
		waiters_wake(ws, &(const uint64_t){ 0 }, 1, false, -EIO);
	if (!halt && link)
		link_restart(link, delay_ms, why);
}

/* Snapshots were removed, or much was: what could not be stored is told again. */
static void go_on(struct ws *ws, struct link *link)
{
	bool halted;

	lock_take(&ws->lock);
	halted = ws->stats.halted;
	if (halted) {
		__atomic_store_n(&ws->quota.is_over, false, __ATOMIC_RELAXED);
		ws->stats.halted = false;
		ws->stats.why[0] = '\0';
	}
	lock_drop(&ws->lock);
	if (!halted)
		return; /* it is about to be */
	log_info("ws", "replication goes on", "id=%s", ws->id);
	link_restart(link, 0, "it holds less than its quota again");
}

/* Once a second while live: those who waited too long. */
static void tick(void *ctx)
{
	struct ws *ws = ctx;
	struct link *link = ws_link(ws);

	if (link)
		link_tick(link);
	if (link && quota_is_met(ws))
		go_on(ws, link);
	waiters_wake(ws, NULL, 0, false, -ETIMEDOUT);
	pull_tick(ws);
	loop_rearm(ws->tick, clock_after_ms(1000));
}

static void tick_start(void *ctx)
{
	struct ws *ws = ctx;

	ws->tick = loop_timer(ws->conf.loop, clock_after_ms(1000), tick, ws);
	ws->lazy = loop_timer(ws->conf.loop, CLOCK_NEVER, on_lazy, ws);
	ws->pace = loop_timer(ws->conf.loop, CLOCK_NEVER, ship_pace, ws);
}

void ws_start(struct ws *ws, const char *address, const void *token)
{
	struct link_events events = { .up = on_up, .down = on_down, .frame = on_frame, .ctx = ws };

	loop_post(ws->conf.loop, tick_start, ws);
	lock_take(&ws->lock); /* the link's first news wait for it */
	if (ws->link)
		link_wake(ws->link);
	else
		ws->link = link_new(ws->conf.loop, ws->conf.dial, address, ws->id, token, &events);
	ws->is_ready = false;
	ws->mode = WS_LIVE;
	lock_drop(&ws->lock);
}

int ws_wait_ready(struct ws *ws, uint64_t until, struct err *e)
{
	int r = 0;

	lock_take(&ws->lock);
	while (r == 0 && ws->mode == WS_LIVE && !ws->is_ready && !ws->stats.halted)
		r = lock_wait(&ws->lock, &ws->cond, until);
	if (ws->stats.halted)
		r = err_set(e, -EIO, "replication-halted", "replication halted: %s", ws->stats.why);
	else if (r < 0)
		err_set(e, r, "agent-silent", "the agent did not tell the workspace in time%s%s",
			ws->stats.why[0] ? ": " : "", ws->stats.why);
	else if (!ws->is_ready)
		r = err_set(e, -EPIPE, "agent-gone", "the workspace was stopped");
	lock_drop(&ws->lock);
	return r;
}
