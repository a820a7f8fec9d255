/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent tells waits here for the strand, and answers of the agent have their place between: a pass that takes
 * what has come must not take what was told behind an answer that is not applied yet. Else a file that the host has
 * written would be told as it is now, and be pending, when the written bytes are to be laid over what is here; they
 * would be unseen until the agent has shipped it.
 */
#include "host/ws/state.h"

void queue_clear(struct ws *ws, struct list *queue)
{
	struct list *node;

	while ((node = list_shift(queue))) {
		struct ws_frame *f = list_entry(node, struct ws_frame, node);

		if (f->fn)
			strand_run(ws->work, f->fn, f->ctx);
		free(f);
	}
}

struct ws_frame *queue_take(struct ws *ws, struct list *frames)
{
	struct list *node;

	while ((node = list_shift(&ws->queue))) {
		struct ws_frame *f = list_entry(node, struct ws_frame, node);

		if (f->fn)
			return f;
		list_append(frames, node);
		ws->queue_b -= f->len + sizeof(*f);
	}
	return NULL;
}

void ws_run_behind(struct ws *ws, pool_job_fn *fn, void *ctx)
{
	struct ws_frame *f = NEW(struct ws_frame);

	f->fn = fn;
	f->ctx = ctx;
	list_init(&f->node);
	lock_take(&ws->lock);
	list_append(&ws->queue, &f->node);
	ws_schedule(ws);
	lock_drop(&ws->lock);
}
