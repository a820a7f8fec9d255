/* SPDX-License-Identifier: Apache-2.0 */
/* What generation 2 added to commands and calls: masks, limits, trees, metrics, the clock, kept lines; and
 * generation 1. */
#include "guest-lab.h"

#include "base/clock.h"
#include "base/str.h"
#include "wire/xport.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

union got {
	struct msg_METRICS_IS metrics;
	struct msg_LOGS_IS logs;
	struct msg_ERROR error;
	char room[512];
};

static uint64_t hold_ms;

/* An EXEC with what struct spec does not have. */
static void start(const struct lab *l, struct wire *w, const char *id, const char *script, unsigned mask,
		  const char *limit)
{
	struct msg_EXEC m = { .id = span_str(id), .credit = 65536, .generation = 2, .umask = mask };
	struct msg_list argv, limits;

	msg_list_init(&argv, 0);
	msg_list_init(&limits, 0);
	cr_assert_eq(msg_list_str(&argv, span_str("sh")), 0);
	cr_assert_eq(msg_list_str(&argv, span_str("-c")), 0);
	cr_assert_eq(msg_list_str(&argv, span_str(script)), 0);
	m.hold_ms = hold_ms;
	if (limit)
		cr_assert_eq(msg_list_str(&limits, span_str(limit)), 0);
	m.argv = msg_list_span(&argv);
	m.rlimits = msg_list_span(&limits);
	m.user = geteuid() == 0 ? span_str("root") : SPAN_NULL;
	cr_assert(wire_dial(l, w, WIRE_EXEC, l->token));
	wire_send(w, MSG_EXEC, &m);
	msg_list_fini(&argv);
	msg_list_fini(&limits);
}

static void expect(const struct lab *l, const char *script, unsigned mask, const char *limit, const char *want)
{
	static unsigned count;
	struct run r = { .slug = "" };
	struct wire w;
	char id[16];

	snprintf(id, sizeof(id), "x%u", ++count);
	start(l, &w, id, script, mask, limit);
	exec_finish(&w, NULL, &(struct spec){ 0 }, &r);
	cr_expect_str_eq(*r.slug ? r.slug : buf_str(&r.out), want, "%s", script);
	run_fini(&r);
	wire_close(&w);
}

Test(report, umask_and_limits)
{
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	expect(&l, "umask", 0, NULL, "0022\n");
	expect(&l, "umask", WIRE_UMASK_SET | 027, NULL, "0027\n");
	expect(&l, "umask", WIRE_UMASK_SET, NULL, "0000\n");
	expect(&l, "ulimit -Sn; ulimit -Hn", 0, "nofile=100:200", "100\n200\n");
	expect(&l, "ulimit -Sc; ulimit -Hc", 0, "core=0", "0\n0\n");
	expect(&l, "true", 0, "nofile=200:100", "bad-request");
	expect(&l, "true", 0, "rttime=1", "bad-request");
	expect(&l, "true", 0, "nofile", "bad-request");
	lab_stop(&l);
}

static bool alive(pid_t pid)
{
	char path[64], state = 'X';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (fscanf(f, "%*d %*s %c", &state) != 1)
		state = 'X';
	fclose(f);
	return state != 'Z' && state != 'X';
}

static void gone(pid_t pid)
{
	uint64_t until = clock_after_ms(10000);

	while (alive(pid) && clock_now() < until)
		poll(NULL, 0, 5);
	cr_expect_not(alive(pid), "process %d is still there", (int)pid);
}

/* The pids that a command prints, as many as @n. */
static void pids_of(struct wire *w, pid_t *pids, int n)
{
	union {
		struct msg_OUTPUT output;
		char room[512];
	} got;
	char text[128] = "", *p = text;
	size_t have = 0;
	int lines = 0, i;

	while (lines < n) {
		cr_assert_eq(wire_next(w, &got), MSG_OUTPUT);
		cr_assert_lt(have + got.output.data.len, sizeof(text));
		memcpy(text + have, got.output.data.p, got.output.data.len);
		have += got.output.data.len;
		for (lines = 0, p = text; (p = strchr(p, '\n')); p++)
			lines++;
	}
	for (i = 0, p = text; i < n; i++)
		pids[i] = (pid_t)strtol(p, &p, 10);
}

