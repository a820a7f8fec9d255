/* SPDX-License-Identifier: Apache-2.0 */
/* A tunnel as a socket: bytes, ends and credit, with the agent's end played here. */
#include "base/clock.h"
#include "base/io.h"
#include "host/link/pump.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

struct lab {
	struct loop *loop;
	pthread_t thread;
	int agent, sock; /* ours: the agent's end, and who speaks on the socket */
	struct buf in;
	struct frame last; /* what was read, and is dropped with the next; type 0: nothing */
	uint64_t credit; /* of the host: what we may send */
};

static void *run(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

static void begin(struct lab *l)
{
	int pair[2];

	memset(l, 0, sizeof(*l));
	l->credit = WIRE_TUNNEL_WINDOW;
	buf_init(&l->in, FRAME_MAX + FRAME_HEADER + 4096);
	cr_assert_eq(loop_new(&l->loop, NULL), 0);
	cr_assert_eq(pthread_create(&l->thread, NULL, run, l->loop), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	l->agent = pair[0];
	cr_assert_eq(pump_start(l->loop, pair[1], &l->sock, NULL), 0);
	cr_assert_eq(fd_nonblock(l->sock, false), 0);
}

static void end(struct lab *l)
{
	fd_close(&l->sock);
	fd_close(&l->agent);
	loop_stop(l->loop);
	pthread_join(l->thread, NULL);
	loop_free(&l->loop);
	buf_fini(&l->in);
}

/* The next frame of the host; 0: it has closed. */
static unsigned next(struct lab *l, struct span *ret)
{
	union {
		struct msg_TUNNEL_DATA data;
		struct msg_WINDOW window;
	} m;
	struct frame f;

	if (l->last.type)
		frame_consume(&l->in, &l->last);
	l->last.type = 0;
	if (frame_recv(l->agent, &l->in, &f, clock_after_ms(WAIT_MS), NULL) < 0)
		return 0;
	l->last = f;
	if (f.type == MSG_TUNNEL_DATA) {
		cr_assert_eq(msg_decode(f.type, f.payload, &m, NULL), 0);
		*ret = m.data.data;
	} else if (f.type == MSG_WINDOW) {
		cr_assert_eq(msg_decode(f.type, f.payload, &m, NULL), 0);
		l->credit += m.window.bytes;
	}
	return f.type;
}

static void send_data(struct lab *l, const void *p, size_t len)
{
	struct msg_TUNNEL_DATA m = { .data = SPAN(p, len) };

	l->credit -= len;
	cr_assert_eq(frame_send(l->agent, MSG_TUNNEL_DATA, &m, clock_after_ms(WAIT_MS)), 0);
}

static void send_end(struct lab *l)
{
	cr_assert_eq(frame_send(l->agent, MSG_TUNNEL_END, &(struct msg_TUNNEL_END){ 0 }, clock_after_ms(WAIT_MS)), 0);
}

static void give(struct lab *l, uint64_t bytes)
{
	struct msg_WINDOW m = { .stream = WIRE_IN, .bytes = bytes };

	cr_assert_eq(frame_send(l->agent, MSG_WINDOW, &m, clock_after_ms(WAIT_MS)), 0);
}

static size_t take_data(struct lab *l, size_t want)
{
	struct span s;
	size_t got = 0;

	while (got < want) {
		unsigned type = next(l, &s);

		cr_assert(type == MSG_TUNNEL_DATA || type == MSG_WINDOW, "%s", msg_name(type));
		got += type == MSG_TUNNEL_DATA ? s.len : 0;
	}
	return got;
}

static bool is_quiet(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 100) == 0;
}

Test(pump, bytes_and_ends_both_ways)
{
	char room[8];
	struct span s;
	struct lab l;

	begin(&l);
	send_data(&l, "hello", 5);
	cr_assert_eq(recv(l.sock, room, sizeof(room), 0), 5);
	cr_assert_eq(next(&l, &s), MSG_WINDOW);
	cr_expect_eq(l.credit, WIRE_TUNNEL_WINDOW);
	send_end(&l);
	cr_assert_eq(recv(l.sock, room, sizeof(room), 0), 0, "one direction has ended");
	cr_assert_eq(send(l.sock, "there", 5, 0), 5);
	cr_assert_eq(next(&l, &s), MSG_TUNNEL_DATA);
	cr_expect(span_eq(s, span_str("there")));
	shutdown(l.sock, SHUT_WR);
	cr_assert_eq(next(&l, &s), MSG_TUNNEL_END);
	/* Both have; who reads inside may not have all of it, and the end of the transport would take it along. */
	cr_expect(is_quiet(l.agent));
	give(&l, 5);
	cr_assert_eq(next(&l, &s), 0);
	end(&l);
}

Test(pump, a_window_each_way_and_no_more)
{
	static char waste[WIRE_TUNNEL_WINDOW];
	ssize_t n, sent = 0;
	struct lab l;

	begin(&l);
	/* Nobody inside reads: what comes to us is a window, and the socket fills up. */
	cr_assert_eq(fd_nonblock(l.sock, true), 0);
	for (;;) {
		struct pollfd p = { .fd = l.sock, .events = POLLOUT };

		n = send(l.sock, waste, sizeof(waste), MSG_NOSIGNAL);
		if (n > 0)
			sent += n;
		else if (poll(&p, 1, 300) == 0)
			break;
		cr_assert_lt(sent, 16 * WIRE_TUNNEL_WINDOW, "it takes everything");
	}
	cr_assert_eq(take_data(&l, WIRE_TUNNEL_WINDOW), WIRE_TUNNEL_WINDOW);
	cr_expect(is_quiet(l.agent));
	give(&l, 1000);
	cr_assert_eq(take_data(&l, 1000), 1000);
	cr_expect(is_quiet(l.agent));
	/* Nobody reads the socket: a window is held, credit comes back when it is read. */
	for (n = 0; n < WIRE_TUNNEL_WINDOW; n += 65536)
		send_data(&l, waste, 65536);
	cr_assert_eq(fd_nonblock(l.sock, false), 0);
	for (n = 0; n < WIRE_TUNNEL_WINDOW;)
		n += recv(l.sock, waste, sizeof(waste), 0);
	while (l.credit < WIRE_TUNNEL_WINDOW) {
		struct span s;

		cr_assert_neq(next(&l, &s), 0);
	}
	end(&l);
}

/* Whoever has the socket answers early and closes while the other one still sends: the answer arrives. */
Test(pump, the_last_words_arrive)
{
	static char words[200000];
	struct span s;
	struct lab l;
	size_t got = 0;
	unsigned type;

	begin(&l);
	cr_assert_eq(fd_nonblock(l.sock, false), 0);
	cr_assert_eq(io_write_full(l.sock, words, sizeof(words)), 0);
	fd_close(&l.sock);
	send_data(&l, words, 65536);
	send_data(&l, words, 65536);
	while ((type = next(&l, &s)) != MSG_TUNNEL_END) {
		cr_assert(type == MSG_TUNNEL_DATA || type == MSG_WINDOW, "%s", msg_name(type));
		got += type == MSG_TUNNEL_DATA ? s.len : 0;
	}
	cr_expect_eq(got, sizeof(words));
	send_data(&l, words, 65536);
	send_end(&l);
	give(&l, sizeof(words));
	while ((type = next(&l, &s)) == MSG_WINDOW)
		;
	cr_expect_eq(type, 0);
	end(&l);
}

Test(pump, an_error_or_a_window_that_is_broken_ends_it)
{
	static char waste[65536];
	struct msg_ERROR error = { .slug = span_str("paused") };
	struct span s;
	struct lab l;
	char byte;
	int i;

	begin(&l);
	cr_assert_eq(frame_send(l.agent, MSG_ERROR, &error, clock_after_ms(WAIT_MS)), 0);
	cr_assert_eq(recv(l.sock, &byte, 1, 0), 0);
	end(&l);
	begin(&l);
	for (i = 0; i < 64; i++) {
		struct msg_TUNNEL_DATA m = { .data = SPAN(waste, sizeof(waste)) };

		if (frame_send(l.agent, MSG_TUNNEL_DATA, &m, clock_after_ms(WAIT_MS)) < 0)
			break;
	}
	cr_expect_lt(i, 64, "it takes more than its window");
	while (next(&l, &s))
		;
	end(&l);
}
