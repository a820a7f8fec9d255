/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/fields.h"

#include "base/str.h"
#include "host/broker/ruled.h"
#include "host/broker/weak.h"

#include <errno.h>
#include <strings.h>

/* --- to the service ----------------------------------------------------------------------------------------------- */

/* Of the connection, either way. */
static const char *const of_connection[] = {
	"connection",
	"keep-alive",
	"proxy-connection",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
	"content-length",
};

/* Of the connection to us. */
static const char *const of_request[] = {
	"host",
	"expect",
	"accept-encoding",
	"http2-settings",
};

/* That carry credentials; by which a server would do something else than what was looked at. */
static const char *const not_up[] = {
	"authorization",
	"proxy-authorization",
	"proxy-authenticate",
	"cookie",
	"cookie2",
	"x-api-key",
	"api-key",
	"apikey",
	"x-goog-api-key",
	"x-auth-token",
	"x-access-token",
	"private-token",
	"job-token",
	"x-amz-security-token",
	"x-http-method-override",
	"x-http-method",
	"x-method-override",
	"x-original-url",
	"x-rewrite-url",
	"x-forwarded-host",
	"x-forwarded-for",
	"x-forwarded-proto",
	"x-forwarded-prefix",
	"x-forwarded-server",
	"x-forwarded-port",
	"x-real-ip",
	"x-host",
	"forwarded",
	"via",
	"range",
	"if-range",
};

/* To the sandbox; set-cookie is a credential of the session. */
static const char *const not_down[] = {
	"content-encoding",
	"set-cookie",
	"set-cookie2",
	"alt-svc",
	"strict-transport-security",
	"proxy-authenticate",
	"proxy-authorization",
	"clear-site-data",
	"public-key-pins",
	"nel",
	"report-to",
};

static bool is_among(struct span name, const char *const *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (head_is(name, list[i]))
			return true;
	return false;
}

/* Named in Connection: for the next hop only. */
static bool is_hop(const struct head_field *fields, size_t n, struct span name)
{
	size_t i;

	for (i = 0; i < n; i++) {
		const char *p = fields[i].value.p, *end = p + fields[i].value.len;

		if (!head_is(fields[i].name, "connection"))
			continue;
		while (p < end) {
			const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;

			while (p < stop && (*p == ' ' || *p == '\t'))
				p++;
			while (stop > p && (stop[-1] == ' ' || stop[-1] == '\t'))
				stop--;
			if ((size_t)(stop - p) == name.len && strncasecmp(p, name.p, name.len) == 0)
				return true;
			p = (comma ? comma : end) + 1;
		}
	}
	return false;
}

static bool goes_up(const struct head *h, const struct bound *b, struct span name)
{
	size_t i;

	if (b->route->ranges && (head_is(name, "range") || head_is(name, "if-range")))
		return true;
	if (is_among(name, of_connection, ARRAY_LEN(of_connection)) ||
	    is_among(name, of_request, ARRAY_LEN(of_request)) || is_hop(h->fields, h->n, name))
		return false;
	if (broker_weak(BROKER_WEAK_FIELDS))
		return true;
	if (is_among(name, not_up, ARRAY_LEN(not_up)))
		return false;
	/* "X_Api_Key" is "X-Api-Key" to some servers. */
	if (memchr(name.p, '_', name.len))
		return false;
	for (i = 0; b->rule && i < b->rule->n; i++)
		if (head_is(name, b->rule->v[i].name))
			return false;
	return !(b->put_name && head_is(name, b->put_name));
}

/* A few spans, one behind the other, as a string. */
static char *join(const struct span *v, size_t n)
{
	size_t len = 1, i;
	char *s, *p;

	for (i = 0; i < n; i++)
		len += v[i].len;
	s = p = must_calloc(len, 1);
	for (i = 0; i < n; p += v[i++].len)
		if (v[i].len)
			memcpy(p, v[i].p, v[i].len);
	return s;
}

/* For texts that had a value in them. */
static void wipe_free(char **slot)
{
	if (*slot)
		wipe(*slot, strlen(*slot));
	str_free(slot);
}

static int add(void *fields, const struct span *v, size_t n)
{
	struct fields *f = fields;

	if (f->n == FIELDS_MAX)
		return -E2BIG;
	f->v[f->n++] = join(v, n);
	return 0;
}

