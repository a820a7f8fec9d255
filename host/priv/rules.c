/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox may reach is elements of sets and maps, keyed by its address; the chains never change. That address is
 * believed since the first chain lets a packet pass only from the link that it belongs to.
 *
 * A connection that was once let through carries a mark made of the sandbox's policy. As long as the policy is the same
 * its packets pass at once, also when the name that allowed it has expired; after a change they are judged anew.
 * Addresses that were learned from names are keyed by a tag of the sandbox and its list of names, so that they are
 * void together with the list; they need not be found to be removed.
 */
#include "host/priv/rules.h"

#include "base/buf.h"
#include "base/str.h"
#include "host/priv/net-plan.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { TEXT_MAX = 4 * 1024 * 1024, WORDS = 120 };

struct rules {
	struct nft_ctx *nft;
};

int rules_open(struct rules **ret, struct err *e)
{
	struct rules *r = NEW(struct rules);

	r->nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!r->nft || nft_ctx_buffer_error(r->nft) || nft_ctx_buffer_output(r->nft)) {
		rules_close(&r);
		return err_set(e, -ENOSYS, "no-nft", "nftables does not work here");
	}
	*ret = r;
	return 0;
}

void rules_close(struct rules **rules)
{
	if (*rules && (*rules)->nft)
		nft_ctx_free((*rules)->nft);
	mem_free(rules);
}

/* Consumes the text. */
static int run(struct rules *rules, struct buf *text, const char *what, struct err *e)
{
	char words[WORDS];
	const char *from;
	int r;

	if (text->failed) {
		buf_fini(text);
		return err_set(e, -E2BIG, "limit", "%s: too many rules", what);
	}
	errno = 0;
	r = nft_run_cmd_from_buffer(rules->nft, buf_str(text));
	buf_fini(text);
	if (r == 0)
		return 0;
	from = nft_ctx_get_error_buffer(rules->nft);
	snprintf(words, sizeof(words), "%.*s", (int)strcspn(from ? from : "", "\n"), from ? from : "");
	return err_set(e, -EIO, "no-nft", "%s: nftables: %s", what, words);
}

/* --- the tables --------------------------------------------------------------------------------------------------- */

/* %s: elements of the fences and of what may be allowed behind them. */
static const char sets[] =
	"add table inet berth\n"
	"add set inet berth homes4 { typeof iifname . ip saddr; }\n"
	"add set inet berth homes6 { typeof iifname . ip6 saddr; }\n"
	"add set inet berth fence4 { type ipv4_addr; flags interval; }\n"
	"add set inet berth fence6 { type ipv6_addr; flags interval; }\n"
	"add set inet berth may4 { type ipv4_addr; flags interval; auto-merge; }\n"
	"add set inet berth may6 { type ipv6_addr; flags interval; auto-merge; }\n"
	"add set inet berth own4 { type ipv4_addr; }\n"
	"add set inet berth own6 { type ipv6_addr; }\n"
	"add set inet berth allow4 { type ipv4_addr . ipv4_addr; flags interval; }\n"
	"add set inet berth allow6 { type ipv6_addr . ipv6_addr; flags interval; }\n"
	"add set inet berth deny4 { type ipv4_addr . ipv4_addr; flags interval; }\n"
	"add set inet berth deny6 { type ipv6_addr . ipv6_addr; flags interval; }\n"
	"add set inet berth name4 { typeof meta mark . ip daddr; flags timeout; size 262144; }\n"
	"add set inet berth name6 { typeof meta mark . ip6 daddr; flags timeout; size 262144; }\n"
	"add set inet berth open4 { type ipv4_addr; }\n"
	"add set inet berth open6 { type ipv6_addr; }\n"
	"add set inet berth proxied4 { type ipv4_addr; }\n"
	"add set inet berth proxied6 { type ipv6_addr; }\n"
	"add set inet berth live4 { typeof ip saddr . ct mark; }\n"
	"add set inet berth live6 { typeof ip6 saddr . ct mark; }\n"
	"add map inet berth mark4 { typeof ip saddr : ct mark; }\n"
	"add map inet berth mark6 { typeof ip6 saddr : ct mark; }\n"
	"add map inet berth tag4 { typeof ip saddr : meta mark; }\n"
	"add map inet berth tag6 { typeof ip6 saddr : meta mark; }\n"
	"add set inet berth many4 { type ipv4_addr; flags dynamic; size 65535; }\n"
	"add set inet berth many6 { type ipv6_addr; flags dynamic; size 65535; }\n"
	"flush table inet berth\n"
	"flush set inet berth fence4\nflush set inet berth fence6\n"
	"flush set inet berth may4\nflush set inet berth may6\n";

