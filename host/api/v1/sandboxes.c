/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes: made, listed, asked about, ended; and the store's health. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/str.h"
#include "host/broker/client.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>

static const char *const on_timeout[] = { [HUB_TIMEOUT_KILL] = "kill",
					  [HUB_TIMEOUT_PAUSE] = "pause",
					  [HUB_TIMEOUT_REST] = "pause-no-memory" };

static int put_pair(void *ctx, const char *key, const struct json *value)
{
	jw_kstr(ctx, key, json_text(value));
	return 0;
}

/* The metadata is kept as the JSON object that it came as, written by us. */
static void put_meta(struct json_writer *w, struct hub *hub, const char *id)
{
	AUTO(json_free) struct json *j = NULL;
	struct buf text;

	buf_init(&text, HUB_META_MAX + 1);
	jw_key(w, "metadata");
	jw_open(w, '{');
	if (hub_meta(hub, id, &text, NULL) == 0 && buf_len(&text) && json_parse(buf_span(&text), &j, NULL) == 0)
		(void)!json_each(j, put_pair, w);
	jw_close(w, '}');
	buf_fini(&text);
}

static void put_keep(struct json_writer *w, struct hub *hub, const struct hub_info *i)
{
	struct buf text;

	buf_init(&text, 65536);
	(void)!hub_keep(hub, i->id, &text, NULL);
	jw_key(w, "keep");
	jw_str(w, buf_span(&text));
	jw_key(w, "keep_followed");
	jw_bool(w, !i->keep_ignored);
	buf_fini(&text);
}

/* "A,B" as an array. */
static void put_secrets(struct json_writer *w, const char *names)
{
	jw_key(w, "secrets");
	jw_open(w, '[');
	while (*names) {
		size_t len = strcspn(names, ",");

		jw_str(w, SPAN(names, len));
		names += len + (names[len] == ',');
	}
	jw_close(w, ']');
}

