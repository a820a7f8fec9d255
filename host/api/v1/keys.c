/* SPDX-License-Identifier: Apache-2.0 */
/* API keys: made, listed, revoked. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "host/secret/secret.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>

static void put_key(struct json_writer *w, const struct access_key *k, int64_t used_ns, const char *text)
{
	size_t i;

	jw_open(w, '{');
	jw_kstr(w, "id", k->id);
	jw_kstr(w, "name", k->name);
	if (text)
		jw_kstr(w, "key", text);
	jw_key(w, "scopes");
	jw_open(w, '[');
	for (i = 0; keys_scopes[i]; i++)
		if (k->scopes & 1U << i)
			jw_str(w, span_str(keys_scopes[i]));
	jw_close(w, ']');
	jw_ku64(w, "sandboxes", k->sandboxes);
	jw_ku64(w, "per_second", k->per_second);
	jw_key(w, "created_ns");
	jw_i64(w, k->created_ns);
	jw_key(w, "expires_ns");
	jw_i64(w, k->expires_ns);
	jw_key(w, "used_ns");
	jw_i64(w, used_ns);
	jw_close(w, '}');
}

static int get_scopes(const struct json *j, uint32_t *ret, struct err *e)
{
	size_t i, k;

	for (i = 0; i < json_len(j); i++) {
		const char *word = json_text(json_at(j, i));

		for (k = 0; keys_scopes[k] && !str_eq(keys_scopes[k], word);)
			k++;
		if (!keys_scopes[k])
			return err_set(e, -EINVAL, "bad-request", "\"%.40s\" is no scope: read, files, run, admin are",
				       word);
		*ret |= 1U << k;
	}
	return *ret ? 0 : err_set(e, -EINVAL, "bad-request", "scopes must have one of read, files, run, admin");
}

int v1_key_create(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	AUTO(json_free) struct json *j = NULL;
	struct access_key k = { .scopes = 0 };
	char text[KEYS_TEXT + 1];
	uint64_t ms;
	int r = v1_body(req, "name:s scopes:as sandboxes:u per_second:u timeout_ms:u", &j, e);

	if (r == 0 && str_copy(k.name, sizeof(k.name), json_get_str(j, "name", "")) < 0)
		r = err_set(e, -EINVAL, "bad-name", "the key's name is too long");
	if (r == 0)
		r = get_scopes(json_get(j, "scopes"), &k.scopes, e);
	if (r < 0)
		return r;
	k.sandboxes = (uint32_t)MIN(json_get_u64(j, "sandboxes", 0), (uint64_t)UINT32_MAX);
	k.per_second = (uint32_t)MIN(json_get_u64(j, "per_second", 0), (uint64_t)1000000);
	ms = json_get_u64(j, "timeout_ms", 0);
	if (ms)
		k.expires_ns = clock_wall() + (int64_t)(MIN(ms, (uint64_t)INT64_MAX / CLOCK_S) * CLOCK_MS);
	r = keys_create(api->keys, &k, text, e);
	if (r < 0)
		return r;
	log_info("api", "key created", "key=%s/%s", k.name, k.id);
	events_emit(api->events, "key.created", k.id, k.name, "");
	res->status = 201;
	put_key(&w, &k, 0, text);
	buf_append(&res->body, "\n", 1);
	return 0;
}

static int list_one(void *ctx, const struct access_key *k, int64_t used_ns)
{
	put_key(ctx, k, used_ns, NULL);
	return 0;
}

int v1_key_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };

	(void)req;
	(void)e;
	jw_open(&w, '[');
	keys_each(api->keys, list_one, &w);
	jw_close(&w, ']');
	buf_append(&res->body, "\n", 1);
	return 0;
}

/* Whatever the key has open ends here and now; that may be this very connection. */
int v1_key_revoke(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct access_key was = { .scopes = 0 };
	struct err why = ERR_NULL;
	int r = keys_revoke(api->keys, http_segment(req, 0), &was, e);

	if (!was.scopes)
		return r;
	http_cut(api->http, was.id);
	/* Nobody could use what it made for itself, or remove it. */
	if (secrets_own_forget(api->secrets, was.id, http_who(req)->id, &why) < 0)
		log_warn("api", "secrets of a key that was revoked are left", "key=%s/%s why=%s", was.name, was.id,
			 why.text);
	log_info("api", "key revoked", "key=%s/%s", was.name, was.id);
	events_emit(api->events, "key.revoked", was.id, was.name, "");
	if (r == 0)
		buf_append(&res->body, "{}\n", 3);
	return r;
}
