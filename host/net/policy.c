/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is said twice is kept once; bits of a range behind its length are cleared. */
#include "host/net/policy.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void list_fini(struct policy_list *l)
{
	size_t i;

	for (i = 0; i < l->n_names; i++)
		free(l->names[i]);
	free(l->names);
	free(l->prefixes);
	*l = (struct policy_list){ .n_names = 0 };
}

void policy_fini(struct policy *p)
{
	list_fini(&p->allow);
	list_fini(&p->deny);
	policy_drop_proxy(p);
	p->internet = false;
}

static void list_copy(struct policy_list *to, const struct policy_list *from)
{
	size_t i;

	*to = (struct policy_list){ .n_names = from->n_names, .n_prefixes = from->n_prefixes };
	to->names = must_calloc(from->n_names + 1, sizeof(*to->names));
	for (i = 0; i < from->n_names; i++)
		to->names[i] = must_strdup(from->names[i]);
	to->prefixes = must_calloc(from->n_prefixes + 1, sizeof(*to->prefixes));
	if (from->n_prefixes)
		memcpy(to->prefixes, from->prefixes, from->n_prefixes * sizeof(*to->prefixes));
}

void policy_copy(struct policy *to, const struct policy *from)
{
	to->internet = from->internet;
	list_copy(&to->allow, &from->allow);
	list_copy(&to->deny, &from->deny);
	to->proxy = NULL;
	policy_copy_proxy(to, from->proxy);
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

int policy_prefix(const char *text, struct priv_prefix *ret)
{
	AUTO(str_free) char *copy = must_strdup(text);
	char *slash = strchr(copy, '/');
	struct priv_prefix p = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };
	uint64_t whole = p.family == AF_INET ? 32 : 128, len = whole;
	size_t i;

	if (slash)
		*slash = '\0';
	if (inet_pton(p.family, copy, p.addr) != 1 || (slash && num_u64(slash + 1, whole, &len) < 0))
		return -EINVAL;
	p.len = (uint8_t)len;
	for (i = 0; i < sizeof(p.addr); i++)
		if (i * 8 >= len)
			p.addr[i] = 0;
		else if (i * 8 + 8 > len)
			p.addr[i] &= (uint8_t)(0xff00U >> (len - i * 8));
	*ret = p;
	return 0;
}

/* Letters, digits, hyphens and underscores between dots; the last part is no number, or it was meant as an address. */
bool policy_name_ok(const char *name)
{
	const char *last = strrchr(name, '.');
	size_t len, all = strlen(name);

	if (all == 0 || all > POLICY_NAME_MAX || isdigit((unsigned char)*(last ? last + 1 : name)))
		return false;
	for (; *name; name += len + (name[len] == '.')) {
		len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_");
		if (len == 0 || len > 63 || (name[len] && name[len] != '.') || (name[len] == '.' && !name[len + 1]))
			return false;
	}
	return true;
}

static int add_name(struct policy_list *l, const char *text, struct err *e)
{
	AUTO(str_free) char *name = must_strdup(text);
	size_t len = strlen(name), i;

	for (i = 0; i < len; i++)
		name[i] = (char)tolower((unsigned char)name[i]);
	if (len && name[len - 1] == '.')
		name[len - 1] = '\0';
	if (!policy_name_ok(str_starts(name, "*.") ? name + 2 : name))
		return err_set(e, -EINVAL, "bad-network",
			       "\"%.80s\" is no address, range, name or *.name", text);
	for (i = 0; i < l->n_names; i++)
		if (str_eq(l->names[i], name))
			return 0;
	if (l->n_names == POLICY_NAMES_MAX)
		return err_set(e, -E2BIG, "limit", "at most %d names in a list", (int)POLICY_NAMES_MAX);
	l->names = realloc(l->names, (l->n_names + 1) * sizeof(*l->names));
	if (!l->names)
		abort();
	l->names[l->n_names++] = take(&name);
	return 0;
}

static int add_prefix(struct policy_list *l, const struct priv_prefix *p, struct err *e)
{
	size_t i;

	for (i = 0; i < l->n_prefixes; i++)
		if (memcmp(&l->prefixes[i], p, sizeof(*p)) == 0)
			return 0;
	if (l->n_prefixes == PRIV_NET_RULES_MAX)
		return err_set(e, -E2BIG, "limit", "at most %d addresses and ranges in a list",
			       (int)PRIV_NET_RULES_MAX);
	l->prefixes = realloc(l->prefixes, (l->n_prefixes + 1) * sizeof(*l->prefixes));
	if (!l->prefixes)
		abort();
	l->prefixes[l->n_prefixes++] = *p;
	return 0;
}

static bool is_within(const struct priv_prefix *p, const struct priv_prefix *outer)
{
	size_t whole = outer->len / 8;
	unsigned rest = outer->len % 8;

	return p->family == outer->family && p->len >= outer->len && memcmp(p->addr, outer->addr, whole) == 0 &&
	       (rest == 0 || (p->addr[whole] ^ outer->addr[whole]) >> (8 - rest) == 0);
}