/* A daemon has another session and no parent of ours, its environment is empty: a signal to the group does not reach
 * it, one to the tree does, also when the process that started it has ended; and it reaches no other command's. */
Test(report, a_signal_to_the_whole_tree)
{
	static const char script[] =
		"setsid sh -c '(exec env -i sleep 1000) & echo $!'; setsid sh -c 'sleep 1000 & echo $!'; sleep 1000";
	struct msg_KILL all = { .id = span_str("tree"), .signal = 9, .tree = 1 };
	struct msg_KILL group = { .id = span_str("tree"), .signal = 15 };
	pid_t mine[2], other;
	struct wire w, v;
	struct host h;
	struct lab l;
	union got got;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, false);
	start(&l, &v, "other", "setsid sh -c 'sleep 1000 & echo $!'", 0, NULL);
	cr_assert_eq(wire_next(&v, &got), MSG_STARTED);
	pids_of(&v, &other, 1);
	start(&l, &w, "tree", script, 0, NULL);
	cr_assert_eq(wire_next(&w, &got), MSG_STARTED);
	pids_of(&w, mine, 2);
	cr_assert_eq(host_call(&h, MSG_KILL, &group), MSG_OK);
	cr_assert_eq(wire_next(&w, &got), MSG_EXIT);
	cr_assert(alive(mine[0]) && alive(mine[1]));
	cr_assert_eq(host_call(&h, MSG_KILL, &all), MSG_OK);
	gone(mine[0]);
	gone(mine[1]);
	cr_expect(alive(other), "the tree of another command");
	cr_assert_eq(host_call(&h, MSG_KILL, &all), MSG_ERROR, "nothing is left");
	wire_close(&w);
	wire_close(&v);
	host_close(&h);
	lab_stop(&l);
}

static unsigned call(struct wire *w, enum msg_type type, void *m, union got *got)
{
	wire_send(w, type, m);
	return wire_next(w, got);
}

