/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Until the proxy has connected: its name, its addresses one after the other, its words. One deadline for all of it.
 * Nothing is read from the sandbox meanwhile: an end of what it sends is passed on later, a reset ends it.
 */
#include "host/net/proxy-inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void next_address(struct hop *h);

void hop_forget_way(struct hop *h)
{
	lookup_forget(&h->wait);
	loop_untimer(&h->timer);
	if (h->way)
		explicit_bzero(h->way, sizeof(*h->way));
	mem_free(&h->way);
}

static void fail(struct hop *h, const char *why)
{
	log_debug("proxy", "a connection does not come about", "range=%u proxy=%s:%u why=%s", h->range,
		  h->way->proxy.host, h->way->proxy.port, why);
	hop_end(h);
}

/* --- the proxy's words -------------------------------------------------------------------------------------------- */

/* Return: false when it has failed. */
static bool send_out(struct hop *h)
{
	struct buf *b = &h->out[PROXY];
	struct span s = buf_span(b);
	ssize_t n = s.len ? send(h->fd[PROXY], s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return false;
	if (n > 0) {
		explicit_bzero((void *)(uintptr_t)s.p, (size_t)n); /* the password, once it is told */
		buf_consume(b, (size_t)n);
	}
	if (!buf_len(b))
		buf_fini(b);
	loop_rewatch(h->watch[PROXY], buf_len(b) ? LOOP_READ | LOOP_WRITE : LOOP_READ);
	return true;
}

static void on_words(void *ctx, int fd, unsigned events)
{
	struct hop *h = ctx;
	struct err e = ERR_NULL;
	size_t room;
	void *to = socks_room(&h->socks, &room);
	ssize_t n = 0;
	int r = SOCKS_E_MORE;

	if (events & (LOOP_READ | LOOP_HANGUP)) {
		n = recv(fd, to, room, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			fail(h, "the proxy hangs up");
			return;
		}
		if (n > 0)
			r = socks_read(&h->socks, (size_t)n, &h->out[PROXY], &e);
	}
	if (r < 0) {
		fail(h, e.text);
	} else if (r == 0) {
		loop_unwatch(&h->watch[PROXY]);
		loop_unwatch(&h->watch[SANDBOX]);
		buf_fini(&h->out[PROXY]);
		hop_forget_way(h);
		hop_pass(h);
	} else if (!send_out(h)) {
		fail(h, "the proxy hangs up");
	}
}

/* --- its addresses ------------------------------------------------------------------------------------------------ */

static void on_connected(void *ctx, int fd, unsigned events)
{
	struct hop *h = ctx;
	int code = 0;
	socklen_t len = sizeof(code);

	(void)events;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0 || code != 0) {
		next_address(h);
		return;
	}
	loop_unwatch(&h->watch[PROXY]);
	loop_rearm(h->timer, h->until);
	h->next = h->n_at; /* who answers is the one */
	socks_begin(&h->socks, &h->way->proxy, &h->way->to, &h->out[PROXY]);
	if (loop_watch(h->of->loop, fd, LOOP_READ, on_words, h, &h->watch[PROXY]) < 0 || !send_out(h))
		fail(h, "the proxy hangs up");
}

static int take_socket(struct proxy *p, int family)
{
	struct stock *s = &p->stock[family == AF_INET6];

	if (!s->n) {
		int r = p->conf.sockets(p->conf.ctx, family, s->fds);

		if (r <= 0)
			return -1;
		s->n = (size_t)r;
	}
	return s->fds[--s->n];
}

/* Return: false when there is no use in waiting. */
static bool connect_to(struct hop *h, const struct priv_prefix *at)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(h->way->proxy.port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = in4.sin_port };
	const int unsent = UNSENT_B, far = FAR_B;
	int fd, r;

	if (h->of->conf.hides(h->of->conf.ctx, at))
		return false;
	fd = take_socket(h->of, at->family);
	if (fd < 0)
		return false;
	h->fd[PROXY] = fd;
	hop_prepare(fd);
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &far, sizeof(far));
	memcpy(&in4.sin_addr, at->addr, 4);
	memcpy(&in6.sin6_addr, at->addr, 16);
	r = at->family == AF_INET ? connect(fd, (struct sockaddr *)&in4, sizeof(in4))
				  : connect(fd, (struct sockaddr *)&in6, sizeof(in6));
	if (r < 0 && errno != EINPROGRESS)
		return false;
	return loop_watch(h->of->loop, fd, LOOP_WRITE, on_connected, h, &h->watch[PROXY]) == 0;
}

static void next_address(struct hop *h)
{
	do {
		loop_unwatch(&h->watch[PROXY]);
		fd_close(&h->fd[PROXY]);
		if (h->next == h->n_at) {
			fail(h, "it cannot be reached, or its address is not allowed");
			return;
		}
	} while (!connect_to(h, &h->at[h->next++]));
	loop_rearm(h->timer, h->next < h->n_at ? MIN(h->until, clock_after_ms(ADDRESS_MS)) : h->until);
}

static void on_late(void *ctx)
{
	struct hop *h = ctx;

	if (h->next < h->n_at && clock_now() < h->until)
		next_address(h);
	else
		fail(h, "time is out");
}

static void on_name(void *ctx, const struct priv_prefix *v, size_t n)
{
	struct hop *h = ctx;

	h->wait = NULL;
	memcpy(h->at, v, n * sizeof(*v));
	h->n_at = n;
	if (n)
		next_address(h);
	else
		fail(h, "its name has no address");
}

static void on_leave(void *ctx, int fd, unsigned events)
{
	(void)fd;
	(void)events;
	hop_end(ctx);
}

void hop_dial(struct hop *h)
{
	struct proxy *p = h->of;

	h->until = clock_after_ms(p->conf.dial_ms ? p->conf.dial_ms : DIAL_MS);
	h->timer = loop_timer(p->loop, h->until, on_late, h);
	if (loop_watch(p->loop, h->fd[SANDBOX], 0, on_leave, h, &h->watch[SANDBOX]) < 0) {
		hop_end(h);
		return;
	}
	if (policy_prefix(h->way->proxy.host, &h->at[0]) == 0) {
		h->n_at = 1;
		next_address(h);
	} else {
		h->wait = lookup_ask(p->lookup, h->way->proxy.host, on_name, h);
	}
}