bool policy_covers(const struct policy_list *l, const struct priv_prefix *p)
{
	size_t i;

	for (i = 0; i < l->n_prefixes; i++)
		if (is_within(p, &l->prefixes[i]))
			return true;
	return false;
}

bool policy_is_private(const struct priv_prefix *p, const struct policy_private *may)
{
	size_t i;

	for (i = 0; may && i < may->n; i++)
		if (is_within(p, &may->v[i]))
			return false;
	return priv_net_fenced(p);
}

int policy_allow(struct policy *p, const char *what, const struct policy_private *may, struct err *e)
{
	struct priv_prefix prefix;

	if (policy_prefix(what, &prefix) < 0)
		return add_name(&p->allow, what, e);
	if (policy_is_private(&prefix, may))
		return err_set(e, -EPERM, "network-private",
			       "%.60s is not of the internet: the operator may let it be allowed (network.private)",
			       what);
	return add_prefix(&p->allow, &prefix, e);
}

int policy_deny(struct policy *p, const char *what, struct err *e)
{
	struct priv_prefix prefix;

	if (policy_prefix(what, &prefix) < 0)
		return add_name(&p->deny, what, e);
	if (prefix.len == 0)
		p->internet = false;
	return prefix.len == 0 ? 0 : add_prefix(&p->deny, &prefix, e);
}

/* --- as text ------------------------------------------------------------------------------------------------------ */

void policy_each(const struct policy_list *l, void (*fn)(void *ctx, const char *entry), void *ctx)
{
	char addr[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 8];
	size_t i;

	for (i = 0; i < l->n_prefixes; i++) {
		const struct priv_prefix *p = &l->prefixes[i];

		inet_ntop(p->family, p->addr, addr, sizeof(addr));
		if (p->len == (p->family == AF_INET ? 32 : 128))
			snprintf(text, sizeof(text), "%s", addr);
		else
			snprintf(text, sizeof(text), "%s/%u", addr, p->len);
		fn(ctx, text);
	}
	for (i = 0; i < l->n_names; i++)
		fn(ctx, l->names[i]);
}

struct line {
	struct buf *to;
	char sign;
};

static void put_entry(void *ctx, const char *entry)
{
	struct line *l = ctx;

	buf_printf(l->to, " %c%s", l->sign, entry);
}

void policy_put(const struct policy *p, struct buf *to)
{
	struct line l = { .to = to, .sign = '+' };

	buf_printf(to, "%s", p->internet ? "on" : "off");
	policy_each(&p->allow, put_entry, &l);
	l.sign = '-';
	policy_each(&p->deny, put_entry, &l);
}

/* It was checked when it was written; what the operator lets be allowed may have changed since, and the filter knows.
 */
void policy_get(struct policy *p, const char *line)
{
	AUTO(str_free) char *copy = must_strdup(line);
	char *word, *save = NULL;

	*p = POLICY_NULL;
	for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		struct policy_list *l = *word == '+' ? &p->allow : &p->deny;
		struct priv_prefix prefix;

		if (str_eq(word, "on"))
			p->internet = true;
		if (*word != '+' && *word != '-')
			continue;
		if (policy_prefix(word + 1, &prefix) == 0)
			(void)!add_prefix(l, &prefix, NULL);
		else
			(void)!add_name(l, word + 1, NULL);
	}
}

/* --- for the filter ----------------------------------------------------------------------------------------------- */

static uint32_t mix(uint32_t h, const char *s)
{
	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 16777619U;
	return (h ^ 0xff) * 16777619U;
}

void policy_compile(const struct policy *p, uint32_t range, const char *id, struct priv_net_policy *ret)
{
	uint32_t h = mix(2166136261U, id);
	size_t i;

	for (i = 0; i < p->allow.n_names; i++)
		h = mix(h, p->allow.names[i]);
	*ret = (struct priv_net_policy){ .range = range,
					 .open = p->internet,
					 .proxied = p->proxy != NULL,
					 .tag = h | 1,
					 .n_allow = (uint32_t)p->allow.n_prefixes,
					 .n_deny = (uint32_t)p->deny.n_prefixes };
	if (ret->n_allow)
		memcpy(ret->allow, p->allow.prefixes, ret->n_allow * sizeof(*ret->allow));
	if (ret->n_deny)
		memcpy(ret->deny, p->deny.prefixes, ret->n_deny * sizeof(*ret->deny));
}

static bool has_name(const struct policy_list *l, const char *name)
{
	size_t i;

	for (i = 0; i < l->n_names; i++)
		if (l->names[i][0] == '*' ? str_ends(name, l->names[i] + 1) : str_eq(name, l->names[i]))
			return true;
	return false;
}

enum policy_verdict policy_name(const struct policy *p, const char *name)
{
	if (has_name(&p->allow, name))
		return POLICY_ALLOWED;
	return p->internet && !has_name(&p->deny, name) ? POLICY_OPEN : POLICY_REFUSED;
}
