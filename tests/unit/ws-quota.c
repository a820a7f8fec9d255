/* SPDX-License-Identifier: Apache-2.0 */
/* How much a workspace may make the store take: what it holds and what is not collected yet, not all it ever wrote. */
#include "ws-lab.h"

enum { LEN = 960 * 1024, PIECE = 240 * 1024, TIMES = 8 };

static struct lab l;
static uint8_t bytes[LEN];
static unsigned asked;
static bool is_asked, stop; /* atomic */

static void made(void)
{
	lab_make(&l);
	lab_start(&l);
	ws_limit(l.ws, 1 << 20);
}

static void ended(void)
{
	lab_free(&l);
}

TestSuite(ws_quota, .init = made, .fini = ended, .timeout = 60);

/* The same file anew, nearly as large as the workspace may be. */
static struct msg_NODE begin(unsigned round)
{
	struct msg_NODE n = lab_node(12, S_IFREG | 0644, LEN, 10 + round);

	fill(bytes, LEN, round);
	lab_file(&l, "f", 12, LEN, 10 + round);
	lab_batch(&l, 0);
	return n;
}

static void ship(uint64_t ship, const struct msg_NODE *n, bool ok)
{
	size_t at;

	lab_ship_begin(&l, ship, 0, n);
	for (at = 0; at < LEN; at += PIECE)
		lab_ship_data(&l, at, SPAN(bytes + at, PIECE));
	lab_ship_end(&l, ok, false);
}

static void taken(uint64_t ship)
{
	struct msg_SHIP_ACK ack;

	do
		lab_expect(l.ship, &l.ship_in, MSG_SHIP_ACK, &ack);
	while (ack.ship != ship);
	cr_assert(ack.ok);
}

static void rewrite(unsigned round)
{
	struct msg_NODE n = begin(round);

	ship(round, &n, true);
	taken(round);
}

static void refused(unsigned round)
{
	struct msg_NODE n = begin(round);

	ship(round, &n, true);
	lab_wait_why(&l, "quota-exceeded", true);
}

static void collect(void)
{
	struct gc_stats st;

	cr_assert_eq(store_gc(l.place.store, GC_EAGER, &st, NULL), 0);
}

static struct ws_usage usage(void)
{
	struct ws_usage u;

	cr_assert_eq(ws_usage(l.ws, &u), 0);
	return u;
}

Test(ws_quota, without_a_collection_what_was_ever_brought_counts)
{
	unsigned i;

	for (i = 1; i <= TIMES; i++)
		rewrite(i);
	cr_assert_eq(usage().charged_b, usage().brought_b);
	refused(i);
}

Test(ws_quota, what_a_collection_gave_back_counts_no_more)
{
	struct txn *t = NULL;
	struct ws_usage u;
	uint64_t given;
	unsigned i;

	for (i = 1; i <= 5 * TIMES; i++) {
		rewrite(i);
		if (i % 5 == 0)
			collect();
	}
	u = usage();
	cr_assert_geq(u.brought_b, 5 * TIMES * LEN);
	/* What it holds, and what may have come behind the last run. */
	cr_assert_leq(u.charged_b, 3 * LEN);
	rewrite(i);
	cr_assert_geq(usage().charged_b, 2 * LEN);
	/* The next daemon goes on from there. */
	cr_assert_eq(txn_read(ws_db(l.ws), &t, NULL), 0);
	cr_assert_eq(meta_get_u64(t, "given", &given), 0);
	txn_abort(&t);
	cr_assert_geq(given, 4 * TIMES * LEN);
}

static void want(void *ctx)
{
	(void)ctx;
	asked++;
	__atomic_store_n(&is_asked, true, __ATOMIC_RELEASE);
}

/* All that it may, in snapshots. */
static void hold(void)
{
	unsigned i;

	for (i = 1; i <= TIMES; i++) {
		struct snapshot s = { .created_ns = i };
		struct txn *t = NULL;

		rewrite(i);
		snprintf(s.name, sizeof(s.name), "s%u", i);
		cr_assert_eq(tree_seal(ws_db(l.ws), 0, &s.root, NULL), 0);
		cr_assert_eq(txn_write(ws_db(l.ws), &t, NULL), 0);
		cr_assert_eq(snapshot_put(t, &s, NULL), 0);
		cr_assert_eq(txn_commit(&t, NULL), 0);
		collect();
	}
	cr_assert_geq(usage().charged_b, TIMES * LEN);
}

Test(ws_quota, what_snapshots_hold_counts)
{
	hold();
	refused(TIMES + 1);
}

