/* SPDX-License-Identifier: Apache-2.0 */
/* Files of which only the names are told: their bytes come when somebody asks, are nobody's business else, and are
 * never zeros. The test plays the agent. */
#include "host/ws/archive.h"
#include "ws-lab.h"

static const char rules[] = "[names]\n*.bin\n[none]\nout/\n";
static struct lab l;

static void made(void)
{
	lab_make(&l);
	cr_assert_eq(ws_set_keep(l.ws, rules, NULL), 0);
	lab_start(&l);
}

static void ended(void)
{
	lab_free(&l);
}

TestSuite(ws_kept, .init = made, .fini = ended, .timeout = 60);

static void told(const char *name, uint64_t fid, uint64_t size, int64_t ctime, unsigned flags)
{
	struct msg_NODE n = lab_node(fid, S_IFREG | 0644, size, ctime);

	lab_add(&l, flags, LAB_ROOT, name, &n);
	lab_batch(&l, 0);
}

static struct ws_wait *opening(uint64_t fid)
{
	struct ws_wait *w = ws_wait_new();

	ws_open_content(l.ws, fid, clock_after_ms(LAB_MS), ws_wait_done, w);
	return w;
}

static int opened(uint64_t fid, char *got, size_t size)
{
	struct ws_wait *w = opening(fid);
	struct node n;
	int r = ws_wait_end(&w, &n);

	return r < 0 ? r : (int)ws_read(l.ws, &n.content, 0, got, size);
}

static int written(uint64_t fid, uint64_t at, const char *text)
{
	struct ws_wait *w = ws_wait_new();

	ws_write(l.ws, fid, at, span_str(text), 0, ws_wait_done, w);
	return ws_wait_end(&w, NULL);
}

static int cut(uint64_t fid, uint64_t size)
{
	struct ws_attr a = { .which = WIRE_ATTR_SIZE, .size = size };
	struct ws_wait *w = ws_wait_new();

	ws_setattr(l.ws, fid, &a, ws_wait_done, w);
	return ws_wait_end(&w, NULL);
}

static void bring(uint64_t ship, uint64_t fid, int64_t ctime, const char *text)
{
	struct msg_NODE n = lab_node(fid, S_IFREG | 0644, strlen(text), ctime);

	cr_assert(lab_ship(&l, ship, &n, span_str(text)));
}

Test(ws_kept, what_is_opened_is_fetched_and_kept_until_it_changes)
{
	struct msg_FETCH fetch;
	struct ws_wait *w;
	struct node n;
	char got[8];

	told("a.bin", 12, 5, 6, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert(content_is_elsewhere(&n.content));
	cr_assert_eq(n.flags, 0);
	cr_assert_eq(n.size, 5);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 5), -ENODATA);
	w = opening(12);
	lab_expect(l.control, &l.control_in, MSG_FETCH, &fetch);
	cr_assert_eq(fetch.fid, 12);
	bring(1, 12, 6, "hello");
	cr_assert_eq(ws_wait_end(&w, &n), 0);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 8), 5);
	cr_assert_eq(opened(12, got, 8), 5);
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_FETCH), 0);
	/* Another mode is no other content; other bytes are. */
	told("a.bin", 12, 5, 6, WIRE_ENT_NAMES);
	cr_assert_eq(opened(12, got, 8), 5);
	told("a.bin", 12, 7, 9, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert(content_is_elsewhere(&n.content));
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_FETCH), 0);
	lab_fsck(&l);
}

Test(ws_kept, a_sync_and_a_seal_do_not_wait_for_it)
{
	struct msg_FETCH fetch;
	struct msg_NODE moved;
	struct digest tree;
	struct err e = ERR_NULL;
	struct node n;

	told("a.bin", 12, 5, 6, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	cr_assert_eq(tree_seal(ws_db(l.ws), 0, &tree, &e), 0, "%s", e.text);
	/* It gets a name that is kept: now it is owed. */
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "a.bin", NULL);
	moved = lab_node(12, S_IFREG | 0644, 5, 7);
	lab_add(&l, 0, LAB_ROOT, "a.txt", &moved);
	lab_tell(&l, 0);
	lab_expect(l.control, &l.control_in, MSG_FETCH, &fetch);
	lab_acked(&l);
	cr_assert_eq(fetch.fid, 12);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(n.flags, NODE_PENDING);
	cr_assert_eq(tree_seal(ws_db(l.ws), 0, &tree, NULL), -EAGAIN);
	bring(1, 12, 7, "hello");
	cr_assert_eq(tree_seal(ws_db(l.ws), 0, &tree, NULL), 0);
	lab_fsck(&l);
}