static const char chains[] =
	"table inet berth {\n"
	"chain refuse {\n"
	"	meta l4proto tcp reject with tcp reset\n"
	"	reject with icmpx type admin-prohibited\n"
	"}\n"
	/* Whose packet is it? Neighbour discovery is all that comes from an address of the link's own. */
	"chain home {\n"
	"	iifname . ip saddr @homes4 return\n"
	"	iifname . ip6 saddr @homes6 return\n"
	"	ip6 saddr fe80::/10 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return\n"
	"	drop\n"
	"}\n"
	"chain prerouting {\n"
	"	type filter hook prerouting priority raw; policy accept;\n"
	"	iifname \"s*\" jump home\n"
	"}\n"
	/* The TCP of a sandbox with a proxy is judged by where it was meant to go, packet by packet, and then turned to
	 * whoever speaks with proxies. */
	"chain judge {\n"
	"	type filter hook prerouting priority mangle; policy accept;\n"
	"	meta l4proto != tcp accept\n"
	"	iifname \"s*\" ip saddr @proxied4 ip daddr != 198.19.0.1 goto out4\n"
	"	iifname \"s*\" ip6 saddr @proxied6 goto out6\n"
	"}\n"
	"chain turn {\n"
	"	type nat hook prerouting priority dstnat; policy accept;\n"
	"	iifname \"s*\" ip saddr @proxied4 ip daddr != 198.19.0.1 meta l4proto tcp dnat ip to 198.19.0.1:1080\n"
	"	iifname \"s*\" ip6 saddr @proxied6 meta l4proto tcp dnat ip6 to [fd62:6572:7468:1::1]:1080\n"
	"}\n"
	"chain input {\n"
	"	type filter hook input priority filter; policy drop;\n"
	"	iifname \"lo\" accept\n"
	"	icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
	"	iifname \"" RULES_UPLINK "\" ct state established,related accept\n"
	"	iifname \"" RULES_UPLINK "\" drop\n"
	"	ip daddr 198.19.0.1 meta l4proto { tcp, udp } th dport 53 accept\n"
	"	ip daddr 198.19.0.1 icmp type echo-request accept\n"
	"	ct status dnat ip saddr @proxied4 ip daddr 198.19.0.1 tcp dport 1080 accept\n"
	"	ct status dnat ip6 saddr @proxied6 ip6 daddr fd62:6572:7468:1::1 tcp dport 1080 accept\n"
	"	goto refuse\n"
	"}\n"
	"chain pass4 {\n"
	"	ct state new add @many4 { ip saddr ct count over 8192 } goto refuse\n"
	"	ct mark set ip saddr map @mark4 accept\n"
	"}\n"
	"chain pass6 {\n"
	"	ct state new add @many6 { ip6 saddr ct count over 8192 } goto refuse\n"
	"	ct mark set ip6 saddr map @mark6 accept\n"
	"}\n"
	/* Behind the fence lies only what the operator named, and only for whom a rule allows it. */
	"chain fenced4 {\n"
	"	ip daddr @may4 ip saddr . ip daddr @allow4 goto pass4\n"
	"	goto refuse\n"
	"}\n"
	"chain fenced6 {\n"
	"	ip6 daddr @may6 ip6 saddr . ip6 daddr @allow6 goto pass6\n"
	"	goto refuse\n"
	"}\n"
	"chain out4 {\n"
	"	ip daddr @own4 goto refuse\n"
	"	ct state established,related ip saddr . ct mark @live4 accept\n"
	"	ip daddr @fence4 goto fenced4\n"
	"	meta mark set ip saddr map @tag4\n"
	"	ip saddr . ip daddr @allow4 goto pass4\n"
	"	meta mark . ip daddr @name4 goto pass4\n"
	"	ip saddr . ip daddr @deny4 goto refuse\n"
	"	ip saddr @open4 goto pass4\n"
	"	goto refuse\n"
	"}\n"
	"chain out6 {\n"
	"	ip6 daddr @own6 goto refuse\n"
	"	ct state established,related ip6 saddr . ct mark @live6 accept\n"
	"	ip6 daddr @fence6 goto fenced6\n"
	"	meta mark set ip6 saddr map @tag6\n"
	"	ip6 saddr . ip6 daddr @allow6 goto pass6\n"
	"	meta mark . ip6 daddr @name6 goto pass6\n"
	"	ip6 saddr . ip6 daddr @deny6 goto refuse\n"
	"	ip6 saddr @open6 goto pass6\n"
	"	goto refuse\n"
	"}\n"
	"chain forward {\n"
	"	type filter hook forward priority filter; policy drop;\n"
	"	iifname \"" RULES_UPLINK "\" ct state established,related accept\n"
	"	iifname \"" RULES_UPLINK "\" drop\n"
	"	oifname != \"" RULES_UPLINK "\" goto refuse\n"
	"	ip saddr @proxied4 goto refuse\n"
	"	ip6 saddr @proxied6 goto refuse\n"
	"	meta nfproto ipv4 goto out4\n"
	"	meta nfproto ipv6 goto out6\n"
	"}\n"
	/* Connections to proxies, which the router itself makes: nowhere where sandboxes may not go, and to none of
	   them. */
	"chain output {\n"
	"	type filter hook output priority filter; policy accept;\n"
	"	meta l4proto != tcp accept\n"
	"	ct state != new accept\n"
	"	oifname != \"" RULES_UPLINK "\" goto refuse\n"
	"	ip daddr @own4 goto refuse\n"
	"	ip6 daddr @own6 goto refuse\n"
	"	ip daddr @may4 accept\n"
	"	ip6 daddr @may6 accept\n"
	"	ip daddr @fence4 goto refuse\n"
	"	ip6 daddr @fence6 goto refuse\n"
	"}\n"
	"chain postrouting {\n"
	"	type nat hook postrouting priority srcnat; policy accept;\n"
	"	oifname \"" RULES_UPLINK "\" masquerade\n"
	"}\n"
	"}\n";

