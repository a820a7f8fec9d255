/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts come in three kinds: all controllers in the one tree of version 2; a tree per controller of version 1; and the
 * mixture, version 1 for the limits with a version 2 tree beside it that has few controllers or none but still kills
 * and freezes. So we read the mount table once and keep a list of trees with the controllers that each of them has;
 * every operation then walks the list. A sandbox has the same path in all of them, /NAME/ID, and its first process is
 * in all of them before it runs anything of the template: what it forks can never be outside.
 *
 * We write the groups ourselves and tell the runtime to keep its hands off: that is one code path for three kinds of
 * host, works where the runtime refuses the mixture, and lets the end of a sandbox be cgroup.kill.
 */
#include "host/priv/cgroup.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/freeze.h"
#include "host/priv/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CGROUP_END_S = 10, CPU_PERIOD_US = 100000 };

int cgroup_write(const char *dir, const char *file, const char *text)
{
	AUTO(str_free) char *path = str_printf("%s/%s", dir, file);
	AUTO(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	return n < 0 ? -errno : 0;
}

static int cgroup_write_u64(const char *dir, const char *file, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	return cgroup_write(dir, file, text);
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	const char *p;

	for (p = strstr(list, word); p; p = strstr(p + 1, word))
		if ((p == list || strchr(", \n", p[-1])) && (p[len] == '\0' || strchr(", \n", p[len])))
			return true;
	return false;
}

static unsigned controllers_of(const char *list)
{
	unsigned bits = 0;

	bits |= has_word(list, "memory") ? CGROUP_MEMORY : 0U;
	bits |= has_word(list, "cpu") ? CGROUP_CPU : 0U;
	bits |= has_word(list, "pids") ? CGROUP_PIDS : 0U;
	bits |= has_word(list, "freezer") ? CGROUP_FREEZER : 0U;
	bits |= has_word(list, "cpuacct") ? CGROUP_EXTRA : 0U;
	return bits;
}

/* A controller is there for the children of a group when every group above it has it, too. Whoever else writes to these
 * files, as systemd does, cannot switch it off again while a group below has it on. */
static bool switch_on(const char *root, const char *ours, const char *what)
{
	AUTO(str_free) char *dir = str_printf("%s/%s", root, ours);
	size_t at = strlen(root);

	for (;;) {
		char was = dir[at];
		int r;

		dir[at] = '\0';
		r = cgroup_write(dir, "cgroup.subtree_control", what);
		dir[at] = was;
		if (r < 0 || !was)
			return r == 0;
		at += 1 + strcspn(dir + at + 1, "/");
	}
}

/* The controllers of the version 2 tree, switched on for the children of the root and down to our directory. */
static unsigned unified_controllers(const char *path, const char *ours)
{
	static const struct {
		const char *on;
		unsigned bit;
	} wanted[] = {{"+memory", CGROUP_MEMORY}, {"+cpu", CGROUP_CPU}, {"+pids", CGROUP_PIDS}};
	AUTO(str_free) char *file = str_printf("%s/cgroup.controllers", path);
	AUTO(buf_fini) struct buf b;
	unsigned bits = 0, have;
	size_t i;

	buf_init(&b, 4096);
	if (io_read_file(AT_FDCWD, file, &b) < 0)
		return 0;
	have = controllers_of(buf_str(&b));
	for (i = 0; i < ARRAY_LEN(wanted); i++) {
		if (!(have & wanted[i].bit))
			continue;
		if (switch_on(path, ours, wanted[i].on))
			bits |= wanted[i].bit;
	}
	return bits;
}

static int add_tree(struct cgroups *c, const char *path, bool unified, const char *options)
{
	AUTO(str_free) char *dir = str_printf("%s/%s", path, c->name);
	struct cgroup_tree t = {.unified = unified};
	unsigned i;
	int r;

	for (i = 0; i < c->n; i++)
		if (str_eq(c->trees[i].path, path))
			return 0;
	t.controllers = unified ? 0 : controllers_of(options);
	if (!unified && !t.controllers)
		return 0;
	if (c->n == CGROUP_TREES_MAX)
		return 0;
	if (str_copy(t.path, sizeof(t.path), path) < 0)
		return -ENAMETOOLONG;
	r = io_mkdir_p(dir, 0755);
	if (r < 0)
		return r;
	if (unified)
		t.controllers = unified_controllers(path, c->name);
	c->trees[c->n++] = t;
	return 0;
}

/* One line of mountinfo: "… POINT … - TYPE SOURCE OPTIONS". */
static int parse_line(struct cgroups *c, char *line)
{
	char *dash = strstr(line, " - "), *point = line, *save = NULL, *type, *options;
	int i;

	if (!dash)
		return 0;
	*dash = '\0';
	for (i = 0; i < 4 && point; i++) {
		point = strchr(point, ' ');
		point = point ? point + 1 : NULL;
	}
	type = strtok_r(dash + 3, " ", &save);
	strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " ", &save);
	if (!point || !type || !options || strncmp(type, "cgroup", 6) != 0)
		return 0;
	point[strcspn(point, " ")] = '\0';
	return add_tree(c, point, str_eq(type, "cgroup2"), options);
}

