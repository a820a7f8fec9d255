/* SPDX-License-Identifier: Apache-2.0 */
/* API keys, events, and watching. */
#include "client/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

int berth_key_create(struct berth *b, const struct berth_key *what, char **ret_key, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	const char *const *scope;
	struct buf body;
	struct json_writer w = { .b = &body };
	int r;

	buf_init(&body, 65536);
	jw_open(&w, '{');
	jw_kstr(&w, "name", what->name);
	jw_key(&w, "scopes");
	jw_open(&w, '[');
	for (scope = what->scopes; *scope; scope++)
		jw_str(&w, span_str(*scope));
	jw_close(&w, ']');
	jw_ku64(&w, "sandboxes", what->sandboxes);
	jw_ku64(&w, "per_second", what->per_second);
	jw_ku64(&w, "timeout_ms", what->timeout_ms);
	jw_close(&w, '}');
	r = client_json(b, "POST", "/v1/keys", buf_span(&body), &j, e);
	buf_fini(&body);
	if (r == 0)
		*ret_key = must_strdup(json_get_str(j, "key", ""));
	return r;
}

int berth_key_list_json(struct berth *b, char **ret_json, struct berth_error *e)
{
	return client_text(b, "GET", "/v1/keys", SPAN_NULL, ret_json, e);
}

int berth_key_list(struct berth *b, int (*fn)(void *ctx, const struct berth_key_info *), void *ctx,
		   struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", "/v1/keys", SPAN_NULL, &j, e);
	size_t i, k;

	for (i = 0; r == 0 && i < json_len(j); i++) {
		const struct json *one = json_at(j, i), *scopes = json_get(one, "scopes");
		struct berth_key_info info = { .id = json_get_str(one, "id", ""),
					       .name = json_get_str(one, "name", ""),
					       .sandboxes = json_get_u64(one, "sandboxes", 0),
					       .per_second = json_get_u64(one, "per_second", 0),
					       .created_ns = (int64_t)json_get_u64(one, "created_ns", 0),
					       .expires_ns = (int64_t)json_get_u64(one, "expires_ns", 0),
					       .used_ns = (int64_t)json_get_u64(one, "used_ns", 0) };
		struct buf words;

		buf_init(&words, 1024);
		for (k = 0; k < json_len(scopes); k++)
			buf_printf(&words, "%s%s", k ? "," : "", json_text(json_at(scopes, k)));
		info.scopes = buf_str(&words);
		r = fn(ctx, &info);
		buf_fini(&words);
	}
	return r;
}

int berth_key_revoke(struct berth *b, const char *id, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(id);
	AUTO(str_free) char *path = str_printf("/v1/keys/%s", safe);

	return client_json(b, "DELETE", path, SPAN_NULL, NULL, e);
}

/* --- space -------------------------------------------------------------------------------------------------------- */

static void usage_from(const struct json *j, struct berth_usage *u)
{
	snprintf(u->id, sizeof(u->id), "%s", json_get_str(j, "id", ""));
	snprintf(u->name, sizeof(u->name), "%s", json_get_str(j, "name", ""));
	snprintf(u->state, sizeof(u->state), "%s", json_get_str(j, "state", ""));
	u->entries = json_get_u64(j, "entries", 0);
	u->entries_max = json_get_u64(j, "entries_max", 0);
	u->brought_b = json_get_u64(j, "brought_b", 0);
	u->charged_b = json_get_u64(j, "charged_b", u->brought_b); /* an older daemon has no such figure */
	u->brought_max_b = json_get_u64(j, "brought_max_b", 0);
	u->store_b = json_get_u64(j, "store_b", 0);
	u->image_b = json_get_u64(j, "image_b", 0);
	u->has_own = json_get(j, "own_b") != NULL;
	u->own_b = json_get_u64(j, "own_b", 0);
	u->snapshots = json_get_u64(j, "snapshots", 0);
}

int berth_df_json(struct berth *b, char **ret_json, struct berth_error *e)
{
	return client_text(b, "GET", "/v1/df", SPAN_NULL, ret_json, e);
}

