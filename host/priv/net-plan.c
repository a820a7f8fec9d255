/* SPDX-License-Identifier: Apache-2.0 */
/* Pure functions; the daemon uses them, too. */
#include "host/priv/net-plan.h"

#include "host/priv/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/*
 * All that is not the public internet: this host, private and shared ranges, link-local ones (with the clouds' metadata
 * at 169.254.169.254), documentation, benchmarks (ours among them), multicast, reserved; the host of Azure's that
 * answers at a public address. Of IPv6 only 2000::/3 is public; 6to4 and Teredo carry addresses of IPv4 in theirs,
 * NAT64 and mapped ones lie outside of it.
 */
static const char *const fence[] = {
	"0.0.0.0/8",	  "10.0.0.0/8",	    "100.64.0.0/10",  "127.0.0.0/8",	"169.254.0.0/16",   "172.16.0.0/12",
	"192.0.0.0/24",	  "192.0.2.0/24",   "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",    "198.51.100.0/24",
	"203.0.113.0/24", "168.63.129.16",  "224.0.0.0/3",    "::/3",		"4000::/2",	    "8000::/1",
	"2001::/32",	  "2001:db8::/32",  "2002::/16",
};

const char *net_plan_fence(size_t i)
{
	return i < ARRAY_LEN(fence) ? fence[i] : NULL;
}

static struct priv_prefix with_tail(const char *text, uint32_t tail)
{
	struct priv_prefix p = nl_prefix(text);
	size_t last = p.family == AF_INET ? 3 : 15;

	p.addr[last] = (uint8_t)(p.addr[last] + (tail & 255));
	p.addr[last - 1] = (uint8_t)(p.addr[last - 1] + ((tail >> 8) & 255));
	return p;
}

struct priv_prefix net_plan_home(uint32_t range, int family)
{
	return with_tail(family == AF_INET ? "198.19.16.0" : "fd62:6572:7468:1::1000", range);
}

int priv_net_home(const struct priv_prefix *address, uint32_t *ret_range)
{
	const struct priv_prefix first = net_plan_home(0, address->family);
	size_t at = address->family == AF_INET ? 2 : 14; /* of the last two bytes */
	unsigned n = (unsigned)(address->addr[at] << 8 | address->addr[at + 1]);
	unsigned from = (unsigned)(first.addr[at] << 8 | first.addr[at + 1]);

	if (memcmp(address->addr, first.addr, at) != 0 || n < from)
		return -ENOENT;
	*ret_range = n - from;
	return 0;
}

struct priv_prefix net_plan_gate(int family)
{
	return nl_prefix(family == AF_INET ? "198.19.0.1" : "fe80::1");
}

struct priv_prefix net_plan_proxies(int family)
{
	return nl_prefix(family == AF_INET ? "198.19.0.1" : "fd62:6572:7468:1::1");
}

struct priv_prefix net_plan_uplink(uint32_t at, int family, bool host)
{
	struct priv_prefix p = with_tail(family == AF_INET ? "198.18.0.0" : "fd62:6572:7468:2::",
					 4 * (at % NET_PLACES) + (host ? 1 : 2));

	p.len = family == AF_INET ? 30 : 126;
	return p;
}

const char *net_plan_text(const struct priv_prefix *p, char text[NET_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN];
	unsigned whole = p->family == AF_INET ? 32 : 128;

	inet_ntop(p->family, p->addr, addr, sizeof(addr));
	if (p->len == 0)
		snprintf(text, NET_TEXT_MAX, "%s",
			 p->family == AF_INET ? "0.0.0.0-255.255.255.255"
					      : "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	else if (p->len == whole)
		snprintf(text, NET_TEXT_MAX, "%s", addr);
	else
		snprintf(text, NET_TEXT_MAX, "%s/%u", addr, p->len);
	return text;
}

bool net_plan_within(const struct priv_prefix *p, const struct priv_prefix *outer)
{
	size_t whole = outer->len / 8;
	unsigned rest = outer->len % 8;

	return p->family == outer->family && p->len >= outer->len && memcmp(p->addr, outer->addr, whole) == 0 &&
	       (rest == 0 || (p->addr[whole] ^ outer->addr[whole]) >> (8 - rest) == 0);
}

bool priv_net_fenced(const struct priv_prefix *p)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(fence); i++) {
		struct priv_prefix f = nl_prefix(fence[i]);

		if (net_plan_within(p, &f))
			return true;
	}
	return false;
}