Test(report, metrics_clock_and_kept_lines)
{
	struct msg_CLOCK off = { .wall_ns = clock_wall() - (int64_t)(100 * CLOCK_S),
				 .entropy = span_str("0123456789") };
	struct msg_METRICS metrics = { .call = 1 };
	struct msg_LOGS logs = { .call = 2 };
	struct wire w;
	struct lab l;
	union got got;
	char *text;
	int64_t before;

	cr_assert(lab_start(&l, "inotify"));
	expect(&l, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", 0, NULL, "");
	cr_assert(wire_dial(&l, &w, WIRE_CONTROL, l.token));
	cr_assert_eq(call(&w, MSG_METRICS, &metrics, &got), MSG_METRICS_IS);
	cr_expect_eq(got.metrics.call, 1);
	cr_expect_gt(got.metrics.cpu_ns, 0);
	cr_expect_gt(got.metrics.cpus, 0);
	cr_expect_gt(got.metrics.rss_b, 100000);
	cr_expect_gt(got.metrics.mem_total_b, got.metrics.mem_available_b);
	cr_expect_geq(got.metrics.threads, got.metrics.procs);
	cr_expect_gt(got.metrics.disk_total_b, got.metrics.disk_free_b);
	cr_assert_eq(call(&w, MSG_LOGS, &logs, &got), MSG_LOGS_IS);
	text = span_dup(got.logs.data);
	cr_expect(strstr(text, "msg=\"ready\""), "%s", text);
	cr_expect_eq(got.logs.start, 0);
	logs.from = got.logs.data.len;
	free(text);
	/* Another time than ours: said, and not set, because this machine is not the agent's. */
	before = clock_wall();
	wire_send(&w, MSG_CLOCK, &off);
	cr_assert_eq(call(&w, MSG_LOGS, &logs, &got), MSG_LOGS_IS);
	text = span_dup(got.logs.data);
	cr_expect(strstr(text, "not ours to set"), "%s", text);
	cr_expect_eq(got.logs.start, logs.from);
	cr_expect_geq(clock_wall(), before);
	free(text);
	wire_close(&w);
	lab_stop(&l);
}

/* The ring is bounded, and what is read begins with a whole line. */
Test(report, old_lines_give_way)
{
	struct msg_CLOCK off = { .wall_ns = clock_wall() - (int64_t)(100 * CLOCK_S) };
	struct msg_LOGS logs = { .call = 2 };
	struct wire w;
	struct lab l;
	union got got;
	unsigned i;

	cr_assert(lab_start(&l, "inotify"));
	cr_assert(wire_dial(&l, &w, WIRE_CONTROL, l.token));
	for (i = 0; i < 1000; i++)
		wire_send(&w, MSG_CLOCK, &off);
	cr_assert_eq(call(&w, MSG_LOGS, &logs, &got), MSG_LOGS_IS);
	cr_expect_gt(got.logs.start, 0);
	cr_expect_leq(got.logs.data.len, 65536);
	cr_expect_gt(got.logs.data.len, 60000);
	cr_expect_eq(memcmp(got.logs.data.p, "time=", 5), 0);
	wire_close(&w);
	lab_stop(&l);
}

/* Follow from @from on until @enough bytes were seen, or the end; credit is given back late. Return: how many. */
static uint64_t follow(struct wire *w, uint64_t from, uint64_t enough, bool *ret_ended)
{
	uint64_t at = from;
	union {
		struct msg_STARTED started;
		struct msg_OUTPUT output;
		struct msg_EXIT exit;
		char room[512];
	} got;

	while (at < enough) {
		unsigned type = wire_next(w, &got);

		if (type == MSG_STARTED)
			cr_assert(got.started.out_at == from && !got.started.out_lost, "%llu bytes are lost",
				  (unsigned long long)got.started.out_lost);
		else if (type == MSG_EXIT)
			*ret_ended = true;
		if (type == MSG_EXIT)
			break;
		if (type != MSG_OUTPUT || got.output.stream != WIRE_OUT)
			continue;
		cr_assert_eq(got.output.offset, at);
		at += got.output.data.len;
		wire_send(w, MSG_WINDOW, &(struct msg_WINDOW){ .stream = WIRE_OUT, .bytes = got.output.data.len });
	}
	return at;
}

/* A process that writes as fast as it can loses nothing with its connections when that was wished, and who took its
 * place is told; after LEAVE nothing is held. */
Test(report, a_lost_connection_loses_nothing)
{
	struct msg_ATTACH m = { .id = span_str("long"), .credit = 65536, .generation = 2, .hold_ms = 30000 };
	bool ended = false;
	uint64_t at = 0;
	struct wire w, v;
	struct lab l;
	union got got;
	unsigned i;

	cr_assert(lab_start(&l, "inotify"));
	hold_ms = 30000;
	start(&l, &w, "long", "head -c 5000000 /dev/zero; exit 3", 0, NULL);
	for (i = 0; !ended; i++) {
		at = follow(&w, at, at + 100000 + i * 1000, &ended);
		if (ended)
			break;
		wire_close(&w);
		m.out_from = at;
		cr_assert(wire_dial(&l, &w, WIRE_EXEC, l.token));
		wire_send(&w, MSG_ATTACH, &m);
	}
	cr_expect_eq(at, 5000000);
	cr_expect_gt(i, 10);
	wire_close(&w);
	/* The one before is told. */
	start(&l, &w, "taken", "sleep 1000", 0, NULL);
	cr_assert_eq(wire_next(&w, &got), MSG_STARTED);
	m.id = span_str("taken");
	m.out_from = 0;
	cr_assert(wire_dial(&l, &v, WIRE_EXEC, l.token));
	wire_send(&v, MSG_ATTACH, &m);
	cr_assert_eq(wire_next(&w, &got), MSG_ERROR);
	cr_expect(span_eq(got.error.slug, span_str("taken")));
	wire_close(&w);
	wire_close(&v);
	/* Nobody comes back: the process goes on. */
	start(&l, &w, "left", "head -c 1000000 /dev/zero; echo >left; sleep 1000", 0, NULL);
	cr_assert_eq(wire_next(&w, &got), MSG_STARTED);
	cr_assert_eq(access(lab_path(&l, "left"), F_OK), -1);
	wire_send(&w, MSG_LEAVE, &(struct msg_LEAVE){ 0 });
	wire_close(&w);
	for (i = 0; i < 2000 && access(lab_path(&l, "left"), F_OK) < 0; i++)
		poll(NULL, 0, 5);
	cr_expect_eq(access(lab_path(&l, "left"), F_OK), 0);
	hold_ms = 0;
	lab_stop(&l);
}

/* What an older daemon says, with the rows as they were, works as it did. */
Test(report, generation_1_is_spoken)
{
	struct msg_HELLO hello = { .generation = 1, .kind = WIRE_EXEC, .id = span_str("lab") };
	/* EXEC as it was: eleven fields, the last is the credit. */
	static const char exec[] = "\x9b"
				   "\xa3old"
				   "\xc4\x05\xa4"
				   "true"
				   "\xc4\x00\xa0"
				   "\xa1"
				   "0"
				   "\x00\x00\x00\x00\x00\xce\x00\x01\x00\x00";
	char frame[8 + sizeof(exec) - 1] = { 0, 0, 0, sizeof(exec) - 1, MSG_EXEC };
	union {
		struct msg_HELLO hello;
		struct msg_STARTED started;
		struct msg_EXIT exit;
		char room[512];
	} back;
	struct wire w;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	hello.token = SPAN(l.token, WIRE_TOKEN_LEN);
	w.last = false;
	buf_init(&w.in, 0);
	cr_assert_eq(xport_connect(l.address, clock_after_ms(5000), &w.fd, NULL), 0);
	wire_send(&w, MSG_HELLO, &hello);
	cr_assert_eq(wire_next(&w, &back), MSG_HELLO);
	cr_assert_eq(back.hello.generation, 1);
	memcpy(frame + 8, exec, sizeof(exec) - 1);
	cr_assert_eq(write(w.fd, frame, sizeof(frame)), (ssize_t)sizeof(frame));
	cr_assert_eq(wire_next(&w, &back), MSG_STARTED);
	cr_assert_eq(wire_next(&w, &back), MSG_EXIT);
	cr_expect_eq(back.exit.how, WIRE_EXITED);
	cr_expect_eq(back.exit.code, 0);
	wire_close(&w);
	lab_stop(&l);
}

/* Of a call, behind what is told of commands. */
static unsigned answer(struct wire *w, enum msg_type type, const void *m, union got *got)
{
	unsigned is;

	wire_send(w, type, m);
	while ((is = wire_next(w, got)) == MSG_COMMANDS)
		;
	return is;
}

/* Variables of all commands, whoever starts them; and that an agent beside the host's own processes has no address. */
Test(report, variables_of_all_commands)
{
	struct msg_VARIABLES vars = { .call = 1 };
	struct msg_LISTEN_AT at = { .call = 3,
				    .name = span_str("svc"),
				    .address = span_str("127.19.0.1"),
				    .port = 1,
				    .host = span_str("berth.internal") };
	struct msg_list list;
	struct wire control;
	union got got;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	cr_assert(wire_dial(&l, &control, WIRE_CONTROL, l.token));
	msg_list_init(&list, 0);
	cr_assert_eq(msg_list_str(&list, span_str("OURS=given")), 0);
	cr_assert_eq(msg_list_str(&list, span_str("LANG=xx")), 0);
	vars.env = msg_list_span(&list);
	cr_assert_eq(answer(&control, MSG_VARIABLES, &vars, &got), MSG_OK);
	expect(&l, "echo $OURS $LANG", 0, NULL, "given xx\n");
	cr_assert_eq(msg_list_str(&list, span_str("no variable")), 0);
	vars.env = msg_list_span(&list);
	cr_assert_eq(answer(&control, MSG_VARIABLES, &vars, &got), MSG_ERROR);
	expect(&l, "echo $OURS", 0, NULL, "given\n");
	vars.env = SPAN_NULL;
	cr_assert_eq(answer(&control, MSG_VARIABLES, &vars, &got), MSG_OK);
	expect(&l, "echo ${OURS:-none} $LANG", 0, NULL, "none C.UTF-8\n");
	cr_assert_eq(answer(&control, MSG_LISTEN_AT, &at, &got), MSG_ERROR);
	cr_expect(span_eq(got.error.slug, span_str("not-inside")));
	msg_list_fini(&list);
	wire_close(&control);
	lab_stop(&l);
}
