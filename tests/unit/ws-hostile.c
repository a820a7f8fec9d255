/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent that means harm can say, and that the host's copy stays whole, its memory and disk bounded. */
#include "ws-lab.h"

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

TestSuite(ws_hostile, .init = made, .fini = ended, .timeout = 60);

static struct ws_wait *renaming(uint64_t from_dir, const char *from, uint64_t to_dir, const char *to)
{
	struct ws_wait *w = ws_wait_new();

	ws_rename(l.ws, from_dir, span_str(from), to_dir, span_str(to), 0, ws_wait_done, w);
	return w;
}

static void expect_refused(const char *why)
{
	lab_wait_why(&l, why, false);
	lab_fsck(&l);
}

Test(ws_hostile, a_directory_inside_itself)
{
	struct msg_NODE a = lab_node(10, S_IFDIR | 0755, 4096, 5), b = lab_node(11, S_IFDIR | 0755, 4096, 5);

	lab_add(&l, 0, LAB_ROOT, "a", &a);
	lab_add(&l, 0, 10, "b", &b);
	lab_batch(&l, 0);
	lab_add(&l, 0, 11, "a", &a);
	lab_tell(&l, 0);
	expect_refused("inside itself");
}

Test(ws_hostile, a_rename_into_itself_that_is_said_to_have_worked)
{
	struct msg_NODE a = lab_node(10, S_IFDIR | 0755, 4096, 5), b = lab_node(11, S_IFDIR | 0755, 4096, 5);
	struct msg_FS_RENAME m;
	struct ws_wait *w;
	struct node n;

	lab_add(&l, 0, LAB_ROOT, "a", &a);
	lab_add(&l, 0, 10, "b", &b);
	lab_batch(&l, 0);
	w = renaming(LAB_ROOT, "a", 11, "c");
	lab_expect(l.control, &l.control_in, MSG_FS_RENAME, &m);
	lab_answer_node(&l, m.call, &a);
	cr_assert_lt(ws_wait_end(&w, NULL), 0);
	cr_assert_eq(ws_resolve(l.ws, "a/b", &n), 0);
	lab_fsck(&l);
}

Test(ws_hostile, an_answer_with_somebody_elses_inode)
{
	struct msg_NODE a = lab_node(10, S_IFDIR | 0755, 4096, 5), b = lab_node(11, S_IFDIR | 0755, 4096, 5);
	struct msg_NODE root = lab_node(LAB_ROOT, S_IFDIR | 0755, 4096, 5), file = lab_node(10, S_IFREG | 0644, 7, 5);
	const struct msg_NODE *lies[] = { &a, &root, &file };
	struct msg_FS_MAKE m;
	struct ws_wait *w;
	struct node n;
	size_t i;

	lab_add(&l, 0, LAB_ROOT, "a", &a);
	lab_add(&l, 0, 10, "b", &b);
	lab_batch(&l, 0);
	for (i = 0; i < ARRAY_LEN(lies); i++) {
		w = ws_wait_new();
		ws_make(l.ws, 11, SPAN("new", 3), S_IFDIR | 0755, SPAN_NULL, ws_wait_done, w);
		lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m);
		lab_answer_node(&l, m.call, lies[i]);
		cr_assert_lt(ws_wait_end(&w, NULL), 0);
		cr_assert_eq(ws_resolve(l.ws, "a/b", &n), 0);
		lab_fsck(&l);
	}
}

Test(ws_hostile, attributes_that_turn_a_directory_into_a_file)
{
	struct msg_NODE a = lab_node(10, S_IFDIR | 0755, 4096, 5), b = lab_node(11, S_IFDIR | 0755, 4096, 5);
	struct msg_NODE lie = lab_node(10, S_IFREG | 0644, 0, 6);
	struct ws_attr attr = { .which = WIRE_ATTR_MODE, .mode = 0700 };
	struct msg_FS_ATTR m;
	struct ws_wait *w = ws_wait_new();

	lab_add(&l, 0, LAB_ROOT, "a", &a);
	lab_add(&l, 0, 10, "b", &b);
	lab_batch(&l, 0);
	ws_setattr(l.ws, 10, &attr, ws_wait_done, w);
	lab_expect(l.control, &l.control_in, MSG_FS_ATTR, &m);
	lab_answer_node(&l, m.call, &lie);
	cr_assert_lt(ws_wait_end(&w, NULL), 0);
	lab_fsck(&l);
}

