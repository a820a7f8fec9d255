/* SPDX-License-Identifier: Apache-2.0 */
/* Rings, block hashes, the map of directories, the dirty set, names of linked files, variables, services:
 * each alone. */
#include "guest/blocks.h"
#include "guest/dirs.h"
#include "guest/dirty.h"
#include "guest/links.h"
#include "guest/agent.h"
#include "guest/ring.h"
#include "guest/service.h"
#include "guest/variables.h"
#include "base/io.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

Test(ring, keeps_what_must_be_kept_and_drops_the_oldest)
{
	uint64_t put = 0, keep = 0;
	struct ring r;
	unsigned i;

	ring_init(&r, 64);
	for (i = 0; i < 10000; i++) {
		void *to = NULL;
		size_t n = ring_space(&r, keep, 1 + i % 23, &to), k;

		cr_assert_leq(r.end + n - keep, 64);
		for (k = 0; k < n; k++)
			((uint8_t *)to)[k] = (uint8_t)(put++ * 7);
		ring_commit(&r, n);
		cr_assert_leq(r.start, keep);
		if (i % 3 == 0) {
			struct span s = ring_peek(&r, keep, 17);

			for (k = 0; k < s.len; k++)
				cr_assert_eq(((const uint8_t *)s.p)[k], (uint8_t)((keep + k) * 7));
			keep += s.len;
		}
	}
	cr_assert_gt(put, 1000);
	while (r.start < put - 32) { /* nobody keeps anything */
		void *to;
		size_t n = ring_space(&r, r.end, 64, &to);

		cr_assert_gt(n, 0);
		ring_commit(&r, n);
	}
	cr_assert_eq(r.end - r.start, 64);
	ring_fini(&r);
}

Test(blocks, hash_sees_every_byte_and_the_store_is_bounded)
{
	static uint8_t data[BLOCK];
	struct blocks_store s;
	struct blocks *used;
	uint64_t h;
	size_t i;

	blocks_init(&s, 42);
	h = blocks_hash(&s, data, sizeof(data));
	cr_assert_neq(h, blocks_hash(&s, data, sizeof(data) - 1));
	for (i = 0; i < sizeof(data); i += 1013) {
		data[i] ^= 1;
		cr_assert_neq(h, blocks_hash(&s, data, sizeof(data)), "%zu", i);
		data[i] ^= 1;
	}
	cr_assert_eq(h, blocks_hash(&s, data, sizeof(data)));
	cr_assert_null(blocks_new(1, 1, BLOCKS_MAX + 1));
	for (i = 1; i <= 10; i++)
		blocks_put(&s, blocks_new(i, i, BLOCKS_MAX / 4));
	cr_assert_leq(s.total, BLOCKS_MAX);
	cr_assert_null(blocks_take(&s, 1));
	used = blocks_take(&s, 7);
	cr_assert_not_null(used);
	cr_assert_null(blocks_take(&s, 7));
	blocks_put(&s, used); /* now younger than the others */
	blocks_put(&s, blocks_new(11, 11, BLOCKS_MAX / 4));
	used = blocks_take(&s, 7);
	cr_assert_not_null(used);
	cr_assert_null(blocks_take(&s, 8));
	free(used);
	blocks_fini(&s);
}

