/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the daemon: libcurl's only home. One handle is kept, so that its connection is. Upgrades need the raw
 * connection from the first byte on and are spoken by hand, over a socket of their own. */
#include "client/inside.h"

#include "base/io.h"
#include "base/str.h"

#include <curl/curl.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int client_error(struct berth_error *e, int code, const char *slug, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	*e = (struct berth_error){ .code = code };
	snprintf(e->slug, sizeof(e->slug), "%s", slug);
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return code;
}

int client_from_err(struct berth_error *e, const struct err *from, int code)
{
	return client_error(e, from->code ? from->code : code, from->slug, "%s", from->text);
}

char *client_encode(const char *raw)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
	char *to = must_calloc(3 * strlen(raw) + 1, 1), *p = to;

	for (; *raw; raw++) {
		if (strchr(plain, *raw))
			*p++ = *raw;
		else
			p += snprintf(p, 4, "%%%02X", (unsigned char)*raw);
	}
	return to;
}

int client_refused(int status, struct span body, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	const struct json *why;
	int code = -EPROTO, number;

	if (json_parse(body, &j, NULL) < 0)
		return client_error(e, -EPROTO, "bad-answer", "the daemon answered %d without words", status);
	why = json_get(j, "error");
	number = err_number(json_get_str(why, "errno", "EPROTO"));
	code = number ? -number : code;
	client_error(e, code, json_get_str(why, "slug", "unknown"), "%s",
		     json_get_str(why, "message", "no reason given"));
	if (e)
		e->status = status;
	return code;
}

struct sink {
	CURL *curl;
	const struct client_call *call;
	struct buf words; /* of an error */
	int failed;
};

static size_t on_write(char *data, size_t size, size_t n, void *ctx)
{
	struct sink *s = ctx;
	long status = 0;
	int r;

	n *= size;
	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 400)
		r = buf_append(&s->words, data, n);
	else if (s->call->to_fd >= 0)
		r = io_write_full(s->call->to_fd, data, n);
	else
		r = s->call->reply ? buf_append(s->call->reply, data, n) : 0;
	if (r == 0 && s->call->each && status < 400)
		r = s->call->each(s->call->ctx, data, n) ? -ECANCELED : 0;
	if (r == -ECANCELED)
		return 0;
	if (r < 0)
		s->failed = r;
	return r < 0 ? 0 : n;
}

static size_t on_read(char *to, size_t size, size_t n, void *ctx)
{
	const struct client_call *c = ctx;
	ssize_t got;

	do
		got = read(c->from_fd, to, size * n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static int on_progress(void *ctx, curl_off_t all_down, curl_off_t down, curl_off_t all_up, curl_off_t up)
{
	struct berth *b = ctx;

	b->progress(b->progress_ctx, (uint64_t)(down + up), (uint64_t)(all_down + all_up));
	return 0;
}

static int on_tick(void *ctx, curl_off_t all_down UNUSED, curl_off_t down UNUSED, curl_off_t all_up UNUSED,
		   curl_off_t up UNUSED)
{
	const struct client_call *c = ctx;

	c->tick(c->ctx);
	return 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
	static const char name[] = "x-berth-left-out:";
	uint64_t *to = ctx;
	size_t len = size * n;

	if (len > sizeof(name) - 1 && strncasecmp(line, name, sizeof(name) - 1) == 0) {
		AUTO(str_free) char *value = span_dup(SPAN(line + sizeof(name) - 1, len - (sizeof(name) - 1)));

		*to = strtoull(value, NULL, 10);
	}
	return len;
}

static CURL *handle(struct berth *b)
{
	if (b->curl)
		curl_easy_reset(b->curl);
	else
		b->curl = curl_easy_init();
	return b->curl;
}

static void set_body(CURL *curl, const struct client_call *c)
{
	if (c->from_fd >= 0) {
		curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(curl, CURLOPT_READDATA, c);
	} else if (c->json.len || str_eq(c->method, "POST")) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->json.len);
		curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, c->json.len ? c->json.p : "");
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, c->method);
}

