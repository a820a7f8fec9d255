/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a sandbox can always be found from its id: its directory, its control groups, the runtime's state. So
 * there is one function that takes all of it away, whatever is there, and it serves for the end, for a start that failed
 * at any point, and for what a dead daemon left. It kills first (the control group, in one step where the kernel can),
 * then waits for the kernel to let go of the images, and removes the files last.
 *
 * The record in the directory says which process is the agent. A process number alone may have been given to somebody
 * else; with the moment of its start it is an identity. Records need not survive a power loss: nothing they name does.
 */
#include "host/priv/box.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/priv/fake.h"
#include "host/priv/idmap.h"
#include "host/priv/image.h"
#include "host/priv/maker.h"
#include "host/priv/record.h"
#include "host/priv/run.h"
#include "host/priv/template.h"
#include "host/priv/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUNTIME_S = 30, AFTER_MAKER = 3 };

static const uint64_t ROOT_B = 8ULL * 1024 * 1024 * 1024; /* most that a sandbox may write outside of /workspace and /tmp */

static int injected(const struct host *h, unsigned step, struct err *e)
{
	return h->fail_at == step ? err_set(e, -EIO, "injected", "asked to fail at step %u", step) : 0;
}

static int make_files(const struct host *h, const struct priv_box_spec *spec, int dir, struct err *e)
{
	static const char *const points[] = { "ws", "disk", "low", "root" };
	size_t i;
	int r;

	for (i = 0; i < ARRAY_LEN(points); i++)
		if (mkdirat(dir, points[i], 0711) < 0)
			return err_sys(e, -errno, "directory of the sandbox");
	r = image_make(h, IMAGE_WORKSPACE, spec->workspace_b, dir, "ws.img", e);
	if (r == 0)
		r = image_make(h, IMAGE_ROOT, ROOT_B, dir, "root.img", e);
	return r;
}

/* The maker ended: with the runtime's status, or with a reason of its own. */
static int judge(const struct maker_report *report, int status, int dir, struct err *e)
{
	AUTO(fd_close) int log = -1;
	char words[160] = "";

	if (report->err.code) {
		if (e)
			*e = report->err;
		return report->err.code;
	}
	if (status == 0)
		return 0;
	log = openat(dir, "crun.log", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (log >= 0)
		run_last_words(log, words, sizeof(words));
	if (status == -ETIMEDOUT)
		return err_set(e, status, "runtime-slow", "the runtime did not start the sandbox in time: %s", words);
	return err_set(e, status < 0 ? status : -EIO, "runtime-failed", "the runtime ended with %d: %s", status, words);
}

static int run_maker(struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd, int dir,
		     struct maker_report *report, struct err *e)
{
	struct maker m = { .host = *h,
			   .spec = spec,
			   .listen_fd = listen_fd,
			   .token_fd = token_fd,
			   .report = report,
			   .base = h->conf.range_first + spec->range * IDMAP_LEN };
	pid_t pid = fork();

	if (pid < 0)
		return err_sys(e, -errno, "fork");
	if (pid == 0)
		maker_run(&m);
	return judge(report, run_wait(pid, clock_after_ms(RUNTIME_S * 1000)), dir, e);
}

static void log_steps(const char *id, const struct maker_report *r, uint64_t begun, uint64_t files)
{
	uint64_t end = clock_now();
	unsigned i;

	log_debug("priv", "step", "id=%s step=files us=%llu", id, (unsigned long long)(files - begun) / 1000);
	for (i = 0; i < r->steps; i++)
		log_debug("priv", "step", "id=%s step=%s us=%llu", id, maker_step_name(i),
			  (unsigned long long)((i + 1 < r->steps ? r->at[i + 1] : end) - r->at[i]) / 1000);
	log_debug("priv", "sandbox started", "id=%s us=%llu", id, (unsigned long long)(end - begun) / 1000);
}

static int read_pid(int dir, pid_t *ret)
{
	AUTO(buf_fini) struct buf b;
	uint64_t pid;
	int r;

	buf_init(&b, 32);
	r = io_read_file(dir, "pid", &b);
	if (r == 0)
		r = num_u64(buf_str(&b), INT32_MAX, &pid);
	if (r == 0)
		*ret = (pid_t)pid;
	return r;
}

static int start_oci(struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd, int dir,
		     struct maker_report *report, struct record *rec, struct err *e)
{
	struct cgroup_limits limits = { .memory_b = spec->memory_b, .cpu_milli = spec->cpu_milli, .pids = spec->pids };
	uint64_t begun = clock_now(), files;
	int r = make_files(h, spec, dir, e);

	if (r == 0)
		r = injected(h, maker_steps() + 1, e);
	if (r == 0)
		r = cgroup_make(&h->cgroups, spec->id, &limits, e);
	files = clock_now();
	if (r == 0)
		r = run_maker(h, spec, listen_fd, token_fd, dir, report, e);
	if (r < 0)
		return r;
	r = read_pid(dir, &rec->pid);
	if (r < 0)
		return err_sys(e, r, "the runtime's pid file");
	r = injected(h, maker_steps() + 2, e);
	if (r < 0)
		return r;
	log_steps(spec->id, report, begun, files);
	rec->loops[0] = report->loops[0];
	rec->loops[1] = report->loops[1];
	rec->template_ino = report->template_ino;
	rec->range = spec->range;
	return 0;
}

/* The runtime has ended and its container's first process is our child now: until we reap it its number is its own. */
static int finish_start(const struct host *h, const struct priv_box_spec *spec, int dir, struct record *rec,
			struct priv_box_started *ret, struct err *e)
{
	AUTO(fd_close) int pidfd = pidfd_open(rec->pid, 0);
	int r;

	if (pidfd < 0)
		return err_sys(e, -errno, "the agent ended at once");
	rec->kind = spec->kind;
	r = record_start_time(rec->pid, &rec->start);
	if (r == 0)
		r = record_write(dir, rec);
	if (r < 0)
		return err_sys(e, r, "record of the sandbox");
	r = injected(h, maker_steps() + AFTER_MAKER, e);
	if (r < 0)
		return r;
	ret->pid = rec->pid;
	ret->pidfd = fd_take(&pidfd);
	return 0;
}

static int check_free(const struct host *h, const struct priv_box_spec *spec, struct err *e);

int box_start(struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd,
	      struct priv_box_started *ret, struct err *e)
{
	struct maker_report *report;
	struct record rec = RECORD_NULL;
	AUTO(fd_close) int dir = -1;
	int r = check_free(h, spec, e);

	if (r < 0)
		return r;
	if (mkdirat(h->boxes, spec->id, 0711) < 0)
		return errno == EEXIST ? err_set(e, -EEXIST, "box-exists", "sandbox %s is there already", spec->id) :
					 err_sys(e, -errno, "directory of the sandbox");
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dir = openat(h->boxes, spec->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || report == MAP_FAILED) {
		r = err_sys(e, -errno, "directory of the sandbox");
	} else {
		report->loops[0] = report->loops[1] = -1;
		if (spec->kind == PRIV_BOX_FAKE)
			r = fake_start(h, spec, listen_fd, token_fd, dir, &rec, e);
		else
			r = start_oci(h, spec, listen_fd, token_fd, dir, report, &rec, e);
		if (r == 0)
			r = finish_start(h, spec, dir, &rec, ret, e);
	}
	if (r == 0) {
		ret->fanotify = report->fanotify;
		ret->uid_base = spec->kind == PRIV_BOX_OCI ? h->conf.range_first + spec->range * IDMAP_LEN : 0;
	} else {
		struct err ee = ERR_NULL;

		/* The record may not be there yet; what it would say is needed to wait for the images. */
		if (dir >= 0 && report != MAP_FAILED) {
			rec.loops[0] = report->loops[0];
			rec.loops[1] = report->loops[1];
			(void)!record_write(dir, &rec);
		}
		if (box_end(h, spec->id, false, &ee) < 0)
			log_warn("priv", "a failed start left something behind", "id=%s why=%s", spec->id, ee.text);
	}
	if (report != MAP_FAILED)
		munmap(report, sizeof(*report));
	return r;
}

/* Files of a sandbox in its directory; the mount points are empty on this side. */
static int remove_files(const struct host *h, const char *id, bool keep_image, struct err *e)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (dir < 0)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "directory of %s", id);
	r = tree_empty(dir, keep_image ? "ws.img" : NULL);
	if (r == 0 && !(keep_image && faccessat(dir, "ws.img", F_OK, AT_SYMLINK_NOFOLLOW) == 0) &&
	    unlinkat(h->boxes, id, AT_REMOVEDIR) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "removing the directory of %s", id) : 0;
}

