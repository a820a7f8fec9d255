/* SPDX-License-Identifier: Apache-2.0 */
/* Each direction has the wire's window. What could not be written to the socket waits in a buffer that the window
 * bounds; credit goes back for what was written. The transport's end would take along what the agent has not written
 * yet: so we wait until it has given all credit back, or closes by itself. */
#include "host/link/pump.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "wire/conn.h"
#include "wire/wire.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 65536, LAST_MS = 60000 };

struct pump {
	struct loop *loop;
	struct conn *conn;
	int agent_fd; /* until there is a connection */
	int fd;
	struct loop_watch *watch;
	struct loop_timer *last;
	unsigned watched; /* for what */
	uint64_t credit;  /* that the agent gave */
	uint64_t unseen;  /* told to the agent, and not yet taken by the one inside, as far as we know */
	struct buf out;	  /* to the socket */
	bool in_over, out_over, out_ended; /* the socket has said all; the agent has; and the socket was told */
	bool is_deaf; /* whoever has the socket's other end is gone */
	pump_done_fn *done;
	void *ctx;
};

static void on_fd(void *ctx, int fd, unsigned events);

void pump_free(struct pump **slot)
{
	struct pump *p = take(slot);

	if (!p)
		return;
	loop_unwatch(&p->watch);
	loop_untimer(&p->last);
	conn_free(&p->conn);
	fd_close(&p->agent_fd);
	fd_close(&p->fd);
	buf_fini(&p->out);
	free(p);
}

static void over(struct pump *p)
{
	pump_done_fn *done = p->done;
	void *ctx = p->ctx;

	pump_free(&p);
	if (done)
		done(ctx);
}

static void on_last(void *ctx)
{
	over(ctx);
}

/* What it said before is delivered; what comes for it goes nowhere. */
static void deaf(struct pump *p)
{
	p->is_deaf = true;
	if (!p->last)
		p->last = loop_timer(p->loop, clock_after_ms(LAST_MS), on_last, p);
}

static bool settle(struct pump *p)
{
	unsigned want =
		(!p->in_over && p->credit && conn_room(p->conn) ? LOOP_READ : 0) | (buf_len(&p->out) ? LOOP_WRITE : 0);

	if (p->out_over && !p->out_ended && !buf_len(&p->out)) {
		p->out_ended = true;
		shutdown(p->fd, SHUT_WR);
	}
	if (p->in_over && p->out_ended && !p->unseen) {
		over(p);
		return false;
	}
	if (p->in_over && p->out_ended && !p->last)
		p->last = loop_timer(p->loop, clock_after_ms(LAST_MS), on_last, p);
	if (want == p->watched && (p->watch || !want))
		return true;
	loop_unwatch(&p->watch);
	p->watched = want;
	if (want && loop_watch(p->loop, p->fd, want, on_fd, p, &p->watch) < 0) {
		over(p);
		return false;
	}
	return true;
}

static void write_out(struct pump *p)
{
	struct msg_WINDOW more = { .stream = WIRE_IN };

	while (buf_len(&p->out)) {
		struct span s = buf_span(&p->out);
		ssize_t n = p->is_deaf ? (ssize_t)s.len : send(p->fd, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			deaf(p);
			continue;
		}
		buf_consume(&p->out, (size_t)n);
		more.bytes += (uint64_t)n;
	}
	if (more.bytes && !p->is_deaf)
		(void)!conn_send(p->conn, MSG_WINDOW, &more);
}

static void end_in(struct pump *p)
{
	struct msg_TUNNEL_END end = { 0 };
	struct pollfd gone = { .fd = p->fd };

	p->in_over = true;
	(void)!conn_send(p->conn, MSG_TUNNEL_END, &end);
	if (poll(&gone, 1, 0) > 0 && gone.revents & (POLLHUP | POLLERR))
		deaf(p);
}

