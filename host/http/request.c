/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States of a request: BODY (parts arrive on the server's thread), RUNNING (its connection is suspended, a pool thread
 * owns it), ANSWERED (resumed; the server's thread sends the answer and frees it). The server's thread never waits.
 */
#include "host/http/inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <unistd.h>

enum { PROGRESS_B = 4096, QUERY_MAX = 16 };

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

struct each {
	int (*fn)(void *ctx, const char *name, const char *value);
	void *ctx;
	int r;
};

static enum MHD_Result tell_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct each *each = cls;

	(void)kind;
	each->r = each->fn(each->ctx, name, value ? value : "");
	return each->r == 0 ? MHD_YES : MHD_NO;
}

int http_each_header(struct http_req *req, int (*fn)(void *ctx, const char *name, const char *value), void *ctx)
{
	struct each each = { .fn = fn, .ctx = ctx };

	MHD_get_connection_values(req->conn, MHD_HEADER_KIND, tell_header, &each);
	return each.r;
}

bool http_is_secure(struct http_req *req)
{
	return MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_GNUTLS_SESSION) != NULL;
}

const char *http_path(const struct http_req *req)
{
	return req->path;
}

static enum MHD_Result put_pair(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct buf *b = cls;

	(void)kind;
	buf_printf(b, "%s%s%s%s", buf_len(b) ? "&" : "", name, value ? "=" : "", value ? value : "");
	return MHD_YES;
}

/* Names and values were not decoded. */
const char *http_raw_query(struct http_req *req)
{
	struct buf b;

	if (req->raw_query)
		return req->raw_query;
	buf_init(&b, 65536);
	MHD_get_connection_values(req->conn, MHD_GET_ARGUMENT_KIND, put_pair, &b);
	req->raw_query = span_dup(buf_span(&b));
	buf_fini(&b);
	return req->raw_query;
}

const char *http_method(const struct http_req *req)
{
	return req->method;
}

void http_answer_header(struct http_res *res, const char *name, const char *value)
{
	char *to;

	if (res->headers == HTTP_HEADERS_MAX)
		return;
	res->header[res->headers].name = must_strdup(name);
	res->header[res->headers++].value = to = must_strdup(value);
	for (; *value; value++)
		if ((unsigned char)*value >= 0x20 && *value != 0x7f)
			*to++ = *value;
	*to = '\0';
}

const struct http_who *http_who(const struct http_req *req)
{
	return &req->who;
}

int http_client(const struct http_req *req)
{
	return req->on->fd;
}

