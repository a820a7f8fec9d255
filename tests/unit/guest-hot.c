/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are written to again and again: the kernel is silent about them, and nothing is missed or kept. */
#include "guest-lab.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Is the kernel silent about writes to some file? What the agent's group has says so. */
static bool is_silent(const struct lab *l)
{
	AUTO(str_free) char *dir = str_printf("/proc/%d/fdinfo", (int)l->pid);
	DIR *d = opendir(dir);
	struct dirent *de;
	bool is = false;

	cr_assert_not_null(d);
	while (!is && (de = readdir(d))) {
		AUTO(buf_fini) struct buf b;

		buf_init(&b, 65536);
		if (de->d_name[0] != '.' && io_read_file(dirfd(d), de->d_name, &b) == 0)
			is = strstr(buf_str(&b), "fanotify") && strstr(buf_str(&b), "ignored_mask:2");
	}
	closedir(d);
	return is;
}

/* Append until the kernel is silent about it. */
static void heat(const struct lab *l, struct host *h, int fd, const char *when)
{
	uint64_t until = clock_after_ms(20000);

	while (!is_silent(l)) {
		cr_assert_lt(clock_now(), until, "it never was silent: %s", when);
		cr_assert_eq(write(fd, "a line of a log\n", 16), 16);
		host_serve(h, 3);
	}
}

