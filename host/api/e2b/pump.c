/* SPDX-License-Identifier: Apache-2.0 */
/* Each direction has the wire's window. What could not be written to the socket waits in a buffer that the window
 * bounds; credit goes back for what was written. */
#include "host/api/e2b/pump.h"

#include "base/buf.h"
#include "base/io.h"
#include "wire/conn.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 65536 };

struct pump {
	struct loop *loop;
	struct conn *conn;
	int agent_fd; /* until there is a connection */
	int fd;
	struct loop_watch *watch;
	unsigned watched; /* for what */
	uint64_t credit;  /* that the agent gave */
	struct buf out;	  /* to the socket */
	bool in_over, out_over, out_ended; /* the socket has said all; the agent has; and the socket was told */
};

static void on_fd(void *ctx, int fd, unsigned events);

static void pump_free(struct pump *p)
{
	loop_unwatch(&p->watch);
	conn_free(&p->conn);
	fd_close(&p->agent_fd);
	fd_close(&p->fd);
	buf_fini(&p->out);
	free(p);
}

static bool settle(struct pump *p)
{
	unsigned want =
		(!p->in_over && p->credit && conn_room(p->conn) ? LOOP_READ : 0) | (buf_len(&p->out) ? LOOP_WRITE : 0);

	if (p->out_over && !p->out_ended && !buf_len(&p->out)) {
		p->out_ended = true;
		shutdown(p->fd, SHUT_WR);
	}
	if (p->in_over && p->out_ended) {
		pump_free(p);
		return false;
	}
	if (want == p->watched && (p->watch || !want))
		return true;
	loop_unwatch(&p->watch);
	p->watched = want;
	if (want && loop_watch(p->loop, p->fd, want, on_fd, p, &p->watch) < 0) {
		pump_free(p);
		return false;
	}
	return true;
}

/* Return: false: it is gone. */
static bool write_out(struct pump *p)
{
	struct msg_WINDOW more = { .stream = WIRE_IN };

	while (buf_len(&p->out)) {
		struct span s = buf_span(&p->out);
		ssize_t n = send(p->fd, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) { /* nobody reads any more */
			pump_free(p);
			return false;
		}
		buf_consume(&p->out, (size_t)n);
		more.bytes += (uint64_t)n;
	}
	if (more.bytes)
		(void)!conn_send(p->conn, MSG_WINDOW, &more);
	return true;
}

static bool read_in(struct pump *p)
{
	uint8_t room[8192];

	while (p->credit && conn_room(p->conn)) {
		ssize_t n = recv(p->fd, room, MIN(sizeof(room), p->credit), MSG_DONTWAIT);
		struct msg_TUNNEL_DATA m = { .data = SPAN(room, (size_t)MAX(n, (ssize_t)0)) };
		struct msg_TUNNEL_END end = { 0 };

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			p->in_over = true;
			(void)!conn_send(p->conn, MSG_TUNNEL_END, &end);
			return true;
		}
		p->credit -= (uint64_t)n;
		if (conn_send(p->conn, MSG_TUNNEL_DATA, &m) < 0) {
			pump_free(p);
			return false;
		}
	}
	return true;
}

static void on_fd(void *ctx, int fd, unsigned events)
{
	struct pump *p = ctx;

	(void)fd;
	if (events & LOOP_WRITE && !write_out(p))
		return;
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
		pump_free(p);
		return;
	}
	if (f->type == MSG_TUNNEL_DATA) {
		if (buf_append(&p->out, m.data.data.p, m.data.data.len) < 0) { /* more than its window */
			pump_free(p);
			return;
		}
		if (!write_out(p))
			return;
	} else if (f->type == MSG_WINDOW) {
		p->credit += m.window.bytes;
	} else if (f->type == MSG_TUNNEL_END) {
		p->out_over = true;
	}
	(void)settle(p);
}

static void on_close(void *ctx, const struct err *why)
{
	(void)why;
	pump_free(ctx);
}

static void on_drain(void *ctx)
{
	(void)settle(ctx);
}

static void begin(void *ctx)
{
	static const struct conn_events events = { .on_frame = on_frame, .on_close = on_close, .on_drain = on_drain };
	struct pump *p = ctx;

	if (conn_new(p->loop, p->agent_fd, 0, &events, p, &p->conn, NULL) < 0) {
		pump_free(p);
		return;
	}
	p->agent_fd = -1;
	(void)settle(p);
}

int pump_start(struct loop *loop, int fd, int *ret_fd, struct err *e)
{
	struct pump *p;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		int r = err_sys(e, -errno, "a pair of sockets");

		fd_close(&fd);
		return r;
	}
	p = NEW(struct pump);
	p->loop = loop;
	p->agent_fd = fd;
	p->fd = pair[0];
	p->credit = WIRE_TUNNEL_WINDOW;
	buf_init(&p->out, WIRE_TUNNEL_WINDOW + PIECE);
	*ret_fd = pair[1];
	loop_post(loop, begin, p);
	return 0;
}
