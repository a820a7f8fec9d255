/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The privileged process stands in the host's network namespace and steps into others for moments; it has one thread.
 * Whatever has to be remembered over its end is in the kernel (links, tables) or in STATE/net (net-gate.c); what each
 * sandbox may reach is told again by the daemon that adopts them, and takes effect in one step, net_settle(). Until
 * then what held before holds.
 */
#include "host/priv/net.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/priv/host.h"
#include "host/priv/net-inside.h"
#include "host/priv/net-plan.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DNS_PORT = 53, BACKLOG = 128 };

int net_enter(int ns)
{
	return setns(ns, CLONE_NEWNET) < 0 ? -errno : 0;
}

int net_sysctl(const char *path, const char *value)
{
	AUTO(str_free) char *full = str_printf("/proc/sys/net/%s", path);
	AUTO(fd_close) int fd = open(full, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : io_write_full(fd, value, strlen(value));
}

static void net_free(struct net **slot)
{
	struct net *n = take(slot);
	uint32_t i;

	if (!n)
		return;
	for (i = 0; i < n->ranges; i++) {
		fd_close(&n->places[i].userns);
		fd_close(&n->places[i].netns);
		mem_free(&n->places[i].policy);
	}
	rules_close(&n->of_home);
	rules_close(&n->of_router);
	nl_close(&n->in_home);
	nl_close(&n->in_router);
	fd_close(&n->pasta_fd);
	fd_close(&n->watch);
	fd_close(&n->router);
	fd_close(&n->home);
	free(n->places);
	free(n);
}

static struct net *net_new(const struct host *h)
{
	struct net *n = NEW(struct net);
	uint32_t i;

	*n = (struct net){.home = -1,
			  .router = -1,
			  .pasta_fd = -1,
			  .watch = -1,
			  .in_home = NL_NULL,
			  .in_router = NL_NULL,
			  .pasta_ms = AGAIN_MS / 2,
			  .ranges = h->conf.ranges,
			  .ready_max = h->conf.net_ready};
	n->places = must_calloc(n->ranges, sizeof(*n->places));
	for (i = 0; i < n->ranges; i++)
		n->places[i].userns = n->places[i].netns = -1;
	return n;
}

static int try_mode(struct host *h, enum priv_net_mode mode, struct net **ret, struct err *e)
{
	struct net *n = net_new(h);
	bool adopted = false;
	int r;

	n->mode = mode;
	n->v6 = access("/proc/sys/net/ipv6/conf/all", F_OK) == 0;
	n->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	r = n->home < 0 ? err_sys(e, -errno, "network namespace") : nl_open(&n->in_home, e);
	if (r == 0)
		r = rules_open(&n->of_home, e);
	if (r == 0)
		r = gate_open(h, n, &adopted, e);
	if (r == 0)
		r = gate_uplink(h, n, adopted, e);
	if (r == 0)
		r = err_sys(e, gate_note(h, n), "noting the network");
	if (r < 0) {
		gate_close(h, n);
		net_free(&n);
		return r;
	}
	n->settled = !adopted;
	log_info("priv", adopted ? "network goes on" : "network", "mode=%s why=%s",
		 mode == PRIV_NET_VETH ? "veth" : "pasta", n->why);
	*ret = n;
	return 0;
}

/* The configuration changed, and something of the last one is there. */
static void clear_earlier(struct host *h)
{
	struct net *n;
	bool adopted;

	if (!gate_noted(h))
		return;
	n = net_new(h);
	if (nl_open(&n->in_home, NULL) == 0 && rules_open(&n->of_home, NULL) == 0)
		(void)!gate_open(h, n, &adopted, NULL);
	net_free(&n);
}

int net_init(struct host *h, struct err *e)
{
	struct err veth = ERR_NULL, pasta = ERR_NULL;
	int r;

	switch ((enum priv_net_mode)h->conf.net_mode) {
	case PRIV_NET_VETH:
		return try_mode(h, PRIV_NET_VETH, &h->net, e);
	case PRIV_NET_PASTA:
		return try_mode(h, PRIV_NET_PASTA, &h->net, e);
	case PRIV_NET_AUTO:
		r = try_mode(h, PRIV_NET_VETH, &h->net, &veth);
		if (r < 0)
			r = try_mode(h, PRIV_NET_PASTA, &h->net, &pasta);
		if (r < 0) {
			snprintf(h->net_why, sizeof(h->net_why), "%.90s; %.90s", veth.text, pasta.text);
			log_warn("priv", "no network for sandboxes", "veth=%s pasta=%s", veth.text, pasta.text);
		} else if (veth.code) {
			snprintf(h->net->why, sizeof(h->net->why), "not veth: %.180s", veth.text);
		}
		return 0;
	case PRIV_NET_NONE:
		break;
	}
	clear_earlier(h);
	snprintf(h->net_why, sizeof(h->net_why), "switched off by network.mode");
	return 0;
}

void net_leave(struct host *h)
{
	uint32_t i, taken = 0;

	if (!h->net)
		return;
	for (i = 0; i < h->net->ranges; i++)
		taken += h->net->places[i].state == PLACE_TAKEN || (!h->net->settled);
	if (!taken)
		gate_close(h, h->net);
	net_free(&h->net);
}

/* --- sockets in the router ---------------------------------------------------------------------------------------- */

static int open_socket(const struct priv_prefix *at, int type, uint16_t port, int *ret)
{
	struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	AUTO(fd_close) int fd = socket(at->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	memcpy(&in4.sin_addr, at->addr, 4);
	memcpy(&in6.sin6_addr, at->addr, 16);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, at->family == AF_INET ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6,
		 at->family == AF_INET ? sizeof(in4) : sizeof(in6)) < 0 ||
	    (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
		return -errno;
	*ret = fd_take(&fd);
	return 0;
}

/* In the router. */
static int open_sockets(const struct net *n, struct priv_net_state *ret)
{
	const struct priv_prefix gate = net_plan_gate(AF_INET), proxies = net_plan_proxies(AF_INET);
	const struct priv_prefix proxies6 = net_plan_proxies(AF_INET6);
	int r = open_socket(&gate, SOCK_DGRAM, DNS_PORT, &ret->dns_udp);

	if (r == 0)
		r = open_socket(&gate, SOCK_STREAM, DNS_PORT, &ret->dns_tcp);
	if (r == 0)
		r = open_socket(&proxies, SOCK_STREAM, NET_PROXIES_PORT, &ret->proxy[0]);
	if (r == 0 && n->v6)
		r = open_socket(&proxies6, SOCK_STREAM, NET_PROXIES_PORT, &ret->proxy[1]);
	return r;
}

int net_state(struct host *h, struct priv_net_state *ret, struct err *e)
{
	struct net *n = h->net;
	int r;

	ret->mode = n ? n->mode : PRIV_NET_NONE;
	ret->dns_udp = ret->dns_tcp = ret->proxy[0] = ret->proxy[1] = -1;
	snprintf(ret->why, sizeof(ret->why), "%s", n ? n->why : h->net_why);
	if (!n)
		return 0;
	r = net_enter(n->router);
	if (r == 0) {
		r = open_sockets(n, ret);
		if (net_enter(n->home) < 0)
			_exit(1);
	}
	if (r < 0) {
		fd_close(&ret->dns_udp);
		fd_close(&ret->dns_tcp);
		fd_close(&ret->proxy[0]);
		fd_close(&ret->proxy[1]);
		return err_sys(e, r, "the router's sockets");
	}
	return 0;
}

/* --- sandboxes ---------------------------------------------------------------------------------------------------- */

static int no_network(struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "no-network", "sandboxes have no network here");
}

int net_take(struct host *h, uint32_t range, int *ret_userns, int *ret_netns, struct err *e)
{
	struct net *n = h->net;
	struct place *p;
	int r = 0;

	if (!n || range >= n->ranges)
		return no_network(e);
	p = &n->places[range];
	if (p->state != PLACE_READY)
		r = place_make(h, n, range, e);
	if (r < 0)
		return r;
	p->state = PLACE_TAKEN;
	*ret_userns = p->userns;
	*ret_netns = p->netns;
	return 0;
}

void net_give_back(struct host *h, uint32_t range)
{
	struct net *n = h->net;
	struct err e = ERR_NULL;
	struct place *p;

	if (!n || range >= n->ranges)
		return;
	p = &n->places[range];
	if (p->policy && n->settled && rules_change(n->of_router, p->policy, NULL, &e) < 0)
		log_error("priv", "rules of a sandbox stay", "range=%u why=%s", range, e.text);
	mem_free(&p->policy);
	fd_close(&p->netns);
	fd_close(&p->userns);
	p->state = PLACE_UNKNOWN;
}

/* Only as much of it as is used is worth keeping. */
int net_policy(struct host *h, const struct priv_net_policy *p, struct err *e)
{
	struct net *n = h->net;
	struct place *place;
	int r;

	if (!n)
		return no_network(e);
	place = &n->places[p->range];
	r = n->settled ? rules_change(n->of_router, place->policy, p, e) : 0;
	if (r < 0)
		return r;
	mem_free(&place->policy);
	place->policy = must_memdup(p, sizeof(*p));
	return 0;
}

int net_names(struct host *h, uint32_t range, uint32_t life_s, const struct priv_prefix *v, size_t n, struct err *e)
{
	const struct priv_net_policy *p = h->net ? h->net->places[range].policy : NULL;

	if (!h->net)
		return no_network(e);
	if (!p)
		return err_set(e, -ENOENT, "no-such-sandbox", "no sandbox has this network");
	return rules_names(h->net->of_router, p->tag, life_s, v, n, e);
}

int net_sockets(struct host *h, int family, int *fds, size_t count, struct err *e)
{
	struct net *n = h->net;
	size_t i;
	int r;

	if (!n)
		return no_network(e);
	r = net_enter(n->router);
	if (r < 0)
		return err_sys(e, r, "the router's network namespace");
	for (i = 0; i < count && r == 0; i++) {
		fds[i] = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = fds[i] < 0 ? -errno : 0;
	}
	if (net_enter(n->home) < 0)
		_exit(1);
	for (; r < 0 && i > 0; i--)
		fd_close(&fds[i - 1]);
	return err_sys(e, r, "sockets of the router");
}

void net_settle(struct host *h, bool (*used)(struct host *h, uint32_t range))
{
	struct net *n = h->net;
	struct priv_net_policy **all;
	struct err e = ERR_NULL;
	uint32_t i;

	if (!n || n->settled)
		return;
	all = must_calloc(n->ranges, sizeof(struct priv_net_policy *));
	for (i = 0; i < n->ranges; i++) {
		if (n->places[i].state != PLACE_UNKNOWN)
			continue; /* of a sandbox that was begun meanwhile */
		if (used(h, i))
			n->places[i].state = PLACE_TAKEN;
		else
			mem_free(&n->places[i].policy);
	}
	for (i = 0; i < n->ranges; i++)
		all[i] = n->places[i].policy;
	if (rules_settle(n->of_router, all, n->ranges, &e) < 0)
		log_error("priv", "rules of sandboxes were not renewed", "why=%s", e.text);
	n->settled = true;
	free(all);
}

/* --- ahead of them ------------------------------------------------------------------------------------------------ */

/* The hub takes the lowest range that is free: those are made ready. Return: one that is not, or n->ranges. */
static uint32_t next_place(const struct net *n)
{
	uint32_t i, ready = 0;

	for (i = 0; i < n->ranges && ready < n->ready_max; i++) {
		if (n->places[i].state == PLACE_UNKNOWN)
			return i;
		ready += n->places[i].state == PLACE_READY;
	}
	return n->ranges;
}

void net_work(struct host *h)
{
	struct net *n = h->net;
	struct err e = ERR_NULL;

	if (!n || !n->settled || next_place(n) == n->ranges || clock_now() < n->work_after)
		return;
	if (place_make(h, n, next_place(n), &e) < 0) {
		log_warn("priv", "a network was not made ready", "why=%s", e.text);
		n->work_after = clock_after_ms(AGAIN_MAX_MS);
	}
}

int net_pause(const struct host *h)
{
	const struct net *n = h->net;
	bool lacks_pasta = n && n->mode == PRIV_NET_PASTA && n->pasta_fd < 0;

	if (!n || (!lacks_pasta && next_place(n) == n->ranges) || (!lacks_pasta && !n->settled))
		return -1;
	return lacks_pasta ? clock_left_ms(n->pasta_again) : clock_left_ms(n->work_after);
}

void net_fds(const struct host *h, int fds[2])
{
	fds[0] = h->net ? h->net->pasta_fd : -1;
	fds[1] = h->net ? h->net->watch : -1;
}

static void tend_pasta(struct host *h, struct net *n)
{
	struct err e = ERR_NULL;

	if (n->mode != PRIV_NET_PASTA || (n->pasta_fd >= 0 && process_lives(&n->pasta)))
		return;
	fd_close(&n->pasta_fd);
	if (clock_now() < n->pasta_again)
		return;
	/* One that had run for a while is replaced at once; one that does not come to run, ever more seldom. */
	n->pasta_ms = clock_now() > n->pasta_again + AGAIN_MAX_MS * CLOCK_MS
			      ? AGAIN_MS
			      : MIN(2 * n->pasta_ms, (unsigned)AGAIN_MAX_MS);
	n->pasta_again = clock_after_ms(n->pasta_ms);
	if (pasta_start(h, n, &e) < 0)
		log_error("priv", "pasta does not start", "why=%s", e.text);
	else
		log_warn("priv", "pasta ended, another one was started", NULL);
}

void net_tend(struct host *h)
{
	struct net *n = h->net;
	struct err e = ERR_NULL;
	uint8_t words[8192];
	bool changed = false;

	if (!n)
		return;
	while (n->watch >= 0) { /* non-blocking */
		ssize_t got = recv(n->watch, words, sizeof(words), MSG_DONTWAIT);

		/* What was lost is no matter: all of them are read anew. */
		if (got <= 0 && errno != ENOBUFS)
			break;
		changed = true;
	}
	if (changed && own_addresses(n, &e) < 0)
		log_error("priv", "addresses of the host are not fenced off", "why=%s", e.text);
	tend_pasta(h, n);
}
