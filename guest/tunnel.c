/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Data from the host waits in `out` until the socket takes it; what it took is given back as credit, in pieces
 * of a quarter of the window, so that the host never has more than one window under way. Data from the socket is read
 * only while there is credit and the connection has room. Each direction ends with END, never with the transport. When
 * the socket takes nothing more (its other end has closed), what still comes from the host is swallowed, until it says
 * nothing either: then both are told by an ERROR.
 */
#include "guest/tunnel.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/agent.h"
#include "guest/service.h"
#include "wire/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { OPEN_MS = 10000, REST_MS = 5000, AGAIN_MS = 10, PIECE = 65536, GIVE_BACK = WIRE_TUNNEL_WINDOW / 4 };

struct target {
	struct sockaddr_storage at;
	socklen_t len;
};

struct tunnel {
	struct loop *loop; /* borrowed */
	struct conn *conn; /* borrowed */
	struct target targets[2];
	unsigned n_targets, trying;
	uint64_t until;
	int fd;
	struct loop_watch *watch;
	struct loop_timer *timer; /* while connecting */
	bool opened;
	struct buf out;	  /* for the socket */
	uint64_t granted; /* the host may still send */
	uint64_t owed;	  /* taken by the socket, not yet granted again */
	uint64_t credit;  /* we may still send */
	bool in_ended;	  /* the host said END */
	bool is_shut;	  /* the socket was told so */
	bool out_ended;	  /* we said END */
	bool is_deaf;	  /* the socket takes nothing more */
	bool is_over;
};

/* --- ends --------------------------------------------------------------------------------------------------------- */

static void over(struct tunnel *t)
{
	if (t->is_over)
		return;
	t->is_over = true;
	loop_unwatch(&t->watch);
	loop_untimer(&t->timer);
	fd_close(&t->fd);
	conn_finish(t->conn);
}

static void on_rested(void *ctx)
{
	struct tunnel *t = ctx;

	over(t);
}

/* Both directions have ended: the host closes. Were it us, what we sent last could be lost with the connection. */
static void rest(struct tunnel *t)
{
	loop_unwatch(&t->watch);
	fd_close(&t->fd);
	if (!t->timer)
		t->timer = loop_timer(t->loop, clock_after_ms(REST_MS), on_rested, t);
}

static int why(int code, struct err *e)
{
	switch (code) {
	case -ECONNREFUSED:
		return err_set(e, code, "refused", "nobody listens there");
	case -ENOENT:
	case -ENOTDIR:
		return err_set(e, code, "no-such-socket", "there is no such socket");
	case -ETIMEDOUT:
		return err_set(e, code, "timeout", "nobody answers there");
	case -EACCES:
	case -EPERM:
		return err_set(e, code, "permission", "it may not be connected to");
	case -ENETUNREACH:
	case -EHOSTUNREACH:
	case -EADDRNOTAVAIL:
		return err_set(e, code, "unreachable", "this address cannot be reached from inside");
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return err_set(e, code, "limits", "the agent cannot open another connection: %s", err_name(code));
	default:
		return err_set(e, code, "failed", "connecting: %s", err_name(code));
	}
}

