/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes made by crun: that they start, hold, end, and leave nothing. */
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/priv/box.h"
#include "host/priv/maker.h"
#include "host/priv/run.h"
#include "tests/lib/priv-rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

RIG_SUITE(priv_box, 120);

static void start(const char *id, struct priv_box_started *got)
{
	struct priv_box_spec spec = rig_spec(id);
	struct err e = ERR_NULL;

	cr_assert_eq(rig_start(&rig, &spec, got, &e), 0, "%s: %s", e.slug, e.text);
}

static void finish(const char *id, struct priv_box_started *got)
{
	struct err e = ERR_NULL;

	cr_assert_eq(priv_box_end(rig.priv, id, PRIV_DISK_NONE, &e), 0, "%s: %s", e.slug, e.text);
	fd_close(&got->pidfd);
}

Test(priv_box, runs_a_program_in_its_own_world)
{
	struct priv_box_started got;

	start("one", &got);
	cr_assert_gt(got.pid, 0);
	cr_expect_eq(got.uid_base, rig.conf.range_first);
	cr_expect_str_eq(rig_sh(&rig, "id -u; hostname; cat /etc/hostname"), "0\none\none");
	cr_expect_str_eq(rig_sh(&rig, "stat -c '%u %a' /workspace; ls -A /workspace"), "1000 755");
	cr_expect_str_eq(rig_sh(&rig, "ip -o link | wc -l; ip -o addr show lo | grep -c 127.0.0.1"), "1\n1");
	cr_expect_str_eq(rig_sh(&rig, "echo x >/workspace/f && stat -c %u:%s /workspace/f"), "0:2");
	cr_expect_str_eq(
		rig_sh(&rig, "cat /proc/1/cmdline | tr '\\0' ' '"),
		got.fanotify
			? "/.berth/agent --listen fd:3 --token-fd 4 --fanotify-fd 5 --id one --workspace "
			  "/workspace"
			: "/.berth/agent --listen fd:3 --token-fd 4 --id one --workspace /workspace");
	finish("one", &got);
}

Test(priv_box, is_fenced_in)
{
	struct priv_box_started got;

	start("fence", &got);
	cr_expect_str_eq(rig_sh(&rig, "grep -E 'CapBnd|Seccomp:' /proc/self/status | tr -d '\\t'"),
			 "CapBnd:00000000200c05fb\nSeccomp:2");
	/* Nothing but what was promised is open in the agent. */
	cr_expect_str_eq(rig_sh(&rig, "ls /proc/1/fd | tr '\\n' ' '"), "0 1 2 3 4 5 6");
	cr_expect_str_eq(rig_sh(&rig, "mount -t tmpfs x /mnt 2>/dev/null || echo no"), "no");
	cr_expect_str_eq(rig_sh(&rig, "unshare -r true 2>/dev/null || echo no"), "no");
	cr_expect_str_eq(rig_sh(&rig, "mknod /tmp/sda b 8 0 2>/dev/null || echo no"), "no");
	cr_expect_str_eq(rig_sh(&rig, "hostname other 2>/dev/null || echo no"), "no");
	cr_expect_str_eq(rig_sh(&rig, "(echo 1 >/proc/sys/kernel/panic) 2>/dev/null || echo no"), "no");
	cr_expect_str_eq(rig_sh(&rig, "(echo x >/.berth/agent) 2>/dev/null || echo no"), "no");
	cr_expect_str_eq(rig_sh(&rig, "for m in /workspace /tmp /run /dev/shm; do grep \" $m \" /proc/mounts | "
				      "grep -c nosuid,nodev; done"),
			 "1\n1\n1\n1");
	/* The kernel counts its file systems, not the host's. */
	cr_expect_str_eq(rig_sh(&rig, "df -m /workspace | tail -1 | awk '{ print $2 < 64 }'"), "1");
	finish("fence", &got);
}

Test(priv_box, leaves_nothing_in_twenty_rounds)
{
	AUTO(str_free) char *before = rig_census(&rig);
	int i;

	for (i = 0; i < 20; i++) {
		struct priv_box_started got;
		AUTO(str_free) char *after = NULL;

		start("round", &got);
		/* Processes, files and directories of its own must not hold it up. */
		rig_sh(&rig, "cd /workspace; mkdir -p a/b; echo x >a/b/c; sleep 1000 </dev/null >/dev/null 2>&1 &");
		finish("round", &got);
		after = rig_census(&rig);
		cr_assert_str_eq(after, before);
	}
}

