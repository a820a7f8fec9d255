/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_CHECK_H
#define HOST_STORE_CHECK_H

/* What the two halves of fsck share: the content environment and the workspaces. */
#include "host/store/inside.h"

struct check {
	struct store *store;
	struct db_txn *content;
	const struct store_layers *layers; /* NULL: not looked at */
	void (*say)(void *ctx, const char *words);
	void *ctx;
	struct fsck_stats stats;
	struct map counted; /* digest of a directory -> how many names are in it and below: a uint64_t, owned */
	const char *where; /* of what is being looked at: an id, or "content" */
};

/** check_say() - report one problem. */
void check_say(struct check *c, const char *fmt, ...) PRINTF(2, 3);
/** check_note() - report what is no problem. */
void check_note(struct check *c, const char *fmt, ...) PRINTF(2, 3);
/** check_has() - is there such an object? Return: 1, 0 or -errno. */
int check_has(struct check *c, enum content_table table, const struct digest *d) MUST_CHECK;
/** check_ws() - look at one workspace. Return: 0 or -errno when it could not be looked at. */
int check_ws(struct check *c, const char *id) MUST_CHECK;
/** check_layers() - the facts of its snapshots' layers, and these. Return: 0 or -errno. */
int check_layers(struct check *c, struct txn *t) MUST_CHECK;

#endif
