/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A base is the workspace's image of a sandbox that was ended as soon as its files were laid out: nothing of a guest
 * ran in it, its file system was unmounted in order. Or it is the writable layer of a sandbox in which a step of a
 * template's build ran: a guest made its names, but no byte of it outside of files. Keeping it is a rename. What is
 * copied for a sandbox waits under a name of that sandbox until it is started, so that the long part is done by a child
 * and the start only renames.
 *
 * Nothing here is synced: a cache need not outlive a crash of the machine, it must only not be believed after one. The
 * file .boot says of which boot the others are.
 */
#include "host/priv/base.h"

#include "base/io.h"
#include "base/str.h"
#include "host/priv/image.h"
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
 */
static int copy(const struct host *h, const char *name, const char *to_name)
{
	AUTO(fd_close) int from = openat(h->bases, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int to = -1;
	struct stat st;
	char proc[32];
	int r;

	if (from < 0 || fstat(from, &st) < 0)
		return -errno;
	/* When it was used last. */
	if (futimens(from, (const struct timespec[2]){{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}}) < 0)
		return -errno;
	to = openat(h->bases, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = image_copy(from, to, st.st_size);
	if (r < 0)
		return r;
	if (unlinkat(h->bases, to_name, 0) < 0 && errno != ENOENT)
		return -errno;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", to);
	return linkat(AT_FDCWD, proc, h->bases, to_name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int base_lay(struct host *h, const char *name, const char *id, enum priv_disk disk, int log_fd, struct err *e)
{
	char laid[PRIV_ID_MAX + 16];
	struct stat st;
	pid_t pid;
	int r;

	host_reap();
	if (fstatat(h->bases, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no-base", "there is no such base")
				       : err_sys(e, -errno, "base");
	laid_name(id, disk, laid);
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "fork");
	if (pid > 0)
		return 0;
	run_child();
	fd_close(&h->sock); /* or the daemon would not hear of the death of our parent */
	prctl(PR_SET_NAME, "berth-base", 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	r = copy(h, name, laid);
	dprintf(log_fd, "%d\n", -r);
	_exit(0);
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

void base_sweep(const struct host *h)
{
	int fd = openat(h->bases, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	tree_sweep(h->bases);
	if (!d)
		fd_close(&fd);
	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, LAID))
			(void)!unlinkat(h->bases, de->d_name, 0);
	if (d)
		closedir(d);
}