int berth_df(struct berth *b, struct berth_df *ret, struct berth_usage **ret_rows, size_t *ret_n,
	     struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	const struct json *disk, *store, *rows, *gc, *layers;
	int r = client_json(b, "GET", "/v1/df", SPAN_NULL, &j, e);
	size_t i;

	if (r < 0)
		return r;
	disk = json_get(j, "disk");
	store = json_get(j, "store");
	rows = json_get(j, "workspaces");
	snprintf(ret->state, sizeof(ret->state), "%s", json_get_str(disk, "state", "ok"));
	ret->disk_total_b = json_get_u64(disk, "total_b", 0);
	ret->disk_free_b = json_get_u64(disk, "free_b", 0);
	ret->store_b = json_get_u64(store, "content_b", 0);
	ret->store_used_b = json_get_u64(store, "content_used_b", 0);
	ret->store_max_b = json_get_u64(store, "map_b", 0);
	layers = json_get(j, "layers");
	ret->layers = json_get_u64(layers, "n", 0);
	ret->layers_b = json_get_u64(layers, "bytes", 0);
	ret->layers_max_b = json_get_u64(layers, "max_b", 0);
	gc = json_get(j, "gc");
	if (gc) {
		ret->gc_at_ns = (int64_t)json_get_u64(gc, "at_ns", 0);
		ret->gc_live_b = json_get_u64(gc, "bytes", 0);
		ret->gc_saved_b = json_get_u64(gc, "saved_b", 0);
	}
	*ret_n = json_len(rows);
	*ret_rows = must_calloc(*ret_n, sizeof(**ret_rows));
	for (i = 0; i < *ret_n; i++)
		usage_from(json_at(rows, i), &(*ret_rows)[i]);
	return 0;
}

static char *usage_path(uint64_t since, const char *by)
{
	return str_printf("/v1/usage?since=%llu&by=%s", (unsigned long long)since, by);
}

int berth_usage_json(struct berth *b, uint64_t since, const char *by, char **ret_json, struct berth_error *e)
{
	AUTO(str_free) char *path = usage_path(since, by);

	return client_text(b, "GET", path, SPAN_NULL, ret_json, e);
}

int berth_usage_each(struct berth *b, uint64_t since, const char *by,
		     int (*fn)(void *ctx, const struct berth_usage_sum *), void *ctx, struct berth_error *e)
{
	AUTO(str_free) char *path = usage_path(since, by);
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", path, SPAN_NULL, &j, e);
	size_t i;

	for (i = 0; r == 0 && i < json_len(j); i++) {
		const struct json *one = json_at(j, i);
		struct berth_usage_sum u = { .hour = json_get_u64(one, "hour", 0),
					     .sandbox = json_get_str(one, "sandbox", ""),
					     .key = json_get_str(one, "key", ""),
					     .run_ms = json_get_u64(one, "run_ms", 0),
					     .paused_ms = json_get_u64(one, "paused_ms", 0),
					     .cpu_ms = json_get_u64(one, "cpu_ms", 0),
					     .memory_mib_s = json_get_u64(one, "memory_mib_s", 0),
					     .stored_b = json_get_u64(one, "stored_b", 0),
					     .moved_b = json_get_u64(one, "moved_b", 0) };

		r = fn(ctx, &u);
	}
	return r;
}

int berth_gc(struct berth *b, struct berth_gc *ret, char **ret_json, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *text = NULL;
	int r = client_text(b, "POST", "/v1/gc", SPAN_NULL, &text, e);

	if (r < 0)
		return r;
	if (json_parse(span_str(text), &j, NULL) < 0)
		return client_error(e, -EPROTO, "bad-answer", "the daemon's answer is no JSON");
	*ret = (struct berth_gc){ .freed = json_get_u64(j, "freed", 0),
				  .freed_b = json_get_u64(j, "freed_b", 0),
				  .left = json_get_u64(j, "objects", 0),
				  .left_b = json_get_u64(j, "bytes", 0),
				  .took_ms = json_get_u64(j, "took_ms", 0) };
	if (ret_json)
		*ret_json = take(&text);
	return 0;
}

/* --- events ------------------------------------------------------------------------------------------------------- */

struct lines {
	struct buf part;
	int (*fn)(void *ctx, const char *line);
	void *ctx;
	bool stopped;
	int result;
};

/* Whole lines are handed over; empty ones only say that the daemon lives. */
static int take_piece(void *ctx, const void *data, size_t len)
{
	struct lines *l = ctx;
	struct span all;
	const char *end;

	if (buf_append(&l->part, data, len) < 0) {
		l->result = -E2BIG;
		l->stopped = true;
		return 1;
	}
	while (!l->stopped && (all = buf_span(&l->part)).len && (end = memchr(all.p, '\n', all.len))) {
		size_t n = (size_t)(end - (const char *)all.p);
		AUTO(str_free) char *line = span_dup(SPAN(all.p, n));

		buf_consume(&l->part, n + 1);
		l->result = n ? l->fn(l->ctx, line) : 0;
		l->stopped = l->result != 0;
	}
	return l->stopped;
}

