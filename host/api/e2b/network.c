/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Their network in our rules: everything denied is no internet, what is allowed goes before what is denied; names are
 * allowed only where everything else is denied, and never denied, as there. What would be silently left out is refused.
 */
#include "host/api/e2b/e2b.h"

#include "base/str.h"
#include "host/api/policy.h"
#include "host/net/network.h"

#include <errno.h>

#define EVERYTHING "0.0.0.0/0"

/* Whoever names hosts in rules allows these in the same breath, also where all is allowed. */
static bool is_ruled(const struct json *rules, const char *name)
{
	return json_get(rules, name) != NULL;
}

static int read_lists(struct e2b *e2b, const struct json *network, struct policy *p, struct err *e)
{
	const struct json *allow = json_get(network, "allowOut"), *deny = json_get(network, "denyOut");
	struct priv_prefix prefix;
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < json_len(deny); i++) {
		const char *one = json_text(json_at(deny, i));

		if (!one || policy_prefix(one, &prefix) < 0)
			r = err_set(e, -EINVAL, "bad-network", "denyOut: \"%.80s\" is no address and no range",
				    one ? one : "");
		else
			r = policy_deny(p, one, e);
	}
	for (i = 0; r == 0 && i < json_len(allow); i++) {
		const char *one = json_text(json_at(allow, i));

		if (!one)
			r = err_set(e, -EINVAL, "bad-network", "allowOut must be a list of texts");
		else if (policy_prefix(one, &prefix) < 0 && p->internet && is_ruled(json_get(network, "rules"), one))
			continue;
		else if (policy_prefix(one, &prefix) < 0 && p->internet)
			r = err_set(e, -EINVAL, "bad-network",
				    "allowOut: domains (\"%.80s\") need denyOut to contain " EVERYTHING, one);
		else
			r = policy_allow(p, one, network_private(e2b->network), e);
	}
	if (r == -EPERM && e) /* to them a mistake of the request, not of the key */
		e->code = -EINVAL;
	return r == -EPERM ? -EINVAL : r;
}

/* {address, username, password}; null is none. */
static int read_proxy(struct e2b *e2b, const struct json *network, struct policy *p, struct err *e)
{
	const struct json *proxy = json_get(network, "egressProxy");
	struct err why = ERR_NULL;
	int r;

	if (!proxy)
		return 0;
	if (json_check(proxy, "address:s username:s password:s", &why) < 0)
		return json_is_empty(proxy) ? 0 : err_set(e, -EINVAL, "bad-proxy", "egressProxy: %s", why.text);
	if (!json_is_empty(json_get(network, "rules")))
		return err_set(e, -EINVAL, "proxy-and-rules",
			       "berth does not have this yet: rules together with egressProxy (docs/e2b.md)");
	r = policy_set_proxy(p, json_get_str(proxy, "address", ""), json_get_str(proxy, "username", NULL),
			     json_get_str(proxy, "password", NULL), network_private(e2b->network), e);
	if (r == -EPERM && e)
		e->code = -EINVAL;
	return r == -EPERM ? -EINVAL : r;
}

int e2b_read_network(struct e2b *e2b, const struct json *j, const struct json *network, struct policy *ret,
		     struct e2b_egress *egress, struct err *e)
{
	struct policy p = { .internet = json_get_bool(j, "allow_internet_access", true) };
	int r;

	r = read_lists(e2b, network, &p, e);
	if (r == 0)
		r = read_proxy(e2b, network, &p, e);
	if (r == 0 && egress)
		r = e2b_read_rules(e2b, json_get(network, "rules"), &p, egress, e);
	/* Their older clients always ask for the internet: where there is none, that is no reason to make nothing. */
	if (r == 0 && !network_has(e2b->network) && !p.allow.n_names && !p.allow.n_prefixes)
		p.internet = false;
	if (r < 0)
		policy_fini(&p);
	else
		*ret = p;
	return r;
}

void e2b_put_network(struct e2b *e2b, struct json_writer *w, const char *id, const struct json *memory)
{
	struct policy p = POLICY_NULL;

	(void)!hub_network(e2b->hub, id, &p, NULL);
	jw_key(w, "allowInternetAccess");
	jw_bool(w, p.internet);
	jw_key(w, "network");
	jw_open(w, '{');
	jw_key(w, "allowOut");
	jw_open(w, '[');
	policy_put_entries(w, &p.allow);
	jw_close(w, ']');
	jw_key(w, "denyOut");
	jw_open(w, '[');
	if (!p.internet)
		jw_str(w, span_str(EVERYTHING));
	policy_put_entries(w, &p.deny);
	jw_close(w, ']');
	policy_put_proxy(w, "egressProxy", p.proxy);
	e2b_put_rules(e2b, w, id);
	e2b_put_ingress(w, memory);
	jw_close(w, '}');
	policy_fini(&p);
}

/* All of it anew: lists that are not there are empty. */
int e2b_network(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct e2b_egress egress = { .owner = "" };
	struct policy p = POLICY_NULL;
	struct hub_info i;
	int r = e2b_body(req, &j, e);

	buf_init(&egress.text, HUB_EGRESS_MAX);
	if (r == 0 &&
	    (json_get(j, "allowPublicTraffic") || json_get(j, "maskRequestHost") || json_get(j, "httpsPorts")))
		r = err_set(e, -EINVAL, "bad-network",
			    "allowPublicTraffic, maskRequestHost and httpsPorts are chosen when a sandbox is made");
	if (r == 0)
		r = e2b_find(e2b, req, &i, e);
	egress.owner = i.owner;
	egress.given = i.secrets;
	if (r == 0)
		r = e2b_read_network(e2b, j, j, &p, &egress, e);
	if (r == 0)
		r = hub_set_network(e2b->hub, i.id, &p, HUB_DROP_RULES, e);
	if (r == 0 && !p.proxy)
		r = hub_set_egress(e2b->hub, i.id, buf_span(&egress.text), e);
	buf_fini(&egress.text);
	policy_fini(&p);
	if (r == 0)
		res->status = 204;
	return r;
}
