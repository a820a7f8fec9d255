/* SPDX-License-Identifier: Apache-2.0 */
/* Rules as people say them, messages of the name system, the plan of addresses. */
#include "base/str.h"
#include "host/net/message.h"
#include "host/net/names.h"
#include "host/net/policy.h"
#include "host/priv/net-plan.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

static struct priv_prefix prefix(const char *text)
{
	struct priv_prefix p;

	cr_assert_eq(policy_prefix(text, &p), 0, "%s", text);
	return p;
}

static void line_is(const struct policy *p, const char *wanted)
{
	struct buf b;

	buf_init(&b, POLICY_TEXT_MAX);
	policy_put(p, &b);
	cr_assert_str_eq(buf_str(&b), wanted);
	buf_fini(&b);
}

Test(net, entries)
{
	static const char *const bad[] = { "",	  "a..b",      "*",	"*.",	       "1.2.3", "1.2.3.4/33",
					   "a b", "-/8",       "x.*.y", "::/129",      ".a",	"256.1.1.1",
					   "a/8", "1.2.3.4 5", "+x\n",	"h\xc3\xa4.de" };
	struct policy p = POLICY_NULL;
	struct err e = ERR_NULL;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(policy_allow(&p, bad[i], NULL, &e), -EINVAL, "%s", bad[i]);
	cr_assert_eq(policy_allow(&p, "93.184.216.39/30", NULL, &e), 0);
	cr_assert_eq(policy_allow(&p, "93.184.216.36/30", NULL, &e), 0); /* the same */
	cr_assert_eq(policy_allow(&p, "WWW.Example.org.", NULL, &e), 0);
	cr_assert_eq(policy_allow(&p, "*.example.org", NULL, &e), 0);
	cr_assert_eq(policy_allow(&p, "2a01:4f8::1", NULL, &e), 0);
	cr_assert_eq(policy_deny(&p, "10.0.0.0/8", &e), 0);
	line_is(&p, "off +93.184.216.36/30 +2a01:4f8::1 +www.example.org +*.example.org -10.0.0.0/8");
	p.internet = true;
	cr_assert_eq(policy_deny(&p, "0.0.0.0/0", &e), 0);
	cr_assert_not(p.internet, "everything denied is no internet");
	policy_fini(&p);
}

Test(net, a_line_is_read_as_it_was_written)
{
	static const char line[] = "on +1.2.3.0/24 +*.npmjs.org -5.6.7.8 -bad.example";
	struct policy p, q;

	policy_get(&p, line);
	line_is(&p, line);
	policy_copy(&q, &p);
	policy_fini(&p);
	line_is(&q, line);
	policy_fini(&q);
	policy_get(&p, "off nonsense +1.2.3.4.5 -/ +ok.example");
	line_is(&p, "off +ok.example");
	policy_fini(&p);
}

Test(net, what_may_be_asked_for)
{
	struct policy p;

	policy_get(&p, "off +example.org +*.cdn.example");
	cr_assert_eq(policy_name(&p, "example.org"), POLICY_ALLOWED);
	cr_assert_eq(policy_name(&p, "www.example.org"), POLICY_REFUSED);
	cr_assert_eq(policy_name(&p, "a.b.cdn.example"), POLICY_ALLOWED);
	cr_assert_eq(policy_name(&p, "cdn.example"), POLICY_REFUSED);
	cr_assert_eq(policy_name(&p, "evilcdn.example"), POLICY_REFUSED);
	cr_assert_eq(policy_name(&p, ""), POLICY_REFUSED);
	policy_fini(&p);
	policy_get(&p, "on -*.ads.example -x.example +ok.ads.example");
	cr_assert_eq(policy_name(&p, "a.ads.example"), POLICY_REFUSED);
	cr_assert_eq(policy_name(&p, "ok.ads.example"), POLICY_ALLOWED);
	cr_assert_eq(policy_name(&p, "x.example"), POLICY_REFUSED);
	cr_assert_eq(policy_name(&p, "y.example"), POLICY_OPEN);
	policy_fini(&p);
}

