/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preparing the state directory. The daemon owns some directories in it, so nothing below it is believed by name: each
 * directory of ours is opened without following links and must belong to root, else we do not start. From then on all
 * work goes through these descriptors. Names of templates may be listed, but each of them is closed to everybody: they
 * hold set-user-id programs that strangers chose.
 */
#include "host/priv/host.h"

#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "host/priv/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANGE = 65536, AGENT_SIZE_MAX = 256 * 1024 * 1024 };

static bool terminated(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

/* Blanks and the like would be escaped in the mount table. */
static bool is_absolute(const char *s, size_t size)
{
	const char *p;

	if (!terminated(s, size) || s[0] != '/' || !s[1] || !path_ok(span_str(s + 1)))
		return false;
	for (p = s; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == '\\')
			return false;
	return true;
}

int host_check_conf(const struct priv_conf *c, struct err *e)
{
	uint64_t end = (uint64_t)c->range_first + (uint64_t)c->ranges * RANGE;

	if (!is_absolute(c->state_dir, sizeof(c->state_dir)))
		return err_set(e, -EINVAL, "bad-config", "the state directory must be an absolute path");
	if (!is_absolute(c->mount_dir, sizeof(c->mount_dir)))
		return err_set(e, -EINVAL, "bad-config", "the mount point must be an absolute path");
	if (!is_absolute(c->agent_path, sizeof(c->agent_path)))
		return err_set(e, -EINVAL, "bad-config", "the agent must be an absolute path");
	if (c->range_first < RANGE || c->ranges == 0 || end > UINT32_MAX)
		return err_set(e, -EINVAL, "bad-config", "the id ranges must lie between 65536 and 2^32-1");
	if (c->broker_path[0] &&
	    (!is_absolute(c->broker_path, sizeof(c->broker_path)) || c->broker_uid == 0 || c->broker_gid == 0 ||
	     !terminated(c->key_path, sizeof(c->key_path)) || !terminated(c->services_path, sizeof(c->services_path))))
		return err_set(e, -EINVAL, "bad-config", "the broker must be an absolute path, and not of root");
	if (c->uid == 0 || c->gid == 0 || (c->image_uid == 0) != (c->image_gid == 0))
		return err_set(e, -EINVAL, "bad-config", "the daemon cannot keep running as root");
	if ((c->uid >= c->range_first && c->uid < end) || (c->gid >= c->range_first && c->gid < end))
		return err_set(e, -EINVAL, "bad-config",
			       "the daemon's account lies inside the ranges of the sandboxes");
	return 0;
}

static int open_dir(int at, const char *name, mode_t mode, int *ret, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	struct stat st;

	if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "making %s", name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "opening %s", name);
	if (st.st_uid != 0)
		return err_set(e, -EPERM, "not-ours", "%s in the state directory does not belong to root", name);
	if (fchmod(fd, mode) < 0)
		return err_sys(e, -errno, "mode of %s", name);
	*ret = fd_take(&fd);
	return 0;
}

/* Programs of a sandbox reach its root through the state directory, so all of its parents must let them pass. */
static int check_parents(const char *path, struct err *e)
{
	AUTO(str_free) char *copy = must_strdup(path);
	struct stat st;
	char *slash;

	while ((slash = strrchr(copy, '/')) && slash != copy) {
		*slash = '\0';
		if (stat(copy, &st) < 0)
			return err_sys(e, -errno, "%s", copy);
		if (!(st.st_mode & S_IXOTH))
			return err_set(e, -EACCES, "state-dir-private",
				       "%s is closed to others: sandboxes could not reach their root below %s", copy,
				       path);
	}
	return 0;
}