/* The broker is asked for them: not in a list of all sandboxes. */
static void put_services(struct json_writer *w, const struct api *api, const struct hub_info *i)
{
	AUTO(broker_services_fini) struct broker_services all;
	size_t k;

	if (hub_services(api->hub, i->id, &all, NULL) < 0) /* the broker is being started again */
		return;
	jw_key(w, "services");
	jw_open(w, '[');
	for (k = 0; k < all.n; k++) {
		AUTO(str_free) char *url = str_printf("http://berth.internal/%s/", all.v[k].name);

		jw_open(w, '{');
		jw_kstr(w, "name", all.v[k].name);
		jw_kstr(w, "secret", all.v[k].secret);
		jw_kstr(w, "url", url);
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

static void put_info(struct json_writer *w, const struct api *api, const struct hub_info *i, bool is_one)
{
	struct hub *hub = api->hub;

	jw_open(w, '{');
	jw_kstr(w, "id", i->id);
	jw_kstr(w, "name", i->name);
	jw_kstr(w, "template", i->template_);
	jw_kstr(w, "key", i->owner);
	jw_kstr(w, "state", sandbox_state_name(i->state));
	jw_kstr(w, "why", i->why);
	jw_kstr(w, "mount", i->mount);
	jw_key(w, "created_ns");
	jw_i64(w, i->created_ns);
	jw_key(w, "ends_ns");
	jw_i64(w, i->ends_ns);
	jw_kstr(w, "on_timeout", on_timeout[i->on_timeout]);
	jw_key(w, "memory");
	jw_bool(w, !i->is_cold);
	jw_key(w, "stopped_ns");
	jw_i64(w, i->stopped_ns);
	jw_ku64(w, "memory_b", i->memory_b);
	jw_ku64(w, "workspace_b", i->workspace_b);
	jw_ku64(w, "cpu_milli", i->cpu_milli);
	jw_ku64(w, "pids", i->pids);
	jw_ku64(w, "pid", i->pid);
	jw_kstr(w, "watcher", i->watcher);
	jw_kstr(w, "agent", i->agent);
	put_secrets(w, i->secrets);
	if (is_one && (i->secrets[0] || i->has_egress))
		put_services(w, api, i);
	put_meta(w, hub, i->id);
	jw_kstr(w, "fill_why", i->fill_why);
	if (i->fills || i->filled.files_all) {
		jw_key(w, "filling");
		jw_open(w, '{');
		jw_ku64(w, "files", i->filled.files);
		jw_ku64(w, "files_total", i->filled.files_all);
		jw_ku64(w, "bytes", i->filled.bytes);
		jw_ku64(w, "bytes_total", i->filled.bytes_all);
		jw_close(w, '}');
	}
	put_keep(w, hub, i);
	jw_ku64(w, "left_out", i->left_out);
	jw_key(w, "network");
	if (v1_put_network(w, api, i->id, NULL) < 0) /* removed meanwhile */
		jw_raw(w, span_str("{\"mode\":\"none\",\"internet\":false,\"allow\":[],\"deny\":[]}"));
	jw_key(w, "replication");
	jw_open(w, '{');
	jw_key(w, "up");
	jw_bool(w, i->ws.is_up);
	jw_key(w, "halted");
	jw_bool(w, i->ws.halted);
	jw_kstr(w, "why", i->ws.why);
	jw_ku64(w, "batches", i->ws.batches);
	jw_ku64(w, "records", i->ws.records);
	jw_ku64(w, "shipments", i->ws.ships);
	jw_ku64(w, "shipped_b", i->ws.ship_b);
	jw_ku64(w, "queued_b", i->ws.queued_b);
	jw_ku64(w, "held_b", i->ws.held_b);
	jw_close(w, '}');
	jw_close(w, '}');
}

static void reply_info(struct http_res *res, const struct api *api, const struct hub_info *i)
{
	struct json_writer w = { .b = &res->body };

	put_info(&w, api, i, true);
	buf_append(&res->body, "\n", 1);
}

static int copy_word(const struct json *j, const char *key, char *to, size_t size, struct err *e)
{
	if (str_copy(to, size, json_get_str(j, key, "")) < 0)
		return err_set(e, -EINVAL, "bad-name", "%s is too long", key);
	return 0;
}

static int read_on_timeout(const struct json *j, enum hub_timeout *ret, struct err *e)
{
	const char *word = json_get_str(j, "on_timeout", "kill");

	for (*ret = HUB_TIMEOUT_KILL; *ret <= HUB_TIMEOUT_REST; ++*ret)
		if (str_eq(word, on_timeout[*ret]))
			return 0;
	return err_set(e, -EINVAL, "bad-request",
		       "on_timeout must be \"kill\", \"pause\" or \"pause-no-memory\"");
}

/* One line of JSON, written by ourselves, so that the record that it becomes a line of cannot be broken by it. */
static int read_meta(const struct json *j, struct buf *to, struct err *e)
{
	const struct json *meta = json_get(j, "metadata");
	struct json_writer w = { .b = to };

	if (!meta)
		return 0;
	jw_open(&w, '{');
	(void)!json_each(meta, put_pair, &w);
	jw_close(&w, '}');
	return to->failed ? err_set(e, -E2BIG, "limit", "metadata: at most %d bytes", (int)HUB_META_MAX) : 0;
}

/* "A,B" of a list; NULL: none. */
static const char *join_secrets(const struct json *j, struct buf *to)
{
	const struct json *list = json_get(j, "secrets");
	size_t i;

	for (i = 0; i < json_len(list); i++)
		buf_printf(to, "%s%s", i ? "," : "", json_text(json_at(list, i)));
	return json_len(list) ? buf_str(to) : NULL;
}

int v1_sandbox_create(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct hub_create what = { .timeout_ms = 0 };
	struct policy network = POLICY_NULL;
	struct hub_info info;
	struct buf meta, secrets;
	int r = v1_body(req,
			"template:s name:s id:s timeout_ms:u on_timeout:s metadata:os memory_b:u workspace_b:u "
			"cpu_milli:u pids:u from:s no_wait:b keep:s secrets:as "
			"internet:b allow:as deny:as proxy:os",
			&j, e);

	if (r == 0)
		r = copy_word(j, "template", what.template_, sizeof(what.template_), e);
	if (r == 0)
		r = copy_word(j, "name", what.name, sizeof(what.name), e);
	if (r == 0)
		r = copy_word(j, "id", what.id, sizeof(what.id), e);
	if (r < 0)
		return r;
	r = read_on_timeout(j, &what.on_timeout, e);
	if (r < 0)
		return r;
	what.from = json_get_str(j, "from", NULL);
	what.no_wait = json_get_bool(j, "no_wait", false);
	what.keep = json_get_str(j, "keep", NULL);
	what.timeout_ms = json_get_u64(j, "timeout_ms", 0);
	what.memory_b = json_get_u64(j, "memory_b", 0);
	what.workspace_b = json_get_u64(j, "workspace_b", 0);
	what.cpu_milli = (uint32_t)MIN(json_get_u64(j, "cpu_milli", 0), (uint64_t)UINT32_MAX);
	what.pids = (uint32_t)MIN(json_get_u64(j, "pids", 0), (uint64_t)UINT32_MAX);
	snprintf(what.owner, sizeof(what.owner), "%s", http_who(req)->id);
	if (what.owner[0])
		what.owner_max = keys_sandboxes(api->keys, what.owner);
	buf_init(&secrets, 65536);
	what.secrets = join_secrets(j, &secrets);
	buf_init(&meta, HUB_META_MAX);
	r = read_meta(j, &meta, e);
	what.meta = buf_span(&meta);
	if (r == 0 &&
	    (json_get(j, "internet") || json_get(j, "allow") || json_get(j, "deny") || json_get(j, "proxy"))) {
		r = v1_read_network(api, j, &network, e);
		what.network = &network;
	}
	if (r == 0)
		r = v1_check_own(api, req, what.from, e);
	if (r == 0 && !v1_sees_template(req, what.template_))
		r = err_set(e, -ENOENT, "no-such-template", "there is no template %s", what.template_);
	if (r == 0)
		r = hub_create(api->hub, &what, &info, e);
	policy_fini(&network);
	buf_fini(&meta);
	buf_fini(&secrets);
	if (r < 0)
		return r;
	res->status = 201;
	reply_info(res, api, &info);
	return 0;
}

struct listing {
	struct json_writer w;
	const struct api *api;
	const struct http_req *req;
	struct hub *hub;
	const char *key, *value; /* of metadata; NULL: all */
};

static int find_pair(void *ctx, const char *key, const struct json *value)
{
	const struct listing *l = ctx;

	return str_eq(key, l->key) && str_eq(json_text(value), l->value);
}

static bool is_wanted(struct listing *l, const char *id)
{
	AUTO(json_free) struct json *j = NULL;
	struct buf text;
	bool yes;

	if (!l->key)
		return true;
	buf_init(&text, HUB_META_MAX + 1);
	yes = hub_meta(l->hub, id, &text, NULL) == 0 && buf_len(&text) &&
	      json_parse(buf_span(&text), &j, NULL) == 0 && json_each(j, find_pair, l) != 0;
	buf_fini(&text);
	return yes;
}

static int list_one(void *ctx, const struct hub_info *info)
{
	struct listing *l = ctx;

	if (v1_is_own(l->req, info) && is_wanted(l, info->id))
		put_info(&l->w, l->api, info, false);
	return 0;
}

int v1_sandbox_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct listing l = {
		.w = { .b = &res->body }, .api = api, .req = req, .hub = api->hub, .value = http_query(req, "value")
	};
	uint64_t all;
	int r = v1_query_u64(req, "all", 0, &all, e);

	l.key = http_query(req, "key");
	if (r == 0 && !l.key != !l.value)
		r = err_set(e, -EINVAL, "bad-request", "key and value belong together");
	if (r < 0)
		return r;
	jw_open(&l.w, '[');
	r = hub_each(api->hub, all != 0, list_one, &l);
	jw_close(&l.w, ']');
	buf_append(&res->body, "\n", 1);
	return r < 0 ? err_sys(e, r, "listing") : 0;
}

int v1_sandbox_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct hub_info info;
	int r = hub_find_any(api->hub, http_segment(req, 0), &info, e);

	if (r == 0)
		reply_info(res, api, &info);
	return r;
}

