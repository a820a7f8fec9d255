/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets, sealed as they came, and the audit of what was done with them: rows of the content environment's facts. A
 * change and the row that tells it are one transaction. Rows of the audit are numbered without gaps and chained like a
 * workspace's journal: each has a digest over itself and the digest of the row before.
 */
#include "host/store/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

const char secret_prefix[] = "secret/";
const char audit_prefix[] = "audit/";

enum { AUDIT_HEAD = DIGEST_LEN + 8, ROW_NAME = 8 + STORE_SECRET_NAME_MAX };

static void audit_name(uint64_t seq, char to[ROW_NAME])
{
	snprintf(to, ROW_NAME, "%s%016llx", audit_prefix, (unsigned long long)seq);
}

struct digest audit_link(const struct digest *before, const struct audit_row *row)
{
	uint8_t text[DIGEST_LEN + 16 + STORE_AUDIT_TEXT_MAX];
	size_t len = MIN(row->text.len, (size_t)STORE_AUDIT_TEXT_MAX);

	memcpy(text, before->b, DIGEST_LEN);
	put_u64(text + DIGEST_LEN, row->seq);
	put_u64(text + DIGEST_LEN + 8, (uint64_t)row->time_ns);
	memcpy(text + DIGEST_LEN + 16, row->text.p, len);
	return digest_of("audit", SPAN(text, DIGEST_LEN + 16 + len));
}

int audit_unpack(struct span key, struct span value, struct audit_row *ret)
{
	AUTO(str_free) char *name = span_dup(key);
	unsigned long long seq;
	char again[ROW_NAME];

	if (sscanf(name + MIN(key.len, (size_t)AUDIT_PREFIX), "%16llx", &seq) != 1)
		return -EIO;
	audit_name(seq, again);
	if (!str_eq(again, name) || value.len < AUDIT_HEAD || value.len > AUDIT_HEAD + STORE_AUDIT_TEXT_MAX)
		return -EIO;
	ret->seq = seq;
	memcpy(ret->link.b, value.p, DIGEST_LEN);
	ret->time_ns = (int64_t)get_u64((const uint8_t *)value.p + DIGEST_LEN);
	ret->text = SPAN((const uint8_t *)value.p + AUDIT_HEAD, value.len - AUDIT_HEAD);
	return 0;
}

bool secret_row_ok(struct span key, struct span value)
{
	return key.len > SECRET_PREFIX && key.len <= SECRET_PREFIX + STORE_SECRET_NAME_MAX && value.len &&
	       value.len <= STORE_SECRET_MAX;
}

static void put_audit(struct db_txn *t, const struct audit_row *row)
{
	uint8_t rec[AUDIT_HEAD + STORE_AUDIT_TEXT_MAX];
	size_t len = MIN(row->text.len, (size_t)STORE_AUDIT_TEXT_MAX);
	char name[ROW_NAME];

	memcpy(rec, row->link.b, DIGEST_LEN);
	put_u64(rec + DIGEST_LEN, (uint64_t)row->time_ns);
	memcpy(rec + AUDIT_HEAD, row->text.p, len);
	audit_name(row->seq, name);
	db_put(t, CT_META, span_str(name), SPAN(rec, AUDIT_HEAD + len), DB_PUT_SET);
	if (row->seq > STORE_AUDIT_ROWS) {
		audit_name(row->seq - STORE_AUDIT_ROWS, name);
		db_del(t, CT_META, span_str(name));
	}
}

int store_secret_put(struct store *store, const char *name, struct span record, const struct audit_row *row,
		     struct err *e)
{
	struct db_txn *t = NULL;
	char key[ROW_NAME];
	int r = 0;

	if (name && (strlen(name) > STORE_SECRET_NAME_MAX || record.len > STORE_SECRET_MAX))
		return err_set(e, -E2BIG, "secret-too-large", "a sealed secret has at most %d bytes", STORE_SECRET_MAX);
	r = db_begin(store->content, true, &t, e);
	if (r == 0) {
		if (name) {
			snprintf(key, sizeof(key), "%s%s", secret_prefix, name);
			if (record.len)
				db_put(t, CT_META, span_str(key), record, DB_PUT_SET);
			else
				db_del(t, CT_META, span_str(key));
		}
		put_audit(t, row);
		r = db_commit(&t);
	}
	return r ? err_sys(e, r, "keep what was done with a secret") : 0;
}

int store_secret_get(struct store *store, const char *name, struct buf *to)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	struct span v;
	char key[ROW_NAME];
	int r = db_begin(store->content, false, &t, NULL);

	snprintf(key, sizeof(key), "%s%s", secret_prefix, name);
	if (r == 0)
		r = db_get(t, CT_META, span_str(key), &v);
	if (r == DB_E_NONE)
		return -ENOENT;
	return r ? r : buf_append(to, v.p, v.len);
}

static bool has_prefix(struct span key, const char *prefix)
{
	return key.len > strlen(prefix) && memcmp(key.p, prefix, strlen(prefix)) == 0;
}

int store_secret_each(struct store *store, int (*fn)(void *ctx, const char *name, struct span record), void *ctx)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	enum db_step step = DB_AT_LEAST;
	struct span key, v;
	int r = db_begin(store->content, false, &t, NULL);

	while (r == 0 && (r = db_walk(t, CT_META, step, span_str(secret_prefix), &key, &v)) == 0) {
		AUTO(str_free) char *name = NULL;

		if (!has_prefix(key, secret_prefix))
			return 0;
		name = span_dup(SPAN((const char *)key.p + SECRET_PREFIX, key.len - SECRET_PREFIX));
		r = fn(ctx, name, v);
		step = DB_NEXT;
	}
	return r == DB_E_NONE ? 0 : r;
}

int store_audit_each(struct store *store, uint64_t from, int (*fn)(void *ctx, const struct audit_row *row), void *ctx)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	enum db_step step = DB_AT_LEAST;
	struct audit_row row;
	struct span key, v;
	char name[ROW_NAME];
	int r = db_begin(store->content, false, &t, NULL);

	audit_name(from, name);
	while (r == 0 && (r = db_walk(t, CT_META, step, span_str(name), &key, &v)) == 0) {
		if (!has_prefix(key, audit_prefix))
			return 0;
		r = audit_unpack(key, v, &row);
		if (r == 0)
			r = fn(ctx, &row);
		step = DB_NEXT;
	}
	return r == DB_E_NONE ? 0 : r;
}
