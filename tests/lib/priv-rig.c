/* SPDX-License-Identifier: Apache-2.0 */
/* See priv-rig.h. The programs that tests run here are the host's own, by argument vector. */
#include "tests/lib/priv-rig.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/priv/run.h"
#include "host/priv/tree.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DAEMON_ID = 64999, GUEST_ID = 64998, RANGES = 64, SLOTS = 900, SH_S = 60 };

static const char *find_program(const char *name)
{
	static const char *const dirs[] = {"/usr/bin", "/bin", "/usr/sbin", "/sbin"};
	static char path[64];
	size_t i;

	for (i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
		if (access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

void rig_init(struct rig *rig)
{
	AUTO(str_free) char *agent = NULL;
	AUTO(str_free) char *real = NULL;
	char self[256];
	ssize_t n;

	*rig = (struct rig){.listen = -1};
	if (geteuid() != 0)
		cr_skip_test("needs root");
	if (!find_program("crun") || !find_program("busybox"))
		cr_skip_test("needs crun and busybox");
	snprintf(rig->dir, sizeof(rig->dir), "/var/tmp/berth-priv-XXXXXX");
	cr_assert_not_null(mkdtemp(rig->dir));
	chmod(rig->dir, 0711);
	snprintf(rig->conf.state_dir, sizeof(rig->conf.state_dir), "%s/state", rig->dir);
	snprintf(rig->conf.mount_dir, sizeof(rig->conf.mount_dir), "%s/mnt", rig->dir);
	snprintf(rig->socket, sizeof(rig->socket), "%s/agent.sock", rig->dir);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	cr_assert_gt(n, 0);
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	agent = str_printf("%s/../lib/stand-in", self);
	real = realpath(agent, NULL);
	cr_assert_not_null(real, "%s is missing", agent);
	cr_assert_eq(str_copy(rig->conf.agent_path, sizeof(rig->conf.agent_path), real), 0);
	rig->conf.uid = rig->conf.gid = DAEMON_ID;
	rig->conf.guest_uid = GUEST_ID;
	rig->conf.guest_gid = DAEMON_ID;
	/* Tests run side by side: each has ids of its own. */
	rig->conf.range_first = (1 + (uid_t)getpid() % SLOTS) * RANGES * 65536;
	rig->conf.ranges = RANGES;
	rig->conf.allow_fake = true;
}

void rig_fork(struct rig *rig)
{
	struct err e = ERR_NULL;

	cr_assert_eq(priv_fork(&rig->conf, &rig->priv, &e), 0, "%s", e.text);
}

void rig_tiny(struct rig *rig)
{
	AUTO(str_free) char *root = str_printf("%s/templates/tiny/root", rig->conf.state_dir);
	AUTO(str_free) char *bin = str_printf("%s/bin", root);
	AUTO(str_free) char *etc = str_printf("%s/etc", root);
	AUTO(str_free) char *usr = str_printf("%s/usr/bin", root);
	AUTO(str_free) char *box = str_printf("%s/busybox", usr);
	const char *copy[] = {"cp", find_program("busybox"), box, NULL};
	const char *install[] = {"chroot", root, "/usr/bin/busybox", "--install", "-s", "/bin", NULL};
	struct err e = ERR_NULL;

	cr_assert_eq(io_mkdir_p(bin, 0755), 0);
	cr_assert_eq(io_mkdir_p(usr, 0755), 0);
	cr_assert_eq(io_mkdir_p(etc, 0755), 0);
	cr_assert_eq(run_program(copy, -1, -1, clock_after_ms(SH_S * 1000), &e), 0, "%s", e.text);
	cr_assert_eq(run_program(install, -1, -1, clock_after_ms(SH_S * 1000), &e), 0, "%s", e.text);
}

void rig_fini(struct rig *rig)
{
	int top;

	priv_close(&rig->priv);
	fd_close(&rig->listen);
	if (!rig->dir[0])
		return;
	top = open("/var/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_expect_eq(tree_remove(top, strrchr(rig->dir, '/') + 1), 0);
	close(top);
	rig->dir[0] = '\0';
}

struct priv_box_spec rig_spec(const char *id)
{
	struct priv_box_spec s = {.kind = PRIV_BOX_OCI,
				  .template_ = "tiny",
				  .memory_b = 64 << 20,
				  .workspace_b = 64 << 20,
				  .cpu_milli = 1000,
				  .pids = 64};

	cr_assert_eq(str_copy(s.id, sizeof(s.id), id), 0);
	return s;
}

void rig_listen(struct rig *rig, int *token)
{
	struct err e = ERR_NULL;
	int fd = memfd_create("token", MFD_CLOEXEC);

	fd_close(&rig->listen);
	unlink(rig->socket);
	cr_assert_eq(io_unix_listen(rig->socket, 0600, &rig->listen, &e), 0, "%s", e.text);
	cr_assert_eq(io_write_full(fd, "0123456789abcdef0123456789abcdef", 32), 0);
	lseek(fd, 0, SEEK_SET);
	*token = fd;
}

int rig_start(struct rig *rig, const struct priv_box_spec *spec, struct priv_box_started *ret, struct err *e)
{
	AUTO(fd_close) int token = -1;
	int r;

	rig_listen(rig, &token);
	r = priv_box_start(rig->priv, spec, rig->listen, token, ret, e);
	fd_close(&rig->listen);
	return r;
}

const char *rig_sh(struct rig *rig, const char *command)
{
	static char out[65536];
	AUTO(str_free) char *line = str_printf("%s\n", command);
	AUTO(fd_close) int fd = -1;
	struct err e = ERR_NULL;
	size_t len = 0;
	ssize_t n;

	cr_assert_eq(io_unix_connect(rig->socket, &fd, &e), 0, "%s", e.text);
	cr_assert_eq(io_write_full(fd, line, strlen(line)), 0);
	while ((n = read(fd, out + len, sizeof(out) - 1 - len)) > 0)
		len += (size_t)n;
	while (len && (out[len - 1] == '\n' || out[len - 1] == ' '))
		len--;
	out[len] = '\0';
	return out;
}

static void census_grep(struct buf *b, const char *file, const char *word)
{
	AUTO(buf_fini) struct buf in;
	char *line, *save = NULL, *text;

	buf_init(&in, 4 << 20);
	if (io_read_file(AT_FDCWD, file, &in) < 0)
		return;
	text = must_strdup(buf_str(&in));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strstr(line, word))
			buf_printf(b, "%s: %s\n", file, line);
	str_free(&text);
}

static void census_dir(struct buf *b, const char *path, bool deep)
{
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		AUTO(str_free) char *sub = str_printf("%s/%s", path, de->d_name);

		if (de->d_name[0] == '.')
			continue;
		if (de->d_type == DT_DIR || strstr(path, "state"))
			buf_printf(b, "entry: %s\n", sub);
		if (deep && de->d_type == DT_DIR)
			census_dir(b, sub, false);
	}
	if (d)
		closedir(d);
}

static bool is_zombie(const char *pid)
{
	AUTO(str_free) char *path = str_printf("/proc/%s/stat", pid);
	AUTO(buf_fini) struct buf b;
	const char *p;

	buf_init(&b, 4096);
	if (io_read_file(AT_FDCWD, path, &b) < 0)
		return true;
	p = strrchr(buf_str(&b), ')');
	return p && p[1] && p[2] == 'Z';
}

/* Processes whose ids lie in the ranges of this rig. One that only waits for the host's init to reap it is gone. */
static void census_processes(struct buf *b, const struct rig *rig)
{
	DIR *d = opendir("/proc");
	struct dirent *de;
	struct stat st;

	while ((de = readdir(d)))
		if (de->d_name[0] >= '0' && de->d_name[0] <= '9' && fstatat(dirfd(d), de->d_name, &st, 0) == 0 &&
		    st.st_uid >= rig->conf.range_first && st.st_uid < rig->conf.range_first + RANGES * 65536 &&
		    !is_zombie(de->d_name))
			buf_printf(b, "process: %s\n", de->d_name);
	closedir(d);
}

char *rig_census(const struct rig *rig)
{
	AUTO(str_free) char *boxes = str_printf("%s/boxes", rig->conf.state_dir);
	AUTO(str_free) char *crun = str_printf("%s/crun", rig->conf.state_dir);
	struct stat st;
	char group[64];
	struct buf b;
	char *text;
	int i;

	buf_init(&b, 1 << 20);
	census_grep(&b, "/proc/self/mountinfo", rig->dir);
	for (i = 0; i < 64; i++) {
		AUTO(str_free) char *file = str_printf("/sys/block/loop%d/loop/backing_file", i);

		census_grep(&b, file, rig->dir);
	}
	if (stat(rig->conf.state_dir, &st) == 0) {
		static const char *const trees[] = {"memory", "cpu", "pids", "freezer", "cpuacct", "unified", "."};
		size_t t;

		snprintf(group, sizeof(group), "berth-%llx-%llx", (unsigned long long)st.st_dev,
			 (unsigned long long)st.st_ino);
		for (t = 0; t < ARRAY_LEN(trees); t++) {
			AUTO(str_free) char *path = str_printf("/sys/fs/cgroup/%s/%s", trees[t], group);

			census_dir(&b, path, false);
		}
	}
	census_dir(&b, boxes, true);
	census_dir(&b, crun, false);
	census_processes(&b, rig);
	text = must_strdup(buf_str(&b));
	buf_fini(&b);
	return text;
}
