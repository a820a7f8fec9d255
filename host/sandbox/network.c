/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox may reach is part of its record; what makes it true is the filter, which is told first when something
 * is changed: a record that says more than holds would be believed by the next daemon.
 */
#include "host/sandbox/state.h"

#include <errno.h>

/* One that is asked for nothing is what there is, also without a network. */
static bool wants_something(const struct policy *p)
{
	return p->internet || p->allow.n_names || p->allow.n_prefixes || p->proxy;
}

/* Requests that rules put headers on leave by the broker, which knows no proxy: what would go around it is refused. */
int network_no_rules(struct err *e)
{
	return err_set(e, -EINVAL, "proxy-and-rules",
		       "berth does not have this yet: rules together with a proxy (egressProxy) of one sandbox");
}

int network_begin(struct sandbox *s, const struct policy *asked, struct err *e)
{
	const struct hub_conf *c = &s->hub->conf;
	bool wants = asked && wants_something(asked);
	const char *why;

	s->has_network = network_has(c->network) && (c->kind->can & BOX_NETWORK);
	if (!s->has_network && wants) {
		network_words(c->network, &why);
		return err_set(e, -EOPNOTSUPP, "no-network", "sandboxes have no network here: %.150s", why);
	}
	if (s->has_network && asked)
		policy_copy(&s->network, asked);
	else
		s->network.internet = s->has_network && network_default(c->network);
	return 0;
}

int network_adopt(struct sandbox *s, struct err *e)
{
	struct err why = ERR_NULL;
	int r = s->has_network ? network_apply(s->hub->conf.network, s->range, s->info.id, &s->network, &why) : 0;

	/* The network was switched off meanwhile: it goes on without. */
	if (r == -EOPNOTSUPP)
		return 0;
	if (r < 0 && e)
		*e = why;
	return r;
}

void network_record(const struct sandbox *s, struct buf *to)
{
	if (!s->has_network || s->info.state >= SANDBOX_STOPPED)
		return;
	/* A daemon that knows of no proxies reads that such a sandbox reaches nothing. */
	if (s->network.proxy) {
		buf_printf(to, "network off\nproxied ");
		policy_proxy_put(s->network.proxy, to);
	} else {
		buf_printf(to, "network ");
	}
	policy_put(&s->network, to);
	buf_printf(to, "\n");
}

void network_load(struct sandbox *s, const char *line, bool proxied)
{
	struct policy with = POLICY_NULL;
	const char *rest = proxied ? policy_proxy_get(&with, line) : line;

	s->has_network = true;
	policy_fini(&s->network);
	if (rest)
		policy_get(&s->network, rest);
	s->network.proxy = take(&with.proxy);
	policy_fini(&with);
}

int hub_network(struct hub *hub, const char *id_or_name, struct policy *ret, struct err *e)
{
	struct sandbox *s;
	bool has = false;

	*ret = POLICY_NULL;
	lock_take(&hub->lock);
	s = hub_get(hub, id_or_name);
	has = s && s->has_network && s->info.state < SANDBOX_STOPPED;
	if (has)
		policy_copy(ret, &s->network);
	lock_drop(&hub->lock);
	return s ? has : err_set(e, -ENOENT, "no-such-sandbox", "no sandbox is called \"%.64s\"", id_or_name);
}

/* It is held meanwhile: who ended it would make its range another's. */
int hub_set_network(struct hub *hub, const char *id_or_name, struct policy *p, unsigned how, struct err *e)
{
	struct policy old = POLICY_NULL, now = POLICY_NULL;
	struct sandbox *s;
	bool drop = false;
	int r = past_hold(hub, id_or_name, &s, e);

	if (r < 0)
		return r;
	if (how & HUB_KEEP_PROXY)
		policy_copy_proxy(p, s->network.proxy);
	if (s->info.state >= SANDBOX_STOPPING)
		r = err_set(e, -EAGAIN, "not-running", "sandbox %s does not run", s->info.id);
	else if (p->proxy && s->info.has_egress && !(how & HUB_DROP_RULES))
		r = network_no_rules(e);
	else if (!s->has_network && wants_something(p))
		r = err_set(e, -EOPNOTSUPP, "no-network", "sandbox %s was made without a network", s->info.id);
	else if (s->has_network && s->has_range) /* who lies without a box has none: it is told when it starts again */
		r = network_apply(hub->conf.network, s->range, s->info.id, p, e);
	if (r == 0 && s->has_network) {
		policy_copy(&now, p);
		lock_take(&hub->lock);
		old = s->network;
		s->network = now;
		lock_drop(&hub->lock);
		drop = p->proxy && s->info.has_egress;
		if (drop)
			egress_forget(s);
		r = record_save(s, e);
		if (r == 0 && drop && s->info.state == SANDBOX_RUNNING)
			r = broker_offer_others(s, e);
		if (r == 0 && s->info.has_egress)
			r = egress_tell(hub, s->info.id, e);
		hub_tell(s, "network", p->internet && p->proxy ? "internet on, through a proxy"
				     : p->internet	      ? "internet on"
							      : "internet off");
	}
	policy_fini(&old);
	past_release(s);
	return r;
}
