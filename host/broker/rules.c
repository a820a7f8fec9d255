/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/rules.h"

#include "base/str.h"
#include "json/json.h"
#include "seal/policy.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

#define BEGIN "${e2b.secrets."
#define OTHERS "${e2b."

static int bad(struct err *e, const char *host, const char *what, const char *word)
{
	return err_set(e, -EINVAL, "bad-rules", "rules: %.80s: %s: \"%.60s\"", host, what, word);
}

struct rules *rules_ref(struct rules *r)
{
	r->refs++;
	return r;
}

static void rule_fini(struct rule *r)
{
	while (r->n) {
		str_free(&r->v[--r->n].name);
		str_free(&r->v[r->n].value);
	}
	while (r->n_secrets)
		str_free(&r->secret[--r->n_secrets]);
	str_free(&r->host);
}

void rules_unref(struct rules **slot)
{
	struct rules *r = take(slot);

	if (!r || --r->refs)
		return;
	while (r->n)
		rule_fini(&r->v[--r->n]);
	free(r);
}

const struct rule *rules_find(const struct rules *r, const char *host)
{
	size_t i;

	for (i = 0; r && i < r->n; i++)
		if (str_eq(r->v[i].host, host))
			return &r->v[i];
	return NULL;
}

bool rule_piece(const char **rest, struct span *ret, bool *ret_secret)
{
	const char *p = *rest, *open = strstr(p, BEGIN), *shut = open ? strchr(open, '}') : NULL;

	*ret_secret = shut && open == p;
	if (*ret_secret) {
		*ret = SPAN(p + strlen(BEGIN), (size_t)(shut - p) - strlen(BEGIN));
		*rest = shut + 1;
	} else {
		*ret = SPAN(p, shut ? (size_t)(open - p) : strlen(p));
		*rest += ret->len;
	}
	return *p;
}

/* --- one value ---------------------------------------------------------------------------------------------------- */

static int add_secret(struct rule *r, struct span word, struct err *e)
{
	AUTO(str_free) char *name = span_dup(word);
	size_t i;
	char *p;

	for (p = name; *p; p++) {
		*p = (char)tolower((unsigned char)*p);
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_-.", *p))
			return bad(e, r->host, "no secret can be called", name);
	}
	if (!*name)
		return bad(e, r->host, "a placeholder must name a secret", BEGIN "}");
	for (i = 0; i < r->n_secrets; i++)
		if (str_eq(r->secret[i], name))
			return 0;
	if (r->n_secrets == RULE_SECRETS_MAX)
		return bad(e, r->host, "a rule uses eight secrets at most", name);
	r->secret[r->n_secrets++] = take(&name);
	return 0;
}

static int read_value(struct rule *r, const char *value, struct err *e)
{
	const char *rest = value, *p;
	struct span piece;
	bool secret;
	int code = 0;

	if (strlen(value) > RULE_VALUE_MAX)
		return bad(e, r->host, "a header's value has at most 2,048 bytes", value);
	for (p = value; *p; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return bad(e, r->host, "a header's value has control characters", "");
	while (code == 0 && rule_piece(&rest, &piece, &secret)) {
		AUTO(str_free) char *text = span_dup(piece);
		const char *other = strstr(text, OTHERS);

		if (secret)
			code = add_secret(r, piece, e);
		else if (other)
			code = bad(e, r->host, "of placeholders only " BEGIN "NAME} is known, not", other);
	}
	return code;
}

/* --- one host ----------------------------------------------------------------------------------------------------- */

struct reading {
	struct rules *all;
	struct rule *rule;
	struct err *e;
	int code;
};

static bool header_ok(const char *s)
{
	return *s && strlen(s) <= RULE_NAME_MAX && seal_header_ok(s) && strncasecmp(s, "proxy-", 6) != 0;
}

static int read_header(void *ctx, const char *key, const struct json *value)
{
	struct reading *x = ctx;
	struct rule *r = x->rule;
	size_t i;

	if (!json_text(value))
		x->code = bad(x->e, r->host, "a header's value is a string", key);
	else if (!header_ok(key))
		x->code = bad(x->e, r->host, "a rule cannot set the header", key);
	else if (r->n == RULE_HEADERS_MAX)
		x->code = bad(x->e, r->host, "a rule sets at most 20 headers", key);
	for (i = 0; x->code == 0 && i < r->n; i++)
		if (strcasecmp(r->v[i].name, key) == 0)
			x->code = bad(x->e, r->host, "a rule sets a header once", key);
	if (x->code == 0)
		x->code = read_value(r, json_text(value), x->e);
	if (x->code < 0)
		return -1;
	r->v[r->n++] = (struct rule_header){ must_strdup(key), must_strdup(json_text(value)) };
	return 0;
}

static int check_host(const char *host, struct err *e)
{
	const char *last = strrchr(host, '.');
	struct seal_policy any = { .name = "" };
	int r;

	if (strchr(host, '*'))
		return bad(e, host, "berth has rules for single hosts alone, none for patterns", host);
	last = last ? last + 1 : host;
	if (strchr(host, '[') || strchr(host, '/') || strspn(last, "0123456789") == strcspn(last, ":"))
		return bad(e, host, "rules are for names of hosts, none for addresses", host);
	r = seal_policy_add(&any, SEAL_HOST, host, NULL);
	seal_policy_fini(&any);
	return r < 0 ? bad(e, host, "no host can be called", host) : 0;
}

static int read_host(void *ctx, const char *key, const struct json *value)
{
	struct reading *x = ctx;
	struct err why = ERR_NULL;

	if (x->all->n == RULES_MAX)
		x->code = bad(x->e, key, "there are rules for at most ten hosts", key);
	else
		x->code = check_host(key, x->e);
	if (x->code == 0 && json_check(value, "headers:os off:b led:b", &why) < 0)
		x->code = bad(x->e, key, why.text, "");
	if (x->code < 0)
		return -1;
	x->rule = &x->all->v[x->all->n++];
	x->rule->host = must_strdup(key);
	x->rule->off = json_get_bool(value, "off", false);
	x->rule->led = json_get_bool(value, "led", false);
	(void)json_each(json_get(value, "headers"), read_header, x);
	return x->code;
}

int rules_parse(struct span text, struct rules **ret, struct err *e)
{
	AUTO(rules_unref) struct rules *all = NEW(struct rules);
	AUTO(json_free) struct json *j = NULL;
	struct reading x = { .all = all, .e = e };

	all->refs = 1;
	if (text.len > RULES_TEXT_MAX)
		return err_set(e, -EINVAL, "bad-rules", "rules have at most %d bytes", RULES_TEXT_MAX);
	if (!text.len || *(const char *)text.p != '{' || json_parse(text, &j, NULL) < 0)
		return err_set(e, -EINVAL, "bad-rules", "rules are an object of hosts");
	(void)json_each(j, read_host, &x);
	if (x.code < 0)
		return x.code;
	*ret = take(&all);
	return 0;
}
