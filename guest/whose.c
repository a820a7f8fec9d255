/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nobody says who connected: of a Unix socket the kernel remembers it, of TCP it does not. Its tables of connections
 * take milliseconds to read where it has many buckets, and asking it for one (sock_diag) is not among what may be
 * called here. So the sockets of processes are looked at, by a copy each: of who was found before, then of the youngest
 * process first, since who connects is mostly one that began a moment ago. When it was in vain it rests for a while, so
 * that no more than a twentieth of our time goes into it.
 *
 * A copy may become the last one while we have it, and closing it would then wait for as long as the process said
 * (SO_LINGER): such a one is left to a child, in whose end nothing waits.
 */
#include "guest/whose.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/fields.h"
#include "guest/kill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { PIDS_MAX = 1024, FDS_MAX = 8192 };
enum { LOOK_NS = 5000000, REST = 20 }; /* of our time on the processor; times what was spent in vain */

struct look {
	struct sockaddr_storage mine, its; /* as the other end says them the other way round */
	unsigned left;			   /* descriptors that may still be looked at */
	uint64_t until;
};

static uint64_t spent_ns(void)
{
	struct timespec now = { .tv_sec = 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* An IPv4 address that was said as one of IPv6 is the same. */
static bool is_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	struct in6_addr at[2];
	in_port_t port[2];
	int i;

	for (i = 0; i < 2; i++) {
		const struct sockaddr_storage *s = i ? b : a;
		const struct sockaddr_in *v4 = (const void *)s;
		const struct sockaddr_in6 *v6 = (const void *)s;

		at[i] = (struct in6_addr){ .s6_addr = { [10] = 0xff, [11] = 0xff } };
		if (s->ss_family == AF_INET6)
			at[i] = v6->sin6_addr;
		else if (s->ss_family == AF_INET)
			memcpy(at[i].s6_addr + 12, &v4->sin_addr, 4);
		else
			return false;
		port[i] = s->ss_family == AF_INET6 ? v6->sin6_port : v4->sin_port;
	}
	return port[0] == port[1] && memcmp(&at[0], &at[1], sizeof(at[0])) == 0;
}

/* The child has a copy until ours is closed. */
static void close_lingering(int *fd)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return; /* one descriptor is lost, which is better than to wait */
	pid = fork();
	if (pid == 0) {
		close(ready[1]);
		(void)!read(ready[0], &byte, 1);
		_exit(0);
	}
	if (pid > 0)
		fd_close(fd);
	close(ready[0]);
	close(ready[1]);
	if (pid > 0)
		(void)!waitpid(pid, NULL, 0);
}

static bool is_end(const struct look *l, int fd)
{
	struct sockaddr_storage name, peer;
	socklen_t a = sizeof(name), b = sizeof(peer);

	return getsockname(fd, (struct sockaddr *)&name, &a) == 0 && is_same(&name, &l->its) &&
	       getpeername(fd, (struct sockaddr *)&peer, &b) == 0 && is_same(&peer, &l->mine);
}

/* Copies cost more than to ask what it is; Unix sockets are many. */
static bool is_tcp(int dir, const char *n)
{
	AUTO(str_free) char *path = str_printf("/proc/self/fd/%d/%s", dir, n);
	char name[8] = "";

	return getxattr(path, "system.sockprotoname", name, sizeof(name) - 1) < 0 || str_starts(name, "TCP");
}

/* Is descriptor @n of this process the other end? */
static bool has_end(const struct look *l, int pidfd, int n)
{
	struct linger linger = { .l_onoff = 0 };
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, n, 0);
	socklen_t len = sizeof(linger);
	bool found;

	if (fd < 0)
		return false;
	found = is_end(l, fd);
	if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) == 0 && linger.l_onoff && linger.l_linger)
		close_lingering(&fd);
	else
		fd_close(&fd);
	return found;
}

