/* SPDX-License-Identifier: Apache-2.0 */
/* What is shipped of small files, and many of them. */
#include "guest-lab.h"

#include "base/clock.h"
#include "guest/ahead.h"

#include <criterion/criterion.h>
#include <dirent.h>
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

static void lay(struct wire *w, const char *path, uint64_t size)
{
	struct msg_FILL_ENTRY en = { .path = span_str(path), .mode = S_IFREG | 0644, .size = size };
	struct msg_FILL m = { .over = 1 };
	struct msg_list list;

	msg_list_init(&list, FRAME_MAX);
	cr_assert_eq(msg_list_rec(&list, MSG_FILL_ENTRY, &en), 0);
	m.entries = msg_list_span(&list);
	wire_send(w, MSG_FILL, &m);
	msg_list_fini(&list);
}

/* The size of what is being laid out, under whatever name it has until it is whole. */
static off_t laid(const struct lab *l)
{
	DIR *d = opendir(lab_path(l, ""));
	struct dirent *e;
	struct stat st = { .st_size = 0 };

	while ((e = readdir(d)))
		if (strncmp(e->d_name, ".berth-", 7) == 0)
			(void)!fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW);
	closedir(d);
	return st.st_size;
}

/* A large file that is laid out is told and shipped when it is whole, and once. */
Test(ship, nothing_is_told_of_a_file_that_is_not_whole)
{
	static uint8_t piece[200000];
	struct msg_FILL_DATA more = { .data = SPAN(piece, sizeof(piece)) };
	uint64_t end = clock_after_ms(20000);
	struct msg_FILLED filled;
	size_t names;
	struct host h;
	struct wire w;
	struct run r;
	struct lab l;

	if (!lab_start(&l, "fanotify")) {
		cr_skip_test("no loop device or no fanotify here");
		return;
	}
	memset(piece, 'p', sizeof(piece));
	host_open(&h, &l, true);
	cr_assert_eq(sync_all(&h), MSG_OK);
	names = h.entries.len;
	cr_assert(wire_dial(&l, &w, WIRE_FILL, l.token));
	lay(&w, "large", 2 * sizeof(piece));
	wire_send(&w, MSG_FILL_DATA, &more);
	while (laid(&l) != sizeof(piece))
		cr_assert_lt(clock_now(), end);
	r = run_it(&l, &h, &(struct spec){ .credit = 1 << 20 }, (const char *const[]){ "true", NULL });
	run_fini(&r);
	cr_assert_eq(sync_all(&h), MSG_OK);
	cr_assert_eq(h.entries.len, names);
	cr_assert_eq(h.ships, 0);
	more.offset = sizeof(piece);
	wire_send(&w, MSG_FILL_DATA, &more);
	wire_send(&w, MSG_FILL_END, &(struct msg_FILL_END){ 0 });
	while (!wire_ready(&w, 1) && clock_now() < end)
		host_serve(&h, 10);
	cr_assert_eq(wire_next(&w, &filled), MSG_FILLED);
	cr_assert_eq(sync_all(&h), MSG_OK);
	cr_assert_eq(host_check(&h, true), 0);
	cr_assert_eq(h.ships, 1);
	cr_assert_eq(h.ship_bytes, 2 * sizeof(piece));
	wire_close(&w);
	host_close(&h);
	lab_stop(&l);
}
