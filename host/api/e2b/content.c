/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a volume, for whoever has its token: done by the agent of the volume's sandbox, whose /workspace it is.
 * What a link leads to is looked up there, so none leads out of that sandbox.
 */
#include "host/api/e2b/template.h"
#include "host/api/e2b/volume.h"

#include "base/clock.h"
#include "base/str.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { CHANGE_MS = 10000, DEPTH_MAX = 100 };

#define TOP "/workspace"

bool e2b_is_content(void *ctx, struct http_req *req)
{
	(void)ctx;
	return str_starts(http_path(req), "/volumecontent/");
}

int e2b_admit_content(void *ctx, struct http_req *req, struct http_who *ret, struct err *e)
{
	struct e2b *e2b = ctx;
	const char *id = http_path(req) + strlen("/volumecontent/"), *slash = strchr(id, '/');
	const char *token = http_header(req, "Authorization");
	size_t i, n = slash ? (size_t)(slash - id) : strlen(id);
	bool ok = false;

	*ret = (struct http_who){ .id = "" };
	if (!token || strncasecmp(token, "Bearer ", 7) != 0 || strlen(token) != 7 + VOLUME_TOKEN)
		return err_set(e, -EKEYREJECTED, "unauthenticated", "the token of a volume is wanted");
	lock_take(&e2b->volumes.lock);
	for (i = 0; i < e2b->volumes.len; i++) {
		const struct volume *v = e2b->volumes.v[i];

		if (strlen(v->id) != n || memcmp(v->id, id, n) != 0)
			continue;
		ok = secret_eq(v->token, token + 7, VOLUME_TOKEN);
		if (ok)
			snprintf(ret->of, sizeof(ret->of), "%s", v->box);
	}
	lock_drop(&e2b->volumes.lock);
	return ok ? 0 : err_set(e, -EKEYREJECTED, "unauthenticated", "this is not the token of this volume");
}

void e2b_content_error(void *ctx, struct http_req *req, struct http_res *res, const struct err *e)
{
	struct json_writer w = { .b = &res->body };

	(void)ctx;
	(void)req;
	jw_open(&w, '{');
	jw_kstr(&w, "code", e->slug);
	jw_kstr(&w, "message", e->text);
	jw_close(&w, '}');
}

/* The path inside, of what the query names; on the heap. NULL: it leads out. */
static char *path_of(struct http_req *req, struct err *e)
{
	const char *path = http_query(req, "path"), *p;
	size_t n;

	if (!path)
		path = "/";
	for (p = path; *p; p += n) {
		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			err_set(e, -EINVAL, "bad-path", "a path has no '..'");
			return NULL;
		}
	}
	return str_printf(TOP "/%s", path + strspn(path, "/"));
}

static void put_entry(struct json_writer *w, const struct msg_PLACE_ENTRY *en)
{
	AUTO(str_free) char *whole = span_dup(en->path);
	const char *path = str_starts(whole, TOP) ? whole + strlen(TOP) : whole, *slash = strrchr(path, '/');

	jw_open(w, '{');
	jw_kstr(w, "name", slash ? slash + 1 : path);
	jw_kstr(w, "path", *path ? path : "/");
	jw_kstr(w, "type", en->target.len	 ? "symlink"
			   : S_ISDIR(en->mode) ? "directory"
			   : S_ISREG(en->mode) ? "file"
					       : "unknown");
	jw_ku64(w, "size", en->size);
	jw_ku64(w, "mode", en->mode & 07777);
	jw_ku64(w, "uid", en->uid);
	jw_ku64(w, "gid", en->gid);
	e2b_time(w, "atime", en->mtime_ns);
	e2b_time(w, "mtime", en->mtime_ns);
	e2b_time(w, "ctime", en->mtime_ns);
	if (en->target.len) {
		jw_key(w, "target");
		jw_str(w, en->target);
	}
	jw_close(w, '}');
}

static int add(void *ctx, const struct msg_PLACE_ENTRY *en)
{
	put_entry(ctx, en);
	return 0;
}

static int ask(struct e2b *e2b, struct http_req *req, unsigned what, const char *path, uint64_t depth,
	       struct json_writer *w, struct err *e)
{
	struct msg_PLACE_DO m = { .what = what, .user = span_str("user"), .path = span_str(path), .depth = depth };

	return e2b_place(e2b, req, &m, w ? add : NULL, w, e);
}

