/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place is the two namespaces that a sandbox of this range will join: of users, of networks (which belongs to the
 * first, so that the sandbox can mount its sysfs), and a pair of links, eth0 inside and sN in the router. The guest has
 * no capability over networks, so what is set here stays: the address, the routes, and that advertisements of routers
 * are not listened to. A place is used once: a new one costs no more than making sure that an old one is as new.
 */
#include "host/priv/host.h"
#include "host/priv/idmap.h"
#include "host/priv/net-inside.h"
#include "host/priv/net-plan.h"

#include "base/io.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static void name_of(uint32_t range, char name[16])
{
	snprintf(name, 16, RULES_HOME "%u", range);
}

void place_clear(struct net *n, uint32_t range)
{
	struct place *p = &n->places[range];
	char name[16];

	name_of(range, name);
	fd_close(&p->netns);
	fd_close(&p->userns);
	(void)!nl_delete(&n->in_router, name);
	p->state = PLACE_UNKNOWN;
}

static int router_side(struct net *n, uint32_t range, const char *name, struct err *e)
{
	struct priv_prefix home4 = net_plan_home(range, AF_INET), home6 = net_plan_home(range, AF_INET6);
	struct priv_prefix gate6 = net_plan_gate(AF_INET6);
	int r = nl_up(&n->in_router, name, e);

	gate6.len = 64;
	if (r == 0)
		r = nl_route(&n->in_router, name, &home4, NULL, e);
	if (r == 0 && n->v6)
		r = nl_address(&n->in_router, name, &gate6, e);
	if (r == 0 && n->v6)
		r = nl_route(&n->in_router, name, &home6, NULL, e);
	return r;
}

/* In the namespace of the place. */
static int guest_side(struct net *n, uint32_t range, uint32_t gid, struct nl *nl, struct err *e)
{
	const struct priv_prefix home4 = net_plan_home(range, AF_INET), home6 = net_plan_home(range, AF_INET6);
	const struct priv_prefix gate4 = net_plan_gate(AF_INET), gate6 = net_plan_gate(AF_INET6);
	const struct priv_prefix all4 = {.family = AF_INET}, all6 = {.family = AF_INET6};
	char gids[32];
	int r;

	snprintf(gids, sizeof(gids), "%u %u", gid, gid + IDMAP_LEN - 1);
	(void)!net_sysctl("ipv4/ping_group_range", gids); /* ping needs no privilege then */
	if (n->v6) {
		(void)!net_sysctl("ipv6/conf/eth0/accept_ra", "0");
		(void)!net_sysctl("ipv6/conf/eth0/accept_redirects", "0");
	}
	r = nl_up(nl, "lo", e);
	if (r == 0)
		r = nl_address(nl, "eth0", &home4, e);
	if (r == 0 && n->v6)
		r = nl_address(nl, "eth0", &home6, e);
	if (r == 0)
		r = nl_up(nl, "eth0", e);
	if (r == 0)
		r = nl_route(nl, "eth0", &all4, &gate4, e);
	if (r == 0 && n->v6)
		r = nl_route(nl, "eth0", &all6, &gate6, e);
	/* The link has an address of its own some time later, which the kernel would prefer for its neighbour. Of
	 * that one the router takes nothing, where it refuses, so that nobody waits. */
	if (r == 0 && n->v6)
		r = nl_route_from(nl, "eth0", &gate6, &home6, e);
	return r;
}

int place_make(struct host *h, struct net *n, uint32_t range, struct err *e)
{
	struct place *p = &n->places[range];
	uid_t base = h->conf.range_first + range * IDMAP_LEN;
	struct nl nl = NL_NULL;
	char name[16];
	int r;

	name_of(range, name);
	place_clear(n, range);
	r = idmap_new(base, &p->userns, &p->netns, e);
	if (r == 0)
		r = nl_veth(&n->in_router, name, "eth0", p->netns, e);
	if (r == 0)
		r = router_side(n, range, name, e);
	if (r == 0)
		r = net_enter(p->netns);
	if (r == 0) {
		r = nl_open(&nl, e);
		if (r == 0)
			r = guest_side(n, range, base, &nl, e);
		nl_close(&nl);
		if (net_enter(n->home) < 0)
			_exit(1); /* nothing that is done from here would be right */
	}
	if (r < 0) {
		place_clear(n, range);
		return err_wrap(e, "network of a sandbox");
	}
	p->state = PLACE_READY;
	return 0;
}
