/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. All that allocates or reads files happens before the fork; the child only makes system calls. When one fails
 * it writes the stage and the errno into a pipe that closes on exec, so an empty pipe means that the program runs. We
 * wait for that: between fork and exec nothing blocks.
 *
 * Every descriptor above standard error is closed in the child, whoever opened it. Signals are as after boot.
 * Capabilities stay as they are, sudo is meant to work inside.
 */
#include "guest/child.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "guest/account.h"
#include "wire/hide.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { LIMITS_MAX = 16, ARGS_MAX = 1024, ENV_MAX = 1024 + 16, CANDIDATES_MAX = 64 };

enum stage { STAGE_TERMINAL, STAGE_FDS, STAGE_USER, STAGE_DIRECTORY, STAGE_LIMITS, STAGE_EXEC };

struct report {
	int stage, code;
	bool exists; /* STAGE_EXEC: the file itself is there */
};

struct plan {
	struct account user;
	char **argv, **env, **programs; /* NULL-terminated */
	char *cwd;
	bool pty, switch_user;
	mode_t umask;
	struct limit {
		int what;
		struct rlimit is;
	} limits[LIMITS_MAX + 1];
	unsigned n_limits;
	char pts[64];
	int std[3]; /* the child's ends; -1: leave closed */
	int report;
};

static void plan_fini(struct plan *p)
{
	char **v;
	int i;

	for (v = p->env; v && *v; v++) /* some may be secrets */
		hide_wipe(*v, strlen(*v));
	strv_free(&p->argv);
	strv_free(&p->env);
	strv_free(&p->programs);
	str_free(&p->cwd);
	for (i = 0; i < 3; i++)
		fd_close(&p->std[i]);
	fd_close(&p->report);
}

static char **strings(struct span list, size_t max, size_t extra)
{
	char **v = must_calloc(max + extra + 1, sizeof(*v));
	struct span s;
	size_t n = 0;

	while (n < max && msg_strv_next(&list, &s))
		v[n++] = span_dup(s);
	return v;
}

