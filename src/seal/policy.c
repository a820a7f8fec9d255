/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a policy and its rules. Everything is checked here both before sealing and after reading, by the same code.
 */
#include "seal/policy.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool seal_name_ok(const char *name)
{
	size_t i, len = strlen(name);

	if (len < 1 || len > SEAL_NAME_MAX || name[0] == '-' || name[0] == '.' || (name[0] >= '0' && name[0] <= '9'))
		return false;
	for (i = 0; i < len; i++)
		if (!is_alnum(name[i]) && !strchr("_-.", name[i]))
			return false;
	return true;
}

/* Labels of lower-case letters, digits and inner hyphens, joined by dots. */
static bool labels_ok(const char *s, size_t len)
{
	size_t i, label = 0;

	if (len < 1 || len > 253)
		return false;
	for (i = 0; i < len; i++) {
		bool edge = i == 0 || s[i - 1] == '.' || i + 1 == len || s[i + 1] == '.';

		if (s[i] == '.') {
			if (label == 0 || i + 1 == len)
				return false;
			label = 0;
			continue;
		}
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || (s[i] == '-' && !edge)))
			return false;
		if (++label > 63)
			return false;
	}
	return true;
}

static bool host_ok(const char *s)
{
	const char *colon = strchr(s, ':');
	size_t len = colon ? (size_t)(colon - s) : strlen(s);
	uint64_t port;

	if (colon && (num_u64(colon + 1, 65535, &port) < 0 || port < 1 || colon[1] == '0' || port == 443))
		return false;
	if (str_eq(s, "*"))
		return true;
	if (len > 2 && s[0] == '*' && s[1] == '.') {
		s += 2;
		len -= 2;
	}
	return labels_ok(s, len);
}

static bool owner_ok(const char *s)
{
	size_t i;

	for (i = 0; s[i]; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || s[i] == '_' ||
		      (i && ((s[i] >= '0' && s[i] <= '9') || s[i] == '-'))))
			return false;
	return i <= SEAL_OWNER_MAX;
}

static struct seal_list *list_of(struct seal_policy *p, enum seal_scope kind)
{
	switch (kind) {
	case SEAL_TEMPLATE:
		return &p->templates;
	case SEAL_SANDBOX:
		return &p->sandboxes;
	case SEAL_HOST:
		return &p->hosts;
	case SEAL_METHOD:
		return &p->methods;
	case SEAL_PATH:
		return &p->paths;
	}
	return NULL;
}

static bool word_ok(enum seal_scope kind, const char *word)
{
	switch (kind) {
	case SEAL_HOST:
		return host_ok(word);
	case SEAL_METHOD:
		return seal_method_ok(word);
	case SEAL_PATH:
		return seal_path_ok(word);
	case SEAL_TEMPLATE:
	case SEAL_SANDBOX:
	default:
		return str_is_id(word, SEAL_ID_WORD_MAX);
	}
}

bool seal_policy_any_host(const struct seal_policy *p)
{
	return p->hosts.n && str_eq(p->hosts.v[0], "*"); /* which is the first of all words */
}

uint8_t seal_policy_version(const struct seal_policy *p)
{
	return p->methods.n || p->paths.n || p->per_minute || p->body_max || p->answer_max || p->header[0] ||
			       p->prefix[0] || seal_policy_any_host(p)
		       ? 2
		       : 1;
}

int seal_policy_add(struct seal_policy *p, enum seal_scope kind, const char *word, struct err *e)
{
	static const char *const what[] = { "template", "sandbox", ("host: NAME, NAME:PORT (443 is not written), "
			 "*.NAME or *, in lower case"), "method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
			"pattern of a path: /repos/*/issues, /v1/**" };
	struct seal_list *l = list_of(p, kind);
	size_t at = 0, i;

	if (!word_ok(kind, word))
		return err_set(e, -EINVAL, "bad-policy", "\"%.80s\" is no %s", word, what[kind]);
	while (at < l->n && strcmp(l->v[at], word) < 0)
		at++;
	if (at < l->n && str_eq(l->v[at], word))
		return 0;
	if (l->n == SEAL_LIST_MAX)
		return err_set(e, -E2BIG, "bad-policy", "more than %d of one kind", SEAL_LIST_MAX);
	for (i = l->n++; i > at; i--)
		l->v[i] = l->v[i - 1];
	l->v[at] = must_strdup(word);
	return 0;
}

