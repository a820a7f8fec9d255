/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_POLICY_H
#define HOST_NET_POLICY_H

/*
 * What a sandbox may reach, as people say it: the internet or not, and lists of what is allowed and denied. An entry is
 * an address ("1.2.3.4", "2606:4700::1"), a range ("10.1.0.0/16"), a name ("example.org") or all names below one
 * ("*.example.org", which is not example.org itself). Allowed goes before denied, denied before the internet; behind
 * the fence (docs/network.md) nothing is reached but what the operator has named and an entry allows.
 */
#include "base/buf.h"
#include "base/err.h"
#include "host/priv/priv.h"

enum { POLICY_NAMES_MAX = 128, POLICY_NAME_MAX = 253, POLICY_TEXT_MAX = 32768, POLICY_PROXY_MAX = 255 };

struct policy_list {
	struct priv_prefix *prefixes;
	size_t n_prefixes;
	char **names; /* lower case, "x" or "*.x" */
	size_t n_names;
};

/* A SOCKS5 proxy through which all of a sandbox's TCP goes. Its password is nobody's to see. */
struct policy_proxy {
	char host[POLICY_NAME_MAX + 1]; /* a name in small letters, or an address without brackets */
	uint16_t port;
	char user[POLICY_PROXY_MAX + 1], password[POLICY_PROXY_MAX + 1]; /* "": none */
};

struct policy {
	bool internet;
	struct policy_list allow, deny;
	struct policy_proxy *proxy; /* NULL: none */
};

#define POLICY_NULL ((struct policy){ .internet = false })

/* What the operator lets be allowed behind the fence. */
struct policy_private {
	const struct priv_prefix *v;
	size_t n;
};

void policy_fini(struct policy *p);
void policy_copy(struct policy *to, const struct policy *from);
/** policy_allow(), policy_deny() - add an entry. Everything denied ("0.0.0.0/0", "::/0") is no internet. Return: 0;
 * -EINVAL slug "bad-network"; -E2BIG slug "limit"; -EPERM slug "network-private": it lies behind the fence. */
int policy_allow(struct policy *p, const char *what, const struct policy_private *may, struct err *e) MUST_CHECK;
int policy_deny(struct policy *p, const char *what, struct err *e) MUST_CHECK;
/** policy_put() - as one line, "on +1.2.3.0/24 +*.x.org -y.org"; policy_get() - the reverse, what is wrong in it is
 * left out. */
void policy_put(const struct policy *p, struct buf *to);
void policy_get(struct policy *p, const char *line);
/** policy_each() - every entry of a list as text. */
void policy_each(const struct policy_list *l, void (*fn)(void *ctx, const char *entry), void *ctx);
/** policy_compile() - for the filter. @id: what is allowed by name belongs to this sandbox and list. */
void policy_compile(const struct policy *p, uint32_t range, const char *id, struct priv_net_policy *ret);

enum policy_verdict {
	POLICY_REFUSED, /* not to be asked for */
	POLICY_OPEN,	/* may be asked for, and reached like any address */
	POLICY_ALLOWED, /* and its addresses may be reached because of it */
};
/** policy_name() - @name is lower case, without a dot at its end. */
enum policy_verdict policy_name(const struct policy *p, const char *name);
/** policy_name_ok() - is it a name as resolvers know them, in small letters? */
bool policy_name_ok(const char *name);
/** policy_prefix() - "10.0.0.0/8", "1.2.3.4". Return: 0; -EINVAL. */
int policy_prefix(const char *text, struct priv_prefix *ret) MUST_CHECK;
/** policy_covers() - does an address or range of the list contain it? */
bool policy_covers(const struct policy_list *l, const struct priv_prefix *p);
/** policy_set_proxy() - @address is "host:port", an IPv6 address in brackets; @user and @password may be NULL. Return:
 * 0; -EINVAL slug "bad-proxy"; -EPERM slug "network-private": it is an address behind the fence. */
int policy_set_proxy(struct policy *p, const char *address, const char *user, const char *password,
		     const struct policy_private *may, struct err *e) MUST_CHECK;
void policy_copy_proxy(struct policy *to, const struct policy_proxy *from);
/** policy_drop_proxy() - it has none; what was known of it is zeroed. */
void policy_drop_proxy(struct policy *p);
/** policy_same_proxy() - also when both have none. */
bool policy_same_proxy(const struct policy_proxy *a, const struct policy_proxy *b);
/** policy_proxy_address() - as it was said, "host:port". Yours. */
char *policy_proxy_address(const struct policy_proxy *x);
/** policy_proxy_put() - as words of a record, with the password; policy_proxy_get() - the reverse. Return: what follows
 * them in @line; NULL: they are none. */
void policy_proxy_put(const struct policy_proxy *x, struct buf *to);
const char *policy_proxy_get(struct policy *p, const char *line) MUST_CHECK;
/** policy_hands_name() - may the proxy be told this name, whose address it would be asked for else? Where a rule of
 * the sandbox denies addresses, they decide, and what a name leads to there is not known here. */
bool policy_hands_name(const struct policy *p, const char *name);
/** policy_is_private() - may an answer not tell this address? */
bool policy_is_private(const struct priv_prefix *p, const struct policy_private *may);

#endif
