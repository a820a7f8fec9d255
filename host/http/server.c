/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections. Each door has a thread of libmicrohttpd, which never waits; a timer on the loop shuts those down that
 * owe us a request for too long. A descriptor in the list of connections is open as long as it is there: libmicrohttpd
 * tells the end of a connection before it closes it.
 */
#include "host/http/inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/loop.h"

#include <errno.h>
#include <stdio.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MEMORY_PER_CONNECTION = 64 * 1024, IDLE_S = 120, UPGRADED_MS = 5000, SEND_MS = 1000 };
enum { PIECE_B = 256 * 1024, PIECE_ENDLESS_B = 4096 };

/* --- the answer --------------------------------------------------------------------------------------------------- */

void http_req_resume(struct http_req *req)
{
	MHD_resume_connection(req->conn);
}

void http_suspend(void *connection)
{
	MHD_suspend_connection(connection);
}

void http_resume(void *connection)
{
	MHD_resume_connection(connection);
}

static ssize_t on_read(void *cls, uint64_t at, char *to, size_t max)
{
	struct http_res *res = cls;
	ssize_t n = res->read(res->ctx, at, to, max);

	return n > 0	      ? n
	       : n == 0	      ? MHD_CONTENT_READER_END_OF_STREAM
	       : n == -EAGAIN ? 0
			      : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void on_read_end(void *cls)
{
	struct http_res *res = cls;

	if (res->read_end)
		res->read_end(res->ctx);
	free(res);
}

/* A connection that somebody else has; what he knows as its handle. */
struct upgraded {
	struct list node;
	struct http *http;
	int fd; /* guarded by http.lock; -1: on its way back */
	struct MHD_UpgradeResponseHandle *handle;
};

static void on_upgrade(void *cls, struct MHD_Connection *conn, void *req_cls, const char *extra, size_t extra_len,
		       MHD_socket sock, struct MHD_UpgradeResponseHandle *handle)
{
	struct http_req *req = req_cls;
	struct upgraded *u = NEW(struct upgraded);

	(void)cls;
	(void)conn;
	*u = (struct upgraded){ .http = req->http, .fd = sock, .handle = handle };
	list_init(&u->node);
	lock_take(&u->http->lock);
	list_append(&u->http->upgraded, &u->node);
	lock_drop(&u->http->lock);
	req->res.upgrade_drop = NULL;
	req->res.upgrade(req->res.ctx, sock, SPAN(extra, extra_len), u);
}

void http_upgrade_end(void *handle)
{
	struct upgraded *u = handle;
	struct http *http = u->http;

	lock_take(&http->lock);
	u->fd = -1;
	lock_drop(&http->lock);
	MHD_upgrade_action(u->handle, MHD_UPGRADE_ACTION_CLOSE);
	lock_take(&http->lock);
	list_remove(&u->node);
	pthread_cond_broadcast(&http->cond);
	lock_drop(&http->lock);
	free(u);
}

/* Whoever has them sees their end and gives them back. */
static void end_upgraded(struct http *http)
{
	uint64_t until = clock_after_ms(UPGRADED_MS);
	struct list *pos;
	int r = 0;

	lock_take(&http->lock);
	list_each(pos, &http->upgraded) {
		struct upgraded *u = list_entry(pos, struct upgraded, node);

		if (u->fd >= 0)
			shutdown(u->fd, SHUT_RDWR);
	}
	while (r == 0 && !list_empty(&http->upgraded))
		r = lock_wait(&http->lock, &http->cond, until);
	lock_drop(&http->lock);
	if (r < 0)
		log_warn("http", "a stream does not end", NULL);
}

static struct MHD_Response *response(struct http_req *req)
{
	struct http_res *res = &req->res;
	struct span body = buf_span(&res->body);
	struct MHD_Response *out;
	struct http_res *copy;

	if (res->upgrade)
		return MHD_create_response_for_upgrade(on_upgrade, NULL);
	/* To a HEAD libmicrohttpd says the end of chunks that it never began. */
	if (!res->read || (res->size == HTTP_SIZE_UNKNOWN && str_eq(req->method, "HEAD")))
		return MHD_create_response_from_buffer(body.len, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY);
	copy = must_memdup(res, sizeof(*res));
	out = MHD_create_response_from_callback(res->size == HTTP_SIZE_UNKNOWN ? MHD_SIZE_UNKNOWN : res->size,
						res->size == HTTP_SIZE_UNKNOWN ? PIECE_ENDLESS_B : PIECE_B, on_read,
						copy, on_read_end);
	if (out)
		res->read_end = NULL;
	else
		free(copy);
	return out;
}

static enum MHD_Result answer(struct http_req *req)
{
	struct http_res *res = &req->res;
	struct MHD_Response *out = response(req);
	int status = res->upgrade ? MHD_HTTP_SWITCHING_PROTOCOLS : res->status;
	enum MHD_Result r;
	char number[24];
	size_t i;

	if (!out)
		return MHD_NO;
	if (res->upgrade)
		MHD_add_response_header(out, MHD_HTTP_HEADER_UPGRADE,
					res->upgrade_to ? res->upgrade_to : "berth-stream");
	else if (res->type)
		MHD_add_response_header(out, MHD_HTTP_HEADER_CONTENT_TYPE, res->type);
	MHD_add_response_header(out, "X-Request-Id", req->id);
	if (req->front && req->front->dress)
		req->front->dress(req->front->ctx, req, res);
	for (i = 0; i < res->headers; i++)
		MHD_add_response_header(out, res->header[i].name, res->header[i].value);
	if (res->left_out) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)res->left_out);
		MHD_add_response_header(out, "X-Berth-Left-Out", number);
	}
	if (res->ranged)
		MHD_add_response_header(out, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
	if (res->range[0])
		MHD_add_response_header(out, MHD_HTTP_HEADER_CONTENT_RANGE, res->range);
	if (req->allow[0])
		MHD_add_response_header(out, MHD_HTTP_HEADER_ALLOW, req->allow);
	if (status == 401)
		MHD_add_response_header(out, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"berth\"");
	if (status == 429)
		MHD_add_response_header(out, MHD_HTTP_HEADER_RETRY_AFTER, "1");
	/* Where the next request begins is a matter of opinion then. */
	if (str_eq(req->e.slug, "bad-request") || status == 401 || (status == 429 && !req->who.id[0]))
		MHD_add_response_header(out, MHD_HTTP_HEADER_CONNECTION, "close");
	r = MHD_queue_response(req->conn, (unsigned)status, out);
	MHD_destroy_response(out);
	return r;
}

