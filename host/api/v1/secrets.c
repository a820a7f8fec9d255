/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets: the daemon's public key, what is kept, and the audit. No answer has a value. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/map.h"
#include "base/str.h"
#include "host/broker/client.h"
#include "host/secret/secret.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>

enum { AUDIT_ANSWER_MAX = 1000 }; /* rows in one answer */

int v1_secret_key(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	AUTO(buf_fini) struct buf pub;
	char id[SEAL_ID_TEXT];

	(void)req;
	(void)e;
	buf_init(&pub, 256);
	secrets_pub(api->secrets, &pub, id);
	jw_open(&w, '{');
	jw_kstr(&w, "id", id);
	jw_kstr(&w, "public", buf_str(&pub));
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}

static void put_list(struct json_writer *w, const char *key, const struct seal_list *l)
{
	size_t i;

	jw_key(w, key);
	jw_open(w, '[');
	for (i = 0; i < l->n; i++)
		jw_str(w, span_str(l->v[i]));
	jw_close(w, ']');
}

/* One answer while it is written. */
struct names {
	const struct http_req *req;
	struct json_writer w;
	struct map services; /* name -> "A,B", owned */
	struct buf names;    /* of those for the broker, one behind the other */
};

/* What a key made for itself is not there for others. */
static bool sees(const struct names *l, const struct secrets_info *info)
{
	return v1_sees_all(l->req) || secrets_own_may(info->policy->name, http_who(l->req)->id);
}

static int note_broker(void *ctx, const struct secrets_info *info)
{
	struct names *l = ctx;

	if (info->policy->delivery == SEAL_BROKER && sees(l, info))
		buf_append(&l->names, info->policy->name, strlen(info->policy->name) + 1);
	return 0;
}

/* Before, since nobody may block while they are gone through. */
static void find_services(struct api *api, struct names *l)
{
	struct span left;

	buf_init(&l->names, 0);
	secrets_each(api->secrets, note_broker, l);
	for (left = buf_span(&l->names); left.len;) {
		const char *name = left.p;
		AUTO(broker_services_fini) struct broker_services all;
		struct buf words;
		size_t i;

		left = SPAN(name + strlen(name) + 1, left.len - strlen(name) - 1);
		if (hub_secret_services(api->hub, name, &all, NULL) < 0 || !all.n)
			continue;
		buf_init(&words, 65536);
		for (i = 0; i < all.n; i++)
			buf_printf(&words, "%s%s", i ? "," : "", all.v[i].name);
		free(map_put(&l->services, span_str(name), must_strdup(buf_str(&words))));
		buf_fini(&words);
	}
	buf_fini(&l->names);
}

static void put_words(struct json_writer *w, const char *key, const char *words)
{
	jw_key(w, key);
	jw_open(w, '[');
	while (words && *words) {
		size_t len = strcspn(words, ",");

		jw_str(w, SPAN(words, len));
		words += len + (words[len] == ',');
	}
	jw_close(w, ']');
}

static void put_request(struct json_writer *w, const struct seal_policy *p)
{
	put_list(w, "methods", &p->methods);
	put_list(w, "paths", &p->paths);
	if (p->per_minute)
		jw_ku64(w, "per_minute", p->per_minute);
	if (p->body_max)
		jw_ku64(w, "body_max", p->body_max);
	if (p->answer_max)
		jw_ku64(w, "answer_max", p->answer_max);
	if (!p->header[0])
		return;
	jw_kstr(w, "header", p->header);
	jw_kstr(w, "prefix", p->prefix);
}

