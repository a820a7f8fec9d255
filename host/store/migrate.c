/* SPDX-License-Identifier: Apache-2.0 */
#include "host/store/migrate.h"

#include <errno.h>

static const char format_key[] = "format";

void store_format_put(struct db_txn *t, size_t meta)
{
	uint8_t version[4];

	put_u32(version, store_format_newest());
	db_put(t, meta, span_str(format_key), SPAN(version, sizeof(version)), DB_PUT_SET);
}

/* Return: 0; -EPROTO: there is none; -errno. */
static int format_get(struct db_txn *t, size_t meta, unsigned *ret)
{
	struct span v;
	int r = db_get(t, meta, span_str(format_key), &v);

	if (r < 0)
		return r;
	if (r || v.len != 4)
		return -EPROTO;
	*ret = get_u32(v.p);
	return *ret ? 0 : -EPROTO;
}

int store_format_check(struct db_txn *t, size_t meta)
{
	unsigned v;
	int r = format_get(t, meta, &v);

	return r ? r : v == store_format_newest() ? 0 : -EPROTO;
}

static int step(struct db *db, size_t meta, bool is_content, unsigned from, struct err *e)
{
	const struct store_step *s = &store_steps[from - 1];
	int (*fn)(struct db_txn *t) = is_content ? s->content : s->workspace;
	AUTO(db_abort) struct db_txn *t = NULL;
	uint8_t version[4];
	int r = db_begin(db, true, &t, e);

	if (r)
		return r;
	put_u32(version, from + 1);
	r = fn ? fn(t) : 0;
	if (r == 0)
		r = db_put(t, meta, span_str(format_key), SPAN(version, sizeof(version)), DB_PUT_SET);
	if (r == 0)
		r = db_commit(&t);
	return r ? err_sys(e, r, "from format %u to %u", from, from + 1) : 0;
}

int store_format_raise(struct db *db, size_t meta, bool is_content, bool read_only, struct err *e)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	const char *slug = is_content ? "store-format" : "workspace-format";
	unsigned v = 0, newest = store_format_newest();
	int r = db_begin(db, false, &t, e);

	if (r)
		return r;
	r = format_get(t, meta, &v);
	db_abort(&t);
	if (r == -EPROTO)
		return err_set(e, r, slug, "it says no format that could be ours");
	if (r)
		return err_sys(e, r, "read the format");
	if (v > newest)
		return err_set(e, -EPROTO, slug,
			       "format %u was written by a newer version of berth: this one knows formats up to %u", v,
			       newest);
	if (v < newest && read_only)
		return err_set(e, -EPROTO, slug, "format %u is older than %u: let berthd open it once", v, newest);
	for (; r == 0 && v < newest; v++)
		r = step(db, meta, is_content, v, e);
	return r;
}
