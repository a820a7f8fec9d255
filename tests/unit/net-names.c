/* SPDX-License-Identifier: Apache-2.0 */
/* The forwarder of names, between somebody who asks and a resolver that this test is, over the loopback. */
#include "base/io.h"
#include "base/str.h"
#include "host/net/names.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 20000, RANGES = 4 };

struct rig {
	struct names *names;
	int up_udp, up_tcp; /* the resolver */
	int me, other;	    /* who ask, of ranges 0 and 1 */
	struct sockaddr_in at;
	pthread_mutex_t lock;
	unsigned learned;
	uint32_t life_s;
	int refuse; /* what learn() returns */
};

static struct rig rig;

static int home(const struct priv_prefix *from, uint32_t *ret)
{
	*ret = from->addr[3] - 1U;
	return from->addr[0] == 127 ? 0 : -ENOENT;
}

static enum policy_verdict judge(void *ctx, uint32_t range, const char *name)
{
	(void)ctx;
	cr_assert_lt(range, (uint32_t)RANGES);
	return str_eq(name, "allowed.example") ? POLICY_ALLOWED
	       : str_eq(name, "no.example")    ? POLICY_REFUSED
					       : POLICY_OPEN;
}

static int learn(void *ctx, uint32_t range, uint32_t life_s, const struct priv_prefix *v, size_t n)
{
	(void)ctx;
	(void)range;
	(void)v;
	pthread_mutex_lock(&rig.lock);
	rig.learned += (unsigned)n;
	rig.life_s = life_s;
	pthread_mutex_unlock(&rig.lock);
	return rig.refuse;
}

static bool hides(void *ctx, uint32_t range, const struct priv_prefix *p)
{
	(void)ctx;
	(void)range;
	return priv_net_fenced(p);
}

static int open_socket(int type, struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	if (type == SOCK_STREAM)
		cr_assert_eq(listen(fd, 64), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

static int asker(const char *address)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	int fd;

	cr_assert_eq(inet_pton(AF_INET, address, &at.sin_addr), 1);
	fd = open_socket(SOCK_DGRAM, &at);
	cr_assert_eq(connect(fd, (struct sockaddr *)&rig.at, sizeof(rig.at)), 0);
	return fd;
}

static void setup(void)
{
	struct sockaddr_in up = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } }, tcp = up;
	struct names_conf c = { .ranges = RANGES, .home = home, .judge = judge, .learn = learn, .hides = hides,
				/* nobody is at the first */
				.dns = "127.0.0.77,127.0.0.1" };
	struct err e = ERR_NULL;

	rig = (struct rig){ .lock = PTHREAD_MUTEX_INITIALIZER, .at = up };
	rig.up_udp = open_socket(SOCK_DGRAM, &up);
	tcp.sin_port = up.sin_port;
	rig.up_tcp = open_socket(SOCK_STREAM, &tcp);
	c.port = ntohs(up.sin_port);
	c.udp = open_socket(SOCK_DGRAM, &rig.at);
	tcp = rig.at;
	c.tcp = open_socket(SOCK_STREAM, &tcp);
	cr_assert_eq(fd_nonblock(c.udp, true), 0);
	cr_assert_eq(fd_nonblock(c.tcp, true), 0);
	rig.me = asker("127.0.0.1");
	rig.other = asker("127.0.0.2");
	cr_assert_eq(names_start(&c, &rig.names, &e), 0, "%s", e.text);
}

static void teardown(void)
{
	names_stop(&rig.names);
	close(rig.up_udp);
	close(rig.up_tcp);
	close(rig.me);
	close(rig.other);
}

TestSuite(names, .init = setup, .fini = teardown);

