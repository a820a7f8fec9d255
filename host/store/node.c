/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions of a workspace, its inodes, and its small facts. A struct txn keeps its environment mapped for its life.
 *
 * Whatever changes an inode or a directory marks it in the table "dirty" with the number of the transaction, for
 * tree_seal(): a mark that is newer than the state that was sealed stays.
 */
#include "host/store/gc.h"

#include <errno.h>
#include <sys/stat.h>

enum { META_MAX = 65536 };
/* Commits that are not durable: so many are seen to at once, of so many more the next one waits. */
enum { LAG_MUCH = 128, LAG_MOST = 1024 };

static int txn_begin(struct wsdb *ws, bool write, struct txn **ret, struct err *e)
{
	struct txn *t;
	struct db *db;
	int r = wsdb_map(ws, &db, e);

	if (r)
		return r;
	t = malloc(sizeof(*t));
	if (!t)
		abort();
	t->ws = ws;
	t->db = db;
	t->write = write;
	t->journal_seq = 0;
	t->is_at = false;
	if (write)
		t->use = gc_use_begin(wsdb_store(ws)->gc);
	r = db_begin(db, write, &t->t, e);
	if (r == 0 && write)
		wsdb_begins(ws, db);
	if (r == 0) {
		r = count_begin(t);
		if (r)
			db_abort(&t->t);
	}
	if (r) {
		if (write)
			gc_use_end(wsdb_store(ws)->gc, t->use);
		wsdb_unmap(ws);
		free(t);
		return r;
	}
	*ret = t;
	return 0;
}

int txn_read(struct wsdb *db, struct txn **ret, struct err *e)
{
	return txn_begin(db, false, ret, e);
}

int txn_write(struct wsdb *db, struct txn **ret, struct err *e)
{
	return txn_begin(db, true, ret, e);
}

static void txn_end(struct txn *t)
{
	if (t->write)
		gc_use_end(wsdb_store(t->ws)->gc, t->use);
	wsdb_unmap(t->ws);
	free(t);
}

/* It is committed and not durable: soon it will be. Who is faster than the disk waits for it. */
static int see_to(struct txn *t)
{
	uint64_t lag = db_lag(t->db);

	/* Also when nothing is left to do: somebody may have synced it, and who waits for that moment is told. */
	late_tell(wsdb_store(t->ws)->late, lag > LAG_MUCH);
	return lag > LAG_MOST ? db_sync(t->db) : 0;
}

/* @soon: as txn_commit_soon(). */
static int commit(struct txn **slot, bool soon, struct err *e)
{
	struct txn *t = take(slot);
	struct store *store;
	uint64_t dead_b;
	int r;

	journal_facts(t);
	if (t->write)
		count_facts(t);
	r = soon ? db_commit_soon(&t->t) : db_commit(&t->t);
	if (r == 0 && soon)
		r = see_to(t);
	if (r && t->write)
		wsdb_look(t->ws, t->db);
	dead_b = r == 0 && t->write ? t->dead_b : 0;
	store = wsdb_store(t->ws);
	txn_end(t);
	if (dead_b)
		gc_dead(store->gc, dead_b);
	if (r == -ENOSPC)
		return err_set(e, r, "workspace-full", "the workspace's environment or its disk is full");
	return r ? err_sys(e, r, "commit to the workspace") : 0;
}

int txn_commit(struct txn **slot, struct err *e)
{
	return commit(slot, false, e);
}

int txn_commit_soon(struct txn **slot, struct err *e)
{
	return commit(slot, true, e);
}

void txn_abort(struct txn **slot)
{
	struct txn *t = take(slot);

	if (!t)
		return;
	db_abort(&t->t);
	txn_end(t);
}

void txn_mark(struct txn *t, uint64_t fid)
{
	uint8_t number[8];
	struct key k;

	key_u64(&k, fid);
	put_u64(number, db_txn_id(t->t));
	db_put(t->t, WT_DIRTY, key_span(&k), SPAN(number, sizeof(number)), DB_PUT_SET);
}

int node_get(struct txn *t, uint64_t fid, struct node *ret)
{
	struct span v;
	struct key k;
	int r;

	key_u64(&k, fid);
	r = db_get(t->t, WT_NODE, key_span(&k), &v);
	return r ? r : node_unpack(v, fid, ret);
}

void node_put(struct txn *t, const struct node *n)
{
	uint8_t rec[NODE_REC_MAX];
	struct span is, has;
	struct node was;
	struct key k;

	if (!n->fid) {
		txn_fail(t, -EINVAL);
		return;
	}
	key_u64(&k, n->fid);
	is = SPAN(rec, node_pack(n, rec));
	if (db_get(t->t, WT_NODE, key_span(&k), &has) == 0) {
		if (span_eq(is, has)) /* an echo of what the host did: no page is written for it */
			return;
		if (S_ISREG(n->mode) && node_unpack(has, n->fid, &was) == 0 && was.content.depth &&
		    !digest_eq(&was.content.root, &n->content.root))
			t->dead_b += was.content.size;
	}
	db_put(t->t, WT_NODE, key_span(&k), is, DB_PUT_SET);
	if (!S_ISDIR(n->mode) && n->nlink > 1)
		db_put(t->t, WT_LINKED, key_span(&k), SPAN_NULL, DB_PUT_SET);
	else
		db_del(t->t, WT_LINKED, key_span(&k));
	if (n->flags & NODE_PENDING)
		db_put(t->t, WT_PENDING, key_span(&k), SPAN_NULL, DB_PUT_SET);
	else
		db_del(t->t, WT_PENDING, key_span(&k));
	txn_mark(t, n->fid);
}