Test(priv_box, memory_limit_holds)
{
	struct priv_box_started got;

	start("memory", &got);
	/* tail keeps the line: one of 200 megabytes does not fit into 64. */
	cr_expect_str_eq(rig_sh(&rig, "(head -c 200000000 /dev/zero | tail >/dev/null) 2>/dev/null; echo $?"), "137");
	cr_expect_str_eq(rig_sh(&rig, "echo alive"), "alive");
	finish("memory", &got);
}

Test(priv_box, process_limit_holds)
{
	struct priv_box_started got;
	const char *out;

	start("pids", &got);
	out = rig_sh(&rig, "i=0; while [ $i -lt 100 ]; do sleep 60 >/dev/null 2>&1 & i=$((i+1)); done; echo all");
	cr_expect_not_null(strstr(out, "fork"), "%s", out);
	finish("pids", &got);
}

Test(priv_box, workspace_size_holds)
{
	struct priv_box_started got;

	start("size", &got);
	cr_expect_str_eq(rig_sh(&rig, "dd if=/dev/zero of=/workspace/big bs=1M count=100 2>&1 | grep -c 'No space'"),
			 "1");
	finish("size", &got);
}

Test(priv_box, the_descriptor_tells_when_the_agent_ends)
{
	struct priv_box_started got;
	struct pollfd p = {.events = POLLIN};
	int fd = -1;

	start("mortal", &got);
	p.fd = got.pidfd;
	cr_assert_eq(poll(&p, 1, 0), 0);
	cr_assert_gt(priv_box_alive(rig.priv, "mortal", &fd, NULL), 0);
	fd_close(&fd);
	kill(got.pid, SIGKILL);
	cr_assert_eq(poll(&p, 1, 60000), 1);
	cr_assert_eq(priv_box_alive(rig.priv, "mortal", &fd, NULL), 0);
	finish("mortal", &got);
	cr_assert_eq(priv_box_alive(rig.priv, "mortal", &fd, NULL), 0);
}

Test(priv_box, refuses_what_cannot_be)
{
	struct priv_box_spec spec = rig_spec("bad");
	struct priv_box_started got, other;
	struct err e = ERR_NULL;

	cr_assert_eq(str_copy(spec.template_, sizeof(spec.template_), "nowhere"), 0);
	cr_expect_eq(rig_start(&rig, &spec, &got, &e), -ENOENT);
	cr_expect_str_eq(e.slug, "no-such-template");
	start("bad", &got);
	spec = rig_spec("bad");
	spec.range = 1;
	cr_expect_eq(rig_start(&rig, &spec, &other, &e), -EEXIST);
	cr_expect_str_eq(e.slug, "box-exists");
	spec = rig_spec("other");
	cr_expect_eq(rig_start(&rig, &spec, &other, &e), -EBUSY);
	cr_expect_str_eq(e.slug, "range-busy");
	finish("bad", &got);
	cr_expect_eq(priv_box_end(rig.priv, "bad", PRIV_DISK_NONE, &e), 0, "nothing there is fine");
}

Test(priv_box, keeps_the_image_when_asked)
{
	AUTO(str_free) char *image = str_printf("%s/boxes/kept/ws.img", rig.conf.state_dir);
	AUTO(str_free) char *root = str_printf("%s/boxes/kept/root.img", rig.conf.state_dir);
	struct priv_box_started got;
	struct stat st;

	start("kept", &got);
	cr_assert_eq(priv_box_end(rig.priv, "kept", PRIV_DISK_WORKSPACE, NULL), 0);
	cr_expect_eq(stat(image, &st), 0);
	cr_expect_eq(stat(root, &st), -1);
	finish("kept", &got);
	cr_expect_eq(stat(image, &st), -1);
}

