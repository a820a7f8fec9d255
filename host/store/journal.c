/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed when. Rows are numbered without gaps from 1 and only ever appended, so that LMDB fills its pages to the
 * brim. The number of the last row is also kept in meta "journal-seq", written once a transaction.
 */
#include "host/store/inside.h"

#include <errno.h>

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
