/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE mount, with a server of a few lines in a thread. */
#include "base/io.h"
#include "base/str.h"
#include "tests/lib/priv-rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rig rig;

static void begin(void)
{
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		cr_skip_test("needs /dev/fuse");
	rig_init(&rig);
	rig_fork(&rig);
}

static void end(void)
{
	rig_fini(&rig);
}

TestSuite(priv_mount, .init = begin, .fini = end, .timeout = 60);

static void answer(int fd, uint64_t unique, int error, const void *p, size_t len)
{
	char out[4096];
	struct fuse_out_header h = {.len = (uint32_t)(sizeof(h) + len), .error = error, .unique = unique};

	memcpy(out, &h, sizeof(h));
	if (len)
		memcpy(out + sizeof(h), p, len);
	(void)!write(fd, out, h.len);
}

/* A root with one directory "by-name". Ends when the descriptor does. */
static void *serve(void *arg)
{
	int fd = *(int *)arg;
	static char in[2 * 1024 * 1024];

	for (;;) {
		ssize_t n = read(fd, in, sizeof(in));
		const struct fuse_in_header *h = (const void *)in;
		struct fuse_attr attr = {.mode = S_IFDIR | 0755, .nlink = 2};
		struct fuse_init_out init = {.major = 7, .minor = 31, .max_write = 4096};
		struct fuse_entry_out entry = {.nodeid = 2};
		struct fuse_attr_out attrs = {.attr_valid = 0};
		struct fuse_statfs_out stats = {.st.bsize = 512};

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		attr.ino = h->nodeid;
		attrs.attr = attr;
		entry.attr = attr;
		entry.attr.ino = 2;
		if (h->opcode == FUSE_INIT)
			answer(fd, h->unique, 0, &init, sizeof(init));
		else if (h->opcode == FUSE_GETATTR)
			answer(fd, h->unique, 0, &attrs, sizeof(attrs));
		else if (h->opcode == FUSE_STATFS)
			answer(fd, h->unique, 0, &stats, sizeof(stats));
		else if (h->opcode == FUSE_LOOKUP && strcmp(in + sizeof(*h), "by-name") == 0)
			answer(fd, h->unique, 0, &entry, sizeof(entry));
		else if (h->opcode != FUSE_FORGET && h->opcode != FUSE_BATCH_FORGET)
			answer(fd, h->unique, h->opcode == FUSE_LOOKUP ? -ENOENT : -ENOSYS, NULL, 0);
	}
}

static bool mounted(const char *below)
{
	AUTO(str_free) char *path = str_printf(" %s%s ", rig.conf.mount_dir, below);
	struct buf b;
	bool is;

	buf_init(&b, 4 << 20);
	cr_assert_eq(io_read_file(AT_FDCWD, "/proc/self/mountinfo", &b), 0);
	is = strstr(buf_str(&b), path) != NULL;
	buf_fini(&b);
	return is;
}

static void *server(void *fd)
{
	return serve(fd);
}

Test(priv_mount, is_made_with_the_promised_flags_and_taken_away)
{
	AUTO(str_free) char *links = str_printf("%s/by-name", rig.conf.mount_dir);
	AUTO(str_free) char *link = str_printf("%s/by-name/x", rig.conf.mount_dir);
	AUTO(priv_mounted_fini) struct priv_mounted m = PRIV_MOUNTED_NULL;
	struct priv_mounted second = PRIV_MOUNTED_NULL;
	struct err e = ERR_NULL;
	pthread_t thread;
	struct statvfs sv;
	struct stat st;
	int again;

	cr_assert_eq(priv_mount(rig.priv, &m, &e), 0, "%s", e.text);
	cr_expect(!m.taken && m.table_fd >= 0 && m.life_fd >= 0 && m.channels[PRIV_CHANNELS - 1] >= 0);
	pthread_create(&thread, NULL, server, &m.fuse_fd);
	cr_assert_eq(statvfs(rig.conf.mount_dir, &sv), 0);
	cr_expect_eq(sv.f_flag & (ST_NOSUID | ST_NODEV), ST_NOSUID | ST_NODEV);
	cr_expect_eq(priv_mount(rig.priv, &second, &e), -EBUSY);
	cr_expect_str_eq(e.slug, "mount-busy");
	cr_expect_eq(priv_mount_keep(rig.priv, 1000, &e), -EINVAL, "not before it is complete");
	cr_assert_eq(priv_mount_links(rig.priv, &m.links_dirfd, &e), 0, "%s", e.text);
	cr_expect_eq(priv_mount_keep(rig.priv, PRIV_WINDOW_MAX_MS + 1, &e), -EINVAL);
	cr_assert_eq(symlinkat("/etc/hostname", m.links_dirfd, "x"), 0);
	cr_expect_eq(stat(link, &st), 0, "links on it are followed");
	cr_assert_eq(stat(links, &st), 0);
	cr_expect_eq(st.st_uid, rig.conf.uid);
	cr_expect_eq(priv_mount_links(rig.priv, &again, &e), -EBUSY);
	cr_assert_eq(priv_unmount(rig.priv, &e), 0, "%s", e.text);
	cr_expect(!mounted("") && !mounted("/by-name"));
	cr_expect_eq(priv_unmount(rig.priv, &e), 0, "twice is fine");
	pthread_join(thread, NULL);
}

