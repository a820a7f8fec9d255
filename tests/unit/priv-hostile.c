/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of every wrong kind, thousands of them: the privileged process answers each, lives, keeps no descriptor,
 * and the sandbox beside is as before. BERTH_SEED=N plays the same again, BERTH_LONG=1 is a hundred times more. */
#include "base/io.h"
#include "base/str.h"
#include "host/priv/req.h"
#include "tests/lib/priv-rig.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KINDS = 14, MANY = 64, SCM_MAX = 253, ROOM = 16 };

static struct rig rig;
static struct priv_box_started kept;
static char *before;
static int kinds[KINDS];
static unsigned seed;

static unsigned number(unsigned below)
{
	return (unsigned)rand_r(&seed) % below;
}

static pid_t back(void)
{
	AUTO(str_free) char *path = str_printf("/proc/self/task/%d/children", (int)getpid());
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 4096);
	cr_assert_eq(io_read_file(AT_FDCWD, path, &b), 0);
	return (pid_t)atoi(buf_str(&b));
}

static unsigned descriptors(pid_t pid)
{
	AUTO(str_free) char *path = str_printf("/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	unsigned n = 0;

	cr_assert_not_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Descriptors of kinds that no request wants. The first two are those that one does. */
static void make_kinds(void)
{
	int pair[2], tube[2], datagrams[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagrams), 0);
	cr_assert_eq(pipe2(tube, O_CLOEXEC), 0);
	kinds[0] = pair[0];
	kinds[1] = tube[0];
	kinds[2] = tube[1];
	kinds[3] = open("/etc/shadow", O_PATH | O_CLOEXEC);
	kinds[4] = open("/", O_PATH | O_CLOEXEC);
	kinds[5] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kinds[6] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	kinds[7] = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert_eq(fcntl(kinds[7], F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	kinds[8] = eventfd(0, EFD_CLOEXEC);
	kinds[9] = epoll_create1(EPOLL_CLOEXEC);
	kinds[10] = pidfd_open(getpid(), 0);
	kinds[11] = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	kinds[12] = priv_fd(rig.priv); /* its own end of the conversation */
	kinds[13] = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
}

static void begin(void)
{
	const char *s = getenv("BERTH_SEED");
	struct err e = ERR_NULL;
	struct priv_box_spec spec;

	seed = s ? (unsigned)atoi(s) : (unsigned)time(NULL);
	fprintf(stderr, "BERTH_SEED=%u\n", seed);
	rig_init(&rig);
	rig_fork(&rig);
	rig_tiny(&rig);
	spec = rig_spec("kept");
	cr_assert_eq(rig_start(&rig, &spec, &kept, &e), 0, "%s", e.text);
	make_kinds();
	/* What the start made is closed after its answer; after the next one it is. */
	cr_assert_eq(priv_box_end(rig.priv, "nobody", PRIV_DISK_NONE, NULL), 0);
	before = rig_census(&rig);
}

static void unharmed(void)
{
	AUTO(str_free) char *after = rig_census(&rig);
	int pidfd = -1;

	cr_expect_str_eq(after, before);
	cr_expect_eq(priv_box_alive(rig.priv, "kept", &pidfd, NULL), kept.pid);
	fd_close(&pidfd);
	cr_expect_str_eq(rig_sh(&rig, "echo here"), "here");
}

static void end(void)
{
	int i;

	if (rig.priv)
		(void)!priv_box_end(rig.priv, "kept", PRIV_DISK_NONE, NULL);
	fd_close(&kept.pidfd);
	for (i = 0; i < KINDS; i++)
		if (i != 12)
			fd_close(&kinds[i]);
	str_free(&before);
	rig_fini(&rig);
}

TestSuite(priv_hostile, .init = begin, .fini = end, .timeout = 280);

/* Send bytes with descriptors; any number of either. Return: the code of the answer. */
static int ask(const void *p, size_t len, const int *fds, size_t n)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int) * SCM_MAX)];
	} control = {.room = {0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	int got[ROOM];
	size_t room = ROOM;
	struct reply reply;

	if (n) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		control.h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
					     .cmsg_len = CMSG_LEN(sizeof(int) * n)};
		memcpy(CMSG_DATA(&control.h), fds, sizeof(int) * n);
	}
	cr_assert_eq(sendmsg(priv_fd(rig.priv), &m, MSG_NOSIGNAL), (ssize_t)len, "%s", strerror(errno));
	cr_assert_eq(io_recv_fds(priv_fd(rig.priv), &reply, sizeof(reply), got, &room), (ssize_t)sizeof(reply));
	while (room > 0)
		close(got[--room]);
	cr_assert_not_null(memchr(reply.err.text, '\0', sizeof(reply.err.text)));
	return reply.err.code;
}

