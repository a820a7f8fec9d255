/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files anywhere in a sandbox. Each request has a connection of its own to the agent, which does the work as root
 * inside and gives what is made to the user who is named. A body was taken whole before (in memory, or a file without a
 * name) and is sent on in pieces; a long file that is read goes through such a file, too.
 */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/api/e2b/gunzip.h"
#include "host/api/e2b/multipart.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	DIAL_MS = 10000,
	CALL_MS = 60000,
	RATE_B = 1000000,
	PIECE = 262144,
	IN_MEMORY = 1024 * 1024,
	PARTS_MAX = 1000, META_MAX_B = 4096
};

/* A connection on which one thing is done. */
struct talk {
	int fd;
	struct buf in;
	uint64_t until; /* for all of it: who brings each piece at the last moment does not take for ever */
};

/* So much has gone over it: it may take longer. */
static void talk_moved(struct talk *t, uint64_t bytes)
{
	t->until += bytes * (CLOCK_S / RATE_B);
}

static void talk_end(struct talk *t)
{
	fd_close(&t->fd);
	buf_fini(&t->in);
}

static int talk_begin(struct e2b *e2b, struct http_req *req, const struct msg_PLACE_DO *m, struct talk *t,
		      struct err *e)
{
	int r;

	t->fd = -1;
	t->until = clock_after_ms(CALL_MS);
	buf_init(&t->in, FRAME_MAX + 64);
	r = hub_dial_as(e2b->hub, e2b_sandbox(req), WIRE_PLACE, clock_after_ms(DIAL_MS), &t->fd, e);
	if (r == 0)
		r = frame_send(t->fd, MSG_PLACE_DO, m, t->until);
	return r < 0 && !e->code ? err_sys(e, r, "asking the sandbox") : r;
}

/* The next one, of type @type or ERROR; take it with frame_consume(). */
static int talk_next(struct talk *t, struct frame *ret, struct err *e)
{
	int r = frame_recv(t->fd, &t->in, ret, t->until, e);

	if (r < 0)
		return e->code ? r : err_set(e, r == -ENODATA ? -EPIPE : r, "agent-gone", "the sandbox broke off");
	if (ret->type != MSG_ERROR)
		return 0;
	r = frame_refused(ret, e);
	frame_consume(&t->in, ret);
	return r;
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

static void put_permissions(struct json_writer *w, const struct msg_PLACE_ENTRY *en)
{
	static const char letters[] = "rwxrwxrwx";
	char text[12];
	int i;

	text[0] = en->target.len       ? 'L'
		  : S_ISDIR(en->mode)  ? 'd'
		  : S_ISFIFO(en->mode) ? 'p'
		  : S_ISSOCK(en->mode) ? 'S'
				       : '-';
	for (i = 0; i < 9; i++)
		text[1 + i] = en->mode & (0400U >> i) || en->target.len ? letters[i] : '-';
	text[10] = '\0';
	jw_kstr(w, "permissions", text);
}

static void put_meta(struct json_writer *w, struct span meta)
{
	struct span pair;

	if (!meta.len)
		return;
	jw_key(w, "metadata");
	jw_open(w, '{');
	while (msg_strv_next(&meta, &pair)) {
		AUTO(str_free) char *text = span_dup(pair);
		char *eq = strchr(text, '=');

		if (!eq)
			continue;
		*eq = '\0';
		jw_kstr(w, text, eq + 1);
	}
	jw_close(w, '}');
}

static bool has_meta(struct span meta)
{
	struct span pair;

	return msg_strv_next(&meta, &pair);
}

void e2b_put_entry(struct json_writer *w, const struct msg_PLACE_ENTRY *en)
{
	AUTO(str_free) char *path = span_dup(en->path);
	const char *slash = strrchr(path, '/');
	char size[24];

	jw_open(w, '{');
	jw_kstr(w, "name", slash && slash[1] ? slash + 1 : "/");
	if (S_ISDIR(en->mode) || S_ISREG(en->mode) || S_ISLNK(en->mode))
		jw_kstr(w, "type", S_ISDIR(en->mode) ? "FILE_TYPE_DIRECTORY"
				   : S_ISREG(en->mode) ? "FILE_TYPE_FILE"
						       : "FILE_TYPE_SYMLINK");
	jw_kstr(w, "path", path);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)en->size);
	if (en->size)
		jw_kstr(w, "size", size);
	jw_ku64(w, "mode", en->mode & 07777);
	put_permissions(w, en);
	jw_key(w, "owner");
	jw_str(w, en->owner);
	jw_key(w, "group");
	jw_str(w, en->group);
	e2b_time(w, "modifiedTime", en->mtime_ns);
	if (en->target.len) {
		jw_key(w, "symlinkTarget");
		jw_str(w, en->target);
	}
	if (has_meta(en->meta))
		put_meta(w, en->meta);
	jw_close(w, '}');
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

