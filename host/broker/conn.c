/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of a sandbox: a request, its answer, the next. States:
 *
 *	READING   a head is not all there; what comes goes to in
 *	TELLING   the daemon writes the first use down; nothing is read meanwhile
 *	SENDING   a call is under way: the body goes in -> body -> the call, the answer comes back into out
 *	LEAVING   the last answer is in out; what still comes is thrown away, for a while, so that the answer is read
 *
 * Nothing is buffered whole: reading stops when body is full, the call waits when out is (SOFT). A new request is
 *looked at when the answer to the one before is in out. Everything is on the loop's thread; callbacks of a call only
 *note what they saw, and work() does what follows.
 */
#include "host/broker/fields.h"
#include "host/broker/serve.h"
#include "host/broker/swap.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	IN_MAX = HEAD_MAX + 16 * 1024,
	BODY_MAX_ = 256 * 1024,
	OUT_MAX = 8 * 1024 * 1024,
	SOFT = 256 * 1024,
	PIECE = 64 * 1024,
	HEAD_MS = 30000,
	IDLE_MS = 300000,
	STALL_MS = 300000,
	LEAVE_MS = 5000,
	LEAVE_MAX = 16 * 1024 * 1024,
	STALLED_MS = 1000, STALLED_MAX = 32
};

enum state { READING, TELLING, SENDING, LEAVING };

struct conn {
	struct list node, stall; /* of serve */
	uint64_t stalled_at;
	struct serve *serve;
	struct say_who who;
	uint32_t slot;
	int fd;
	struct loop_watch *watch;
	struct loop_timer *timer;
	enum state state;
	struct buf in, body, out;
	struct buf head_bytes; /* what head points into */
	struct head head;
	struct body framing_in;
	struct bound bound;
	struct up_call *call;
	struct framing framing_out;
	struct mask_stream mask;
	struct swap swap;
	struct err why; /* of a call that has ended */
	int64_t first;	/* of tell_first() */
	size_t told;	/* secrets whose first use is told */
	int status;
	uint64_t sent_b, came_b, thrown_b;
	bool has_status, ahead, ended, left, head_out, close_after, dead, is_bad_body;
};

static void work(struct conn *c);
static void push(struct conn *c);
static void rewatch(struct conn *c);

/* --- ends --------------------------------------------------------------------------------------------------------- */

static void request_fini(struct conn *c)
{
	if (c->first > 0)
		tell_forget(c->serve->teller, c->first);
	c->first = 0;
	up_stop(&c->call);
	list_remove(&c->stall);
	bound_fini(&c->bound);
	mask_stream_fini(&c->mask);
	swap_fini(&c->swap);
	buf_fini(&c->head_bytes);
	buf_consume(&c->body, buf_len(&c->body));
	c->has_status = c->ended = c->head_out = c->is_bad_body = false;
	c->status = 0;
	c->told = 0;
	c->sent_b = c->came_b = 0;
	c->why = ERR_NULL;
}

static void conn_free(struct conn *c)
{
	request_fini(c);
	list_remove(&c->node);
	loop_unwatch(&c->watch);
	loop_untimer(&c->timer);
	shutdown(c->fd, SHUT_RDWR); /* the daemon has it too, until it hears of this */
	close(c->fd);
	tell_gone(c->serve->teller, c->slot);
	buf_fini(&c->in);
	buf_fini(&c->body);
	buf_fini(&c->out);
	free(c);
}

void conn_end_all(struct serve *s)
{
	while (!list_empty(&s->conns))
		conn_free(list_entry(s->conns.next, struct conn, node));
}

static void mark(struct conn *c, uint8_t what)
{
	atomic_store(&c->serve->slots[c->slot], what);
}

/* --- the audit ---------------------------------------------------------------------------------------------------- */

