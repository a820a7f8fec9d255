/* SPDX-License-Identifier: Apache-2.0 */
/* An agent that lies: in answers, numbers, sizes, names and identities, or that begins and never goes on. The workspace
 * says why it does not believe, its store stays whole, and it works again with an agent that is honest. */
#include "ws-lab.h"

#include <sys/resource.h>

static struct lab l;

static void made(void)
{
	lab_make(&l);
	lab_start(&l);
}

static void ended(void)
{
	lab_free(&l);
}

TestSuite(ws_liar, .init = made, .fini = ended, .timeout = 100);

static struct ws_wait *making(const char *name)
{
	struct ws_wait *w = ws_wait_new();

	ws_make(l.ws, LAB_ROOT, span_str(name), S_IFREG | 0644, SPAN_NULL, ws_wait_done, w);
	return w;
}

/* An honest file of this name is told and believed, in a new connection when the old one is lost. */
static void works_still(const char *name, uint64_t fid, bool anew)
{
	struct node n;

	if (anew) {
		lab_hangup(&l);
		lab_accept(&l, 1);
	}
	lab_file(&l, name, fid, 0, 9);
	lab_batch(&l, 0);
	cr_expect_eq(ws_resolve(l.ws, name, &n), 0);
	lab_fsck(&l);
}

static void expect_refused(const char *why, const char *name, uint64_t fid)
{
	lab_wait_why(&l, why, false);
	works_still(name, fid, true);
}

extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

/* A build with sanitizers keeps what was freed. */
static bool is_sanitized(void)
{
	return &__asan_init || &__tsan_init;
}

static long resident_kib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

Test(ws_liar, answers_for_others_and_answers_twice)
{
	struct msg_NODE a = lab_node(20, S_IFREG | 0644, 0, 5), b = lab_node(21, S_IFREG | 0644, 0, 5);
	struct msg_FS_MAKE m, m2;
	struct ws_wait *w = making("a"), *w2;
	struct node n;
	unsigned i;

	lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m);
	for (i = 1; i < 200; i++)
		lab_answer_node(&l, m.call + i * 7919, &b); /* nobody asked */
	lab_answer_node(&l, 0, &b);
	lab_answer_node(&l, UINT64_MAX, &b);
	lab_answer_node(&l, m.call, &a);
	cr_expect_eq(ws_wait_end(&w, &n), 0);
	cr_expect_eq(n.fid, 20);
	for (i = 0; i < 200; i++)
		lab_answer_node(&l, m.call, &b); /* was answered */
	w2 = making("b");
	lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m2);
	cr_expect_neq(m2.call, m.call);
	lab_answer_node(&l, m.call, &a);
	lab_answer_node(&l, m2.call, &b);
	cr_expect_eq(ws_wait_end(&w2, &n), 0);
	cr_expect_eq(n.fid, 21);
	works_still("c", 22, false);
}

Test(ws_liar, an_answer_of_another_kind)
{
	struct msg_NODE a = lab_node(20, S_IFREG | 0644, 0, 5);
	struct msg_FS_MAKE m;
	struct ws_wait *w = making("a");

	lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m);
	lab_ok(&l, m.call);
	cr_expect_lt(ws_wait_end(&w, NULL), 0);
	w = making("b");
	lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m);
	(void)!frame_send(l.control, MSG_FS_DATA, &(struct msg_FS_DATA){ .call = m.call }, clock_after_ms(LAB_MS));
	cr_expect_lt(ws_wait_end(&w, NULL), 0);
	w = making("c");
	lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m);
	(void)!frame_send(l.control, MSG_FS_NODE, &(struct msg_FS_NODE){ .call = m.call }, clock_after_ms(LAB_MS));
	cr_expect_lt(ws_wait_end(&w, NULL), 0);
	w = making("d");
	lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m);
	lab_answer_node(&l, m.call, &a);
	cr_expect_eq(ws_wait_end(&w, NULL), 0);
	works_still("e", 22, false);
}