void *http_connection(struct http_req *req)
{
	return req->conn;
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
		{ EINVAL, 400 },     { ENAMETOOLONG, 400 }, { ENOTDIR, 400 },	  { EISDIR, 400 },    { EBADMSG, 400 },
		{ ENOKEY, 401 },     { EKEYREJECTED, 401 }, { EKEYEXPIRED, 401 }, { EACCES, 403 },    { EPERM, 403 },
		{ ENOENT, 404 },     { ESRCH, 404 },	    { EAGAIN, 409 },	  { EALREADY, 409 },  { EBUSY, 409 },
		{ EEXIST, 409 },     { ENOTEMPTY, 409 },    { E2BIG, 413 },	  { EFBIG, 413 },     { EUSERS, 429 },
		{ EPIPE, 502 },	     { ECONNREFUSED, 502 }, { ESHUTDOWN, 503 },	  { ETIMEDOUT, 504 }, { ENOSPC, 507 },
		{ EREMOTE, 409 },    { EDQUOT, 507 },	    { ENOSYS, 501 },	  { ERANGE, 416 },    { ENODATA, 404 },
		{ EOPNOTSUPP, 501 },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].code == -code)
			return table[i].status;
	return 500;
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void error_body(struct http_req *req, int code, struct err *e)
{
	struct http_res *res = &req->res;
	struct json_writer w = { .b = &res->body };

	if (!e->code)
		err_sys(e, code, "the request failed");
	buf_fini(&res->body);
	res->status = req->allow[0] ? 405 : http_status_of(e->code);
	res->type = "application/json";
	if (req->front && req->front->put_error) {
		req->front->put_error(req->front->ctx, req, res, e);
		return;
	}
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

/* Reading is told at debug only; what changes something, or failed here, is told always. A key by its name and id. */
static void tell(const struct http_req *req, const char *why)
{
	int status = req->res.upgrade ? 101 : req->res.status;
	bool quiet = ((str_eq(req->method, "GET") || str_eq(req->method, "HEAD")) && status < 500 && status != 401 &&
		      status != 403) ||
		     status == 429;
	const struct http_who *who = &req->who;

	http_stat_add(req->http, req->route, status, clock_now() - req->began);
	log_line(quiet ? LOG_LVL_DEBUG : LOG_LVL_INFO, "http", "request",
		 "id=%s%s%s%s%s method=%.16s status=%d us=%llu path=%s%s%s", req->id, who->id[0] ? " key=" : "",
		 who->name, who->id[0] ? "/" : "", who->id, req->method, status,
		 (unsigned long long)(clock_now() - req->began) / 1000, req->path, why ? " why=" : "", why ? why : "");
}

void http_later(struct http_req *req, int r, struct err *e)
{
	struct http *http = req->http;

	if (r == 0 && req->res.body.failed)
		r = err_set(e, -E2BIG, "answer-too-large", "the answer is larger than %d MiB",
			    HTTP_RES_BODY_MAX >> 20);
	if (r < 0)
		error_body(req, r, e);
	tell(req, r < 0 ? e->slug : NULL);
	/* One without an end is not waited for when the daemon ends. */
	if (!req->res.upgrade && !(req->res.read && req->res.size == HTTP_SIZE_UNKNOWN)) {
		lock_take(&http->lock);
		http->sending++;
		lock_drop(&http->lock);
		req->is_counted = true;
	}
	req->state = REQ_ANSWERED;
	http_req_resume(req);
	lock_take(&http->lock);
	http->running--;
	pthread_cond_broadcast(&http->cond);
	lock_drop(&http->lock);
}

int http_range(struct http_req *req, struct http_res *res, uint64_t size, uint64_t *ret_at, uint64_t *ret_len,
	       struct err *e)
{
	const char *s = http_header(req, "Range");
	struct parsed_range want;

	res->ranged = true;
	*ret_at = 0;
	*ret_len = size;
	/* Nothing that we send could be in an If-Range. */
	if (!s || http_header(req, "If-Range") || !parse_range(s, &want))
		return 0;
	if (want.is_tail) {
		want.first = size - MIN(want.first, size);
	}
	if (want.first >= size) {
		snprintf(res->range, sizeof(res->range), "bytes */%llu", (unsigned long long)size);
		return err_set(e, -ERANGE, "bad-range", "it has %llu bytes", (unsigned long long)size);
	}
	want.last = MIN(want.last, size - 1);
	*ret_at = want.first;
	*ret_len = want.last - want.first + 1;
	res->status = 206;
	snprintf(res->range, sizeof(res->range), "bytes %llu-%llu/%llu", (unsigned long long)want.first,
		 (unsigned long long)want.last, (unsigned long long)size);
	return 0;
}

static void run(void *ctx)
{
	struct http_req *req = ctx;
	const struct http_front *front = req->front;
	struct err e = ERR_NULL;
	char of[sizeof(req->who.of)];
	bool prepared;
	int r;

	memcpy(of, req->who.of, sizeof(of));
	req->began = clock_now();
	r = front->prepare ? front->prepare(front->ctx, req, &e) : 0;
	prepared = r == 0;
	if (r == 0)
		r = req->route->handler(front->ctx, req, &req->res, &e);
	if (prepared && front->finish)
		front->finish(front->ctx, of);
	if (r != HTTP_LATER)
		http_later(req, r, &e);
}

bool http_req_start(struct http_req *req)
{
	struct http *http = req->http;

	lock_take(&http->lock);
	if (http->ending && !req->e.code)
		err_set(&req->e, -ESHUTDOWN, "ending", "the daemon is ending");
	if (!req->e.code)
		http->running++;
	req->on->busy = true;
	lock_drop(&http->lock);
	if (req->e.code) {
		error_body(req, req->e.code, &req->e);
		req->state = REQ_ANSWERED;
		tell(req, req->e.slug);
		return true;
	}
	req->state = REQ_RUNNING;
	MHD_suspend_connection(req->conn);
	pool_run(http->conf.pool, run, req);
	return false;
}

/* --- a request arrives -------------------------------------------------------------------------------------------- */

/* The route of this path and method; on the way the methods that the path takes are collected. */
static bool find_method(struct http_req *req, const char *method)
{
	const struct http_front *front = req->front;
	size_t i, used = 0;

	req->allow[0] = '\0';
	for (i = 0; i < front->n; i++) {
		const struct http_route *route = &front->routes[i];

		if (!parse_route(route->pattern, req->path, &req->segments))
			continue;
		if (str_eq(route->method, method)) {
			req->route = route;
			req->allow[0] = '\0';
			return true;
		}
		parse_segments_fini(&req->segments);
		if (used < sizeof(req->allow) && !str_eq(route->method, "HEAD"))
			used += (size_t)snprintf(req->allow + used, sizeof(req->allow) - used, "%s%s", used ? ", " : "",
						 str_eq(route->method, "GET") ? "GET, HEAD" : route->method);
	}
	return false;
}

/* HEAD is there wherever GET is: the same work, an answer without its body. What becomes a stream has no head. */
static void find_route(struct http_req *req)
{
	bool head = str_eq(req->method, "HEAD") && !http_header(req, "Upgrade");

	if (find_method(req, req->method) || (head && find_method(req, "GET")))
		return;
	if (req->front->fallback) {
		req->route = req->front->fallback;
		req->allow[0] = '\0';
		return;
	}
	if (req->allow[0])
		err_set(&req->e, -EINVAL, "bad-method", "this resource takes %s, not %.16s", req->allow, req->method);
	else
		err_set(&req->e, -ENOENT, "no-such-route", "nothing is called %.160s here", req->path);
}

static const struct sockaddr *client_of(const struct http_req *req)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(req->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	return info ? info->client_addr : NULL;
}

static int show_key(struct http_req *req, struct err *e)
{
	const struct http_gate *gate = &req->http->conf.gate;
	const char *key = http_header(req, "X-API-Key"), *bearer = http_header(req, "Authorization");

	if (!key && bearer && strncasecmp(bearer, "Bearer ", 7) == 0)
		key = bearer + 7;
	return gate->admit(gate->ctx, key, req->route ? req->route->need : HTTP_ANY, &req->who, e);
}

static void ask_gate(struct http_req *req)
{
	const struct http_front *front = req->front;
	struct err e = ERR_NULL;

	if ((front->admit ? front->admit(front->ctx, req, &req->who, &e) : show_key(req, &e)) == 0) {
		lock_take(&req->http->lock);
		req->on->who = req->who;
		lock_drop(&req->http->lock);
		return;
	}
	if (http_status_of(e.code) == 401)
		(void)!strangers_failed(&req->http->strangers, client_of(req), &e);
	req->e = e;
	req->allow[0] = '\0';
}

struct seen {
	const char *known;
	bool lenient;
	char names[QUERY_MAX][32];
	size_t n;
	struct err *e;
};

static bool has_word(const char *words, const char *name)
{
	size_t len = strlen(name);

	for (; words && *words; words += strcspn(words, " "), words += *words == ' ')
		if (strcspn(words, " ") == len && memcmp(words, name, len) == 0)
			return true;
	return false;
}

static enum MHD_Result on_parameter(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct seen *s = cls;
	size_t i;

	(void)kind;
	(void)value;
	for (i = 0; i < s->n && !str_eq(s->names[i], name);)
		i++;
	if (!has_word(s->known, name) && s->lenient)
		return MHD_YES;
	if (!has_word(s->known, name))
		err_set(s->e, -EINVAL, "bad-request", "there is no parameter %.40s here%s%s", name,
			s->known ? ", but " : "", s->known ? s->known : "");
	else if (i < s->n || s->n == QUERY_MAX || str_copy(s->names[s->n++], sizeof(s->names[0]), name) < 0)
		err_set(s->e, -EINVAL, "bad-request", "the parameter %.40s is given twice", name);
	return s->e->code ? MHD_NO : MHD_YES;
}

/* A length that is said twice, or in two ways, is how requests are smuggled past whoever stands before us. */
static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
				 const char *value, size_t value_len)
{
	static const char *const once[] = { "Content-Length", "Transfer-Encoding", "Host", "X-API-Key",
					    "Authorization" };
	struct seen *s = cls;
	size_t i;

	(void)kind;
	/* "Content-Length : 5" is a length to some and none to others. */
	if (!parse_is_token(SPAN(name, name_len)) || (value && strlen(value) != value_len)) {
		err_set(s->e, -EINVAL, "bad-request", "a header's name or value has what must not be in one");
		return MHD_NO;
	}
	for (i = 0; i < ARRAY_LEN(once); i++) {
		if (strcasecmp(once[i], name) != 0)
			continue;
		if (s->n & 1U << i)
			err_set(s->e, -EINVAL, "bad-request", "the header %s is there twice", once[i]);
		s->n |= 1U << i;
	}
	if ((s->n & 3) == 3)
		err_set(s->e, -EINVAL, "bad-request", "Content-Length beside Transfer-Encoding");
	if (strcasecmp(name, "Transfer-Encoding") == 0 && value && strcasecmp(value, "chunked") != 0)
		err_set(s->e, -EINVAL, "bad-request", "no other Transfer-Encoding than chunked is known");
	return s->e->code ? MHD_NO : MHD_YES;
}

