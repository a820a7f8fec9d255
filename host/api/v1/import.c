/* SPDX-License-Identifier: Apache-2.0 */
/* A tar archive becomes a stored workspace, or comes into one. It is whole when it is read: the body was taken into a
 * file before. */
#include "host/api/v1/v1.h"

#include "base/path.h"
#include "base/str.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

struct body {
	struct span rest;
	int fd;
};

static ssize_t get(void *ctx, void *to, size_t max)
{
	struct body *b = ctx;
	ssize_t n;

	if (b->fd < 0) {
		n = (ssize_t)MIN(max, b->rest.len);
		if (n)
			memcpy(to, b->rest.p, (size_t)n);
		b->rest = SPAN((const char *)b->rest.p + n, b->rest.len - (size_t)n);
		return n;
	}
	do
		n = read(b->fd, to, max);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int v1_import(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	const char *name = http_query(req, "name");
	struct json_writer w = { .b = &res->body };
	struct hub_import what = { .name = "" };
	char hex[2 * DIGEST_LEN + 1];
	struct hub_info info;
	struct body body;
	uint64_t size;
	int r = v1_query_u64(req, "workspace", 0, &what.workspace_b, e);

	if (r < 0)
		return r;
	if (str_copy(what.name, sizeof(what.name), name ? name : "") < 0)
		return err_set(e, -EINVAL, "bad-name", "name is too long");
	snprintf(what.owner, sizeof(what.owner), "%s", http_who(req)->id);
	body.rest = http_body(req, &body.fd, &size);
	r = hub_import(api->hub, &what, get, &body, &info, e);
	if (r < 0)
		return r;
	str_hex(what.tree.b, DIGEST_LEN, hex);
	jw_open(&w, '{');
	jw_kstr(&w, "id", info.id);
	jw_kstr(&w, "name", info.name);
	jw_kstr(&w, "mount", info.mount);
	jw_kstr(&w, "tree", hex);
	jw_ku64(&w, "left_out", what.left_out);
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	res->status = 201;
	return 0;
}

int v1_archive_put(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(str_free) char *path = NULL;
	const char *typed = http_query(req, "path");
	struct json_writer w = { .b = &res->body };
	struct hub_put what = { .path = "" };
	struct body body;
	uint64_t size, keep_top;
	int r = v1_query_u64(req, "keep_top", 0, &keep_top, e);

	if (r == 0 && (!typed || path_normalise(typed, "/workspace", &path) < 0))
		r = err_set(e, -EINVAL, "bad-path", "a path below /workspace is needed, without \"..\"");
	if (r < 0)
		return r;
	what.path = path;
	what.keep_top = keep_top;
	body.rest = http_body(req, &body.fd, &size);
	r = hub_put(api->hub, http_segment(req, 0), &what, get, &body, e);
	if (r < 0)
		return r;
	jw_open(&w, '{');
	jw_ku64(&w, "files", what.files);
	jw_ku64(&w, "bytes", what.bytes);
	jw_ku64(&w, "left_out", what.left_out);
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}
