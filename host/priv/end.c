/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a sandbox can always be found from its id: its directory, its control groups, the runtime's state. So
 * there is one function that takes all of it away, whatever is there, and it serves for the end, for a start that
 * failed at any point, and for what a dead daemon left. It kills first (the control group, in one step where the kernel
 * can), then waits for the kernel to let go of the images, and removes the files last.
 *
 * The record in the directory says which process is the agent. A process number alone may have been given to somebody
 * else; with the moment of its start it is an identity. Records need not survive a power loss: nothing they name does.
 */
#include "host/priv/box.h"

#include "base/io.h"
#include "base/str.h"
#include "host/priv/base.h"
#include "host/priv/image.h"
#include "host/priv/net.h"
#include "host/priv/record.h"
#include "host/priv/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <unistd.h>

enum { AGENT_MS = 10000 };

/* It has reached the disk. */
static int settle_image(int dir, const char *name)
{
	AUTO(fd_close) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

/* Files of a sandbox in its directory; the mount points are empty on this side. Giving back the blocks of an image
 * takes longer than all the rest, and nobody needs to wait for it. */
static int remove_files(const struct host *h, const char *id, enum priv_disk keep, bool settle, struct err *e)
{
	static const char *const kept[][3] = {
		[PRIV_DISK_WORKSPACE] = {"ws.img"},
		[PRIV_DISK_ROOT] = {"root.img"},
		[PRIV_DISK_BOTH] = {"ws.img", "root.img"},
	};
	AUTO(fd_close) int dir = -1;
	int r = 0;

	if (keep != PRIV_DISK_NONE) {
		dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir >= 0 && faccessat(dir, kept[keep][0], F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
			if (settle && keep == PRIV_DISK_BOTH)
				r = settle_image(dir, "ws.img");
			if (r == 0 && settle && keep == PRIV_DISK_BOTH)
				r = settle_image(dir, "root.img");
			if (r < 0)
				return err_set(e, r, PRIV_NOT_SETTLED, "the disks of %s: %s", id, err_name(r));
			r = tree_empty(dir, kept[keep]);
			return r < 0 ? err_sys(e, r, "emptying the directory of %s", id) : 0;
		}
	}
	r = tree_remove_later(h->boxes, id);
	return r < 0 && r != -ENOENT ? err_sys(e, r, "removing the directory of %s", id) : 0;
}

static int release_images(const struct host *h, const char *id, struct err *e)
{
	static const char *const names[] = {"ws.img", "root.img"};
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct record rec = RECORD_NULL;
	size_t i;
	int r = 0;

	if (dir < 0)
		return 0;
	(void)!record_read(dir, &rec);
	for (i = 0; i < ARRAY_LEN(names) && r == 0; i++)
		r = image_release(dir, names[i], rec.loops[i], e);
	return r;
}

static int remove_runtime_state(const struct host *h, const char *id, struct err *e)
{
	AUTO(fd_close) int crun = openat(h->state, "crun", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = crun < 0 ? -errno : tree_remove(crun, id);

	return r < 0 && r != -ENOENT ? err_sys(e, r, "the runtime's state of %s", id) : 0;
}

/* A descriptor of the agent that the record names. Return: -1 when it was reaped long ago. */
static int open_agent(const struct record *rec)
{
	AUTO(fd_close) int pidfd = rec->pid > 0 ? pidfd_open(rec->pid, 0) : -1;
	uint64_t start;

	/* Read after the descriptor was taken: if it is this process now, the descriptor is its. */
	if (pidfd < 0 || record_start_time(rec->pid, &start) < 0 || start != rec->start)
		return -1;
	return fd_take(&pidfd);
}

/* Processes leave their group a little before they are gone. The agent is the first of its process namespace, and such
 * a one is gone only after all others are. */
static void await_agent(const struct host *h, const char *id)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int pidfd = -1;
	struct record rec = RECORD_NULL;
	struct pollfd p = {.events = POLLIN};

	if (dir < 0 || record_read(dir, &rec) < 0)
		return;
	pidfd = open_agent(&rec);
	p.fd = pidfd;
	if (pidfd >= 0)
		(void)!poll(&p, 1, AGENT_MS);
}

/* The range of a sandbox that has one, h->conf.ranges for any other. */
static uint32_t range_of(const struct host *h, const char *id)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct record rec = RECORD_NULL;

	return dir >= 0 && record_read(dir, &rec) == 0 && rec.pid > 0 && rec.kind == PRIV_BOX_OCI ? rec.range
												   : h->conf.ranges;
}

/* @settle: disks that are both kept have reached the disk then. */
static int end(struct host *h, const char *id, enum priv_disk keep, bool settle, struct err *e)
{
	uint32_t range = range_of(h, id);
	int r = cgroup_kill(&h->cgroups, id, e);

	if (r == 0)
		await_agent(h, id);
	if (r == 0)
		r = cgroup_remove(&h->cgroups, id, e);
	if (r == 0)
		r = remove_runtime_state(h, id, e);
	if (r == 0)
		r = release_images(h, id, e);
	if (r == 0)
		r = remove_files(h, id, keep, settle, e);
	base_forget(h, id);
	host_reap();
	if (r == 0 && range < h->conf.ranges && !box_uses_range(h, range))
		net_give_back(h, range);
	return r;
}