/* Many questions, no answer: a limit, and an end for each when the agent hangs up. */
Test(ws_liar, never_an_answer)
{
	enum { N = 6000 };
	struct ws_wait **w = must_calloc(N, sizeof(struct ws_wait *));
	long before = resident_kib();
	unsigned i, failed = 0;
	char name[16];

	for (i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		w[i] = making(name);
	}
	lab_hangup(&l);
	for (i = 0; i < N; i++)
		failed += ws_wait_end(&w[i], NULL) < 0;
	cr_expect_eq(failed, N);
	if (!is_sanitized())
		cr_expect_lt(resident_kib() - before, 128 * 1024, "%ld KiB", resident_kib() - before);
	lab_accept(&l, 1);
	works_still("late", 30, false);
	free(w);
}

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static void tell_seq(uint64_t seq, uint64_t flags, const char *name, uint64_t fid)
{
	struct msg_CHANGES m = { .seq = seq, .flags = flags };

	lab_file(&l, name, fid, 0, 6);
	m.records = msg_list_span(&l.records);
	(void)!frame_send(l.control, MSG_CHANGES, &m, clock_after_ms(LAB_MS));
	msg_list_fini(&l.records);
	msg_list_init(&l.records, FRAME_MAX);
}

/* Numbers of batches only come back in acknowledgements: no number makes anything but the told change. */
Test(ws_liar, sequence_numbers)
{
	const uint64_t lies[] = { 1, 1, 0, 100, 7, UINT64_MAX, UINT64_MAX, 0 };
	struct node n;
	char name[16];
	size_t i;

	for (i = 0; i < ARRAY_LEN(lies); i++) {
		snprintf(name, sizeof(name), "s%zu", i);
		tell_seq(lies[i], 0, name, 40 + i);
	}
	works_still("last", 60, true);
	for (i = 0; i < ARRAY_LEN(lies); i++) {
		snprintf(name, sizeof(name), "s%zu", i);
		if (ws_resolve(l.ws, name, &n) == 0)
			cr_expect_eq(n.fid, 40 + i);
	}
	lab_fsck(&l);
}

/* --- shipments ---------------------------------------------------------------------------------------------------- */

Test(ws_liar, shipments_out_of_order)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 100, 6), none = lab_node(99, S_IFREG | 0644, 5, 6);
	struct msg_NODE dir = lab_node(13, S_IFDIR | 0755, 5, 6);

	lab_file(&l, "f", 12, 100, 6);
	lab_batch(&l, 0);
	lab_ship_data(&l, 0, SPAN("x", 1));
	expect_refused("outside a shipment", "a", 70);
	lab_ship_end(&l, true, false);
	expect_refused("end of no shipment", "b", 71);
	lab_ship_begin(&l, 1, 0, &told);
	lab_ship_begin(&l, 2, 0, &told);
	expect_refused("out of order", "c", 72);
	lab_ship_begin(&l, 3, 0, &told);
	lab_ship_data(&l, 99, SPAN("xy", 2));
	expect_refused("outside a shipment", "d", 73);
	lab_ship_begin(&l, 4, 0, &told);
	lab_ship_data(&l, INT64_MAX, SPAN("xy", 2));
	expect_refused("outside a shipment", "e", 74);
	lab_send_ship(&l, MSG_SHIP, &(struct msg_SHIP){ .ship = 5 });
	expect_refused("of no inode", "f2", 75);
	/* a base that never was, a file that nobody knows, a directory: taken or refused, nothing comes of it */
	lab_ship_begin(&l, 6, 4711, &told);
	lab_ship_end(&l, true, false);
	lab_ship_begin(&l, 7, 0, &none);
	lab_ship_data(&l, 0, SPAN("12345", 5));
	lab_ship_end(&l, true, false);
	lab_ship_begin(&l, 8, 0, &dir);
	lab_ship_end(&l, true, false);
	lab_ship_begin(&l, 6, 6, &told); /* a number again, on top of itself */
	lab_ship_end(&l, true, true);
	works_still("g", 76, false);
}

