/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for the end of a command that was asked for in one request. It happens on the loop, so that it costs memory
 * and no thread; the answer is written by a thread of the pool. Whatever ends it (the command, the agent, the client
 * who goes away, the clock, the end of the daemon) comes to over(), once.
 */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/api/leak.h"
#include "json/json.h"
#include "wire/conn.h"
#include "wire/wire.h"

#include <errno.h>

enum { OUT_MAX = 16 * 1024 * 1024 };

struct waiting {
	struct list node; /* in api.waiting */
	struct api *api;
	struct http_req *req;
	struct http_res *res;
	int fd; /* until there is a connection */
	uint64_t until;
	struct conn *conn;
	struct loop_timer *timer;
	struct loop_watch *client;
	struct buf out[2];
	bool cut[2];
	struct out_leaks *leaks; /* may be NULL */
	struct msg_EXIT exit;
	int result;
	struct err e;
};

static void put_result(struct http_res *res, const struct waiting *w)
{
	static const char *const how[] = { "exit", "signal", "timeout", "lost", "memory" };
	struct json_writer j = { .b = &res->body };

	jw_open(&j, '{');
	jw_kstr(&j, "how", how[MIN(w->exit.how, (uint64_t)WIRE_OOM)]);
	jw_ku64(&j, "code", w->exit.code);
	jw_ku64(&j, "oom_kills", w->exit.oom_kills);
	jw_key(&j, "stdout");
	jw_str(&j, buf_span(&w->out[0]));
	jw_key(&j, "stderr");
	jw_str(&j, buf_span(&w->out[1]));
	jw_ku64(&j, "stdout_b", w->exit.out_end);
	jw_ku64(&j, "stderr_b", w->exit.err_end);
	jw_key(&j, "cut");
	jw_bool(&j, w->cut[0] || w->cut[1]);
	jw_close(&j, '}');
	buf_append(&res->body, "\n", 1);
}

/* On a thread of the pool: long output takes a while to write. */
static void finish(void *ctx)
{
	struct waiting *w = ctx;

	if (w->result == 0)
		put_result(w->res, w);
	http_later(w->req, w->result, &w->e);
	buf_fini(&w->out[0]);
	buf_fini(&w->out[1]);
	out_leaks_free(&w->leaks);
	free(w);
}

static void over(struct waiting *w, int result)
{
	w->result = result;
	list_remove(&w->node);
	loop_unwatch(&w->client);
	loop_untimer(&w->timer);
	conn_free(&w->conn);
	fd_close(&w->fd);
	pool_run(w->api->pool, finish, w);
}

/* More credit as output is taken, so that long output flows; what is over the limit is dropped and said. */
static int take_output(struct waiting *w, const struct frame *f)
{
	struct msg_WINDOW more = { .stream = 0 };
	struct msg_OUTPUT m;
	struct span data;
	uint64_t at;
	size_t i;
	int r = msg_decode(MSG_OUTPUT, f->payload, &m, &w->e);

	if (r < 0)
		return r;
	i = m.stream == WIRE_ERR;
	data = w->leaks ? out_leaks_put(w->leaks, (unsigned)m.stream, m.offset, m.data, &at) : m.data;
	if (buf_append(&w->out[i], data.p, data.len) < 0)
		w->cut[i] = true;
	more.stream = m.stream;
	more.bytes = m.data.len;
	return m.data.len ? conn_send(w->conn, MSG_WINDOW, &more) : 0;
}

/* What was kept back. */
static void take_rest(struct waiting *w)
{
	uint64_t at;
	size_t i;

	for (i = 0; w->leaks && i < ARRAY_LEN(w->out); i++) {
		struct span data = out_leaks_rest(w->leaks, i ? WIRE_ERR : WIRE_OUT, &at);

		if (buf_append(&w->out[i], data.p, data.len) < 0)
			w->cut[i] = true;
	}
}

static void on_frame(void *ctx, const struct frame *f)
{
	struct waiting *w = ctx;
	struct msg_EXIT_ACK ack = { 0 };
	struct msg_STARTED started;
	int r = 0;

	if (f->type == MSG_STARTED && w->leaks && msg_decode(MSG_STARTED, f->payload, &started, NULL) == 0)
		out_leaks_pid(w->leaks, started.pid);
	if (f->type == MSG_OUTPUT) {
		r = take_output(w, f);
	} else if (f->type == MSG_EXIT) {
		r = msg_decode(MSG_EXIT, f->payload, &w->exit, &w->e);
		if (r == 0)
			(void)!conn_send(w->conn, MSG_EXIT_ACK, &ack);
		take_rest(w);
		over(w, r);
		return;
	} else if (f->type == MSG_ERROR) {
		r = frame_refused(f, &w->e);
	}
	if (r < 0)
		over(w, r);
}

static void on_close(void *ctx, const struct err *why)
{
	struct waiting *w = ctx;

	over(w, err_set(&w->e, why->code == -ENODATA ? -EPIPE : why->code, "agent-gone",
			"the command's stream ended early"));
}

static void on_late(void *ctx)
{
	struct waiting *w = ctx;

	over(w, err_set(&w->e, -ETIMEDOUT, "timeout", "the command did not end in time"));
}

/* The command goes on, as it does when a stream is left. */
static void on_client(void *ctx, int fd, unsigned events)
{
	struct waiting *w = ctx;

	(void)fd;
	(void)events;
	over(w, err_set(&w->e, -EPIPE, "client-gone", "whoever asked has gone"));
}

static int ending(struct waiting *w)
{
	return err_set(&w->e, -ESHUTDOWN, "ending", "the daemon is ending; the command goes on");
}

static void begin(void *ctx)
{
	static const struct conn_events events = { .on_frame = on_frame, .on_close = on_close };
	struct waiting *w = ctx;
	struct loop *loop = w->api->loop;
	int r = __atomic_load_n(&w->api->ending, __ATOMIC_RELAXED) ? ending(w) : 0;

	list_append(&w->api->waiting, &w->node);
	if (r == 0)
		r = conn_new(loop, w->fd, 0, &events, w, &w->conn, &w->e);
	if (r < 0) {
		over(w, r);
		return;
	}
	w->fd = -1;
	w->timer = loop_timer(loop, w->until, on_late, w);
	(void)!loop_watch(loop, http_client(w->req), 0, on_client, w, &w->client); /* without it, the clock ends it */
}

void wait_begin(struct api *api, struct http_req *req, struct http_res *res, int fd, struct out_leaks *leaks,
		uint64_t until)
{
	struct waiting *w = NEW(struct waiting);

	*w = (struct waiting){ .api = api, .req = req, .res = res, .fd = fd, .leaks = leaks, .until = until };
	list_init(&w->node);
	buf_init(&w->out[0], OUT_MAX);
	buf_init(&w->out[1], OUT_MAX);
	loop_post(api->loop, begin, w);
}

static void end_all(void *ctx)
{
	struct api *api = ctx;

	while (!list_empty(&api->waiting)) {
		struct waiting *w = list_entry(api->waiting.next, struct waiting, node);

		over(w, ending(w));
	}
}

void v1_end(struct api *api)
{
	__atomic_store_n(&api->ending, true, __ATOMIC_RELAXED);
	store_gc_stop(api->store);
	loop_post(api->loop, end_all, api);
}

void v1_init(struct api *api)
{
	list_init(&api->waiting);
}