int e2b_place(struct e2b *e2b, struct http_req *req, const struct msg_PLACE_DO *m,
	      int (*fn)(void *ctx, const struct msg_PLACE_ENTRY *en), void *ctx, struct err *e)
{
	struct msg_PLACE_ENTRY en;
	struct msg_PLACE_IS is;
	struct frame f;
	struct talk t;
	int r = talk_begin(e2b, req, m, &t, e);

	for (is.more = 1; r == 0 && is.more;) {
		r = talk_next(&t, &f, e);
		if (r == 0)
			r = frame_as(&f, MSG_PLACE_IS, &is, e);
		while (r == 0 && msg_rec_next(&is.entries, MSG_PLACE_ENTRY, &en))
			r = fn ? fn(ctx, &en) : 0;
		if (r == -E2BIG && !e->code)
			r = err_set(e, -E2BIG, "answer-too-large", "the answer is too large");
		if (r == 0)
			frame_consume(&t.in, &f);
	}
	talk_end(&t);
	return r;
}

struct entries {
	struct json_writer w;
	bool many;
};

static int add_entry(void *ctx, const struct msg_PLACE_ENTRY *en)
{
	struct entries *all = ctx;

	if (!all->many)
		jw_key(&all->w, "entry");
	e2b_put_entry(&all->w, en);
	return all->w.b->failed ? -E2BIG : 0;
}

static int call(struct e2b *e2b, struct http_req *req, struct msg_PLACE_DO *m, struct http_res *res, struct err *e)
{
	struct entries all = { .w = { .b = &res->body }, .many = m->what == WIRE_PLACE_LIST };
	AUTO(str_free) char *user = e2b_user(e2b, req);
	int r;

	m->user = span_str(user);
	jw_open(&all.w, '{');
	if (all.many) {
		jw_key(&all.w, "entries");
		jw_open(&all.w, '[');
	}
	r = e2b_place(e2b, req, m, add_entry, &all, e);
	if (all.many)
		jw_close(&all.w, ']');
	jw_close(&all.w, '}');
	return r;
}

static int with_path(void *ctx, struct http_req *req, struct http_res *res, unsigned what, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	struct msg_PLACE_DO m = { .what = what };
	int r = e2b_body(req, &j, e);

	if (r < 0)
		return r;
	m.path = span_str(json_get_str(j, what == WIRE_PLACE_MOVE ? "source" : "path", ""));
	m.to = span_str(json_get_str(j, "destination", ""));
	m.depth = MIN(json_get_u64(j, "depth", 1), (uint64_t)UINT32_MAX);
	return call(ctx, req, &m, res, e);
}

int e2b_stat(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return with_path(ctx, req, res, WIRE_PLACE_STAT, e);
}

int e2b_make_dir(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return with_path(ctx, req, res, WIRE_PLACE_MAKE, e);
}

int e2b_move(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return with_path(ctx, req, res, WIRE_PLACE_MOVE, e);
}

int e2b_list_dir(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return with_path(ctx, req, res, WIRE_PLACE_LIST, e);
}

int e2b_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return with_path(ctx, req, res, WIRE_PLACE_REMOVE, e);
}

/* --- out ---------------------------------------------------------------------------------------------------------- */

/* As the query names one, as the credentials do, or nobody. */
static char *user_of(struct e2b *e2b, struct http_req *req)
{
	const char *name = http_query(req, "username");

	return name && *name ? must_strdup(name) : e2b_user(e2b, req);
}

static ssize_t spool_read(void *ctx, uint64_t at, void *to, size_t max)
{
	ssize_t n = pread(*(int *)ctx, to, max, (off_t)at);

	return n < 0 ? -errno : n;
}

