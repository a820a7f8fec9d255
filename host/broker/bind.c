/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/ruled.h"

#include "base/clock.h"
#include "base/str.h"
#include "host/broker/weak.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

static int refuse(struct err *e, const char *rule, const char *what, const char *word)
{
	return err_set(e, -EACCES, rule, "%s: \"%.100s\"", what, word);
}

void bound_fini(struct bound *b)
{
	size_t i;

	service_unref(&b->service);
	service_unref(&b->reach);
	held_unref(&b->held);
	for (i = 0; i < ARRAY_LEN(b->more); i++)
		held_unref(&b->more[i]);
	mask_free(&b->joined);
	rules_unref(&b->rules);
	str_free(&b->host);
	str_free(&b->path);
	*b = BOUND_NULL;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a && b ? MIN(a, b) : MAX(a, b);
}

void bind_hold(struct bound *b, struct held *x)
{
	*(b->n_held ? &b->more[b->n_held - 1] : &b->held) = held_ref(x);
	b->n_held++;
	b->body_max = less(b->body_max, x->policy.body_max);
	b->answer_max = less(b->answer_max, x->policy.answer_max);
}

struct held *bind_held(const struct bound *b, size_t i)
{
	return i ? b->more[i - 1] : b->held;
}

int bind_values(struct hold *h, struct bound *b, struct err *e)
{
	struct mask *masks[RULE_SECRETS_MAX];
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < b->n_held; i++) {
		r = hold_value(h, bind_held(b, i), e);
		masks[i] = bind_held(b, i)->mask;
	}
	if (r == 0 && b->n_held > 1)
		r = mask_join(masks, b->n_held, &b->joined);
	if (r < 0)
		return e->code ? r : err_sys(e, r, "memory");
	b->mask = b->joined ? b->joined : b->n_held ? masks[0] : NULL;
	return 0;
}

static bool list_has(const struct service_list *l, const char *word)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (str_eq(l->v[i], word))
			return true;
	return false;
}

/* --- which secret ------------------------------------------------------------------------------------------------- */

static bool host_listed(const struct held *x, const char *host)
{
	size_t i;

	for (i = 0; i < x->policy.hosts.n; i++)
		if (seal_host_matches(x->policy.hosts.v[i], host))
			return true;
	return false;
}

static bool is_named(struct services *all, const struct service *s, const struct held *x)
{
	return broker_weak(BROKER_WEAK_BINDING) || list_has(&s->secrets, x->policy.name) ||
	       (list_has(&s->secrets, "*") && !services_claim(all, x->policy.name));
}

/* Is it one that the service means? Where the path says the host, the sealed file must name that host. */
static bool is_meant(const struct service_route *r, const struct held *x, const char *host)
{
	return r->host ||
	       (host ? host_listed(x, host) || seal_policy_any_host(&x->policy) : x->policy.hosts.n > 0);
}

/* Where no credential is sent, the sealed file's hosts are not asked; nor where no host is said yet. */
static const char *asked_host(const struct service_route *r, const struct held *x, const char *host)
{
	size_t i = seal_policy_any_host(&x->policy); /* which is no host */
	const char *any = i < x->policy.hosts.n ? x->policy.hosts.v[i] : "";

	return host && r->put != PUT_NONE && !broker_weak(BROKER_WEAK_HOSTS) ? host : any;
}

/* What a secret is looked for. */
struct wish {
	const struct say_who *who;
	const struct service *service;
	const struct service_route *route;
	const char *host; /* NULL: none is said yet */
	const char *method, *path; /* NULL: it is only asked what there is */
};

/* The header that a value would go into, NULL: none. Where the service is for any host, the sealed file says it. */
static void find_put(const struct service_route *r, const struct held *x, const char **ret_name,
		     const char **ret_prefix)
{
	bool own = r->put == PUT_HEADER && !r->host && x->policy.header[0];

	*ret_name = r->put == PUT_BEARER   ? "Authorization"
		    : own		   ? x->policy.header
		    : r->put == PUT_HEADER ? r->put_name
					   : NULL;
	*ret_prefix = r->put == PUT_BEARER ? "Bearer " : own ? x->policy.prefix : r->put_prefix;
}

static int scope_allows(const struct held *x, const struct wish *w, const char *host, struct err *e)
{
	const struct seal_use use = { .name = x->policy.name,
				      .template = w->who->template_,
				      .sandbox = w->who->sandbox,
				      .host = host,
				      .any = broker_weak(BROKER_WEAK_SCOPE) || !w->who->sandbox[0],
				      .now_ms = broker_weak(BROKER_WEAK_EXPIRED) ? 1
										 : (uint64_t)(clock_wall() / 1000000) };

	if (!w->who->sandbox[0] && !host_listed(x, host)) /* it is only asked what there is */
		return err_set(e, -EXDEV, "wrong-host", "it is not for %s", host);
	return seal_policy_allows(&x->policy, &use, e);
}