/* With the @i-th of its secrets. */
static void describe(struct conn *c, size_t i, struct say_tell *t)
{
	*t = (struct say_tell){ .status = (uint32_t)c->status, .up_b = c->sent_b, .down_b = c->came_b, .who = c->who };
	if (i < c->bound.n_held)
		say_clean(t->secret, sizeof(t->secret), span_str(bind_held(&c->bound, i)->policy.name));
	if (c->bound.service)
		say_clean(t->service, sizeof(t->service), span_str(c->bound.service->name));
	say_clean(t->method, sizeof(t->method), span_str(c->head.method));
	say_clean(t->host, sizeof(t->host), span_str(c->bound.host));
	say_clean(t->path, sizeof(t->path), c->bound.path ? span_str(c->bound.path) : c->head.path);
}

static void tell_refused(struct conn *c, const char *rule, int status)
{
	struct say_tell t;

	/* The last one that was looked at is the one that may not be used. */
	describe(c, c->bound.n_held ? c->bound.n_held - 1 : 0, &t);
	t.kind = SAY_REFUSED;
	t.status = (uint32_t)status;
	say_clean(t.rule, sizeof(t.rule), span_str(rule));
	tell_count(c->serve->teller, &t);
}

static void tell_used(struct conn *c)
{
	struct say_tell t;
	size_t i = 0;

	do {
		describe(c, i, &t);
		t.kind = SAY_USED;
		say_clean(t.rule, sizeof(t.rule), span_str(c->why.slug));
		tell_count(c->serve->teller, &t);
	} while (++i < c->bound.n_held);
}

/* --- answers of our own ------------------------------------------------------------------------------------------- */

static void answer(struct conn *c, int status, const char *rule, const char *message)
{
	AUTO(buf_fini) struct buf body;
	struct json_writer w = { .b = &body };
	bool last = c->close_after || !c->head.keep || !c->framing_in.over;

	buf_init(&body, 4096);
	jw_open(&w, '{');
	jw_key(&w, "error");
	jw_open(&w, '{');
	jw_kstr(&w, "rule", rule);
	jw_kstr(&w, "message", message);
	jw_close(&w, '}');
	jw_close(&w, '}');
	buf_append(&body, "\n", 1);
	buf_printf(&c->out,
		   "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nX-Berth-Rule: %s\r\n"
		   "%sConnection: %s\r\n\r\n",
		   status,
		   status == 403   ? "Forbidden"
		   : status == 400 ? "Bad Request"
				   : "Refused",
		   buf_len(&body), rule, status == 429 ? "Retry-After: 5\r\n" : "", last ? "close" : "keep-alive");
	if (!str_eq(c->head.method, "HEAD"))
		buf_append(&c->out, buf_span(&body).p, buf_len(&body));
	mark(c, SAY_ANSWERING);
	request_fini(c);
	c->close_after = last;
	c->state = last ? LEAVING : READING;
	loop_rearm(c->timer, clock_after_ms(last ? LEAVE_MS : IDLE_MS));
}

static void refuse(struct conn *c, int status, const char *rule, const char *message)
{
	tell_refused(c, rule, status);
	answer(c, status, rule, message);
}

/* --- what a call tells -------------------------------------------------------------------------------------------- */

/* From what has come, as much as there is room for. */
static void refill(struct conn *c)
{
	uint64_t most = c->bound.body_max;
	struct err e = ERR_NULL;
	ssize_t n = body_feed(&c->framing_in, buf_span(&c->in), &c->body, &e);

	if (n > 0)
		buf_consume(&c->in, (size_t)n);
	if (n < 0)
		c->is_bad_body = true;
	if (most && c->framing_in.all > most) {
		c->is_bad_body = true;
		err_set(&c->why, -EACCES, "body-size", "the body is longer than is allowed");
	}
}

static size_t on_body(void *ctx, void *to, size_t room)
{
	struct conn *c = ctx;
	size_t n = MIN(room, buf_len(&c->body));

	if (c->is_bad_body)
		return UP_ABORT;
	if (!n)
		return c->framing_in.over ? 0 : c->left ? UP_ABORT : UP_WAIT;
	memcpy(to, buf_span(&c->body).p, n);
	buf_consume(&c->body, n);
	c->sent_b += n;
	if (!c->framing_in.over)
		refill(c); /* there is room again, which nobody else may notice */
	rewatch(c);
	return n;
}

