/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with our own terminal or pipes around it. One poll waits for standard input, the stream, signals (a
 * signalfd) and room for output; input is only read while the process has room for it. Output that does not go out now
 * is kept, and no credit is given back for it: the process in the sandbox waits, as it would in a pipe, while we still
 * hear signals and learn its end. After a signal that ends programs credit is given again, for without it a process
 * whose output nobody takes could not tell its end; what is then not taken for a moment is dropped.
 */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "cli/output.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

enum { AGAIN_MS = 50, TAKEN_MS = 200, LOST_MS = 1000, KEEP_MAX = OUTPUT_WAIT_MAX / 2, FRAME_ROOM = 1 << 20 };

struct session {
	struct berth_stream *s;
	const char *verb;
	bool tty, input_open;
	bool leave; /* a second signal came: not later than now */
	int signals, signalled; /* the descriptor; the last signal that ends programs */
	int status;
	struct output out[2];
	struct termios old;
};

static void raw_on(struct session *n)
{
	struct termios raw;

	if (!n->tty || tcgetattr(STDIN_FILENO, &n->old) < 0)
		return;
	raw = n->old;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static void raw_off(struct session *n)
{
	if (n->tty)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &n->old);
}

static size_t waiting(const struct session *n)
{
	return buf_len(&n->out[0].wait) + buf_len(&n->out[1].wait);
}

