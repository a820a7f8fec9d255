/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a workspace, live or stopped, through the same engine as the mount. An upload is written under a temporary
 * name and renamed over the real one when it is whole, so that nobody ever sees half of it. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "json/json.h"
#include "seal/digest.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_MS = 60000, PIECE = 1024 * 1024, WINDOW = 4 };

static int get_path(struct http_req *req, const char *typed, char **ret, struct err *e)
{
	(void)req;
	if (!typed || path_normalise(typed, "/workspace", ret) < 0)
		return err_set(e, -EINVAL, "bad-path", "a path below /workspace is needed, without \"..\"");
	return 0;
}

/* The member @key, or its bytes from "@key_hex", for names that are no UTF-8; NULL when neither is there. */
static int get_bytes(const struct json *j, const char *key, char **ret, struct err *e)
{
	AUTO(str_free) char *name = str_printf("%s_hex", key);
	const char *text = json_get_str(j, key, NULL), *hex = json_get_str(j, name, NULL);
	size_t n = hex ? strlen(hex) / 2 : 0;

	if (text && hex)
		return err_set(e, -EINVAL, "bad-request", "either %s or %s", key, name);
	*ret = hex ? must_calloc(n + 1, 1) : must_strdup(text);
	if (hex && (str_unhex(hex, *ret, n) < 0 || strlen(*ret) != n))
		return err_set(e, -EINVAL, "bad-request", "%s must be hexadecimal digits of bytes without a NUL", name);
	return 0;
}

int v1_path_of(const struct json *j, const char *key, char **ret)
{
	AUTO(str_free) char *name = str_printf("%s_hex", key);
	AUTO(str_free) char *typed = NULL;

	/* Both may be there: the bytes are right, the text is for people. */
	if (json_get_str(j, name, NULL)) {
		const char *hex = json_get_str(j, name, "");
		size_t n = strlen(hex) / 2;

		typed = must_calloc(n + 1, 1);
		if (str_unhex(hex, typed, n) < 0 || strlen(typed) != n)
			return -EINVAL;
	}
	return path_normalise(typed ? typed : json_get_str(j, key, ""), "/workspace", ret);
}

static int find(struct api *api, struct http_req *req, const char *typed, struct ws **ret_ws, char **ret_path,
		struct node *ret, struct err *e)
{
	int r = get_path(req, typed, ret_path, e);

	if (r == 0)
		r = hub_ws(api->hub, http_segment(req, 0), ret_ws, e);
	if (r < 0 || !ret)
		return r;
	r = ws_resolve(*ret_ws, *ret_path, ret);
	return r < 0 ? err_sys(e, r, "/workspace/%s", *ret_path) : 0;
}

/* The directory of a path and the last name; the root has neither. */
static int find_parent(struct ws *ws, const char *path, struct node *ret_dir, const char **ret_name, struct err *e)
{
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = slash ? span_dup(SPAN(path, (size_t)(slash - path))) : must_strdup("");
	int r;

	*ret_name = slash ? slash + 1 : path;
	if (!**ret_name)
		return err_set(e, -EINVAL, "bad-path", "the workspace itself cannot be replaced or removed");
	r = ws_resolve(ws, dir, ret_dir);
	if (r == 0 && !S_ISDIR(ret_dir->mode))
		r = -ENOTDIR;
	return r < 0 ? err_sys(e, r, "/workspace/%s", dir) : 0;
}

/* What ws_open_content() and content_read() say of one that is elsewhere, for people. */
static int no_bytes(const char *path, struct err *e)
{
	return err_set(e, -EREMOTE, "not-kept", "of /workspace/%s only the name was kept, its content is not here",
		       path);
}

/* --- out ---------------------------------------------------------------------------------------------------------- */

struct download {
	struct ws *ws;
	struct store_hold *hold;
	struct content content;
	uint64_t from;
};

static ssize_t download_read(void *ctx, uint64_t at, void *to, size_t max)
{
	struct download *d = ctx;

	return ws_read(d->ws, &d->content, d->from + at, to, max);
}

static void download_end(void *ctx)
{
	struct download *d = ctx;

	ws_unref(&d->ws);
	store_hold_free(&d->hold);
	free(d);
}

static int find_file(void *ctx, struct http_req *req, struct ws **ret_ws, char **ret_path, struct node *ret,
		     struct err *e)
{
	int r = find(ctx, req, http_query(req, "path"), ret_ws, ret_path, ret, e);

