/* SPDX-License-Identifier: Apache-2.0 */
/* Named roots of trees. A row is all there is to a snapshot: what it has in it is in the content environment, where gc
 * keeps it because of the row. */
#include "host/store/gc.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <stdlib.h>

int snapshot_get(struct txn *t, const char *name, struct snapshot *ret)
{
	struct span v;
	int r = name[0] ? db_get(t->t, WT_SNAP, span_str(name), &v) : STORE_E_NONE;

	return r ? r : snapshot_unpack(span_str(name), v, ret);
}

int snapshot_put(struct txn *t, const struct snapshot *s, struct err *e)
{
	uint8_t rec[SNAPSHOT_REC];
	uint64_t n = 0;
	int r;

	if (!str_is_id(s->name, SNAPSHOT_NAME_MAX))
		return err_set(e, -EINVAL, "bad-snapshot-name", "a snapshot's name is 1 to %d of a-z, 0-9 and -",
			       SNAPSHOT_NAME_MAX);
	r = db_count(t->t, WT_SNAP, &n);
	if (r == 0 && n >= SNAPSHOTS_MAX)
		return err_set(e, -EDQUOT, "too-many-snapshots", "the workspace has %d snapshots", SNAPSHOTS_MAX);
	snapshot_pack(s, rec);
	if (r == 0)
		r = db_put(t->t, WT_SNAP, span_str(s->name), SPAN(rec, sizeof(rec)), DB_PUT_NEW);
	if (r == DB_E_EXISTS)
		return err_set(e, -EEXIST, "snapshot-exists", "there is a snapshot %s", s->name);
	return r ? err_sys(e, r, "record a snapshot") : 0;
}

int snapshot_del(struct txn *t, const char *name, struct err *e)
{
	int r = name[0] ? db_del(t->t, WT_SNAP, span_str(name)) : STORE_E_NONE;

	if (r == STORE_E_NONE)
		return err_set(e, -ENOENT, "no-such-snapshot", "there is no snapshot %.64s", name);
	if (r == 0)
		gc_dropped(wsdb_store(t->ws)->gc);
	return r ? err_sys(e, r, "remove a snapshot") : 0;
}

int snapshot_each(struct txn *t, int (*fn)(void *ctx, const struct snapshot *s), void *ctx)
{
	struct span key = SPAN_NULL, v;
	enum db_step step = DB_AT_LEAST;
	struct snapshot s;
	int r = 0;

	while (r == 0 && (r = db_walk(t->t, WT_SNAP, step, SPAN_NULL, &key, &v)) == 0) {
		r = snapshot_unpack(key, v, &s);
		if (r == 0)
			r = fn(ctx, &s);
		step = DB_NEXT;
	}
	return r == STORE_E_NONE ? 0 : r;
}

static int strip_facts(struct txn *t, bool (*stays)(const char *key))
{
	VEC(char *) gone = { 0 };
	struct span key = SPAN_NULL, v;
	enum db_step step = DB_AT_LEAST;
	size_t i;
	int r = 0;

	while ((r = db_walk(t->t, WT_META, step, SPAN_NULL, &key, &v)) == 0) {
		char *word = span_dup(key);

		if (str_eq(word, "format") || stays(word))
			free(word);
		else
			vec_push(&gone, word);
		step = DB_NEXT;
	}
	for (i = 0; i < gone.len; i++) {
		if (r >= 0)
			r = db_del(t->t, WT_META, span_str(gone.v[i]));
		free(gone.v[i]);
	}
	vec_fini(&gone);
	return MIN(r, 0);
}

int txn_strip(struct txn *t, bool (*stays)(const char *key), struct err *e)
{
	enum ws_table table;
	int r = strip_facts(t, stays);

	for (table = 0; table < WT_TABLES && r == 0; table++)
		if (table != WT_META && table != WT_SNAP)
			r = db_clear(t->t, table);
	t->stub_names = t->attrs_b = 0; /* the figures are counted anew at the commit */
	t->is_at = false;
	gc_dropped(wsdb_store(t->ws)->gc);
	return r < 0 ? err_sys(e, r, "remove what the workspace has") : 0;
}
