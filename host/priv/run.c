/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children of the privileged process. A program's words go to a memory file, not to a pipe: nothing has to be drained
 * while we wait, and a grandchild that keeps the descriptor open cannot hold us up. The environment was cleaned once,
 * when the privileged process began.
 */
#include "host/priv/run.h"

#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILL_MS = 2000 };

void run_child(void)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};
	sigset_t none;
	int s;

	for (s = 1; s < NSIG; s++)
		sigaction(s, &sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

int run_wait(pid_t pid, uint64_t until)
{
	AUTO(fd_close) int pidfd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	bool late = false;
	int status, n;

	if (pidfd < 0)
		return -errno;
	do
		n = poll(&p, 1, clock_left_ms(until));
	while (n < 0 && errno == EINTR);
	if (n == 0) {
		late = true;
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
		/* Stuck in the kernel even so: it is reaped when it comes back. */
		if (poll(&p, 1, KILL_MS) == 0)
			return -ETIMEDOUT;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (late)
		return -ETIMEDOUT;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void run_last_words(int fd, char *to, size_t size)
{
	char text[1024];
	off_t end = lseek(fd, 0, SEEK_END);
	off_t from = end > (off_t)sizeof(text) - 1 ? end - (off_t)sizeof(text) + 1 : 0;
	ssize_t n = pread(fd, text, sizeof(text) - 1, from);
	char *line, *p;

	if (n < 0)
		n = 0;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	text[n] = '\0';
	for (p = text; *p; p++)
		if ((unsigned char)*p < 0x20 && *p != '\n')
			*p = ' ';
	line = strrchr(text, '\n');
	snprintf(to, size, "%s", line ? line + 1 : text);
}

enum { RUN_NOT_FOUND = 127, RUN_NOT_STARTED = 126 };

static NORETURN void run_exec(const char *const *argv, int in, int out)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	run_child();
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (dup2(in >= 0 ? in : null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(RUN_NOT_STARTED);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(errno == ENOENT ? RUN_NOT_FOUND : RUN_NOT_STARTED);
}

int run_program(const char *const *argv, int in, int out, uint64_t until, struct err *e)
{
	AUTO(fd_close) int words = -1;
	char text[160];
	pid_t pid;
	int r;

	if (out < 0)
		out = words = memfd_create("words", MFD_CLOEXEC);
	if (out < 0)
		return err_sys(e, -errno, "memfd");
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "fork");
	if (pid == 0)
		run_exec(argv, in, out);
	r = run_wait(pid, until);
	if (r == 0)
		return 0;
	if (r == RUN_NOT_FOUND)
		return err_set(e, -ENOENT, "no-program", "%s is not installed", argv[0]);
	if (r < 0)
		return err_sys(e, r, "%s", argv[0]);
	text[0] = '\0';
	if (words >= 0)
		run_last_words(words, text, sizeof(text));
	return err_set(e, -EIO, "program-failed", "%s ended with %d: %s", argv[0], r, text);
}