/* A daemon before us may have been told of no parent: its sandboxes could be neither found nor ended. */
static int look_at_root(const struct cgroups *c, const char *name, struct err *e)
{
	unsigned i;

	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *dir = str_printf("%s/%s", c->trees[i].path, name);

		if (rmdir(dir) < 0 && errno != ENOENT)
			return err_set(e, -EBUSY, "cgroup-moved",
				       "sandboxes run in %s: end them before sandbox.cgroup-parent changes", dir);
	}
	return 0;
}

int cgroup_init(struct cgroups *c, const char *parent, const char *name, struct err *e)
{
	AUTO(buf_fini) struct buf b;
	unsigned i, have = 0;
	char *line, *save = NULL, *text;
	int r;

	*c = (struct cgroups){.n = 0};
	buf_init(&b, 4 * 1024 * 1024);
	snprintf(c->name, sizeof(c->name), "%s%s%s", parent, *parent ? "/" : "", name);
	r = strlen(parent) + strlen(name) + 2 > sizeof(c->name) ? -ENAMETOOLONG : 0;
	if (r == 0)
		r = io_read_file(AT_FDCWD, "/proc/self/mountinfo", &b);
	if (r == 0 && !buf_reserve(&b, 1))
		r = -ENOMEM;
	if (r < 0)
		return err_sys(e, r, "mountinfo");
	buf_commit(&b, 1);
	text = (char *)b.p + b.start;
	text[buf_len(&b) - 1] = '\0';
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		r = parse_line(c, line);
		if (r < 0)
			return err_sys(e, r, "control groups");
	}
	r = *parent ? look_at_root(c, name, e) : 0;
	if (r < 0) {
		cgroup_fini(c);
		return r;
	}
	for (i = 0; i < c->n; i++)
		have |= c->trees[i].controllers;
	if ((have & (CGROUP_MEMORY | CGROUP_CPU | CGROUP_PIDS)) != (CGROUP_MEMORY | CGROUP_CPU | CGROUP_PIDS))
		return err_set(e, -ENOTSUP, "no-cgroup",
			       "the memory, cpu and pids controllers are needed (found: %s%s%s)",
			       have & CGROUP_MEMORY ? "memory " : "", have & CGROUP_CPU ? "cpu " : "",
			       have & CGROUP_PIDS ? "pids" : "");
	return 0;
}

void cgroup_fini(const struct cgroups *c)
{
	unsigned i;

	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *dir = str_printf("%s/%s", c->trees[i].path, c->name);

		(void)!rmdir(dir);
	}
}

char *cgroup_dir(const struct cgroups *c, unsigned i, const char *id)
{
	return str_printf("%s/%s/%s", c->trees[i].path, c->name, id);
}

int cgroup_oom_open(const struct cgroups *c, const char *id)
{
	unsigned i;

	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *path = str_printf("%s/%s/%s/%s", c->trees[i].path, c->name, id,
						       c->trees[i].unified ? "memory.events" : "memory.oom_control");

		if (c->trees[i].controllers & CGROUP_MEMORY)
			return open(path, O_RDONLY | O_CLOEXEC);
	}
	return -1;
}

static int limit_v1(const char *dir, unsigned controllers, const struct cgroup_limits *l)
{
	int r = 0;

	if (controllers & CGROUP_MEMORY) {
		r = cgroup_write_u64(dir, "memory.limit_in_bytes", l->memory_b);
		/* Absent when the kernel does not account swap: then there is none to limit by this way. */
		if (r == 0)
			r = cgroup_write_u64(dir, "memory.memsw.limit_in_bytes", l->memory_b);
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0 && (controllers & CGROUP_CPU)) {
		r = cgroup_write_u64(dir, "cpu.cfs_period_us", CPU_PERIOD_US);
		if (r == 0)
			r = cgroup_write_u64(dir, "cpu.cfs_quota_us", (uint64_t)l->cpu_milli * (CPU_PERIOD_US / 1000));
	}
	if (r == 0 && (controllers & CGROUP_PIDS))
		r = cgroup_write_u64(dir, "pids.max", l->pids);
	return r;
}

static int limit_v2(const char *dir, unsigned controllers, const struct cgroup_limits *l)
{
	char cpu[48];
	int r = 0;

	if (controllers & CGROUP_MEMORY) {
		r = cgroup_write_u64(dir, "memory.max", l->memory_b);
		if (r == 0)
			r = cgroup_write_u64(dir, "memory.swap.max", 0);
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0 && (controllers & CGROUP_CPU)) {
		snprintf(cpu, sizeof(cpu), "%llu %u", (unsigned long long)l->cpu_milli * (CPU_PERIOD_US / 1000),
			 (unsigned)CPU_PERIOD_US);
		r = cgroup_write(dir, "cpu.max", cpu);
	}
	if (r == 0 && (controllers & CGROUP_PIDS))
		r = cgroup_write_u64(dir, "pids.max", l->pids);
	return r;
}

