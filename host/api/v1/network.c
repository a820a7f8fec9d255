/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox may reach: asked for when it is made, seen, and replaced while it runs. */
#include "host/api/v1/v1.h"

#include "base/str.h"
#include "host/api/policy.h"
#include "host/net/network.h"
#include "json/json.h"

#include <errno.h>

static void put_list(struct json_writer *w, const char *key, const struct policy_list *l)
{
	jw_key(w, key);
	jw_open(w, '[');
	policy_put_entries(w, l);
	jw_close(w, ']');
}

int v1_put_network(struct json_writer *w, const struct api *api, const char *id, struct err *e)
{
	struct policy p = POLICY_NULL;
	const char *why;
	int has = hub_network(api->hub, id, &p, e);

	if (has < 0)
		return has;
	jw_open(w, '{');
	jw_kstr(w, "mode", has ? network_words(api->network, &why) : "none");
	jw_key(w, "internet");
	jw_bool(w, p.internet);
	put_list(w, "allow", &p.allow);
	put_list(w, "deny", &p.deny);
	policy_put_proxy(w, "proxy", p.proxy);
	jw_close(w, '}');
	policy_fini(&p);
	return 0;
}

static int is_other(void *ctx, const char *key, const struct json *value)
{
	(void)ctx;
	(void)value;
	return !str_eq(key, "address") && !str_eq(key, "username") && !str_eq(key, "password");
}

static int read_proxy(const struct api *api, const struct json *proxy, struct policy *p, struct err *e)
{
	if (json_is_empty(proxy))
		return 0;
	if (json_each(proxy, is_other, NULL))
		return err_set(e, -EINVAL, "bad-proxy", "the proxy: address, username and password are known");
	return policy_set_proxy(p, json_get_str(proxy, "address", ""), json_get_str(proxy, "username", NULL),
				json_get_str(proxy, "password", NULL), network_private(api->network), e);
}

int v1_read_network(const struct api *api, const struct json *j, struct policy *ret, struct err *e)
{
	const struct json *allow = json_get(j, "allow"), *deny = json_get(j, "deny");
	struct policy p = POLICY_NULL;
	size_t i;
	int r = 0;

	p.internet = json_get_bool(j, "internet", network_default(api->network));
	for (i = 0; r == 0 && i < json_len(allow); i++)
		r = policy_allow(&p, json_text(json_at(allow, i)), network_private(api->network), e);
	for (i = 0; r == 0 && i < json_len(deny); i++)
		r = policy_deny(&p, json_text(json_at(deny, i)), e);
	if (r == 0)
		r = read_proxy(api, json_get(j, "proxy"), &p, e);
	if (r < 0)
		policy_fini(&p);
	else
		*ret = p;
	return r;
}

int v1_network_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	struct hub_info i;
	int r = hub_find(api->hub, http_segment(req, 0), &i, e);

	if (r == 0)
		r = v1_put_network(&w, api, i.id, e);
	if (r == 0)
		buf_append(&res->body, "\n", 1);
	return r;
}

/* All of it anew: what is not named is not allowed, and not denied. */
int v1_network_put(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct json_writer w = { .b = &res->body };
	struct policy p = POLICY_NULL;
	struct hub_info i;
	int r = v1_body(req, "internet:b allow:as deny:as proxy:os", &j, e);

	if (r == 0)
		r = hub_find(api->hub, http_segment(req, 0), &i, e);
	if (r == 0)
		r = v1_read_network(api, j, &p, e);
	/* Who does not speak of the proxy, perhaps since he knows of none, does not mean that there is to be none. */
	if (r == 0)
		r = hub_set_network(api->hub, i.id, &p, json_get(j, "proxy") ? 0 : HUB_KEEP_PROXY, e);
	policy_fini(&p);
	if (r == 0)
		r = v1_put_network(&w, api, i.id, e);
	if (r == 0)
		buf_append(&res->body, "\n", 1);
	return r;
}
