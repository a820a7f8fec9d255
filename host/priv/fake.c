/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No namespace, no limit, no image: whatever runs in it can do all that the daemon's account can, which is why the
 * configuration must allow it. It still has a control group, so that its end finds all of its processes.
 */
#include "host/priv/fake.h"

#include "base/io.h"
#include "base/str.h"
#include "host/priv/run.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FD_LISTEN = 3, FD_TOKEN = 4, FD_HIGH = 32 };

static int place_fds(int listen_fd, int token_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int a = fcntl(listen_fd, F_DUPFD_CLOEXEC, FD_HIGH), b = fcntl(token_fd, F_DUPFD_CLOEXEC, FD_HIGH);

	if (null < 0 || a < 0 || b < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
	    dup2(a, FD_LISTEN) < 0 || dup2(b, FD_TOKEN) < 0)
		return -errno;
	return close_range(FD_TOKEN + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

/* Ends with the errno of what failed; the pipe closes when the agent runs. */
static NORETURN void become_agent(const struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd,
				  int report)
{
	AUTO(str_free) char *ws = str_printf("%s/boxes/%s/ws", h->conf.state_dir, spec->id);
	AUTO(str_free) char *agent = str_printf("%s/agent", h->conf.state_dir);
	const char *argv[] = {"berth-agent", "--listen", "fd:3",	"--token-fd", "4",
			      "--id",	     spec->id,	 "--workspace", ws,	      NULL};
	int up = fcntl(report, F_DUPFD_CLOEXEC, FD_HIGH), r;

	run_child();
	r = up < 0 ? -errno : cgroup_enter(&h->cgroups, spec->id, NULL);
	if (r == 0 && (setsid() < 0 || chdir(ws) < 0))
		r = -errno;
	if (r == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(h->conf.gid, h->conf.gid, h->conf.gid) < 0 ||
	     setresuid(h->conf.uid, h->conf.uid, h->conf.uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0))
		r = -errno;
	if (r == 0)
		r = place_fds(listen_fd, token_fd);
	if (r == 0) {
		execv(agent, (char *const *)(uintptr_t)argv);
		r = -errno;
	}
	(void)!write(up, &r, sizeof(r));
	_exit(1);
}

int fake_start(const struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd, int dir,
	       struct record *rec, struct err *e)
{
	const struct cgroup_limits none = {.memory_b = 0};
	int report[2], r = cgroup_make(&h->cgroups, spec->id, &none, e), why = 0;
	pid_t pid;

	if (r < 0)
		return r;
	if (mkdirat(dir, "ws", 0700) < 0 || fchownat(dir, "ws", h->conf.uid, h->conf.gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(dir, "ws", 0755, 0) < 0 || pipe2(report, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "workspace directory");
	pid = fork();
	if (pid == 0)
		become_agent(h, spec, listen_fd, token_fd, report[1]);
	fd_close(&report[1]);
	r = pid < 0 ? -errno : io_read_full(report[0], &why, sizeof(why));
	fd_close(&report[0]);
	if (r != -ENODATA)
		return err_sys(e, r < 0 ? r : why, "starting the agent");
	rec->pid = pid;
	return 0;
}
