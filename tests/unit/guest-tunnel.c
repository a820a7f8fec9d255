/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels and services, against the real agent. */
#include "guest-lab.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/whose.h"
#include "wire/xport.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MB = 1024 * 1024 };

union got {
	struct msg_TUNNEL_DATA data;
	struct msg_WINDOW window;
	struct msg_ERROR error;
	struct msg_ASK ask;
	struct msg_OK ok;
	char room[512];
};

/* --- targets ------------------------------------------------------------------------------------------------------ */

static int tcp_listener(unsigned *ret_port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, 64), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	*ret_port = ntohs(at.sin_port);
	return fd;
}

/* What comes is sent back; after its end the word "bye" and our end. */
static void *echo(void *ctx)
{
	int fd = (int)(intptr_t)ctx;
	char piece[15000];
	ssize_t n;

	while ((n = recv(fd, piece, sizeof(piece), 0)) > 0)
		if (io_write_full(fd, piece, (size_t)n) < 0)
			break;
	(void)!io_write_full(fd, "bye", 3);
	close(fd);
	return NULL;
}

static void *echo_all(void *ctx)
{
	int listener = (int)(intptr_t)ctx, fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		pthread_t t;

		cr_assert_eq(pthread_create(&t, NULL, echo, (void *)(intptr_t)fd), 0);
		pthread_detach(t);
	}
	return NULL;
}

static pthread_t serve(int listener)
{
	pthread_t t;

	cr_assert_eq(pthread_create(&t, NULL, echo_all, (void *)(intptr_t)listener), 0);
	return t;
}

static void serve_end(int listener, pthread_t t)
{
	shutdown(listener, SHUT_RDWR);
	pthread_join(t, NULL);
	close(listener);
}

/* --- the host's end ----------------------------------------------------------------------------------------------- */

/* Return: the slug of the error, "" when it is open. */
static const char *begin(const struct lab *l, struct wire *w, enum msg_type type, const void *m)
{
	static char slug[41];
	union got got;
	unsigned answer;

	cr_assert(wire_dial(l, w, WIRE_TUNNEL, l->token));
	wire_send(w, type, m);
	answer = wire_next(w, &got);
	*slug = '\0';
	if (answer == MSG_ERROR)
		snprintf(slug, sizeof(slug), "%.*s", (int)got.error.slug.len, (const char *)got.error.slug.p);
	else
		cr_assert_eq(answer, MSG_TUNNEL_OPENED);
	return slug;
}

static const char *open_it(const struct lab *l, struct wire *w, const char *address, unsigned port, const char *socket)
{
	struct msg_TUNNEL_OPEN m = { .address = span_str(address), .port = port, .socket = span_str(socket) };

	return begin(l, w, MSG_TUNNEL_OPEN, &m);
}

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 7 + (at >> 13));
}

