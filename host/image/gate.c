/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tool's network has a loopback and nothing else (host/priv/fetch.c); what it wants to reach it asks for here, as
 * of a proxy. Where a connection goes is looked at here: at the address that is connected to, not at a name. What lies
 * behind the fence (docs/network.md) is for the registry that the operator has named, alone, and other ports than 443
 * too: a registry says where tokens and layers come from, and must not be able to say the operator's own network. TLS
 * is between the tool and the registry, this sees none of it.
 *
 * One thread waits for all connections. Looking up a name blocks it, which keeps nobody waiting but the one build.
 */
#include "host/image/gate.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNS = 32, HEAD_MAX = 4096, PIECE = 64 * 1024, TRIES = 6, HTTPS = 443, CONNECT_MS = 15000, IDLE_MS = 120000 };

/* The bytes of one direction. */
struct way {
	struct buf b;
	bool ended, told; /* nothing comes any more; and the other side knows */
};

enum conn_state { CONN_FREE, CONN_HEAD, CONN_MAKING, CONN_OPEN, CONN_REFUSED };

struct conn {
	enum conn_state state;
	int tool, world;
	struct way out, in; /* to the world, to the tool */
	bool silent;	    /* the tool is told nothing when it is made: a tunnel */
	struct sockaddr_storage at[TRIES];
	socklen_t at_len[TRIES];
	size_t n, tried;
	uint64_t until;
	char target[160];
};

struct gate {
	int gate, tunnel;
	struct image_ref ref;
	bool named;
	struct conn conns[CONNS];
	char why[200];
};

struct gate *gate_new(int gate, int tunnel, const struct image_ref *ref, bool named)
{
	struct gate *g = NEW(struct gate);
	size_t i;

	g->gate = gate;
	g->tunnel = tunnel;
	g->ref = *ref;
	g->named = named;
	for (i = 0; i < CONNS; i++)
		g->conns[i].tool = g->conns[i].world = -1;
	return g;
}

static void conn_end(struct conn *c)
{
	fd_close(&c->tool);
	fd_close(&c->world);
	buf_fini(&c->out.b);
	buf_fini(&c->in.b);
	c->state = CONN_FREE;
}

void gate_free(struct gate **slot)
{
	struct gate *g = take(slot);
	size_t i;

	if (!g)
		return;
	for (i = 0; i < CONNS; i++)
		conn_end(&g->conns[i]);
	fd_close(&g->gate);
	fd_close(&g->tunnel);
	free(g);
}

const char *gate_why(const struct gate *g)
{
	return g->why;
}

/* The tool hears it as an answer of the proxy's. */
static void refuse(struct gate *g, struct conn *c, const char *why)
{
	snprintf(g->why, sizeof(g->why), "%s %s", c->target[0] ? c->target : "a request", why);
	if (c->silent) {
		conn_end(c);
		return;
	}
	buf_fini(&c->in.b);
	(void)!buf_printf(&c->in.b, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	c->in.ended = true;
	c->out.ended = c->out.told = true;
	fd_close(&c->world);
	c->state = CONN_REFUSED;
	c->until = clock_after_ms(CONNECT_MS);
}

/* --- to the world ------------------------------------------------------------------------------------------------- */

static bool is_fenced(const struct sockaddr *at)
{
	const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)at;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)at;
	struct priv_prefix p = { .family = (uint8_t)at->sa_family, .len = at->sa_family == AF_INET ? 32 : 128 };

	if (at->sa_family == AF_INET)
		memcpy(p.addr, &four->sin_addr, 4);
	else
		memcpy(p.addr, &six->sin6_addr, 16);
	return priv_net_fenced(&p);
}

static void try_next(struct gate *g, struct conn *c)
{
	fd_close(&c->world);
	while (c->tried < c->n) {
		size_t i = c->tried++;

		c->until = clock_after_ms(CONNECT_MS);
		c->world = socket(c->at[i].ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->world >= 0 && (connect(c->world, (struct sockaddr *)&c->at[i], c->at_len[i]) == 0 ||
				      errno == EINPROGRESS))
			return;
		fd_close(&c->world);
	}
	refuse(g, c, "does not answer");
}