Test(ws_kept, a_stopped_workspace_has_no_bytes_of_it)
{
	char got[8];
	struct node n;

	told("a.bin", 12, 5, 6, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	ws_pause(l.ws);
	cr_assert_eq(opened(12, got, 8), -EBUSY);
	ws_stop(l.ws);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(n.size, 5);
}

Test(ws_kept, of_what_is_elsewhere_nothing_is_changed_but_all)
{
	struct msg_NODE dir = lab_node(20, S_IFDIR | 0755, 4096, 5);
	struct ws_wait *w;
	struct node n;
	char got[8];

	lab_add(&l, 0, LAB_ROOT, "d", &dir);
	told("a.bin", 12, 5, 6, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	ws_stop(l.ws);
	cr_assert_eq(opened(12, got, 8), -ENODATA);
	cr_assert_eq(written(12, 2, "x"), -ENODATA);
	cr_assert_eq(cut(12, 3), -ENODATA);
	cr_assert_eq(cut(12, 9), -ENODATA);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(n.size, 5);
	cr_assert(content_is_elsewhere(&n.content));
	w = ws_wait_new();
	ws_rename(l.ws, LAB_ROOT, span_str("a.bin"), 20, span_str("b"), 0, ws_wait_done, w);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	lab_fsck(&l);
	cr_assert_eq(cut(12, 0), 0);
	cr_assert_eq(written(12, 0, "new"), 0);
	cr_assert_eq(opened(12, got, 8), 3);
	lab_fsck(&l);
}

static int put_nothing(void *ctx, const void *data, size_t len)
{
	*(uint64_t *)ctx += len;
	(void)data;
	return 0;
}

Test(ws_kept, a_tree_carries_it_to_another_workspace)
{
	struct ws_conf conf = lab_conf(&l);
	struct digest tree, again;
	struct ws *ws = NULL;
	struct txn *t = NULL;
	struct node n, other;
	struct gc_stats gc;
	uint64_t left = 0, out = 0;

	told("a.bin", 12, 70000, 6, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	ws_stop(l.ws);
	cr_assert_eq(tree_seal(ws_db(l.ws), 0, &tree, NULL), 0);
	cr_assert_eq(ws_left_out(l.place.store, &tree, "", &left), 0);
	cr_assert_eq(left, 1);
	cr_assert_eq(ws_left_out(l.place.store, &tree, "a.bin", &left), 0);
	cr_assert_eq(left, 1);
	cr_assert_eq(ws_export(l.place.store, &tree, "", put_nothing, &out, NULL), 0);
	cr_assert_lt(out, 70000);
	cr_assert_eq(ws_open(&conf, "w2", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws_db(ws), &t, NULL), 0);
	cr_assert_eq(txn_plant(t, &tree, 1000, NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(ws_resolve(ws, "a.bin", &n), 0);
	cr_assert_eq(n.size, 70000);
	cr_assert(content_is_elsewhere(&n.content));
	cr_assert_eq(tree_seal(ws_db(ws), 0, &again, NULL), 0);
	cr_assert(digest_eq(&tree, &again));
	cr_assert_eq(ws_resolve(l.ws, "a.bin", &other), 0);
	cr_assert_eq(memcmp(&n.content, &other.content, sizeof(n.content)), 0);
	cr_assert_eq(store_gc(l.place.store, 0, &gc, NULL), 0);
	lab_fsck(&l);
	ws_unref(&ws);
}

static int made_here(const char *name, uint32_t mode)
{
	struct ws_wait *w = ws_wait_new();

	ws_make(l.ws, LAB_ROOT, span_str(name), mode, SPAN_NULL, ws_wait_done, w);
	return ws_wait_end(&w, NULL);
}

Test(ws_kept, what_would_not_be_kept_is_not_asked_for)
{
	struct ws_wait *w;

	told("a.txt", 12, 0, 6, 0);
	cr_assert_eq(made_here("out", S_IFDIR | 0755), -EPERM);
	w = ws_wait_new();
	ws_rename(l.ws, LAB_ROOT, span_str("a.txt"), LAB_ROOT, span_str("out"), 2, ws_wait_done, w);
	(void)!ws_wait_end(&w, NULL); /* a file of this name is kept: the agent is asked, and does not answer */
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_FS_MAKE), 0);
	ws_stop(l.ws);
	cr_assert_eq(made_here("out", S_IFDIR | 0755), 0);
	lab_fsck(&l);
}

Test(ws_kept, the_rules_are_told_to_every_agent)
{
	struct ws_conf conf = lab_conf(&l);
	struct ws *again = NULL;
	struct frame f;
	struct msg_REPLICATE m;

	lab_hangup(&l);
	lab_greet(&l, &l.control, &l.control_in, WIRE_CONTROL, 2);
	lab_greet(&l, &l.ship, &l.ship_in, WIRE_SHIP, 2);
	do {
		f = lab_recv(l.control, &l.control_in);
		if (f.type == MSG_REPLICATE) {
			cr_assert_eq(msg_decode(MSG_REPLICATE, f.payload, &m, NULL), 0);
			cr_assert(span_eq(m.rules, span_str(rules)));
		}
		frame_consume(&l.control_in, &f);
	} while (f.type != MSG_REPLICATE);
	ws_unref(&l.ws);
	cr_assert_eq(ws_open(&conf, "w1", false, &again, NULL), 0);
	cr_assert_str_eq(ws_keep(again), rules);
	cr_assert_eq(ws_keep_count(again), 2);
	cr_assert_not(ws_is_kept_at(again, "x/out", true));
	l.ws = again;
}

/* Where there are no rules nobody may say so: the content is owed. */
Test(ws_unkept, a_mark_without_rules_counts_for_nothing, .timeout = 60)
{
	struct node n;

	lab_make(&l);
	lab_start(&l);
	told("a.bin", 12, 5, 6, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(n.flags, NODE_PENDING);
	lab_free(&l);
}

Test(ws_kept, no_size_is_too_large)
{
	struct digest tree;
	struct node n;

	told("a.bin", 12, INT64_MAX, 6, WIRE_ENT_NAMES | WIRE_ENT_WRITTEN);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert(content_is_elsewhere(&n.content));
	cr_assert_eq(tree_seal(ws_db(l.ws), 0, &tree, NULL), 0);
	lab_fsck(&l);
}
