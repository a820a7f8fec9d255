/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as a hostile daemon would send them, and the lives of the two processes. */
#include "base/io.h"
#include "base/str.h"
#include "host/priv/req.h"
#include "tests/lib/priv-rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

RIG_SUITE(priv_serve, 120);

/* Send bytes as they are. Return: the code of the answer. */
static int raw(const void *p, size_t len, const int *fds, size_t n)
{
	int got[2] = {-1, -1};
	size_t room = 2, i;
	struct reply reply;

	cr_assert_eq(io_send_fds(priv_fd(rig.priv), p, len, fds, n), 0);
	cr_assert_eq(io_recv_fds(priv_fd(rig.priv), &reply, sizeof(reply), got, &room), (ssize_t)sizeof(reply));
	for (i = 0; i < room; i++)
		close(got[i]);
	return reply.err.code;
}

static struct req_head head(uint32_t op)
{
	return (struct req_head){.magic = REQ_MAGIC, .op = op};
}

static void still_alive(void)
{
	cr_assert_eq(priv_box_end(rig.priv, "nobody", PRIV_DISK_NONE, NULL), 0);
}

Test(priv_serve, refuses_wrong_sizes_and_operations)
{
	union req *q = must_calloc(1, sizeof(*q) + 1); /* one more: to be too long by a byte */
	uint32_t op;
	size_t len;

	for (op = 0; op < 16; op++)
		for (len = 1; len < 300; len += 7) {
			memset(q, 0xff, sizeof(*q));
			q->head = head(op);
			if (len == sizeof(struct req_plain))
				continue;
			cr_assert_eq(raw(q, len, NULL, 0), -EINVAL, "op %u len %zu", op, len);
		}
	memset(q, 0, sizeof(*q));
	q->head = head(REQ_BOX_END);
	q->head.magic ^= 1;
	cr_expect_eq(raw(q, sizeof(q->box), NULL, 0), -EINVAL);
	q->head = head(0xffffffff);
	cr_expect_eq(raw(q, sizeof(q->plain), NULL, 0), -EINVAL);
	cr_expect_eq(raw(q, sizeof(*q) + 1, NULL, 0), -EINVAL);
	free(q);
	still_alive();
}

Test(priv_serve, refuses_bad_names)
{
	static const char *const bad[] = {"",
					  ".",
					  "..",
					  "../x",
					  "a/b",
					  "/abs",
					  "a b",
					  "UPPER",
					  "-a",
					  "a-",
					  "a\nb",
					  "a;b",
					  ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
					   "a")};
	struct req_box box = {.head = head(REQ_BOX_END)};
	struct req_template t = {.head = head(REQ_TEMPLATE_REMOVE)};
	struct req_base base;
	struct req_sweep *sweep = NEW(struct req_sweep);
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		if (strlen(bad[i]) > PRIV_ID_MAX)
			continue;
		strcpy(box.id, bad[i]);
		box.head = head(REQ_BOX_END);
		cr_expect_eq(raw(&box, sizeof(box), NULL, 0), -EINVAL, "%s", bad[i]);
		box.head = head(REQ_BOX_ALIVE);
		cr_expect_eq(raw(&box, sizeof(box), NULL, 0), -EINVAL, "%s", bad[i]);
		strcpy(base.name, bad[i]);
		strcpy(base.id, "good");
		base.head = head(REQ_BASE_DROP);
		cr_expect_eq(raw(&base, sizeof(base), NULL, 0), -EINVAL, "%s", bad[i]);
		strcpy(base.name, "good");
		strcpy(base.id, bad[i]);
		base.head = head(REQ_BASE_KEEP);
		cr_expect_eq(raw(&base, sizeof(base), NULL, 0), -EINVAL, "%s", bad[i]);
		strcpy(t.name, bad[i]);
		cr_expect_eq(raw(&t, sizeof(t), NULL, 0), -EINVAL, "%s", bad[i]);
	}
	memset(box.id, 'a', sizeof(box.id)); /* no end */
	cr_expect_eq(raw(&box, sizeof(box), NULL, 0), -EINVAL);
	memset(t.name, 'a', sizeof(t.name));
	cr_expect_eq(raw(&t, sizeof(t), NULL, 0), -EINVAL);
	sweep->head = head(REQ_SWEEP);
	sweep->n = REQ_KEEP_MAX + 1;
	cr_expect_eq(raw(sweep, sizeof(*sweep), NULL, 0), -EINVAL);
	sweep->n = sweep->more = 2;
	strcpy(sweep->keep[0], "good");
	strcpy(sweep->keep[1], "fine");
	cr_expect_eq(raw(sweep, sizeof(*sweep), NULL, 0), -EINVAL);
	sweep->n = sweep->more = 1;
	memset(sweep->keep[0], 'a', sizeof(sweep->keep[0]));
	cr_expect_eq(raw(sweep, sizeof(*sweep), NULL, 0), -EINVAL);
	mem_free(&sweep);
	still_alive();
}

