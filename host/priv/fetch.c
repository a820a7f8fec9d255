/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image tool parses what a registry of anybody's sends, so it gets nothing that it could give away: an account of
 * its own, without capabilities, in namespaces of mounts, processes, network and the rest that are made for this one
 * run. Its root is a small tmpfs with the host's programs and certificates, read-only; the state directory, sockets and
 * homes are not there. Its network has a loopback and nothing else: connections are made for it by the daemon, which
 * looks at where they go (host/image/gate.c), by way of sockets that are made here; sockets that no namespace holds,
 * and calls that have often been a way out, its filter refuses. Its disk is a file system of its own, in a file without
 * a name.
 *
 * A child of the privileged process makes all this, becomes none of it and waits: for the tool's end, for the daemon's
 * word (its end of the socket closes), or for the time to be over. The tool is the first process of its namespace, so
 * nothing of it outlives it.
 */
#include "host/priv/fetch.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/confine.h"
#include "host/priv/image.h"
#include "host/priv/netlink.h"
#include "host/priv/run.h"
#include "host/priv/seccomp.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK_PREFIX ".fetch-"
#define GROUP_PREFIX "fetch." /* no id of a sandbox has a dot */

enum { GATE_PORT = 3128, BACKLOG = 64, FILES = 512, PIDS = 256, CPU_MILLI = 2000, TOOL_MISSING = 127 };

static const uint64_t MEMORY_B = 1024ULL * 1024 * 1024;

struct fetch {
	struct host *host;
	const struct priv_fetch_spec *spec;
	int life, words, out, auth;
	int gate, tunnel, disk, dir; /* made here */
	unsigned gate_port;
	char group[32];
};

bool fetch_name_ok(const char *p)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@";

	return p[0] && p[0] != '-' && p[0] != '/' && strspn(p, letters) == strlen(p) && !strstr(p, "//") &&
	       !strstr(p, "..");
}

static int sweep_group(void *ctx, const char *name)
{
	struct host *h = ctx;

	if (str_starts(name, GROUP_PREFIX) && cgroup_kill(&h->cgroups, name, NULL) == 0)
		(void)!cgroup_remove(&h->cgroups, name, NULL);
	return 0;
}

void fetch_sweep(struct host *h)
{
	int fd = openat(h->images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	cgroup_each(&h->cgroups, sweep_group, h);
	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, DISK_PREFIX))
			(void)!unlinkat(h->images, de->d_name, 0);
	if (d)
		closedir(d);
}

/* --- what it gets, in the child ----------------------------------------------------------------------------------- */

/* The loop device keeps the file, and goes with the last mount. */
static int make_disk(struct fetch *f, struct err *e)
{
	char name[40];
	int loop, r;

	if (f->spec->op != PRIV_FETCH_IMAGE)
		return 0;
	snprintf(name, sizeof(name), DISK_PREFIX "%d", (int)getpid());
	(void)!unlinkat(f->host->images, name, 0);
	r = image_make(f->host, IMAGE_ROOT, f->spec->room_b, f->host->images, name, e);
	if (r == 0)
		r = image_mount(IMAGE_ROOT, f->host->images, name, &f->disk, &loop, e);
	(void)!unlinkat(f->host->images, name, 0);
	return r;
}

static int listen_at(unsigned port, int *ret, struct err *e)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	*ret = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*ret < 0 || bind(*ret, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(*ret, BACKLOG) < 0)
		return err_sys(e, -errno, "a socket of the image tool");
	return 0;
}

static int make_network(struct fetch *f, struct err *e)
{
	struct nl nl = NL_NULL;
	int r = nl_open(&nl, e);

	if (r == 0)
		r = nl_up(&nl, "lo", e);
	nl_close(&nl);
	f->gate_port = f->spec->tunnel == GATE_PORT ? GATE_PORT + 1 : GATE_PORT;
	if (r == 0)
		r = listen_at(f->gate_port, &f->gate, e);
	if (r == 0 && f->spec->tunnel)
		r = listen_at(f->spec->tunnel, &f->tunnel, e);
	return r;
}

