/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process as a stream of events: the wire's frames between the agent and us, relayed by the daemon. Everything that
 * comes is checked as from a hostile peer, for it is one. Credit for output is given back as events are taken, so a
 * caller that stops taking them stops the process' output, not our memory.
 *
 * A connection that is lost (the daemon was started anew, say) is made again within half a minute, and the caller does
 * not notice: the agent holds what was not consumed, we keep the input that was not acknowledged, and both go on from
 * offsets. Before STARTED has come the EXEC is sent again, which starts nothing twice.
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
#include <sys/socket.h>

/* The credit is what a ring holds: then nothing is lost with a connection. */
enum { CREDIT = WIRE_RING, CREDIT_STEP = 64 * 1024, SEND_MS = 60000, HOLD_MS = 60000 };
enum { AGAIN_MS = 20, AGAIN_MAX_MS = 500, AGAIN_FOR_MS = 30000 };

struct berth_stream {
	int fd;
	char id[65];
	struct buf in;
	bool has_frame; /* the event given last still lies in @in */
	struct frame frame;
	uint64_t in_at, in_acked; /* standard input: sent, taken */
	uint64_t owed[3]; /* credit not given back yet, by stream */
	bool held;	  /* none is given back now */
	bool started, ended;

	struct berth home; /* where to connect again: copies */
	char *path, *again; /* for a new one; for one that runs: nothing is delivered again */
	struct buf first; /* the EXEC frame, until STARTED */
	struct buf unacked; /* standard input from in_acked to in_at */
	bool in_ended;
	uint64_t at[3]; /* output that the caller has, by stream */
	uint64_t lost_at, again_at; /* clock; lost_at 0: connected */
	unsigned again_ms;
	int signal; /* that could not be sent */
	bool rejoined; /* the next STARTED is of a new connection */
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

static void lose(struct berth_stream *s)
{
	fd_close(&s->fd);
	buf_consume(&s->in, buf_len(&s->in));
	s->has_frame = false;
	s->again_at = clock_now();
	s->again_ms = AGAIN_MS;
	if (!s->lost_at)
		s->lost_at = s->again_at;
}

/* What cannot be sent now is sent when there is a connection again, or need not be. */
static void send_frame(struct berth_stream *s, enum msg_type type, const void *m)
{
	if (s->fd >= 0 && frame_send(s->fd, type, m, send_until()) < 0)
		lose(s);
}

/* What the daemon is to add to it. */
static char *query(const struct berth_exec *what)
{
	AUTO(str_free) char *command = NULL, *list = NULL;
	AUTO(buf_fini) struct buf names;
	const char *const *name;

	buf_init(&names, 65536);
	if (!what || !what->secrets || !what->secrets[0])
		return must_strdup("");
	for (name = what->secrets; *name; name++)
		buf_printf(&names, "%s%s", name == what->secrets ? "" : ",", *name);
	list = client_encode(buf_str(&names));
	command = client_encode(what->argv[0]);
	return str_printf("?secrets=%s&command=%s", list, command);
}

static int begin(struct berth *b, const char *sandbox, const char *id, const struct berth_exec *what,
		 struct berth_stream **ret, struct berth_error *e)
{
	AUTO(berth_stream_close) struct berth_stream *s = NEW(struct berth_stream);
	AUTO(str_free) char *safe = client_encode(sandbox), *more = query(what);
	uint8_t raw[10];
	int r;

	(void)!trace_open(NULL);
	s->fd = -1;
	s->path = str_printf("/v1/sandboxes/%s/stream%s", safe, what ? more : "?attach=1");
	s->again = str_printf("/v1/sandboxes/%s/stream?attach=1", safe);
	s->home.socket = must_strdup(b->socket);
	s->home.host = must_strdup(b->host);
	s->home.port = must_strdup(b->port);
	s->home.base = must_strdup(b->base);
	s->home.key = must_strdup(b->key);
	buf_init(&s->first, FRAME_MAX + FRAME_HEADER);
	buf_init(&s->unacked, WIRE_STDIN_WINDOW);
	buf_init(&s->in, FRAME_MAX + FRAME_HEADER + 4096);
	if (!id) {
		(void)!getrandom(raw, sizeof(raw), 0);
		str_hex(raw, sizeof(raw), s->id);
	} else if (str_copy(s->id, sizeof(s->id), id) < 0) {
		return client_error(e, -EINVAL, "bad-name", "the process id is too long");
	}
	r = client_upgrade(b, "GET", s->path, SPAN_NULL, -1, &s->fd, &s->in, e);
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
		.hold_ms = HOLD_MS,
		.umask = what->has_umask ? WIRE_UMASK_SET | (what->umask & 0777) : 0,
	};
	int r = begin(b, sandbox, what->id, what, &s, e), a, v, l;