static void made(struct gate *g, struct conn *c)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(c->world, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error) {
		try_next(g, c);
		return;
	}
	c->state = CONN_OPEN;
	c->until = clock_after_ms(IDLE_MS);
	if (!c->silent)
		(void)!buf_printf(&c->in.b, "HTTP/1.1 200 OK\r\n\r\n");
}

/* Where @name is, but for what it may not be. */
static void connect_to(struct gate *g, struct conn *c, const char *name, const char *port, bool anywhere)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all = NULL, *a;
	bool fenced = false;

	c->state = CONN_MAKING;
	c->n = c->tried = 0;
	if (getaddrinfo(name, port, &hints, &all) != 0) {
		refuse(g, c, "cannot be looked up");
		return;
	}
	for (a = all; a && c->n < TRIES; a = a->ai_next) {
		if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof(c->at[0]))
			continue;
		if (!anywhere && is_fenced(a->ai_addr)) {
			fenced = true;
			continue;
		}
		memcpy(&c->at[c->n], a->ai_addr, a->ai_addrlen);
		c->at_len[c->n++] = a->ai_addrlen;
	}
	freeaddrinfo(all);
	if (fenced && !c->n)
		refuse(g, c, "is not of the internet, and no registry that the operator has named");
	else
		try_next(g, c);
}

/* --- what the tool asks ------------------------------------------------------------------------------------------- */

/* "CONNECT name:port HTTP/1.1". */
static int read_target(char *head, char **ret_name, char **ret_port)
{
	char *name = head + strlen("CONNECT "), *space, *colon;
	size_t n;

	if (!str_starts(head, "CONNECT "))
		return -EINVAL;
	space = strchr(name, ' ');
	if (!space || !str_starts(space, " HTTP/1."))
		return -EINVAL;
	*space = '\0';
	colon = strrchr(name, ':');
	if (!colon || colon == name || strlen(name) > 150)
		return -EINVAL;
	*colon = '\0';
	n = strlen(name);
	if (name[0] == '[' && name[n - 1] == ']') {
		name[n - 1] = '\0';
		name++;
	}
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:") != strlen(name) || !*name)
		return -EINVAL;
	*ret_name = name;
	*ret_port = colon + 1;
	return 0;
}

static void asked(struct gate *g, struct conn *c)
{
	AUTO(str_free) char *head = span_dup(buf_span(&c->out.b));
	char *end = strstr(head, "\r\n\r\n"), *name, *port, own[REF_HOST_MAX + 1];
	uint64_t number = 0;
	bool is_own;

	if (!end && buf_len(&c->out.b) < HEAD_MAX)
		return;
	if (!end || read_target(head, &name, &port) < 0 || num_u64(port, UINT16_MAX, &number) < 0 || !number) {
		refuse(g, c, "is not asked for as it should be (connections without TLS are not made)");
		return;
	}
	buf_consume(&c->out.b, (size_t)(end + 4 - head));
	snprintf(c->target, sizeof(c->target), "%s:%s", name, port);
	ref_name(&g->ref, own);
	is_own = strcasecmp(name, own) == 0 && number == g->ref.port;
	if (number != HTTPS && !is_own)
		refuse(g, c, "is another port than 443");
	else
		connect_to(g, c, name, port, is_own && g->named);
}

static void take_one(struct gate *g, int listener, bool tunnel)
{
	struct conn *c = NULL;
	char name[REF_HOST_MAX + 1], port[8];
	int fd;
	size_t i;

	for (i = 0; i < CONNS && !c; i++)
		if (g->conns[i].state == CONN_FREE)
			c = &g->conns[i];
	if (!c)
		return;
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	*c = (struct conn){ .state = CONN_HEAD, .tool = fd, .world = -1, .silent = tunnel,
			    .until = clock_after_ms(IDLE_MS) };
	buf_init(&c->out.b, PIECE);
	buf_init(&c->in.b, PIECE);
	if (!tunnel)
		return;
	ref_name(&g->ref, name);
	snprintf(port, sizeof(port), "%u", g->ref.port);
	snprintf(c->target, sizeof(c->target), "%s", g->ref.host);
	connect_to(g, c, name, port, g->named);
}

/* --- passing on --------------------------------------------------------------------------------------------------- */

