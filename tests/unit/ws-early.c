/* SPDX-License-Identifier: Apache-2.0 */
/* Contents that come before the names that the agent sent before them. */
#include "ws-lab.h"

enum { PIECE = 256 * 1024, PIECES = 40, A_MOMENT_US = 50000, LARGE = 17 * 1024 * 1024 };

static struct lab l;

static void begin(void)
{
	lab_make(&l);
	cr_assert_eq(ws_set_keep(l.ws, "[names]\n*.bin\n", NULL), 0);
	lab_start(&l);
}

static void end(void)
{
	lab_fsck(&l);
	lab_free(&l);
}

TestSuite(ws_early, .init = begin, .fini = end, .timeout = 60);

/* Return: how many of its bytes a file has here; -ENODATA: its content has not come. */
static ssize_t bytes_of(uint64_t fid, void *to, size_t size)
{
	struct node n;

	cr_assert_eq(ws_getattr(l.ws, fid, &n), 0);
	return n.flags & NODE_PENDING ? -ENODATA : ws_read(l.ws, &n.content, 0, to, size);
}

static bool acked(uint64_t ship)
{
	struct msg_SHIP_ACK ack;

	lab_expect(l.ship, &l.ship_in, MSG_SHIP_ACK, &ack);
	cr_assert_eq(ack.ship, ship);
	return ack.ok;
}

static void send_hello(uint64_t ship, uint64_t fid, uint64_t behind)
{
	struct msg_NODE n = lab_node(fid, S_IFREG | 0644, 5, 6);

	lab_ship_behind(&l, ship, 0, &n, behind);
	lab_ship_data(&l, 0, SPAN("hello", 5));
	lab_ship_end(&l, true, false);
}

Test(ws_early, a_content_waits_for_its_name)
{
	char got[8];

	send_hello(1, 12, l.seq + 2);
	send_hello(2, 13, 0); /* what comes behind it does not overtake it */
	lab_file(&l, "g", 13, 5, 6);
	lab_batch(&l, 0);
	usleep(A_MOMENT_US);
	cr_assert_eq(bytes_of(13, got, sizeof(got)), -ENODATA);
	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	cr_assert(acked(1));
	cr_assert(acked(2));
	cr_assert_eq(bytes_of(12, got, sizeof(got)), 5);
	cr_assert_eq(bytes_of(13, got, sizeof(got)), 5);
}

Test(ws_early, what_is_there_is_not_waited_for)
{
	char got[8];

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	send_hello(1, 12, l.seq);
	cr_assert(acked(1));
	cr_assert_eq(bytes_of(12, got, sizeof(got)), 5);
}

/* An agent that names what never comes: when more has come than its credit is worth, it is let through as it is. */
Test(ws_early, a_batch_that_never_comes)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, (uint64_t)PIECES * PIECE, 6);
	static uint8_t piece[PIECE];
	unsigned i;

	lab_file(&l, "f", 12, n.size, 6);
	lab_batch(&l, 0);
	lab_ship_behind(&l, 1, 0, &n, UINT64_MAX);
	for (i = 0; i < PIECES; i++)
		lab_ship_data(&l, (uint64_t)i * PIECE, SPAN(piece, sizeof(piece)));
	lab_ship_end(&l, true, false);
	cr_assert(acked(1));
}

/* What waited is gone with its connection, and the next one begins anew. */
Test(ws_early, a_connection_that_breaks)
{
	char got[8];

	send_hello(1, 12, l.seq + 1);
	usleep(A_MOMENT_US);
	lab_hangup(&l);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
	send_hello(2, 12, l.seq); /* told on the connection before: the scan comes behind it */
	usleep(A_MOMENT_US);
	lab_root(&l);
	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	cr_assert(acked(2));
	cr_assert_eq(bytes_of(12, got, sizeof(got)), 5);
}

