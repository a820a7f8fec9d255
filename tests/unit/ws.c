/* SPDX-License-Identifier: Apache-2.0 */
/* One workspace against an agent that the test plays: what is told and shipped becomes the store's state, what is not
 * whole is not acknowledged, and an orderly end keeps everything. */
#include "ws-lab.h"

#include "base/xattr.h"

static struct lab l;

static void made(void)
{
	lab_make(&l);
	lab_start(&l);
}

static void ended(void)
{
	lab_free(&l);
}

TestSuite(ws, .init = made, .fini = ended, .timeout = 60);

static void wait_is(struct ws_wait *w, int result)
{
	int r = ws_wait_end(&w, NULL);

	cr_assert_eq(r, result, "it was %d and should be %d", r, result);
}

static struct ws_wait *opening(uint64_t fid, unsigned ms)
{
	struct ws_wait *w = ws_wait_new();

	ws_open_content(l.ws, fid, clock_after_ms(ms), ws_wait_done, w);
	return w;
}

Test(ws, changes_become_state)
{
	struct msg_NODE dir = lab_node(10, S_IFDIR | 0755, 4096, 5), link = lab_node(11, S_IFLNK | 0777, 3, 5);
	struct node n;
	char *target;

	link.target = SPAN("a/b", 3);
	lab_add(&l, 0, LAB_ROOT, "dir", &dir);
	lab_add(&l, 0, 10, "link", &link);
	lab_file(&l, "file", 12, 0, 6);
	lab_batch(&l, 0);
	cr_assert_eq(ws_resolve(l.ws, "dir/link", &n), 0);
	cr_assert_eq(ws_readlink(l.ws, n.fid, &target), 0);
	cr_assert_str_eq(target, "a/b");
	free(target);
	cr_assert_eq(ws_resolve(l.ws, "file", &n), 0);
	cr_assert_eq(n.flags, 0);
	/* Renamed in one batch, the old name first: the inode and what is below it stay. */
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "dir", NULL);
	lab_add(&l, 0, LAB_ROOT, "moved", &dir);
	lab_batch(&l, 0);
	cr_assert_eq(ws_resolve(l.ws, "moved/link", &n), 0);
	cr_assert_eq(ws_resolve(l.ws, "dir", &n), -ENOENT);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "moved", NULL);
	lab_batch(&l, 0);
	cr_assert_eq(ws_getattr(l.ws, 11, &n), -ENOENT);
	lab_fsck(&l);
}

Test(ws, a_content_is_pending_until_it_is_shipped)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6);
	struct ws_wait *w;
	struct node n;
	char got[8];

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(n.flags, NODE_PENDING);
	w = opening(12, LAB_MS);
	cr_assert(lab_ship(&l, 1, &told, SPAN("hello", 5)));
	cr_assert_eq(ws_wait_end(&w, &n), 0);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 8), 5);
	cr_assert_arr_eq(got, "hello", 5);
	lab_fsck(&l);
}

Test(ws, void_shipments_are_not_acknowledged)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6);
	struct node n;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	lab_ship_begin(&l, 1, 0, &told);
	lab_ship_data(&l, 0, SPAN("he", 2));
	lab_ship_end(&l, false, false);
	cr_assert_eq(lab_count(l.ship, &l.ship_in, MSG_SHIP_ACK), 0);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(n.flags, NODE_PENDING);
	wait_is(opening(12, 100), -ETIMEDOUT);
}

Test(ws, a_delta_over_an_unknown_base_is_refused)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6);
	struct msg_SHIP_ACK ack;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	lab_ship_begin(&l, 2, 1, &told);
	lab_ship_end(&l, true, false);
	lab_expect(l.ship, &l.ship_in, MSG_SHIP_ACK, &ack);
	cr_assert_eq(ack.ok, 0);
}

