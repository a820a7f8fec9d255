/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels: a connection to a socket inside, as frames with credit in both directions; and the sockets inside whose
 * connections come to us. What comes is checked as from a hostile peer.
 */
#include "client/inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "wire/frame.h"
#include "wire/trace.h"
#include "wire/wire.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEND_MS = 60000, PIECE = 12 * 1024, GIVE_BACK = WIRE_TUNNEL_WINDOW / 4 };

struct berth_tunnel {
	int fd;
	struct buf in, out; /* frames from and to the daemon */
};

struct berth_listener {
	int fd;
	struct buf in;
	bool has_frame;
	struct frame frame;
};

static int get(struct berth *b, const char *sandbox, const char *what, int *ret_fd, struct buf *rest,
	       struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(sandbox);
	AUTO(str_free) char *path = str_printf("/v1/sandboxes/%s/%s", safe, what);
	int r;

	(void)!trace_open(NULL);
	r = client_upgrade(b, "GET", path, SPAN_NULL, -1, ret_fd, rest, e);
	if (r == 0 && fd_nonblock(*ret_fd, true) < 0)
		r = client_error(e, -EIO, "failed", "the connection to the daemon is of no use");
	return r;
}

int berth_tunnel(struct berth *b, const char *sandbox, const struct berth_target *to, struct berth_tunnel **ret,
		 struct berth_error *e)
{
	AUTO(berth_tunnel_close) struct berth_tunnel *t = NEW(struct berth_tunnel);
	AUTO(str_free) char *what = NULL;
	AUTO(str_free) char *word = client_encode(to->socket ? to->socket : to->address ? to->address : "");
	int r;

	t->fd = -1;
	buf_init(&t->in, FRAME_MAX + FRAME_HEADER + 4096);
	buf_init(&t->out, 2 * WIRE_TUNNEL_WINDOW);
	if (to->ask)
		what = str_printf("tunnel?ask=%llu", (unsigned long long)to->ask);
	else if (to->socket)
		what = str_printf("tunnel?socket=%s&timeout_ms=%u", word, to->timeout_ms);
	else
		what = str_printf("tunnel?port=%u&timeout_ms=%u%s%s", to->port, to->timeout_ms,
				  *word ? "&address=" : "", word);
	r = get(b, sandbox, what, &t->fd, &t->in, e);
	if (r == 0)
		*ret = take(&t);
	return r;
}

void berth_tunnel_close(struct berth_tunnel **slot)
{
	struct berth_tunnel *t = take(slot);

	if (!t)
		return;
	fd_close(&t->fd);
	buf_fini(&t->in);
	buf_fini(&t->out);
	free(t);
}

/* --- the relay ---------------------------------------------------------------------------------------------------- */

struct relay {
	struct berth_tunnel *t;
	int from, to; /* local */
	struct buf data; /* for `to` */
	uint64_t credit; /* we may send */
	uint64_t granted, owed; /* the other side may send; taken locally and not granted again */
	bool from_ended, to_ended, to_shut;
	struct berth_error *e;
};

static int broke(struct relay *r, int code)
{
	return client_error(r->e, code == -ENODATA ? -EPIPE : code, "cut-off", "the tunnel broke: %s", err_name(code));
}

static int put(struct relay *r, enum msg_type type, const void *m)
{
	int code = frame_put(&r->t->out, type, m);

	return code < 0 ? broke(r, code) : 0;
}

