/* SPDX-License-Identifier: Apache-2.0 */
/* The buffer has a hard limit for what comes in one piece, and a mark below it at which its makers wait. */
#include "host/api/e2b/stream.h"

#include "base/str.h"

#include <errno.h>

enum { MAX_B = 4 * 1024 * 1024, FULL_B = 512 * 1024, KEEPALIVE_S = 90 };

struct e2b_stream {
	struct lock lock; /* guards all below it */
	struct buf out;
	bool over, waits, was_full;
	void *connection;
	const struct e2b_stream_events *events;
	void *ctx;
};

static ssize_t take_out(void *ctx, uint64_t at, void *to, size_t max)
{
	struct e2b_stream *s = ctx;
	bool drained = false;
	ssize_t n;

	(void)at;
	lock_take(&s->lock);
	n = (ssize_t)MIN(max, buf_len(&s->out));
	if (n) {
		memcpy(to, buf_span(&s->out).p, (size_t)n);
		buf_consume(&s->out, (size_t)n);
		drained = s->was_full && buf_len(&s->out) < FULL_B / 2;
		s->was_full &= !drained;
	} else if (!s->over) {
		http_suspend(s->connection);
		s->waits = true;
		n = -EAGAIN;
	}
	lock_drop(&s->lock);
	if (drained && s->events->drained)
		s->events->drained(s->ctx);
	return n;
}

static void gone(void *ctx)
{
	struct e2b_stream *s = ctx;

	lock_take(&s->lock);
	s->over = true;
	s->waits = false;
	lock_drop(&s->lock);
	s->events->gone(s->ctx);
}

struct e2b_stream *e2b_stream_new(struct http_req *req, struct http_res *res, const struct e2b_stream_events *events,
				  void *ctx)
{
	struct e2b_stream *s = NEW(struct e2b_stream);

	s->connection = http_connection(req);
	s->events = events;
	s->ctx = ctx;
	lock_init(&s->lock, "e2b-stream", LOCK_LEAF);
	buf_init(&s->out, MAX_B);
	res->type = "application/connect+json";
	res->size = HTTP_SIZE_UNKNOWN;
	res->read = take_out;
	res->read_end = gone;
	res->ctx = s;
	return s;
}

void e2b_stream_free(struct e2b_stream **slot)
{
	struct e2b_stream *s = take(slot);

	if (!s)
		return;
	buf_fini(&s->out);
	lock_fini(&s->lock);
	free(s);
}

void e2b_stream_give(struct e2b_stream *s, struct span json, bool last, const struct err *why)
{
	void *wake = NULL;

	lock_take(&s->lock);
	if (!s->over && json.len)
		e2b_put_message(&s->out, json);
	if (!s->over && last) {
		e2b_put_last(&s->out, why);
		s->over = true;
	}
	s->was_full |= buf_len(&s->out) >= FULL_B;
	if (s->waits)
		wake = s->connection;
	s->waits = false;
	lock_drop(&s->lock);
	if (wake)
		http_resume(wake);
}

bool e2b_stream_full(struct e2b_stream *s)
{
	bool yes;

	lock_take(&s->lock);
	yes = !s->over && buf_len(&s->out) >= FULL_B;
	lock_drop(&s->lock);
	return yes;
}

unsigned e2b_keepalive_s(struct http_req *req)
{
	const char *every = http_header(req, "Keepalive-Ping-Interval");
	uint64_t s = 0;

	return every && num_u64(every, 3600, &s) == 0 && s ? (unsigned)s : KEEPALIVE_S;
}
