/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting, held against a walk of its own (store-gc-lib.h): after a run everything that is referred to is there and
 * whole, and nothing else is. Random histories of writing, replacing, sealing, snapshots, forks, removals.
 */
#include "store-gc-lib.h"

#include <pthread.h>
#include <sched.h>

enum { WORKSPACES = 6, FILES = 40, STEPS = 300, SEEDS = 12 };

static uint8_t bytes[500000];

/* One of a few dozen contents, so that they meet again; some of several chunks; over what the file has, or anew. */
static void write_file(struct store *store, struct txn *t, uint64_t fid, uint64_t dir, uint64_t *seed)
{
	struct node n = make_node(fid, S_IFREG | 0644), old;
	bool over = node_get(t, fid, &old) == 0 && draw(seed, 2);
	uint64_t which = draw(seed, 60), len = which % 4 ? which * 300 + 1 : which * 5000 + 70000;
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(store, over ? &old.content : NULL);
	char name[32];

	fill(bytes, len, which);
	cr_assert_eq(content_write(w, over ? draw(seed, 3) * 65520 : 0, SPAN(bytes, len)), 0);
	cr_assert_eq(content_finish(w, &n.content), 0);
	cr_assert_eq(store_settle(store, NULL), 0);
	n.size = n.content.size;
	node_put(t, &n);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
	entry_put(t, dir, span_str(name), fid);
}

static void step_write(struct store *store, struct wsdb *ws, uint64_t *seed)
{
	uint64_t fid = 1000 + draw(seed, FILES), dir = 10 + fid % 5, has;
	struct txn *t = NULL;
	char name[32];

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	snprintf(name, sizeof(name), "d%llu", (unsigned long long)dir);
	if (entry_get(t, ROOT, span_str(name), &has) != 0) {
		struct node d = make_node(dir, S_IFDIR | 0755), root;

		node_put(t, &d);
		entry_put(t, ROOT, span_str(name), dir);
		if (node_get(t, ROOT, &root) == 0 && root.nlink > 1) {
			root.nlink++;
			node_put(t, &root);
		}
	}
	write_file(store, t, fid, dir, seed);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

static void step_remove(struct wsdb *ws, uint64_t *seed)
{
	uint64_t fid = 1000 + draw(seed, FILES), dir = 10 + fid % 5, has;
	struct txn *t = NULL;
	char name[32];

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)fid);
	if (entry_get(t, dir, span_str(name), &has) == 0) {
		entry_del(t, dir, span_str(name));
		node_del(t, fid);
	}
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

