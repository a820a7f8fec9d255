/* SPDX-License-Identifier: Apache-2.0 */
#include "host/api/leak.h"

#include "base/own.h"
#include "host/secret/watch.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>

/* Told of one stream: who prints a value again and again is not to keep the loop busy with it. */
enum { PENDING_MAX = 1024 * 1024, TOLD_MAX = 64 };

struct stream {
	struct out_leaks *o;
	struct leak_scan scan;
	bool is_scanned;
	struct buf pending;  /* masked; waits, or was handed over last */
	uint64_t at;	     /* of the first byte of that */
	size_t handed;	     /* of it */
	bool is_masking;
	unsigned told; /* times */
};

struct out_leaks {
	struct watch *watch;
	uint64_t pid;
	struct stream streams[2];
	struct relay_filter filter;
};

struct out_leaks *out_leaks_new(struct hub *hub, const char *id)
{
	struct watch *w = hub_watch(hub, id);
	struct out_leaks *o;
	size_t i;

	if (!w)
		return NULL;
	o = NEW(struct out_leaks);
	o->watch = w;
	for (i = 0; i < ARRAY_LEN(o->streams); i++) {
		o->streams[i].o = o;
		buf_init(&o->streams[i].pending, PENDING_MAX);
	}
	return o;
}

void out_leaks_free(struct out_leaks **slot)
{
	struct out_leaks *o = take(slot);
	size_t i;

	if (!o)
		return;
	for (i = 0; i < ARRAY_LEN(o->streams); i++) {
		if (o->streams[i].is_scanned)
			leak_scan_fini(&o->streams[i].scan);
		buf_fini(&o->streams[i].pending);
	}
	watch_unref(&o->watch);
	free(o);
}

void out_leaks_pid(struct out_leaks *o, uint64_t pid)
{
	o->pid = pid;
}

static void found(void *ctx, const struct leak_found *f)
{
	struct stream *s = ctx;
	struct span have = buf_span(&s->pending);
	char where[64];

	/* What is in the buffer is ours. */
	if (s->is_masking)
		leak_star(f, (void *)(uintptr_t)have.p, have.len, s->at);
	if (s->told++ >= TOLD_MAX)
		return;
	snprintf(where, sizeof(where), "the output of process %llu", (unsigned long long)s->o->pid);
	watch_tell(s->o->watch, where, f->name, f->form);
}

static void forget_handed(struct stream *s)
{
	buf_consume(&s->pending, s->handed);
	s->at += s->handed;
	s->handed = 0;
}

struct span out_leaks_put(struct out_leaks *o, unsigned stream, uint64_t at, struct span data, uint64_t *ret_at)
{
	struct stream *s = &o->streams[stream == WIRE_ERR];
	enum watch_mode mode = watch_output(o->watch);

	forget_handed(s);
	*ret_at = at;
	if (mode == WATCH_OFF && !buf_len(&s->pending))
		return data;
	if (!s->is_scanned) {
		leak_scan_init(&s->scan, watch_leaks(o->watch), at);
		s->is_scanned = true;
	}
	s->is_masking = mode == WATCH_MASK;
	if (s->is_masking) {
		if (!buf_len(&s->pending))
			s->at = at;
		if (buf_append(&s->pending, data.p, data.len) < 0)
			s->is_masking = false; /* more than a frame can have: cannot be */
	}
	if (s->scan.seen + s->scan.tail_len != at)
		leak_scan_skip(&s->scan, at);
	leak_scan(&s->scan, data, found, s);
	if (!s->is_masking)
		return data;
	*ret_at = s->at;
	s->handed = buf_len(&s->pending) - leak_hold(buf_span(&s->pending));
	return SPAN(buf_span(&s->pending).p, s->handed);
}

struct span out_leaks_rest(struct out_leaks *o, unsigned stream, uint64_t *ret_at)
{
	struct stream *s = &o->streams[stream == WIRE_ERR];

	forget_handed(s);
	*ret_at = s->at;
	s->handed = buf_len(&s->pending);
	return buf_span(&s->pending);
}

bool out_leaks_waits(const struct out_leaks *o)
{
	return buf_len(&o->streams[0].pending) > o->streams[0].handed ||
	       buf_len(&o->streams[1].pending) > o->streams[1].handed;
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

static int put_output(struct buf *out, unsigned stream, uint64_t at, struct span data)
{
	struct msg_OUTPUT m = { .stream = stream, .offset = at, .data = data };
	int r = 0;

	while (r == 0 && data.len) {
		m.data.len = MIN(data.len, (size_t)65536);
		r = frame_put(out, MSG_OUTPUT, &m);
		m.offset += m.data.len;
		m.data.p = (const uint8_t *)m.data.p + m.data.len;
		data.len -= m.data.len;
	}
	return r;
}

static int rest(struct out_leaks *o, struct buf *out)
{
	static const unsigned both[] = { WIRE_OUT, WIRE_ERR };
	uint64_t at;
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < ARRAY_LEN(both); i++) {
		struct span data = out_leaks_rest(o, both[i], &at);

		r = put_output(out, both[i], at, data);
	}
	return r;
}

static int take_frame(struct out_leaks *o, const struct frame *f, struct span raw, struct buf *out)
{
	union {
		struct msg_OUTPUT output;
		struct msg_STARTED started;
	} m;
	struct span data;
	uint64_t at;
	int r;

	if (f->type == MSG_OUTPUT) {
		r = msg_decode(MSG_OUTPUT, f->payload, &m, NULL);
		if (r < 0)
			return r;
		data = out_leaks_put(o, (unsigned)m.output.stream, m.output.offset, m.output.data, &at);
		if (data.p == m.output.data.p && data.len == m.output.data.len)
			return buf_append(out, raw.p, raw.len);
		return put_output(out, (unsigned)m.output.stream, at, data);
	}
	if (f->type == MSG_STARTED && msg_decode(MSG_STARTED, f->payload, &m, NULL) == 0)
		out_leaks_pid(o, m.started.pid);
	r = rest(o, out); /* an end, say, comes behind all output */
	return r < 0 ? r : buf_append(out, raw.p, raw.len);
}

static int filter_pass(void *ctx, struct buf *in, struct buf *out, bool *ret_waits)
{
	struct out_leaks *o = ctx;
	struct frame f;
	int r = 0;

	while (r == 0 && buf_len(out) < RELAY_FILTER_ROOM) {
		struct span have = buf_span(in);

		r = frame_parse(in, &f, NULL);
		if (r != 0)
			break;
		r = take_frame(o, &f, SPAN(have.p, FRAME_HEADER + f.payload.len), out);
		frame_consume(in, &f);
	}
	*ret_waits = out_leaks_waits(o);
	return MIN(r, 0);
}

static int filter_late(void *ctx, struct buf *out)
{
	return rest(ctx, out);
}

static void filter_end(void *ctx)
{
	struct out_leaks *o = ctx;

	out_leaks_free(&o);
}

struct relay_filter *out_leaks_filter(struct out_leaks **slot)
{
	struct out_leaks *o = take(slot);

	if (!o)
		return NULL;
	o->filter = (struct relay_filter){
		.pass = filter_pass, .late = filter_late, .end = filter_end, .wait_ms = LEAK_WAIT_MS, .ctx = o
	};
	return &o->filter;
}
