/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent is asked by path, as the store knows it. When somebody inside has just renamed a directory on the way, or
 * the file itself, it finds nothing there, or another file; the rename is told a moment later. Who holds the file open
 * must not hear of that: it is asked again by the path that is known then. What is not in the store any more is gone,
 * and answered so.
 */
#include "host/ws/op.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>

enum { TRIES_MAX = 10 }; /* 1, 2, 4 … ms: a second in all */

static bool is_there(struct txn *t, uint64_t parent, const char *name)
{
	uint64_t fid;

	return entry_get(t, parent, span_str(name), &fid) == 0;
}

/* Is what it is about still here? */
static bool has_object(const struct op *op)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct node n;

	if (txn_read(op->ws->db, &t, NULL) < 0)
		return false;
	if (op->kind == OP_REMOVE || op->kind == OP_RENAME)
		return is_there(t, op->parent, op->name) &&
		       (op->kind == OP_REMOVE || node_get(t, op->to_parent, &n) == 0);
	return node_get(t, op->kind == OP_MAKE ? op->parent : op->fid, &n) == 0 &&
	       (op->kind != OP_LINK || node_get(t, op->parent, &n) == 0);
}

static void once_more(void *ctx)
{
	struct op *op = ctx;

	if (has_object(op))
		op_start(op);
	else
		op_answer(op);
}

static void on_time(void *ctx)
{
	struct op *op = ctx;

	loop_untimer(&op->timer);
	strand_run(op->ws->work, once_more, op);
}

static void wait(void *ctx)
{
	struct op *op = ctx;

	op->timer = loop_timer(op->ws->conf.loop, clock_after_ms(1U << op->tries++), on_time, op);
}

bool op_retry(struct op *op)
{
	bool is_elsewhere = op->result == -ENOENT || op->result == -ESTALE || op->result == -ENOTDIR;

	if (!is_elsewhere || op->tries == TRIES_MAX)
		return false;
	loop_post(op->ws->conf.loop, wait, op);
	return true;
}
