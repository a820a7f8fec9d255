/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's file systems exist only in a mount namespace that this process makes for it: the workspace's image, the
 * writable layer's image, the template seen through the sandbox's ids, the overlay of both. The runtime starts from
 * there, its container keeps a copy of the mounts that it needs, and this process ends. So nothing is ever mounted on
 * the host, one sandbox cannot see another's mounts, and undoing is not a list of unmounts that may fail half way: when
 * the last process of the namespace dies, the kernel takes the mounts and the loop devices away, also if it was us.
 *
 * The steps are a table, in order; the first failure ends the process with its reason in the shared report. The process
 * enters the sandbox's control groups first, so that all it costs is charged there.
 *
 * Descriptors of directories that were opened before the namespace was made belong to the host's mounts and cannot be
 * mounted on; they are opened again.
 */
#include "host/priv/maker.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/bundle.h"
#include "host/priv/idmap.h"
#include "host/priv/image.h"
#include "host/priv/record.h"
#include "host/priv/run.h"
#include "host/priv/template.h"
#include "host/priv/tree.h"
#include "host/priv/weak.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	USER_ID = 1000,
	FD_LISTEN = 3,
	FD_TOKEN = 4,
	FD_FANOTIFY = 5,
	FD_OOM = 6,
	FD_USERNS = 7,
	FD_NETNS = 8,
	FD_HIGH = 32
};

#define USERNS_PATH "/proc/self/fd/7"
#define NETNS_PATH "/proc/self/fd/8"

/* Written by who may lower it, it is also the lowest that all who descend from here may ever set; the runtime writes it
 * as root of the sandbox, and that root could take it back. */
static int set_oom_score(void)
{
	AUTO(fd_close) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", BUNDLE_OOM_SCORE);

	return fd < 0 ? -errno : io_write_full(fd, text, (size_t)n);
}

static int step_cgroup(struct maker *m, struct err *e)
{
	int r = weak(WEAK_SCORE) ? 0 : set_oom_score();

	if (r < 0)
		return err_sys(e, r, "oom_score_adj");
	m->oom_fd = cgroup_oom_open(&m->host.cgroups, m->spec->id);
	return cgroup_enter(&m->host.cgroups, m->spec->id, e);
}

static int step_namespace(struct maker *m, struct err *e)
{
	AUTO(str_free) char *box = str_printf("%s/boxes/%s", m->host.conf.state_dir, m->spec->id);
	unsigned i;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, -errno, "mount namespace");
	/* The runtime refuses a version 2 tree beside version 1 trees. It has no business with any of them. */
	for (i = 0; i < m->host.cgroups.n; i++)
		if (m->host.cgroups.trees[i].unified && m->host.cgroups.n > 1)
			(void)!umount2(m->host.cgroups.trees[i].path, MNT_DETACH);
	if (chdir(box) < 0)
		return err_sys(e, -errno, "%s", box);
	return host_reopen(&m->host, e);
}

struct mounting {
	enum image_kind kind;
	const char *name;
	int *mount, *loop;
	struct err e;
	int r;
};

static void *mount_one(void *ctx)
{
	struct mounting *m = ctx;

	m->r = image_mount(m->kind, AT_FDCWD, m->name, m->mount, m->loop, &m->e);
	return NULL;
}

/* Most of it is waiting, for the loop device and for the first blocks: both at a time. */
static int step_images(struct maker *m, struct err *e)
{
	struct mounting ws = {.kind = IMAGE_WORKSPACE, .name = "ws.img"};
	struct mounting disk = {.kind = IMAGE_ROOT, .name = "root.img"};
	pthread_t thread;
	bool has_thread;

	ws.mount = &m->workspace;
	ws.loop = &m->report->loops[0];
	disk.mount = &m->disk;
	disk.loop = &m->report->loops[1];
	has_thread = pthread_create(&thread, NULL, mount_one, &disk) == 0;
	mount_one(&ws);
	if (has_thread)
		pthread_join(thread, NULL);
	else
		mount_one(&disk);
	if (ws.r == 0 && disk.r == 0)
		return 0;
	*e = ws.r < 0 ? ws.e : disk.e;
	return ws.r < 0 ? ws.r : disk.r;
}

