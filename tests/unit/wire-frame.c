/* SPDX-License-Identifier: Apache-2.0 */
/* Frames, connections, transports, captures. */
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "wire-sample.h"
#include "wire/conn.h"
#include "wire/trace.h"
#include "wire/xport.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t soon(void)
{
	return clock_after_ms(10000);
}

Test(frame, is_put_together_byte_by_byte)
{
	struct msg_EXEC m, back;
	struct buf out, in;
	struct frame f;
	size_t i, n, first;

	fill_EXEC(&m, SAMPLE_SMALL);
	buf_init(&out, 0);
	buf_init(&in, 0);
	cr_assert_eq(frame_put(&out, MSG_EXEC, &m), 0);
	first = buf_len(&out);
	cr_assert_eq(frame_put(&out, MSG_EXIT_ACK, &(struct msg_EXIT_ACK){ 0 }), 0);
	n = buf_len(&out);
	for (i = 0; i < n; i++) {
		cr_assert_eq(frame_parse(&in, &f, NULL), FRAME_E_MORE);
		cr_assert_eq(buf_append(&in, (const char *)out.p + out.start + i, 1), 0);
		if (i < first)
			cr_assert_eq(frame_rest(&in), (i + 1 < FRAME_HEADER ? (size_t)FRAME_HEADER : first) - i - 1);
		if (frame_parse(&in, &f, NULL) == 0) {
			cr_assert_eq(frame_rest(&in), 0);
			if (f.type == MSG_EXEC)
				cr_assert_eq(msg_decode(MSG_EXEC, f.payload, &back, NULL), 0);
			else
				cr_assert_eq(i, n - 1);
			frame_consume(&in, &f);
		}
	}
	cr_assert_eq(buf_len(&in), 0);
	buf_fini(&in);
	buf_fini(&out);
}

Test(frame, bad_headers_are_refused_at_once)
{
	static const char *const bad[] = {
		"\xff\xff\xff\xff\x04\0\0\0", "\0\x10\x40\x01\x04\0\0\0", "\0\0\0\0\x7f\0\0\0",
		"\0\0\0\0\x80\0\0\0",	      "\0\0\0\0\x04\1\0\0",	  "\0\0\0\0\x04\0\0\1",
	};
	struct frame f;
	struct buf in;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		buf_init(&in, 0);
		cr_assert_eq(buf_append(&in, bad[i], 8), 0);
		cr_assert_eq(frame_parse(&in, &f, NULL), -EBADMSG, "%zu", i);
		cr_assert_leq(frame_rest(&in), FRAME_MAX);
		buf_fini(&in);
	}
}

Test(frame, put_appends_all_or_nothing)
{
	struct msg_FS_DATA m = { .data = SPAN(sample_bytes, 1024) };
	struct buf out;

	buf_init(&out, 512);
	cr_assert_lt(frame_put(&out, MSG_FS_DATA, &m), 0);
	cr_assert_eq(buf_len(&out), 0);
	cr_assert_eq(frame_put(&out, MSG_NODE, &(struct msg_NODE){ 0 }), -EINVAL);
	cr_assert_eq(frame_put(&out, MSG_PING, &(struct msg_PING){ .call = 1 }), 0);
	cr_assert_not(out.failed);
	buf_fini(&out);
}

struct sending {
	int fd, file;
	size_t len;
	int r;
};

static void *send_file(void *ctx)
{
	struct sending *s = ctx;

	s->r = frame_send_file(s->fd, MSG_PLACE_DATA, s->file, 100, s->len, soon());
	close(s->fd);
	return NULL;
}

/* The bytes of a file go as those of a buffer would. */
Test(frame, bytes_of_a_file)
{
	static const size_t lens[] = { 1, 255, 256, 65535, 65536, 262144 };
	struct sending s = { .file = memfd_create("bytes", 0) };
	size_t i;

	for (i = 0; i < sizeof(sample_bytes); i++)
		sample_bytes[i] = (unsigned char)(i * 2654435761U >> 13);
	cr_assert_eq(write(s.file, sample_bytes, 300000), 300000);
	for (i = 0; i < ARRAY_LEN(lens); i++) {
		struct msg_PLACE_DATA m = { .data = SPAN(sample_bytes + 100, lens[i]) };
		struct buf want, got;
		pthread_t thread;
		int sv[2];

		buf_init(&want, FRAME_HEADER + FRAME_MAX);
		buf_init(&got, FRAME_HEADER + FRAME_MAX);
		cr_assert_eq(frame_put(&want, MSG_PLACE_DATA, &m), 0);
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		cr_assert_eq(fd_nonblock(sv[0], true), 0);
		s.fd = sv[0];
		s.len = lens[i];
		cr_assert_eq(pthread_create(&thread, NULL, send_file, &s), 0);
		for (;;) {
			ssize_t n = read(sv[1], buf_reserve(&got, 65536), 65536);

			if (n <= 0)
				break;
			buf_commit(&got, (size_t)n);
		}
		pthread_join(thread, NULL);
		cr_expect_eq(s.r, 0);
		cr_expect(span_eq(buf_span(&got), buf_span(&want)), "%zu bytes", lens[i]);
		close(sv[1]);
		buf_fini(&want);
		buf_fini(&got);
	}
	close(s.file);
}

