/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox is told: the services that it has a secret for, and for each host that its rules name where that is.
 * Of a host that ready services lead to, the variables that programs know them by come along, led to the rule.
 */
#include "host/broker/ruled.h"

#include "base/str.h"
#include "json/json.h"

#define BASE "{base}"
#define HERE "http://berth.internal/"

enum { TEXT_MAX = 256 * 1024 };

/* How texts of a service are filled. */
struct filler {
	const struct service *service;
	const char *host; /* it is by a rule for this one; NULL: it is the service itself */
};

/* Where "{base}/v1" of a service is by the rule. Return: false: not at this host. */
static bool put_place(const struct filler *f, struct span behind, struct buf *to)
{
	AUTO(str_free) char *path = str_printf("%.*s", (int)behind.len, (const char *)behind.p);
	bool slash = str_ends(path, "/");
	AUTO(str_free) char *whole = str_printf("%s%s", path, slash ? "" : "/");
	const struct service *s = f->service;
	size_t i;

	if (!f->host) {
		buf_printf(to, HERE "%s%s", s->name, path);
		return true;
	}
	for (i = 0; i < s->n_routes; i++) {
		const struct service_route *r = &s->routes[i];

		if (!str_starts(whole, r->prefix))
			continue;
		if (!str_eq(r->host, f->host))
			return false;
		buf_printf(to, HERE RULES_SERVICE "/%s%s%s", f->host, r->base, whole + strlen(r->prefix));
		if (!slash) /* as it was written */
			to->end--;
		return true;
	}
	return false;
}

/* "{base}" and what is behind it become a URL. *@ret_led: there was one. Return: on the heap; NULL: not at this host.
 */
static char *fill(const struct filler *f, const char *text, bool *ret_led)
{
	AUTO(buf_fini) struct buf b;
	const char *at;

	buf_init(&b, TEXT_MAX);
	*ret_led = false;
	while ((at = strstr(text, BASE))) {
		const char *behind = at + strlen(BASE);
		size_t len = strcspn(behind, " \t\n,;\"'");

		*ret_led = true;
		buf_append(&b, text, (size_t)(at - text));
		if (!put_place(f, SPAN(behind, len), &b))
			return NULL;
		text = behind + len;
	}
	buf_append(&b, text, strlen(text));
	return must_strdup(buf_str(&b));
}

static void put_text(struct json_writer *w, const struct filler *f, const char *key, const char *text)
{
	bool led = false;
	AUTO(str_free) char *full = text ? fill(f, text, &led) : NULL;

	if (full && (led || !f->host))
		jw_kstr(w, key, full);
}

static bool put_var(struct json_writer *w, const struct filler *f, const char *text, bool wants_led)
{
	bool led;
	AUTO(str_free) char *full = fill(f, text, &led);
	char *equal = full ? strchr(full, '=') : NULL;

	if (!equal || (f->host && led != wants_led))
		return false;
	*equal = '\0';
	jw_open(w, '{');
	jw_kstr(w, "name", full);
	jw_kstr(w, "value", equal + 1);
	jw_close(w, '}');
	return true;
}

/* By a rule, words in the place of keys are of use only beside an address. */
static void put_vars(struct json_writer *w, const struct filler *f)
{
	const struct service_list *vars = &f->service->vars;
	bool led = false;
	size_t i;

	for (i = 0; i < vars->n; i++)
		led |= put_var(w, f, vars->v[i], true);
	for (i = 0; f->host && led && i < vars->n; i++)
		put_var(w, f, vars->v[i], false);
}

static void put_texts(struct json_writer *w, const struct filler *f)
{
	const struct service *s = f->service;
	AUTO(str_free) char *git = s->git_from ? str_printf(BASE "%s", s->git_prefix) : NULL;
	bool led;
	AUTO(str_free) char *there = git ? fill(f, git, &led) : NULL;

	if (there) {
		jw_kstr(w, "git_from", s->git_from);
		jw_kstr(w, "git_to", there);
	}
	put_text(w, f, "npmrc", s->npmrc);
	put_text(w, f, "pip", s->pip);
}

static void put_service(struct json_writer *w, const struct service *s, const struct held *x)
{
	const struct filler f = { .service = s };

	jw_open(w, '{');
	jw_kstr(w, "name", s->name);
	jw_kstr(w, "secret", x->policy.name);
	jw_key(w, "vars");
	jw_open(w, '[');
	put_vars(w, &f);
	jw_close(w, ']');
	put_texts(w, &f);
	jw_close(w, '}');
}

static bool has_host(const struct service *s, const char *host)
{
	size_t i;

	for (i = 0; s && i < s->n_routes; i++)
		if (str_eq(s->routes[i].host, host))
			return true;
	return false;
}

/* The first service of that host says more than its variables. */
static void put_rule(struct json_writer *w, struct services *all, const struct rule *r)
{
	AUTO(str_free) char *name = str_printf(RULES_SERVICE "/%s", r->host);
	const struct service *s, *first = NULL;
	bool end = false;
	size_t i;

	jw_open(w, '{');
	jw_kstr(w, "name", name);
	jw_kstr(w, "secret", "");
	jw_key(w, "vars");
	jw_open(w, '[');
	for (i = 0; s = services_at(all, i, &end), !end; i++) {
		const struct filler f = { s, r->host };

		if (!has_host(s, r->host))
			continue;
		first = first ? first : s;
		put_vars(w, &f);
	}
	jw_close(w, ']');
	if (first)
		put_texts(w, &(struct filler){ first, r->host });
	jw_close(w, '}');
}

void offer_list(struct hold *h, struct services *all, const struct ruled *ruled, const struct say_who *who,
		struct buf *to)
{
	const struct rules *rules = ruled_of(ruled, who->sandbox);
	struct json_writer w = { .b = to };
	const struct service *s;
	struct held *x;
	size_t i;
	bool end;

	services_look(all);
	jw_open(&w, '[');
	for (i = 0; s = services_at(all, i, &end), !end; i++) {
		x = s ? bind_for(h, all, who, s) : NULL;
		if (x)
			put_service(&w, s, x);
	}
	for (i = 0; rules && i < rules->n; i++)
		if (ruled_allows(all, &rules->v[i]))
			put_rule(&w, all, &rules->v[i]);
	jw_close(&w, ']');
}
