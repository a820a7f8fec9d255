/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A base is the workspace's image of a sandbox that was ended as soon as its files were laid out: nothing of a guest
 * ran in it, its file system was unmounted in order. Or it is the writable layer of a sandbox in which a step of a
 * template's build ran: a guest made its names, but no byte of it outside of files. Keeping it is a rename. What is
 * copied for a sandbox waits under a name of that sandbox until it is started, so that the long part is done by a child
 * and the start only renames.
 *
 * A layer is the writable layer of a sandbox that goes on: a copy that was made while it stood still. It is somebody's
 * and no cache: it reaches the disk before anybody hears of it, and stays.
 *
 * Bases are not synced: a cache need not outlive a crash of the machine, it must only not be believed after one. The
 * file .boot says of which boot the others are.
 */
#include "host/priv/base.h"

#include "base/io.h"
#include "base/str.h"
#include "host/priv/image.h"
#include "host/priv/record.h"
#include "host/priv/run.h"
#include "host/priv/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BOOT_MAX = 64 };

#define LAID ".laid-"

static void laid_name(const char *id, enum priv_disk disk, char to[PRIV_ID_MAX + 16])
{
	snprintf(to, PRIV_ID_MAX + 16, LAID "%s%s", id, disk == PRIV_DISK_ROOT ? ".root" : "");
}

/* In the directory of a sandbox. */
static const char *image_name(enum priv_disk disk)
{
	return disk == PRIV_DISK_ROOT ? "root.img" : "ws.img";
}

static bool is_of_this_boot(const struct host *h, const char *now)
{
	AUTO(buf_fini) struct buf b;

	buf_init(&b, BOOT_MAX);
	return io_read_file(h->bases, ".boot", &b) == 0 && str_eq(buf_str(&b), now);
}

int base_init(const struct host *h, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	AUTO(buf_fini) struct buf now;
	int r;

	buf_init(&now, BOOT_MAX);
	r = io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &now);
	if (r < 0)
		return err_sys(e, r, "boot_id");
	if (is_of_this_boot(h, buf_str(&now)))
		return 0;
	r = tree_empty(h->bases, NULL);
	if (r < 0)
		return err_sys(e, r, "removing old bases");
	fd = openat(h->bases, ".boot", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : io_write_full(fd, buf_str(&now), buf_len(&now));
	return r < 0 ? err_sys(e, r, "bases") : 0;
}

int base_keep(struct host *h, const char *id, const char *name, enum priv_disk disk, struct err *e)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir < 0)
		return err_sys(e, -errno, "directory of the sandbox");
	/* Of one that runs, or whose end was cut off: its image is in use. */
	if (faccessat(dir, "record", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EBUSY, "running", "sandbox %s was not ended", id);
	if (renameat(dir, image_name(disk), h->bases, name) < 0)
		return err_sys(e, -errno, "image of the sandbox");
	return tree_remove(h->boxes, id) < 0 ? err_sys(e, -EIO, "directory of the sandbox") : 0;
}

/* It has no name until it is whole: nobody can take half a disk, and one that is never finished is gone with its child.
 * Return: a descriptor; -errno. */
static int copy_image(int from, int dir)
{
	AUTO(fd_close) int to = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct stat st;
	int r;

	if (to < 0 || fstat(from, &st) < 0)
		return -errno;
	r = image_copy(from, to, st.st_size);
	return r < 0 ? r : fd_take(&to);
}

