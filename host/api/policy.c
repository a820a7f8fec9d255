/* SPDX-License-Identifier: Apache-2.0 */
#include "host/api/policy.h"

#include "base/str.h"

static void put_entry(void *ctx, const char *entry)
{
	jw_str(ctx, span_str(entry));
}

void policy_put_entries(struct json_writer *w, const struct policy_list *l)
{
	policy_each(l, put_entry, w);
}

void policy_put_proxy(struct json_writer *w, const char *key, const struct policy_proxy *x)
{
	AUTO(str_free) char *address = NULL;

	if (!x)
		return;
	address = policy_proxy_address(x);
	jw_key(w, key);
	jw_open(w, '{');
	jw_kstr(w, "address", address);
	if (x->user[0])
		jw_kstr(w, "username", x->user);
	jw_close(w, '}');
}
