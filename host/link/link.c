/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States of a link: DIALLING (a job on the dial pool connects both connections and says hello), UP, WAITING (a timer
 * before the next dial), ASLEEP (until it is woken), CLOSED. The loop's thread owns connections, timers and state;
 * other threads hand it encoded frames by mail. A call is in the table from before its frame is sent until its callback
 * ran, and everything that can end it (reply, deadline, broken connection, hangup) first takes it out, so that the
 * callback runs exactly once.
 */
#include "host/link/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "seal/digest.h"
#include "wire/frame.h"
#include "wire/xport.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

enum { RETRY_MIN_MS = 10, RETRY_MAX_MS = 2000, SHORT_MS = 1000, HELLO_MAX = 1024, DIAL_TRIES = 4 };

/* What an agent's hello says. */
struct answer {
	uint64_t boot, disk;
	unsigned generation;
};

struct dialled {
	struct link *link;
	int control, ship;
	struct answer answer;
	struct err e;
};

/* --- dialling ----------------------------------------------------------------------------------------------------- */

static int hello(int fd, const char *id, const void *token, unsigned kind, uint64_t until, struct answer *ret,
		 struct err *e)
{
	struct msg_HELLO m = { .generation = WIRE_GENERATION, .kind = kind, .wall_ns = clock_wall() };
	struct frame f;
	struct buf in;
	int r;

	m.token = SPAN(token, WIRE_TOKEN_LEN);
	m.id = span_str(id);
	r = frame_send(fd, MSG_HELLO, &m, until);
	if (r < 0)
		return err_sys(e, r, "saying hello to the agent");
	buf_init(&in, HELLO_MAX + FRAME_HEADER);
	r = frame_recv_one(fd, &in, &f, until, e);
	if (r == 0 && f.type != MSG_HELLO)
		r = err_set(e, -EBADMSG, "bad-message", "the agent did not say hello");
	if (r == 0)
		r = msg_decode(MSG_HELLO, f.payload, &m, e);
	if (r == 0 && (m.token.len != WIRE_TOKEN_LEN || !secret_eq(m.token.p, token, WIRE_TOKEN_LEN)))
		r = err_set(e, -EACCES, "wrong-token", "something that is not our agent answers");
	*ret = (struct answer){ .boot = m.boot,
				.disk = m.disk,
				.generation = (unsigned)MIN(m.generation, (uint64_t)WIRE_GENERATION) };
	buf_fini(&in);
	if (r == -ENODATA)
		r = err_set(e, -EACCES, "hello-refused", "the agent hung up at hello");
	else if (r < 0 && e && !e->code)
		err_sys(e, r, "waiting for the agent's hello");
	return r;
}

static int dial(const char *address, const char *id, const void *token, unsigned kind, uint64_t until,
		struct answer *ret, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	int r = xport_connect(address, until, &fd, e);

	if (r == 0)
		r = hello(fd, id, token, kind, until, ret, e);
	if (r == 0)
		*ret_fd = fd_take(&fd);
	return r;
}

int link_dial_to(const char *address, const char *id, const void *token, unsigned kind, uint64_t until,
		 uint64_t *ret_boot, int *ret_fd, struct err *e)
{
	struct answer answer = { .boot = 0 };
	int r = dial(address, id, token, kind, until, &answer, ret_fd, e);

	if (r == 0 && ret_boot)
		*ret_boot = answer.boot;
	return r;
}

static int too_old(struct err *e)
{
	return err_set(e, -ENOSYS, "agent-too-old", "this sandbox's agent is older than the daemon and cannot do that");
}

static bool broke_off(int r)
{
	return r == -EACCES || r == -EPIPE || r == -ECONNRESET || r == -ECONNREFUSED;
}

