/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes and what the handlers share. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/str.h"
#include "json/json.h"

#include <errno.h>

/* Method, path, handler, what a key must be allowed, parameters. docs/api.md and docs/openapi.yaml have the same. */
static const struct http_route routes[] = {
	{ "GET", "/health", v1_health, ACCESS_READ, NULL },
	{ "GET", "/v1/df", v1_df, ACCESS_READ | ACCESS_OTHERS, NULL },
	{ "GET", "/v1/usage", v1_usage, ACCESS_READ, "since until by key" },
	{ "GET", "/metrics", v1_metrics, ACCESS_READ | ACCESS_OTHERS, NULL },
	{ "GET", "/v1/host", v1_host, ACCESS_READ, NULL },
	{ "GET", "/v1/events", v1_events, ACCESS_READ | ACCESS_OTHERS, "since follow" },
	{ "POST", "/v1/sandboxes", v1_sandbox_create, ACCESS_RUN, NULL },
	{ "GET", "/v1/sandboxes", v1_sandbox_list, ACCESS_READ, "all key value" },
	{ "GET", "/v1/sandboxes/{}", v1_sandbox_get, ACCESS_READ, NULL },
	{ "DELETE", "/v1/sandboxes/{}", v1_sandbox_remove, ACCESS_RUN, "snapshots" },
	{ "POST", "/v1/sandboxes/{}/kill", v1_sandbox_kill, ACCESS_RUN, NULL },
	{ "POST", "/v1/sandboxes/{}/pause", v1_sandbox_pause, ACCESS_RUN, NULL },
	{ "POST", "/v1/sandboxes/{}/resume", v1_sandbox_resume, ACCESS_RUN, NULL },
	{ "POST", "/v1/sandboxes/{}/timeout", v1_sandbox_timeout, ACCESS_RUN, NULL },
	{ "GET", "/v1/sandboxes/{}/network", v1_network_get, ACCESS_READ, NULL },
	{ "PUT", "/v1/sandboxes/{}/network", v1_network_put, ACCESS_RUN, NULL },
	{ "POST", "/v1/sandboxes/{}/sync", v1_sandbox_sync, ACCESS_RUN, "timeout_ms" },
	{ "POST", "/v1/sandboxes/{}/exec", v1_exec, ACCESS_RUN, NULL },
	{ "GET", "/v1/sandboxes/{}/stream", v1_stream, ACCESS_RUN, "secrets command attach" },
	{ "GET", "/v1/sandboxes/{}/stats", v1_stats, ACCESS_READ, NULL },
	{ "GET", "/v1/sandboxes/{}/logs", v1_logs, ACCESS_READ, "from" },
	{ "GET", "/v1/sandboxes/{}/tunnel", v1_tunnel, ACCESS_RUN, "port address socket ask timeout_ms" },
	{ "GET", "/v1/sandboxes/{}/listen", v1_listen, ACCESS_RUN, "socket mode" },
	{ "GET", "/v1/sandboxes/{}/processes", v1_ps, ACCESS_RUN, NULL },
	{ "POST", "/v1/sandboxes/{}/processes/{}/signal", v1_signal, ACCESS_RUN, NULL },
	{ "GET", "/v1/sandboxes/{}/files", v1_file_get, ACCESS_FILES, "path at" },
	{ "HEAD", "/v1/sandboxes/{}/files", v1_file_head, ACCESS_FILES, "path at" },
	{ "PUT", "/v1/sandboxes/{}/files", v1_file_put, ACCESS_FILES, "path mode" },
	{ "DELETE", "/v1/sandboxes/{}/files", v1_file_remove, ACCESS_FILES, "path recursive" },
	{ "GET", "/v1/sandboxes/{}/list", v1_file_list, ACCESS_FILES, "path" },
	{ "GET", "/v1/sandboxes/{}/stat", v1_file_stat, ACCESS_FILES, "path" },
	{ "POST", "/v1/sandboxes/{}/make", v1_file_make, ACCESS_FILES, NULL },
	{ "POST", "/v1/sandboxes/{}/rename", v1_file_rename, ACCESS_FILES, NULL },
	{ "GET", "/v1/sandboxes/{}/statfs", v1_statfs, ACCESS_FILES, NULL },
	{ "GET", "/v1/sandboxes/{}/xattrs", v1_xattr_list, ACCESS_FILES, "path" },
	{ "GET", "/v1/sandboxes/{}/xattr", v1_xattr_get, ACCESS_FILES, "path name" },
	{ "PUT", "/v1/sandboxes/{}/xattr", v1_xattr_put, ACCESS_FILES, "path name" },
	{ "DELETE", "/v1/sandboxes/{}/xattr", v1_xattr_remove, ACCESS_FILES, "path name" },
	{ "GET", "/v1/sandboxes/{}/watch", v1_watch, ACCESS_FILES, "path recursive since follow" },
	{ "GET", "/v1/sandboxes/{}/log", v1_log, ACCESS_FILES, "path since follow" },
	{ "POST", "/v1/sandboxes/{}/snapshots", v1_snapshot_create, ACCESS_FILES, NULL },
	{ "GET", "/v1/sandboxes/{}/snapshots", v1_snapshot_list, ACCESS_FILES, NULL },
	{ "DELETE", "/v1/sandboxes/{}/snapshots/{}", v1_snapshot_remove, ACCESS_FILES, NULL },
	{ "POST", "/v1/sandboxes/{}/restore", v1_restore, ACCESS_FILES, NULL },
	{ "POST", "/v1/sandboxes/{}/fork", v1_fork, ACCESS_RUN, NULL },
	{ "GET", "/v1/export", v1_export, ACCESS_FILES, "from path" },
	{ "POST", "/v1/import", v1_import, ACCESS_RUN, "name workspace" },
	{ "POST", "/v1/sandboxes/{}/archive", v1_archive_put, ACCESS_FILES, "path keep_top" },
	{ "GET", "/v1/diff", v1_diff, ACCESS_FILES, "from to path" },
	{ "GET", "/v1/templates", v1_template_list, ACCESS_READ, NULL },
	{ "POST", "/v1/templates", v1_template_build, ACCESS_ADMIN, NULL },
	{ "PUT", "/v1/templates/{}", v1_template_put, ACCESS_ADMIN, "replace" },
	{ "DELETE", "/v1/templates/{}", v1_template_remove, ACCESS_ADMIN, NULL },
	{ "GET", "/v1/templates/{}/keep", v1_template_keep_get, ACCESS_READ, NULL },
	{ "PUT", "/v1/templates/{}/keep", v1_template_keep_put, ACCESS_ADMIN, NULL },
	{ "POST", "/v1/fsck", v1_fsck, ACCESS_ADMIN, NULL },
	{ "POST", "/v1/gc", v1_gc, ACCESS_ADMIN, NULL },
	{ "GET", "/v1/backup", v1_backup, ACCESS_ADMIN, NULL },
	{ "GET", "/v1/keys", v1_key_list, ACCESS_ADMIN, NULL },
	{ "POST", "/v1/keys", v1_key_create, ACCESS_ADMIN, NULL },
	{ "DELETE", "/v1/keys/{}", v1_key_revoke, ACCESS_ADMIN, NULL },
	{ "GET", "/v1/secrets/key", v1_secret_key, ACCESS_READ, NULL },
	{ "GET", "/v1/secrets/audit", v1_secret_audit, ACCESS_ADMIN, "since" },
	{ "GET", "/v1/secrets", v1_secret_list, ACCESS_READ, NULL },
	{ "POST", "/v1/secrets", v1_secret_add, ACCESS_ADMIN, NULL },
	{ "PUT", "/v1/secrets/{}", v1_secret_rotate, ACCESS_ADMIN, "deliver" },
	{ "DELETE", "/v1/secrets/{}", v1_secret_remove, ACCESS_ADMIN, NULL },
};