Test(priv_box, starts_again_with_both_disks)
{
	struct priv_box_spec spec = rig_spec("again");
	struct priv_box_started got;
	struct err e = ERR_NULL;

	spec.root = PRIV_ROOT_KEPT;
	spec.again = 1;
	cr_expect_eq(rig_start(&rig, &spec, &got, &e), -ENOENT, "there are none");
	cr_expect_str_eq(e.slug, "no-disks");
	spec.again = 0;
	e = ERR_NULL;
	cr_assert_eq(rig_start(&rig, &spec, &got, &e), 0, "%s: %s", e.slug, e.text);
	(void)rig_sh(&rig, "echo w >/workspace/f; chown 1000:1000 /workspace; echo r >/f; chown 7:8 /f; rm /bin/vi; "
			   "echo t >/tmp/f");
	cr_assert_eq(priv_box_end(rig.priv, "again", PRIV_DISK_BOTH, &e), 0, "%s", e.text);
	fd_close(&got.pidfd);
	/* Elsewhere in the ids, and not while somebody has them. */
	spec.again = 1;
	spec.range = 3;
	cr_assert_eq(rig_start(&rig, &spec, &got, &e), 0, "%s: %s", e.slug, e.text);
	cr_expect_str_eq(
		rig_sh(&rig, "cat /workspace/f /f; stat -c %u:%g /f /workspace; ls /bin/vi /tmp/f 2>&1 | wc -l"),
		"w\nr\n7:8\n1000:1000\n2");
	cr_expect_eq(rig_start(&rig, &spec, &got, &e), -EBUSY);
	spec.range = 4;
	cr_expect_eq(rig_start(&rig, &spec, &got, &e), -ENOENT);
	finish("again", &got);
}

static void count(void *ctx)
{
	++*(int *)ctx;
}

Test(priv_box, keeps_a_layer_of_one_that_runs)
{
	int n = 0, fd = -1;
	AUTO(str_free) char *there = str_printf("%s/layers/one", rig.conf.state_dir);
	struct priv_box_spec spec = rig_spec("from");
	struct priv_box_started got, other;
	struct err e = ERR_NULL;
	struct stat st;

	spec.root = PRIV_ROOT_KEPT;
	cr_assert_eq(rig_start(&rig, &spec, &got, &e), 0, "%s: %s", e.slug, e.text);
	(void)rig_sh(&rig, "echo old >/etc/f; chown 5:6 /etc/f; mkdir /opt; echo x >/opt/x; rm /bin/vi");
	cr_assert_eq(priv_box_freeze(rig.priv, "from", PRIV_FREEZE_ALL, &e), 0, "%s", e.text);
	cr_assert_eq(priv_layer_keep(rig.priv, "from", "one", count, &n, &e), 0, "%s: %s", e.slug, e.text);
	cr_assert_eq(priv_box_freeze(rig.priv, "from", PRIV_FREEZE_NONE, &e), 0, "%s", e.text);
	cr_expect_eq(priv_layer_keep(rig.priv, "from", "one", count, &n, &e), -EEXIST, "a layer is never replaced");
	cr_expect_eq(priv_layer_keep(rig.priv, "nobody", "two", count, &n, &e), -ENOENT);
	cr_expect_eq(n, 2, "told when it may go on");
	(void)rig_sh(&rig, "echo new >/etc/f");
	fd_close(&got.pidfd);
	cr_assert_eq(priv_box_end(rig.priv, "from", PRIV_DISK_NONE, &e), 0, "%s", e.text);
	cr_expect_eq(priv_layer_lay(rig.priv, "none", "to", &e), -ENOENT);
	e = ERR_NULL;
	cr_assert_eq(priv_layer_lay(rig.priv, "one", "to", &e), 0, "%s: %s", e.slug, e.text);
	cr_assert_eq(priv_layer_open(rig.priv, "one", &fd, &e), 0, "%s: %s", e.slug, e.text);
	cr_expect_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY, "it is read and not written");
	close(fd);
	cr_expect_eq(priv_layer_open(rig.priv, "none", &fd, &e), -ENOENT);
	cr_expect_lt(priv_layer_open(rig.priv, "../priv.lock", &fd, &e), 0);
	cr_expect_eq(priv_layer_drop(rig.priv, "one", &e), 0, "who has a copy needs it no more");
	cr_expect_eq(priv_layer_drop(rig.priv, "one", &e), 0);
	cr_expect_eq(stat(there, &st), -1);
	spec = rig_spec("to");
	spec.root = PRIV_ROOT_LAID;
	spec.range = 2;
	cr_assert_eq(rig_start(&rig, &spec, &other, &e), 0, "%s: %s", e.slug, e.text);
	cr_expect_str_eq(
		rig_sh(&rig, "cat /etc/f /opt/x; stat -c %u:%g /etc/f; ls /bin/vi 2>&1 | grep -c 'No such'; hostname"),
		"old\nx\n5:6\n1\nto");
	finish("to", &other);
}