	if (r < 0)
		return r;
	a = list_of(&argv, what->argv);
	v = list_of(&env, what->env);
	l = list_of(&limits, what->limits);
	m.id = span_str(s->id);
	m.argv = msg_list_span(&argv);
	m.env = msg_list_span(&env);
	m.rlimits = msg_list_span(&limits);
	if (a < 0 || v < 0 || l < 0 || frame_put(&s->first, MSG_EXEC, &m) < 0)
		r = client_error(e, -E2BIG, "too-long", "arguments and environment are too long");
	else
		send_frame(s, MSG_EXEC, &m);
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
				.generation = WIRE_GENERATION, .hold_ms = HOLD_MS };
	int r = begin(b, sandbox, exec_id, NULL, &s, e);

	if (r < 0)
		return r;
	m.id = span_str(s->id);
	s->at[WIRE_OUT] = out_from;
	s->at[WIRE_ERR] = err_from;
	send_frame(s, MSG_ATTACH, &m);
	*ret = take(&s);
	return 0;
}

void berth_stream_close(struct berth_stream **slot)
{
	struct berth_stream *s = take(slot);

	if (!s)
		return;
	if (s->fd >= 0 && !s->ended)
		(void)!frame_send(s->fd, MSG_LEAVE, &(struct msg_LEAVE){ 0 }, clock_after_ms(1000));
	fd_close(&s->fd);
	buf_fini(&s->in);
	buf_fini(&s->first);
	buf_fini(&s->unacked);
	str_free(&s->path);
	str_free(&s->again);
	str_free(&s->home.socket);
	str_free(&s->home.host);
	str_free(&s->home.port);
	str_free(&s->home.base);
	str_free(&s->home.key);
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

static int give_back(struct berth_stream *s, uint64_t stream)
{
	struct msg_WINDOW more = { .stream = stream, .bytes = s->owed[stream] };

	s->owed[stream] = 0;
	return frame_send(s->fd, MSG_WINDOW, &more, send_until());
}

static int on_output(struct berth_stream *s, struct berth_event *ret, struct berth_error *e)
{
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
	if (m.stream < WIRE_OUT)
		return client_error(e, -EBADMSG, "bad-message", "output of no stream");
	s->at[m.stream] = m.offset + m.data.len;
	s->owed[m.stream] += m.data.len;
	/* Not lose() here: the event that is given out lies in the buffer. */
	if (!s->held && s->owed[m.stream] >= CREDIT_STEP && give_back(s, m.stream) < 0)
		(void)!shutdown(s->fd, SHUT_RDWR);
	return 0;
}

/* The process has input up to @in_at: what is behind that is sent, again or for the first time. */
static int resume_input(struct berth_stream *s, uint64_t in_at, struct berth_error *e)
{
	struct msg_STDIN m = { .offset = in_at };
	struct msg_STDIN_END end = { .offset = s->in_at };
	struct span rest;

	if (in_at < s->in_acked || in_at > s->in_at)
		return client_error(e, -EBADMSG, "bad-message", "the process has input that it was not sent");
	rest = buf_span(&s->unacked);
	rest = SPAN((const char *)rest.p + (in_at - s->in_acked), rest.len - (size_t)(in_at - s->in_acked));
	while (rest.len && s->fd >= 0) {
		m.data = SPAN(rest.p, MIN(rest.len, (size_t)65536));
		send_frame(s, MSG_STDIN, &m);
		m.offset += m.data.len;
		rest = SPAN((const char *)rest.p + m.data.len, rest.len - m.data.len);
	}
	if (s->in_ended)
		send_frame(s, MSG_STDIN_END, &end);
	if (s->signal) {
		struct msg_SIGNAL sig = { .signal = (uint64_t)s->signal };

		s->signal = 0;
		send_frame(s, MSG_SIGNAL, &sig);
	}
	return 0;
}

/* Return: 0, an event; 1, nothing that the caller needs; -errno. */
static int on_started(struct berth_stream *s, const struct msg_STARTED *m, struct berth_event *ret,
		      struct berth_error *e)
{
	bool again = s->rejoined && s->started;
	int r = 0;

	if (!s->started)
		s->in_at = s->in_acked = m->in_at;
	s->lost_at = 0; /* it may be lost again below */
	if (s->rejoined)
		r = resume_input(s, m->in_at, e);
	s->rejoined = false;
	s->at[WIRE_OUT] = m->out_at;
	s->at[WIRE_ERR] = m->err_at;
	s->owed[WIRE_OUT] = s->owed[WIRE_ERR] = 0;
	s->started = true;
	buf_fini(&s->first);
	*ret = (struct berth_event){ .kind = BERTH_STARTED, .pid = m->pid, .lost = m->out_lost + m->err_lost };
	return r < 0 ? r : again && !ret->lost;
}

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
	if (s->frame.type == MSG_STARTED)
		return on_started(s, &m.started, ret, e);
	if (s->frame.type == MSG_STDIN_ACK) {
		if (m.acked.offset > s->in_at)
			return client_error(e, -EBADMSG, "bad-message", "input was acknowledged that was never sent");
		if (m.acked.offset > s->in_acked)
			buf_consume(&s->unacked, MIN((size_t)(m.acked.offset - s->in_acked), buf_len(&s->unacked)));
		s->in_acked = MAX(s->in_acked, m.acked.offset);
		*ret = (struct berth_event){ .kind = BERTH_STDIN_ROOM };
		return 0;
	}
	s->ended = true;
	*ret = (struct berth_event){ .kind = BERTH_EXIT, .how = (int)m.exit.how, .code = (int)m.exit.code,
				     .oom_kills = m.exit.oom_kills };
	(void)!frame_send(s->fd, MSG_EXIT_ACK, &ack, send_until());
	return 0;
}