int client_call(struct berth *b, const struct client_call *c, struct berth_error *e)
{
	AUTO(str_free) char *url = str_printf("%s%s", b->base, c->path);
	AUTO(str_free) char *key = b->key ? str_printf("X-API-Key: %s", b->key) : NULL;
	struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
	struct sink sink = { .call = c };
	CURL *curl = handle(b);
	long status = 0;
	CURLcode code;
	int r = 0;

	if (!curl)
		return client_error(e, -ENOMEM, "no-memory", "libcurl cannot start");
	sink.curl = curl;
	buf_init(&sink.words, 65536);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	if (key)
		headers = curl_slist_append(headers, key);
	if (b->socket)
		curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, b->socket);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	if (c->to_fd >= 0) /* files and archives: in large pieces */
		curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L * 1024);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &sink);
	if (c->left_out) {
		curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
		curl_easy_setopt(curl, CURLOPT_HEADERDATA, c->left_out);
	}
	if (c->tick) {
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_tick);
		curl_easy_setopt(curl, CURLOPT_XFERINFODATA, c);
	} else if (b->progress) {
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
		curl_easy_setopt(curl, CURLOPT_XFERINFODATA, b);
	}
	set_body(curl, c);
	code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (sink.failed)
		r = client_error(e, sink.failed, "output", "what the daemon sent could not be kept: %s",
				 err_name(sink.failed));
	else if (code == CURLE_COULDNT_CONNECT && b->socket && access(b->socket, W_OK) < 0 && errno == EACCES)
		r = client_error(e, -EACCES, "permission", "%s may not be opened: are you in the daemon's group?",
				 b->socket);
	else if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
		r = client_error(e, -ECONNREFUSED, "no-daemon", "no daemon answers on %s",
				 b->socket ? b->socket : b->base);
	else if (c->stopped && *c->stopped)
		r = 0;
	else if (code != CURLE_OK)
		r = client_error(e, -EPIPE, "cut-off", "the daemon broke off: %s", curl_easy_strerror(code));
	else if (status >= 400)
		r = client_refused((int)status, buf_span(&sink.words), e);
	buf_fini(&sink.words);
	curl_slist_free_all(headers);
	return r;
}

void client_close(struct berth *b)
{
	if (b->curl)
		curl_easy_cleanup(b->curl);
	b->curl = NULL;
}

int client_call_json(struct berth *b, struct client_call *c, struct json **ret, struct berth_error *e)
{
	struct err why = ERR_NULL;
	struct buf reply;
	int r;

	buf_init(&reply, CLIENT_REPLY_MAX);
	c->reply = &reply;
	r = client_call(b, c, e);
	if (r == 0 && ret && json_parse(buf_span(&reply), ret, &why) < 0)
		r = client_error(e, -EPROTO, "bad-answer", "the daemon's answer is no JSON: %s", why.text);
	c->reply = NULL;
	buf_fini(&reply);
	return r;
}

int client_json(struct berth *b, const char *method, const char *path, struct span body, struct json **ret,
		struct berth_error *e)
{
	struct client_call c = { .method = method, .path = path, .json = body, .from_fd = -1, .to_fd = -1 };

	return client_call_json(b, &c, ret, e);
}

int client_text(struct berth *b, const char *method, const char *path, struct span body, char **ret,
		struct berth_error *e)
{
	struct buf reply;
	struct client_call c = {
		.method = method, .path = path, .json = body, .from_fd = -1, .to_fd = -1, .reply = &reply
	};
	int r;

	buf_init(&reply, CLIENT_REPLY_MAX);
	r = client_call(b, &c, e);
	if (r == 0)
		*ret = span_dup(buf_span(&reply));
	buf_fini(&reply);
	return r;
}

/* --- upgrades ----------------------------------------------------------------------------------------------------- */

