/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a sandbox: the parts that outlive the making are made here (directory, images, control groups, record),
 * those that live in its namespace by the maker, a child. A step that fails ends the start; what was made until then is
 * taken away by box_end(), which finds everything by the id.
 */
#include "host/priv/box.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/priv/base.h"
#include "host/priv/fake.h"
#include "host/priv/idmap.h"
#include "host/priv/image.h"
#include "host/priv/maker.h"
#include "host/priv/net.h"
#include "host/priv/record.h"
#include "host/priv/run.h"
#include "host/priv/weak.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUNTIME_S = 30, AFTER_MAKER = 3 };

static const uint64_t ROOT_B =
	8ULL * 1024 * 1024 * 1024; /* most that a sandbox may write outside of /workspace and /tmp */

static int injected(const struct host *h, unsigned step, struct err *e)
{
	return h->fail_at == step ? err_set(e, -EIO, "injected", "asked to fail at step %u", step) : 0;
}

static int make_files(const struct host *h, const struct priv_box_spec *spec, int dir, struct err *e)
{
	static const char *const points[] = {"ws", "disk", "low", "root"};
	size_t i;
	int r;

	for (i = 0; i < ARRAY_LEN(points); i++)
		if (mkdirat(dir, points[i], 0711) < 0)
			return err_sys(e, -errno, "directory of the sandbox");
	if (spec->again) /* image_mount() says when one is missing */
		return 0;
	r = spec->laid ? base_take(h, spec->id, PRIV_DISK_WORKSPACE, dir, e)
		       : image_make(h, IMAGE_WORKSPACE, spec->workspace_b, dir, "ws.img", e);
	if (r == 0)
		r = spec->root == PRIV_ROOT_LAID ? base_take(h, spec->id, PRIV_DISK_ROOT, dir, e)
						 : image_make(h, IMAGE_ROOT, ROOT_B, dir, "root.img", e);
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
	int userns = -1, netns = -1, r = spec->net ? net_take(h, spec->range, &userns, &netns, e) : 0;
	struct maker m = { .host = *h,
			   .spec = spec,
			   .listen_fd = listen_fd,
			   .token_fd = token_fd,
			   .report = report,
			   .place_userns = userns,
			   .place_netns = netns,
			   .base = weak(WEAK_IDS) || weak(WEAK_USERNS)
					   ? 0
					   : h->conf.range_first + spec->range * IDMAP_LEN };
	pid_t pid;

	if (r < 0)
		return r;
	pid = fork();
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
	struct cgroup_limits limits = {.memory_b = spec->memory_b, .cpu_milli = spec->cpu_milli, .pids = spec->pids};
	uint64_t begun = clock_now(), files;
	int r = make_files(h, spec, dir, e);

	if (weak(WEAK_MEMORY))
		limits.memory_b *= 1024;
	if (weak(WEAK_PIDS))
		limits.pids *= 16;
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
	if (r == 0)
		r = record_start_time(rec->pid, &rec->start);
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

/* Both disks are there, and nobody uses them. */
static bool is_kept(const struct host *h, const char *id)
{
	AUTO(fd_close) int dir = openat(h->boxes, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return dir >= 0 && faccessat(dir, "record", F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	       faccessat(dir, "ws.img", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	       faccessat(dir, "root.img", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int box_start(struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd,
	      struct priv_box_started *ret, struct err *e)
{
	struct maker_report *report;
	struct record rec = RECORD_NULL;
	AUTO(fd_close) int dir = -1;
	int r;

	/* Two sandboxes with the same ids would not be fenced off from each other: not left to the daemon's books. */
	if (spec->kind == PRIV_BOX_OCI && box_uses_range(h, spec->range))
		return err_set(e, -EBUSY, "range-busy", "id range %u belongs to another sandbox", spec->range);
	if (spec->again ? !is_kept(h, spec->id) : mkdirat(h->boxes, spec->id, 0711) < 0)
		return spec->again ? err_set(e, -ENOENT, "no-disks", "the disks of sandbox %s are not there", spec->id)
		       : errno == EEXIST ? err_set(e, -EEXIST, "box-exists", "sandbox %s is there already", spec->id)
				       : err_sys(e, -errno, "directory of the sandbox");
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
		if (!report->fanotify && spec->kind == PRIV_BOX_OCI)
			log_warn("priv", "no fanotify group for a sandbox: it watches directories one by one",
				 "id=%s errno=%s", spec->id, err_name(report->watch_errno));
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
		if (spec->net)
			net_give_back(h, spec->range);
		if (box_end(h, spec->id, spec->again ? PRIV_DISK_BOTH : PRIV_DISK_NONE, &ee) < 0)
			log_warn("priv", "a failed start left something behind", "id=%s why=%s", spec->id, ee.text);
	}
	if (report != MAP_FAILED)
		munmap(report, sizeof(*report));
	return r;
}
