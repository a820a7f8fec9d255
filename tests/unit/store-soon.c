/* SPDX-License-Identifier: Apache-2.0 */
/* Commits that are durable soon, from several threads, beside some that are durable at once, syncs, collections and
 * the calm between; and what goes back together when contents do. */
#include "store-lib.h"

#include "base/clock.h"
#include "host/store/gc.h"

#include <pthread.h>

enum { ROOT = 1, WRITERS = 4, EACH = 300 };

static struct place p;

static struct wsdb *new_ws(const char *id)
{
	struct node root = make_node(ROOT, S_IFDIR | 0755);
	struct wsdb *ws = NULL;
	struct txn *t = NULL;

	cr_assert_eq(wsdb_open(p.store, id, true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &root);
	meta_put_u64(t, "root-fid", ROOT);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	return ws;
}

/* One file of some bytes. Return: 0 or -errno. */
static int put_file(struct wsdb *ws, uint64_t fid, bool soon)
{
	struct node n = make_node(fid, S_IFREG | 0644);
	AUTO(txn_abort) struct txn *t = NULL;
	uint8_t bytes[600];
	char name[32];
	int r = txn_write(ws, &t, NULL);

	fill(bytes, sizeof(bytes), fid);
	if (r == 0)
		r = put_content(p.store, bytes, sizeof(bytes), &n.content);
	if (r == 0)
		r = soon ? store_settle_soon(p.store, NULL) : store_settle(p.store, NULL);
	if (r)
		return r;
	n.size = sizeof(bytes);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
	node_put(t, &n);
	entry_put(t, ROOT, span_str(name), fid);
	return soon ? txn_commit_soon(&t, NULL) : txn_commit(&t, NULL);
}

struct writer_job {
	struct wsdb *ws;
	uint64_t from;
	int failed;
};

static void *write_files(void *ctx)
{
	struct writer_job *j = ctx;
	uint64_t i;

	for (i = 0; i < EACH && !j->failed; i++) {
		j->failed = put_file(j->ws, j->from + i, i % 17 != 0);
		if (j->failed == 0 && i % 13 == 0)
			j->failed = wsdb_sync(j->ws, NULL);
	}
	return NULL;
}

static bool stop;

static void *disturb(void *ctx)
{
	struct gc_stats st;
	int *failed = ctx, i = 0, r;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		r = db_calm(p.store->content);
		if (r == 0)
			r = store_sync(p.store, NULL);
		if (r == 0 && ++i % 8 == 0)
			r = store_gc(p.store, GC_EAGER, &st, NULL);
		*failed = *failed ? *failed : r;
	}
	return NULL;
}

static size_t problems(void)
{
	struct fsck_stats st = { .problems = 0 };

	cr_assert_eq(store_fsck(p.store, NULL, NULL, &st, NULL), 0);
	return st.problems;
}

static bool is_there(struct wsdb *ws, uint64_t fid)
{
	struct txn *t = NULL;
	struct node n;
	bool is;

	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	is = node_get(t, fid, &n) == 0;
	txn_abort(&t);
	return is;
}

