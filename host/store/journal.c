/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed when. Rows are numbered without gaps and appended, so that LMDB fills its pages to the brim. The
 * number of the last row is also kept in meta "journal-seq", written once a transaction. A guest that makes and
 * removes one file for ever must not fill the disk: the oldest rows go when there are more than JOURNAL_ROWS.
 */
#include "host/store/inside.h"

#include <errno.h>

/* Two at a time, so that a journal that was longer once becomes short again. */
static void forget_oldest(struct txn *t)
{
	struct span key, v;
	struct key k;
	uint64_t seq;
	int i;

	for (i = 0; i < 2; i++) {
		if (db_walk(t->t, WT_JOURNAL, DB_AT_LEAST, SPAN_NULL, &key, &v) || key_u64_parse(key, &seq) ||
		    seq + JOURNAL_ROWS > t->journal_seq)
			return;
		key_u64(&k, seq);
		db_del(t->t, WT_JOURNAL, key_span(&k));
	}
}

void journal_append(struct txn *t, struct journal_row *row)
{
	uint8_t rec[JOURNAL_HEAD + JOURNAL_NAME_MAX];
	struct key k;
	int r;

	if (!t->journal_seq) {
		r = meta_get_u64(t, "journal-seq", &t->journal_seq);
		if (r < 0)
			txn_fail(t, r);
	}
	row->seq = ++t->journal_seq;
	key_u64(&k, row->seq);
	db_put(t->t, WT_JOURNAL, key_span(&k), SPAN(rec, journal_pack(row, rec)), DB_PUT_APPEND);
	if (row->seq > JOURNAL_ROWS)
		forget_oldest(t);
}

int journal_next(struct txn *t, uint64_t after, struct journal_row *ret)
{
	struct span key, v;
	struct key k;
	uint64_t seq;
	int r;

	if (after == UINT64_MAX)
		return STORE_E_NONE;
	key_u64(&k, after + 1);
	r = db_walk(t->t, WT_JOURNAL, DB_AT_LEAST, key_span(&k), &key, &v);
	if (r == 0)
		r = key_u64_parse(key, &seq);
	return r ? r : journal_unpack(v, seq, ret);
}
