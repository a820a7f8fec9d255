/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Every byte of standard input has an offset, so a host that lost its connection sends again from what was
 * acknowledged, and what we have already is skipped. A byte is acknowledged when the pipe took it; at most the window
 * may wait here. When the process has closed its input, bytes are taken and forgotten, as a pipe to nobody would.
 */
#include "guest/proc.h"

#include "base/io.h"
#include "wire/wire.h"

#include <errno.h>
#include <unistd.h>

enum { END_OF_FILE = 4 }; /* control-D, what a terminal knows instead of an end */

void in_ack(struct proc *p)
{
	struct msg_STDIN_ACK m = { .offset = p->in.at - buf_len(&p->in.buf) };

	if (p->conn)
		(void)!conn_send(p->conn, MSG_STDIN_ACK, &m);
}

void in_close(struct in *in)
{
	loop_unwatch(&in->watch);
	fd_close(&in->fd);
	buf_fini(&in->buf);
}

static void in_ended(struct proc *p)
{
	struct in *in = &p->in;
	char end = END_OF_FILE;

	if (in->fd < 0 || !in->end || buf_len(&in->buf))
		return;
	if (p->pty)
		(void)!write(in->fd, &end, 1);
	in_close(in);
}

/* Give the pipe what it takes. */
static void in_push(struct proc *p)
{
	struct in *in = &p->in;
	bool moved = false;

	while (in->fd >= 0 && buf_len(&in->buf)) {
		struct span s = buf_span(&in->buf);
		ssize_t n = write(in->fd, s.p, s.len);

		if (n > 0) {
			buf_consume(&in->buf, (size_t)n);
			moved = true;
		} else if (n < 0 && errno == EAGAIN) {
			break;
		} else if (n == 0 || errno != EINTR) {
			in_close(in); /* nobody reads any more: the rest is taken and forgotten */
			moved = true;
		}
	}
	if (in->watch)
		loop_rewatch(in->watch, buf_len(&in->buf) ? LOOP_WRITE : 0U);
	in_ended(p);
	if (moved)
		in_ack(p);
}

static void on_writable(void *ctx, int fd, unsigned events)
{
	struct proc *p = ctx;

	(void)fd;
	if ((events & LOOP_HANGUP) && !(events & LOOP_WRITE) && !buf_len(&p->in.buf)) {
		in_close(&p->in);
		return;
	}
	in_push(p);
}

int in_open(struct in *in, struct proc *p, int fd)
{
	*in = (struct in){ .fd = fd, .stream = fd >= 0 };
	buf_init(&in->buf, WIRE_STDIN_WINDOW);
	return fd < 0 ? 0 : loop_watch(p->procs->loop, fd, 0, on_writable, p, &in->watch);
}

static int on_stdin(struct proc *p, const struct msg_STDIN *m, struct err *e)
{
	struct in *in = &p->in;
	uint64_t skip;

	if (!in->stream)
		return err_set(e, -EPROTO, "no-stdin", "the process was started without a standard input to write to");
	if (m->offset > in->at)
		return err_set(e, -EPROTO, "stdin-gap", "standard input is missing bytes");
	skip = in->at - m->offset;
	if (skip >= m->data.len || in->end) {
		in_ack(p);
		return 0;
	}
	if (in->fd >= 0 && m->data.len - skip > buf_room(&in->buf))
		return err_set(e, -EPROTO, "stdin-window", "more standard input than the window allows");
	if (in->fd >= 0 && buf_append(&in->buf, (const char *)m->data.p + skip, m->data.len - skip) < 0)
		return err_set(e, -ENOMEM, "limits", "no memory for standard input");
	in->at += m->data.len - skip;
	if (in->fd < 0)
		in_ack(p);
	in_push(p);
	return 0;
}

int in_frame(struct proc *p, const struct frame *f, struct err *e)
{
	struct msg_STDIN_END end;
	struct msg_STDIN m;
	int r;

	if (f->type == MSG_STDIN) {
		r = msg_decode(f->type, f->payload, &m, e);
		return r < 0 ? r : on_stdin(p, &m, e);
	}
	r = msg_decode(f->type, f->payload, &end, e);
	if (r < 0)
		return r;
	if (end.offset != p->in.at)
		return end.offset < p->in.at ? 0 : err_set(e, -EPROTO, "stdin-gap", "standard input is missing bytes");
	p->in.end = true;
	in_ended(p);
	return 0;
}
