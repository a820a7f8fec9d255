/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets that the daemon keeps. */
#include "client/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

int berth_secret_key(struct berth *b, char **ret, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", "/v1/secrets/key", SPAN_NULL, &j, e);

	if (r == 0)
		*ret = str_printf("# berth key %s\n%s\n", json_get_str(j, "id", ""), json_get_str(j, "public", ""));
	return r;
}

int berth_secret_list_json(struct berth *b, char **ret_json, struct berth_error *e)
{
	return client_text(b, "GET", "/v1/secrets", SPAN_NULL, ret_json, e);
}

static char *join(const struct json *list)
{
	struct buf words;
	char *all;
	size_t i;

	buf_init(&words, 65536);
	for (i = 0; i < json_len(list); i++)
		buf_printf(&words, "%s%s", i ? "," : "", json_text(json_at(list, i)));
	all = must_strdup(buf_str(&words));
	buf_fini(&words);
	return all;
}

int berth_secret_list(struct berth *b, int (*fn)(void *ctx, const struct berth_secret_info *), void *ctx,
		      struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", "/v1/secrets", SPAN_NULL, &j, e);
	size_t i;

	for (i = 0; r == 0 && i < json_len(j); i++) {
		const struct json *one = json_at(j, i);
		AUTO(str_free) char *templates = join(json_get(one, "templates"));
		AUTO(str_free) char *sandboxes = join(json_get(one, "sandboxes"));
		AUTO(str_free) char *hosts = join(json_get(one, "hosts"));
		AUTO(str_free) char *services = join(json_get(one, "services"));
		AUTO(str_free) char *methods = join(json_get(one, "methods"));
		AUTO(str_free) char *paths = join(json_get(one, "paths"));
		struct berth_secret_info info = { .name = json_get_str(one, "name", ""),
						  .delivery = json_get_str(one, "delivery", ""),
						  .templates = templates,
						  .sandboxes = sandboxes,
						  .hosts = hosts,
						  .services = services,
						  .methods = methods,
						  .paths = paths,
						  .per_minute = json_get_u64(one, "per_minute", 0),
						  .body_max = json_get_u64(one, "body_max", 0),
						  .answer_max = json_get_u64(one, "answer_max", 0),
						  .header = json_get_str(one, "header", ""),
						  .prefix = json_get_str(one, "prefix", ""),
						  .number = json_get_u64(one, "number", 0),
						  .created_ns = (int64_t)json_get_u64(one, "created_ms", 0) * 1000000,
						  .expires_ns = (int64_t)json_get_u64(one, "expires_ms", 0) * 1000000,
						  .added_ns = json_get_i64(one, "added_ns", 0) };

		r = fn(ctx, &info);
	}
	return r;
}

int berth_secret_add(struct berth *b, const void *sealed, size_t len, struct berth_error *e)
{
	return client_json(b, "POST", "/v1/secrets", SPAN(sealed, len), NULL, e);
}

int berth_secret_rotate(struct berth *b, const char *name, const void *sealed, size_t len, struct berth_error *e)
{
	return berth_secret_rotate_to(b, name, sealed, len, NULL, e);
}

int berth_secret_rotate_to(struct berth *b, const char *name, const void *sealed, size_t len, const char *deliver,
			   struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(name);
	AUTO(str_free) char *how = client_encode(deliver ? deliver : "");
	AUTO(str_free) char *path = str_printf("/v1/secrets/%s%s%s", safe, deliver ? "?deliver=" : "", how);

	return client_json(b, "PUT", path, SPAN(sealed, len), NULL, e);
}

int berth_secret_remove(struct berth *b, const char *name, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(name);
	AUTO(str_free) char *path = str_printf("/v1/secrets/%s", safe);

	return client_json(b, "DELETE", path, SPAN_NULL, NULL, e);
}

int berth_secret_audit(struct berth *b, uint64_t since, int (*fn)(void *ctx, const struct berth_secret_row *),
		       void *ctx, struct berth_error *e)
{
	for (;;) {
		AUTO(str_free) char *path = str_printf("/v1/secrets/audit?since=%llu", (unsigned long long)since);
		AUTO(json_free) struct json *j = NULL;
		int r = client_json(b, "GET", path, SPAN_NULL, &j, e);
		size_t i;

		for (i = 0; r == 0 && i < json_len(j); i++) {
			const struct json *one = json_at(j, i), *did = json_get(one, "did");
			struct berth_secret_row row = { .seq = json_get_u64(one, "seq", 0),
							.time_ns = json_get_i64(one, "time_ns", 0),
							.link = json_get_str(one, "link", ""),
							.what = json_get_str(did, "what", ""),
							.secret = json_get_str(did, "secret", ""),
							.key = json_get_str(did, "key", ""),
							.sandbox = json_get_str(did, "sandbox", ""),
							.command = json_get_str(did, "command", ""),
							.process = json_get_str(did, "process", ""),
							.delivery = json_get_str(did, "delivery", ""),
							.why = json_get_str(did, "why", ""),
							.where = json_get_str(did, "where", ""),
							.form = json_get_str(did, "form", ""),
							.service = json_get_str(did, "service", ""),
							.method = json_get_str(did, "method", ""),
							.host = json_get_str(did, "host", ""),
							.path = json_get_str(did, "path", ""),
							.count = json_get_u64(did, "count", 0),
							.status = json_get_u64(did, "status", 0),
							.sent_b = json_get_u64(did, "sent", 0),
							.received_b = json_get_u64(did, "received", 0) };

			since = row.seq;
			r = fn(ctx, &row);
		}
		if (r != 0 || !i)
			return r;
	}
}

int berth_secret_audit_json(struct berth *b, uint64_t since, char **ret_json, struct berth_error *e)
{
	AUTO(str_free) char *path = str_printf("/v1/secrets/audit?since=%llu", (unsigned long long)since);

	return client_text(b, "GET", path, SPAN_NULL, ret_json, e);
}