Test(dirs, finds_moved_directories_and_notices_wrong_ones)
{
	char base[] = "/tmp/berth-dirs-XXXXXX";
	struct node *a = NEW(struct node), *b = NEW(struct node);
	struct tree t;
	struct dirs d;
	struct buf path;
	bool is_new;
	int fd;

	cr_assert_not_null(mkdtemp(base));
	cr_assert_eq(tree_open(&t, base, NULL), 0);
	cr_assert_eq(mkdirat(t.fd, "a", 0755), 0);
	cr_assert_eq(mkdirat(t.fd, "a/b", 0755), 0);
	cr_assert_eq(node_at(t.fd, "a", a), 0);
	fd = node_open(t.fd, "a", 0, 0, false);
	cr_assert_eq(node_at(fd, "b", b), 0);
	close(fd);
	dirs_init(&d, &t);
	cr_assert_eq(dirs_open(&d, b->fid), -ENOENT);
	dirs_put(&d, a->fid, t.fid, span_str("a"), &is_new);
	dirs_put(&d, b->fid, a->fid, span_str("b"), &is_new);
	cr_assert(is_new);
	cr_assert_geq(dirs_open(&d, b->fid), 0);
	buf_init(&path, 0);
	cr_assert_eq(dirs_path(&d, b->fid, &path), 0);
	cr_assert_str_eq(buf_str(&path), "a/b");
	dirs_uncache(&d);
	cr_assert_eq(renameat(t.fd, "a/b", t.fd, "c"), 0);
	cr_assert_eq(dirs_open(&d, b->fid), -ESTALE);
	cr_assert_eq(mkdirat(t.fd, "a/b", 0755), 0); /* another directory under the old name */
	cr_assert_eq(dirs_open(&d, b->fid), -ESTALE);
	dirs_put(&d, b->fid, t.fid, span_str("c"), &is_new);
	cr_assert_not(is_new);
	cr_assert_geq(dirs_open(&d, b->fid), 0);
	dirs_uncache(&d);
	cr_assert_eq(unlinkat(t.fd, "c", AT_REMOVEDIR), 0);
	cr_assert_eq(symlinkat("a", t.fd, "c"), 0); /* a symlink in its place is not followed */
	cr_assert_eq(dirs_open(&d, b->fid), -ESTALE);
	dirs_put(&d, a->fid, b->fid, span_str("x"), &is_new); /* a circle: events can be merged into nonsense */
	dirs_put(&d, b->fid, a->fid, span_str("y"), &is_new);
	cr_assert_lt(dirs_open(&d, b->fid), 0);
	dirs_fini(&d);
	unlinkat(t.fd, "c", 0);
	unlinkat(t.fd, "a/b", AT_REMOVEDIR);
	unlinkat(t.fd, "a", AT_REMOVEDIR);
	rmdir(base);
	tree_close(&t);
	buf_fini(&path);
	free(a), free(b);
}

/* A host that keeps things sorted by fid writes at few places when files are made one after the other. */
Test(node, fids_of_new_files_lie_beside_each_other)
{
	static const uint32_t generation[] = { 0xfffffff0, 7, 0x80000000, 0 };
	uint64_t last = 0, fid;
	uint32_t i;

	for (i = 0; i < ARRAY_LEN(generation); i++) {
		uint32_t handle[2] = { 1000 + i, generation[i] };

		fid = node_fid_of_handle(1, handle, sizeof(handle));
		cr_assert_gt(fid, last);
		cr_assert_eq(node_ino_of(fid), 1000 + i);
		last = fid;
	}
	cr_assert_neq(node_fid_of_handle(1, (uint32_t[]){ 0, 0 }, 8), 0);
}

Test(dirty, coalesces_in_order_and_overflows)
{
	struct dirty d;
	struct mark *m;
	char name[32];
	unsigned i;

	dirty_init(&d, DIRTY_MAX);
	dirty_mark(&d, 1, span_str("a"), DIRTY_ENTRY);
	dirty_mark(&d, 1, span_str("b"), 0);
	dirty_mark(&d, 1, span_str("a"), DIRTY_WRITTEN);
	dirty_mark(&d, 2, span_str("a"), 0);
	cr_assert_eq(dirty_len(&d), 3);
	m = dirty_take(&d, dirty_first(&d));
	cr_assert_str_eq(m->name, "a");
	cr_assert_eq(m->flags, DIRTY_ENTRY | DIRTY_WRITTEN);
	free(m);
	cr_assert_str_eq(dirty_first(&d)->name, "b");
	dirty_mark(&d, 1, span_str("a"), 0);
	cr_assert_eq(dirty_len(&d), 3);
	for (i = 0; i <= DIRTY_MAX; i++) { /* what does not fit is found by listing its directory */
		snprintf(name, sizeof(name), "n%u", i);
		dirty_mark(&d, 3, span_str(name), 0);
	}
	cr_assert_not(d.overflowed);
	cr_assert(d.crowded);
	cr_assert_eq(dirty_len(&d), DIRTY_MAX + 1);
	m = dirty_mark(&d, 3, SPAN_NULL, 0);
	cr_assert_eq(m->flags, DIRTY_LIST);
	cr_assert_null(dirty_mark(&d, 1, span_str("c"), 0));
	cr_assert_eq(dirty_mark(&d, 1, SPAN_NULL, 0)->flags, DIRTY_LIST);
	cr_assert_not_null(dirty_mark(&d, 4, SPAN_NULL, 0));
	for (i = 5; !d.overflowed; i++) { /* and these have a bound, too */
		cr_assert_lt(i, DIRTY_MAX);
		dirty_mark(&d, i, span_str("n"), 0);
	}
	cr_assert_lt(dirty_len(&d), 10);
	dirty_fini(&d);
}

