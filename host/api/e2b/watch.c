/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching a directory anywhere in a sandbox. The agent tells changes on a connection of its own, which is on the loop;
 * a client that reads too slowly is not waited for by the sandbox but by that connection, and the kernel there drops
 * what is too much.
 */
#include "host/api/e2b/stream.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "wire/conn.h"
#include "wire/wire.h"

#include <errno.h>

enum { DIAL_MS = 10000 };

struct watching {
	struct e2b_open open;
	struct e2b *e2b;
	struct e2b_stream *out;
	int fd; /* until there is a connection */
	struct conn *conn;
	struct loop_timer *keepalive, *deadline;
	unsigned keepalive_s;
	uint64_t until;
	bool with_entry, is_paused;
};

static void over(struct watching *w, const struct err *why)
{
	loop_untimer(&w->keepalive);
	loop_untimer(&w->deadline);
	conn_free(&w->conn);
	fd_close(&w->fd);
	e2b_stream_give(w->out, SPAN_NULL, true, why);
}

void e2b_put_place_event(struct json_writer *j, const struct msg_PLACE_EVENT *m, bool with_entry)
{
	static const char *const kinds[] = { "",
					     "EVENT_TYPE_CREATE",
					     "EVENT_TYPE_WRITE",
					     "EVENT_TYPE_REMOVE",
					     "EVENT_TYPE_RENAME",
					     "EVENT_TYPE_CHMOD" };
	struct msg_PLACE_ENTRY en;
	struct span list = m->entry;

	jw_open(j, '{');
	jw_key(j, "name");
	jw_str(j, m->name);
	jw_kstr(j, "type", kinds[m->kind]);
	if (with_entry && msg_rec_next(&list, MSG_PLACE_ENTRY, &en)) {
		jw_key(j, "entry");
		e2b_put_entry(j, &en);
	}
	jw_close(j, '}');
}

static void tell(struct watching *w, const struct msg_PLACE_EVENT *m)
{
	struct json_writer j;
	struct buf b;

	buf_init(&b, 65536);
	j = (struct json_writer){ .b = &b };
	jw_open(&j, '{');
	jw_key(&j, "filesystem");
	e2b_put_place_event(&j, m, w->with_entry);
	jw_close(&j, '}');
	if (!b.failed)
		e2b_stream_give(w->out, buf_span(&b), false, NULL);
	buf_fini(&b);
	if (e2b_stream_full(w->out) && !w->is_paused) {
		conn_pause(w->conn);
		w->is_paused = true;
	}
}

static void on_frame(void *ctx, const struct frame *f)
{
	static const char start[] = "{\"start\":{}}";
	struct watching *w = ctx;
	struct msg_PLACE_EVENT m;
	struct err e = ERR_NULL;

	if (f->type == MSG_PLACE_IS) {
		e2b_stream_give(w->out, span_str(start), false, NULL);
	} else if (f->type == MSG_ERROR) {
		(void)!frame_refused(f, &e);
		over(w, &e);
	} else if (frame_as(f, MSG_PLACE_EVENT, &m, &e) < 0) {
		over(w, &e);
	} else if (m.kind) {
		tell(w, &m);
	}
}

static void on_close(void *ctx, const struct err *why)
{
	struct err e = ERR_NULL;

	(void)why;
	err_set(&e, -EPIPE, "agent-gone", "the connection to the sandbox was lost");
	over(ctx, &e);
}

static void on_keepalive(void *ctx)
{
	static const char text[] = "{\"keepalive\":{}}";
	struct watching *w = ctx;

	e2b_stream_give(w->out, span_str(text), false, NULL);
	loop_rearm(w->keepalive, clock_after_ms(w->keepalive_s * 1000));
}

static void on_deadline(void *ctx)
{
	struct err e = ERR_NULL;

	err_set(&e, -ETIMEDOUT, "timeout", "the time of this stream is over");
	over(ctx, &e);
}

static void on_ending(struct e2b_open *o)
{
	struct err e = ERR_NULL;

	err_set(&e, -ESHUTDOWN, "ending", "the daemon is ending");
	over((struct watching *)o, &e); /* its first member */
}

static void begin(void *ctx)
{
	static const struct conn_events events = { .on_frame = on_frame, .on_close = on_close };
	struct watching *w = ctx;
	struct err e = ERR_NULL;

	if (!e2b_open_add(w->e2b, &w->open))
		err_set(&e, -ESHUTDOWN, "ending", "the daemon is ending");
	else if (conn_new(w->e2b->loop, w->fd, 0, &events, w, &w->conn, &e) == 0)
		w->fd = -1;
	if (!w->conn) {
		over(w, &e);
		return;
	}
	w->keepalive = loop_timer(w->e2b->loop, clock_after_ms(w->keepalive_s * 1000), on_keepalive, w);
	if (w->until != CLOCK_NEVER)
		w->deadline = loop_timer(w->e2b->loop, w->until, on_deadline, w);
}

static void go_on(void *ctx)
{
	struct watching *w = ctx;

	if (w->is_paused && w->conn)
		conn_resume(w->conn);
	w->is_paused = false;
}

static void drained(void *ctx)
{
	struct watching *w = ctx;

	loop_post(w->e2b->loop, go_on, w);
}

static void end(void *ctx)
{
	struct watching *w = ctx;

	e2b_open_remove(&w->open);
	over(w, NULL);
	e2b_stream_free(&w->out);
	free(w);
}

static void gone(void *ctx)
{
	struct watching *w = ctx;

	loop_post(w->e2b->loop, end, w);
}

int e2b_watch_dir(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	static const struct e2b_stream_events stream_events = { .drained = drained, .gone = gone };
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *user = e2b_user(e2b, req);
	const char *text = http_header(req, "Connect-Timeout-Ms");
	struct msg_PLACE_DO m = { .what = WIRE_PLACE_WATCH, .user = span_str(user) };
	struct watching *w;
	uint64_t ms = 0;
	int fd = -1, r = e2b_envelope(req, &j, e);

	if (r == 0)
		r = hub_dial_as(e2b->hub, e2b_sandbox(req), WIRE_PLACE, clock_after_ms(DIAL_MS), &fd, e);
	if (r == 0) {
		m.path = span_str(json_get_str(j, "path", ""));
		m.depth = json_get_bool(j, "recursive", false) ? 2 : 1;
		r = frame_send(fd, MSG_PLACE_DO, &m, clock_after_ms(DIAL_MS));
	}
	if (r < 0) {
		fd_close(&fd);
		res->type = "application/connect+json";
		e2b_put_last(&res->body, e);
		return 0;
	}
	w = NEW(struct watching);
	w->e2b = e2b;
	w->open.end = on_ending;
	list_init(&w->open.node);
	w->fd = fd;
	w->keepalive_s = e2b_keepalive_s(req);
	w->until = text && num_u64(text, (uint64_t)INT32_MAX * 1000, &ms) == 0 && ms
			   ? clock_after_ms((unsigned)MIN(ms, (uint64_t)UINT32_MAX))
			   : CLOCK_NEVER;
	w->with_entry = json_get_bool(j, "includeEntry", false);
	w->out = e2b_stream_new(req, res, &stream_events, w);
	loop_post(e2b->loop, begin, w);
	return 0;
}
