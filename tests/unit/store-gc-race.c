/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting while everything else goes on, and kill -9 in the middle of it. The threads write few different contents
 * again and again, so that nearly every object is at times garbage and handed over at the moment when it is being
 * deleted. What somebody was told to be durable is read at once; in the end the walk says whether all is there.
 */
#include "store-gc-lib.h"

#include "base/clock.h"
#include "base/io.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { THREADS = 4, FILES = 12, KINDS = 24, ROUNDS = 3, KILLS = 25 };

struct actor {
	struct place *p;
	uint64_t seed, ms;
	char id[16];
	struct wsdb *ws;
	struct actor *all;
	bool seals; /* one in each workspace does */
	uint64_t done;
	bool stop; /* atomic */
};

static size_t kind_len(uint64_t kind)
{
	return kind % 3 ? 100 + kind * 50 : 66000 + kind * 5000;
}

static uint8_t *kind_bytes(uint64_t kind)
{
	uint8_t *p = must_calloc(1, 200000);

	fill(p, kind_len(kind), kind + 1);
	return p;
}

static void act_write(struct actor *a, bool over)
{
	uint64_t kind = draw(&a->seed, KINDS), fid = 1000 + draw(&a->seed, FILES);
	AUTO(mem_free) uint8_t *want = kind_bytes(kind);
	AUTO(mem_free) uint8_t *got = must_calloc(1, 200000);
	struct node n = make_node(fid, S_IFREG | 0644), old = { .fid = 0 };
	struct content_writer *w;
	struct txn *t = NULL;
	char name[32];

	cr_assert_eq(txn_write(a->ws, &t, NULL), 0);
	if (node_get(t, fid, &old) != 0)
		over = false;
	w = content_writer_new(a->p->store, over ? &old.content : NULL);
	cr_assert_eq(content_write(w, 0, SPAN(want, kind_len(kind))), 0);
	cr_assert_eq(content_finish(w, &n.content), 0);
	content_writer_free(&w);
	cr_assert_eq(store_settle(a->p->store, NULL), 0);
	n.size = n.content.size;
	node_put(t, &n);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
	entry_put(t, ROOT, span_str(name), fid);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(content_read(a->p->store, &n.content, 0, got, kind_len(kind), true), (ssize_t)kind_len(kind));
	cr_assert_eq(memcmp(got, want, kind_len(kind)), 0);
}

/* A writer that lives across transactions, over a content that is replaced meanwhile. */
static void act_slow(struct actor *a)
{
	uint64_t fid = 1000 + draw(&a->seed, FILES);
	AUTO(mem_free) uint8_t *want = kind_bytes(3);
	struct content_writer *w;
	struct node n;
	struct txn *t = NULL;
	int i, r;

	cr_assert_eq(txn_write(a->ws, &t, NULL), 0);
	r = node_get(t, fid, &n);
	w = content_writer_new(a->p->store, r == 0 ? &n.content : NULL);
	cr_assert_eq(content_write(w, 70000, SPAN(want, kind_len(3))), 0);
	txn_abort(&t);
	for (i = 0; i < 3; i++) {
		act_write(a, false);
		cr_assert_eq(content_write(w, draw(&a->seed, 4) * 65520, SPAN(want, 1000)), 0);
	}
	cr_assert_eq(txn_write(a->ws, &t, NULL), 0);
	if (node_get(t, fid, &n) == 0) {
		cr_assert_eq(content_finish(w, &n.content), 0);
		content_writer_free(&w);
		cr_assert_eq(store_settle(a->p->store, NULL), 0);
		n.size = n.content.size;
		node_put(t, &n);
	}
	cr_assert_eq(txn_commit(&t, NULL), 0);
	content_writer_free(&w);
}

