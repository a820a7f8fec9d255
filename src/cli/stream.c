/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with our own terminal or pipes around it. One poll waits for standard input, the stream and signals (a
 * signalfd); input is only read while the process has room for it. When the local output blocks, we block: no credit is
 * given back and the process in the sandbox waits, as it would in a pipe.
 */
#include "cli/cli.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

enum { AGAIN_MS = 50 };

struct session {
	struct berth_stream *s;
	const char *verb;
	bool tty, input_open;
	int signals;
	int status;
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

static void resize(struct session *n)
{
	struct winsize size;
	struct berth_error e;

	if (n->tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		(void)!berth_stream_resize(n->s, size.ws_col, size.ws_row, &e);
}

static void on_signal(struct session *n)
{
	struct signalfd_siginfo info;
	struct berth_error e;

	if (read(n->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH)
		resize(n);
	else
		(void)!berth_stream_signal(n->s, (int)info.ssi_signo, &e);
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

/* Return: true when it is over and n->status is set. */
static bool on_event(struct session *n, const struct berth_event *event)
{
	if (event->kind == BERTH_STDOUT || event->kind == BERTH_STDERR) {
		int to = event->kind == BERTH_STDOUT ? STDOUT_FILENO : STDERR_FILENO;

		if (io_write_full(to, event->data, event->len) < 0 && to == STDOUT_FILENO) {
			struct berth_error e; /* our reader went away: as in a pipe */

			(void)!berth_stream_signal(n->s, SIGPIPE, &e);
		}
		return false;
	}
	if (event->kind == BERTH_STARTED && event->lost)
		fprintf(stderr, "berth %s: %llu bytes of output are gone\n", n->verb, (unsigned long long)event->lost);
	if (event->kind == BERTH_STARTED)
		resize(n);
	if (event->kind != BERTH_EXIT)
		return false;
	if (event->how == 2)
		fprintf(stderr, "berth %s: its time was over\n", n->verb);
	if (event->how == 4)
		fprintf(stderr, "berth %s: it was killed because the sandbox's memory was out\n", n->verb);
	else if (event->oom_kills)
		fprintf(stderr, "berth %s: memory was out, processes killed for it: %llu\n", n->verb,
			(unsigned long long)event->oom_kills);
	n->status = event->how == 0   ? event->code
		    : event->how == 1 || event->how == 4 ? 128 + event->code
		    : event->how == 2 ? 124
				      : CLI_BERTH;
	return true;
}

/* Everything that has arrived. Return: true when it is over. */
static bool take_events(struct session *n)
{
	struct berth_event event;
	struct berth_error e;
	int r;

	while ((r = berth_stream_next(n->s, 0, &event, &e)) == 0)
		if (on_event(n, &event))
			return true;
	if (r == -ETIMEDOUT && str_eq(e.slug, "timeout"))
		return false;
	raw_off(n);
	n->status = status_of(&e);
	cli_fail(n->verb, &e);
	return true;
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
	raw_on(&n);
	while (!take_events(&n)) {
		struct pollfd p[3] = {
			{ .fd = berth_stream_fd(s), .events = POLLIN },
			{ .fd = n.signals, .events = POLLIN },
			{ .fd = n.input_open && berth_stream_room(s) ? STDIN_FILENO : -1, .events = POLLIN },
		};

		if (poll(p, 3, p[0].fd < 0 ? AGAIN_MS : -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			on_signal(&n);
		if (p[2].revents)
			on_input(&n);
	}
	raw_off(&n);
	fd_close(&n.signals);
	return n.status;
}
