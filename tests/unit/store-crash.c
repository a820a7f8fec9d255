/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 at any moment: a child writes and says over a pipe what it was told is durable; it is killed after a random
 * number of those words; the store must open, verify clean, and hold all that was said.
 *
 * Built twice: with LOSE, what was not synced when it was killed is lost or not, page by page (lib/lose-io.h).
 *
 * What was committed "soon" outlives the writer's death. Of a power loss it survives as far as it was made durable, and
 * of the rest a beginning.
 */
#include "store-die.h"

#include "host/store/gc.h"

enum { ROUNDS = 60, ROOT = 1, HOT = 2 };

struct word {
	uint64_t fid, seed, len;
	uint64_t durable; /* every word up to this one, itself included, was said to be */
};

/* Its contents are garbage as soon as there are newer ones. */
static int rewrite_hot(struct store *s, struct txn *t, uint64_t seed)
{
	struct node n = make_node(HOT, S_IFREG | 0644);
	uint8_t bytes[3000];

	fill(bytes, sizeof(bytes), seed);
	if (put_content(s, bytes, sizeof(bytes), &n.content) || store_settle_soon(s, NULL))
		return -EIO;
	n.size = sizeof(bytes);
	node_put(t, &n);
	entry_put(t, ROOT, span_str("hot"), HOT);
	return 0;
}

/* As child(), with commits that are durable soon. Syncs now and then, seals, collections. */
static NORETURN void soon_child(const char *dir, uint64_t from, int out)
{
	struct place p = { .store = NULL };
	static uint8_t bytes[200000];
	struct gc_stats collected;
	struct wsdb *ws = NULL;
	struct digest tree;
	uint64_t fid;

	if (die_open(&p, dir) || wsdb_open(p.store, "w", false, &ws, NULL))
		_exit(3);
	for (fid = from;; fid++) {
		struct word w = { .fid = fid, .seed = fid * 77, .len = fid * 7919 % (fid % 9 ? 5000 : 200000) + 1 };
		struct node n = make_node(fid, S_IFREG | 0644);
		struct txn *t = NULL;
		char name[32];

		fill(bytes, w.len, w.seed);
		if (put_content(p.store, bytes, w.len, &n.content) || store_settle_soon(p.store, NULL))
			_exit(4);
		n.size = w.len;
		if (txn_write(ws, &t, NULL) || rewrite_hot(p.store, t, fid))
			_exit(5);
		snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
		node_put(t, &n);
		entry_put(t, ROOT, span_str(name), fid);
		if (txn_commit_soon(&t, NULL))
			_exit(6);
		if (fid % 23 == 0 && tree_seal(ws, 0, &tree, NULL))
			_exit(7);
		if (fid % 31 == 0 && store_gc(p.store, GC_EAGER, &collected, NULL))
			_exit(9);
		if (fid % 7 == 0 && wsdb_sync(ws, NULL))
			_exit(10);
		w.durable = fid % 7 == 0 || fid % 23 == 0;
		if (io_write_full(out, &w, sizeof(w)))
			_exit(8);
	}
}

static NORETURN void child(const char *dir, uint64_t from, int out)
{
	struct place p = { .store = NULL };
	static uint8_t bytes[200000];
	struct wsdb *ws = NULL;
	struct digest tree;
	uint64_t fid;

	if (die_open(&p, dir) || wsdb_open(p.store, "w", false, &ws, NULL))
		_exit(3);
	for (fid = from;; fid++) {
		struct word w = { .fid = fid, .seed = fid * 77, .len = fid * 7919 % sizeof(bytes) + 1 };
		struct journal_row row = { .kind = JOURNAL_CONTENT, .fid = fid };
		struct node n = make_node(fid, S_IFREG | 0644);
		struct txn *t = NULL;
		char name[32];

		fill(bytes, w.len, w.seed);
		if (put_content(p.store, bytes, w.len, &n.content) || store_settle(p.store, NULL))
			_exit(4);
		n.size = w.len;
		if (txn_write(ws, &t, NULL))
			_exit(5);
		snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
		node_put(t, &n);
		entry_put(t, ROOT, span_str(name), fid);
		row.root = n.content.root;
		journal_append(t, &row);
		if (txn_commit(&t, NULL))
			_exit(6);
		if (fid % 5 == 0 && tree_seal(ws, 0, &tree, NULL))
			_exit(7);
		if (io_write_full(out, &w, sizeof(w)))
			_exit(8);
	}
}