Test(frame, bytes_of_a_file_that_cannot_go)
{
	int file = memfd_create("bytes", 0), sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	cr_assert_eq(fd_nonblock(sv[0], true), 0);
	cr_assert_eq(write(file, sample_bytes, 1000), 1000);
	cr_expect_eq(frame_send_file(sv[0], MSG_FS_DATA, file, 0, 10, soon()), -EINVAL, "it has another field");
	cr_expect_eq(frame_send_file(sv[0], MSG_PLACE_DATA, file, 0, 262145, soon()), -EINVAL);
	cr_expect_eq(frame_send_file(sv[0], MSG_PLACE_DATA, file, 0, 0, soon()), -EINVAL);
	cr_expect_eq(frame_send_file(sv[0], MSG_PLACE_DATA, file, 990, 11, soon()), -ENODATA, "the file ends before");
	cr_assert_eq(ftruncate(file, 2000000), 0);
	while (send(sv[0], sample_bytes, 10000, MSG_DONTWAIT) > 0)
		;
	cr_expect_eq(frame_send_file(sv[0], MSG_PLACE_DATA, file, 0, 200000, clock_now()), -ETIMEDOUT);
	close(sv[1]);
	signal(SIGPIPE, SIG_IGN);
	cr_expect_eq(frame_send_file(sv[0], MSG_PLACE_DATA, file, 0, 200000, soon()), -EPIPE);
	close(sv[0]);
	close(file);
}

Test(frame, send_and_receive_with_deadlines)
{
	struct msg_FS_DATA m = { .call = 3, .data = SPAN(sample_bytes, 1048576) }, back;
	struct frame f;
	struct buf in;
	int sv[2], r = 0;

	buf_init(&in, FRAME_HEADER + FRAME_MAX);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	cr_assert_eq(frame_recv(sv[1], &in, &f, clock_now(), NULL), -ETIMEDOUT);
	cr_assert_eq(frame_send(sv[0], MSG_FS_DATA, &m, clock_now()), -ETIMEDOUT); /* nobody reads a megabyte */
	close(sv[0]);
	while ((r = frame_recv(sv[1], &in, &f, soon(), NULL)) == 0)
		frame_consume(&in, &f);
	cr_assert_eq(r, -ECONNRESET); /* ended inside a frame */
	close(sv[1]);
	buf_fini(&in);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	m.data = SPAN(sample_bytes, 1000);
	cr_assert_eq(frame_send(sv[0], MSG_FS_DATA, &m, soon()), 0);
	close(sv[0]);
	cr_assert_eq(frame_recv(sv[1], &in, &f, soon(), NULL), 0);
	cr_assert_eq(msg_decode(f.type, f.payload, &back, NULL), 0);
	cr_assert_eq(back.data.len, 1000);
	frame_consume(&in, &f);
	cr_assert_eq(frame_recv(sv[1], &in, &f, soon(), NULL), -ENODATA);
	close(sv[1]);
	buf_fini(&in);
}

/* --- conn -------------------------------------------------------------------------------------------------------- */

struct peer {
	struct conn *conn;
	unsigned frames, drains, closes;
	int why;
	bool free_on_frame, echo;
	struct peer *pause_me_at;
	const uint8_t *first; /* FS_DATA is a piece of what begins here */
	size_t sum; /* bytes of FS_DATA */
};

static void peer_data(struct peer *p, const struct frame *f)
{
	struct msg_FS_DATA m;
	size_t at;

	cr_assert_eq(msg_decode(f->type, f->payload, &m, NULL), 0);
	at = p->frames / 10; /* see many_sizes() */
	cr_assert(!m.data.len || memcmp(m.data.p, p->first + at, m.data.len) == 0);
	p->sum += m.data.len;
}