static bool look_into(struct look *l, pid_t pid)
{
	AUTO(str_free) char *path = str_printf("/proc/%d/fd", (int)pid);
	AUTO(fd_close) int pidfd = -1;
	DIR *dir = opendir(path);
	bool found = false;
	struct dirent *d;
	char what[8];
	uint64_t n;

	if (spent_ns() > l->until)
		l->left = 0;
	while (dir && !found && l->left && (d = readdir(dir))) {
		l->left--;
		if (num_u64(d->d_name, INT32_MAX, &n) < 0 ||
		    readlinkat(dirfd(dir), d->d_name, what, sizeof(what)) != sizeof(what) ||
		    memcmp(what, "socket:[", sizeof(what)) != 0 || !is_tcp(dirfd(dir), d->d_name))
			continue;
		if (pidfd < 0)
			pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		found = pidfd >= 0 && has_end(l, pidfd, (int)n);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void remember(struct whose *w, pid_t pid)
{
	w->recent[w->next++ % WHOSE_RECENT] = pid;
}

static bool is_recent(const struct whose *w, pid_t pid)
{
	size_t i;

	for (i = 0; i < WHOSE_RECENT; i++)
		if (w->recent[i] == pid)
			return true;
	return false;
}

/* Of the process that began last. Numbers are given in order, and begin again behind the highest. 0: not known. */
static pid_t last_pid(void)
{
	AUTO(buf_fini) struct buf b;
	const char *last = NULL;
	uint64_t n = 0;

	buf_init(&b, 256);
	if (io_read_file(AT_FDCWD, "/proc/loadavg", &b) == 0)
		last = strrchr(buf_str(&b), ' ');
	return last && field_u64(last + 1, 0, &n) ? (pid_t)n : 0;
}

/* By number, as the directory has them: the last ones of a ring are the youngest. */
struct young {
	pid_t pids[PIDS_MAX];
	size_t n; /* of all that were put there */
};

/* All processes but us and those of @w. Those @before have numbers above the last one: since then they began again. */
static void list_pids(const struct whose *w, struct young *now, struct young *before)
{
	DIR *dir = opendir("/proc");
	pid_t last = last_pid();
	struct dirent *d;
	uint64_t pid;

	now->n = before->n = 0;
	while (dir && (d = readdir(dir))) {
		struct young *y = num_u64(d->d_name, INT32_MAX, &pid) < 0 ? NULL : (pid_t)pid <= last ? now : before;

		if (y && (pid_t)pid != getpid() && !is_recent(w, (pid_t)pid))
			y->pids[y->n++ % PIDS_MAX] = (pid_t)pid;
	}
	if (dir)
		closedir(dir);
}

static pid_t look_among(const struct young *y, struct look *l)
{
	size_t i;

	for (i = 1; i <= MIN(y->n, (size_t)PIDS_MAX) && l->left; i++) {
		pid_t pid = y->pids[(y->n - i) % PIDS_MAX];

		if (look_into(l, pid))
			return pid;
	}
	return 0;
}

static pid_t search(struct whose *w, struct look *l)
{
	static struct young now, before; /* one thread */
	uint64_t begun = spent_ns();
	pid_t pid;
	size_t i;

	for (i = 0; i < WHOSE_RECENT; i++)
		if (w->recent[i] && look_into(l, w->recent[i]))
			return w->recent[i];
	if (clock_now() < w->again)
		return 0;
	list_pids(w, &now, &before);
	l->until = spent_ns() + LOOK_NS; /* the kernel's first list of many takes as long itself */
	pid = look_among(&now, l);
	if (!pid)
		pid = look_among(&before, l);
	if (pid)
		remember(w, pid);
	else
		w->again = clock_now() + REST * (spent_ns() - begun);
	return pid;
}

uint64_t whose_tag(struct whose *w, int fd)
{
	struct look l = { .left = FDS_MAX, .until = spent_ns() + LOOK_NS };
	socklen_t a = sizeof(l.mine), b = sizeof(l.its), c = sizeof(struct ucred);
	struct ucred cred = { .pid = 0 };
	pid_t pid;

	if (getsockname(fd, (struct sockaddr *)&l.mine, &a) < 0 || getpeername(fd, (struct sockaddr *)&l.its, &b) < 0)
		return 0;
	if (l.mine.ss_family == AF_UNIX)
		pid = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &c) == 0 ? cred.pid : 0;
	else
		pid = search(w, &l);
	return pid > 0 ? tag_of(pid) : 0;
}
