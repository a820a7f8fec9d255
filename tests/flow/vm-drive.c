/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host end of the VM test: dials an agent in a guest over hybrid: and drives it through what the wire must hold on
 * a real virtio-vsock device. Called by vm.sh: vm-drive ADDRESS TOKEN-FILE.
 *
 * The guest makes its output from a pattern that was sent there once, so every byte is checked without being kept: a
 * stream is blocks of 1 MiB, each a number of 8 digits and the pattern.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/link/link.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK = 1024 * 1024, DIGITS = 8, PATTERN = BLOCK - DIGITS, STEP_MS = 40000, MB = 1000 * 1000 };

static const char *address, *step = "start";
static uint8_t token[WIRE_TOKEN_LEN], pattern[PATTERN];
static uint64_t until; /* of the step that runs */

static void PRINTF(1, 2) die(const char *fmt, ...)
{
	va_list ap;

	printf("vm-drive: FAILED: %s: ", step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	exit(puts("") < 0 ? 2 : 1);
}

#define must(cond, ...)                   \
	do {                              \
		if (!(cond))              \
			die(__VA_ARGS__); \
	} while (0)

/* --- one process and its connection ------------------------------------------------------------------------------- */

typedef void expect_fn(uint64_t at, struct span data);

union message {
	struct msg_STARTED started;
	struct msg_OUTPUT output;
	struct msg_STDIN_ACK ack;
	struct msg_EXIT exit;
	struct msg_ERROR error;
	char room[512];
};

struct stream {
	int fd;
	struct buf in, out;
	const char *id;
	struct msg_STARTED started;
	struct msg_EXIT exit;
	bool has_started, ended;
	uint64_t got[3];		      /* bytes of output seen, by stream */
	uint64_t credit, given;		      /* at once, and in all on stream 1 */
	uint64_t in_at, in_acked, in_total;   /* standard input: sent, taken there, length */
	uint64_t enough;		      /* stop giving credit after this many bytes */
	bool in_ended;
	expect_fn *expect;
	char text[3][4096]; /* the first of each stream, for short ones */
};

static int dial(unsigned kind)
{
	struct err e = ERR_NULL;
	int fd = -1;

	must(link_dial_to(address, "vm", token, kind, until, NULL, &fd, &e) == 0, "dial: %s", e.text);
	return fd;
}

static void put(struct stream *s, enum msg_type type, const void *m)
{
	int r = frame_put(&s->out, type, m);

	must(r == 0, "%s: %s", msg_name(type), err_name(r));
}

static void stream_open(struct stream *s, const char *id, uint64_t credit)
{
	*s = (struct stream){ .id = id, .credit = credit, .given = credit, .enough = UINT64_MAX };
	buf_init(&s->in, FRAME_HEADER + FRAME_MAX);
	buf_init(&s->out, 4 * FRAME_MAX);
	s->fd = dial(WIRE_EXEC);
}

static void stream_close(struct stream *s)
{
	fd_close(&s->fd);
	buf_fini(&s->in);
	buf_fini(&s->out);
}

/* A shell script as root. */
static void start(struct stream *s, const char *script, uint64_t in_total, bool pty)
{
	struct msg_EXEC m = { .id = span_str(s->id), .user = span_str("root"), .credit = s->credit,
			      .generation = WIRE_GENERATION, .hold_ms = 60000 };
	struct msg_list argv;

	msg_list_init(&argv, 0);
	(void)!msg_list_str(&argv, span_str("/bin/sh"));
	(void)!msg_list_str(&argv, span_str("-c"));
	(void)!msg_list_str(&argv, span_str(script));
	m.argv = msg_list_span(&argv);
	m.pty = pty, m.cols = 80, m.rows = 24;
	m.stdin_mode = in_total || pty ? WIRE_STDIN_STREAM : WIRE_STDIN_NONE;
	put(s, MSG_EXEC, &m);
	msg_list_fini(&argv);
	s->in_total = in_total;
}

static void expect_pattern(uint64_t at, struct span data)
{
	const uint8_t *p = data.p;
	size_t left = data.len;

	while (left) {
		uint64_t block = at / BLOCK, in = at % BLOCK;
		size_t n;
		char head[24];

		if (in < DIGITS) {
			snprintf(head, sizeof(head), "%08llu", (unsigned long long)block + 10);
			n = MIN((size_t)(DIGITS - in), left);
			must(memcmp(p, head + in, n) == 0, "wrong number of block %llu", (unsigned long long)block);
		} else {
			n = MIN((size_t)(BLOCK - in), left);
			must(memcmp(p, pattern + in - DIGITS, n) == 0, "wrong bytes near %llu", (unsigned long long)at);
		}
		p += n, at += n, left -= n;
	}
}

/* The pattern alone, again and again: what is sent as standard input. */
static void expect_echo(uint64_t at, struct span data)
{
	const uint8_t *p = data.p;
	size_t left = data.len, n;

	for (; left; p += n, at += n, left -= n) {
		n = MIN((size_t)(PATTERN - at % PATTERN), left);
		must(memcmp(p, pattern + at % PATTERN, n) == 0, "wrong bytes near %llu", (unsigned long long)at);
	}
}

static void on_output(struct stream *s, const struct msg_OUTPUT *m)
{
	uint64_t *got = &s->got[m->stream];
	struct msg_WINDOW more = { .stream = m->stream, .bytes = m->data.len };

	must(m->offset == *got, "offset %llu after %llu", (unsigned long long)m->offset, (unsigned long long)*got);
	if (s->expect && m->stream == WIRE_OUT)
		s->expect(m->offset, m->data);
	if (*got < sizeof(s->text[0]) - 1)
		memcpy(s->text[m->stream] + *got, m->data.p, MIN(m->data.len, sizeof(s->text[0]) - 1 - (size_t)*got));
	*got += m->data.len;
	if (m->stream == WIRE_OUT)
		must(*got <= s->given, "more output than credit");
	if (m->data.len && s->got[m->stream] < s->enough) {
		put(s, MSG_WINDOW, &more);
		s->given += m->stream == WIRE_OUT ? m->data.len : 0;
	}
}

static void on_message(struct stream *s, const struct frame *f)
{
	struct err e = ERR_NULL;
	union message m;

	must(msg_decode(f->type, f->payload, &m, &e) == 0, "%s", e.text);
	if (f->type == MSG_STARTED) {
		s->started = m.started;
		s->has_started = true;
		s->got[WIRE_OUT] = m.started.out_at;
		s->got[WIRE_ERR] = m.started.err_at;
		s->given = m.started.out_at + s->credit;
		s->in_at = s->in_acked = m.started.in_at;
	} else if (f->type == MSG_OUTPUT) {
		on_output(s, &m.output);
	} else if (f->type == MSG_STDIN_ACK) {
		s->in_acked = m.ack.offset;
	} else if (f->type == MSG_EXIT) {
		s->exit = m.exit;
		s->ended = true;
		must(m.exit.out_end == s->got[WIRE_OUT], "output of %llu, seen %llu",
		     (unsigned long long)m.exit.out_end, (unsigned long long)s->got[WIRE_OUT]);
	} else if (f->type == MSG_ERROR) {
		die("the agent says: %.*s", (int)m.error.text.len, (const char *)m.error.text.p);
	} else {
		die("unexpected %s", msg_name(f->type));
	}
}

static void take_input(struct stream *s)
{
	struct err e = ERR_NULL;
	void *room = buf_reserve(&s->in, MIN(buf_room(&s->in), (size_t)65536));
	ssize_t n = read(s->fd, room, MIN(buf_room(&s->in), (size_t)65536));
	struct frame f;
	int r;

	must(n != 0, "the agent hung up after %llu bytes", (unsigned long long)s->got[WIRE_OUT]);
	must(n > 0 || errno == EAGAIN || errno == EINTR, "read: %s", err_name(errno));
	buf_commit(&s->in, n > 0 ? (size_t)n : 0);
	while ((r = frame_parse(&s->in, &f, &e)) == 0) {
		on_message(s, &f);
		frame_consume(&s->in, &f);
	}
	must(r == FRAME_E_MORE, "%s", e.text);
}

/* Standard input, as far as the window goes. */
static void make_stdin(struct stream *s)
{
	while (s->has_started && s->in_at < s->in_total && s->in_at - s->in_acked < WIRE_STDIN_WINDOW &&
	       buf_len(&s->out) < FRAME_MAX) {
		size_t at = (size_t)(s->in_at % PATTERN);
		size_t n = MIN(MIN((size_t)(s->in_total - s->in_at), (size_t)PATTERN - at), (size_t)65536);
		struct msg_STDIN m = { .offset = s->in_at };

		n = MIN(n, (size_t)(WIRE_STDIN_WINDOW - (s->in_at - s->in_acked)));
		m.data = SPAN(pattern + at, n);
		put(s, MSG_STDIN, &m);
		s->in_at += n;
	}
	if (s->in_total && s->in_at == s->in_total && !s->in_ended) {
		put(s, MSG_STDIN_END, &(struct msg_STDIN_END){ .offset = s->in_total });
		s->in_ended = true;
	}
}

static void push_out(struct stream *s)
{
	struct span out = buf_span(&s->out);
	ssize_t n = out.len ? write(s->fd, out.p, out.len) : 0;

	must(n >= 0 || errno == EAGAIN || errno == EINTR, "write: %s", err_name(errno));
	buf_consume(&s->out, n > 0 ? (size_t)n : 0);
}

/* One turn of both directions. Return: false when nothing could be done before @turn. */
static bool turn(struct stream *s, bool reading, uint64_t end)
{
	struct pollfd p = { .fd = s->fd, .events = reading ? POLLIN : 0 };

	make_stdin(s);
	if (buf_len(&s->out))
		p.events |= POLLOUT;
	if (poll(&p, 1, clock_left_ms(end)) <= 0)
		return false;
	if (p.revents & POLLOUT)
		push_out(s);
	if (reading && (p.revents & (POLLIN | POLLHUP | POLLERR)))
		take_input(s);
	return true;
}

static void go_on(struct stream *s)
{
	must(turn(s, true, until), "nothing moves any more: %llu bytes out, %llu in, %llu of it acknowledged",
	     (unsigned long long)s->got[WIRE_OUT], (unsigned long long)s->in_at, (unsigned long long)s->in_acked);
	must(clock_now() < until, "too slow: %llu bytes out", (unsigned long long)s->got[WIRE_OUT]);
}

static void finish(struct stream *s, unsigned how, unsigned code)
{
	while (!s->ended)
		go_on(s);
	must(s->exit.how == how && s->exit.code == code, "ended with %u/%u: %s", (unsigned)s->exit.how,
	     (unsigned)s->exit.code, s->text[WIRE_ERR]);
	put(s, MSG_EXIT_ACK, &(struct msg_EXIT_ACK){ 0 });
	while (buf_len(&s->out))
		go_on(s);
	stream_close(s);
}

static void throughput(const char *what, uint64_t bytes, uint64_t since)
{
	double s = (double)(clock_now() - since) / 1e9;

	printf("vm-drive: %s: %.1f MB in %.2f s, %.1f MB/s\n", what, (double)bytes / MB, s, (double)bytes / MB / s);
}

/* --- the steps ---------------------------------------------------------------------------------------------------- */

static void hello(void)
{
	struct err e = ERR_NULL;
	uint8_t wrong[WIRE_TOKEN_LEN];
	uint64_t boot = 0, again = 0;
	int fd = -1, r;

	/* Nobody listens before the agent is there, and then on no other port. */
	while ((r = link_dial_to(address, "vm", token, WIRE_CONTROL, until, &boot, &fd, &e)) == -ECONNREFUSED &&
	       clock_now() < until)
		poll(NULL, 0, 20);
	must(r == 0, "dial: %s", e.text);
	fd_close(&fd);
	must(link_dial_to(address, "vm", token, WIRE_CONTROL, until, &again, &fd, &e) == 0, "second dial: %s", e.text);
	must(boot && again == boot, "another boot number");
	fd_close(&fd);
	memcpy(wrong, token, sizeof(wrong));
	wrong[WIRE_TOKEN_LEN - 1] ^= 1;
	r = link_dial_to(address, "vm", wrong, WIRE_CONTROL, until, NULL, &fd, &e);
	must(r == -EACCES, "a wrong token is answered with %s", err_name(r));
	r = link_dial_to(address, "another", token, WIRE_CONTROL, until, NULL, &fd, &e);
	must(r < 0, "another sandbox's hello is taken");
}

static void silent_port(void)
{
	AUTO(str_free) char *other = str_printf("%s9", address);
	struct err e = ERR_NULL;
	int fd = -1, r = link_dial_to(other, "vm", token, WIRE_CONTROL, clock_after_ms(5000), NULL, &fd, &e);

	must(r == -ECONNREFUSED, "a port that nobody listens on is answered with %s", err_name(r));
}

static void exec_plain(void)
{
	struct stream s;

	stream_open(&s, "plain", 65536);
	start(&s, "echo out; echo err >&2; pwd; id -u; exit 7", 0, false);
	finish(&s, WIRE_EXITED, 7);
	must(str_eq(s.text[WIRE_OUT], "out\n/workspace\n0\n"), "output: %s", s.text[WIRE_OUT]);
	must(str_eq(s.text[WIRE_ERR], "err\n"), "error output: %s", s.text[WIRE_ERR]);
	stream_open(&s, "signal", 65536);
	start(&s, "kill -9 $$", 0, false);
	finish(&s, WIRE_SIGNALED, 9);
}

static void exec_many(void)
{
	enum { N = 50 };
	uint64_t since = clock_now();
	struct stream s;
	char id[32];
	int i;

	for (i = 0; i < N; i++) {
		snprintf(id, sizeof(id), "many-%d", i);
		stream_open(&s, id, 65536);
		start(&s, "exit 0", 0, false);
		finish(&s, WIRE_EXITED, 0);
	}
	printf("vm-drive: a command, dialled anew each time: %.1f ms\n", (double)(clock_now() - since) / 1e6 / N);
}

/* Also leaves the pattern in the guest for what follows. */
static void stdin_echo(void)
{
	uint64_t since = clock_now();
	struct stream s;

	stream_open(&s, "pattern", 65536);
	start(&s, "cat >/tmp/pattern", PATTERN, false);
	finish(&s, WIRE_EXITED, 0);
	stream_open(&s, "echo", 256 * 1024);
	start(&s, "cat", 10 * MB, false);
	s.expect = expect_echo;
	finish(&s, WIRE_EXITED, 0);
	must(s.got[WIRE_OUT] == 10 * MB, "%llu bytes came back", (unsigned long long)s.got[WIRE_OUT]);
	throughput("standard input, echoed", 10 * MB, since);
}

static void wait_text(struct stream *s, const char *word)
{
	while (!strstr(s->text[WIRE_OUT], word)) {
		must(!s->ended, "no \"%s\" in: %s", word, s->text[WIRE_OUT]);
		go_on(s);
	}
}

static void type_line(struct stream *s, const char *line)
{
	put(s, MSG_STDIN, &(struct msg_STDIN){ .offset = s->in_at, .data = span_str(line) });
	s->in_at += strlen(line);
}

static void terminal(void)
{
	struct stream s;

	stream_open(&s, "terminal", 65536);
	start(&s, "test -t 0 && echo tty; stty size; read x; stty size; read y; echo \"said $y\"; exit 3", 0, true);
	wait_text(&s, "24 80");
	wait_text(&s, "tty");
	put(&s, MSG_RESIZE, &(struct msg_RESIZE){ .cols = 132, .rows = 50 });
	type_line(&s, "one\n");
	wait_text(&s, "50 132");
	type_line(&s, "two\n");
	wait_text(&s, "said two");
	finish(&s, WIRE_EXITED, 3);
}

#define BLOCKS(n) "i=10; while [ $i -lt " #n " ]; do printf %08d $i; cat /tmp/pattern; i=$((i+1)); done"

static void output_100_mb(void)
{
	uint64_t since = clock_now();
	struct stream s;

	stream_open(&s, "long", 1024 * 1024);
	s.expect = expect_pattern;
	start(&s, BLOCKS(110), 0, false);
	finish(&s, WIRE_EXITED, 0);
	must(s.got[WIRE_OUT] == 100ULL * BLOCK, "%llu bytes", (unsigned long long)s.got[WIRE_OUT]);
	throughput("output, checked", 100ULL * BLOCK, since);
}

/*
 * Both directions at once, and for a while the host writes without reading, as one with a slow client of its own might.
 * This back end is known to stop for good when much waits to be read on a connection that is written to without an end;
 * the window of standard input keeps it from that, whatever the credit: VM_CREDIT tries others than the library's.
 */
static void both_directions(void)
{
	const char *credit = getenv("VM_CREDIT");
	uint64_t since = clock_now(), pause;
	struct stream s;

	stream_open(&s, "both", credit ? strtoull(credit, NULL, 10) : 1024 * 1024);
	start(&s, "exec 3<&0; cat <&3 >/dev/null & " BLOCKS(30) "; wait", 20 * MB, false);
	s.expect = expect_pattern;
	while (!s.has_started)
		go_on(&s);
	pause = clock_after_ms(500);
	while (turn(&s, false, pause) && clock_now() < pause)
		;
	finish(&s, WIRE_EXITED, 0);
	must(s.got[WIRE_OUT] == 20ULL * BLOCK && s.in_acked == 20 * MB, "%llu bytes out, %llu in",
	     (unsigned long long)s.got[WIRE_OUT], (unsigned long long)s.in_acked);
	throughput("both directions at once", 20ULL * BLOCK + 20 * MB, since);
}

static void attach(struct stream *s, const char *id, uint64_t from)
{
	stream_open(s, id, 128 * 1024);
	put(s, MSG_ATTACH, &(struct msg_ATTACH){ .id = span_str(id), .out_from = from, .credit = s->credit,
					       .generation = WIRE_GENERATION, .hold_ms = 60000 });
	while (!s->has_started)
		go_on(s);
	must(s->started.out_at == from + s->started.out_lost, "attached at %llu",
	     (unsigned long long)s->started.out_at);
	s->expect = expect_pattern;
}

/* The connection dies in the middle of the output. What the process wrote until it waits fits into the ring. */
static void lost_connection(void)
{
	uint64_t seen;
	struct stream s;

	stream_open(&s, "lost", 60000);
	s.expect = expect_pattern;
	s.enough = 1;
	start(&s, "printf %08d 10; head -c 200000 /tmp/pattern; read x; tail -c +200001 /tmp/pattern; i=11; "
		  "while [ $i -lt 15 ]; do printf %08d $i; cat /tmp/pattern; i=$((i+1)); done", 1, false);
	s.in_total = 0; /* typed below */
	while (s.got[WIRE_OUT] < 50000)
		go_on(&s);
	seen = s.got[WIRE_OUT];
	stream_close(&s);
	attach(&s, "lost", seen);
	must(s.started.out_lost == 0, "%llu bytes are lost", (unsigned long long)s.started.out_lost);
	while (s.got[WIRE_OUT] < 200008)
		go_on(&s);
	type_line(&s, "\n");
	finish(&s, WIRE_EXITED, 0);
	must(s.got[WIRE_OUT] == 5ULL * BLOCK, "%llu bytes", (unsigned long long)s.got[WIRE_OUT]);
}

/* Connections are lost again and again while the process writes as fast as it can; what was not confirmed is held. */
static void many_lost_connections(void)
{
	bool is_long = getenv("BERTH_LONG") != NULL;
	uint64_t total = (is_long ? 100ULL : 10ULL) * BLOCK, dice = 1, next = 0, since = clock_now(), last = since,
		 worst = 0;
	unsigned cuts = is_long ? 1000 : 50, n = 0;
	struct stream s;

	until = clock_after_ms(is_long ? 15 * STEP_MS : STEP_MS);
	stream_open(&s, "cuts", 128 * 1024);
	s.expect = expect_pattern;
	start(&s, is_long ? BLOCKS(110) : BLOCKS(20), 0, false);
	while (!s.has_started)
		go_on(&s);
	for (;;) {
		dice = dice * 6364136223846793005ULL + 1442695040888963407ULL;
		next = MIN(s.got[WIRE_OUT] + (dice >> 33) % (2 * total / cuts), total);
		while (!s.ended && s.got[WIRE_OUT] < next)
			go_on(&s);
		if (s.ended || s.got[WIRE_OUT] == total)
			break;
		next = s.got[WIRE_OUT];
		stream_close(&s);
		attach(&s, "cuts", next);
		must(s.started.out_lost == 0, "%llu bytes are lost", (unsigned long long)s.started.out_lost);
		worst = MAX(worst, clock_now() - last);
		last = clock_now();
		n++;
	}
	finish(&s, WIRE_EXITED, 0);
	must(s.got[WIRE_OUT] == total, "%llu bytes", (unsigned long long)s.got[WIRE_OUT]);
	printf("vm-drive: %u lost connections in %.2f s, longest between two %.2f s\n", n,
	       (double)(clock_now() - since) / 1e9, (double)worst / 1e9);
}

/* --- replication, through the daemon's own link ------------------------------------------------------------------- */

struct file {
	uint64_t parent, fid, shipped;
	char name[64];
	struct buf data, fresh;
	bool has_data, here;
};

static struct {
	struct link *link;
	struct file files[256]; /* entries first seen as a name; contents by fid */
	size_t n, changes, ships;
	uint64_t root, ship, aside_ship, base;
	struct file *now, *aside; /* aside: one that rests */
} model;

static struct file *file_of(uint64_t parent, struct span name)
{
	struct file *f;
	size_t i;

	for (i = 0; i < model.n; i++)
		if (model.files[i].parent == parent && span_eq(span_str(model.files[i].name), name))
			return &model.files[i];
	must(model.n < ARRAY_LEN(model.files) && name.len < sizeof(f->name), "more files than expected");
	f = &model.files[model.n++];
	f->parent = parent;
	memcpy(f->name, name.p, name.len);
	buf_init(&f->data, 16 * 1024 * 1024);
	buf_init(&f->fresh, 16 * 1024 * 1024);
	return f;
}

static void on_changes(struct span payload)
{
	struct msg_CHANGES m;
	struct msg_CHANGE c;
	struct msg_NODE n;

	must(msg_decode(MSG_CHANGES, payload, &m, NULL) == 0, "bad CHANGES");
	while (msg_rec_next(&m.records, MSG_CHANGE, &c)) {
		bool has = msg_rec_next(&c.node, MSG_NODE, &n);

		model.changes++;
		if ((c.flags & WIRE_ENT_ONLY) && !model.root)
			model.root = c.parent;
		if (!c.name.len)
			continue;
		file_of(c.parent, c.name)->here = !(c.flags & WIRE_ENT_GONE);
		if (has)
			file_of(c.parent, c.name)->fid = n.fid;
	}
	link_send(model.link, MSG_CHANGES_ACK, &(struct msg_CHANGES_ACK){ .seq = m.seq });
}

static void on_ship(struct span payload)
{
	struct msg_SHIP m;
	struct msg_NODE n;
	size_t i;

	must(msg_decode(MSG_SHIP, payload, &m, NULL) == 0 && msg_rec_next(&m.node, MSG_NODE, &n), "bad SHIP");
	model.now = NULL;
	model.ship = m.ship;
	for (i = 0; i < model.n && !model.now; i++)
		if (model.files[i].fid == n.fid && model.files[i].here)
			model.now = &model.files[i];
	if (!model.now)
		return;
	buf_consume(&model.now->fresh, buf_len(&model.now->fresh));
	must(!m.base || model.now->shipped == m.base, "unknown base");
	(void)!buf_append(&model.now->fresh, buf_span(&model.now->data).p, m.base ? buf_len(&model.now->data) : 0);
	while (buf_len(&model.now->fresh) < n.size)
		must(buf_append(&model.now->fresh, "", 1) == 0, "a file is too long");
}

static void on_ship_data(struct span payload)
{
	struct msg_SHIP_DATA m;
	struct buf *b;

	must(msg_decode(MSG_SHIP_DATA, payload, &m, NULL) == 0, "bad SHIP_DATA");
	link_send_ship(model.link, MSG_WINDOW, &(struct msg_WINDOW){ .stream = WIRE_IN, .bytes = m.data.len });
	if (!model.now)
		return;
	b = &model.now->fresh;
	must(m.offset + m.data.len <= buf_len(b), "data behind the end");
	memcpy(b->p + b->start + m.offset, m.data.p, m.data.len);
}

static void on_ship_aside(struct span payload)
{
	struct file *rests = model.now;
	struct msg_SHIP_ASIDE m;

	must(msg_decode(MSG_SHIP_ASIDE, payload, &m, NULL) == 0 && (!m.ship || m.ship == model.aside_ship), "bad");
	model.aside_ship = model.ship;
	model.ship = m.ship;
	model.now = model.aside;
	model.aside = rests;
}

static void on_ship_end(struct span payload)
{
	struct msg_SHIP_END m;
	struct buf old;

	must(msg_decode(MSG_SHIP_END, payload, &m, NULL) == 0, "bad SHIP_END");
	if (!m.ok)
		return;
	if (model.now) {
		old = model.now->data;
		model.now->data = model.now->fresh;
		model.now->fresh = old;
		model.now->shipped = model.ship;
		model.now->has_data = true;
		model.ships++;
	}
	link_send_ship(model.link, MSG_SHIP_ACK, &(struct msg_SHIP_ACK){ .ship = model.ship, .ok = 1 });
}

static void on_link_frame(void *ctx, unsigned type, struct span payload)
{
	(void)ctx;
	switch (type) {
	case MSG_CHANGES: on_changes(payload); break;
	case MSG_SHIP: on_ship(payload); break;
	case MSG_SHIP_DATA: on_ship_data(payload); break;
	case MSG_SHIP_ASIDE: on_ship_aside(payload); break;
	case MSG_SHIP_END: on_ship_end(payload); break;
	}
}

static void on_up(void *ctx, uint64_t boot, uint64_t disk)
{
	(void)ctx, (void)boot, (void)disk;
}

static void on_down(void *ctx, const char *why)
{
	(void)ctx, (void)why;
}

static void *run_loop(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

static void on_info(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	const struct msg_INFO_IS *m = msg;

	(void)type, (void)e;
	if (result == 0) {
		snprintf(ctx, 32, "%.*s", (int)m->watcher.len, (const char *)m->watcher.p);
		printf("vm-drive: the agent holds %llu KiB, watches by %s\n", (unsigned long long)m->rss_b / 1024,
		       (char *)ctx);
	}
}

static struct file *named(struct file *dir, const char *name)
{
	struct file *f = file_of(dir ? dir->fid : model.root, span_str(name));

	must(f->here, "%s is not there", name);
	return f;
}

static void check_model(void)
{
	struct file *d = named(NULL, "d"), *f;
	char name[32], text[32];
	int i;

	for (i = 1; i <= 18; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		snprintf(text, sizeof(text), "file %d\n", i);
		f = named(d, name);
		must(f->has_data && span_eq(buf_span(&f->data), span_str(text)), "%s was not shipped as it is", name);
	}
	named(d, "g20");
	named(d, "link");
	must(!file_of(d->fid, span_str("f19"))->here, "f19 was removed");
	must(!file_of(d->fid, span_str("f20"))->here, "f20 has another name");
	f = named(NULL, "big");
	must(f->has_data && span_eq(buf_span(&f->data), SPAN(pattern, PATTERN)),
	     "big was not shipped as it is (%zu bytes)", buf_len(&f->data));
}

static void make_files(void)
{
	struct stream s;

	stream_open(&s, "files", 65536);
	start(&s, "mkdir d && cd d && for i in $(seq 1 20); do echo \"file $i\" >f$i; done; ln -s f1 link; rm f19; "
		  "mv f20 g20; cat /tmp/pattern >../big", 0, false);
	finish(&s, WIRE_EXITED, 0);
}

static void replication(void)
{
	static const struct link_events events = { .up = on_up, .down = on_down, .frame = on_link_frame };
	char watcher[32] = "";
	struct err e = ERR_NULL;
	struct pool *pool = NULL;
	struct loop *loop = NULL;
	pthread_t thread;
	int r;

	must(loop_new(&loop, &e) == 0 && pool_new("dial", 1, &pool, &e) == 0, "%s", e.text);
	must(pthread_create(&thread, NULL, run_loop, loop) == 0, "no thread");
	model.link = link_new(loop, pool, address, "vm", token, &events);
	must(link_wait_up(model.link, until, &e) == 0, "%s", e.text);
	r = link_wait(model.link, MSG_REPLICATE, &(struct msg_REPLICATE){ 0 }, until, NULL, NULL, &e);
	must(r == 0, "REPLICATE: %s", e.text);
	make_files();
	r = link_wait(model.link, MSG_SYNC, &(struct msg_SYNC){ 0 }, until, NULL, NULL, &e);
	must(r == 0, "SYNC: %s", e.text);
	r = link_wait(model.link, MSG_INFO, &(struct msg_INFO){ 0 }, until, on_info, watcher, &e);
	must(r == 0, "INFO: %s", e.text);
	must(str_eq(watcher, "fanotify-fs"), "watched by %s", watcher);
	link_close(&model.link);
	loop_stop(loop);
	pthread_join(thread, NULL);
	pool_free(&pool);
	loop_free(&loop);
	check_model();
	printf("vm-drive: %zu changes told, %zu files shipped\n", model.changes, model.ships);
}

static const struct {
	const char *name;
	void (*fn)(void);
} steps[] = {
	{ "hello", hello },
	{ "a port without listener", silent_port },
	{ "a command", exec_plain },
	{ "many commands", exec_many },
	{ "10 MB of standard input", stdin_echo },
	{ "a terminal", terminal },
	{ "100 MB of output", output_100_mb },
	{ "both directions full", both_directions },
	{ "a lost connection", lost_connection },
	{ "many lost connections", many_lost_connections },
	{ "replication", replication },
};

int main(int argc, char **argv)
{
	uint64_t since, seed = 88172645463325252ULL;
	struct buf b;
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 3)
		return 2;
	address = argv[1];
	buf_init(&b, WIRE_TOKEN_LEN);
	must(io_read_file(AT_FDCWD, argv[2], &b) == 0 && buf_len(&b) == WIRE_TOKEN_LEN, "no token in %s", argv[2]);
	memcpy(token, buf_str(&b), sizeof(token));
	buf_fini(&b);
	for (i = 0; i < PATTERN; i++) {
		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		pattern[i] = (uint8_t)seed;
	}
	for (i = 0; i < ARRAY_LEN(steps); i++) {
		step = steps[i].name;
		since = clock_now();
		until = clock_after_ms(STEP_MS);
		steps[i].fn();
		printf("vm-drive: %s: good, %.2f s\n", step, (double)(clock_now() - since) / 1e9);
	}
	return 0;
}