Test(priv_box, outlives_the_daemon_and_is_adopted)
{
	static char keep[2500][PRIV_ID_MAX + 1]; /* more than one request can name */
	AUTO(str_free) char *before = rig_census(&rig);
	AUTO(str_free) char *after = NULL;
	struct priv_box_started got, lost;
	struct priv_box_spec spec = rig_spec("lost");
	int fd = -1;
	size_t i;

	for (i = 0; i < ARRAY_LEN(keep); i++)
		snprintf(keep[i], sizeof(keep[i]), i == 1500 ? "adopted" : "other-%zu", i);
	spec.range = 1;
	cr_assert_eq(rig_start(&rig, &spec, &lost, NULL), 0);
	start("adopted", &got);
	rig_sh(&rig, "echo kept >/workspace/f");
	priv_close(&rig.priv);
	rig_fork(&rig);
	cr_assert_eq(priv_sweep(rig.priv, (const char(*)[PRIV_ID_MAX + 1])keep, ARRAY_LEN(keep), NULL), 0);
	cr_expect_eq(priv_box_alive(rig.priv, "lost", &fd, NULL), 0);
	cr_assert_gt(priv_box_alive(rig.priv, "adopted", &fd, NULL), 0);
	cr_expect_str_eq(rig_sh(&rig, "cat /workspace/f"), "kept");
	fd_close(&fd);
	fd_close(&lost.pidfd);
	finish("adopted", &got);
	after = rig_census(&rig);
	cr_expect_str_eq(after, before);
}

Test(priv_box, fake_kind_is_a_plain_process)
{
	AUTO(str_free) char *before = rig_census(&rig);
	AUTO(str_free) char *after = NULL;
	struct priv_box_spec spec = {.kind = PRIV_BOX_FAKE, .id = "fake"};
	struct priv_box_started got;
	struct err e = ERR_NULL;

	cr_assert_eq(rig_start(&rig, &spec, &got, &e), 0, "%s", e.text);
	cr_expect_eq(got.uid_base, 0);
	cr_expect(!got.fanotify);
	cr_expect_str_eq(rig_sh(&rig, "id -u"), "64999");
	cr_expect_str_eq(rig_sh(&rig, "basename $PWD; echo x >f && cat f"), "ws\nx");
	finish("fake", &got);
	after = rig_census(&rig);
	cr_expect_str_eq(after, before);
}

/* Needs a template made with: berth template build base. Its directory is named by the environment. */
Test(priv_box, sudo_works_on_the_base_template)
{
	AUTO(str_free) char *to = str_printf("%s/templates/base", rig.conf.state_dir);
	const char *from = getenv("BERTH_TEST_BASE");
	const char *argv[] = {"cp", "-a", from, to, NULL};
	struct priv_box_spec spec = rig_spec("base");
	struct priv_box_started got;
	struct err e = ERR_NULL;

	if (!from) {
		rig_fini(&rig);
		cr_skip_test("needs BERTH_TEST_BASE, the directory of a template");
	}
	cr_assert_eq(run_program(argv, -1, -1, clock_after_ms(60000), &e), 0, "%s", e.text);
	strcpy(spec.template_, "base");
	spec.memory_b = 256 << 20;
	cr_assert_eq(rig_start(&rig, &spec, &got, &e), 0, "%s", e.text);
	cr_expect_str_eq(rig_sh(&rig, "su user -c 'id -u; sudo -n id -u; sudo -n -u user id -u'"), "1000\n0\n1000");
	cr_expect_str_eq(rig_sh(&rig, "su user -c 'cd /workspace && git init -q . && echo x >f && git add f && git -c "
				      "user.name=u -c user.email=e commit -qm m && git status --short | wc -l'"),
			 "0");
	cr_expect_str_eq(rig_sh(&rig, "python -c 'import ssl, sqlite3, threading; print(6 * 7)'"), "42");
	cr_expect_str_eq(rig_sh(&rig, "find / -xdev -nouser | wc -l"), "0");
	finish("base", &got);
}