/* Return: how much is not as it was said. */
static size_t wrong(struct place *p, const struct word *words, size_t len)
{
	static uint8_t want[200000], got[200000];
	struct fsck_stats st = { .problems = 0 };
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct node n;
	size_t i, bad;

	bad = store_fsck(p->store, NULL, NULL, &st, NULL) != 0;
	bad += st.problems;
	if (wsdb_open(p->store, "w", false, &ws, NULL) || txn_read(ws, &t, NULL)) {
		wsdb_close(&ws);
		return bad + 1;
	}
	for (i = 0; i < len; i++) {
		fill(want, words[i].len, words[i].seed);
		bad += node_get(t, words[i].fid, &n) ||
		       content_read(p->store, &n.content, 0, got, sizeof(got), true) != (ssize_t)words[i].len ||
		       memcmp(got, want, words[i].len) != 0;
	}
	txn_abort(&t);
	wsdb_close(&ws);
	return bad;
}

static struct word words[100000];

static void begin(struct place *p)
{
	struct node root = make_node(ROOT, S_IFDIR | 0755);
	struct wsdb *ws = NULL;
	struct txn *t = NULL;

	place_make(p, 1 << 30);
	cr_assert_eq(wsdb_open(p->store, "w", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &root);
	meta_put_u64(t, "root-fid", ROOT);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	wsdb_close(&ws);
	store_close(&p->store);
}

static size_t one_round(const struct place *p, int round, size_t len, die_fn *fn)
{
	uint64_t from = len ? words[len - 1].fid + 1 + (uint64_t)round * 1000 : 10;

	return die_round(p, round, fn, from, words, sizeof(*words), len);
}

Test(crash, what_was_acknowledged_is_there, .timeout = 300)
{
	struct place p;
	size_t len = 0, checked = 0;
	int round;

	begin(&p);
	for (round = 0; round < ROUNDS; round++) {
		len = one_round(&p, round, len, child);
		cr_assert_eq(place_open(&p, 1 << 30), 0);
		cr_assert_eq(wrong(&p, words + checked, len - checked), 0);
		checked = round % 10 == 9 ? 0 : len;
		store_close(&p.store);
	}
	cr_assert_eq(place_open(&p, 1 << 30), 0);
	cr_assert_eq(wrong(&p, words, len), 0);
	cr_assert_gt(len, ROUNDS);
#ifdef LOSE
	cr_log_info("%ld pages were lost", lost);
	cr_assert_gt(lost, 0);
#endif
	place_free(&p);
}

/* The words from @from on that are there are a beginning of them, with all that was said to be durable. Return: how
 * many. */
static size_t beginning(struct place *p, size_t from, size_t len)
{
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	size_t there = from, must = from, i;
	struct node n;

	for (i = from; i < len; i++)
		if (words[i].durable)
			must = i + 1;
	cr_assert_eq(wsdb_open(p->store, "w", false, &ws, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	while (there < len && node_get(t, words[there].fid, &n) == 0)
		there++;
	for (i = there; i < len; i++)
		cr_assert_eq(node_get(t, words[i].fid, &n), STORE_E_NONE,
			     "a later one is there, an earlier one is not");
	txn_abort(&t);
	wsdb_close(&ws);
	cr_assert_geq(there, must, "%zu of %zu are there, %zu were durable", there - from, len - from, must - from);
#ifndef LOSE
	cr_assert_eq(there, len, "its death alone lost something");
#endif
	return there;
}

Test(crash, what_is_durable_soon, .timeout = 300)
{
	const char *more = getenv("BERTH_LONG");
	int round, rounds = more ? 20 * ROUNDS : ROUNDS;
	size_t len = 0, told = 0, from, all = 0;
	struct place p;

	begin(&p);
	for (round = 0; round < rounds; round++) {
		from = len;
		len = one_round(&p, round, len, soon_child);
		told += len - from;
		cr_assert_eq(place_open(&p, 1 << 30), 0);
		len = beginning(&p, from, len);
		all += len - from;
		cr_assert_eq(wrong(&p, words + from, len - from), 0, "round %d", round);
		store_close(&p.store);
	}
	cr_assert_gt(told, (size_t)rounds);
#ifdef LOSE
	cr_assert_lt(all, told); /* else nothing was tried */
#endif
	cr_log_info("%zu of %zu are there", all, told);
	place_free(&p);
}

#ifdef LOSE
/* In a process of its own: what a disk has lost in spite of its word may make LMDB crash, or read for ever. */
static bool is_wrong(struct place *p, size_t len)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(10);
		_exit(place_open(p, 1 << 30) != 0 || wrong(p, words, len) != 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status != 0;
}

/* The same on a disk that says "synced" and does nothing: it must not pass unnoticed here. */
Test(crash, a_disk_that_lies_is_noticed, .timeout = 300)
{
	struct place p;
	bool bad = false;
	size_t len = 0;
	int round;

	begin(&p);
	lose_lies();
	for (round = 0; round < ROUNDS && !bad; round++) {
		len = one_round(&p, round, len, child);
		bad = is_wrong(&p, len);
	}
	cr_assert(bad);
	nftw(p.dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
}
#endif
