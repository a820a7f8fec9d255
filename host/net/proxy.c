/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that comes here was let pass by the rules under its own destination, which the kernel still knows. There
 * is one way on; whatever goes wrong with it ends the connection with a reset, also when this process dies: a sandbox
 * never takes half of an answer for the whole.
 */
#include "host/net/proxy-inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ORIGINAL_DST = 80 }; /* of both families, linux/netfilter_ipv4.h */
enum { ROUND = 32, KEEP_IDLE_S = 60, KEEP_EACH_S = 15, KEEP_TRIES = 4, LAST_MS = 60000 };

static uint16_t take_address(const struct sockaddr_storage *sa, struct priv_prefix *ret)
{
	*ret = (struct priv_prefix){ .family = AF_INET, .len = 32 };
	if (sa->ss_family == AF_INET) {
		memcpy(ret->addr, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
		return ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port);
	}
	ret->family = AF_INET6;
	ret->len = 128;
	memcpy(ret->addr, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	return ntohs(((const struct sockaddr_in6 *)(const void *)sa)->sin6_port);
}

int proxy_meant(int fd, struct priv_prefix *ret, uint16_t *ret_port)
{
	struct sockaddr_storage sa = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(sa);
	int family = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &(socklen_t){ sizeof(family) }) < 0 ||
	    getsockopt(fd, family == AF_INET ? SOL_IP : SOL_IPV6, ORIGINAL_DST, &sa, &len) < 0)
		return -errno;
	*ret_port = take_address(&sa, ret);
	return 0;
}

/* --- hops --------------------------------------------------------------------------------------------------------- */

void hop_end(struct hop *h)
{
	struct proxy *p = h->of;
	const struct linger deliver = { .l_onoff = 0 };
	const unsigned last_ms = LAST_MS;
	bool whole = h->shut[SANDBOX] && h->shut[PROXY];
	int i;

	for (i = 0; i < 2; i++) {
		loop_unwatch(&h->watch[i]);
		if (whole) { /* what is on its way still goes there, but nobody counts it any more */
			setsockopt(h->fd[i], IPPROTO_TCP, TCP_USER_TIMEOUT, &last_ms, sizeof(last_ms));
			setsockopt(h->fd[i], SOL_SOCKET, SO_LINGER, &deliver, sizeof(deliver));
		}
		fd_close(&h->fd[i]);
		buf_fini(&h->out[i]);
	}
	hop_forget_way(h);
	list_remove(&h->node);
	p->n_hops--;
	p->each[h->range]--;
	free(h->name);
	free(h);
}

void hop_prepare(int fd)
{
	const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	const int on = 1, idle = KEEP_IDLE_S, each = KEEP_EACH_S, tries = KEEP_TRIES;

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &each, sizeof(each));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Nobody gets more than a quarter of what is free. */
static bool has_room(const struct proxy *p, uint32_t range)
{
	return p->each[range] < HOPS_EACH && p->each[range] < (HOPS_MAX - p->n_hops + 3) / 4;
}

static void begin(struct proxy *p, int *fd, const struct priv_prefix *from)
{
	AUTO(mem_free) struct proxy_way *way = NEW(struct proxy_way);
	struct priv_prefix to;
	struct hop *h;
	uint16_t port;
	uint32_t range;

	if (p->conf.home(from, &range) < 0 || range >= p->conf.ranges || !has_room(p, range) ||
	    p->conf.meant(*fd, &to, &port) < 0)
		return;
	if (p->conf.way(p->conf.ctx, range, &to, port, way) < 0) {
		log_debug("proxy", "a connection of a sandbox without a proxy", "range=%u", range);
		return;
	}
	h = NEW(struct hop);
	h->of = p;
	h->range = range;
	h->since = way->since;
	h->name = way->to.name[0] ? must_strdup(way->to.name) : NULL;
	h->fd[SANDBOX] = fd_take(fd);
	h->fd[PROXY] = -1;
	h->way = take(&way);
	buf_init(&h->out[SANDBOX], PASS_B);
	buf_init(&h->out[PROXY], SOCKS_OUT_MAX);
	h->out[PROXY].wipes = true; /* the proxy's password goes that way */
	list_append(&p->hops, &h->node);
	p->n_hops++;
	p->each[range]++;
	hop_dial(h);
}

static void on_listen(void *ctx, int listener, unsigned events)
{
	struct proxy *p = ctx;
	int round;

	(void)events;
	for (round = 0; round < ROUND; round++) {
		struct sockaddr_storage sa = { .ss_family = AF_UNSPEC };
		socklen_t size = sizeof(sa);
		AUTO(fd_close)
		int fd = accept4(listener, (struct sockaddr *)&sa, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct priv_prefix from;

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE)
				fd_shed(listener, &p->spare);
			return;
		}
		take_address(&sa, &from);
		begin(p, &fd, &from); /* it is reset unless it is taken */
	}
}

static void look_again(void *ctx)
{
	struct proxy *p = ctx;
	struct list *pos, *next;

	list_each_safe(pos, next, &p->hops) {
		struct hop *h = list_entry(pos, struct hop, node);

		if (!p->conf.holds(p->conf.ctx, h->range, h->since, h->name))
			hop_end(h);
	}
}

void proxy_look_again(struct proxy *p)
{
	loop_post(p->loop, look_again, p);
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void *run(void *ctx)
{
	struct proxy *p = ctx;

	if (loop_run(p->loop) < 0)
		log_error("proxy", "connections through proxies do not work", NULL);
	return NULL;
}

static void proxy_free(struct proxy **slot)
{
	struct proxy *p = take(slot);
	int i;

	while (!list_empty(&p->hops))
		hop_end(list_entry(p->hops.next, struct hop, node));
	lookup_free(&p->lookup);
	for (i = 0; i < 2; i++) {
		loop_unwatch(&p->listen[i]);
		fd_close(&p->conf.listen[i]);
		while (p->stock[i].n)
			close(p->stock[i].fds[--p->stock[i].n]);
	}
	loop_free(&p->loop);
	fd_close(&p->spare);
	free(p->each);
	free(p);
}

static int listen_for(struct proxy *p, int fd, struct loop_watch **ret)
{
	const int near = NEAR_B;

	hop_prepare(fd);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &near, sizeof(near));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &near, sizeof(near));
	return loop_watch(p->loop, fd, LOOP_READ, on_listen, p, ret);
}

int proxy_start(const struct proxy_conf *conf, struct proxy **ret, struct err *e)
{
	struct resolvers from = { .dns = conf->dns, .file = conf->resolv, .port = conf->port };
	struct proxy *p = NEW(struct proxy);
	int r, i;

	p->conf = *conf;
	p->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	list_init(&p->hops);
	p->each = must_calloc(conf->ranges, sizeof(*p->each));
	r = loop_new(&p->loop, e);
	if (r == 0)
		p->lookup = lookup_new(p->loop, &from);
	for (i = 0; i < 2 && r == 0; i++)
		if (conf->listen[i] >= 0)
			r = err_sys(e, listen_for(p, conf->listen[i], &p->listen[i]), "socket for proxies");
	if (r == 0)
		r = err_sys(e, -pthread_create(&p->thread, NULL, run, p), "thread for proxies");
	if (r < 0) {
		proxy_free(&p);
		return r;
	}
	pthread_setname_np(p->thread, "proxy");
	*ret = p;
	return 0;
}

void proxy_stop(struct proxy **slot)
{
	if (!*slot)
		return;
	loop_stop((*slot)->loop);
	pthread_join((*slot)->thread, NULL);
	proxy_free(slot);
}
