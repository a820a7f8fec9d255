/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread that polls: the connection of the privileged process, a socket for the next one (in a directory of root),
 * and a pipe that hangs up when the daemon is gone. From then on a clock runs. Messages are fixed structs from root;
 * KEEP_END has the same form in every version, so that a newer one can always ask for the end.
 */
#include "host/priv/keeper.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/freeze.h"
#include "host/priv/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KEEP_MAGIC = 0x62706b70, KEEP_VERSION = 1, TAKE_MS = 10000, END_MS = 5000, FIRST_FD = 512 };
enum keep_op { KEEP_TAKE = 1, KEEP_TELL, KEEP_END, KEEP_PING };

struct keep_req {
	uint32_t magic, version, op, window_ms;
};

struct keep_reply {
	int32_t result;
	uint32_t version, window_ms, reserved;
};

struct keeper {
	struct host *host;
	struct host_mount m; /* m.keeper: the connection, -1: none */
	int listen, signals;
	uint64_t until; /* when the mount goes; CLOCK_NEVER while it is served */
};

/* In a group beside those of the sandboxes, not in the unit of the daemon: systemd would warn at each start of what it
 * finds there. By trees of version 2 only, which it counts by; a daemon that nobody put below a parent has no unit. */
static void change_group(const struct host *h, bool in)
{
	const struct cgroups *c = &h->cgroups;
	unsigned i;

	for (i = 0; h->conf.cgroup_parent[0] && i < c->n; i++) {
		AUTO(str_free) char *dir = str_printf("%s/%s-keeper", c->trees[i].path, c->name);

		if (!c->trees[i].unified)
			continue;
		if (in)
			(void)!mkdir(dir, 0755);
		if (cgroup_write(in ? dir : c->trees[i].path, "cgroup.procs", "0") == 0 && !in)
			(void)!rmdir(dir);
	}
}

static bool has_hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* The mount goes, and what belongs to it here. Whoever is told so makes the next mount at once, which may get the
 * number of this one, and another keeper: nothing on the host is touched after that. The socket goes last, since who
 * does not find it does not ask. */
static void take_away(struct keeper *k)
{
	AUTO(str_free) char *path = str_printf("%s/keeper/sock", k->host->conf.state_dir);
	AUTO(str_free) char *pid = str_printf("%s/keeper/pid", k->host->conf.state_dir);

	mount_abort(k->host, k->m.dev);
	change_group(k->host, false);
	unlink(pid);
	unlink(path);
}

static NORETURN void give_up(struct keeper *k)
{
	take_away(k);
	_exit(0);
}

static void reply(int sock, int result, const struct keeper *k, const int *fds, size_t n)
{
	struct keep_reply r = {.result = result, .version = KEEP_VERSION, .window_ms = k->m.window_ms};

	(void)!io_send_fds(sock, &r, sizeof(r), fds, n);
}

/* Of a new privileged process. Nobody is given what somebody serves. */
static int give(struct keeper *k, int sock, int life)
{
	int fds[3] = {k->m.fuse, k->m.table, k->m.links};

	if (k->m.life >= 0 && !has_hung_up(k->m.life))
		return -EBUSY;
	if (k->m.window_ms == 0 || k->m.links < 0 || life < 0)
		return -ESTALE;
	fd_close(&k->m.life);
	if (sock != k->m.keeper)
		fd_close(&k->m.keeper);
	k->m.life = life;
	k->until = CLOCK_NEVER;
	reply(sock, 0, k, fds, 3);
	return 0;
}

/* Return: false when the connection is of no use any more. */
static bool answer(struct keeper *k, int sock)
{
	struct keep_req q = {.magic = 0};
	int fd = -1, r = -EINVAL;
	size_t n = 1;
	ssize_t len = io_recv_fds(sock, &q, sizeof(q), &fd, &n);

	if (n == 0)
		fd = -1;
	if (len <= 0)
		return false;
	if (len == (ssize_t)sizeof(q) && q.magic == KEEP_MAGIC && q.op == KEEP_END) {
		take_away(k);
		reply(sock, 0, k, NULL, 0);
		_exit(0);
	}
	if (len == (ssize_t)sizeof(q) && q.magic == KEEP_MAGIC && q.version == KEEP_VERSION) {
		if (q.op == KEEP_TAKE) {
			r = give(k, sock, fd);
			if (r == 0)
				return true;
		} else if (q.op == KEEP_TELL) {
			k->m.window_ms = q.window_ms;
			if (fd >= 0) {
				fd_close(&k->m.links);
				k->m.links = fd_take(&fd);
			}
			r = 0;
		} else if (q.op == KEEP_PING) {
			r = 0;
		}
	}
	fd_close(&fd);
	reply(sock, r, k, NULL, 0);
	return true;
}