/* --- libmicrohttpd's callbacks ------------------------------------------------------------------------------------ */

static bool stays_out(const struct http_req *req)
{
	int status = http_status_of(req->e.code);

	return req->e.code && (status == 401 || status == 403 || status == 429);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
				  const char *version, const char *data, size_t *len, void **slot)
{
	struct http_req *req = *slot;

	(void)version;
	if (!req) {
		*slot = req = http_req_new(cls, conn, url, method);
		/* Nothing of a stranger's body is taken. */
		return stays_out(req) && http_req_start(req) ? answer(req) : MHD_YES;
	}
	if (*len) {
		http_req_take(req, data, *len);
		/* It lies in a buffer of the connection, which is not ours but lives as long: some are secret. */
		explicit_bzero((void *)(uintptr_t)data, *len);
		*len = 0;
		return MHD_YES;
	}
	if (req->state == REQ_BODY && !http_req_start(req))
		return MHD_YES;
	return answer(req);
}

static void on_done(void *cls, struct MHD_Connection *conn, void **slot, enum MHD_RequestTerminationCode why)
{
	struct http_req *req = *slot;
	struct http_door *door = cls;
	struct http *http = door->http;

	(void)conn;
	(void)why;
	if (!req)
		return;
	lock_take(&http->lock);
	http->sending -= req->is_counted;
	req->on->busy = false;
	req->on->since = clock_now();
	if (!req->res.upgrade)
		req->on->who.of[0] = '\0'; /* its next request may be for somebody else, and is not to be cut off */
	pthread_cond_broadcast(&http->cond);
	lock_drop(&http->lock);
	http_req_free(req);
	*slot = NULL;
}

/* One who waits for us and goes away is noticed: the other end answers a probe with a reset. */
static void watch_peer(int fd)
{
	const int on = 1, idle_s = 60, every_s = 15, times = 4;

	(void)!setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	(void)!setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **slot, enum MHD_ConnectionNotificationCode what)
{
	struct http_door *door = cls;
	struct http *http = door->http;
	struct http_conn *c = *slot;

	lock_take(&http->lock);
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		*slot = c = NEW(struct http_conn);
		c->fd = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		if (door->keyed)
			watch_peer(c->fd);
		c->since = clock_now();
		list_init(&c->node);
		list_append(&http->conns, &c->node);
	} else if (c) {
		list_remove(&c->node);
		free(c);
		*slot = NULL;
	}
	lock_drop(&http->lock);
}

/* Paths and queries are decoded once, by us. */
static size_t no_unescape(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls;
	(void)conn;
	return strlen(s);
}

/* --- slow ones, and those who lost their key ---------------------------------------------------------------------- */

static void sweep(void *ctx)
{
	struct http *http = ctx;
	uint64_t now = clock_now(), late = http->conf.head_ms * CLOCK_MS;
	struct list *pos;
	unsigned n = 0;

	lock_take(&http->lock);
	list_each(pos, &http->conns) {
		struct http_conn *c = list_entry(pos, struct http_conn, node);

		if (c->busy || now - c->since < late)
			continue;
		shutdown(c->fd, SHUT_RDWR);
		n++;
	}
	lock_drop(&http->lock);
	if (n)
		log_debug("http", "too slow", "connections=%u", n);
	loop_rearm(http->sweeper, clock_after_ms(MIN(http->conf.head_ms / 4 + 1, 5000U)));
}