int link_dial(struct link *l, unsigned kind, uint64_t until, int *ret_fd, struct err *e)
{
	unsigned tries;
	int r;

	if (kind == WIRE_TUNNEL && __atomic_load_n(&l->generation, __ATOMIC_RELAXED) == 1)
		return too_old(e);
	for (tries = 1;; tries++) {
		r = link_dial_to(l->address, l->id, l->token, kind, until, NULL, ret_fd, e);
		/* Nothing was asked for yet: a connection that broke can be made again. */
		if (!broke_off(r) || tries == DIAL_TRIES || clock_now() > until)
			return r;
	}
}

static void dial_done(void *ctx);

static void dial_job(void *ctx)
{
	struct dialled *d = ctx;
	struct link *l = d->link;
	uint64_t until = clock_after_ms(LINK_DIAL_MS);

	d->control = d->ship = -1;
	if (dial(l->address, l->id, l->token, WIRE_CONTROL, until, &d->answer, &d->control, &d->e) < 0 ||
	    link_dial_to(l->address, l->id, l->token, WIRE_SHIP, until, NULL, &d->ship, &d->e) < 0) {
		fd_close(&d->control);
		fd_close(&d->ship);
	}
	loop_post(l->loop, dial_done, d);
}

static void dial_start(struct link *l)
{
	struct dialled *d = NEW(struct dialled);

	l->state = LINK_DIALLING;
	d->link = l;
	lock_take(&l->lock);
	l->dialling++;
	lock_drop(&l->lock);
	pool_run(l->pool, dial_job, d);
}

/* --- ends of calls ------------------------------------------------------------------------------------------------ */

static void call_free(struct call *c)
{
	loop_untimer(&c->timer);
	buf_fini(&c->frame);
	free(c);
}

static void call_end(struct call *c, int result, unsigned type, const void *msg, const struct err *e)
{
	lock_take(&c->link->calls_lock);
	map_remove_u64(&c->link->calls, c->id);
	lock_drop(&c->link->calls_lock);
	c->fn(c->ctx, result, type, msg, e);
	call_free(c);
}

static void call_fail(struct call *c, int code, const char *slug, const char *words)
{
	struct err e;

	call_end(c, err_set(&e, code, slug, "%s", words), 0, NULL, &e);
}

static void call_late(void *ctx)
{
	call_fail(ctx, -ETIMEDOUT, "agent-timeout", "the agent did not answer in time");
}

/* One of those under way: any, or one whose deadline nobody else looks at and is before @now. */
static struct call *call_any(struct link *l, uint64_t now)
{
	struct call *c = NULL;
	struct map_slot *slot;
	size_t pos = 0;

	lock_take(&l->calls_lock);
	while (!c && (slot = map_next(&l->calls, &pos))) {
		c = slot->value;
		if (now && (c->timer || c->until > now))
			c = NULL;
	}
	lock_drop(&l->calls_lock);
	return c;
}

static void calls_fail(struct link *l)
{
	struct call *c;

	while ((c = call_any(l, 0)))
		call_fail(c, -EPIPE, "agent-gone", "the connection to the agent broke");
}

void link_tick(struct link *l)
{
	uint64_t now = clock_now();
	struct call *c;

	while ((c = call_any(l, now)))
		call_late(c);
}

/* --- connections up and down -------------------------------------------------------------------------------------- */

static void set_up(struct link *l, bool up, const struct err *why)
{
	lock_take(&l->lock);
	l->is_up = up;
	if (why)
		l->why = *why;
	pthread_cond_broadcast(&l->cond);
	lock_drop(&l->lock);
}

static void retry_now(void *ctx)
{
	struct link *l = ctx;

	if (l->state == LINK_WAITING)
		dial_start(l);
}

static void go_down(struct link *l, const struct err *why, unsigned delay_ms)
{
	bool was_up = l->state == LINK_UP;

	control_down(l);
	conn_free(&l->ship);
	if (l->state == LINK_CLOSED)
		return;
	l->state = LINK_WAITING;
	set_up(l, false, why);
	calls_fail(l);
	if (was_up)
		l->events.down(l->events.ctx, why->text);
	if (l->state == LINK_WAITING)
		loop_rearm(l->retry, clock_after_ms(delay_ms));
}