static int give_name(int fd, int dir, const char *name)
{
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int copy(const struct host *h, int dir, const char *name, const char *to_name)
{
	AUTO(fd_close) int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int to = -1;

	if (from < 0)
		return -errno;
	/* When it was used last. */
	if (futimens(from, (const struct timespec[2]){{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}}) < 0)
		return -errno;
	to = copy_image(from, h->bases);
	if (to < 0)
		return to;
	if (unlinkat(h->bases, to_name, 0) < 0 && errno != ENOENT)
		return -errno;
	return give_name(to, h->bases, to_name);
}

/* Return: 0 in the child; the number of it here; -errno. */
static pid_t begin_child(struct host *h, const char *title)
{
	pid_t pid;

	host_reap();
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	run_child();
	fd_close(&h->sock); /* or the daemon would not hear of the death of our parent */
	prctl(PR_SET_NAME, title, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return 0;
}

static int lay(struct host *h, int dir, const char *name, const char *id, enum priv_disk disk, int log_fd,
	       struct err *e)
{
	char laid[PRIV_ID_MAX + 16];
	struct stat st;
	pid_t pid;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no-base", "there is no such base")
				       : err_sys(e, -errno, "base");
	laid_name(id, disk, laid);
	pid = begin_child(h, "berth-base");
	if (pid)
		return pid < 0 ? err_sys(e, (int)pid, "fork") : 0;
	dprintf(log_fd, "%d\n", -copy(h, dir, name, laid));
	_exit(0);
}

int base_lay(struct host *h, const char *name, const char *id, enum priv_disk disk, int log_fd, struct err *e)
{
	return lay(h, h->bases, name, id, disk, log_fd, e);
}

int base_take(const struct host *h, const char *id, enum priv_disk disk, int dirfd, struct err *e)
{
	char laid[PRIV_ID_MAX + 16];

	laid_name(id, disk, laid);
	if (renameat(h->bases, laid, dirfd, image_name(disk)) == 0)
		return 0;
	return errno == ENOENT ? err_set(e, -ENOENT, "no-base", "nothing was laid out for sandbox %s", id)
			       : err_sys(e, -errno, "disk of the sandbox");
}

void base_forget(const struct host *h, const char *id)
{
	char laid[PRIV_ID_MAX + 16];

	laid_name(id, PRIV_DISK_WORKSPACE, laid);
	(void)!unlinkat(h->bases, laid, 0);
	laid_name(id, PRIV_DISK_ROOT, laid);
	(void)!unlinkat(h->bases, laid, 0);
}

int base_drop(struct host *h, const char *name, struct err *e)
{
	int r = tree_remove_later(h->bases, name);

	host_reap();
	return r < 0 && r != -ENOENT ? err_sys(e, r, "removing a base") : 0;
}

/* --- layers ------------------------------------------------------------------------------------------------------- */

/* Of one that is mounted, everything that was written must be in its image first; nothing is written meanwhile, for who
 * asks has made the sandbox stand still. */
static int layer_copy(const struct host *h, int box)
{
	AUTO(fd_close) int from = openat(box, "root.img", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int mounted = -1;
	AUTO(fd_close) int top = -1;
	struct record rec = RECORD_NULL;
	int r;

	if (from < 0)
		return -errno;
	if (record_read(box, &rec) == 0) {
		r = image_share(box, "root.img", rec.loops[1], &mounted, NULL);
		if (r < 0)
			return r;
		top = openat(mounted, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (top < 0 || syncfs(top) < 0)
			return -errno;
	}
	return copy_image(from, h->layers);
}

/* The first word is that it is copied and the sandbox may go on, the second that it is there for good. */
static void layer_child(const struct host *h, int box, const char *name, int log_fd)
{
	AUTO(fd_close) int fd = layer_copy(h, box);
	int r = MIN(fd, 0);

	dprintf(log_fd, "%d\n", -r);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		r = give_name(fd, h->layers, name);
	if (r == 0 && fsync(h->layers) < 0)
		r = -errno;
	dprintf(log_fd, "%d\n", -r);
}

int base_layer_keep(struct host *h, const char *id, const char *name, int log_fd, struct err *e)
{
	AUTO(fd_close) int box = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	pid_t pid;

	if (box < 0)
		return err_sys(e, -errno, "directory of the sandbox");
	pid = begin_child(h, "berth-layer");
	if (pid)
		return pid < 0 ? err_sys(e, (int)pid, "fork") : 0;
	layer_child(h, box, name, log_fd);
	_exit(0);
}

int base_layer_lay(struct host *h, const char *name, const char *id, int log_fd, struct err *e)
{
	return lay(h, h->layers, name, id, PRIV_DISK_ROOT, log_fd, e);
}

int base_layer_drop(struct host *h, const char *name, struct err *e)
{
	int r = tree_remove_later(h->layers, name);

	host_reap();
	return r < 0 && r != -ENOENT ? err_sys(e, r, "removing a layer") : 0;
}

int base_layer_open(const struct host *h, const char *name, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = openat(h->layers, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "opening a layer");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "bad-layer", "a layer is no file");
	*ret_fd = fd_take(&fd);
	return 0;
}

void base_sweep(const struct host *h)
{
	int fd = openat(h->bases, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	tree_sweep(h->bases);
	tree_sweep(h->layers);
	if (!d)
		fd_close(&fd);
	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, LAID))
			(void)!unlinkat(h->bases, de->d_name, 0);
	if (d)
		closedir(d);
}
