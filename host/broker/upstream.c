/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One multi handle for addresses of the outside and one for those that a policy lets be of the inside, so that a
 * connection which only one of them may have is never found by the other. Handles are used again: that keeps TLS
 * sessions.
 *
 * What curl copies (headers, URLs) is in its own memory until it frees it; this process is the one that may have it.
 */
#include "host/broker/upstream.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/broker/weak.h"
#include "host/priv/priv.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	POOL_MAX = 64, CONNECT_MS = 15000, IDLE_S = 900, REPLAY_MAX = 64 * 1024, HEAD_BYTES = 64 * 1024,
	CONNECTIONS = 2048, KEPT = 256, BUFFER = 64 * 1024
};

struct half {
	struct up *up;
	CURLM *multi;
	struct loop_timer *timer;
};

struct up {
	struct loop *loop;
	struct half halves[2];
	CURLSH *share;
	VEC(CURL *) pool;
};

struct sock {
	struct half *half;
	struct loop_watch *watch;
};

struct up_call {
	struct half *half;
	CURL *curl;
	const struct up_events *events;
	void *ctx;
	struct curl_slist *fields;
	struct buf head;   /* lines of the answer's head, each behind its NUL */
	struct buf replay; /* of the body, as long as it could be sent again from the start */
	size_t replayed;   /* of it, in this attempt */
	bool head_told, waits_body, waits_room, is_private, refused_address, aborted, replay_lost;
	char words[CURL_ERROR_SIZE];
};

/* --- curl's wishes ------------------------------------------------------------------------------------------------ */

static void collect(struct half *h);

static void on_socket(void *ctx, int fd, unsigned events)
{
	struct half *h = ((struct sock *)ctx)->half;
	int bits = (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0) |
		   (events & LOOP_HANGUP ? CURL_CSELECT_IN | CURL_CSELECT_ERR : 0), running;

	curl_multi_socket_action(h->multi, fd, bits, &running);
	collect(h);
}

static int want_socket(CURL *curl UNUSED, curl_socket_t fd, int what, void *ctx, void *sock)
{
	struct half *h = ctx;
	struct sock *s = sock;
	unsigned events = (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);

	if (what == CURL_POLL_REMOVE) {
		if (s)
			loop_unwatch(&s->watch);
		mem_free(&s);
		curl_multi_assign(h->multi, fd, NULL);
		return 0;
	}
	if (s) {
		loop_rewatch(s->watch, events);
		return 0;
	}
	s = NEW(struct sock);
	s->half = h;
	if (loop_watch(h->up->loop, fd, events, on_socket, s, &s->watch) < 0) {
		mem_free(&s);
		return -1;
	}
	curl_multi_assign(h->multi, fd, s);
	return 0;
}

static void on_time(void *ctx)
{
	struct half *h = ctx;
	int running;

	curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(h);
}

static int want_time(CURLM *multi UNUSED, long ms, void *ctx)
{
	struct half *h = ctx;

	loop_rearm(h->timer, ms < 0 ? CLOCK_NEVER : clock_after_ms((uint64_t)ms));
	return 0;
}

