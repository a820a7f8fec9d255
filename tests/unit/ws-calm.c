/* SPDX-License-Identifier: Apache-2.0 */
/* Large files while somebody looks into other workspaces: the rule, with a clock of the test's; then a workspace whose
 * agent is the test. */
#define LAB_CALM_RATE 1 /* nothing comes of itself while the test runs */
#include "ws-lab.h"

#include "host/ws/calm.h"

#include <criterion/criterion.h>

enum { A = 7, B = 8, C = 9 };

Test(looks, only_those_of_others_count_and_only_for_a_second)
{
	uint64_t t = 5 * CLOCK_S, long_after = ((uint64_t)1 << 32) * CLOCK_MS + t;
	struct looks l = { 0 };

	cr_assert_not(looks_by_others(&l, A, t));
	looks_note(&l, A, t);
	cr_assert_not(looks_by_others(&l, A, t));
	cr_assert(looks_by_others(&l, B, t));
	looks_note(&l, B, t + CLOCK_MS);
	cr_assert(looks_by_others(&l, A, t + CLOCK_MS));
	cr_assert(looks_by_others(&l, B, t + CLOCK_MS));
	looks_note(&l, B, t + 999 * CLOCK_MS);
	looks_note(&l, C, t + 999 * CLOCK_MS);
	cr_assert(looks_by_others(&l, C, t + 1900 * CLOCK_MS));
	cr_assert(looks_by_others(&l, A, t + 1900 * CLOCK_MS));
	cr_assert_not(looks_by_others(&l, A, t + 1999 * CLOCK_MS));
	cr_assert_not(looks_by_others(&l, C, t + 1999 * CLOCK_MS));
	/* one that looks all the time does not hide another one */
	looks_note(&l, A, t + 3000 * CLOCK_MS);
	looks_note(&l, B, t + 3001 * CLOCK_MS);
	looks_note(&l, B, t + 3002 * CLOCK_MS);
	cr_assert(looks_by_others(&l, B, t + 3003 * CLOCK_MS));
	/* the milliseconds begin anew after 49 days */
	looks_note(&l, A, ((uint64_t)1 << 32) * CLOCK_MS - CLOCK_MS);
	cr_assert(looks_by_others(&l, B, ((uint64_t)1 << 32) * CLOCK_MS + CLOCK_MS));
	looks_note(&l, A, long_after);
	cr_assert(looks_by_others(&l, B, long_after + CLOCK_MS));
}

/* Random arrivals; the timer comes when it was asked to or later. The floor is given, and not more; nothing is lost. */
Test(calm, the_floor_and_no_more_and_nothing_is_lost)
{
	unsigned seed = 1;

	for (; seed < 200; seed++) {
		struct calm c = { .rate = 1 + (uint64_t)(rand_r(&seed) % (64 << 20)) };
		uint64_t t = 1000 * CLOCK_S, begun = t, came = 0, given = 0, at_least, most;
		unsigned i;

		for (i = 0; i < 500; i++) {
			uint64_t b = (uint64_t)(rand_r(&seed) % (1 << 20)), next = calm_next(&c);

			if (next == CLOCK_NEVER || rand_r(&seed) % 2) {
				came += b;
				given += calm_came(&c, t, b, true);
			} else {
				uint64_t by = (uint64_t)(rand_r(&seed) % 1000000);

				t = MAX(t, next) + by;
				given += calm_due(&c, t, true);
			}
			cr_assert_eq(given + c.owed, came);
			most = CALM_PIECE_B + 500 + CALM_AHEAD_S * c.rate;
			cr_assert_leq(given, most + (uint64_t)((double)(t - begun) / 1e9 * (double)c.rate));
		}
		/* as long as something is owed it goes on: what is left takes the time that the rate says */
		at_least = c.owed;
		begun = t;
		while (calm_next(&c) != CLOCK_NEVER) {
			t = MAX(t, calm_next(&c));
			given += calm_due(&c, t, true);
		}
		cr_assert_eq(given, came);
		cr_assert_leq((double)(t - begun) / 1e9, (double)(at_least + CALM_PIECE_B) / (double)c.rate);
		given += calm_came(&c, t, 5000000, true);
		given += calm_due(&c, t, false);
		cr_assert_eq(given, came + 5000000);
		cr_assert_eq(calm_came(&c, t, 77, false), 77);
		cr_assert_eq(calm_next(&c), CLOCK_NEVER);
	}
}

