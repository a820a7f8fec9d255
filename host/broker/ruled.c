/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule says which secrets it means by words. A word is a secret that the sandbox's key made for itself, or else one
 * that the sandbox was given; nobody else's can be said. Whether it may go to the host is asked of the sealed file: "*"
 * there is whatever a rule names, so that for these alone the daemon is believed.
 */
#include "host/broker/ruled.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"

#include <errno.h>
#include <strings.h>

enum { PIECES_MAX = 512 };

struct ruled {
	struct map all; /* struct rules, by sandbox */
};

struct ruled *ruled_new(void)
{
	return NEW(struct ruled);
}

void ruled_free(struct ruled **slot)
{
	struct ruled *all = take(slot);
	struct rules *r;

	if (!all)
		return;
	while ((r = map_take_any(&all->all)))
		rules_unref(&r);
	map_fini(&all->all);
	free(all);
}

int ruled_set(struct ruled *all, const char *sandbox, struct span text, struct err *e)
{
	struct rules *now = NULL, *old;

	if (text.len && all->all.len >= RULED_MAX && !ruled_of(all, sandbox))
		return err_set(e, -EUSERS, "too-many-rules", "too many sandboxes have rules");
	if (text.len && rules_parse(text, &now, e) < 0)
		return -EINVAL;
	old = now ? map_put(&all->all, span_str(sandbox), now) : map_remove(&all->all, span_str(sandbox));
	rules_unref(&old);
	return 0;
}

struct rules *ruled_of(const struct ruled *all, const char *sandbox)
{
	return map_get(&all->all, span_str(sandbox));
}

bool ruled_allows(struct services *services, const struct rule *r)
{
	return !r->off && (!r->led || services_leading(services, r->host));
}

/* --- a request ---------------------------------------------------------------------------------------------------- */

static int refuse(struct err *e, const char *rule, const char *what, const char *word)
{
	return err_set(e, -EACCES, rule, "%s: \"%.100s\"", what, word);
}

static int resolve(struct hold *h, const struct say_who *who, const char *word, struct held **ret, struct err *e)
{
	AUTO(str_free) char *own = str_printf(SEAL_OWN_NAME, who->key, word);
	struct held *given = NULL, *x;
	const char *at = who->secrets;
	size_t n = 0;

	*ret = hold_find(h, own);
	while (!*ret && *at) {
		size_t len = strcspn(at, ",");
		AUTO(str_free) char *name = span_dup(SPAN(at, len));

		at += len + (at[len] == ',');
		x = strcasecmp(name, word) == 0 ? hold_find(h, name) : NULL;
		if (!x)
			continue;
		given = x;
		n++;
	}
	if (n > 1)
		return refuse(e, "ambiguous-secret", "this sandbox was given more than one secret that is called",
			      word);
	if (n)
		*ret = given;
	return *ret ? 0 : refuse(e, "no-secret", "the rule for this host names a secret that is not there", word);
}

/* Every header that has this one in it. */
static int check_puts(const struct bound *b, const char *word, const struct seal_policy *p, struct err *e)
{
	size_t i;
	int r = 0;

	for (i = 0; i < b->rule->n && r == 0; i++) {
		const char *rest = b->rule->v[i].value;
		AUTO(str_free) char *before = must_strdup("");
		struct span piece;
		bool secret;

		while (r == 0 && rule_piece(&rest, &piece, &secret)) {
			AUTO(str_free) char *text = span_dup(piece);

			/* A header that was sealed has the value at its end, behind what was sealed. */
			if (secret && strcasecmp(text, word) == 0)
				r = seal_policy_puts(p, *rest ? NULL : b->rule->v[i].name, before, e);
			str_free(&before);
			before = must_strdup(secret ? "" : text);
		}
	}
	return r;
}

static int check(const struct say_who *who, const char *method, const struct bound *b, const char *word,
		 const struct held *x, struct err *e)
{
	const struct seal_use use = { .name = x->policy.name,
				      .template = who->template_,
				      .sandbox = who->sandbox,
				      .host = b->host,
				      .ruled = true,
				      .now_ms = (uint64_t)(clock_wall() / 1000000) };
	struct err why = ERR_NULL;
	int r = seal_policy_allows(&x->policy, &use, &why);

	if (r == 0)
		r = seal_policy_permits(&x->policy, method, b->path, &why);
	if (r == 0)
		r = check_puts(b, word, &x->policy, &why);
	return r < 0 ? err_set(e, -EACCES, why.slug, "secret %.64s: %.150s", x->policy.name, why.text) : 0;
}

int ruled_bind(struct hold *h, struct services *services, const struct ruled *all, const struct say_who *who,
	       const char *method, struct bound *b, struct err *e)
{
	struct rules *rules = ruled_of(all, who->sandbox);
	const struct service *leads = services_leading(services, b->host);
	size_t i;
	int r = 0;

	b->rule = rules_find(rules, b->host);
	if (!b->rule)
		return refuse(e, "no-rule", "no rule of this sandbox names the host", b->host);
	b->rules = rules_ref(rules);
	b->services = services;
	if (!ruled_allows(services, b->rule))
		return refuse(e, "network", "the network of this sandbox does not allow", b->host);
	if (leads) {
		service_unref(&b->reach);
		b->reach = service_ref(leads);
	}
	for (i = 0; r == 0 && i < b->rule->n_secrets; i++) {
		struct held *x;

		r = resolve(h, who, b->rule->secret[i], &x, e);
		if (r < 0)
			break;
		bind_hold(b, x);
		r = check(who, method, b, b->rule->secret[i], x, e);
	}
	return r;
}

/* --- its headers -------------------------------------------------------------------------------------------------- */

/* The value that a placeholder stands for. */
static struct span value_of(const struct bound *b, struct span word, const struct span *values)
{
	size_t i;

	for (i = 0; i < b->rule->n_secrets; i++)
		if (strlen(b->rule->secret[i]) == word.len && strncasecmp(b->rule->secret[i], word.p, word.len) == 0)
			return values[i];
	return SPAN_NULL;
}

static int put_one(const struct bound *b, const struct rule_header *x, const struct span *values,
		   int (*add)(void *ctx, const struct span *v, size_t n), void *ctx)
{
	struct span v[PIECES_MAX] = { span_str(x->name), span_str(": ") }, piece;
	const char *rest = x->value;
	size_t n = 2, all = 0;
	bool secret;

	while (rule_piece(&rest, &piece, &secret)) {
		if (n == PIECES_MAX)
			return -E2BIG;
		v[n] = secret ? value_of(b, piece, values) : piece;
		all += v[n++].len;
	}
	if (!all)
		v[1] = span_str(";"); /* an empty one, as libcurl wants it */
	return all > RULE_FULL_MAX ? -E2BIG : add(ctx, v, n);
}

int ruled_headers(const struct bound *b, int (*add)(void *ctx, const struct span *v, size_t n), void *ctx)
{
	struct span values[RULE_SECRETS_MAX];
	size_t i;
	int r = 0;

	for (i = 0; i < b->n_held; i++)
		values[i] = SPAN(secret_use(bind_held(b, i)->value), secret_len(bind_held(b, i)->value));
	for (i = 0; r == 0 && i < b->rule->n; i++)
		r = put_one(b, &b->rule->v[i], values, add, ctx);
	for (i = 0; i < b->n_held; i++)
		secret_rest(bind_held(b, i)->value);
	return r;
}