static int reply_ok(struct http_res *res, int r)
{
	if (r == 0)
		buf_append(&res->body, "{}\n", 3);
	return r;
}

int v1_sandbox_kill(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	int r = v1_body(req, "grace_ms:u", &j, e);

	return r < 0 ? r
		     : reply_ok(res, hub_kill(api->hub, http_segment(req, 0), json_get_u64(j, "grace_ms", 1000), e));
}

int v1_sandbox_pause(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	int r = v1_body(req, "memory:b", &j, e);

	if (r == 0)
		r = json_get_bool(j, "memory", true) ? hub_pause(api->hub, http_segment(req, 0), e)
						     : hub_rest(api->hub, http_segment(req, 0), e);
	return reply_ok(res, r);
}

int v1_sandbox_resume(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	int r = v1_body(req, "timeout_ms:u memory:b", &j, e);

	if (r == 0)
		r = hub_resume(api->hub, http_segment(req, 0), json_get_u64(j, "timeout_ms", 0),
			       !json_get_bool(j, "memory", true), e);
	return reply_ok(res, r);
}

int v1_sandbox_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	unsigned left = 0;
	uint64_t snapshots;
	int r = v1_query_u64(req, "snapshots", 0, &snapshots, e);

	if (r == 0)
		r = hub_remove(api->hub, http_segment(req, 0), snapshots, &left, e);
	if (r < 0)
		return r;
	jw_open(&w, '{');
	jw_ku64(&w, "snapshots_left", left);
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}

int v1_sandbox_timeout(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	int r = v1_body(req, "timeout_ms:u", &j, e);

	return r < 0 ? r
		     : reply_ok(res,
				hub_set_timeout(api->hub, http_segment(req, 0), json_get_u64(j, "timeout_ms", 0), e));
}

int v1_sandbox_sync(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	uint64_t ms;
	int r = v1_query_u64(req, "timeout_ms", 120000, &ms, e);

	return r < 0 ? r : reply_ok(res, hub_sync(api->hub, http_segment(req, 0), ms, e));
}

/* --- health of the store ------------------------------------------------------------------------------------------ */

static void say(void *ctx, const char *words)
{
	jw_str(ctx, span_str(words));
}

int v1_fsck(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	struct fsck_stats stats;
	int r;

	(void)req;
	jw_open(&w, '{');
	jw_key(&w, "findings");
	jw_open(&w, '[');
	r = hub_fsck(api->hub, say, &w, &stats, e);
	jw_close(&w, ']');
	if (r < 0)
		return r;
	jw_ku64(&w, "workspaces", stats.workspaces);
	jw_ku64(&w, "nodes", stats.nodes);
	jw_ku64(&w, "entries", stats.entries);
	jw_ku64(&w, "chunks", stats.chunks);
	jw_ku64(&w, "bytes", stats.bytes);
	jw_ku64(&w, "orphans", stats.orphans);
	jw_ku64(&w, "problems", stats.problems);
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}
