/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of what is kept, by the name of a template: rows of the content environment's facts. */
#include "host/store/inside.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>

const char rules_prefix[] = "rules/";

static int row_name(const char *template_, char *to, size_t size)
{
	int n = snprintf(to, size, "%s%s", rules_prefix, template_);

	return n < 0 || (size_t)n >= size ? -EINVAL : 0;
}

bool rules_row_ok(struct span key, struct span value)
{
	AUTO(str_free) char *name = span_dup(SPAN((const char *)key.p + RULES_PREFIX, key.len - RULES_PREFIX));

	return str_is_id(name, 64) && value.len && value.len <= STORE_RULES_MAX && !span_has_nul(value);
}

int store_rules_put(struct store *store, const char *template_, struct span text, struct err *e)
{
	struct db_txn *t = NULL;
	char name[80];
	int r = text.len > STORE_RULES_MAX ? -E2BIG : row_name(template_, name, sizeof(name));

	if (r == 0)
		r = db_begin(store->content, true, &t, e);
	if (r == 0) {
		if (text.len)
			db_put(t, CT_META, span_str(name), text, DB_PUT_SET);
		else
			db_del(t, CT_META, span_str(name));
		r = db_commit(&t);
	}
	return r ? err_sys(e, r, "keep the rules of template %s", template_) : 0;
}

int store_rules_get(struct store *store, const char *template_, struct buf *to)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	struct span v;
	char name[80];
	int r = row_name(template_, name, sizeof(name));

	if (r == 0)
		r = db_begin(store->content, false, &t, NULL);
	if (r == 0)
		r = db_get(t, CT_META, span_str(name), &v);
	if (r == DB_E_NONE)
		return 0;
	return r ? r : buf_append(to, v.p, v.len);
}