static size_t make_query(uint8_t *m, uint16_t id, const char *name)
{
	size_t at = 12;

	memset(m, 0, 12);
	message_set_id(m, id);
	m[2] = 1;
	m[5] = 1;
	while (*name) {
		size_t len = strcspn(name, ".");

		m[at++] = (uint8_t)len;
		memcpy(m + at, name, len);
		at += len;
		name += len + (name[len] == '.');
	}
	memcpy(m + at, "\0\0\1\0\1", 5);
	return at + 5;
}

static void ask(uint16_t id, const char *name)
{
	uint8_t m[512];
	size_t len = make_query(m, id, name);

	cr_assert_eq(send(rig.me, m, len, 0), (ssize_t)len);
}

static size_t wait_for(int fd, uint8_t *m, size_t size, struct sockaddr_in *from)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	socklen_t len = sizeof(*from);
	ssize_t n;

	cr_assert_eq(poll(&p, 1, WAIT_MS), 1, "nothing came");
	n = recvfrom(fd, m, size, 0, (struct sockaddr *)from, from ? &len : NULL);
	cr_assert_gt(n, 0);
	return (size_t)n;
}

/* An answer with one address. */
static size_t add_answer(uint8_t *m, size_t len, const char *address, uint32_t ttl)
{
	uint8_t rr[16] = { 0xc0, 12, 0, 1, 0, 1, (uint8_t)(ttl >> 24), (uint8_t)(ttl >> 16), (uint8_t)(ttl >> 8),
			   (uint8_t)ttl, 0, 4 };

	cr_assert_eq(inet_pton(AF_INET, address, rr + 12), 1);
	memcpy(m + len, rr, sizeof(rr));
	m[2] |= 0x80;
	m[7]++;
	return len + sizeof(rr);
}

/* The resolver's turn. */
static void answer(const char *address, uint32_t ttl)
{
	struct sockaddr_in from;
	uint8_t m[600];
	size_t len = wait_for(rig.up_udp, m, 512, &from);

	len = add_answer(m, len, address, ttl);
	cr_assert_eq(sendto(rig.up_udp, m, len, 0, (struct sockaddr *)&from, sizeof(from)), (ssize_t)len);
}

static unsigned reply(uint16_t id, unsigned *ret_records)
{
	uint8_t m[1024];
	size_t len = wait_for(rig.me, m, sizeof(m), NULL);

	cr_assert_geq(len, (size_t)12);
	cr_assert_eq(message_id(m), id);
	*ret_records = m[7];
	return m[3] & 15;
}

Test(names, open_allowed_refused)
{
	unsigned n;

	ask(7, "open.example");
	answer("93.184.216.34", 300);
	cr_assert_eq(reply(7, &n), 0);
	cr_assert_eq(n, 1);
	cr_assert_eq(rig.learned, 0, "what is open anyway is not learned");
	ask(8, "allowed.example");
	answer("93.184.216.34", 300);
	cr_assert_eq(reply(8, &n), 0);
	cr_assert_eq(rig.learned, 1);
	cr_assert_eq(rig.life_s, 360);
	ask(9, "no.example");
	cr_assert_eq(reply(9, &n), MESSAGE_NXDOMAIN);
	cr_assert_eq(n, 0);
}

Test(names, what_may_not_be_told)
{
	unsigned n;

	ask(7, "open.example");
	answer("10.0.0.1", 300);
	cr_assert_eq(reply(7, &n), MESSAGE_NXDOMAIN);
	cr_assert_eq(n, 0);
	rig.refuse = -EIO; /* the filter could not be told */
	ask(8, "allowed.example");
	answer("93.184.216.34", 300);
	cr_assert_eq(reply(8, &n), MESSAGE_NXDOMAIN);
}