/* Played by this process itself, so that it can ask for failures. */
Test(priv_box_steps, a_failure_at_any_step_leaves_nothing, .timeout = 120)
{
	struct host h = HOST_NULL;
	struct err e = ERR_NULL;
	AUTO(str_free) char *before = NULL;
	unsigned step;

	rig_init(&rig);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	cr_assert_eq(host_init(&h, &rig.conf, &e), 0, "%s", e.text);
	rig_tiny(&rig);
	before = rig_census(&rig);
	for (step = 1; step <= maker_steps() + 3; step++) {
		struct priv_box_spec spec = rig_spec("failing");
		struct priv_box_started got;
		AUTO(str_free) char *after = NULL;
		AUTO(fd_close) int token = -1;

		h.fail_at = step;
		rig_listen(&rig, &token);
		cr_assert_eq(box_start(&h, &spec, rig.listen, token, &got, &e), -EIO, "step %u", step);
		cr_expect_str_eq(e.slug, "injected", "%s", e.text);
		after = rig_census(&rig);
		cr_assert_str_eq(after, before, "step %u", step);
	}
	cgroup_fini(&h.cgroups);
	host_fini(&h);
	rig_fini(&rig);
}

static void begin_alone(struct host *h)
{
	struct err e = ERR_NULL;

	rig_init(&rig);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	cr_assert_eq(host_init(h, &rig.conf, &e), 0, "%s", e.text);
	rig_tiny(&rig);
}

static int start_alone(struct host *h, const char *id, struct priv_box_started *got, struct err *e)
{
	struct priv_box_spec spec = rig_spec(id);
	AUTO(fd_close) int token = -1;

	rig_listen(&rig, &token);
	return box_start(h, &spec, rig.listen, token, got, e);
}

static void end_alone(struct host *h)
{
	cgroup_fini(&h->cgroups);
	host_fini(h);
	rig_fini(&rig);
}

Test(priv_box_steps, says_when_the_runtime_is_missing, .timeout = 120)
{
	struct host h = HOST_NULL;
	struct priv_box_started got;
	struct err e = ERR_NULL;

	begin_alone(&h);
	h.fail_at = 1; /* the images are formatted, by a program */
	cr_assert_eq(start_alone(&h, "first", &got, &e), -EIO);
	h.fail_at = 0;
	setenv("PATH", "/nonexistent", 1);
	cr_expect_eq(start_alone(&h, "second", &got, &e), -ENOENT);
	cr_expect_str_eq(e.slug, "no-crun");
	end_alone(&h);
}

/* As on a host with version 1 only: rounds of signals have to do. */
Test(priv_box_steps, ends_where_no_group_can_be_killed_at_once, .timeout = 120)
{
	struct host h = HOST_NULL;
	struct priv_box_started got;
	AUTO(str_free) char *before = NULL;
	AUTO(str_free) char *after = NULL;
	struct err e = ERR_NULL;

	if (access("/sys/fs/cgroup/memory", F_OK) < 0)
		cr_skip_test("needs a host with control groups of version 1");
	cr_assert_eq(unshare(CLONE_NEWNS), 0);
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	umount2("/sys/fs/cgroup/unified", MNT_DETACH);
	begin_alone(&h);
	before = rig_census(&rig);
	cr_assert_eq(start_alone(&h, "old", &got, &e), 0, "%s", e.text);
	close(got.pidfd);
	rig_sh(&rig, "i=0; while [ $i -lt 20 ]; do sleep 1000 </dev/null >/dev/null 2>&1 & i=$((i+1)); done");
	cr_expect_eq(box_end(&h, "old", PRIV_DISK_NONE, &e), 0, "%s", e.text);
	after = rig_census(&rig);
	cr_expect_str_eq(after, before);
	end_alone(&h);
}

Test(priv_box_steps, an_agent_that_cannot_run_is_a_failure, .timeout = 120)
{
	struct host h = HOST_NULL;
	struct priv_box_started got;
	struct pollfd p = {.events = POLLIN};
	AUTO(str_free) char *before = NULL;
	AUTO(str_free) char *after = NULL;
	AUTO(str_free) char *agent = NULL;
	struct err e = ERR_NULL;

	begin_alone(&h);
	before = rig_census(&rig);
	agent = str_printf("%s/agent", rig.conf.state_dir);
	cr_assert_eq(io_write_file(AT_FDCWD, agent, "no program", 10, 0555), 0);
	if (start_alone(&h, "broken", &got, &e) == 0) {
		/* The runtime found out too late to tell: the descriptor does. */
		p.fd = got.pidfd;
		cr_expect_eq(poll(&p, 1, 60000), 1);
		close(got.pidfd);
	} else {
		cr_expect_str_eq(e.slug, "runtime-failed", "%s", e.text);
	}
	cr_expect_eq(box_end(&h, "broken", PRIV_DISK_NONE, &e), 0);
	after = rig_census(&rig);
	cr_expect_str_eq(after, before);
	end_alone(&h);
}
