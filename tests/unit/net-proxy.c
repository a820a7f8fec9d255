/* SPDX-License-Identifier: Apache-2.0 */
/* What is said to a SOCKS5 proxy, and connections through one that this test is, honest and not, over the loopback. */
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/net/heard.h"
#include "host/net/proxy.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 60000, RANGES = 3, EACH = 256 };

/* --- what is said ------------------------------------------------------------------------------------------------- */

static struct policy_proxy proxy_of(const char *user, const char *password)
{
	struct policy_proxy x = { .host = "127.0.0.1", .port = 1080 };

	snprintf(x.user, sizeof(x.user), "%s", user);
	snprintf(x.password, sizeof(x.password), "%s", password);
	return x;
}

/* All of @in, as many bytes at a time as are wanted or @step. Return: what came of it; @ret_used: bytes taken. */
static int talk(const struct policy_proxy *x, const struct socks_to *to, const void *in, size_t len, size_t step,
		struct buf *out, size_t *ret_used, struct err *e)
{
	struct socks s;
	size_t at = 0;
	int r = SOCKS_E_MORE;

	buf_init(out, SOCKS_OUT_MAX);
	socks_begin(&s, x, to, out);
	while (r == SOCKS_E_MORE && at < len) {
		size_t room;
		void *p = socks_room(&s, &room);
		size_t n = MIN(MIN(room, step), len - at);

		cr_assert_gt(room, 0);
		memcpy(p, (const uint8_t *)in + at, n);
		at += n;
		r = socks_read(&s, n, out, e);
	}
	*ret_used = at;
	cr_assert_not(out->failed);
	return r;
}

static const struct socks_to by_name = { .name = "example.org", .port = 443 };

Test(socks, by_name_with_credentials)
{
	static const uint8_t said[] = "\5\2\0\2\1\2me\3abc\5\1\0\3\13example.org\1\273";
	static const uint8_t in[] = "\5\2\1\0\5\0\0\1\177\0\0\1\4\70next";
	const struct policy_proxy x = proxy_of("me", "abc");
	struct err e = ERR_NULL;
	struct buf out;
	size_t used, step;

	for (step = 1; step < sizeof(in); step++) {
		cr_assert_eq(talk(&x, &by_name, in, sizeof(in) - 1, step, &out, &used, &e), 0, "%s", e.text);
		cr_assert_eq(used, sizeof(in) - 1 - 4, "what is behind the proxy's words is the destination's");
		cr_assert(span_eq(buf_span(&out), SPAN(said, sizeof(said) - 1)));
		buf_fini(&out);
	}
}

Test(socks, by_address_and_without_credentials)
{
	static const uint8_t said4[] = "\5\1\0\5\1\0\1\135\270\330\42\0\120";
	static const uint8_t said6[] = "\5\1\0\5\1\0\4\52\1\4\370\0\0\0\0\0\0\0\0\0\0\0\64\0\120";
	static const uint8_t in[] = "\5\0\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	const struct policy_proxy x = proxy_of("", "");
	struct socks_to to = { .port = 80 };
	struct err e = ERR_NULL;
	struct buf out;
	size_t used;

	cr_assert_eq(policy_prefix("93.184.216.34", &to.address), 0);
	cr_assert_eq(talk(&x, &to, in, sizeof(in) - 1, 100, &out, &used, &e), 0, "%s", e.text);
	cr_assert(span_eq(buf_span(&out), SPAN(said4, sizeof(said4) - 1)));
	buf_fini(&out);
	cr_assert_eq(policy_prefix("2a01:4f8::34", &to.address), 0);
	cr_assert_eq(talk(&x, &to, in, sizeof(in) - 1, 100, &out, &used, &e), 0, "%s", e.text);
	cr_assert(span_eq(buf_span(&out), SPAN(said6, sizeof(said6) - 1)));
	buf_fini(&out);
}

