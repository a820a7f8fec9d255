/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workspace that begins with the files of a tree. They are laid into the new file system by its agent, over a
 * connection of its own, before anybody works in it and before it is told to replicate: one way, no question for each
 * file. The agent's first scan then tells them like any other files; what has the name, the size and the time that the
 * tree says is taken for what we sent, so that no byte comes back.
 *
 * Entries go in the order of a walk: a directory, what is in it, then the directory once more for its times.
 */
#include "host/ws/fill.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "host/ws/state.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/stat.h>

enum {
	LINKS_MAX_B = 64 * 1024 * 1024,
	INLINE_MAX = 65536,
	BATCH_B = 256 * 1024,
	BATCH_MAX = 768 * 1024,
	PIECE = 262144,
	PATIENCE_MS = 60000,
	LOOK_MS = 500, /* how often somebody who waits for the agent looks whether to stop */
	FILES_PER_S = 500, /* what is asked of the slowest, beyond the patience */
	BYTES_PER_S = 4 * 1024 * 1024
};

/* A path as it is told, below @top. */
static const char *below(const char *path, const char *top, size_t top_len)
{
	if (top_len && (strncmp(path, top, top_len) != 0 || path[top_len] != '/'))
		return NULL;
	return path + (top_len ? top_len + 1 : 0);
}

/* "path//path//path", a NUL behind each group: everybody becomes a link to the one that the walk comes to first. */
int links_read(struct store *store, const struct content *links, const char *top, struct map *ret, char **ret_text)
{
	char *text;
	size_t at = 0, top_len = strlen(top), len;

	if (links->size > LINKS_MAX_B)
		return -EFBIG;
	text = *ret_text = must_calloc(1, links->size + 1);
	if (content_read(store, links, 0, text, links->size, false) != (ssize_t)links->size)
		return -EIO;
	for (; at < links->size; at += len + 1) {
		const char *p = text + at, *first = NULL, *path;
		char *cut;

		/* The end of each path becomes a NUL; the second look knows by the length where the group ends. */
		len = strlen(p);
		for (cut = text + at; (cut = strstr(cut, "//")); cut += 2)
			cut[0] = cut[1] = '\0';
		for (; p < text + at + len; p += strlen(p) + 2) {
			path = below(p, top, top_len);
			if (path && (!first || path_walk_order(path, first) < 0))
				first = path;
		}
		for (p = text + at; first && p < text + at + len; p += strlen(p) + 2) {
			path = below(p, top, top_len);
			if (path)
				map_put(ret, span_str(path), (void *)(uintptr_t)first);
		}
	}
	return 0;
}

struct filler {
	struct store *store;
	int fd;
	struct msg_list batch;
	struct map links; /* path -> the path of its group that the walk comes to first; in @links_text */
	char *links_text;
	const struct ws_fill *what;
	struct ws_filled now;
	uint64_t sent_b; /* without holes */
	uint64_t began, patience_ms;
};

/* The next piece must be taken within the patience, and all so far at a rate: who takes each piece in the last moment
 * does not take for ever. */
static uint64_t until(const struct filler *f)
{
	uint64_t rate = f->began + f->patience_ms * CLOCK_MS + f->now.files * (CLOCK_S / FILES_PER_S) +
			f->sent_b * 1000 / BYTES_PER_S * CLOCK_MS;

	return MIN(rate, clock_after_ms(f->patience_ms));
}

static bool is_stopped(const struct filler *f)
{
	return f->what->stop && __atomic_load_n(f->what->stop, __ATOMIC_RELAXED);
}

static int flush(struct filler *f)
{
	struct msg_FILL m = { .entries = msg_list_span(&f->batch), .over = f->what->keep ? 2 : f->what->over };
	int r;

	if (is_stopped(f))
		return -ECANCELED;
	if (!f->batch.n)
		return 0;
	r = frame_send_unless(f->fd, MSG_FILL, &m, until(f), f->what->stop);
	msg_list_fini(&f->batch);
	msg_list_init(&f->batch, BATCH_MAX);
	if (f->what->progress)
		f->what->progress(f->what->ctx, &f->now);
	return r;
}

static int send_entry(struct filler *f, const struct msg_FILL_ENTRY *en)
{
	int r = msg_list_rec(&f->batch, MSG_FILL_ENTRY, en);

	if (r == 0 && buf_len(&f->batch.b) >= BATCH_B)
		r = flush(f);
	return r;
}