/* Send @total bytes and the end, expect them back with "bye". @step: bytes taken before credit is given back. */
static void exchange(struct wire *w, uint64_t total, uint64_t step)
{
	uint64_t sent = 0, room = WIRE_TUNNEL_WINDOW, seen = 0, owed = 0;
	bool ended = false;
	uint8_t piece[10007];
	union got got;

	for (;;) {
		unsigned type;

		while (sent < total && room) {
			size_t i, n = (size_t)MIN(MIN(total - sent, room), (uint64_t)sizeof(piece));
			struct msg_TUNNEL_DATA m = { .data = SPAN(piece, n) };

			for (i = 0; i < n; i++)
				piece[i] = byte_at(sent + i);
			wire_send(w, MSG_TUNNEL_DATA, &m);
			sent += n, room -= n;
			if (wire_ready(w, 0))
				break;
		}
		if (sent == total && !ended) {
			wire_send(w, MSG_TUNNEL_END, &(struct msg_TUNNEL_END){ 0 });
			ended = true;
		}
		type = wire_next(w, &got);
		if (type == MSG_WINDOW) {
			room += got.window.bytes;
		} else if (type == MSG_TUNNEL_DATA) {
			const uint8_t *p = got.data.data.p;
			size_t i;

			for (i = 0; i < got.data.data.len; i++, seen++)
				cr_assert_eq(p[i], seen < total ? byte_at(seen) : (uint8_t) "bye"[seen - total], "%llu",
					     (unsigned long long)seen);
			owed += got.data.data.len;
			cr_assert_leq(owed, WIRE_TUNNEL_WINDOW, "more data than credit");
			if (owed >= step) {
				wire_send(w, MSG_WINDOW, &(struct msg_WINDOW){ .bytes = owed });
				owed = 0;
			}
		} else {
			cr_assert_eq(type, MSG_TUNNEL_END, "%s", msg_name(type));
			break;
		}
	}
	cr_assert_eq(seen, total + 3);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

Test(tunnel, tcp_both_ways_with_backpressure)
{
	pthread_t server;
	unsigned port;
	struct wire w;
	struct lab l;
	int fd;

	cr_assert(lab_start(&l, "inotify"));
	fd = tcp_listener(&port);
	server = serve(fd);
	cr_assert_str_eq(open_it(&l, &w, "", port, ""), "");
	exchange(&w, 5 * MB + 17, 65536);
	wire_close(&w);
	cr_assert_str_eq(open_it(&l, &w, "127.0.0.1", port, ""), "");
	exchange(&w, 0, 1);
	wire_close(&w);
	serve_end(fd, server);
	lab_stop(&l);
}

Test(tunnel, unix_sockets_by_path_and_by_name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	pthread_t server;
	struct wire w;
	struct lab l;
	int fd;

	cr_assert(lab_start(&l, "inotify"));
	cr_assert_eq(io_unix_listen(lab_path(&l, "s"), 0600, &fd, NULL), 0);
	server = serve(fd);
	cr_assert_str_eq(open_it(&l, &w, "", 0, lab_path(&l, "s")), "");
	exchange(&w, 3 * MB, 200000);
	wire_close(&w);
	serve_end(fd, server);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(at.sun_path + 1, sizeof(at.sun_path) - 1, "berth-%d", (int)getpid());
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, (socklen_t)(3 + strlen(at.sun_path + 1))), 0);
	cr_assert_eq(listen(fd, 4), 0);
	server = serve(fd);
	at.sun_path[0] = '@';
	cr_assert_str_eq(open_it(&l, &w, "", 0, at.sun_path), "");
	exchange(&w, 100, 1);
	wire_close(&w);
	serve_end(fd, server);
	lab_stop(&l);
}

Test(tunnel, many_at_once)
{
	enum { N = 100 };
	struct wire w[N];
	pthread_t server;
	unsigned port;
	struct lab l;
	int fd, i;

	cr_assert(lab_start(&l, "inotify"));
	fd = tcp_listener(&port);
	server = serve(fd);
	for (i = 0; i < N; i++)
		cr_assert_str_eq(open_it(&l, &w[i], "", port, ""), "");
	for (i = N - 1; i >= 0; i--) {
		exchange(&w[i], 70000, 65536);
		wire_close(&w[i]);
	}
	serve_end(fd, server);
	lab_stop(&l);
}

/* A tunnel that nobody reads holds up no other, and what it holds is bounded. */
Test(tunnel, a_reader_that_does_not_read)
{
	uint8_t *waste = must_calloc(1, 65536);
	unsigned port, i;
	pthread_t server;
	struct wire stuck, w;
	union got got;
	struct lab l;
	int fd, dumb;

	cr_assert(lab_start(&l, "inotify"));
	fd = tcp_listener(&port);
	cr_assert_str_eq(open_it(&l, &stuck, "", port, ""), "");
	dumb = accept(fd, NULL, NULL); /* never read from */
	server = serve(fd);
	for (i = 0; i < 4; i++)
		wire_send(&stuck, MSG_TUNNEL_DATA, &(struct msg_TUNNEL_DATA){ .data = SPAN(waste, 65536) });
	cr_assert_str_eq(open_it(&l, &w, "", port, ""), "");
	exchange(&w, MB, 65536);
	wire_close(&w);
	/* What the kernel's buffers took is granted again; as much as that and one byte more is against the rules. */
	for (i = 0; i < 4096; i++) {
		wire_send(&stuck, MSG_TUNNEL_DATA, &(struct msg_TUNNEL_DATA){ .data = SPAN(waste, 65536) });
		if (wire_ready(&stuck, 0) && wire_next(&stuck, &got) != MSG_WINDOW)
			break;
	}
	cr_assert_lt(i, 4096);
	cr_assert(span_eq(got.error.slug, span_str("tunnel-window")));
	wire_close(&stuck);
	close(dumb);
	serve_end(fd, server);
	free(waste);
	lab_stop(&l);
}