struct http_req *http_req_new(struct http_door *door, struct MHD_Connection *conn, const char *url, const char *method)
{
	struct http_req *req = NEW(struct http_req);
	struct http *http = door->http;
	struct seen headers = { .e = &req->e }, query = { .e = &req->e };

	req->http = http;
	req->conn = conn;
	req->spool_fd = -1;
	req->began = clock_now();
	snprintf(req->id, sizeof(req->id), "r%llu",
		 (unsigned long long)__atomic_add_fetch(&http->next_id, 1, __ATOMIC_RELAXED));
	req->method = must_strdup(method);
	req->path = must_strdup(url);
	req->res = (struct http_res){ .status = 200, .type = "application/json" };
	buf_init(&req->res.body, HTTP_RES_BODY_MAX);
	buf_init(&req->body, HTTP_BODY_MEMORY);
	req->body.wipes = true;
	req->on = *(struct http_conn *const *)MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	MHD_get_connection_values_n(conn, MHD_HEADER_KIND, on_header, &headers);
	for (req->front = http->front; req->front->is_mine && req->front < &http->front[http->fronts - 1]; req->front++)
		if (req->front->is_mine(req->front->ctx, req))
			break;
	if (!req->e.code)
		find_route(req);
	if ((door->keyed || req->front->admit) && !str_eq(req->e.slug, "bad-request"))
		ask_gate(req);
	if (!req->e.code) {
		query.known = req->route->query;
		query.lenient = req->front->lenient;
		MHD_get_connection_values(conn, MHD_GET_ARGUMENT_KIND, on_parameter, &query);
	}
	return req;
}