int box_end(struct host *h, const char *id, enum priv_disk keep, struct err *e)
{
	return end(h, id, keep, true, e);
}

static bool has_ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

int box_alive(struct host *h, const char *id, int *ret_pidfd, struct err *e)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int pidfd = -1;
	struct record rec = RECORD_NULL;

	if (dir < 0)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "directory of %s", id);
	host_reap();
	if (record_read(dir, &rec) < 0 || rec.pid <= 0)
		return 0;
	pidfd = open_agent(&rec);
	/* One that has ended but was not reaped yet (by us, or by the host's init after a restart) does not count. */
	if (pidfd < 0 || has_ended(pidfd))
		return 0;
	*ret_pidfd = fd_take(&pidfd);
	return rec.pid;
}

int box_freeze(struct host *h, const char *id, enum priv_freeze level, struct err *e)
{
	static const enum cgroup_freeze to[] = {
		[PRIV_FREEZE_NONE] = CGROUP_THAWED,
		[PRIV_FREEZE_WORK] = CGROUP_FROZEN_WORK,
		[PRIV_FREEZE_ALL] = CGROUP_FROZEN,
	};
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int pidfd = -1;
	struct record rec = RECORD_NULL;

	if (dir >= 0 && record_read(dir, &rec) == 0)
		pidfd = open_agent(&rec);
	if (pidfd < 0 || has_ended(pidfd))
		return err_set(e, -ESRCH, "not-running", "the agent of sandbox %s does not run", id);
	return cgroup_freeze(&h->cgroups, id, rec.pid, to[level], e);
}

typedef int each_fn(void *ctx, const char *id, const struct record *rec);

/* Call @fn for every directory of a sandbox. Return: 0 or the first non-zero of @fn. */
static int each_box(const struct host *h, each_fn *fn, void *ctx)
{
	int fd = openat(h->boxes, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!d) {
		fd_close(&fd);
		return 0;
	}
	while (r == 0 && (de = readdir(d))) {
		AUTO(fd_close) int dir = -1;
		struct record rec = RECORD_NULL;

		if (!str_is_id(de->d_name, PRIV_ID_MAX))
			continue;
		dir = openat(h->boxes, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir >= 0)
			(void)!record_read(dir, &rec);
		r = fn(ctx, de->d_name, &rec);
	}
	closedir(d);
	return r;
}

static int same_range(void *ctx, const char *id UNUSED, const struct record *rec)
{
	return rec->pid > 0 && rec->kind == PRIV_BOX_OCI && rec->range == *(const uint32_t *)ctx;
}

bool box_uses_range(const struct host *h, uint32_t range)
{
	return each_box(h, same_range, &range) != 0;
}

bool box_uses_net(struct host *h, uint32_t range)
{
	return box_uses_range(h, range);
}

static int same_template(void *ctx, const char *id UNUSED, const struct record *rec)
{
	return rec->pid > 0 && rec->template_ino == *(const uint64_t *)ctx;
}

bool box_uses_template(const struct host *h, uint64_t ino)
{
	return each_box(h, same_template, &ino) != 0;
}

struct sweep {
	struct host *host;
	const char (*keep)[PRIV_ID_MAX + 1];
	size_t n;
	int result;
	struct err *e;
};

/* Of one that is kept: its end was cut off in the middle, and whoever cut it off did not note that. */
static bool is_half_ended(struct host *h, const char *id)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int pidfd = -1;

	return dir >= 0 && faccessat(dir, "record", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	       box_alive(h, id, &pidfd, NULL) == 0;
}

static int sweep_one(void *ctx, const char *id)
{
	struct sweep *s = ctx;
	bool kept = false;
	size_t i;
	int r;

	for (i = 0; i < s->n && !kept; i++)
		kept = str_eq(s->keep[i], id);
	if (kept && !is_half_ended(s->host, id))
		return 0;
	/* Which of its disks is wanted is not known here: they stay until it is ended by somebody who knows. If that
	 * cannot be done now, it is no reason to go without all the others. The kernel tells once that a disk refused
	 * what was written: so they are not synced here, where nobody could hear of it. */
	r = end(s->host, id, kept ? PRIV_DISK_BOTH : PRIV_DISK_NONE, false, kept ? NULL : s->e);
	if (r < 0 && !kept)
		s->result = r; /* the others go on */
	return 0;
}

static int sweep_group(void *ctx, const char *name)
{
	return str_is_id(name, PRIV_ID_MAX) ? sweep_one(ctx, name) : 0;
}

static int sweep_box(void *ctx, const char *id, const struct record *rec UNUSED)
{
	return sweep_one(ctx, id);
}

int box_sweep(struct host *h, const char (*keep)[PRIV_ID_MAX + 1], size_t n, struct err *e)
{
	struct sweep s = {.host = h, .keep = keep, .n = n, .e = e};

	tree_sweep(h->boxes);
	each_box(h, sweep_box, &s);
	cgroup_each(&h->cgroups, sweep_group, &s);
	return s.result;
}