static void resize(struct session *n)
{
	struct winsize size;
	struct berth_error e;

	if (n->tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		(void)!berth_stream_resize(n->s, size.ws_col, size.ws_row, &e);
}

/* What the process cannot be told, or what does not help, must not keep us: then the second one is for ourselves. */
static void on_signal(struct session *n)
{
	struct signalfd_siginfo info;
	struct berth_error e;

	if (read(n->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH) {
		resize(n);
		return;
	}
	(void)!berth_stream_signal(n->s, (int)info.ssi_signo, &e);
	if (info.ssi_signo == SIGUSR1 || info.ssi_signo == SIGUSR2)
		return;
	n->leave = n->signalled && (waiting(n) || berth_stream_fd(n->s) < 0);
	n->signalled = (int)info.ssi_signo;
}

static void on_input(struct session *n)
{
	char piece[12288];
	struct berth_error e;
	ssize_t got = read(STDIN_FILENO, piece, MIN(sizeof(piece), berth_stream_room(n->s)));

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (got > 0) {
		(void)!berth_stream_write(n->s, piece, (size_t)got, &e);
		return;
	}
	n->input_open = false;
	(void)!berth_stream_end(n->s, &e);
}

static int status_of(const struct berth_error *e)
{
	if (str_eq(e->slug, "not-found"))
		return CLI_NOT_FOUND;
	if (str_eq(e->slug, "not-executable") || str_eq(e->slug, "permission"))
		return CLI_NOT_EXECUTABLE;
	return CLI_BERTH;
}

/* Our reader went away: as in a pipe. */
static void check_reader(struct session *n, const struct output *to, int r)
{
	struct berth_error e;

	if (r < 0 && to == &n->out[0])
		(void)!berth_stream_signal(n->s, SIGPIPE, &e);
}

static void set_hold(struct session *n)
{
	berth_stream_hold(n->s, waiting(n) > (n->signalled ? (size_t)KEEP_MAX : 0));
}

/* Not when our words would wait for the reader of standard error. */
static bool may_say(const struct session *n)
{
	return !buf_len(&n->out[1].wait) && output_ready(&n->out[1]);
}

static void say_end(const struct session *n, const struct berth_event *event)
{
	if (event->how == 2)
		fprintf(stderr, "berth %s: its time was over\n", n->verb);
	if (event->how == 4)
		fprintf(stderr, "berth %s: it was killed because the sandbox's memory was out\n", n->verb);
	else if (event->oom_kills)
		fprintf(stderr, "berth %s: memory was out, processes killed for it: %llu\n", n->verb,
			(unsigned long long)event->oom_kills);
}

/* The process has ended, or we are cut off from it: what waits is still written, as long as somebody takes it. After a
 * signal, or when there is no process any more (@patience), he who takes nothing is not waited for. */
static void drain(struct session *n, uint64_t patience)
{
	uint64_t until = clock_after_ms(n->signalled ? TAKEN_MS : patience), before = 0;

	while (waiting(n) && !n->leave && clock_now() < until) {
		struct pollfd p[3] = {
			{ .fd = n->signals, .events = POLLIN },
			{ .fd = buf_len(&n->out[0].wait) ? STDOUT_FILENO : -1, .events = POLLOUT },
			{ .fd = buf_len(&n->out[1].wait) ? STDERR_FILENO : -1, .events = POLLOUT },
		};

		if (poll(p, 3, clock_left_ms(until)) < 0 && errno != EINTR)
			break;
		before = n->out[0].written + n->out[1].written;
		(void)!output_flush(&n->out[0]);
		(void)!output_flush(&n->out[1]);
		if (p[0].revents) {
			on_signal(n);
			until = n->signalled ? clock_after_ms(TAKEN_MS) : until;
		} else if (until != CLOCK_NEVER && n->out[0].written + n->out[1].written != before) {
			until = clock_after_ms(n->signalled ? TAKEN_MS : patience);
		}
	}
	if (waiting(n) && may_say(n))
		fprintf(stderr, "berth %s: nobody took the last %zu bytes of the output\n", n->verb, waiting(n));
}

/* Return: true when it is over and n->status is set. */
static bool on_event(struct session *n, const struct berth_event *event)
{
	if (event->kind == BERTH_STDOUT || event->kind == BERTH_STDERR) {
		struct output *to = &n->out[event->kind == BERTH_STDERR];

		check_reader(n, to, output_put(to, event->data, event->len));
		set_hold(n);
		return false;
	}
	if (event->kind == BERTH_STARTED && event->lost && may_say(n))
		fprintf(stderr, "berth %s: %llu bytes of output are gone\n", n->verb, (unsigned long long)event->lost);
	if (event->kind == BERTH_STARTED)
		resize(n);
	if (event->kind != BERTH_EXIT)
		return false;
	drain(n, CLOCK_NEVER);
	if (may_say(n))
		say_end(n, event);
	n->status = event->how == 0   ? event->code
		    : event->how == 1 || event->how == 4 ? 128 + event->code
		    : event->how == 2 ? 124
				      : CLI_BERTH;
	return true;
}

static bool room(const struct session *n)
{
	return waiting(n) < OUTPUT_WAIT_MAX - FRAME_ROOM;
}

/* Everything that has arrived. Return: true when it is over. */
static bool take_events(struct session *n)
{
	struct berth_event event;
	struct berth_error e;
	int r;

	/* Connections that are lost again and again while nobody takes the output would fill us up. */
	while ((r = room(n) ? berth_stream_next(n->s, 0, &event, &e) : 1) == 0)
		if (on_event(n, &event))
			return true;
	if (r == 1 || (r == -ETIMEDOUT && str_eq(e.slug, "timeout")))
		return false;
	drain(n, LOST_MS);
	raw_off(n);
	n->status = status_of(&e);
	if (may_say(n))
		cli_fail(n->verb, &e);
	return true;
}

/* Return: false when nothing is to be waited for any more. */
static bool wait_more(struct session *n)
{
	int stream = berth_stream_fd(n->s), i;
	struct pollfd p[5] = {
		{ .fd = room(n) ? stream : -1, .events = POLLIN },
		{ .fd = n->signals, .events = POLLIN },
		{ .fd = n->input_open && berth_stream_room(n->s) ? STDIN_FILENO : -1, .events = POLLIN },
		{ .fd = buf_len(&n->out[0].wait) ? STDOUT_FILENO : -1, .events = POLLOUT },
		{ .fd = buf_len(&n->out[1].wait) ? STDERR_FILENO : -1, .events = POLLOUT },
	};

	if (poll(p, 5, stream < 0 ? AGAIN_MS : -1) < 0 && errno != EINTR)
		return false;
	for (i = 0; i < 2; i++)
		if (p[3 + i].revents) {
			check_reader(n, &n->out[i], output_flush(&n->out[i]));
			set_hold(n);
		}
	if (p[1].revents) {
		on_signal(n);
		set_hold(n);
	}
	if (p[2].revents)
		on_input(n);
	return !n->leave;
}

int cli_follow(struct berth_stream *s, bool with_input, bool tty, const char *verb)
{
	struct session n = { .s = s, .verb = verb, .tty = tty, .input_open = with_input, .status = CLI_BERTH };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	n.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	output_init(&n.out[0], STDOUT_FILENO);
	output_init(&n.out[1], STDERR_FILENO);
	raw_on(&n);
	while (!take_events(&n) && wait_more(&n))
		;
	raw_off(&n);
	fd_close(&n.signals);
	output_fini(&n.out[0]);
	output_fini(&n.out[1]);
	return n.leave ? 128 + n.signalled : n.status;
}
