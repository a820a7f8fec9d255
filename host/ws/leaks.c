/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values that a sandbox was given, looked for in the contents that come from it. A shipment is looked at in the order
 * in which it comes; a delta has only what changed, so a value whose other half was there before is not found.
 */
#include "host/ws/state.h"
#include "leak/leak.h"

enum { FOUND_MAX = 16 }; /* of one shipment */

struct ws_scan {
	struct leak_scan scan;
	uint64_t at; /* the next byte that is expected */
	unsigned found;
};

struct finding {
	struct ws_pass *pass;
	struct ws_ship *ship;
};

void ws_look_for(struct ws *ws, const struct ws_leaks *what)
{
	struct ws_leaks *mine, *none = NULL;

	if (__atomic_load_n(&ws->leaks, __ATOMIC_ACQUIRE))
		return;
	mine = must_memdup(what, sizeof(*what));
	mine->hold(mine->ctx, true);
	if (__atomic_compare_exchange_n(&ws->leaks, &none, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return;
	mine->hold(mine->ctx, false);
	free(mine);
}

void leaks_end(struct ws *ws)
{
	if (ws->leaks)
		ws->leaks->hold(ws->leaks->ctx, false);
	mem_free(&ws->leaks);
}

void leaks_drop(struct ws_ship *s)
{
	if (s->scan)
		leak_scan_fini(&s->scan->scan);
	mem_free(&s->scan);
}

static void found(void *ctx, const struct leak_found *found)
{
	struct finding *f = ctx;
	const struct ws_leaks *l = f->pass->ws->leaks;
	AUTO(str_free) char *path = NULL;

	if (f->ship->scan->found++ >= FOUND_MAX)
		return;
	if (node_path(f->pass->txn, f->ship->node.fid, &path) < 0)
		str_free(&path);
	l->found(l->ctx, path ? path : "?", found->name, (unsigned)found->form);
}

void leaks_look(struct ws_pass *p, struct ws_ship *s, uint64_t offset, struct span data)
{
	struct ws_leaks *l = __atomic_load_n(&p->ws->leaks, __ATOMIC_ACQUIRE);
	struct finding f = { .pass = p, .ship = s };

	if (!l || !leaks_count(l->leaks))
		return;
	if (!s->scan) {
		s->scan = NEW(struct ws_scan);
		leak_scan_init(&s->scan->scan, l->leaks, offset);
	} else if (s->scan->at != offset) {
		leak_scan_skip(&s->scan->scan, offset);
	}
	s->scan->at = offset + data.len;
	leak_scan(&s->scan->scan, data, found, &f);
}
