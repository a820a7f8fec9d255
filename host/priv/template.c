/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A template is a directory NAME with the tree root/ in it. It is built under a name that starts with a dot, in a child
 * of its own, and appears under its own name by one rename when everything is on disk; so a name that can be seen is
 * whole. Sandboxes hold no name but mounts of the tree, and their record has the directory's inode number: replacing a
 * template that is in use sets the old tree aside (.NAME.old-…), removing it is refused. What was set aside, and what
 * builds that did not end left, is swept when the daemon starts.
 *
 * Packages are installed with mmdebstrap, from where the host itself gets its packages. Their scripts run as root in
 * the new tree, as they would on any machine of that release. An archive is unpacked behind a fence: see fence.c.
 */
#include "host/priv/template.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/priv/apt.h"
#include "host/priv/box.h"
#include "host/priv/fence.h"
#include "host/priv/finish.h"
#include "host/priv/run.h"
#include "host/priv/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUILD_S = 3600 };

bool template_packages_ok(const char *p)
{
	while (*p) {
		size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789+.-");

		if (n < 2 || strchr("+.-", p[0]) || (p[n] && p[n] != ' ') || (p[n] == ' ' && !p[n + 1]))
			return false;
		p += n + (p[n] == ' ');
		if (*p == '\0')
			return true;
	}
	return false;
}