/* The host's @path, which begins with a slash, at the same place below here; nothing where it has none. */
static int show(const char *path)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	AUTO(fd_close) int tree = -1;
	char to[256];
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, to, sizeof(to) - 1);
		if (n < 0)
			return -errno;
		to[n] = '\0';
		return symlink(to, path + 1) < 0 ? -errno : 0;
	}
	if (S_ISDIR(st.st_mode) ? mkdir(path + 1, 0755) < 0 : mknod(path + 1, S_IFREG | 0444, 0) < 0)
		return -errno;
	tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (S_ISCHR(st.st_mode))
		attr.attr_set &= ~(uint64_t)MOUNT_ATTR_NODEV;
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0 ||
	    move_mount(tree, "", AT_FDCWD, path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int put(const char *path, const void *p, size_t len, uid_t uid, gid_t gid, mode_t mode)
{
	AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || fchmod(fd, mode) < 0 || fchown(fd, uid, gid) < 0)
		return -errno;
	return io_write_full(fd, p, len);
}

/* Credentials lie in memory, readable for the tool alone. */
static int put_auth(struct fetch *f)
{
	char *text = must_calloc(1, PRIV_AUTH_MAX);
	ssize_t n = pread(f->auth, text, PRIV_AUTH_MAX, 0);
	int r = n < 0 ? -errno : n == PRIV_AUTH_MAX ? -E2BIG : 0;

	if (r == 0)
		r = put("run/auth.json", text, (size_t)n, f->host->conf.image_uid, f->host->conf.image_gid, 0400);
	explicit_bzero(text, PRIV_AUTH_MAX);
	free(text);
	return r;
}

