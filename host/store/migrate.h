/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_MIGRATE_H
#define HOST_STORE_MIGRATE_H

/*
 * Formats of environments. Step n (counted from 1) makes format n + 1 of format n, in one transaction that also writes
 * the number: a crash leaves the one or the other. The content environment is brought up when a store is opened, a
 * workspace when it is mapped; so a step for workspaces may use what the step for contents has made, never the other
 * way round.
 */
#include "host/store/inside.h"

struct store_step {
	int (*content)(struct db_txn *t);   /* NULL: nothing to do. Return: 0 or -errno */
	int (*workspace)(struct db_txn *t); /* the same */
};

extern const struct store_step store_steps[];
extern const unsigned store_steps_n;

/** store_format_newest() - the format that is written: one more than there are steps. */
static inline unsigned store_format_newest(void)
{
	return store_steps_n + 1;
}
/** store_format_raise() - bring an environment to the newest format. @meta: its table, CT_META or WT_META.
 * Return: 0 (also when it is the newest already); -EPROTO with a sentence: newer than we are, none at all, or older and
 * the store is open for reading only; -errno. */
int store_format_raise(struct db *db, size_t meta, bool is_content, bool read_only, struct err *e) MUST_CHECK;

#endif