static int check_list(struct seal_policy *p, enum seal_scope kind, struct err *e)
{
	struct seal_list *l = list_of(p, kind);
	size_t i;

	for (i = 0; i < l->n; i++)
		if (!word_ok(kind, l->v[i]) || (i && strcmp(l->v[i - 1], l->v[i]) >= 0))
			return err_set(e, -EINVAL, "bad-policy", "what it is for is not written as it must be");
	return 0;
}

/* What is of requests, and so of the broker. */
static int check_request(const struct seal_policy *p, struct err *e)
{
	if (seal_policy_version(p) > 1 && p->delivery != SEAL_BROKER)
		return err_set(e, -EINVAL, "bad-policy",
			       "methods, paths, limits, a header and the host * are for delivery by the broker only");
	if (p->per_minute > SEAL_PER_MINUTE_MAX || p->body_max > SEAL_BYTES_MAX || p->answer_max > SEAL_BYTES_MAX)
		return err_set(e, -EINVAL, "bad-policy", "a limit is too large");
	if (p->header[0] ? !seal_header_ok(p->header) || !seal_prefix_ok(p->prefix) : p->prefix[0])
		return err_set(e, -EINVAL, "bad-policy", "\"%.80s\" is no header that a value may be put in",
			       p->header);
	return 0;
}

int seal_policy_check(const struct seal_policy *p, struct err *e)
{
	struct seal_policy *q = (struct seal_policy *)(uintptr_t)p; /* which is only read */
	int kind;

	if (!seal_name_ok(p->name))
		return err_set(
			e, -EINVAL, "bad-policy",
			"a name has 1 to %d letters, digits, \"_\", \"-\" and \".\", and begins with a letter or \"_\"",
			SEAL_NAME_MAX);
	if (p->delivery < SEAL_BROKER || p->delivery > SEAL_ENV)
		return err_set(e, -EINVAL, "bad-policy", "a delivery is broker, file or env");
	if (!owner_ok(p->owner))
		return err_set(e, -EINVAL, "bad-policy", "\"%s\" is no account", p->owner);
	if (p->delivery == SEAL_ENV && strpbrk(p->name, "-."))
		return err_set(e, -EINVAL, "bad-policy", "%s is no name of a variable", p->name);
	if (p->owner[0] && p->delivery != SEAL_FILE)
		return err_set(e, -EINVAL, "bad-policy", "an owner is for delivery as a file only");
	if (p->delivery == SEAL_BROKER && !p->hosts.n)
		return err_set(e, -EINVAL, "bad-policy", "delivery by the broker needs the hosts that it is for");
	if (p->expires_ms && p->expires_ms <= p->created_ms)
		return err_set(e, -EINVAL, "bad-policy", "it would have expired before it is made");
	for (kind = SEAL_TEMPLATE; kind <= SEAL_PATH; kind++)
		if (check_list(q, (enum seal_scope)kind, e) < 0)
			return -EINVAL;
	return check_request(p, e);
}

static void list_fini(struct seal_list *l)
{
	while (l->n)
		str_free(&l->v[--l->n]);
}

static void list_copy(struct seal_list *to, const struct seal_list *from)
{
	for (to->n = 0; to->n < from->n; to->n++)
		to->v[to->n] = must_strdup(from->v[to->n]);
}

void seal_policy_fini(struct seal_policy *p)
{
	list_fini(&p->templates);
	list_fini(&p->sandboxes);
	list_fini(&p->hosts);
	list_fini(&p->methods);
	list_fini(&p->paths);
	*p = (struct seal_policy){ .name = "" };
}

