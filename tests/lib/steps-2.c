/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of host/store/steps.c: one format more than there is, and a way to be killed on the way to it. */
#include "steps-2.h"

#include <signal.h>
#include <unistd.h>

int steps_kill_at;

static int mark(struct db_txn *t, size_t meta, int at)
{
	int r = db_put(t, meta, span_str("second"), span_str("yes"), DB_PUT_SET);

	if (steps_kill_at == at)
		kill(getpid(), SIGKILL);
	return r;
}

static int content(struct db_txn *t)
{
	return mark(t, CT_META, 1);
}

static int workspace(struct db_txn *t)
{
	return mark(t, WT_META, 2);
}

const struct store_step store_steps[FORMAT_VERSION] = {
	[FORMAT_VERSION - 1] = { .content = content, .workspace = workspace }
};
const unsigned store_steps_n = FORMAT_VERSION;
