/* SPDX-License-Identifier: Apache-2.0 */
/* Templates from archives, and where packages would come from. */
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/apt.h"
#include "host/priv/run.h"
#include "host/priv/template.h"
#include "host/priv/tree.h"
#include "tests/lib/priv-rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

RIG_SUITE(priv_template, 120);

/* An archive of the directory @path. */
static int archive(const char *path, const char *how)
{
	AUTO(str_free) char *file = str_printf("%s/archive", rig.dir);
	const char *argv[] = {"tar", how, file, "--numeric-owner", "-C", path, ".", NULL};
	struct err e = ERR_NULL;
	int fd;

	cr_assert_eq(run_program(argv, -1, -1, clock_after_ms(60000), &e), 0, "%s", e.text);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

/* Build and wait. Return: the last line of the log. */
static const char *build(const char *name, int tar, bool replace)
{
	static char last[512];
	AUTO(fd_close) int log = memfd_create("log", 0);
	AUTO(fd_close) int pidfd = -1;
	struct priv_template_spec spec = {.replace = replace};
	struct pollfd p = {.events = POLLIN};
	struct err e = ERR_NULL;

	cr_assert_eq(str_copy(spec.name, sizeof(spec.name), name), 0);
	cr_assert_eq(priv_template_build(rig.priv, &spec, tar, log, &pidfd, &e), 0, "%s", e.text);
	p.fd = pidfd;
	cr_assert_eq(poll(&p, 1, 100000), 1);
	run_last_words(log, last, sizeof(last));
	return last;
}

static char *in_root(const char *name, const char *path)
{
	return str_printf("%s/templates/%s/root/%s", rig.conf.state_dir, name, path);
}

Test(priv_template, an_archive_becomes_a_template_that_sandboxes_run_on)
{
	AUTO(str_free) char *tiny = in_root("tiny", "");
	AUTO(fd_close) int tar = archive(tiny, "-czf");
	struct priv_template_spec again = {.name = "made"};
	struct priv_box_spec spec = rig_spec("on-made");
	struct priv_box_started got;
	struct err e = ERR_NULL;
	int pidfd;

	cr_assert_str_eq(build("made", tar, false), "berth: ok");
	cr_expect_eq(priv_template_build(rig.priv, &again, tar, 1, &pidfd, &e), -EEXIST);
	cr_expect_str_eq(e.slug, "template-exists");
	strcpy(spec.template_, "made");
	cr_assert_eq(rig_start(&rig, &spec, &got, &e), 0, "%s", e.text);
	cr_expect_str_eq(rig_sh(&rig, "grep user /etc/passwd; stat -c %u /home/user"),
			 "user:x:1000:1000::/home/user:/bin/bash\n1000");
	cr_expect_eq(priv_template_remove(rig.priv, "made", &e), -EBUSY, "a sandbox stands on it");
	lseek(tar, 0, SEEK_SET);
	cr_expect_str_eq(build("made", tar, true), "berth: ok");
	cr_expect_str_eq(rig_sh(&rig, "ls /usr/bin/busybox"), "/usr/bin/busybox", "the old tree is still there");
	cr_assert_eq(priv_box_end(rig.priv, "on-made", PRIV_DISK_NONE, &e), 0);
	close(got.pidfd);
	cr_expect_eq(priv_template_remove(rig.priv, "made", &e), 0, "%s", e.text);
	cr_expect_eq(priv_template_remove(rig.priv, "made", &e), -ENOENT);
}

Test(priv_template, an_archive_cannot_get_out)
{
	AUTO(str_free) char *evil = str_printf("%s/evil", rig.dir);
	AUTO(str_free) char *etc = str_printf("%s/evil/etc", rig.dir);
	AUTO(str_free) char *outside = str_printf("%s/outside", rig.dir);
	AUTO(str_free) char *passwd = str_printf("%s/outside/passwd", rig.dir);
	AUTO(fd_close) int tar = -1;
	struct stat st;

	cr_assert_eq(io_mkdir_p(evil, 0755), 0);
	cr_assert_eq(io_mkdir_p(outside, 0777), 0);
	cr_assert_eq(symlink(outside, etc), 0); /* /etc leads out of the tree */
	tar = archive(evil, "-cf");
	cr_expect_neq(strcmp(build("evil", tar, false), "berth: ok"), 0);
	cr_expect_eq(stat(passwd, &st), -1, "nothing was written where the link leads on the host");
}

static void put(const char *path, const char *text);

/* What the profile of a template that is made of such an archive says; on the heap. */
static char *profile_of(const char *name, const char *text, bool link)
{
	AUTO(str_free) char *dir = str_printf("%s/%s", rig.dir, name);
	AUTO(str_free) char *etc = str_printf("%s/etc", dir);
	AUTO(str_free) char *profile = str_printf("%s/etc/%s", dir, link ? "real" : "profile");
	AUTO(str_free) char *at = str_printf("%s/etc/profile", dir);
	AUTO(str_free) char *made = in_root(name, link ? "etc/real" : "etc/profile");
	AUTO(fd_close) int tar = -1;
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 4096);
	cr_assert_eq(io_mkdir_p(etc, 0755), 0);
	put(profile, text);
	cr_assert(!link || symlink("real", at) == 0);
	tar = archive(dir, "-cf");
	cr_assert_str_eq(build(name, tar, false), "berth: ok");
	cr_assert_eq(io_read_file(AT_FDCWD, made, &b), 0);
	return must_strdup(buf_str(&b));
}