static int open_log(const struct lab *l)
{
	int fd = open(lab_path(l, "log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	cr_assert_geq(fd, 0);
	return fd;
}

static void same(const struct lab *l, struct host *h, const char *what)
{
	host_barrier(l, h);
	cr_assert_eq(host_sync(h), MSG_OK);
	cr_assert_eq(host_check(h, true), 0, "%s", what);
}

/* Whatever is done to such a file is there behind the next barrier, and without one soon. */
Test(hot, what_is_written_again_and_again, .timeout = 100)
{
	char other[4096];
	uint64_t until;
	struct host h;
	struct lab l;
	int fd, i;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	host_open(&h, &l, true);
	fd = open_log(&l);
	heat(&l, &h, fd, "new");
	cr_assert_eq(write(fd, "more", 4), 4);
	same(&l, &h, "appended");
	for (i = 0; i < 20; i++) { /* in its place, as long as before */
		heat(&l, &h, fd, "again");
		memset(other, 'A' + i, sizeof(other));
		lab_fill(lab_path(&l, "log"), 0, 10, i);
		same(&l, &h, "written over");
	}
	heat(&l, &h, fd, "before a rename");
	cr_assert_eq(rename(lab_path(&l, "log"), lab_path(&l, "log.1")), 0);
	cr_assert_eq(write(fd, "behind a rename", 15), 15);
	same(&l, &h, "renamed and appended");
	heat(&l, &h, fd, "before a move");
	cr_assert_eq(mkdir(lab_path(&l, "d"), 0755), 0);
	cr_assert_eq(rename(lab_path(&l, "log.1"), lab_path(&l, "d/log")), 0);
	host_serve(&h, 30);
	cr_assert_eq(write(fd, "elsewhere", 9), 9);
	same(&l, &h, "moved and appended");
	heat(&l, &h, fd, "before a link");
	cr_assert_eq(link(lab_path(&l, "d/log"), lab_path(&l, "second")), 0);
	cr_assert_eq(write(fd, "of two names", 12), 12);
	same(&l, &h, "linked and appended");
	cr_assert_eq(unlink(lab_path(&l, "d/log")), 0);
	cr_assert_eq(write(fd, "of the other", 12), 12);
	same(&l, &h, "one name less");
	for (i = 0; i < 3; i++) { /* the name by which it was opened is gone, the file is not */
		host_serve(&h, 100);
		cr_assert_eq(write(fd, "by no name", 10), 10);
		same(&l, &h, "opened by a name that is gone");
	}
	heat(&l, &h, fd, "before it goes");
	cr_assert_eq(unlink(lab_path(&l, "second")), 0);
	cr_assert_eq(mkdir(lab_path(&l, "second"), 0755), 0);
	cr_assert_eq(write(fd, "gone", 4), 4);
	same(&l, &h, "removed, and a directory in its place");
	close(fd);

	/* It comes to rest by itself, the last write is told, and the kernel speaks again. */
	fd = open(lab_path(&l, "calm"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	heat(&l, &h, fd, "a calm one");
	cr_assert_eq(write(fd, "the last one", 12), 12);
	until = clock_after_ms(20000);
	while (is_silent(&l) || host_check(&h, true)) {
		cr_assert_lt(clock_now(), until, "it does not come to rest");
		host_serve(&h, 20);
	}
	cr_assert_eq(write(fd, "and one more", 12), 12);
	until = clock_after_ms(20000);
	while (host_check(&h, true)) {
		cr_assert_lt(clock_now(), until, "nobody saw it");
		host_serve(&h, 20);
	}
	close(fd);
	host_close(&h);
	lab_stop(&l);
}

/* Where nobody looks at it any more the kernel is not silent for ever. */
Test(hot, what_is_written_again_and_again_and_not_kept, .timeout = 100)
{
	uint64_t until;
	struct host h;
	struct lab l;
	int fd;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	host_open_keep(&h, &l, true, "[none]\nnone/\n");
	fd = open_log(&l);
	heat(&l, &h, fd, "before it goes where nothing is kept");
	cr_assert_eq(mkdir(lab_path(&l, "none"), 0755), 0);
	cr_assert_eq(rename(lab_path(&l, "log"), lab_path(&l, "none/log")), 0);
	until = clock_after_ms(20000);
	while (is_silent(&l)) {
		cr_assert_lt(clock_now(), until, "it is silent for ever");
		cr_assert_eq(write(fd, "a line\n", 7), 7);
		host_serve(&h, 3);
	}
	host_barrier(&l, &h);
	cr_assert_eq(host_check(&h, true), 0);
	close(fd);
	host_close(&h);
	lab_stop(&l);
}

/* Its space is free behind the end of the command that removed it. */
Test(hot, what_is_removed_is_let_go, .timeout = 100)
{
	struct host h;
	struct lab l;
	int fd, i;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	host_open(&h, &l, true);
	for (i = 0; i < 3; i++) {
		struct run r;

		fd = open_log(&l);
		heat(&l, &h, fd, "before it is removed");
		cr_assert_eq(close(fd), 0);
		if (i == 2) /* under a name that nobody looked at */
			r = RUN(&l, &h, SPEC(0), "sh", "-c", "mv log last && rm last");
		else if (i == 1)
			r = RUN(&l, &h, SPEC(0), "sh", "-c", ": >new && mv new log");
		else
			r = RUN(&l, &h, SPEC(0), "rm", "log");
		cr_assert_eq(r.code, 0);
		cr_assert_not(lab_holds_removed(&l), "the agent has it open: %d", i);
		run_fini(&r);
	}
	host_close(&h);
	lab_stop(&l);
}

/* Somebody sets a time that is far ahead: no look at it is late enough by that, and it comes to rest all the same. */
Test(hot, what_has_a_time_in_the_future, .timeout = 100)
{
	struct timespec ahead[2] = { { .tv_sec = 1LL << 32 }, { .tv_sec = 1LL << 32 } };
	uint64_t until = clock_after_ms(20000);
	struct host h;
	struct lab l;
	int fd;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	host_open(&h, &l, true);
	fd = open_log(&l);
	heat(&l, &h, fd, "before its time is set");
	cr_assert_eq(futimens(fd, ahead), 0);
	while (is_silent(&l)) {
		cr_assert_lt(clock_now(), until, "it does not come to rest");
		host_serve(&h, 20);
	}
	same(&l, &h, "it has its time");
	close(fd);
	host_close(&h);
	lab_stop(&l);
}
