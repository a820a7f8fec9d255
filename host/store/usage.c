/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sandboxes used, a row for each hour and sandbox, among the content environment's facts. Rows are written over
 * while their hour lasts; those that are too old are removed with the next write.
 */
#include "host/store/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

const char usage_prefix[] = "usage/";

enum {
	USAGE_VERSION = 1,
	FIGURES = 9,
	ROW_NAME = 8 + 8 + 1 + STORE_ID_MAX,
	REC_MAX = 2 + STORE_OWNER_MAX + 8 * FIGURES
};
enum { REMOVED_AT_ONCE = 10000 };

static void row_name(uint32_t hour, const char *sandbox, char to[ROW_NAME])
{
	snprintf(to, ROW_NAME, "%s%08x/%s", usage_prefix, hour, sandbox);
}

static size_t pack(const struct usage_row *row, uint8_t *to)
{
	const uint64_t v[FIGURES] = { row->run_ms,	  row->paused_ms,    row->cpu_ns,
				      row->memory_mib_ms, row->stored_b,     row->moved_b,
				      row->cpu_seen_ns,	  row->moved_seen_b, (uint64_t)row->at_ns };
	size_t len = strlen(row->owner), i;

	to[0] = USAGE_VERSION;
	to[1] = (uint8_t)len;
	memcpy(to + 2, row->owner, len);
	for (i = 0; i < FIGURES; i++)
		put_u64(to + 2 + len + 8 * i, v[i]);
	return 2 + len + sizeof(v);
}

int usage_unpack(struct span key, struct span value, struct usage_row *ret)
{
	AUTO(str_free) char *name = span_dup(key);
	const uint8_t *p = value.p;
	uint64_t v[FIGURES];
	char again[ROW_NAME];
	unsigned hour;
	size_t len, i;

	*ret = (struct usage_row){ .hour = 0 };
	if (key.len < USAGE_PREFIX + 9 || sscanf(name + USAGE_PREFIX, "%8x", &hour) != 1 ||
	    str_copy(ret->sandbox, sizeof(ret->sandbox), name + USAGE_PREFIX + 9) < 0)
		return -EIO;
	row_name(hour, ret->sandbox, again);
	len = value.len >= 2 ? p[1] : 0;
	if (!str_eq(again, name) || !str_is_id(ret->sandbox, STORE_ID_MAX) || value.len != 2 + len + sizeof(v) ||
	    p[0] != USAGE_VERSION || len > STORE_OWNER_MAX)
		return -EIO;
	for (i = 0; i < FIGURES; i++)
		v[i] = get_u64(p + 2 + len + 8 * i);
	ret->hour = hour;
	memcpy(ret->owner, p + 2, len);
	ret->run_ms = v[0];
	ret->paused_ms = v[1];
	ret->cpu_ns = v[2];
	ret->memory_mib_ms = v[3];
	ret->stored_b = v[4];
	ret->moved_b = v[5];
	ret->cpu_seen_ns = v[6];
	ret->moved_seen_b = v[7];
	ret->at_ns = (int64_t)v[8];
	return 0;
}

static bool has_prefix(struct span key)
{
	return key.len > USAGE_PREFIX && memcmp(key.p, usage_prefix, USAGE_PREFIX) == 0;
}

/* They are the first ones. */
static int remove_old(struct db_txn *t, uint32_t oldest)
{
	char end[ROW_NAME];
	struct span key, v;
	int r = 0, n = 0;

	row_name(oldest, "", end);
	while (n++ < REMOVED_AT_ONCE &&
	       (r = db_walk(t, CT_META, DB_AT_LEAST, span_str(usage_prefix), &key, &v)) == 0) {
		AUTO(str_free) char *name = span_dup(key);

		if (!has_prefix(key) || strcmp(name, end) >= 0)
			break;
		db_del(t, CT_META, span_str(name));
	}
	return MIN(r, 0);
}

int store_usage_put(struct store *store, const struct usage_row *rows, size_t n, uint32_t oldest, struct err *e)
{
	struct db_txn *t = NULL;
	uint8_t rec[REC_MAX];
	char name[ROW_NAME];
	size_t i;
	int r = db_begin(store->content, true, &t, e);

	if (r == 0) {
		for (i = 0; i < n; i++) {
			row_name(rows[i].hour, rows[i].sandbox, name);
			db_put(t, CT_META, span_str(name), SPAN(rec, pack(&rows[i], rec)), DB_PUT_SET);
		}
		r = remove_old(t, oldest);
		if (r < 0)
			db_abort(&t);
		else
			r = db_commit(&t);
	}
	return r ? err_sys(e, r, "keep what sandboxes used") : 0;
}

int store_usage_each(struct store *store, uint32_t from, int (*fn)(void *ctx, const struct usage_row *row), void *ctx)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	enum db_step step = DB_AT_LEAST;
	struct usage_row row;
	struct span key, v;
	char name[ROW_NAME];
	int r = db_begin(store->content, false, &t, NULL);

	row_name(from, "", name);
	while (r == 0 && (r = db_walk(t, CT_META, step, span_str(name), &key, &v)) == 0) {
		if (!has_prefix(key))
			return 0;
		r = usage_unpack(key, v, &row);
		if (r == 0)
			r = fn(ctx, &row);
		step = DB_NEXT;
	}
	return r == DB_E_NONE ? 0 : r;
}
