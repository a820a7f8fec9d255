/* SPDX-License-Identifier: Apache-2.0 */
/* One request, its answer, no library: what is needed of rtnetlink is seven messages. */
#include "host/priv/netlink.h"

#include "base/io.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1024, ANSWER = 32768, WAIT_S = 5 };

struct ask {
	union {
		struct nlmsghdr h;
		uint8_t room[ROOM];
	};
};

int nl_open(struct nl *nl, struct err *e)
{
	const struct timeval wait = {.tv_sec = WAIT_S};
	struct sockaddr_nl me = {.nl_family = AF_NETLINK};

	nl->seq = 0;
	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (nl->fd < 0 || bind(nl->fd, (struct sockaddr *)&me, sizeof(me)) < 0 ||
	    setsockopt(nl->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0) {
		int r = -errno;

		fd_close(&nl->fd);
		return err_sys(e, r, "rtnetlink");
	}
	return 0;
}

void nl_close(struct nl *nl)
{
	fd_close(&nl->fd);
}

static void *begin(struct ask *a, unsigned type, unsigned flags, size_t head)
{
	memset(a, 0, sizeof(*a));
	a->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(head);
	a->h.nlmsg_type = (uint16_t)type;
	a->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return NLMSG_DATA(&a->h);
}

/* All that we say is short and ours: no room is a mistake of ours. */
static struct rtattr *put(struct ask *a, unsigned type, const void *p, size_t len)
{
	size_t at = NLMSG_ALIGN(a->h.nlmsg_len);
	struct rtattr *attr = (struct rtattr *)(void *)(a->room + at);

	if (at + RTA_SPACE(len) > sizeof(a->room))
		abort();
	attr->rta_type = (uint16_t)type;
	attr->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(attr), p, len);
	a->h.nlmsg_len = (uint32_t)(at + RTA_SPACE(len));
	return attr;
}

static void nest_end(struct ask *a, struct rtattr *attr)
{
	attr->rta_len = (uint16_t)(a->room + a->h.nlmsg_len - (uint8_t *)attr);
}

/* The kernel's macros for this leave const behind. */
static const void *data_of(const struct nlmsghdr *h)
{
	return (const uint8_t *)h + NLMSG_HDRLEN;
}

typedef void each_fn(void *ctx, const struct nlmsghdr *h);

/* Return: 0 when the answer is complete, 1 when more is to come, -errno. */
static int one_answer(struct nl *nl, const uint8_t *b, size_t len, each_fn *fn, void *ctx)
{
	size_t at = 0;

	while (at + sizeof(struct nlmsghdr) <= len) {
		const struct nlmsghdr *h = (const void *)(b + at);
		const struct nlmsgerr *error = data_of(h);

		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > len - at)
			return -EPROTO;
		at += NLMSG_ALIGN(h->nlmsg_len);
		if (h->nlmsg_seq != nl->seq)
			continue;
		if (h->nlmsg_type == NLMSG_DONE)
			return 0;
		if (h->nlmsg_type == NLMSG_ERROR)
			return error->error;
		if (fn)
			fn(ctx, h);
	}
	return 1;
}

static int ask(struct nl *nl, struct ask *a, each_fn *fn, void *ctx)
{
	uint8_t *b = must_calloc(1, ANSWER);
	int r = 1;

	a->h.nlmsg_seq = ++nl->seq;
	if (send(nl->fd, a, a->h.nlmsg_len, 0) < 0)
		r = -errno;
	while (r > 0) {
		ssize_t n = recv(nl->fd, b, ANSWER, 0);

		if (n < 0 && errno == EINTR)
			continue;
		r = n <= 0 ? (n < 0 ? -errno : -EPIPE) : one_answer(nl, b, (size_t)n, fn, ctx);
	}
	free(b);
	return r;
}