static void fail(struct tunnel *t, int code)
{
	struct err e = ERR_NULL;

	if (t->is_over)
		return;
	if (t->opened)
		err_set(&e, code, "reset", "the connection inside broke: %s", err_name(code));
	else
		(void)!why(code, &e);
	reply_error(t->conn, 0, &e);
	over(t);
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void on_ready(void *ctx, int fd, unsigned events);

static void watch(struct tunnel *t)
{
	bool reads = !t->out_ended && t->credit && conn_room(t->conn);
	unsigned want = (reads ? LOOP_READ : 0U) | (buf_len(&t->out) ? LOOP_WRITE : 0U);

	if (t->watch && want)
		loop_rewatch(t->watch, want);
	else if (t->watch)
		loop_unwatch(&t->watch); /* a hangup is told also to who waits for nothing */
	if (!t->watch && want && t->opened && !t->is_over)
		(void)!loop_watch(t->loop, t->fd, want, on_ready, t, &t->watch);
}

static void give_back(struct tunnel *t)
{
	struct msg_WINDOW m = { .stream = WIRE_IN, .bytes = t->owed };

	/* Behind the end it tells that the socket has all of it. */
	if (!t->owed || (t->in_ended ? !t->is_shut : t->owed < GIVE_BACK) || conn_send(t->conn, MSG_WINDOW, &m) < 0)
		return;
	t->granted += t->owed;
	t->owed = 0;
}

static void push(struct tunnel *t)
{
	while (!t->is_over && buf_len(&t->out)) {
		struct span s = buf_span(&t->out);
		ssize_t n = t->is_deaf ? (ssize_t)s.len : send(t->fd, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && errno != EINTR)
			t->is_deaf = true;
		if (n <= 0)
			continue;
		buf_consume(&t->out, (size_t)n);
		t->owed += (uint64_t)n;
	}
	if (t->is_deaf && t->out_ended) {
		fail(t, -EPIPE);
		return;
	}
	if (t->in_ended && !buf_len(&t->out) && !t->is_shut) {
		t->is_shut = true;
		shutdown(t->fd, SHUT_WR);
	}
	give_back(t);
}

static void pull(struct tunnel *t)
{
	static char piece[PIECE]; /* one thread */

	while (!t->is_over && !t->out_ended && t->credit && conn_room(t->conn)) {
		ssize_t n = recv(t->fd, piece, (size_t)MIN(t->credit, (uint64_t)PIECE), MSG_DONTWAIT);
		struct msg_TUNNEL_DATA m = { .data = SPAN(piece, n > 0 ? (size_t)n : 0) };

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			fail(t, -errno);
			return;
		}
		if (n == 0) {
			t->out_ended = true;
			(void)!conn_send(t->conn, MSG_TUNNEL_END, &(struct msg_TUNNEL_END){ 0 });
			return;
		}
		if (conn_send(t->conn, MSG_TUNNEL_DATA, &m) < 0)
			return;
		t->credit -= (uint64_t)n;
	}
}

static void pump(struct tunnel *t)
{
	if (!t->opened || t->is_over || (t->out_ended && t->is_shut))
		return;
	push(t);
	pull(t);
	if (t->is_over)
		return;
	if (t->is_deaf && t->out_ended)
		fail(t, -EPIPE);
	else if (t->out_ended && t->is_shut)
		rest(t);
	else
		watch(t);
}

void tunnel_drained(struct tunnel *t)
{
	pump(t);
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

static void opened(struct tunnel *t, const struct proc_name *asker)
{
	struct msg_TUNNEL_OPENED m = { .exec = span_str(asker ? asker->id : ""),
				       .word = span_str(asker ? asker->word : "") };
	int one = 1;

	loop_untimer(&t->timer);
	(void)!setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* not all of them are TCP */
	t->opened = true;
	(void)!conn_send(t->conn, MSG_TUNNEL_OPENED, &m);
	pump(t);
}

static void attempt(struct tunnel *t);

static void next(struct tunnel *t, int code)
{
	loop_unwatch(&t->watch);
	fd_close(&t->fd);
	if (code == -EAGAIN && clock_now() < t->until) { /* a Unix socket whose queue is full: the same again, soon */
		loop_rearm(t->timer, MIN(t->until, clock_after_ms(AGAIN_MS)));
		return;
	}
	if (code == -EAGAIN)
		code = -ETIMEDOUT;
	if (++t->trying < t->n_targets)
		attempt(t);
	else
		fail(t, code);
}

static void attempt(struct tunnel *t)
{
	const struct target *to = &t->targets[t->trying];

	t->fd = socket(to->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		next(t, -errno);
	else if (connect(t->fd, (const struct sockaddr *)&to->at, to->len) == 0)
		opened(t, NULL);
	else if (errno != EINPROGRESS)
		next(t, -errno);
	else if (loop_watch(t->loop, t->fd, LOOP_WRITE, on_ready, t, &t->watch) < 0)
		next(t, -ENOMEM);
}

static void on_timer(void *ctx)
{
	struct tunnel *t = ctx;

	if (clock_now() >= t->until) {
		t->trying = t->n_targets;
		next(t, -ETIMEDOUT);
	} else {
		attempt(t);
		if (t->timer && t->fd >= 0)
			loop_rearm(t->timer, t->until);
	}
}

static void on_ready(void *ctx, int fd, unsigned events)
{
	struct tunnel *t = ctx;
	int code = 0;
	socklen_t len = sizeof(code);

	(void)fd, (void)events;
	if (t->opened) {
		pump(t);
		return;
	}
	(void)!getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &code, &len);
	if (code)
		next(t, -code);
	else
		opened(t, NULL);
}

/* --- the first frame ---------------------------------------------------------------------------------------------- */

static void add_tcp(struct tunnel *t, const char *address, unsigned port)
{
	struct target *to = &t->targets[t->n_targets];
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&to->at;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&to->at;

	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		to->len = sizeof(*v4);
		t->n_targets++;
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		to->len = sizeof(*v6);
		t->n_targets++;
	}
}

