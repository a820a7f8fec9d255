/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of the API: rows of the content environment's facts. A key itself is nowhere, only its hash. */
#include "host/store/inside.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

static int row_name(const char *id, char *to, size_t size)
{
	int n = snprintf(to, size, "%s%s", access_prefix, id);

	return n < 0 || (size_t)n >= size ? -EINVAL : 0;
}

int store_access_put(struct store *store, const struct access_key *k, struct err *e)
{
	uint8_t row[ACCESS_REC_HEAD + ACCESS_NAME_MAX];
	struct db_txn *t = NULL;
	char name[32];
	int r = row_name(k->id, name, sizeof(name));

	if (r == 0)
		r = db_begin(store->content, true, &t, e);
	if (r == 0) {
		db_put(t, CT_META, span_str(name), SPAN(row, access_pack(k, row)), DB_PUT_SET);
		r = db_commit(&t);
	}
	return r ? err_sys(e, r, "keep the key %s", k->id) : 0;
}

int store_access_del(struct store *store, const char *id, struct err *e)
{
	struct db_txn *t = NULL;
	char name[32];
	int r = row_name(id, name, sizeof(name));

	if (r == 0)
		r = db_begin(store->content, true, &t, e);
	if (r == 0) {
		db_del(t, CT_META, span_str(name));
		r = db_commit(&t);
	}
	return r ? err_sys(e, r, "forget the key %s", id) : 0;
}

int store_access_each(struct store *store, int (*fn)(void *ctx, const struct access_key *k), void *ctx)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	enum db_step step = DB_AT_LEAST;
	struct span key, v;
	struct access_key k;
	int r = db_begin(store->content, false, &t, NULL);

	while (r == 0 && (r = db_walk(t, CT_META, step, span_str(access_prefix), &key, &v)) == 0) {
		if (key.len < ACCESS_PREFIX || memcmp(key.p, access_prefix, ACCESS_PREFIX) != 0)
			return 0;
		if (access_unpack(key, v, &k) == 0)
			r = fn(ctx, &k);
		step = DB_NEXT;
	}
	return r == DB_E_NONE ? 0 : r;
}
