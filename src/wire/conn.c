/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A connection is alive, dead (an error was met, on_close still to be called) or closed (on_close was called).
 * Errors of the writing side are met in the middle of somebody's conn_send(); they only mark the connection dead and
 * arm a timer of zero, so that on_close always comes from the loop.
 *
 * Callbacks may free the connection. While one runs, `busy` is above zero and conn_free() only marks the object; the
 * outermost frame of this file that finds the mark releases it.
 *
 * A connection that is being finished delivers nothing more: what it still reads is thrown away.
 *
 * Reading is fair: one read of at most TURN bytes, or of the rest of one frame, per round of the loop, and all frames
 * in it; epoll is level-triggered, so the rest comes in the next round. After a pause there may be whole frames in the
 * buffer and nothing more to come from the socket, which is why resuming also goes through the timer.
 *
 * What a large frame is read into has room for all of it from the start, and nothing behind it is read: so it is never
 * moved. The buffer stays for the next one until for KEEP_MS none came: memory that the kernel has to give anew, a page
 * at a time, costs as much as reading.
 */
#include "wire/conn.h"

#include "base/clock.h"
#include "base/io.h"
#include "wire/trace.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

enum { FINISH_MS = 5000, TURN = 64 * 1024, LAST_TURNS = 16, KEEP = 64 * 1024, KEEP_MS = 1000, HELD_MAX = 32 * 1024,
       LIMIT_MIN = 2 * (FRAME_HEADER + FRAME_MAX) };

struct conn {
	struct loop *loop; /* borrowed */
	int fd;
	struct loop_watch *watch;
	struct loop_timer *soon;
	struct loop_timer *later; /* while a large buffer is kept; made at first use */
	struct buf in, out;
	const struct conn_events *events; /* borrowed */
	void *ctx;			  /* borrowed */
	struct err why;			  /* code != 0: dead */
	unsigned busy;
	uint64_t finish_by; /* while finishing: a peer that does not read is given up then */
	int deaf; /* why the other side takes nothing any more; what it said before is still to be read */
	bool closed, freed, paused, above, finishing, held;
	bool kept, used; /* a large buffer is; and it was used since the timer was set */
};

static void rewatch(struct conn *c)
{
	if (c->watch)
		loop_rewatch(c->watch, (c->paused ? 0U : LOOP_READ) | (buf_len(&c->out) ? LOOP_WRITE : 0U));
}

/* Forget the socket; on_close comes from the loop. */
static void die(struct conn *c, int code, const char *slug, const char *words)
{
	if (c->why.code)
		return;
	if (slug)
		err_set(&c->why, code, slug, "%s", words);
	else
		err_sys(&c->why, code, "%s", words);
	loop_unwatch(&c->watch);
	fd_close(&c->fd);
	buf_fini(&c->out);
	loop_rearm(c->soon, 0);
}