Test(net, the_fence)
{
	static const char *const inside[] = {
		"0.0.0.0",     "10.1.2.3",	 "100.64.0.1",	  "100.100.100.200", "127.0.0.1",   "169.254.169.254",
		"172.16.0.1",  "172.31.255.255", "192.168.1.1",	  "198.18.0.1",	     "198.19.0.1",  "224.0.0.1",
		"239.1.1.1",   "255.255.255.255", "168.63.129.16", "::",	     "::1",	    "::ffff:1.2.3.4",
		"64:ff9b::1",  "fc00::1",	 "fd00:ec2::254", "fe80::1",	     "ff02::1",	    "2002:a00:1::",
		"2001:0:1::1", "2001:db8::1",	 "192.0.0.192",	  "10.0.0.0/8",
	};
	static const char *const outside[] = { "1.1.1.1",     "9.255.255.255",	 "11.0.0.0",	"100.63.255.255",
					       "100.128.0.0", "172.15.0.1",	 "172.32.0.1",	"192.169.0.1",
					       "198.20.0.1",  "223.255.255.255", "2606:4700::", "2a01:4f8::1",
					       "2001:4860::", "0.0.0.0/0",	 "8.0.0.0/6" };
	const struct priv_prefix ours = prefix("10.20.0.0/16");
	const struct policy_private may = { .v = &ours, .n = 1 };
	struct policy p = POLICY_NULL;
	struct err e = ERR_NULL;
	struct priv_prefix x;
	size_t i;

	for (i = 0; i < ARRAY_LEN(inside); i++) {
		x = prefix(inside[i]);
		cr_assert(priv_net_fenced(&x), "%s", inside[i]);
	}
	for (i = 0; i < ARRAY_LEN(outside); i++) {
		x = prefix(outside[i]);
		cr_assert_not(priv_net_fenced(&x), "%s", outside[i]);
	}
	cr_assert_eq(policy_allow(&p, "10.20.3.0/24", &may, &e), 0);
	cr_assert_eq(policy_allow(&p, "10.0.0.0/8", &may, &e), -EPERM);
	cr_assert_str_eq(e.slug, "network-private");
	cr_assert_eq(policy_allow(&p, "169.254.169.254", &may, &e), -EPERM);
	policy_fini(&p);
}

Test(net, homes_of_ranges)
{
	struct priv_prefix p;
	uint32_t range, got;

	for (range = 0; range < 4096; range++) {
		p = net_plan_home(range, range % 2 ? AF_INET : AF_INET6);
		cr_assert_eq(priv_net_home(&p, &got), 0);
		cr_assert_eq(got, range);
		cr_assert(priv_net_fenced(&p));
	}
	p = prefix("fd62:6572:7468:1::1");
	cr_assert_eq(priv_net_home(&p, &got), -ENOENT);
	p = prefix("fd62:6572:7468:2::1000");
	cr_assert_eq(priv_net_home(&p, &got), -ENOENT);
	p = prefix("198.19.15.255");
	cr_assert_eq(priv_net_home(&p, &got), -ENOENT);
	p = prefix("198.18.16.1");
	cr_assert_eq(priv_net_home(&p, &got), -ENOENT);
}