/* Who has not brought anything for a while brings the next large file at once. */
Test(calm, what_was_not_used_is_not_lost)
{
	struct calm c = { .rate = 1 << 20 };
	uint64_t t = 1000 * CLOCK_S, given = 0;
	unsigned i;

	for (i = 0; i < 64; i++)
		given += calm_came(&c, t, CALM_PIECE_B, true);
	cr_assert_eq(given, CALM_AHEAD_S << 20);
	cr_assert_eq(c.held_b, 0);
	given = calm_came(&c, t, CALM_PIECE_B, true) + calm_came(&c, t, CALM_PIECE_B, true);
	cr_assert_eq(given, CALM_PIECE_B);
	cr_assert_eq(c.held_b, CALM_PIECE_B);
	cr_assert_eq(calm_next(&c), t + CLOCK_S / 4);
	given = calm_due(&c, t + CLOCK_S / 4, true);
	cr_assert_eq(given, CALM_PIECE_B);
	t += 1000 * CLOCK_S;
	for (given = 0, i = 0; i < 100; i++)
		given += calm_came(&c, t, CALM_PIECE_B, true);
	cr_assert_eq(given, (CALM_AHEAD_S << 20) + CALM_PIECE_B);
}

Test(calm, no_rate_is_no_waiting)
{
	struct calm c = { .rate = 0 };

	cr_assert_eq(calm_came(&c, 1, 123456789, true), 123456789);
	cr_assert_eq(calm_next(&c), CLOCK_NEVER);
	cr_assert_eq(c.held_b, 0);
}

/* --- a workspace -------------------------------------------------------------------------------------------------- */

enum { PIECE = 250000, SIZE = 8 * PIECE };

static struct lab l;
static struct ws *other;
static pthread_t looker;
static bool is_looking;

static void *look(void *ctx)
{
	while (__atomic_load_n(&is_looking, __ATOMIC_SEQ_CST)) {
		ws_looked(ctx);
		(void)!poll(NULL, 0, 10);
	}
	return NULL;
}

static void begin_to_look(void)
{
	is_looking = true;
	ws_looked(other);
	pthread_create(&looker, NULL, look, other);
}

static void end_looking(void)
{
	__atomic_store_n(&is_looking, false, __ATOMIC_SEQ_CST);
	pthread_join(looker, NULL);
}

static void made(void)
{
	struct ws_conf conf;
	struct err e;

	lab_make(&l);
	conf = lab_conf(&l);
	cr_assert_eq(ws_open(&conf, "w2", true, &other, &e), 0);
}

static void ended(void)
{
	ws_unref(&other);
	lab_free(&l);
}

TestSuite(ws_calm, .init = made, .fini = ended, .timeout = 60);

static struct msg_NODE large = { .fid = 12 };

/* The first pieces of a large file, as many as @n. */
static void bring(unsigned from, unsigned n)
{
	static char bytes[PIECE];
	unsigned i;

	for (i = from; i < from + n; i++)
		lab_ship_data(&l, i * PIECE, SPAN(bytes, sizeof(bytes)));
}

static void begin_large(void)
{
	lab_start(&l);
	large = lab_node(12, S_IFREG | 0644, SIZE, 6);
	lab_file(&l, "large", 12, SIZE, 6);
	lab_batch(&l, 0);
	lab_ship_begin(&l, 1, 0, &large);
}

static uint64_t credit(uint64_t until)
{
	struct msg_WINDOW w;
	uint64_t sum = 0;

	while (sum < until) {
		lab_expect(l.ship, &l.ship_in, MSG_WINDOW, &w);
		sum += w.bytes;
	}
	return sum;
}

