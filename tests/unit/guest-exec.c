/* SPDX-License-Identifier: Apache-2.0 */
/* Processes, driven through the wire against the real agent. */
#include "guest-lab.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "wire/xport.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void expect_run(struct run r, int how, int code, const char *out)
{
	cr_expect_eq(r.how, how, "how %d slug %s err %s", r.how, r.slug, buf_str(&r.err));
	cr_expect_eq(r.code, code, "code %d", r.code);
	if (out)
		cr_expect_str_eq(buf_str(&r.out), out);
	run_fini(&r);
}

static void expect_slug(struct run r, const char *slug)
{
	cr_expect_str_eq(r.slug, slug);
	run_fini(&r);
}

Test(exec, hello_needs_the_token)
{
	uint8_t wrong[WIRE_TOKEN_LEN];
	struct wire w;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	memcpy(wrong, l.token, sizeof(wrong));
	wrong[31] ^= 1;
	cr_assert_not(wire_dial(&l, &w, WIRE_CONTROL, wrong));
	wire_close(&w);
	cr_assert(wire_dial(&l, &w, WIRE_CONTROL, l.token));
	wire_close(&w);
	lab_stop(&l);
}

/* Whoever does not say HELLO is one of few, and does not keep out who has the token for good. */
Test(exec, strangers_are_few)
{
	struct wire w[70], good;
	struct msg_PING ping = { .call = 1 };
	unsigned i, shut = 0;
	char room[512];
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	for (i = 0; i < ARRAY_LEN(w); i++) {
		buf_init(&w[i].in, 0);
		w[i].last = false;
		cr_assert_eq(xport_connect(l.address, clock_after_ms(1000), &w[i].fd, NULL), 0);
	}
	for (i = 64; i < ARRAY_LEN(w); i++)
		shut += wire_next(&w[i], room) == 0;
	cr_assert_eq(shut, 6);
	wire_send(&w[0], MSG_PING, &ping); /* no HELLO: closed, and its place is free */
	cr_assert_eq(wire_next(&w[0], room), 0);
	cr_assert(wire_dial(&l, &good, WIRE_CONTROL, l.token));
	for (i = 0; i < ARRAY_LEN(w); i++)
		wire_close(&w[i]);
	wire_close(&good);
	lab_stop(&l);
}

Test(exec, output_status_environment_directory_user)
{
	static const char *const env[] = { "A=b c", "PATH=/bin:/usr/bin", NULL };
	struct run r;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	expect_run(RUN(&l, NULL, SPEC(0), "true"), WIRE_EXITED, 0, "");
	r = RUN(&l, NULL, SPEC(0), "sh", "-c", "echo out; echo err >&2; exit 7");
	cr_expect_str_eq(buf_str(&r.err), "err\n");
	expect_run(r, WIRE_EXITED, 7, "out\n");
	expect_run(RUN(&l, NULL, SPEC(0), "sh", "-c", "kill -TERM $$"), WIRE_SIGNALED, 15, "");
	expect_run(RUN(&l, NULL, SPEC(.env = env), "sh", "-c", "echo $A; echo $LANG"), WIRE_EXITED, 0,
		   "b c\nC.UTF-8\n");
	expect_run(RUN(&l, NULL, SPEC(.cwd = "/usr"), "pwd"), WIRE_EXITED, 0, "/usr\n");
	r = RUN(&l, NULL, SPEC(0), "pwd");
	cr_expect(str_starts(buf_str(&r.out), l.ws));
	run_fini(&r);
	if (geteuid() == 0)
		expect_run(RUN(&l, NULL, SPEC(.user = "nobody", .cwd = "/"), "sh", "-c", "id -un; id -Gn; echo $USER"),
			   WIRE_EXITED, 0, "nobody\nnogroup\nnobody\n");
	if (geteuid() == 0)
		expect_run(RUN(&l, NULL, SPEC(.user = "12345", .cwd = "/"), "sh", "-c", "id -u; id -g"), WIRE_EXITED, 0,
			   "12345\n12345\n");
	expect_run(RUN(&l, NULL, SPEC(0), "sh", "-c", "ls /proc/self/fd | wc -l; umask"), WIRE_EXITED, 0, "4\n0022\n");
	lab_stop(&l);
}