static const size_t sizes[] = {
	[REQ_MOUNT] = sizeof(struct req_plain),
	[REQ_MOUNT_LINKS] = sizeof(struct req_plain),
	[REQ_MOUNT_KEEP] = sizeof(struct req_mount_keep),
	[REQ_MOUNT_NOTIFY] = sizeof(struct req_plain),
	[REQ_UNMOUNT] = sizeof(struct req_plain),
	[REQ_BOX_START] = sizeof(struct req_box_start),
	[REQ_BOX_END] = sizeof(struct req_box),
	[REQ_BOX_ALIVE] = sizeof(struct req_box),
	[REQ_SWEEP] = sizeof(struct req_sweep),
	[REQ_TEMPLATE_BUILD] = sizeof(struct req_template_build),
	[REQ_TEMPLATE_REMOVE] = sizeof(struct req_template),
	[REQ_BOX_FREEZE] = sizeof(struct req_box_freeze),
	[REQ_BASE_KEEP] = sizeof(struct req_base),
	[REQ_BASE_LAY] = sizeof(struct req_base),
	[REQ_BASE_DROP] = sizeof(struct req_base),
	[REQ_NET_OPEN] = sizeof(struct req_plain),
	[REQ_NET_POLICY] = sizeof(struct req_net_policy),
	[REQ_NET_NAMES] = sizeof(struct req_net_names),
	[REQ_NET_SOCKETS] = sizeof(struct req_net_sockets),
	[REQ_BROKER_START] = sizeof(struct req_plain),
	[REQ_FETCH_START] = sizeof(struct req_fetch_start),
};

