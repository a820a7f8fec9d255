/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching a directory by asking again and again, as clients do that cannot hold a stream. A watcher is a connection to
 * the agent, on the loop, and the events since the last question. It lives until it is removed, its sandbox stops or
 * nobody has asked for a while; what is too much for it is dropped, and the next question is told so.
 */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "seal/digest.h"
#include "wire/conn.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>

enum { DIAL_MS = 10000, IDLE_MS = 15 * 60 * 1000, EVENTS_MAX_B = 1024 * 1024, OF_ONE_MAX = 64, ID_LEN = 1 + 20 };

struct watcher {
	struct e2b_open open; /* first; the loop's, like the next two */
	struct conn *conn;
	struct loop_timer *idle;
	struct e2b *e2b;
	int fd; /* until there is a connection */
	bool with_entry;
	/* Guarded by e2b.lock. */
	struct list node; /* in e2b.watchers */
	unsigned refs;
	char id[ID_LEN + 1], sandbox[PRIV_ID_MAX + 1];
	struct buf events; /* objects, with commas */
	bool is_full, is_over;
	uint64_t asked_at;
	struct err why;
};

static void unref(struct watcher *w)
{
	struct e2b *e2b = w->e2b;
	bool last;

	lock_take(&e2b->lock);
	last = --w->refs == 0;
	lock_drop(&e2b->lock);
	if (!last)
		return;
	buf_fini(&w->events);
	fd_close(&w->fd);
	free(w);
}

/* --- on the loop -------------------------------------------------------------------------------------------------- */

/* Nothing more comes. Whoever asks next hears what is there, then why. */
static void over(struct watcher *w, const struct err *why)
{
	loop_untimer(&w->idle);
	conn_free(&w->conn);
	e2b_open_remove(&w->open);
	lock_take(&w->e2b->lock);
	w->is_over = true;
	w->why = *why;
	lock_drop(&w->e2b->lock);
	unref(w);
}

static void on_frame(void *ctx, const struct frame *f)
{
	struct watcher *w = ctx;
	struct msg_PLACE_EVENT m;
	struct err e = ERR_NULL;
	struct json_writer j = { .b = &w->events };

	if (f->type == MSG_PLACE_IS)
		return;
	if (f->type == MSG_ERROR || frame_as(f, MSG_PLACE_EVENT, &m, &e) < 0) {
		if (f->type == MSG_ERROR)
			(void)!frame_refused(f, &e);
		over(w, &e);
		return;
	}
	if (!m.kind)
		return;
	lock_take(&w->e2b->lock);
	if (buf_room(&w->events) < 65536) {
		w->is_full = true;
	} else {
		if (buf_len(&w->events))
			buf_append(&w->events, ",", 1);
		e2b_put_place_event(&j, &m, w->with_entry);
	}
	lock_drop(&w->e2b->lock);
}

static void on_close(void *ctx, const struct err *why)
{
	struct err e = ERR_NULL;

	(void)why;
	err_set(&e, -EPIPE, "agent-gone", "the connection to the sandbox was lost");
	over(ctx, &e);
}

static void forget(struct watcher *w)
{
	lock_take(&w->e2b->lock);
	list_remove(&w->node);
	list_init(&w->node);
	lock_drop(&w->e2b->lock);
	unref(w);
}

static void on_idle(void *ctx)
{
	struct watcher *w = ctx;
	struct err e = ERR_NULL;
	uint64_t until;
	bool listed;

	lock_take(&w->e2b->lock);
	until = w->asked_at + IDLE_MS * CLOCK_MS;
	listed = !list_empty(&w->node);
	lock_drop(&w->e2b->lock);
	if (listed && until > clock_now()) {
		loop_rearm(w->idle, until);
		return;
	}
	if (listed)
		forget(w);
	err_set(&e, -ENOENT, "no-such-watcher", "nobody asked for its events");
	over(w, &e);
}

static void on_ending(struct e2b_open *o)
{
	struct err e = ERR_NULL;

	err_set(&e, -ESHUTDOWN, "ending", "the daemon is ending");
	over((struct watcher *)o, &e); /* its first member */
}

static void begin(void *ctx)
{
	static const struct conn_events events = { .on_frame = on_frame, .on_close = on_close };
	struct watcher *w = ctx;
	struct err e = ERR_NULL;

	if (!e2b_open_add(w->e2b, &w->open))
		err_set(&e, -ESHUTDOWN, "ending", "the daemon is ending");
	else if (conn_new(w->e2b->loop, w->fd, 0, &events, w, &w->conn, &e) == 0)
		w->fd = -1;
	if (!w->conn)
		over(w, &e);
	else
		w->idle = loop_timer(w->e2b->loop, clock_after_ms(IDLE_MS), on_idle, w);
}

/* It was taken off the list. */
static void leave(void *ctx)
{
	struct watcher *w = ctx;
	struct err e = ERR_NULL;

	if (w->conn)
		over(w, &e);
	unref(w);
}

/* --- the handlers ------------------------------------------------------------------------------------------------- */

static unsigned count(struct e2b *e2b, const char *sandbox)
{
	struct list *pos;
	unsigned n = 0;

	list_each(pos, &e2b->watchers)
		n += str_eq(list_entry(pos, struct watcher, node)->sandbox, sandbox);
	return n;
}

