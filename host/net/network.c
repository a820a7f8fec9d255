/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of policies by range, for the thread that is asked for names; the filter has what it needs of them. The order
 * of a change: what is refused more is refused in both before the caller hears of it.
 */
#include "host/net/network.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "host/net/heard.h"
#include "host/net/names.h"
#include "host/net/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct entry {
	bool used;
	struct policy policy;
	uint64_t since;	    /* has another value for each proxy */
	struct heard heard; /* names that it was told, as long as it has a proxy */
};

struct network {
	struct network_conf conf;
	struct priv_net_state state;
	struct names *names;
	struct proxy *proxy;
	struct lock lock;
	uint64_t changes; /* of proxies */
	struct entry *entries; /* conf.ranges; guarded by lock */
};

static enum policy_verdict judge(void *ctx, uint32_t range, const char *name)
{
	struct network *n = ctx;
	enum policy_verdict v = POLICY_REFUSED;

	lock_take(&n->lock);
	if (n->entries[range].used)
		v = policy_name(&n->entries[range].policy, name);
	lock_drop(&n->lock);
	return v;
}

static int learn(void *ctx, uint32_t range, uint32_t life_s, const struct priv_prefix *v, size_t count)
{
	struct network *n = ctx;
	struct priv_prefix open[PRIV_NET_NAMES_MAX];
	struct err e = ERR_NULL;
	size_t i, k = 0;
	int r;

	/* One that the operator lets be told lies behind the fence, where names open nothing. */
	for (i = 0; i < count; i++)
		if (!priv_net_fenced(&v[i]))
			open[k++] = v[i];
	r = k ? priv_net_names(n->conf.priv, range, life_s, open, k, &e) : 0;
	if (r < 0)
		log_warn("names", "addresses of a name are not let through", "range=%u why=%s", range, e.text);
	return r;
}

/* Whoever may reach an address behind the fence may be told it. */
static bool hides(void *ctx, uint32_t range, const struct priv_prefix *p)
{
	struct network *n = ctx;
	bool may = !priv_net_fenced(p);

	if (may || policy_is_private(p, &n->conf.private_))
		return !may;
	lock_take(&n->lock);
	may = n->entries[range].used && policy_covers(&n->entries[range].policy.allow, p);
	lock_drop(&n->lock);
	return !may;
}

/* --- those with a proxy ------------------------------------------------------------------------------------------- */

enum { TOLD_MAX = 16 }; /* addresses of one answer: nobody needs more, and each is looked for in a list */

static void told(void *ctx, uint32_t range, const char *name, uint32_t life_s, const struct priv_prefix *v,
		 size_t count)
{
	uint64_t until = clock_now() + life_s * CLOCK_S;
	struct network *n = ctx;
	struct entry *x = &n->entries[range];
	size_t i;

	lock_take(&n->lock);
	for (i = 0; i < MIN(count, (size_t)TOLD_MAX) && x->used && x->policy.proxy; i++)
		heard_add(&x->heard, &v[i], name, until);
	lock_drop(&n->lock);
}

static int way(void *ctx, uint32_t range, const struct priv_prefix *to, uint16_t port, struct proxy_way *ret)
{
	struct network *n = ctx;
	const struct entry *x = &n->entries[range];
	const char *name;
	int r = -ENOENT;

	lock_take(&n->lock);
	if (x->used && x->policy.proxy) {
		ret->proxy = *x->policy.proxy;
		ret->since = x->since;
		ret->to = (struct socks_to){ .address = *to, .port = port };
		name = heard_find(&x->heard, to);
		if (name && policy_hands_name(&x->policy, name))
			(void)!str_copy(ret->to.name, sizeof(ret->to.name), name);
		r = 0;
	}
	lock_drop(&n->lock);
	return r;
}

static bool holds(void *ctx, uint32_t range, uint64_t since, const char *name)
{
	struct network *n = ctx;
	const struct entry *x = &n->entries[range];
	bool may;

	lock_take(&n->lock);
	may = x->used && x->policy.proxy && x->since == since && (!name || policy_hands_name(&x->policy, name));
	lock_drop(&n->lock);
	return may;
}

/* The filter says the same, and knows the host's own addresses besides. */
static bool no_proxy_there(void *ctx, const struct priv_prefix *p)
{
	struct network *n = ctx;

	return policy_is_private(p, &n->conf.private_);
}

