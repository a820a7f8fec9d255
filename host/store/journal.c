/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed when. Rows are numbered without gaps and appended, so that LMDB fills its pages to the brim. The
 * number of the last row is also kept in meta "journal-seq", written once a transaction. A guest that makes and
 * removes one file for ever must not fill the disk: the oldest rows go when there are more than JOURNAL_ROWS, or more
 * bytes than JOURNAL_MAX_B ("journal-b", of rows that were written since that is counted).
 *
 * Rows are chained: each has a digest over itself and the digest of the row before. The last one is in meta
 * "journal-link", that of the last row that was forgotten in "journal-base", so that fsck can follow the chain from the
 * oldest row to the newest.
 */
#include "host/store/inside.h"

#include <errno.h>

static uint64_t fact(struct txn *t, const char *key)
{
	uint64_t v = 0;
	int r = meta_get_u64(t, key, &v);

	if (r < 0)
		txn_fail(t, r);
	return r == 0 ? v : 0;
}

static struct digest link_fact(struct txn *t, const char *key)
{
	struct digest d = { .b = { 0 } };
	struct span v;

	if (meta_get(t, key, &v) == 0 && v.len == DIGEST_LEN)
		memcpy(d.b, v.p, DIGEST_LEN);
	return d;
}

struct digest journal_link(const struct digest *before, const struct journal_row *row)
{
	uint8_t text[DIGEST_LEN + 8 + JOURNAL_HEAD + JOURNAL_NAME_MAX];
	struct journal_row bare = *row;
	size_t len;

	bare.link = (struct digest){ .b = { 0 } };
	memcpy(text, before->b, DIGEST_LEN);
	put_u64(text + DIGEST_LEN, row->seq);
	len = journal_pack(&bare, text + DIGEST_LEN + 8);
	return digest_of("journal", SPAN(text, DIGEST_LEN + 8 + len));
}

/* Return: false: there is none that must go. */
static bool forget_one(struct txn *t)
{
	struct journal_row old;
	struct span key, v;
	struct key k;
	uint64_t seq;

	if (db_walk(t->t, WT_JOURNAL, DB_AT_LEAST, SPAN_NULL, &key, &v) || key_u64_parse(key, &seq) ||
	    seq == t->journal_seq || (seq + JOURNAL_ROWS > t->journal_seq && t->journal_b <= JOURNAL_MAX_B))
		return false;
	t->journal_b -= MIN(t->journal_b, (uint64_t)v.len);
	t->journal_first = seq + 1;
	if (journal_unpack(v, seq, &old) == 0)
		t->journal_base = old.link;
	key_u64(&k, seq);
	db_del(t->t, WT_JOURNAL, key_span(&k));
	return true;
}

void journal_append(struct txn *t, struct journal_row *row)
{
	uint8_t rec[JOURNAL_HEAD + JOURNAL_NAME_MAX];
	struct key k;
	size_t len;
	int i;

	if (!t->journal_seq) {
		t->journal_seq = fact(t, "journal-seq");
		t->journal_b = fact(t, "journal-b");
		t->journal_first = fact(t, "journal-first");
		t->journal_link = link_fact(t, "journal-link");
		t->journal_base = link_fact(t, "journal-base");
	}
	row->seq = ++t->journal_seq;
	key_u64(&k, row->seq);
	row->link = t->journal_link = journal_link(&t->journal_link, row);
	len = journal_pack(row, rec);
	t->journal_b += len;
	db_put(t->t, WT_JOURNAL, key_span(&k), SPAN(rec, len), DB_PUT_APPEND);
	/* Two at a time, so that a journal that was longer once becomes short again; of bytes as many as it takes. */
	if (row->seq > JOURNAL_ROWS || t->journal_b > JOURNAL_MAX_B)
		for (i = 0; (i < 2 || t->journal_b > JOURNAL_MAX_B) && forget_one(t);)
			i++;
}

void journal_facts(struct txn *t)
{
	if (!t->journal_seq)
		return;
	meta_put_u64(t, "journal-seq", t->journal_seq);
	meta_put_u64(t, "journal-b", t->journal_b);
	meta_put_u64(t, "journal-first", t->journal_first);
	meta_put(t, "journal-link", digest_span(&t->journal_link));
	meta_put(t, "journal-base", digest_span(&t->journal_base));
}

uint64_t journal_last(struct txn *t)
{
	uint64_t seq;

	return meta_get_u64(t, "journal-seq", &seq) == 0 ? seq : 0;
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