Test(ws, a_scan_drops_what_it_does_not_tell)
{
	struct node n;

	lab_file(&l, "stays", 12, 0, 6);
	lab_file(&l, "goes", 13, 0, 6);
	lab_batch(&l, 0);
	lab_root(&l);
	lab_file(&l, "stays", 12, 0, 6);
	lab_batch(&l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	cr_assert_eq(ws_resolve(l.ws, "stays", &n), 0);
	cr_assert_eq(ws_resolve(l.ws, "goes", &n), -ENOENT);
	lab_fsck(&l);
}

Test(ws, most_of_it_vanished_halts)
{
	struct node n;
	char name[16];
	struct err e;
	unsigned i;

	for (i = 0; i < 150; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		lab_file(&l, name, 100 + i, 0, 6);
	}
	lab_batch(&l, 0);
	lab_hangup(&l);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
	lab_root(&l);
	lab_tell(&l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	lab_wait_why(&l, "vanished", true);
	cr_assert_eq(ws_resolve(l.ws, "f149", &n), 0);
	cr_assert_eq(ws_sync(l.ws, clock_after_ms(LAB_MS), &e), -EIO);
	cr_assert_str_eq(e.slug, "replication-halted");
}

Test(ws, another_disk_halts)
{
	struct node n;
	struct err e;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	lab_hangup(&l);
	l.disk = 7;
	lab_accept(&l, 2); /* the first that is named */
	lab_hangup(&l);
	l.disk = 0; /* an agent that does not know */
	lab_accept(&l, 3);
	lab_hangup(&l);
	l.disk = 8;
	lab_greet(&l, &l.control, &l.control_in, WIRE_CONTROL, 4);
	lab_greet(&l, &l.ship, &l.ship_in, WIRE_SHIP, 4);
	lab_wait_why(&l, "another disk", true);
	cr_assert_eq(ws_resolve(l.ws, "f", &n), 0);
	cr_assert_eq(ws_sync(l.ws, clock_after_ms(LAB_MS), &e), -EIO);
	cr_assert_str_eq(e.slug, "replication-halted");
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_REPLICATE), 0);
}

Test(ws, a_new_connection_scans)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6);
	struct node n;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	lab_ship_begin(&l, 1, 0, &told);
	lab_hangup(&l);
	lab_accept(&l, 1);
	lab_ok(&l, l.replicate);
	lab_root(&l);
	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	cr_assert(lab_ship(&l, 2, &told, SPAN("hello", 5)));
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_assert_eq(n.flags, 0);
}

static void *syncing(void *ctx)
{
	struct err *e = ctx;

	e->code = 0;
	(void)!ws_sync(l.ws, clock_after_ms(LAB_MS), e);
	return NULL;
}

Test(ws, a_sync_is_the_agents_word)
{
	struct msg_SYNC m;
	struct err e;
	pthread_t t;

	pthread_create(&t, NULL, syncing, &e);
	lab_expect(l.control, &l.control_in, MSG_SYNC, &m);
	lab_ok(&l, m.call);
	pthread_join(t, NULL);
	cr_assert_eq(e.code, 0);
}

/* The agent takes everything for shipped; the host knows better. */
Test(ws, a_sync_asks_for_what_is_missing)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6);
	struct msg_FETCH fetch;
	struct msg_SYNC m;
	struct err e;
	pthread_t t;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	pthread_create(&t, NULL, syncing, &e);
	lab_expect(l.control, &l.control_in, MSG_SYNC, &m);
	lab_ok(&l, m.call);
	lab_expect(l.control, &l.control_in, MSG_FETCH, &fetch);
	cr_assert_eq(fetch.fid, 12);
	cr_assert(lab_ship(&l, 1, &told, SPAN("hello", 5)));
	pthread_join(t, NULL);
	cr_assert_eq(e.code, 0);
}

static void *syncing_shortly(void *ctx)
{
	struct err *e = ctx;

	(void)!ws_sync(l.ws, clock_after_ms(500), e);
	return NULL;
}