static void rest(uint64_t ship)
{
	lab_send_ship(&l, MSG_SHIP_ASIDE, &(struct msg_SHIP_ASIDE){ .ship = ship });
}

Test(ws_liar, shipments_that_cannot_rest_or_go_on)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 100, 6);

	lab_file(&l, "f", 12, 100, 6);
	lab_batch(&l, 0);
	rest(0);
	expect_refused("cannot rest", "a", 70);
	rest(1);
	expect_refused("cannot rest", "b", 71);
	lab_ship_begin(&l, 1, 0, &told);
	rest(0);
	lab_ship_begin(&l, 2, 0, &told);
	rest(0);
	expect_refused("cannot rest", "c", 72);
	lab_ship_begin(&l, 3, 0, &told);
	rest(0);
	lab_ship_begin(&l, 4, 0, &told);
	rest(3);
	expect_refused("cannot rest", "d", 73);
	lab_ship_begin(&l, 5, 0, &told);
	rest(0);
	rest(6);
	expect_refused("cannot rest", "e", 74);
	lab_ship_begin(&l, 7, 0, &told);
	rest(0);
	lab_ship_data(&l, 0, SPAN("x", 1));
	expect_refused("outside a shipment", "f2", 75);
	/* the same file twice at once, and a connection that is lost while one rests */
	lab_ship_begin(&l, 8, 0, &told);
	lab_ship_data(&l, 0, SPAN("old", 3));
	rest(0);
	lab_ship_begin(&l, 9, 0, &told);
	lab_ship_end(&l, true, false);
	rest(8);
	lab_ship_end(&l, true, false);
	lab_ship_begin(&l, 10, 0, &told);
	rest(0);
	works_still("g", 76, false);
}

/* The same bytes twice, backwards, and in each other: what was said last, or a refusal. */
Test(ws_liar, offsets_that_go_back)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 200000, 6);
	static char bytes[70000];
	unsigned i;

	lab_file(&l, "f", 12, 200000, 6);
	lab_batch(&l, 0);
	memset(bytes, 'x', sizeof(bytes));
	lab_ship_begin(&l, 1, 0, &told);
	for (i = 0; i < 20; i++)
		lab_ship_data(&l, (i * 7 % 5) * 30000, SPAN(bytes, sizeof(bytes)));
	lab_ship_end(&l, true, false);
	works_still("g", 76, true);
}

/* A file of 8 EiB with a byte at its end is a hole; what is kept for it is little. */
Test(ws_liar, the_largest_size_there_is)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, INT64_MAX, 6);
	long before = resident_kib();

	ws_limit(l.ws, 1 << 20);
	lab_file(&l, "f", 12, INT64_MAX, 6);
	lab_batch(&l, 0);
	lab_ship_begin(&l, 1, 0, &told);
	lab_ship_data(&l, INT64_MAX - 8, SPAN("byte", 4));
	lab_ship_end(&l, true, false);
	works_still("g", 76, true);
	if (!is_sanitized())
		cr_expect_lt(resident_kib() - before, 128 * 1024, "%ld KiB", resident_kib() - before);
}

/* --- names and identities ----------------------------------------------------------------------------------------- */

static void told_name(struct span name, const char *why, const char *then, uint64_t fid)
{
	struct msg_NODE n = lab_node(50, S_IFREG | 0644, 0, 5);
	struct msg_CHANGE c = { .parent = LAB_ROOT, .name = name };
	struct msg_list nodes;

	msg_list_init(&nodes, FRAME_MAX);
	cr_assert_eq(msg_list_rec(&nodes, MSG_NODE, &n), 0);
	c.node = msg_list_span(&nodes);
	cr_assert_eq(msg_list_rec(&l.records, MSG_CHANGE, &c), 0);
	msg_list_fini(&nodes);
	lab_tell(&l, 0);
	expect_refused(why, then, fid);
}