static int release_images(const struct host *h, const char *id, struct err *e)
{
	static const char *const names[] = { "ws.img", "root.img" };
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

int box_end(struct host *h, const char *id, bool keep_image, struct err *e)
{
	int r = cgroup_kill(&h->cgroups, id, e);

	if (r == 0)
		r = cgroup_remove(&h->cgroups, id, e);
	if (r == 0)
		r = remove_runtime_state(h, id, e);
	if (r == 0)
		r = release_images(h, id, e);
	if (r == 0)
		r = remove_files(h, id, keep_image, e);
	host_reap();
	return r;
}

static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

int box_alive(struct host *h, const char *id, int *ret_pidfd, struct err *e)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO(fd_close) int pidfd = -1;
	struct record rec = RECORD_NULL;
	uint64_t start;

	if (dir < 0)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "directory of %s", id);
	host_reap();
	if (record_read(dir, &rec) < 0 || rec.pid <= 0)
		return 0;
	pidfd = pidfd_open(rec.pid, 0);
	if (pidfd < 0)
		return 0;
	/* Read after the descriptor was taken: if it is this process now, the descriptor is its. One that has ended but was
	 * not reaped yet (by us, or by the host's init after a restart) does not count. */
	if (record_start_time(rec.pid, &start) < 0 || start != rec.start || has_ended(pidfd))
		return 0;
	*ret_pidfd = fd_take(&pidfd);
	return 1;
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

/* Two sandboxes with the same ids would not be fenced off from each other: that is not left to the daemon's books. */
static int check_free(const struct host *h, const struct priv_box_spec *spec, struct err *e)
{
	uint32_t range = spec->range;

	if (spec->kind == PRIV_BOX_OCI && each_box(h, same_range, &range))
		return err_set(e, -EBUSY, "range-busy", "id range %u belongs to another sandbox", range);
	return 0;
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

static int sweep_one(void *ctx, const char *id)
{
	struct sweep *s = ctx;
	size_t i;
	int r;

	for (i = 0; i < s->n; i++)
		if (str_eq(s->keep[i], id))
			return 0;
	r = box_end(s->host, id, false, s->e);
	if (r < 0)
		s->result = r; /* the others go on */
	return 0;
}

static int sweep_box(void *ctx, const char *id, const struct record *rec UNUSED)
{
	return sweep_one(ctx, id);
}

int box_sweep(struct host *h, const char (*keep)[PRIV_ID_MAX + 1], size_t n, struct err *e)
{
	struct sweep s = { .host = h, .keep = keep, .n = n, .e = e };

	each_box(h, sweep_box, &s);
	cgroup_each(&h->cgroups, sweep_one, &s);
	return s.result;
}
