/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon still is and can do after it gave everything up. Each trial is a child that reports with its status.
 */
#include "base/buf.h"
#include "base/io.h"
#include "host/priv/confine.h"
#include "host/priv/seccomp.h"
#include "tests/lib/priv-rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rig rig;

static void begin(void)
{
	rig_init(&rig);
}

static void end(void)
{
	rig_fini(&rig);
}

TestSuite(priv_confine, .init = begin, .fini = end, .timeout = 60);

/* Run @fn in a confined child; it returns NULL or what was wrong. */
static void confined(const char *(*fn)(void))
{
	int pipefd[2], status;
	char words[256] = "";
	struct err e = ERR_NULL;
	pid_t pid;

	cr_assert_eq(pipe(pipefd), 0);
	pid = fork();
	if (pid == 0) {
		const char *wrong = NULL;

		if (priv_fork(&rig.conf, &rig.priv, &e) < 0 || priv_confine(rig.priv, &e) < 0)
			wrong = e.text;
		else
			wrong = fn();
		if (wrong)
			(void)!write(pipefd[1], wrong, strlen(wrong));
		priv_close(&rig.priv);
		_exit(wrong ? 1 : 0);
	}
	close(pipefd[1]);
	(void)!read(pipefd[0], words, sizeof(words) - 1);
	close(pipefd[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x: %s", (unsigned)status, words);
}

static bool status_has(const char *line)
{
	struct buf b;
	bool has;

	buf_init(&b, 65536);
	has = io_read_file(AT_FDCWD, "/proc/self/status", &b) == 0 && strstr(buf_str(&b), line) != NULL;
	buf_fini(&b);
	return has;
}

static const char *check_status(void)
{
	static const char *const lines[] = {
		"Uid:\t64999\t64999\t64999\t64999\n",
		"Gid:\t64999\t64999\t64999\t64999\n",
		"Groups:\t \n",
		"CapInh:\t0000000000000000\n",
		"CapPrm:\t0000000000000000\n",
		"CapEff:\t0000000000000000\n",
		"CapBnd:\t0000000000000000\n",
		"CapAmb:\t0000000000000000\n",
		"NoNewPrivs:\t1\n",
		"Seccomp:\t2\n",
	};
	struct rlimit core;
	size_t i;

	for (i = 0; i < ARRAY_LEN(lines); i++)
		if (!status_has(lines[i]))
			return lines[i];
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return "dumpable";
	if (getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_max != 0)
		return "core files";
	return NULL;
}

Test(priv_confine, leaves_nothing_of_root)
{
	confined(check_status);
}

#define REFUSED(call)                                                                                                  \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		if ((long)(call) != -1 || errno != EPERM)                                                              \
			return #call;                                                                                  \
	} while (0)

static const char *check_refused(void)
{
	char c = 'x';

	REFUSED(execl("/bin/true", "true", (char *)NULL));
	REFUSED(syscall(SYS_execveat, -1, "/bin/true", NULL, NULL, 0));
	REFUSED(mount("x", "/mnt", "tmpfs", 0, NULL));
	REFUSED(umount2("/", MNT_DETACH));
	REFUSED(unshare(CLONE_NEWUSER));
	REFUSED(syscall(SYS_setns, 0, 0));
	REFUSED(syscall(SYS_bpf, 0, NULL, 0));
	REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	REFUSED(setresuid(0, 0, 0));
	REFUSED(chroot("/"));
	REFUSED(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
	REFUSED(syscall(SYS_userfaultfd, 0));
	REFUSED(syscall(SYS_io_uring_setup, 1, NULL));
	REFUSED(syscall(SYS_fsopen, "tmpfs", 0));
	REFUSED(ioctl(0, TIOCSTI, &c));
	REFUSED(syscall(SYS_ioctl, 0, (unsigned long)TIOCSTI | 0x100000000UL, &c));
	errno = 0;
	if (socket(AF_PACKET, SOCK_RAW, 0) != -1 || errno != ENOSYS)
		return "a packet socket";
	if (syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0) != -1)
		return "a user namespace";
	errno = 0;
	if (syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS)
		return "clone3";
	errno = 0;
	if (syscall(999) != -1 || errno != ENOSYS)
		return "an unknown call";
	return NULL;
}

Test(priv_confine, refuses_what_the_daemon_never_does)
{
	confined(check_refused);
}

static const char *check_tool(void)
{
	static const struct {
		int family, type;
		bool works;
	} rows[] = { { AF_UNIX, SOCK_STREAM, true },   { AF_INET, SOCK_STREAM, true },
		     { AF_NETLINK, SOCK_RAW, true },   { AF_UNSPEC, SOCK_STREAM, false },
		     { AF_VSOCK, SOCK_STREAM, false }, { AF_ALG, SOCK_SEQPACKET, false },
		     { AF_PACKET, SOCK_RAW, false },   { AF_XDP, SOCK_RAW, false },
		     { AF_AX25, SOCK_DGRAM, false } };
	int status, fd;
	size_t i;
	pid_t pid;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		errno = 0;
		fd = socket(rows[i].family, rows[i].type | SOCK_CLOEXEC, 0);
		if (rows[i].works ? fd < 0 : fd >= 0 || errno != EAFNOSUPPORT)
			return "families of sockets";
		fd_close(&fd);
	}
	REFUSED(unshare(CLONE_NEWUSER));
	REFUSED(unshare(0)); /* which would be nothing */
	REFUSED(syscall(SYS_setns, 0, 0));
	REFUSED(mount("x", "/mnt", "tmpfs", 0, NULL));
	REFUSED(syscall(SYS_open_tree, AT_FDCWD, "/", 0));
	REFUSED(syscall(SYS_fsopen, "tmpfs", 0));
	REFUSED(syscall(SYS_bpf, 0, NULL, 0));
	REFUSED(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
	REFUSED(syscall(SYS_userfaultfd, 0));
	REFUSED(syscall(SYS_io_uring_setup, 1, NULL));
	REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	REFUSED(syscall(SYS_add_key, "user", "x", "y", 1, 0));
	REFUSED(syscall(SYS_ptrace, 0, 0, 0, 0));
	REFUSED(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0));
	REFUSED(syscall(SYS_clone, CLONE_NEWNET | CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0));
	errno = 0;
	if (syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS)
		return "clone3";
	/* It is a program like any other, with the filter after its start, too. */
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "grep -q '^Seccomp:.2' /proc/self/status && ! unshare -U true 2>/dev/null",
		      (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return "another program";
	return NULL;
}

/* The image tool's account and filter. */
Test(priv_confine, the_tool_makes_no_namespaces_and_sockets_of_its_network_alone)
{
	const char *wrong;
	struct err e = ERR_NULL;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		wrong = confine_account(64999, 64999, &e) < 0 || seccomp_confine_tool(&e) < 0 ? e.text : check_tool();
		if (wrong)
			fprintf(stderr, "%s\n", wrong);
		_exit(wrong ? 1 : 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "status %x", (unsigned)status);
}

static void *thread(void *arg)
{
	return arg;
}

static const char *check_work(void)
{
	char name[] = "/tmp/berth-confine-XXXXXX";
	struct epoll_event ev = {.events = EPOLLIN};
	pthread_t t;
	int fd, ep, sv[2];

	if (pthread_create(&t, NULL, thread, NULL) != 0 || pthread_join(t, NULL) != 0)
		return "threads";
	fd = mkstemp(name);
	if (fd < 0 || ftruncate(fd, 1 << 20) < 0 || fdatasync(fd) < 0)
		return "files";
	if (mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		return "maps";
	unlink(name);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0 || socket(AF_INET6, SOCK_STREAM, 0) < 0 ||
	    socket(AF_INET, SOCK_STREAM, 0) < 0)
		return "sockets";
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, sv[0], &ev) < 0)
		return "epoll";
	if (!setlocale(LC_ALL, "C"))
		return "locale";
	return NULL;
}

Test(priv_confine, lets_the_daemon_work)
{
	confined(check_work);
}

static const char *check_ask(void)
{
	struct priv_box_spec spec = {.kind = PRIV_BOX_FAKE, .id = "asked"};
	static struct err e;
	struct priv_box_started got;

	if (rig_start(&rig, &spec, &got, &e) < 0 || priv_box_end(rig.priv, "asked", PRIV_DISK_NONE, &e) < 0)
		return e.text;
	return NULL;
}

static const char *check_ask_in_place(void)
{
	/* The rig's directory is root's: listen where this account may. */
	snprintf(rig.socket, sizeof(rig.socket), "/tmp/berth-confine-%d.sock", (int)getpid());
	const char *wrong = check_ask();

	unlink(rig.socket);
	return wrong;
}

Test(priv_confine, the_other_process_still_does_its_part)
{
	confined(check_ask_in_place);
}
