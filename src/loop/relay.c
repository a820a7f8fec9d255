/* SPDX-License-Identifier: Apache-2.0 */
/* Two pipes of 64 KiB each. A side is read while its pipe has room and written while the other's has bytes; its end is
 * remembered until its pipe is empty. A side that takes nothing more may still have sent something: that is read to its
 * end and delivered, what is meant for it is dropped. */
#include "loop/relay.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* With a filter, what it has not taken yet has a buffer of its own, and the pipe has room for more than what it takes
 * at a time. */
enum { PIPE_B = 64 * 1024, RAW_B = 2 * 1024 * 1024, FILTERED_B = 4 * 1024 * 1024 };

struct side {
	struct relay *relay;
	int fd;
	struct loop_watch *watch;
	struct buf out; /* waits to be written to fd */
	bool ended;	/* nothing more comes from it */
	bool deaf;	/* it takes nothing more */
	bool is_hung;	/* both directions are closed */
};

struct relay {
	struct loop *loop;
	struct side side[2];
	struct relay_filter *filter; /* NULL: none */
	struct buf raw;		     /* from side 1, before it */
	struct loop_timer *late;
	bool waits; /* the filter keeps something back */
	relay_done_fn *done;
	void *ctx;
};

static void finish(struct relay *r)
{
	int i;

	for (i = 0; i < 2; i++) {
		loop_unwatch(&r->side[i].watch);
		buf_fini(&r->side[i].out);
	}
	loop_untimer(&r->late);
	buf_fini(&r->raw);
	if (r->filter)
		r->filter->end(r->filter->ctx);
	r->done(r->ctx);
	free(r);
}

static bool is_filtered(const struct side *s)
{
	return s->relay->filter && s == &s->relay->side[1];
}

static struct buf *into(struct side *s, struct side *other)
{
	return is_filtered(s) ? &s->relay->raw : &other->out;
}

static bool has_room(const struct side *s, const struct side *other)
{
	return is_filtered(s) ? buf_len(&other->out) < RELAY_FILTER_ROOM : buf_room(&other->out) > 0;
}

static void set_watch(struct side *s, const struct side *other)
{
	unsigned want = (!s->ended && has_room(s, other) ? LOOP_READ : 0U) | (buf_len(&s->out) ? LOOP_WRITE : 0U);

	loop_rewatch(s->watch, want);
}

/* What came from side 1 goes on to side 0. At its end what is left of a frame is dropped. */
static void filter(struct relay *r)
{
	struct side *from = &r->side[1];
	struct buf *out = &r->side[0].out;
	int result = 0;

	if (!r->filter || !has_room(from, &r->side[0]))
		return;
	if (buf_len(&r->raw)) {
		result = r->filter->pass(r->filter->ctx, &r->raw, out, &r->waits);
		loop_rearm(r->late, r->waits ? clock_after_ms(r->filter->wait_ms) : CLOCK_NEVER);
	}
	if (result == 0 && r->waits && from->ended) {
		r->waits = false;
		result = r->filter->late(r->filter->ctx, out);
	}
	if (result < 0) {
		from->ended = true;
		buf_fini(&r->raw);
	}
}

static void pump_in(struct side *s, struct side *other)
{
	size_t room = MIN(buf_room(into(s, other)), (size_t)PIPE_B);
	void *to = room ? buf_reserve(into(s, other), room) : NULL;
	ssize_t n;

	if (!to)
		return;
	n = read(s->fd, to, room);
	if (n > 0)
		buf_commit(into(s, other), (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		s->ended = true;
}

static void pump_out(struct side *s)
{
	struct span bytes = buf_span(&s->out);
	ssize_t n;

	if (!bytes.len)
		return;
	n = send(s->fd, bytes.p, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == ENOTSOCK)
		n = write(s->fd, bytes.p, bytes.len);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		s->deaf = true;
	buf_consume(&s->out, s->deaf ? buf_len(&s->out) : n > 0 ? (size_t)n : 0);
}

/* After anything has changed. It may be over then. */
static void turn(struct relay *r)
{
	struct side *side = r->side;
	int i;

	filter(r);
	for (i = 0; i < 2; i++)
		pump_out(&side[i]);
	if (!buf_len(&side[0].out)) {
		filter(r);
		pump_out(&side[0]);
	}
	if ((side[0].ended && !buf_len(&side[1].out)) || (side[1].ended && !buf_len(&side[0].out)) ||
	    (side[0].deaf && side[1].deaf)) {
		finish(r);
		return;
	}
	for (i = 0; i < 2; i++) {
		/* Most streams are idle most of the time. */
		if (!buf_len(&side[i].out))
			buf_fini(&side[i].out);
		if (side[i].is_hung && side[i].ended && !buf_len(&side[i].out))
			loop_unwatch(&side[i].watch); /* that is reported for ever: only the other side matters now */
	}
	if (!buf_len(&r->raw))
		buf_fini(&r->raw);
	for (i = 0; i < 2; i++)
		if (side[i].watch)
			set_watch(&side[i], &side[!i]);
}

static void ready(void *ctx, int fd, unsigned events)
{
	struct side *s = ctx, *other = s == &s->relay->side[0] ? &s->relay->side[1] : &s->relay->side[0];

	(void)fd;
	s->is_hung |= (events & LOOP_HANGUP) != 0;
	if (events & (LOOP_READ | LOOP_HANGUP) && !s->ended)
		pump_in(s, other);
	turn(s->relay);
}

static void late(void *ctx)
{
	struct relay *r = ctx;

	r->waits = false;
	if (r->filter->late(r->filter->ctx, &r->side[0].out) < 0)
		r->side[1].ended = true;
	turn(r);
}

static void begin(void *ctx)
{
	struct relay *r = ctx;
	int i;

	for (i = 0; i < 2; i++) {
		struct side *s = &r->side[i];

		if (loop_watch(r->loop, s->fd, LOOP_READ, ready, s, &s->watch) < 0) {
			finish(r);
			return;
		}
	}
	if (r->filter)
		r->late = loop_timer(r->loop, CLOCK_NEVER, late, r);
	set_watch(&r->side[1], &r->side[0]);
}

void relay_start(struct loop *loop, int a, int b, const void *first, size_t len, relay_done_fn *done, void *ctx)
{
	relay_start_filtered(loop, a, b, first, len, NULL, done, ctx);
}

void relay_start_filtered(struct loop *loop, int a, int b, const void *first, size_t len, struct relay_filter *filter,
			  relay_done_fn *done, void *ctx)
{
	struct relay *r = NEW(struct relay);
	int i;

	r->loop = loop;
	r->done = done;
	r->ctx = ctx;
	for (i = 0; i < 2; i++) {
		r->side[i].relay = r;
		r->side[i].fd = i ? b : a;
		fd_nonblock(r->side[i].fd, true);
		buf_init(&r->side[i].out, filter && i == 0 ? FILTERED_B : PIPE_B);
	}
	r->filter = filter;
	buf_init(&r->raw, RAW_B);
	if (len) {
		r->side[1].out.limit = MAX((size_t)PIPE_B, len);
		(void)!buf_append(&r->side[1].out, first, len);
	}
	loop_post(loop, begin, r);
}