/* What goes with an inode. */
static void uncount(struct txn *t, uint64_t fid, const struct key *k)
{
	struct digest d;
	struct span v;
	struct node n;

	if (node_get(t, fid, &n) != 0)
		return;
	if (n.content.depth)
		t->dead_b += n.content.size;
	if ((n.flags & NODE_XATTRS) && db_get(t->t, WT_XATTR, key_span(k), &v) == 0)
		count_attrs(t, v.len, 0);
	if ((n.flags & NODE_STUB) && db_get(t->t, WT_TREE, key_span(k), &v) == 0 && v.len == DIGEST_LEN) {
		memcpy(d.b, v.p, DIGEST_LEN);
		count_stub(t, &d, true);
	}
}

void node_del(struct txn *t, uint64_t fid)
{
	static const enum ws_table tables[] = { WT_NODE, WT_TARGET, WT_TREE, WT_LINKED, WT_DIRTY, WT_XATTR,
					      WT_PENDING };
	struct key k;
	size_t i;

	key_u64(&k, fid);
	uncount(t, fid, &k);
	for (i = 0; i < ARRAY_LEN(tables); i++)
		db_del(t->t, tables[i], key_span(&k));
}

int node_next_pending(struct txn *t, uint64_t after, struct node *ret)
{
	struct span key, v;
	uint64_t fid;
	struct key k;
	int r;

	if (after == UINT64_MAX)
		return STORE_E_NONE;
	key_u64(&k, after + 1);
	r = db_walk(t->t, WT_PENDING, DB_AT_LEAST, key_span(&k), &key, &v);
	if (r == 0)
		r = key_u64_parse(key, &fid);
	if (r)
		return r;
	r = node_get(t, fid, ret);
	return r == STORE_E_NONE ? -EIO : r;
}

int node_target(struct txn *t, uint64_t fid, struct span *ret)
{
	struct key k;

	key_u64(&k, fid);
	return db_get(t->t, WT_TARGET, key_span(&k), ret);
}

void node_set_target(struct txn *t, uint64_t fid, struct span target)
{
	struct key k;

	if (!fid || target.len > 4095) {
		txn_fail(t, -EINVAL);
		return;
	}
	key_u64(&k, fid);
	db_put(t->t, WT_TARGET, key_span(&k), target, DB_PUT_SET);
	txn_mark(t, fid);
}

int node_xattrs(struct txn *t, uint64_t fid, struct span *ret)
{
	struct key k;

	key_u64(&k, fid);
	return db_get(t->t, WT_XATTR, key_span(&k), ret);
}

void node_set_xattrs(struct txn *t, struct node *n, struct span packed)
{
	struct span was;
	struct key k;

	if (packed.len > XATTRS_MAX) {
		txn_fail(t, -ENOSPC);
		return;
	}
	key_u64(&k, n->fid);
	count_attrs(t, db_get(t->t, WT_XATTR, key_span(&k), &was) == 0 ? was.len : 0, packed.len);
	if (packed.len)
		db_put(t->t, WT_XATTR, key_span(&k), packed, DB_PUT_SET);
	else
		db_del(t->t, WT_XATTR, key_span(&k));
	n->flags &= ~(uint32_t)NODE_XATTRS;
	n->flags |= packed.len ? NODE_XATTRS : 0;
	node_put(t, n);
	txn_mark(t, n->fid); /* the record may be as it was */
}

int meta_get(struct txn *t, const char *key, struct span *ret)
{
	return db_get(t->t, WT_META, span_str(key), ret);
}

void meta_put(struct txn *t, const char *key, struct span value)
{
	if (value.len > META_MAX || strlen(key) > DB_KEY_MAX || !key[0])
		txn_fail(t, -EINVAL);
	else
		db_put(t->t, WT_META, span_str(key), value, DB_PUT_SET);
}

int meta_del(struct txn *t, const char *key)
{
	return db_del(t->t, WT_META, span_str(key));
}

int meta_get_u64(struct txn *t, const char *key, uint64_t *ret)
{
	struct span v;
	int r = meta_get(t, key, &v);

	if (r)
		return r;
	if (v.len != 8)
		return -EIO;
	*ret = get_u64(v.p);
	return 0;
}

void meta_put_u64(struct txn *t, const char *key, uint64_t value)
{
	uint8_t v[8];

	put_u64(v, value);
	meta_put(t, key, SPAN(v, sizeof(v)));
}

uint64_t txn_root(struct txn *t)
{
	uint64_t root;

	return meta_get_u64(t, "root-fid", &root) ? 0 : root;
}
