/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names. Every entry (parent, name -> fid) has a row in the reverse index (fid, parent, name), put and removed in the
 * same transaction; paths are found through it. A walk of a read transaction leaves the cursor on the entry that it
 * yielded last, so that the next step is one step and not a search.
 */
#include "host/store/inside.h"

#include "base/path.h"

#include <errno.h>

enum { NAME_MAX_B = 255 };

int entry_get(struct txn *t, uint64_t parent, struct span name, uint64_t *ret_fid)
{
	struct span v;
	struct key k;
	int r;

	if (name.len > NAME_MAX_B)
		return STORE_E_NONE;
	key_entry(&k, parent, name);
	r = db_get(t->t, WT_ENTRY, key_span(&k), &v);
	return r ? r : key_u64_parse(v, ret_fid);
}

static void unname(struct txn *t, uint64_t fid, uint64_t parent, struct span name)
{
	struct key k;

	key_name(&k, fid, parent, name);
	db_del(t->t, WT_NAME, key_span(&k));
}

void entry_put(struct txn *t, uint64_t parent, struct span name, uint64_t fid)
{
	struct key k, reverse;
	uint8_t v[8];
	uint64_t old;
	int r;

	if (!parent || !fid || !path_name_ok(name)) {
		txn_fail(t, -EINVAL);
		return;
	}
	r = entry_get(t, parent, name, &old);
	if (r < 0)
		txn_fail(t, r);
	if (r == 0 && old == fid) /* no page is written for what is there */
		return;
	if (r == 0)
		unname(t, old, parent, name);
	key_entry(&k, parent, name);
	put_u64(v, fid);
	db_put(t->t, WT_ENTRY, key_span(&k), SPAN(v, sizeof(v)), DB_PUT_SET);
	key_name(&reverse, fid, parent, name);
	db_put(t->t, WT_NAME, key_span(&reverse), SPAN_NULL, DB_PUT_SET);
	txn_mark(t, parent);
}

void entry_del(struct txn *t, uint64_t parent, struct span name)
{
	struct key k;
	uint64_t old;
	int r = entry_get(t, parent, name, &old);

	if (r < 0)
		txn_fail(t, r);
	if (r)
		return;
	unname(t, old, parent, name);
	key_entry(&k, parent, name);
	db_del(t->t, WT_ENTRY, key_span(&k));
	txn_mark(t, parent);
}

int entry_next(struct txn *t, uint64_t parent, struct span after, struct span *ret_name, uint64_t *ret_fid)
{
	struct span key, v, name;
	uint64_t of, fid;
	struct key k;
	int r;

	if (after.len > NAME_MAX_B)
		return -EINVAL;
	key_entry(&k, parent, after);
	if (t->is_at && !t->write && span_eq(key_span(&k), key_span(&t->at))) {
		r = db_walk(t->t, WT_ENTRY, DB_NEXT, SPAN_NULL, &key, &v);
	} else {
		r = db_walk(t->t, WT_ENTRY, DB_AT_LEAST, key_span(&k), &key, &v);
		if (r == 0 && span_eq(key, key_span(&k)))
			r = db_walk(t->t, WT_ENTRY, DB_NEXT, SPAN_NULL, &key, &v);
	}
	t->is_at = false;
	if (r == 0)
		r = key_entry_parse(key, &of, &name);
	if (r == 0)
		r = key_u64_parse(v, &fid);
	if (r)
		return r;
	if (of != parent)
		return STORE_E_NONE;
	memcpy(t->at.b, key.p, key.len);
	t->at.len = key.len;
	t->is_at = true;
	*ret_name = name;
	*ret_fid = fid;
	return 0;
}

int entry_of(struct txn *t, uint64_t fid, uint64_t after_parent, struct span after_name, uint64_t *ret_parent,
	     struct span *ret_name)
{
	struct span key, v, name;
	uint64_t of, parent;
	struct key k;
	int r;

	if (after_name.len > NAME_MAX_B)
		return -EINVAL;
	key_name(&k, fid, after_parent, after_name);
	r = db_walk(t->t, WT_NAME, DB_AT_LEAST, key_span(&k), &key, &v);
	if (r == 0 && span_eq(key, key_span(&k)))
		r = db_walk(t->t, WT_NAME, DB_NEXT, SPAN_NULL, &key, &v);
	if (r == 0)
		r = key_name_parse(key, &of, &parent, &name);
	if (r)
		return r;
	if (of != fid)
		return STORE_E_NONE;
	*ret_parent = parent;
	*ret_name = name;
	return 0;
}

int node_path(struct txn *t, uint64_t fid, char **ret)
{
	char path[PATH_LEN_MAX + 1];
	size_t at = sizeof(path) - 1;
	uint64_t root = txn_root(t), parent;
	struct span name;

	path[at] = '\0';
	/* A loop, which only damage can make, ends when the path has no room. */
	while (fid != root) {
		bool last = at == sizeof(path) - 1;
		int r = entry_of(t, fid, 0, SPAN_NULL, &parent, &name);

		if (r)
			return r;
		if (name.len + !last > at)
			return STORE_E_NONE;
		if (!last)
			path[--at] = '/';
		at -= name.len;
		memcpy(path + at, name.p, name.len);
		fid = parent;
	}
	*ret = must_strdup(path + at);
	return 0;
}
