/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a sandbox, by path. */
#include "client/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

static char *file_path(const char *id, const char *what, const char *path, const char *more)
{
	AUTO(str_free) char *safe = client_encode(id);
	AUTO(str_free) char *arg = client_encode(path);

	return str_printf("/v1/sandboxes/%s/%s?path=%s%s", safe, what, arg, more);
}

char *client_bytes(const struct json *j, const char *key, const char *otherwise)
{
	AUTO(str_free) char *name = str_printf("%s_hex", key);
	const char *hex = json_get_str(j, name, NULL);
	size_t n = hex ? strlen(hex) / 2 : 0;
	char *to;

	if (!hex)
		return must_strdup(json_get_str(j, key, otherwise));
	to = must_calloc(n + 1, 1);
	if (str_unhex(hex, to, n) < 0)
		to[0] = '\0';
	return to;
}

static void entry_from(const struct json *j, struct berth_entry *ret)
{
	*ret = (struct berth_entry){
		.size = json_get_u64(j, "size", 0),
		.mode = json_get_u64(j, "mode", 0),
		.nlink = json_get_u64(j, "nlink", 0),
		.uid = json_get_u64(j, "uid", 0),
		.gid = json_get_u64(j, "gid", 0),
		.mtime_ns = (int64_t)json_get_u64(j, "mtime_ns", 0),
		.name = client_bytes(j, "name", ""),
		.target = client_bytes(j, "target", NULL),
	};
	snprintf(ret->type, sizeof(ret->type), "%s", json_get_str(j, "type", "other"));
}

int berth_ls(struct berth *b, const char *id, const char *path, int (*fn)(void *ctx, const struct berth_entry *),
	     void *ctx, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *url = file_path(id, "list", path, "");
	int r = client_json(b, "GET", url, SPAN_NULL, &j, e);
	size_t i;

	for (i = 0; r == 0 && i < json_len(j); i++) {
		struct berth_entry one;

		entry_from(json_at(j, i), &one);
		r = fn(ctx, &one);
		free(one.name);
		free(one.target);
	}
	return r;
}

int berth_ls_json(struct berth *b, const char *id, const char *path, char **ret_json, struct berth_error *e)
{
	AUTO(str_free) char *url = file_path(id, "list", path, "");

	return client_text(b, "GET", url, SPAN_NULL, ret_json, e);
}

int berth_stat(struct berth *b, const char *id, const char *path, struct berth_entry *ret, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *url = file_path(id, "stat", path, "");
	int r = client_json(b, "GET", url, SPAN_NULL, &j, e);

	if (r == 0)
		entry_from(j, ret);
	return r;
}

int berth_read(struct berth *b, const char *id, const char *path, int to_fd, struct berth_error *e)
{
	AUTO(str_free) char *url = file_path(id, "files", path, "");
	struct client_call c = { .method = "GET", .path = url, .from_fd = -1, .to_fd = to_fd };

	return client_call(b, &c, e);
}

int berth_read_at(struct berth *b, const char *id, const char *snapshot, const char *path, int to_fd,
		  struct berth_error *e)
{
	AUTO(str_free) char *at = client_encode(snapshot);
	AUTO(str_free) char *more = str_printf("&at=%s", at);
	AUTO(str_free) char *url = file_path(id, "files", path, more);
	struct client_call c = { .method = "GET", .path = url, .from_fd = -1, .to_fd = to_fd };

	return client_call(b, &c, e);
}

int berth_write(struct berth *b, const char *id, const char *path, int from_fd, unsigned mode, struct berth_error *e)
{
	AUTO(str_free) char *more = str_printf("&mode=%u", mode & 07777);
	AUTO(str_free) char *url = file_path(id, "files", path, more);
	struct client_call c = { .method = "PUT", .path = url, .from_fd = from_fd, .to_fd = -1 };

	return client_call(b, &c, e);
}

static int post_words(struct berth *b, const char *id, const char *what, const char *const pairs[][2], size_t n,
		      int mode, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(id);
	AUTO(str_free) char *url = str_printf("/v1/sandboxes/%s/%s", safe, what);
	struct buf body;
	struct json_writer w = { .b = &body };
	size_t i;
	int r;

	buf_init(&body, 65536);
	jw_open(&w, '{');
	for (i = 0; i < n; i++) {
		struct span s = span_str(pairs[i][1]);

		if (json_is_text(s))
			jw_kstr(&w, pairs[i][0], pairs[i][1]);
		else
			jw_khex(&w, pairs[i][0], s);
	}
	if (mode >= 0)
		jw_ku64(&w, "mode", (uint64_t)mode);
	jw_close(&w, '}');
	r = client_json(b, "POST", url, buf_span(&body), NULL, e);
	buf_fini(&body);
	return r;
}

