/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command inside of a sandbox, from a thread that waits for it. Output is taken as it comes and credit given back, so
 * that whoever listens slowly slows the command; input goes as far as the agent's window.
 */
#include "host/api/e2b/template.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "seal/digest.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { DIAL_MS = 10000, CREDIT_B = 256 * 1024, PIECE_B = 8192, LOOK_MS = 300 };

struct talk {
	struct inside *run;
	int fd;
	struct buf in;
	uint64_t sent, acked;
	bool started, ended; /* our input */
};

static bool is_stopped(const struct inside *run)
{
	return run->stop && __atomic_load_n(run->stop, __ATOMIC_RELAXED);
}

static int send_exec(struct talk *t, struct err *e)
{
	struct inside *run = t->run;
	struct msg_EXEC m = { .cwd = span_str(run->cwd), .user = span_str(run->user), .credit = CREDIT_B,
			      .generation = WIRE_GENERATION };
	struct msg_list argv, env;
	uint8_t raw[12];
	char hex[2 * sizeof(raw) + 1], id[48];
	size_t i;
	int r = 0;

	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), hex);
	snprintf(id, sizeof(id), "%s%s", run->leave ? "e2b-" : "build-", hex);
	msg_list_init(&argv, FRAME_MAX / 2);
	msg_list_init(&env, FRAME_MAX / 2);
	for (i = 0; r == 0 && run->argv[i]; i++)
		r = msg_list_str(&argv, span_str(run->argv[i]));
	for (i = 0; r == 0 && i < run->n_envs; i++)
		r = msg_list_str(&env, span_str(run->envs[i]));
	m.id = span_str(id);
	m.argv = msg_list_span(&argv);
	m.env = msg_list_span(&env);
	m.stdin_mode = run->in_fd >= 0 ? WIRE_STDIN_STREAM : WIRE_STDIN_NONE;
	m.timeout_ms = run->leave ? 0 : (uint64_t)MAX(clock_left_ms(run->until), 1);
	if (r == 0)
		r = frame_send(t->fd, MSG_EXEC, &m, clock_after_ms(DIAL_MS));
	msg_list_fini(&argv);
	msg_list_fini(&env);
	return r < 0 ? err_set(e, r, "bad-request", "this command cannot be sent: %s", err_name(r)) : 0;
}

/* As much of the input as may be under way. */
static int feed(struct talk *t, struct err *e)
{
	char piece[PIECE_B];

	while (t->started && !t->ended && t->run->in_fd >= 0 && t->sent < t->acked + WIRE_STDIN_WINDOW) {
		size_t want = MIN(sizeof(piece), (size_t)(t->acked + WIRE_STDIN_WINDOW - t->sent));
		ssize_t n = read(t->run->in_fd, piece, want);
		struct msg_STDIN m = { .offset = t->sent, .data = SPAN(piece, n > 0 ? (size_t)n : 0) };
		struct msg_STDIN_END end = { .offset = t->sent };
		int r;

		if (n < 0)
			return err_sys(e, -errno, "reading what goes in");
		r = n ? frame_send(t->fd, MSG_STDIN, &m, clock_after_ms(DIAL_MS))
		      : frame_send(t->fd, MSG_STDIN_END, &end, clock_after_ms(DIAL_MS));
		if (r < 0)
			return err_sys(e, r, "telling the sandbox");
		t->sent += (uint64_t)n;
		t->ended = n == 0;
	}
	return 0;
}

static int take_output(struct talk *t, const struct msg_OUTPUT *m, struct err *e)
{
	struct msg_WINDOW more = { .stream = m->stream, .bytes = m->data.len };
	int r = t->run->output && m->data.len ? t->run->output(t->run->ctx, m->stream == WIRE_ERR, m->data) : 0;

	if (r < 0)
		return r;
	r = m->data.len ? frame_send(t->fd, MSG_WINDOW, &more, clock_after_ms(DIAL_MS)) : 0;
	return r < 0 ? err_sys(e, r, "telling the sandbox") : 0;
}

/* Return: 1 when it is over. */
static int take_frame(struct talk *t, const struct frame *f, struct err *e)
{
	union {
		struct msg_STARTED started;
		struct msg_OUTPUT output;
		struct msg_STDIN_ACK ack;
		struct msg_EXIT exit;
	} m;
	struct msg_EXIT_ACK seen = { 0 };
	int r;

	if (f->type == MSG_ERROR)
		return frame_refused(f, e);
	if (f->type != MSG_STARTED && f->type != MSG_OUTPUT && f->type != MSG_STDIN_ACK && f->type != MSG_EXIT)
		return err_set(e, -EPROTO, "bad-message", "%s has no place here", msg_name(f->type));
	r = msg_decode((enum msg_type)f->type, f->payload, &m, e);
	if (r < 0)
		return r;
	switch (f->type) {
	case MSG_STARTED:
		t->started = true;
		return t->run->leave;
	case MSG_OUTPUT:
		return take_output(t, &m.output, e);
	case MSG_STDIN_ACK:
		t->acked = MAX(t->acked, MIN(m.ack.offset, t->sent));
		return 0;
	default:
		t->run->how = (unsigned)m.exit.how;
		t->run->code = (unsigned)m.exit.code;
		(void)!frame_send(t->fd, MSG_EXIT_ACK, &seen, clock_after_ms(DIAL_MS));
		return 1;
	}
}

static int talk(struct talk *t, struct err *e)
{
	struct frame f;
	int r = send_exec(t, e);

	while (r == 0) {
		struct pollfd p = { .fd = t->fd, .events = POLLIN };

		if (is_stopped(t->run))
			return err_set(e, -ECANCELED, "stopped", "it was stopped");
		if (clock_now() >= t->run->until)
			return err_set(e, -ETIMEDOUT, "timeout", "it did not end in time");
		r = feed(t, e);
		if (r == 0 && frame_parse(&t->in, &f, NULL) == FRAME_E_MORE && poll(&p, 1, LOOK_MS) == 0)
			continue;
		if (r == 0)
			r = frame_recv(t->fd, &t->in, &f, clock_after_ms(DIAL_MS), e);
		if (r < 0)
			return e->code ? r : err_set(e, -EPIPE, "agent-gone", "the sandbox broke off");
		r = take_frame(t, &f, e);
		frame_consume(&t->in, &f);
	}
	return r < 0 ? r : 0;
}

int inside_run(struct e2b *e2b, const char *sandbox, struct inside *run, struct err *e)
{
	struct talk t = { .run = run, .fd = -1 };
	int r = hub_dial(e2b->hub, sandbox, clock_after_ms(DIAL_MS), &t.fd, e);

	buf_init(&t.in, FRAME_MAX + FRAME_HEADER);
	if (r == 0)
		r = talk(&t, e);
	buf_fini(&t.in);
	fd_close(&t.fd);
	if (r == 0 && run->how == WIRE_TIMED_OUT && !run->leave)
		return err_set(e, -ETIMEDOUT, "timeout", "it did not end in time");
	return r;
}
