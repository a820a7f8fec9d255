/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Their network.rules in ours (host/broker/rules.h): headers that are put on requests to a host. With them a program
 * inside reaches the host by the broker's name, and not by the host's own: what could not be done so is refused. Rules
 * let nobody reach more than the network does: one for a host that it does not allow is kept and does nothing.
 */
#include "host/api/e2b/e2b.h"

#include "base/str.h"
#include "host/broker/rules.h"
#include "host/net/network.h"
#include "host/net/policy.h"
#include "host/secret/secret.h"

#include <ctype.h>
#include <errno.h>

static int bad(struct err *e, const char *host, const char *what)
{
	return err_set(e, -EINVAL, "bad-rules", "rules: %.80s: %s", host, what);
}

struct reading {
	struct json_writer w;
	const struct policy *policy;
	bool has_network;
	struct err *e;
	int r;
};

static int put_text(void *ctx, const char *key, const struct json *value)
{
	jw_key(ctx, key);
	if (json_text(value))
		jw_str(ctx, span_str(json_text(value)));
	else
		jw_raw(ctx, span_str("null")); /* whoever reads it says what is wrong */
	return 0;
}

static int is_other(void *ctx, const char *key, const struct json *value)
{
	(void)value;
	return !str_eq(key, ctx);
}