static bool on_head(void *ctx, struct up_answer *a)
{
	struct conn *c = ctx;
	struct err e = ERR_NULL;
	AUTO(buf_fini) struct buf head;

	buf_init(&head, 2 * HEAD_MAX);
	c->status = a->status;
	c->ahead = a->ahead;
	c->close_after = c->close_after || !c->head.keep || !c->framing_in.over;
	if (fields_answer(a, &c->head, &c->bound, !c->close_after, &c->framing_out, &head, &e) < 0) {
		c->why = e;
		return false;
	}
	if (c->bound.answer_max && c->framing_out.has_body &&
	    c->framing_out.length > c->bound.answer_max) {
		err_set(&c->why, -EACCES, "answer-size", "the answer is longer than is allowed");
		return false;
	}
	if (c->framing_out.is_text)
		swap_init(&c->swap, c->bound.service);
	if (c->framing_out.has_body && !c->framing_out.chunked && !c->framing_out.has_length)
		c->close_after = true;
	buf_append(&c->out, buf_span(&head).p, buf_len(&head));
	c->head_out = true;
	mark(c, SAY_ANSWERING);
	push(c);
	return !c->dead;
}

static void put_data(struct conn *c, struct span data)
{
	if (!data.len)
		return;
	if (c->framing_out.chunked)
		buf_printf(&c->out, "%zx\r\n", data.len);
	buf_append(&c->out, data.p, data.len);
	if (c->framing_out.chunked)
		buf_append(&c->out, "\r\n", 2);
}

/* Where the service's addresses become ours. */
static int put_text(struct conn *c, struct span text, bool is_last)
{
	AUTO(buf_fini) struct buf piece = { .limit = OUT_MAX };
	int r;

	if (!c->swap.service) {
		put_data(c, text);
		return 0;
	}
	r = swap_feed(&c->swap, text, is_last, &piece);
	if (r == 0)
		put_data(c, buf_span(&piece));
	return r;
}

/* Over HTTP/2 what a service was allowed to send lies here until it is read: some 16 MiB for each stream. */
static void stall(struct conn *c)
{
	if (!c->ahead || !list_empty(&c->stall))
		return;
	if (list_empty(&c->serve->stalled))
		loop_rearm(c->serve->stall_timer, clock_after_ms(STALLED_MS));
	c->stalled_at = clock_now();
	list_append(&c->serve->stalled, &c->stall);
}

/* How many of this sandbox stand still. */
static size_t stalled_of(struct serve *s, const struct conn *c)
{
	struct list *at;
	size_t n = 0;

	list_each(at, &s->stalled)
		n += str_eq(list_entry(at, struct conn, stall)->who.sandbox, c->who.sandbox);
	return n;
}

/* One of the sandbox that has most of them. */
static struct conn *worst_stalled(struct serve *s)
{
	struct conn *worst = list_entry(s->stalled.next, struct conn, stall);
	struct list *at;
	size_t most = 0;

	list_each(at, &s->stalled) {
		struct conn *c = list_entry(at, struct conn, stall);
		size_t mine = stalled_of(s, c);

		if (mine > most) {
			most = mine;
			worst = c;
		}
	}
	return worst;
}

void conn_cut_stalled(void *serve)
{
	struct serve *s = serve;
	char sandbox[SAY_WORD];
	struct list *at, *next;
	size_t n = 0;

	list_each(at, &s->stalled)
		n += clock_now() - list_entry(at, struct conn, stall)->stalled_at >= STALLED_MS * CLOCK_MS;
	if (n > STALLED_MAX) {
		memcpy(sandbox, worst_stalled(s)->who.sandbox, sizeof(sandbox));
		list_each_safe(at, next, &s->stalled) {
			struct conn *c = list_entry(at, struct conn, stall);

			if (n <= STALLED_MAX || !str_eq(c->who.sandbox, sandbox))
				continue;
			err_set(&c->why, -ENOBUFS, "stalled", "too many readers stand still");
			c->dead = true;
			work(c);
			n--;
		}
	}
	if (!list_empty(&s->stalled))
		loop_rearm(s->stall_timer, clock_after_ms(STALLED_MS));
}

