/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent tells waits here for the strand, and answers of the agent have their place between: a pass that takes
 * what has come must not take what was told behind an answer that is not applied yet. Else a file that the host has
 * written would be told as it is now, and be pending, when the written bytes are to be laid over what is here; they
 * would be unseen until the agent has shipped it.
 *
 * Changes and contents come on two connections, and what was sent first may come second. A content whose file nobody
 * has told of has no place to go: it would be dropped, and acknowledged. So contents wait for the changes before which
 * the agent did not send them. An agent that never sends those keeps only its own contents from being stored, and no
 * more than EARLY_MAX of them here: more than its credit allows is let through as it is.
 */
#include "host/ws/state.h"
#include "wire/wire.h"

enum { EARLY_MAX = WIRE_SHIP_WINDOW + 1024 * 1024, HEAD_MAX = 1024 };

static size_t size_of(const struct ws_frame *f)
{
	return f->len + sizeof(*f);
}

static void append(struct ws *ws, struct ws_frame *f)
{
	list_append(&ws->queue, &f->node);
	ws->queue_b += size_of(f);
}

/* On the loop, which serves all: no more is looked at than the number. What is malformed is found where it is worked
 * on. */
static uint64_t seq_of(const struct ws_frame *f)
{
	struct span payload = SPAN(f->bytes, f->len);
	struct msg_SHIP ship;
	uint64_t seq;

	if (f->type == MSG_CHANGES)
		return msg_number(payload, &seq) == 0 ? seq : 0;
	if (f->type == MSG_SHIP && f->len <= HEAD_MAX && msg_decode(MSG_SHIP, payload, &ship, NULL) == 0)
		return ship.behind;
	return 0;
}

/* What is going to be thrown away need not wait. */
static bool is_early(const struct ws *ws, const struct ws_frame *f)
{
	return f->type == MSG_SHIP && f->seq > ws->changes_came && ws->early_b <= EARLY_MAX &&
	       ws->mode == WS_LIVE && !ws->stats.halted;
}

static void let_through(struct ws *ws)
{
	while (!list_empty(&ws->early)) {
		struct ws_frame *f = list_entry(ws->early.next, struct ws_frame, node);

		if (is_early(ws, f))
			return;
		list_remove(&f->node);
		ws->early_b -= size_of(f);
		append(ws, f);
	}
}

void queue_number(struct ws_frame *f)
{
	f->seq = seq_of(f);
}

void queue_put(struct ws *ws, struct ws_frame *f)
{
	bool is_change = f->type == MSG_CHANGES || f->type == MSG_COMMANDS;

	if (is_change)
		append(ws, f);
	if (f->type == MSG_CHANGES)
		ws->changes_came = MAX(ws->changes_came, f->seq);
	if (!is_change) {
		list_append(&ws->early, &f->node);
		ws->early_b += size_of(f);
	}
	let_through(ws);
}

void queue_drop_early(struct ws *ws)
{
	queue_clear(ws, &ws->early);
	ws->early_b = 0;
}

void queue_reset(struct ws *ws)
{
	queue_clear(ws, &ws->queue);
	ws->queue_b = 0;
	queue_drop_early(ws);
	ws->changes_came = 0;
}

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
		ws->queue_b -= size_of(f);
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