static void on_close(void *ctx, const struct err *why)
{
	struct link *l = ctx;

	/* An agent that takes every connection and drops it again must not keep us busy. */
	if (clock_now() - l->up_since > SHORT_MS * CLOCK_MS)
		l->retry_ms = 0;
	l->retry_ms = MIN(MAX(l->retry_ms * 2, (unsigned)RETRY_MIN_MS), (unsigned)RETRY_MAX_MS);
	go_down(l, why, l->retry_ms);
}

static void on_frame(void *ctx, const struct frame *f);

static const struct conn_events conn_events = { .on_frame = on_frame, .on_close = on_close };

/* A guest that stood still for a while, or was restored, has an old time and a state of its random numbers that others
 * may have, too. */
static void tell_clock(struct link *l)
{
	uint8_t fresh[32];
	struct msg_CLOCK m = { .wall_ns = clock_wall(), .entropy = SPAN(fresh, sizeof(fresh)) };

	random_bytes(fresh, sizeof(fresh));
	if (l->generation >= wire_since(MSG_CLOCK))
		link_say(l, MSG_CLOCK, &m);
}

static void dial_done(void *ctx)
{
	struct dialled *d = ctx;
	struct link *l = d->link;
	int r = -EPIPE;

	if (l->state == LINK_DIALLING) {
		r = d->e.code;
		if (r == 0)
			r = conn_new(l->loop, d->control, LINK_OUT_MAX, &conn_events, l, &l->control, &d->e);
		if (r == 0)
			d->control = -1;
		if (r == 0)
			r = conn_new(l->loop, d->ship, LINK_OUT_MAX, &conn_events, l, &l->ship, &d->e);
		if (r == 0)
			d->ship = -1;
		if (r < 0) {
			l->retry_ms = MIN(MAX(l->retry_ms * 2, (unsigned)RETRY_MIN_MS), (unsigned)RETRY_MAX_MS);
			go_down(l, &d->e, l->retry_ms);
		} else {
			l->state = LINK_UP;
			l->up_since = clock_now();
			__atomic_store_n(&l->generation, d->answer.generation, __ATOMIC_RELAXED);
			tell_clock(l);
			control_up(l);
			set_up(l, true, NULL);
			l->events.up(l->events.ctx, d->answer.boot, d->answer.disk);
		}
	}
	fd_close(&d->control);
	fd_close(&d->ship);
	lock_take(&l->lock);
	l->dialling--;
	pthread_cond_broadcast(&l->cond);
	lock_drop(&l->lock);
	free(d);
}

/* --- frames in ---------------------------------------------------------------------------------------------------- */

union reply {
	uint64_t call; /* the first field of each of them */
	struct msg_ERROR error;
	struct msg_OK ok;
	struct msg_PONG pong;
	struct msg_PS_IS ps;
	struct msg_INFO_IS info;
	struct msg_FS_STATFS_IS statfs;
	struct msg_FS_NODE node;
	struct msg_FS_ENTRIES entries;
	struct msg_FS_DATA data;
	struct msg_METRICS_IS metrics;
	struct msg_LOGS_IS logs;
	struct msg_FS_XATTR_IS xattr;
};

static bool is_reply(unsigned type)
{
	return type == MSG_ERROR || type == MSG_OK || type == MSG_PONG || type == MSG_PS_IS || type == MSG_INFO_IS ||
	       type == MSG_FS_STATFS_IS || type == MSG_FS_NODE || type == MSG_FS_ENTRIES || type == MSG_FS_DATA ||
	       type == MSG_METRICS_IS || type == MSG_LOGS_IS || type == MSG_FS_XATTR_IS;
}