static void put_member(struct buf *b, const char *set, const struct priv_prefix *p)
{
	char text[NET_TEXT_MAX];

	buf_printf(b, "add element inet berth %s%c { %s }\n", set, p->family == AF_INET ? '4' : '6',
		   net_plan_text(p, text));
}

int rules_router(struct rules *rules, const struct priv_prefix *may, size_t n, struct err *e)
{
	struct buf b;
	size_t i;

	buf_init(&b, TEXT_MAX);
	buf_append(&b, sets, sizeof(sets) - 1);
	for (i = 0; net_plan_fence(i); i++)
		buf_printf(&b, "add element inet berth fence%c { %s }\n", strchr(net_plan_fence(i), ':') ? '6' : '4',
			   net_plan_fence(i));
	for (i = 0; i < n; i++)
		put_member(&b, "may", &may[i]);
	buf_append(&b, chains, sizeof(chains) - 1);
	return run(rules, &b, "the router's rules", e);
}

/* Nothing of a sandbox reaches the host itself, by whatever address; nobody from outside reaches the router. */
int rules_host(struct rules *rules, const char *name, const char *link, uint32_t at, struct err *e)
{
	const struct priv_prefix of4 = net_plan_uplink(at, AF_INET, false), of6 = net_plan_uplink(at, AF_INET6, false);
	char t4[NET_TEXT_MAX], t6[NET_TEXT_MAX];
	struct buf b;

	net_plan_text(&of4, t4);
	net_plan_text(&of6, t6);
	*strchr(t4, '/') = *strchr(t6, '/') = '\0';
	buf_init(&b, TEXT_MAX);
	buf_printf(&b,
		   "add table inet %s\nflush table inet %s\ntable inet %s {\n"
		   "chain input {\n"
		   "	type filter hook input priority -10; policy accept;\n"
		   "	iifname != \"%s\" accept\n"
		   "	icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
		   "	meta l4proto tcp reject with tcp reset\n"
		   "	reject with icmpx type admin-prohibited\n"
		   "}\n"
		   "chain forward {\n"
		   "	type filter hook forward priority -10; policy accept;\n"
		   "	oifname \"%s\" ct state established,related accept\n"
		   "	oifname \"%s\" drop\n"
		   "	iifname \"%s\" ip saddr != %s drop\n"
		   "	iifname \"%s\" ip6 saddr != %s drop\n"
		   "}\n"
		   "chain postrouting {\n"
		   "	type nat hook postrouting priority srcnat; policy accept;\n"
		   "	ip saddr %s oifname != \"%s\" masquerade\n"
		   "	ip6 saddr %s oifname != \"%s\" masquerade\n"
		   "}\n"
		   "}\n",
		   name, name, name, link, link, link, link, t4, link, t6, t4, link, t6, link);
	return run(rules, &b, "the host's rules", e);
}

