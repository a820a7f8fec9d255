/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth-agent: command line, signals, the loop. Children and the request to end arrive as signals through a descriptor,
 * so nothing ever runs in a signal handler.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "guest/agent.h"
#include "guest/oom.h"
#include "guest/vm.h"
#include "wire/trace.h"
#include "wire/xport.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { END_GRACE_MS = 5000 };

static const char usage[] =
	"usage: berth-agent --listen ADDRESS (--token-fd N | --token-file PATH) --id ID --workspace DIR\n"
	"                   [--fanotify-fd N] [--watcher auto|fanotify|inotify|none] [--vm-init] [--console]\n"
	"                   [--oom-fd N]\n";

struct options {
	const char *listen, *id, *workspace, *token_file, *watcher;
	int token_fd, fanotify_fd, oom_fd;
	bool vm_init, console;
};

struct app {
	struct loop *loop;
	struct agent *agent;
	bool ending;
};

static bool number(const char *s, int *ret)
{
	uint64_t v;

	if (num_u64(s, INT32_MAX, &v) < 0)
		return false;
	*ret = (int)v;
	return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "listen", 1, NULL, 'l' },	 { "token-fd", 1, NULL, 't' },	{ "token-file", 1, NULL, 'T' },
		{ "fanotify-fd", 1, NULL, 'f' }, { "id", 1, NULL, 'i' },	{ "workspace", 1, NULL, 'w' },
		{ "watcher", 1, NULL, 'W' },	 { "vm-init", 0, NULL, 'v' }, { "console", 0, NULL, 'c' },
		{ "oom-fd", 1, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	const char *env;
	int c;

	*o = (struct options){ .token_fd = -1, .fanotify_fd = -1, .oom_fd = -1, .watcher = "auto" };
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'l')
			o->listen = optarg;
		else if (c == 'T')
			o->token_file = optarg;
		else if (c == 'i')
			o->id = optarg;
		else if (c == 'w')
			o->workspace = optarg;
		else if (c == 'W')
			o->watcher = optarg;
		else if (c == 'v')
			o->vm_init = true;
		else if (c == 'c')
			o->console = true;
		else if (c == '?' || !number(optarg, c == 't' ? &o->token_fd : c == 'o' ? &o->oom_fd : &o->fanotify_fd))
			return false;
	}
	env = getenv("BERTH_OOM_FD");
	if (env && !number(env, &o->oom_fd))
		return false;
	return optind == argc && o->listen && o->id && strlen(o->id) <= 64 && o->workspace && *o->workspace == '/' &&
	       (o->token_fd >= 0) != (o->token_file != NULL);
}

static int read_token(const struct options *o, uint8_t *token, struct err *e)
{
	AUTO(fd_close) int fd = o->token_file ? open(o->token_file, O_RDONLY | O_CLOEXEC) : o->token_fd;
	int r = fd < 0 ? -errno : io_read_full(fd, token, WIRE_TOKEN_LEN);

	return r < 0 ? err_sys(e, r, "cannot read the token") : 0;
}

/* The best watcher that works here; none at all is no reason to die, scans still tell what is there. */
static struct source *choose_source(const struct options *o, const struct tree *tree)
{
	bool any = str_eq(o->watcher, "auto");
	struct source *s = NULL;
	int r = -ENOSYS;

	if (o->fanotify_fd >= 0 || any || str_eq(o->watcher, "fanotify"))
		r = source_fanotify(o->fanotify_fd, tree, &s);
	if (r < 0 && o->fanotify_fd >= 0)
		log_warn("agent", "the group that was handed down is of no use", "errno=%s", err_name(r));
	if (r < 0 && (any || str_eq(o->watcher, "inotify")))
		r = source_inotify(&s);
	if (r < 0 && !str_eq(o->watcher, "none"))
		log_warn("agent", "changes cannot be watched", "errno=%s", err_name(r));
	return r < 0 ? NULL : s;
}

static void on_stopped(void *ctx, uint64_t call)
{
	(void)call;
	loop_stop(((struct app *)ctx)->loop);
}

static void on_signal(void *ctx, int fd, unsigned events)
{
	struct app *app = ctx;
	struct signalfd_siginfo si;

	(void)events;
	while (read(fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (si.ssi_signo == SIGCHLD)
			continue;
		if (app->ending || procs_stop(&app->agent->procs, END_GRACE_MS, 0, on_stopped, app) < 0)
			loop_stop(app->loop);
		app->ending = true;
	}
	procs_reap(&app->agent->procs);
}

static int signals(struct app *app, int *ret_fd, struct loop_watch **ret, struct err *e)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	*ret_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	r = *ret_fd < 0 ? -errno : loop_watch(app->loop, *ret_fd, LOOP_READ, on_signal, app, ret);
	return r < 0 ? err_sys(e, r, "signalfd") : 0;
}

static void prepare(const struct options *o)
{
	if (o->vm_init)
		vm_init();
	oom_open(o->oom_fd, o->vm_init);
	if (o->console) {
		int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

		if (fd >= 0)
			log_setup(LOG_LVL_INFO, LOG_FORM_TEXT, fd);
	}
	(void)!chdir("/");
	umask(022);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "berth-agent");
}

static int serve(const struct options *o, struct app *app, struct err *e)
{
	struct agent_options ao = { .listener = -1, .id = o->id, .workspace = o->workspace, .vm = o->vm_init };
	struct loop_watch *watch = NULL;
	AUTO(fd_close) int sigfd = -1;
	struct tree tree;
	int r = read_token(o, ao.token, e);

	if (r == 0)
		r = tree_open(&tree, o->workspace, e);
	if (r == 0)
		r = xport_listen(o->listen, &ao.listener, e);
	if (r == 0)
		r = loop_new(&app->loop, e);
	if (r < 0)
		return r;
	ao.tree = &tree;
	ao.source = choose_source(o, &tree);
	r = agent_new(app->loop, &ao, &app->agent, e);
	if (r == 0)
		r = signals(app, &sigfd, &watch, e);
	if (r == 0) {
		log_info("agent", "ready", "watcher=%s", ao.source ? ao.source->kind : "none");
		r = loop_run(app->loop);
	}
	loop_unwatch(&watch);
	agent_free(&app->agent);
	loop_free(&app->loop);
	tree_close(&tree);
	return r;
}

int main(int argc, char **argv)
{
	struct err e = ERR_NULL;
	struct app app = { .loop = NULL };
	struct options o;

	if (!parse(argc, argv, &o)) {
		(void)!write(STDERR_FILENO, usage, sizeof(usage) - 1);
		return 2;
	}
	prepare(&o);
	if (trace_open(&e) < 0)
		log_warn("agent", "no trace", "reason=%s", e.text);
	if (serve(&o, &app, &e) < 0) {
		log_error("agent", "cannot serve", "reason=%s", e.text);
		return 1;
	}
	return 0;
}