/* Return: -errno when it is over. */
static int take_in(int fd, struct way *w, struct conn *c)
{
	size_t room = buf_room(&w->b);
	void *to = room ? buf_reserve(&w->b, room) : NULL;
	ssize_t n = to ? read(fd, to, room) : 0;

	if (!to)
		return 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	w->ended = n == 0;
	buf_commit(&w->b, (size_t)n);
	c->until = clock_after_ms(IDLE_MS);
	return 0;
}

static int give_out(int fd, struct way *w, struct conn *c)
{
	struct span s = buf_span(&w->b);
	ssize_t n = s.len ? send(fd, s.p, s.len, MSG_NOSIGNAL) : 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	buf_consume(&w->b, (size_t)n);
	if (n)
		c->until = clock_after_ms(IDLE_MS);
	if (w->ended && !w->told && !buf_len(&w->b)) {
		shutdown(fd, SHUT_WR);
		w->told = true;
	}
	return 0;
}

static void pass(struct conn *c, short tool, short world)
{
	int r = 0;

	if (tool & (POLLIN | POLLHUP | POLLERR) && !c->out.ended)
		r = take_in(c->tool, &c->out, c);
	if (r == 0 && world & (POLLIN | POLLHUP | POLLERR) && !c->in.ended)
		r = take_in(c->world, &c->in, c);
	if (r == 0 && c->state == CONN_OPEN)
		r = give_out(c->world, &c->out, c);
	if (r == 0)
		r = give_out(c->tool, &c->in, c);
	if (r < 0 || (c->in.told && c->out.told))
		conn_end(c);
}

static short wants(const struct way *from, const struct way *to)
{
	short events = from->ended || !buf_room(&from->b) ? 0 : POLLIN;

	return (short)(events | (buf_len(&to->b) ? POLLOUT : 0));
}

static void serve(struct gate *g, struct conn *c, short tool, short world)
{
	bool late = clock_now() > c->until;

	if (late && c->state == CONN_OPEN)
		snprintf(g->why, sizeof(g->why), "%s says nothing any more", c->target);
	if (late && c->state == CONN_MAKING) {
		try_next(g, c);
	} else if (late) {
		conn_end(c);
	} else if (c->state == CONN_MAKING) {
		if (world)
			made(g, c);
	} else if (c->state == CONN_HEAD) {
		if (tool && (take_in(c->tool, &c->out, c) < 0 || c->out.ended))
			conn_end(c);
		else if (tool)
			asked(g, c);
	} else if (c->state != CONN_FREE) {
		pass(c, tool, world);
	}
}

void gate_wait(struct gate *g, struct pollfd *others, size_t n, int ms)
{
	struct pollfd p[2 + GATE_OTHERS_MAX + 2 * CONNS];
	bool full = true;
	size_t i;

	for (i = 0; i < CONNS; i++) {
		const struct conn *c = &g->conns[i];
		struct pollfd *tool = &p[2 + GATE_OTHERS_MAX + 2 * i], *world = tool + 1;

		full = full && c->state != CONN_FREE;
		*tool = (struct pollfd){ .fd = c->state == CONN_FREE || c->state == CONN_MAKING ? -1 : c->tool,
					 .events = wants(&c->out, &c->in) };
		*world = (struct pollfd){ .fd = c->world,
					  .events = c->state == CONN_MAKING ? POLLOUT : wants(&c->in, &c->out) };
		/* One that has hung up would be told for ever. */
		if (!tool->events)
			tool->fd = -1;
		if (!world->events)
			world->fd = -1;
	}
	p[0] = (struct pollfd){ .fd = full ? -1 : g->gate, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = full ? -1 : g->tunnel, .events = POLLIN };
	for (i = 0; i < GATE_OTHERS_MAX; i++)
		p[2 + i] = i < n ? others[i] : (struct pollfd){ .fd = -1 };
	if (poll(p, ARRAY_LEN(p), ms) < 0)
		return;
	for (i = 0; i < n; i++)
		others[i].revents = p[2 + i].revents;
	for (i = 0; i < CONNS; i++)
		if (g->conns[i].state != CONN_FREE)
			serve(g, &g->conns[i], p[2 + GATE_OTHERS_MAX + 2 * i].revents,
			      p[2 + GATE_OTHERS_MAX + 2 * i + 1].revents);
	if (p[0].revents)
		take_one(g, g->gate, false);
	if (p[1].revents)
		take_one(g, g->tunnel, true);
}