static void spool_end(void *ctx)
{
	fd_close(ctx);
	free(ctx);
}

static int take_data(struct e2b *e2b, struct talk *t, struct buf *small, int *spool, uint64_t *ret_n, struct err *e)
{
	struct msg_PLACE_DATA m;
	struct frame f;
	int r;

	for (*ret_n = 0;; *ret_n += m.data.len) {
		r = talk_next(t, &f, e);
		if (r < 0 || f.type == MSG_PLACE_END)
			return r;
		r = frame_as(&f, MSG_PLACE_DATA, &m, e);
		if (r == 0 && *ret_n + m.data.len > e2b->body_max_b)
			r = err_set(e, -EFBIG, "too-large",
				    "the file has more than %llu bytes; parts of it may be asked for",
				    (unsigned long long)e2b->body_max_b);
		if (r == 0 && *spool < 0 && *ret_n + m.data.len > IN_MEMORY) {
			*spool = open(e2b->spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
			r = *spool < 0 ? -errno : io_write_full(*spool, buf_span(small).p, buf_len(small));
			buf_fini(small);
		}
		if (r == 0)
			r = *spool < 0 ? buf_append(small, m.data.p, m.data.len)
				       : io_write_full(*spool, m.data.p, m.data.len);
		if (r < 0)
			return e->code ? r : err_sys(e, r, "reading a file");
		talk_moved(t, m.data.len);
		frame_consume(&t->in, &f);
	}
}

/* What is there, and which part of it is wanted. */
static int look(struct e2b *e2b, struct http_req *req, struct http_res *res, struct msg_PLACE_DO *m, struct err *e)
{
	struct msg_PLACE_ENTRY en = { .mode = 0 };
	struct msg_PLACE_IS is;
	struct frame f;
	struct talk t;
	uint64_t at, len;
	int r;

	m->what = WIRE_PLACE_STAT;
	r = talk_begin(e2b, req, m, &t, e);
	if (r == 0)
		r = talk_next(&t, &f, e);
	if (r == 0)
		r = frame_as(&f, MSG_PLACE_IS, &is, e);
	if (r == 0 && !msg_rec_next(&is.entries, MSG_PLACE_ENTRY, &en))
		r = err_set(e, -EPROTO, "bad-message", "an answer without an entry");
	if (r == 0 && !S_ISREG(en.mode))
		r = err_set(e, -EINVAL, "not-a-file", "path '%.200s' is not a regular file", (const char *)m->path.p);
	if (r == 0)
		r = http_range(req, res, en.size, &at, &len, e);
	m->what = WIRE_PLACE_READ;
	m->offset = r == 0 && res->status == 206 ? at : 0;
	m->len = r == 0 && res->status == 206 ? len : 0;
	talk_end(&t);
	return r;
}

int e2b_file_send(struct e2b *e2b, struct http_req *req, struct http_res *res, const char *path, const char *user,
		  struct err *e)
{
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *named = str_printf("inline; filename=\"%s\"", slash ? slash + 1 : path);
	AUTO(fd_close) int spool = -1;
	struct msg_PLACE_DO m = { .user = span_str(user), .path = span_str(path) };
	struct frame f;
	struct talk t;
	uint64_t n = 0;
	int r = look(e2b, req, res, &m, e);

	if (r < 0)
		return r;
	r = talk_begin(e2b, req, &m, &t, e);
	if (r == 0)
		r = talk_next(&t, &f, e);
	if (r == 0) {
		frame_consume(&t.in, &f);
		r = take_data(e2b, &t, &res->body, &spool, &n, e);
	}
	talk_end(&t);
	if (r < 0)
		return r;
	http_answer_header(res, "Content-Disposition", named);
	http_answer_header(res, "Vary", "Accept-Encoding");
	res->type = "application/octet-stream";
	if (spool >= 0) {
		int *keep = NEW(int);

		*keep = fd_take(&spool);
		res->read = spool_read;
		res->read_end = spool_end;
		res->size = n;
		res->ctx = keep;
	}
	return 0;
}

int e2b_file_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	const char *path = http_query(req, "path");
	AUTO(str_free) char *user = user_of(ctx, req);

	return e2b_file_send(ctx, req, res, path ? path : "", user, e);
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

/* The headers X-Metadata-NAME, as NAME=VALUE. */
static int note_meta(void *ctx, const char *name, const char *value)
{
	struct msg_list *to = ctx;
	AUTO(str_free) char *pair = NULL;
	const char *p;
	char *low;

	if (strncasecmp(name, "X-Metadata-", 11) != 0)
		return 0;
	for (p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			return -EINVAL;
	pair = str_printf("%s=%s", name + 11, value);
	for (low = pair; *low != '='; low++)
		*low = (char)(*low >= 'A' && *low <= 'Z' ? *low + 32 : *low);
	if (low == pair || low - pair > 246 || buf_len(&to->b) + strlen(pair) > META_MAX_B)
		return -EINVAL;
	return msg_list_str(to, span_str(pair));
}

/* Bytes of a body: where they are in memory, and in which file when they are in one. */
struct bytes {
	struct span data;
	int fd; /* -1: in none */
	uint64_t at;
};

static int put_bytes(struct talk *t, const struct bytes *b)
{
	size_t at, len;
	int r = b->fd >= 0 ? fd_nonblock(t->fd, true) : 0;

	for (at = 0; r == 0 && at < b->data.len; at += len) {
		struct msg_PLACE_DATA piece;

		len = MIN(b->data.len - at, (size_t)PIECE);
		piece.data = SPAN((const char *)b->data.p + at, len);
		r = b->fd >= 0 ? frame_send_file(t->fd, MSG_PLACE_DATA, b->fd, b->at + at, len, t->until)
			       : frame_send(t->fd, MSG_PLACE_DATA, &piece, t->until);
		talk_moved(t, len);
	}
	return r;
}

static int put_file(struct e2b *e2b, struct http_req *req, const char *path, const char *user, const struct bytes *data,
		    struct json_writer *w, struct err *e)
{
	struct msg_PLACE_DO m = { .what = WIRE_PLACE_WRITE, .user = span_str(user), .path = span_str(path) };
	struct msg_PLACE_END end = { 0 };
	struct msg_PLACE_ENTRY en = { .mode = 0 };
	struct msg_PLACE_IS is;
	struct msg_list meta;
	struct frame f;
	struct talk t;
	int r;

	msg_list_init(&meta, 2 * META_MAX_B);
	r = http_each_header(req, note_meta, &meta);
	m.meta = msg_list_span(&meta);
	if (r < 0)
		err_set(e, -EINVAL, "bad-request", "metadata: printable values, %d bytes in all", META_MAX_B);
	t = (struct talk){ .fd = -1 };
	if (r == 0)
		r = talk_begin(e2b, req, &m, &t, e);
	msg_list_fini(&meta);
	if (r == 0)
		r = put_bytes(&t, data);
	if (r == 0)
		r = frame_send(t.fd, MSG_PLACE_END, &end, t.until);
	if (r == 0 || (r == -EPIPE && !e->code)) /* it may have said why it hung up */
		r = talk_next(&t, &f, e);
	if (r == 0)
		r = frame_as(&f, MSG_PLACE_IS, &is, e);
	if (r == 0 && msg_rec_next(&is.entries, MSG_PLACE_ENTRY, &en)) {
		AUTO(str_free) char *where = span_dup(en.path);
		const char *slash;

		jw_open(w, '{');
		jw_kstr(w, "path", where);
		slash = strrchr(where, '/');
		jw_kstr(w, "name", slash ? slash + 1 : where);
		jw_kstr(w, "type", "file");
		if (has_meta(en.meta))
			put_meta(w, en.meta);
		jw_close(w, '}');
	}
	talk_end(&t);
	return r < 0 && !e->code ? err_sys(e, r, "writing %.160s", path) : r;
}

int e2b_file_take(struct e2b *e2b, struct http_req *req, const char *path, const char *user, struct span data,
		  struct err *e)
{
	struct json_writer w;
	struct buf unused;
	int r;

	buf_init(&unused, 64 * 1024);
	w = (struct json_writer){ .b = &unused };
	r = put_file(e2b, req, path, user, &(struct bytes){ .data = data, .fd = -1 }, &w, e);
	buf_fini(&unused);
	return r;
}

static int put_parts(struct e2b *e2b, struct http_req *req, const struct bytes *body, const char *type,
		     struct json_writer *w, struct err *e)
{
	const char *path = http_query(req, "path");
	AUTO(str_free) char *user = user_of(e2b, req);
	VEC(char *) seen = { 0 };
	struct multipart m;
	struct bytes data;
	struct part part;
	size_t i;
	int r = multipart_begin(&m, type, body->data);

	if (r < 0)
		return err_set(e, -EINVAL, "bad-request", "a multipart body without a boundary");
	while (r == 0 && multipart_next(&m, &part)) {
		AUTO(str_free) char *name = multipart_name(part.filename);
		const char *to = path && *path ? path : name;

		if (!span_eq(part.name, span_str("file")))
			continue;
		for (i = 0; i < seen.len && !str_eq(seen.v[i], to);)
			i++;
		if (i < seen.len)
			r = err_set(e, -EINVAL, "bad-request",
				    "you cannot upload multiple files to the same path '%.160s'", to);
		else if (seen.len == PARTS_MAX)
			r = err_set(e, -EINVAL, "bad-request", "at most %d files in one request", PARTS_MAX);
		else if (!*to)
			r = err_set(e, -EINVAL, "bad-request", "a part without a path");
		vec_push(&seen, must_strdup(to));
		data = (struct bytes){ .data = part.data, .fd = body->fd };
		data.at = (uint64_t)((const char *)part.data.p - (const char *)body->data.p);
		if (r == 0)
			r = put_file(e2b, req, to, user, &data, w, e);
	}
	if (r == 0 && m.is_bad)
		r = err_set(e, -EINVAL, "bad-request", "a multipart body that does not end");
	for (i = 0; i < seen.len; i++)
		free(seen.v[i]);
	vec_fini(&seen);
	return r;
}

/* What a packed body stands for, in a file without a name. */
static int unpacked(struct e2b *e2b, const char *coding, struct span body, int fd, uint64_t size, int *ret_fd,
		    uint64_t *ret_size, struct err *e)
{
	AUTO(fd_close) int to = -1;
	void *map = MAP_FAILED;
	int r;

	if (strcasecmp(coding, "gzip") != 0)
		return err_set(e, -EINVAL, "bad-request", "Content-Encoding is gzip or identity");
	to = open(e2b->spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (to >= 0 && fd >= 0)
		map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (to < 0 || (fd >= 0 && map == MAP_FAILED))
		return err_sys(e, -errno, "the body");
	r = gunzip_to(to, fd >= 0 ? SPAN(map, size) : body, e2b->body_max_b, ret_size, e);
	if (fd >= 0)
		munmap(map, size);
	if (r == 0)
		*ret_fd = fd_take(&to);
	return r;
}

int e2b_file_put(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct json_writer w = { .b = &res->body };
	const char *type = http_header(req, "Content-Type"), *path = http_query(req, "path");
	const char *coding = http_header(req, "Content-Encoding");
	AUTO(str_free) char *user = user_of(ctx, req);
	uint64_t size;
	int fd, r = 0;
	struct span body = http_body(req, &fd, &size);
	struct bytes bytes;
	void *map = MAP_FAILED;

	AUTO(fd_close) int plain = -1;

	if (coding && !str_eq(coding, "identity")) {
		r = unpacked(ctx, coding, body, fd, size, &plain, &size, e);
		if (r < 0)
			return r;
		fd = plain;
		body = SPAN_NULL;
	}
	if (fd >= 0 && size) {
		map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (map == MAP_FAILED)
			return err_sys(e, -errno, "the body");
		body = SPAN(map, size);
	}
	bytes = (struct bytes){ body, fd, 0 };
	jw_open(&w, '[');
	if (type && strncasecmp(type, "multipart/form-data", 19) == 0)
		r = put_parts(ctx, req, &bytes, type, &w, e);
	else if (!path || !*path)
		r = err_set(e, -EINVAL, "bad-request", "a path is needed");
	else
		r = put_file(ctx, req, path, user, &bytes, &w, e);
	jw_close(&w, ']');
	if (map != MAP_FAILED)
		munmap(map, size);
	return r;
}
