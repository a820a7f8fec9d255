/* SPDX-License-Identifier: Apache-2.0 */
/* Commands in a sandbox: run, shell, attach, git. */
#include "cli/cli.h"

#include "base/io.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void fill_tty(struct berth_exec *x)
{
	struct winsize size = { .ws_col = 80, .ws_row = 24 };

	(void)!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	x->pty = true;
	x->cols = size.ws_col ? size.ws_col : 80;
	x->rows = size.ws_row ? size.ws_row : 24;
}

static int berth_failed(const char *verb, const struct berth_error *e)
{
	cli_fail(verb, e);
	return CLI_BERTH;
}

/* Start and follow to the end; the exit status. */
static int run_it(struct berth *b, const char *id, struct berth_exec *x, const char *verb)
{
	AUTO(berth_stream_close) struct berth_stream *s = NULL;
	bool tty = x->pty && isatty(STDIN_FILENO);
	struct berth_error e;

	if (berth_exec(b, id, x, &s, &e) < 0)
		return berth_failed(verb, &e);
	return cli_follow(s, x->stdin_mode == BERTH_STDIN_STREAM, tty, verb);
}

static int detach(struct berth *b, const char *id, struct berth_exec *x)
{
	AUTO(berth_stream_close) struct berth_stream *s = NULL;
	struct berth_event event = { .kind = BERTH_STDIN_ROOM };
	struct berth_error e;
	int r = berth_exec(b, id, x, &s, &e);

	while (r == 0 && event.kind != BERTH_STARTED)
		r = berth_stream_next(s, -1, &event, &e);
	if (r < 0)
		return berth_failed("run", &e);
	puts(berth_stream_id(s));
	return CLI_OK;
}

/* An option that may come several times is taken off argv before the others. */
static int take_many(int argc, char **argv, const char *option, const char ***ret)
{
	VEC(const char *) env = { 0 };
	size_t len = strlen(option);
	int i, left = 1;

	for (i = 1; i < argc; i++) {
		if (str_eq(argv[i], "--"))
			break;
		if (str_eq(argv[i], option) && i + 1 < argc)
			vec_push(&env, argv[++i]);
		else if (str_starts(argv[i], option) && argv[i][len] == '=')
			vec_push(&env, argv[i] + len + 1);
		else
			argv[left++] = argv[i];
	}
	while (i < argc)
		argv[left++] = argv[i++];
	vec_push(&env, NULL);
	*ret = env.v;
	argv[left] = NULL;
	return left;
}

/* Octal, as umask(1) has it. */
static bool parse_umask(const char *text, struct berth_exec *x)
{
	size_t n = strlen(text);

	if (n < 1 || n > 4 || strspn(text, "01234567") != n || strtoul(text, NULL, 8) > 0777) {
		cli_usage("run", "\"%s\" is no mask: three octal digits are wanted", text);
		return false;
	}
	x->has_umask = true;
	x->umask = (unsigned)strtoul(text, NULL, 8);
	return true;
}

int cli_run(struct berth *b, int argc, char **argv)
{
	const char *timeout = NULL, *mask = NULL;
	bool detached = false, tty = false, no_stdin = false;
	struct berth_exec x = { .stdin_mode = BERTH_STDIN_STREAM };
	const struct cli_option options[] = {
		{ "--user", &x.user, NULL },	 { "--cwd", &x.cwd, NULL },  { "--timeout", &timeout, NULL },
		{ "--detach", NULL, &detached }, { "--tty", NULL, &tty },    { "--no-stdin", NULL, &no_stdin },
		{ "--id", &x.id, NULL },	 { "--umask", &mask, NULL },
	};
	AUTO(mem_free) const char **env = NULL;
	AUTO(mem_free) const char **limits = NULL;
	AUTO(mem_free) const char **secrets = NULL;
	char **rest;
	int n;

	argc = take_many(argc, argv, "--secret", &secrets);
	x.secrets = secrets;
	argc = take_many(argc, argv, "--env", &env);
	argc = take_many(argc, argv, "--limit", &limits);
	x.env = env;
	x.limits = limits;
	n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);
	if (n < 3 || !str_eq(rest[1], "--")) {
		if (n >= 0)
			cli_usage("run", "a sandbox, -- and a command are wanted");
		return CLI_BERTH;
	}
	x.argv = (const char *const *)(void *)(rest + 2);
	if (!cli_time("run", timeout, &x.timeout_ms) || (mask && !parse_umask(mask, &x)))
		return CLI_BERTH;
	if (detached || no_stdin)
		x.stdin_mode = BERTH_STDIN_NONE;
	if (tty)
		fill_tty(&x);
	return detached ? detach(b, rest[0], &x) : run_it(b, rest[0], &x, "run");
}