Test(priv_template, a_profile_asks_no_program_who_the_user_is)
{
	const char *plain = "export A=1\n", *asks = "if [ \"$(id -u)\" -eq 0 ]; then A=$(id -u); fi\n";
	AUTO(str_free) char *one = profile_of("asks", asks, false);
	AUTO(str_free) char *two = profile_of("plain", plain, false);
	AUTO(str_free) char *three = profile_of("link", asks, true);

	cr_expect_str_eq(one, "if [ \"${UID:-$(id -u)}\" -eq 0 ]; then A=${UID:-$(id -u)}; fi\n");
	cr_expect_str_eq(two, plain);
	cr_expect_str_eq(three, asks, "a link is not followed");
}

Test(priv_template, devices_in_an_archive_are_refused)
{
	AUTO(str_free) char *dir = str_printf("%s/devices", rig.dir);
	AUTO(str_free) char *node = str_printf("%s/sda", dir);
	AUTO(fd_close) int tar = -1;
	AUTO(str_free) char *made = NULL;
	struct stat st;

	cr_assert_eq(io_mkdir_p(dir, 0755), 0);
	cr_assert_eq(mknod(node, S_IFBLK | 0666, makedev(8, 0)), 0);
	tar = archive(dir, "-cf");
	cr_expect_eq(strncmp(build("devices", tar, false), "berth: failed", 13), 0);
	made = in_root("devices", "");
	cr_expect_eq(stat(made, &st), -1);
}

/* Devices are the sandbox's own; a directory of that name elsewhere is like any other. */
Test(priv_template, only_what_is_below_dev_is_left_out)
{
	AUTO(str_free) char *dir = str_printf("%s/devs", rig.dir);
	AUTO(str_free) char *own = str_printf("%s/devs/dev/x", rig.dir);
	AUTO(str_free) char *other = str_printf("%s/devs/usr/lib/dev/y", rig.dir);
	AUTO(fd_close) int tar = -1;
	char *made;
	struct stat st;
	int i;

	cr_assert_eq(io_mkdir_p(own, 0755), 0);
	cr_assert_eq(io_mkdir_p(other, 0755), 0);
	tar = archive(dir, "-cf");
	cr_assert_str_eq(build("devs", tar, false), "berth: ok");
	for (i = 0; i < 2; i++) {
		made = in_root("devs", i ? "usr/lib/dev/y" : "dev/x");
		cr_expect_eq(stat(made, &st), i ? 0 : -1, "%s", made);
		free(made);
	}
	cr_assert_eq(priv_template_remove(rig.priv, "devs", NULL), 0);
}

Test(priv_template, rubbish_is_not_an_archive)
{
	AUTO(fd_close) int fd = memfd_create("rubbish", 0);

	cr_assert_eq(io_write_full(fd, "this is no archive, whatever you call it", 40), 0);
	lseek(fd, 0, SEEK_SET);
	cr_expect_eq(strncmp(build("rubbish", fd, false), "berth: failed", 13), 0);
}

Test(priv_template, a_name_is_built_once_at_a_time)
{
	struct priv_template_spec spec = {.name = "slow"};
	struct pollfd p = {.events = POLLIN};
	AUTO(fd_close) int log = memfd_create("log", 0);
	AUTO(fd_close) int first = -1;
	int pipefd[2], other = -1;
	struct err e = ERR_NULL;

	cr_assert_eq(pipe(pipefd), 0); /* an archive that does not come */
	cr_assert_eq(priv_template_build(rig.priv, &spec, pipefd[0], log, &first, &e), 0, "%s", e.text);
	cr_expect_eq(priv_template_build(rig.priv, &spec, pipefd[0], log, &other, &e), -EBUSY);
	cr_expect_str_eq(e.slug, "template-busy");
	/* What is under way is not swept away, and ends with the privileged process. */
	cr_assert_eq(priv_sweep(rig.priv, NULL, 0, &e), 0);
	p.fd = first;
	cr_expect_eq(poll(&p, 1, 0), 0);
	priv_close(&rig.priv);
	cr_expect_eq(poll(&p, 1, 60000), 1);
	close(pipefd[0]);
	close(pipefd[1]);
	rig_fork(&rig);
	strcpy(spec.name, "slow");
	cr_assert_eq(priv_sweep(rig.priv, NULL, 0, &e), 0);
}

