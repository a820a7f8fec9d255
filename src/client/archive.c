/* SPDX-License-Identifier: Apache-2.0 */
/* Workspaces as tar archives. */
#include "client/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

int berth_export(struct berth *b, const char *from, const char *path, int to_fd, struct berth_error *e)
{
	return berth_export_counted(b, from, path, to_fd, NULL, e);
}

int berth_export_counted(struct berth *b, const char *from, const char *path, int to_fd, uint64_t *ret_left_out,
			 struct berth_error *e)
{
	AUTO(str_free) char *state = client_encode(from);
	AUTO(str_free) char *place = client_encode(path ? path : "");
	AUTO(str_free) char *url = str_printf("/v1/export?from=%s&path=%s", state, place);
	uint64_t left_out = 0;
	struct client_call c = { .method = "GET", .path = url, .from_fd = -1, .to_fd = to_fd, .left_out = &left_out };
	int r = client_call(b, &c, e);

	if (r == 0 && ret_left_out)
		*ret_left_out = left_out;
	return r;
}

/* An archive from @fd to a route that answers with JSON. */
static int send_archive(struct berth *b, const char *url, int fd, struct json **ret, struct berth_error *e)
{
	struct client_call c = { .method = "POST", .path = url, .from_fd = fd, .to_fd = -1 };

	return client_call_json(b, &c, ret, e);
}

int berth_import(struct berth *b, int fd, const char *name, uint64_t workspace_b, struct berth_imported *ret,
		 struct berth_error *e)
{
	AUTO(str_free) char *as = client_encode(name ? name : "");
	AUTO(str_free) char *url = str_printf("/v1/import?name=%s&workspace=%llu", as, (unsigned long long)workspace_b);
	AUTO(json_free) struct json *j = NULL;
	int r = send_archive(b, url, fd, &j, e);

	if (r == 0) {
		*ret = (struct berth_imported){ .left_out = json_get_u64(j, "left_out", 0) };
		snprintf(ret->id, sizeof(ret->id), "%s", json_get_str(j, "id", ""));
		snprintf(ret->name, sizeof(ret->name), "%s", json_get_str(j, "name", ""));
		snprintf(ret->tree, sizeof(ret->tree), "%s", json_get_str(j, "tree", ""));
	}
	return r;
}

int berth_put_archive(struct berth *b, const char *id, const char *path, bool keep_top, int fd, uint64_t *ret_left_out,
		      struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(id);
	AUTO(str_free) char *place = client_encode(path);
	AUTO(str_free) char *url = str_printf("/v1/sandboxes/%s/archive?path=%s&keep_top=%d", safe, place, keep_top);
	AUTO(json_free) struct json *j = NULL;
	int r = send_archive(b, url, fd, &j, e);

	if (r == 0 && ret_left_out)
		*ret_left_out = json_get_u64(j, "left_out", 0);
	return r;
}