static void step_snapshot(struct wsdb *ws, uint64_t *seed)
{
	struct snapshot s = { .created_ns = 1 }, there;
	struct txn *t = NULL;

	cr_assert_eq(tree_seal(ws, 0, &s.root, NULL), 0);
	snprintf(s.name, sizeof(s.name), "s%llu", (unsigned long long)draw(seed, 5));
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	if (snapshot_get(t, s.name, &there) == 0)
		cr_assert_eq(snapshot_del(t, s.name, NULL), 0);
	if (draw(seed, 3))
		cr_assert_eq(snapshot_put(t, &s, NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

/* A stub of what another has; a part of it is unpacked. */
static void step_fork(struct store *store, struct wsdb *from, struct wsdb **to, const char *id, uint64_t *seed)
{
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	struct digest root;
	struct txn *t = NULL;

	cr_assert_eq(tree_seal(from, 0, &root, NULL), 0);
	cr_assert_eq(store_hold_tree(store, &root, &hold), 0);
	wsdb_close(to);
	cr_assert_eq(wsdb_remove(store, id, NULL), 0);
	cr_assert_eq(wsdb_open(store, id, true, to, NULL), 0);
	cr_assert_eq(txn_write(*to, &t, NULL), 0);
	cr_assert_eq(txn_plant(t, &root, 0, NULL), 0);
	if (draw(seed, 2))
		cr_assert_eq(node_unpack_dir(t, txn_root(t), draw(seed, 60)), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

static void history(struct place *p, uint64_t seed)
{
	struct wsdb *ws[WORKSPACES];
	bool forked[WORKSPACES] = { false };
	struct gc_stats st;
	char id[16];
	size_t i, step;

	for (i = 0; i < WORKSPACES; i++) {
		snprintf(id, sizeof(id), "w%zu", i);
		ws[i] = ws_make(p->store, id);
	}
	for (step = 0; step < STEPS; step++) {
		size_t at = draw(&seed, WORKSPACES), other = draw(&seed, WORKSPACES);
		uint64_t what = draw(&seed, 40);

		snprintf(id, sizeof(id), "w%zu", at);
		if (what < 20 && !forked[at]) {
			step_write(p->store, ws[at], &seed);
		} else if (what < 26 && !forked[at]) {
			step_remove(ws[at], &seed);
		} else if (what < 34) {
			step_snapshot(ws[at], &seed);
		} else if (what < 36 && at != other) {
			step_fork(p->store, ws[other], &ws[at], id, &seed);
			forked[at] = true;
		} else if (what == 37) {
			wsdb_close(&ws[at]);
			cr_assert_eq(wsdb_remove(p->store, id, NULL), 0);
			ws[at] = ws_make(p->store, id);
			forked[at] = false;
		} else if (what == 38) {
			cr_assert_eq(store_gc(p->store, GC_EAGER, &st, NULL), 0);
			cr_assert_eq(walk_store(p->store, true), st.live_b);
		}
	}
	cr_assert_eq(store_gc(p->store, GC_EAGER, &st, NULL), 0);
	cr_assert_eq(walk_store(p->store, true), st.live_b);
	fsck_clean(p->store);
	for (i = 0; i < WORKSPACES; i++) {
		wsdb_close(&ws[i]);
		snprintf(id, sizeof(id), "w%zu", i);
		cr_assert_eq(wsdb_remove(p->store, id, NULL), 0);
	}
}

Test(gc, random_histories, .timeout = 300)
{
	struct gc_stats st;
	struct place p;
	uint64_t seed;

	place_make(&p, 1 << 30);
	for (seed = 1; seed <= SEEDS; seed++)
		history(&p, seed);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(st.live, 0);
	cr_assert_eq(walk_store(p.store, true), 0);
	place_free(&p);
}

Test(gc, what_is_shared_is_counted, .timeout = 60)
{
	struct gc_stats st;
	struct wsdb *a, *b;
	struct txn *t = NULL;
	struct place p;
	uint64_t own, snapshots, seed = 5;
	struct node n = make_node(9, S_IFREG | 0644);

	place_make(&p, 1 << 30);
	a = ws_make(p.store, "a");
	b = ws_make(p.store, "b");
	fill(bytes, 300, 1);
	cr_assert_eq(put_content(p.store, bytes, 300, &n.content), 0);
	cr_assert_eq(store_settle(p.store, NULL), 0);
	cr_assert_eq(txn_write(a, &t, NULL), 0);
	node_put(t, &n);
	entry_put(t, ROOT, span_str("x"), 9);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(store_gc_own(p.store, "a", &own, &snapshots), 0);
	cr_assert_eq(own, 300);
	cr_assert_eq(st.saved_b, 0);
	step_fork(p.store, a, &b, "b", &seed);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(store_gc_own(p.store, "a", &own, &snapshots), 0);
	cr_assert_eq(own, 0);
	cr_assert_eq(store_gc_own(p.store, "b", &own, &snapshots), 0);
	cr_assert_eq(own, 0);
	cr_assert_eq(st.saved_b, st.live_b);
	cr_assert_eq(st.shared_b, st.live_b);
	cr_assert_eq(store_gc_own(p.store, "c", &own, &snapshots), STORE_E_NONE);
	wsdb_close(&a);
	wsdb_close(&b);
	place_free(&p);
}

/* Whoever has it open goes on reading; with the last one it goes. */
Test(gc, a_removed_workspace_that_is_open_keeps_its_contents, .timeout = 60)
{
	struct gc_stats st;
	struct wsdb *a;
	struct txn *t = NULL;
	struct place p;
	struct node n = make_node(9, S_IFREG | 0644);
	uint8_t got[300];

	place_make(&p, 1 << 30);
	a = ws_make(p.store, "a");
	fill(bytes, 300, 1);
	cr_assert_eq(put_content(p.store, bytes, 300, &n.content), 0);
	cr_assert_eq(store_settle(p.store, NULL), 0);
	cr_assert_eq(txn_write(a, &t, NULL), 0);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(wsdb_remove(p.store, "a", NULL), 0);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(st.freed, 0);
	cr_assert_eq(content_read(p.store, &n.content, 0, got, 300, true), 300);
	wsdb_close(&a);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(st.freed, 1);
	place_free(&p);
}

struct told {
	struct content c;
};

static void tell(void *ctx, void (*one)(void *to, const struct content *c), void *to)
{
	one(to, &((struct told *)ctx)->c);
}

Test(gc, holds_and_writers_and_other_roots_keep, .timeout = 60)
{
	struct content_writer *w;
	struct store_hold *hold = NULL, *late = NULL;
	struct content a, b, c, d;
	struct gc_stats st;
	struct told told;
	struct place p;

	place_make(&p, 1 << 30);
	fill(bytes, sizeof(bytes), 1);
	cr_assert_eq(put_content(p.store, bytes, 200000, &a), 0);
	cr_assert_eq(put_content(p.store, bytes + 7, 200000, &b), 0);
	cr_assert_eq(put_content(p.store, bytes + 11, 200000, &c), 0);
	cr_assert_eq(store_settle(p.store, NULL), 0);
	cr_assert_eq(store_hold_content(p.store, &a, &hold), 0);
	told.c = b;
	store_gc_roots(p.store, tell, &told);
	w = content_writer_new(p.store, &c);
	cr_assert_eq(content_write(w, 300000, SPAN(bytes, 65520)), 0);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(st.freed, 0);
	cr_assert_eq(content_finish(w, &d), 0);
	cr_assert_eq(store_settle(p.store, NULL), 0);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(content_read(p.store, &d, 0, bytes, 365520, true), 365520);
	content_writer_free(&w);
	store_gc_roots(p.store, NULL, NULL);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_gt(st.freed, 0);
	cr_assert_eq(content_read(p.store, &a, 0, bytes, 200000, true), 200000);
	cr_assert_eq(content_read(p.store, &b, 0, bytes, 200000, true), -EIO);
	cr_assert_eq(store_hold_content(p.store, &b, &late), -ESTALE);
	store_hold_free(&hold);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(st.live, 0);
	place_free(&p);
}

Test(gc, a_backup_or_fsck_keeps_it_away, .timeout = 60)
{
	struct gc_stats st;
	struct err e = ERR_NULL;
	struct place p;

	place_make(&p, 1 << 30);
	store_gc_inhibit(p.store);
	cr_assert_eq(store_gc(p.store, 0, &st, &e), -EBUSY);
	cr_assert_str_eq(e.slug, "gc-busy");
	store_gc_allow(p.store);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	store_gc_stop(p.store);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), -ESHUTDOWN);
	place_free(&p);
}

/* --- at chosen moments of a run ----------------------------------------------------------------------------------- */

struct moment {
	struct place *p;
	struct wsdb *a;
	struct digest root;
	struct content c;
	struct store_hold *hold;
	int result;
	struct db_txn *block;
	pthread_t thread;
	pthread_barrier_t in, go;
};

/* A workspace with one file of its own and a snapshot "s". */
static void moment_make(struct moment *m, struct place *p, uint64_t what)
{
	struct node n = make_node(9, S_IFREG | 0644);
	struct snapshot s = { .name = "s", .created_ns = 1 };
	struct txn *t = NULL;

	*m = (struct moment){ .p = p, .a = ws_make(p->store, "a") };
	fill(bytes, 200000, what);
	cr_assert_eq(put_content(p->store, bytes, 200000, &n.content), 0);
	cr_assert_eq(store_settle(p->store, NULL), 0);
	m->c = n.content;
	n.size = n.content.size;
	cr_assert_eq(txn_write(m->a, &t, NULL), 0);
	node_put(t, &n);
	entry_put(t, ROOT, span_str("x"), 9);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(m->a, 0, &s.root, NULL), 0);
	m->root = s.root;
	cr_assert_eq(txn_write(m->a, &t, NULL), 0);
	cr_assert_eq(snapshot_put(t, &s, NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

/* The file and the snapshot go. */
static void moment_forget(struct moment *m)
{
	struct txn *t = NULL;

	cr_assert_eq(txn_write(m->a, &t, NULL), 0);
	entry_del(t, ROOT, span_str("x"));
	node_del(t, 9);
	(void)!snapshot_del(t, "s", NULL);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

/* Read before its workspace is marked without it, told after. */
static void hold_late(void *ctx, enum gc_point at)
{
	struct moment *m = ctx;

	if (at == GC_AT_MARK)
		moment_forget(m);
	if (at == GC_AT_MARKED)
		m->result = store_hold_tree(m->p->store, &m->root, &m->hold);
}

Test(gc, a_hold_during_the_mark_keeps_all_below, .timeout = 60)
{
	struct moment m;
	struct gc_stats st;
	struct wsdb *b = NULL;
	struct txn *t = NULL;
	struct place p;

	place_make(&p, 1 << 30);
	moment_make(&m, &p, 1);
	p.store->gc->at = hold_late;
	p.store->gc->at_ctx = &m;
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	p.store->gc->at = NULL;
	cr_assert_eq(m.result, 0);
	cr_assert_eq(wsdb_open(p.store, "b", true, &b, NULL), 0);
	cr_assert_eq(txn_write(b, &t, NULL), 0);
	cr_assert_eq(txn_plant(t, &m.root, 0, NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	store_hold_free(&m.hold);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	(void)walk_store(p.store, true);
	cr_assert_eq(content_read(p.store, &m.c, 0, bytes, 200000, true), 200000);
	wsdb_close(&m.a);
	wsdb_close(&b);
	place_free(&p);
}

static void hold_too_late(void *ctx, enum gc_point at)
{
	struct moment *m = ctx;

	if (at == GC_AT_MARK)
		moment_forget(m);
	if (at == GC_AT_SWEEP)
		m->result = store_hold_tree(m->p->store, &m->root, &m->hold);
}

Test(gc, a_hold_during_the_sweep_is_refused, .timeout = 60)
{
	struct moment m;
	struct gc_stats st;
	struct place p;

	place_make(&p, 1 << 30);
	moment_make(&m, &p, 1);
	p.store->gc->at = hold_too_late;
	p.store->gc->at_ctx = &m;
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(m.result, -ESTALE);
	cr_assert_null(m.hold);
	wsdb_close(&m.a);
	(void)walk_store(p.store, true);
	place_free(&p);
}

/* As a seal: it began before, read what is forgotten then, and shades what it recorded just before it ends. */
static void *slow_use(void *ctx)
{
	struct moment *m = ctx;
	unsigned use = gc_use_begin(m->p->store->gc);

	pthread_barrier_wait(&m->in);
	pthread_barrier_wait(&m->go);
	gc_shade(m->p->store->gc, CT_TREE, &m->root);
	gc_use_end(m->p->store->gc, use);
	return NULL;
}

static void use_late(void *ctx, enum gc_point at)
{
	struct moment *m = ctx;

	if (at == GC_AT_MARK) {
		cr_assert_eq(pthread_create(&m->thread, NULL, slow_use, m), 0);
		pthread_barrier_wait(&m->in);
		moment_forget(m);
	}
	if (at == GC_AT_MARKED)
		pthread_barrier_wait(&m->go);
}

Test(gc, a_use_that_began_before_is_awaited, .timeout = 60)
{
	unsigned round;

	for (round = 0; round < 30; round++) {
		struct moment m;
		struct gc_stats st;
		struct place p;

		place_make(&p, 1 << 30);
		moment_make(&m, &p, 1);
		pthread_barrier_init(&m.in, NULL, 2);
		pthread_barrier_init(&m.go, NULL, 2);
		p.store->gc->at = use_late;
		p.store->gc->at_ctx = &m;
		cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
		pthread_join(m.thread, NULL);
		cr_assert_eq(content_read(p.store, &m.c, 0, bytes, 200000, true), 200000);
		wsdb_close(&m.a);
		place_free(&p);
	}
}

/* A seal that took a file over as it was: the file is forgotten while the seal waits for its nodes to be durable, and
 * the workspace is marked without it. The writer stands still as long as somebody else writes to the contents. */
static void *seal_it(void *ctx)
{
	struct moment *m = ctx;

	m->result = tree_seal(m->a, 0, &m->root, NULL);
	return NULL;
}

static void seal_meanwhile(void *ctx, enum gc_point at)
{
	struct moment *m = ctx;

	if (at == GC_AT_MARK) {
		cr_assert_eq(db_begin(m->p->store->content, true, &m->block, NULL), 0);
		cr_assert_eq(pthread_create(&m->thread, NULL, seal_it, m), 0);
		while (!writer_queued(m->p->store->writer)) /* then it has read its state, and the root comes next */
			sched_yield();
		moment_forget(m);
	}
	if (at == GC_AT_MARKED)
		db_abort(&m->block);
}

Test(gc, what_a_seal_took_over_stays, .timeout = 60)
{
	struct moment m;
	struct gc_stats st;
	struct tree_item it;
	struct txn *t = NULL;
	struct node n;
	struct place p;

	place_make(&p, 1 << 30);
	moment_make(&m, &p, 1);
	cr_assert_eq(txn_write(m.a, &t, NULL), 0);
	cr_assert_eq(node_get(t, 9, &n), 0);
	n.mode ^= 1;
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	p.store->gc->at = seal_meanwhile;
	p.store->gc->at_ctx = &m;
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	pthread_join(m.thread, NULL);
	cr_assert_eq(m.result, 0);
	cr_assert_eq(tree_resolve(p.store, &m.root, "x", &it), 0);
	cr_assert_eq(content_read(p.store, &it.content, 0, bytes, 200000, true), 200000);
	wsdb_close(&m.a);
	place_free(&p);
}

static void must_be_there(void *ctx, struct gc_ref ref)
{
	struct span v;

	cr_assert_eq(db_get(ctx, ref.table, digest_span(&ref.d), &v), 0, "a %s went before what refers to it",
		     content_tables[ref.table]);
}

/* What a crash would leave. */
static void all_is_whole(void *ctx, enum gc_point at)
{
	struct moment *m = ctx;
	struct db_txn *t = NULL;
	struct span key, v;
	size_t table;

	if (at != GC_AT_BATCH)
		return;
	m->result++;
	cr_assert_eq(db_begin(m->p->store->content, false, &t, NULL), 0);
	for (table = CT_LIST; table <= CT_TREE; table++) {
		enum db_step step = DB_AT_LEAST;

		for (; db_walk(t, table, step, SPAN_NULL, &key, &v) == 0; step = DB_NEXT)
			cr_assert_eq(gc_each_ref((enum content_table)table, v, must_be_there, t), 0);
	}
	db_abort(&t);
}

Test(gc, nothing_goes_before_what_refers_to_it, .timeout = 60)
{
	struct moment m;
	struct gc_stats st;
	struct wsdb *b;
	struct place p;
	uint64_t seed = 3;
	unsigned i;

	place_make(&p, 1 << 30);
	moment_make(&m, &p, 1);
	b = ws_make(p.store, "b");
	for (i = 0; i < 30; i++) {
		struct digest root;

		step_write(p.store, b, &seed);
		if (i % 5 == 0)
			cr_assert_eq(tree_seal(b, 0, &root, NULL), 0);
	}
	wsdb_close(&b);
	cr_assert_eq(wsdb_remove(p.store, "b", NULL), 0);
	p.store->gc->at = all_is_whole;
	p.store->gc->at_ctx = &m;
	p.store->gc->batch = 1;
	cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
	cr_assert_gt(m.result, 30);
	wsdb_close(&m.a);
	place_free(&p);
}

/* A stub that was given another mode is not whole anywhere but in its tree. */
Test(gc, a_stub_that_changed_keeps_its_tree, .timeout = 60)
{
	struct moment m;
	struct gc_stats st;
	struct wsdb *b = NULL;
	struct txn *t = NULL;
	struct node root;
	struct place p;

	place_make(&p, 1 << 30);
	moment_make(&m, &p, 1);
	cr_assert_eq(wsdb_open(p.store, "b", true, &b, NULL), 0);
	cr_assert_eq(txn_write(b, &t, NULL), 0);
	cr_assert_eq(txn_plant(t, &m.root, 0, NULL), 0);
	cr_assert_eq(node_get(t, txn_root(t), &root), 0);
	root.mode ^= 1;
	node_put(t, &root);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	moment_forget(&m);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	fsck_clean(p.store);
	cr_assert_eq(txn_write(b, &t, NULL), 0);
	cr_assert_eq(node_unpack_dir(t, txn_root(t), 10), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(content_read(p.store, &m.c, 0, bytes, 200000, true), 200000);
	wsdb_close(&m.a);
	wsdb_close(&b);
	place_free(&p);
}

/* What was replaced after the last seal is garbage although nothing was sealed since; a stub's tree is not. */
Test(gc, the_last_seal_keeps_nothing_that_was_replaced, .timeout = 60)
{
	struct moment m;
	struct gc_stats st;
	struct digest again;
	struct txn *t = NULL;
	struct place p;

	place_make(&p, 1 << 30);
	moment_make(&m, &p, 1);
	cr_assert_eq(txn_write(m.a, &t, NULL), 0);
	cr_assert_eq(snapshot_del(t, "s", NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(st.freed, 0);
	cr_assert_eq(tree_seal(m.a, 0, &again, NULL), 0);
	cr_assert(digest_eq(&again, &m.root));
	moment_forget(&m);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_eq(st.live, 0);
	fsck_clean(p.store);
	cr_assert_eq(tree_seal(m.a, 0, &again, NULL), 0);
	cr_assert_eq(store_gc(p.store, 0, &st, NULL), 0);
	cr_assert_gt(st.live, 0);
	(void)walk_store(p.store, true);
	wsdb_close(&m.a);
	place_free(&p);
}

/* What is damaged might be mended; nothing is deleted below it. */
Test(gc, a_damaged_store_is_left_alone, .timeout = 60)
{
	struct node n = make_node(9, S_IFREG | 0644);
	struct err e = ERR_NULL;
	struct db_txn *d = NULL;
	struct gc_stats st;
	struct txn *t = NULL;
	struct wsdb *a;
	struct content lost;
	struct place p;

	place_make(&p, 1 << 30);
	a = ws_make(p.store, "a");
	fill(bytes, sizeof(bytes), 1);
	cr_assert_eq(put_content(p.store, bytes, 200000, &n.content), 0);
	cr_assert_eq(put_content(p.store, bytes + 9, 1000, &lost), 0);
	cr_assert_eq(store_settle(p.store, NULL), 0);
	cr_assert_eq(txn_write(a, &t, NULL), 0);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(db_begin(p.store->content, true, &d, NULL), 0);
	cr_assert_eq(db_del(d, CT_LIST, digest_span(&n.content.root)), 0);
	cr_assert_eq(db_commit(&d), 0);
	cr_assert_eq(store_gc(p.store, 0, &st, &e), -EIO);
	cr_assert_str_eq(e.slug, "store-damaged");
	cr_assert_eq(content_read(p.store, &lost, 0, bytes, 1000, true), 1000);
	wsdb_close(&a);
	place_free(&p);
}

/* Ten times everything anew, a run between: the file stays near what is live, also when somebody reads an old state for
 * a while. */
static void rewrites(unsigned linger)
{
	struct db_txn *reader = NULL;
	uint64_t file = 0, used, live = 0, seed, i;
	struct gc_stats st;
	struct wsdb *a;
	struct place p;
	unsigned round;

	place_make(&p, 1 << 30);
	a = ws_make(p.store, "a");
	for (round = 0; round < 10; round++) {
		for (i = 0; i < 300; i++) {
			struct node n = make_node(1000 + i, S_IFREG | 0644);
			struct txn *t = NULL;

			seed = round * 1000 + i + 1;
			fill(bytes, 65520, seed);
			cr_assert_eq(txn_write(a, &t, NULL), 0);
			cr_assert_eq(put_content(p.store, bytes, 65520, &n.content), 0);
			node_put(t, &n);
			/* As what comes from a guest: many in one transaction and one settle, or each alone. */
			cr_assert_eq(store_settle(p.store, NULL), 0);
			cr_assert_eq(txn_commit(&t, NULL), 0);
			if (i % 30 == 29)
				cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
			if (linger && i % linger == 0) {
				db_abort(&reader);
				cr_assert_eq(db_begin(p.store->content, false, &reader, NULL), 0);
			}
		}
		live = st.live_b;
	}
	db_abort(&reader);
	cr_assert_eq(db_usage(p.store->content, &file, &used), 0);
	fprintf(stderr, "live %llu, file %llu: %.2f (a reader for %u files)\n", (unsigned long long)live,
		(unsigned long long)file, (double)file / (double)live, linger);
	cr_assert_leq(file * 10, live * 13);
	wsdb_close(&a);
	place_free(&p);
}

Test(gc, the_file_does_not_grow, .timeout = 120)
{
	rewrites(0);
}

Test(gc, the_file_does_not_grow_beside_a_reader, .timeout = 120)
{
	rewrites(30);
}

/* --- when it is worth a run --------------------------------------------------------------------------------------- */

static unsigned asked;

static void ask(UNUSED void *ctx)
{
	asked++;
}

static void put_whole(struct store *store, struct wsdb *ws, uint64_t fid, uint64_t seed, size_t len)
{
	AUTO(mem_free) uint8_t *big = must_calloc(1, len);
	struct node n = make_node(fid, S_IFREG | 0644);
	struct txn *t = NULL;

	fill(big, len, seed);
	cr_assert_eq(put_content(store, big, len, &n.content), 0);
	cr_assert_eq(store_settle(store, NULL), 0);
	n.size = n.content.size;
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

/* A byte of a large file. */
static void touch_part(struct store *store, struct wsdb *ws, uint64_t fid, uint64_t at)
{
	struct content_writer *w;
	struct txn *t = NULL;
	struct node n;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(node_get(t, fid, &n), 0);
	w = content_writer_new(store, &n.content);
	cr_assert_eq(content_write(w, at * 65520, SPAN(&at, 8)), 0);
	cr_assert_eq(content_finish(w, &n.content), 0);
	cr_assert_eq(store_settle(store, NULL), 0);
	node_put(t, &n);
	content_writer_free(&w);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

Test(gc, is_wanted_for_what_was_replaced)
{
	struct place p;
	struct wsdb *ws = NULL;
	struct gc_stats st;
	struct txn *t = NULL;
	uint64_t i;

	asked = 0;
	place_make(&p, 1 << 28);
	cr_assert_eq(wsdb_open(p.store, "w", true, &ws, NULL), 0);
	store_gc_want(p.store, ask, NULL);
	for (i = 0; i < 8; i++) /* what is only added */
		put_whole(p.store, ws, 10 + i, i + 1, 3 << 20);
	cr_assert_eq(store_gc_wanted(p.store), GC_NOT_WANTED);
	cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
	for (i = 0; i < 20; i++) /* a little of what is large */
		touch_part(p.store, ws, 10, i);
	cr_assert_eq(store_gc_wanted(p.store), GC_NOT_WANTED);
	cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_del(t, 17); /* what is only removed */
	node_del(t, 16);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(store_gc_wanted(p.store), GC_NOT_WANTED);
	cr_assert_eq(asked, 0);
	cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
	put_whole(p.store, ws, 11, 101, 3 << 20);
	cr_assert_eq(store_gc_wanted(p.store), GC_NOT_WANTED);
	put_whole(p.store, ws, 11, 102, 3 << 20);
	cr_assert_eq(store_gc_wanted(p.store), GC_PRESSED);
	put_whole(p.store, ws, 11, 103, 3 << 20);
	cr_assert_eq(asked, 1, "it was told %u times", asked);
	cr_assert_eq(store_gc(p.store, GC_EAGER, &st, NULL), 0);
	cr_assert_geq(st.freed_b, 8 << 20);
	cr_assert_eq(store_gc_wanted(p.store), GC_NOT_WANTED);
	store_gc_want(p.store, NULL, NULL);
	wsdb_close(&ws);
	place_free(&p);
}