static void add_unix(struct tunnel *t, struct span path)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)&t->targets[0].at;
	const char *p = path.p;

	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, p, path.len);
	if (*p == '@')
		un->sun_path[0] = '\0';
	t->targets[0].len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + (*p == '@' ? 0 : 1));
	t->n_targets = 1;
}

static int begin(struct tunnel *t, const struct msg_TUNNEL_OPEN *m, struct err *e)
{
	AUTO(str_free) char *address = span_dup(m->address);
	const char *socket = m->socket.p;

	if (m->socket.len && !m->port && (*socket == '/' || *socket == '@')) {
		add_unix(t, m->socket);
	} else if (!m->socket.len && m->port && *address) {
		add_tcp(t, address, (unsigned)m->port);
	} else if (!m->socket.len && m->port) {
		add_tcp(t, "127.0.0.1", (unsigned)m->port);
		add_tcp(t, "::1", (unsigned)m->port);
	}
	if (!t->n_targets)
		return err_set(e, -EINVAL, "bad-request",
			       "a port, with an address in digits, or an absolute path is wanted");
	t->until = clock_after_ms(m->timeout_ms ? m->timeout_ms : OPEN_MS);
	t->timer = loop_timer(t->loop, t->until, on_timer, t);
	attempt(t);
	return 0;
}

int tunnel_first(struct loop *loop, struct services *services, struct conn *conn, const struct frame *f,
		 struct tunnel **ret, struct err *e)
{
	struct tunnel *t = NEW(struct tunnel);
	struct msg_TUNNEL_OPEN open;
	struct msg_TUNNEL_TAKE take_it;
	struct proc_name asker;
	int r;

	*t = (struct tunnel){ .loop = loop, .conn = conn, .fd = -1 };
	t->granted = t->credit = WIRE_TUNNEL_WINDOW;
	buf_init(&t->out, WIRE_TUNNEL_WINDOW);
	if (f->type == MSG_TUNNEL_OPEN) {
		r = msg_decode(f->type, f->payload, &open, e);
		if (r == 0)
			r = begin(t, &open, e);
	} else if (f->type == MSG_TUNNEL_TAKE) {
		r = msg_decode(f->type, f->payload, &take_it, e);
		if (r == 0)
			r = services_take(services, take_it.ask, &t->fd, &asker, e);
		if (r == 0)
			opened(t, &asker);
	} else {
		r = err_set(e, -EPROTO, "bad-message", "a tunnel begins with TUNNEL_OPEN or TUNNEL_TAKE");
	}
	if (r < 0)
		tunnel_free(&t);
	*ret = t;
	return r;
}

static int on_data(struct tunnel *t, const struct msg_TUNNEL_DATA *m, struct err *e)
{
	if (!t->opened || t->in_ended || m->data.len > t->granted)
		return err_set(e, -EPROTO, "tunnel-window", "data that the tunnel has no room for");
	t->granted -= m->data.len;
	if (buf_append(&t->out, m->data.p, m->data.len) < 0)
		return err_set(e, -ENOMEM, "limits", "no memory for a tunnel");
	pump(t);
	return 0;
}

int tunnel_frame(struct tunnel *t, const struct frame *f, struct err *e)
{
	struct msg_TUNNEL_DATA data;
	struct msg_WINDOW window;
	struct msg_TUNNEL_END end;
	int r;

	if (t->is_over)
		return 0;
	switch (f->type) {
	case MSG_TUNNEL_DATA:
		r = msg_decode(f->type, f->payload, &data, e);
		return r < 0 ? r : on_data(t, &data, e);
	case MSG_TUNNEL_END:
		r = msg_decode(f->type, f->payload, &end, e);
		if (r < 0)
			return r;
		t->in_ended = true;
		pump(t);
		return 0;
	case MSG_WINDOW:
		r = msg_decode(f->type, f->payload, &window, e);
		if (r < 0)
			return r;
		t->credit = MIN(t->credit + window.bytes, (uint64_t)INT64_MAX);
		pump(t);
		return 0;
	default:
		return err_set(e, -EPROTO, "bad-message", "%s has no place in a tunnel", msg_name(f->type));
	}
}

void tunnel_free(struct tunnel **slot)
{
	struct tunnel *t = take(slot);

	if (!t)
		return;
	loop_unwatch(&t->watch);
	loop_untimer(&t->timer);
	fd_close(&t->fd);
	buf_fini(&t->out);
	free(t);
}