/* The content of an attribute behind a head of @head bytes; NULL: there is none. */
static const void *attr_of(const struct nlmsghdr *h, size_t head, unsigned type)
{
	const uint8_t *b = (const uint8_t *)h;
	size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(head);

	while (at + sizeof(struct rtattr) <= h->nlmsg_len) {
		const struct rtattr *a = (const void *)(b + at);

		if (a->rta_len < sizeof(*a) || a->rta_len > h->nlmsg_len - at)
			return NULL;
		if (a->rta_type == type)
			return b + at + RTA_LENGTH(0);
		at += RTA_ALIGN((size_t)a->rta_len);
	}
	return NULL;
}

static void see_index(void *ctx, const struct nlmsghdr *h)
{
	const struct ifinfomsg *i = data_of(h);

	if (h->nlmsg_type == RTM_NEWLINK)
		*(unsigned *)ctx = (unsigned)i->ifi_index;
}

unsigned nl_ifindex(struct nl *nl, const char *name)
{
	struct ask a;
	unsigned index = 0;

	begin(&a, RTM_GETLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	put(&a, IFLA_IFNAME, name, strlen(name) + 1);
	return ask(nl, &a, see_index, &index) < 0 ? 0 : index;
}

int nl_veth(struct nl *nl, const char *name, const char *peer, int netns, struct err *e)
{
	const struct ifinfomsg none = {.ifi_family = AF_UNSPEC};
	struct rtattr *info, *data, *other;
	struct ask a;
	int r;

	begin(&a, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	put(&a, IFLA_IFNAME, name, strlen(name) + 1);
	info = put(&a, IFLA_LINKINFO, NULL, 0);
	put(&a, IFLA_INFO_KIND, "veth", 5);
	data = put(&a, IFLA_INFO_DATA, NULL, 0);
	other = put(&a, VETH_INFO_PEER, &none, sizeof(none));
	put(&a, IFLA_IFNAME, peer, strlen(peer) + 1);
	put(&a, IFLA_NET_NS_FD, &netns, sizeof(netns));
	nest_end(&a, other);
	nest_end(&a, data);
	nest_end(&a, info);
	r = ask(nl, &a, NULL, NULL);
	return r < 0 ? err_sys(e, r, "a pair of links %s", name) : 0;
}

int nl_delete(struct nl *nl, const char *name)
{
	struct ask a;
	int r;

	begin(&a, RTM_DELLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	put(&a, IFLA_IFNAME, name, strlen(name) + 1);
	r = ask(nl, &a, NULL, NULL);
	return r == -ENODEV ? 0 : r;
}

int nl_up(struct nl *nl, const char *name, struct err *e)
{
	struct ifinfomsg *i;
	struct ask a;
	int r;

	i = begin(&a, RTM_NEWLINK, NLM_F_ACK, sizeof(*i));
	i->ifi_flags = i->ifi_change = IFF_UP;
	put(&a, IFLA_IFNAME, name, strlen(name) + 1);
	r = ask(nl, &a, NULL, NULL);
	return r < 0 ? err_sys(e, r, "link %s", name) : 0;
}

static size_t size_of(const struct priv_prefix *p)
{
	return p->family == AF_INET ? 4 : 16;
}

int nl_address(struct nl *nl, const char *name, const struct priv_prefix *p, struct err *e)
{
	uint32_t flags = IFA_F_NODAD;
	struct ifaddrmsg *m;
	struct ask a;
	int r;

	m = begin(&a, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));
	m->ifa_family = p->family;
	m->ifa_prefixlen = p->len;
	m->ifa_index = nl_ifindex(nl, name);
	put(&a, IFA_LOCAL, p->addr, size_of(p));
	put(&a, IFA_ADDRESS, p->addr, size_of(p));
	put(&a, IFA_FLAGS, &flags, sizeof(flags));
	r = ask(nl, &a, NULL, NULL);
	return r < 0 && r != -EEXIST ? err_sys(e, r, "address of link %s", name) : 0;
}

static int route(struct nl *nl, const char *name, const struct priv_prefix *to, const struct priv_prefix *via,
		 const struct priv_prefix *from, struct err *e)
{
	struct rtmsg *m;
	uint32_t index = nl_ifindex(nl, name);
	struct ask a;
	int r;

	m = begin(&a, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));
	m->rtm_family = to->family;
	m->rtm_dst_len = to->len;
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = RTPROT_STATIC;
	m->rtm_scope = via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	m->rtm_type = RTN_UNICAST;
	m->rtm_flags = via ? RTNH_F_ONLINK : 0;
	if (to->len)
		put(&a, RTA_DST, to->addr, size_of(to));
	if (via)
		put(&a, RTA_GATEWAY, via->addr, size_of(via));
	if (from)
		put(&a, RTA_PREFSRC, from->addr, size_of(from));
	put(&a, RTA_OIF, &index, sizeof(index));
	r = ask(nl, &a, NULL, NULL);
	return r < 0 && r != -EEXIST ? err_sys(e, r, "route through %s", name) : 0;
}

int nl_route(struct nl *nl, const char *name, const struct priv_prefix *to, const struct priv_prefix *via,
	     struct err *e)
{
	return route(nl, name, to, via, NULL, e);
}

int nl_route_from(struct nl *nl, const char *name, const struct priv_prefix *to, const struct priv_prefix *from,
		  struct err *e)
{
	return route(nl, name, to, NULL, from, e);
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

struct looking {
	void (*link)(void *ctx, const char *name);
	void (*address)(void *ctx, const struct priv_prefix *p);
	void *ctx;
	int family;
	bool found;
};

static void see_link(void *ctx, const struct nlmsghdr *h)
{
	struct looking *l = ctx;
	const char *name = h->nlmsg_type == RTM_NEWLINK ? attr_of(h, sizeof(struct ifinfomsg), IFLA_IFNAME) : NULL;

	if (name)
		l->link(l->ctx, name);
}

int nl_links(struct nl *nl, void (*fn)(void *ctx, const char *name), void *ctx)
{
	struct looking l = {.link = fn, .ctx = ctx};
	struct ask a;

	begin(&a, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	return ask(nl, &a, see_link, &l);
}

static void see_address(void *ctx, const struct nlmsghdr *h)
{
	struct looking *l = ctx;
	const struct ifaddrmsg *m = data_of(h);
	struct priv_prefix p = {.family = m->ifa_family, .len = m->ifa_prefixlen};
	const void *addr = NULL;

	if (h->nlmsg_type != RTM_NEWADDR || (p.family != AF_INET && p.family != AF_INET6))
		return;
	addr = attr_of(h, sizeof(*m), IFA_LOCAL);
	if (!addr)
		addr = attr_of(h, sizeof(*m), IFA_ADDRESS);
	if (!addr)
		return;
	memcpy(p.addr, addr, size_of(&p));
	l->address(l->ctx, &p);
}

int nl_addresses(struct nl *nl, void (*fn)(void *ctx, const struct priv_prefix *p), void *ctx)
{
	struct looking l = {.address = fn, .ctx = ctx};
	struct ask a;

	begin(&a, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	return ask(nl, &a, see_address, &l);
}

static void see_route(void *ctx, const struct nlmsghdr *h)
{
	struct looking *l = ctx;
	const struct rtmsg *m = data_of(h);

	if (h->nlmsg_type == RTM_NEWROUTE && m->rtm_family == l->family && m->rtm_dst_len == 0 &&
	    m->rtm_table == RT_TABLE_MAIN && m->rtm_type == RTN_UNICAST)
		l->found = true;
}

bool nl_has_default(struct nl *nl, int family)
{
	struct looking l = {.family = family};
	struct rtmsg *m;
	struct ask a;

	m = begin(&a, RTM_GETROUTE, NLM_F_DUMP, sizeof(*m));
	m->rtm_family = (uint8_t)family;
	return ask(nl, &a, see_route, &l) == 0 && l.found;
}

struct priv_prefix nl_prefix(const char *text)
{
	AUTO(str_free) char *copy = must_strdup(text);
	char *slash = strchr(copy, '/');
	struct priv_prefix p = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};
	uint64_t len = p.family == AF_INET ? 32 : 128;

	if (slash)
		*slash = '\0';
	if (inet_pton(p.family, copy, p.addr) != 1 || (slash && num_u64(slash + 1, len, &len) < 0))
		abort();
	p.len = (uint8_t)len;
	return p;
}
