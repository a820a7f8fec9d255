/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 at any moment: a child writes and says over a pipe what it was told is durable; it is killed after a random
 * number of those words; the store must open, verify clean, and hold all that was said.
 *
 * Built twice: with LOSE, what was not synced when it was killed is lost or not, page by page (lib/lose-io.h).
 */
#include "store-lib.h"

#include "base/io.h"
#ifdef LOSE
#include "lib/lose-io.h"
#endif

#include <signal.h>
#include <sys/wait.h>

enum { ROUNDS = 60, ROOT = 1 };

struct word {
	uint64_t fid, seed, len;
};

#ifdef LOSE
static char log_path[128];
static long lost;
#endif

static NORETURN void child(const char *dir, uint64_t from, int out)
{
	struct place p = { .store = NULL };
	static uint8_t bytes[200000];
	struct wsdb *ws = NULL;
	struct digest tree;
	uint64_t fid;

	snprintf(p.dir, sizeof(p.dir), "%s", dir);
#ifdef LOSE
	snprintf(log_path, sizeof(log_path), "%s.log", dir);
	lose_begin(dir, log_path);
#endif
	if (place_open(&p, 1 << 30) || wsdb_open(p.store, "w", false, &ws, NULL))
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

/* A child writes and is killed after some words, at a moment that moves through the writing of the next one. Return:
 * how many words there are now. */
static size_t one_round(const struct place *p, int round, size_t len)
{
	int pipefd[2], status, left = round * 13 % 11;
	useconds_t spin = (useconds_t)(round * 7919 % 3000);
	struct word w;
	pid_t pid;

	cr_assert_eq(pipe(pipefd), 0);
	pid = fork();
	if (pid == 0) {
		close(pipefd[0]);
		child(p->dir, len ? words[len - 1].fid + 1 + (uint64_t)round * 1000 : 10, pipefd[1]);
	}
	close(pipefd[1]);
	while (left-- > 0 && io_read_full(pipefd[0], &w, sizeof(w)) == 0)
		words[len++] = w;
	usleep(spin);
	kill(pid, SIGKILL);
	while (io_read_full(pipefd[0], &w, sizeof(w)) == 0)
		words[len++] = w;
	close(pipefd[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status), "the child left with %d", WEXITSTATUS(status));
#ifdef LOSE
	long now;

	snprintf(log_path, sizeof(log_path), "%s.log", p->dir);
	now = lose_apply(log_path, (uint64_t)round);
	cr_assert_geq(now, 0);
	lost += now;
	unlink(log_path);
#endif
	return len;
}

Test(crash, what_was_acknowledged_is_there, .timeout = 300)
{
	struct place p;
	size_t len = 0, checked = 0;
	int round;

	begin(&p);
	for (round = 0; round < ROUNDS; round++) {
		len = one_round(&p, round, len);
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
		len = one_round(&p, round, len);
		bad = is_wrong(&p, len);
	}
	cr_assert(bad);
	nftw(p.dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
}
#endif