int cli_signal(struct berth *b, int argc, char **argv)
{
	bool tree = false;
	const struct cli_option options[] = { { "--tree", NULL, &tree } };
	struct berth_error e;
	uint64_t number = 15;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest), i;

	if (n < 2 || n > 3)
		return n < 0 ? CLI_USAGE : cli_usage("signal", "a sandbox, a process and maybe a signal are wanted");
	if (n == 3 && num_u64(rest[2], 64, &number) < 0) {
		for (i = 1; i < 65; i++)
			if (sigabbrev_np(i) && str_eq(sigabbrev_np(i), rest[2] + (str_starts(rest[2], "SIG") ? 3 : 0)))
				break;
		if (i == 65)
			return cli_usage("signal", "no such signal: %s", rest[2]);
		number = (uint64_t)i;
	}
	return berth_signal(b, rest[0], rest[1], (int)number, tree, &e) < 0 ? cli_fail("signal", &e) : CLI_OK;
}

int cli_shell(struct berth *b, int argc, char **argv)
{
	static const char *const login[] = { "sh", "-c",
					     "if command -v bash >/dev/null; then exec bash -l; fi; exec sh -l", NULL };
	struct berth_exec x = { .argv = login, .stdin_mode = BERTH_STDIN_STREAM };
	const struct cli_option options[] = { { "--user", &x.user, NULL }, { "--cwd", &x.cwd, NULL } };
	AUTO(str_free) char *term = NULL;
	const char *env[2] = { NULL, NULL };
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 1) {
		if (n >= 0)
			cli_usage("shell", "one sandbox is wanted");
		return CLI_BERTH;
	}
	term = str_printf("TERM=%s", getenv("TERM") ? getenv("TERM") : "xterm-256color");
	env[0] = term;
	x.env = env;
	fill_tty(&x);
	return run_it(b, rest[0], &x, "shell");
}

int cli_attach(struct berth *b, int argc, char **argv)
{
	AUTO(berth_stream_close) struct berth_stream *s = NULL;
	struct berth_error e;

	if (argc != 3) {
		cli_usage("attach", "a sandbox and a process are wanted");
		return CLI_BERTH;
	}
	if (berth_attach(b, argv[1], argv[2], 0, 0, &s, &e) < 0)
		return berth_failed("attach", &e);
	return cli_follow(s, false, false, "attach");
}

/* --- git ---------------------------------------------------------------------------------------------------------- */

static int git_in(struct berth *b, const char *id, char **args)
{
	VEC(const char *) argv = { 0 };
	struct berth_exec x = { .stdin_mode = BERTH_STDIN_STREAM, .cwd = "/workspace" };
	int r;

	vec_push(&argv, "git");
	for (; *args; args++)
		vec_push(&argv, *args);
	vec_push(&argv, NULL);
	x.argv = argv.v;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		fill_tty(&x);
	r = run_it(b, id, &x, "git");
	vec_fini(&argv);
	return r;
}

/* The stored files as a tar stream into a command of the sandbox: reading them on the host executes nothing. */
static int fill_from(struct berth *b, const char *id, const char *mount)
{
	static const char *const untar[] = { "tar", "-x", "-f", "-", "-C", "/workspace", NULL };
	struct berth_exec x = { .argv = untar, .stdin_mode = BERTH_STDIN_STREAM, .user = "user" };
	int pipefd[2], status, r;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return CLI_BERTH;
	pid = fork();
	if (pid == 0) {
		dup2(pipefd[1], STDOUT_FILENO);
		execlp("tar", "tar", "-c", "-f", "-", "-C", mount, ".", (char *)NULL);
		_exit(CLI_NOT_FOUND);
	}
	close(pipefd[1]);
	if (pid < 0) {
		close(pipefd[0]);
		return CLI_BERTH;
	}
	dup2(pipefd[0], STDIN_FILENO);
	close(pipefd[0]);
	r = run_it(b, id, &x, "git");
	if (waitpid(pid, &status, 0) < 0 || status != 0)
		r = CLI_BERTH;
	return r;
}

/* A workspace whose sandbox is gone: a sandbox for this one command, with a copy of the files. */
static int git_stopped(struct berth *b, const struct berth_info *info, char **args)
{
	struct berth_create what = { .template_ = info->template_ };
	AUTO(fd_close) int in = dup(STDIN_FILENO);
	struct berth_info temp;
	struct berth_error e;
	int r;

	if (berth_create(b, &what, &temp, &e) < 0)
		return berth_failed("git", &e);
	r = fill_from(b, temp.id, info->mount);
	dup2(in, STDIN_FILENO);
	if (r == 0)
		r = git_in(b, temp.id, args);
	if (berth_kill(b, temp.id, 0, &e) < 0 || berth_remove(b, temp.id, &e) < 0)
		cli_fail("git", &e);
	return r;
}

int cli_git(struct berth *b, int argc, char **argv)
{
	struct berth_info info;
	struct berth_error e;

	if (argc < 3) {
		cli_usage("git", "a sandbox and arguments of git are wanted");
		return CLI_BERTH;
	}
	if (berth_info(b, argv[1], &info, &e) < 0)
		return berth_failed("git", &e);
	if (str_eq(info.state, "running"))
		return git_in(b, argv[1], argv + 2);
	return git_stopped(b, &info, argv + 2);
}