static int on_frame(struct relay *r, const struct frame *f)
{
	struct err why = ERR_NULL;
	struct msg_TUNNEL_DATA data;
	struct msg_WINDOW window;

	if (f->type == MSG_TUNNEL_DATA) {
		if (msg_decode(f->type, f->payload, &data, &why) < 0 || r->to_ended || data.data.len > r->granted)
			return broke(r, -EBADMSG);
		r->granted -= data.data.len;
		return buf_append(&r->data, data.data.p, data.data.len) < 0 ? broke(r, -ENOMEM) : 0;
	}
	if (f->type == MSG_WINDOW && msg_decode(f->type, f->payload, &window, &why) == 0) {
		r->credit = MIN(r->credit + window.bytes, (uint64_t)INT64_MAX);
		return 0;
	}
	if (f->type == MSG_TUNNEL_END) {
		r->to_ended = true;
		return 0;
	}
	if (f->type == MSG_ERROR)
		return client_told(f, r->e);
	return broke(r, -EBADMSG);
}

static int take_frames(struct relay *r)
{
	struct err why = ERR_NULL;
	struct frame f;
	int code = 0;

	while (code == 0 && (code = frame_parse(&r->t->in, &f, &why)) == 0) {
		trace_frame((unsigned)r->t->fd, '<', f.type, f.payload);
		code = on_frame(r, &f);
		frame_consume(&r->t->in, &f);
	}
	if (code == FRAME_E_MORE)
		return 0;
	return why.code ? broke(r, -EBADMSG) : code;
}

static int read_wire(struct relay *r)
{
	void *room = buf_reserve(&r->t->in, 65536);
	ssize_t n = room ? read(r->t->fd, room, 65536) : -1;

	if (!room)
		return broke(r, -ENOMEM);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return broke(r, n < 0 ? -errno : -EPIPE);
	buf_commit(&r->t->in, (size_t)n);
	return take_frames(r);
}

