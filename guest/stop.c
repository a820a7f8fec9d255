/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A shell with job control puts its children into groups of their own, so a group is not enough: the session is
 * read from /proc. A daemon has left the session, too, and its parents are dead: what it has kept is a limit that it
 * was started with. STOP asks with SIGTERM, and when the grace is over kills again and again, because a process may
 * fork while the list is read, until no child is left; orphans come to us, who are the first process or a subreaper.
 */
#include "guest/kill.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/map.h"
#include "base/str.h"
#include "guest/fields.h"
#include "guest/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { AGAIN_MS = 20, KILLS_MAX = 250, PASSES_MAX = 100 };

struct stat_line {
	int ppid, pgrp, session;
	char state;
};

static bool read_stat(const char *pid, struct stat_line *ret)
{
	AUTO(str_free) char *path = str_printf("/proc/%s/stat", pid);
	AUTO(buf_fini) struct buf b;
	uint64_t ppid, pgrp, session;
	const char *after;

	buf_init(&b, 4096);
	if (io_read_file(AT_FDCWD, path, &b) < 0)
		return false;
	after = strrchr(buf_str(&b), ')'); /* the name before may hold anything */
	if (!after || !field_at(++after, 0) || !field_u64(after, 1, &ppid) || !field_u64(after, 2, &pgrp) ||
	    !field_u64(after, 3, &session))
		return false;
	*ret = (struct stat_line){ (int)ppid, (int)pgrp, (int)session, *field_at(after, 0) };
	return true;
}

/* Each process of /proc, but ourselves. */
static void each_process(void (*fn)(pid_t pid, const struct stat_line *s, int arg, int sig), int arg, int sig)
{
	DIR *dir = opendir("/proc");
	struct stat_line s;
	struct dirent *d;
	uint64_t pid;

	if (!dir)
		return;
	while ((d = readdir(dir)))
		if (num_u64(d->d_name, INT32_MAX, &pid) == 0 && (pid_t)pid != getpid() && read_stat(d->d_name, &s))
			fn((pid_t)pid, &s, arg, sig);
	closedir(dir);
}

static void if_session(pid_t pid, const struct stat_line *s, int session, int sig)
{
	if (s->session == session)
		kill(pid, sig);
}

static void if_ours(pid_t pid, const struct stat_line *s, int parent, int sig)
{
	if (s->ppid != parent)
		return;
	if (s->pgrp == pid)
		kill(-pid, sig);
	kill(pid, sig);
}

void kill_session(pid_t session, int sig)
{
	each_process(if_session, session, sig);
}

uint64_t tag_of(pid_t pid)
{
	static const char line[] = "\nMax realtime timeout";
	AUTO(str_free) char *path = str_printf("/proc/%d/limits", (int)pid);
	AUTO(buf_fini) struct buf b;
	uint64_t tag;
	const char *at;

	buf_init(&b, 8192);
	if (io_read_file(AT_FDCWD, path, &b) < 0)
		return 0;
	at = strstr(buf_str(&b), line);
	return at && field_u64(at + sizeof(line) - 1, 1, &tag) ? tag : 0;
}

/* One walk over /proc. Return: how many there are that were not in @seen. */
static unsigned tree_pass(uint64_t tag, pid_t session, int sig, struct map *seen)
{
	DIR *dir = opendir("/proc");
	unsigned fresh = 0;
	struct stat_line s;
	struct dirent *d;
	uint64_t pid;

	if (!dir)
		return 0;
	while ((d = readdir(dir))) {
		if (num_u64(d->d_name, INT32_MAX, &pid) < 0 || (pid_t)pid == getpid() || !read_stat(d->d_name, &s) ||
		    s.state == 'Z' || s.state == 'X' || (s.session != session && tag_of((pid_t)pid) != tag))
			continue;
		if (map_put_u64(seen, pid, seen) && sig != SIGKILL)
			continue;
		fresh++;
		kill((pid_t)pid, sig);
	}
	closedir(dir);
	return fresh;
}

unsigned kill_tree(uint64_t tag, pid_t session, int sig)
{
	struct map seen = MAP_NULL;
	unsigned i, n;

	for (i = 0; i < PASSES_MAX && tree_pass(tag, session, sig, &seen); i++)
		;
	n = (unsigned)seen.len;
	map_fini(&seen);
	return n;
}

void kill_all(int sig)
{
	if (getpid() == 1)
		kill(-1, sig);
	else
		each_process(if_ours, getpid(), sig);
}

struct stop {
	struct procs *ps;
	uint64_t call, until;
	unsigned kills;
	struct loop_timer *timer;
	procs_stopped_fn *fn;
	void *ctx;
};

static void on_stop(void *ctx)
{
	struct stop *s = ctx;
	bool left = procs_reap(s->ps);

	if (!left || s->kills > KILLS_MAX) {
		procs_stopped_fn *fn = s->fn;
		void *who = s->ctx;
		uint64_t call = s->call;

		s->ps->stop = NULL;
		loop_untimer(&s->timer);
		free(s);
		fn(who, call);
		return;
	}
	if (clock_now() >= s->until) {
		kill_all(SIGKILL);
		s->kills++;
	}
	loop_rearm(s->timer, clock_after_ms(AGAIN_MS));
}

int procs_stop(struct procs *ps, uint64_t grace_ms, uint64_t call, procs_stopped_fn *fn, void *ctx)
{
	struct stop *s;

	if (ps->stop)
		return -EALREADY;
	s = NEW(struct stop);
	*s = (struct stop){ .ps = ps, .call = call, .until = clock_after_ms(grace_ms), .fn = fn, .ctx = ctx };
	s->timer = loop_timer(ps->loop, 0, on_stop, s);
	ps->stop = s;
	kill_all(SIGTERM);
	kill_all(SIGCONT);
	return 0;
}