static int send_rest(struct filler *f, const struct content *c)
{
	AUTO(mem_free) uint8_t *piece = must_calloc(1, PIECE);
	uint64_t at = 0, was = f->now.bytes;
	int r = flush(f);

	while (r == 0 && at < c->size && content_next_data(f->store, c, at, &at) == 0) {
		ssize_t n = content_read(f->store, c, at, piece, PIECE, false);
		struct msg_FILL_DATA m = { .offset = at, .data = SPAN(piece, (size_t)MAX(n, (ssize_t)0)) };

		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		r = frame_send_unless(f->fd, MSG_FILL_DATA, &m, until(f), f->what->stop);
		if (is_stopped(f))
			r = -ECANCELED;
		at += (uint64_t)n;
		f->now.bytes += (uint64_t)n;
		f->sent_b += (uint64_t)n;
		if (f->what->progress)
			f->what->progress(f->what->ctx, &f->now);
	}
	f->now.bytes = was + c->size; /* holes, too */
	return r;
}

/* As the agent is to call it; on the heap. */
static char *place(const struct filler *f, const char *path)
{
	const char *top = f->what->over ? f->what->below : "";

	return *path ? path_join(top, path) : must_strdup(top);
}

static int lay(struct filler *f, const char *path, const struct tree_item *it, bool again)
{
	AUTO(str_free) char *to = place(f, path);
	AUTO(str_free) char *link = NULL;
	AUTO(mem_free) uint8_t *data = NULL;
	AUTO(mem_free) uint8_t *xattrs = NULL;
	struct msg_FILL_ENTRY en = { .path = span_str(to),
				     .mode = it->mode,
				     .uid = it->uid,
				     .gid = it->gid,
				     .mtime_ns = it->mtime_ns,
				     .target = it->target,
				     .again = again };
	const char *first = S_ISDIR(it->mode) ? NULL : map_get(&f->links, span_str(path));
	bool small = it->content.size <= INLINE_MAX;
	ssize_t n;
	int r;

	if (strlen(to) > PATH_LEN_MAX)
		return -ENAMETOOLONG;
	f->now.files += !again;
	if (first && !str_eq(first, path)) {
		link = place(f, first);
		en.link = span_str(link);
		return send_entry(f, &en);
	}
	if (it->xattrs.size && (again || !S_ISDIR(it->mode))) {
		if (it->xattrs.size > XATTRS_MAX)
			return -EIO;
		xattrs = must_calloc(1, it->xattrs.size);
		n = content_read(f->store, &it->xattrs, 0, xattrs, it->xattrs.size, false);
		if (n != (ssize_t)it->xattrs.size)
			return -EIO;
		en.xattrs = SPAN(xattrs, it->xattrs.size);
	}
	if (S_ISREG(it->mode))
		en.size = it->content.size;
	if (S_ISREG(it->mode) && small && it->content.size) {
		data = must_calloc(1, it->content.size);
		n = content_read(f->store, &it->content, 0, data, it->content.size, false);
		if (n != (ssize_t)it->content.size)
			return -EIO;
		en.data = SPAN(data, it->content.size);
		f->now.bytes += it->content.size;
	}
	r = send_entry(f, &en);
	return r == 0 && S_ISREG(it->mode) && !small ? send_rest(f, &it->content) : r;
}

static int one(void *ctx, const char *path, const struct tree_item *it, bool again)
{
	if (S_ISCHR(it->mode) || S_ISBLK(it->mode) || tree_is_elsewhere(it))
		return 0; /* nobody can have made one; of nothing nothing is made */
	if (!*path && ((struct filler *)ctx)->what->keep_top)
		return 0;
	return lay(ctx, path, it, again);
}

/* What the agent said when it hung up. */
static int reason(struct filler *f, int r, struct err *e)
{
	uint64_t until = clock_after_ms(1000);
	struct msg_ERROR m;
	struct frame frame;
	struct buf in;

	if (r == -ECANCELED)
		return r;
	buf_init(&in, 8192);
	while (clock_now() < until && frame_recv(f->fd, &in, &frame, until, NULL) == 0) {
		if (frame.type == MSG_ERROR && msg_decode(MSG_ERROR, frame.payload, &m, NULL) == 0) {
			AUTO(str_free) char *name = span_dup(m.name);
			AUTO(str_free) char *slug = span_dup(m.slug);

			r = err_number(name) ? -err_number(name) : -EIO;
			err_set(e, r, slug, "%.*s", (int)m.text.len, (const char *)m.text.p);
		}
		frame_consume(&in, &frame);
	}
	buf_fini(&in);
	if (e && e->code)
		return r;
	if (r == -ETIMEDOUT)
		return err_set(e, r, "fill-slow", "the sandbox takes its files too slowly: %llu of %llu so far",
			       (unsigned long long)f->now.files, (unsigned long long)f->now.files_all);
	return err_sys(e, r, "laying out the files");
}