int rules_drop(struct rules *rules, const char *name)
{
	struct buf b;

	buf_init(&b, TEXT_MAX);
	buf_printf(&b, "add table inet %s\ndelete table inet %s\n", name, name);
	return run(rules, &b, "rules", NULL);
}

bool rules_blocked(struct rules *rules, char *to, size_t size)
{
	AUTO(str_free) char *all = NULL;
	const char *table = "?";
	char *line, *save = NULL;

	if (nft_run_cmd_from_buffer(rules->nft, "list chains") != 0)
		return false;
	all = must_strdup(nft_ctx_get_output_buffer(rules->nft));
	for (line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (str_starts(line, "table "))
			table = line;
		if (strstr(line, "hook forward") && strstr(line, "policy drop")) {
			snprintf(to, size, "%.*s", (int)strcspn(table, "{") - 1, table);
			return true;
		}
	}
	return false;
}

/* --- what one sandbox may reach ----------------------------------------------------------------------------------- */

/* The same for the same policy, so that a daemon that starts anew cuts nothing. */
static uint32_t mark_of(const struct priv_net_policy *p)
{
	uint32_t h = 2166136261U;
	size_t i, k;

#define MIX(v) (h = (h ^ (uint32_t)(v)) * 16777619U)
	MIX(p->range);
	MIX(p->open);
	if (p->proxied) /* else as a daemon that knew of no proxies had it */
		MIX(p->proxied);
	MIX(p->tag);
	MIX(p->n_allow);
	for (i = 0; i < p->n_allow + p->n_deny; i++) {
		const struct priv_prefix *x = i < p->n_allow ? &p->allow[i] : &p->deny[i - p->n_allow];

		MIX(x->len);
		for (k = 0; k < sizeof(x->addr); k++)
			MIX(x->addr[k]);
	}
#undef MIX
	return h | 1;
}

/* Ranges in one set must not overlap: what lies in a wider one is left out, of equals the first stays. */
static bool is_covered(const struct priv_prefix *v, size_t n, size_t i)
{
	size_t k;

	for (k = 0; k < n; k++)
		if (k != i && net_plan_within(&v[i], &v[k]) && (v[k].len < v[i].len || k < i))
			return true;
	return false;
}