	if (r == 0 && !S_ISREG(ret->mode))
		r = err_set(e, S_ISDIR(ret->mode) ? -EISDIR : -EINVAL, "not-a-file", "/workspace/%s is no regular file",
			    *ret_path);
	return r;
}

/* A file as a snapshot has it. */
static int find_past(struct api *api, struct http_req *req, const char *snapshot, struct ws **ret_ws,
		     struct content *ret, struct store_hold **ret_hold, struct err *e)
{
	AUTO(str_free) char *path = NULL;
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	struct digest root;
	struct tree_item it;
	int r = find(api, req, http_query(req, "path"), ret_ws, &path, NULL, e);

	if (r == 0)
		r = hub_tree(api->hub, http_segment(req, 0), snapshot, &root, &hold, e);
	if (r < 0)
		return r;
	r = tree_resolve(api->store, &root, path, &it);
	if (r < 0)
		return err_sys(e, r, "%s of %s", path, snapshot);
	if (!S_ISREG(it.mode))
		return err_set(e, S_ISDIR(it.mode) ? -EISDIR : -EINVAL, "not-a-file", "%s is no regular file", path);
	*ret = it.content;
	if (content_is_elsewhere(ret))
		return no_bytes(path, e);
	r = store_hold_content(api->store, ret, ret_hold);
	return r ? err_sys(e, r, "%s of %s", path, snapshot) : 0;
}

static int find_now(struct api *api, struct http_req *req, struct ws **ret_ws, struct content *ret,
		    struct store_hold **ret_hold, struct err *e)
{
	AUTO(str_free) char *path = NULL;
	struct ws_wait *wait;
	struct node n;
	uint64_t until = clock_after_ms(OPEN_MS);
	int r = find_file(api, req, ret_ws, &path, &n, e);

	if (r < 0)
		return r;
	while (r == 0) {
		wait = ws_wait_new();
		ws_open_content(*ret_ws, n.fid, until, ws_wait_done, wait);
		r = ws_wait_end(&wait, &n);
		if (r != -ESTALE || clock_now() > until)
			break;
		r = ws_resolve(*ret_ws, path, &n); /* it was replaced by another one */
		if (r == 0 && !S_ISREG(n.mode))
			r = -EISDIR;
		if (r < 0)
			break;
	}
	if (r == -ENODATA)
		return no_bytes(path, e);
	if (r < 0)
		return err_sys(e, r, "/workspace/%s", path);
	/* It may have been written anew and collected at this moment. */
	while ((r = store_hold_content(api->store, &n.content, ret_hold)) == -ESTALE) {
		struct content was = n.content;

		r = ws_getattr(*ret_ws, n.fid, &n);
		if (r == 0 && memcmp(&was, &n.content, sizeof(was)) == 0)
			r = -EIO;
		if (r < 0)
			break;
	}
	*ret = n.content;
	return r < 0 ? err_sys(e, r, "/workspace/%s", path) : 0;
}

int v1_file_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	const char *snapshot = http_query(req, "at");
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	struct content content;
	struct download *d;
	uint64_t at, len;
	int r = snapshot ? find_past(ctx, req, snapshot, &ws, &content, &hold, e)
			 : find_now(ctx, req, &ws, &content, &hold, e);

	if (r == 0)
		r = http_range(req, res, content.size, &at, &len, e);
	if (r < 0)
		return r;
	d = NEW(struct download);
	d->ws = take(&ws);
	d->hold = take(&hold);
	d->content = content;
	d->from = at;
	res->type = "application/octet-stream";
	res->read = download_read;
	res->read_end = download_end;
	res->size = len;
	res->ctx = d;
	return 0;
}

static ssize_t no_read(void *ctx, uint64_t at, void *to, size_t max)
{
	(void)ctx;
	(void)at;
	(void)to;
	(void)max;
	return -EIO;
}

/* The length is that of the name's inode now; its content may still be on its way. */
int v1_file_head(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(str_free) char *path = NULL;
	const char *snapshot = http_query(req, "at");
	struct content past = { .size = 0 };
	struct node n = { .size = 0 };
	int r = snapshot ? find_past(ctx, req, snapshot, &ws, &past, &hold, e) : find_file(ctx, req, &ws, &path, &n, e);

	if (r < 0)
		return r;
	res->type = "application/octet-stream";
	res->ranged = true;
	res->read = no_read; /* the server sends no body */
	res->size = snapshot ? past.size : n.size;
	return 0;
}