/* The agent's answer; what has come of it stays in @in between two looks. */
static int await_answer(struct filler *f, struct buf *in, struct frame *ret)
{
	uint64_t end = until(f);
	int r;

	do
		r = is_stopped(f) ? -ECANCELED : frame_recv(f->fd, in, ret, MIN(end, clock_after_ms(LOOK_MS)), NULL);
	while (r == -ETIMEDOUT && clock_now() < end);
	return r;
}

static int finish(struct filler *f, struct err *e)
{
	struct msg_FILL_END end = { 0 };
	struct msg_FILLED m;
	struct frame frame;
	struct buf in;
	int r = frame_send_unless(f->fd, MSG_FILL_END, &end, until(f), f->what->stop);

	if (r < 0)
		return reason(f, r, e);
	buf_init(&in, 8192);
	r = await_answer(f, &in, &frame);
	if (r == 0 && frame.type == MSG_ERROR) {
		struct msg_ERROR why;

		r = -EIO;
		if (msg_decode(MSG_ERROR, frame.payload, &why, NULL) == 0)
			err_set(e, r, "fill", "%.*s", (int)why.text.len, (const char *)why.text.p);
	} else if (r == 0) {
		r = frame.type == MSG_FILLED ? msg_decode(MSG_FILLED, frame.payload, &m, e) : -EPROTO;
		if (r == 0 && m.entries != f->now.files)
			r = err_set(e, -EPROTO, "bad-message", "the agent made %llu of %llu files",
				    (unsigned long long)m.entries, (unsigned long long)f->now.files);
	}
	buf_fini(&in);
	return r < 0 && !(e && e->code) ? reason(f, r, e) : r;
}

struct counting {
	struct store *store;
	struct ws_filled *to;
	VEC(struct digest) todo;
};

static int count_one(void *ctx, const struct tree_item *it)
{
	struct counting *c = ctx;

	c->to->left_out += tree_is_elsewhere(it);
	if (S_ISCHR(it->mode) || S_ISBLK(it->mode) || tree_is_elsewhere(it))
		return 0;
	c->to->files_all++;
	if (S_ISREG(it->mode))
		c->to->bytes_all += it->content.size;
	if (S_ISDIR(it->mode))
		vec_push(&c->todo, it->dir);
	return 0;
}

/* A file of several names counts with each: when the first is laid out nobody knows yet how many are to come. */
static int count(struct store *store, const struct tree_item *top, struct ws_filled *to)
{
	struct counting c = { .store = store, .to = to };
	int r = tree_each(store, &top->dir, count_one, &c);

	while (r == 0 && c.todo.len) {
		struct digest next = c.todo.v[--c.todo.len];

		r = tree_each(store, &next, count_one, &c);
	}
	vec_fini(&c.todo);
	return r;
}

int ws_fill(const struct ws_fill *what, struct err *e)
{
	struct filler f = { .store = what->store, .fd = what->fd, .what = what };
	struct content links;
	struct tree_item top;
	int r = tree_stat(f.store, what->root, &top, &links);

	msg_list_init(&f.batch, BATCH_MAX);
	if (r == 0)
		r = links_read(f.store, &links, "", &f.links, &f.links_text);
	if (r == 0)
		r = count(f.store, &top, &f.now);
	if (r < 0)
		err_sys(e, r, "read a tree");
	f.began = clock_now();
	f.patience_ms = what->patience_ms ? what->patience_ms : PATIENCE_MS;
	if (r == 0) {
		if (what->over && what->below[0])
			r = lay(&f, "", &top, false);
		if (r == 0)
			r = ws_walk(f.store, &top, one, &f);
		if (r == 0)
			r = flush(&f);
		r = r < 0 ? reason(&f, r, e) : finish(&f, e);
	}
	msg_list_fini(&f.batch);
	map_fini(&f.links);
	mem_free(&f.links_text);
	return r;
}
