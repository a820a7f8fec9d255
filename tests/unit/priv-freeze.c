/* SPDX-License-Identifier: Apache-2.0 */
/* Freezing by control groups, with the tree of version 2 and without it: the workload stands still while the agent
 * goes on, then both, and a workload that forks all the time does not get away. */
#include "base/clock.h"
#include "base/str.h"
#include "host/priv/cgroup.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct counters {
	volatile uint64_t agent, work, forks;
};

/* Whoever is left when an assertion fails must not go on for ever. */
static void mortal(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(60);
}

static void forker(struct counters *n)
{
	uint64_t until = clock_after_ms(60000);

	mortal();
	while (clock_now() < until) {
		pid_t pid = fork();

		if (pid == 0) {
			n->work++;
			_exit(0);
		}
		n->forks += pid > 0;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	_exit(0);
}

/* The agent: enters the group, starts the workload, counts. */
static pid_t start(const struct cgroups *c, struct counters *n)
{
	pid_t pid = fork();
	int i;

	if (pid != 0)
		return pid;
	mortal();
	if (cgroup_enter(c, "box", NULL) < 0)
		_exit(1);
	for (i = 0; i < 3; i++) {
		if (fork() == 0)
			forker(n);
	}
	for (;;) {
		n->agent++;
		usleep(100);
	}
}

static void await_more(volatile uint64_t *v, const char *who)
{
	uint64_t was = *v, until = clock_after_ms(10000);

	while (*v <= was + 2)
		cr_assert_lt(clock_now(), until, "%s does not go on", who);
}

static void try(const struct cgroups *c)
{
	const struct cgroup_limits limits = { .memory_b = 512 << 20, .cpu_milli = 1000, .pids = 64 };
	struct counters *n = mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct err e = ERR_NULL;
	uint64_t work, agent;
	pid_t pid;
	int i;

	cr_assert_eq(cgroup_make(c, "box", &limits, &e), 0, "%s", e.text);
	pid = start(c, n);
	await_more(&n->agent, "agent"); /* it has started all, and starts nothing more */
	await_more(&n->work, "work");
	for (i = 0; i < 5; i++) {
		cr_assert_eq(cgroup_freeze(c, "box", pid, CGROUP_FROZEN_WORK, &e), 0, "%s", e.text);
		work = n->work + n->forks;
		await_more(&n->agent, "agent");
		cr_assert_eq(n->work + n->forks, work);
		cr_assert_eq(cgroup_freeze(c, "box", pid, CGROUP_FROZEN, &e), 0, "%s", e.text);
		agent = n->agent;
		usleep(3000);
		cr_assert_eq(n->agent, agent);
		cr_assert_eq(n->work + n->forks, work);
		cr_assert_eq(cgroup_freeze(c, "box", pid, CGROUP_FROZEN_WORK, &e), 0, "%s", e.text);
		await_more(&n->agent, "agent");
		cr_assert_eq(n->work + n->forks, work);
		cr_assert_eq(cgroup_freeze(c, "box", pid, CGROUP_THAWED, &e), 0, "%s", e.text);
		await_more(&n->work, "work");
	}
	cr_assert_eq(cgroup_freeze(c, "box", pid, CGROUP_FROZEN, &e), 0, "%s", e.text);
	cr_assert_eq(cgroup_kill(c, "box", &e), 0, "%s", e.text); /* frozen ones die, too */
	waitpid(pid, NULL, 0);
	cr_assert_eq(cgroup_remove(c, "box", &e), 0, "%s", e.text);
	munmap(n, sizeof(*n));
}

static struct cgroups mine;

/* After every test, whatever became of it. */
static void teardown(void)
{
	(void)!cgroup_kill(&mine, "box", NULL);
	(void)!cgroup_remove(&mine, "box", NULL);
	cgroup_fini(&mine);
}

TestSuite(freeze, .fini = teardown);

static bool setup(struct cgroups *c)
{
	char name[32];

	snprintf(name, sizeof(name), "bt-freeze-%d", (int)getpid());
	if (geteuid() != 0 || cgroup_init(c, "", name, NULL) < 0)
		return false;
	mine = *c;
	return true;
}

Test(freeze, with_all_trees)
{
	struct cgroups c;

	if (!setup(&c))
		cr_skip_test("needs root and control groups");
	try(&c);
	cgroup_fini(&c);
}

Test(freeze, with_version_1_alone)
{
	struct cgroups c, v1;
	unsigned i, have = 0;

	if (!setup(&c))
		cr_skip_test("needs root and control groups");
	v1 = c;
	for (i = v1.n = 0; i < c.n; i++) {
		if (!c.trees[i].unified)
			v1.trees[v1.n++] = c.trees[i];
		have |= c.trees[i].unified ? 0U : c.trees[i].controllers;
	}
	if (!(have & CGROUP_FREEZER)) {
		cgroup_fini(&c);
		cr_skip_test("this host has no freezer of version 1");
	}
	try(&v1);
	cgroup_fini(&c);
}

Test(freeze, with_none)
{
	struct cgroups c;
	struct err e = ERR_NULL;

	if (!setup(&c))
		cr_skip_test("needs root and control groups");
	cgroup_fini(&c);
	c.n = 0;
	cr_assert_eq(cgroup_freeze(&c, "box", 1, CGROUP_FROZEN, &e), -EOPNOTSUPP);
	cr_assert_str_eq(e.slug, "no-freezer");
}