/* One piece is given, the others wait; a small file in between does not. @until: how it ends. */
static void hold_it(void)
{
	struct msg_NODE small = lab_node(13, S_IFREG | 0644, 3, 7);
	struct msg_SHIP_ACK ack;
	struct ws_stats stats;

	begin_to_look();
	begin_large();
	bring(0, 4);
	cr_assert_eq(credit(1), PIECE);
	lab_file(&l, "small", 13, 3, 7);
	lab_batch(&l, 0);
	lab_send_ship(&l, MSG_SHIP_ASIDE, &(struct msg_SHIP_ASIDE){ .ship = 0 });
	lab_ship_begin(&l, 2, 0, &small);
	lab_ship_data(&l, 0, SPAN("abc", 3));
	lab_ship_end(&l, true, false);
	cr_assert_eq(credit(1), 3, "the small one has its own back before all that the large one waits for");
	lab_expect(l.ship, &l.ship_in, MSG_SHIP_ACK, &ack);
	cr_assert_eq(ack.ship, 2);
	lab_send_ship(&l, MSG_SHIP_ASIDE, &(struct msg_SHIP_ASIDE){ .ship = 1 });
	bring(4, 1);
	do
		ws_stat(l.ws, &stats);
	while (stats.held_b < 4 * PIECE);
	cr_assert_eq(stats.ship_b, 5 * PIECE + 3);
}

static void rest_of_it(uint64_t ship)
{
	struct msg_SHIP_ACK ack;
	struct node n;

	bring(5, 3);
	lab_ship_end(&l, true, false);
	lab_expect(l.ship, &l.ship_in, MSG_SHIP_ACK, &ack);
	cr_assert_eq(ack.ship, ship);
	cr_assert_eq(ack.ok, 1);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_not(n.flags & NODE_PENDING);
	cr_assert_eq(n.content.size, SIZE);
	lab_fsck(&l);
}

static void *sync_it(void *ctx)
{
	struct err e;

	(void)ctx;
	return ws_sync(l.ws, clock_after_ms(LAB_MS), &e) == 0 ? ctx : NULL;
}

Test(ws_calm, a_sync_does_not_wait_for_it)
{
	struct msg_SYNC sync;
	pthread_t t;
	void *ok;

	hold_it();
	pthread_create(&t, NULL, sync_it, &l);
	cr_assert_eq(credit(4 * PIECE), 4 * PIECE);
	bring(5, 1); /* nor is anything withheld as long as it waits */
	cr_assert_eq(credit(1), PIECE);
	lab_expect(l.control, &l.control_in, MSG_SYNC, &sync);
	bring(6, 2);
	lab_ship_end(&l, true, false);
	lab_ok(&l, sync.call);
	pthread_join(t, &ok);
	cr_assert_not_null(ok);
	end_looking();
	lab_fsck(&l);
}

static void opened(void *ctx, int result, const struct node *n)
{
	cr_assert_eq(result, 0);
	cr_assert_eq(n->content.size, SIZE);
	__atomic_store_n((bool *)ctx, true, __ATOMIC_SEQ_CST);
}

Test(ws_calm, a_reader_does_not_wait_for_it)
{
	bool done = false;

	hold_it();
	ws_open_content(l.ws, 12, clock_after_ms(LAB_MS), opened, &done);
	cr_assert_eq(credit(4 * PIECE), 4 * PIECE);
	rest_of_it(1);
	while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST))
		(void)!poll(NULL, 0, 1);
	end_looking();
}

Test(ws_calm, it_goes_on_when_nobody_looks_any_more)
{
	hold_it();
	end_looking();
	cr_assert_eq(credit(4 * PIECE), 4 * PIECE);
	rest_of_it(1);
}

Test(ws_calm, looks_into_itself_are_none)
{
	begin_large();
	ws_looked(l.ws);
	bring(0, 5);
	cr_assert_eq(credit(5 * PIECE), 5 * PIECE);
	rest_of_it(1);
}

/* What does not know SHIP_ASIDE could not let small files pass. */
Test(ws_calm, an_agent_of_before_never_waits)
{
	l.generation = 3;
	begin_to_look();
	begin_large();
	bring(0, 5);
	cr_assert_eq(credit(5 * PIECE), 5 * PIECE);
	rest_of_it(1);
	end_looking();
}

/* A new connection begins with all its credit: nothing of the old one is given on it. */
Test(ws_calm, a_lost_connection_owes_nothing)
{
	hold_it();
	lab_hangup(&l);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
	lab_root(&l);
	lab_file(&l, "large", 12, SIZE, 6);
	lab_batch(&l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	end_looking();
	ws_looked(l.ws);
	lab_ship_begin(&l, 3, 0, &large);
	bring(0, 5);
	cr_assert_eq(credit(5 * PIECE), 5 * PIECE);
	rest_of_it(3);
}