Test(priv_template, names_of_packages)
{
	cr_expect(template_packages_ok("bash"));
	cr_expect(template_packages_ok("bash g++ libfoo-1.2 python3"));
	cr_expect(!template_packages_ok(""));
	cr_expect(!template_packages_ok("bash  curl"));
	cr_expect(!template_packages_ok("bash "));
	cr_expect(!template_packages_ok("--help"));
	cr_expect(!template_packages_ok("a$b"));
}

static void put(const char *path, const char *text)
{
	cr_assert_eq(io_write_file(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

Test(priv_template, both_forms_of_apt_sources_are_read)
{
	AUTO(str_free) char *parts = str_printf("%s/sources.list.d", rig.dir);
	AUTO(str_free) char *list = str_printf("%s/sources.list", rig.dir);
	AUTO(str_free) char *deb822 = str_printf("%s/sources.list.d/os.sources", rig.dir);
	AUTO(str_free) char *other = str_printf("%s/sources.list.d/other.list", rig.dir);
	struct apt_sources s;
	struct err e = ERR_NULL;

	cr_assert_eq(io_mkdir_p(parts, 0755), 0);
	cr_expect_eq(apt_read(rig.dir, "rel", &s, &e), -ENOENT);
	cr_expect_str_eq(e.slug, "no-mirror");
	put(deb822,
	    "# comment\nTypes: deb deb-src\nURIs: http://a.invalid/debian\nSuites: rel rel-updates\nComponents: main "
	    "contrib\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://b.invalid/sec\nSuites: rel-security\n"
	    "Components: main\n\nEnabled: no\nTypes: deb\nURIs: http://c.invalid/\nSuites: rel\nComponents: main\n");
	put(other, "deb [arch=amd64] http://d.invalid/x nodistro main\n");
	cr_assert_eq(apt_read(rig.dir, "rel", &s, &e), 0, "%s", e.text);
	cr_assert_eq(s.n, 3);
	cr_expect_str_eq(s.suite, "rel");
	cr_expect_str_eq(s.lines[0], "deb [signed-by=/k.gpg] http://a.invalid/debian rel main contrib");
	cr_expect_str_eq(s.lines[1], "deb [signed-by=/k.gpg] http://a.invalid/debian rel-updates main contrib");
	cr_expect_str_eq(s.lines[2], "deb http://b.invalid/sec rel-security main");
	unlink(deb822);
	put(list, "#deb http://z.invalid rel main\ndeb http://u.invalid/d rel-updates main\n"
		  "deb [ arch=amd64 signed-by=/usr/k.gpg ] http://m.invalid/d  rel  main contrib # words\n"
		  "deb-src http://m.invalid/d rel main\n");
	cr_assert_eq(apt_read(rig.dir, "rel", &s, &e), 0, "%s", e.text);
	cr_assert_eq(s.n, 2);
	cr_expect_str_eq(s.lines[0], "deb [signed-by=/usr/k.gpg] http://m.invalid/d rel main contrib");
	cr_expect_str_eq(s.lines[1], "deb http://u.invalid/d rel-updates main");
	cr_assert_eq(apt_read(rig.dir, "", &s, &e), 0, "%s", e.text);
}

Test(priv_template, removing_a_tree_follows_no_link)
{
	AUTO(str_free) char *tree = str_printf("%s/tree/a/b", rig.dir);
	AUTO(str_free) char *link = str_printf("%s/tree/a/link", rig.dir);
	AUTO(str_free) char *precious = str_printf("%s/precious", rig.dir);
	AUTO(str_free) char *file = str_printf("%s/precious/file", rig.dir);
	AUTO(fd_close) int top = open(rig.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	cr_assert_eq(io_mkdir_p(tree, 0755), 0);
	cr_assert_eq(io_mkdir_p(precious, 0755), 0);
	put(file, "x");
	cr_assert_eq(symlink(precious, link), 0);
	cr_assert_eq(tree_remove(top, "tree"), 0);
	cr_expect_eq(stat(file, &st), 0);
	cr_expect_eq(tree_remove(top, "tree"), -ENOENT);
}