static void act_remove(struct actor *a)
{
	uint64_t fid = 1000 + draw(&a->seed, FILES);
	struct txn *t = NULL;
	char name[32];

	cr_assert_eq(txn_write(a->ws, &t, NULL), 0);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
	entry_del(t, ROOT, span_str(name));
	node_del(t, fid);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

static void act_snapshot(struct actor *a)
{
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	struct snapshot s = { .created_ns = 1 };
	struct txn *t = NULL;
	int r;

	snprintf(s.name, sizeof(s.name), "s%llu", (unsigned long long)draw(&a->seed, 3));
	cr_assert_eq(txn_write(a->ws, &t, NULL), 0);
	(void)!snapshot_del(t, s.name, NULL);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(a->ws, 0, &s.root, NULL), 0);
	r = store_hold_tree(a->p->store, &s.root, &hold);
	if (r == -ESTALE) /* forgotten at once, since the other one wrote */
		return;
	cr_assert_eq(r, 0);
	cr_assert_eq(txn_write(a->ws, &t, NULL), 0);
	(void)!snapshot_del(t, s.name, NULL);
	cr_assert_eq(snapshot_put(t, &s, NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

static int take_root(void *ctx, const struct snapshot *s)
{
	*(struct digest *)ctx = s->root;
	return 1;
}

/* A fork of a snapshot of somebody else, who may remove it at this moment; walked to its end, then removed. */
static void act_fork(struct actor *a)
{
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	struct actor *from = &a->all[draw(&a->seed, THREADS)];
	struct digest root;
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	char id[32];
	int r;

	cr_assert_eq(txn_read(from->ws, &t, NULL), 0);
	r = snapshot_each(t, take_root, &root);
	txn_abort(&t);
	if (r != 1)
		return;
	r = store_hold_tree(a->p->store, &root, &hold);
	if (r == -ESTALE)
		return;
	cr_assert_eq(r, 0);
	snprintf(id, sizeof(id), "%s-fork", a->id);
	(void)!wsdb_remove(a->p->store, id, NULL);
	cr_assert_eq(wsdb_open(a->p->store, id, true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(txn_plant(t, &root, 0, NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	store_hold_free(&hold);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(node_unpack_dir(t, txn_root(t), 100), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	wsdb_close(&ws);
}

static void *act(void *ctx)
{
	struct actor *a = ctx;

	while (!__atomic_load_n(&a->stop, __ATOMIC_ACQUIRE)) {
		uint64_t what = draw(&a->seed, 20);

		if (what < 9)
			act_write(a, what < 3);
		else if (what < 13)
			act_remove(a);
		else if (what < 15)
			act_slow(a);
		else if (what < 18 && a->seals)
			act_snapshot(a);
		else
			act_fork(a);
		__atomic_add_fetch(&a->done, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void race(uint64_t seed, uint64_t actions)
{
	struct actor actors[THREADS] = { { .p = NULL } };
	pthread_t threads[THREADS];
	struct gc_stats st = { .runs = 0 };
	uint64_t freed = 0, done = 0;
	struct place p;
	unsigned i, runs = 0;

	place_make(&p, 1 << 30);
	for (i = 0; i < THREADS; i++) {
		actors[i] = (struct actor){ .p = &p, .seed = seed * 100 + i, .all = actors, .seals = i % 2 == 0 };
		snprintf(actors[i].id, sizeof(actors[i].id), "w%u", i);
		/* Two work in each: one seals what the other is changing. */
		actors[i].ws = i % 2 ? actors[i - 1].ws : ws_make(p.store, actors[i].id);
	}
	p.store->gc->batch = 3;
	for (i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, act, &actors[i]), 0);
	while (done < actions) {
		cr_assert_eq(store_gc(p.store, runs++ % 2 ? GC_EAGER : 0, &st, NULL), 0);
		freed += st.freed;
		for (done = 0, i = 0; i < THREADS; i++)
			done += __atomic_load_n(&actors[i].done, __ATOMIC_RELAXED);
	}
	for (i = 0; i < THREADS; i++)
		__atomic_store_n(&actors[i].stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		if (i % 2)
			wsdb_close(&actors[i].ws);
	}
	(void)walk_store(p.store, false);
	fsck_clean(p.store);
	cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
	(void)walk_store(p.store, true);
	fsck_clean(p.store);
	fprintf(stderr, "seed %llu: %u runs freed %llu objects beside %llu actions\n", (unsigned long long)seed, runs,
		(unsigned long long)freed, (unsigned long long)done);
	cr_assert_gt(freed, 0);
	place_free(&p);
}

/* BERTH_LONG=1: more seeds and actions; BERTH_SEED=N: from that one on. */
Test(gc_race, everything_at_once, .timeout = 3000)
{
	const char *from = getenv("BERTH_SEED");
	uint64_t seed = from ? strtoull(from, NULL, 10) : 1, end = seed + (getenv("BERTH_LONG") ? 40 : ROUNDS);

	for (; seed < end; seed++)
		race(seed, getenv("BERTH_LONG") ? 10000 : 1500);
}

/* --- kill -9 ------------------------------------------------------------------------------------------------------ */

/* Writes, forgets and collects; says the number of each file that is durable. */
static NORETURN void child(const char *dir, uint64_t seed, int out)
{
	struct actor a = { .seed = seed };
	struct place p = { .store = NULL };
	struct gc_stats st;
	uint64_t n;

	snprintf(p.dir, sizeof(p.dir), "%s", dir);
	if (place_open(&p, 1 << 30) || wsdb_open(p.store, "w0", false, &a.ws, NULL))
		_exit(3);
	a.p = &p;
	a.all = &a;
	p.store->gc->batch = 3;
	for (n = 0;; n++) {
		uint64_t i;

		for (i = 0; i < 10; i++)
			act_write(&a, false);
		act_remove(&a);
		act_snapshot(&a);
		if (io_write_full(out, &n, sizeof(n)))
			_exit(8);
		if (store_gc(p.store, 0, &st, NULL))
			_exit(9);
	}
}

Test(gc_race, kill_in_the_middle, .timeout = 600)
{
	struct place p;
	struct wsdb *ws;
	struct gc_stats st;
	uint64_t round, kills = getenv("BERTH_LONG") ? 400 : KILLS;

	place_make(&p, 1 << 30);
	ws = ws_make(p.store, "w0");
	wsdb_close(&ws);
	store_close(&p.store);
	for (round = 0; round < kills; round++) {
		int pipefd[2], status;
		uint64_t n, left = round % 3 + 1;
		pid_t pid;

		cr_assert_eq(pipe(pipefd), 0);
		pid = fork();
		if (pid == 0) {
			close(pipefd[0]);
			child(p.dir, round, pipefd[1]);
		}
		close(pipefd[1]);
		while (left-- > 0)
			cr_assert_eq(io_read_full(pipefd[0], &n, sizeof(n)), 0);
		usleep((useconds_t)(round * 7919 % 20000)); /* a moment that moves through the run */
		kill(pid, SIGKILL);
		close(pipefd[0]);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFSIGNALED(status), "the child left with %d", WEXITSTATUS(status));
		cr_assert_eq(place_open(&p, 1 << 30), 0);
		(void)walk_store(p.store, false);
		fsck_clean(p.store);
		if (round % 8 == 7) {
			cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
			(void)walk_store(p.store, true);
			fsck_clean(p.store);
		}
		store_close(&p.store);
	}
	place_free(&p);
}