Test(ws_liar, names_that_are_none)
{
	told_name(SPAN("a\0b", 3), "name", "one", 80);
	told_name(SPAN("\0", 1), "name", "two", 81);
	told_name(SPAN("/", 1), "name", "three", 82);
	told_name(SPAN("x/", 2), "name", "four", 83);
	told_name(SPAN(".", 1), "name", "five", 84);
	told_name(SPAN("..", 2), "name", "six", 85);
	told_name(SPAN("", 0), "name", "seven", 86);
}

/* One byte more than a file system has, in a record that is well-formed: made by hand, the encoder has no such length.
 */
Test(ws_liar, a_name_of_256_bytes)
{
	char name[256];
	struct node n;
	uint8_t *p;

	memset(name, 'a', 255);
	name[255] = '\0';
	lab_file(&l, name, 51, 0, 5);
	p = memmem(l.records.b.p, l.records.b.end, name, 255);
	cr_assert_not_null(p);
	cr_assert_eq(p[-1], 255);
	cr_assert_not_null(buf_reserve(&l.records.b, 2));
	p = memmem(l.records.b.p, l.records.b.end, name, 255);
	memmove(p + 2, p, l.records.b.p + l.records.b.end - p);
	l.records.b.end += 2;
	p[-2]++; /* a length of one byte becomes one of two */
	p[-1] = 1;
	p[0] = 0;
	p[1] = 'a';
	lab_tell(&l, 0);
	works_still("one", 80, true);
	cr_expect_neq(ws_resolve(l.ws, name, &n), 0); /* nor 255 of them */
}

/* The encoder makes no such record: one is changed after it was made. */
Test(ws_liar, a_name_of_another_length_than_it_says)
{
	static const uint8_t lies[] = { 0, 1, 254 };
	char name[256];
	uint8_t *p;
	size_t i;

	memset(name, 'a', 255);
	name[255] = '\0';
	for (i = 0; i < ARRAY_LEN(lies); i++) {
		lab_file(&l, name, 51, 0, 5);
		p = memmem(l.records.b.p, l.records.b.end, name, 255);
		cr_assert_not_null(p);
		cr_assert_eq(p[-1], 255);
		p[-1] = lies[i];
		lab_tell(&l, 0);
		works_still("one", 80, true);
	}
}

Test(ws_liar, identities_and_counts)
{
	struct msg_NODE a = lab_node(10, S_IFREG | 0644, 0, 5), dir = lab_node(11, S_IFDIR | 0755, 4096, 5);
	struct node n;

	lab_add(&l, 0, LAB_ROOT, "a", &a);
	lab_add(&l, 0, LAB_ROOT, "d", &dir);
	lab_batch(&l, 0);
	/* one identity, two names, one of them said to be alone, or with more names than there are atoms */
	a.nlink = 0;
	lab_add(&l, 0, LAB_ROOT, "b", &a);
	lab_batch(&l, 0);
	lab_fsck(&l);
	a.nlink = UINT32_MAX;
	lab_add(&l, 0, LAB_ROOT, "c", &a);
	lab_batch(&l, 0);
	lab_fsck(&l);
	a.nlink = 7; /* in a shipment, and with no name at all */
	lab_add(&l, 0, 0, "", &a);
	lab_batch(&l, 0);
	lab_fsck(&l);
	a.ctime_ns = 6;
	a.size = 4;
	lab_ship_begin(&l, 1, 0, &a);
	lab_ship_data(&l, 0, SPAN("1234", 4));
	lab_ship_end(&l, true, false);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "c", NULL);
	lab_batch(&l, 0);
	lab_fsck(&l);
	cr_expect_eq(ws_resolve(l.ws, "a", &n), 0);
	cr_expect_eq(n.nlink, 2); /* a and b: the names that are known, whatever is told */
	cr_expect_eq(n.size, 4);
	/* attributes at their ends */
	a.size = INT64_MAX;
	a.blocks = UINT64_MAX;
	a.ino = UINT64_MAX;
	a.rdev = UINT64_MAX;
	a.uid = a.gid = UINT32_MAX;
	a.mtime_ns = INT64_MIN;
	a.ctime_ns = INT64_MAX;
	a.mode = S_IFREG | 07777;
	lab_add(&l, 0, LAB_ROOT, "a", &a);
	lab_batch(&l, 0);
	cr_expect_eq(ws_resolve(l.ws, "a", &n), 0);
	lab_fsck(&l);
	/* a directory with two names, gone under one */
	lab_add(&l, 0, LAB_ROOT, "d2", &dir);
	lab_tell(&l, 0);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "d2", NULL);
	lab_tell(&l, 0);
	works_still("later", 80, true);
	/* the identity of a file again, as a directory, when its names are gone */
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "a", NULL);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "b", NULL);
	dir.fid = 10;
	lab_add(&l, 0, LAB_ROOT, "a", &dir);
	lab_tell(&l, 0);
	works_still("last", 81, true);
}