void http_req_free(struct http_req *req)
{
	if (req->res.read_end)
		req->res.read_end(req->res.ctx);
	if (req->res.upgrade_drop)
		req->res.upgrade_drop(req->res.ctx);
	while (req->res.headers) {
		req->res.headers--;
		str_free(&req->res.header[req->res.headers].name);
		str_free(&req->res.header[req->res.headers].value);
	}
	str_free(&req->raw_query);
	parse_segments_fini(&req->segments);
	parse_kept_fini(&req->kept);
	buf_fini(&req->body);
	buf_fini(&req->res.body);
	fd_close(&req->spool_fd);
	str_free(&req->method);
	str_free(&req->path);
	free(req);
}

/* --- its body ----------------------------------------------------------------------------------------------------- */

static int spool_open(struct http_req *req)
{
	req->spool_fd = open(req->http->spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (req->spool_fd < 0)
		return -errno;
	return io_write_full(req->spool_fd, buf_span(&req->body).p, buf_len(&req->body));
}

void http_req_take(struct http_req *req, const char *data, size_t len)
{
	int r = 0;

	req->body_b += len;
	if (req->body_b - req->body_told >= PROGRESS_B) {
		req->body_told = req->body_b;
		lock_take(&req->http->lock);
		req->on->since = clock_now();
		lock_drop(&req->http->lock);
	}
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