int cgroup_make(const struct cgroups *c, const char *id, const struct cgroup_limits *limits, struct err *e)
{
	unsigned i;

	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *dir = cgroup_dir(c, i, id);
		const struct cgroup_tree *t = &c->trees[i];
		int r = mkdir(dir, 0755) < 0 && errno != EEXIST ? -errno : 0;

		if (r == 0 && limits->memory_b)
			r = t->unified ? limit_v2(dir, t->controllers, limits) : limit_v1(dir, t->controllers, limits);
		if (r < 0)
			return err_sys(e, r, "control group %s", dir);
	}
	return 0;
}

int cgroup_enter(const struct cgroups *c, const char *id, struct err *e)
{
	unsigned i;

	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *dir = cgroup_dir(c, i, id);
		int r = cgroup_write(dir, "cgroup.procs", "0");

		if (r < 0)
			return err_sys(e, r, "entering control group %s", dir);
	}
	return 0;
}

/* One round over the processes of a group: SIGKILL to each. Return: how many there were, -ENOENT (no group), -errno. */
static int kill_round(const char *dir)
{
	AUTO(str_free) char *file = str_printf("%s/cgroup.procs", dir);
	AUTO(buf_fini) struct buf b;
	const char *p;
	int n = 0, r;

	buf_init(&b, 4 * 1024 * 1024);
	r = io_read_file(AT_FDCWD, file, &b);
	if (r < 0)
		return r == -ENODEV ? -ENOENT : r;
	for (p = buf_str(&b); *p; n++) {
		long pid = strtol(p, NULL, 10);

		if (pid > 1)
			kill((pid_t)pid, SIGKILL);
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
	return n;
}

static int kill_tree(const char *dir, bool unified, uint64_t until)
{
	const struct timespec nap = {.tv_nsec = 500000};
	AUTO(str_free) char *work = str_printf("%s/work", dir);
	int n;

	if (unified)
		(void)!cgroup_write(dir, "cgroup.kill", "1"); /* older kernels lack it: the rounds do the work */
	for (;;) {
		int below = kill_round(work);

		n = kill_round(dir);
		if ((n == 0 || n == -ENOENT) && below <= 0)
			return 0;
		if (n < 0 && n != -ENOENT)
			return n;
		if (clock_now() > until)
			return -ETIMEDOUT;
		nanosleep(&nap, NULL);
		host_reap();
	}
}

int cgroup_kill(const struct cgroups *c, const char *id, struct err *e)
{
	uint64_t until = clock_after_ms(CGROUP_END_S * 1000);
	int pass, r;
	unsigned i;

	/* A process that a tree of version 1 has frozen does not die. */
	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *dir = cgroup_dir(c, i, id);

		if (!c->trees[i].unified)
			freeze_thaw(dir);
	}
	/* The version 2 tree first: its kill is one atomic step, the others then only have to be seen empty. */
	for (pass = 1; pass >= 0; pass--)
		for (i = 0; i < c->n; i++) {
			AUTO(str_free) char *dir = cgroup_dir(c, i, id);

			if (c->trees[i].unified != (pass == 1))
				continue;
			r = kill_tree(dir, pass == 1, until);
			if (r < 0)
				return err_sys(e, r, "ending the processes of %s", dir);
		}
	return 0;
}

int cgroup_remove(const struct cgroups *c, const char *id, struct err *e)
{
	uint64_t until = clock_after_ms(CGROUP_END_S * 1000);
	const struct timespec nap = {.tv_nsec = 500000};
	unsigned i;

	for (i = 0; i < c->n; i++) {
		AUTO(str_free) char *dir = cgroup_dir(c, i, id);
		AUTO(str_free) char *work = str_printf("%s/work", dir);

		while ((rmdir(work) < 0 && errno != ENOENT) || (rmdir(dir) < 0 && errno != ENOENT)) {
			/* A zombie keeps its group busy until it is reaped. */
			if (errno != EBUSY || clock_now() > until)
				return err_sys(e, -errno, "removing control group %s", dir);
			host_reap();
			nanosleep(&nap, NULL);
		}
	}
	return 0;
}

int cgroup_each(const struct cgroups *c, int (*fn)(void *ctx, const char *id), void *ctx)
{
	unsigned i;
	int r = 0;

	for (i = 0; i < c->n && r == 0; i++) {
		AUTO(str_free) char *dir = str_printf("%s/%s", c->trees[i].path, c->name);
		DIR *d = opendir(dir);
		struct dirent *de;

		if (!d)
			continue;
		while (r == 0 && (de = readdir(d)))
			if (de->d_type == DT_DIR && de->d_name[0] != '.')
				r = fn(ctx, de->d_name);
		closedir(d);
	}
	return r;
}