static void count(void *ctx, uint64_t parent, struct span name)
{
	(void)parent, (void)name;
	++*(unsigned *)ctx;
}

Test(links, tell_the_others)
{
	struct node *n = NEW(struct node);
	struct links l = { .by_name = MAP_NULL };
	unsigned others = 0;

	n->fid = 77;
	n->st.st_ino = 5;
	n->st.st_mode = S_IFREG | 0644;
	n->st.st_nlink = 3;
	cr_assert_eq(links_seen(&l, 1, span_str("a"), n, false, count, &others), 0);
	cr_assert_eq(links_seen(&l, 1, span_str("b"), n, false, count, &others), 0);
	cr_assert_eq(others, 0);
	cr_assert_eq(links_seen(&l, 1, span_str("a"), NULL, false, count, &others), 0);
	cr_assert_eq(others, 1); /* b */
	cr_assert_eq(links_seen(&l, 1, span_str("b"), NULL, false, count, &others), 5); /* a third one is somewhere */
	n->st.st_nlink = 1;
	cr_assert_eq(links_seen(&l, 1, span_str("c"), n, false, count, &others), 0);
	cr_assert_eq(l.by_name.len, 0);
	links_fini(&l);
	free(n);
}

/* Of a file that had several names the last one is still known: whoever opened it by another writes to it. */
Test(links, the_last_name_is_kept)
{
	struct node *n = NEW(struct node);
	struct links l = { .by_name = MAP_NULL };
	char name[16];
	unsigned others = 0, i;

	n->st.st_mode = S_IFREG | 0644;
	for (i = 1; i <= 3 * LINKS_ONCE_MAX; i++) {
		n->fid = n->st.st_ino = i;
		n->st.st_nlink = 2;
		snprintf(name, sizeof(name), "a%u", i);
		links_seen(&l, 1, span_str(name), n, false, count, &others);
		n->st.st_nlink = 1;
		links_seen(&l, 1, span_str(name), n, false, count, &others);
		cr_assert(links_is(&l, 1, span_str(name), i));
		cr_assert_not(links_is(&l, 1, span_str("gone"), i));
	}
	cr_expect_eq(l.by_name.len, LINKS_ONCE_MAX, "as many as may be");
	cr_expect_eq(l.by_fid.len, LINKS_ONCE_MAX);
	cr_expect(links_is(&l, 1, span_str("gone"), 1), "nothing is known of an old one");
	others = 0;
	links_each(&l, 3 * LINKS_ONCE_MAX, count, &others);
	cr_expect_eq(others, 1);
	n->st.st_nlink = 2; /* it has two again, and loses both */
	cr_expect_eq(links_seen(&l, 1, span_str("b"), n, false, count, &others), 0);
	cr_expect_eq(links_seen(&l, 1, span_str("b"), NULL, false, count, &others), 0);
	cr_expect_eq(links_seen(&l, 1, span_str(name), NULL, false, count, &others), 0);
	cr_expect_eq(l.by_fid.len, LINKS_ONCE_MAX - 1);
	cr_expect_eq(l.n_once, LINKS_ONCE_MAX - 1);
	n->fid = 1; /* linked, and its other name removed before anybody looked */
	n->st.st_nlink = 1;
	links_seen(&l, 1, span_str("d"), n, true, count, &others);
	cr_expect_not(links_is(&l, 1, span_str("gone"), 1));
	links_fini(&l);
	free(n);
}

/* --- variables of all commands ------------------------------------------------------------------------------------ */

static void list_of(struct msg_list *l, const char *const *words)
{
	msg_list_init(l, 0);
	for (; *words; words++)
		cr_assert_eq(msg_list_str(l, span_str(*words)), 0);
}

