/* SPDX-License-Identifier: Apache-2.0 */
/* One policy: read and checked. What is not known is refused, since it may have been meant to forbid something. */
#include "host/broker/service.h"

#include "base/str.h"
#include "json/json.h"
#include "seal/policy.h"
#include "seal/request.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

static int bad(struct err *e, const char *what, const char *word)
{
	return err_set(e, -EINVAL, "bad-service", "%s: \"%.80s\"", what, word);
}

static void list_fini(struct service_list *l)
{
	while (l->n)
		str_free(&l->v[--l->n]);
}

static void route_fini(struct service_route *r)
{
	str_free(&r->prefix);
	str_free(&r->host);
	str_free(&r->base);
	list_fini(&r->methods);
	list_fini(&r->paths);
	list_fini(&r->redirects);
	str_free(&r->put_name);
	str_free(&r->put_prefix);
}

struct service *service_ref(const struct service *borrowed)
{
	struct service *s = (struct service *)(uintptr_t)borrowed;

	s->refs++;
	return s;
}

void service_unref(struct service **slot)
{
	struct service *s = take(slot);

	if (!s || --s->refs)
		return;
	list_fini(&s->secrets);
	list_fini(&s->vars);
	list_fini(&s->rewrite);
	while (s->n_routes)
		route_fini(&s->routes[--s->n_routes]);
	buf_fini(&s->ca);
	str_free(&s->git_from);
	str_free(&s->git_prefix);
	str_free(&s->npmrc);
	str_free(&s->pip);
	free(s);
}

/* --- words -------------------------------------------------------------------------------------------------------- */

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static bool is_plain(const char *s, const char *more)
{
	if (!*s || strlen(s) > SERVICE_TEXT_MAX)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(more, *s))
			return false;
	return true;
}

static bool secret_ok(const char *s)
{
	return str_eq(s, "*") || seal_name_ok(s);
}

static bool host_ok(const char *s)
{
	const char *colon = strchr(s, ':');
	size_t len = colon ? (size_t)(colon - s) : strlen(s);
	uint64_t port = 443;

	return len > 0 && len <= 253 && is_plain(s, "-.:*") && s[0] != '.' && s[0] != '-' &&
	       (!colon || (num_u64(colon + 1, 65535, &port) == 0 && port > 0 && port != 443)) && !strstr(s, "..");
}

static bool var_ok(const char *s)
{
	const char *equal = strchr(s, '=');

	if (!equal || equal == s || isdigit((unsigned char)*s) || strlen(s) > SERVICE_TEXT_MAX || !is_printable(s))
		return false;
	for (; s < equal; s++)
		if (!isalnum((unsigned char)*s) && *s != '_')
			return false;
	return true;
}

static int read_list(const struct json *j, const char *what, bool (*ok)(const char *s), struct service_list *to,
		     struct err *e)
{
	size_t i, n = json_len(j);

	if (n > SERVICE_LIST_MAX)
		return bad(e, "too many", what);
	for (i = 0; i < n; i++) {
		const char *word = json_text(json_at(j, i));

		if (!word || strlen(word) > SERVICE_TEXT_MAX || !ok(word))
			return bad(e, what, word ? word : "?");
		to->v[to->n++] = must_strdup(word);
	}
	return 0;
}

/* --- routes ------------------------------------------------------------------------------------------------------- */

/* "https://host[:port]/base/"; the host may be "{host}". */
static int read_upstream(const char *url, struct service_route *r, struct err *e)
{
	const char *host, *path;

	if (!str_starts(url, "https://") || strlen(url) > SERVICE_TEXT_MAX || !(path = strchr(url + 8, '/')))
		return bad(e, "upstream must be https://HOST/…/", url);
	host = url + 8;
	r->base = must_strdup(path);
	if (!is_plain(path, "/-._~") || !str_ends(path, "/") || strstr(path, "//") || strstr(path, "/."))
		return bad(e, "the path of upstream", url);
	if (str_starts(host, "{host}/")) {
		if (!str_eq(path, "/"))
			return bad(e, "upstream of a host that the path says has no path", url);
		return 0;
	}
	r->host = span_dup(SPAN(host, (size_t)(path - host)));
	if (!host_ok(r->host) || strchr(r->host, '*'))
		return bad(e, "the host of upstream", url);
	return 0;
}