/* Of a file that is kept as a name: the content that was fetched may not be what it has now. It stays, and is asked for
 * again; an end waits for that, and who dies before keeps it. */
Test(ws_early, a_name_that_was_written_at_the_same_time)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, 5, 6);
	struct msg_FETCH fetch;
	struct digest tree;
	struct node is;
	unsigned i;
	char got[8];

	lab_add(&l, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN, LAB_ROOT, "f.bin", &n);
	lab_batch(&l, 0);
	send_hello(1, 12, l.seq);
	cr_assert(acked(1));
	for (i = 0; i < 2; i++) {
		lab_add(&l, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN, LAB_ROOT, "f.bin", &n);
		lab_tell(&l, 0);
		lab_expect(l.control, &l.control_in, MSG_FETCH, &fetch);
		cr_assert_eq(fetch.fid, 12);
		lab_acked(&l);
		cr_assert_eq(ws_getattr(l.ws, 12, &is), 0);
		cr_assert_eq(is.flags, NODE_PENDING);
		cr_assert_eq(ws_read(l.ws, &is.content, 0, got, sizeof(got)), 5);
	}
	cr_assert_eq(tree_seal(ws_db(l.ws), 0, &tree, NULL), -EAGAIN);
	send_hello(2, 12, l.seq);
	cr_assert(acked(2));
	cr_assert_eq(ws_getattr(l.ws, 12, &is), 0);
	cr_assert_eq(is.flags, 0);
	cr_assert_eq(tree_seal(ws_db(l.ws), 0, &tree, NULL), 0);
}

/* A large one is not asked for by anybody but who opens it. */
Test(ws_early, a_large_name_that_was_written_at_the_same_time)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, (uint64_t)LARGE, 6);
	struct node is;

	lab_add(&l, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN, LAB_ROOT, "f.bin", &n);
	lab_batch(&l, 0);
	lab_ship_behind(&l, 1, 0, &n, l.seq); /* all of it is a hole */
	lab_ship_end(&l, true, false);
	cr_assert(acked(1));
	cr_assert_eq(ws_getattr(l.ws, 12, &is), 0);
	cr_assert_not(content_is_elsewhere(&is.content));
	lab_add(&l, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN, LAB_ROOT, "f.bin", &n);
	lab_batch(&l, 0);
	cr_assert_eq(ws_getattr(l.ws, 12, &is), 0);
	cr_assert(content_is_elsewhere(&is.content));
	cr_assert_eq(is.flags, 0);
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_FETCH), 0);
}

/* A stop with something that waits: nothing of it stays. */
Test(ws_early, a_stop)
{
	struct ws_stats s;

	send_hello(1, 12, l.seq + 1);
	do {
		usleep(1000);
		ws_stat(l.ws, &s);
	} while (!s.queued_b);
	ws_stop(l.ws);
	ws_stat(l.ws, &s);
	cr_assert_eq(s.queued_b, 0);
}

/* Emptied from here, then filled inside: what the agent takes for the same as before is not here any more. */
Test(ws_early, a_difference_over_nothing)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, 0, 7), more = lab_node(12, S_IFREG | 0644, 8, 8);
	struct ws_attr attr = { .which = WIRE_ATTR_SIZE, .size = 0 };
	struct ws_wait *w = ws_wait_new();
	struct msg_FS_ATTR asked;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	send_hello(1, 12, l.seq);
	cr_assert(acked(1));
	ws_setattr(l.ws, 12, &attr, ws_wait_done, w);
	lab_expect(l.control, &l.control_in, MSG_FS_ATTR, &asked);
	lab_answer_node(&l, asked.call, &n);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	lab_file(&l, "f", 12, 8, 8);
	lab_batch(&l, 0);
	lab_ship_behind(&l, 2, 1, &more, l.seq);
	lab_ship_data(&l, 5, SPAN("you", 3));
	lab_ship_end(&l, true, false);
	cr_assert_not(acked(2));
}