/* Does the sealed file allow it? */
static int allows(const struct held *x, const struct wish *w, struct err *e)
{
	const char *host = asked_host(w->route, x, w->host), *name, *prefix;
	struct err why = ERR_NULL;
	int r = scope_allows(x, w, host, &why);

	find_put(w->route, x, &name, &prefix);
	if (r == 0 && w->route->put != PUT_NONE)
		r = seal_policy_puts(&x->policy, name, prefix, &why);
	if (r == 0 && w->method)
		r = seal_policy_permits(&x->policy,
					broker_weak(BROKER_WEAK_METHOD) ? x->policy.methods.v[0] : w->method,
					broker_weak(BROKER_WEAK_PATH) ? x->policy.paths.v[0] : w->path, &why);
	return r < 0 ? err_set(e, -EACCES, why.slug, "secret %.64s: %.150s", x->policy.name, why.text) : 0;
}

/* *@ret is also the one that was meant, when that is clear and its file does not allow it. */
static int choose(struct hold *h, struct services *all, const struct wish *w, struct held **ret, struct err *e)
{
	struct held *meant = NULL, *may = NULL, *near = NULL;
	size_t n_meant = 0, n_may = 0, n_near = 0;
	const char *at = w->who->secrets;

	while (*at) {
		size_t len = strcspn(at, ",");
		AUTO(str_free) char *name = span_dup(SPAN(at, len));
		struct held *x = hold_find(h, name);

		at += len + (at[len] == ',');
		if (!x || !is_named(all, w->service, x))
			continue;
		if (!is_meant(w->route, x, w->host)) {
			near = x;
			n_near += w->host && x->policy.hosts.n;
			continue;
		}
		meant = x;
		n_meant++;
		if (allows(x, w, NULL) == 0) {
			may = x;
			n_may++;
		}
	}
	if (n_may > 1)
		return refuse(e, "ambiguous-secret", "this sandbox has more than one secret for", w->service->name);
	*ret = may ? may : n_meant == 1 ? meant : NULL;
	if (n_may == 0 && n_meant == 1)
		return allows(meant, w, e);
	if (n_may)
		return 0;
	if (n_meant || !n_near)
		return refuse(e, "no-secret", "this sandbox has no secret for", w->service->name);
	*ret = n_near == 1 ? near : NULL;
	return refuse(e, "wrong-host", "what this sandbox was given is for other hosts than", w->host);
}

/* --- which route -------------------------------------------------------------------------------------------------- */

static const struct service_route *find_route(const struct service *s, const char *path)
{
	size_t i;

	for (i = 0; i < s->n_routes; i++)
		if (str_starts(path, s->routes[i].prefix))
			return &s->routes[i];
	return NULL;
}

static bool path_allowed(const struct service_route *r, const char *path)
{
	size_t i;

	for (i = 0; i < r->paths.n; i++)
		if (seal_path_matches(r->paths.v[i], path))
			return true;
	return false;
}

