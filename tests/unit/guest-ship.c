/* SPDX-License-Identifier: Apache-2.0 */
/* What is shipped of small files, and many of them. */
#include "guest-lab.h"

#include "base/clock.h"
#include "guest/ahead.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static unsigned sync_all(struct host *h)
{
	struct msg_SYNC m = { .call = 0 };

	return host_call(h, MSG_SYNC, &m);
}

/* A block of attributes counts among a file's blocks: so many of them as it has bytes do not say that there is no hole.
 */
Test(ship, a_hole_behind_a_block_of_attributes)
{
	char value[3000], data[4096];
	struct host h;
	struct lab l;
	int fd;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	memset(value, 'v', sizeof(value));
	memset(data, 'd', sizeof(data));
	fd = open(lab_path(&l, "hole"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	cr_assert_eq(pwrite(fd, data, sizeof(data), 4096), (ssize_t)sizeof(data));
	cr_assert_eq(fsetxattr(fd, "user.large", value, sizeof(value), 0), 0);
	close(fd);
	fd = open(lab_path(&l, "none"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	cr_assert_eq(pwrite(fd, data, 100, 0), 100);
	close(fd);
	host_open(&h, &l, true);
	cr_assert_eq(sync_all(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	cr_assert_eq(h.ship_bytes, 4096 + 100);
	host_close(&h);
	lab_stop(&l);
}

/* Renamed while they are queued and in the air: each is found under its new name, and none is missing. */
Test(ship, a_thousand_files_renamed_on_their_way)
{
	static const char script[] = "mkdir a b; for i in $(seq 1000); do echo $i >a/$i; done; mv a/* b/; mv b c; "
				     "for i in $(seq 1 10 1000); do echo more >>c/$i; done";
	struct host h;
	struct run r;
	struct lab l;

	cr_assert(lab_start(&l, "inotify"));
	host_open(&h, &l, true);
	r = run_it(&l, &h, &(struct spec){ .credit = 1 << 20 }, (const char *const[]){ "sh", "-c", script, NULL });
	cr_assert_eq(r.code, 0);
	run_fini(&r);
	cr_assert_eq(sync_all(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	cr_assert_geq(h.ships, 1000);
	host_close(&h);
	lab_stop(&l);
}

static void dropped(const struct lab *l, const char *name)
{
	int fd = open(lab_path(l, name), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	cr_assert_eq(write(fd, name, strlen(name)), (ssize_t)strlen(name));
	cr_assert_eq(fsync(fd), 0);
	cr_assert_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);
}

/* What the kernel has dropped is noticed when it is read, and asked for without waiting. */
Test(ship, what_was_dropped_is_asked_for_ahead)
{
	uint64_t end = clock_after_ms(20000);
	struct ahead a = { 0 }, b = { 0 };
	char name[16], room[16];
	struct iovec v = { .iov_base = room, .iov_len = sizeof(room) };
	struct host h;
	struct lab l;
	int fd, dir, i;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	dropped(&l, "one");
	dropped(&l, "two");
	cr_assert_not(ahead_due(&a));
	fd = open(lab_path(&l, "one"), O_RDONLY | O_CLOEXEC);
	cr_assert_eq(ahead_read(&a, fd, room, sizeof(room), 0), 3);
	close(fd);
	cr_assert(ahead_due(&a));
	a.n = AHEAD_FILES;
	cr_assert_not(ahead_due(&a));
	dir = open(lab_path(&l, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ahead_of(dir, "nothing");
	fd = open(lab_path(&l, "two"), O_RDONLY | O_CLOEXEC);
	ahead_of(dir, "two");
	while (preadv2(fd, &v, 1, 0, RWF_NOWAIT) < 0) /* it comes without anybody that waits for it */
		cr_assert_lt(clock_now(), end);
	cr_assert_eq(ahead_read(&b, fd, room, sizeof(room), 0), 3);
	cr_assert_not(ahead_due(&b));
	close(fd);
	close(dir);
	for (i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		dropped(&l, name);
	}
	host_open(&h, &l, true);
	cr_assert_eq(sync_all(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	host_close(&h);
	lab_stop(&l);
}