/* The agent says at once whether it can. */
static int ask_agent(struct e2b *e2b, struct http_req *req, const struct json *j, int *ret_fd, struct err *e)
{
	AUTO(str_free) char *user = e2b_user(e2b, req);
	AUTO(buf_fini) struct buf in;
	struct msg_PLACE_DO m = { .what = WIRE_PLACE_WATCH, .user = span_str(user) };
	uint64_t until = clock_after_ms(DIAL_MS);
	struct frame f;
	int r = hub_dial_as(e2b->hub, e2b_sandbox(req), WIRE_PLACE, until, ret_fd, e);

	if (r < 0)
		return r;
	buf_init(&in, FRAME_HEADER + FRAME_MAX);
	m.path = span_str(json_get_str(j, "path", ""));
	m.depth = json_get_bool(j, "recursive", false) ? 2 : 1;
	r = frame_send(*ret_fd, MSG_PLACE_DO, &m, until);
	if (r == 0)
		r = frame_recv_one(*ret_fd, &in, &f, until, e);
	if (r < 0)
		return err_sys(e, r, "asking the sandbox");
	if (f.type == MSG_ERROR)
		return frame_refused(&f, e);
	return f.type == MSG_PLACE_IS ? 0 : err_set(e, -EPROTO, "bad-message", "the agent answers something else");
}

int e2b_watcher_create(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	AUTO(fd_close) int fd = -1;
	struct json_writer w = { .b = &res->body };
	struct watcher *new;
	uint8_t raw[(ID_LEN - 1) / 2];
	bool full;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = ask_agent(e2b, req, j, &fd, e);
	if (r < 0)
		return r;
	new = NEW(struct watcher);
	new->e2b = e2b;
	new->open.end = on_ending;
	list_init(&new->open.node);
	list_init(&new->node);
	buf_init(&new->events, EVENTS_MAX_B);
	new->refs = 2; /* the list's, the loop's */
	new->with_entry = json_get_bool(j, "includeEntry", false);
	new->asked_at = clock_now();
	random_bytes(raw, sizeof(raw));
	new->id[0] = 'w';
	str_hex(raw, sizeof(raw), new->id + 1);
	snprintf(new->sandbox, sizeof(new->sandbox), "%s", e2b_sandbox(req));
	new->fd = fd_take(&fd);
	fd_nonblock(new->fd, true);
	lock_take(&e2b->lock);
	full = count(e2b, new->sandbox) >= OF_ONE_MAX;
	if (!full)
		list_append(&e2b->watchers, &new->node);
	lock_drop(&e2b->lock);
	if (full) {
		new->refs = 1;
		unref(new);
		return err_set(e, -EUSERS, "too-many-watchers", "at most %d watchers for a sandbox", OF_ONE_MAX);
	}
	jw_open(&w, '{');
	jw_kstr(&w, "watcherId", new->id);
	jw_close(&w, '}');
	loop_post(e2b->loop, begin, new);
	return 0;
}

/* lock is held */
static struct watcher *find(struct e2b *e2b, struct http_req *req, const char *id)
{
	struct list *pos;

	list_each(pos, &e2b->watchers) {
		struct watcher *w = list_entry(pos, struct watcher, node);

		if (str_eq(w->id, id) && str_eq(w->sandbox, e2b_sandbox(req)))
			return w;
	}
	return NULL;
}

static int no_watcher(const char *id, struct err *e)
{
	return err_set(e, -ENOENT, "no-such-watcher", "watcher %.40s not found", id);
}

int e2b_watcher_events(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct json_writer out = { .b = &res->body };
	struct watcher *w, *ended = NULL;
	const char *id;
	int r = e2b_body(req, &j, e);

	if (r < 0)
		return r;
	id = json_get_str(j, "watcherId", "");
	lock_take(&e2b->lock);
	w = find(e2b, req, id);
	if (!w) {
		r = no_watcher(id, e);
	} else if (w->is_full) { /* better than to be silent about what is missing */
		w->is_full = false;
		buf_consume(&w->events, buf_len(&w->events));
		r = err_set(e, -EUSERS, "too-many-events", "more came than is kept: look at the directory itself");
	} else if (w->is_over && !buf_len(&w->events)) {
		*e = w->why;
		r = e->code;
		list_remove(&w->node);
		list_init(&w->node);
		ended = w;
	} else {
		w->asked_at = clock_now();
		jw_open(&out, '{');
		jw_key(&out, "events");
		jw_open(&out, '[');
		jw_raw(&out, buf_span(&w->events));
		jw_close(&out, ']');
		jw_close(&out, '}');
		buf_fini(&w->events);
	}
	lock_drop(&e2b->lock);
	if (ended)
		unref(ended);
	return r;
}

int e2b_watcher_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct watcher *w = NULL;
	const char *id;
	int r = e2b_body(req, &j, e);

	if (r < 0)
		return r;
	id = json_get_str(j, "watcherId", "");
	lock_take(&e2b->lock);
	w = find(e2b, req, id);
	if (w) {
		list_remove(&w->node);
		list_init(&w->node);
	}
	lock_drop(&e2b->lock);
	if (!w)
		return no_watcher(id, e);
	loop_post(e2b->loop, leave, w); /* with the list's reference */
	buf_append(&res->body, "{}", 2);
	return 0;
}

void e2b_watchers_end(struct e2b *e2b)
{
	while (!list_empty(&e2b->watchers)) {
		struct watcher *w = list_entry(e2b->watchers.next, struct watcher, node);

		list_remove(&w->node);
		list_init(&w->node);
		unref(w);
	}
}
