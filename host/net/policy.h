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

enum { POLICY_NAMES_MAX = 128, POLICY_NAME_MAX = 253, POLICY_TEXT_MAX = 32768 };

struct policy_list {
	struct priv_prefix *prefixes;
	size_t n_prefixes;
	char **names; /* lower case, "x" or "*.x" */
	size_t n_names;
};

struct policy {
	bool internet;
	struct policy_list allow, deny;
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
/** policy_prefix() - "10.0.0.0/8", "1.2.3.4". Return: 0; -EINVAL. */
int policy_prefix(const char *text, struct priv_prefix *ret) MUST_CHECK;
/** policy_covers() - does an address or range of the list contain it? */
bool policy_covers(const struct policy_list *l, const struct priv_prefix *p);
/** policy_is_private() - may an answer not tell this address? */
bool policy_is_private(const struct priv_prefix *p, const struct policy_private *may);

#endif
