/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pause first stops the workload, while the agent goes on to tell and ship what was written, and then the agent. A
 * group freezes with all below it, so the workload has a group "work" below the sandbox's own, in the one tree that can
 * freeze: version 2 where it has cgroup.freeze, else version 1's freezer.
 *
 * Processes are moved into it when a pause begins, not when they start: a move waits for all the host's other
 * processors (up to 20 ms), which a command should not pay for a pause that may never come. The group is frozen before
 * the first one is moved, so each stands still as it enters and what has not been moved yet is all that can still fork;
 * rounds go on until only the agent is left outside. They stay there afterwards; their children are born there.
 */
#include "host/priv/freeze.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FREEZE_MS = 3000 };

static bool has_file(const char *dir, const char *file)
{
	AUTO(str_free) char *path = str_printf("%s/%s", dir, file);

	return access(path, F_OK) == 0;
}

static int set_frozen(const char *dir, bool on)
{
	int r = cgroup_write(dir, "cgroup.freeze", on ? "1" : "0");

	return r == -ENOENT || r == -EACCES ? cgroup_write(dir, "freezer.state", on ? "FROZEN" : "THAWED") : r;
}

void freeze_thaw(const char *dir)
{
	AUTO(str_free) char *work = str_printf("%s/work", dir);

	if (!has_file(dir, "cgroup.freeze") && !has_file(dir, "freezer.state"))
		return;
	(void)!set_frozen(dir, false);
	(void)!set_frozen(work, false);
}

static bool says(const char *dir, const char *file, const char *words)
{
	AUTO(str_free) char *path = str_printf("%s/%s", dir, file);
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 4096);
	return io_read_file(AT_FDCWD, path, &b) == 0 && strstr(buf_str(&b), words);
}

static bool stands_still(const char *dir)
{
	/* "FREEZING" does not hold the word. */
	return says(dir, "cgroup.events", "frozen 1") || says(dir, "freezer.state", "FROZEN");
}

static void nap(void)
{
	const struct timespec t = {.tv_nsec = 300000};

	nanosleep(&t, NULL);
}

static int await(const char *dir, uint64_t until)
{
	while (!stands_still(dir)) {
		if (clock_now() > until)
			return -ETIMEDOUT;
		nap();
	}
	return 0;
}

/* Move all but @agent one level down. Return: how many there were, or -errno. */
static int gather_round(const char *dir, const char *work, pid_t agent)
{
	AUTO(str_free) char *file = str_printf("%s/cgroup.procs", dir);
	AUTO(buf_fini) struct buf b;
	char pid[24];
	const char *p;
	int n = 0, r;

	buf_init(&b, 4 * 1024 * 1024);
	r = io_read_file(AT_FDCWD, file, &b);
	for (p = buf_str(&b); r == 0 && *p; p += strcspn(p, "\n"), p += *p == '\n') {
		long one = strtol(p, NULL, 10);

		if (one <= 0 || one == agent)
			continue;
		n++;
		snprintf(pid, sizeof(pid), "%ld", one);
		r = cgroup_write(work, "cgroup.procs", pid);
		if (r == -ESRCH) /* it has ended */
			r = 0;
	}
	return r < 0 ? r : n;
}

static int gather(const char *dir, const char *work, pid_t agent, uint64_t until)
{
	int n;

	while ((n = gather_round(dir, work, agent)) > 0)
		if (clock_now() > until)
			return -ETIMEDOUT;
	return n;
}

static int freeze_work(const char *dir, pid_t agent, uint64_t until)
{
	AUTO(str_free) char *work = str_printf("%s/work", dir);
	int r = mkdir(work, 0755) < 0 && errno != EEXIST ? -errno : 0;

	if (r == 0)
		r = set_frozen(work, true);
	if (r == 0)
		r = gather(dir, work, agent, until);
	return r == 0 ? await(work, until) : r;
}

/* The tree that can freeze; c->n when none can. */
static unsigned freezer(const struct cgroups *c, const char *id)
{
	unsigned i, v1 = c->n;

	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *dir = cgroup_dir(c, i, id);

		if (c->trees[i].unified && has_file(dir, "cgroup.freeze"))
			return i;
		if (c->trees[i].controllers & CGROUP_FREEZER)
			v1 = i;
	}
	return v1;
}

int cgroup_freeze(const struct cgroups *c, const char *id, pid_t agent, enum cgroup_freeze level, struct err *e)
{
	uint64_t until = clock_after_ms(FREEZE_MS);
	unsigned i = freezer(c, id);
	AUTO(str_free) char *dir = i < c->n ? cgroup_dir(c, i, id) : NULL;
	int r = 0;

	if (!dir)
		return err_set(e, -EOPNOTSUPP, "no-freezer", "no control group of this host can freeze");
	if (level == CGROUP_THAWED) {
		freeze_thaw(dir);
		return 0;
	}
	if (level == CGROUP_FROZEN_WORK)
		r = set_frozen(dir, false);
	if (r == 0)
		r = freeze_work(dir, agent, until);
	if (r == 0 && level == CGROUP_FROZEN)
		r = set_frozen(dir, true);
	if (r == 0 && level == CGROUP_FROZEN)
		r = await(dir, until);
	if (r == 0)
		return 0;
	freeze_thaw(dir);
	if (r == -ETIMEDOUT)
		return err_set(e, r, "freeze-timeout", "a process of the sandbox cannot be stopped at the moment");
	return err_sys(e, r, "freezing control group %s", dir);
}
