/* SPDX-License-Identifier: Apache-2.0 */
/* Two pipes of 64 KiB each. A side is read while its pipe has room and written while the other's has bytes; its end is
 * remembered until its pipe is empty. A side that takes nothing more may still have sent something: that is read to its
 * end and delivered, what is meant for it is dropped. */
#include "loop/relay.h"

#include "base/buf.h"
#include "base/io.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIPE_B = 64 * 1024 };

struct side {
	struct relay *relay;
	int fd;
	struct loop_watch *watch;
	struct buf out; /* waits to be written to fd */
	bool ended;	/* nothing more comes from it */
	bool deaf;	/* it takes nothing more */
};

struct relay {
	struct loop *loop;
	struct side side[2];
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
	r->done(r->ctx);
	free(r);
}

static void set_watch(struct side *s, const struct side *other)
{
	unsigned want = (!s->ended && buf_room(&other->out) ? LOOP_READ : 0U) | (buf_len(&s->out) ? LOOP_WRITE : 0U);

	loop_rewatch(s->watch, want);
}

static void pump_in(struct side *s, struct side *other)
{
	size_t room = buf_room(&other->out);
	void *to = room ? buf_reserve(&other->out, room) : NULL;
	ssize_t n;

	if (!to)
		return;
	n = read(s->fd, to, room);
	if (n > 0)
		buf_commit(&other->out, (size_t)n);
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

static void ready(void *ctx, int fd, unsigned events)
{
	struct side *s = ctx, *other = s == &s->relay->side[0] ? &s->relay->side[1] : &s->relay->side[0];

	(void)fd;
	if (events & (LOOP_READ | LOOP_HANGUP) && !s->ended)
		pump_in(s, other);
	pump_out(other);
	pump_out(s);
	if ((s->ended && !buf_len(&other->out)) || (other->ended && !buf_len(&s->out)) || (s->deaf && other->deaf)) {
		finish(s->relay);
		return;
	}
	/* Most streams are idle most of the time. */
	if (!buf_len(&s->out))
		buf_fini(&s->out);
	if (!buf_len(&other->out))
		buf_fini(&other->out);
	if ((events & LOOP_HANGUP) && s->ended && !buf_len(&s->out))
		loop_unwatch(&s->watch); /* a hangup is reported for ever: only the other side matters now */
	if (s->watch)
		set_watch(s, other);
	if (other->watch)
		set_watch(other, s);
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
	set_watch(&r->side[1], &r->side[0]);
}

void relay_start(struct loop *loop, int a, int b, const void *first, size_t len, relay_done_fn *done, void *ctx)
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
		buf_init(&r->side[i].out, PIPE_B);
	}
	if (len) {
		r->side[1].out.limit = MAX((size_t)PIPE_B, len);
		(void)!buf_append(&r->side[1].out, first, len);
	}
	loop_post(loop, begin, r);
}