Test(exec, start_failures_say_why)
{
	struct lab l;
	int fd;

	cr_assert(lab_start(&l, "inotify"));
	expect_slug(RUN(&l, NULL, SPEC(0), "no-such-program-at-all"), "not-found");
	expect_slug(RUN(&l, NULL, SPEC(0), "/no/such/file"), "not-found");
	expect_slug(RUN(&l, NULL, SPEC(.cwd = "/no/such/dir"), "true"), "bad-directory");
	expect_slug(RUN(&l, NULL, SPEC(.user = "nemo"), "true"), geteuid() ? "not-found" : "unknown-user");
	expect_slug(RUN(&l, NULL, SPEC(.id = "Bad id"), "true"), "bad-request");
	fd = open(lab_path(&l, "text"), O_WRONLY | O_CREAT, 0644);
	cr_assert_eq(write(fd, "hello", 5), 5);
	close(fd);
	expect_slug(RUN(&l, NULL, SPEC(0), lab_path(&l, "text")), "permission");
	cr_assert_eq(chmod(lab_path(&l, "text"), 0755), 0);
	expect_slug(RUN(&l, NULL, SPEC(0), lab_path(&l, "text")), "not-executable");
	fd = open(lab_path(&l, "script"), O_WRONLY | O_CREAT, 0755);
	cr_assert_eq(write(fd, "#!/no/interpreter\n", 18), 18);
	close(fd);
	expect_slug(RUN(&l, NULL, SPEC(0), lab_path(&l, "script")), "not-executable");
	lab_stop(&l);
}

Test(exec, standard_input)
{
	struct lab l;
	struct wire w;
	struct run r = { .slug = "" };

	cr_assert(lab_start(&l, "inotify"));
	expect_run(RUN(&l, NULL, SPEC(.stdin_mode = WIRE_STDIN_STREAM, .input = "one\ntwo\n"), "cat"), WIRE_EXITED, 0,
		   "one\ntwo\n");
	expect_run(RUN(&l, NULL, SPEC(0), "cat"), WIRE_EXITED, 0, "");
	expect_run(
		RUN(&l, NULL, SPEC(.stdin_mode = WIRE_STDIN_CLOSED), "sh", "-c", "[ -e /proc/self/fd/0 ] || echo shut"),
		WIRE_EXITED, 0, NULL);
	/* duplicates are skipped, overlaps are cut, a gap is an error */
	exec_send(&l, &w, SPEC(.stdin_mode = WIRE_STDIN_STREAM), (const char *const[]){ "cat", NULL });
	wire_send(&w, MSG_STDIN, &(struct msg_STDIN){ .offset = 0, .data = span_str("abc") });
	wire_send(&w, MSG_STDIN, &(struct msg_STDIN){ .offset = 0, .data = span_str("abc") });
	wire_send(&w, MSG_STDIN, &(struct msg_STDIN){ .offset = 1, .data = span_str("bcde") });
	wire_send(&w, MSG_STDIN_END, &(struct msg_STDIN_END){ .offset = 5 });
	exec_finish(&w, NULL, SPEC(0), &r);
	expect_run(r, WIRE_EXITED, 0, "abcde");
	wire_close(&w);
	exec_send(&l, &w, SPEC(.stdin_mode = WIRE_STDIN_STREAM), (const char *const[]){ "cat", NULL });
	wire_send(&w, MSG_STDIN, &(struct msg_STDIN){ .offset = 9, .data = span_str("abc") });
	r = (struct run){ .slug = "" };
	exec_finish(&w, NULL, SPEC(0), &r);
	expect_slug(r, "stdin-gap");
	wire_close(&w);
	lab_stop(&l);
}

Test(exec, timeout_kills_the_whole_session)
{
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	expect_run(RUN(&l, NULL, SPEC(.timeout_ms = 100), "sh", "-c", "sh -c 'sleep 1000 & wait' & wait"),
		   WIRE_TIMED_OUT, 9, "");
	lab_stop(&l);
}

/* Return: the process that wrote its number into the file "pid". */
static pid_t who_runs(const struct lab *l)
{
	char room[32] = "";
	ssize_t n = 0;
	int fd;

	while (n <= 0 || !strchr(room, '\n')) {
		usleep(1000);
		fd = open(lab_path(l, "pid"), O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, room, sizeof(room) - 1);
		if (fd >= 0)
			close(fd);
	}
	return atoi(room);
}

