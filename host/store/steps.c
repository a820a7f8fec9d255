/* SPDX-License-Identifier: Apache-2.0 */
/* How an environment of an older format becomes one of the newest; a file of its own, so that a test has others. */
#include "host/store/migrate.h"

/* 1 to 2: new tables and flags, nothing to rewrite. A program that knows only 1 would take a stub for an empty
 * directory. */

/* 2 to 3: which inodes are pending is a table. A program that knows only 2 would not keep it, and a sync of the next
 * one would pass over what it left out. */
static int list_pending(struct db_txn *t)
{
	struct span key, v;
	enum db_step step = DB_AT_LEAST;
	int r;

	while ((r = db_walk(t, WT_NODE, step, SPAN_NULL, &key, &v)) == 0) {
		struct node n;
		struct key k;
		uint64_t fid;

		r = key_u64_parse(key, &fid);
		if (r == 0)
			r = node_unpack(v, fid, &n);
		if (r)
			return r;
		step = DB_NEXT;
		if (!(n.flags & NODE_PENDING))
			continue;
		key_u64(&k, fid);
		r = db_put(t, WT_PENDING, key_span(&k), SPAN_NULL, DB_PUT_APPEND);
		if (r)
			return r;
	}
	return MIN(r, 0);
}

const struct store_step store_steps[] = { { .content = NULL }, { .workspace = list_pending } };
const unsigned store_steps_n = FORMAT_VERSION - 1;
