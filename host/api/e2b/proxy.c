/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What listens on a port inside of a sandbox, through a tunnel. A request goes on as HTTP/1.0 with "Connection: close",
 * so that the end of the answer is the end of the connection and nothing has to be decoded; one that upgrades
 * (WebSocket) goes on as it is, and both ends are joined. The request's body was taken whole before; the answer's
 * flows.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/api/e2b/e2b.h"
#include "host/http/parse.h"
#include "host/link/pump.h"
#include "loop/relay.h"
#include "tls/tls.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	DIAL_MS = 10000,
	OPEN_MS = 2000,
	OPEN_TRIES = 5,
	AGAIN_MS = 100,
	HEAD_MS = 600000,
	SEND_MS = 60000,
	SEND_RATE_B = 1000000,
	LOOK_MS = 1000,
	HEAD_MAX = 65536
};

/* --- a connection to the port ------------------------------------------------------------------------------------- */

static int open_once(struct e2b *e2b, const char *sandbox, uint64_t port, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	struct msg_TUNNEL_OPEN m = { .port = port, .timeout_ms = OPEN_MS };
	struct frame f;
	struct buf in;
	int r = hub_dial_as(e2b->hub, sandbox, WIRE_TUNNEL, clock_after_ms(DIAL_MS), &fd, e);

	if (r < 0)
		return r;
	buf_init(&in, FRAME_MAX + FRAME_HEADER);
	r = frame_send(fd, MSG_TUNNEL_OPEN, &m, clock_after_ms(DIAL_MS));
	if (r == 0)
		r = frame_recv_one(fd, &in, &f, clock_after_ms(DIAL_MS), e);
	if (r == 0 && f.type == MSG_ERROR) {
		(void)!frame_refused(&f, e);
		*e = ERR_NULL;
		r = err_set(e, -ECONNREFUSED, "port-closed", "The sandbox is running but port is not open");
	} else if (r == 0 && f.type != MSG_TUNNEL_OPENED) {
		r = -EBADMSG;
	}
	buf_fini(&in);
	if (r < 0)
		return e->code ? r : err_sys(e, r, "opening port %u", (unsigned)port);
	return pump_start(e2b->loop, fd_take(&fd), ret_fd, e);
}

/* A server that was just started may need a moment. */
static int open_port(struct e2b *e2b, const char *sandbox, uint64_t port, int *ret_fd, struct err *e)
{
	int r, n;

	for (n = 1;; n++) {
		r = open_once(e2b, sandbox, port, ret_fd, e);
		if (r != -ECONNREFUSED || n == OPEN_TRIES)
			return r;
		*e = ERR_NULL;
		if (n == 1 && port == E2B_INTERPRETER_PORT)
			r = e2b_interpreter(e2b, sandbox, e);
		else
			(void)!poll(NULL, 0, AGAIN_MS);
		if (r != -ECONNREFUSED && r < 0)
			return r;
	}
}

