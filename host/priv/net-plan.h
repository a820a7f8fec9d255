/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_NET_PLAN_H
#define HOST_PRIV_NET_PLAN_H

/*
 * The plan of addresses. Those of sandboxes exist in the router's namespace alone, so that they are the same for every
 * daemon; only the pair of links between router and host has addresses that must be free on the host.
 */
#include "host/priv/priv.h"

enum { NET_PLACES = 16384 };

/** net_plan_home() - the address of sandbox @range, as a range of one. */
struct priv_prefix net_plan_home(uint32_t range, int family);
/** net_plan_gate() - the router as sandboxes know it; where names are asked for (IPv4). */
struct priv_prefix net_plan_gate(int family);
/** net_plan_proxies() - the router's address where the TCP of sandboxes with a proxy arrives. */
enum { NET_PROXIES_PORT = 1080 };
struct priv_prefix net_plan_proxies(int family);
/** net_plan_uplink() - of place @at (< NET_PLACES) between router and host: the host's end or the router's. */
struct priv_prefix net_plan_uplink(uint32_t at, int family, bool host);
/** net_plan_fence() - entry @i of what sandboxes never reach, NULL behind the last. */
const char *net_plan_fence(size_t i);
/** net_plan_text() - "10.0.0.0/8", "10.0.0.1"; the widest of all is written as nft wants it. */
enum { NET_TEXT_MAX = 96 };
const char *net_plan_text(const struct priv_prefix *p, char text[NET_TEXT_MAX]);
/** net_plan_within() - is all of @p inside of @outer? */
bool net_plan_within(const struct priv_prefix *p, const struct priv_prefix *outer);

#endif