static const char *env_get(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

static void env_default(char **env, const char *name, const char *value)
{
	if (!env_get(env, name))
		env[strv_len(env)] = str_printf("%s=%s", name, value);
}

/* The files that may be meant by argv[0], in order. */
static char **candidates(const char *program, const char *path)
{
	char **v = must_calloc(CANDIDATES_MAX + 1, sizeof(*v));
	size_t n = 0;

	if (strchr(program, '/')) {
		v[0] = must_strdup(program);
		return v;
	}
	while (n < CANDIDATES_MAX) {
		size_t len = strcspn(path, ":");

		v[n++] = len ? str_printf("%.*s/%s", (int)len, path, program) : str_printf("./%s", program);
		if (!path[len])
			break;
		path += len + 1;
	}
	return v;
}

static bool limit_number(const char *s, rlim_t *ret)
{
	uint64_t v;

	if (str_eq(s, "unlimited")) {
		*ret = RLIM_INFINITY;
		return true;
	}
	if (num_u64(s, INT64_MAX, &v) < 0)
		return false;
	*ret = (rlim_t)v;
	return true;
}

/* "NAME=SOFT:HARD" or "NAME=BOTH". */
static bool limit_parse(const char *s, struct limit *ret)
{
	static const struct {
		const char *name;
		int what;
	} names[] = {
		{ "as", RLIMIT_AS },	       { "core", RLIMIT_CORE },	    { "cpu", RLIMIT_CPU },
		{ "data", RLIMIT_DATA },       { "fsize", RLIMIT_FSIZE },   { "memlock", RLIMIT_MEMLOCK },
		{ "msgqueue", RLIMIT_MSGQUEUE }, { "nice", RLIMIT_NICE },   { "nofile", RLIMIT_NOFILE },
		{ "nproc", RLIMIT_NPROC },     { "rtprio", RLIMIT_RTPRIO }, { "sigpending", RLIMIT_SIGPENDING },
		{ "stack", RLIMIT_STACK },
	};
	const char *is = strchr(s, '='), *colon = is ? strchr(is, ':') : NULL;
	AUTO(str_free) char *name = is ? span_dup(SPAN(s, (size_t)(is - s))) : NULL;
	AUTO(str_free) char *soft = NULL;
	size_t i;

	if (!is)
		return false;
	soft = span_dup(SPAN(is + 1, colon ? (size_t)(colon - is) - 1 : strlen(is + 1)));
	for (i = 0; i < ARRAY_LEN(names) && !str_eq(names[i].name, name);)
		i++;
	if (i == ARRAY_LEN(names) || !limit_number(soft, &ret->is.rlim_cur) ||
	    !limit_number(colon ? colon + 1 : soft, &ret->is.rlim_max) || ret->is.rlim_cur > ret->is.rlim_max)
		return false;
	ret->what = names[i].what;
	return true;
}

static int plan_limits(const struct msg_EXEC *m, uint64_t tag, struct plan *p, struct err *e)
{
	struct limit *mark = &p->limits[p->n_limits++];
	struct span list = m->rlimits, s;

	mark->what = RLIMIT_RTTIME;
	mark->is.rlim_cur = mark->is.rlim_max = (rlim_t)tag;
	while (p->n_limits <= LIMITS_MAX && msg_strv_next(&list, &s)) {
		AUTO(str_free) char *text = span_dup(s);

		if (!limit_parse(text, &p->limits[p->n_limits++]))
			return err_set(e, -EINVAL, "bad-request", "\"%.64s\" is no limit: NAME=SOFT:HARD is wanted",
				       text);
	}
	p->umask = m->umask & WIRE_UMASK_SET ? (mode_t)(m->umask & 0777) : 022;
	return 0;
}

static int plan_make(const struct msg_EXEC *m, const char *cwd, struct plan *p, struct err *e)
{
	AUTO(str_free) char *who = span_dup(m->user);
	int r = account_find(who, &p->user, e);

	if (r < 0)
		return r;
	if (geteuid() != 0 && p->user.uid != geteuid())
		return err_set(e, -EPERM, "permission", "the agent is not root and cannot become %s", who);
	p->switch_user = geteuid() == 0;
	p->argv = strings(m->argv, ARGS_MAX, 0);
	if (!p->argv[0] || !*p->argv[0])
		return err_set(e, -EINVAL, "bad-request", "there is no program to run");
	p->env = strings(m->env, 1024, ENV_MAX - 1024);
	env_default(p->env, "PATH", DEFAULT_PATH);
	env_default(p->env, "HOME", p->user.home);
	env_default(p->env, "USER", p->user.name);
	env_default(p->env, "LOGNAME", p->user.name);
	env_default(p->env, "SHELL", p->user.shell);
	env_default(p->env, "LANG", "C.UTF-8");
	if (m->pty)
		env_default(p->env, "TERM", "xterm-256color");
	p->programs = candidates(p->argv[0], env_get(p->env, "PATH"));
	p->cwd = m->cwd.len ? span_dup(m->cwd) : must_strdup(cwd);
	if (p->cwd[0] == '~' && (!p->cwd[1] || p->cwd[1] == '/')) {
		char *home = str_printf("%s%s", p->user.home, p->cwd + 1);

		str_free(&p->cwd);
		p->cwd = home;
	}
	if (*p->cwd != '/')
		return err_set(e, -EINVAL, "bad-directory", "the directory %s is not absolute", p->cwd);
	p->pty = m->pty;
	return 0;
}

/* --- descriptors ------------------------------------------------------------------------------------------------- */

/* For connections that bring other things than commands, and for the steps of a start. */
enum { SPARE_FDS = 64 };

static int limits(struct err *e, const char *what)
{
	const char *why = errno == EMFILE
				  ? ": the agent's limit of descriptors is reached, too many commands run at once"
			  : errno == EAGAIN ? ": the sandbox's limit of processes (pids) is reached"
					    : "";

	return err_set(e, -errno, "limits", "%s: %s%s", what, err_name(errno), why);
}

/* Descriptors are numbered from below: the newest tells how many are left. */
static int check_room(const struct child *c, struct err *e)
{
	struct rlimit is;

	if (getrlimit(RLIMIT_NOFILE, &is) < 0 || (rlim_t)MAX(MAX(c->in, c->out), c->err) + SPARE_FDS < is.rlim_cur)
		return 0;
	errno = EMFILE;
	return limits(e, "no descriptors");
}

static int make_pty(struct plan *p, const struct msg_EXEC *m, struct child *c, struct err *e)
{
	AUTO(fd_close) int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	int number = 0, zero = 0, slave;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCGPTN, &number) < 0)
		return limits(e, "no terminal");
	snprintf(p->pts, sizeof(p->pts), "/dev/pts/%d", number);
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		slave = open(p->pts, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return limits(e, "no terminal");
	child_resize(master, m->cols ? (unsigned)m->cols : 80, m->rows ? (unsigned)m->rows : 24);
	p->std[0] = slave;
	c->pty = true;
	c->in = fcntl(master, F_DUPFD_CLOEXEC, 3);
	c->out = fd_take(&master);
	return c->in < 0 ? limits(e, "no terminal") : 0;
}

