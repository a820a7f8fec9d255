/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formatting takes tens of milliseconds, copying an empty file system hardly one: mkfs leaves a sparse file in which
 * only a few hundred blocks are written, so one image per size is kept and its data is copied. A workspace has a
 * journal, because what is in it may be wanted after a crash of the host; the writable layer of a root has none, it
 * dies with its sandbox. Both are limited in bytes and inodes by being file systems of their own, and removing one is
 * unlinking a file: root never walks a tree that a guest made.
 *
 * Loop devices are taken in two steps (ask for a free number, then claim it), and somebody else may claim it first:
 * then ask again. AUTOCLEAR makes the kernel let go when the last mount has gone, whoever dies.
 */
#include "host/priv/image.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/run.h"
#include "host/priv/weak.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { LOOP_MAJOR = 7, LOOP_TRIES = 64, MKFS_S = 60, RELEASE_MS = 500, BLOCK = 4096 };

static const uint64_t MIB = 1024 * 1024;

static int format(const struct host *h, enum image_kind kind, uint64_t size, const char *tmp, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/images/%s", h->conf.state_dir, tmp);
	const char *journal = size >= 1024 * MIB ? "size=16" : "size=4";
	bool ws = kind == IMAGE_WORKSPACE;
	const char *argv[] = {"mkfs.ext4",
			      "-q",
			      "-F",
			      "-b",
			      "4096",
			      "-m",
			      "0",
			      "-i",
			      "8192",
			      "-I",
			      "256",
			      "-O",
			      ws ? "has_journal,^resize_inode" : "^has_journal,^resize_inode",
			      "-E",
			      "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
			      ws ? "-J" : path,
			      ws ? journal : NULL,
			      ws ? path : NULL,
			      NULL};
	AUTO(fd_close) int fd = openat(h->images, tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return err_sys(e, -errno, "image %s", path);
	return run_program(argv, -1, -1, clock_after_ms(MKFS_S * 1000), e);
}

/* The empty file system of this size, formatted if need be. */
static int open_empty(const struct host *h, enum image_kind kind, uint64_t size, int *ret, struct err *e)
{
	char name[64], tmp[72];
	int r;

	snprintf(name, sizeof(name), "%s-%llu.ext4", kind == IMAGE_WORKSPACE ? "workspace" : "root",
		 (unsigned long long)size);
	snprintf(tmp, sizeof(tmp), ".%s.tmp", name);
	*ret = openat(h->images, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret >= 0)
		return 0;
	if (errno != ENOENT)
		return err_sys(e, -errno, "image %s", name);
	(void)!unlinkat(h->images, tmp, 0);
	r = format(h, kind, size, tmp, e);
	if (r == 0 && renameat(h->images, tmp, h->images, name) < 0)
		r = err_sys(e, -errno, "image %s", name);
	if (r < 0) {
		(void)!unlinkat(h->images, tmp, 0);
		return r;
	}
	*ret = openat(h->images, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return *ret < 0 ? err_sys(e, -errno, "image %s", name) : 0;
}

static int copy_range(int from, int to, off_t at, off_t end)
{
	while (at < end) {
		off_t in = at, out = at;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
	}
	return 0;
}

int image_copy(int from, int to, off_t size)
{
	off_t data = 0, hole;
	int r;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, size) < 0)
		return -errno;
	for (;;) {
		data = lseek(from, data, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = copy_range(from, to, data, hole);
		if (r < 0)
			return r;
		data = hole;
	}
}

int image_make(const struct host *h, enum image_kind kind, uint64_t size, int dirfd, const char *name, struct err *e)
{
	AUTO(fd_close) int from = -1;
	AUTO(fd_close) int to = -1;
	int r;

	size = (size + MIB - 1) / MIB * MIB;
	r = open_empty(h, kind, size, &from, e);
	if (r < 0)
		return r;
	to = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return err_sys(e, -errno, "image %s", name);
	r = image_copy(from, to, (off_t)size);
	return r < 0 ? err_sys(e, r, "copying image %s", name) : 0;
}

/* /dev may lack the node of a device that was made just now. */
static int open_loop(int number)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/loop%d", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? -errno : fd;
	if (mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned)number)) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int claim(int loop, int file, uint32_t flags)
{
	struct loop_config c = {.fd = (uint32_t)file, .block_size = BLOCK, .info = {.lo_flags = flags}};

	return ioctl(loop, LOOP_CONFIGURE, &c) < 0 ? -errno : 0;
}