/* The address that is connected to is the one that is looked at: a name that changes its mind is of no use. */
static bool is_inside(const struct sockaddr *sa)
{
	struct priv_prefix p = { .family = AF_INET6, .len = 128 };
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, nat64[12] = { 0, 0x64, 0xff, 0x9b };

	if (sa->sa_family == AF_INET) {
		p.family = AF_INET;
		p.len = 32;
		memcpy(p.addr, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
		return priv_net_fenced(&p);
	}
	if (sa->sa_family != AF_INET6)
		return true;
	memcpy(p.addr, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	if (memcmp(p.addr, mapped, 12) == 0 || memcmp(p.addr, nat64, 12) == 0 ||
	    (p.addr[0] == 0x20 && p.addr[1] == 0x02)) {
		struct priv_prefix v4 = { .family = AF_INET, .len = 32 };

		memcpy(v4.addr, p.addr + (p.addr[0] == 0x20 ? 2 : 12), 4);
		return priv_net_fenced(&v4);
	}
	return priv_net_fenced(&p);
}

static curl_socket_t open_socket(void *ctx, curlsocktype what UNUSED, struct curl_sockaddr *a)
{
	struct up_call *c = ctx;

	if (!c->is_private && !broker_weak(BROKER_WEAK_PRIVATE) && is_inside(&a->addr)) {
		c->refused_address = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);
}

/* --- the body ----------------------------------------------------------------------------------------------------- */

static size_t on_read(char *to, size_t size, size_t n, void *ctx)
{
	struct up_call *c = ctx;
	size_t got;

	n *= size;
	if (c->replayed < buf_len(&c->replay)) {
		struct span all = buf_span(&c->replay);

		got = MIN(n, all.len - c->replayed);
		memcpy(to, (const char *)all.p + c->replayed, got);
		c->replayed += got;
		return got;
	}
	got = c->events->body(c->ctx, to, n);
	if (got == UP_WAIT) {
		c->waits_body = true;
		return CURL_READFUNC_PAUSE;
	}
	if (got == UP_ABORT) {
		c->aborted = true;
		return CURL_READFUNC_ABORT;
	}
	if (!c->replay_lost && buf_append(&c->replay, to, got) < 0) {
		c->replay_lost = true;
		buf_fini(&c->replay);
	}
	c->replayed = buf_len(&c->replay);
	return got;
}

/* A kept connection that had ended is no reason to fail, when the body can be said once more. */
static int on_seek(void *ctx, curl_off_t at, int origin)
{
	struct up_call *c = ctx;

	if (c->replay_lost || at != 0 || origin != SEEK_SET)
		return CURL_SEEKFUNC_FAIL;
	c->replayed = 0;
	return CURL_SEEKFUNC_OK;
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

static bool tell_head(struct up_call *c)
{
	struct up_answer a = { .n = 0 };
	long status = 0, version = 0;
	uint8_t *p = c->head.p + c->head.start, *end = c->head.p + c->head.end;
	size_t line;

	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	a.status = (int)status;
	curl_easy_getinfo(c->curl, CURLINFO_HTTP_VERSION, &version);
	a.ahead = version != CURL_HTTP_VERSION_1_1 && version != CURL_HTTP_VERSION_1_0;
	for (; p < end; p += line + 1) {
		uint8_t *colon;
		size_t from, len;

		line = strlen((char *)p);
		colon = memchr(p, ':', line);
		if (!colon)
			continue;
		len = line;
		for (from = (size_t)(colon - p) + 1; p[from] == ' ' || p[from] == '\t';)
			from++;
		while (len > from && (p[len - 1] == ' ' || p[len - 1] == '\t'))
			len--;
		if (a.n == HEAD_FIELDS_MAX)
			return false;
		a.fields[a.n++] = (struct head_field){ SPAN(p, (size_t)(colon - p)), SPAN(p + from, len - from) };
	}
	c->head_told = true;
	return c->events->head(c->ctx, &a);
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
	struct up_call *c = ctx;
	size_t len = size * n, all = len;
	long status = 0;

	if (c->head_told)
		return all; /* trailers */
	while (len && (line[len - 1] == '\r' || line[len - 1] == '\n'))
		len--;
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0) {
		buf_consume(&c->head, buf_len(&c->head)); /* another one follows an answer of 1xx */
		return all;
	}
	if (len) {
		if (memchr(line, '\0', len) || buf_append(&c->head, line, len) < 0 || buf_append(&c->head, "", 1) < 0)
			c->aborted = true;
		return c->aborted ? 0 : all;
	}
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return all;
	if (!tell_head(c))
		c->aborted = true;
	return c->aborted ? 0 : all;
}

static size_t on_write(char *data, size_t size, size_t n, void *ctx)
{
	struct up_call *c = ctx;
	int r = c->head_told ? c->events->data(c->ctx, SPAN(data, size * n)) : -EPROTO;

	if (r == -EAGAIN) {
		c->waits_room = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (r < 0)
		c->aborted = true;
	return r < 0 ? 0 : size * n;
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

static int translate(const struct up_call *c, CURLcode code, struct err *e)
{
	const char *words = c->words[0] ? c->words : curl_easy_strerror(code);

	if (c->refused_address)
		return err_set(e, -EACCES, "private-address", "the service's name leads to an address of the inside");
	if (c->aborted)
		return err_set(e, -ECANCELED, "aborted", "broken off");
	switch ((int)code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
		return err_set(e, -EPROTO, "tls", "the service does not prove who it is: %.150s", words);
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(e, -EHOSTUNREACH, "no-such-host", "the service's name has no address");
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(e, -ETIMEDOUT, "timeout", "the service does not answer in time");
	default:
		return err_set(e, -EPIPE, "upstream-gone", "the service cannot be spoken with: %.150s", words);
	}
}

static void wipe_fields(struct up_call *c)
{
	struct curl_slist *at;

	for (at = c->fields; at; at = at->next)
		wipe(at->data, strlen(at->data));
	curl_slist_free_all(c->fields);
	c->fields = NULL;
}

/* The handle goes back, or away. */
static void call_free(struct up_call *c)
{
	struct up *up = c->half->up;

	curl_multi_remove_handle(c->half->multi, c->curl);
	curl_easy_reset(c->curl);
	if (up->pool.len < POOL_MAX)
		vec_push(&up->pool, c->curl);
	else
		curl_easy_cleanup(c->curl);
	wipe_fields(c);
	buf_fini(&c->head);
	buf_fini(&c->replay);
	free(c);
}

static void collect(struct half *h)
{
	struct CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct err e = ERR_NULL;
		struct up_call *c = NULL;
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		if (code != CURLE_OK)
			translate(c, code, &e);
		else if (!c->head_told && !tell_head(c))
			err_set(&e, -ECANCELED, "aborted", "broken off");
		c->events->end(c->ctx, &e);
		call_free(c);
	}
}

/* Below 8.2 a stream of HTTP/2 that rests brings libcurl down (7.88: memory of a session that is no more): any sandbox
 * could end the broker of all. */
static long http_version(void)
{
	bool is_sound = curl_version_info(CURLVERSION_NOW)->version_num >= 0x080200;

	return is_sound || broker_weak(BROKER_WEAK_HTTP2) ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1;
}

static void set_common(struct up_call *c, struct up *up)
{
	CURL *curl = c->curl;

	curl_easy_setopt(curl, CURLOPT_PRIVATE, c);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, c->words);
	curl_easy_setopt(curl, CURLOPT_SHARE, up->share);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, http_version());
	curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long)BUFFER);
	curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)IDLE_S);
	/* It asks for none, and undoes what comes all the same: what is masked must be read. */
	curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "identity");
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, c);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(curl, CURLOPT_READDATA, c);
	curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(curl, CURLOPT_SEEKDATA, c);
}