const char *v1_type_of(uint32_t mode)
{
	static const struct {
		uint32_t type;
		const char *word;
	} kinds[] = { { S_IFREG, "file" }, { S_IFDIR, "dir" },	 { S_IFLNK, "symlink" },
		      { S_IFIFO, "fifo" }, { S_IFSOCK, "socket" } };
	size_t i;

	for (i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].type == (mode & S_IFMT))
			return kinds[i].word;
	return "other";
}

static void put_node(struct json_writer *w, struct ws *ws, struct span name, const struct node *n)
{
	AUTO(str_free) char *target = NULL;

	jw_open(w, '{');
	jw_key(w, "name");
	jw_str(w, name);
	jw_khex(w, "name", name);
	jw_kstr(w, "type", v1_type_of(n->mode));
	jw_ku64(w, "size", n->size);
	jw_ku64(w, "mode", n->mode & 07777);
	jw_ku64(w, "uid", n->uid);
	jw_ku64(w, "gid", n->gid);
	jw_ku64(w, "nlink", n->nlink);
	jw_key(w, "mtime_ns");
	jw_i64(w, n->mtime_ns);
	if (S_ISLNK(n->mode) && ws_readlink(ws, n->fid, &target) == 0) {
		jw_kstr(w, "target", target);
		jw_khex(w, "target", span_str(target));
	}
	jw_close(w, '}');
}

struct listing {
	struct ws *ws;
	struct json_writer w;
};

static int list_one(void *ctx, struct span name, const struct node *n)
{
	struct listing *l = ctx;

	put_node(&l->w, l->ws, name, n);
	return l->w.b->failed ? -E2BIG : 0;
}

int v1_file_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(str_free) char *path = NULL;
	struct listing l = { .w = { .b = &res->body } };
	const char *typed = http_query(req, "path");
	struct node n;
	int r = find(ctx, req, typed ? typed : "", &ws, &path, &n, e);

	if (r == 0 && !S_ISDIR(n.mode))
		r = err_set(e, -ENOTDIR, "not-a-directory", "/workspace/%s is no directory", path);
	if (r < 0)
		return r;
	l.ws = ws;
	jw_open(&l.w, '[');
	r = ws_list(ws, n.fid, list_one, &l);
	jw_close(&l.w, ']');
	buf_append(&res->body, "\n", 1);
	return r < 0 ? err_sys(e, r, "/workspace/%s", path) : 0;
}