static bool is_root(int sock)
{
	struct ucred who = {.uid = 1};
	socklen_t len = sizeof(who);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == 0;
}

/* Whoever comes last has the connection: a live one before it is busy with a mount that it may not have. */
static void welcome(struct keeper *k)
{
	struct timeval soon = {.tv_sec = 2};
	AUTO(fd_close) int sock = accept4(k->listen, NULL, NULL, SOCK_CLOEXEC);

	if (sock < 0 || !is_root(sock) || setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)) < 0)
		return;
	if (answer(k, sock) && k->m.life >= 0 && !has_hung_up(k->m.life) && k->m.keeper < 0)
		k->m.keeper = fd_take(&sock);
}

static void look(struct keeper *k, struct pollfd *p)
{
	if (p[0].revents)
		give_up(k);
	if (p[1].revents && k->m.keeper >= 0 && !answer(k, k->m.keeper))
		fd_close(&k->m.keeper);
	if (p[2].revents)
		welcome(k);
	if (k->m.life >= 0 && has_hung_up(k->m.life)) {
		fd_close(&k->m.life);
		fd_close(&k->m.keeper);
		k->until = clock_after_ms(k->m.window_ms);
	}
}

static NORETURN void keep(struct keeper *k)
{
	for (;;) {
		struct pollfd p[4] = {{.fd = k->signals, .events = POLLIN},
				      {.fd = k->m.keeper, .events = POLLIN},
				      {.fd = k->listen, .events = POLLIN},
				      {.fd = k->m.life}};
		int left =
			k->until == CLOCK_NEVER ? -1 : (int)MIN((uint64_t)clock_left_ms(k->until), (uint64_t)3600000);

		if (left == 0)
			give_up(k);
		if (poll(p, 4, left) > 0)
			look(k, p);
	}
}

/* Only what it keeps stays open; of the standard ones nothing that somebody may wait for the end of. */
static void tidy(int *const *fds, size_t n)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	size_t i;

	for (i = 0; i < 3; i++)
		dup2(null, (int)i);
	for (i = 0; i < n; i++)
		if (*fds[i] >= 0)
			*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, FIRST_FD);
	close_range(3, FIRST_FD - 1, 0);
	close_range(FIRST_FD + (unsigned)n, ~0U, 0);
}

/* For people, who may end it with SIGTERM. */
static void write_pid(const struct host *h)
{
	AUTO(str_free) char *path = str_printf("%s/keeper/pid", h->conf.state_dir);
	AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0)
		dprintf(fd, "%d\n", getpid());
}

static NORETURN void keeper_run(struct host *h, int conn)
{
	AUTO(str_free) char *path = str_printf("%s/keeper/sock", h->conf.state_dir);
	struct keeper k = {.host = h, .m = h->mount, .listen = -1, .signals = -1, .until = CLOCK_NEVER};
	int *const fds[] = {&k.m.fuse, &k.m.table, &k.m.links, &k.m.life, &k.m.keeper};
	sigset_t set;

	k.m.keeper = conn;
	prctl(PR_SET_NAME, "berth-keeper", 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	setsid();
	change_group(h, true);
	tidy(fds, ARRAY_LEN(fds));
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_SETMASK, &set, NULL);
	k.signals = signalfd(-1, &set, SFD_CLOEXEC);
	unlink(path);
	write_pid(h);
	/* Without it nobody can take the mount over, but it is still taken away in time. */
	if (io_unix_listen(path, 0600, &k.listen, NULL) < 0)
		k.m.window_ms = 0;
	reply(k.m.keeper, 0, &k, NULL, 0); /* it can be asked from now on */
	keep(&k);
}

