/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes: of a live workspace the agent is asked, of another one the store. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"
#include "json/json.h"

#include <errno.h>

enum { XATTR_MS = 20000, VALUE_MAX = 65536, NAME_MAX_B = 255 };

struct asked {
	struct ws *ws;
	struct link *link;
	char *path;
	struct span name;
	struct node node; /* when there is no link */
};

static void asked_fini(struct asked *a)
{
	ws_unref(&a->ws);
	str_free(&a->path);
}

static int begin(struct api *api, struct http_req *req, bool named, struct asked *ret, struct err *e)
{
	const char *typed = http_query(req, "path"), *name = named ? http_query(req, "name") : "";
	int r;

	if (!typed || path_normalise(typed, "/workspace", &ret->path) < 0)
		return err_set(e, -EINVAL, "bad-path", "a path below /workspace is needed, without \"..\"");
	if (!name || strlen(name) > NAME_MAX_B)
		return err_set(e, -EINVAL, "bad-name", "a name of at most %d bytes is needed", NAME_MAX_B);
	ret->name = span_str(name);
	r = hub_ws(api->hub, http_segment(req, 0), &ret->ws, e);
	if (r < 0)
		return r;
	ret->link = ws_link(ret->ws);
	if (ret->link)
		return 0;
	if (named && !xattr_is_user(ret->name))
		return err_set(e, -EPERM, "permission", "names begin with \"user.\"");
	r = ws_resolve(ret->ws, ret->path, &ret->node);
	if (r < 0)
		return err_set(e, r, r == -ENOENT ? "not-found" : "not-directory", "no /workspace/%s", ret->path);
	return 0;
}

static int wait(struct asked *a, enum msg_type type, void *m, link_reply_fn *fn, void *ctx, struct err *e)
{
	return link_wait(a->link, type, m, clock_after_ms(XATTR_MS), fn, ctx, e);
}

static int from_store(struct asked *a, struct buf *to, struct err *e)
{
	int r = ws_xattrs(a->ws, a->node.fid, to);

	return r < 0 ? err_sys(e, r, "extended attributes") : 0;
}

static int in_store(struct asked *a, const struct span *value, struct err *e)
{
	struct ws_wait *wait = ws_wait_new();
	int r;

	ws_set_xattr(a->ws, a->node.fid, a->name, value, 0, ws_wait_done, wait);
	r = ws_wait_end(&wait, NULL);
	if (r == -EBUSY)
		return err_set(e, r, "busy", "it is paused: nothing can be changed");
	return r < 0 ? err_sys(e, r, "extended attribute") : 0;
}

static void put_value(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	const struct msg_FS_XATTR_IS *m = msg;
	struct http_res *res = ctx;

	(void)e;
	if (result == 0 && type == MSG_FS_XATTR_IS && m->data.len)
		buf_append(&res->body, m->data.p, m->data.len);
}

int v1_xattr_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct asked a = { .ws = NULL };
	struct msg_FS_XATTR_GET m = { .call = 0 };
	AUTO(buf_fini) struct buf packed;
	struct span value;
	int r = begin(ctx, req, true, &a, e);

	buf_init(&packed, XATTRS_MAX);
	if (r == 0 && !a.link) {
		r = from_store(&a, &packed, e);
		if (r == 0 && xattrs_get(buf_span(&packed), a.name, &value) < 0)
			r = err_sys(e, -ENODATA, "extended attribute");
		if (r == 0 && value.len)
			buf_append(&res->body, value.p, value.len);
	} else if (r == 0) {
		m.path = span_str(a.path);
		m.name = a.name;
		r = wait(&a, MSG_FS_XATTR_GET, &m, put_value, res, e);
	}
	if (r == 0)
		res->type = "application/octet-stream";
	asked_fini(&a);
	return r;
}

static void put_name(struct json_writer *w, struct span name)
{
	jw_open(w, '{');
	jw_key(w, "name");
	jw_str(w, name);
	jw_khex(w, "name", name);
	jw_close(w, '}');
}

static void put_names(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	const struct msg_FS_XATTR_IS *m = msg;
	struct json_writer *w = ctx;
	const char *p, *nul, *end;

	(void)e;
	if (result < 0 || type != MSG_FS_XATTR_IS)
		return;
	jw_open(w, '[');
	for (p = m->data.p, end = p + m->data.len; p < end && (nul = memchr(p, '\0', (size_t)(end - p))); p = nul + 1)
		put_name(w, SPAN(p, (size_t)(nul - p)));
	jw_close(w, ']');
}

int v1_xattr_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct json_writer w = { .b = &res->body };
	struct asked a = { .ws = NULL };
	struct msg_FS_XATTR_LIST m = { .call = 0 };
	AUTO(buf_fini) struct buf packed;
	struct span rest, name, value;
	int r = begin(ctx, req, false, &a, e);

	buf_init(&packed, XATTRS_MAX);
	if (r == 0 && !a.link) {
		r = from_store(&a, &packed, e);
		jw_open(&w, '[');
		for (rest = buf_span(&packed); xattrs_next(&rest, &name, &value);)
			put_name(&w, name);
		jw_close(&w, ']');
	} else if (r == 0) {
		m.path = span_str(a.path);
		r = wait(&a, MSG_FS_XATTR_LIST, &m, put_names, &w, e);
	}
	buf_append(&res->body, "\n", 1);
	asked_fini(&a);
	return r;
}

int v1_xattr_put(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct asked a = { .ws = NULL };
	struct msg_FS_XATTR_SET m = { .call = 0 };
	uint64_t size;
	int fd, r = begin(ctx, req, true, &a, e);
	struct span body = http_body(req, &fd, &size);

	if (r == 0 && (fd >= 0 || body.len > VALUE_MAX))
		r = err_set(e, -E2BIG, "body-too-large", "a value has at most %d bytes", VALUE_MAX);
	if (r == 0 && !a.link) {
		r = in_store(&a, &body, e);
	} else if (r == 0) {
		m.path = span_str(a.path);
		m.name = a.name;
		m.value = body;
		r = wait(&a, MSG_FS_XATTR_SET, &m, NULL, NULL, e);
	}
	buf_append(&res->body, "{}\n", 3);
	asked_fini(&a);
	return r;
}

int v1_xattr_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct asked a = { .ws = NULL };
	struct msg_FS_XATTR_REMOVE m = { .call = 0 };
	int r = begin(ctx, req, true, &a, e);

	if (r == 0 && !a.link) {
		r = in_store(&a, NULL, e);
	} else if (r == 0) {
		m.path = span_str(a.path);
		m.name = a.name;
		r = wait(&a, MSG_FS_XATTR_REMOVE, &m, NULL, NULL, e);
	}
	buf_append(&res->body, "{}\n", 3);
	asked_fini(&a);
	return r;
}