static void refused(struct call *c, const struct msg_ERROR *m)
{
	AUTO(str_free) char *name = span_dup(m->name);
	AUTO(str_free) char *slug = span_dup(m->slug);
	AUTO(str_free) char *text = span_dup(m->text);
	int code = err_number(name);
	struct err e;

	call_end(c, err_set(&e, code ? -code : -EIO, slug, "%s", text), 0, NULL, &e);
}

static void on_frame(void *ctx, const struct frame *f)
{
	struct link *l = ctx;
	struct err e = ERR_NULL;
	union reply m;
	struct call *c;

	if (f->type == MSG_ASK) {
		services_ask(l, f->payload);
		return;
	}
	if (!is_reply(f->type)) {
		l->events.frame(l->events.ctx, f->type, f->payload);
		return;
	}
	if (msg_decode((enum msg_type)f->type, f->payload, &m, &e) < 0) {
		go_down(l, &e, RETRY_MAX_MS);
		return;
	}
	control_look(l);
	lock_take(&l->calls_lock);
	c = map_get_u64(&l->calls, m.call);
	lock_drop(&l->calls_lock);
	if (!c)
		return; /* late: its deadline passed */
	if (f->type == MSG_ERROR)
		refused(c, &m.error);
	else
		call_end(c, 0, f->type, &m, NULL);
}

/* --- frames out --------------------------------------------------------------------------------------------------- */

/* Frames that go out together. */
static void several(struct conn *conn, struct buf *frames)
{
	struct frame f;

	conn_hold(conn);
	while (frame_parse(frames, &f, NULL) == 0) {
		(void)!conn_send_frame(conn, SPAN(buf_span(frames).p, FRAME_HEADER + f.payload.len));
		frame_consume(frames, &f);
	}
	conn_let_go(conn);
}

/* A frame without a reply. */
static void send_on_loop(struct link *l, struct call *c)
{
	struct conn *conn = c->to_ship ? l->ship : l->control;
	int r = 0;

	if (l->state != LINK_UP || !conn)
		r = 0;
	else if (c->several)
		several(conn, &c->frame);
	else if (c->since <= l->generation)
		r = c->to_ship ? conn_send_frame(conn, buf_span(&c->frame)) : control_send(l, buf_span(&c->frame));
	if (r < 0)
		log_debug("link", "a frame was dropped", "id=%s", l->id);
	call_free(c);
}

static void ask_on_loop(struct link *l, struct call *c)
{
	size_t n;
	int r = 1; /* not sent */

	lock_take(&l->calls_lock);
	map_put_u64(&l->calls, c->id, c);
	n = l->calls.len;
	lock_drop(&l->calls_lock);
	if (c->frame.failed)
		call_fail(c, -EINVAL, "bad-request", "a request that the wire cannot carry");
	else if (l->state != LINK_UP)
		call_fail(c, -EPIPE, "agent-gone", "no connection to the agent");
	else if (c->since > l->generation)
		call_fail(c, -ENOSYS, "agent-too-old",
			  "this sandbox's agent is older than the daemon and cannot do that");
	else if (n > LINK_CALLS_MAX)
		call_fail(c, -EBUSY, "agent-busy", "too many requests wait for the agent");
	else
		r = control_send(l, buf_span(&c->frame));
	if (r == -EPIPE) /* it broke, which the loop will hear of in a moment */
		call_fail(c, -EPIPE, "agent-gone", "the connection to the agent broke");
	else if (r < 0)
		call_fail(c, -EBUSY, "agent-busy", "too many requests wait for the agent");
	else if (r == 0)
		c->timer = loop_timer(l->loop, c->until, call_late, c);
}

static void call_on_loop(void *ctx)
{
	struct call *c = ctx;
	struct link *l = c->link;
	bool to_ship = c->to_ship;

	if (c->fn)
		ask_on_loop(l, c);
	else
		send_on_loop(l, c);
	lock_take(&l->calls_lock);
	l->mailed -= !to_ship;
	lock_drop(&l->calls_lock);
}