void berth_on_progress(struct berth *b, void (*fn)(void *ctx, uint64_t done, uint64_t all), void *ctx)
{
	b->progress = fn;
	b->progress_ctx = ctx;
}

int berth_mkdir(struct berth *b, const char *id, const char *path, unsigned mode, struct berth_error *e)
{
	const char *const pairs[][2] = { { "path", path } };

	return post_words(b, id, "make", pairs, 1, (int)(mode & 07777), e);
}

int berth_symlink(struct berth *b, const char *id, const char *path, const char *target, struct berth_error *e)
{
	const char *const pairs[][2] = { { "path", path }, { "target", target } };

	return post_words(b, id, "make", pairs, 2, -1, e);
}

int berth_link(struct berth *b, const char *id, const char *path, const char *target, struct berth_error *e)
{
	const char *const pairs[][2] = { { "path", path }, { "link", target } };

	return post_words(b, id, "make", pairs, 2, -1, e);
}

int berth_rename(struct berth *b, const char *id, const char *from, const char *to, struct berth_error *e)
{
	const char *const pairs[][2] = { { "from", from }, { "to", to } };

	return post_words(b, id, "rename", pairs, 2, -1, e);
}

int berth_unlink(struct berth *b, const char *id, const char *path, bool recursive, struct berth_error *e)
{
	AUTO(str_free) char *url = file_path(id, "files", path, recursive ? "&recursive=1" : "");

	return client_json(b, "DELETE", url, SPAN_NULL, NULL, e);
}

/* --- what a file system has besides ------------------------------------------------------------------------------- */

int berth_xattr_list(struct berth *b, const char *id, const char *path, int (*fn)(void *ctx, const char *name),
		     void *ctx, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *url = file_path(id, "xattrs", path, "");
	int r = client_json(b, "GET", url, SPAN_NULL, &j, e);
	size_t i;

	for (i = 0; r == 0 && i < json_len(j); i++) {
		AUTO(str_free) char *name = client_bytes(json_at(j, i), "name", "");

		r = fn(ctx, name);
	}
	return r;
}

static char *xattr_path(const char *id, const char *path, const char *name)
{
	AUTO(str_free) char *safe = client_encode(name);
	AUTO(str_free) char *more = str_printf("&name=%s", safe);

	return file_path(id, "xattr", path, more);
}

int berth_xattr_get(struct berth *b, const char *id, const char *path, const char *name, char **ret, size_t *ret_len,
		    struct berth_error *e)
{
	AUTO(str_free) char *url = xattr_path(id, path, name);
	AUTO(buf_fini) struct buf reply;
	struct client_call c = { .method = "GET", .path = url, .from_fd = -1, .to_fd = -1, .reply = &reply };
	int r;

	buf_init(&reply, CLIENT_REPLY_MAX);
	r = client_call(b, &c, e);
	if (r < 0)
		return r;
	*ret_len = buf_len(&reply);
	*ret = span_dup(buf_span(&reply));
	return 0;
}

int berth_xattr_set(struct berth *b, const char *id, const char *path, const char *name, const void *value, size_t len,
		    struct berth_error *e)
{
	AUTO(str_free) char *url = xattr_path(id, path, name);

	return client_json(b, value ? "PUT" : "DELETE", url, value ? SPAN(value, len) : SPAN_NULL, NULL, e);
}

int berth_statfs(struct berth *b, const char *id, struct berth_room *ret, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *safe = client_encode(id);
	AUTO(str_free) char *url = str_printf("/v1/sandboxes/%s/statfs", safe);
	int r = client_json(b, "GET", url, SPAN_NULL, &j, e);

	if (r < 0)
		return r;
	*ret = (struct berth_room){
		.total_b = json_get_u64(j, "total_b", 0),
		.free_b = json_get_u64(j, "free_b", 0),
		.available_b = json_get_u64(j, "available_b", 0),
		.files = json_get_u64(j, "files", 0),
		.files_free = json_get_u64(j, "files_free", 0),
	};
	snprintf(ret->of, sizeof(ret->of), "%s", json_get_str(j, "of", ""));
	return 0;
}