static int open_state(struct host *h, struct err *e)
{
	int r = io_mkdir_p(h->conf.state_dir, 0711);

	if (r < 0)
		return err_sys(e, r, "making %s", h->conf.state_dir);
	h->state = open(h->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (h->state < 0)
		return err_sys(e, -errno, "opening %s", h->conf.state_dir);
	if (fchown(h->state, 0, 0) < 0 || fchmod(h->state, 0755) < 0)
		return err_sys(e, -errno, "owner of %s", h->conf.state_dir);
	return check_parents(h->conf.state_dir, e);
}

/* The copy has a new inode each time: sandboxes that run keep the old one, and replacing the installed program in place
 * changes nothing for them. */
static int copy_agent(struct host *h, struct err *e)
{
	AUTO(fd_close) int from = open(h->conf.agent_path, O_RDONLY | O_CLOEXEC);
	AUTO(fd_close) int to = -1;
	struct stat st;
	off_t left;

	if (from < 0 || fstat(from, &st) < 0)
		return err_set(e, -errno, "no-agent", "the agent %s cannot be opened", h->conf.agent_path);
	if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > AGENT_SIZE_MAX)
		return err_set(e, -ENOEXEC, "no-agent", "%s is not a program", h->conf.agent_path);
	if (unlinkat(h->state, ".agent.tmp", 0) < 0 && errno != ENOENT)
		return err_sys(e, -errno, "stale copy of the agent");
	to = openat(h->state, ".agent.tmp", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0555);
	if (to < 0 || fchmod(to, 0555) < 0)
		return err_sys(e, -errno, "copying the agent");
	for (left = st.st_size; left > 0;) {
		ssize_t n = sendfile(to, from, NULL, (size_t)left);

		if (n <= 0)
			return err_sys(e, n < 0 ? -errno : -EIO, "copying the agent");
		left -= n;
	}
	if (renameat(h->state, ".agent.tmp", h->state, "agent") < 0)
		return err_sys(e, -errno, "copying the agent");
	return 0;
}

int host_find_cgroups(struct host *h, struct err *e)
{
	char name[CGROUP_NAME_MAX];
	struct stat st;

	/* Unique on this machine for each state directory, and the same after a restart. */
	if (fstat(h->state, &st) < 0)
		return err_sys(e, -errno, "state directory");
	snprintf(name, sizeof(name), "berth-%llx-%llx", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return cgroup_init(&h->cgroups, h->conf.cgroup_parent, name, e);
}

int host_init(struct host *h, const struct priv_conf *conf, struct err *e)
{
	AUTO(fd_close) int crun = -1;
	int r = host_check_conf(conf, e);

	*h = HOST_NULL;
	if (r < 0)
		return r;
	h->conf = *conf;
	r = open_state(h, e);
	if (r == 0)
		r = open_dir(h->state, "boxes", 0711, &h->boxes, e);
	if (r == 0)
		r = open_dir(h->state, "templates", 0755, &h->templates, e);
	if (r == 0)
		r = open_dir(h->state, "images", 0700, &h->images, e);
	if (r == 0)
		r = open_dir(h->state, "bases", 0755, &h->bases, e);
	if (r == 0)
		r = open_dir(h->state, "layers", 0755, &h->layers, e);
	if (r == 0)
		r = base_init(h, e);
	if (r == 0)
		r = open_dir(h->state, "crun", 0700, &crun, e);
	if (r == 0)
		r = copy_agent(h, e);
	if (r == 0)
		r = host_find_cgroups(h, e);
	if (r < 0)
		host_fini(h);
	return r;
}

int host_reopen(struct host *h, struct err *e)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

	host_fini(h);
	h->state = open(h->conf.state_dir, flags & ~O_NOFOLLOW);
	if (h->state >= 0)
		h->boxes = openat(h->state, "boxes", flags);
	if (h->boxes >= 0)
		h->templates = openat(h->state, "templates", flags);
	if (h->templates >= 0)
		h->images = openat(h->state, "images", flags);
	return h->images < 0 ? err_sys(e, -errno, "state directory") : 0;
}

void host_fini(struct host *h)
{
	vec_fini(&h->keep);
	fd_close(&h->boxes);
	fd_close(&h->templates);
	fd_close(&h->images);
	fd_close(&h->bases);
	fd_close(&h->layers);
	fd_close(&h->state);
}

void host_reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}