Test(tunnel, failures_have_names)
{
	struct wire w;
	unsigned port;
	struct lab l;
	int fd;

	cr_assert(lab_start(&l, "inotify"));
	fd = tcp_listener(&port);
	close(fd);
	cr_expect_str_eq(open_it(&l, &w, "", port, ""), "refused");
	wire_close(&w);
	cr_expect_str_eq(open_it(&l, &w, "", 0, "/no/such/socket"), "no-such-socket");
	wire_close(&w);
	cr_expect_str_eq(open_it(&l, &w, "", 0, "relative"), "bad-request");
	wire_close(&w);
	cr_expect_str_eq(open_it(&l, &w, "localhost", 80, ""), "bad-request");
	wire_close(&w);
	cr_expect_str_eq(open_it(&l, &w, "", 80, "/both"), "bad-request");
	wire_close(&w);
	cr_expect_str_eq(begin(&l, &w, MSG_TUNNEL_TAKE, &(struct msg_TUNNEL_TAKE){ .ask = 1 }), "no-such-stream");
	wire_close(&w);
	cr_expect_str_eq(begin(&l, &w, MSG_STDIN_END, &(struct msg_STDIN_END){ 0 }), "bad-message");
	wire_close(&w);
	lab_stop(&l);
}

/* A listening Unix socket whose queue is full lets nobody in: that is a timeout, not a failure at once. */
Test(tunnel, a_full_queue_is_waited_for)
{
	struct msg_TUNNEL_OPEN m = { .timeout_ms = 300 };
	struct wire w;
	struct lab l;
	int fd, one = -1;

	cr_assert(lab_start(&l, "inotify"));
	cr_assert_eq(io_unix_listen(lab_path(&l, "s"), 0600, &fd, NULL), 0);
	cr_assert_eq(listen(fd, 0), 0);
	cr_assert_eq(io_unix_connect(lab_path(&l, "s"), &one, NULL), 0);
	m.socket = span_str(lab_path(&l, "s"));
	cr_expect_str_eq(begin(&l, &w, MSG_TUNNEL_OPEN, &m), "timeout");
	wire_close(&w);
	close(one);
	close(fd);
	lab_stop(&l);
}