static void call_mail(struct link *l, struct call *c)
{
	lock_take(&l->calls_lock);
	l->mailed += !c->to_ship;
	lock_drop(&l->calls_lock);
	loop_post(l->loop, call_on_loop, c);
}

static struct call *call_new(struct link *l, enum msg_type type, const void *msg)
{
	struct call *c = NEW(struct call);

	c->link = l;
	c->since = wire_since(type);
	buf_init(&c->frame, FRAME_MAX + FRAME_HEADER);
	if (frame_put(&c->frame, type, msg) < 0)
		c->frame.failed = true;
	return c;
}

static struct call *ask_new(struct link *l, enum msg_type type, void *msg, uint64_t until, link_reply_fn *fn, void *ctx)
{
	uint64_t id = __atomic_add_fetch(&l->next_call, 1, __ATOMIC_RELAXED);
	struct call *c;

	memcpy(msg, &id, sizeof(id));
	c = call_new(l, type, msg);
	c->id = id;
	c->until = until;
	c->fn = fn;
	c->ctx = ctx;
	return c;
}

void link_call(struct link *l, enum msg_type type, void *msg, uint64_t until, link_reply_fn *fn, void *ctx)
{
	call_mail(l, ask_new(l, type, msg, until, fn, ctx));
}

void link_call_now(struct link *l, enum msg_type type, void *msg, uint64_t until, link_reply_fn *fn, void *ctx)
{
	struct call *c = ask_new(l, type, msg, until, fn, ctx);

	if (c->frame.failed || !link_speaks(l, type) || !control_direct(l, c))
		call_mail(l, c);
}

void link_send(struct link *l, enum msg_type type, const void *msg)
{
	call_mail(l, call_new(l, type, msg));
}

bool link_speaks(const struct link *l, enum msg_type type)
{
	return __atomic_load_n(&l->generation, __ATOMIC_RELAXED) >= wire_since(type);
}

void link_send_ships(struct link *l, struct buf *frames)
{
	struct call *c = NEW(struct call);

	*c = (struct call){ .link = l, .to_ship = true, .several = true, .frame = *frames };
	buf_init(frames, frames->limit);
	call_mail(l, c);
}

void link_send_ship(struct link *l, enum msg_type type, const void *msg)
{
	struct call *c = call_new(l, type, msg);

	c->to_ship = true;
	call_mail(l, c);
}

