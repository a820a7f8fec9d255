/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proxy of a policy. It is in the record of the sandbox with its password, as what else is no secret of the
 * daemon's (docs/secrets.md), and is shown without.
 */
#include "host/net/policy.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EINVAL, "bad-proxy", "the proxy: %s", what);
}

/* "host:port", "[::1]:port" */
static int read_address(struct policy_proxy *x, const char *text, struct err *e)
{
	const char *colon = strrchr(text, ':'), *end = colon;
	uint64_t port;
	size_t i;

	if (!colon || num_u64(colon + 1, UINT16_MAX, &port) < 0 || port == 0)
		return bad(e, "its address is \"host:port\"");
	if (*text == '[' && end > text + 1 && end[-1] == ']') {
		text++;
		end--;
	}
	if (end == text || (size_t)(end - text) >= sizeof(x->host))
		return bad(e, "its address is \"host:port\"");
	for (i = 0; text + i < end; i++)
		x->host[i] = (char)tolower((unsigned char)text[i]);
	if (i > 1 && x->host[i - 1] == '.')
		i--;
	x->host[i] = '\0';
	x->port = (uint16_t)port;
	return 0;
}

static int read_words(struct policy_proxy *x, const char *user, const char *password, struct err *e)
{
	if (str_copy(x->user, sizeof(x->user), user ? user : "") < 0 ||
	    str_copy(x->password, sizeof(x->password), password ? password : "") < 0)
		return bad(e, "username and password have at most 255 bytes each");
	return x->password[0] && !x->user[0] ? bad(e, "a password needs a username") : 0;
}

int policy_set_proxy(struct policy *p, const char *address, const char *user, const char *password,
		     const struct policy_private *may, struct err *e)
{
	struct policy_proxy x = { .port = 0 };
	struct priv_prefix at;
	int r = read_address(&x, address, e);

	if (r == 0)
		r = read_words(&x, user, password, e);
	if (r == 0 && policy_prefix(x.host, &at) == 0 && !strchr(x.host, '/')) {
		if (policy_is_private(&at, may))
			r = err_set(e, -EPERM, "network-private",
				    "the proxy: %.60s is not of the internet: the operator may let it be used "
				    "(network.private)",
				    x.host);
	} else if (r == 0 && !policy_name_ok(x.host)) {
		r = bad(e, "its host is no name and no address");
	}
	if (r == 0) {
		policy_drop_proxy(p);
		policy_copy_proxy(p, &x);
	}
	explicit_bzero(&x, sizeof(x));
	return r;
}

void policy_copy_proxy(struct policy *to, const struct policy_proxy *from)
{
	if (from)
		to->proxy = must_memdup(from, sizeof(*from));
}

void policy_drop_proxy(struct policy *p)
{
	if (p->proxy)
		explicit_bzero(p->proxy, sizeof(*p->proxy));
	mem_free(&p->proxy);
}

bool policy_same_proxy(const struct policy_proxy *a, const struct policy_proxy *b)
{
	return a && b ? str_eq(a->host, b->host) && a->port == b->port && str_eq(a->user, b->user) &&
				str_eq(a->password, b->password)
		      : a == b;
}

char *policy_proxy_address(const struct policy_proxy *x)
{
	return str_printf(strchr(x->host, ':') ? "[%s]:%u" : "%s:%u", x->host, x->port);
}

static void put_hex(struct buf *to, const char *text)
{
	char hex[2 * POLICY_PROXY_MAX + 1];

	str_hex(text, strlen(text), hex);
	buf_printf(to, "%s ", *hex ? hex : "-");
	explicit_bzero(hex, sizeof(hex));
}

void policy_proxy_put(const struct policy_proxy *x, struct buf *to)
{
	buf_printf(to, "%s %u ", x->host, x->port);
	put_hex(to, x->user);
	put_hex(to, x->password);
}

/* The next word of @*line; "" behind the last. */
static void next_word(const char **line, char *to, size_t size)
{
	size_t len = strcspn(*line, " ");

	snprintf(to, size, "%.*s", (int)len, *line);
	*line += len + ((*line)[len] == ' ');
}

static bool get_hex(const char **line, char to[POLICY_PROXY_MAX + 1])
{
	char hex[2 * POLICY_PROXY_MAX + 2];
	size_t len;
	bool ok;

	next_word(line, hex, sizeof(hex));
	len = strlen(hex);
	ok = str_eq(hex, "-") || (len % 2 == 0 && len <= 2 * POLICY_PROXY_MAX && str_unhex(hex, to, len / 2) == 0);
	explicit_bzero(hex, sizeof(hex));
	return ok;
}

const char *policy_proxy_get(struct policy *p, const char *line)
{
	struct policy_proxy x = { .port = 0 };
	char number[8];
	uint64_t port = 0;
	bool ok;

	next_word(&line, x.host, sizeof(x.host));
	next_word(&line, number, sizeof(number));
	ok = x.host[0] && num_u64(number, UINT16_MAX, &port) == 0 && port && get_hex(&line, x.user) &&
	     get_hex(&line, x.password);
	x.port = (uint16_t)port;
	if (ok) {
		policy_drop_proxy(p);
		policy_copy_proxy(p, &x);
	}
	explicit_bzero(&x, sizeof(x));
	return ok ? line : NULL;
}

bool policy_hands_name(const struct policy *p, const char *name)
{
	enum policy_verdict v = policy_name_ok(name) ? policy_name(p, name) : POLICY_REFUSED;

	return v == POLICY_ALLOWED || (v == POLICY_OPEN && !p->deny.n_prefixes);
}