/* The target resets: said by an error, not by an end. */
Test(tunnel, a_reset_is_told)
{
	struct linger hard = { .l_onoff = 1 };
	unsigned port;
	union got got;
	struct wire w;
	struct lab l;
	int fd, c;

	cr_assert(lab_start(&l, "inotify"));
	fd = tcp_listener(&port);
	cr_assert_str_eq(open_it(&l, &w, "", port, ""), "");
	c = accept(fd, NULL, NULL);
	cr_assert_eq(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(c);
	cr_assert_eq(wire_next(&w, &got), MSG_ERROR);
	cr_expect(span_eq(got.error.slug, span_str("reset")));
	cr_assert_eq(wire_next(&w, &got), 0);
	wire_close(&w);
	close(fd);
	lab_stop(&l);
}

/* --- streams that the guest asks for ------------------------------------------------------------------------------ */

static unsigned call(struct wire *w, enum msg_type type, void *m, union got *got)
{
	wire_send(w, type, m);
	return wire_next(w, got);
}

/* An agent with a service. */
static void listen_at(struct lab *l, struct wire *control, struct msg_LISTEN *m)
{
	union got got;

	cr_assert(lab_start(l, "inotify"));
	m->socket = span_str(lab_path(l, "svc.sock"));
	cr_assert(wire_dial(l, control, WIRE_CONTROL, l->token));
	cr_assert_eq(call(control, MSG_LISTEN, m, &got), MSG_OK);
}

Test(service, ask_take_refuse_unlisten)
{
	struct msg_LISTEN listen_it = { .call = 1, .name = span_str("svc") };
	struct wire control, w;
	struct stat st;
	union got got;
	struct lab l;
	char byte;
	int fd;

	listen_at(&l, &control, &listen_it);
	cr_assert_eq(call(&control, MSG_LISTEN, &listen_it, &got), MSG_OK);
	cr_assert_eq(stat(lab_path(&l, "svc.sock"), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0666);
	listen_it.socket = span_str("/elsewhere");
	cr_assert_eq(call(&control, MSG_LISTEN, &listen_it, &got), MSG_ERROR);

	cr_assert_eq(io_unix_connect(lab_path(&l, "svc.sock"), &fd, NULL), 0);
	cr_assert_eq(wire_next(&control, &got), MSG_ASK);
	cr_expect(span_eq(got.ask.name, span_str("svc")));
	cr_assert_str_eq(begin(&l, &w, MSG_TUNNEL_TAKE, &(struct msg_TUNNEL_TAKE){ .ask = got.ask.ask }), "");
	wire_send(&w, MSG_TUNNEL_DATA, &(struct msg_TUNNEL_DATA){ .data = span_str("x") });
	cr_assert_eq(read(fd, &byte, 1), 1);
	cr_assert_eq(write(fd, "y", 1), 1);
	cr_assert_eq(wire_next(&w, &got), MSG_TUNNEL_DATA);
	cr_expect(span_eq(got.data.data, span_str("y")));
	/* The host is gone: so is the connection inside. */
	wire_close(&w);
	cr_assert_eq(read(fd, &byte, 1), 0);
	close(fd);

	cr_assert_eq(io_unix_connect(lab_path(&l, "svc.sock"), &fd, NULL), 0);
	cr_assert_eq(wire_next(&control, &got), MSG_ASK);
	wire_send(&control, MSG_REFUSE, &(struct msg_REFUSE){ .ask = got.ask.ask });
	cr_assert_eq(read(fd, &byte, 1), 0);
	close(fd);

	cr_assert_eq(call(&control, MSG_UNLISTEN, &(struct msg_UNLISTEN){ .call = 2, .name = span_str("svc") }, &got),
		     MSG_OK);
	cr_assert_eq(access(lab_path(&l, "svc.sock"), F_OK), -1);
	wire_close(&control);
	lab_stop(&l);
}

/* A host of generation 1 is told nothing that it does not know: who connects is let go. */
Test(service, an_older_host_is_not_asked)
{
	struct msg_HELLO hello = { .generation = 1, .kind = WIRE_CONTROL, .id = span_str("lab") };
	struct msg_LISTEN listen_it = { .call = 1, .name = span_str("svc") };
	union {
		struct msg_HELLO hello;
		char room[512];
	} back;
	struct wire control, old;
	union got got;
	struct lab l;
	char byte;
	int fd;

	listen_at(&l, &control, &listen_it);
	hello.token = SPAN(l.token, WIRE_TOKEN_LEN);
	old.last = false;
	buf_init(&old.in, 0);
	cr_assert_eq(xport_connect(l.address, clock_after_ms(5000), &old.fd, NULL), 0);
	wire_send(&old, MSG_HELLO, &hello);
	cr_assert_eq(wire_next(&old, &back), MSG_HELLO);
	cr_assert_eq(back.hello.generation, 1);
	cr_assert_eq(io_unix_connect(lab_path(&l, "svc.sock"), &fd, NULL), 0);
	cr_assert_eq(read(fd, &byte, 1), 0);
	close(fd);
	wire_send(&old, MSG_PING, &(struct msg_PING){ .call = 5 });
	cr_assert_eq(wire_next(&old, &got), MSG_PONG, "and nothing before it");
	wire_close(&old);
	wire_close(&control);
	lab_stop(&l);
}

/* --- from which command ------------------------------------------------------------------------------------------- */

enum { MARK = 123456789, LINGER_S = 3600 };

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "not so: %s\n", what);
	_exit(1);
}