/* A command with a limit, paused, with a new control connection behind it. Return: its process. */
static pid_t limited_and_paused(struct lab *l, struct wire *w, struct wire *control, unsigned limit_ms)
{
	const char *const argv[] = { "sh", "-c", "echo $$ >pid; exec sleep 1000", NULL };
	union {
		struct msg_OK ok;
		char room[512];
	} got;
	unsigned type;
	pid_t pid;

	cr_assert(lab_start(l, "inotify"));
	cr_assert(wire_dial(l, control, WIRE_CONTROL, l->token));
	exec_send(l, w, SPEC(.id = "limited", .timeout_ms = limit_ms), argv);
	pid = who_runs(l);
	wire_send(control, MSG_PAUSE, &(struct msg_PAUSE){ .call = 1 });
	do {
		type = wire_next(control, &got);
		cr_assert_neq(type, 0);
	} while (type != MSG_OK); /* it may tell of commands, too */
	wire_close(control);
	cr_assert(wire_dial(l, control, WIRE_CONTROL, l->token));
	return pid;
}

/* Its time is over. */
static void ends(struct lab *l, struct wire *w, struct wire *control, pid_t pid)
{
	while (kill(pid, 0) == 0)
		usleep(1000);
	wire_close(control);
	wire_close(w);
	lab_stop(l);
}

/* Who is frozen has no time: from the PAUSE until the host says that it has thawed it, not only until it is back. */
Test(exec, no_time_passes_between_pause_and_thaw, .timeout = 120)
{
	struct wire w, control;
	struct lab l;
	pid_t pid = limited_and_paused(&l, &w, &control, 2000);

	usleep(2500000); /* the limit itself is what would pass here */
	cr_assert_eq(kill(pid, 0), 0);
	wire_send(&control, MSG_THAWED, &(struct msg_THAWED){ 0 });
	ends(&l, &w, &control, pid);
}

Test(exec, time_goes_on_with_a_host_that_does_not_say_when, .timeout = 120)
{
	struct wire w, control;
	struct lab l;
	pid_t pid;

	lab_generation = wire_since(MSG_THAWED) - 1;
	pid = limited_and_paused(&l, &w, &control, 500);
	ends(&l, &w, &control, pid);
}

Test(exec, ten_megabytes_with_little_credit)
{
	struct lab l;
	struct run r;

	cr_assert(lab_start(&l, "inotify"));
	r = RUN(&l, NULL, SPEC(.credit = 10000), "sh", "-c", "head -c 10485760 /dev/zero; echo end");
	cr_expect_eq(buf_len(&r.out), 10485764);
	expect_run(r, WIRE_EXITED, 0, NULL);
	r = RUN(&l, NULL, SPEC(.credit = 1 << 30), "sh", "-c", "head -c 10485760 /dev/zero; echo end");
	cr_expect_eq(buf_len(&r.out), 10485764);
	expect_run(r, WIRE_EXITED, 0, NULL);
	lab_stop(&l);
}

Test(exec, a_repeated_start_starts_nothing_twice)
{
	struct run r = { .slug = "" };
	struct wire a, b;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	exec_send(&l, &a, SPEC(.id = "once", .stdin_mode = WIRE_STDIN_STREAM),
		  (const char *const[]){ "sh", "-c", "echo start >>log; cat; cat log", NULL });
	exec_send(&l, &b, SPEC(.id = "once"), (const char *const[]){ "sh", "-c", "echo start >>log", NULL });
	wire_send(&b, MSG_STDIN, &(struct msg_STDIN){ .offset = 0, .data = span_str("hi\n") });
	wire_send(&b, MSG_STDIN_END, &(struct msg_STDIN_END){ .offset = 3 });
	exec_finish(&b, NULL, SPEC(0), &r);
	expect_run(r, WIRE_EXITED, 0, "hi\nstart\n");
	wire_close(&a);
	wire_close(&b);
	lab_stop(&l);
}