int v1_file_stat(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(str_free) char *path = NULL;
	struct json_writer w = { .b = &res->body };
	const char *slash;
	struct node n;
	int r = find(ctx, req, http_query(req, "path"), &ws, &path, &n, e);

	if (r < 0)
		return r;
	slash = strrchr(path, '/');
	put_node(&w, ws, span_str(slash ? slash + 1 : path), &n);
	buf_append(&res->body, "\n", 1);
	return 0;
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

static int make(struct ws *ws, uint64_t dir, struct span name, uint32_t mode, struct node *ret)
{
	struct ws_wait *wait = ws_wait_new();

	ws_make(ws, dir, name, mode, SPAN_NULL, ws_wait_done, wait);
	return ws_wait_end(&wait, ret);
}

/* Writes of one file that are under way, oldest first: the agent works on one while the next is on the wire. */
struct flight {
	struct ws_wait *wait[WINDOW];
	unsigned begun, ended;
	int result; /* the first that failed */
};

static void flight_end_one(struct flight *f)
{
	int r = ws_wait_end(&f->wait[f->ended++ % WINDOW], NULL);

	if (r < 0 && f->result == 0)
		f->result = r;
}

static int flight_write(struct flight *f, struct ws *ws, uint64_t fid, uint64_t at, struct span data)
{
	struct ws_wait *wait;

	if (f->begun - f->ended == WINDOW)
		flight_end_one(f);
	if (f->result < 0)
		return f->result;
	wait = ws_wait_new();
	f->wait[f->begun++ % WINDOW] = wait;
	ws_write(ws, fid, at, data, 0, ws_wait_done, wait);
	return 0;
}

static int flight_end(struct flight *f)
{
	while (f->ended != f->begun)
		flight_end_one(f);
	return f->result;
}

static int set_mode(struct ws *ws, uint64_t fid, uint32_t mode)
{
	struct ws_attr attr = { .which = WIRE_ATTR_MODE, .mode = mode };
	struct ws_wait *wait = ws_wait_new();

	ws_setattr(ws, fid, &attr, ws_wait_done, wait);
	return ws_wait_end(&wait, NULL);
}

static int copy_in(struct ws *ws, uint64_t fid, struct http_req *req)
{
	AUTO(mem_free) char *piece = NULL;
	struct flight flight = { .result = 0 };
	uint64_t size, at = 0;
	ssize_t n = 0;
	int fd, r = 0;
	struct span body = http_body(req, &fd, &size);

	while (r == 0 && fd < 0 && at < body.len) {
		struct span part = SPAN((const char *)body.p + at, MIN(body.len - at, (size_t)PIECE));

		r = flight_write(&flight, ws, fid, at, part);
		at += part.len;
	}
	if (fd < 0)
		return flight_end(&flight);
	piece = malloc(PIECE);
	if (!piece)
		return -ENOMEM;
	while (r == 0 && (n = read(fd, piece, PIECE)) > 0) {
		r = flight_write(&flight, ws, fid, at, SPAN(piece, (size_t)n));
		at += (uint64_t)n;
	}
	r = flight_end(&flight);
	return r < 0 ? r : at == size ? 0 : -EIO;
}

static int remove_name(struct ws *ws, uint64_t dir, struct span name, unsigned flags)
{
	struct ws_wait *wait = ws_wait_new();

	ws_remove(ws, dir, name, flags, ws_wait_done, wait);
	return ws_wait_end(&wait, NULL);
}

int v1_file_put(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(str_free) char *path = NULL;
	struct json_writer w = { .b = &res->body };
	struct node dir, n, old;
	struct ws_wait *wait;
	const char *name;
	char temp[64];
	uint64_t mode, random;
	int r = v1_query_u64(req, "mode", 0, &mode, e);

	if (r == 0)
		r = find(ctx, req, http_query(req, "path"), &ws, &path, NULL, e);
	if (r == 0)
		r = find_parent(ws, path, &dir, &name, e);
	if (r == 0 && ws_mode(ws) == WS_LIVE && !ws_is_kept_at(ws, path, false))
		r = err_set(e, -EPERM, "not-kept", "/workspace/%s is not kept: it can only be made inside", path);
	if (r < 0)
		return r;
	if (ws_lookup(ws, dir.fid, span_str(name), &old) == 0) {
		if (S_ISDIR(old.mode))
			return err_set(e, -EISDIR, "is-a-directory", "/workspace/%s is a directory", path);
		mode = mode ? mode : old.mode & 07777;
	}
	random_bytes(&random, sizeof(random));
	snprintf(temp, sizeof(temp), ".berth-%016llx", (unsigned long long)random);
	r = make(ws, dir.fid, span_str(temp), S_IFREG | 0600, &n);
	if (r == 0)
		r = copy_in(ws, n.fid, req);
	if (r == 0)
		r = set_mode(ws, n.fid, (uint32_t)(mode ? mode & 07777 : 0644));
	if (r == 0) {
		wait = ws_wait_new();
		ws_rename(ws, dir.fid, span_str(temp), dir.fid, span_str(name), 0, ws_wait_done, wait);
		r = ws_wait_end(&wait, NULL);
	}
	if (r < 0) {
		(void)!remove_name(ws, dir.fid, span_str(temp), 0);
		return err_sys(e, r, "/workspace/%s", path);
	}
	r = ws_lookup(ws, dir.fid, span_str(name), &n);
	if (r == 0)
		put_node(&w, ws, span_str(name), &n);
	res->status = 201;
	buf_append(&res->body, "\n", 1);
	return r < 0 ? err_sys(e, r, "/workspace/%s", path) : 0;
}

int v1_file_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(str_free) char *path = NULL;
	struct node dir, n;
	const char *name;
	uint64_t tree;
	int r = v1_query_u64(req, "recursive", 0, &tree, e);

	if (r == 0)
		r = find(ctx, req, http_query(req, "path"), &ws, &path, &n, e);
	if (r == 0)
		r = find_parent(ws, path, &dir, &name, e);
	if (r < 0)
		return r;
	r = remove_name(ws, dir.fid, span_str(name), tree ? WIRE_FS_TREE : S_ISDIR(n.mode) ? WIRE_FS_DIR : 0);
	buf_append(&res->body, "{}\n", 3);
	return r < 0 ? err_sys(e, r, "/workspace/%s", path) : 0;
}

static int make_hard_link(struct api *api, struct http_req *req, struct ws *ws, const char *path, const char *typed,
			  struct err *e)
{
	AUTO(ws_unref) struct ws *same = NULL;
	AUTO(str_free) char *old = NULL;
	struct ws_wait *wait;
	struct node dir, n;
	const char *name;
	int r = find(api, req, typed, &same, &old, &n, e);

