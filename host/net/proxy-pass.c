/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes both ways. Unlike a relay of streams (loop/relay.h) this is TCP in the middle of TCP: an end of one direction
 * is passed on as that and the other goes on, a reset is passed on as a reset.
 */
#include "host/net/proxy-inside.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* Return: false when the connection is broken. */
static bool pump_in(struct hop *h, int from)
{
	struct buf *b = &h->out[!from];
	size_t room = buf_room(b);
	void *to = room ? buf_reserve(b, room) : NULL;
	ssize_t n;

	if (!to)
		return true;
	n = recv(h->fd[from], to, room, MSG_DONTWAIT);
	if (n > 0)
		buf_commit(b, (size_t)n);
	else if (n == 0)
		h->ended[from] = true;
	return n >= 0 || (h->watch[from] && (errno == EAGAIN || errno == EINTR));
}

static bool pump_out(struct hop *h, int to)
{
	struct buf *b = &h->out[to];
	struct span s = buf_span(b);
	ssize_t n = s.len ? send(h->fd[to], s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (n > 0)
		buf_consume(b, (size_t)n);
	if (!buf_len(b))
		buf_fini(b); /* most connections are idle most of the time */
	if (!buf_len(b) && h->ended[!to] && !h->shut[to]) {
		h->shut[to] = shutdown(h->fd[to], SHUT_WR) == 0;
		return h->shut[to];
	}
	return n >= 0 || errno == EAGAIN || errno == EINTR;
}

/* One that is closed both ways is read to its end whenever there is room, it tells nothing any more. Return: false when
 * the connection is broken. */
static bool pump(struct hop *h)
{
	bool more;
	int i;

	do {
		more = false;
		if (!pump_out(h, SANDBOX) || !pump_out(h, PROXY))
			return false;
		for (i = 0; i < 2; i++) {
			if (h->watch[i] || h->ended[i] || !buf_room(&h->out[!i]))
				continue;
			if (!pump_in(h, i))
				return false;
			more = true;
		}
	} while (more);
	return true;
}

static void turn(struct hop *h)
{
	int i;

	if (!pump(h) || (h->shut[SANDBOX] && h->shut[PROXY])) {
		hop_end(h);
		return;
	}
	for (i = 0; i < 2; i++)
		if (h->watch[i])
			loop_rewatch(h->watch[i], (!h->ended[i] && buf_room(&h->out[!i]) ? LOOP_READ : 0U) |
							  (buf_len(&h->out[i]) ? LOOP_WRITE : 0U));
}

static void on_ready(struct hop *h, int i, unsigned events)
{
	int code = 0;
	socklen_t len = sizeof(code);

	/* What is closed both ways, or broken, is told for ever. */
	if (events & LOOP_HANGUP) {
		loop_unwatch(&h->watch[i]);
		if (getsockopt(h->fd[i], SOL_SOCKET, SO_ERROR, &code, &len) < 0 || code != 0) {
			hop_end(h);
			return;
		}
	}
	if (events & LOOP_READ && !h->ended[i] && !pump_in(h, i)) {
		hop_end(h);
		return;
	}
	turn(h);
}

static void on_sandbox(void *ctx, int fd, unsigned events)
{
	(void)fd;
	on_ready(ctx, SANDBOX, events);
}

static void on_proxy(void *ctx, int fd, unsigned events)
{
	(void)fd;
	on_ready(ctx, PROXY, events);
}

void hop_pass(struct hop *h)
{
	struct loop *loop = h->of->loop;

	buf_init(&h->out[PROXY], PASS_B);
	if (loop_watch(loop, h->fd[SANDBOX], LOOP_READ, on_sandbox, h, &h->watch[SANDBOX]) < 0 ||
	    loop_watch(loop, h->fd[PROXY], LOOP_READ, on_proxy, h, &h->watch[PROXY]) < 0)
		hop_end(h);
}
