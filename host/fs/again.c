/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has read and not answered when it ends comes again to the next one, marked as such. Most requests may
 * be answered twice. One that changes a name may not: so before it is performed, what the name means is written to the
 * table; when it comes again and the name means something else, it has been performed.
 */
#include "host/fs/state.h"

#include "base/str.h"

#include <signal.h>
#include <unistd.h>

#define UNIQUE_AGAIN (1ULL << 63)

__thread uint64_t fs_unique;

void again_begin(struct fs *fs, struct ws *ws, uint64_t parent, const char *name, struct fs_again *ret)
{
	uint64_t unique = fs_unique & ~UNIQUE_AGAIN;
	struct node n = { .fid = 0 };

	*ret = (struct fs_again){ .is_again = fs_unique & UNIQUE_AGAIN };
	if (!unique || !name || !fs_survives(fs))
		return;
	lock_take(&fs->lock);
	if (ret->is_again)
		ret->intent = table_intended(&fs->table, unique, &ret->fid);
	ret->is_known = ret->intent;
	if (ret->is_known)
		fs->table.intents[ret->intent - 1].takeovers = fs->table.head->takeovers;
	lock_drop(&fs->lock);
	if (ret->is_again)
		return;
	if (ws_lookup(ws, parent, span_str(name), &n) < 0)
		n.fid = 0;
	lock_take(&fs->lock);
	ret->intent = table_intend(&fs->table, unique, n.fid);
	lock_drop(&fs->lock);
}

void again_end(struct fs *fs, struct fs_again *again)
{
	lock_take(&fs->lock);
	table_intend_done(&fs->table, again->intent);
	lock_drop(&fs->lock);
	again->intent = 0;
}

/* A test wants to see what comes of a request that was performed and not answered. */
void again_fault(const struct fs *fs, int kind)
{
	if (fs->fault == kind + 1)
		kill(getpid(), SIGKILL);
}
