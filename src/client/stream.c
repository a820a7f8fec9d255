/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process as a stream of events: the wire's frames between the agent and us, relayed by the daemon. Everything that
 * comes is checked as from a hostile peer, for it is one. Credit for output is given back as events are taken, so a
 * caller that stops taking them stops the process' output, not our memory.
 */
#include "client/inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "wire/frame.h"
#include "wire/trace.h"
#include "wire/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>

enum { CREDIT = 1024 * 1024, CREDIT_STEP = 256 * 1024, SEND_MS = 60000 };

struct berth_stream {
	int fd;
	char id[65];
	struct buf in;
	bool has_frame; /* the event given last still lies in @in */
	struct frame frame;
	uint64_t in_at, in_acked; /* standard input: sent, taken */
	uint64_t owed[3]; /* credit not given back yet, by stream */
	bool started, ended;
};

static uint64_t send_until(void)
{
	return clock_after_ms(SEND_MS);
}

static int broke(struct berth_error *e, int r)
{
	return client_error(e, r == -ENODATA ? -EPIPE : r, r == -ETIMEDOUT ? "timeout" : "cut-off",
			    "the stream to the sandbox broke: %s", err_name(r));
}

static int send_frame(struct berth_stream *s, enum msg_type type, const void *m, struct berth_error *e)
{
	int r = frame_send(s->fd, type, m, send_until());

	return r < 0 ? broke(e, r) : 0;
}

static int begin(struct berth *b, const char *sandbox, const char *id, struct berth_stream **ret, struct berth_error *e)
{
	AUTO(berth_stream_close) struct berth_stream *s = NEW(struct berth_stream);
	AUTO(str_free) char *safe = client_encode(sandbox);
	AUTO(str_free) char *path = str_printf("/v1/sandboxes/%s/stream", safe);
	uint8_t raw[10];
	int r;

	(void)!trace_open(NULL);
	s->fd = -1;
	buf_init(&s->in, FRAME_MAX + FRAME_HEADER + 4096);
	if (!id) {
		(void)!getrandom(raw, sizeof(raw), 0);
		str_hex(raw, sizeof(raw), s->id);
	} else if (str_copy(s->id, sizeof(s->id), id) < 0) {
		return client_error(e, -EINVAL, "bad-name", "the process id is too long");
	}
	r = client_upgrade(b, "GET", path, SPAN_NULL, -1, &s->fd, &s->in, e);
	if (r == 0 && fd_nonblock(s->fd, true) == 0)
		*ret = take(&s);
	return r;
}

static int list_of(struct msg_list *l, const char *const *v)
{
	int r = 0;

	msg_list_init(l, FRAME_MAX / 2);
	for (; r == 0 && v && *v; v++)
		r = msg_list_str(l, span_str(*v));
	return r;
}

int berth_exec(struct berth *b, const char *sandbox, const struct berth_exec *what, struct berth_stream **ret,
	       struct berth_error *e)
{
	AUTO(berth_stream_close) struct berth_stream *s = NULL;
	struct msg_list argv, env, limits;
	struct msg_EXEC m = {
		.cwd = span_str(what->cwd),
		.user = span_str(what->user),
		.stdin_mode = what->stdin_mode,
		.timeout_ms = what->timeout_ms,
		.pty = what->pty,
		.cols = what->cols,
		.rows = what->rows,
		.credit = CREDIT,
		.generation = WIRE_GENERATION,
		.umask = what->has_umask ? WIRE_UMASK_SET | (what->umask & 0777) : 0,
	};
	int r = begin(b, sandbox, what->id, &s, e), a, v, l;

	if (r < 0)
		return r;
	a = list_of(&argv, what->argv);
	v = list_of(&env, what->env);
	l = list_of(&limits, what->limits);
	m.id = span_str(s->id);
	m.argv = msg_list_span(&argv);
	m.env = msg_list_span(&env);
	m.rlimits = msg_list_span(&limits);
	r = a < 0 || v < 0 || l < 0 ? client_error(e, -E2BIG, "too-long", "arguments and environment are too long")
			   : send_frame(s, MSG_EXEC, &m, e);
	msg_list_fini(&argv);
	msg_list_fini(&env);
	msg_list_fini(&limits);
	if (r == 0)
		*ret = take(&s);
	return r;
}

int berth_attach(struct berth *b, const char *sandbox, const char *exec_id, uint64_t out_from, uint64_t err_from,
		 struct berth_stream **ret, struct berth_error *e)
{
	AUTO(berth_stream_close) struct berth_stream *s = NULL;
	struct msg_ATTACH m = { .out_from = out_from, .err_from = err_from, .credit = CREDIT,
				.generation = WIRE_GENERATION };
	int r = begin(b, sandbox, exec_id, &s, e);

	if (r < 0)
		return r;
	m.id = span_str(s->id);
	r = send_frame(s, MSG_ATTACH, &m, e);
	if (r == 0)
		*ret = take(&s);
	return r;
}

void berth_stream_close(struct berth_stream **slot)
{
	struct berth_stream *s = take(slot);

	if (!s)
		return;
	fd_close(&s->fd);
	buf_fini(&s->in);
	free(s);
}

int berth_stream_fd(const struct berth_stream *s)
{
	return s->fd;
}

const char *berth_stream_id(const struct berth_stream *s)
{
	return s->id;
}

/* --- events ------------------------------------------------------------------------------------------------------- */

int client_told(const struct frame *f, struct berth_error *e)
{
	AUTO(str_free) char *name = NULL;
	AUTO(str_free) char *slug = NULL;
	AUTO(str_free) char *text = NULL;
	struct msg_ERROR m;
	struct err why = ERR_NULL;
	int r = msg_decode(MSG_ERROR, f->payload, &m, &why);

	if (r < 0)
		return client_from_err(e, &why, r);
	name = span_dup(m.name);
	slug = span_dup(m.slug);
	text = span_dup(m.text);
	r = err_number(name);
	return client_error(e, r ? -r : -EIO, slug, "%s", text);
}

