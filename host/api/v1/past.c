/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of workspaces, what differs between them, going back, forks. A state is named "ID@SNAPSHOT", or "ID" for
 * the present. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FORKS_MAX = 1000 };

static void put_snapshot(struct json_writer *w, const struct snapshot *s)
{
	char hex[2 * DIGEST_LEN + 1];

	str_hex(s->root.b, DIGEST_LEN, hex);
	jw_open(w, '{');
	jw_kstr(w, "name", s->name);
	jw_key(w, "created_ns");
	jw_i64(w, s->created_ns);
	jw_ku64(w, "entries", s->entries);
	jw_ku64(w, "seq", s->journal_seq);
	jw_kstr(w, "tree", hex);
	jw_key(w, "live");
	jw_bool(w, s->flags & SNAPSHOT_LIVE);
	jw_key(w, "frozen");
	jw_bool(w, !(s->flags & SNAPSHOT_UNFROZEN));
	jw_close(w, '}');
}

int v1_snapshot_create(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct json_writer w = { .b = &res->body };
	struct snapshot s;
	int r = v1_body(req, "name:s freeze:b", &j, e);

	if (r == 0)
		r = hub_snapshot(api->hub, http_segment(req, 0), json_get_str(j, "name", ""),
				 json_get_bool(j, "freeze", true) ? HUB_FROZEN : HUB_UNFROZEN, &s, e);
	if (r < 0)
		return r;
	res->status = 201;
	put_snapshot(&w, &s);
	buf_append(&res->body, "\n", 1);
	return 0;
}

static int list_one(void *ctx, const struct snapshot *s)
{
	put_snapshot(ctx, s);
	return 0;
}

int v1_snapshot_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	int r;

	jw_open(&w, '[');
	r = hub_snapshot_each(api->hub, http_segment(req, 0), list_one, &w, e);
	jw_close(&w, ']');
	buf_append(&res->body, "\n", 1);
	return r;
}

int v1_snapshot_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	int r = hub_snapshot_remove(api->hub, http_segment(req, 0), http_segment(req, 1), e);

	buf_append(&res->body, "{}\n", 3);
	return r;
}

int v1_restore(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = NULL;
	struct json_writer w = { .b = &res->body };
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	struct snapshot kept;
	struct digest root;
	uint64_t left_out = 0;
	bool keep;
	int r = v1_body(req, "snapshot:s path:s path_hex:s keep:b", &j, e);

	if (r < 0)
		return r;
	keep = json_get_bool(j, "keep", true);
	if (!json_get_str(j, "snapshot", "")[0])
		return err_set(e, -EINVAL, "bad-request", "snapshot is missing");
	if (v1_path_of(j, "path", &path) < 0)
		return err_set(e, -EINVAL, "bad-path", "a path below /workspace is needed, without \"..\"");
	r = hub_restore(api->hub, http_segment(req, 0), json_get_str(j, "snapshot", ""), path, keep, &kept, e);
	if (r < 0)
		return r;
	/* It is done; that it cannot be counted any more (the snapshot was removed) is no failure. */
	if (hub_tree(api->hub, http_segment(req, 0), json_get_str(j, "snapshot", ""), &root, &hold, NULL) == 0 &&
	    v1_left_out(api, http_segment(req, 0), &root, path, &left_out, NULL) < 0)
		left_out = 0;
	jw_open(&w, '{');
	jw_kstr(&w, "kept", keep ? kept.name : "");
	jw_ku64(&w, "left_out", left_out);
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}

