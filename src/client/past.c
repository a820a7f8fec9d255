/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, what differs, going back, forks. */
#include "client/inside.h"

#include "base/str.h"

#include <stdio.h>

static char *sandbox_path(const char *id, const char *what)
{
	AUTO(str_free) char *safe = client_encode(id);

	return str_printf("/v1/sandboxes/%s/%s", safe, what);
}

static void snapshot_from(const struct json *j, struct berth_snapshot *ret)
{
	*ret = (struct berth_snapshot){ .created_ns = (int64_t)json_get_u64(j, "created_ns", 0),
					.entries = json_get_u64(j, "entries", 0),
					.live = json_get_bool(j, "live", false),
					.frozen = json_get_bool(j, "frozen", true) };
	snprintf(ret->name, sizeof(ret->name), "%s", json_get_str(j, "name", ""));
}

int berth_snapshot(struct berth *b, const char *id, const char *name, bool unfrozen, struct berth_snapshot *ret,
		   struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = sandbox_path(id, "snapshots");
	struct buf body;
	struct json_writer w = { .b = &body };
	int r;

	buf_init(&body, 4096);
	jw_open(&w, '{');
	if (name)
		jw_kstr(&w, "name", name);
	jw_key(&w, "freeze");
	jw_bool(&w, !unfrozen);
	jw_close(&w, '}');
	r = client_json(b, "POST", path, buf_span(&body), &j, e);
	buf_fini(&body);
	if (r == 0)
		snapshot_from(j, ret);
	return r;
}

int berth_snapshots_json(struct berth *b, const char *id, char **ret_json, struct berth_error *e)
{
	AUTO(str_free) char *path = sandbox_path(id, "snapshots");

	return client_text(b, "GET", path, SPAN_NULL, ret_json, e);
}

int berth_snapshots(struct berth *b, const char *id, int (*fn)(void *ctx, const struct berth_snapshot *), void *ctx,
		    struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = sandbox_path(id, "snapshots");
	int r = client_json(b, "GET", path, SPAN_NULL, &j, e);
	struct berth_snapshot one;
	size_t i;

	for (i = 0; r == 0 && i < json_len(j); i++) {
		snapshot_from(json_at(j, i), &one);
		r = fn(ctx, &one);
	}
	return r;
}

int berth_snapshot_remove(struct berth *b, const char *id, const char *name, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(name);
	AUTO(str_free) char *what = str_printf("snapshots/%s", safe);
	AUTO(str_free) char *path = sandbox_path(id, what);

	return client_json(b, "DELETE", path, SPAN_NULL, NULL, e);
}

int berth_restore(struct berth *b, const char *id, const char *snapshot, const char *path, char (*ret_kept)[65],
		  struct berth_error *e)
{
	return berth_restore_counted(b, id, snapshot, path, ret_kept, NULL, e);
}

int berth_restore_counted(struct berth *b, const char *id, const char *snapshot, const char *path,
			  char (*ret_kept)[65], uint64_t *ret_left_out, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *url = sandbox_path(id, "restore");
	struct buf body;
	struct json_writer w = { .b = &body };
	int r;

	buf_init(&body, 65536);
	jw_open(&w, '{');
	jw_kstr(&w, "snapshot", snapshot);
	jw_kstr(&w, "path", path ? path : "");
	if (path)
		jw_khex(&w, "path", span_str(path));
	jw_key(&w, "keep");
	jw_bool(&w, ret_kept != NULL);
	jw_close(&w, '}');
	r = client_json(b, "POST", url, buf_span(&body), &j, e);
	buf_fini(&body);
	if (r == 0 && ret_kept)
		snprintf(*ret_kept, sizeof(*ret_kept), "%s", json_get_str(j, "kept", ""));
	if (r == 0 && ret_left_out)
		*ret_left_out = json_get_u64(j, "left_out", 0);
	return r;
}

int berth_fork(struct berth *b, const char *id, const char *snapshot, const char *name, unsigned n,
	       void (*fn)(void *ctx, const char *fork_id), void *ctx, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = sandbox_path(id, "fork");
	struct buf body;
	struct json_writer w = { .b = &body };
	size_t i;
	int r;

	buf_init(&body, 4096);
	jw_open(&w, '{');
	jw_kstr(&w, "snapshot", snapshot ? snapshot : "");
	jw_kstr(&w, "name", name ? name : "");
	jw_ku64(&w, "count", n);
	jw_close(&w, '}');
	r = client_json(b, "POST", path, buf_span(&body), &j, e);
	buf_fini(&body);
	for (i = 0; r == 0 && fn && i < json_len(j); i++)
		fn(ctx, json_get_str(json_at(j, i), "id", ""));
	return r;
}

/* --- differences -------------------------------------------------------------------------------------------------- */

static char *diff_path(const char *from, const char *to, const char *path)
{
	AUTO(str_free) char *a = client_encode(from);
	AUTO(str_free) char *b = client_encode(to);
	AUTO(str_free) char *c = client_encode(path ? path : "");

	return str_printf("/v1/diff?from=%s&to=%s&path=%s", a, b, c);
}

static void side_from(const struct json *j, struct berth_side *ret, char **ret_target)
{
	*ret = (struct berth_side){ .size = 0 };
	*ret_target = NULL;
	if (!j)
		return;
	*ret_target = client_bytes(j, "target", NULL);
	*ret = (struct berth_side){ .size = json_get_u64(j, "size", 0),
				    .mode = json_get_u64(j, "mode", 0),
				    .uid = json_get_u64(j, "uid", 0),
				    .gid = json_get_u64(j, "gid", 0),
				    .mtime_ns = (int64_t)json_get_u64(j, "mtime_ns", 0),
				    .hash = json_get_str(j, "hash", NULL),
				    .elsewhere = json_get_bool(j, "elsewhere", false),
				    .target = *ret_target };
	snprintf(ret->type, sizeof(ret->type), "%s", json_get_str(j, "type", "other"));
}

int berth_diff_json(struct berth *b, const char *from, const char *to, const char *path, char **ret_json,
		    struct berth_error *e)
{
	AUTO(str_free) char *url = diff_path(from, to, path);

	return client_text(b, "GET", url, SPAN_NULL, ret_json, e);
}

int berth_diff(struct berth *b, const char *from, const char *to, const char *path,
	       int (*fn)(void *ctx, const struct berth_difference *), void *ctx, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *url = diff_path(from, to, path);
	int r = client_json(b, "GET", url, SPAN_NULL, &j, e);
	size_t i;

	for (i = 0; r == 0 && i < json_len(j); i++) {
		const struct json *one = json_at(j, i);
		AUTO(str_free) char *where = client_bytes(one, "path", "");
		AUTO(str_free) char *was = NULL;
		AUTO(str_free) char *is = NULL;
		struct berth_difference d = { .path = where };

		side_from(json_get(one, "before"), &d.before, &was);
		side_from(json_get(one, "after"), &d.after, &is);
		r = fn(ctx, &d);
	}
	return r;
}