/* A second longer for each megabyte: who takes a byte a minute does not hold a thread for ever. */
static int send_all(int fd, const void *p, size_t len, uint64_t *until)
{
	const char *s = p;

	while (len) {
		ssize_t n = send(fd, s, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		struct pollfd w = { .fd = fd, .events = POLLOUT };

		if (n < 0 && errno == EAGAIN && clock_now() < *until && poll(&w, 1, LOOK_MS) >= 0)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		*until += (uint64_t)n * (CLOCK_S / SEND_RATE_B);
		s += n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- the request -------------------------------------------------------------------------------------------------- */

struct sending {
	struct buf head;
	char *host; /* in the place of the one that was asked for; NULL: that one */
};

/* What concerns this hop alone, or is ours. */
static int put_header(void *ctx, const char *name, const char *value)
{
	struct sending *s = ctx;
	static const char *const ours[] = { "Connection",	"Keep-Alive",	    "Proxy-Connection", "TE",
					    "Trailer",		"Transfer-Encoding", "Content-Length",	"Upgrade",
					    "E2b-Sandbox-Id",	"E2b-Sandbox-Port", "X-Access-Token",	"X-API-Key",
					    "Expect",
					    "e2b-traffic-access-token" };
	size_t i;

	for (i = 0; i < ARRAY_LEN(ours); i++)
		if (strcasecmp(name, ours[i]) == 0)
			return 0;
	return buf_printf(&s->head, "%s: %s\r\n", name, s->host && strcasecmp(name, "Host") == 0 ? s->host : value);
}

static int send_request(struct e2b *e2b, struct http_req *req, int to, bool upgrades, struct err *e)
{
	uint64_t size, until = clock_after_ms(SEND_MS);
	int fd, r;
	struct span body = http_body(req, &fd, &size);
	const char *upgrade = http_header(req, "Upgrade"), *query = http_raw_query(req);
	struct sending s = { .host = e2b_mask_host(e2b, e2b_sandbox(req), e2b_port(req)) };
	struct buf *b = &s.head;
	char piece[8192];
	ssize_t n;

	buf_init(b, HEAD_MAX);
	buf_printf(b, "%s %s%s%s HTTP/1.%d\r\n", http_method(req), http_path(req), query[0] ? "?" : "", query,
		   upgrades);
	r = http_each_header(req, put_header, &s);
	if (upgrades)
		buf_printf(b, "Connection: Upgrade\r\nUpgrade: %s\r\n", upgrade);
	else
		buf_printf(b, "Connection: close\r\n");
	if (size || str_eq(http_method(req), "POST") || str_eq(http_method(req), "PUT"))
		buf_printf(b, "Content-Length: %llu\r\n", (unsigned long long)size);
	buf_append(b, "\r\n", 2);
	r = b->failed ? -E2BIG : r < 0 ? r : send_all(to, buf_span(b).p, buf_len(b), &until);
	buf_fini(b);
	str_free(&s.host);
	if (r == 0 && fd < 0)
		r = send_all(to, body.p, body.len, &until);
	while (r == 0 && fd >= 0 && (n = read(fd, piece, sizeof(piece))) != 0)
		r = n < 0 ? -errno : send_all(to, piece, (size_t)n, &until);
	return r < 0 ? err_set(e, r, "upstream", "the server on this port does not take the request: %s", err_name(r))
		     : 0;
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

struct body {
	struct e2b_open open;
	struct e2b *e2b;
	struct loop *loop;
	int fd;
	void *connection;
	char sandbox[72];
	int client; /* a copy of its descriptor, to see it leave: the server closes its own before body_free() */
	bool is_open_ended; /* no length was said */
	bool is_left; /* it has; the loop's, set before the server's thread is woken for it */
	struct buf first; /* came with the head */
	struct loop_watch *watch, *leaves;
};

static void on_readable(void *ctx, int fd, unsigned events)
{
	struct body *b = ctx;

	(void)fd;
	(void)events;
	loop_unwatch(&b->watch);
	loop_unwatch(&b->leaves);
	http_resume(b->connection);
}

/* What it works on inside is not wanted any more. */
static void on_left(void *ctx, int fd, unsigned events)
{
	__atomic_store_n(&((struct body *)ctx)->is_left, true, __ATOMIC_RELEASE);
	on_readable(ctx, fd, events);
}

static void await(void *ctx)
{
	struct body *b = ctx;

	if (loop_watch(b->loop, b->fd, LOOP_READ, on_readable, b, &b->watch) < 0)
		http_resume(b->connection);
	else if (loop_watch(b->loop, b->client, LOOP_LEAVES, on_left, b, &b->leaves) < 0)
		log_debug("http", "a client's leaving will be noticed late", "sandbox=%s", b->sandbox);
}

/* An answer without a length ends with the connection, and so does one whose sandbox went: that is no whole answer. */
static ssize_t end_of(const struct body *b)
{
	struct hub_info i;

	return !b->is_open_ended || (hub_find(b->e2b->hub, b->sandbox, &i, NULL) == 0 && i.state == SANDBOX_RUNNING)
		       ? 0
		       : -EPIPE;
}

static ssize_t body_read(void *ctx, uint64_t at, void *to, size_t max)
{
	struct body *b = ctx;
	ssize_t n = (ssize_t)MIN(max, buf_len(&b->first));

	(void)at;
	if (n) {
		memcpy(to, buf_span(&b->first).p, (size_t)n);
		buf_consume(&b->first, (size_t)n);
		return n;
	}
	if (__atomic_load_n(&b->is_left, __ATOMIC_ACQUIRE))
		return -EPIPE;
	n = recv(b->fd, to, max, MSG_DONTWAIT);
	if (n == 0)
		return end_of(b);
	if (n < 0 && errno == EAGAIN) {
		http_suspend(b->connection);
		loop_post(b->loop, await, b);
		return -EAGAIN;
	}
	return n < 0 ? -errno : n;
}

static void body_free(void *ctx)
{
	struct body *b = ctx;

	e2b_open_remove(&b->open);
	loop_unwatch(&b->watch);
	loop_unwatch(&b->leaves);
	fd_close(&b->client);
	fd_close(&b->fd);
	buf_fini(&b->first);
	free(b);
}

/* Whoever waits for it reads its end. */
static void body_cut(struct e2b_open *o)
{
	shutdown(((struct body *)o)->fd, SHUT_RDWR); /* its first member */
}

static void body_begin(void *ctx)
{
	struct body *b = ctx;

	if (!e2b_open_add(b->e2b, &b->open))
		body_cut(&b->open);
}

static void body_end(void *ctx)
{
	struct body *b = ctx;

	loop_post(b->loop, body_free, b);
}

static bool is_hop(const char *name)
{
	return strcasecmp(name, "Connection") == 0 || strcasecmp(name, "Keep-Alive") == 0 ||
	       strcasecmp(name, "Transfer-Encoding") == 0 || strcasecmp(name, "Content-Length") == 0 ||
	       strcasecmp(name, "Upgrade") == 0 || strcasecmp(name, "Date") == 0;
}

static int take_size(char *value, uint64_t *ret)
{
	uint64_t size;

	value[strcspn(value, " \t")] = '\0';
	if (num_u64(value, INT64_MAX, &size) < 0 || (*ret != HTTP_SIZE_UNKNOWN && *ret != size))
		return -EBADMSG;
	*ret = size;
	return 0;
}

/* Status and headers; *@ret_size: how long it is, or unknown. */
static int take_head(char *head, struct http_res *res, uint64_t *ret_size)
{
	char *line, *save = NULL;
	uint64_t status = 0;

	*ret_size = HTTP_SIZE_UNKNOWN;
	line = strtok_r(head, "\r\n", &save);
	if (!line || !str_starts(line, "HTTP/1.") || strlen(line) < 12)
		return -EBADMSG;
	line[12] = '\0';
	if (num_u64(line + 9, 599, &status) < 0 || status < 101)
		return -EBADMSG;
	res->status = (int)status;
	res->type = NULL;
	while ((line = strtok_r(NULL, "\r\n", &save))) {
		char *value = strchr(line, ':');

		if (!value)
			return -EBADMSG;
		*value++ = '\0';
		value += strspn(value, " \t");
		/* "Content-Length : 5" is a length to some and none to others, and " a: b" goes on with the line
		 * before. */
		if (!parse_is_token(span_str(line)) ||
		    (strcasecmp(line, "Content-Length") == 0 && take_size(value, ret_size) < 0))
			return -EBADMSG;
		if (strcasecmp(line, "Transfer-Encoding") == 0) /* to a request of HTTP/1.0 */
			return -EBADMSG;
		if (!is_hop(line))
			http_answer_header(res, line, value);
	}
	return 0;
}

/* --- joined ------------------------------------------------------------------------------------------------------- */

struct joined {
	struct loop *loop;
	int fd;
	void *handle;
	struct buf first; /* of the server, behind its head */
};

static void joined_free(struct joined *j)
{
	fd_close(&j->fd);
	buf_fini(&j->first);
	free(j);
}

static void joined_over(void *ctx)
{
	struct joined *j = ctx;

	http_upgrade_end(j->handle);
	joined_free(j);
}

static void joined_drop(void *ctx)
{
	joined_free(ctx);
}

static void joined_begin(void *ctx, int fd, struct span first, void *handle)
{
	struct joined *j = ctx;

	j->handle = handle;
	if (buf_len(&j->first))
		(void)!send(fd, buf_span(&j->first).p, buf_len(&j->first), MSG_NOSIGNAL | MSG_DONTWAIT);
	relay_start(j->loop, fd, j->fd, first.p, first.len, joined_over, j);
}

/* --- waiting for the head ----------------------------------------------------------------------------------------- */

/* On the loop, so that a server that takes its time costs no thread. Whatever ends it comes to over(), once. */
struct waiting {
	struct list node; /* in e2b.waiting */
	struct e2b *e2b;
	struct http_req *req;
	struct http_res *res;
	int fd;
	struct buf in;
	size_t head; /* its length, when it is whole */
	struct loop_watch *watch, *client;
	struct loop_timer *late;
	int r;
};

static int answer(struct waiting *w)
{
	AUTO(str_free) char *head = span_dup(SPAN(buf_span(&w->in).p, w->head));
	struct http_res *res = w->res;
	struct span rest;
	uint64_t size;
	int r = take_head(head, res, &size);

	/* Who has not asked for it would take what comes behind a 101 for answers. */
	if (r == 0 && res->status == 101 && !http_header(w->req, "Upgrade"))
		r = -EBADMSG;
	if (r < 0)
		return r;
	buf_consume(&w->in, w->head);
	rest = buf_span(&w->in);
	if (res->status == 101) {
		struct joined *j = NEW(struct joined);

		j->loop = w->e2b->loop;
		j->fd = fd_take(&w->fd);
		buf_init(&j->first, HEAD_MAX);
		buf_append(&j->first, rest.p, rest.len);
		res->upgrade_to = "websocket";
		res->upgrade = joined_begin;
		res->upgrade_drop = joined_drop;
		res->ctx = j;
	} else if (res->status != 204 && res->status != 304 && size) {
		struct body *b = NEW(struct body);

		b->open.end = body_cut;
		list_init(&b->open.node);
		b->e2b = w->e2b;
		b->loop = w->e2b->loop;
		b->fd = fd_take(&w->fd);
		b->connection = http_connection(w->req);
		b->client = fcntl(http_client(w->req), F_DUPFD_CLOEXEC, 0);
		b->is_open_ended = size == HTTP_SIZE_UNKNOWN;
		snprintf(b->sandbox, sizeof(b->sandbox), "%s", e2b_sandbox(w->req));
		buf_init(&b->first, HEAD_MAX);
		buf_append(&b->first, rest.p, rest.len);
		res->read = body_read;
		res->read_end = body_end;
		res->size = size;
		res->ctx = b;
		loop_post(b->loop, body_begin, b);
	}
	return 0;
}

static void finish(void *ctx)
{
	struct waiting *w = ctx;
	struct err e = ERR_NULL;
	int r = w->r == 0 ? answer(w) : w->r;

	if (r < 0)
		r = err_set(&e, r == -ETIMEDOUT || r == -ESHUTDOWN ? r : -EPIPE, "upstream",
			    "the server on this port broke off: %s", err_name(r));
	http_later(w->req, r, &e);
	fd_close(&w->fd);
	buf_fini(&w->in);
	free(w);
}

static void over(struct waiting *w, int r)
{
	w->r = r;
	list_remove(&w->node);
	loop_unwatch(&w->watch);
	loop_unwatch(&w->client);
	loop_untimer(&w->late);
	pool_run(w->e2b->pool, finish, w);
}

/* 1xx but 101: what comes before the answer is for this hop. */
static bool is_interim(struct span head)
{
	const char *p = head.p;

	return head.len > 12 && memcmp(p, "HTTP/1.", 7) == 0 && p[9] == '1' && memcmp(p + 9, "101", 3) != 0;
}

static void on_head(void *ctx, int fd, unsigned events)
{
	struct waiting *w = ctx;
	struct span s;
	const char *end;
	void *room;
	ssize_t n;

	(void)events;
	room = buf_room(&w->in) ? buf_reserve(&w->in, MIN(buf_room(&w->in), (size_t)8192)) : NULL;
	n = room ? recv(fd, room, MIN(buf_room(&w->in), (size_t)8192), MSG_DONTWAIT) : -1;
	if (n < 0 && room && errno == EAGAIN)
		return;
	if (n <= 0) {
		over(w, !room ? -EBADMSG : n == 0 ? -EPIPE : -errno);
		return;
	}
	buf_commit(&w->in, (size_t)n);
	for (;;) {
		s = buf_span(&w->in);
		end = memmem(s.p, s.len, "\r\n\r\n", 4);
		if (!end)
			return;
		w->head = (size_t)(end + 4 - (const char *)s.p);
		if (!is_interim(s))
			break;
		buf_consume(&w->in, w->head);
	}
	over(w, 0);
}

static void on_late(void *ctx)
{
	over(ctx, -ETIMEDOUT);
}

static void on_client(void *ctx, int fd, unsigned events)
{
	(void)fd;
	(void)events;
	over(ctx, -ECONNRESET);
}

static void await_head(void *ctx)
{
	struct waiting *w = ctx;
	struct loop *loop = w->e2b->loop;

	if (w->e2b->ending || loop_watch(loop, w->fd, LOOP_READ, on_head, w, &w->watch) < 0) {
		over(w, -ESHUTDOWN);
		return;
	}
	w->late = loop_timer(loop, clock_after_ms(HEAD_MS), on_late, w);
	(void)!loop_watch(loop, http_client(w->req), LOOP_LEAVES, on_client, w, &w->client);
	list_append(&w->e2b->waiting, &w->node);
}

void e2b_proxy_end(struct e2b *e2b)
{
	while (!list_empty(&e2b->waiting))
		over(list_entry(e2b->waiting.next, struct waiting, node), -ESHUTDOWN);
}

int e2b_proxy(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(fd_close) int fd = -1;
	struct waiting *w;
	int r = open_port(e2b, e2b_sandbox(req), e2b_port(req), &fd, e);

	if (r == 0 && e2b_speaks_tls(e2b, e2b_sandbox(req), e2b_port(req)))
		r = tls_wrap(e2b->loop, fd_take(&fd), &fd, e);
	if (r == 0)
		r = send_request(e2b, req, fd, http_header(req, "Upgrade") != NULL, e);
	if (r < 0)
		return r;
	w = NEW(struct waiting);
	*w = (struct waiting){ .e2b = e2b, .req = req, .res = res, .fd = fd_take(&fd) };
	list_init(&w->node);
	buf_init(&w->in, HEAD_MAX);
	loop_post(e2b->loop, await_head, w);
	return HTTP_LATER;
}