Test(socks, the_longest_words)
{
	char user[POLICY_PROXY_MAX + 1] = "", password[POLICY_PROXY_MAX + 1] = "";
	struct socks_to to = { .port = 1 };
	uint8_t in[4 + 5 + 255 + 2 + 1] = { 5, 2, 1, 0, 5, 0, 0, 3, 255 };
	struct policy_proxy x;
	struct err e = ERR_NULL;
	struct buf out;
	size_t used;

	memset(user, 'u', POLICY_PROXY_MAX);
	memset(password, 'p', POLICY_PROXY_MAX);
	memset(to.name, 'n', POLICY_NAME_MAX);
	x = proxy_of(user, password);
	cr_assert_eq(talk(&x, &to, in, sizeof(in), 1000, &out, &used, &e), 0, "%s", e.text);
	cr_assert_eq(used, sizeof(in) - 1, "an address of 255 bytes is taken out of the way");
	cr_assert_eq(buf_len(&out), 4 + 3 + 255 + 255 + 4 + 1 + POLICY_NAME_MAX + 2);
	buf_fini(&out);
}

Test(socks, lies)
{
	static const struct {
		const char *in;
		size_t len;
		int r;
	} of[] = {
		{ "\4\0", 2, -EPROTO },		     { "HTTP/1.1", 8, -EPROTO },
		{ "\5\377", 2, -EACCES },	     { "\5\1", 2, -EACCES },
		{ "\5\2\5\0", 4, -EPROTO },	     { "\5\2\1\1", 4, -EACCES },
		{ "\5\0\4\0\0\1", 6, -EPROTO },	     { "\5\0\5\1\0\1", 6, -ECONNREFUSED },
		{ "\5\0\5\377\0\1", 6, -ECONNREFUSED }, { "\5\0\5\0\0\2", 6, -EPROTO },
		{ "\5\0\5\0\0\0", 6, -EPROTO },	     { "\5", 1, SOCKS_E_MORE },
		{ "\5\0\5\0\0\1\0\0\0\0\0", 11, SOCKS_E_MORE },
	};
	const struct policy_proxy x = proxy_of("me", "abc"), none = proxy_of("", "");
	struct err e = ERR_NULL;
	struct buf out;
	size_t i, used;

	for (i = 0; i < ARRAY_LEN(of); i++) {
		cr_assert_eq(talk(&x, &by_name, of[i].in, of[i].len, 3, &out, &used, &e), of[i].r, "%zu", i);
		buf_fini(&out);
	}
	cr_assert_eq(talk(&none, &by_name, "\5\2", 2, 3, &out, &used, &e), -EACCES, "there is nothing to say");
	buf_fini(&out);
}

/* --- of a policy -------------------------------------------------------------------------------------------------- */

Test(proxy_policy, addresses)
{
	static const char *const bad[] = { "", "a", "a:", ":1", "a:0", "a:65536", "a:x", "[::1:1", "a b:1", "a/8:1",
					   "1.2.3.4/8:1", "..:1", "1.2.3:1" };
	char word[POLICY_PROXY_MAX + 2] = "";
	struct policy p = POLICY_NULL;
	struct err e = ERR_NULL;
	struct buf b;
	size_t i;

	memset(word, 'x', POLICY_PROXY_MAX + 1);
	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(policy_set_proxy(&p, bad[i], NULL, NULL, NULL, &e), -EINVAL, "%s", bad[i]);
	cr_assert_eq(policy_set_proxy(&p, "a:1", word, NULL, NULL, &e), -EINVAL);
	cr_assert_eq(policy_set_proxy(&p, "a:1", "u", word, NULL, &e), -EINVAL);
	cr_assert_eq(policy_set_proxy(&p, "a:1", NULL, "p", NULL, &e), -EINVAL, "a password of nobody");
	cr_assert_eq(policy_set_proxy(&p, "10.0.0.1:1080", NULL, NULL, NULL, &e), -EPERM);
	cr_assert_eq(policy_set_proxy(&p, "127.0.0.1:1080", NULL, NULL, NULL, &e), -EPERM);
	cr_assert_eq(policy_set_proxy(&p, "[::1]:1080", NULL, NULL, NULL, &e), -EPERM);
	cr_assert_null(p.proxy);
	cr_assert_eq(policy_set_proxy(&p, "Proxy.Example.:1080", "m e", "p\xc3\xa4 -", NULL, &e), 0, "%s", e.text);
	cr_assert_str_eq(p.proxy->host, "proxy.example");
	buf_init(&b, POLICY_TEXT_MAX);
	policy_proxy_put(p.proxy, &b);
	buf_printf(&b, "on +a.example");
	policy_drop_proxy(&p);
	cr_assert_str_eq(policy_proxy_get(&p, buf_str(&b)), "on +a.example");
	cr_assert_str_eq(p.proxy->user, "m e");
	cr_assert_str_eq(p.proxy->password, "p\xc3\xa4 -");
	cr_assert_eq(p.proxy->port, 1080);
	cr_assert_null(policy_proxy_get(&p, "a 0 - - on"));
	cr_assert_null(policy_proxy_get(&p, "a 1 zz - on"));
	cr_assert_null(policy_proxy_get(&p, "on +a"));
	buf_fini(&b);
	policy_fini(&p);
}