static int put_info(void *ctx, const struct secrets_info *info)
{
	const struct seal_policy *p = info->policy;
	struct names *l = ctx;
	struct json_writer *w = &l->w;

	if (!sees(l, info))
		return 0;
	jw_open(w, '{');
	jw_kstr(w, "name", p->name);
	jw_kstr(w, "delivery", seal_delivery_word(p->delivery));
	if (p->owner[0])
		jw_kstr(w, "owner", p->owner);
	put_list(w, "templates", &p->templates);
	put_list(w, "sandboxes", &p->sandboxes);
	put_list(w, "hosts", &p->hosts);
	if (p->delivery == SEAL_BROKER) {
		put_words(w, "services", map_get(&l->services, span_str(p->name)));
		put_request(w, p);
	}
	jw_ku64(w, "created_ms", p->created_ms);
	jw_ku64(w, "expires_ms", p->expires_ms);
	jw_ku64(w, "number", info->number);
	jw_key(w, "added_ns");
	jw_i64(w, info->added_ns);
	jw_key(w, "signed");
	jw_bool(w, info->is_signed);
	jw_close(w, '}');
	return 0;
}

int v1_secret_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct names l = { .req = req, .w = { .b = &res->body } };
	char *words;

	(void)e;
	find_services(api, &l);
	jw_open(&l.w, '[');
	secrets_each(api->secrets, put_info, &l);
	jw_close(&l.w, ']');
	buf_append(&res->body, "\n", 1);
	while ((words = map_take_any(&l.services)))
		free(words);
	map_fini(&l.services);
	return 0;
}

/* The sealed file, as it is. */
static int read_sealed(struct http_req *req, struct span *ret, struct err *e)
{
	uint64_t size;
	int fd;

	*ret = http_body(req, &fd, &size);
	if (fd >= 0 || ret->len > SECRETS_SEALED_MAX)
		return err_set(e, -E2BIG, "body-too-large", "a sealed file of at most %d bytes is wanted",
			       SECRETS_SEALED_MAX);
	return ret->len ? 0 : err_set(e, -EINVAL, "bad-secret", "the body must be a sealed file");
}

int v1_secret_add(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct span sealed;
	int r = read_sealed(req, &sealed, e);

	if (r == 0)
		r = secrets_add(api->secrets, sealed, http_who(req)->id, e);
	if (r == 0) {
		res->status = 201;
		buf_append(&res->body, "{}\n", 3);
	}
	return r;
}

int v1_secret_rotate(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct span sealed;
	int r = read_sealed(req, &sealed, e);

	if (r == 0)
		r = secrets_rotate(api->secrets, http_segment(req, 0), sealed, http_query(req, "deliver"),
				   http_who(req)->id, e);
	if (r == 0)
		buf_append(&res->body, "{}\n", 3);
	return r;
}

int v1_secret_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	int r = secrets_remove(api->secrets, http_segment(req, 0), http_who(req)->id, e);

	if (r == 0)
		buf_append(&res->body, "{}\n", 3);
	return r;
}

struct listing {
	struct json_writer w;
	size_t n;
};

static int put_row(void *ctx, const struct audit_row *row)
{
	struct listing *l = ctx;
	char link[2 * DIGEST_LEN + 1];

	if (l->n++ == AUDIT_ANSWER_MAX)
		return 1;
	str_hex(row->link.b, DIGEST_LEN, link);
	jw_open(&l->w, '{');
	jw_ku64(&l->w, "seq", row->seq);
	jw_key(&l->w, "time_ns");
	jw_i64(&l->w, row->time_ns);
	jw_kstr(&l->w, "link", link);
	jw_key(&l->w, "did");
	jw_raw(&l->w, row->text);
	jw_close(&l->w, '}');
	return 0;
}

int v1_secret_audit(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct listing l = { .w = { .b = &res->body } };
	uint64_t since;
	int r = v1_query_u64(req, "since", 0, &since, e);

	if (r < 0)
		return r;
	jw_open(&l.w, '[');
	r = secrets_audit(api->secrets, since + 1, put_row, &l);
	jw_close(&l.w, ']');
	buf_append(&res->body, "\n", 1);
	return r < 0 ? err_sys(e, r, "reading the audit") : 0;
}