Test(soon, many_at_once, .timeout = 120)
{
	struct writer_job jobs[WRITERS] = { { .ws = NULL } };
	struct wsdb *ws[2];
	pthread_t threads[WRITERS], other;
	uint64_t fid;
	int i, failed = 0;

	place_make(&p, 1 << 28);
	ws[0] = new_ws("a");
	ws[1] = new_ws("b");
	cr_assert_eq(pthread_create(&other, NULL, disturb, &failed), 0);
	for (i = 0; i < WRITERS; i++) {
		jobs[i].ws = ws[i % 2];
		jobs[i].from = 10 + (uint64_t)i * EACH;
		cr_assert_eq(pthread_create(&threads[i], NULL, write_files, &jobs[i]), 0);
	}
	for (i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_eq(jobs[i].failed, 0, "%d", jobs[i].failed);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(other, NULL);
	cr_assert_eq(failed, 0, "%d", failed);
	for (i = 0; i < WRITERS; i++)
		for (fid = jobs[i].from; fid < jobs[i].from + EACH; fid++)
			cr_assert(is_there(jobs[i].ws, fid));
	cr_assert_eq(problems(), 0U);
	wsdb_close(&ws[0]);
	wsdb_close(&ws[1]);
	store_close(&p.store);
	cr_assert_eq(place_open(&p, 1 << 28), 0);
	cr_assert_eq(problems(), 0U);
	place_free(&p);
}

static void was_told(void *ctx)
{
	__atomic_add_fetch((int *)ctx, 1, __ATOMIC_RELAXED);
}

/* One workspace is durable, one is not when the contents go back. */
Test(soon, contents_go_back, .timeout = 60)
{
	int told[2] = { 0, 0 };
	struct wsdb *a, *b;

	place_make(&p, 1 << 28);
	a = new_ws("a");
	b = new_ws("b");
	wsdb_on_void(a, was_told, &told[0]);
	wsdb_on_void(b, was_told, &told[1]);
	cr_assert_eq(put_file(a, 10, true), 0);
	cr_assert_eq(put_file(b, 10, true), 0);
	cr_assert_eq(store_sync(p.store, NULL), 0);
	cr_assert_eq(put_file(b, 11, true), 0);
	db_give_up(p.store->content);
	cr_assert_eq(wsdb_sync(b, NULL), -EIO);
	cr_assert_eq(wsdb_sync(b, NULL), 0);
	cr_assert(is_there(b, 10) && !is_there(b, 11));
	cr_assert_eq(wsdb_sync(a, NULL), 0);
	cr_assert_eq(put_file(a, 12, false), 0);
	cr_assert_eq(put_file(b, 12, true), 0);
	cr_assert_eq(wsdb_sync(b, NULL), 0);
	cr_assert_eq(told[0], 0);
	cr_assert_eq(told[1], 1);
	cr_assert_eq(problems(), 0U);
	wsdb_on_void(b, NULL, NULL);
	wsdb_close(&a);
	wsdb_close(&b);
	place_free(&p);
}

/* Two seconds after the last of them commits are LMDB's own again, and nothing has to be put back. */
Test(soon, calm, .timeout = 60)
{
	uint64_t until = clock_after_ms(20000);
	const struct timespec nap = { .tv_nsec = 10000000 };
	struct wsdb *a;

	place_make(&p, 1 << 28);
	a = new_ws("a");
	cr_assert(!wsdb_is_lagging(a));
	cr_assert_eq(put_file(a, 10, true), 0);
	cr_assert(wsdb_is_lagging(a));
	while (wsdb_is_lagging(a) || db_is_lagging(p.store->content)) {
		cr_assert_lt(clock_now(), until);
		nanosleep(&nap, NULL);
	}
	cr_assert_eq(put_file(a, 11, false), 0);
	cr_assert(!wsdb_is_lagging(a));
	wsdb_close(&a);
	place_free(&p);
}

/* --- more of them than are open at once --------------------------------------------------------------------------- */

enum { MAPS = 256, TOLD_MS = 30000 };

static void settled(void *ctx)
{
	__atomic_store_n((bool *)ctx, true, __ATOMIC_RELEASE);
}

/* One that is closed for want of maps, and all others lag too: it is made durable first, and whoever waits for that
 * hears of it, as of any other. */
Test(soon, who_is_closed_meanwhile_is_told, .timeout = 120)
{
	const struct timespec quiet = { .tv_nsec = 250000000 };
	static struct wsdb *all[MAPS + 1];
	static struct txn *held[MAPS];
	static bool told;
	uint64_t until;
	char id[16];
	int i;

	place_make(&p, 1 << 30);
	all[MAPS] = new_ws("more");
	wsdb_close(&all[MAPS]);
	for (i = 0; i < MAPS; i++) {
		snprintf(id, sizeof(id), "w%d", i);
		all[i] = new_ws(id);
	}
	wsdb_on_settled(all[0], settled, &told);
	for (i = 0; i < MAPS; i++)
		cr_assert_eq(put_file(all[i], 10, true), 0);
	do { /* until the rounds of before are over; they lag for two seconds */
		__atomic_store_n(&told, false, __ATOMIC_RELEASE);
		nanosleep(&quiet, NULL);
	} while (__atomic_load_n(&told, __ATOMIC_ACQUIRE));
	for (i = 1; i < MAPS; i++)
		cr_assert_eq(txn_read(all[i], &held[i], NULL), 0);
	cr_assert_eq(put_file(all[0], 11, true), 0);
	/* In the place of the first, the only one that nobody uses. */
	cr_assert_eq(wsdb_open(p.store, "more", false, &all[MAPS], NULL), 0);
	cr_assert_leq(p.store->mapped, MAPS);
	until = clock_after_ms(TOLD_MS);
	while (!__atomic_load_n(&told, __ATOMIC_ACQUIRE) && clock_now() < until)
		usleep(1000);
	cr_assert(told, "nobody is told");
	for (i = 1; i < MAPS; i++)
		txn_abort(&held[i]);
	wsdb_on_settled(all[0], NULL, NULL);
	cr_assert(is_there(all[0], 11));
	for (i = 0; i <= MAPS; i++)
		wsdb_close(&all[i]);
	place_free(&p);
}
