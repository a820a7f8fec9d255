/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_NETLINK_H
#define HOST_PRIV_NETLINK_H

/*
 * Links, addresses and routes of one network namespace. A socket belongs for ever to the namespace that its maker stood
 * in, so that a single-threaded process can look after several. Each call waits for the kernel's answer.
 */
#include "host/priv/priv.h"

#include <stdbool.h>
#include <stdint.h>

struct nl {
	int fd;
	uint32_t seq;
};

#define NL_NULL ((struct nl){.fd = -1})

/** nl_open() - a socket of the present namespace. Return: 0 or -errno. */
int nl_open(struct nl *nl, struct err *e) MUST_CHECK;
void nl_close(struct nl *nl);
/** nl_ifindex() - number of the link @name, 0: there is none. */
unsigned nl_ifindex(struct nl *nl, const char *name);
/** nl_veth() - a pair, @name here and @peer in the namespace @netns. Return: 0; -EEXIST; -errno. */
int nl_veth(struct nl *nl, const char *name, const char *peer, int netns, struct err *e) MUST_CHECK;
/** nl_delete() - a link; 0 also when there is none. */
int nl_delete(struct nl *nl, const char *name) MUST_CHECK;
int nl_up(struct nl *nl, const char *name, struct err *e) MUST_CHECK;
/** nl_address() - @p becomes an address of @name; 0 also when it has it. IPv6 is not tested for being taken. */
int nl_address(struct nl *nl, const char *name, const struct priv_prefix *p, struct err *e) MUST_CHECK;
/** nl_route() - to @to by way of @name, directly or through the neighbour @via (may be NULL). 0 also when it is there.
 */
int nl_route(struct nl *nl, const char *name, const struct priv_prefix *to, const struct priv_prefix *via,
	     struct err *e) MUST_CHECK;
/** nl_route_from() - directly to @to, from the address @from of @name where a program names none. */
int nl_route_from(struct nl *nl, const char *name, const struct priv_prefix *to, const struct priv_prefix *from,
		  struct err *e) MUST_CHECK;
/** nl_links() - call @fn for each link. Return: 0 or -errno. */
int nl_links(struct nl *nl, void (*fn)(void *ctx, const char *name), void *ctx) MUST_CHECK;
/** nl_addresses() - call @fn for each address of any link. Return: 0 or -errno. */
int nl_addresses(struct nl *nl, void (*fn)(void *ctx, const struct priv_prefix *p), void *ctx) MUST_CHECK;
/** nl_has_default() - is there a default route of this family (main table)? */
bool nl_has_default(struct nl *nl, int family);
/** nl_prefix() - from text, "10.0.0.0/8" or "fd00::1"; for constants: aborts when it is none. */
struct priv_prefix nl_prefix(const char *text);

#endif
