/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_PROXY_H
#define HOST_NET_PROXY_H

/*
 * The TCP of sandboxes that have a SOCKS5 proxy: the router sends each connection here that the rules of its sandbox
 * let pass, and it goes on through the proxy or ends. A thread and a loop of its own; docs/network.md has the theory.
 */
#include "host/net/socks.h"

struct proxy;

enum { PROXY_SOCKETS_MAX = PRIV_NET_SOCKETS_MAX };

/* What holds for one connection. */
struct proxy_way {
	struct policy_proxy proxy;
	struct socks_to to;
	uint64_t since; /* another one when the proxy is */
};

struct proxy_conf {
	int listen[2];	 /* of IPv4 and IPv6, ours from now on, also after a failure; -1: none */
	uint32_t ranges; /* those who connect have a number below this */
	const char *dns; /* as in names_conf, also the next two */
	const char *resolv;
	uint16_t port;
	unsigned dial_ms; /* until the proxy has connected; 0: the usual */
	/** home() - whose address is this? Return: 0; -ENOENT. */
	int (*home)(const struct priv_prefix *from, uint32_t *ret_range);
	/** meant() - where the connection @fd was meant to go. Return: 0; -errno. */
	int (*meant)(int fd, struct priv_prefix *ret, uint16_t *ret_port);
	/** way() - by which proxy, and what it is asked for. Return: 0; -ENOENT: this sandbox has none. */
	int (*way)(void *ctx, uint32_t range, const struct priv_prefix *to, uint16_t port, struct proxy_way *ret);
	/** holds() - may a connection stay that way() let go on, to @name unless that is NULL? */
	bool (*holds)(void *ctx, uint32_t range, uint64_t since, const char *name);
	/** hides() - may no proxy be at this address? */
	bool (*hides)(void *ctx, const struct priv_prefix *p);
	/** sockets() - for connections to proxies, up to PROXY_SOCKETS_MAX; yours. Return: how many, or -errno. */
	int (*sockets)(void *ctx, int family, int fds[PROXY_SOCKETS_MAX]);
	void *ctx;
};

int proxy_start(const struct proxy_conf *conf, struct proxy **ret, struct err *e) MUST_CHECK;
/** proxy_stop() - connections are reset; nobody is called any more when it returns. */
void proxy_stop(struct proxy **slot);
/** proxy_look_again() - what holds has changed: connections that may not stay are reset, soon. Any thread; no lock of a
 * leaf is held. */
void proxy_look_again(struct proxy *p);
/** proxy_meant() - for proxy_conf: as the kernel's table of connections has it. */
int proxy_meant(int fd, struct priv_prefix *ret, uint16_t *ret_port) MUST_CHECK;

#endif