/* [{"transform":{"headers":{…}}}] of one host. */
static int read_host(void *ctx, const char *key, const struct json *list)
{
	struct reading *x = ctx;
	const struct json *rule = json_at(list, 0), *transform = json_get(rule, "transform");
	AUTO(str_free) char *host = must_strdup(key);
	AUTO(str_free) char *name = NULL;
	char name_of_transform[] = "transform", name_of_headers[] = "headers", *p;
	struct err why = ERR_NULL;

	for (p = host; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (json_len(list) > 1)
		x->r = bad(x->e, host, "one rule at most");
	else if (json_len(list) == 0 && !json_is_empty(list))
		x->r = bad(x->e, host, "a list with one rule is wanted");
	else if (json_each(rule, is_other, name_of_transform))
		x->r = bad(x->e, host, "of a rule only transform is known");
	else if (json_each(transform, is_other, name_of_headers))
		x->r = bad(x->e, host, "of a transform only headers are known");
	else if (!json_is_empty(transform) && json_check(transform, "headers:os", &why) < 0)
		x->r = bad(x->e, host, why.text);
	if (x->r < 0)
		return -1;
	name = span_dup(SPAN(host, strcspn(host, ":")));
	jw_key(&x->w, host);
	jw_open(&x->w, '{');
	jw_key(&x->w, "headers");
	jw_open(&x->w, '{');
	(void)json_each(json_get(transform, "headers"), put_text, &x->w);
	jw_close(&x->w, '}');
	/* Where sandboxes have no network, the operator says what is reached all the same. */
	if (policy_name(x->policy, name) == POLICY_REFUSED || !x->has_network) {
		jw_key(&x->w, x->has_network || policy_name(x->policy, name) == POLICY_REFUSED ? "off" : "led");
		jw_bool(&x->w, true);
	}
	jw_close(&x->w, '}');
	return 0;
}

/* --- the secrets that they name ----------------------------------------------------------------------------------- */

struct search {
	const char *own, *word, *given; /* its name where it is the key's own; names that the sandbox was given */
	bool found;
};

static bool is_given(const char *given, const char *name)
{
	while (*given) {
		size_t len = strcspn(given, ",");

		if (strlen(name) == len && memcmp(given, name, len) == 0)
			return true;
		given += len + (given[len] == ',');
	}
	return false;
}

static int look(void *ctx, const struct secrets_info *info)
{
	const char *name = info->policy->name;
	struct search *s = ctx;

	s->found |= info->policy->delivery == SEAL_BROKER &&
		    (str_eq(name, s->own) || (strcasecmp(name, s->word) == 0 && is_given(s->given, name)));
	return s->found;
}

static int check_secrets(struct e2b *e2b, const char *owner, const char *given, const struct rules *all, struct err *e)
{
	char own[SEAL_NAME_MAX + 1];
	size_t i, k;

	for (i = 0; i < all->n; i++)
		for (k = 0; k < all->v[i].n_secrets; k++) {
			struct search s = { .own = own, .word = all->v[i].secret[k], .given = given };

			if (secrets_own_name(owner, s.word, own) == 0)
				secrets_each(e2b->secrets, look, &s);
			if (!s.found)
				return err_set(e, -EINVAL, "bad-rules", "rules: %.80s: secret '%.80s' not found",
					       all->v[i].host, s.word);
		}
	return 0;
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

int e2b_read_rules(struct e2b *e2b, const struct json *rules, const struct policy *p, struct e2b_egress *egress,
		   struct err *e)
{
	AUTO(rules_unref) struct rules *all = NULL;
	struct buf *to = &egress->text;
	struct reading x = { .w = { .b = to }, .policy = p, .has_network = network_has(e2b->network), .e = e };
	int r;

	if (json_is_empty(rules))
		return 0;
	jw_open(&x.w, '{');
	(void)json_each(rules, read_host, &x);
	jw_close(&x.w, '}');
	if (x.r < 0)
		return x.r;
	if (to->failed)
		return err_set(e, -EINVAL, "bad-rules", "rules have at most %d bytes", HUB_EGRESS_MAX);
	r = rules_parse(buf_span(to), &all, e);
	return r < 0 ? r : check_secrets(e2b, egress->owner, egress->given, all, e);
}

void e2b_put_rules(struct e2b *e2b, struct json_writer *w, const char *id)
{
	AUTO(rules_unref) struct rules *all = NULL;
	AUTO(buf_fini) struct buf text;
	size_t i, k;

	buf_init(&text, HUB_EGRESS_MAX + 1);
	if (hub_egress(e2b->hub, id, &text, NULL) < 0 || !buf_len(&text) ||
	    rules_parse(buf_span(&text), &all, NULL) < 0)
		return;
	jw_key(w, "rules");
	jw_open(w, '{');
	for (i = 0; i < all->n; i++) {
		jw_key(w, all->v[i].host);
		jw_open(w, '[');
		jw_open(w, '{');
		jw_key(w, "transform");
		jw_open(w, '{');
		jw_key(w, "headers");
		jw_open(w, '{');
		for (k = 0; k < all->v[i].n; k++)
			jw_kstr(w, all->v[i].v[k].name, all->v[i].v[k].value);
		jw_close(w, '}');
		jw_close(w, '}');
		jw_close(w, '}');
		jw_close(w, ']');
	}
	jw_close(w, '}');
}

void e2b_tell_rules(struct e2b *e2b, const char *id, void (*fn)(void *ctx, const char *line), void *ctx)
{
	AUTO(rules_unref) struct rules *all = NULL;
	AUTO(buf_fini) struct buf text;
	size_t i;

	buf_init(&text, HUB_EGRESS_MAX + 1);
	if (hub_egress(e2b->hub, id, &text, NULL) < 0 || !buf_len(&text) ||
	    rules_parse(buf_span(&text), &all, NULL) < 0)
		return;
	for (i = 0; i < all->n; i++) {
		AUTO(str_free)
		char *line =
			all->v[i].off
				? str_printf("network rule of %s: its network does not allow the host", all->v[i].host)
			: all->v[i].led
				? str_printf(
					  "network rule of %s: sandboxes have no network here; its headers are on "
					  "requests to http://berth.internal/rules/%s/, where the operator leads there",
					  all->v[i].host, all->v[i].host)
				: str_printf("network rule of %s: its headers are on requests to "
					     "http://berth.internal/rules/%s/, not on those that name the host",
					     all->v[i].host, all->v[i].host);

		fn(ctx, line);
	}
}