Test(priv_serve, refuses_starts_out_of_range)
{
	int fds[2] = {-1, -1}, token;
	struct req_box_start q = {.head = head(REQ_BOX_START)}, good;
	AUTO(str_free) char *before = rig_census(&rig);
	AUTO(str_free) char *after = NULL;

	rig_listen(&rig, &token);
	fds[0] = rig.listen;
	fds[1] = token;
	q.spec = rig_spec("x");
	good = q;
#define BAD(change)                                                                                                    \
	do {                                                                                                           \
		q = good;                                                                                              \
		change;                                                                                                \
		cr_expect_eq(raw(&q, sizeof(q), fds, 2), -EINVAL, #change);                                            \
	} while (0)
	BAD(q.spec.kind = 0);
	BAD(q.spec.kind = 77);
	BAD(q.spec.range = rig.conf.ranges);
	BAD(q.spec.range = 0xffffffff);
	BAD(q.spec.memory_b = 0);
	BAD(q.spec.memory_b = UINT64_MAX);
	BAD(q.spec.workspace_b = 1);
	BAD(q.spec.workspace_b = UINT64_MAX);
	BAD(q.spec.cpu_milli = 0);
	BAD(q.spec.cpu_milli = UINT32_MAX);
	BAD(q.spec.pids = 0);
	BAD(q.spec.pids = UINT32_MAX);
	BAD(strcpy(q.spec.id, "../../etc"));
	BAD(memset(q.spec.id, 'a', sizeof(q.spec.id)));
	BAD(strcpy(q.spec.template_, "../tiny"));
	BAD(memset(q.spec.template_, 'a', sizeof(q.spec.template_)));
	q = good;
	cr_expect_eq(raw(&q, sizeof(q), NULL, 0), -EINVAL, "no descriptors");
	cr_expect_eq(raw(&q, sizeof(q), fds, 1), -EINVAL, "one descriptor");
	fds[0] = token;
	cr_expect_eq(raw(&q, sizeof(q), fds, 2), -EINVAL, "not a socket");
	after = rig_census(&rig);
	cr_expect_str_eq(after, before);
	close(token);
	still_alive();
}

Test(priv_serve, refuses_bad_templates)
{
	static const char *const bad[] = {"",	   " ",	    "a",    "ab ", " ab",    "ab  cd", "--foo",
					  "ab;cd", "ab,cd", "../x", "AB",  "ab\ncd", "-ab",    "ab\tcd"};
	struct req_template_build q = {.head = head(REQ_TEMPLATE_BUILD), .spec = {.name = "new"}};
	int fds[2] = {open("/dev/null", O_RDWR), open("/etc/shadow", O_PATH)};
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		strcpy(q.spec.packages, bad[i]);
		cr_expect_eq(raw(&q, sizeof(q), fds, 1), -EINVAL, "%s", bad[i]);
	}
	memset(q.spec.packages, 'a', sizeof(q.spec.packages));
	cr_expect_eq(raw(&q, sizeof(q), fds, 1), -EINVAL);
	strcpy(q.spec.packages, "bash");
	cr_expect_eq(raw(&q, sizeof(q), fds, 2), -EINVAL, "packages and an archive");
	q.spec.packages[0] = '\0';
	cr_expect_eq(raw(&q, sizeof(q), fds, 2), -EINVAL, "a path is not an open file");
	cr_expect_eq(raw(&q, sizeof(q), NULL, 0), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	still_alive();
}

Test(priv_serve, survives_noise)
{
	unsigned seed = 1;
	union req *q = must_calloc(1, sizeof(*q));
	int i;

	for (i = 0; i < 3000; i++) {
		size_t len = 1 + (size_t)rand_r(&seed) % 6000, k;

		for (k = 0; k < len; k++)
			((unsigned char *)q)[k] = (unsigned char)rand_r(&seed);
		if (i % 2)
			q->head = head(REQ_BOX_START + (uint32_t)i % 6);
		cr_assert_eq(raw(q, len, NULL, 0), -EINVAL);
	}
	free(q);
	still_alive();
}

static pid_t child_of(pid_t parent)
{
	AUTO(str_free) char *path = str_printf("/proc/%d/task/%d/children", (int)parent, (int)parent);
	struct buf b;
	pid_t pid;

	buf_init(&b, 4096);
	cr_assert_eq(io_read_file(AT_FDCWD, path, &b), 0);
	pid = (pid_t)atoi(buf_str(&b));
	buf_fini(&b);
	return pid;
}

Test(priv_serve, the_daemon_hears_of_its_death)
{
	struct pollfd p = {.fd = priv_fd(rig.priv), .events = POLLIN};
	pid_t pid = child_of(getpid());
	struct err e = ERR_NULL;

	cr_assert_gt(pid, 0);
	kill(pid, SIGTERM); /* ignored */
	kill(pid, SIGINT);
	still_alive();
	kill(pid, SIGKILL);
	cr_assert_eq(poll(&p, 1, 60000), 1);
	cr_expect_eq(priv_box_end(rig.priv, "x", PRIV_DISK_NONE, &e), -EPIPE);
	cr_expect_str_eq(e.slug, "priv-gone");
	priv_close(&rig.priv);
	rig_fork(&rig); /* the next one tidies up after it */
}

Test(priv_serve, it_ends_with_the_daemon)
{
	int pipefd[2];
	char c;
	pid_t pid;

	cr_assert_eq(pipe(pipefd), 0);
	pid = fork();
	if (pid == 0) {
		struct priv *priv;
		struct rig other = rig;

		/* A second one beside ours, which holds the pipe open by its standard error. */
		dup2(pipefd[1], 2);
		close(pipefd[0]);
		close(pipefd[1]);
		other.priv = NULL;
		if (priv_fork(&other.conf, &priv, NULL) < 0)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	close(pipefd[1]);
	waitpid(pid, NULL, 0);
	cr_expect_eq(read(pipefd[0], &c, 1), 0);
	close(pipefd[0]);
}

Test(priv_serve, refuses_bad_configurations)
{
	struct priv_conf good = rig.conf, c;
	struct priv *p = NULL;

#define WRONG(change)                                                                                                  \
	do {                                                                                                           \
		c = good;                                                                                              \
		change;                                                                                                \
		cr_expect_eq(priv_fork(&c, &p, NULL), -EINVAL, #change);                                               \
	} while (0)
	WRONG(strcpy(c.state_dir, "relative"));
	WRONG(strcpy(c.state_dir, "/a/../b"));
	WRONG(strcpy(c.mount_dir, "/with space"));
	WRONG(memset(c.agent_path, 'a', sizeof(c.agent_path)));
	WRONG(c.uid = 0);
	WRONG(c.uid = c.range_first + 5);
	WRONG(c.range_first = 1000);
	WRONG(c.ranges = 0);
	WRONG(c.ranges = 65535);
	c = good;
	strcpy(c.agent_path, "/nonexistent");
	cr_expect_eq(priv_fork(&c, &p, NULL), -ENOENT);
}

Test(priv_serve, refuses_a_state_directory_that_others_prepared)
{
	struct priv_conf c = rig.conf;
	struct priv *p = NULL;
	struct err e = ERR_NULL;
	AUTO(str_free) char *boxes = str_printf("%s/other/boxes", rig.dir);

	snprintf(c.state_dir, sizeof(c.state_dir), "%s/other", rig.dir);
	cr_assert_eq(io_mkdir_p(boxes, 0755), 0);
	cr_assert_eq(chown(boxes, c.uid, c.gid), 0);
	cr_expect_eq(priv_fork(&c, &p, &e), -EPERM);
	cr_expect_str_eq(e.slug, "not-ours");
	cr_assert_eq(rmdir(boxes), 0);
	cr_assert_eq(symlink("/etc", boxes), 0);
	cr_expect_neq(priv_fork(&c, &p, &e), 0, "a link in place of the directory");
	chmod(rig.dir, 0700);
	cr_assert_eq(unlink(boxes), 0);
	cr_expect_eq(priv_fork(&c, &p, &e), -EACCES);
	cr_expect_str_eq(e.slug, "state-dir-private");
	chmod(rig.dir, 0711);
}

Test(priv_serve, volumes_go_where_nothing_of_ours_is)
{
	static const char *const good[] = { "/data", "/a/b.c/d", "/tmp/x", "/workspaces", "/home/user/v" };
	static const char *const bad[] = {
		"",	 "/",	    "data",   "/a/",	  "/a//b",  "/a/./b",	     "/a/../b",	   "/..",
		"/proc", "/proc/x", "/sys/a", "/dev/shm", "/run/x", "/.berth/agent", "/workspace", "/workspace/x"
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(good); i++)
		cr_expect(priv_volume_path(good[i]), "%s", good[i]);
	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect(!priv_volume_path(bad[i]), "%s", bad[i]);
}