/* With no processes but its own, as the agent has it; they end with it. */
static void in_a_box(void (*run)(void))
{
	int status = 0;
	pid_t pid;

	cr_assert_eq(unshare(CLONE_NEWPID | CLONE_NEWNS), 0);
	pid = fork();
	if (pid == 0) {
		must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mounts of its own");
		must(mount("proc", "/proc", "proc", 0, NULL) == 0, "/proc");
		run();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
}

static void next_pid_is(const char *one_more)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);

	must(fd >= 0 && write(fd, one_more, strlen(one_more)) > 0, "numbers of processes");
	close(fd);
}

/* A child with a mark, whose own child connects and waits to be killed; so that who is found is not who was marked. */
static pid_t connect_marked(int family, const struct sockaddr *to, socklen_t len, bool lingers)
{
	const struct rlimit mark = { .rlim_cur = MARK, .rlim_max = MARK };
	const struct linger linger = { .l_onoff = 1, .l_linger = LINGER_S };
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	setpgid(0, 0);
	if (setrlimit(RLIMIT_RTTIME, &mark) < 0 || fork() != 0) {
		pause();
		_exit(1);
	}
	fd = socket(family, SOCK_STREAM, 0);
	if (lingers)
		(void)!setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (fd < 0 || connect(fd, to, len) < 0)
		_exit(1);
	pause();
	_exit(0);
}

static void whose(int family, const struct sockaddr *to, socklen_t len, int listener, bool lingers)
{
	struct whose w = { .next = 0 };
	pid_t pid = connect_marked(family, to, len, lingers);
	int fd = accept(listener, NULL, NULL), i;

	must(fd >= 0, "accept");
	for (i = 0; i < 2; i++) /* found, and found again where it was */
		must(whose_tag(&w, fd) == MARK, "the mark");
	must(w.next == (to->sa_family == AF_UNIX ? 0 : 1), "found again");
	setpgid(pid, pid);
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
}

static void processes_that_have_the_other_end(void)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_addr.s6_addr = { [10] = 0xff, [11] = 0xff, 127, 0, 0, 1 } };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	unsigned port;
	int fd = tcp_listener(&port), i;

	v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	v4.sin_port = v6.sin6_port = htons((uint16_t)port);
	for (i = 0; i < 2; i++)
		whose(AF_INET, (struct sockaddr *)&v4, sizeof(v4), fd, i);
	whose(AF_INET6, (struct sockaddr *)&v6, sizeof(v6), fd, false);
	close(fd);
	snprintf(un.sun_path, sizeof(un.sun_path), "/tmp/berth-whose-%d", getppid());
	must(io_unix_listen(un.sun_path, 0600, &fd, NULL) == 0, "a Unix socket");
	whose(AF_UNIX, (struct sockaddr *)&un, sizeof(un), fd, false);
	close(fd);
	unlink(un.sun_path);
}

Test(whose, processes_that_have_the_other_end)
{
	in_a_box(processes_that_have_the_other_end);
}

/* More processes than are looked at, with higher numbers, from before these began again. */
static void the_youngest_has_a_low_number(void)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	unsigned port, i;
	int fd = tcp_listener(&port);

	v4.sin_port = htons((uint16_t)port);
	next_pid_is("20000");
	for (i = 0; i < 1100; i++)
		if (fork() == 0) {
			close(fd);
			pause();
		}
	next_pid_is("300");
	whose(AF_INET, (struct sockaddr *)&v4, sizeof(v4), fd, false);
}

Test(whose, the_youngest_has_a_low_number)
{
	in_a_box(the_youngest_has_a_low_number);
}

/* Nobody but us, whom it does not look at. */
Test(whose, who_is_not_met_is_not_known)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	struct whose w = { .next = 0 };
	unsigned port;
	int listener = tcp_listener(&port), mine = socket(AF_INET, SOCK_STREAM, 0), fd;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.sin_port = htons((uint16_t)port);
	cr_assert_eq(connect(mine, (struct sockaddr *)&at, sizeof(at)), 0);
	fd = accept(listener, NULL, NULL);
	cr_expect_eq(whose_tag(&w, fd), 0);
	close(fd);
	close(mine);
	close(listener);
}