Test(ws, a_sync_without_contents_is_none)
{
	struct msg_SYNC m;
	struct err e = ERR_NULL;
	pthread_t t;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	pthread_create(&t, NULL, syncing_shortly, &e);
	lab_expect(l.control, &l.control_in, MSG_SYNC, &m);
	lab_ok(&l, m.call);
	pthread_join(t, NULL);
	cr_assert_eq(e.code, -ETIMEDOUT);
	cr_assert_str_eq(e.slug, "content-missing");
}

Test(ws, stopping_answers_who_waits)
{
	struct ws_wait *w;

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	w = opening(12, 60000);
	ws_stop(l.ws);
	wait_is(w, -EPIPE);
	wait_is(opening(12, 60000), 0);
}

static int find_f(void *ctx, struct span name, const struct node *n)
{
	if (span_eq(name, span_str("f")))
		*(uint64_t *)ctx = n->size;
	return 0;
}

/* What never came is not shown as zeros: neither its size, nor behind an append. */
Test(ws, a_stopped_workspace_shows_what_it_holds)
{
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6);
	uint64_t listed = 0;
	struct ws_wait *w;
	struct node n;
	char got[8];

	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	cr_assert(lab_ship(&l, 1, &told, SPAN("hello", 5)));
	lab_file(&l, "f", 12, 9000, 7);
	lab_batch(&l, 0);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_expect_eq(n.size, 9000);
	ws_stop(l.ws);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_expect_eq(n.size, 5);
	cr_assert_eq(ws_lookup(l.ws, LAB_ROOT, span_str("f"), &n), 0);
	cr_expect_eq(n.size, 5);
	cr_assert_eq(ws_resolve(l.ws, "f", &n), 0);
	cr_expect_eq(n.size, 5);
	cr_assert_eq(ws_list(l.ws, LAB_ROOT, find_f, &listed), 0);
	cr_expect_eq(listed, 5);
	w = opening(12, LAB_MS);
	cr_assert_eq(ws_wait_end(&w, &n), 0);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 8), 5);
	w = ws_wait_new();
	ws_write(l.ws, 12, 0, SPAN(", you", 5), WS_APPEND, ws_wait_done, w);
	cr_assert_eq(ws_wait_end(&w, &n), 0);
	cr_expect_eq(n.size, 10);
	lab_fsck(&l);
}

static int make(const char *name, uint32_t mode, struct node *ret)
{
	struct ws_wait *w = ws_wait_new();

	ws_make(l.ws, LAB_ROOT, span_str(name), mode, SPAN_NULL, ws_wait_done, w);
	return ws_wait_end(&w, ret);
}

static int rename_in(uint64_t from_dir, const char *from, uint64_t to_dir, const char *to)
{
	struct ws_wait *w = ws_wait_new();

	ws_rename(l.ws, from_dir, span_str(from), to_dir, span_str(to), 0, ws_wait_done, w);
	return ws_wait_end(&w, NULL);
}

Test(ws, a_stopped_workspace_is_a_file_system)
{
	struct node file, dir, n;
	struct ws_wait *w;
	char got[8];

	ws_stop(l.ws);
	cr_assert_eq(make("f", S_IFREG | 0644, &file), 0);
	cr_assert_eq(make("f", S_IFREG | 0644, &n), -EEXIST);
	cr_assert_eq(make("d", S_IFDIR | 0755, &dir), 0);
	w = ws_wait_new();
	ws_write(l.ws, file.fid, 0, SPAN("hello", 5), 0, ws_wait_done, w);
	wait_is(w, 0);
	cr_assert_eq(rename_in(LAB_ROOT, "d", dir.fid, "inside"), -EINVAL);
	cr_assert_eq(rename_in(LAB_ROOT, "f", dir.fid, "g"), 0);
	cr_assert_eq(ws_resolve(l.ws, "d/g", &n), 0);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 8), 5);
	w = ws_wait_new();
	ws_remove(l.ws, LAB_ROOT, SPAN("d", 1), WIRE_FS_DIR, ws_wait_done, w);
	wait_is(w, -ENOTEMPTY);
	w = ws_wait_new();
	ws_remove(l.ws, LAB_ROOT, SPAN("d", 1), WIRE_FS_TREE, ws_wait_done, w);
	wait_is(w, 0);
	cr_assert_eq(ws_getattr(l.ws, file.fid, &n), -ENOENT);
	lab_fsck(&l);
}

