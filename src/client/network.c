/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox may reach. */
#include "client/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static char *path_of(const char *id)
{
	AUTO(str_free) char *safe = client_encode(id);

	return str_printf("/v1/sandboxes/%s/network", safe);
}

static char **texts(const struct json *list)
{
	size_t i, n = json_len(list);
	char **v = must_calloc(n + 1, sizeof(*v));

	for (i = 0; i < n; i++)
		v[i] = must_strdup(json_text(json_at(list, i)) ? json_text(json_at(list, i)) : "");
	return v;
}

static void network_from(const struct json *j, struct berth_network *ret)
{
	*ret = (struct berth_network){ .internet = json_get_bool(j, "internet", false) };
	snprintf(ret->mode, sizeof(ret->mode), "%s", json_get_str(j, "mode", "none"));
	ret->allow = texts(json_get(j, "allow"));
	ret->deny = texts(json_get(j, "deny"));
	snprintf(ret->proxy, sizeof(ret->proxy), "%s", json_get_str(json_get(j, "proxy"), "address", ""));
}

void berth_network_free(struct berth_network *n)
{
	strv_free(&n->allow);
	strv_free(&n->deny);
}

int berth_network(struct berth *b, const char *id, struct berth_network *ret, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = path_of(id);
	int r = client_json(b, "GET", path, SPAN_NULL, &j, e);

	if (r == 0)
		network_from(j, ret);
	return r;
}

void client_put_list(struct json_writer *w, const char *key, const char *const *v)
{
	jw_key(w, key);
	jw_open(w, '[');
	for (; v && *v; v++)
		jw_str(w, span_str(*v));
	jw_close(w, ']');
}

int berth_set_network(struct berth *b, const char *id, const struct berth_network *what, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = path_of(id);
	struct buf body;
	struct json_writer w = { .b = &body };
	int r;

	buf_init(&body, 256 * 1024);
	jw_open(&w, '{');
	jw_key(&w, "internet");
	jw_bool(&w, what->internet);
	client_put_list(&w, "allow", (const char *const *)what->allow);
	client_put_list(&w, "deny", (const char *const *)what->deny);
	jw_close(&w, '}');
	r = client_json(b, "PUT", path, buf_span(&body), &j, e);
	buf_fini(&body);
	return r;
}