/* Take the host from the front of *@rest, when the path says it. */
static int find_host(const struct service_route *r, const char **rest, char **ret, struct err *e)
{
	size_t len;
	const char *p;

	if (r->host) {
		*ret = must_strdup(r->host);
		return 0;
	}
	len = strcspn(*rest + 1, "/");
	*ret = span_dup(SPAN(*rest + 1, len));
	*rest += 1 + len;
	for (p = *ret; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-.:", *p))
			return refuse(e, "host", "no host is called", *ret);
	return **ret && **ret != '.' ? 0 : refuse(e, "host", "the path must begin with a host", *ret);
}

static int find_service(struct services *all, struct span path, struct bound *ret, struct span *ret_rest, struct err *e)
{
	const char *p = path.p, *slash = path.len > 1 ? memchr(p + 1, '/', path.len - 1) : NULL;
	size_t len = slash ? (size_t)(slash - p) - 1 : path.len ? path.len - 1 : 0;
	AUTO(str_free) char *name = span_dup(SPAN(path.len ? p + 1 : "", len));
	const struct service *s;
	bool broken;

	services_look(all);
	*ret_rest = slash ? SPAN(slash, path.len - 1 - len) : span_str("/");
	s = services_find(all, name, &broken);
	if (!s)
		return refuse(e, broken ? "service-broken" : "no-such-service",
			      broken ? "its policy cannot be used" : "no service is called", name);
	ret->service = service_ref(s);
	return 0;
}

static void note_held(struct bound *b, struct held *x)
{
	bind_hold(b, x);
	find_put(b->route, x, &b->put_name, &b->put_prefix);
}

int bind_request(struct hold *h, struct services *all, const struct ruled *ruled, const struct say_who *who,
		 const char *method, struct span path, struct bound *ret, struct err *e)
{
	AUTO(str_free) char *clean = NULL;
	struct held *x = NULL;
	struct wish w;
	struct span rest;
	const char *behind;
	int r = find_service(all, path, ret, &rest, e);

	if (r < 0)
		return r;
	clean = broker_weak(BROKER_WEAK_PATH) ? span_dup(rest) : service_path_clean(rest, true);
	ret->route = clean ? find_route(ret->service, clean) : NULL;
	if (clean && !ret->route)
		return refuse(e, "no-route", "this service has nothing below", clean);
	if (!clean || (!ret->route->slashes && strstr(clean, "%2F")))
		return refuse(e, "path-form",
			      "a path without empty or dotted segments, and without encoded slashes is wanted",
			      ret->service->name);
	behind = clean + strlen(ret->route->prefix) - 1;
	r = find_host(ret->route, &behind, &ret->host, e);
	if (r == 0)
		ret->path = str_printf("%.*s%s", (int)strlen(ret->route->base) - 1, ret->route->base, behind);
	if (r == 0 && !list_has(&ret->route->methods, method) && !broker_weak(BROKER_WEAK_METHOD))
		r = refuse(e, "method", "this service does not allow", method);
	if (r == 0 && !path_allowed(ret->route, behind) && !broker_weak(BROKER_WEAK_PATH))
		r = refuse(e, "path", "this service does not allow", behind);
	if (r < 0)
		return r;
	ret->body_max = ret->service->body_max;
	ret->answer_max = ret->service->answer_max;
	ret->reach = service_ref(ret->service);
	if (str_eq(ret->service->name, RULES_SERVICE))
		return ruled_bind(h, all, ruled, who, method, ret, e);
	w = (struct wish){ who, ret->service, ret->route, ret->host, method, ret->path };
	r = choose(h, all, &w, &x, e);
	if (x)
		note_held(ret, x);
	return r;
}

struct held *bind_for(struct hold *h, struct services *all, const struct say_who *who, const struct service *s)
{
	struct held *x;
	size_t i;

	for (i = 0; i < s->n_routes; i++) {
		const struct wish w = { who, s, &s->routes[i], s->routes[i].host, NULL, NULL };

		if (choose(h, all, &w, &x, NULL) == 0)
			return x;
	}
	return NULL;
}

/* --- and back ----------------------------------------------------------------------------------------------------- */

/* Of the hosts that rules of this sandbox name. */
static char *place_by_rule(struct services *services, const struct rules *rules, struct span url)
{
	const char *p = url.p, *end = p + url.len, *host = p + strlen("https://");
	const struct rule *rule;
	AUTO(str_free) char *name = NULL;
	size_t len = 0;

	if (url.len <= strlen("https://") || strncasecmp(p, "https://", strlen("https://")) != 0)
		return NULL;
	while (host + len < end && !strchr("/?#\\@", host[len]))
		len++;
	name = span_dup(SPAN(host, len));
	rule = host + len == end || host[len] == '/' || host[len] == '?' ? rules_find(rules, name) : NULL;
	return rule && ruled_allows(services, rule) ? str_printf("http://berth.internal/" RULES_SERVICE "/%s%.*s", name,
					       (int)(end - host - (ptrdiff_t)len), host + len)
				  : NULL;
}

char *bind_place(const struct bound *b, struct span url)
{
	const struct service *s = b->service;
	const char *p = url.p;
	size_t i;

	if (b->rules)
		return place_by_rule(b->services, b->rules, url);
	for (i = 0; i < s->n_routes; i++) {
		const struct service_route *r = &s->routes[i];
		AUTO(str_free) char *base = r->host ? str_printf("https://%s%s", r->host, r->base) : NULL;
		size_t len = base ? strlen(base) : 0;

		/* "https://host" alone is the root. */
		if (base && url.len >= len && strncasecmp(p, base, strlen("https://") + strlen(r->host)) == 0 &&
		    memcmp(p + len - strlen(r->base), r->base, strlen(r->base)) == 0)
			return str_printf("http://berth.internal/%s%s%.*s", s->name, r->prefix, (int)(url.len - len),
					  p + len);
	}
	return NULL;
}