static void put_list(struct buf *b, const char *verb, const char *set, uint32_t range, const struct priv_prefix *v,
		     size_t n)
{
	char of[NET_TEXT_MAX], to[NET_TEXT_MAX];
	size_t i;

	for (i = 0; i < n; i++) {
		struct priv_prefix home = net_plan_home(range, v[i].family);

		if (!is_covered(v, n, i))
			buf_printf(b, "%s element inet berth %s%c { %s . %s }\n", verb, set,
				   v[i].family == AF_INET ? '4' : '6', net_plan_text(&home, of),
				   net_plan_text(&v[i], to));
	}
}

static void put_policy(struct buf *b, const char *verb, const struct priv_net_policy *p)
{
	static const int families[] = {AF_INET, AF_INET6};
	uint32_t mark = mark_of(p);
	size_t i;

	for (i = 0; i < ARRAY_LEN(families); i++) {
		const struct priv_prefix home = net_plan_home(p->range, families[i]);
		char text[NET_TEXT_MAX], v = families[i] == AF_INET ? '4' : '6';

		net_plan_text(&home, text);
		buf_printf(b, "%s element inet berth homes%c { \"" RULES_HOME "%u\" . %s }\n", verb, v, p->range, text);
		buf_printf(b, "%s element inet berth mark%c { %s : %u }\n", verb, v, text, mark);
		buf_printf(b, "%s element inet berth live%c { %s . %u }\n", verb, v, text, mark);
		buf_printf(b, "%s element inet berth tag%c { %s : %u }\n", verb, v, text, p->tag);
		if (p->open)
			buf_printf(b, "%s element inet berth open%c { %s }\n", verb, v, text);
		if (p->proxied)
			buf_printf(b, "%s element inet berth proxied%c { %s }\n", verb, v, text);
	}
	put_list(b, verb, "allow", p->range, p->allow, p->n_allow);
	put_list(b, verb, "deny", p->range, p->deny, p->n_deny);
}

int rules_change(struct rules *rules, const struct priv_net_policy *was, const struct priv_net_policy *now,
		 struct err *e)
{
	struct buf b;

	buf_init(&b, TEXT_MAX);
	if (was)
		put_policy(&b, "delete", was);
	if (now)
		put_policy(&b, "add", now);
	return run(rules, &b, "rules of a sandbox", e);
}

int rules_settle(struct rules *rules, struct priv_net_policy *const *v, size_t n, struct err *e)
{
	static const char *const all[] = {"set inet berth homes", "set inet berth allow", "set inet berth deny",
					  "set inet berth open",  "set inet berth live",  "set inet berth proxied",
					  "map inet berth mark",  "map inet berth tag"};
	struct buf b;
	size_t i;

	buf_init(&b, TEXT_MAX);
	for (i = 0; i < ARRAY_LEN(all); i++)
		buf_printf(&b, "flush %s4\nflush %s6\n", all[i], all[i]);
	for (i = 0; i < n; i++)
		if (v[i])
			put_policy(&b, "add", v[i]);
	return run(rules, &b, "rules of sandboxes", e);
}

int rules_names(struct rules *rules, uint32_t tag, uint32_t life_s, const struct priv_prefix *v, size_t n,
		struct err *e)
{
	struct buf b;
	size_t i;

	buf_init(&b, TEXT_MAX);
	for (i = 0; i < n; i++) {
		char text[NET_TEXT_MAX], f = v[i].family == AF_INET ? '4' : '6';

		net_plan_text(&v[i], text);
		/* Its life begins anew, which older kernels do not do for one that is there. */
		buf_printf(&b,
			   "add element inet berth name%c { %u . %s }\ndelete element inet berth name%c { %u . %s }\n"
			   "add element inet berth name%c { %u . %s timeout %us }\n",
			   f, tag, text, f, tag, text, f, tag, text, life_s);
	}
	return run(rules, &b, "addresses of a name", e);
}

int rules_own(struct rules *rules, const struct priv_prefix *v, size_t n, struct err *e)
{
	struct buf b;
	size_t i;

	buf_init(&b, TEXT_MAX);
	buf_printf(&b, "flush set inet berth own4\nflush set inet berth own6\n");
	for (i = 0; i < n; i++)
		put_member(&b, "own", &v[i]);
	return run(rules, &b, "the host's addresses", e);
}
