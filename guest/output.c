/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Bytes go from the pipe into the ring, and from the ring to who is attached, as far as his credit goes. While
 * somebody is attached the ring keeps what he has not yet confirmed: credit comes back as he consumes, so a connection
 * that dies loses nothing; a full ring then means that we stop reading, and the process blocks. (When he gave more
 * credit than a ring holds that is impossible, and what was sent may go.) Who wishes that is kept for him for a while
 * also when his connection is lost. While nobody is attached the oldest bytes go.
 *
 * When the main process is reaped, what is in the pipe at that moment is the rest of its output. Survivors that hold
 * the pipe open go on writing into a sink. A terminal gets its bytes through a work queue of the kernel: there the rest
 * is what comes until a short grace is over.
 */
#include "guest/proc.h"

#include "base/clock.h"
#include "base/io.h"
#include "wire/wire.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { PIECE = 64 * 1024, TURN = 256 * 1024, SINKS_MAX = 1024 };

struct sink {
	struct list node;
	struct procs *ps;
	int fd;
	struct loop_watch *watch;
};

static void sink_close(struct sink *k)
{
	list_remove(&k->node);
	k->ps->n_sinks--;
	loop_unwatch(&k->watch);
	fd_close(&k->fd);
	free(k);
}

static void on_sink(void *ctx, int fd, unsigned events)
{
	struct sink *k = ctx;
	char waste[8192];
	ssize_t n;

	(void)events;
	n = read(fd, waste, sizeof(waste));
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		sink_close(k);
}

void sink_add(struct procs *ps, int fd)
{
	struct sink *k = NEW(struct sink);

	*k = (struct sink){ .ps = ps, .fd = fd };
	list_init(&k->node);
	list_append(&ps->sinks, &k->node);
	ps->n_sinks++;
	if (ps->n_sinks > SINKS_MAX || loop_watch(ps->loop, fd, LOOP_READ, on_sink, k, &k->watch) < 0)
		sink_close(k);
}

void sinks_fini(struct procs *ps)
{
	while (!list_empty(&ps->sinks))
		sink_close(list_entry(ps->sinks.next, struct sink, node));
}

static void on_output(void *ctx, int fd, unsigned events);

/* A hangup is reported also to who waits for nothing, so while the ring is full the pipe is not watched at all. */
static void out_watch(struct out *o, bool on)
{
	if (!on)
		loop_unwatch(&o->watch);
	else if (!o->watch && o->fd >= 0)
		(void)!loop_watch(o->proc->procs->loop, o->fd, LOOP_READ, on_output, o, &o->watch);
}

static void on_output(void *ctx, int fd, unsigned events)
{
	struct out *o = ctx;

	(void)fd, (void)events;
	out_read(o);
	proc_pump(o->proc);
}

int out_open(struct out *o, struct proc *p, unsigned stream, int fd)
{
	*o = (struct out){ .proc = p, .stream = stream, .fd = fd, .left = UINT64_MAX, .done = fd < 0 };
	ring_init(&o->ring, WIRE_RING);
	return fd < 0 ? 0 : loop_watch(p->procs->loop, fd, LOOP_READ, on_output, o, &o->watch);
}

void out_close(struct out *o)
{
	loop_unwatch(&o->watch);
	fd_close(&o->fd);
	ring_fini(&o->ring);
}

static void out_done(struct out *o, bool eof)
{
	o->done = true;
	loop_unwatch(&o->watch);
	if (eof)
		fd_close(&o->fd);
	else
		sink_add(o->proc->procs, fd_take(&o->fd));
}

/* From which offset on the ring must keep its bytes. */
static uint64_t keep_from(const struct out *o)
{
	uint64_t used;

	if (!o->proc->conn)
		return o->holding ? o->held : o->ring.end;
	if (o->window > WIRE_RING)
		return o->sent;
	used = o->window > o->credit ? o->window - o->credit : 0;
	return o->sent > used ? o->sent - used : 0;
}

void out_hold(struct out *o, bool on)
{
	o->held = keep_from(o);
	o->holding = on && o->window <= WIRE_RING;
}

/* Return: bytes read, 0 when there is nothing now, -1 when the stream is at its end. */
static ssize_t read_piece(struct out *o)
{
	void *to = NULL;
	size_t room = ring_space(&o->ring, keep_from(o), (size_t)MIN(o->left, (uint64_t)PIECE), &to);
	ssize_t n;

	if (!room) {
		out_watch(o, false);
		return 0;
	}
	n = read(o->fd, to, room);
	if (n > 0) {
		ring_commit(&o->ring, (size_t)n);
		if (o->ended && !o->proc->pty)
			o->left -= (uint64_t)n;
		return n;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return -1;
}

void out_read(struct out *o)
{
	size_t turn = 0;

	if (o->done)
		return;
	out_watch(o, true);
	while (turn < TURN) {
		ssize_t n = o->left ? read_piece(o) : 0;

		if (n < 0 || !o->left) {
			out_done(o, n < 0);
			return;
		}
		if (n == 0) {
			void *to;

			if (o->last && ring_space(&o->ring, keep_from(o), 1, &to))
				out_done(o, false);
			return;
		}
		turn += (size_t)n;
	}
}

void out_reaped(struct out *o)
{
	int n = 0;

	o->ended = true;
	if (!o->done && !o->proc->pty)
		o->left = ioctl(o->fd, FIONREAD, &n) == 0 && n > 0 ? (uint64_t)n : 0;
	out_read(o);
}

void out_send(struct out *o)
{
	struct proc *p = o->proc;
	bool moved = false;

	while (p->conn && o->sent < o->ring.end && o->credit && conn_room(p->conn)) {
		struct msg_OUTPUT m = { .stream = o->stream, .offset = o->sent };

		m.data = ring_peek(&o->ring, o->sent, (size_t)MIN(o->credit, (uint64_t)PIECE));
		if (conn_send(p->conn, MSG_OUTPUT, &m) < 0)
			return;
		o->sent += m.data.len;
		o->credit -= m.data.len;
		moved = true;
	}
	if (moved && !o->done)
		out_watch(o, true);
}