static void peer_frame(void *ctx, const struct frame *f)
{
	struct peer *p = ctx;

	if (p->first && f->type == MSG_FS_DATA)
		peer_data(p, f);
	p->frames++;
	if (p->echo)
		cr_assert_eq(conn_send(p->conn, MSG_PONG, &(struct msg_PONG){ .call = p->frames }), 0);
	if (p->free_on_frame)
		conn_free(&p->conn);
	cr_assert_not_null(msg_name(f->type));
}

static void peer_close(void *ctx, const struct err *why)
{
	struct peer *p = ctx;

	p->closes++;
	p->why = why->code;
	conn_free(&p->conn);
}

static void peer_drain(void *ctx)
{
	((struct peer *)ctx)->drains++;
}

static const struct conn_events peer_events = { peer_frame, peer_close, peer_drain };

static void pair(struct loop *loop, struct peer *a, struct peer *b)
{
	int sv[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
	cr_assert_eq(conn_new(loop, sv[0], 4 * FRAME_MAX, &peer_events, a, &a->conn, NULL), 0);
	cr_assert_eq(conn_new(loop, sv[1], 0, &peer_events, b, &b->conn, NULL), 0);
}

#define UNTIL(loop, cond)                                                       \
	do {                                                                    \
		uint64_t end_ = soon();                                         \
		while (!(cond) && clock_now() < end_)                           \
			cr_assert_eq(loop_once(loop, 100), 0);                  \
		cr_assert(cond);                                                \
	} while (0)

Test(conn, carries_frames_pauses_and_drains)
{
	struct msg_FS_DATA big = { .data = SPAN(sample_bytes, 1048576) };
	struct peer a = { 0 }, b = { 0 };
	struct loop *loop = NULL;
	unsigned i;

	cr_assert_eq(loop_new(&loop, NULL), 0);
	pair(loop, &a, &b);
	conn_pause(b.conn);
	for (i = 0; i < 3; i++)
		cr_assert_eq(conn_send(a.conn, MSG_FS_DATA, &big), 0);
	cr_assert_not(conn_room(a.conn));
	while (conn_send(a.conn, MSG_FS_DATA, &big) == 0)
		i++;
	cr_assert_eq(conn_send(a.conn, MSG_FS_DATA, &big), -E2BIG);
	cr_assert_gt(conn_pending(a.conn), 2 * 1048576);
	cr_assert_eq(loop_once(loop, 0), 0);
	cr_assert_eq(b.frames, 0);
	conn_resume(b.conn);
	UNTIL(loop, b.frames == i && a.drains == 1);
	b.echo = true;
	for (i = 0; i < 100; i++)
		cr_assert_eq(conn_send(a.conn, MSG_PING, &(struct msg_PING){ .call = i }), 0);
	UNTIL(loop, a.frames == 100);
	conn_finish(a.conn);
	UNTIL(loop, a.closes == 1 && b.closes == 1);
	cr_assert_eq(b.why, -ENODATA);
	loop_free(&loop);
}

/* Around what is read at a time, and around what a frame may be; small ones between. */
static void many_sizes(struct loop *loop, struct peer *a, struct peer *b)
{
	static const size_t sizes[] = { 0, 65536 - 20, 65536 - 12, 65535, 65536, 65537, 131072, 262144, 1048576, 1 };
	unsigned i, k;

	for (k = 0; k < 40; k++)
		for (i = 0; i < ARRAY_LEN(sizes); i++) {
			struct msg_FS_DATA m = { .data = SPAN(sample_bytes + k,
							      sizes[(i * 7 + k) % ARRAY_LEN(sizes)]) };

			m.data.len -= m.data.len > k ? k : 0;
			cr_assert_eq(conn_send(a->conn, MSG_FS_DATA, &m), 0);
			a->sum += m.data.len;
			UNTIL(loop, conn_room(a->conn));
		}
	UNTIL(loop, b->frames == k * ARRAY_LEN(sizes));
	cr_assert_eq(b->sum, a->sum);
}

/* A sanitizer has an allocator of its own, of which libc knows nothing; gcc comes without the header. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
size_t __sanitizer_get_current_allocated_bytes(void); /* NOLINT */
#endif
static size_t allocated(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return __sanitizer_get_current_allocated_bytes();
#else
	return mallinfo2().uordblks + mallinfo2().hblkhd;
#endif
}

Test(conn, large_frames_come_whole_and_leave_no_buffer)
{
	struct peer a = { 0 }, b = { .first = sample_bytes };
	struct loop *loop = NULL;
	size_t before, i;

	for (i = 0; i < sizeof(sample_bytes); i++)
		sample_bytes[i] = (unsigned char)(i * 2654435761U >> 13);
	cr_assert_eq(loop_new(&loop, NULL), 0);
	pair(loop, &a, &b);
	before = allocated();
	many_sizes(loop, &a, &b);
	cr_assert_gt(allocated(), before + 1048576);
	UNTIL(loop, allocated() < before + 400000); /* two of what a connection may keep, and the tables */
	b.frames = 0;
	b.sum = a.sum = 0;
	many_sizes(loop, &a, &b);
	conn_finish(a.conn);
	UNTIL(loop, a.closes == 1 && b.closes == 1);
	loop_free(&loop);
}

Test(conn, held_frames_go_out_together)
{
	struct msg_FS_DATA some = { .data = SPAN(sample_bytes, 10000) };
	struct peer a = { 0 }, b = { 0 };
	struct loop *loop = NULL;
	unsigned i;

	cr_assert_eq(loop_new(&loop, NULL), 0);
	pair(loop, &a, &b);
	conn_hold(a.conn);
	for (i = 0; i < 3; i++)
		cr_assert_eq(conn_send(a.conn, MSG_FS_DATA, &some), 0);
	cr_assert_gt(conn_pending(a.conn), 30000);
	cr_assert_eq(conn_send(a.conn, MSG_FS_DATA, &some), 0);
	cr_assert_eq(conn_pending(a.conn), 0);
	cr_assert_eq(conn_send(a.conn, MSG_PING, &(struct msg_PING){ .call = 1 }), 0);
	conn_let_go(a.conn);
	cr_assert_eq(conn_pending(a.conn), 0);
	UNTIL(loop, b.frames == 5);
	conn_hold(a.conn); /* what is held when it is closed in order goes out, too */
	cr_assert_eq(conn_send(a.conn, MSG_PING, &(struct msg_PING){ .call = 2 }), 0);
	conn_let_go(a.conn);
	conn_finish(a.conn);
	UNTIL(loop, b.frames == 6 && a.closes == 1 && b.closes == 1);
	loop_free(&loop);
}

Test(conn, may_be_freed_from_its_own_frame)
{
	struct peer a = { 0 }, b = { .free_on_frame = true };
	struct loop *loop = NULL;

	cr_assert_eq(loop_new(&loop, NULL), 0);
	pair(loop, &a, &b);
	cr_assert_eq(conn_send(a.conn, MSG_PING, &(struct msg_PING){ .call = 1 }), 0);
	cr_assert_eq(conn_send(a.conn, MSG_PING, &(struct msg_PING){ .call = 2 }), 0);
	UNTIL(loop, a.closes == 1);
	cr_assert_eq(b.frames, 1);
	cr_assert_eq(b.closes, 0);
	loop_free(&loop);
}

Test(conn, frames_that_are_none_end_it)
{
	struct peer a = { 0 };
	struct loop *loop = NULL;
	int sv[2];

	cr_assert_eq(loop_new(&loop, NULL), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
	cr_assert_eq(conn_new(loop, sv[0], 0, &peer_events, &a, &a.conn, NULL), 0);
	cr_assert_eq(write(sv[1], "GET / HTTP/1.1\r\n", 16), 16);
	UNTIL(loop, a.closes == 1);
	cr_assert_eq(a.why, -EBADMSG);
	close(sv[1]);
	loop_free(&loop);
}

/* --- transports -------------------------------------------------------------------------------------------------- */

struct fake {
	int listener;
	const char *answer;
	char got[64];
};

static void *fake_backend(void *ctx)
{
	struct fake *f = ctx;
	int fd = accept(f->listener, NULL, NULL);
	ssize_t n = read(fd, f->got, sizeof(f->got) - 1);

	f->got[n > 0 ? n : 0] = '\0';
	if (f->answer)
		cr_assert_eq(write(fd, f->answer, strlen(f->answer)), (ssize_t)strlen(f->answer));
	close(fd);
	return NULL;
}

static int hybrid(const char *answer, struct fake *fake, int *ret_fd)
{
	AUTO(str_free) char *path = str_printf("/tmp/wire-hybrid-%d.sock", (int)getpid());
	AUTO(str_free) char *address = str_printf("hybrid:%s:5000", path);
	pthread_t thread;
	int r;

	unlink(path);
	fake->answer = answer;
	cr_assert_eq(io_unix_listen(path, 0600, &fake->listener, NULL), 0);
	pthread_create(&thread, NULL, fake_backend, fake);
	r = xport_connect(address, soon(), ret_fd, NULL);
	pthread_join(thread, NULL);
	close(fake->listener);
	unlink(path);
	return r;
}

Test(xport, hybrid_handshake)
{
	struct fake fake = { 0 };
	char rest[8] = "";
	int fd = -1;

	cr_assert_eq(hybrid("OK 1073741824\nhello", &fake, &fd), 0);
	cr_assert_str_eq(fake.got, "CONNECT 5000\n");
	cr_assert_eq(read(fd, rest, 7), 5);
	cr_assert_str_eq(rest, "hello");
	close(fd);
	cr_assert_eq(hybrid(NULL, &fake, &fd), -ECONNREFUSED);
	cr_assert_eq(hybrid("NO\n", &fake, &fd), -EPROTO);
	cr_assert_eq(hybrid("OK 11111111111111111111111111111111111111111111111111111111111111111111111", &fake, &fd),
		     -EPROTO);
}

Test(xport, unix_and_bad_addresses)
{
	static const char *const bad[] = { "", "unix:", "tcp:1", "hybrid:/x", "hybrid::1", "hybrid:/x:y", "vsock:1",
					   "vsock:x:1", "fd:", "fd:x" };
	AUTO(str_free) char *address = str_printf("unix:/tmp/wire-xport-%d.sock", (int)getpid());
	int listener = -1, a = -1, b = -1;
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(xport_connect(bad[i], soon(), &a, NULL), -EINVAL, "%s", bad[i]);
	unlink(address + 5);
	cr_assert_eq(xport_connect(address, soon(), &a, NULL), -ECONNREFUSED);
	cr_assert_eq(xport_listen("hybrid:/x:1", &listener, NULL), -EINVAL);
	cr_assert_eq(xport_listen(address, &listener, NULL), 0);
	cr_assert_eq(xport_accept(listener, &a), -EAGAIN);
	cr_assert_eq(xport_connect(address, soon(), &a, NULL), 0);
	cr_assert_eq(xport_accept(listener, &b), 0);
	cr_assert(fcntl(a, F_GETFL) & O_NONBLOCK && fcntl(b, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(a, F_GETFD) & FD_CLOEXEC && fcntl(b, F_GETFD) & FD_CLOEXEC);
	close(a), close(b), close(listener);
	unlink(address + 5);
}

Test(trace, captures_and_dumps_without_tokens)
{
	AUTO(str_free) char *path = str_printf("/tmp/wire-trace-%d", (int)getpid());
	struct msg_HELLO h = { .generation = 1, .kind = 1, .token = span_str("sesame"), .id = span_str("box") };
	struct buf text, raw;
	struct frame f;
	int sv[2], pipefd[2];

	unlink(path);
	setenv("BERTH_TRACE", path, 1);
	cr_assert_eq(trace_open(NULL), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	cr_assert_eq(frame_send(sv[0], MSG_HELLO, &h, soon()), 0);
	buf_init(&text, 0);
	buf_init(&raw, 0);
	cr_assert_eq(frame_recv(sv[1], &text, &f, soon(), NULL), 0);
	buf_fini(&text);
	cr_assert_eq(io_read_file(AT_FDCWD, path, &raw), 0);
	cr_assert_null(memmem(buf_span(&raw).p, buf_len(&raw), "sesame", 6));
	cr_assert_eq(pipe(pipefd), 0);
	cr_assert_eq(trace_dump(path, pipefd[1], NULL), 0);
	close(pipefd[1]);
	while (buf_reserve(&text, 4096)) {
		ssize_t n = read(pipefd[0], buf_reserve(&text, 4096), 4096);

		if (n <= 0)
			break;
		buf_commit(&text, (size_t)n);
	}
	cr_assert(strstr(buf_str(&text), "> HELLO generation=1 kind=1 token=(6) id=\"box\""));
	cr_assert(strstr(buf_str(&text), "< HELLO"));
	cr_assert_eq(trace_dump("/dev/null", 1, NULL), -EBADMSG);
	cr_assert_eq(truncate(path, (off_t)buf_len(&raw) - 3), 0);
	cr_assert_eq(trace_dump(path, pipefd[0], NULL) < 0, 1);
	unlink(path);
	buf_fini(&text);
	buf_fini(&raw);
}