static int on_data(void *ctx, struct span data)
{
	struct conn *c = ctx;
	AUTO(buf_fini) struct buf piece = { .limit = OUT_MAX };
	int r;

	if (buf_len(&c->out) > SOFT) {
		stall(c);
		return -EAGAIN;
	}
	list_remove(&c->stall);
	if (!c->framing_out.has_body)
		return 0;
	c->came_b += data.len;
	if (c->bound.answer_max && c->came_b > c->bound.answer_max) {
		err_set(&c->why, -EACCES, "answer-size", "the answer is longer than is allowed");
		return -E2BIG;
	}
	r = mask_feed(&c->mask, data, &piece);
	if (r == 0)
		r = put_text(c, buf_span(&piece), false);
	push(c);
	return r < 0 ? r : c->out.failed || c->dead ? -EPIPE : 0;
}

static void on_end(void *ctx, const struct err *e)
{
	struct conn *c = ctx;

	c->call = NULL; /* it frees itself */
	c->ended = true;
	if (e->code && !c->why.code)
		c->why = *e;
	/* What is left to be done may end this connection. */
	work(c);
}

static const struct up_events events = { .body = on_body, .head = on_head, .data = on_data, .end = on_end };

/* --- a request ---------------------------------------------------------------------------------------------------- */

