/* SPDX-License-Identifier: Apache-2.0 */
/* Each kind of damage is done to a sound store, one at a time, and must be told; a sound store has nothing to tell. */
#include "store-lib.h"

enum { ROOT = 1, DIR_A = 2, FILE_BIG = 3, FILE_SMALL = 4, LINK = 5, DIR_B = 6 };

static struct place place;
static struct wsdb *ws;
static struct content big;
static struct digest tree;

static void put_file(struct txn *t, uint64_t fid, const struct content *c, uint32_t nlink)
{
	struct node n = make_node(fid, S_IFREG | 0644);

	n.content = *c;
	n.size = c->size;
	n.nlink = nlink;
	node_put(t, &n);
}

static void setup(void)
{
	static uint8_t bytes[300000];
	struct journal_row row = { .kind = JOURNAL_NOTE, .name = span_str("note") };
	struct content small;
	struct node n;
	struct txn *t;
	int i;

	place_make(&place, 1 << 28);
	fill(bytes, sizeof(bytes), 1);
	cr_assert_eq(put_content(place.store, bytes, sizeof(bytes), &big), 0);
	cr_assert_eq(put_content(place.store, "hello", 5, &small), 0);
	cr_assert_eq(store_settle(place.store, NULL), 0);
	cr_assert_eq(wsdb_open(place.store, "one", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	n = make_node(ROOT, S_IFDIR | 0755);
	node_put(t, &n);
	n = make_node(DIR_A, S_IFDIR | 0755);
	node_put(t, &n);
	n = make_node(DIR_B, S_IFDIR | 0755);
	node_put(t, &n);
	n = make_node(LINK, S_IFLNK | 0777);
	node_put(t, &n);
	node_set_target(t, LINK, span_str("a/big"));
	put_file(t, FILE_BIG, &big, 2);
	put_file(t, FILE_SMALL, &small, 1);
	entry_put(t, ROOT, span_str("a"), DIR_A);
	entry_put(t, DIR_A, span_str("b"), DIR_B);
	entry_put(t, DIR_A, span_str("big"), FILE_BIG);
	entry_put(t, ROOT, span_str("big too"), FILE_BIG);
	entry_put(t, DIR_A, span_str("small"), FILE_SMALL);
	entry_put(t, ROOT, span_str("link"), LINK);
	meta_put_u64(t, "root-fid", ROOT);
	for (i = 0; i < 5; i++)
		journal_append(t, &row);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(ws, 0, &tree, NULL), 0);
}

static void teardown(void)
{
	wsdb_close(&ws);
	place_free(&place);
}

TestSuite(fsck, .init = setup, .fini = teardown);

static void hear(void *ctx, const char *words)
{
	if (!((char *)ctx)[0])
		snprintf(ctx, 512, "%s", words);
}

/* The first finding must hold @words; @words NULL: there must be none. */
static void expect(const char *words)
{
	struct fsck_stats st = { .problems = 0 };
	struct err e = ERR_NULL;
	char said[512] = "";
	int r = store_fsck(place.store, hear, said, &st, &e);

	cr_assert_eq(r, 0, "%s", e.text);
	if (words) {
		cr_assert_gt(st.problems, 0, "nothing was found, want: %s", words);
		cr_assert_not_null(strstr(said, words), "said: %s, want: %s", said, words);
	} else {
		cr_assert_eq(st.problems, 0, "%s", said);
	}
}

/* Raw doors, one a side: set a row, or remove it when @v is NULL. */
static void raw(struct db *db, size_t table, struct span key, const struct span *v)
{
	struct db_txn *t = NULL;

	cr_assert_eq(db_begin(db, true, &t, NULL), 0);
	if (v)
		db_put(t, table, key, *v, DB_PUT_SET);
	else
		cr_assert_eq(db_del(t, table, key), 0);
	cr_assert_eq(db_commit(&t), 0);
}

static void raw_ws(enum ws_table table, struct span key, const struct span *v)
{
	struct db *db = NULL;

	cr_assert_eq(wsdb_map(ws, &db, NULL), 0);
	raw(db, table, key, v);
	wsdb_unmap(ws);
}

static void raw_fid(enum ws_table table, uint64_t fid, const struct span *v)
{
	struct key k;

	key_u64(&k, fid);
	raw_ws(table, key_span(&k), v);
}

static void raw_entry(uint64_t parent, const char *name, uint64_t fid)
{
	uint8_t v[8];
	struct key k;

	key_entry(&k, parent, span_str(name));
	put_u64(v, fid);
	raw_ws(WT_ENTRY, key_span(&k), fid ? &SPAN(v, 8) : NULL);
}

static void raw_name(uint64_t parent, const char *name, uint64_t fid, bool put)
{
	struct key k;

	key_name(&k, fid, parent, span_str(name));
	raw_ws(WT_NAME, key_span(&k), put ? &SPAN_NULL : NULL);
}

/* The list that is the root of the big content, with one of its bytes changed or not. */
static struct digest first_chunk(void)
{
	struct db_txn *t = NULL;
	struct span list = SPAN_NULL;
	struct digest d;

	cr_assert_eq(db_begin(place.store->content, false, &t, NULL), 0);
	cr_assert_eq(db_get(t, CT_LIST, digest_span(&big.root), &list), 0);
	d = list_slot(list, 0);
	db_abort(&t);
	return d;
}

static void flip(enum content_table table, struct digest d, size_t at)
{
	static uint8_t copy[1 << 17];
	struct db_txn *t = NULL;
	struct span v = SPAN_NULL;

	cr_assert_eq(db_begin(place.store->content, false, &t, NULL), 0);
	cr_assert_eq(db_get(t, table, digest_span(&d), &v), 0);
	memcpy(copy, v.p, v.len);
	db_abort(&t);
	copy[at] ^= 1;
	raw(place.store->content, table, digest_span(&d), &SPAN(copy, v.len));
}

static void change_node(uint64_t fid, void (*fn)(struct node *n))
{
	struct txn *t;
	struct node n;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(node_get(t, fid, &n), 0);
	fn(&n);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

Test(fsck, a_sound_store_has_nothing_to_tell)
{
	struct fsck_stats st;

	expect(NULL);
	cr_assert_eq(store_fsck(place.store, NULL, NULL, &st, NULL), 0);
	cr_assert_eq(st.workspaces, 1);
	cr_assert_eq(st.nodes, 6);
	cr_assert_eq(st.entries, 6);
	cr_assert_eq(st.orphans, 0);
}

Test(fsck, flipped_byte_in_a_chunk)
{
	uint8_t got[16];

	flip(CT_CHUNK, first_chunk(), 777);
	expect("is damaged");
	cr_assert_eq(content_read(place.store, &big, 0, got, 16, true), -EIO);
	cr_assert_eq(content_read(place.store, &big, 0, got, 16, false), 16);
}

Test(fsck, missing_chunk)
{
	struct digest d = first_chunk();
	uint8_t got[16];

	raw(place.store->content, CT_CHUNK, digest_span(&d), NULL);
	expect("refers to chunk");
	cr_assert_eq(content_read(place.store, &big, 0, got, 16, false), -EIO);
}

Test(fsck, missing_list)
{
	raw(place.store->content, CT_LIST, digest_span(&big.root), NULL);
	expect("refers to list");
}

Test(fsck, list_with_a_wrong_hash)
{
	flip(CT_LIST, big.root, LIST_HEAD + 3);
	expect("is damaged");
}

Test(fsck, flipped_byte_in_a_tree)
{
	flip(CT_TREE, tree, 20);
	expect("is damaged");
}

Test(fsck, missing_tree_node_inside)
{
	struct db_txn *t = NULL;
	struct span v = SPAN_NULL;
	struct digest d;

	cr_assert_eq(db_begin(place.store->content, false, &t, NULL), 0);
	cr_assert_eq(db_get(t, CT_TREE, digest_span(&tree), &v), 0);
	memcpy(d.b, (const uint8_t *)v.p + 32, DIGEST_LEN);
	db_abort(&t);
	raw(place.store->content, CT_TREE, digest_span(&d), NULL);
	expect("refers to tree");
}

Test(fsck, tree_root_missing)
{
	struct digest d = { .b = { 9 } };

	raw_ws(WT_META, span_str("tree"), &SPAN(d.b, DIGEST_LEN));
	expect("the root of the sealed tree is missing");
}

static void break_content(struct node *n)
{
	n->content.root.b[5] ^= 1;
}

static void break_depth(struct node *n)
{
	n->content.depth = 4;
}

static void break_nlink(struct node *n)
{
	n->nlink = 5;
}

Test(fsck, content_of_an_inode_missing)
{
	change_node(FILE_SMALL, break_content);
	expect("the content of inode 4 is missing");
}

Test(fsck, content_of_an_inode_impossible)
{
	change_node(FILE_SMALL, break_depth);
	expect("impossible content");
}

Test(fsck, wrong_nlink)
{
	change_node(FILE_BIG, break_nlink);
	expect("inode 3 has 2 names and says 5");
}

Test(fsck, entry_to_a_missing_node)
{
	raw_entry(ROOT, "ghost", 99);
	raw_name(ROOT, "ghost", 99, true);
	expect("names inode 99, which is missing");
}

Test(fsck, node_gone_from_under_its_entry)
{
	raw_fid(WT_NODE, FILE_SMALL, NULL);
	expect("names inode 4, which is missing");
}

Test(fsck, entry_in_a_missing_directory)
{
	raw_entry(77, "x", FILE_SMALL);
	raw_name(77, "x", FILE_SMALL, true);
	expect("is in directory 77, which is missing");
}

Test(fsck, entry_below_a_file)
{
	raw_entry(FILE_BIG, "x", FILE_SMALL);
	raw_name(FILE_BIG, "x", FILE_SMALL, true);
	expect("is no directory");
}

Test(fsck, entry_without_reverse_name)
{
	raw_name(DIR_A, "small", FILE_SMALL, false);
	expect("is not in the reverse index");
}

Test(fsck, reverse_name_without_entry)
{
	raw_name(DIR_A, "other", FILE_SMALL, true);
	expect("where it is not");
}

Test(fsck, directory_loop)
{
	raw_entry(DIR_B, "up", DIR_A);
	raw_name(DIR_B, "up", DIR_A, true);
	expect("contains itself");
}

Test(fsck, detached_loop)
{
	raw_entry(ROOT, "a", 0);
	raw_name(ROOT, "a", DIR_A, false);
	raw_entry(DIR_B, "up", DIR_A);
	raw_name(DIR_B, "up", DIR_A, true);
	expect("cannot be reached");
}

Test(fsck, orphan)
{
	struct node n = make_node(50, S_IFDIR | 0700);
	struct txn *t;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	expect("inode 50 cannot be reached");
}

Test(fsck, deleted_and_still_open_is_fine)
{
	struct node n = make_node(50, S_IFREG | 0700);
	struct fsck_stats st;
	struct txn *t;

	n.nlink = 0;
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	expect(NULL);
	cr_assert_eq(store_fsck(place.store, NULL, NULL, &st, NULL), 0);
	cr_assert_eq(st.orphans, 1);
}

Test(fsck, link_without_target)
{
	raw_fid(WT_TARGET, LINK, NULL);
	expect("is a link without target");
}

Test(fsck, target_without_node)
{
	raw_fid(WT_TARGET, 88, &SPAN("x", 1));
	expect("a target of inode 88");
}

Test(fsck, hard_link_not_listed)
{
	raw_fid(WT_LINKED, FILE_BIG, NULL);
	expect("not listed");
}

Test(fsck, journal_gap)
{
	raw_fid(WT_JOURNAL, 3, NULL);
	expect("from row 2 to row 4");
}

Test(fsck, journal_tail_missing)
{
	raw_fid(WT_JOURNAL, 5, NULL);
	expect("ends at row 4 and should at 5");
}

Test(fsck, journal_row_damaged)
{
	raw_fid(WT_JOURNAL, 2, &SPAN("xx", 2));
	expect("row 2 of the journal");
}

/* A row that is well formed and not the one that was written. */
static void forge(uint64_t seq)
{
	struct journal_row row = { .seq = seq, .kind = JOURNAL_NOTE, .name = span_str("forged") };
	uint8_t rec[JOURNAL_HEAD + JOURNAL_NAME_MAX];
	size_t len = journal_pack(&row, rec);

	raw_fid(WT_JOURNAL, seq, &SPAN(rec, len));
}

Test(fsck, journal_row_forged)
{
	forge(3);
	expect("row 3 of the journal was changed");
}

Test(fsck, journal_last_row_forged)
{
	forge(5);
	expect("row 5 of the journal was changed");
}

static void break_journal_link(struct wsdb *w)
{
	struct digest other = digest_of("journal", span_str("other"));
	struct txn *t = NULL;

	cr_assert_eq(txn_write(w, &t, NULL), 0);
	meta_put(t, "journal-link", digest_span(&other));
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

Test(fsck, journal_end_is_another)
{
	break_journal_link(ws);
	expect("the end of the journal");
}

Test(fsck, stub_without_tree_or_with_entries)
{
	struct txn *t = NULL;
	struct node n;

	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	cr_assert_eq(node_get(t, txn_root(t), &n), 0);
	txn_abort(&t);
	n.flags |= NODE_STUB;
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	node_put(t, &n);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	expect("which was not unpacked");
}

Test(fsck, xattrs_of_nobody)
{
	raw_fid(WT_XATTR, 88, &SPAN("x", 1));
	expect("extended attributes of inode 88");
}

Test(fsck, xattrs_that_are_not_announced)
{
	raw_fid(WT_XATTR, FILE_BIG, &SPAN("x", 1));
	expect("does not say so");
}

static void count_wrong(const char *what)
{
	struct txn *t = NULL;
	uint64_t is = 0;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(meta_get_u64(t, what, &is), 0);
	meta_put_u64(t, what, is + 3);
	cr_assert_eq(txn_commit(&t, NULL), 0);
}

Test(fsck, attributes_that_are_counted_wrong)
{
	count_wrong("attrs-b");
	expect("extended attributes should have");
}

Test(fsck, names_in_stubs_that_are_counted_wrong)
{
	count_wrong("stub-names");
	expect("3 names should be in directories that were not unpacked, and 0 are");
}

Test(fsck, snapshot_without_tree)
{
	struct snapshot s = { .name = "gone", .root = digest_of("tree", span_str("nowhere")) };
	struct txn *t = NULL;

	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	cr_assert_eq(snapshot_put(t, &s, NULL), 0);
	cr_assert_eq(txn_commit(&t, NULL), 0);
	expect("the tree of snapshot gone is missing");
}

static void make_pending(struct node *n)
{
	n->flags |= NODE_PENDING;
}

Test(fsck, pending_and_not_listed)
{
	change_node(FILE_SMALL, make_pending);
	raw_fid(WT_PENDING, FILE_SMALL, NULL);
	expect("inode 4 is pending and is not listed so");
}

Test(fsck, listed_and_not_pending)
{
	raw_fid(WT_PENDING, FILE_SMALL, &SPAN_NULL);
	expect("inode 4 is listed as pending and is not");
}

Test(fsck, listed_and_missing)
{
	raw_fid(WT_PENDING, 88, &SPAN_NULL);
	expect("inode 88 is listed as pending and is not");
}

Test(fsck, record_of_an_unknown_version)
{
	uint8_t rec[NODE_REC_MAX];
	struct node n = make_node(FILE_SMALL, S_IFREG | 0644);
	size_t len = node_pack(&n, rec);

	rec[0] = 200;
	raw_fid(WT_NODE, FILE_SMALL, &SPAN(rec, len));
	expect("the record of inode 4");
}

Test(fsck, format_of_a_workspace_missing)
{
	raw_ws(WT_META, span_str("format"), NULL);
	expect("the format is missing");
}

Test(fsck, format_of_a_closed_workspace_unknown)
{
	struct err e = ERR_NULL;

	raw_ws(WT_META, span_str("format"), &SPAN("\0\0\0\x63", 4));
	wsdb_close(&ws);
	store_close(&place.store);
	cr_assert_eq(place_open(&place, 1 << 28), 0);
	expect("written by a newer version of berth");
	cr_assert_eq(wsdb_open(place.store, "one", false, &ws, &e), -EPROTO);
	cr_assert_str_eq(e.slug, "workspace-format");
}

Test(fsck, format_of_the_store_unknown)
{
	struct store_conf conf = { .create = true };
	struct err e = ERR_NULL;

	raw(place.store->content, CT_META, span_str("format"), &SPAN("\0\0\0\x63", 4));
	expect("the format is missing or unknown");
	wsdb_close(&ws);
	store_close(&place.store);
	cr_assert_eq(store_open(place.dir, &conf, &place.store, &e), -EPROTO);
	cr_assert_str_eq(e.slug, "store-format");
}

static int count_keys(void *ctx, const struct access_key *k)
{
	cr_assert_str_eq(k->name, "ci");
	cr_assert_eq(k->per_second, 7);
	++*(int *)ctx;
	return 0;
}

Test(fsck, api_keys)
{
	struct access_key k = {
		.id = "01234567", .name = "ci", .scopes = ACCESS_RUN, .per_second = 7, .expires_ns = -1
	};
	uint8_t row[ACCESS_REC_HEAD + ACCESS_NAME_MAX];
	size_t len = access_pack(&k, row);
	struct access_key again;
	struct db_txn *t = NULL;
	int n = 0;

	cr_assert_eq(access_unpack(span_str("access/01234567"), SPAN(row, len), &again), 0);
	cr_assert_eq(memcmp(&k, &again, sizeof(k)), 0);
	cr_assert_eq(store_access_put(place.store, &k, NULL), 0);
	expect(NULL);
	cr_assert_eq(store_access_each(place.store, count_keys, &n), 0);
	cr_assert_eq(n, 1);
	row[7] = 32; /* a scope that nobody knows */
	cr_assert_eq(db_begin(place.store->content, true, &t, NULL), 0);
	db_put(t, CT_META, span_str("access/89abcdef"), SPAN(row, len), DB_PUT_SET);
	cr_assert_eq(db_commit(&t), 0);
	expect("access/89abcdef");
	cr_assert_eq(store_access_each(place.store, count_keys, &n), 0);
	cr_assert_eq(n, 2, "the damaged row is left out");
	cr_assert_eq(store_access_del(place.store, "01234567", NULL), 0);
	cr_assert_eq(store_access_each(place.store, count_keys, &n), 0);
	cr_assert_eq(n, 2);
}

static int count_rows(void *ctx, const struct audit_row *row)
{
	cr_assert_eq(row->seq, (uint64_t)++*(int *)ctx);
	return 0;
}

static void put_raw(const char *key, struct span value)
{
	struct db_txn *t = NULL;

	cr_assert_eq(db_begin(place.store->content, true, &t, NULL), 0);
	if (value.len)
		db_put(t, CT_META, span_str(key), value, DB_PUT_SET);
	else
		db_del(t, CT_META, span_str(key));
	cr_assert_eq(db_commit(&t), 0);
}

static int sum_up(void *ctx, const struct usage_row *row)
{
	struct usage_row *sum = ctx;

	sum->run_ms += row->run_ms;
	sum->cpu_seen_ns = row->cpu_seen_ns;
	sum->hour = row->hour;
	cr_assert_str_eq(row->sandbox, "box");
	return 0;
}

Test(fsck, what_sandboxes_used)
{
	struct usage_row rows[] = {
		{ .hour = 7, .sandbox = "box", .owner = "01234567", .run_ms = 5, .cpu_seen_ns = UINT64_MAX },
		{ .hour = 400, .sandbox = "box", .run_ms = 70, .cpu_seen_ns = 9 }
	};
	struct usage_row sum = { .hour = 0 };

	cr_assert_eq(store_usage_put(place.store, rows, 2, 0, NULL), 0);
	expect(NULL);
	cr_assert_eq(store_usage_each(place.store, 0, sum_up, &sum), 0);
	cr_assert_eq(sum.run_ms, 75U);
	cr_assert_eq(sum.cpu_seen_ns, 9U);
	rows[1].run_ms = 80; /* written over, and what is old goes */
	cr_assert_eq(store_usage_put(place.store, rows + 1, 1, 8, NULL), 0);
	sum.run_ms = 0;
	cr_assert_eq(store_usage_each(place.store, 0, sum_up, &sum), 0);
	cr_assert_eq(sum.run_ms, 80U);
	cr_assert_eq(sum.hour, 400U);
	put_raw("usage/00000190/box", span_str("damaged"));
	expect("usage/00000190/box");
}

Test(fsck, audit_and_secrets)
{
	struct audit_row row = { .seq = 0 };
	struct digest before = { .b = { 0 } };
	struct db_txn *t = NULL;
	uint8_t copy[256];
	struct span v;
	struct buf b;
	int n = 0;

	buf_init(&b, 0);
	for (row.seq = 1; row.seq <= 5; row.seq++) {
		row.text = span_str("{\"what\":\"added\"}");
		row.link = audit_link(&before, &row);
		before = row.link;
		cr_assert_eq(
			store_secret_put(place.store, row.seq == 3 ? "TOKEN" : NULL, span_str("sealed"), &row, NULL),
			0);
	}
	expect(NULL);
	cr_assert_eq(store_audit_each(place.store, 0, count_rows, &n), 0);
	cr_assert_eq(n, 5);
	cr_assert_eq(store_secret_get(place.store, "TOKEN", &b), 0);
	cr_assert(span_eq(buf_span(&b), span_str("sealed")));
	cr_assert_eq(store_secret_get(place.store, "TOKE", &b), -ENOENT);
	cr_assert_eq(db_begin(place.store->content, false, &t, NULL), 0);
	cr_assert_eq(db_get(t, CT_META, span_str("audit/0000000000000003"), &v), 0);
	memcpy(copy, v.p, v.len);
	db_abort(&t);
	copy[v.len - 3] ^= 1; /* one letter of what was told */
	put_raw("audit/0000000000000003", SPAN(copy, v.len));
	expect("row 3 of the audit");
	put_raw("audit/0000000000000003", SPAN_NULL);
	expect("lacks row 3");
	copy[v.len - 3] ^= 1;
	put_raw("audit/0000000000000003", SPAN(copy, v.len));
	expect(NULL);
	put_raw("audit/3", SPAN(copy, v.len));
	expect("a form that is unknown");
	put_raw("audit/3", SPAN_NULL);
	put_raw("secret/", span_str("x"));
	expect("holds no secret");
	buf_fini(&b);
}

Test(fsck, wrong_root)
{
	uint8_t v[8];

	put_u64(v, FILE_SMALL);
	raw_ws(WT_META, span_str("root-fid"), &SPAN(v, 8));
	expect("cannot be reached");
	put_u64(v, 1234);
	raw_ws(WT_META, span_str("root-fid"), &SPAN(v, 8));
	expect("cannot be reached");
}

Test(fsck, of_a_store_opened_for_reading)
{
	struct store_conf conf = { .read_only = true, .map_size_b = 1 << 28 };
	struct txn *t = NULL;

	wsdb_close(&ws);
	store_close(&place.store);
	cr_assert_eq(store_open(place.dir, &conf, &place.store, NULL), 0);
	expect(NULL);
	cr_assert_eq(wsdb_open(place.store, "one", false, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), -EROFS);
}