static int read_put(const struct json *j, struct service_route *r, struct err *e)
{
	static const char *const words[] = { "none", "bearer", "basic", "header", "query" };
	const char *as = json_get_str(j, "as", "none"), *name = json_get_str(j, "name", NULL);
	size_t i;
	int code = j ? json_check(j, "as:s name:s prefix:s", e) : 0;

	if (code < 0)
		return bad(e, "credential", e ? e->text : "");
	for (i = 0; i < ARRAY_LEN(words) && !str_eq(as, words[i]); i++)
		;
	if (i == ARRAY_LEN(words))
		return bad(e, "credential.as", as);
	r->put = (enum service_put)i;
	if ((r->put == PUT_HEADER && (!name || !seal_header_ok(name))) ||
	    (r->put == PUT_QUERY && (!name || !is_plain(name, "-_."))) ||
	    (r->put == PUT_BASIC && name && (strchr(name, ':') || !is_printable(name) || strlen(name) > 128)) ||
	    ((r->put == PUT_NONE || r->put == PUT_BEARER) && name))
		return bad(e, "credential.name", name ? name : "");
	r->put_name = must_strdup(name ? name : "");
	r->put_prefix = must_strdup(json_get_str(j, "prefix", NULL));
	if (r->put_prefix && (r->put != PUT_HEADER || !seal_prefix_ok(r->put_prefix)))
		return bad(e, "credential.prefix", r->put_prefix);
	return 0;
}

static int read_route(const struct json *j, struct service_route *r, struct err *e)
{
	const char *prefix = json_get_str(j, "prefix", "/");
	struct err why = ERR_NULL;
	int code = 0;

	if (json_check(j,
		       "prefix:s upstream:s methods:as paths:as credential:o encoded-slashes:b ranges:b redirects:as",
		       &why) < 0)
		return bad(e, "route", why.text);
	r->prefix = must_strdup(prefix);
	r->slashes = json_get_bool(j, "encoded-slashes", false);
	r->ranges = json_get_bool(j, "ranges", false);
	if (*prefix != '/' || !str_ends(prefix, "/") || !is_plain(prefix, "/-._") || strstr(prefix, "//"))
		return bad(e, "prefix must begin and end with a slash", prefix);
	code = read_upstream(json_get_str(j, "upstream", ""), r, e);
	if (code == 0)
		code = read_list(json_get(j, "methods"), "methods", seal_method_ok, &r->methods, e);
	if (code == 0)
		code = read_list(json_get(j, "paths"), "paths", seal_path_ok, &r->paths, e);
	if (code == 0)
		code = read_list(json_get(j, "redirects"), "redirects", host_ok, &r->redirects, e);
	if (code == 0)
		code = read_put(json_get(j, "credential"), r, e);
	if (code == 0 && (!r->methods.n || !r->paths.n))
		code = bad(e, "a route must have methods and paths", prefix);
	return code;
}