/* Lose the connection in the middle of the output, attach again from what was seen: nothing is missing. */
Test(exec, attach_replays_what_was_lost)
{
	union {
		struct msg_STARTED started;
		struct msg_OUTPUT out;
		char room[512];
	} m;
	struct run r = { .slug = "" };
	struct msg_ATTACH at = { .id = span_str("again"), .credit = 30000 };
	uint64_t seen = 0;
	struct wire w;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	exec_send(&l, &w, SPEC(.id = "again", .credit = 30000), (const char *const[]){ "seq", "1", "100000", NULL });
	cr_assert_eq(wire_next(&w, &m), MSG_STARTED);
	while (seen < 30000) { /* all the credit: then the process is blocked and nothing can be lost */
		cr_assert_eq(wire_next(&w, &m), MSG_OUTPUT);
		seen += m.out.data.len;
	}
	wire_close(&w);
	at.out_from = 5000;
	cr_assert(wire_dial(&l, &w, WIRE_EXEC, l.token));
	wire_send(&w, MSG_ATTACH, &at);
	cr_assert_eq(wire_next(&w, &m), MSG_STARTED);
	/* the process may have gone on while nobody was attached: then the agent says what is gone */
	cr_assert_eq(m.started.out_at, 5000 + m.started.out_lost);
	seen = m.started.out_at;
	for (;;) {
		unsigned type = wire_next(&w, &m);

		if (type != MSG_OUTPUT)
			break;
		cr_assert_eq(m.out.offset, seen);
		seen += m.out.data.len;
		wire_send(&w, MSG_WINDOW, &(struct msg_WINDOW){ .stream = 1, .bytes = m.out.data.len });
	}
	cr_assert_eq(seen, 588895);
	wire_close(&w); /* without EXIT_ACK: the record stays */
	at.out_from = 588890;
	cr_assert(wire_dial(&l, &w, WIRE_EXEC, l.token));
	wire_send(&w, MSG_ATTACH, &at);
	cr_assert_eq(wire_next(&w, &m), MSG_STARTED);
	cr_assert_eq(wire_next(&w, &m), MSG_OUTPUT);
	cr_assert_eq(wire_next(&w, &m), MSG_EXIT);
	wire_send(&w, MSG_EXIT_ACK, &(struct msg_EXIT_ACK){ 0 });
	cr_assert_eq(wire_next(&w, &m), 0);
	wire_close(&w);
	cr_assert(wire_dial(&l, &w, WIRE_EXEC, l.token));
	wire_send(&w, MSG_ATTACH, &at);
	exec_finish(&w, NULL, SPEC(0), &r);
	expect_slug(r, "no-such-process");
	wire_close(&w);
	lab_stop(&l);
}

Test(exec, survivors_do_not_hold_the_stream)
{
	struct run r;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	r = RUN(&l, NULL, SPEC(0), "sh", "-c", "(while :; do echo noise; done) & sleep 1000 & echo $!; exit 3");
	cr_expect_eq(r.code, 3);
	cr_expect_eq(r.how, WIRE_EXITED);
	run_fini(&r);
	lab_stop(&l); /* ends them */
}

Test(exec, terminal_with_resize)
{
	struct run r = { .slug = "" };
	struct wire w;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	exec_send(&l, &w, SPEC(.pty = true, .cols = 100, .rows = 40),
		  (const char *const[]){ "sh", "-c", "stty size; tty; read x; stty size; echo got $x $TERM", NULL });
	wire_send(&w, MSG_RESIZE, &(struct msg_RESIZE){ .cols = 123, .rows = 45 });
	wire_send(&w, MSG_STDIN, &(struct msg_STDIN){ .offset = 0, .data = span_str("word\n") });
	exec_finish(&w, NULL, SPEC(0), &r);
	cr_expect(strstr(buf_str(&r.out), "/dev/pts/"), "%s", buf_str(&r.out));
	cr_expect(strstr(buf_str(&r.out), "45 123\r\ngot word xterm-256color\r\n"), "%s", buf_str(&r.out));
	expect_run(r, WIRE_EXITED, 0, NULL);
	wire_close(&w);
	lab_stop(&l);
}