Test(names, somebody_guesses)
{
	struct sockaddr_in from;
	uint8_t m[600], other[600];
	size_t len;
	unsigned n;

	ask(7, "open.example");
	len = wait_for(rig.up_udp, m, 512, &from);
	len = add_answer(m, len, "93.184.216.34", 60);
	memcpy(other, m, len);
	message_set_id(other, (uint16_t)(message_id(m) + 1));
	cr_assert_eq(sendto(rig.up_udp, other, len, 0, (struct sockaddr *)&from, sizeof(from)), (ssize_t)len);
	memcpy(other, m, len);
	other[13] ^= 1; /* another question */
	cr_assert_eq(sendto(rig.up_udp, other, len, 0, (struct sockaddr *)&from, sizeof(from)), (ssize_t)len);
	cr_assert_eq(sendto(rig.up_udp, m, 11, 0, (struct sockaddr *)&from, sizeof(from)), 11);
	cr_assert_eq(sendto(rig.up_udp, m, len, 0, (struct sockaddr *)&from, sizeof(from)), (ssize_t)len);
	cr_assert_eq(reply(7, &n), 0);
	cr_assert_eq(n, 1);
}

Test(names, tcp)
{
	uint8_t q[512], m[600], head[2];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), up;
	size_t len = make_query(q + 2, 5, "open.example");

	q[0] = 0;
	q[1] = (uint8_t)len;
	cr_assert_eq(connect(fd, (struct sockaddr *)&rig.at, sizeof(rig.at)), 0);
	cr_assert_eq(io_write_full(fd, q, 3), 0); /* in pieces */
	cr_assert_eq(io_write_full(fd, q + 3, len - 1), 0);
	up = accept(rig.up_tcp, NULL, NULL);
	cr_assert_geq(up, 0);
	cr_assert_eq(io_read_full(up, head, 2), 0);
	cr_assert_eq(head[0] << 8 | head[1], (int)len);
	cr_assert_eq(io_read_full(up, m, len), 0);
	len = add_answer(m, len, "93.184.216.35", 60);
	head[0] = 0;
	head[1] = (uint8_t)len;
	cr_assert_eq(io_write_full(up, head, 2), 0);
	cr_assert_eq(io_write_full(up, m, len), 0);
	cr_assert_eq(io_read_full(fd, head, 2), 0);
	cr_assert_eq(io_read_full(fd, m, (size_t)head[1]), 0);
	cr_assert_eq(message_id(m), 5);
	cr_assert_eq(m[7], 1);
	close(up);
	close(fd);
}

/* It is answered, however many times that takes: datagrams may be lost when there are many. */
static void other_is_answered(void)
{
	struct pollfd p = { .fd = rig.other, .events = POLLIN };
	uint8_t m[512];
	size_t len = make_query(m, 4242, "no.example");
	unsigned tries;

	for (tries = 0; tries < 200; tries++) {
		cr_assert_eq(send(rig.other, m, len, 0), (ssize_t)len);
		if (poll(&p, 1, 100) == 1)
			return;
	}
	cr_assert_fail("nobody answers");
}

/* The resolver is silent: one who asks without end keeps nobody else from being answered. */
Test(names, many_questions_of_one)
{
	struct sockaddr_in from;
	uint8_t m[512];
	unsigned i;

	for (i = 0; i < 400; i++)
		ask((uint16_t)i, "open.example");
	(void)wait_for(rig.up_udp, m, sizeof(m), &from);
	other_is_answered();
}

Test(names, rubbish)
{
	uint8_t m[700];
	unsigned i;

	srandom(4711);
	for (i = 0; i < 3000; i++) {
		size_t k, len = (size_t)random() % sizeof(m);

		for (k = 0; k < len; k++)
			m[k] = (uint8_t)random();
		if (i % 2 && len > 12) {
			memset(m + 2, 0, 10);
			m[5] = 1;
		}
		(void)!send(rig.me, m, len, 0);
	}
	for (i = 0; i < 20; i++) { /* and over TCP */
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		cr_assert_eq(connect(fd, (struct sockaddr *)&rig.at, sizeof(rig.at)), 0);
		(void)!send(fd, m, sizeof(m), MSG_NOSIGNAL);
		close(fd);
	}
	other_is_answered();
}