Test(net, tags_go_with_the_list_of_names)
{
	struct priv_net_policy *a = calloc(2, sizeof(*a)), *b = a + 1;
	struct policy p;

	policy_get(&p, "off +a.example +1.2.3.4");
	policy_compile(&p, 3, "one", a);
	policy_compile(&p, 3, "two", b);
	cr_assert_neq(a->tag, b->tag, "another sandbox");
	cr_assert_eq(a->n_allow, 1);
	cr_assert_eq(a->open, 0);
	policy_fini(&p);
	policy_get(&p, "on +a.example");
	policy_compile(&p, 3, "one", b);
	cr_assert_eq(a->tag, b->tag, "the same names");
	policy_fini(&p);
	policy_get(&p, "on +b.example");
	policy_compile(&p, 3, "one", b);
	cr_assert_neq(a->tag, b->tag, "other names");
	policy_fini(&p);
	free(a);
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static const uint8_t query[] = { 0x12, 0x34, 1,	  0,   0,   1,	 0,   0,   0,	0,   0,	  0,   3,  'W',
				 'w',  'W',  7,	  'e', 'x', 'a', 'm', 'p', 'l', 'e', 0,	  0,   1,  0, 1 };

Test(net, question)
{
	uint8_t m[sizeof(query)];
	struct question q;
	size_t len;

	memcpy(m, query, sizeof(m));
	cr_assert_eq(message_question(SPAN(m, sizeof(m)), false, &q), 0);
	cr_assert_str_eq(q.name, "www.example");
	cr_assert_eq(q.type, 1);
	cr_assert_eq(q.end, sizeof(m));
	cr_assert_eq(message_question(SPAN(m, sizeof(m)), true, &q), -EINVAL, "a query is no answer");
	for (len = 0; len < sizeof(m); len++)
		cr_assert_eq(message_question(SPAN(m, len), false, &q), -EINVAL, "%zu bytes", len);
	m[12] = 0xc0; /* a pointer, in a question */
	cr_assert_eq(message_question(SPAN(m, sizeof(m)), false, &q), -EINVAL);
	memcpy(m, query, sizeof(m));
	m[14] = '.'; /* a dot that is no border */
	cr_assert_eq(message_question(SPAN(m, sizeof(m)), false, &q), 0);
	cr_assert_str_eq(q.name, "w\\046w.example");
	cr_assert_eq(message_refuse(m, q.end, MESSAGE_NXDOMAIN), sizeof(m));
	cr_assert_eq(message_question(SPAN(m, sizeof(m)), true, &q), 0, "what is refused is an answer");
	cr_assert_eq(m[3] & 15, MESSAGE_NXDOMAIN);
}

struct seen {
	struct priv_prefix v[8];
	size_t n;
};

static void see(void *ctx, const struct priv_prefix *p)
{
	struct seen *s = ctx;

	s->v[s->n++ % 8] = *p;
}

Test(net, answers)
{
	static const uint8_t tail[] = { 0xc0, 12, 0, 1,	 0, 1, 0, 0,	0x1c, 0x20, 0, 4, 93, 184, 216, 34,
					0xc0, 12, 0, 28, 0, 1, 0, 0,	0,    9,    0, 16, 0x2a, 1, 4, 0xf8,
					0,    0,  0, 0,	 0, 0, 0, 0,	0,    0,    0, 1,
					0,    0,  41, 4, 208, 0, 0, 0x80, 0, 0, 0 };
	uint8_t m[sizeof(query) + sizeof(tail)];
	struct seen s = { .n = 0 };
	size_t len;

	memcpy(m, query, sizeof(query));
	memcpy(m + sizeof(query), tail, sizeof(tail));
	m[2] |= 0x80;
	m[7] = 2;
	m[11] = 1;
	cr_assert_eq(message_answers(m, sizeof(m), 3600, see, &s), 3600);
	cr_assert_eq(s.n, 2);
	cr_assert_eq(s.v[0].addr[0], 93);
	cr_assert_eq(s.v[1].family, AF_INET6);
	cr_assert_eq(m[sizeof(query) + 8] << 8 | m[sizeof(query) + 9], 3600, "a time to live is lowered");
	cr_assert_eq(m[sizeof(m) - 4], 0x80, "that of OPT is none");
	for (len = 0; len < sizeof(m); len++)
		cr_assert_eq(message_answers(m, len, 3600, see, &s), -EINVAL, "%zu bytes", len);
	m[sizeof(query) + 11] = 5; /* an address of five bytes */
	cr_assert_eq(message_answers(m, sizeof(m), 3600, see, &s), -EINVAL);
}

Test(net, a_question_of_ours)
{
	uint8_t m[MESSAGE_ASK_MAX];
	struct question q;
	size_t len = message_ask(m, 0x1234, "www.example", MESSAGE_AAAA);

	cr_assert_eq(message_question(SPAN(m, len), false, &q), 0);
	cr_assert_eq(message_id(m), 0x1234);
	cr_assert_str_eq(q.name, "www.example");
	cr_assert_eq(q.type, MESSAGE_AAAA);
	cr_assert_eq(q.end, len);
}

Test(net, resolvers)
{
	struct priv_prefix v[3];

	cr_assert_eq(names_resolvers("# x\nsearch a\nnameserver 10.0.0.2\n nameserver\t::1\nnameserver x\noptions y\n",
				     true, v, 3),
		     2);
	cr_assert_eq(v[0].addr[3], 2);
	cr_assert_eq(v[1].family, AF_INET6);
	cr_assert_eq(names_resolvers("1.1.1.1, 8.8.8.8,9.9.9.9,1.0.0.1", false, v, 3), 3);
	cr_assert_eq(names_resolvers("", false, v, 3), 0);
}
