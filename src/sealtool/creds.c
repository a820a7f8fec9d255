/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that one machine alone can open: systemd-creds(1) does it, with the machine's own key or its TPM. */
#include "sealtool/tool.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CREDS_MAX = 16384 };

/* Run it between two pipes. What goes in is shorter than a pipe, so that nobody waits for the other. */
static int run(const char *verb, struct span in, struct secret **ret, struct err *e)
{
	const char *argv[] = { "systemd-creds", verb, "--name=berth-key", "-", "-", NULL };
	AUTO(fd_close) int to_read = -1, to_write = -1, from_read = -1, from_write = -1;
	posix_spawn_file_actions_t actions;
	int fds[2], r, status;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	to_read = fds[0];
	to_write = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	from_read = fds[0];
	from_write = fds[1];
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, to_read, 0);
	posix_spawn_file_actions_adddup2(&actions, from_write, 1);
	r = -posix_spawnp(&pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r < 0)
		return err_set(e, r, "no-creds", "this machine has no systemd-creds");
	fd_close(&to_read);
	fd_close(&from_write);
	r = in.len > CREDS_MAX ? -E2BIG : io_write_full(to_write, in.p, in.len);
	fd_close(&to_write);
	if (r == 0)
		r = secret_read(from_read, CREDS_MAX, ret);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
		secret_free(ret);
		r = -ENOKEY;
	}
	return r < 0 ? err_set(e, r, "no-creds", "systemd-creds %s failed", verb) : 0;
}

int creds_wrap(struct secret *line, struct buf *ret, struct err *e)
{
	AUTO(secret_free) struct secret *out = NULL;
	int r = run("encrypt", SPAN(secret_use(line), secret_len(line)), &out, e);
	const char *p;
	size_t i;

	secret_rest(line);
	if (r < 0)
		return r;
	p = (const char *)secret_use(out);
	for (i = 0; i < secret_len(out); i++)
		if (p[i] != '\n')
			buf_append(ret, p + i, 1);
	secret_rest(out);
	return ret->failed ? -E2BIG : 0;
}

int creds_unwrap(struct span text, struct secret **ret, struct err *e)
{
	return run("decrypt", text, ret, e);
}
