/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_NET_H
#define HOST_PRIV_NET_H

/*
 * Networks of sandboxes, as the privileged process holds them: the router's namespace, through which all of them go,
 * and for each id range a place, which is a network namespace with a link to the router. Places are made ahead of the
 * sandboxes that come to them. docs/network.md is the theory.
 */
#include "host/priv/netlink.h"
#include "host/priv/priv.h"
#include "host/priv/rules.h"

struct host;
struct net;

/** net_init() - what conf.net_mode asks for: go on with the router of an earlier daemon, or make one. Without a network
 * @h->net is NULL and priv_net_state.why says why. Return: 0; -errno when a mode was asked for by name and cannot be.
 */
int net_init(struct host *h, struct err *e) MUST_CHECK;
/** net_leave() - the end: nothing stays of it when no sandbox has a network. */
void net_leave(struct host *h);
/** net_state() - what there is, and the sockets of the names. Return: 0 or -errno. */
int net_state(struct host *h, struct priv_net_state *ret, struct err *e) MUST_CHECK;

/** net_take() - the place of @range for a sandbox that starts, made now when it is not ready; descriptors stay ours. */
int net_take(struct host *h, uint32_t range, int *ret_userns, int *ret_netns, struct err *e) MUST_CHECK;
/** net_give_back() - its sandbox is gone: what it could reach is void, the place is made anew later. */
void net_give_back(struct host *h, uint32_t range);
int net_policy(struct host *h, const struct priv_net_policy *p, struct err *e) MUST_CHECK;
int net_names(struct host *h, uint32_t range, uint32_t life_s, const struct priv_prefix *v, size_t n,
	      struct err *e) MUST_CHECK;
/** net_sockets() - of the router's, not connected; yours. */
int net_sockets(struct host *h, int family, int *fds, size_t n, struct err *e) MUST_CHECK;
/** net_settle() - the daemon has adopted what it knows: those in @used are all that is used. */
void net_settle(struct host *h, bool (*used)(struct host *h, uint32_t range));

/** net_work() - when there is nothing else to do: make the next place ready. net_pause(): milliseconds until there is
 * something to do, -1: nothing. */
void net_work(struct host *h);
int net_pause(const struct host *h);
/** net_fds() - descriptors to wait for (two, -1: none): pasta's life, changes of the host's addresses; net_tend() looks
 * after whatever happened. */
void net_fds(const struct host *h, int fds[2]);
void net_tend(struct host *h);

#endif