static int on_output(struct berth_stream *s, struct berth_event *ret, struct berth_error *e)
{
	struct msg_WINDOW more;
	struct msg_OUTPUT m;
	struct err why = ERR_NULL;
	int r = msg_decode(MSG_OUTPUT, s->frame.payload, &m, &why);

	if (r < 0)
		return client_from_err(e, &why, r);
	*ret = (struct berth_event){
		.kind = m.stream == WIRE_ERR ? BERTH_STDERR : BERTH_STDOUT,
		.data = m.data.p,
		.len = m.data.len,
		.offset = m.offset,
	};
	s->owed[m.stream] += m.data.len;
	if (s->owed[m.stream] < CREDIT_STEP)
		return 0;
	more = (struct msg_WINDOW){ .stream = m.stream, .bytes = s->owed[m.stream] };
	s->owed[m.stream] = 0;
	return send_frame(s, MSG_WINDOW, &more, e);
}

/* Return: 0, an event; 1, nothing that the caller needs; -errno. */
static int on_frame(struct berth_stream *s, struct berth_event *ret, struct berth_error *e)
{
	struct msg_EXIT_ACK ack = { 0 };
	union {
		struct msg_STARTED started;
		struct msg_STDIN_ACK acked;
		struct msg_EXIT exit;
	} m;
	struct err why = ERR_NULL;

	if (s->frame.type == MSG_OUTPUT)
		return on_output(s, ret, e);
	if (s->frame.type == MSG_ERROR)
		return client_told(&s->frame, e);
	if (s->frame.type != MSG_STARTED && s->frame.type != MSG_STDIN_ACK && s->frame.type != MSG_EXIT)
		return 1;
	if (msg_decode((enum msg_type)s->frame.type, s->frame.payload, &m, &why) < 0)
		return client_from_err(e, &why, -EBADMSG);
	if (s->frame.type == MSG_STARTED) {
		s->started = true;
		s->in_at = s->in_acked = m.started.in_at;
		*ret = (struct berth_event){ .kind = BERTH_STARTED, .pid = m.started.pid,
					     .lost = m.started.out_lost + m.started.err_lost };
	} else if (s->frame.type == MSG_STDIN_ACK) {
		if (m.acked.offset > s->in_at)
			return client_error(e, -EBADMSG, "bad-message", "input was acknowledged that was never sent");
		s->in_acked = m.acked.offset;
		*ret = (struct berth_event){ .kind = BERTH_STDIN_ROOM };
	} else {
		s->ended = true;
		*ret = (struct berth_event){ .kind = BERTH_EXIT, .how = (int)m.exit.how, .code = (int)m.exit.code,
					     .oom_kills = m.exit.oom_kills };
		return send_frame(s, MSG_EXIT_ACK, &ack, e);
	}
	return 0;
}

int berth_stream_next(struct berth_stream *s, int timeout_ms, struct berth_event *ret, struct berth_error *e)
{
	uint64_t until = timeout_ms < 0 ? CLOCK_NEVER : clock_after_ms((uint64_t)timeout_ms);
	struct err why = ERR_NULL;
	int r;

	do {
		if (s->has_frame)
			frame_consume(&s->in, &s->frame);
		s->has_frame = false;
		r = frame_recv(s->fd, &s->in, &s->frame, until, &why);
		if (r < 0)
			return broke(e, r);
		s->has_frame = true;
		r = on_frame(s, ret, e);
	} while (r == 1);
	return r;
}

/* --- standard input, signals -------------------------------------------------------------------------------------- */

size_t berth_stream_room(const struct berth_stream *s)
{
	uint64_t under_way = s->in_at - s->in_acked;

	if (!s->started || s->ended || under_way >= WIRE_STDIN_WINDOW)
		return 0;
	return MIN((size_t)(WIRE_STDIN_WINDOW - under_way), (size_t)65536);
}

int berth_stream_write(struct berth_stream *s, const void *data, size_t len, struct berth_error *e)
{
	struct msg_STDIN m = { .offset = s->in_at, .data = SPAN(data, len) };
	int r;

	if (len > berth_stream_room(s))
		return client_error(e, -EAGAIN, "no-room", "the process has not taken its input yet");
	r = send_frame(s, MSG_STDIN, &m, e);
	if (r == 0)
		s->in_at += len;
	return r;
}

int berth_stream_end(struct berth_stream *s, struct berth_error *e)
{
	struct msg_STDIN_END m = { .offset = s->in_at };

	return send_frame(s, MSG_STDIN_END, &m, e);
}

int berth_stream_signal(struct berth_stream *s, int signal, struct berth_error *e)
{
	struct msg_SIGNAL m = { .signal = (uint64_t)signal };

	return send_frame(s, MSG_SIGNAL, &m, e);
}

int berth_stream_resize(struct berth_stream *s, unsigned cols, unsigned rows, struct berth_error *e)
{
	struct msg_RESIZE m = { .cols = cols, .rows = rows };

	return send_frame(s, MSG_RESIZE, &m, e);
}

int berth_signal(struct berth *b, const char *sandbox, const char *exec_id, int signal, bool tree,
		 struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(sandbox);
	AUTO(str_free) char *id = client_encode(exec_id);
	AUTO(str_free) char *path = str_printf("/v1/sandboxes/%s/processes/%s/signal", safe, id);
	AUTO(str_free) char *body = str_printf("{\"signal\":%d,\"tree\":%s}", signal, tree ? "true" : "false");

	return client_json(b, "POST", path, span_str(body), NULL, e);
}