static int attach(int file, int *ret_loop, int *ret_number)
{
	AUTO(fd_close) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	uint32_t flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
	int i, r = -EBUSY;

	if (control < 0)
		return -errno;
	for (i = 0; i < LOOP_TRIES; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		AUTO(fd_close) int loop = -1;

		if (number < 0)
			return -errno;
		loop = open_loop(number);
		if (loop < 0)
			return loop;
		r = claim(loop, file, flags);
		if (r == -EINVAL && (flags & LO_FLAGS_DIRECT_IO)) {
			flags &= ~(uint32_t)LO_FLAGS_DIRECT_IO; /* the file system below cannot */
			r = claim(loop, file, flags);
		}
		if (r == 0) {
			*ret_number = number;
			*ret_loop = fd_take(&loop);
			return 0;
		}
		if (r != -EBUSY)
			return r;
	}
	return r;
}

static int set_flag(int fs, const char *flag)
{
	return fsconfig(fs, FSCONFIG_SET_FLAG, flag, NULL, 0) < 0 ? -errno : 0;
}

static int mount_loop(enum image_kind kind, int number, int *ret)
{
	AUTO(fd_close) int fs = fsopen("ext4", FSOPEN_CLOEXEC);
	char source[40];
	bool nosuid;
	int r = 0;

	if (fs < 0)
		return -errno;
	snprintf(source, sizeof(source), "/dev/loop%d", number);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return -errno;
	/* Filling the inode tables in the background would write them all into the sparse file. */
	r = set_flag(fs, "noinit_itable");
	if (r == 0 && kind == IMAGE_ROOT)
		r = set_flag(fs, "nobarrier");
	if (r < 0)
		return r;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	nosuid = kind == IMAGE_WORKSPACE && !weak(WEAK_SETUID);
	*ret = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | (nosuid ? MOUNT_ATTR_NOSUID : 0));
	return *ret < 0 ? -errno : 0;
}

int image_mount(enum image_kind kind, int dirfd, const char *name, int *ret_mount, int *ret_loop, struct err *e)
{
	AUTO(fd_close) int file = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int loop = -1;
	int r;

	if (file < 0)
		return err_sys(e, -errno, "image %s", name);
	r = attach(file, &loop, ret_loop);
	if (r < 0)
		return err_sys(e, r, "loop device for %s", name);
	r = mount_loop(kind, *ret_loop, ret_mount);
	return r < 0 ? err_sys(e, r, "mounting %s", name) : 0;
}

/* Return: 1 when the device holds that file, 0 when not. */
static int holds(int loop, const struct stat *st)
{
	struct loop_info64 info;

	if (ioctl(loop, LOOP_GET_STATUS64, &info) < 0)
		return 0;
	return info.lo_inode == st->st_ino && info.lo_device == st->st_dev;
}

int image_share(int dirfd, const char *name, int loop, int *ret_mount, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	struct stat st;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/dev/loop%d", loop);
	fd = loop < 0 || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !holds(fd, &st))
		return err_set(e, -ENOENT, "not-mounted", "it is not mounted");
	r = mount_loop(IMAGE_WORKSPACE, loop, ret_mount); /* while it is open here it does not change */
	return r < 0 ? err_sys(e, r, "mounting %s once more", name) : 0;
}

int image_release(int dirfd, const char *name, int loop, struct err *e)
{
	const struct timespec nap = {.tv_nsec = 500000};
	uint64_t until = clock_after_ms(RELEASE_MS);
	struct stat st;
	char path[64];

	if (loop < 0 || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	snprintf(path, sizeof(path), "/dev/loop%d", loop);
	for (;;) {
		/* Opened anew each time: the device lets go when its last opener closes. */
		AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || !holds(fd, &st))
			return 0;
		if (clock_now() > until) { /* another mount may have it for long: it goes with that */
			if (ioctl(fd, LOOP_CLR_FD, 0) == 0 || errno == ENXIO)
				return 0;
			return err_set(e, -EBUSY, "image-busy", "%s is still mounted somewhere", name);
		}
		fd_close(&fd);
		nanosleep(&nap, NULL);
	}
}