static void sweep_begin(void *ctx)
{
	struct http *http = ctx;

	http->sweeper = loop_timer(http->conf.loop, clock_now(), sweep, http);
}

static void sweep_end(void *ctx)
{
	struct http *http = ctx;

	loop_untimer(&http->sweeper);
}

void http_cut(struct http *http, const char *who_id)
{
	struct list *pos;

	lock_take(&http->lock);
	list_each(pos, &http->conns) {
		struct http_conn *c = list_entry(pos, struct http_conn, node);

		if (str_eq(c->who.id, who_id) || str_eq(c->who.of, who_id))
			shutdown(c->fd, SHUT_RDWR);
	}
	lock_drop(&http->lock);
}

/* --- start and end ------------------------------------------------------------------------------------------------ */

static void free_all(struct http *http)
{
	pthread_cond_destroy(&http->cond);
	lock_fini(&http->strangers.lock);
	free(http->strangers.v);
	lock_fini(&http->lock);
	str_free(&http->spool_dir);
	free(http->stats);
	free(http);
}

static bool open_door(struct http *http, struct http_door *door, const struct http_listener *l)
{
	door->http = http;
	door->keyed = l->keyed;
	const struct MHD_OptionItem tls[] = { { MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)l->certificate },
					      { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)l->priorities },
					      { MHD_OPTION_END, 0, NULL } };
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE;
	bool plain = !l->certificate;

	door->mhd = MHD_start_daemon(plain ? flags : flags | MHD_USE_TLS, 0,
				     NULL, NULL, on_request, door, MHD_OPTION_ARRAY, plain ? tls + 2 : tls,
				     MHD_OPTION_LISTEN_SOCKET, l->fd,
				     MHD_OPTION_CONNECTION_LIMIT, http->conf.connections, MHD_OPTION_CONNECTION_TIMEOUT,
				     (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				     (size_t)MEMORY_PER_CONNECTION, MHD_OPTION_NOTIFY_COMPLETED, on_done, door,
				     MHD_OPTION_NOTIFY_CONNECTION, on_connection, door, MHD_OPTION_UNESCAPE_CALLBACK,
				     no_unescape, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	return door->mhd;
}

int http_start(const struct http_conf *conf, const struct http_front *fronts, size_t n, struct http **ret,
	       struct err *e)
{
	struct http *http = NEW(struct http);
	struct http_stat *s;
	size_t i, k;

	http->conf = *conf;
	http->spool_dir = must_strdup(conf->spool_dir);
	http->fronts = MIN(n, (size_t)HTTP_FRONTS_MAX);
	for (i = 0; i < http->fronts; i++) {
		http->front[i] = fronts[i];
		http->nroutes += fronts[i].n;
	}
	s = http->stats = must_calloc(http->nroutes + 1, sizeof(*http->stats));
	for (i = 0; i < http->fronts; i++)
		for (k = 0; k < fronts[i].n; k++)
			s++->route = &fronts[i].routes[k];
	list_init(&http->upgraded);
	list_init(&http->conns);
	lock_init(&http->lock, "http", LOCK_LEAF);
	lock_init(&http->strangers.lock, "strangers", LOCK_LEAF);
	http->strangers.per_minute = conf->failures;
	lock_cond_init(&http->cond);
	for (i = 0; i < conf->listeners; i++) {
		if (open_door(http, &http->door[i], &conf->listener[i]))
			continue;
		while (i--)
			MHD_stop_daemon(http->door[i].mhd);
		free_all(http);
		return err_set(e, -EIO, "http", "the HTTP server could not start");
	}
	if (conf->loop)
		loop_post(conf->loop, sweep_begin, http);
	*ret = http;
	return 0;
}

static void quiesce(struct http *http)
{
	size_t i;

	for (i = 0; i < http->conf.listeners; i++) {
		MHD_socket listener = MHD_quiesce_daemon(http->door[i].mhd);

		if (listener >= 0)
			close(listener);
	}
	if (!http->conf.loop)
		return;
	loop_post(http->conf.loop, sweep_end, http);
	loop_sync(http->conf.loop);
}

void http_stop(struct http **slot)
{
	struct http *http = take(slot);
	uint64_t until;
	size_t i;

	if (!http)
		return;
	quiesce(http);
	lock_take(&http->lock);
	http->ending = true;
	while (http->running)
		lock_wait(&http->lock, &http->cond, UINT64_MAX);
	until = clock_after_ms(SEND_MS); /* those who asked shall hear their answer, if they listen */
	while (http->sending && lock_wait(&http->lock, &http->cond, until) == 0)
		;
	lock_drop(&http->lock);
	end_upgraded(http);
	for (i = 0; i < http->conf.listeners; i++)
		MHD_stop_daemon(http->door[i].mhd);
	free_all(http);
}