int v1_fork(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct json_writer w = { .b = &res->body };
	struct hub_fork what = { .from = http_segment(req, 0) };
	struct hub_info info;
	uint64_t n, i;
	int r = v1_body(req, "snapshot:s name:s count:u", &j, e);

	if (r < 0)
		return r;
	n = json_get_u64(j, "count", 1);
	what.snapshot = json_get_str(j, "snapshot", "");
	snprintf(what.owner, sizeof(what.owner), "%s", http_who(req)->id);
	if (n < 1 || n > FORKS_MAX)
		return err_set(e, -EINVAL, "bad-request", "count must be 1 to %d", FORKS_MAX);
	if (str_copy(what.name, sizeof(what.name), json_get_str(j, "name", "")) < 0)
		return err_set(e, -EINVAL, "bad-name", "name is too long");
	if (what.name[0] && n > 1)
		return err_set(e, -EINVAL, "bad-request", "one name cannot be that of %llu", (unsigned long long)n);
	jw_open(&w, '[');
	for (i = 0; i < n && r == 0; i++) {
		r = hub_fork(api->hub, &what, &info, e);
		if (r < 0)
			break;
		jw_open(&w, '{');
		jw_kstr(&w, "id", info.id);
		jw_kstr(&w, "name", info.name);
		jw_kstr(&w, "mount", info.mount);
		jw_close(&w, '}');
	}
	jw_close(&w, ']');
	buf_append(&res->body, "\n", 1);
	res->status = 201;
	return r < 0 && i ? err_wrap(e, "%llu of %llu were made", (unsigned long long)i, (unsigned long long)n) : r;
}

int v1_tree_of(struct api *api, const char *what, struct digest *ret, struct store_hold **ret_hold, struct err *e)
{
	AUTO(str_free) char *id = NULL;
	const char *snapshot;
	int r = hub_state_split(what, &id, &snapshot, e);

	return r ? r : hub_tree(api->hub, id, snapshot, ret, ret_hold, e);
}

static void put_side(struct json_writer *w, const char *key, const struct tree_item *it)
{
	char hex[2 * DIGEST_LEN + 1];

	if (!it)
		return;
	jw_key(w, key);
	jw_open(w, '{');
	jw_kstr(w, "type", v1_type_of(it->mode));
	jw_ku64(w, "mode", it->mode & 07777);
	jw_ku64(w, "uid", it->uid);
	jw_ku64(w, "gid", it->gid);
	jw_key(w, "mtime_ns");
	jw_i64(w, it->mtime_ns);
	jw_ku64(w, "size", S_ISREG(it->mode) ? it->content.size : it->target.len);
	if (tree_is_elsewhere(it)) {
		jw_key(w, "elsewhere");
		jw_bool(w, true);
	} else if (S_ISREG(it->mode) && it->content.depth) {
		str_hex(it->content.root.b, DIGEST_LEN, hex);
		jw_kstr(w, "hash", hex);
	}
	if (S_ISLNK(it->mode)) {
		jw_key(w, "target");
		jw_str(w, it->target);
		jw_khex(w, "target", it->target);
	}
	jw_close(w, '}');
}

static int diff_one(void *ctx, const char *path, const struct tree_item *before, const struct tree_item *after)
{
	struct json_writer *w = ctx;
	const char *what = !before ? "added" : !after ? "removed" : "changed";

	jw_open(w, '{');
	jw_kstr(w, "change", what);
	jw_kstr(w, "path", path);
	jw_khex(w, "path", span_str(path));
	put_side(w, "before", before);
	put_side(w, "after", after);
	jw_close(w, '}');
	return w->b->failed ? -E2BIG : 0;
}

int v1_diff(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(str_free) char *path = NULL;
	struct json_writer w = { .b = &res->body };
	const char *typed = http_query(req, "path");
	AUTO(store_hold_free) struct store_hold *hold_from = NULL;
	AUTO(store_hold_free) struct store_hold *hold_to = NULL;
	struct digest from, to;
	int r = v1_check_own(api, req, http_query(req, "from"), e);

	if (r == 0)
		r = v1_check_own(api, req, http_query(req, "to"), e);
	if (r == 0)
		r = v1_tree_of(api, http_query(req, "from"), &from, &hold_from, e);
	if (r == 0)
		r = v1_tree_of(api, http_query(req, "to"), &to, &hold_to, e);
	if (r < 0)
		return r;
	if (path_normalise(typed ? typed : "", "/workspace", &path) < 0)
		return err_set(e, -EINVAL, "bad-path", "a path below /workspace is needed, without \"..\"");
	jw_open(&w, '[');
	r = tree_diff(api->store, &from, &to, path, 0, diff_one, &w, e);
	jw_close(&w, ']');
	buf_append(&res->body, "\n", 1);
	if (r == -E2BIG)
		return err_set(e, r, "too-many-changes", "more than 64 MiB of changes: ask for a part of it (path)");
	return r;
}