Test(ws_hostile, a_made_file_that_has_bytes_already_is_pending)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6);
	struct msg_FS_MAKE m;
	struct ws_wait *w = ws_wait_new();
	struct node n;

	ws_make(l.ws, LAB_ROOT, SPAN("f", 1), S_IFREG | 0644, SPAN_NULL, ws_wait_done, w);
	lab_expect(l.control, &l.control_in, MSG_FS_MAKE, &m);
	lab_answer_node(&l, m.call, &told);
	cr_assert_eq(ws_wait_end(&w, &n), 0);
	cr_assert_eq(n.flags, NODE_PENDING);
}

Test(ws_hostile, impossible_records)
{
	struct msg_NODE file = lab_node(12, S_IFREG | 0644, 0, 5), dir = lab_node(12, S_IFDIR | 0755, 0, 5);
	struct msg_NODE none = lab_node(0, S_IFREG | 0644, 0, 5), root = lab_node(LAB_ROOT, S_IFDIR | 0755, 4096, 5);
	struct msg_NODE cap = file, cut = file, link = lab_node(13, S_IFLNK | 0777, 1, 5);
	const struct {
		unsigned flags;
		uint64_t parent;
		const char *name;
		const struct msg_NODE *node;
		const char *why;
	} lies[] = {
		{ 0, LAB_ROOT, "..", &file, "name" },	   { 0, LAB_ROOT, "a/b", &file, "name" },
		{ 0, LAB_ROOT, "", &file, "name" },	   { 0, LAB_ROOT, "x", &dir, "type" },
		{ 0, LAB_ROOT, "x", &none, "identity" },   { 0, LAB_ROOT, "x", &root, "root" },
		{ 0, LAB_ROOT, "x", NULL, "inode" },	   { WIRE_ENT_ONLY, 12, "", &file, "no directory" },
		{ WIRE_ENT_ONLY, 99, "", &file, "no directory" }, { 0, LAB_ROOT, "f", &cap, "attributes" },
		{ 0, LAB_ROOT, "f", &cut, "attributes" }, { 0, LAB_ROOT, "l", &link, "attributes" },
	};
	size_t i;

	cap.xattrs = SPAN("\0\23\0\0\0\0security.capability", 25);
	cut.xattrs = SPAN("\0\6\0\0\0\2user.ax", 13);
	link.target = SPAN("f", 1);
	link.xattrs = SPAN("\0\6\0\0\0\0user.a", 12);

	lab_add(&l, 0, LAB_ROOT, "f", &file);
	lab_batch(&l, 0);
	for (i = 0; i < ARRAY_LEN(lies); i++) {
		lab_add(&l, lies[i].flags, lies[i].parent, lies[i].name, lies[i].node);
		lab_tell(&l, 0);
		expect_refused(lies[i].why);
		lab_hangup(&l);
		lab_accept(&l, 1);
	}
}

/* What comes behind a batch that was refused is not applied: its acknowledgement would cover the refused one too. */
Test(ws_hostile, nothing_is_acknowledged_behind_a_refused_batch)
{
	struct msg_NODE none = lab_node(0, S_IFREG | 0644, 0, 5);
	unsigned i;

	lab_add(&l, 0, LAB_ROOT, "bad", &none);
	lab_tell(&l, 0);
	for (i = 0; i < 200; i++) {
		lab_file(&l, "good", 12, 0, 6);
		lab_tell(&l, 0);
	}
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_CHANGES_ACK), 0);
}