	if (r == 0 && S_ISDIR(n.mode))
		r = err_set(e, -EISDIR, "is-a-directory", "/workspace/%s is a directory", old);
	if (r == 0)
		r = find_parent(ws, path, &dir, &name, e);
	if (r < 0)
		return r;
	wait = ws_wait_new();
	ws_link_node(ws, n.fid, dir.fid, span_str(name), ws_wait_done, wait);
	r = ws_wait_end(&wait, NULL);
	return r < 0 ? err_sys(e, r, "/workspace/%s", path) : 0;
}

static int make_link(struct ws *ws, const char *path, const char *target, struct err *e)
{
	struct ws_wait *wait;
	struct node dir;
	const char *name;
	int r = find_parent(ws, path, &dir, &name, e);

	if (r < 0)
		return r;
	wait = ws_wait_new();
	ws_make(ws, dir.fid, span_str(name), S_IFLNK | 0777, span_str(target), ws_wait_done, wait);
	r = ws_wait_end(&wait, NULL);
	return r < 0 ? err_sys(e, r, "/workspace/%s", path) : 0;
}

/* A directory with its parents: each one that is missing; or a link in a directory that is there. */
int v1_file_make(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(str_free) char *typed = NULL;
	AUTO(str_free) char *target = NULL;
	AUTO(str_free) char *link = NULL;
	AUTO(str_free) char *path = NULL;
	struct node at, next;
	const char *p;
	uint32_t mode;
	int r = v1_body(req, "path:s path_hex:s mode:u target:s target_hex:s link:s link_hex:s", &j, e);

	if (r == 0)
		r = get_bytes(j, "path", &typed, e);
	if (r == 0)
		r = get_bytes(j, "target", &target, e);
	if (r == 0)
		r = get_bytes(j, "link", &link, e);
	if (r == 0 && target && link)
		r = err_set(e, -EINVAL, "bad-request", "either target or link");
	if (r == 0)
		r = find(ctx, req, typed, &ws, &path, NULL, e);
	if (r < 0)
		return r;
	buf_append(&res->body, "{}\n", 3);
	if (target)
		return make_link(ws, path, target, e);
	if (link)
		return make_hard_link(ctx, req, ws, path, link, e);
	mode = (uint32_t)(json_get_u64(j, "mode", 0755) & 07777);
	r = ws_resolve(ws, "", &at);
	for (p = path; r == 0 && *p;) {
		size_t len = strcspn(p, "/");

		r = ws_lookup(ws, at.fid, SPAN(p, len), &next);
		if (r == -ENOENT)
			r = make(ws, at.fid, SPAN(p, len), S_IFDIR | mode, &next);
		if (r == -EEXIST)
			r = ws_lookup(ws, at.fid, SPAN(p, len), &next);
		if (r == 0 && !S_ISDIR(next.mode))
			r = -ENOTDIR;
		at = next;
		p += len + (p[len] == '/');
	}
	return r < 0 ? err_sys(e, r, "/workspace/%s", path) : 0;
}

int v1_file_rename(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(str_free) char *typed_from = NULL;
	AUTO(str_free) char *typed_to = NULL;
	AUTO(str_free) char *from = NULL;
	AUTO(str_free) char *to = NULL;
	const char *from_name, *to_name;
	struct node a, b;
	struct ws_wait *wait;
	int r = v1_body(req, "from:s from_hex:s to:s to_hex:s", &j, e);

	if (r == 0)
		r = get_bytes(j, "from", &typed_from, e);
	if (r == 0)
		r = get_bytes(j, "to", &typed_to, e);
	if (r == 0)
		r = find(ctx, req, typed_from, &ws, &from, NULL, e);
	if (r == 0)
		r = get_path(req, typed_to, &to, e);
	if (r == 0)
		r = find_parent(ws, from, &a, &from_name, e);
	if (r == 0)
		r = find_parent(ws, to, &b, &to_name, e);
	if (r < 0)
		return r;
	wait = ws_wait_new();
	ws_rename(ws, a.fid, span_str(from_name), b.fid, span_str(to_name), 0, ws_wait_done, wait);
	r = ws_wait_end(&wait, NULL);
	buf_append(&res->body, "{}\n", 3);
	return r < 0 ? err_sys(e, r, "/workspace/%s to /workspace/%s", from, to) : 0;
}