int template_open(const struct host *h, const char *name, int *ret_fd, uint64_t *ret_ino, struct err *e)
{
	AUTO(fd_close) int dir = openat(h->templates, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int fd;

	if (dir < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no-such-template", "there is no template %s", name)
				       : err_sys(e, -errno, "template %s", name);
	fd = openat(dir, "root", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(dir, &st) < 0)
		return err_sys(e, -errno, "template %s", name);
	*ret_ino = st.st_ino;
	*ret_fd = fd;
	return 0;
}

/* --- building, in the child --------------------------------------------------------------------------------------- */

struct build {
	struct host *host;
	const struct priv_template_spec *spec;
	int tar_fd, log_fd;
	char tmp[PRIV_ID_MAX + 32]; /* name below the templates */
	char root[PRIV_PATH_MAX + PRIV_ID_MAX + 64];
};

static int install_packages(struct build *b, struct err *e)
{
	const char *argv[16 + APT_LINES_MAX] = {"mmdebstrap",
						"--mode=root",
						"--variant=minbase",
						"--format=directory",
						"--dpkgopt=path-exclude=/usr/share/doc/*",
						"--dpkgopt=path-include=/usr/share/doc/*/copyright",
						"--dpkgopt=path-exclude=/usr/share/man/*",
						"--dpkgopt=path-exclude=/usr/share/locale/*"};
	AUTO(str_free) char *include = str_printf("--include=%s", b->spec->packages);
	struct apt_sources sources;
	char codename[64], *p;
	unsigned i, n = 8;
	int r;

	apt_codename(codename, sizeof(codename));
	r = apt_read("/etc/apt", codename, &sources, e);
	if (r < 0)
		return r;
	for (p = include; *p; p++)
		if (*p == ' ')
			*p = ',';
	argv[n++] = include;
	argv[n++] = sources.suite;
	argv[n++] = b->root;
	for (i = 0; i < sources.n; i++)
		argv[n++] = sources.lines[i];
	/* It mounts things in the new tree: let them be its own. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, -errno, "mount namespace");
	return run_program(argv, -1, b->log_fd, clock_after_ms(BUILD_S * 1000ULL), e);
}

/* In a child, since the fence cannot be taken down again. */
static int unpack(struct build *b, int root, struct err *e)
{
	struct stat st;
	/* tar recognises a compressed archive only where it can seek. */
	bool file = fstat(b->tar_fd, &st) == 0 && S_ISREG(st.st_mode);
	const char *argv[] = {"tar",
			      "-x",
			      "-f",
			      file ? "/proc/self/fd/0" : "-",
			      "-C",
			      b->root,
			      "--numeric-owner",
			      "--same-owner",
			      "--same-permissions",
			      "--xattrs",
			      "--xattrs-include=*",
			      "--anchored", /* no other directory that is called so */
			      "--exclude=dev/*",
			      "--exclude=./dev/*",
			      "--exclude=/dev/*",
			      NULL};
	pid_t pid = fork();
	int r;

	if (pid < 0)
		return err_sys(e, -errno, "fork");
	if (pid == 0) {
		struct err ee = ERR_NULL;

		if (fence_unpacking(root, &ee) < 0 ||
		    run_program(argv, b->tar_fd, b->log_fd, clock_after_ms(BUILD_S * 1000ULL), &ee) < 0) {
			dprintf(b->log_fd, "%s\n", ee.text);
			_exit(1);
		}
		_exit(0);
	}
	r = run_wait(pid, CLOCK_NEVER);
	if (r != 0)
		return err_set(e, r < 0 ? r : -EIO, "bad-archive",
			       "the archive could not be unpacked (see the lines above)");
	return 0;
}

static void set_aside(struct host *h, const char *name, const char *stem)
{
	char old[PRIV_ID_MAX + 48];
	struct stat st;

	if (fstatat(h->templates, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (!box_uses_template(h, st.st_ino)) {
		(void)!tree_remove(h->templates, name);
		return;
	}
	snprintf(old, sizeof(old), ".%s.old-%llx", stem, (unsigned long long)clock_wall());
	(void)!renameat(h->templates, name, h->templates, old);
}

static int publish(struct build *b, struct err *e)
{
	const char *name = b->spec->name;
	int t = b->host->templates;

	if (renameat2(t, b->tmp, t, name, RENAME_NOREPLACE) == 0)
		return fsync(t) < 0 ? err_sys(e, -errno, "template %s", name) : 0;
	if (errno != EEXIST)
		return err_sys(e, -errno, "template %s", name);
	if (!b->spec->replace)
		return err_set(e, -EEXIST, "template-exists", "template %s is there already", name);
	if (renameat2(t, b->tmp, t, name, RENAME_EXCHANGE) < 0 || fsync(t) < 0)
		return err_sys(e, -errno, "template %s", name);
	set_aside(b->host, b->tmp, name);
	return 0;
}

static int build_all(struct build *b, struct err *e)
{
	AUTO(fd_close) int dir = -1;
	AUTO(fd_close) int root = -1;
	int r;

	(void)!tree_remove(b->host->templates, b->tmp);
	if (mkdirat(b->host->templates, b->tmp, 0700) < 0)
		return err_sys(e, -errno, "template %s", b->spec->name);
	dir = openat(b->host->templates, b->tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || mkdirat(dir, "root", 0755) < 0)
		return err_sys(e, -errno, "template %s", b->spec->name);
	root = openat(dir, "root", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return err_sys(e, -errno, "template %s", b->spec->name);
	r = b->tar_fd >= 0 ? unpack(b, root, e) : install_packages(b, e);
	if (r == 0)
		r = finish_root(root, e);
	if (r == 0 && (fchown(root, 0, 0) < 0 || fchmod(root, 0755) < 0 || syncfs(root) < 0))
		r = err_sys(e, -errno, "template %s", b->spec->name);
	return r == 0 ? publish(b, e) : r;
}

static NORETURN void build_run(struct build *b)
{
	struct err e = ERR_NULL;

	run_child();
	fd_close(&b->host->sock); /* or the daemon would not hear of the death of our parent */
	prctl(PR_SET_NAME, "berth-template", 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	setpgid(0, 0);
	if (build_all(b, &e) == 0) {
		dprintf(b->log_fd, "berth: ok\n");
		_exit(0);
	}
	(void)!tree_remove(b->host->templates, b->tmp);
	dprintf(b->log_fd, "berth: failed: %s\n", e.text);
	_exit(1);
}

/* --- asked by the daemon --------------------------------------------------------------------------------------------
 */

/* A number may be somebody else's once its process was reaped; the descriptor knows. */
static void forget_if_ended(struct host_build *b)
{
	struct pollfd p = {.fd = b->pidfd, .events = POLLIN};

	if (b->pid > 0 && poll(&p, 1, 0) != 0) {
		b->pid = 0;
		fd_close(&b->pidfd);
	}
}

/* A free place for a build; the places of those that ended are given back. */
static struct host_build *free_place(struct host *h, const char *name, struct err *e)
{
	struct host_build *found = NULL;
	size_t i;

	for (i = 0; i < ARRAY_LEN(h->builds); i++) {
		struct host_build *b = &h->builds[i];

		forget_if_ended(b);
		if (b->pid > 0 && str_eq(b->name, name)) {
			err_set(e, -EBUSY, "template-busy", "template %s is being built", name);
			return NULL;
		}
		if (b->pid <= 0)
			found = b;
	}
	if (!found)
		err_set(e, -EBUSY, "template-busy", "too many templates are being built");
	return found;
}

int template_build(struct host *h, const struct priv_template_spec *spec, int tar_fd, int log_fd, int *ret_pidfd,
		   struct err *e)
{
	struct build b = {.host = h, .spec = spec, .tar_fd = tar_fd, .log_fd = log_fd};
	struct host_build *place;
	struct stat st;
	pid_t pid;
	int pidfd;

	host_reap();
	place = free_place(h, spec->name, e);
	if (!place)
		return -EBUSY;
	if (!spec->replace && fstatat(h->templates, spec->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST, "template-exists", "template %s is there already", spec->name);
	snprintf(b.tmp, sizeof(b.tmp), ".%s.tmp", spec->name);
	snprintf(b.root, sizeof(b.root), "%s/templates/%s/root", h->conf.state_dir, b.tmp);
	pid = fork();
	if (pid == 0)
		build_run(&b);
	if (pid < 0)
		return err_sys(e, -errno, "fork");
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0)
		return err_sys(e, -errno, "build of template %s", spec->name);
	setpgid(pid, pid);
	place->pid = pid;
	place->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
	snprintf(place->name, sizeof(place->name), "%s", spec->name);
	*ret_pidfd = pidfd;
	return 0;
}

int template_remove(struct host *h, const char *name, struct err *e)
{
	struct stat st;
	int r;

	if (fstatat(h->templates, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no-such-template", "there is no template %s", name)
				       : err_sys(e, -errno, "template %s", name);
	if (box_uses_template(h, st.st_ino))
		return err_set(e, -EBUSY, "template-busy", "a sandbox stands on template %s", name);
	r = tree_remove_later(h->templates, name);
	return r < 0 ? err_sys(e, r, "template %s", name) : 0;
}

static bool is_building(struct host *h, const char *name)
{
	char tmp[PRIV_ID_MAX + 32];
	size_t i;

	for (i = 0; i < ARRAY_LEN(h->builds); i++) {
		forget_if_ended(&h->builds[i]);
		snprintf(tmp, sizeof(tmp), ".%s.tmp", h->builds[i].name);
		if (h->builds[i].pid > 0 && str_eq(tmp, name))
			return true;
	}
	return false;
}

void template_sweep(struct host *h)
{
	int fd = openat(h->templates, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	struct stat st;

	tree_sweep(h->templates);
	if (!d) {
		fd_close(&fd);
		return;
	}
	while ((de = readdir(d))) {
		if (de->d_name[0] != '.' || str_starts(de->d_name, ".gone-") || str_eq(de->d_name, ".") ||
		    str_eq(de->d_name, ".."))
			continue;
		if (is_building(h, de->d_name) || fstatat(h->templates, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    box_uses_template(h, st.st_ino))
			continue;
		(void)!tree_remove_later(h->templates, de->d_name);
	}
	closedir(d);
}

void template_stop(struct host *h)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(h->builds); i++) {
		forget_if_ended(&h->builds[i]);
		if (h->builds[i].pid > 0)
			kill(-h->builds[i].pid, SIGKILL);
	}
}