const struct http_route *v1_routes(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(routes);
	return routes;
}

int v1_body(struct http_req *req, const char *spec, struct json **ret, struct err *e)
{
	uint64_t size;
	int fd, r;
	struct span body = http_body(req, &fd, &size);

	if (fd >= 0)
		return err_set(e, -E2BIG, "body-too-large", "a JSON body of at most 1 MiB is expected here");
	r = json_parse(body.len ? body : span_str("{}"), ret, e);
	if (r == 0)
		r = json_check(*ret, spec, e);
	if (r < 0)
		json_free(ret);
	return r;
}

int v1_query_u64(struct http_req *req, const char *name, uint64_t otherwise, uint64_t *ret, struct err *e)
{
	const char *s = http_query(req, name);

	*ret = otherwise;
	if (s && num_u64(s, INT64_MAX, ret) < 0)
		return err_set(e, -EINVAL, "bad-request", "%s must be a number", name);
	return 0;
}

int v1_health(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	static const char *const status[] = { "ok", "disk-low", "disk-full" };
	struct store_stats stats;
	struct hub_disk disk;
	int r = store_stat(api->store, &stats, e);

	(void)req;
	if (r < 0)
		return r;
	hub_disk(api->hub, &disk);
	jw_open(&w, '{');
	jw_kstr(&w, "status", status[disk.state]);
	jw_kstr(&w, "version", PACKAGE_VERSION);
	jw_kstr(&w, "mount", api->mount_dir);
	jw_ku64(&w, "uptime_ms", (uint64_t)(clock_wall() - api->started_ns) / CLOCK_MS);
	jw_key(&w, "store");
	jw_open(&w, '{');
	jw_ku64(&w, "content_b", stats.content_b);
	jw_ku64(&w, "content_used_b", stats.content_used_b);
	jw_ku64(&w, "chunks", stats.chunks);
	jw_ku64(&w, "workspaces", stats.workspaces);
	jw_close(&w, '}');
	v1_put_disk(&w, api->hub);
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}