void seal_policy_copy(struct seal_policy *to, const struct seal_policy *from)
{
	*to = *from;
	list_copy(&to->templates, &from->templates);
	list_copy(&to->sandboxes, &from->sandboxes);
	list_copy(&to->hosts, &from->hosts);
	list_copy(&to->methods, &from->methods);
	list_copy(&to->paths, &from->paths);
}

static const char *const deliveries[] = { [SEAL_BROKER] = "broker", [SEAL_FILE] = "file", [SEAL_ENV] = "env" };

const char *seal_delivery_word(enum seal_delivery d)
{
	return d >= SEAL_BROKER && d <= SEAL_ENV ? deliveries[d] : "none";
}

enum seal_delivery seal_delivery_of(const char *word)
{
	int d;

	for (d = SEAL_BROKER; d <= SEAL_ENV; d++)
		if (str_eq(word, deliveries[d]))
			return (enum seal_delivery)d;
	return (enum seal_delivery)0;
}

bool seal_host_matches(const char *pattern, const char *host)
{
	const char *dot;

	if (!str_starts(pattern, "*."))
		return strcasecmp(pattern, host) == 0 && !str_eq(pattern, "*");
	dot = strchr(host, '.');
	return dot && dot > host && strcasecmp(pattern + 1, dot) == 0;
}

static bool list_has(const struct seal_list *l, const char *word,
		     bool (*matches)(const char *pattern, const char *word))
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (matches ? matches(l->v[i], word) : str_eq(l->v[i], word))
			return true;
	return false;
}

/* "a, b, …" */
static void name_all(const struct seal_list *l, char to[160])
{
	size_t i, n = 0;

	to[0] = 0;
	for (i = 0; i < l->n && n + strlen(l->v[i]) + 8 < 160; i++)
		n += (size_t)snprintf(to + n, 160 - n, "%s%s", i ? ", " : "", l->v[i]);
	if (i < l->n)
		snprintf(to + n, 160 - n, "%s…", i ? ", " : "");
}

static int allows(const struct seal_list *l, const char *word, const char *what, struct err *e)
{
	char slug[ERR_SLUG_MAX], all[160];

	if (!l->n || (word && list_has(l, word, str_eq(what, "host") ? seal_host_matches : NULL)))
		return 0;
	name_all(l, all);
	snprintf(slug, sizeof(slug), "wrong-%s", what);
	return err_set(e, -EXDEV, slug, "it is for %s %s, %s%s", what, all, word ? "not for " : "and none was named",
		       word ? word : "");
}

int seal_policy_allows(const struct seal_policy *p, const struct seal_use *use, struct err *e)
{
	if (use->name && !str_eq(use->name, p->name))
		return err_set(e, -EXDEV, "wrong-name", "it was sealed as %s, not as %.100s", p->name, use->name);
	if (!use->any && (allows(&p->templates, use->template, "template", e) < 0 ||
			  allows(&p->sandboxes, use->sandbox, "sandbox", e) < 0 ||
			  (!(use->ruled && seal_policy_any_host(p)) && allows(&p->hosts, use->host, "host", e) < 0)))
		return -EXDEV;
	if (p->expires_ms && use->now_ms >= p->expires_ms)
		return err_set(e, -EKEYEXPIRED, "expired", "%s has expired", p->name);
	return 0;
}

int seal_policy_permits(const struct seal_policy *p, const char *method, const char *path, struct err *e)
{
	char all[160];

	if (p->methods.n && !(method && list_has(&p->methods, method, NULL))) {
		name_all(&p->methods, all);
		return err_set(e, -EXDEV, "method", "it is for %s", all);
	}
	if (p->paths.n && !(path && list_has(&p->paths, path, seal_path_matches))) {
		name_all(&p->paths, all);
		return err_set(e, -EXDEV, "path", "it is for %s", all);
	}
	return 0;
}

int seal_policy_puts(const struct seal_policy *p, const char *header, const char *prefix, struct err *e)
{
	if (p->header[0] &&
	    !(header && strcasecmp(header, p->header) == 0 && str_eq(prefix ? prefix : "", p->prefix)))
		return err_set(e, -EXDEV, "header", "it goes into the header \"%s: %s…\" only", p->header, p->prefix);
	return 0;
}
