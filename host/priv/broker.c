/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker is a program of its own, so that neither root nor the daemon have its libraries, and of an account of its
 * own where there is one. The key is given to it as a descriptor: no account but root's can open the file. It is read
 * by nobody here.
 */
#include "host/priv/broker.h"

#include "base/io.h"
#include "base/str.h"
#include "host/priv/confine.h"
#include "host/priv/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FD_HIGH = 64, FD_FIRST = 3, FD_KEY = 6 };

/* What the service manager hands us comes first; then the machine it runs on is the only one that can open it. */
static int open_key(const struct host *h, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int dir = -1;
	AUTO(fd_close) int fd = -1;
	struct stat st;

	if (h->conf.key_path[0]) {
		fd = open(h->conf.key_path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return err_sys(e, -errno, "the key %s", h->conf.key_path);
		*ret_fd = fd_take(&fd);
		return 0;
	}
	if (mkdirat(h->state, "secrets", 0700) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "making secrets");
	dir = openat(h->state, "secrets", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchown(dir, 0, 0) < 0 || fchmod(dir, 0700) < 0)
		return err_sys(e, -errno, "the directory of the key");
	fd = openat(dir, "host.key", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "the key %s/secrets/host.key", h->conf.state_dir);
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || (st.st_mode & 077))
		return err_set(e, -EPERM, "key-open", "%s/secrets/host.key is no file that is closed to others",
			       h->conf.state_dir);
	/* An empty one is written by the broker. */
	if (fchown(fd, 0, 0) < 0 || fsync(dir) < 0)
		return err_sys(e, -errno, "the key %s/secrets/host.key", h->conf.state_dir);
	if (st.st_size) {
		fd_close(&fd);
		fd = openat(dir, "host.key", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0)
		return err_sys(e, -errno, "the key %s/secrets/host.key", h->conf.state_dir);
	*ret_fd = fd_take(&fd);
	return 0;
}

/* Ends with the errno of what failed; the pipe closes when the broker runs. */
static NORETURN void become_broker(const struct host *h, const int *fds, int key, int report)
{
	AUTO(str_free) char *state = str_printf("--state=%s", h->conf.state_dir);
	AUTO(str_free) char *services = str_printf("--services=%s", h->conf.services_path);
	const char *argv[] = {"berth-broker", state, services, NULL};
	const char *const env[] = {"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", NULL};
	int all[FD_KEY - FD_FIRST + 1] = {fds[0], fds[1], fds[2], key}, up = -1, program, r = 0;
	struct err e = ERR_NULL;
	size_t i;

	run_child();
	/* The account need not be able to walk to it. */
	program = open(h->conf.broker_path, O_RDONLY | O_CLOEXEC);
	program = program < 0 ? -errno : fcntl(program, F_DUPFD_CLOEXEC, FD_HIGH);
	up = fcntl(report, F_DUPFD_CLOEXEC, FD_HIGH);
	for (i = 0; i < ARRAY_LEN(all); i++)
		all[i] = fcntl(all[i], F_DUPFD_CLOEXEC, FD_HIGH);
	r = program < 0 ? program : 0;
	for (i = 0; i < ARRAY_LEN(all) && r == 0; i++)
		r = all[i] < 0 || dup2(all[i], FD_FIRST + (int)i) < 0 ? -errno : 0;
	if (r == 0)
		r = confine_account(h->conf.broker_uid, h->conf.broker_gid, &e);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (r == 0) {
		fexecve(program, (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)env);
		r = -errno;
	}
	(void)!write(up, &r, sizeof(r));
	_exit(1);
}

int broker_start(struct host *h, const int *fds, struct err *e)
{
	AUTO(fd_close) int key = -1;
	int report[2], r, why = 0;
	pid_t pid;

	if (!h->conf.broker_path[0])
		return err_set(e, -ENOSYS, "no-broker", "this daemon has no broker");
	if (h->broker >= 0)
		(void)!pidfd_send_signal(h->broker, SIGKILL, NULL, 0);
	fd_close(&h->broker);
	r = open_key(h, &key, e);
	if (r < 0)
		return r;
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	pid = fork();
	if (pid == 0)
		become_broker(h, fds, key, report[1]);
	r = pid < 0 ? -errno : 0;
	close(report[1]);
	if (r == 0) {
		h->broker = pidfd_open(pid, 0);
		r = io_read_full(report[0], &why, sizeof(why));
		r = r == -ENODATA ? 0 : r < 0 ? r : why;
	}
	close(report[0]);
	return r < 0 ? err_sys(e, r, "starting %s", h->conf.broker_path) : 0;
}
