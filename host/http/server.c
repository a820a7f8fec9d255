/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States of a request: BODY (parts arrive on the server's thread), RUNNING (its connection is suspended, a pool thread
 * owns it), ANSWERED (resumed; the server's thread sends the answer and frees it). The server's thread never waits.
 */
#include "host/http/http.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "host/http/parse.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY_PER_CONNECTION = 64 * 1024, IDLE_S = 120, RES_BODY_MAX = 64 * 1024 * 1024, UPGRADED_MS = 5000 };
enum { SEND_MS = 1000 };

enum req_state { REQ_BODY, REQ_RUNNING, REQ_ANSWERED };

struct http {
	struct http_conf conf;
	char *spool_dir;
	const struct http_route *routes;
	size_t nroutes;
	void *ctx;
	struct MHD_Daemon *mhd;
	uint64_t next_id; /* atomic */
	struct lock lock;
	pthread_cond_t cond;
	unsigned running; /* guarded by lock */
	unsigned sending; /* answered, but not sent to the end; guarded by lock */
	struct list upgraded; /* guarded by lock */
	bool ending;
};

struct http_req {
	struct http *http;
	struct MHD_Connection *conn;
	enum req_state state;
	bool is_counted; /* in http.sending */
	char id[24];
	char *method, *path;
	const struct http_route *route;
	struct parse_segments segments;
	struct parse_kept kept; /* decoded query values */
	struct buf body;
	int spool_fd;
	uint64_t body_b;
	struct err e; /* a failure before the handler */
	struct http_res res;
};

/* --- what handlers ask -------------------------------------------------------------------------------------------- */

const char *http_segment(struct http_req *req, size_t i)
{
	return i < req->segments.n ? req->segments.v[i] : NULL;
}

const char *http_query(struct http_req *req, const char *name)
{
	const char *raw = MHD_lookup_connection_value(req->conn, MHD_GET_ARGUMENT_KIND, name);

	return raw ? parse_keep(&req->kept, raw) : NULL;
}

const char *http_header(struct http_req *req, const char *name)
{
	return MHD_lookup_connection_value(req->conn, MHD_HEADER_KIND, name);
}

struct span http_body(struct http_req *req, int *ret_fd, uint64_t *ret_size)
{
	*ret_fd = req->spool_fd;
	*ret_size = req->body_b;
	if (req->spool_fd >= 0)
		lseek(req->spool_fd, 0, SEEK_SET);
	return req->spool_fd >= 0 ? SPAN_NULL : buf_span(&req->body);
}

int http_status_of(int code)
{
	static const struct {
		int code, status;
	} table[] = {
		{ EINVAL, 400 },  { ENAMETOOLONG, 400 }, { ENOTDIR, 400 },    { EISDIR, 400 },	{ EBADMSG, 400 },
		{ EACCES, 403 },  { EPERM, 403 },	 { ENOENT, 404 },     { EAGAIN, 409 },	{ EALREADY, 409 },
		{ EBUSY, 409 },	  { EEXIST, 409 },	 { ENOTEMPTY, 409 },  { E2BIG, 413 },	{ EFBIG, 413 },
		{ EPIPE, 502 },	  { ECONNREFUSED, 502 }, { ESHUTDOWN, 503 },  { ETIMEDOUT, 504 }, { ENOSPC, 507 },
		{ ENOSYS, 501 },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].code == -code)
			return table[i].status;
	return 500;
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

static void error_body(struct http_req *req, int code, struct err *e)
{
	struct http_res *res = &req->res;
	struct json_writer w = { .b = &res->body };

	if (!e->code)
		err_sys(e, code, "the request failed");
	buf_fini(&res->body);
	res->status = http_status_of(e->code);
	res->type = "application/json";
	jw_open(&w, '{');
	jw_key(&w, "error");
	jw_open(&w, '{');
	jw_ku64(&w, "status", (uint64_t)res->status);
	jw_kstr(&w, "slug", e->slug);
	jw_kstr(&w, "errno", err_name(e->code));
	jw_kstr(&w, "message", e->text);
	jw_kstr(&w, "request", req->id);
	jw_close(&w, '}');
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
}

static void run(void *ctx)
{
	struct http_req *req = ctx;
	struct http *http = req->http;
	uint64_t began = clock_now();
	struct err e = ERR_NULL;
	int r = req->route->handler(http->ctx, req, &req->res, &e);

	if (r == 0 && req->res.body.failed)
		r = err_set(&e, -E2BIG, "answer-too-large", "the answer is larger than %d MiB", RES_BODY_MAX >> 20);
	if (r < 0)
		error_body(req, r, &e);
	/* Reading is told at debug only; what changes something, or failed here, is told always. */
	log_line(str_eq(req->method, "GET") && req->res.status < 500 ? LOG_LVL_DEBUG : LOG_LVL_INFO, "http", "request",
		 "id=%s method=%s status=%d us=%llu path=%s%s%s", req->id, req->method,
		 req->res.upgrade ? 101 : req->res.status, (unsigned long long)(clock_now() - began) / 1000, req->path,
		 r < 0 ? " why=" : "", r < 0 ? e.slug : "");
	if (!req->res.upgrade) {
		lock_take(&http->lock);
		http->sending++;
		lock_drop(&http->lock);
		req->is_counted = true;
	}
	req->state = REQ_ANSWERED;
	MHD_resume_connection(req->conn);
	lock_take(&http->lock);
	http->running--;
	pthread_cond_broadcast(&http->cond);
	lock_drop(&http->lock);
}

static ssize_t on_read(void *cls, uint64_t at, char *to, size_t max)
{
	struct http_res *res = cls;
	ssize_t n = res->read(res->ctx, at, to, max);

	return n > 0 ? n : n == 0 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
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

static enum MHD_Result answer(struct http_req *req)
{
	struct http_res *res = &req->res;
	struct MHD_Response *out;
	enum MHD_Result r;
	int status = res->status;

	if (res->upgrade) {
		out = MHD_create_response_for_upgrade(on_upgrade, NULL);
		if (!out)
			return MHD_NO;
		MHD_add_response_header(out, MHD_HTTP_HEADER_UPGRADE, "berth-stream");
		status = MHD_HTTP_SWITCHING_PROTOCOLS;
	} else if (res->read) {
		struct http_res *copy = must_memdup(res, sizeof(*res));

		out = MHD_create_response_from_callback(res->size, 256 * 1024, on_read, copy, on_read_end);
		res->read_end = NULL;
	} else {
		struct span body = buf_span(&res->body);

		out = MHD_create_response_from_buffer(body.len, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY);
	}
	if (!out)
		return MHD_NO;
	if (!res->upgrade)
		MHD_add_response_header(out, MHD_HTTP_HEADER_CONTENT_TYPE, res->type);
	MHD_add_response_header(out, "X-Request-Id", req->id);
	r = MHD_queue_response(req->conn, (unsigned)status, out);
	MHD_destroy_response(out);
	return r;
}

/* --- a request arrives -------------------------------------------------------------------------------------------- */

static struct http_req *req_new(struct http *http, struct MHD_Connection *conn, const char *url, const char *method)
{
	struct http_req *req = NEW(struct http_req);
	bool other_method = false;
	size_t i;

	req->http = http;
	req->conn = conn;
	req->spool_fd = -1;
	snprintf(req->id, sizeof(req->id), "r%llu",
		 (unsigned long long)__atomic_add_fetch(&http->next_id, 1, __ATOMIC_RELAXED));
	req->method = must_strdup(method);
	req->path = must_strdup(url);
	req->res = (struct http_res){ .status = 200, .type = "application/json" };
	buf_init(&req->res.body, RES_BODY_MAX);
	buf_init(&req->body, HTTP_BODY_MEMORY);
	for (i = 0; i < http->nroutes && !req->route; i++) {
		if (!parse_route(http->routes[i].pattern, url, &req->segments))
			continue;
		other_method = true;
		if (str_eq(http->routes[i].method, method))
			req->route = &http->routes[i];
		else
			parse_segments_fini(&req->segments);
	}
	if (!req->route && other_method)
		err_set(&req->e, -EINVAL, "bad-method", "this resource does not take %.16s", method);
	else if (!req->route)
		err_set(&req->e, -ENOENT, "no-such-route", "nothing is called %.160s here", url);
	return req;
}

static void req_free(struct http_req *req)
{
	if (req->res.read_end)
		req->res.read_end(req->res.ctx);
	if (req->res.upgrade_drop)
		req->res.upgrade_drop(req->res.ctx);
	parse_segments_fini(&req->segments);
	parse_kept_fini(&req->kept);
	buf_fini(&req->body);
	buf_fini(&req->res.body);
	fd_close(&req->spool_fd);
	str_free(&req->method);
	str_free(&req->path);
	free(req);
}

static int spool_open(struct http_req *req)
{
	req->spool_fd = open(req->http->spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (req->spool_fd < 0)
		return -errno;
	return io_write_full(req->spool_fd, buf_span(&req->body).p, buf_len(&req->body));
}

static void take_body(struct http_req *req, const char *data, size_t len)
{
	int r = 0;

	req->body_b += len;
	if (req->e.code)
		return;
	if (req->body_b > req->http->conf.body_max_b)
		r = -E2BIG;
	else if (req->spool_fd < 0 && buf_append(&req->body, data, len) == 0)
		return;
	else if (req->spool_fd < 0)
		r = spool_open(req);
	if (r == 0)
		r = io_write_full(req->spool_fd, data, len);
	if (r < 0)
		err_sys(&req->e, r, "the body could not be taken");
}

static enum MHD_Result start(struct http_req *req)
{
	struct http *http = req->http;

	lock_take(&http->lock);
	if (http->ending && !req->e.code)
		err_set(&req->e, -ESHUTDOWN, "ending", "the daemon is ending");
	if (!req->e.code)
		http->running++;
	lock_drop(&http->lock);
	if (req->e.code) {
		error_body(req, req->e.code, &req->e);
		req->state = REQ_ANSWERED;
		return answer(req);
	}
	req->state = REQ_RUNNING;
	MHD_suspend_connection(req->conn);
	pool_run(http->conf.pool, run, req);
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
				  const char *version, const char *data, size_t *len, void **slot)
{
	struct http_req *req = *slot;

	(void)version;
	if (!req) {
		*slot = req_new(cls, conn, url, method);
		return MHD_YES;
	}
	if (*len) {
		take_body(req, data, *len);
		*len = 0;
		return MHD_YES;
	}
	return req->state == REQ_BODY ? start(req) : answer(req);
}

static void on_done(void *cls, struct MHD_Connection *conn, void **slot, enum MHD_RequestTerminationCode why)
{
	struct http_req *req = *slot;
	struct http *http = cls;

	(void)conn;
	(void)why;
	if (req && req->is_counted) {
		lock_take(&http->lock);
		http->sending--;
		pthread_cond_broadcast(&http->cond);
		lock_drop(&http->lock);
	}
	if (req)
		req_free(req);
	*slot = NULL;
}

/* Paths and queries are decoded once, by us. */
static size_t no_unescape(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls;
	(void)conn;
	return strlen(s);
}

int http_start(const struct http_conf *conf, const struct http_route *routes, size_t n, void *ctx, struct http **ret,
	       struct err *e)
{
	struct http *http = NEW(struct http);

	http->conf = *conf;
	http->spool_dir = must_strdup(conf->spool_dir);
	http->routes = routes;
	http->nroutes = n;
	http->ctx = ctx;
	list_init(&http->upgraded);
	lock_init(&http->lock, "http", LOCK_LEAF);
	lock_cond_init(&http->cond);
	http->mhd = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE, 0,
				     NULL, NULL, on_request, http, MHD_OPTION_LISTEN_SOCKET, conf->listen_fd,
				     MHD_OPTION_CONNECTION_LIMIT, conf->connections, MHD_OPTION_CONNECTION_TIMEOUT,
				     (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				     (size_t)MEMORY_PER_CONNECTION, MHD_OPTION_NOTIFY_COMPLETED, on_done, http,
				     MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL, MHD_OPTION_END);
	if (!http->mhd) {
		str_free(&http->spool_dir);
		free(http);
		return err_set(e, -EIO, "http", "the HTTP server could not start");
	}
	*ret = http;
	return 0;
}

void http_stop(struct http **slot)
{
	struct http *http = take(slot);
	MHD_socket listener;
	uint64_t until;

	if (!http)
		return;
	listener = MHD_quiesce_daemon(http->mhd);
	if (listener >= 0)
		close(listener);
	lock_take(&http->lock);
	http->ending = true;
	while (http->running)
		lock_wait(&http->lock, &http->cond, UINT64_MAX);
	until = clock_after_ms(SEND_MS); /* those who asked shall hear their answer, if they listen */
	while (http->sending && lock_wait(&http->lock, &http->cond, until) == 0)
		;
	lock_drop(&http->lock);
	end_upgraded(http);
	MHD_stop_daemon(http->mhd);
	pthread_cond_destroy(&http->cond);
	lock_fini(&http->lock);
	str_free(&http->spool_dir);
	free(http);
}