/* --- beginnings --------------------------------------------------------------------------------------------------- */

/* What only a host says, said by a guest: acknowledgements of things that were never sent first of all. */
Test(ws_liar, acknowledgements_of_nothing)
{
	struct msg_CHANGES_ACK changes = { .seq = 4711 };
	struct msg_SHIP_ACK ship = { .ship = 4711 };
	struct msg_REPLICATE replicate = { .call = 1 };
	struct msg_EXIT_ACK exit = { 0 };
	struct msg_STDIN_ACK in = { .offset = UINT64_MAX };
	struct msg_WINDOW window = { .stream = 1, .bytes = UINT64_MAX };
	const struct {
		enum msg_type type;
		const void *m;
	} lies[] = { { MSG_CHANGES_ACK, &changes }, { MSG_SHIP_ACK, &ship }, { MSG_REPLICATE, &replicate },
		     { MSG_EXIT_ACK, &exit },	    { MSG_STDIN_ACK, &in },  { MSG_WINDOW, &window } };
	char name[16];
	size_t i;

	for (i = 0; i < ARRAY_LEN(lies); i++) {
		(void)!frame_send(l.control, lies[i].type, lies[i].m, clock_after_ms(LAB_MS));
		(void)!frame_send(l.ship, lies[i].type, lies[i].m, clock_after_ms(LAB_MS));
		snprintf(name, sizeof(name), "after%zu", i);
		works_still(name, 90 + i, true);
	}
}

/* Connections whose hello never comes to its end: each costs a wait, none the workspace. The pauses between grow to two
 * seconds, so a hundred of them are for the long run. */
Test(ws_liar, hello_that_is_never_finished, .timeout = 400)
{
	struct pollfd p = { .fd = l.listener, .events = POLLIN };
	static const uint8_t part[] = { 0, 0, 0, 40, 1 };
	unsigned i, n = 0, times = getenv("BERTH_LONG") ? 100 : 12;
	int held[3], fd;

	lab_hangup(&l);
	for (i = 0; i < times; i++) {
		uint64_t noise = i * 0x9e3779b97f4a7c15ULL;

		cr_assert_eq(poll(&p, 1, 30000), 1, "no dial after %u", i);
		fd = accept4(l.listener, NULL, NULL, SOCK_CLOEXEC);
		cr_assert(fd >= 0);
		if (i % 3 == 0)
			(void)!write(fd, part, i % sizeof(part));
		else
			(void)!write(fd, &noise, sizeof(noise));
		if (i % 3 == 0 && n < (times > 12 ? ARRAY_LEN(held) : 1))
			held[n++] = fd; /* and silence, for as long as it cares to wait */
		else
			close(fd);
	}
	while (n > 0)
		close(held[--n]);
	lab_accept(&l, 1);
	works_still("late", 80, false);
}