int keeper_start(struct host *h, struct err *e)
{
	AUTO(str_free) char *dir = str_printf("%s/keeper", h->conf.state_dir);
	struct timeval soon = {.tv_sec = END_MS / 1000};
	struct keep_reply got;
	size_t n = 0;
	int pair[2];
	pid_t pid;

	if ((mkdir(dir, 0700) < 0 && errno != EEXIST) || chmod(dir, 0700) < 0)
		return err_sys(e, -errno, "making %s", dir);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "socketpair");
	pid = fork();
	if (pid == 0)
		keeper_run(h, pair[1]);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err_sys(e, -errno, "fork");
	}
	fd_close(&h->mount.keeper);
	h->mount.keeper = pair[0];
	(void)!setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
	if (io_recv_fds(pair[0], &got, sizeof(got), NULL, &n) != (ssize_t)sizeof(got))
		return err_set(e, -EPIPE, "no-keeper", "the keeper of the mount does not begin");
	return 0;
}

/* --- the privileged process's end --------------------------------------------------------------------------------- */

static int ask(int sock, enum keep_op op, uint32_t window_ms, int fd, struct keep_reply *ret, int *fds, size_t *n)
{
	struct keep_req q = {.magic = KEEP_MAGIC, .version = KEEP_VERSION, .op = op, .window_ms = window_ms};
	struct timeval soon = {.tv_sec = END_MS / 1000};
	ssize_t len;
	int r;

	(void)!setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
	r = io_send_fds(sock, &q, sizeof(q), &fd, fd >= 0 ? 1 : 0);
	if (r < 0)
		return r;
	len = io_recv_fds(sock, ret, sizeof(*ret), fds, n);
	if (len != (ssize_t)sizeof(*ret))
		return len < 0 ? (int)len : -EPIPE;
	return ret->result;
}

static int dial(const struct host *h, int *ret)
{
	AUTO(str_free) char *path = str_printf("%s/keeper/sock", h->conf.state_dir);

	return io_unix_connect(path, ret, NULL);
}

static int take_once(struct host *h, int life)
{
	AUTO(fd_close) int sock = -1;
	struct keep_reply got;
	int fds[3] = {-1, -1, -1}, r = dial(h, &sock);
	size_t n = 3;

	if (r < 0)
		return -ENOENT;
	r = ask(sock, KEEP_TAKE, 0, life, &got, fds, &n);
	if (r == -EBUSY)
		return r;
	if (r == 0 && n == 3) {
		h->mount.fuse = fds[0];
		h->mount.table = fds[1];
		h->mount.links = fds[2];
		h->mount.window_ms = got.window_ms;
		h->mount.keeper = fd_take(&sock);
		return 0;
	}
	while (r == 0 && n > 0)
		close(fds[--n]);
	/* Of another version, or before it had all: that mount cannot be gone on with. Whom it refuses it hangs up on.
	 */
	(void)!keeper_end(h);
	return -ENOENT;
}

int keeper_take(struct host *h, int life, struct err *e)
{
	uint64_t until = clock_after_ms(TAKE_MS);
	struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
	int r;

	while ((r = take_once(h, life)) == -EBUSY && clock_left_ms(until) > 0)
		nanosleep(&pause, NULL);
	if (r == -EBUSY)
		return err_set(e, r, "mount-busy", "%s is mounted already and its server lives", h->conf.mount_dir);
	return r;
}

bool keeper_lives(const struct host *h)
{
	AUTO(fd_close) int sock = -1;
	struct keep_reply got;
	size_t n = 0;

	/* One that is just dying still listens for a moment. */
	return dial(h, &sock) == 0 && ask(sock, KEEP_PING, 0, -1, &got, NULL, &n) == 0;
}

int keeper_tell(struct host *h)
{
	struct keep_reply got;
	size_t n = 0;

	return ask(h->mount.keeper, KEEP_TELL, h->mount.window_ms, h->mount.links, &got, NULL, &n);
}

int keeper_end(struct host *h)
{
	AUTO(fd_close) int sock = fd_take(&h->mount.keeper);
	struct keep_reply got;
	size_t n = 0;

	if (sock < 0 && dial(h, &sock) < 0)
		return 0;
	return ask(sock, KEEP_END, 0, -1, &got, NULL, &n);
}