static int write_wire(struct relay *r)
{
	struct span s = buf_span(&r->t->out);
	ssize_t n = s.len ? send(r->t->fd, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return broke(r, -errno);
	buf_consume(&r->t->out, n > 0 ? (size_t)n : 0);
	return 0;
}

static int read_local(struct relay *r)
{
	char piece[PIECE];
	ssize_t n = read(r->from, piece, (size_t)MIN(r->credit, (uint64_t)PIECE));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return client_error(r->e, -errno, "local", "the local side broke: %s", err_name(errno));
	if (n == 0) {
		r->from_ended = true;
		return put(r, MSG_TUNNEL_END, &(struct msg_TUNNEL_END){ 0 });
	}
	r->credit -= (uint64_t)n;
	return put(r, MSG_TUNNEL_DATA, &(struct msg_TUNNEL_DATA){ .data = SPAN(piece, (size_t)n) });
}

static int write_local(struct relay *r)
{
	struct span s = buf_span(&r->data);
	ssize_t n = s.len ? write(r->to, s.p, s.len) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return client_error(r->e, -errno, "local", "the local side broke: %s", err_name(errno));
	buf_consume(&r->data, n > 0 ? (size_t)n : 0);
	r->owed += n > 0 ? (uint64_t)n : 0;
	if (r->owed >= GIVE_BACK && !r->to_ended) {
		struct msg_WINDOW m = { .stream = WIRE_IN, .bytes = r->owed };

		r->granted += r->owed;
		r->owed = 0;
		if (put(r, MSG_WINDOW, &m) < 0)
			return -EPIPE;
	}
	if (r->to_ended && !buf_len(&r->data) && !r->to_shut) {
		r->to_shut = true;
		if (shutdown(r->to, SHUT_WR) < 0 && r->to != r->from)
			close(r->to); /* a pipe has no other end */
	}
	return 0;
}

/* The last that we say is on its way before we leave; and after both ends the agent says nothing but its own. */
static bool is_done(const struct relay *r)
{
	return r->from_ended && r->to_shut && !buf_len(&r->t->out);
}

static int turn(struct relay *r)
{
	bool reads = !r->from_ended && r->credit && buf_len(&r->t->out) < WIRE_TUNNEL_WINDOW;
	bool wire = !r->from_ended || !r->to_ended || buf_len(&r->t->out); /* else the agent may have left already */
	struct pollfd p[3] = {
		{ .fd = wire ? r->t->fd : -1, .events = POLLIN | (buf_len(&r->t->out) ? POLLOUT : 0) },
		{ .fd = reads ? r->from : -1, .events = POLLIN },
		{ .fd = buf_len(&r->data) ? r->to : -1, .events = POLLOUT },
	};
	int code = 0;

	if (poll(p, 3, -1) < 0 && errno != EINTR)
		return broke(r, -errno);
	if (p[0].revents & POLLOUT)
		code = write_wire(r);
	if (code == 0 && (p[0].revents & ~POLLOUT))
		code = read_wire(r);
	if (code == 0 && p[1].revents)
		code = read_local(r);
	if (code == 0)
		code = write_local(r);
	return code;
}

int berth_tunnel_relay(struct berth_tunnel *t, int from_fd, int to_fd, struct berth_error *e)
{
	struct relay r = { .t = t, .from = from_fd, .to = to_fd, .e = e };
	int code;

	r.credit = r.granted = WIRE_TUNNEL_WINDOW;
	buf_init(&r.data, WIRE_TUNNEL_WINDOW);
	(void)!fd_nonblock(from_fd, true);
	(void)!fd_nonblock(to_fd, true);
	code = take_frames(&r); /* what came with the answer */
	if (code == 0)
		code = write_local(&r);
	while (code == 0 && !is_done(&r))
		code = turn(&r);
	buf_fini(&r.data);
	return code;
}

/* --- reverse ------------------------------------------------------------------------------------------------------ */

int berth_listen(struct berth *b, const char *sandbox, const char *socket, unsigned mode, struct berth_listener **ret,
		 struct berth_error *e)
{
	AUTO(berth_listener_close) struct berth_listener *l = NEW(struct berth_listener);
	AUTO(str_free) char *safe = client_encode(socket);
	AUTO(str_free) char *what = str_printf("listen?socket=%s&mode=%u", safe, mode);
	int r;

	l->fd = -1;
	buf_init(&l->in, FRAME_MAX + FRAME_HEADER + 4096);
	r = get(b, sandbox, what, &l->fd, &l->in, e);
	if (r == 0)
		*ret = take(&l);
	return r;
}

void berth_listener_close(struct berth_listener **slot)
{
	struct berth_listener *l = take(slot);

	if (!l)
		return;
	fd_close(&l->fd);
	buf_fini(&l->in);
	free(l);
}

int berth_listener_fd(const struct berth_listener *l)
{
	return l->fd;
}

int berth_listener_next(struct berth_listener *l, int timeout_ms, uint64_t *ret_ask, struct berth_error *e)
{
	uint64_t until = timeout_ms < 0 ? CLOCK_NEVER : clock_after_ms((uint64_t)timeout_ms);
	struct err why = ERR_NULL;
	struct msg_ASK m;
	int r;

	if (l->has_frame)
		frame_consume(&l->in, &l->frame);
	l->has_frame = false;
	r = frame_recv(l->fd, &l->in, &l->frame, until, &why);
	if (r == -ETIMEDOUT)
		return client_error(e, r, "timeout", "nobody has connected yet");
	if (r < 0)
		return client_error(e, r == -ENODATA ? -EPIPE : r, "cut-off", "the sandbox or the daemon has gone");
	l->has_frame = true;
	if (l->frame.type != MSG_ASK || msg_decode(MSG_ASK, l->frame.payload, &m, &why) < 0)
		return client_error(e, -EPROTO, "bad-answer", "the daemon says something else than ASK");
	*ret_ask = m.ask;
	return 0;
}

int berth_listener_refuse(struct berth_listener *l, uint64_t ask, struct berth_error *e)
{
	int r = frame_send(l->fd, MSG_REFUSE, &(struct msg_REFUSE){ .ask = ask }, clock_after_ms(SEND_MS));

	return r < 0 ? client_error(e, r, "cut-off", "the daemon has gone") : 0;
}