/* Every operation with every size but its own, and with every number of descriptors but its own. */
Test(priv_hostile, wrong_sizes_and_numbers_of_descriptors)
{
	union req *q = must_calloc(2, sizeof(*q));
	int fds[SCM_MAX];
	unsigned held = descriptors(back());
	uint32_t op;
	size_t len, n, i;

	for (i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = kinds[i % KINDS];
	for (op = 0; op < ARRAY_LEN(sizes) + 4; op++) {
		size_t right = op < ARRAY_LEN(sizes) ? sizes[op] : 8;

		for (len = 1; len <= right + 24; len += len < 400 || len + 24 > right ? 1 : 97) {
			if (len == right)
				continue;
			q->head = (struct req_head){.magic = REQ_MAGIC, .op = op};
			cr_assert_eq(ask(q, len, fds, number(3)), -EINVAL, "op %u len %zu", op, len);
		}
		cr_assert_eq(ask(q, sizeof(*q) + 1 + number(sizeof(*q) - 1), fds, number(3)), -EINVAL);
		for (n = 3; n <= SCM_MAX; n += n < 20 ? 1 : 29)
			cr_assert_eq(ask(q, right, fds, n), -EINVAL, "op %u with %zu descriptors", op, n);
		cr_assert_eq(ask(q, right, fds, SCM_MAX), -EINVAL);
	}
	cr_expect_eq(descriptors(back()), held);
	unharmed();
	free(q);
}

/* Descriptors of each kind in each place. */
Test(priv_hostile, wrong_kinds_of_descriptors)
{
	struct req_box_start start = {.head = {REQ_MAGIC, REQ_BOX_START}, .spec = rig_spec("other")};
	struct req_template_build *build = NEW(struct req_template_build);
	unsigned held = descriptors(back());
	int a, b;

	build->head = (struct req_head){REQ_MAGIC, REQ_TEMPLATE_BUILD};
	strcpy(build->spec.name, "other");
	for (a = 0; a < KINDS; a++)
		for (b = 0; b < KINDS; b++) {
			int fds[] = {kinds[a], kinds[b]};
			bool socket = a == 0 || a == 12, token = b == 1 || b == 7 || b == 13 || b == 11;

			if (!(socket && token) && !(fcntl(kinds[a], F_GETFD) < 0))
				cr_assert_eq(ask(&start, sizeof(start), fds, 2) < 0, 1, "start with %d and %d", a, b);
			if (b != 1 && b != 7 && b != 11 && b != 13)
				cr_assert_eq(ask(build, sizeof(*build), fds, 2), -EINVAL, "archive %d", b);
		}
	cr_expect_eq(descriptors(back()), held);
	unharmed();
	mem_free(&build);
}

/* Bytes of a field: noise, an id without end, one that is wrong, one that is good but nobody's. */
static void fill_name(char *p, size_t size)
{
	static const char *const bad[] = {"..", "../kept", "kept/", "/kept", "-kept", "kept-",
					  "Kept", "ke pt", "kept\n", "", "."};
	size_t i;

	switch (number(4)) {
	case 0:
		for (i = 0; i < size; i++)
			p[i] = (char)rand_r(&seed);
		break;
	case 1:
		memset(p, 'a', size);
		break;
	case 2:
		memset(p, 0, size);
		snprintf(p, size, "%s", bad[number(ARRAY_LEN(bad))]);
		break;
	default:
		memset(p, 0, size);
		snprintf(p, size, "nobody-%u", number(1000));
	}
}

static uint64_t border(void)
{
	static const uint64_t at[] = {0, 1, 2, 7, 8, 9, 10, 63, 64, 65, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
				      INT64_MAX, 1ULL << 63, UINT64_MAX, UINT64_MAX - 1, 16 << 20, (16 << 20) - 1,
				      1ULL << 40};
	uint64_t v = at[number(ARRAY_LEN(at))];

	return number(3) ? v : v + number(3) - 1;
}

static void fill_start(union req *q)
{
	struct priv_box_spec *s = &q->box_start.spec;

	*s = rig_spec("other");
	if (number(2))
		fill_name(s->id, sizeof(s->id));
	if (number(2))
		fill_name(s->template_, sizeof(s->template_));
	s->kind = number(2) ? PRIV_BOX_OCI : (uint32_t)border();
	s->range = number(2) ? 1 : (uint32_t)border();
	if (number(2))
		s->memory_b = border();
	if (number(2))
		s->workspace_b = border();
	if (number(2))
		s->cpu_milli = (uint32_t)border();
	if (number(2))
		s->pids = (uint32_t)border();
}

static void fill(union req *q, uint32_t op)
{
	size_t i;

	for (i = sizeof(struct req_head); i < sizeof(*q); i += 1 + number(64))
		((unsigned char *)q)[i] = (unsigned char)rand_r(&seed);
	switch (op) {
	case REQ_BOX_START:
		fill_start(q);
		break;
	case REQ_BOX_END:
	case REQ_BOX_ALIVE:
		fill_name(q->box.id, sizeof(q->box.id));
		q->box.keep = (uint32_t)border();
		break;
	case REQ_BOX_FREEZE:
		fill_name(q->box_freeze.id, sizeof(q->box_freeze.id));
		q->box_freeze.level = (uint32_t)border();
		break;
	case REQ_BASE_KEEP:
	case REQ_BASE_LAY:
	case REQ_BASE_DROP:
		fill_name(q->base.name, sizeof(q->base.name));
		fill_name(q->base.id, sizeof(q->base.id));
		break;
	case REQ_SWEEP: /* never a good one: that would end our sandbox */
		q->sweep.n = 1 + (uint32_t)(border() % UINT32_MAX);
		for (i = 0; i < REQ_KEEP_MAX; i += 1 + number(50))
			fill_name(q->sweep.keep[i], sizeof(q->sweep.keep[i]));
		memset(q->sweep.keep[0], number(2) ? 'a' : '/', sizeof(q->sweep.keep[0]));
		break;
	case REQ_TEMPLATE_BUILD: /* nor here: packages would be downloaded */
		fill_name(q->template_build.spec.name, sizeof(q->template_build.spec.name));
		fill_name(q->template_build.spec.packages, sizeof(q->template_build.spec.packages));
		q->template_build.spec.packages[number(8)] = "\n;/$-A"[number(6)];
		q->template_build.spec.packages[0] = '-';
		q->template_build.spec.replace = (uint32_t)border();
		break;
	case REQ_TEMPLATE_REMOVE:
		fill_name(q->template_.name, sizeof(q->template_.name));
		break;
	default:
		break;
	}
}

/* Requests of the right size with fields at their borders; some get as far as not finding what they name. */
Test(priv_hostile, fields_at_their_borders)
{
	static const uint32_t ops[] = {REQ_BOX_START, REQ_BOX_END,	  REQ_BOX_ALIVE,       REQ_SWEEP,
				       REQ_BOX_FREEZE, REQ_TEMPLATE_BUILD, REQ_TEMPLATE_REMOVE, REQ_MOUNT_LINKS,
				       REQ_BASE_KEEP,  REQ_BASE_LAY,	   REQ_BASE_DROP,       REQ_NET_POLICY,
				       REQ_NET_NAMES,  REQ_NET_SOCKETS};
	unsigned held = descriptors(back()), i, good = 0, found = 0;
	const unsigned rounds = getenv("BERTH_LONG") ? 1000000 : 10000;
	union req *q = NEW(union req);

	for (i = 0; i < rounds; i++) {
		uint32_t op = ops[number(ARRAY_LEN(ops))];
		int fds[] = {kinds[2 + number(10)], kinds[2 + number(10)]}, r;

		fill(q, op);
		q->head = (struct req_head){.magic = number(50) ? REQ_MAGIC : (uint32_t)border(), .op = op};
		r = ask(q, sizes[op], fds, op == REQ_BOX_START ? 2 : op == REQ_TEMPLATE_BUILD ? 1 + number(2)
								  : op == REQ_BASE_LAY	     ? 1
											     : 0);
		cr_assert(r <= 0 && r > -4096, "op %u: %d", op, r);
		if (op == REQ_BOX_START || op == REQ_SWEEP || op == REQ_TEMPLATE_BUILD)
			cr_assert_neq(r, 0, "op %u", op);
		good += r == 0;
		found += r != 0 && r != -EINVAL;
	}
	fprintf(stderr, "%u requests: %u had nothing to do, %u found nothing\n", rounds, good, found);
	cr_expect_gt(good, 0);
	cr_expect_gt(found, 0);
	cr_expect_eq(descriptors(back()), held);
	unharmed();
	mem_free(&q);
}
