/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A namespace lives as long as somebody has it open; making one takes a process, mapping it takes another one with
 * privileges outside. The child becomes the range's first id before it unshares: instances of inotify and the like are
 * limited per user, namespaces count against whoever made them, and those of root would all share one limit with the
 * host.
 */
#include "host/priv/idmap.h"

#include "base/io.h"
#include "host/priv/run.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static NORETURN void hold(uid_t base, int also, int ready, int done)
{
	int err = 0;
	char c;

	if (setgroups(0, NULL) < 0 || setresgid(base, base, base) < 0 || setresuid(base, base, base) < 0)
		err = errno;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (!err && unshare(CLONE_NEWUSER | also) < 0)
		err = errno;
	if (write(ready, &err, sizeof(err)) == (ssize_t)sizeof(err) && !err)
		(void)!read(done, &c, 1);
	_exit(err != 0);
}

static int write_map(pid_t pid, const char *which, uid_t base, bool with_root)
{
	char path[64], text[96];
	AUTO(fd_close) int fd = -1;
	int n = snprintf(text, sizeof(text), "0 %u %u\n%s", base, (unsigned)IDMAP_LEN, with_root ? "65536 0 1\n" : "");

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, which);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, text, (size_t)n) != n ? -errno : 0;
}

static int open_ns(pid_t pid, const char *which, int *ret)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, which);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

static int map(pid_t pid, int ready, uid_t base, bool with_root, int *ret_fd, int *ret_netns, struct err *e)
{
	AUTO(fd_close) int userns = -1;
	int why = 0, r = io_read_full(ready, &why, sizeof(why));

	if (r == 0 && why)
		return err_sys(e, -why, "user namespace (none in a chroot, nor with user.max_user_namespaces = 0)");
	if (r == 0)
		r = write_map(pid, "uid_map", base, with_root);
	if (r == 0)
		r = write_map(pid, "gid_map", base, with_root);
	if (r == 0)
		r = open_ns(pid, "user", &userns);
	if (r == 0 && ret_netns)
		r = open_ns(pid, "net", ret_netns);
	if (r < 0)
		return err_sys(e, r, "user namespace for %u", base);
	*ret_fd = fd_take(&userns);
	return 0;
}

static int make(uid_t base, bool with_root, int *ret_fd, int *ret_netns, struct err *e)
{
	int ready[2] = {-1, -1}, done[2] = {-1, -1}, r;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	if (pipe2(done, O_CLOEXEC) < 0) {
		r = -errno;
		close(ready[0]);
		close(ready[1]);
		return err_sys(e, r, "pipe");
	}
	pid = fork();
	if (pid == 0) {
		close(done[1]);
		hold(base, ret_netns ? CLONE_NEWNET : 0, ready[1], done[0]);
	}
	fd_close(&ready[1]);
	fd_close(&done[0]);
	r = pid < 0 ? err_sys(e, -errno, "fork") : map(pid, ready[0], base, with_root, ret_fd, ret_netns, e);
	fd_close(&ready[0]);
	fd_close(&done[1]);
	if (pid > 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	return r;
}

int idmap_new(uid_t base, int *ret_fd, int *ret_netns, struct err *e)
{
	return make(base, false, ret_fd, ret_netns, e);
}

int idmap_disk(uid_t base, int *ret_fd, struct err *e)
{
	return make(base, true, ret_fd, NULL, e);
}