static void start(struct conn *c)
{
	struct fields f;
	struct err e = ERR_NULL;
	struct up_request q = { .method = c->head.method, .private_ = c->bound.reach->private_,
				.ca = buf_span(&c->bound.reach->ca) };
	bool wants_body = c->head.chunked || c->head.has_length;
	int r = fields_build(&c->head, &c->bound, &f);

	if (r < 0) {
		refuse(c, 502, "head-too-large", "the request cannot be put together");
		return;
	}
	q.url = f.url;
	q.fields = f.v;
	q.n_fields = f.n;
	q.length = c->head.chunked ? UP_CHUNKED : c->head.has_length ? (int64_t)c->head.length : UP_NO_BODY;
	if (!wants_body &&
	    (str_eq(c->head.method, "POST") || str_eq(c->head.method, "PUT") || str_eq(c->head.method, "PATCH")))
		q.length = 0;
	if (c->head.continue_ && !c->framing_in.over && !buf_len(&c->in))
		buf_printf(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
	mask_stream_init(&c->mask, c->bound.mask);
	c->state = SENDING;
	loop_rearm(c->timer, clock_after_ms(STALL_MS));
	r = up_start(c->serve->up, &q, &events, c, &c->call, &e);
	fields_fini(&f);
	if (r < 0)
		refuse(c, 503, "busy", e.text);
}

static void tell_next(struct conn *c);

static void on_told(void *ctx, int code)
{
	struct conn *c = ctx;

	c->first = 0;
	if (code < 0)
		answer(c, 503, "audit", "this use could not be written down, so it does not happen");
	else
		tell_next(c);
	work(c);
}

/* When the first use of each of its secrets is told, it goes. */
static void tell_next(struct conn *c)
{
	struct say_tell t;

	while (c->told < c->bound.n_held) {
		describe(c, c->told++, &t);
		c->first = tell_first(c->serve->teller, &t, on_told, c);
		if (c->first == 0)
			continue;
		if (c->first < 0) {
			c->first = 0;
			answer(c, 503, "audit", "too much is waiting to be written down");
		} else {
			c->state = TELLING;
			loop_rearm(c->timer, clock_after_ms(STALL_MS));
		}
		return;
	}
	start(c);
}

/* Everything is right with the head: may it be, and is it known? */
static void begin(struct conn *c)
{
	struct serve *s = c->serve;
	struct err e = ERR_NULL;
	int r;

	mark(c, SAY_ASKED);
	body_init(&c->framing_in, &c->head);
	r = bind_request(s->hold, s->services, s->ruled, &c->who, c->head.method, c->head.path, &c->bound, &e);
	if (r == 0)
		r = bind_values(s->hold, &c->bound, &e);
	if (r < 0) {
		refuse(c, 403, e.slug, e.text);
		return;
	}
	if (!serve_rate(s, &c->who, &c->bound)) {
		refuse(c, 429, "rate",
		       "too many requests of this sandbox to this service, or with this secret, in a minute");
		return;
	}
	if (c->bound.body_max && c->head.length > c->bound.body_max) {
		refuse(c, 413, "body-size", "the body is longer than is allowed");
		return;
	}
	tell_next(c);
}

/* READING: is there a head? Return: something was done. */
static bool read_head(struct conn *c)
{
	struct err e = ERR_NULL;
	ssize_t n;

	/* Empty lines before a request are of the one before. */
	while (buf_len(&c->in) >= 2 && memcmp(buf_span(&c->in).p, "\r\n", 2) == 0)
		buf_consume(&c->in, 2);
	if (!buf_len(&c->in))
		return false;
	n = head_parse(buf_span(&c->in), &c->head, &e);
	if (n == 0)
		return false;
	if (n < 0) {
		c->head = (struct head){ .n = 0 };
		c->framing_in = (struct body){ .over = false };
		refuse(c, n == -EPERM ? 403 : 400, e.slug, e.text);
		return true;
	}
	buf_init(&c->head_bytes, HEAD_MAX);
	if (buf_append(&c->head_bytes, buf_span(&c->in).p, (size_t)n) < 0 ||
	    head_parse(buf_span(&c->head_bytes), &c->head, &e) < 0) {
		c->dead = true;
		return false;
	}
	buf_consume(&c->in, (size_t)n);
	begin(c);
	return true;
}

/* SENDING: is it over? Return: something was done. */
static bool finish(struct conn *c)
{
	if (!c->ended)
		return false;
	tell_used(c);
	if (c->why.code && !c->head_out) {
		bool ours = c->why.code == -EACCES;

		if (ours)
			tell_refused(c, c->why.slug, 403);
		if (c->is_bad_body && !ours)
			answer(c, 400, "bad-request", "a body whose chunks are not right");
		else
			answer(c, ours ? 403 : c->why.code == -ETIMEDOUT ? 504 : 502, c->why.slug, c->why.text);
		return true;
	}
	if (c->why.code) {
		c->dead = true; /* in the middle of it: an end without an end is how it is seen */
		return true;
	}
	if (c->framing_out.has_body) {
		AUTO(buf_fini) struct buf piece;

		buf_init(&piece, 4 * 1024 * 1024);
		(void)!mask_end(&c->mask, &piece);
		(void)!put_text(c, buf_span(&piece), true);
		if (c->framing_out.chunked)
			buf_append(&c->out, "0\r\n\r\n", 5);
	}
	request_fini(c);
	c->state = c->close_after ? LEAVING : READING;
	loop_rearm(c->timer, clock_after_ms(c->close_after ? LEAVE_MS : IDLE_MS));
	return true;
}

/* SENDING: move the body on. */
static void feed(struct conn *c)
{
	size_t before = buf_len(&c->body);

	if (!c->call || c->framing_in.over)
		return;
	refill(c);
	if (buf_len(&c->body) > before || c->framing_in.over || c->is_bad_body || c->left)
		up_more(c->call);
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void read_in(struct conn *c)
{
	for (;;) {
		size_t room =
			c->state == LEAVING ? PIECE : MIN((size_t)PIECE, IN_MAX - MIN((size_t)IN_MAX, buf_len(&c->in)));
		void *p = room ? buf_reserve(&c->in, room) : NULL;
		ssize_t n;

		if (!p)
			return;
		n = recv(c->fd, p, room, MSG_DONTWAIT);
		if (n > 0 && c->state == LEAVING) {
			c->thrown_b += (size_t)n;
			c->dead |= c->thrown_b > LEAVE_MAX;
			continue;
		}
		if (n > 0) {
			if (c->state == READING && !buf_len(&c->in))
				loop_rearm(c->timer, clock_after_ms(HEAD_MS));
			buf_commit(&c->in, (size_t)n);
		}
		if (n == 0)
			c->left = true;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			c->dead = true;
		if (n < (ssize_t)room)
			return;
	}
}

static void write_out(struct conn *c)
{
	while (buf_len(&c->out)) {
		ssize_t n = send(c->fd, buf_span(&c->out).p, buf_len(&c->out), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			c->dead = true;
		if (n <= 0)
			return;
		buf_consume(&c->out, (size_t)n);
	}
}

static bool wants_in(const struct conn *c)
{
	if (c->left || c->state == TELLING)
		return false;
	if (c->state == SENDING)
		return !c->framing_in.over && buf_len(&c->in) < IN_MAX && buf_room(&c->body) > 0;
	return c->state == LEAVING || buf_len(&c->in) < IN_MAX;
}

static void rewatch(struct conn *c)
{
	loop_rewatch(c->watch, (wants_in(c) ? LOOP_READ : 0) | (buf_len(&c->out) ? LOOP_WRITE : 0));
}

/* What has come goes at once. */
static void push(struct conn *c)
{
	write_out(c);
	rewatch(c);
}

/* Until nothing more can be done now. May free @c. */
static void work(struct conn *c)
{
	bool again;

	do {
		again = false;
		if (c->state == SENDING) {
			feed(c);
			again = finish(c);
		} else if (c->state == READING && !c->dead && buf_len(&c->out) <= SOFT) {
			again = read_head(c);
		}
		/* What waits in in for room is not told of by the descriptor. */
		if (c->state == READING && buf_len(&c->out) > SOFT && !c->out.failed) {
			write_out(c);
			again = again || buf_len(&c->out) <= SOFT;
		}
	} while (again && !c->dead);
	if (c->out.failed)
		c->dead = true;
	if (c->state != READING || buf_len(&c->out) <= SOFT)
		write_out(c);
	if (!buf_len(&c->out) && c->state == READING && !buf_len(&c->in))
		mark(c, SAY_IDLE);
	if (c->state == LEAVING && !buf_len(&c->out) && !c->left && !c->dead)
		shutdown(c->fd, SHUT_WR);
	/* Who has left for good is seen by a hangup; who only says no more still gets his answer. */
	if (c->left && ((c->state == READING && !buf_len(&c->out)) || (c->state == LEAVING && !buf_len(&c->out))))
		c->dead = true;
	if (c->dead) {
		if (c->call && c->state == SENDING)
			tell_used(c);
		conn_free(c);
		return;
	}
	rewatch(c);
}

static void on_ready(void *ctx, int fd UNUSED, unsigned ready)
{
	struct conn *c = ctx;

	if ((ready & LOOP_HANGUP) && !(ready & LOOP_READ))
		c->dead = true;
	if ((ready & LOOP_READ) && wants_in(c))
		read_in(c);
	if (ready & LOOP_WRITE) {
		write_out(c);
		loop_rearm(c->timer, clock_after_ms(c->state == LEAVING ? LEAVE_MS : STALL_MS));
	}
	if (c->state == SENDING && c->call && buf_len(&c->out) <= SOFT / 2)
		up_more(c->call);
	work(c);
}

static void on_time(void *ctx)
{
	struct conn *c = ctx;

	/* A stream that says nothing may go on; one whose reader takes nothing may not. */
	if ((c->state == SENDING && !buf_len(&c->out)) || c->state == TELLING) {
		loop_rearm(c->timer, clock_after_ms(STALL_MS));
		return;
	}
	c->dead = true;
	work(c);
}

void conn_new(struct serve *s, const struct say_who *who, uint32_t slot, int fd)
{
	struct conn *c = NEW(struct conn);

	c->serve = s;
	c->who = *who;
	c->slot = slot;
	c->fd = fd;
	c->bound = BOUND_NULL;
	list_init(&c->node);
	list_init(&c->stall);
	list_append(&s->conns, &c->node);
	buf_init(&c->in, IN_MAX + PIECE);
	buf_init(&c->body, BODY_MAX_);
	buf_init(&c->out, OUT_MAX);
	mask_stream_init(&c->mask, NULL);
	c->timer = loop_timer(s->loop, clock_after_ms(IDLE_MS), on_time, c);
	if (loop_watch(s->loop, fd, LOOP_READ, on_ready, c, &c->watch) < 0)
		conn_free(c);
}