static void release(struct conn *c)
{
	if (c->busy || !c->freed)
		return;
	loop_unwatch(&c->watch);
	loop_untimer(&c->soon);
	loop_untimer(&c->later);
	fd_close(&c->fd);
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

void conn_free(struct conn **slot)
{
	struct conn *c = take(slot);

	if (!c)
		return;
	c->freed = true;
	release(c);
}

static void shrink(struct buf *b)
{
	if (!buf_len(b) && b->cap > KEEP)
		buf_fini(b);
}

/* Large buffers that nothing came for. */
static void on_later(void *ctx)
{
	struct conn *c = ctx;

	if (!c->used) {
		shrink(&c->in);
		shrink(&c->out);
	}
	c->used = false;
	c->kept = c->in.cap > KEEP || c->out.cap > KEEP;
	if (c->kept)
		loop_rearm(c->later, clock_after_ms(KEEP_MS));
}

/* Soon it may be needed again. */
static void keep(struct conn *c, const struct buf *b)
{
	if (b->cap <= KEEP)
		return;
	c->used = true;
	if (c->kept)
		return;
	c->kept = true;
	if (!c->later)
		c->later = loop_timer(c->loop, CLOCK_NEVER, on_later, c);
	loop_rearm(c->later, clock_after_ms(KEEP_MS));
}

/* Who leaves with a last word may not have read all that we had to say. */
static void cannot_write(struct conn *c, int code)
{
	if (c->paused || c->finishing) {
		die(c, code, NULL, "writing");
		return;
	}
	c->deaf = code;
	buf_consume(&c->out, buf_len(&c->out));
	loop_rearm(c->soon, 0);
}

static void write_some(struct conn *c)
{
	while (c->fd >= 0 && buf_len(&c->out)) {
		struct span s = buf_span(&c->out);
		ssize_t n = send(c->fd, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			buf_consume(&c->out, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			cannot_write(c, -errno);
		break;
	}
	keep(c, &c->out);
	if (c->finishing && !buf_len(&c->out))
		die(c, -ENODATA, "closed", "the connection was finished");
	rewatch(c);
}

static void tell_drain(struct conn *c)
{
	if (!c->above || c->why.code || buf_len(&c->out) >= CONN_MARK)
		return;
	c->above = false;
	if (c->events->on_drain)
		c->events->on_drain(c->ctx);
}

static void deliver(struct conn *c)
{
	struct err e = ERR_NULL;
	struct frame f;
	int r = FRAME_E_MORE;

	while (!c->freed && !c->why.code && !c->paused && !c->finishing && (r = frame_parse(&c->in, &f, &e)) == 0) {
		trace_frame((unsigned)c->fd, '<', f.type, f.payload);
		c->events->on_frame(c->ctx, &f);
		frame_consume(&c->in, &f);
	}
	if (!c->freed && r < 0)
		die(c, r, e.slug, e.text);
	if (c->finishing) /* nobody wants to hear more */
		buf_consume(&c->in, buf_len(&c->in));
	if (!c->freed)
		keep(c, &c->in);
}

/* Return: whether there may be more. */
static bool read_some(struct conn *c)
{
	size_t rest = c->finishing ? 0 : frame_rest(&c->in);
	size_t len = rest && rest + buf_len(&c->in) > TURN ? rest : (size_t)TURN;
	void *to = buf_reserve(&c->in, len);
	ssize_t n = to ? recv(c->fd, to, len, MSG_DONTWAIT) : -1;

	if (!to) {
		die(c, -ENOMEM, NULL, "reading");
	} else if (n > 0) {
		buf_commit(&c->in, (size_t)n);
		deliver(c);
	} else if (n == 0) {
		if (buf_len(&c->in))
			die(c, -EBADMSG, "bad-frame", "the connection ended inside a frame");
		else
			die(c, -ENODATA, "closed", "the connection was closed");
	} else if (errno != EAGAIN && errno != EINTR) {
		die(c, -errno, NULL, "reading");
	}
	return n > 0 || (n < 0 && errno == EINTR);
}

static void read_last(struct conn *c)
{
	unsigned turns = LAST_TURNS; /* what a socket holds; who goes on talking is not leaving */

	while (!c->freed && !c->why.code && !c->paused && turns-- && read_some(c))
		;
	if (!c->freed && !c->why.code && !c->paused)
		die(c, c->deaf, NULL, "writing");
}

static void on_ready(void *ctx, int fd, unsigned events)
{
	struct conn *c = ctx;

	(void)fd;
	c->busy++;
	if (events & LOOP_WRITE)
		write_some(c);
	if (!c->freed)
		tell_drain(c);
	if (!c->freed && c->fd >= 0 && !c->paused && (events & (LOOP_READ | LOOP_HANGUP)))
		(void)read_some(c);
	else if (!c->freed && c->fd >= 0 && c->paused && (events & LOOP_HANGUP))
		die(c, -EPIPE, NULL, "reading");
	c->busy--;
	release(c);
}

static void on_soon(void *ctx)
{
	struct conn *c = ctx;

	c->busy++;
	if (c->why.code && !c->closed) {
		c->closed = true;
		c->events->on_close(c->ctx, &c->why);
	} else if (c->finishing && clock_now() >= c->finish_by) {
		die(c, -ETIMEDOUT, NULL, "finishing");
	} else if (!c->why.code) {
		deliver(c);
		if (c->deaf)
			read_last(c);
		if (!c->freed)
			tell_drain(c);
	}
	c->busy--;
	release(c);
}

int conn_new(struct loop *loop, int fd, size_t limit, const struct conn_events *events, void *ctx, struct conn **ret,
	     struct err *e)
{
	struct conn *c = NEW(struct conn);
	int r;

	*c = (struct conn){ .loop = loop, .fd = fd, .events = events, .ctx = ctx };
	r = loop_watch(loop, fd, LOOP_READ, on_ready, c, &c->watch);
	if (r < 0) {
		free(c);
		return err_sys(e, r, "cannot watch a connection");
	}
	buf_init(&c->in, FRAME_HEADER + FRAME_MAX + TURN);
	c->in.wipes = true; /* a SECRET may come in pieces */
	buf_init(&c->out, MAX(limit, (size_t)LIMIT_MIN));
	c->soon = loop_timer(loop, CLOCK_NEVER, on_soon, c);
	*ret = c;
	return 0;
}

/* What was appended behind @before goes out, or waits. */
static void sent(struct conn *c, size_t before)
{
	struct span all = buf_span(&c->out);
	const uint8_t *frame = (const uint8_t *)all.p + before;

	trace_frame((unsigned)c->fd, '>', frame[4], SPAN(frame + FRAME_HEADER, all.len - before - FRAME_HEADER));
	if (c->held ? buf_len(&c->out) >= HELD_MAX : !before)
		write_some(c);
	if (buf_len(&c->out) >= CONN_MARK)
		c->above = true;
}

int conn_send(struct conn *c, enum msg_type type, const void *m)
{
	size_t before = buf_len(&c->out);
	int r;

	if (c->why.code || c->finishing || c->deaf)
		return -EPIPE;
	r = frame_put(&c->out, type, m);
	if (r == 0)
		sent(c, before);
	return r;
}

int conn_send_frame(struct conn *c, struct span frame)
{
	size_t before = buf_len(&c->out);
	int r;

	if (c->why.code || c->finishing || c->deaf)
		return -EPIPE;
	r = buf_append(&c->out, frame.p, frame.len);
	if (r == 0)
		sent(c, before);
	else
		c->out.failed = false;
	return r;
}

int conn_send_rest(struct conn *c, struct span rest)
{
	int r = c->why.code || c->finishing || c->deaf ? -EPIPE : buf_append(&c->out, rest.p, rest.len);

	if (r == 0)
		write_some(c);
	return r;
}

void conn_hold(struct conn *c)
{
	c->held = true;
}

void conn_let_go(struct conn *c)
{
	c->held = false;
	if (!c->why.code && buf_len(&c->out))
		write_some(c);
}

size_t conn_pending(const struct conn *c)
{
	return buf_len(&c->out);
}

bool conn_room(const struct conn *c)
{
	return !c->why.code && buf_len(&c->out) < CONN_MARK;
}

void conn_pause(struct conn *c)
{
	c->paused = true;
	rewatch(c);
}

void conn_resume(struct conn *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	rewatch(c);
	loop_rearm(c->soon, 0);
}

void conn_finish(struct conn *c)
{
	if (c->why.code || c->finishing)
		return;
	c->finishing = true;
	c->finish_by = clock_after_ms(FINISH_MS);
	loop_rearm(c->soon, c->finish_by);
	if (!buf_len(&c->out))
		die(c, -ENODATA, "closed", "the connection was finished");
}

void conn_set(struct conn *c, const struct conn_events *events, void *ctx)
{
	c->events = events;
	c->ctx = ctx;
}

int conn_fd(const struct conn *c)
{
	return c->fd;
}
