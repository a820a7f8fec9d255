/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes made by crun: that they start, hold, end, and leave nothing. */
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "tests/lib/priv-rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <unistd.h>

static struct rig rig;

static void begin(void)
{
	rig_init(&rig);
	rig_fork(&rig);
	rig_tiny(&rig);
}

static void end(void)
{
	rig_fini(&rig);
}

TestSuite(priv_box, .init = begin, .fini = end, .timeout = 120);

static void start(const char *id, struct priv_box_started *got)
{
	struct priv_box_spec spec = rig_spec(id);
	struct err e = ERR_NULL;

	cr_assert_eq(rig_start(&rig, &spec, got, &e), 0, "%s: %s", e.slug, e.text);
}

static void finish(const char *id, struct priv_box_started *got)
{
	struct err e = ERR_NULL;

	cr_assert_eq(priv_box_end(rig.priv, id, false, &e), 0, "%s: %s", e.slug, e.text);
	fd_close(&got->pidfd);
}

Test(priv_box, runs_a_program_in_its_own_world)
{
	struct priv_box_started got;

	start("one", &got);
	cr_assert_gt(got.pid, 0);
	cr_assert_eq(got.uid_base, rig.conf.range_first);
	cr_expect_str_eq(rig_sh(&rig, "id -u; hostname; echo $$ $PPID | wc -w"), "0\none\n2");
	cr_expect_str_eq(rig_sh(&rig, "cat /etc/hostname"), "one");
	cr_expect_str_eq(rig_sh(&rig, "stat -c '%u %a' /workspace"), "1000 755");
	cr_expect_str_eq(rig_sh(&rig, "ls -A /workspace"), "");
	cr_expect_str_eq(rig_sh(&rig, "ping -c1 -W1 127.0.0.1 >/dev/null 2>&1; ip -o link | wc -l"), "1");
	finish("one", &got);
}
