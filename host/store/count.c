/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a workspace holds, for its limits: names, and bytes of extended attributes. The one place that counts. Names
 * that are here are the rows of their table, which LMDB knows; two figures are kept as facts, beside what they count
 * and in the same transaction: the names that are in stubs ("stub-names") and the bytes in the table of attributes
 * ("attrs-b"). Where they are missing (a workspace of an earlier version) they are counted; fsck counts both anew.
 */
#include "host/store/inside.h"

#include <errno.h>

static const char stub_names[] = "stub-names", attrs_b[] = "attrs-b";

int count_begin(struct txn *t)
{
	t->stub_names = t->attrs_b = 0;
	t->rows_before = t->dead_b = 0;
	return t->write ? db_count(t->t, WT_ENTRY, &t->rows_before) : 0;
}

void count_stub(struct txn *t, const struct digest *dir, bool gone)
{
	uint64_t n = 0;
	int r = tree_names(wsdb_store(t->ws), dir, &n);

	if (r)
		txn_fail(t, r);
	t->stub_names += gone ? -(int64_t)n : (int64_t)n;
}

void count_attrs(struct txn *t, size_t was, size_t is)
{
	t->attrs_b += (int64_t)is - (int64_t)was;
}

static int count_stubs(struct txn *t, uint64_t *ret)
{
	struct span key, v;
	enum db_step step = DB_AT_LEAST;
	int r;

	for (*ret = 0; (r = db_walk(t->t, WT_NODE, step, SPAN_NULL, &key, &v)) == 0; step = DB_NEXT) {
		struct digest d;
		struct span dir;
		struct node n;
		uint64_t more;

		if (key_u64_parse(key, &n.fid) || node_unpack(v, n.fid, &n) || !(n.flags & NODE_STUB))
			continue;
		if (db_get(t->t, WT_TREE, key, &dir) || dir.len != DIGEST_LEN)
			return -EIO;
		memcpy(d.b, dir.p, DIGEST_LEN);
		r = tree_names(wsdb_store(t->ws), &d, &more);
		if (r)
			return r;
		*ret += more;
	}
	return MIN(r, 0);
}

static int sum_attrs(struct txn *t, uint64_t *ret)
{
	struct span key, v;
	enum db_step step = DB_AT_LEAST;
	int r;

	for (*ret = 0; (r = db_walk(t->t, WT_XATTR, step, SPAN_NULL, &key, &v)) == 0; step = DB_NEXT)
		*ret += v.len;
	return MIN(r, 0);
}

/* The figures as they are now, changes of this transaction included. */
static int figures(struct txn *t, uint64_t *stubs, uint64_t *attrs)
{
	int r = meta_get_u64(t, stub_names, stubs), q = meta_get_u64(t, attrs_b, attrs);

	if (r == 0 && q == 0) {
		*stubs += (uint64_t)t->stub_names;
		*attrs += (uint64_t)t->attrs_b;
		return 0;
	}
	r = MIN(r, q);
	if (r >= 0)
		r = count_stubs(t, stubs);
	return r < 0 ? r : sum_attrs(t, attrs);
}

int txn_counts(struct txn *t, struct txn_counts *ret)
{
	uint64_t rows = 0, stubs = 0;
	int r = db_count(t->t, WT_ENTRY, &rows);

	*ret = (struct txn_counts){ .names = 0 };
	if (r == 0)
		r = figures(t, &stubs, &ret->attrs_b);
	if (r < 0)
		return r;
	ret->names = rows + stubs;
	ret->attrs_more = t->attrs_b;
	ret->names_more = t->write ? (int64_t)(rows - t->rows_before) + t->stub_names : 0;
	return 0;
}

int txn_names_of(struct txn *t, const struct digest *root, uint64_t *ret)
{
	uint64_t dirty = 0;
	struct txn_counts c;
	struct span v;
	int r = meta_get(t, "tree", &v);

	if (r == 0)
		r = db_count(t->t, WT_DIRTY, &dirty);
	if (r == 0 && (dirty || !span_eq(v, digest_span(root))))
		r = STORE_E_NONE;
	if (r == 0)
		r = txn_counts(t, &c);
	if (r == 0)
		*ret = c.names;
	return r;
}

void count_facts(struct txn *t)
{
	uint64_t stubs, attrs;
	struct span v;
	int r;

	if (db_failed(t->t) ||
	    (!t->stub_names && !t->attrs_b && meta_get(t, stub_names, &v) == 0 && meta_get(t, attrs_b, &v) == 0))
		return;
	r = figures(t, &stubs, &attrs);
	if (r < 0) {
		txn_fail(t, r);
		return;
	}
	meta_put_u64(t, stub_names, stubs);
	meta_put_u64(t, attrs_b, attrs);
}

int count_kept(struct txn *t, uint64_t *ret_stub_names, uint64_t *ret_attrs_b)
{
	int r = meta_get_u64(t, stub_names, ret_stub_names);

	return r ? r : meta_get_u64(t, attrs_b, ret_attrs_b);
}