static int step_workspace(struct maker *m, struct err *e)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)m->userns};
	uid_t owner = m->base + USER_ID;

	/* What is on the disk are the guest's own ids, whatever its range: so a copy of it serves another sandbox. */
	if (mount_setattr(m->workspace, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_set(e, -errno, "no-idmap", "mapping the ids of the workspace: %s", err_name(errno));
	if (unlinkat(m->workspace, "lost+found", AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(e, -errno, "lost+found");
	if ((!m->spec->laid && !m->spec->again && fchownat(m->workspace, "", owner, owner, AT_EMPTY_PATH) < 0) ||
	    move_mount(m->workspace, "", AT_FDCWD, "ws", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, -errno, "workspace");
	return 0;
}

/* Root of the sandbox, as the disk of the writable layer has it. */
static uid_t disk_root(const struct maker *m)
{
	return m->spec->root == PRIV_ROOT_PLAIN ? m->base : 0;
}

static int put_file(struct maker *m, int dir, const char *name, const char *text)
{
	AUTO(fd_close) int fd = -1;

	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 || fchown(fd, disk_root(m), disk_root(m)) < 0)
		return -errno;
	return io_write_full(fd, text, strlen(text));
}

static int put_dir(struct maker *m, int at, const char *name, int *ret)
{
	bool made = mkdirat(at, name, 0755) == 0;

	if (!made && errno != EEXIST)
		return -errno;
	*ret = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret < 0 || (made && fchown(*ret, disk_root(m), disk_root(m)) < 0))
		return -errno;
	return 0;
}

/* One that was kept has what a guest made in it: names are opened without following, and what is no directory where one
 * must be ends the start. What the overlay of another time left in its own directory goes. sudo waits for a resolver
 * unless it finds the host name in this file. */
static int fill_upper(struct maker *m)
{
	static const char resolver[] = "nameserver 198.19.0.1\n"; /* the router: net-plan.c */
	AUTO(str_free)
	char *hosts = str_printf("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t%s\n", m->spec->id);
	AUTO(str_free) char *name = str_printf("%s\n", m->spec->id);
	AUTO(fd_close) int upper = -1;
	AUTO(fd_close) int work = -1;
	AUTO(fd_close) int etc = -1;
	int r = m->spec->root == PRIV_ROOT_LAID || m->spec->again ? tree_remove(m->disk, "work") : 0;

	if (r == 0 || r == -ENOENT)
		r = put_dir(m, m->disk, "upper", &upper);

	if (r == 0)
		r = put_dir(m, m->disk, "work", &work);
	if (r == 0)
		r = put_dir(m, upper, "etc", &etc);
	if (r == 0)
		r = put_file(m, etc, "hosts", hosts);
	if (r == 0)
		r = put_file(m, etc, "hostname", name);
	if (r == 0)
		r = put_file(m, etc, "resolv.conf", m->spec->net ? resolver : "");
	return r;
}

static int map_disk(struct maker *m, struct err *e)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
	AUTO(fd_close) int userns = -1;
	int r = idmap_disk(m->base, &userns, e);

	attr.userns_fd = (unsigned)userns;
	if (r == 0 && mount_setattr(m->disk, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		r = err_set(e, -errno, "no-idmap", "mapping the ids of the writable layer: %s", err_name(errno));
	return r;
}

static int step_disk(struct maker *m, struct err *e)
{
	int r = fill_upper(m);

	if (r < 0)
		return err_sys(e, r, "writable layer");
	if (m->spec->root != PRIV_ROOT_PLAIN)
		r = map_disk(m, e);
	if (r < 0)
		return r;
	if (move_mount(m->disk, "", AT_FDCWD, "disk", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, -errno, "writable layer");
	return 0;
}

static int step_idmap(struct maker *m, struct err *e)
{
	/* A network was made ahead, together with the namespace of ids that it belongs to. */
	if (m->place_userns < 0)
		return idmap_new(m->base, &m->userns, NULL, e);
	m->userns = fcntl(m->place_userns, F_DUPFD_CLOEXEC, 0);
	m->netns = fcntl(m->place_netns, F_DUPFD_CLOEXEC, 0);
	return m->userns < 0 || m->netns < 0 ? err_sys(e, -errno, "network") : 0;
}

static int step_template(struct maker *m, struct err *e)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY |
					     (weak(WEAK_DEVICES) ? 0 : MOUNT_ATTR_NODEV),
				  .userns_fd = (unsigned)m->userns};
	AUTO(fd_close) int root = -1;
	AUTO(fd_close) int tree = -1;
	int r = template_open(&m->host, m->spec->template_, &root, &m->report->template_ino, e);

	if (r < 0)
		return r;
	tree = open_tree(root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return err_sys(e, -errno, "template %s", m->spec->template_);
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_set(e, -errno, "no-idmap",
			       "mapping the ids of template %s: %s (does its file system support it?)",
			       m->spec->template_, err_name(errno));
	if (move_mount(tree, "", AT_FDCWD, "low", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, -errno, "template %s", m->spec->template_);
	return 0;
}

/* volatile: nothing of the layer is wanted after a crash, so fsync in it costs nothing (package managers love fsync).
 */
static int step_overlay(struct maker *m UNUSED, struct err *e)
{
	static const char *const options[] = {"lowerdir=low,upperdir=disk/upper,workdir=disk/work,volatile",
					      "lowerdir=low,upperdir=disk/upper,workdir=disk/work"};
	size_t i;

	for (i = 0; i < ARRAY_LEN(options); i++)
		if (mount("overlay", "root", "overlay", weak(WEAK_DEVICES) ? 0 : MS_NODEV, options[i]) == 0)
			return 0;
	return err_sys(e, -errno, "overlay");
}

/* A group that is marked on a whole file system can only be made outside of the user namespace. How many groups a user
 * may have (128 by default) is counted by the effective id: let that be the range's for the moment, without the loss of
 * capabilities that comes with it otherwise. */
static int step_watch(struct maker *m, struct err *e)
{
	const unsigned flags =
		FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK | FAN_CLOEXEC | FAN_UNLIMITED_QUEUE;
	const uint64_t mask =
		FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_CLOSE_WRITE | FAN_MODIFY | FAN_ATTRIB | FAN_ONDIR;
	AUTO(fd_close) int top = openat(m->workspace, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(fd_close) int fan = -1;

	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0 && seteuid(m->base) == 0)
		fan = fanotify_init(flags, O_RDONLY | O_CLOEXEC | O_LARGEFILE);
	m->report->watch_errno = errno;
	if (seteuid(0) < 0 || prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) < 0)
		return err_sys(e, -errno, "user");
	if (fan >= 0 && top >= 0 && fanotify_mark(fan, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, top, NULL) < 0) {
		m->report->watch_errno = errno;
		fd_close(&fan);
	}
	/* An older kernel: the agent falls back to watching directories by itself. */
	if (fan < 0 || top < 0)
		return 0;
	m->report->fanotify = true;
	m->fan_fd = fd_take(&fan);
	return 0;
}

static int mount_volume(struct maker *m, uint32_t i, struct err *e)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)m->userns};
	const char *id = m->spec->volumes[i].box;
	AUTO(fd_close) int dir = openat(m->host.boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int tree = -1;
	struct record rec = RECORD_NULL;
	char to[16];
	int r = dir < 0 ? -errno : record_read(dir, &rec);

	if (r == 0)
		r = image_share(dir, "ws.img", rec.loops[0], &tree, e);
	if (r == 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		r = -errno;
	snprintf(to, sizeof(to), "vol%u", i);
	if (r == 0 && (mkdir(to, 0711) < 0 || move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0))
		r = -errno;
	return r < 0 ? err_set(e, r, "no-volume", "the volume for %.100s cannot be mounted: %s",
			       m->spec->volumes[i].path, err_name(r))
		     : 0;
}

static int step_volumes(struct maker *m, struct err *e)
{
	uint32_t i;
	int r = 0;

	for (i = 0; r == 0 && i < m->spec->n_volumes; i++)
		r = mount_volume(m, i, e);
	return r;
}

static int step_bundle(struct maker *m, struct err *e)
{
	AUTO(str_free) char *box = str_printf("%s/boxes/%s", m->host.conf.state_dir, m->spec->id);
	AUTO(str_free) char *root = str_printf("%s/root", box);
	AUTO(str_free) char *ws = str_printf("%s/boxes/%s/ws", m->host.conf.state_dir, m->spec->id);
	AUTO(str_free) char *agent = str_printf("%s/agent", m->host.conf.state_dir);
	AUTO(fd_close) int fd = openat(AT_FDCWD, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	AUTO(buf_fini) struct buf b;
	struct bundle bundle = {.id = m->spec->id,
				.root = root,
				.workspace = ws,
				.agent = agent,
				.userns = USERNS_PATH,
				.netns = m->netns >= 0 ? NETNS_PATH : NULL,
				.uid_base = m->base,
				.memory_b = m->spec->memory_b,
				.box = box,
				.n_volumes = m->spec->n_volumes,
				.volumes = m->spec->volumes,
				.fanotify = m->fan_fd >= 0,
				.oom = m->oom_fd >= 0};
	int r;

	if (weak(WEAK_EXE))
		(void)!chmod(agent, 0777);
	buf_init(&b, 256 * 1024);
	r = bundle_write(&bundle, &b);
	if (r == 0 && fd < 0)
		r = -errno;
	if (r == 0)
		r = io_write_full(fd, buf_span(&b).p, buf_len(&b));
	return r < 0 ? err_sys(e, r, "description of the sandbox") : 0;
}

/* The runtime gives its standard descriptors to root of the sandbox with fchown(2): by way of a mount of our own that
 * is read-only it cannot (and does not mind), else that root owned the host's /dev/null and could take it from
 * everybody. Devices can be written to on such a mount all the same. */
static int open_null(void)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	AUTO(fd_close) int tree = open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	char path[32];
	int fd;

	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", tree);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Move the descriptors that are handed on to the numbers they are promised at. They are lifted out of the way first,
 * since each of them may stand where another one has to go. */
static int place_fds(struct maker *m)
{
	const int to[] = {FD_LISTEN, FD_TOKEN, FD_FANOTIFY, FD_OOM, FD_USERNS, FD_NETNS};
	int from[] = {m->listen_fd, m->token_fd, m->fan_fd, m->oom_fd, m->userns, m->netns};
	int null = open_null();
	size_t i;

	if (null < 0)
		return null;
	for (i = 0; i < ARRAY_LEN(from); i++) {
		/* Without a group its number must not be left to chance. */
		from[i] = fcntl(from[i] >= 0 ? from[i] : null, F_DUPFD_CLOEXEC, FD_HIGH);
		if (from[i] < 0)
			return -errno;
	}
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		return -errno;
	for (i = 0; i < ARRAY_LEN(to); i++)
		if (dup2(from[i], to[i]) < 0)
			return -errno;
	if (weak(WEAK_LEAK))
		(void)!dup2(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), FD_NETNS); /* instead of a network */
	return close_range(FD_HIGH, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

static int step_runtime(struct maker *m, struct err *e)
{
	AUTO(str_free) char *root = str_printf("--root=%s/crun", m->host.conf.state_dir);
	AUTO(str_free) char *log = str_printf("--log=%s/boxes/%s/crun.log", m->host.conf.state_dir, m->spec->id);
	AUTO(str_free) char *bundle = str_printf("--bundle=%s/boxes/%s", m->host.conf.state_dir, m->spec->id);
	AUTO(str_free) char *pid = str_printf("--pid-file=%s/boxes/%s/pid", m->host.conf.state_dir, m->spec->id);
	const char *argv[] = {
		"crun", root, log, "--cgroup-manager=disabled", "run", "--detach",
		weak(WEAK_LEAK) ? "--preserve-fds=6" : "--preserve-fds=4", bundle, pid, m->spec->id, NULL};
	int r = place_fds(m);

	if (r == 0) {
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		r = -errno;
	}
	if (r == -ENOENT)
		return err_set(e, r, "no-crun", "the runtime crun is not installed");
	return err_sys(e, r, "crun");
}

static const struct {
	const char *name;
	int (*fn)(struct maker *m, struct err *e);
} steps[] = {
	{"cgroup", step_cgroup}, {"namespace", step_namespace}, {"idmap", step_idmap}, {"images", step_images},
	{"workspace", step_workspace},
	{"disk", step_disk},	 {"template", step_template},	{"overlay", step_overlay},     {"watch", step_watch},
	{"volumes", step_volumes}, {"bundle", step_bundle}, {"runtime", step_runtime},
};

unsigned maker_steps(void)
{
	return (unsigned)ARRAY_LEN(steps);
}

const char *maker_step_name(unsigned i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : "?";
}

NORETURN void maker_run(struct maker *m)
{
	struct maker_report *report = m->report;
	unsigned i;
	int r;

	run_child();
	m->workspace = m->disk = m->userns = m->netns = m->fan_fd = m->oom_fd = -1;
	for (i = 0; i < ARRAY_LEN(steps); i++) {
		report->at[i] = clock_now();
		report->steps = i + 1;
		if (m->host.fail_at == i + 1)
			r = err_set(&report->err, -EIO, "injected", "asked to fail at step %s", steps[i].name);
		else
			r = steps[i].fn(m, &report->err);
		if (r < 0) {
			if (report->err.code == 0)
				err_sys(&report->err, r, "%s", steps[i].name);
			break;
		}
	}
	_exit(1);
}