/* uid, gid and mode, each a number or "". */
static int change(struct e2b *e2b, struct http_req *req, const char *path, const char *uid, const char *gid,
		  const char *mode, struct err *e)
{
	static const char script[] = "if [ -n \"$1\" ]; then chown -h \"$1\" \"$3\" || exit 1; fi\n"
				     "if [ -n \"$2\" ]; then chmod \"$2\" \"$3\" || exit 1; fi\n";
	AUTO(str_free) char *owner = str_printf("%s%s%s", uid, *gid ? ":" : "", gid);
	char octal[16] = "";
	const char *argv[] = { "/bin/sh", "-c", script, "change", owner, octal, path, NULL };
	struct inside run = { .argv = argv, .user = "root", .cwd = "/", .in_fd = -1,
			      .until = clock_after_ms(CHANGE_MS), .stop = &e2b->stopping };
	uint64_t n;
	int r;

	if ((*uid && num_u64(uid, 65535, &n) < 0) || (*gid && num_u64(gid, 65535, &n) < 0) ||
	    (*mode && num_u64(mode, 07777, &n) < 0))
		return err_set(e, -EINVAL, "bad-request", "uid and gid are at most 65535, mode is at most %d", 07777);
	if (*mode)
		snprintf(octal, sizeof(octal), "%04o", (unsigned)n);
	if (!*uid && !*gid && !*mode)
		return 0;
	r = inside_run(e2b, e2b_sandbox(req), &run, e);
	if (r == 0 && (run.how != WIRE_EXITED || run.code))
		r = err_set(e, -EIO, "not-changed", "owner or mode could not be changed");
	return r;
}

static const char *query(struct http_req *req, const char *key)
{
	const char *s = http_query(req, key);

	return s ? s : "";
}

static int change_asked(struct e2b *e2b, struct http_req *req, const char *path, struct err *e)
{
	return change(e2b, req, path, query(req, "uid"), query(req, "gid"), query(req, "mode"), e);
}

int e2b_content_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(str_free) char *path = path_of(req, e);
	struct json_writer w = { .b = &res->body };
	uint64_t depth = 1;
	int r;

	if (!path)
		return e->code;
	if (http_query(req, "depth") && num_u64(query(req, "depth"), DEPTH_MAX, &depth) < 0)
		return err_set(e, -EINVAL, "bad-request", "depth is a number, at most %d", DEPTH_MAX);
	jw_open(&w, '[');
	r = ask(ctx, req, WIRE_PLACE_LIST, path, depth, &w, e);
	jw_close(&w, ']');
	return r;
}

int e2b_content_make(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(str_free) char *path = path_of(req, e);
	struct json_writer w = { .b = &res->body };
	int r;

	if (!path)
		return e->code;
	r = ask(ctx, req, WIRE_PLACE_MAKE, path, 0, NULL, e);
	if (r == -EEXIST && str_eq(query(req, "force"), "true")) {
		*e = ERR_NULL;
		r = 0;
	}
	if (r == 0)
		r = change_asked(ctx, req, path, e);
	res->status = 201;
	return r < 0 ? r : ask(ctx, req, WIRE_PLACE_STAT, path, 0, &w, e);
}

int e2b_content_stat(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(str_free) char *path = path_of(req, e);
	struct json_writer w = { .b = &res->body };

	return path ? ask(ctx, req, WIRE_PLACE_STAT, path, 0, &w, e) : e->code;
}

static void number(const struct json *j, const char *key, char to[24])
{
	to[0] = '\0';
	if (json_get_u64(j, key, UINT64_MAX) != UINT64_MAX)
		snprintf(to, 24, "%llu", (unsigned long long)json_get_u64(j, key, 0));
}

int e2b_content_change(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(str_free) char *path = path_of(req, e);
	AUTO(json_free) struct json *j = NULL;
	struct json_writer w = { .b = &res->body };
	char uid[24], gid[24], mode[24];
	int r = path ? e2b_body(req, &j, e) : e->code;

	if (r == 0)
		r = ask(ctx, req, WIRE_PLACE_STAT, path, 0, NULL, e);
	if (r < 0)
		return r;
	number(j, "uid", uid);
	number(j, "gid", gid);
	number(j, "mode", mode);
	r = change(ctx, req, path, uid, gid, mode, e);
	return r < 0 ? r : ask(ctx, req, WIRE_PLACE_STAT, path, 0, &w, e);
}

int e2b_content_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(str_free) char *path = path_of(req, e);
	int r = path ? ask(ctx, req, WIRE_PLACE_STAT, path, 0, NULL, e) : e->code;

	if (r == 0 && strspn(path + strlen(TOP), "/") == strlen(path + strlen(TOP)))
		r = err_set(e, -EINVAL, "bad-path", "the volume itself is not removed this way");
	if (r == 0)
		r = ask(ctx, req, WIRE_PLACE_REMOVE, path, 0, NULL, e);
	res->status = 204;
	return r;
}

int e2b_content_read(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(str_free) char *path = path_of(req, e);

	return path ? e2b_file_send(ctx, req, res, path, "user", e) : e->code;
}

int e2b_content_write(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(str_free) char *path = path_of(req, e);
	struct json_writer w = { .b = &res->body };
	void *map = MAP_FAILED;
	uint64_t size;
	int fd, r;
	struct span body = http_body(req, &fd, &size);

	if (!path)
		return e->code;
	if (fd >= 0 && size) {
		map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (map == MAP_FAILED)
			return err_sys(e, -errno, "the body");
		body = SPAN(map, size);
	}
	r = e2b_file_take(ctx, req, path, "user", body, e);
	if (map != MAP_FAILED)
		munmap(map, size);
	if (r == 0)
		r = change_asked(ctx, req, path, e);
	res->status = 201;
	return r < 0 ? r : ask(ctx, req, WIRE_PLACE_STAT, path, 0, &w, e);
}
