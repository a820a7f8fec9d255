/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As store-crash.c, with everything that is written beside contents and inodes: snapshots with the facts of theirs,
 * workspaces that begin with a tree, are unpacked and removed, extended attributes, secrets and their audit, hours of
 * usage of which old ones go, keys, rules, the collector. Every step is durable when it is said; of the one that was
 * under way either is right.
 *
 * Step n is of a kind and about a thing that follow from n. A thing is there, with the number of the step that made it,
 * or not: "of[kind][thing]".
 */
#include "store-die.h"

#include "base/xattr.h"
#include "host/store/gc.h"

enum kind { K_FILE, K_ATTRS, K_SNAPSHOT, K_FORK, K_SECRET, K_USAGE, K_ACCESS, K_RULES, K_GC, KINDS };
enum { ROUNDS = 50, LONG = 20, THINGS = 4, ROOT = 1, FIRST = 10, HALF = 1, BYTES = 90000, HOUR = 1000 };

static uint64_t of[KINDS][THINGS]; /* the parent's, and what a child begins with */
static uint64_t said[100000];

static uint64_t draw(uint64_t n)
{
	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9ULL;
	n = (n ^ n >> 27) * 0x94d049bb133111ebULL;
	return n ^ n >> 31;
}

static enum kind kind_of(uint64_t n)
{
	return (enum kind)(draw(n) % KINDS);
}

static size_t thing_of(uint64_t n)
{
	return draw(n) / KINDS % THINGS;
}

static uint64_t *slot_of(uint64_t n)
{
	return &of[kind_of(n)][thing_of(n)];
}

/* What is toggled is taken away when it is there. */
static bool is_toggled(enum kind k)
{
	return k == K_SNAPSHOT || k == K_FORK || k == K_SECRET || k == K_ACCESS;
}

static void name_of(char to[16], const char *what, size_t i)
{
	snprintf(to, 16, "%s%zu", what, i);
}