/* --- without a name ----------------------------------------------------------------------------------------------- */

static bool is_open(void *ctx, struct ws *ws, uint64_t fid)
{
	(void)ws;
	return __atomic_load_n((uint64_t *)ctx, __ATOMIC_ACQUIRE) == fid;
}

static uint64_t no_announce(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
	return 0;
}

static void no_changed(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
}

static int write_of(uint64_t fid, const char *text)
{
	struct ws_wait *w = ws_wait_new();

	ws_write(l.ws, fid, 0, span_str(text), 0, ws_wait_done, w);
	return ws_wait_end(&w, NULL);
}

static void wait_gone(uint64_t fid)
{
	uint64_t until = clock_after_ms(LAB_MS);
	struct node n;

	while (ws_getattr(l.ws, fid, &n) != -ENOENT && clock_now() < until)
		(void)!poll(NULL, 0, 5);
	cr_assert_eq(ws_getattr(l.ws, fid, &n), -ENOENT);
}

Test(ws, what_is_open_is_kept_without_a_name)
{
	static const struct ws_listener listener = { .announce = no_announce, .changed = no_changed,
						     .is_open = is_open };
	struct node n;
	uint64_t open = 21;

	ws_on_change(l.ws, &listener, &open);
	lab_file(&l, "closed", 20, 0, 5);
	lab_file(&l, "open", 21, 0, 5);
	lab_batch(&l, 0);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "closed", NULL);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "open", NULL);
	lab_batch(&l, 0);
	cr_assert_eq(ws_getattr(l.ws, 20, &n), -ENOENT);
	cr_assert_eq(ws_getattr(l.ws, 21, &n), 0);
	cr_assert_eq(n.nlink, 0);
	cr_assert_eq(write_of(21, "text"), 0); /* nothing of it goes to the agent, which would not answer */
	cr_assert_eq(write_of(20, "text"), -ENOENT);
	cr_assert_eq(ws_getattr(l.ws, 21, &n), 0);
	cr_assert_eq(n.size, 4);
	lab_fsck(&l);
	ws_let_go(l.ws); /* another one was closed */
	lab_file(&l, "more", 22, 0, 5);
	lab_batch(&l, 0);
	cr_assert_eq(ws_getattr(l.ws, 21, &n), 0);
	__atomic_store_n(&open, 0, __ATOMIC_RELEASE);
	ws_let_go(l.ws);
	wait_gone(21);
	lab_fsck(&l);
	/* One that has a name again is not given up with the others. */
	__atomic_store_n(&open, 22, __ATOMIC_RELEASE);
	lab_add(&l, WIRE_ENT_GONE, LAB_ROOT, "more", NULL);
	lab_batch(&l, 0);
	lab_file(&l, "other", 22, 0, 6);
	lab_batch(&l, 0);
	__atomic_store_n(&open, 0, __ATOMIC_RELEASE);
	ws_let_go(l.ws);
	lab_file(&l, "last", 23, 0, 5);
	lab_batch(&l, 0);
	cr_assert_eq(ws_getattr(l.ws, 22, &n), 0);
	cr_assert_eq(n.nlink, 1);
	lab_fsck(&l);
}

/* --- what is counted ---------------------------------------------------------------------------------------------- */