Test(ws_hostile, more_names_than_its_size_can_hold)
{
	char name[16];
	struct node n;
	unsigned i, k;

	ws_limit(l.ws, 16 << 20);
	for (i = 0; i < 66; i++) {
		for (k = 0; k < 1000; k++) {
			snprintf(name, sizeof(name), "f%u", i * 1000 + k);
			lab_file(&l, name, 100 + i * 1000 + k, 0, 6);
		}
		lab_tell(&l, 0);
	}
	lab_wait_why(&l, "quota-exceeded", true);
	cr_assert_eq(ws_resolve(l.ws, "f65999", &n), -ENOENT);
}

Test(ws_hostile, more_extended_attributes_than_its_size)
{
	AUTO(mem_free) char *big = must_calloc(1, XATTRS_MAX);
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, 0, 6);
	char name[16];
	struct node got;
	unsigned i;

	ws_limit(l.ws, 1 << 20);
	memcpy(big, "\0\6\0\0\377\344user.a", 12); /* the rest of 65,520 bytes is its value */
	n.xattrs = SPAN(big, XATTRS_MAX);
	for (i = 0; i < 100; i++) { /* told anew, replaced, and gone again: not more than one at a time */
		n.ctime_ns = 10 + i;
		big[100] = (char)i;
		lab_add(&l, 0, LAB_ROOT, "same", &n);
		if (i % 10 == 9)
			lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "same", NULL);
		lab_batch(&l, 0);
	}
	lab_fsck(&l);
	for (i = 0; i < 17; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		n.fid = n.ino = 100 + i;
		lab_add(&l, 0, LAB_ROOT, name, &n);
		lab_tell(&l, 0);
	}
	lab_wait_why(&l, "quota-exceeded", true);
	cr_assert_eq(ws_resolve(l.ws, "f16", &got), -ENOENT);
}

/* Void, so that no inode ever names it, and 20 bytes on the wire are 64 KiB in the store. */
Test(ws_hostile, more_bytes_than_its_size)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, INT64_MAX, 6);
	uint64_t ship, i;

	ws_limit(l.ws, 1 << 20);
	lab_file(&l, "f", 12, INT64_MAX, 6);
	lab_batch(&l, 0);
	for (ship = 1; ship < 30; ship++) {
		lab_ship_begin(&l, ship, 0, &told);
		for (i = 1; i < 10; i++) {
			uint64_t byte = ship * 100 + i;

			lab_ship_data(&l, i * CHUNK_LEN - sizeof(byte), SPAN(&byte, sizeof(byte)));
		}
		lab_ship_end(&l, false, false);
	}
	lab_wait_why(&l, "quota-exceeded", true);
}

Test(ws_hostile, a_connection_that_is_dropped_at_once_each_time)
{
	struct pollfd p = { .fd = l.listener, .events = POLLIN };
	uint64_t until;
	unsigned n = 0;

	lab_hangup(&l);
	for (until = clock_after_ms(1500); clock_now() < until; n++) {
		if (poll(&p, 1, 1500) != 1)
			break;
		lab_greet(&l, &l.control, &l.control_in, WIRE_CONTROL, 1);
		lab_greet(&l, &l.ship, &l.ship_in, WIRE_SHIP, 1);
		lab_hangup(&l);
	}
	cr_assert_leq(n, 12);
}

Test(ws_hostile, more_names_of_one_file_than_there_can_be)
{
	struct txn *t = NULL;
	struct node n;

	lab_file(&l, "one", 12, 0, 6);
	lab_batch(&l, 0);
	cr_assert_eq(txn_write(ws_db(l.ws), &t, NULL), 0);
	cr_assert_eq(node_get(t, 12, &n), 0);
	n.nlink = 2 * 65000 - 1; /* as if all these had been told */
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	lab_file(&l, "two", 12, 0, 6);
	lab_batch(&l, 0);
	lab_file(&l, "three", 12, 0, 6);
	lab_tell(&l, 0);
	lab_wait_why(&l, "more names of one file", false);
	cr_assert_eq(ws_resolve(l.ws, "three", &n), -ENOENT);
}
