/* SPDX-License-Identifier: Apache-2.0 */
/* What the host asks for under a path that somebody inside has changed a moment ago. */
#include "ws-lab.h"

static struct lab l;

/* A file "f" with bytes in a directory "d", and an empty "g" beside it. */
static void begin(void)
{
	struct msg_NODE dir = lab_node(11, S_IFDIR | 0755, 4096, 5), f = lab_node(12, S_IFREG | 0644, 5, 6);

	lab_make(&l);
	lab_start(&l);
	lab_add(&l, 0, LAB_ROOT, "d", &dir);
	lab_add(&l, WIRE_ENT_WRITTEN, 11, "f", &f);
	lab_file(&l, "g", 13, 0, 5);
	lab_batch(&l, 0);
	cr_assert(lab_ship(&l, 1, &f, SPAN("hello", 5)));
}

static void end(void)
{
	lab_free(&l);
}

TestSuite(ws_retry, .init = begin, .fini = end, .timeout = 60);

/* The next call to write or to remove. Return: its number; whether it is about @path. */
static uint64_t asked(const char *path, bool *ret_same)
{
	uint64_t call = 0;

	while (!call) {
		struct frame f = lab_recv(l.control, &l.control_in);
		struct msg_FS_WRITE w;
		struct msg_FS_REMOVE r;

		if (f.type == MSG_FS_WRITE) {
			cr_assert_eq(msg_decode(f.type, f.payload, &w, NULL), 0);
			call = w.call;
			*ret_same = span_eq(w.path, span_str(path));
		} else if (f.type == MSG_FS_REMOVE) {
			cr_assert_eq(msg_decode(f.type, f.payload, &r, NULL), 0);
			call = r.call;
			*ret_same = span_eq(r.path, span_str(path));
		}
		frame_consume(&l.control_in, &f);
	}
	return call;
}

/* Return: false: the last batch was acknowledged. */
static bool asked_or_acked(uint64_t *ret_call)
{
	bool is_asked = false, is_acked = false;

	while (!is_asked && !is_acked) {
		struct frame f = lab_recv(l.control, &l.control_in);
		struct msg_CHANGES_ACK ack;
		struct msg_FS_REMOVE m;

		if (f.type == MSG_CHANGES_ACK && msg_decode(f.type, f.payload, &ack, NULL) == 0)
			is_acked = ack.seq == l.seq;
		if (f.type == MSG_FS_REMOVE && msg_decode(f.type, f.payload, &m, NULL) == 0) {
			is_asked = true;
			*ret_call = m.call;
		}
		frame_consume(&l.control_in, &f);
	}
	return is_asked;
}

static void refuse(uint64_t call, const char *name)
{
	struct msg_ERROR m = { .call = call, .name = span_str(name), .slug = SPAN("x", 1), .text = SPAN("x", 1) };

	cr_assert_eq(frame_send(l.control, MSG_ERROR, &m, clock_after_ms(LAB_MS)), 0);
}

static void answer(uint64_t call, const struct msg_NODE *node)
{
	struct msg_FS_NODE m = { .call = call };
	struct msg_list nodes;

	msg_list_init(&nodes, FRAME_MAX);
	cr_assert_eq(msg_list_rec(&nodes, MSG_NODE, node), 0);
	m.node = msg_list_span(&nodes);
	cr_assert_eq(frame_send(l.control, MSG_FS_NODE, &m, clock_after_ms(LAB_MS)), 0);
	msg_list_fini(&nodes);
}

static struct ws_wait *write_first(uint64_t fid)
{
	struct ws_wait *w = ws_wait_new();

	ws_write(l.ws, fid, 0, SPAN("J", 1), 0, ws_wait_done, w);
	return w;
}

static void tell_rename(void)
{
	struct msg_NODE dir = lab_node(11, S_IFDIR | 0755, 4096, 7);

	lab_add(&l, 0, LAB_ROOT, "e", &dir);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "d", NULL);
	lab_tell(&l, 0);
}

/* Its directory has another name, which is told only when the agent has looked in vain; or another file has its name.
 */
static void renamed_meanwhile(const char *error)
{
	struct msg_NODE after = lab_node(12, S_IFREG | 0644, 5, 8);
	struct ws_wait *w = write_first(12);
	unsigned turns = 0;
	uint64_t call;
	struct node n;
	char got[8];
	bool same;

	for (;;) {
		call = asked("e/f", &same);
		if (same)
			break;
		refuse(call, error);
		if (turns++ == 0)
			tell_rename();
	}
	cr_assert_geq(turns, 1U);
	answer(call, &after);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 8), 5);
	cr_expect_arr_eq(got, "Jello", 5);
}

Test(ws_retry, a_directory_was_renamed)
{
	renamed_meanwhile("ENOENT");
}

Test(ws_retry, another_file_has_its_name)
{
	renamed_meanwhile("ESTALE");
}

/* Who looks for what somebody inside has removed is told so as soon as that is known. */
Test(ws_retry, what_is_gone_is_gone)
{
	struct ws_wait *w = ws_wait_new();
	uint64_t call;
	bool same;

	ws_remove(l.ws, LAB_ROOT, SPAN("g", 1), 0, ws_wait_done, w);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "g", NULL);
	refuse(asked("g", &same), "ENOENT");
	cr_assert(same);
	lab_tell(&l, 0);
	while (asked_or_acked(&call)) /* before it was told */
		refuse(call, "ENOENT");
	cr_assert_eq(ws_wait_end(&w, NULL), -ENOENT);
	cr_expect_eq(lab_count(l.control, &l.control_in, MSG_FS_REMOVE), 0U);
}

/* An agent that never tells another name: its answer is the answer. */
Test(ws_retry, not_for_ever)
{
	struct ws_wait *w = write_first(12);
	unsigned turns;
	bool same;

	for (turns = 0; turns < 11; turns++) {
		refuse(asked("d/f", &same), "ESTALE");
		cr_assert(same);
	}
	cr_assert_eq(ws_wait_end(&w, NULL), -ESTALE);
}

/* The answer is about a file that was not asked about: nothing is laid over it. */
Test(ws_retry, an_answer_about_another_one)
{
	struct msg_NODE another = lab_node(14, S_IFREG | 0644, 5, 6);
	struct ws_wait *w;
	struct node n;
	char got[8];
	bool same;

	lab_file(&l, "h", 14, 5, 6);
	lab_batch(&l, 0);
	cr_assert(lab_ship(&l, 2, &another, SPAN("world", 5)));
	w = write_first(12);
	another.ctime_ns = 8;
	answer(asked("d/f", &same), &another);
	cr_assert_eq(ws_wait_end(&w, NULL), -ESTALE);
	cr_assert_eq(ws_getattr(l.ws, 14, &n), 0);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 8), 5);
	cr_expect_arr_eq(got, "world", 5);
	lab_fsck(&l);
}