static size_t len_of(uint64_t n)
{
	return draw(n + 7) % BYTES + 1;
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static int put_file(struct store *s, struct wsdb *ws, size_t i, uint64_t n)
{
	struct node node = make_node(FIRST + i, S_IFREG | 0644);
	AUTO(txn_abort) struct txn *t = NULL;
	static uint8_t bytes[BYTES];
	char name[16];
	int r;

	fill(bytes, len_of(n), n);
	name_of(name, "f", i);
	r = txn_write(ws, &t, NULL);
	if (r == 0)
		r = put_content(s, bytes, len_of(n), &node.content);
	if (r == 0)
		r = store_settle(s, NULL);
	if (r)
		return r;
	node.size = len_of(n);
	node_put(t, &node);
	entry_put(t, ROOT, span_str(name), node.fid);
	return txn_commit(&t, NULL);
}

static int put_attrs(struct wsdb *ws, size_t i, uint64_t n)
{
	struct node node = make_node(FIRST + THINGS + i, S_IFREG | 0644);
	AUTO(txn_abort) struct txn *t = NULL;
	AUTO(buf_fini) struct buf b;
	char name[16];
	int r = txn_write(ws, &t, NULL);

	buf_init(&b, XATTRS_MAX);
	name_of(name, "x", i);
	if (r == 0)
		r = xattrs_add(&b, SPAN("user.n", 6), SPAN(&n, sizeof(n)));
	if (r)
		return r;
	if (node_get(t, node.fid, &node) != 0) {
		node_put(t, &node);
		entry_put(t, ROOT, span_str(name), node.fid);
	}
	node_set_xattrs(t, &node, buf_span(&b));
	return txn_commit(&t, NULL);
}

/* With facts of its own, as a snapshot of a whole sandbox has. */
static int toggle_snapshot(struct wsdb *ws, size_t i, uint64_t n, bool make)
{
	struct snapshot snap = { .created_ns = (int64_t)n, .entries = 1 };
	AUTO(txn_abort) struct txn *t = NULL;
	char fact[16];
	int r = make ? tree_seal(ws, 0, &snap.root, NULL) : 0;

	name_of(snap.name, "s", i);
	name_of(fact, "layer-s", i);
	if (r == 0)
		r = txn_write(ws, &t, NULL);
	if (r == 0)
		r = make ? snapshot_put(t, &snap, NULL) : snapshot_del(t, snap.name, NULL);
	if (r)
		return r;
	if (make)
		meta_put(t, fact, SPAN(&n, sizeof(n)));
	else
		(void)!meta_del(t, fact);
	return txn_commit(&t, NULL);
}

static int toggle_fork(struct store *s, struct wsdb *ws, size_t i, uint64_t n, bool make)
{
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	struct wsdb *fork = NULL;
	struct digest root;
	char id[16];
	int r;

	name_of(id, "fork", i);
	if (!make)
		return wsdb_remove(s, id, NULL);
	r = tree_seal(ws, 0, &root, NULL);
	if (r == 0)
		r = store_hold_tree(s, &root, &hold);
	if (r == 0)
		r = wsdb_open(s, id, true, &fork, NULL);
	if (r == 0)
		r = txn_write(fork, &t, NULL);
	if (r == 0)
		r = txn_plant(t, &root, 0, NULL);
	if (r == 0) {
		meta_put_u64(t, "made", n);
		r = txn_commit(&t, NULL);
	}
	if (r == 0 && n % 2) { /* somebody looks into it */
		r = txn_write(fork, &t, NULL);
		if (r == 0)
			r = node_unpack_dir(t, txn_root(t), 0);
		if (r == 0)
			r = txn_commit(&t, NULL);
	}
	txn_abort(&t);
	wsdb_close(&fork);
	return r;
}

static int last_audit(void *ctx, const struct audit_row *row)
{
	*(struct audit_row *)ctx = *row;
	return 0;
}

static int toggle_secret(struct store *s, size_t i, uint64_t n, bool make)
{
	struct audit_row last = { .seq = 0 }, row = { .time_ns = (int64_t)n, .text = SPAN("{}", 2) };
	char name[16], text[32];
	int r = store_audit_each(s, 0, last_audit, &last);

	name_of(name, "k", i);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	row.seq = last.seq + 1;
	row.link = audit_link(&last.link, &row);
	return r ? r : store_secret_put(s, name, make ? span_str(text) : SPAN_NULL, &row, NULL);
}

/* Hours go up; what is more than an hour older goes. */
static int put_usage(struct store *s, size_t i, uint64_t n)
{
	struct usage_row row = { .hour = (uint32_t)(HOUR + n), .run_ms = n };

	name_of(row.sandbox, "u", i);
	return store_usage_put(s, &row, 1, (uint32_t)(HOUR + n - 20), NULL);
}

static int toggle_access(struct store *s, size_t i, uint64_t n, bool make)
{
	struct access_key k = { .scopes = ACCESS_READ, .created_ns = (int64_t)n };

	snprintf(k.id, sizeof(k.id), "%08zx", i);
	name_of(k.name, "key", i);
	return make ? store_access_put(s, &k, NULL) : store_access_del(s, k.id, NULL);
}

static int put_rules(struct store *s, size_t i, uint64_t n)
{
	char name[16], text[32];

	name_of(name, "t", i);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return store_rules_put(s, name, span_str(text), NULL);
}

static int step(struct store *s, struct wsdb *ws, uint64_t n)
{
	struct gc_stats collected;
	size_t i = thing_of(n);
	bool make = !*slot_of(n);

	switch (kind_of(n)) {
	case K_FILE:
		return put_file(s, ws, i, n);
	case K_ATTRS:
		return put_attrs(ws, i, n);
	case K_SNAPSHOT:
		return toggle_snapshot(ws, i, n, make);
	case K_FORK:
		return toggle_fork(s, ws, i, n, make);
	case K_SECRET:
		return toggle_secret(s, i, n, make);
	case K_USAGE:
		return put_usage(s, i, n);
	case K_ACCESS:
		return toggle_access(s, i, n, make);
	case K_RULES:
		return put_rules(s, i, n);
	case K_GC:
		return store_gc(s, GC_EAGER, &collected, NULL);
	case KINDS:
		break;
	}
	return -EINVAL;
}

static void done(uint64_t n)
{
	uint64_t *slot = slot_of(n);

	*slot = *slot && is_toggled(kind_of(n)) ? 0 : n;
}

static NORETURN void child(const char *dir, uint64_t from, int out)
{
	struct place p = { .store = NULL };
	struct wsdb *ws = NULL;
	uint64_t n;
	int r;

	if (die_open(&p, dir) || wsdb_open(p.store, "w", false, &ws, NULL))
		_exit(3);
	for (n = from;; n++) {
		r = step(p.store, ws, n);
		if (r) {
			fprintf(stderr, "step %llu, kind %d: %d\n", (unsigned long long)n, kind_of(n), r);
			_exit(4);
		}
		done(n);
		if (io_write_full(out, &n, sizeof(n)))
			_exit(5);
	}
}

/* --- what there is ------------------------------------------------------------------------------------------------ */

struct looking {
	uint64_t next; /* the step that was under way */
	uint64_t found[KINDS][THINGS];
};

static bool is_step(const uint8_t *got, ssize_t len, uint64_t n)
{
	static uint8_t want[BYTES];

	fill(want, len_of(n), n);
	return len == (ssize_t)len_of(n) && memcmp(got, want, (size_t)len) == 0;
}

static int see_usage(void *ctx, const struct usage_row *row)
{
	struct looking *l = ctx;

	l->found[K_USAGE][row->sandbox[1] - '0'] = row->run_ms;
	return 0;
}

static int see_access(void *ctx, const struct access_key *k)
{
	struct looking *l = ctx;

	l->found[K_ACCESS][strtoul(k->id, NULL, 16)] = (uint64_t)k->created_ns;
	return 0;
}

static void see_ws(struct looking *l, struct store *s, struct txn *t)
{
	static uint8_t got[BYTES + 1];
	struct span attrs, value;
	struct snapshot snap;
	struct node n;
	char name[16];
	size_t i;

	for (i = 0; i < THINGS; i++) {
		if (node_get(t, FIRST + i, &n) == 0) {
			ssize_t len = content_read(s, &n.content, 0, got, sizeof(got), true);

			l->found[K_FILE][i] = is_step(got, len, of[K_FILE][i]) ? of[K_FILE][i]
					      : is_step(got, len, l->next)     ? l->next
									       : UINT64_MAX;
		}
		if (node_get(t, FIRST + THINGS + i, &n) == 0 && node_xattrs(t, n.fid, &attrs) == 0 &&
		    xattrs_get(attrs, SPAN("user.n", 6), &value) >= 0 && value.len == 8)
			memcpy(&l->found[K_ATTRS][i], value.p, 8);
		name_of(name, "s", i);
		if (snapshot_get(t, name, &snap) == 0)
			l->found[K_SNAPSHOT][i] = (uint64_t)snap.created_ns;
		name_of(name, "layer-s", i);
		if (meta_get(t, name, &value) == 0 && value.len == 8)
			cr_expect_eq(memcmp(&l->found[K_SNAPSHOT][i], value.p, 8), 0, "a snapshot without its fact");
		else
			cr_expect_eq(l->found[K_SNAPSHOT][i], 0, "a snapshot without its fact");
	}
}

static void see_forks(struct looking *l, struct store *s)
{
	char id[16];
	size_t i;

	for (i = 0; i < THINGS; i++) {
		struct wsdb *fork = NULL;
		struct txn *t = NULL;

		name_of(id, "fork", i);
		if (wsdb_open(s, id, false, &fork, NULL))
			continue;
		cr_assert_eq(txn_read(fork, &t, NULL), 0);
		l->found[K_FORK][i] = HALF;
		(void)!meta_get_u64(t, "made", &l->found[K_FORK][i]);
		txn_abort(&t);
		wsdb_close(&fork);
	}
}

static void see(struct looking *l, struct store *s, uint64_t next)
{
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	char name[16];
	size_t i;

	*l = (struct looking){ .next = next };
	cr_assert_eq(wsdb_open(s, "w", false, &ws, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	see_ws(l, s, t);
	txn_abort(&t);
	wsdb_close(&ws);
	see_forks(l, s);
	cr_assert_eq(store_usage_each(s, 0, see_usage, l), 0);
	cr_assert_eq(store_access_each(s, see_access, l), 0);
	for (i = 0; i < THINGS; i++) {
		AUTO(buf_fini) struct buf secret, rules;

		buf_init(&secret, 64);
		buf_init(&rules, 64);
		name_of(name, "k", i);
		if (store_secret_get(s, name, &secret) == 0 && buf_append(&secret, "", 1) == 0)
			l->found[K_SECRET][i] = strtoull(buf_str(&secret), NULL, 10);
		name_of(name, "t", i);
		if (store_rules_get(s, name, &rules) == 0 && buf_append(&rules, "", 1) == 0)
			l->found[K_RULES][i] = strtoull(buf_str(&rules), NULL, 10);
	}
}

static void says(void *ctx, const char *words)
{
	(void)ctx;
	fprintf(stderr, "fsck: %s\n", words);
}

/* All is as it was said; the step that was under way, @next, was made or not, and counts from now on as it is. */
static void look(struct place *p, uint64_t next, int round)
{
	struct fsck_stats st = { .problems = 0 };
	struct looking l;
	unsigned k, i;

	cr_assert_eq(store_fsck(p->store, says, NULL, &st, NULL), 0);
	cr_assert_eq(st.problems, 0U, "round %d", round);
	see(&l, p->store, next);
	for (k = 0; k < K_GC; k++)
		for (i = 0; i < THINGS; i++) {
			uint64_t was = of[k][i], is = l.found[k][i];
			bool under_way = kind_of(next) == k && thing_of(next) == i;
			bool gone = k == K_USAGE && !is && was + 20 < next + 1; /* too old */

			if (under_way && is != was) {
				cr_expect(is == next || is == 0 || (k == K_FORK && is == HALF), "kind %u: %llu", k,
					  (unsigned long long)is);
				of[k][i] = is;
			} else if (gone) {
				of[k][i] = 0;
			} else {
				cr_expect_eq(is, was, "round %d, kind %u, thing %u: %llu instead of %llu", round, k,
					     i, (unsigned long long)is, (unsigned long long)was);
			}
		}
}

Test(verbs, whoever_is_killed_in_them, .timeout = 600)
{
	int round, rounds = getenv("BERTH_LONG") ? LONG * ROUNDS : ROUNDS;
	struct node root = make_node(ROOT, S_IFDIR | 0755);
	size_t len = 0, from, i;
	uint64_t next = 100;
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct place p;

	place_make(&p, 1 << 30);
	cr_assert_eq(wsdb_open(p.store, "w", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &root);
	meta_put_u64(t, "root-fid", ROOT);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	wsdb_close(&ws);
	store_close(&p.store);
	for (round = 0; round < rounds && len + 1000 < ARRAY_LEN(said); round++) {
		from = len;
		len = die_round(&p, round, child, next, said, sizeof(*said), len);
		for (i = from; i < len; i++)
			done(said[i]);
		if (len > from)
			next = said[len - 1] + 1;
		cr_assert_eq(place_open(&p, 1 << 30), 0);
		look(&p, next, round);
		store_close(&p.store);
		next++; /* what was under way is not begun again */
	}
	cr_assert_gt(len, (size_t)rounds);
#ifdef LOSE
	cr_log_info("%zu steps, %ld pages were lost", len, lost);
	cr_assert_gt(lost, 0);
#endif
	place_free(&p);
}