int client_lines(struct berth *b, const char *path, bool follow, int (*fn)(void *ctx, const char *line), void *ctx,
		 struct berth_error *e)
{
	struct lines l = { .fn = fn, .ctx = ctx };
	struct client_call c = { .method = "GET", .path = path, .from_fd = -1, .to_fd = -1, .each = take_piece,
				 .ctx = &l, .stopped = &l.stopped };
	int r;

	buf_init(&l.part, 1024 * 1024);
	r = client_call(b, &c, e);
	buf_fini(&l.part);
	if (r == 0 && l.stopped)
		return l.result;
	if (r == 0 && follow)
		r = client_error(e, -EPIPE, "cut-off", "the daemon ended");
	return r;
}

int berth_events_json(struct berth *b, uint64_t since, bool follow, int (*fn)(void *ctx, const char *line), void *ctx,
		      struct berth_error *e)
{
	AUTO(str_free) char *from = since ? str_printf("&since=%llu", (unsigned long long)since) : must_strdup("");
	AUTO(str_free) char *path = str_printf("/v1/events?follow=%d%s", follow, from);

	return client_lines(b, path, follow, fn, ctx, e);
}

struct parsed {
	int (*fn)(void *ctx, const struct berth_what *);
	void *ctx;
};

static int parse_line(void *ctx, const char *line)
{
	AUTO(json_free) struct json *j = NULL;
	struct parsed *p = ctx;
	struct berth_what what;

	if (json_parse(span_str(line), &j, NULL) < 0)
		return 0;
	what = (struct berth_what){ .seq = json_get_u64(j, "seq", 0),
				    .time_ns = (int64_t)json_get_u64(j, "time_ns", 0),
				    .kind = json_get_str(j, "kind", ""),
				    .id = json_get_str(j, "id", ""),
				    .name = json_get_str(j, "name", ""),
				    .why = json_get_str(j, "why", "") };
	return p->fn(p->ctx, &what);
}

int berth_events(struct berth *b, uint64_t since, bool follow, int (*fn)(void *ctx, const struct berth_what *),
		 void *ctx, struct berth_error *e)
{
	struct parsed p = { .fn = fn, .ctx = ctx };

	return berth_events_json(b, since, follow, parse_line, &p, e);
}

/* --- watching ----------------------------------------------------------------------------------------------------- */

int berth_watch_json(struct berth *b, const char *id, const struct berth_watch *what,
		     int (*fn)(void *ctx, const char *line), void *ctx, struct berth_error *e)
{
	AUTO(str_free) char *box = client_encode(id);
	AUTO(str_free) char *place = client_encode(what->path ? what->path : "");
	AUTO(str_free) char *from = what->since || !what->follow
					    ? str_printf("&since=%llu", (unsigned long long)what->since)
					    : must_strdup("");
	AUTO(str_free) char *path = str_printf("/v1/sandboxes/%s/watch?path=%s&recursive=%d&follow=%d%s", box, place,
					       !what->flat, what->follow, from);

	return client_lines(b, path, what->follow, fn, ctx, e);
}

struct changes {
	int (*fn)(void *ctx, const struct berth_change *);
	void *ctx;
};

static int parse_change(void *ctx, const char *line)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = NULL;
	AUTO(str_free) char *from = NULL;
	struct changes *c = ctx;
	struct berth_change change;

	if (json_parse(span_str(line), &j, NULL) < 0)
		return 0;
	path = client_bytes(j, "path", "");
	from = client_bytes(j, "from", NULL);
	change = (struct berth_change){ .seq = json_get_u64(j, "seq", 0),
					.time_ns = (int64_t)json_get_u64(j, "time_ns", 0),
					.kind = json_get_str(j, "kind", ""),
					.type = json_get_str(j, "type", "other"),
					.path = path,
					.from = from,
					.size = json_get_u64(j, "size", 0),
					.mode = (uint32_t)json_get_u64(j, "mode", 0) };
	return c->fn(c->ctx, &change);
}

int berth_watch(struct berth *b, const char *id, const struct berth_watch *what,
		int (*fn)(void *ctx, const struct berth_change *), void *ctx, struct berth_error *e)
{
	struct changes c = { .fn = fn, .ctx = ctx };

	return berth_watch_json(b, id, what, parse_change, &c, e);
}