static int set_fields(struct up_call *c, const struct up_request *q)
{
	size_t i;

	for (i = 0; i < q->n_fields; i++) {
		struct curl_slist *more = curl_slist_append(c->fields, q->fields[i]);

		if (!more)
			return -ENOMEM;
		c->fields = more;
	}
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->fields);
	curl_easy_setopt(c->curl, CURLOPT_URL, q->url);
	return 0;
}

static void set_method(struct up_call *c, const struct up_request *q)
{
	if (q->length != UP_NO_BODY) {
		curl_easy_setopt(c->curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->length);
	} else if (str_eq(q->method, "HEAD")) {
		curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
	}
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, q->method);
}

int up_start(struct up *up, const struct up_request *q, const struct up_events *events, void *ctx, struct up_call **ret,
	     struct err *e)
{
	CURL *curl = up->pool.len ? up->pool.v[--up->pool.len] : curl_easy_init();
	struct up_call *c;
	int r;

	if (!curl)
		return err_sys(e, -ENOMEM, "a request");
	c = NEW(struct up_call);
	*c = (struct up_call){ .half = &up->halves[q->private_], .curl = curl, .events = events, .ctx = ctx,
			       .is_private = q->private_ };
	buf_init(&c->head, HEAD_BYTES);
	buf_init(&c->replay, REPLAY_MAX);
	set_common(c, up);
	if (q->ca.len) {
		struct curl_blob ca = { .data = (void *)(uintptr_t)q->ca.p, .len = q->ca.len, .flags = CURL_BLOB_COPY };

		curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &ca);
	}
	set_method(c, q);
	r = set_fields(c, q);
	if (r == 0 && curl_multi_add_handle(c->half->multi, curl) != CURLM_OK)
		r = -ENOMEM;
	if (r < 0) {
		call_free(c);
		return err_sys(e, r, "a request");
	}
	*ret = c;
	return 0;
}

void up_more(struct up_call *c)
{
	if (!c->waits_body && !c->waits_room)
		return;
	c->waits_body = c->waits_room = false; /* whoever is called in vain waits again */
	curl_easy_pause(c->curl, CURLPAUSE_CONT);
	loop_rearm(c->half->timer, clock_now());
}

void up_stop(struct up_call **slot)
{
	struct up_call *c = take(slot);

	if (c)
		call_free(c);
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

static int half_init(struct up *up, struct half *h)
{
	h->up = up;
	h->multi = curl_multi_init();
	if (!h->multi)
		return -ENOMEM;
	h->timer = loop_timer(up->loop, CLOCK_NEVER, on_time, h);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, want_time);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	/* A connection of HTTP/2 has one stream: who rests holds up nobody. */
	curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)CONNECTIONS);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)KEPT);
	return 0;
}

int up_new(struct loop *loop, struct up **ret, struct err *e)
{
	AUTO(up_free) struct up *up = NEW(struct up);
	size_t i;
	int r = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -ENOSYS;

	up->loop = loop;
	up->share = curl_share_init();
	if (up->share)
		curl_share_setopt(up->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	for (i = 0; i < ARRAY_LEN(up->halves) && r == 0; i++)
		r = half_init(up, &up->halves[i]);
	if (r < 0 || !up->share)
		return err_sys(e, r < 0 ? r : -ENOMEM, "libcurl");
	*ret = take(&up);
	return 0;
}

void up_free(struct up **slot)
{
	struct up *up = take(slot);
	size_t i;

	if (!up)
		return;
	while (up->pool.len)
		curl_easy_cleanup(up->pool.v[--up->pool.len]);
	vec_fini(&up->pool);
	for (i = 0; i < ARRAY_LEN(up->halves); i++) {
		if (up->halves[i].multi)
			curl_multi_cleanup(up->halves[i].multi);
		loop_untimer(&up->halves[i].timer);
	}
	if (up->share)
		curl_share_cleanup(up->share);
	free(up);
}