/* --- connecting again --------------------------------------------------------------------------------------------- */

/* A sandbox that does not run will not by waiting: that is a different thing from an agent out of reach. */
static bool may_pass(int code, const char *slug)
{
	static const int codes[] = { -ECONNREFUSED, -ENOENT, -EPIPE, -ECONNRESET, -ESHUTDOWN, -ETIMEDOUT, -EAGAIN };
	size_t i;

	for (i = 0; i < ARRAY_LEN(codes) && codes[i] != code; i++)
		;
	return i < ARRAY_LEN(codes) && !str_eq(slug, "not-running");
}

static int connect_again(struct berth_stream *s, struct berth_error *e)
{
	struct msg_ATTACH m = {
		.id = span_str(s->id),
		.out_from = s->at[WIRE_OUT],
		.err_from = s->at[WIRE_ERR],
		.credit = CREDIT,
		.generation = WIRE_GENERATION,
		.hold_ms = HOLD_MS,
	};
	struct span first = buf_span(&s->first);
	int r = client_upgrade(&s->home, "GET", s->started ? s->again : s->path, SPAN_NULL, -1, &s->fd, &s->in, e);

	if (r < 0)
		return r;
	r = first.len ? io_write_full(s->fd, first.p, first.len) : frame_send(s->fd, MSG_ATTACH, &m, send_until());
	if (r < 0 || fd_nonblock(s->fd, true) < 0) {
		lose(s);
		return client_error(e, -EPIPE, "cut-off", "the daemon broke off");
	}
	s->rejoined = true;
	return 0;
}

/* Until there is a connection, or @until. */
static int rejoin(struct berth_stream *s, uint64_t until, struct berth_error *e)
{
	while (s->fd < 0) {
		uint64_t now = clock_now();
		struct berth_error why;
		int r;

		if (s->again_at > now && until <= now)
			return client_error(e, -ETIMEDOUT, "timeout", "the connection is being made anew");
		if (s->again_at > now) {
			(void)!poll(NULL, 0, clock_left_ms(MIN(s->again_at, until)));
			continue;
		}
		r = connect_again(s, &why);
		if (r == 0)
			return 0;
		if (!may_pass(r, why.slug) || clock_now() - s->lost_at > AGAIN_FOR_MS * CLOCK_MS) {
			if (e)
				*e = why;
			return r;
		}
		s->again_at = clock_after_ms(s->again_ms);
		s->again_ms = MIN(s->again_ms * 2, (unsigned)AGAIN_MAX_MS);
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
		if (s->ended)
			return broke(e, -EPIPE);
		r = rejoin(s, until, e);
		if (r < 0)
			return r;
		r = frame_recv(s->fd, &s->in, &s->frame, until, &why);
		if (r == -ETIMEDOUT || r == -EBADMSG)
			return broke(e, r);
		if (r < 0) {
			lose(s);
			r = 1;
			continue;
		}
		s->has_frame = true;
		r = on_frame(s, ret, e);
	} while (r == 1);
	return r;
}

void berth_stream_hold(struct berth_stream *s, bool on)
{
	uint64_t stream;

	s->held = on;
	if (on || s->fd < 0 || s->rejoined || s->ended)
		return;
	for (stream = WIRE_OUT; stream <= WIRE_ERR; stream++)
		if (s->owed[stream] >= CREDIT_STEP && give_back(s, stream) < 0)
			(void)!shutdown(s->fd, SHUT_RDWR);
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

	if (len > berth_stream_room(s))
		return client_error(e, -EAGAIN, "no-room", "the process has not taken its input yet");
	if (buf_append(&s->unacked, data, len) < 0)
		return client_error(e, -ENOMEM, "no-memory", "no memory for standard input");
	s->in_at += len;
	if (!s->rejoined)
		send_frame(s, MSG_STDIN, &m);
	return 0;
}

int berth_stream_end(struct berth_stream *s, struct berth_error *e)
{
	struct msg_STDIN_END m = { .offset = s->in_at };

	(void)e;
	s->in_ended = true;
	if (!s->rejoined)
		send_frame(s, MSG_STDIN_END, &m);
	return 0;
}

int berth_stream_signal(struct berth_stream *s, int signal, struct berth_error *e)
{
	struct msg_SIGNAL m = { .signal = (uint64_t)signal };

	(void)e;
	if (s->fd < 0 || s->rejoined)
		s->signal = signal;
	else
		send_frame(s, MSG_SIGNAL, &m);
	return 0;
}

int berth_stream_resize(struct berth_stream *s, unsigned cols, unsigned rows, struct berth_error *e)
{
	struct msg_RESIZE m = { .cols = cols, .rows = rows };

	(void)e;
	send_frame(s, MSG_RESIZE, &m);
	return 0;
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
