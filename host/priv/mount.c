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
#include "base/log.h"
#include "base/str.h"
#include "host/priv/keeper.h"
#include "host/priv/notifier.h"
#include "host/priv/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/* The file system that is on top at the mount point, 0: none. From the table, which asks no server. */
static uint64_t mounted_dev(const char *path)
{
	AUTO(buf_fini) struct buf b;
	char *line, *save = NULL, at[PRIV_PATH_MAX + 2];
	unsigned major, minor;
	uint64_t dev = 0;

	buf_init(&b, 16 * 1024 * 1024);
	if (io_read_file(AT_FDCWD, "/proc/self/mountinfo", &b) < 0 || buf_append(&b, "", 1) < 0)
		return 0;
	for (line = strtok_r((char *)b.p + b.start, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (sscanf(line, "%*d %*d %u:%u %*s %256s", &major, &minor, at) == 3 && str_eq(at, path))
			dev = makedev(major, minor);
	return dev;
}

static int mount_new(struct host *h, struct err *e)
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
	h->mount.fuse = fd_take(&fuse);
	h->mount.dev = mounted_dev(path);
	return 0;
}

static void forget(struct host *h)
{
	struct host_mount *m = &h->mount;
	int *const fds[] = {&m->fuse, &m->table, &m->links, &m->life, &m->keeper, &m->notifier};
	size_t i;

	for (i = 0; i < ARRAY_LEN(fds); i++)
		fd_close(fds[i]);
	*m = HOST_MOUNT_NULL;
}

static bool mount_is_ours(const struct host *h)
{
	AUTO(buf_fini) struct buf b;
	AUTO(str_free) char *info = str_printf("/proc/self/fdinfo/%d", h->mount.fuse);
	AUTO(str_free) char *mine = str_printf("fuse_connection:\t%u\n", minor(h->mount.dev));

	buf_init(&b, 65536);
	if (!h->mount.dev || io_read_file(AT_FDCWD, info, &b) < 0)
		return false;
	/* A kernel that does not say which connection it is leaves us to believe that it is this one. */
	return !strstr(buf_str(&b), "fuse_connection:") || strstr(buf_str(&b), mine);
}

static int dup_cloexec(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* What an earlier daemon left. Return: 1; 0 when there is nothing to go on with; -errno. */
static int take_over(struct host *h, struct err *e)
{
	int life = h->mount.life, r = keeper_take(h, life, e);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	h->mount.dev = mounted_dev(h->conf.mount_dir);
	if (mount_is_ours(h))
		return 1;
	/* Somebody took it off the mount point: nobody would see what we serve. */
	(void)!keeper_end(h);
	h->mount.life = -1;
	forget(h);
	h->mount.life = life;
	return 0;
}

static int mount_any(struct host *h, struct err *e)
{
	int r = take_over(h, e);

	if (r != 0)
		return r;
	r = mount_new(h, e);
	if (r < 0)
		return r;
	h->mount.table = memfd_create("berth-mount", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (h->mount.table < 0)
		return err_sys(e, -errno, "memory for the mount");
	return keeper_start(h, e);
}

int mount_fuse(struct host *h, struct priv_mounted *ret, struct err *e)
{
	AUTO(fd_close) int mine = -1;
	int life[2], r;

	if (h->mount.fuse >= 0)
		return err_set(e, -EBUSY, "mount-busy", "%s is mounted already", h->conf.mount_dir);
	if (pipe2(life, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	mine = life[1];
	h->mount = HOST_MOUNT_NULL;
	h->mount.life = life[0];
	r = mount_any(h, e);
	ret->taken = r == 1;
	if (r >= 0)
		r = notifier_start(h, ret->channels, PRIV_CHANNELS, e);
	if (r < 0) {
		if (h->mount.dev)
			mount_abort(h, h->mount.dev);
		forget(h);
		return r;
	}
	ret->fuse_fd = dup_cloexec(h->mount.fuse);
	ret->table_fd = dup_cloexec(h->mount.table);
	ret->links_dirfd = dup_cloexec(h->mount.links);
	ret->life_fd = fd_take(&mine);
	return 0;
}

int mount_notify(struct host *h, int *channels, struct err *e)
{
	if (h->mount.fuse < 0)
		return err_set(e, -EINVAL, "bad-request", "nothing is mounted");
	return notifier_start(h, channels, PRIV_CHANNELS, e);
}

int mount_keep(struct host *h, uint32_t window_ms, struct err *e)
{
	int r;

	if (h->mount.fuse < 0 || h->mount.links < 0)
		return err_set(e, -EINVAL, "bad-request", "nothing is mounted");
	h->mount.window_ms = window_ms;
	mount_tend(h);
	r = keeper_tell(h);
	return r < 0 ? err_sys(e, r, "telling the keeper of the mount") : 0;
}

void mount_tend(struct host *h)
{
	struct pollfd p = {.fd = h->mount.keeper, .events = POLLIN};
	struct err e = ERR_NULL;

	if (h->mount.fuse < 0 || (h->mount.keeper >= 0 && poll(&p, 1, 0) == 0))
		return;
	fd_close(&h->mount.keeper);
	/* It leaves us when the daemon is gone; we are about to hear of that, too. */
	if (!keeper_lives(h) && keeper_start(h, &e) < 0)
		log_error("priv", "the mount has no keeper", "why=%s", e.text);
}

void mount_abort(const struct host *h, uint64_t dev)
{
	int i;

	for (i = 0; i < STALE_MAX && mounted_dev(h->conf.mount_dir) == dev; i++)
		if (umount2(h->conf.mount_dir, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return;
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

int mount_links(struct host *h, int *ret_dirfd, struct err *e)
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
	fd_close(&h->mount.links);
	h->mount.links = openat(made, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*ret_dirfd = h->mount.links < 0 ? -1 : dup_cloexec(h->mount.links);
	return *ret_dirfd < 0 ? err_sys(e, -errno, "by-name") : 0;
}

/* From the top: that takes the links along. To walk to them by name would ask the server, which by now may be gone, or
 * be waiting for us. */
int mount_end(struct host *h, struct err *e)
{
	int i;

	(void)!keeper_end(h);
	forget(h);
	for (i = 0; i < STALE_MAX && mounted_dev(h->conf.mount_dir); i++)
		if (umount2(h->conf.mount_dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return err_sys(e, -errno, "unmounting %s", h->conf.mount_dir);
	return 0;
}

void mount_leave(struct host *h)
{
	struct err e = ERR_NULL;

	if (h->mount.fuse >= 0 && h->mount.window_ms)
		mount_tend(h);
	else if (mount_end(h, &e) < 0)
		log_warn("priv", "mount not removed", "why=%s", e.text);
}