static int put_work(struct fetch *f)
{
	const struct priv_conf *c = &f->host->conf;

	if (mkdir("work", 0755) < 0)
		return -errno;
	if (f->disk >= 0 && move_mount(f->disk, "", AT_FDCWD, "work", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	(void)!rmdir("work/lost+found");
	if (chown("work", c->image_uid, c->image_gid) < 0 || mkdir("work/tmp", 0700) < 0 ||
	    chown("work/tmp", c->image_uid, c->image_gid) < 0 || mkdir("work/image", 0755) < 0 ||
	    chown("work/image", c->image_uid, c->image_gid) < 0)
		return -errno;
	if (f->disk < 0)
		return 0;
	f->dir = open("work/image", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return f->dir < 0 ? -errno : 0;
}

static int fill_root(struct fetch *f)
{
	static const char *const dirs[] = {"etc", "etc/docker", "dev", "proc", "run", "tmp", "var"};
	static const char *const shown[] = {"/usr",	 "/bin",	    "/sbin",	       "/lib",
					    "/lib32",	 "/lib64",	    "/libx32",	       "/etc/ssl",
					    "/etc/pki",	 "/etc/containers", "/etc/docker/certs.d", "/etc/ld.so.cache",
					    "/dev/null", "/dev/urandom",    "/etc/ca-certificates"};
	static const char hosts[] = "127.0.0.1\tlocalhost\n", users[] = "root:x:0:0::/:/bin/false\n";
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_LEN(dirs); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return -errno;
	for (i = 0; i < ARRAY_LEN(shown) && r == 0; i++)
		r = show(shown[i]);
	if (r == 0)
		r = put("etc/hosts", hosts, strlen(hosts), 0, 0, 0444);
	if (r == 0)
		r = put("etc/passwd", users, strlen(users), 0, 0, 0444);
	if (r == 0)
		r = put_work(f);
	if (r == 0 && f->auth >= 0)
		r = put_auth(f);
	return r;
}

/* Over a directory of ours, which it hides in this namespace alone. */
static int make_root(struct fetch *f, struct err *e)
{
	AUTO(str_free) char *at = str_printf("%s/images", f->host->conf.state_dir);
	int r;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("berth-fetch", at, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,nr_inodes=1k,mode=0755") < 0 ||
	    chdir(at) < 0)
		return err_sys(e, -errno, "the image tool's root");
	r = fill_root(f);
	return r < 0 ? err_sys(e, r, "the image tool's root") : 0;
}

static int prepare(struct fetch *f, struct err *e)
{
	const struct cgroup_limits limits = {.memory_b = MEMORY_B, .cpu_milli = CPU_MILLI, .pids = PIDS};
	int r = make_disk(f, e);

	if (r < 0)
		return r;
	r = cgroup_make(&f->host->cgroups, f->group, &limits, e);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return err_sys(e, -errno, "namespaces of the image tool");
	r = make_network(f, e);
	return r == 0 ? make_root(f, e) : r;
}

/* --- the tool ----------------------------------------------------------------------------------------------------- */

static int limit(int what, rlim_t most)
{
	const struct rlimit l = {most, most};

	return setrlimit((__rlimit_resource_t)what, &l) < 0 ? -errno : 0;
}

static int enter_root(struct fetch *f, struct err *e)
{
	int r = cgroup_enter(&f->host->cgroups, f->group, e);

	if (r < 0)
		return r;
	/* Of its own: what waits for it needs the host's directories for tidying up. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, -errno, "mount namespace");
	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") < 0 &&
	    mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_sys(e, -errno, "proc");
	if (mount(NULL, "proc", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/work") < 0)
		return err_sys(e, -errno, "changing the root");
	return 0;
}

static NORETURN void exec_tool(struct fetch *f)
{
	AUTO(str_free) char *image = str_printf("docker://%s", f->spec->image);
	AUTO(str_free) char *proxy = str_printf("HTTPS_PROXY=http://127.0.0.1:%u", f->gate_port);
	AUTO(str_free) char *plain = str_printf("HTTP_PROXY=http://127.0.0.1:%u", f->gate_port);
	const char *env[] = { "PATH=/usr/local/bin:/usr/bin:/bin",
			      "LC_ALL=C.UTF-8",
			      "HOME=/work/tmp",
			      "TMPDIR=/work/tmp",
			      "XDG_RUNTIME_DIR=/work/tmp",
			      proxy,
			      plain,
			      NULL };
	bool whole = f->spec->op == PRIV_FETCH_IMAGE;
	const char *argv[12] = {"skopeo", whole ? "copy" : "inspect", whole ? "--dest-decompress" : "--raw"};
	unsigned n = 3;

	if (f->spec->tunnel)
		argv[n++] = whole ? "--src-tls-verify=false" : "--tls-verify=false";
	if (f->auth >= 0)
		argv[n++] = whole ? "--src-authfile=/run/auth.json" : "--authfile=/run/auth.json";
	if (whole)
		argv[n++] = "--quiet";
	argv[n++] = image;
	if (whole)
		argv[n++] = "dir:/work/image";
	execvpe(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)env);
	_exit(TOOL_MISSING);
}

static NORETURN void become_tool(struct fetch *f)
{
	const struct priv_conf *c = &f->host->conf;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct pollfd gone = {.fd = f->life, .events = POLLRDHUP};
	struct err e = ERR_NULL;
	int r;

	setsid();
	r = null < 0 ? err_sys(&e, -errno, "/dev/null") : enter_root(f, &e);
	if (r == 0)
		r = confine_account(c->image_uid, c->image_gid, &e);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (poll(&gone, 1, 0) != 0) /* nobody may be left whose death would tell us */
		_exit(1);
	if (r == 0)
		r = limit(RLIMIT_NOFILE, FILES);
	if (r == 0)
		r = limit(RLIMIT_FSIZE, (rlim_t)f->spec->room_b);
	if (r == 0 && (dup2(null, 0) < 0 || dup2(f->spec->op == PRIV_FETCH_MANIFEST ? f->out : null, 1) < 0 ||
		       dup2(f->words, 2) < 0))
		r = -errno;
	if (r == 0)
		r = seccomp_confine_tool(&e);
	if (r < 0) {
		dprintf(f->words, "%s\n", e.code ? e.text : err_name(r));
		_exit(1);
	}
	exec_tool(f);
}

/* Return: its exit status, 128 + signal; -ETIMEDOUT; -ECANCELED: the daemon does not want it any more; -errno. */
static int await(struct fetch *f, pid_t pid)
{
	AUTO(fd_close) int pidfd = pidfd_open(pid, 0);
	struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = f->life, .events = POLLRDHUP}};
	uint64_t until = clock_after_ms(f->spec->seconds * 1000ULL);
	int n, r, why = 0;

	if (pidfd < 0)
		return -errno;
	do
		n = poll(p, 2, clock_left_ms(until));
	while (n < 0 && errno == EINTR);
	if (!p[0].revents) {
		why = n == 0 ? -ETIMEDOUT : -ECANCELED;
		(void)!pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	}
	r = run_wait(pid, CLOCK_NEVER);
	return why ? why : r;
}

static NORETURN void fetch_run(struct fetch *f)
{
	struct priv_fetch_begun begun = {.err = ERR_NULL};
	int fds[3], r, status;
	size_t n = 0;
	pid_t pid = -1;

	run_child();
	fd_close(&f->host->sock); /* or the daemon would not hear of the death of our parent */
	prctl(PR_SET_NAME, "berth-fetch", 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	snprintf(f->group, sizeof(f->group), GROUP_PREFIX "%d", (int)getpid());
	r = prepare(f, &begun.err);
	if (r == 0) {
		pid = fork();
		if (pid == 0)
			become_tool(f);
		r = pid < 0 ? err_sys(&begun.err, -errno, "fork") : 0;
	}
	fds[n++] = f->gate;
	if (f->tunnel >= 0)
		fds[n++] = f->tunnel;
	if (f->dir >= 0)
		fds[n++] = f->dir;
	(void)!io_send_fds(f->life, &begun, sizeof(begun), fds, r == 0 ? n : 0);
	status = r == 0 ? await(f, pid) : r;
	(void)!cgroup_kill(&f->host->cgroups, f->group, NULL);
	(void)!cgroup_remove(&f->host->cgroups, f->group, NULL);
	if (status == 0)
		dprintf(f->words, "berth: ok\n");
	else if (r < 0)
		dprintf(f->words, "berth: failed: %s\n", begun.err.text);
	else if (status == TOOL_MISSING)
		dprintf(f->words, "berth: failed: skopeo is not installed\n");
	else if (status == -ETIMEDOUT)
		dprintf(f->words, "berth: failed: it took longer than %u s\n", f->spec->seconds);
	else
		dprintf(f->words, "berth: failed: skopeo ended with %d\n", status);
	_exit(status != 0);
}

/* --- asked by the daemon ------------------------------------------------------------------------------------------ */

static int *free_place(struct host *h)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(h->fetches); i++) {
		struct pollfd p = {.fd = h->fetches[i], .events = POLLIN};

		if (h->fetches[i] >= 0 && poll(&p, 1, 0) == 0)
			continue;
		fd_close(&h->fetches[i]);
		return &h->fetches[i];
	}
	return NULL;
}

int fetch_start(struct host *h, const struct priv_fetch_spec *spec, const int *fds, int auth_fd, int *ret_pidfd,
		struct err *e)
{
	struct fetch f = {.host = h, .spec = spec, .life = fds[0], .words = fds[1], .out = fds[2], .auth = auth_fd,
			  .gate = -1, .tunnel = -1, .disk = -1, .dir = -1};
	int *place = free_place(h);
	pid_t pid;

	host_reap();
	if (!h->conf.image_uid)
		return err_set(e, -ENOSYS, "no-image-tool", "this daemon fetches no images");
	if (!place)
		return err_set(e, -EBUSY, "too-many-fetches", "too many images are being fetched");
	pid = fork();
	if (pid == 0)
		fetch_run(&f);
	if (pid < 0)
		return err_sys(e, -errno, "fork");
	*ret_pidfd = pidfd_open(pid, 0);
	if (*ret_pidfd < 0)
		return err_sys(e, -errno, "fetching an image");
	*place = fcntl(*ret_pidfd, F_DUPFD_CLOEXEC, 0);
	return 0;
}
