/* SPDX-License-Identifier: Apache-2.0 */
/* Policies of services, paths, heads of requests, and rules of sandboxes: the first byte says which. What is taken
 * keeps what it promises. */
#include "host/broker/head.h"
#include "host/broker/rules.h"
#include "host/broker/service.h"

#include "base/str.h"
#include "seal/request.h"

#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void policy(struct span text)
{
	struct service *s = NULL;
	struct err e = ERR_NULL;
	char *ca = NULL;
	size_t i;

	if (service_parse("svc", text, &s, &ca, &e) < 0) {
		if (!str_eq(e.slug, "bad-service"))
			abort();
		return;
	}
	if (!s->n_routes || !s->secrets.n)
		abort();
	for (i = 0; i < s->n_routes; i++)
		if (!s->routes[i].methods.n || !s->routes[i].paths.n ||
		    (i && strlen(s->routes[i].prefix) > strlen(s->routes[i - 1].prefix)))
			abort();
	str_free(&ca);
	service_unref(&s);
}

static void path(struct span raw)
{
	AUTO(str_free) char *clean = service_path_clean(raw, false);
	AUTO(str_free) char *again = clean ? service_path_clean(span_str(clean), false) : NULL;
	AUTO(str_free) char *slashes = service_path_clean(raw, true);

	if (clean && (!str_eq(clean, again) || strstr(clean, "/../") || strstr(clean, "//") || str_ends(clean, "/..")))
		abort(); /* it is not the one form */
	if (clean && !str_eq(clean, slashes))
		abort();
	if (clean)
		(void)seal_path_matches("/a/*/b*c/**", clean);
}

static void request(struct span text)
{
	struct head *h = NEW(struct head);
	struct err e = ERR_NULL;
	ssize_t n = head_parse(text, h, &e);
	struct buf to;
	struct body b;
	size_t i;

	if (n > (ssize_t)text.len || (n < 0 && !*e.slug) || (n > 0 && h->chunked && h->has_length))
		abort();
	for (i = 0; n > 0 && i < h->n; i++)
		if (memchr(h->fields[i].value.p, '\n', h->fields[i].value.len) || !h->fields[i].name.len)
			abort();
	if (n > 0) {
		buf_init(&to, 64);
		body_init(&b, h);
		(void)!body_feed(&b, SPAN((const char *)text.p + n, text.len - (size_t)n), &to, &e);
		buf_fini(&to);
	}
	free(h);
}

/* The pieces of a value are all of it, and every placeholder is one that the rule knows. */
static void value(const struct rule *r, const char *text)
{
	const char *rest = text;
	struct span piece;
	size_t i, all = 0;
	bool secret;

	while (rule_piece(&rest, &piece, &secret)) {
		all += piece.len + (secret ? strlen("${e2b.secrets.}") : 0);
		for (i = 0; secret && i < r->n_secrets; i++)
			if (strlen(r->secret[i]) == piece.len && strncasecmp(r->secret[i], piece.p, piece.len) == 0)
				break;
		if (secret && i == r->n_secrets)
			abort();
	}
	if (all != strlen(text) || strchr(text, '\n') || strchr(text, '\r'))
		abort();
}

static void rules(struct span text)
{
	struct rules *all = NULL;
	struct err e = ERR_NULL;
	size_t i, k;

	if (rules_parse(text, &all, &e) < 0) {
		if (!str_eq(e.slug, "bad-rules"))
			abort();
		return;
	}
	for (i = 0; i < all->n; i++) {
		if (!all->v[i].host[0] || strpbrk(all->v[i].host, "/*@?# ") ||
		    rules_find(all, all->v[i].host) != &all->v[i])
			abort();
		for (k = 0; k < all->v[i].n; k++) {
			if (!all->v[i].v[k].name[0] || strpbrk(all->v[i].v[k].name, ": \r\n"))
				abort();
			value(&all->v[i], all->v[i].v[k].value);
		}
	}
	rules_unref(&all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(mem_free) uint8_t *copy = must_memdup(data, size); /* so that a read behind it is seen */
	struct span rest = SPAN(copy + 1, size ? size - 1 : 0);

	if (!size)
		return 0;
	if (copy[0] == 'r')
		request(rest);
	else if (copy[0] == 'p')
		path(rest);
	else if (copy[0] == 'u')
		rules(rest);
	else
		policy(SPAN(copy, size));
	return 0;
}