static char *base64(struct span user, struct span password)
{
	static const char words[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const struct span both[] = { user, span_str(":"), password };
	size_t len = user.len + 1 + password.len, i, n = 0;
	AUTO(wipe_free) char *plain = join(both, 3);
	const uint8_t *p = (uint8_t *)plain;
	char *to = must_calloc((len + 2) / 3 * 4 + 1, 1);

	for (i = 0; i < len; i += 3) {
		uint32_t three = (uint32_t)p[i] << 16 | (i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0) |
				 (i + 2 < len ? p[i + 2] : 0);

		to[n++] = words[three >> 18];
		to[n++] = words[three >> 12 & 63];
		to[n++] = i + 1 < len ? words[three >> 6 & 63] : '=';
		to[n++] = i + 2 < len ? words[three & 63] : '=';
	}
	return to;
}

static int put_credential(const struct bound *b, struct span value, struct fields *f)
{
	const struct service_route *r = b->route;
	struct span header[] = { span_str(b->put_name), span_str(": "), span_str(b->put_prefix), value };
	struct span bearer[] = { span_str("Authorization: Bearer "), value };
	struct span basic[] = { span_str("Authorization: Basic "), SPAN_NULL };
	AUTO(wipe_free) char *code = NULL;
	const char *colon;

	switch (r->put) {
	case PUT_BEARER:
		return add(f, bearer, 2);
	case PUT_HEADER:
		return add(f, header, 4);
	case PUT_BASIC:
		/* Without a user of the policy the value is both, "user:password", or a password alone. */
		colon = r->put_name[0] ? NULL : memchr(value.p, ':', value.len);
		if (colon) {
			size_t user = (size_t)(colon - (const char *)value.p);

			code = base64(SPAN(value.p, user), SPAN(colon + 1, value.len - user - 1));
		} else {
			code = base64(span_str(r->put_name), value);
		}
		basic[1] = span_str(code);
		return add(f, basic, 2);
	case PUT_NONE:
	case PUT_QUERY:
	default:
		return 0;
	}
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* Is it this parameter, however its name is written? */
static bool is_parameter(struct span part, const char *name)
{
	const char *p = part.p, *end = p + part.len;

	for (; *name; name++) {
		int c;

		if (p == end || *p == '=')
			return false;
		c = *p++;
		if (c == '%' && end - p >= 2 && hex(p[0]) >= 0 && hex(p[1]) >= 0) {
			c = hex(p[0]) << 4 | hex(p[1]);
			p += 2;
		}
		if ((c | 0x20) != (*name | 0x20))
			return false;
	}
	return p == end || *p == '=' || *p == '[' || *p == '%';
}

/* The query without a parameter of the credential's name. ';' separates too, for some. */
static void strip_query(struct span query, const char *name, struct buf *to)
{
	const char *p = query.p, *end = p + query.len;

	while (p < end) {
		size_t len = 0;

		while (p + len < end && p[len] != '&' && p[len] != ';')
			len++;
		if (!is_parameter(SPAN(p, len), name)) {
			if (buf_len(to))
				buf_append(to, "&", 1);
			buf_append(to, p, len);
		}
		p += len + 1;
	}
}

static int build_url(const struct head *h, const struct bound *b, struct span value, struct fields *f)
{
	AUTO(buf_fini) struct buf query;
	AUTO(wipe_free) char *safe = must_calloc(3 * value.len + 1, 1);
	bool puts = b->route->put == PUT_QUERY;

	buf_init(&query, HEAD_TARGET_MAX + 16);
	if (puts && h->query.len)
		strip_query(h->query, b->route->put_name, &query);
	else if (h->query.len)
		buf_append(&query, h->query.p, h->query.len);
	if (query.failed)
		return -ENOMEM;
	if (puts)
		mask_url(value, safe);
	{
		const struct span all[] = { span_str("https://"), span_str(b->host), span_str(b->path),
					    span_str(puts || h->query.p ? "?" : ""), buf_span(&query),
					    span_str(puts && buf_len(&query) ? "&" : ""),
					    span_str(puts ? b->route->put_name : ""), span_str(puts ? "=" : ""),
					    span_str(safe) };

		f->url = join(all, ARRAY_LEN(all));
	}
	return 0;
}

int fields_build(const struct head *h, const struct bound *b, struct fields *ret)
{
	/* What libcurl would say by itself. */
	static const char *const own[] = { "Expect", "Content-Type", "Accept" };
	struct span value;
	size_t i;
	int r = 0;

	*ret = (struct fields){ .n = 0 };
	for (i = 0; i < h->n && r == 0; i++) {
		const struct head_field *x = &h->fields[i];
		/* An empty one is written with ';', a colon would remove it. */
		const struct span line[] = { x->name, span_str(x->value.len ? ": " : ";"), x->value };

		if (goes_up(h, b, x->name))
			r = add(ret, line, 3);
	}
	if (r == 0 && b->rule) {
		r = ruled_headers(b, add, ret);
		if (r == 0)
			r = build_url(h, b, SPAN_NULL, ret);
	} else if (r == 0) {
		value = SPAN(secret_use(b->held->value), secret_len(b->held->value));
		r = put_credential(b, value, ret);
		if (r == 0)
			r = build_url(h, b, value, ret);
		secret_rest(b->held->value);
	}
	for (i = 0; i < ARRAY_LEN(own) && r == 0; i++) {
		const struct span none[] = { span_str(own[i]), span_str(":") };

		if (i == 0 || !head_get(h, own[i]).p)
			r = add(ret, none, 2);
	}
	if (r < 0)
		fields_fini(ret);
	return r;
}

void fields_fini(struct fields *f)
{
	wipe_free(&f->url);
	while (f->n)
		wipe_free(&f->v[--f->n]);
}

/* --- to the sandbox ----------------------------------------------------------------------------------------------- */

/* The host of an absolute URL; p NULL: it is none. */
static struct span host_of(struct span url)
{
	const char *p = url.p, *end = p + url.len, *from, *to;

	from = memmem(p, url.len, "//", 2);
	if (!from)
		return SPAN_NULL;
	for (to = from += 2; to < end && !strchr("/?#\\", *to);)
		to++;
	return SPAN(from, (size_t)(to - from));
}

static bool may_lead(const struct service_route *r, struct span host)
{
	AUTO(str_free) char *text = span_dup(host);
	size_t i;

	for (i = 0; i < r->redirects.n; i++)
		if (seal_host_matches(r->redirects.v[i], text))
			return true;
	return false;
}

/* A place that the answer names. */
static int put_place(const struct bound *b, struct span url, struct buf *to, struct err *e)
{
	AUTO(str_free) char *ours = bind_place(b, url);
	const char *p = url.p;
	struct span host = host_of(url);

	if (ours) {
		buf_append(to, ours, strlen(ours));
	} else if (broker_weak(BROKER_WEAK_REDIRECT)) {
		buf_append(to, p, url.len);
	} else if (url.len && *p == '/' && !(url.len > 1 && (p[1] == '/' || p[1] == '\\'))) {
		AUTO(str_free) char *full = str_printf("https://%s%.*s", b->host, (int)url.len, p);

		ours = b->route->host ? bind_place(b, span_str(full))
				      : str_printf("http://berth.internal/%s%s%s%.*s", b->service->name,
						   b->route->prefix, b->host, (int)url.len, p);
		if (!ours)
			return err_set(e, -EACCES, "redirect", "the service leads to a place that it does not offer");
		buf_append(to, ours, strlen(ours));
	} else if (!host.p && !memchr(p, ':', url.len) && !memchr(p, '\\', url.len)) {
		buf_append(to, p, url.len); /* beside or below what was asked */
	} else if (str_starts(p, "https://") && may_lead(b->route, host)) {
		buf_append(to, p, url.len);
	} else {
		return err_set(e, -EACCES, "redirect", "the service leads to %.*s, where this one may not lead",
			       (int)MIN(host.len, (size_t)100), host.p ? (const char *)host.p : "");
	}
	return 0;
}

/* "<https://host/a>; rel=next, …": each that is the service's becomes ours. */
static void put_links(const struct bound *b, struct span v, struct buf *to)
{
	const char *p = v.p, *end = p + v.len, *open, *shut;

	while (p < end && (open = memchr(p, '<', (size_t)(end - p))) &&
	       (shut = memchr(open, '>', (size_t)(end - open)))) {
		AUTO(str_free) char *ours = bind_place(b, SPAN(open + 1, (size_t)(shut - open - 1)));

		buf_append(to, p, (size_t)(open + 1 - p));
		if (ours)
			buf_append(to, ours, strlen(ours));
		else
			buf_append(to, open + 1, (size_t)(shut - open - 1));
		p = shut;
	}
	buf_append(to, p, (size_t)(end - p));
}

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *words;
	} known[] = { { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" },
		      { 206, "Partial Content" }, { 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" },
		      { 304, "Not Modified" }, { 307, "Temporary Redirect" }, { 308, "Permanent Redirect" },
		      { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		      { 409, "Conflict" }, { 422, "Unprocessable Content" }, { 429, "Too Many Requests" },
		      { 500, "Internal Server Error" }, { 502, "Bad Gateway" }, { 503, "Service Unavailable" } };
	size_t i;

	for (i = 0; i < ARRAY_LEN(known); i++)
		if (known[i].status == status)
			return known[i].words;
	return "Status";
}

static void find_framing(const struct up_answer *a, const struct head *h, const struct bound *b, struct framing *f)
{
	bool encoded = false, rewrites = b->service->rewrite.n > 0;
	size_t i;

	*f = (struct framing){ .has_body = !str_eq(h->method, "HEAD") && a->status != 204 && a->status != 304 };
	for (i = 0; i < a->n; i++) {
		struct span v = a->fields[i].value;

		if (head_is(a->fields[i].name, "content-length") && v.len && v.len < 19) {
			AUTO(str_free) char *text = span_dup(v);

			f->has_length = num_u64(text, INT64_MAX, &f->length) == 0;
		} else if (head_is(a->fields[i].name, "content-encoding")) {
			encoded |= !head_is(v, "identity");
		} else if (head_is(a->fields[i].name, "content-type")) {
			f->is_text = rewrites && (memmem(v.p, v.len, "json", 4) || memmem(v.p, v.len, "text/", 5));
		}
	}
	/* A body that is decoded or rewritten is of another length; a HEAD is told the length of what it would get. */
	if (encoded || (f->is_text && f->has_body))
		f->has_length = false;
	f->chunked = f->has_body && !f->has_length && !h->is_10;
}

/* Nothing in a value ends its line for some reader. */
static void clean(struct span v)
{
	char *p = (char *)(uintptr_t)v.p;
	size_t i;

	for (i = 0; i < v.len; i++)
		if ((unsigned char)p[i] < 0x20 && p[i] != '\t')
			p[i] = ' ';
}

int fields_answer(struct up_answer *a, const struct head *h, const struct bound *b, bool keep, struct framing *ret,
		  struct buf *to, struct err *e)
{
	size_t i;
	int r = 0;

	find_framing(a, h, b, ret);
	buf_printf(to, "HTTP/1.1 %d %s\r\n", a->status, reason(a->status));
	for (i = 0; i < a->n && r == 0; i++) {
		struct head_field *x = &a->fields[i];

		if (is_among(x->name, of_connection, ARRAY_LEN(of_connection)) ||
		    is_among(x->name, not_down, ARRAY_LEN(not_down)) || is_hop(a->fields, a->n, x->name))
			continue;
		clean(x->value);
		mask_bytes(b->mask, (void *)(uintptr_t)x->value.p, x->value.len);
		mask_bytes(b->mask, (void *)(uintptr_t)x->name.p, x->name.len);
		buf_append(to, x->name.p, x->name.len);
		buf_append(to, ": ", 2);
		if (head_is(x->name, "location") || head_is(x->name, "content-location") || head_is(x->name, "refresh"))
			r = put_place(b, x->value, to, e);
		else if (head_is(x->name, "link"))
			put_links(b, x->value, to);
		else
			buf_append(to, x->value.p, x->value.len);
		buf_append(to, "\r\n", 2);
	}
	if (ret->has_length && (ret->has_body || str_eq(h->method, "HEAD")))
		buf_printf(to, "Content-Length: %llu\r\n", (unsigned long long)ret->length);
	else if (ret->chunked)
		buf_printf(to, "Transfer-Encoding: chunked\r\n");
	buf_printf(to, "Connection: %s\r\n\r\n",
		   keep && (ret->chunked || ret->has_length || !ret->has_body) ? "keep-alive" : "close");
	if (r == 0 && to->failed)
		r = err_set(e, -E2BIG, "head-too-large", "the head of the service's answer is too large");
	return r;
}