/* A pipe; ours is made non-blocking. @ours: 0 we read, 1 we write. */
static int make_pipe(int ours, int *ret_ours, int *ret_theirs, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return limits(e, "no pipe");
	*ret_ours = p[ours];
	*ret_theirs = p[!ours];
	return fd_nonblock(p[ours], true);
}

static int make_pipes(struct plan *p, const struct msg_EXEC *m, struct child *c, struct err *e)
{
	int r = 0;

	if (m->stdin_mode == WIRE_STDIN_STREAM) {
		r = make_pipe(1, &c->in, &p->std[0], e);
	} else if (m->stdin_mode == WIRE_STDIN_NONE) {
		p->std[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (p->std[0] < 0)
			return limits(e, "/dev/null");
	}
	if (r == 0)
		r = make_pipe(0, &c->out, &p->std[1], e);
	if (r == 0)
		r = make_pipe(0, &c->err, &p->std[2], e);
	return r;
}

void child_resize(int pty, unsigned cols, unsigned rows)
{
	struct winsize w = { .ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows };

	ioctl(pty, TIOCSWINSZ, &w);
}

/* --- the child --------------------------------------------------------------------------------------------------- */

static NORETURN void fail(const struct plan *p, enum stage stage, bool exists)
{
	struct report r;

	memset(&r, 0, sizeof(r));
	r.stage = (int)stage;
	r.code = errno;
	r.exists = exists;
	(void)!write(p->report, &r, sizeof(r));
	_exit(127);
}

static void reset_signals(void)
{
	sigset_t none;
	int sig;

	for (sig = 1; sig < 65; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Standard descriptors from @std; our report pipe moves to 3; everything else is closed. */
static void place_fds(struct plan *p)
{
	int i;

	/* out of the way of 0 to 3 first */
	i = fcntl(p->report, F_DUPFD_CLOEXEC, 10);
	if (i < 0)
		fail(p, STAGE_FDS, false);
	p->report = i;
	for (i = 0; i < 3; i++) {
		if (p->std[i] >= 0 && (p->std[i] = fcntl(p->std[i], F_DUPFD_CLOEXEC, 10)) < 0)
			fail(p, STAGE_FDS, false);
	}
	if (p->pty)
		p->std[1] = p->std[2] = p->std[0];
	for (i = 0; i < 3; i++) {
		if (p->std[i] < 0)
			close(i);
		else if (dup2(p->std[i], i) < 0)
			fail(p, STAGE_FDS, false);
	}
	if (dup3(p->report, 3, O_CLOEXEC) < 0)
		fail(p, STAGE_FDS, false);
	p->report = 3;
	if (syscall(SYS_close_range, 4U, ~0U, 0U) < 0)
		for (i = 4; i < 4096; i++)
			close(i);
}

static void become(const struct plan *p)
{
	const struct account *u = &p->user;

	if (!p->switch_user)
		return;
	/* in a user namespace setgroups may be denied: no reason to fail for who stays what we are */
	if (setgroups(u->n_groups, u->groups) < 0 && (u->uid != getuid() || u->gid != getgid()))
		fail(p, STAGE_USER, false);
	if (setresgid(u->gid, u->gid, u->gid) < 0 ||
	    setresuid(u->uid, u->uid, u->uid) < 0)
		fail(p, STAGE_USER, false);
}

/* Who protects the agent does not mean its commands. A score that makes all of us go first stays as it is: were it
 * taken off, the agent would be killed before the command that took the memory. */
static void oom_score(void)
{
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char c = 0;

	if (fd < 0)
		return;
	if (read(fd, &c, 1) == 1 && c == '-')
		(void)!pwrite(fd, "0", 1, 0);
	close(fd);
}

static NORETURN void run(struct plan *p)
{
	struct stat st;
	bool denied = false, exists;
	int i, why;

	reset_signals();
	umask(p->umask);
	setsid();
	place_fds(p);
	if (p->pty) {
		if (p->switch_user)
			(void)!fchown(0, p->user.uid, (gid_t)-1);
		if (ioctl(0, TIOCSCTTY, 0) < 0)
			fail(p, STAGE_TERMINAL, false);
	}
	oom_score();
	for (i = 0; i < (int)p->n_limits; i++)
		if (setrlimit((__rlimit_resource_t)p->limits[i].what, &p->limits[i].is) < 0 && i > 0)
			fail(p, STAGE_LIMITS, false); /* the first is the mark: without it a tree is found less well */
	become(p);
	if (chdir(p->cwd) < 0)
		fail(p, STAGE_DIRECTORY, false);
	for (i = 0; p->programs[i]; i++) {
		execve(p->programs[i], p->argv, p->env);
		why = errno;
		exists = stat(p->programs[i], &st) == 0;
		errno = why;
		if (why == EACCES)
			denied = true;
		else if ((why != ENOENT && why != ENOTDIR) || exists)
			fail(p, STAGE_EXEC, exists);
	}
	errno = denied ? EACCES : ENOENT;
	fail(p, STAGE_EXEC, false);
}

/* --- the parent -------------------------------------------------------------------------------------------------- */

static int explain(const struct plan *p, const struct report *r, struct err *e)
{
	const char *why = err_name(r->code);

	switch (r->stage) {
	case STAGE_DIRECTORY:
		return err_set(e, -r->code, "bad-directory", "cannot go to %s: %s", p->cwd, why);
	case STAGE_USER:
		return err_set(e, -r->code, r->code == EPERM ? "permission" : "limits", "cannot become %s: %s",
			       p->user.name, why);
	case STAGE_LIMITS:
		return err_set(e, -r->code, r->code == EPERM ? "permission" : "limits", "a limit cannot be set: %s",
			       why);
	case STAGE_EXEC:
		if (r->code == EACCES || r->code == EPERM)
			return err_set(e, -r->code, "permission", "%s may not be executed", p->argv[0]);
		if (r->code == ENOENT && !r->exists)
			return err_set(e, -r->code, "not-found", "%s was not found", p->argv[0]);
		if (r->code == E2BIG || r->code == ENOMEM || r->code == EAGAIN)
			return err_set(e, -r->code, "limits", "%s: %s", p->argv[0], why);
		return err_set(e, -r->code, "not-executable", "%s cannot be executed: %s%s", p->argv[0], why,
			       r->code == ENOENT ? ", its interpreter is missing" : "");
	default:
		return err_set(e, -r->code, "limits", "the process could not be set up: %s", why);
	}
}

static int spawn(struct plan *p, struct child *c, struct err *e)
{
	AUTO(fd_close) int read_end = -1;
	struct report rep;
	sigset_t all, old;
	int pipefd[2], r;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return limits(e, "no pipe");
	read_end = pipefd[0];
	p->report = pipefd[1];
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	c->pid = fork();
	if (c->pid == 0)
		run(p);
	r = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	errno = r;
	if (c->pid < 0)
		return limits(e, "no process");
	fd_close(&p->report);
	r = io_read_full(read_end, &rep, sizeof(rep));
	return r == 0 ? explain(p, &rep, e) : 0;
}

int child_start(const struct msg_EXEC *m, const char *cwd, uint64_t tag, struct child *ret, struct err *e)
{
	AUTO(plan_fini) struct plan p = { .std = { -1, -1, -1 }, .report = -1 };
	struct child c = { .pid = -1, .in = -1, .out = -1, .err = -1 };
	int r = plan_make(m, cwd, &p, e);

	if (r == 0)
		r = plan_limits(m, tag, &p, e);
	if (r == 0)
		r = m->pty ? make_pty(&p, m, &c, e) : make_pipes(&p, m, &c, e);
	if (r == 0)
		r = check_room(&c, e);
	if (r == 0)
		r = spawn(&p, &c, e);
	if (r < 0) {
		fd_close(&c.in);
		fd_close(&c.out);
		fd_close(&c.err);
		return r;
	}
	*ret = c;
	return 0;
}