Test(variables, those_of_the_command_win)
{
	static const char *const ours[] = { "A=1", "B=2", "BB=3", "C=", NULL }, *const own[] = { "B=own", "D", NULL };
	static const char *const bad[] = { "A=2", "=x", NULL };
	static const char *const want[] = { "B=own", "D", "A=1", "BB=3", "C=" };
	struct variables v = { .n = 0 };
	struct msg_list list, to;
	struct span left, one;
	size_t n = 0;

	list_of(&list, ours);
	cr_assert_eq(variables_set(&v, msg_list_span(&list), NULL), 0);
	msg_list_fini(&list);
	list_of(&list, bad);
	cr_assert_eq(variables_set(&v, msg_list_span(&list), NULL), -EINVAL, "and nothing changes");
	msg_list_fini(&list);
	list_of(&list, own);
	cr_assert_eq(variables_merge(&v, msg_list_span(&list), &to), 0);
	for (left = msg_list_span(&to); msg_strv_next(&left, &one); n++)
		cr_assert(n < 5 && span_eq(one, span_str(want[n])), "%.*s", (int)one.len, (const char *)one.p);
	cr_assert_eq(n, 5);
	msg_list_fini(&to);
	cr_assert_eq(variables_set(&v, SPAN_NULL, NULL), 0);
	cr_assert_eq(variables_merge(&v, msg_list_span(&list), &to), 0);
	cr_assert(span_eq(msg_list_span(&to), msg_list_span(&list)), "none any more");
	msg_list_fini(&to);
	msg_list_fini(&list);
	variables_fini(&v);
}

/* --- services on a port ------------------------------------------------------------------------------------------- */

static unsigned free_port(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	close(fd);
	return ntohs(at.sin_port);
}

static void hosts_are(const char *path, const char *want)
{
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 0);
	cr_assert_eq(io_read_file(AT_FDCWD, path, &b), 0);
	cr_expect_str_eq(buf_str(&b), want);
}

Test(service, listens_at_loopback_addresses_and_names_them)
{
	static const char *const no[] = { "10.0.0.1", "0.0.0.0", "::1", "localhost", "/tmp/x", "", "128.0.0.1" };
	struct agent agent = { .spare = -1 };
	struct msg_LISTEN_AT m = { .name = span_str("svc"), .host = span_str("berth.internal") };
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f130001) };
	char hosts[] = "/tmp/berth-hosts-XXXXXX", other[64];
	int fd = mkstemp(hosts);
	struct services s;
	struct loop *loop;
	char byte;
	size_t i;

	cr_assert_eq(loop_new(&loop, NULL), 0);
	services_init(&s, &agent, loop);
	s.hosts = hosts;
	cr_assert_eq(write(fd, "127.0.0.1\tlocalhost", 19), 19); /* no newline */
	close(fd);
	m.port = free_port();
	for (i = 0; i < ARRAY_LEN(no); i++) {
		m.address = span_str(no[i]);
		cr_expect_eq(services_listen_at(&s, &m, NULL), -EINVAL, "%s", no[i]);
	}
	m.address = span_str("127.19.0.1");
	m.host = span_str("two names");
	cr_expect_eq(services_listen_at(&s, &m, NULL), -EINVAL);
	m.host = span_str("berth.internal");
	hosts_are(hosts, "127.0.0.1\tlocalhost");
	for (i = 0; i < 2; i++) { /* the second time nothing changes */
		cr_assert_eq(services_listen_at(&s, &m, NULL), 0);
		hosts_are(hosts, "127.0.0.1\tlocalhost\n127.19.0.1\tberth.internal\n");
	}
	m.name = span_str("other");
	cr_expect_eq(services_listen_at(&s, &m, NULL), -EADDRINUSE);
	/* No host is there: who connects is let go. */
	at.sin_port = htons((uint16_t)m.port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(loop_once(loop, 5000), 0);
	cr_expect_eq(read(fd, &byte, 1), 0);
	close(fd);
	services_unlisten(&s, span_str("svc"));
	cr_assert_eq(access(hosts, F_OK), 0, "the file of names stays");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_expect_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), -1);
	close(fd);

	snprintf(other, sizeof(other), "%s.link", hosts);
	cr_assert_eq(symlink(hosts, other), 0);
	s.hosts = other;
	m.name = span_str("linked");
	cr_expect_lt(services_listen_at(&s, &m, NULL), 0);
	unlink(other);
	cr_assert_eq(mkfifo(other, 0600), 0);
	cr_expect_lt(services_listen_at(&s, &m, NULL), 0, "and nothing is waited for");
	unlink(other);
	unlink(hosts);
	services_fini(&s);
	loop_free(&loop);
}