Test(priv_mount, a_dead_one_is_replaced)
{
	AUTO(priv_mounted_fini) struct priv_mounted m = PRIV_MOUNTED_NULL;
	struct err e = ERR_NULL;

	cr_assert_eq(priv_mount(rig.priv, &m, &e), 0, "%s", e.text);
	priv_close(&rig.priv);
	priv_mounted_fini(&m); /* the keeper has nobody to wait for, since nobody told it to */
	cr_assert_eq(priv_fork(&rig.conf, &rig.priv, &e), 0, "%s", e.text);
	cr_assert_eq(priv_mount(rig.priv, &m, &e), 0, "%s", e.text);
	cr_expect(!m.taken);
	cr_assert_eq(priv_unmount(rig.priv, &e), 0);
	cr_expect(!mounted(""));
}

/* What the privileged process and the daemon of before had, the next ones are given, but only when those are gone. */
Test(priv_mount, is_handed_on)
{
	AUTO(priv_mounted_fini) struct priv_mounted m = PRIV_MOUNTED_NULL;
	AUTO(priv_mounted_fini) struct priv_mounted next = PRIV_MOUNTED_NULL;
	struct err e = ERR_NULL;
	pthread_t thread;
	struct stat st;
	char mark = 0;

	cr_assert_eq(priv_mount(rig.priv, &m, &e), 0, "%s", e.text);
	pthread_create(&thread, NULL, server, &m.fuse_fd);
	cr_assert_eq(priv_mount_links(rig.priv, &m.links_dirfd, &e), 0, "%s", e.text);
	cr_assert_eq(priv_mount_keep(rig.priv, 20000, &e), 0, "%s", e.text);
	cr_assert_eq(symlinkat("/", m.links_dirfd, "mark"), 0);
	cr_assert_eq(pwrite(m.table_fd, "x", 1, 0), 1);
	priv_close(&rig.priv);
	cr_assert(mounted(""), "it stays when the privileged process ends");
	fd_close(&m.life_fd);
	cr_assert_eq(priv_fork(&rig.conf, &rig.priv, &e), 0, "%s", e.text);
	cr_assert_eq(priv_mount(rig.priv, &next, &e), 0, "%s", e.text);
	cr_expect(next.taken);
	cr_expect_eq(fstatat(next.links_dirfd, "mark", &st, AT_SYMLINK_NOFOLLOW), 0);
	cr_expect_eq(pread(next.table_fd, &mark, 1, 0), 1);
	cr_expect_eq(mark, 'x');
	cr_expect(mounted("") && mounted("/by-name"));
	cr_assert_eq(priv_unmount(rig.priv, &e), 0, "%s", e.text);
	cr_expect(!mounted(""));
	pthread_join(thread, NULL);
}

/* Whoever was told that the mount is gone makes the next one at once: what stands there then is not the keeper's. */
Test(priv_mount, the_keeper_touches_nothing_behind_its_answer)
{
	AUTO(str_free) char *sock = str_printf("%s/keeper/sock", rig.conf.state_dir);
	AUTO(str_free) char *pid = str_printf("%s/keeper/pid", rig.conf.state_dir);
	const uint32_t end[4] = {0x62706b70, 1, 3, 0}; /* KEEP_END */
	struct err e = ERR_NULL;
	unsigned i;

	for (i = 0; i < 12; i++) {
		AUTO(priv_mounted_fini) struct priv_mounted m = PRIV_MOUNTED_NULL;
		AUTO(fd_close) int conn = -1;
		pthread_t thread;
		char got[64];

		cr_assert_eq(priv_mount(rig.priv, &m, &e), 0, "%s", e.text);
		pthread_create(&thread, NULL, server, &m.fuse_fd);
		cr_assert_eq(priv_mount_links(rig.priv, &m.links_dirfd, &e), 0, "%s", e.text);
		cr_assert_eq(priv_mount_keep(rig.priv, 20000, &e), 0, "%s", e.text);
		priv_close(&rig.priv); /* which leaves it to the keeper */
		cr_assert_eq(io_unix_connect(sock, &conn, &e), 0, "%s", e.text);
		cr_assert_eq(write(conn, end, sizeof(end)), (ssize_t)sizeof(end));
		cr_assert_eq(read(conn, got, sizeof(got)), 16);
		cr_expect(!mounted(""));
		close(open(pid, O_WRONLY | O_CREAT, 0600));
		close(open(sock, O_WRONLY | O_CREAT, 0600));
		cr_assert_eq(read(conn, got, sizeof(got)), 0, "it ends");
		cr_assert_eq(access(pid, F_OK), 0, "round %u", i);
		cr_assert_eq(access(sock, F_OK), 0, "round %u", i);
		pthread_join(thread, NULL);
		rig_fork(&rig);
	}
}

Test(priv_mount, goes_with_the_process)
{
	AUTO(priv_mounted_fini) struct priv_mounted m = PRIV_MOUNTED_NULL;
	struct err e = ERR_NULL;

	cr_assert_eq(priv_mount(rig.priv, &m, &e), 0, "%s", e.text);
	priv_close(&rig.priv); /* fuse_fd is open, nobody serves it: that must not hold anybody up */
	cr_expect(!mounted(""));
}