static int read_routes(const struct json *j, struct service *s, struct err *e)
{
	size_t i, at;

	if (json_len(j) == 0 || json_len(j) > SERVICE_ROUTES_MAX)
		return bad(e, "one to sixteen routes are wanted", "routes");
	for (i = 0; i < json_len(j); i++) {
		struct service_route one = { .prefix = NULL };
		int r = read_route(json_at(j, i), &one, e);

		for (at = 0; r == 0 && at < s->n_routes && strlen(s->routes[at].prefix) >= strlen(one.prefix); at++)
			if (str_eq(s->routes[at].prefix, one.prefix))
				r = bad(e, "two routes with one prefix", one.prefix);
		if (r < 0) {
			route_fini(&one);
			return r;
		}
		memmove(&s->routes[at + 1], &s->routes[at], (s->n_routes - at) * sizeof(one));
		s->routes[at] = one;
		s->n_routes++;
	}
	return 0;
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

struct vars {
	struct service_list *to;
	bool failed;
};

static int read_var(void *ctx, const char *key, const struct json *value)
{
	struct vars *v = ctx;
	AUTO(str_free) char *text = str_printf("%s=%s", key, json_text(value) ? json_text(value) : "\n");

	v->failed |= v->to->n == SERVICE_LIST_MAX || !var_ok(text);
	if (!v->failed)
		v->to->v[v->to->n++] = take(&text);
	return v->failed;
}

static bool rewrite_ok(const char *s)
{
	return str_starts(s, "https://") && strchr(s, '=') && is_printable(s);
}

/* Lines of a list, as text. */
static int read_lines(const struct json *j, const char *what, char **ret, struct err *e)
{
	struct service_list l = { .n = 0 };
	int r = read_list(j, what, is_printable, &l, e);
	size_t i;

	for (i = 0; r == 0 && i < l.n; i++) {
		char *all = str_printf("%s%s\n", *ret ? *ret : "", l.v[i]);

		str_free(ret);
		*ret = all;
	}
	list_fini(&l);
	return r;
}

static int read_git(const struct json *j, struct service *s, struct err *e)
{
	if (!j)
		return 0;
	s->git_from = must_strdup(json_get_str(j, "from", ""));
	s->git_prefix = must_strdup(json_get_str(j, "prefix", "/"));
	if (json_check(j, "from:s prefix:s", NULL) < 0 || !str_starts(s->git_from, "https://") ||
	    !str_ends(s->git_from, "/") || !is_plain(s->git_from, ":/-._") || *s->git_prefix != '/' ||
	    !str_ends(s->git_prefix, "/") || !is_plain(s->git_prefix, "/-._"))
		return bad(e, "git.from and git.prefix", s->git_from);
	return 0;
}

static int read_all(const struct json *j, struct service *s, char **ret_ca, struct err *e)
{
	struct vars vars = { .to = &s->vars };
	const char *ca = json_get_str(j, "ca", NULL);
	struct err why = ERR_NULL;
	int r;

	if (json_check(j,
		       "about:s secrets:as routes:ao private:b rules:b ca:s per-minute:u body-max:u answer-max:u "
		       "vars:os git:o "
		       "npmrc:as "
		       "pip:as rewrite:as",
		       &why) < 0)
		return bad(e, "service", why.text);
	s->private_ = json_get_bool(j, "private", false);
	s->leads = json_get_bool(j, "rules", false);
	s->per_minute = json_get_u64(j, "per-minute", 0);
	s->body_max = json_get_u64(j, "body-max", 0);
	s->answer_max = json_get_u64(j, "answer-max", 0);
	r = read_list(json_get(j, "secrets"), "secrets", secret_ok, &s->secrets, e);
	if (r == 0 && !s->secrets.n)
		r = bad(e, "a service must name secrets", "secrets");
	if (r == 0)
		r = read_routes(json_get(j, "routes"), s, e);
	if (r == 0 && json_each(json_get(j, "vars"), read_var, &vars) != 0)
		r = bad(e, "names and texts are wanted", "vars");
	if (r == 0)
		r = read_git(json_get(j, "git"), s, e);
	if (r == 0)
		r = read_lines(json_get(j, "npmrc"), "npmrc", &s->npmrc, e);
	if (r == 0)
		r = read_lines(json_get(j, "pip"), "pip", &s->pip, e);
	if (r == 0)
		r = read_list(json_get(j, "rewrite"), "rewrite", rewrite_ok, &s->rewrite, e);
	if (r == 0 && ca && (*ca != '/' || !is_printable(ca)))
		r = bad(e, "ca must be the path of a file", ca);
	if (r == 0)
		*ret_ca = must_strdup(ca);
	return r;
}

int service_parse(const char *name, struct span text, struct service **ret, char **ret_ca, struct err *e)
{
	AUTO(service_unref) struct service *s = NEW(struct service);
	AUTO(json_free) struct json *j = NULL;
	struct err why = ERR_NULL;
	int r;

	s->refs = 1;
	buf_init(&s->ca, 1024 * 1024);
	if (!str_is_id(name, SERVICE_NAME_MAX))
		return bad(e, "a service's name has a-z, 0-9 and dashes", name);
	(void)!str_copy(s->name, sizeof(s->name), name);
	if (text.len > SERVICE_FILE_MAX)
		return bad(e, "the file is too long", name);
	if (json_parse(text, &j, &why) < 0)
		return bad(e, "no JSON", why.text);
	r = read_all(j, s, ret_ca, e);
	if (r == 0)
		*ret = take(&s);
	return r;
}

struct service *service_rules(void)
{
	static const char text[] =
		"{\"secrets\":[\"*\"],\"routes\":[{\"upstream\":\"https://{host}/"
		"\",\"encoded-slashes\":true,\"ranges\":true,"
		"\"methods\":[\"GET\",\"HEAD\",\"POST\",\"PUT\",\"PATCH\",\"DELETE\",\"OPTIONS\"],\"paths\":[\"/**\"],"
		"\"credential\":{\"as\":\"none\"}}]}";
	struct service *s = NULL;
	char *ca = NULL;

	(void)!service_parse("rules", span_str(text), &s, &ca, NULL);
	str_free(&ca);
	return s;
}

/* --- paths -------------------------------------------------------------------------------------------------------- */

static int digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool is_dots(const char *s, size_t len)
{
	return (len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.');
}

/* Segments, also those that %2F makes, must not be empty or dots. A slash at the end is fine. */
static bool segments_ok(const char *s)
{
	while (*s == '/') {
		size_t len = strcspn(++s, "/"), at, part;

		if (len == 0)
			return !*s;
		for (at = 0; at <= len; at += part + 3) {
			for (part = 0; at + part < len && strncmp(s + at + part, "%2F", 3) != 0;)
				part++;
			if (part == 0 || is_dots(s + at, part))
				return false;
		}
		s += len;
	}
	return !*s;
}

char *service_path_clean(struct span raw, bool slashes)
{
	static const char digits[] = "0123456789ABCDEF", plain[] = "-._~!$&'()*+,=:@/";
	AUTO(str_free) char *to = must_calloc(raw.len + 1, 1);
	const char *p = raw.p;
	size_t i, n = 0;

	for (i = 0; i < raw.len; i++) {
		unsigned char c = (unsigned char)p[i];
		int hi = 0, lo = 0;

		if (c != '%') {
			if (!isalnum(c) && (!c || !strchr(plain, c)))
				return NULL;
			to[n++] = (char)c;
			continue;
		}
		if (raw.len - i < 3 || (hi = digit(p[i + 1])) < 0 || (lo = digit(p[i + 2])) < 0)
			return NULL;
		c = (unsigned char)(hi << 4 | lo);
		i += 2;
		/* A percent that is itself encoded would be decoded once more by somebody. */
		if (c < 0x20 || c == 0x7f || c == '\\' || c == '%' || (c == '/' && !slashes) || c == ';')
			return NULL;
		if (isalnum(c) || strchr("-._~", c)) {
			to[n++] = (char)c;
		} else {
			to[n++] = '%';
			to[n++] = digits[c >> 4];
			to[n++] = digits[c & 15];
		}
	}
	return *to == '/' && segments_ok(to) ? take(&to) : NULL;
}