static void put_there(struct txn *t, uint64_t parent, const char *name, uint64_t fid, uint32_t mode,
		      const char *attr)
{
	AUTO(buf_fini) struct buf packed;
	struct node n = make_node(fid, mode);
	struct span value = span_str(attr);

	buf_init(&packed, XATTRS_MAX);
	node_put(t, &n);
	if (*attr) {
		cr_assert_eq(xattrs_with(SPAN_NULL, span_str("user.a"), &value, 0, &packed), 0);
		node_set_xattrs(t, &n, buf_span(&packed));
	}
	if (parent)
		entry_put(t, parent, span_str(name), fid);
}

/* Directories in directories, attributes on some; @more: one subtree that the other state has not. */
static void build(struct txn *t, bool more)
{
	char name[16], attr[32];
	unsigned i;

	if (!more) {
		put_there(t, 0, "", LAB_ROOT, S_IFDIR | 0755, "root");
		meta_put_u64(t, "root-fid", LAB_ROOT);
	}
	for (i = 0; i < 30; i++) {
		uint64_t fid = (more ? 200 : 100) + i;

		snprintf(name, sizeof(name), more ? "m%u" : "d%u", i);
		snprintf(attr, sizeof(attr), "%.*s", (int)(i % 7) * 3, "abcdefghijklmnopqrstuvwxyz");
		put_there(t, i < 3 ? LAB_ROOT : fid - 3, name, fid, (i < 27 ? S_IFDIR : S_IFREG) | 0755, attr);
	}
}

static void is_counted(struct wsdb *db, struct place *p)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct tree_item top;
	struct txn_counts c;
	struct content links;
	struct digest d;
	uint64_t names;

	cr_assert_eq(tree_seal(db, 0, &d, NULL), 0);
	cr_assert_eq(tree_stat(p->store, &d, &top, &links), 0);
	cr_assert_eq(tree_names(p->store, &top.dir, &names), 0);
	cr_assert_eq(txn_read(db, &t, NULL), 0);
	cr_assert_eq(txn_counts(t, &c), 0);
	cr_assert_eq(c.names, names, "%llu are counted, %llu there", (unsigned long long)c.names,
		     (unsigned long long)names);
	cr_assert_eq(txn_names_of(t, &d, &names), 0);
	cr_assert_eq(c.names, names);
}

static void go_to(struct ws *ws, struct digest *from, const struct digest *to, const char *path)
{
	struct ws_wait *w = ws_wait_new();

	cr_assert_eq(tree_seal(ws_db(ws), 0, from, NULL), 0);
	ws_restore(ws, from, to, path, "", ws_wait_done, w);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
}

/* Each restore makes stubs; some are looked into, some go with what they are in. Links make it plant the tree anew. */
static void there_and_back(bool links)
{
	struct ws_conf conf;
	struct ws *ws = NULL;
	struct digest one, two, now;
	struct txn *t = NULL;
	struct node n;
	unsigned i;

	lab_make(&l);
	conf = lab_conf(&l);
	cr_assert_eq(ws_open(&conf, "w2", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws_db(ws), &t, NULL), 0);
	build(t, false);
	if (links) {
		put_there(t, LAB_ROOT, "x1", 90, S_IFREG | 0644, "linked");
		entry_put(t, 100, span_str("x2"), 90);
		cr_assert_eq(node_get(t, 90, &n), 0);
		n.nlink = 2;
		node_put(t, &n);
	}
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(ws_db(ws), 0, &one, NULL), 0);
	is_counted(ws_db(ws), &l.place);
	cr_assert_eq(txn_write(ws_db(ws), &t, NULL), 0);
	build(t, true);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(ws_db(ws), 0, &two, NULL), 0);
	for (i = 0; i < 50; i++) {
		go_to(ws, &now, i % 2 ? &two : &one, i % 5 == 3 && !links ? "m0" : "");
		is_counted(ws_db(ws), &l.place);
		if (i % 3 == 0 && ws_resolve(ws, i % 2 ? "m0/m3/m6/m9" : "d1/d4/d7", &n) == 0) {
			struct txn *r = NULL;

			cr_assert_eq(txn_read(ws_db(ws), &r, NULL), 0);
			cr_assert_eq(ws_read_dir(ws, n.fid, &r), 0);
			txn_abort(&r);
			is_counted(ws_db(ws), &l.place);
		}
	}
	lab_fsck(&l);
	ws_unref(&ws);
	lab_free(&l);
}