Test(exec, signal_ps_kill_stop_info)
{
	struct msg_STOP stop = { .grace_ms = 50 };
	struct msg_KILL kill = { .id = span_str("sleeper"), .signal = 15 };
	struct msg_PING ping = { 0 };
	struct msg_INFO info = { 0 };
	struct msg_PS ps = { 0 };
	struct run r = { .slug = "" };
	struct host h;
	struct wire w, v;
	struct lab l;
	char room[512];

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, false);
	cr_assert_eq(host_call(&h, MSG_PING, &ping), MSG_PONG);
	cr_assert_eq(host_call(&h, MSG_INFO, &info), MSG_INFO_IS);
	exec_send(&l, &w, SPEC(.id = "sleeper"), (const char *const[]){ "sleep", "1000", NULL });
	cr_assert_eq(wire_next(&w, room), MSG_STARTED);
	cr_assert_eq(host_call(&h, MSG_PS, &ps), MSG_PS_IS);
	cr_assert_eq(host_call(&h, MSG_KILL, &kill), MSG_OK);
	exec_finish(&w, &h, SPEC(0), &r);
	expect_run(r, WIRE_SIGNALED, 15, "");
	cr_assert_eq(host_call(&h, MSG_KILL, &kill), MSG_ERROR);
	wire_close(&w);
	exec_send(&l, &w, SPEC(0), (const char *const[]){ "sleep", "1000", NULL });
	cr_assert_eq(wire_next(&w, room), MSG_STARTED);
	wire_send(&w, MSG_SIGNAL, &(struct msg_SIGNAL){ .signal = 2 });
	r = (struct run){ .slug = "" };
	exec_finish(&w, &h, SPEC(0), &r);
	expect_run(r, WIRE_SIGNALED, 2, "");
	wire_close(&w);
	exec_send(&l, &v, SPEC(0),
		  (const char *const[]){ "sh", "-c", "trap '' TERM; setsid sleep 1000; sleep 1000", NULL });
	cr_assert_eq(wire_next(&v, room), MSG_STARTED);
	cr_assert_eq(host_call(&h, MSG_STOP, &stop), MSG_OK);
	r = (struct run){ .slug = "" };
	exec_finish(&v, &h, SPEC(0), &r);
	cr_assert_eq(r.how, WIRE_SIGNALED);
	run_fini(&r);
	wire_close(&v);
	host_close(&h);
	lab_stop(&l);
}

/* Start what can be started with @most descriptors. Return: how many run. */
static unsigned fill_up(const struct lab *l, struct wire *w, unsigned max, rlim_t most)
{
	static const char *const sleeper[] = { "sleep", "1000", NULL };
	struct rlimit few = { .rlim_cur = most, .rlim_max = 200 };
	char room[512];
	unsigned n, i;

	cr_assert_eq(prlimit(l->pid, RLIMIT_NOFILE, &few, NULL), 0);
	for (n = 0; n < max; n++) {
		exec_send(l, &w[n], SPEC(0), sleeper);
		if (wire_next(&w[n], room) != MSG_STARTED)
			break;
	}
	cr_assert(n > 10 && n < max, "%u", n);
	wire_close(&w[n]);
	for (i = 0; i < n; i++)
		cr_assert_not(wire_ready(&w[i], i == n - 1 ? 100 : 0), "%u of %u ended by itself", i, n);
	return n;
}

/* An agent that runs out of descriptors says so, goes on, and starts commands again when there is room. Four limits,
 * for it may be out of them at any step of a start. */
Test(exec, too_many_commands_are_told_the_limit, .timeout = 60)
{
	struct rlimit few = { .rlim_cur = 30, .rlim_max = 200 };
	struct wire w[64], stranger[80];
	struct run r = { .slug = "" };
	struct msg_PING ping = { .call = 1 };
	unsigned n, i, most, shut = 0;
	char room[512];
	struct host h;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, false);
	for (most = 157; most <= 160; most++) {
		n = fill_up(&l, w, ARRAY_LEN(w), most);
		expect_slug(RUN(&l, &h, SPEC(0), "true"), "limits");
		for (i = 0; i < n; i++) {
			wire_send(&w[i], MSG_SIGNAL, &(struct msg_SIGNAL){ .signal = 9 });
			r = (struct run){ .slug = "" };
			exec_finish(&w[i], &h, SPEC(0), &r);
			expect_run(r, WIRE_SIGNALED, 9, "");
			wire_close(&w[i]);
		}
		expect_run(RUN(&l, &h, SPEC(0), "true"), WIRE_EXITED, 0, "");
	}
	/* connections that it cannot have are closed, and it does not turn in circles */
	cr_assert_eq(prlimit(l.pid, RLIMIT_NOFILE, &few, NULL), 0);
	for (i = 0; i < ARRAY_LEN(stranger); i++) {
		buf_init(&stranger[i].in, 0);
		stranger[i].last = false;
		cr_assert_eq(xport_connect(l.address, clock_after_ms(1000), &stranger[i].fd, NULL), 0);
	}
	cr_assert(wire_ready(&stranger[ARRAY_LEN(stranger) - 1], 5000));
	for (i = 0; i < ARRAY_LEN(stranger); i++)
		shut += wire_ready(&stranger[i], 0) && wire_next(&stranger[i], room) == 0;
	cr_assert(shut >= 40, "%u", shut);
	cr_assert_eq(host_call(&h, MSG_PING, &ping), MSG_PONG);
	for (i = 0; i < ARRAY_LEN(stranger); i++)
		wire_close(&stranger[i]);
	host_close(&h);
	lab_stop(&l);
}