/* The agent is asked to tell again what was not taken. */
Test(ws_quota, without_its_snapshots_it_goes_on)
{
	struct snapshot s = { .created_ns = 1 };
	struct txn *t = NULL;
	unsigned i;

	store_gc_want(l.place.store, want, NULL);
	hold();
	ws_limit(l.ws, LEN - 4096);
	refused(TIMES + 1);
	collect();
	(void)!poll(NULL, 0, 1500); /* it looks once a second */
	lab_wait_why(&l, "quota-exceeded", true);
	cr_assert_eq(txn_write(ws_db(l.ws), &t, NULL), 0);
	for (i = 1; i <= TIMES / 2; i++) {
		snprintf(s.name, sizeof(s.name), "s%u", i);
		cr_assert_eq(snapshot_del(t, s.name, NULL), 0);
	}
	cr_assert_eq(txn_commit(&t, NULL), 0);
	collect();
	lab_wait_why(&l, "", false);
	lab_hangup(&l);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
	lab_root(&l);
	lab_batch(&l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	rewrite(TIMES + 2);
	store_gc_want(l.place.store, NULL, NULL);
}

/* Each byte is somebody's, and nobody else's. */
Test(ws_quota, what_several_have_is_held_by_one_of_them)
{
	struct wsdb *other;
	struct gc_held held[2];
	struct txn *t = NULL;
	struct gc_stats st;
	struct node n;

	rewrite(1);
	cr_assert_eq(ws_resolve(l.ws, "f", &n), 0);
	cr_assert_eq(wsdb_open(l.place.store, "w2", true, &other, NULL), 0);
	cr_assert_eq(txn_write(other, &t, NULL), 0);
	node_put(t, &n);
	entry_put(t, LAB_ROOT, span_str("g"), n.fid);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(store_gc(l.place.store, 0, &st, NULL), 0);
	store_gc_held(l.place.store, "w1", &held[0]);
	store_gc_held(l.place.store, "w2", &held[1]);
	cr_assert_geq(st.live_b, LEN);
	cr_assert_eq(held[0].bytes + held[1].bytes, st.live_b);
	cr_assert_eq(held[0].done, held[0].begun);
	wsdb_close(&other);
}

static void *collector(void *ctx)
{
	(void)ctx;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		if (__atomic_exchange_n(&is_asked, false, __ATOMIC_ACQ_REL))
			collect();
		(void)!poll(NULL, 0, 2);
	}
	return NULL;
}

/* Contents that no inode ever has: nobody but the quota knows of this garbage. */
Test(ws_quota, it_asks_for_a_collection)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, LEN, 6);
	struct ws_stats s;
	pthread_t thread;
	unsigned i;

	cr_assert_eq(pthread_create(&thread, NULL, collector, NULL), 0);
	store_gc_want(l.place.store, want, NULL);
	for (i = 1; i <= 5 * TIMES; i++) {
		struct msg_NODE n = begin(i);

		fill(bytes, LEN, 1000 + i);
		ship(2 * i, &told, false);
		fill(bytes, LEN, i);
		ship(2 * i + 1, &n, true);
		taken(2 * i + 1);
	}
	store_gc_want(l.place.store, NULL, NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	ws_stat(l.ws, &s);
	cr_assert_not(s.halted);
	cr_assert_geq(asked, 4);
	cr_assert_leq(usage().charged_b, usage().brought_max_b);
}

/* Somebody collects, but does not come: nothing is refused for good. */
Test(ws_quota, over_for_want_of_a_collection_it_is_put_off)
{
	struct msg_NODE n;
	unsigned i;

	store_gc_want(l.place.store, want, NULL);
	for (i = 1; i <= TIMES; i++)
		rewrite(i);
	n = begin(i);
	ship(i, &n, true);
	lab_wait_why(&l, "since the last collection", false);
	cr_assert_geq(asked, 1);
	collect();
	cr_assert_leq(usage().charged_b, 3 * LEN);
	store_gc_want(l.place.store, NULL, NULL);
}

/* Who hands over what the store has already is charged, too: the other one may give it up. */
Test(ws_quota, what_the_store_had_counts)
{
	unsigned i;

	store_gc_want(l.place.store, want, NULL);
	for (i = 1; i <= 4; i++) {
		struct msg_NODE n = begin(i);

		fill(bytes, LEN, 7);
		ship(i, &n, true);
		taken(i);
	}
	cr_assert_leq(usage().brought_b, 2 * LEN);
	cr_assert_geq(usage().charged_b, 4 * LEN);
	store_gc_want(l.place.store, NULL, NULL);
}