/* Return: false: it is gone. */
static bool read_in(struct pump *p)
{
	static uint8_t room[PIECE]; /* one thread */

	while (p->credit && conn_room(p->conn)) {
		ssize_t n = recv(p->fd, room, (size_t)MIN((uint64_t)sizeof(room), p->credit), MSG_DONTWAIT);
		struct msg_TUNNEL_DATA m = { .data = SPAN(room, (size_t)MAX(n, (ssize_t)0)) };

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			end_in(p);
			return true;
		}
		p->credit -= (uint64_t)n;
		p->unseen += (uint64_t)n;
		if (conn_send(p->conn, MSG_TUNNEL_DATA, &m) < 0) {
			over(p);
			return false;
		}
	}
	return true;
}

static void on_fd(void *ctx, int fd, unsigned events)
{
	struct pump *p = ctx;

	(void)fd;
	if (events & LOOP_WRITE)
		write_out(p);
	if (events & ~(unsigned)LOOP_WRITE && !p->in_over && !read_in(p))
		return;
	(void)settle(p);
}

static void on_frame(void *ctx, const struct frame *f)
{
	struct pump *p = ctx;
	union {
		struct msg_TUNNEL_DATA data;
		struct msg_WINDOW window;
		struct msg_TUNNEL_END end;
	} m;

	/* Another one is ERROR: the sandbox is paused or ends. */
	if ((f->type != MSG_TUNNEL_DATA && f->type != MSG_WINDOW && f->type != MSG_TUNNEL_END) ||
	    msg_decode((enum msg_type)f->type, f->payload, &m, NULL) < 0) {
		over(p);
		return;
	}
	if (f->type == MSG_TUNNEL_DATA) {
		if (buf_append(&p->out, m.data.data.p, m.data.data.len) < 0) { /* more than its window */
			over(p);
			return;
		}
		write_out(p);
	} else if (f->type == MSG_WINDOW) {
		p->credit += m.window.bytes;
		p->unseen -= MIN(p->unseen, m.window.bytes);
	} else if (f->type == MSG_TUNNEL_END) {
		p->out_over = true;
	}
	(void)settle(p);
}

static void on_close(void *ctx, const struct err *why)
{
	(void)why;
	over(ctx);
}

static void on_drain(void *ctx)
{
	(void)settle(ctx);
}

static struct pump *make(struct loop *loop, int fd, int sock)
{
	struct pump *p = NEW(struct pump);

	*p = (struct pump){ .loop = loop, .agent_fd = fd, .fd = sock, .credit = WIRE_TUNNEL_WINDOW };
	buf_init(&p->out, WIRE_TUNNEL_WINDOW + PIECE);
	return p;
}

static int begin(struct pump *p)
{
	static const struct conn_events events = { .on_frame = on_frame, .on_close = on_close, .on_drain = on_drain };
	int r = conn_new(p->loop, p->agent_fd, 0, &events, p, &p->conn, NULL);

	if (r < 0)
		return r;
	p->agent_fd = -1;
	p->watched = LOOP_READ;
	return loop_watch(p->loop, p->fd, LOOP_READ, on_fd, p, &p->watch);
}

static void begin_on_loop(void *ctx)
{
	struct pump *p = ctx;

	if (begin(p) < 0)
		pump_free(&p);
}

int pump_start(struct loop *loop, int fd, int *ret_fd, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		int r = err_sys(e, -errno, "a pair of sockets");

		fd_close(&fd);
		return r;
	}
	*ret_fd = pair[1];
	loop_post(loop, begin_on_loop, make(loop, fd, pair[0]));
	return 0;
}

int pump_new(struct loop *loop, int fd, int sock, pump_done_fn *done, void *ctx, struct pump **ret)
{
	struct pump *p = make(loop, fd, sock);
	int r = begin(p);

	if (r < 0) {
		pump_free(&p);
		return r;
	}
	p->done = done;
	p->ctx = ctx;
	*ret = p;
	return 0;
}