Test(ws_counts, stay_right_over_restores, .timeout = 60)
{
	there_and_back(false);
}

Test(ws_counts, stay_right_when_trees_with_links_are_planted, .timeout = 60)
{
	there_and_back(true);
}

/* Some gigabytes of paths are refused before anything is done, not collected. */
Test(ws_counts, a_restore_that_would_collect_too_much, .timeout = 60)
{
	enum { DEEP = 15, NAMES = 36000 };
	struct ws_conf conf;
	struct ws *ws = NULL;
	struct digest none, many;
	struct err e = ERR_NULL;
	struct txn *t = NULL;
	uint64_t dir = LAB_ROOT;
	bool stop = false;
	char name[256];
	unsigned i;

	lab_make(&l);
	conf = lab_conf(&l);
	cr_assert_eq(ws_open(&conf, "w2", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws_db(ws), &t, NULL), 0);
	put_there(t, 0, "", LAB_ROOT, S_IFDIR | 0755, "");
	meta_put_u64(t, "root-fid", LAB_ROOT);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(ws_db(ws), 0, &none, NULL), 0);
	cr_assert_eq(txn_write(ws_db(ws), &t, NULL), 0);
	memset(name, 'd', sizeof(name));
	name[255] = '\0';
	for (i = 0; i < DEEP; i++) {
		put_there(t, dir, name, 10 + i, S_IFDIR | 0755, "");
		dir = 10 + i;
	}
	for (i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "%u", i);
		put_there(t, dir, name, 1000 + i, S_IFREG | 0644, "");
	}
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(ws_db(ws), 0, &many, NULL), 0);
	cr_assert_eq(ws_restore_live(ws, &none, &many, "", &stop, &e), -E2BIG);
	cr_assert_str_eq(e.slug, "too-many-changes");
	ws_unref(&ws);
	lab_free(&l);
}

/* --- answers keep their place ------------------------------------------------------------------------------------- */

/* Holds the work strand before a commit, until it is let go. */
struct held_strand {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool hold, is_held, answered;
};

static struct held_strand strand = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false, false };

static uint64_t hold_announce(void *ctx, struct ws *ws, const struct ws_change *changes, size_t n)
{
	(void)ctx, (void)ws, (void)changes, (void)n;
	pthread_mutex_lock(&strand.lock);
	while (strand.hold) {
		strand.is_held = true;
		pthread_cond_broadcast(&strand.cond);
		pthread_cond_wait(&strand.cond, &strand.lock);
	}
	pthread_mutex_unlock(&strand.lock);
	return 0;
}

static void strand_set(bool hold)
{
	pthread_mutex_lock(&strand.lock);
	strand.hold = hold;
	pthread_cond_broadcast(&strand.cond);
	pthread_mutex_unlock(&strand.lock);
}

static void strand_await(const bool *what)
{
	pthread_mutex_lock(&strand.lock);
	while (!*what)
		pthread_cond_wait(&strand.cond, &strand.lock);
	pthread_mutex_unlock(&strand.lock);
}

static void room_told(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	(void)ctx, (void)result, (void)type, (void)msg, (void)e;
	pthread_mutex_lock(&strand.lock);
	strand.answered = true;
	pthread_cond_broadcast(&strand.cond);
	pthread_mutex_unlock(&strand.lock);
}

/* The agent answers a write and then tells the same file as it is now: what was written is laid over what is here
 * before the file is pending, so it can be read at once. */