static int send_body(struct berth *b, int sock, int body_fd, uint64_t all)
{
	AUTO(mem_free) char *piece = must_calloc(1, 65536);
	uint64_t done = 0;
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = read(body_fd, piece, 65536)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		r = n < 0 ? -errno : io_write_full(sock, piece, (size_t)n);
		done += n > 0 ? (uint64_t)n : 0;
		if (b->progress)
			b->progress(b->progress_ctx, done, all);
	}
	return r;
}

/* Read the head of the answer into @in; the offset behind it. */
static int read_head(int sock, struct buf *in, size_t *ret_end)
{
	for (;;) {
		const char *all = buf_str(in), *end = strstr(all, "\r\n\r\n");
		char piece[4096];
		ssize_t n;

		if (end) {
			*ret_end = (size_t)(end - all) + 4;
			return 0;
		}
		n = read(sock, piece, sizeof(piece));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		if (buf_append(in, piece, (size_t)n) < 0)
			return -E2BIG;
	}
}

static int read_rest(int sock, struct buf *in)
{
	char piece[4096];
	ssize_t n;

	while ((n = read(sock, piece, sizeof(piece))) > 0)
		if (buf_append(in, piece, (size_t)n) < 0)
			return -E2BIG;
	return n < 0 ? -errno : 0;
}

static int connect_tcp(const struct berth *b, int *ret_fd)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL, *at;
	int r = getaddrinfo(b->host, b->port, &hints, &found) ? -ECONNREFUSED : 0;

	for (at = r == 0 ? found : NULL; at; at = at->ai_next) {
		AUTO(fd_close) int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);

		r = fd < 0 || connect(fd, at->ai_addr, at->ai_addrlen) < 0 ? -errno : 0;
		if (r == 0) {
			int on = 1;

			(void)!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
			*ret_fd = fd_take(&fd);
			break;
		}
	}
	if (found)
		freeaddrinfo(found);
	return r;
}

int client_upgrade(struct berth *b, const char *method, const char *path, struct span json, int body_fd, int *ret_fd,
		   struct buf *rest, struct berth_error *e)
{
	AUTO(fd_close) int sock = -1;
	struct err why = ERR_NULL;
	struct stat st = { .st_size = 0 };
	struct buf io;
	size_t end = 0;
	int status = 0, r = b->socket ? io_unix_connect(b->socket, &sock, &why) : connect_tcp(b, &sock);

	if (r < 0)
		return client_error(e, r, "no-daemon", "no daemon answers: %s", b->socket ? why.text : b->base);
	if (body_fd >= 0 && (fstat(body_fd, &st) < 0 || !S_ISREG(st.st_mode)))
		return client_error(e, -EINVAL, "not-a-file", "a regular file is needed");
	buf_init(&io, CLIENT_REPLY_MAX);
	buf_printf(&io, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: berth-stream\r\n", method,
		   path, b->base + 7);
	if (b->key)
		buf_printf(&io, "X-API-Key: %s\r\n", b->key);
	buf_printf(&io, "Content-Length: %llu\r\n\r\n",
		   (unsigned long long)(body_fd >= 0 ? (uint64_t)st.st_size : json.len));
	buf_append(&io, json.p, json.len);
	r = io_write_full(sock, buf_span(&io).p, buf_len(&io));
	if (r == 0 && body_fd >= 0)
		r = send_body(b, sock, body_fd, (uint64_t)st.st_size);
	buf_consume(&io, buf_len(&io));
	if (r == 0)
		r = read_head(sock, &io, &end);
	if (r == 0)
		(void)!sscanf(buf_str(&io), "HTTP/1.%*d %d", &status);
	if (r == 0 && status != 101) {
		shutdown(sock, SHUT_WR);
		r = read_rest(sock, &io);
		buf_consume(&io, MIN(end, buf_len(&io)));
		r = client_refused(status, buf_span(&io), e);
	} else if (r < 0) {
		client_error(e, r, "cut-off", "the daemon broke off: %s", err_name(r));
	} else {
		buf_consume(&io, end);
		(void)!buf_append(rest, buf_span(&io).p, buf_len(&io));
		*ret_fd = fd_take(&sock);
	}
	buf_fini(&io);
	return r;
}