void link_pause(struct link *l, bool on)
{
	if (l->state != LINK_UP)
		return;
	if (on) {
		conn_pause(l->ship);
		conn_pause(l->control);
	} else {
		conn_resume(l->ship);
		if (l->state == LINK_UP)
			conn_resume(l->control);
	}
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void start(void *ctx)
{
	struct link *l = ctx;

	l->retry = loop_timer(l->loop, CLOCK_NEVER, retry_now, l);
	dial_start(l);
}

struct link *link_new(struct loop *loop, struct pool *dial, const char *address, const char *id, const void *token,
		      const struct link_events *events)
{
	struct link *l = NEW(struct link);

	l->loop = loop;
	l->pool = dial;
	l->events = *events;
	l->address = must_strdup(address);
	l->id = must_strdup(id);
	memcpy(l->token, token, sizeof(l->token));
	lock_init(&l->lock, "link", LOCK_LINK);
	lock_cond_init(&l->cond);
	lock_init(&l->calls_lock, "link-calls", LOCK_LINK);
	l->direct_fd = -1;
	buf_init(&l->rest, FRAME_MAX + FRAME_HEADER);
	loop_post(loop, start, l);
	return l;
}

static void hangup_on_loop(void *ctx)
{
	struct link *l = ctx;

	if (l->state == LINK_CLOSED)
		return;
	l->state = LINK_CLOSED;
	control_down(l);
	conn_free(&l->ship);
	loop_untimer(&l->retry);
	calls_fail(l);
	services_gone(l);
}

void link_hangup(struct link *l)
{
	lock_take(&l->lock);
	l->hung_up = true;
	l->is_up = false;
	pthread_cond_broadcast(&l->cond);
	lock_drop(&l->lock);
	loop_post(l->loop, hangup_on_loop, l);
}

void link_close(struct link **slot)
{
	struct link *l = take(slot);

	if (!l)
		return;
	link_hangup(l);
	lock_take(&l->lock);
	while (l->dialling)
		lock_wait(&l->lock, &l->cond, CLOCK_NEVER);
	lock_drop(&l->lock);
	loop_sync(l->loop);
	map_fini(&l->calls);
	lock_fini(&l->calls_lock);
	pthread_cond_destroy(&l->cond);
	lock_fini(&l->lock);
	str_free(&l->address);
	str_free(&l->id);
	free(l);
}

static void sleep_on_loop(void *ctx)
{
	struct link *l = ctx;
	struct err why;

	if (l->state == LINK_CLOSED)
		return;
	err_set(&why, -EPIPE, "paused", "the sandbox is paused");
	go_down(l, &why, 0);
	l->state = LINK_ASLEEP;
	loop_rearm(l->retry, CLOCK_NEVER);
}

void link_sleep(struct link *l)
{
	lock_take(&l->lock);
	l->is_up = false;
	lock_drop(&l->lock);
	loop_post(l->loop, sleep_on_loop, l);
}

static void wake_on_loop(void *ctx)
{
	struct link *l = ctx;

	if (l->state == LINK_ASLEEP)
		dial_start(l);
}

void link_wake(struct link *l)
{
	loop_post(l->loop, wake_on_loop, l);
}

struct restart {
	struct link *link;
	unsigned delay_ms;
	struct err why;
};

static void restart_on_loop(void *ctx)
{
	struct restart *job = ctx;

	if (job->link->state == LINK_UP)
		go_down(job->link, &job->why, job->delay_ms);
	free(job);
}

void link_restart(struct link *l, unsigned delay_ms, const char *why)
{
	struct restart *job = NEW(struct restart);

	job->link = l;
	job->delay_ms = delay_ms;
	err_set(&job->why, -EPIPE, "restarted", "%s", why);
	loop_post(l->loop, restart_on_loop, job);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

int link_wait_up(struct link *l, uint64_t until, struct err *e)
{
	int r = 0;

	lock_take(&l->lock);
	while (r == 0 && !l->is_up && !l->hung_up)
		r = lock_wait(&l->lock, &l->cond, until);
	if (l->is_up)
		r = 0;
	else if (l->hung_up)
		r = err_set(e, -EPIPE, "agent-gone", "the link was closed");
	else
		err_set(e, r, "agent-timeout", "no agent answers: %s", l->why.code ? l->why.text : "not yet");
	lock_drop(&l->lock);
	return r;
}

struct waiting {
	struct lock lock;
	pthread_cond_t cond;
	bool done;
	int result;
	struct err e;
	link_reply_fn *reply;
	void *ctx;
};

static void waited(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct waiting *w = ctx;

	if (w->reply)
		w->reply(w->ctx, result, type, msg, e);
	lock_take(&w->lock);
	w->result = result;
	if (e)
		w->e = *e;
	w->done = true;
	pthread_cond_broadcast(&w->cond);
	lock_drop(&w->lock);
}

int link_wait(struct link *l, enum msg_type type, void *msg, uint64_t until, link_reply_fn *reply, void *ctx,
	      struct err *e)
{
	struct waiting w = { .reply = reply, .ctx = ctx };

	lock_init(&w.lock, "link-wait", LOCK_LEAF);
	lock_cond_init(&w.cond);
	link_call(l, type, msg, until, waited, &w);
	lock_take(&w.lock);
	while (!w.done)
		lock_wait(&w.lock, &w.cond, CLOCK_NEVER);
	lock_drop(&w.lock);
	pthread_cond_destroy(&w.cond);
	lock_fini(&w.lock);
	if (w.result < 0 && e)
		*e = w.e;
	return w.result;
}