Test(ws, an_answer_is_applied_before_what_is_told_behind_it)
{
	static const struct ws_listener listener = { .announce = hold_announce, .changed = no_changed };
	struct msg_NODE told = lab_node(12, S_IFREG | 0644, 5, 6), after = lab_node(12, S_IFREG | 0644, 5, 7);
	struct msg_FS_STATFS ask = { .call = 0 };
	struct msg_FS_STATFS_IS room = { .bsize = 1 };
	struct msg_FS_NODE answer = { .call = 0 };
	struct msg_FS_WRITE asked;
	struct msg_list nodes;
	struct ws_wait *w;
	struct node n;
	char got[8];

	ws_on_change(l.ws, &listener, NULL);
	lab_file(&l, "f", 12, 5, 6);
	lab_batch(&l, 0);
	cr_assert(lab_ship(&l, 1, &told, SPAN("hello", 5)));
	w = ws_wait_new();
	ws_write(l.ws, 12, 0, SPAN("J", 1), 0, ws_wait_done, w);
	lab_expect(l.control, &l.control_in, MSG_FS_WRITE, &asked);
	/* The strand is busy with something else when both come, and is going to look into the queue. */
	strand_set(true);
	lab_file(&l, "other", 13, 0, 5);
	lab_tell(&l, 0);
	strand_await(&strand.is_held);
	lab_file(&l, "third", 14, 0, 5);
	lab_tell(&l, 0);
	msg_list_init(&nodes, FRAME_MAX);
	cr_assert_eq(msg_list_rec(&nodes, MSG_NODE, &after), 0);
	answer.call = asked.call;
	answer.node = msg_list_span(&nodes);
	cr_assert_eq(frame_send(l.control, MSG_FS_NODE, &answer, clock_after_ms(LAB_MS)), 0);
	msg_list_fini(&nodes);
	lab_file(&l, "f", 12, 5, 7);
	lab_tell(&l, 0);
	/* What comes behind both has arrived, so they have. */
	link_call(ws_link(l.ws), MSG_FS_STATFS, &ask, clock_after_ms(LAB_MS), room_told, NULL);
	lab_expect(l.control, &l.control_in, MSG_FS_STATFS, &ask);
	room.call = ask.call;
	cr_assert_eq(frame_send(l.control, MSG_FS_STATFS_IS, &room, clock_after_ms(LAB_MS)), 0);
	strand_await(&strand.answered);
	strand_set(false);
	cr_assert_eq(ws_wait_end(&w, NULL), 0);
	lab_acked(&l);
	cr_assert_eq(ws_getattr(l.ws, 12, &n), 0);
	cr_expect_eq(n.flags & NODE_PENDING, 0);
	cr_assert_eq(ws_read(l.ws, &n.content, 0, got, 8), 5);
	cr_assert_arr_eq(got, "Jello", 5);
	lab_fsck(&l);
}

static void accepted(unsigned generation)
{
	lab_hangup(&l);
	l.generation = generation;
	lab_greet(&l, &l.control, &l.control_in, WIRE_CONTROL, 1);
	lab_greet(&l, &l.ship, &l.ship_in, WIRE_SHIP, 1);
}

/* With each connection, and when changes are taken again; not while the workload may be frozen, nor an old one. */
Test(ws, an_agent_hears_that_nothing_is_frozen)
{
	struct msg_THAWED m;

	ws_refuse_changes(l.ws, true);
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_THAWED), 0);
	accepted(0);
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_THAWED), 0);
	ws_refuse_changes(l.ws, false);
	lab_expect(l.control, &l.control_in, MSG_THAWED, &m);
	accepted(0);
	lab_expect(l.control, &l.control_in, MSG_THAWED, &m);
	accepted(wire_since(MSG_THAWED) - 1);
	ws_refuse_changes(l.ws, false);
	cr_assert_eq(lab_count(l.control, &l.control_in, MSG_THAWED), 0);
}
