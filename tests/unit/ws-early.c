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

static void send_bytes(uint64_t ship, const char *bytes, uint64_t behind)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, 5, 6);

	lab_ship_behind(&l, ship, 0, &n, behind);
	lab_ship_data(&l, 0, SPAN(bytes, 5));
	lab_ship_end(&l, true, false);
	cr_assert(acked(ship));
}

/* The same times once more, and perhaps other bytes. */
static void written(void)
{
	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
}

static void asked_for(void)
{
	struct msg_FETCH fetch;

	lab_expect(l.control, &l.control_in, MSG_FETCH, &fetch);
	cr_assert_eq(fetch.fid, 12);
}

struct opened {
	int result; /* 1: not yet */
	struct node n;
};

static void on_opened(void *ctx, int result, const struct node *n)
{
	struct opened *o = ctx;

	if (n)
		o->n = *n;
	__atomic_store_n(&o->result, result, __ATOMIC_RELEASE);
}

static bool is_open(struct opened *o)
{
	return __atomic_load_n(&o->result, __ATOMIC_ACQUIRE) != 1;
}

static void opens(struct opened *o)
{
	o->result = 1;
	ws_open_content(l.ws, 12, clock_after_ms(LAB_MS), on_opened, o);
}

static void yields(struct opened *o, const char *bytes)
{
	uint64_t until = clock_after_ms(LAB_MS);
	char got[8];

	while (!is_open(o) && clock_now() < until)
		usleep(1000);
	cr_assert_eq(__atomic_load_n(&o->result, __ATOMIC_ACQUIRE), 0);
	cr_assert_eq(ws_read(l.ws, &o->n.content, 0, got, sizeof(got)), 5);
	cr_assert_arr_eq(got, bytes, 5);
}

/* A file gets its times before its bytes, and may be shipped between: who opens it waits for the next shipment. For all
 * else the content is there: nothing is pending. */
Test(ws_early, the_same_time_and_other_bytes)
{
	struct opened o;
	char got[8];

	written();
	send_bytes(1, "hello", l.seq);
	opens(&o);
	cr_assert(is_open(&o));
	written();
	cr_assert_eq(bytes_of(12, got, sizeof(got)), 5);
	opens(&o);
	asked_for();
	cr_assert_not(is_open(&o));
	send_bytes(2, "world", l.seq);
	yields(&o, "world");
	opens(&o);
	cr_assert(is_open(&o));
}

/* One that was sent before that was told does not do; one that was sent behind it does, whatever was told since. */
Test(ws_early, a_shipment_from_before)
{
	struct opened o;
	uint64_t seq;

	written();
	written();
	seq = l.seq;
	send_bytes(1, "hello", seq - 1);
	opens(&o);
	asked_for();
	written();
	send_bytes(2, "hallo", seq - 1);
	cr_assert_not(is_open(&o));
	send_bytes(3, "world", seq);
	yields(&o, "world");
	opens(&o);
	asked_for();
	send_bytes(4, "later", 0); /* an agent of before does not say */
	yields(&o, "later");
}

/* Nobody ships it: what is here is better than nothing. So it is when the sandbox ends. */
Test(ws_early, what_is_here_will_do_after_a_while)
{
	struct opened o, later;

	written();
	send_bytes(1, "hello", l.seq);
	written();
	opens(&o);
	yields(&o, "hello");
	opens(&later);
	cr_assert_not(is_open(&later));
	ws_stop(l.ws);
	yields(&later, "hello");
}

/* What was written from here is what the agent tells of. */
Test(ws_early, what_the_host_wrote)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, 5, 7);
	struct ws_wait *w = ws_wait_new();
	struct msg_FS_WRITE asked;
	struct opened o;

	written();
	send_bytes(1, "hello", l.seq);
	ws_write(l.ws, 12, 0, SPAN("world", 5), 0, ws_wait_done, w);
	lab_expect(l.control, &l.control_in, MSG_FS_WRITE, &asked);
	lab_answer_node(&l, asked.call, &n);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	lab_file(&l, "f", 12, 5, 7);
	lab_batch(&l, 0);
	opens(&o);
	cr_assert(is_open(&o));
	yields(&o, "world");
}

/* Of a name whose content was asked for, and that was written meanwhile. */
Test(ws_early, a_name_that_was_written_while_its_content_was_on_its_way)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, 5, 6);
	struct opened o, late;

	lab_add(&l, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN, LAB_ROOT, "f.bin", &n);
	lab_batch(&l, 0);
	opens(&o);
	asked_for();
	lab_add(&l, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN, LAB_ROOT, "f.bin", &n);
	lab_batch(&l, 0);
	send_bytes(1, "hello", l.seq - 1);
	yields(&o, "hello"); /* it was opened before that was told */
	opens(&late);
	asked_for();
	send_bytes(2, "world", l.seq);
	yields(&late, "world");
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
