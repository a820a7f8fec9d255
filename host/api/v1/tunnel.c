/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels: an upgraded connection on which client and agent speak frames with a relay between them, as with commands;
 * the first answer of the agent is read here, so that a refusal is an HTTP error with a name.
 *
 * Reverse: the client's upgraded connection is told each stream that the guest asks for (ASK), and takes it by a
 * request of its own, or refuses it (REFUSE). It listens as long as that connection lives.
 */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "seal/digest.h"
#include "wire/conn.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { DIAL_MS = 10000, OPEN_MS = 10000, OPEN_MAX_MS = 60000, LATE_MS = 5000, CLIENT_OUT_MAX = 64 * 1024 };

static int first_frame(struct http_req *req, int fd, uint64_t *ret_until, struct err *e)
{
	const char *address = http_query(req, "address"), *socket = http_query(req, "socket");
	struct msg_TUNNEL_OPEN m = { .address = span_str(address), .socket = span_str(socket) };
	struct msg_TUNNEL_TAKE take_it = { .ask = 0 };
	uint64_t timeout = OPEN_MS;
	int r = v1_query_u64(req, "port", 0, &m.port, e);

	if (r == 0)
		r = v1_query_u64(req, "timeout_ms", OPEN_MS, &timeout, e);
	if (r == 0)
		r = v1_query_u64(req, "ask", 0, &take_it.ask, e);
	if (r < 0)
		return r;
	if (!m.port + !socket + !take_it.ask != 2 || m.port > 65535 || timeout > OPEN_MAX_MS)
		return err_set(e, -EINVAL, "bad-request", "one of port, socket and ask is wanted, timeout_ms up to %d",
			       OPEN_MAX_MS);
	m.timeout_ms = timeout ? timeout : OPEN_MS;
	*ret_until = clock_after_ms(m.timeout_ms + LATE_MS);
	r = take_it.ask ? frame_send(fd, MSG_TUNNEL_TAKE, &take_it, *ret_until)
			: frame_send(fd, MSG_TUNNEL_OPEN, &m, *ret_until);
	return r < 0 ? err_set(e, r, r == -EINVAL ? "bad-request" : "agent-gone", "this tunnel cannot be asked for: %s",
			       err_name(r))
		     : 0;
}

/* Nothing follows the answer before the client speaks but data, and that stays in the socket: so exactly one frame. */
static int answer(int fd, uint64_t until, struct err *e)
{
	struct frame f;
	struct buf in;
	int r;

	buf_init(&in, FRAME_MAX + FRAME_HEADER);
	r = frame_recv_one(fd, &in, &f, until, e);
	if (r == 0 && f.type == MSG_ERROR)
		r = frame_refused(&f, e);
	else if (r == 0 && f.type != MSG_TUNNEL_OPENED)
		r = err_set(e, -EBADMSG, "bad-message", "the agent does not say that the tunnel is open");
	buf_fini(&in);
	if (r < 0 && e && !e->code)
		err_set(e, r == -ENODATA ? -EPIPE : r, r == -ETIMEDOUT ? "timeout" : "agent-gone",
			"the agent does not open the tunnel");
	return r;
}

int v1_tunnel(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(fd_close) int fd = -1;
	uint64_t until = 0;
	int r = v1_upgrade_wanted(req, e);

	if (r == 0)
		r = hub_dial_as(api->hub, http_segment(req, 0), WIRE_TUNNEL, clock_after_ms(DIAL_MS), &fd, e);
	if (r == 0)
		r = first_frame(req, fd, &until, e);
	if (r == 0)
		r = answer(fd, until, e);
	if (r == 0)
		v1_relay(api, res, fd_take(&fd), NULL);
	return r;
}

/* --- reverse ------------------------------------------------------------------------------------------------------ */

struct listening {
	struct loop *loop;
	struct link *link; /* borrowed; NULL when it is gone. The loop's */
	char name[32];
	struct conn *conn; /* the client; the loop's */
	int fd;		   /* of the client, until the loop has it */
	void *handle;
};

static void listening_end(struct listening *l)
{
	if (l->link)
		link_unserve(l->link, l->name);
	conn_free(&l->conn);
	fd_close(&l->fd);
	if (l->handle)
		http_upgrade_end(l->handle);
	free(l);
}

static void on_ask(void *ctx, uint64_t ask)
{
	struct listening *l = ctx;
	struct msg_ASK m = { .ask = ask, .name = span_str(l->name) };

	if (!l->conn || conn_pending(l->conn) > CLIENT_OUT_MAX || conn_send(l->conn, MSG_ASK, &m) < 0)
		link_refuse(l->link, ask);
}

static void on_gone(void *ctx)
{
	struct listening *l = ctx;

	l->link = NULL;
	if (l->conn)
		conn_finish(l->conn);
}

static void on_frame(void *ctx, const struct frame *f)
{
	struct listening *l = ctx;
	struct msg_REFUSE m;

	if (f->type != MSG_REFUSE || msg_decode(f->type, f->payload, &m, NULL) < 0)
		conn_finish(l->conn);
	else if (l->link)
		link_refuse(l->link, m.ask);
}

static void on_close(void *ctx, const struct err *why)
{
	(void)why;
	listening_end(ctx);
}

static const struct conn_events client_events = { .on_frame = on_frame, .on_close = on_close };

static void begin_on_loop(void *ctx)
{
	struct listening *l = ctx;

	if (l->fd < 0 || fd_nonblock(l->fd, true) < 0 ||
	    conn_new(l->loop, l->fd, 0, &client_events, l, &l->conn, NULL) < 0) {
		listening_end(l);
		return;
	}
	l->fd = -1;
	if (!l->link)
		conn_finish(l->conn);
}

/* A descriptor of our own: the server's stays with it until the end. What came with the request is nothing that a
 * client has to say before it was asked. */
static void listening_begin(void *ctx, int fd, struct span first, void *handle)
{
	struct listening *l = ctx;

	(void)first;
	l->handle = handle;
	l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	loop_post(l->loop, begin_on_loop, l);
}

static void drop_on_loop(void *ctx)
{
	listening_end(ctx);
}

static void listening_drop(void *ctx)
{
	struct listening *l = ctx;

	loop_post(l->loop, drop_on_loop, l);
}

int v1_listen(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(ws_unref) struct ws *ws = NULL;
	struct listening *l;
	struct link_service service = { .ask = on_ask, .gone = on_gone };
	struct msg_LISTEN m = { .socket = span_str(http_query(req, "socket")) };
	struct link *link;
	uint8_t raw[10];
	int r = v1_upgrade_wanted(req, e);

	if (r == 0)
		r = v1_query_u64(req, "mode", 0, &m.mode, e);
	if (r == 0 && (m.mode > 07777 || !m.socket.len || m.socket.len > 107))
		r = err_set(e, -EINVAL, "bad-request", "socket is an absolute path inside of at most 107 bytes");
	if (r == 0)
		r = v1_link(api, req, &ws, &link, e);
	if (r < 0)
		return r;
	l = NEW(struct listening);
	*l = (struct listening){ .loop = api->loop, .link = link, .fd = -1 };
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), l->name);
	service.ctx = l;
	m.name = span_str(l->name);
	r = link_serve(link, l->name, &service, e);
	if (r < 0) {
		free(l);
		return r;
	}
	r = link_wait(link, MSG_LISTEN, &m, clock_after_ms(DIAL_MS), NULL, NULL, e);
	if (r < 0) {
		listening_drop(l);
		return r;
	}
	res->upgrade = listening_begin;
	res->upgrade_drop = listening_drop;
	res->ctx = l;
	return 0;
}
