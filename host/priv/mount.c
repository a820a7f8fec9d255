/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one thing that happens in the host's own mount namespace, since the host's people must see it. A mount whose
 * server died answers ENOTCONN to everything, so it is recognised by asking, and taken away before a new one is made.
 * Asking a server that lives but is stuck would hang us with it: a child asks, and one that has not come back in time
 * counts as alive.
 *
 * The mount point is walked as root, so its parents must be places that only root can change.
 */
#include "host/priv/mount.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FUSE_MAGIC = 0x65735546, STALE_MAX = 16, ALIVE_MS = 2000, NOSYMFOLLOW = 256 };

enum mount_state { MOUNT_NONE = 0, MOUNT_STALE = 1, MOUNT_ALIVE = 2 };

/* What stands at the mount point: asked by a child that may get stuck. */
static enum mount_state mount_state(const char *path)
{
	struct statfs fs;
	pid_t pid = fork();
	int r;

	if (pid < 0)
		return MOUNT_ALIVE;
	if (pid == 0) {
		run_child();
		if (statfs(path, &fs) < 0)
			_exit(errno == ENOTCONN || errno == ECONNABORTED ? MOUNT_STALE : MOUNT_NONE);
		_exit(fs.f_type == FUSE_MAGIC ? MOUNT_ALIVE : MOUNT_NONE);
	}
	r = run_wait(pid, clock_after_ms(ALIVE_MS));
	return r == MOUNT_NONE || r == MOUNT_STALE ? (enum mount_state)r : MOUNT_ALIVE;
}

static int clear_stale(const char *path, struct err *e)
{
	int i;

	for (i = 0; i < STALE_MAX; i++) {
		switch (mount_state(path)) {
		case MOUNT_NONE:
			return 0;
		case MOUNT_ALIVE:
			return err_set(e, -EBUSY, "mount-busy", "%s is mounted already and its server lives", path);
		case MOUNT_STALE:
			if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
				return err_sys(e, -errno, "removing the stale mount at %s", path);
		}
	}
	return err_set(e, -EBUSY, "mount-busy", "too many stale mounts at %s", path);
}

int mount_fuse(const struct host *h, int *ret_fd, struct err *e)
{
	const char *path = h->conf.mount_dir;
	AUTO(fd_close) int fuse = -1;
	AUTO(fd_close) int dir = -1;
	char options[160], target[40];
	int r = clear_stale(path, e);

	if (r < 0)
		return r;
	r = io_mkdir_p(path, 0755);
	if (r < 0)
		return err_sys(e, r, "making %s", path);
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0)
		return err_set(e, errno == ENXIO ? -ENOENT : -errno, "no-fuse", "/dev/fuse: %s", err_name(errno));
	dir = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* Nobody else may put something in its place. */
	if (dir < 0 || fchownat(dir, "", 0, 0, AT_EMPTY_PATH) < 0)
		return err_sys(e, -errno, "mount point %s", path);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions,allow_other,max_read=1048576", fuse,
		 h->conf.uid, h->conf.gid);
	snprintf(target, sizeof(target), "/proc/self/fd/%d", dir);
	if (mount("berth", target, "fuse.berth", MS_NOSUID | MS_NODEV | NOSYMFOLLOW, options) < 0)
		return err_sys(e, -errno, "mounting on %s", path);
	*ret_fd = fd_take(&fuse);
	return 0;
}

/* A new file system that is not attached anywhere yet. */
static int new_links(const struct host *h, int *ret, struct err *e)
{
	AUTO(fd_close) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	char uid[16], gid[16];

	if (fs < 0)
		return err_sys(e, -errno, "tmpfs");
	snprintf(uid, sizeof(uid), "%u", h->conf.uid);
	snprintf(gid, sizeof(gid), "%u", h->conf.gid);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", "berth", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "4m", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "65536", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "uid", uid, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "gid", gid, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys(e, -errno, "tmpfs");
	*ret = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return *ret < 0 ? err_sys(e, -errno, "tmpfs") : 0;
}

int mount_links(const struct host *h, int *ret_dirfd, struct err *e)
{
	AUTO(fd_close) int top = open(h->conf.mount_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int dir = -1;
	AUTO(fd_close) int made = -1;
	struct statfs fs;
	int r;

	if (top >= 0)
		dir = openat(top, "by-name", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, -errno, "%s/by-name", h->conf.mount_dir);
	if (fstatfs(dir, &fs) < 0)
		return err_sys(e, -errno, "%s/by-name", h->conf.mount_dir);
	if (fs.f_type != FUSE_MAGIC)
		return err_set(e, -EBUSY, "mount-busy", "%s/by-name is mounted already, or the mount is gone",
			       h->conf.mount_dir);
	r = new_links(h, &made, e);
	if (r < 0)
		return r;
	if (move_mount(made, "", dir, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_sys(e, -errno, "mounting on %s/by-name", h->conf.mount_dir);
	*ret_dirfd = openat(made, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_dirfd < 0 ? err_sys(e, -errno, "by-name") : 0;
}

/* Lazily and from the top: that takes the links along. To walk to them by name would ask the server, which by now may
 * be gone, or be waiting for us. */
int mount_end(const struct host *h, struct err *e)
{
	int i;

	for (i = 0; i < STALE_MAX; i++) {
		AUTO(buf_fini) struct buf b;
		AUTO(str_free) char *mine = str_printf(" %s ", h->conf.mount_dir);
		bool there;

		buf_init(&b, 4 * 1024 * 1024);
		if (io_read_file(AT_FDCWD, "/proc/self/mountinfo", &b) < 0)
			return err_set(e, -EIO, "eio", "mountinfo cannot be read");
		there = strstr(buf_str(&b), mine) != NULL;
		if (!there)
			return 0;
		if (umount2(h->conf.mount_dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return err_sys(e, -errno, "unmounting %s", h->conf.mount_dir);
	}
	return 0;
}