Test(proxy_policy, which_names_are_handed_on)
{
	struct policy p;

	policy_get(&p, "on -bad.example");
	cr_assert(policy_hands_name(&p, "a.example"));
	cr_assert_not(policy_hands_name(&p, "bad.example"));
	cr_assert_not(policy_hands_name(&p, "a\\046b.example"));
	policy_fini(&p);
	policy_get(&p, "on +good.example -1.2.3.4");
	cr_assert_not(policy_hands_name(&p, "a.example"), "what it leads to there may be what is denied");
	cr_assert(policy_hands_name(&p, "good.example"));
	policy_fini(&p);
	policy_get(&p, "off +1.2.3.4");
	cr_assert_not(policy_hands_name(&p, "a.example"));
	policy_fini(&p);
}

Test(proxy_policy, what_was_heard)
{
	struct heard h = HEARD_NULL;
	struct priv_prefix a, b;
	uint64_t later = clock_after_ms(3600000);
	unsigned i;

	cr_assert_eq(policy_prefix("1.2.3.4", &a), 0);
	cr_assert_null(heard_find(&h, &a));
	heard_add(&h, &a, "one.example", later);
	heard_add(&h, &a, "two.example", later);
	cr_assert_str_eq(heard_find(&h, &a), "two.example");
	for (i = 0; i < HEARD_ENTRIES_MAX - 1; i++) {
		b = a;
		b.addr[0] = 9;
		b.addr[2] = (uint8_t)(i >> 8);
		b.addr[3] = (uint8_t)i;
		heard_add(&h, &b, "many.example", later);
	}
	cr_assert_str_eq(heard_find(&h, &a), "two.example");
	b.addr[0] = 10;
	heard_add(&h, &b, "more.example", 0);
	cr_assert_null(heard_find(&h, &a), "the oldest goes");
	cr_assert_null(heard_find(&h, &b), "its time is over");
	heard_fini(&h);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

struct rig {
	struct proxy *proxy;
	int listen; /* the proxy that this is */
	struct sockaddr_in at; /* where connections of sandboxes arrive */
	struct proxy_way way;
	bool hides, names_hold;
	uint32_t ended; /* a range */
};

static struct rig rig;

static int home(const struct priv_prefix *from, uint32_t *ret)
{
	*ret = from->addr[3] - 1U;
	return from->addr[0] == 127 ? 0 : -ENOENT;
}

static int meant(int fd, struct priv_prefix *ret, uint16_t *ret_port)
{
	(void)fd;
	*ret_port = 80;
	return policy_prefix("93.184.216.34", ret);
}

static int way(void *ctx, uint32_t range, const struct priv_prefix *to, uint16_t port, struct proxy_way *ret)
{
	(void)ctx;
	*ret = rig.way;
	ret->to.address = *to;
	ret->to.port = port;
	return range == 1 ? -ENOENT : 0;
}

static bool holds(void *ctx, uint32_t range, uint64_t since, const char *name)
{
	(void)ctx;
	return range != rig.ended && since == rig.way.since && (!name || rig.names_hold);
}

static bool hides(void *ctx, const struct priv_prefix *p)
{
	(void)ctx;
	(void)p;
	return rig.hides;
}

static int sockets(void *ctx, int family, int fds[PROXY_SOCKETS_MAX])
{
	(void)ctx;
	fds[0] = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fds[0] < 0 ? -errno : 1;
}

static int listener(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	cr_assert_eq(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	cr_assert_eq(listen(fd, 64), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

static void begin_with(unsigned dial_ms, uint16_t port)
{
	struct proxy_conf c = { .listen = { -1, -1 }, .ranges = RANGES, .dns = "127.0.0.77", .dial_ms = dial_ms,
				.port = port, .home = home, .meant = meant, .way = way, .holds = holds,
				.hides = hides, .sockets = sockets };
	struct sockaddr_in at;
	struct err e = ERR_NULL;

	rig = (struct rig){ .listen = listener(&at), .ended = RANGES };
	rig.way.proxy = proxy_of("me", "abc");
	rig.way.proxy.port = ntohs(at.sin_port);
	c.listen[0] = listener(&rig.at);
	cr_assert_eq(fd_nonblock(c.listen[0], true), 0);
	cr_assert_eq(proxy_start(&c, &rig.proxy, &e), 0, "%s", e.text);
}

static void begin(void)
{
	begin_with(0, 0);
}

static void end(void)
{
	proxy_stop(&rig.proxy);
	close(rig.listen);
}

/* A sandbox of range @last - 1 connects. */
static int sandbox(uint8_t last)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr = { htonl(0x7f000000U | last) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval wait = { .tv_sec = WAIT_MS / 1000 };

	cr_assert_geq(fd, 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&rig.at, sizeof(rig.at)), 0);
	return fd;
}

static int arrive(void)
{
	struct pollfd p = { .fd = rig.listen, .events = POLLIN };
	struct timeval wait = { .tv_sec = WAIT_MS / 1000 };
	int fd;

	cr_assert_eq(poll(&p, 1, WAIT_MS), 1);
	fd = accept(rig.listen, NULL, NULL);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	return fd;
}

static void hear(int fd, const char *what, size_t len)
{
	char got[64];

	cr_assert_eq(recv(fd, got, len, MSG_WAITALL), (ssize_t)len);
	cr_assert_eq(memcmp(got, what, len), 0, "%.*s", (int)len, got);
}

static void say(int fd, const char *what, size_t len)
{
	cr_assert_eq(send(fd, what, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void is_reset(int fd)
{
	char c;

	cr_assert_eq(recv(fd, &c, 1, 0), -1);
	cr_assert_eq(errno, ECONNRESET, "%s", strerror(errno));
	close(fd);
}

/* Then it ends with a reset. */
static void is_reset_late(int fd)
{
	char c;
	ssize_t n;

	while ((n = recv(fd, &c, 1, 0)) > 0)
		;
	cr_assert_eq(n, -1);
	cr_assert_eq(errno, ECONNRESET, "%s", strerror(errno));
	close(fd);
}

static void reset(int fd)
{
	const struct linger now = { .l_onoff = 1 };

	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(fd);
}

/* One byte at a time. */
static void say_slowly(int fd, const char *what, size_t len)
{
	const int on = 1;
	size_t i;

	cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
	for (i = 0; i < len; i++)
		say(fd, what + i, 1);
}

static int agree(void)
{
	int up = arrive();

	hear(up, "\5\2\0\2", 4);
	say_slowly(up, "\5\2", 2);
	hear(up, "\1\2me\3abc", 8);
	say_slowly(up, "\1\0", 2);
	hear(up, rig.way.to.name[0] ? "\5\1\0\3\1n\0\120" : "\5\1\0\1\135\270\330\42\0\120",
	     rig.way.to.name[0] ? 8 : 10);
	return up;
}

Test(proxy, both_ways_and_halves)
{
	int me, up;

	begin();
	me = sandbox(1);
	say(me, "early", 5);
	up = agree();
	say(up, "\5\0\0\3\3abc\0\1first", 15); /* in one piece with what the destination says */
	hear(me, "first", 5);
	hear(up, "early", 5);
	cr_assert_eq(shutdown(me, SHUT_WR), 0);
	cr_assert_eq(recv(up, &(char){ 0 }, 1, 0), 0, "an end is passed on");
	say(up, "still", 5);
	hear(me, "still", 5);
	close(up);
	cr_assert_eq(recv(me, &(char){ 0 }, 1, 0), 0, "an orderly one");
	close(me);
	end();
}

Test(proxy, a_reset_is_passed_on)
{
	int me, up;

	begin();
	me = sandbox(1);
	up = agree();
	say_slowly(up, "\5\0\0\1\0\0\0\0\0\0x", 11);
	hear(me, "x", 1);
	reset(up);
	is_reset(me);
	me = sandbox(1);
	up = agree();
	say(up, "\5\0\0\1\0\0\0\0\0\0x", 11);
	hear(me, "x", 1);
	reset(me);
	is_reset(up);
	me = sandbox(1); /* also of one that is not connected yet */
	up = arrive();
	reset(me);
	is_reset_late(up);
	end();
}

Test(proxy, much_for_a_slow_reader)
{
	enum { PIECE = 65536, PIECES = 64 };
	AUTO(mem_free) char *piece = must_calloc(1, PIECE);
	size_t got = 0;
	ssize_t n;
	int me, up, i;

	begin();
	me = sandbox(1);
	up = agree();
	say(up, "\5\0\0\1\0\0\0\0\0\0", 10);
	cr_assert_eq(fd_nonblock(up, false), 0);
	for (i = 0; i < PIECES; i++) {
		/* What neither side has room for waits here until something is read. */
		for (n = 0; n < PIECE;) {
			ssize_t k = send(up, piece + n, (size_t)(PIECE - n), MSG_NOSIGNAL | MSG_DONTWAIT);

			if (k > 0) {
				n += k;
				continue;
			}
			k = recv(me, piece, PIECE, 0);
			cr_assert_gt(k, 0);
			got += (size_t)k;
		}
	}
	close(up);
	while ((n = recv(me, piece, PIECE, 0)) > 0)
		got += (size_t)n;
	cr_assert_eq(n, 0);
	cr_assert_eq(got, (size_t)PIECE * PIECES);
	close(me);
	end();
}

Test(proxy, whatever_goes_wrong_is_a_reset)
{
	int me, up;

	begin();
	me = sandbox(1);
	up = arrive();
	say(up, "\4\0", 2); /* another version */
	is_reset(me);
	close(up);
	me = sandbox(1);
	up = arrive();
	say(up, "\5\377", 2);
	is_reset(me);
	close(up);
	me = sandbox(1);
	up = arrive();
	say(up, "\5", 1); /* half of an answer, and gone */
	close(up);
	is_reset(me);
	me = sandbox(1);
	up = agree();
	say(up, "\5\2\0\1\0\0\0\0\0\0", 10);
	is_reset(me);
	close(up);
	is_reset(sandbox(2)); /* it has no proxy */
	is_reset(sandbox(RANGES + 1)); /* it is nobody's */
	rig.hides = true;
	is_reset(sandbox(1));
	rig.hides = false;
	snprintf(rig.way.proxy.host, sizeof(rig.way.proxy.host), "no.example"); /* nobody answers */
	is_reset(sandbox(1));
	snprintf(rig.way.proxy.host, sizeof(rig.way.proxy.host), "127.0.0.1");
	close(rig.listen);
	is_reset(sandbox(1)); /* nobody is there */
	rig.listen = -1;
	end();
}

Test(proxy, one_that_hangs)
{
	int me, up;

	begin_with(300, 0);
	me = sandbox(1);
	up = arrive();
	(void)!send(up, "\5", 1, MSG_NOSIGNAL); /* its time may be over already */
	is_reset(me);
	is_reset_late(up);
	end();
}

Test(proxy, one_sandbox_does_not_take_all)
{
	int me[EACH], up[EACH], i;
	struct rlimit files;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	if (files.rlim_max < 8 * EACH)
		cr_skip_test("descriptors");
	begin();
	for (i = 0; i < EACH; i++) {
		me[i] = sandbox(1);
		up[i] = arrive();
	}
	is_reset(sandbox(1));
	i = sandbox(3);
	close(agree());
	is_reset(i);
	for (i = 0; i < EACH; i++) {
		close(me[i]);
		close(up[i]);
	}
	end();
}

/* An answer to @q, of @len bytes, with one address. */
static void answer(int fd, const struct sockaddr_in *to, const uint8_t *q, size_t len, uint8_t id, uint8_t last)
{
	const uint8_t record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, last };
	uint8_t m[512];

	memcpy(m, q, len);
	m[1] ^= id;
	m[2] |= 0x80;
	m[7] = 1;
	memcpy(m + len, record, sizeof(record));
	cr_assert_eq(sendto(fd, m, len + sizeof(record), 0, (const struct sockaddr *)to, sizeof(*to)),
		     (ssize_t)(len + sizeof(record)));
}

Test(proxy, by_a_name)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(0x7f00004d) } }, from;
	int dns = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), me, up;
	struct timeval wait = { .tv_sec = WAIT_MS / 1000 };
	socklen_t size = sizeof(at);
	uint8_t q[512];
	ssize_t len;

	cr_assert_eq(bind(dns, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(getsockname(dns, (struct sockaddr *)&at, &size), 0);
	cr_assert_eq(setsockopt(dns, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	begin_with(0, ntohs(at.sin_port));
	snprintf(rig.way.proxy.host, sizeof(rig.way.proxy.host), "socks.example");
	me = sandbox(1);
	size = sizeof(from);
	len = recvfrom(dns, q, 256, 0, (struct sockaddr *)&from, &size);
	cr_assert_gt(len, 12);
	answer(dns, &from, q, (size_t)len, 1, 9); /* somebody guesses */
	answer(dns, &from, q, (size_t)len, 0, 1);
	up = agree();
	say(up, "\5\0\0\1\0\0\0\0\0\0x", 11);
	hear(me, "x", 1);
	close(me);
	close(up);
	me = sandbox(3); /* it is known */
	up = agree();
	say(up, "\5\0\0\1\0\0\0\0\0\0x", 11);
	hear(me, "x", 1);
	cr_assert_eq(recv(dns, q, sizeof(q), MSG_DONTWAIT), -1);
	close(me);
	close(up);
	close(dns);
	end();
}

Test(proxy, what_holds_no_more_is_cut)
{
	int me, named, other, up, its, theirs;

	begin();
	me = sandbox(1);
	up = agree();
	say(up, "\5\0\0\1\0\0\0\0\0\0x", 11);
	hear(me, "x", 1);
	snprintf(rig.way.to.name, sizeof(rig.way.to.name), "n");
	named = sandbox(1);
	its = agree();
	say(its, "\5\0\0\1\0\0\0\0\0\0x", 11);
	hear(named, "x", 1);
	rig.way.to.name[0] = '\0';
	other = sandbox(3);
	theirs = agree();
	say(theirs, "\5\0\0\1\0\0\0\0\0\0", 10);
	proxy_look_again(rig.proxy); /* that name is not handed on any more */
	is_reset(named);
	is_reset(its);
	say(me, "on", 2);
	hear(up, "on", 2);
	rig.ended = 0;
	proxy_look_again(rig.proxy);
	is_reset(me);
	is_reset(up);
	say(other, "on", 2);
	hear(theirs, "on", 2);
	proxy_stop(&rig.proxy);
	is_reset(other); /* the end of all is no orderly one */
	is_reset(theirs);
	close(rig.listen);
}