static int sockets(void *ctx, int family, int fds[PROXY_SOCKETS_MAX])
{
	struct network *n = ctx;
	struct err e = ERR_NULL;
	int r = priv_net_sockets(n->conf.priv, family, fds, PROXY_SOCKETS_MAX, &e);

	if (r < 0)
		log_warn("proxy", "no sockets for connections to proxies", "why=%s", e.text);
	return r < 0 ? r : PROXY_SOCKETS_MAX;
}

static int start_proxy(struct network *n, struct err *e)
{
	const struct proxy_conf pc = { .listen = { n->state.proxy[0], n->state.proxy[1] },
				       .ranges = n->conf.ranges,
				       .dns = n->conf.dns,
				       .home = priv_net_home,
				       .meant = proxy_meant,
				       .way = way,
				       .holds = holds,
				       .hides = no_proxy_there,
				       .sockets = sockets,
				       .ctx = n };

	return proxy_start(&pc, &n->proxy, e);
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

int network_new(const struct network_conf *conf, struct network **ret, struct err *e)
{
	struct network *n = NEW(struct network);
	struct names_conf nc = { .ranges = conf->ranges,
				 .home = priv_net_home,
				 .judge = judge,
				 .learn = learn,
				 .told = told,
				 .hides = hides,
				 .ctx = n };
	int r;

	n->conf = *conf;
	n->entries = must_calloc(conf->ranges, sizeof(*n->entries));
	lock_init(&n->lock, "network", LOCK_LEAF);
	*ret = n;
	r = priv_net_open(conf->priv, &n->state, e);
	if (r < 0 || n->state.mode == PRIV_NET_NONE)
		return r;
	nc.udp = n->state.dns_udp;
	nc.tcp = n->state.dns_tcp;
	nc.dns = conf->dns;
	r = start_proxy(n, e);
	return r == 0 ? names_start(&nc, &n->names, e) : r;
}

void network_free(struct network **network)
{
	struct network *n = take(network);
	uint32_t i;

	if (!n)
		return;
	names_stop(&n->names);
	proxy_stop(&n->proxy);
	for (i = 0; i < n->conf.ranges; i++) {
		policy_fini(&n->entries[i].policy);
		heard_fini(&n->entries[i].heard);
	}
	lock_fini(&n->lock);
	free(n->entries);
	free(n);
}

bool network_has(const struct network *n)
{
	return n && n->state.mode != PRIV_NET_NONE;
}

const char *network_words(const struct network *n, const char **why)
{
	*why = n ? n->state.why : "";
	if (!network_has(n))
		return "none";
	return n->state.mode == PRIV_NET_VETH ? "veth" : "pasta";
}

bool network_default(const struct network *n)
{
	return n && n->conf.internet;
}

const struct policy_private *network_private(const struct network *n)
{
	return n ? &n->conf.private_ : NULL;
}

/* @p NULL: nobody has this range. */
static void put(struct network *n, uint32_t range, const struct policy *p)
{
	struct policy copy = POLICY_NULL, old;
	struct heard forgotten = HEARD_NULL;
	struct entry *x = &n->entries[range];
	bool had;

	if (p)
		policy_copy(&copy, p);
	lock_take(&n->lock);
	old = x->policy;
	had = old.proxy;
	x->policy = copy;
	x->used = p != NULL;
	if (!policy_same_proxy(old.proxy, copy.proxy))
		x->since = ++n->changes;
	if (!copy.proxy) { /* of whoever had the range, or of no use */
		forgotten = x->heard;
		x->heard = HEARD_NULL;
	}
	lock_drop(&n->lock);
	if (had)
		proxy_look_again(n->proxy);
	heard_fini(&forgotten);
	policy_fini(&old);
}

int network_apply(struct network *n, uint32_t range, const char *id, const struct policy *p, struct err *e)
{
	struct priv_net_policy *compiled;
	int r;

	if (!network_has(n))
		return err_set(e, -EOPNOTSUPP, "no-network", "sandboxes have no network here: %.150s",
			       n ? n->state.why : "");
	compiled = NEW(struct priv_net_policy);
	policy_compile(p, range, id, compiled);
	r = priv_net_policy(n->conf.priv, compiled, e);
	mem_free(&compiled);
	if (r == 0)
		put(n, range, p);
	return r;
}

void network_forget(struct network *n, uint32_t range)
{
	if (network_has(n) && range < n->conf.ranges)
		put(n, range, NULL);
}
