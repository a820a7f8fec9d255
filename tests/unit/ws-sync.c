/* SPDX-License-Identifier: Apache-2.0 */
/* Backlogs: contents that are asked for a lot at a time, and syncs that last as long as something comes. */
#include "ws-lab.h"

enum { FILES = 3000, FIRST = 100, LOT = 1024, QUIET_MS = 1000 };

struct syncer {
	struct lab *l;
	uint64_t quiet_ms;
	bool stop;
	int result, done; /* atomic */
	struct err e;
	pthread_t thread;
};

static void *run_sync(void *ctx)
{
	struct syncer *s = ctx;

	s->result = ws_sync_all(s->l->ws, s->quiet_ms, &s->stop, &s->e);
	__atomic_store_n(&s->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void begin(struct syncer *s, struct lab *l, uint64_t quiet_ms)
{
	*s = (struct syncer){ .l = l, .quiet_ms = quiet_ms };
	pthread_create(&s->thread, NULL, run_sync, s);
}

static int end(struct syncer *s)
{
	pthread_join(s->thread, NULL);
	return s->result;
}

static bool is_done(struct syncer *s)
{
	return __atomic_load_n(&s->done, __ATOMIC_ACQUIRE);
}

static struct msg_NODE file_of(unsigned i)
{
	return lab_node(FIRST + i, S_IFREG | 0644, 4, 1000);
}

/* A scan that tells files which the host has no content of, and nobody says written. */
static void tell_files(struct lab *l)
{
	char name[16];
	unsigned i;

	lab_root(l);
	for (i = 0; i < FILES; i++) {
		struct msg_NODE n = file_of(i);

		snprintf(name, sizeof(name), "f%u", i);
		lab_add(l, 0, LAB_ROOT, name, &n);
	}
	lab_batch(l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
}

static unsigned pending(struct lab *l)
{
	struct node n = { .fid = 0 };
	struct txn *t = NULL;
	unsigned some = 0;

	cr_assert_eq(txn_read(ws_db(l->ws), &t, NULL), 0);
	while (node_next_pending(t, n.fid, &n) == 0)
		some++;
	txn_abort(&t);
	return some;
}

Test(sync, what_a_scan_shows_is_asked_for_in_lots)
{
	static bool asked[FILES];
	struct msg_SYNC sync;
	struct syncer s;
	unsigned shipped = 0, at_once;
	struct lab l;

	lab_make(&l);
	lab_start(&l);
	begin(&s, &l, LAB_MS);
	lab_expect(l.control, &l.control_in, MSG_SYNC, &sync);
	tell_files(&l);
	lab_ok(&l, sync.call); /* this agent has sent all that it was asked for so far */
	at_once = 0;
	while (shipped < FILES) {
		struct frame f = lab_recv(l.control, &l.control_in);
		struct msg_FETCH fetch;
		struct msg_NODE n;

		if (f.type == MSG_FETCH) {
			cr_assert_eq(msg_decode(f.type, f.payload, &fetch, NULL), 0);
			cr_assert(fetch.fid >= FIRST && fetch.fid < FIRST + FILES);
			at_once++;
		}
		frame_consume(&l.control_in, &f);
		if (f.type != MSG_FETCH || asked[fetch.fid - FIRST])
			continue;
		asked[fetch.fid - FIRST] = true;
		if (at_once == 1) /* nothing was shipped yet: the others of the lot, of two when a second has passed */
			cr_assert_leq(lab_count(l.control, &l.control_in, MSG_FETCH), 2 * LOT);
		n = file_of((unsigned)(fetch.fid - FIRST));
		cr_assert_not(is_done(&s));
		cr_assert(lab_ship(&l, ++shipped, &n, span_str("data")));
		if (at_once == 1) { /* those that were only counted are asked for again, by the sync */
			memset(asked, 0, sizeof(asked));
			asked[fetch.fid - FIRST] = true;
		}
	}
	cr_assert_eq(end(&s), 0, "%s", s.e.text);
	cr_assert_eq(pending(&l), 0);
	lab_fsck(&l);
	lab_free(&l);
}

/* Ships the same file again and again. */
static unsigned ship_on(struct lab *l, struct syncer *s, unsigned from, uint64_t until)
{
	struct msg_NODE n = lab_node(FIRST, S_IFREG | 0644, 4, 1000);

	while (!is_done(s) && clock_now() < until) {
		n.ctime_ns++;
		(void)lab_ship(l, ++from, &n, span_str("data"));
	}
	return from;
}

Test(sync, lasts_as_long_as_something_comes_and_not_for_ever)
{
	unsigned ships = 0;
	struct msg_SYNC m;
	struct syncer s;
	struct lab l;

	lab_make(&l);
	lab_start(&l);
	lab_file(&l, "f", FIRST, 4, 1000);
	lab_batch(&l, 0);
	begin(&s, &l, QUIET_MS);
	lab_expect(l.control, &l.control_in, MSG_SYNC, &m);
	ships = ship_on(&l, &s, ships, clock_after_ms(QUIET_MS * 5 / 2));
	cr_assert_not(is_done(&s));
	lab_ok(&l, m.call);
	cr_assert_eq(end(&s), 0, "%s", s.e.text);
	begin(&s, &l, QUIET_MS / 2); /* nothing comes */
	cr_assert_eq(end(&s), -ETIMEDOUT);
	begin(&s, &l, QUIET_MS / 4); /* something comes, but never an answer */
	ship_on(&l, &s, ships, clock_after_ms(LAB_MS));
	cr_assert_eq(end(&s), -ETIMEDOUT);
	begin(&s, &l, LAB_MS * 10);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	cr_assert_eq(end(&s), -ECANCELED);
	lab_free(&l);
}

/* Many small files: each is acknowledged, and all credit comes back, in whatever pieces. */
Test(sync, the_credit_of_small_files_comes_back)
{
	uint64_t credit = 0;
	unsigned i, acks = 0;
	char name[16];
	struct lab l;

	lab_make(&l);
	lab_start(&l);
	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		lab_file(&l, name, FIRST + i, 4, 1000);
	}
	lab_batch(&l, 0);
	for (i = 0; i < 100; i++) {
		struct msg_NODE n = file_of(i);

		lab_ship_begin(&l, i + 1, 0, &n);
		lab_ship_data(&l, 0, span_str("data"));
		lab_ship_end(&l, true, false);
	}
	while (acks < 100 || credit < 400) {
		struct frame f = lab_recv(l.ship, &l.ship_in);
		struct msg_WINDOW win;
		struct msg_SHIP_ACK ack;

		if (f.type == MSG_WINDOW) {
			cr_assert_eq(msg_decode(f.type, f.payload, &win, NULL), 0);
			credit += win.bytes;
		} else {
			cr_assert_eq(f.type, MSG_SHIP_ACK);
			cr_assert_eq(msg_decode(f.type, f.payload, &ack, NULL), 0);
			cr_assert_eq(ack.ship, ++acks);
			cr_assert(ack.ok);
		}
		frame_consume(&l.ship_in, &f);
	}
	cr_assert_eq(credit, 400);
	cr_assert_eq(pending(&l), 0);
	lab_free(&l);
}
