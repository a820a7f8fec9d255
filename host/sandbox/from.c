/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes that begin with the files of a tree (docs/snapshots.md, "Materialising"). */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

int from_begin(struct hub *hub, const struct hub_create *what, struct sandbox *s, struct hub_create *with,
	       struct err *e)
{
	AUTO(str_free) char *id = NULL;
	const char *snapshot;
	struct hub_info from;
	int r = hub_state_split(what->from, &id, &snapshot, e);

	if (r == 0)
		r = hub_find(hub, id, &from, e);
	if (r == 0)
		r = hub_tree(hub, id, snapshot, &s->from, &s->hold_from, e);
	if (r)
		return r;
	s->has_from = true;
	if (!with->template_[0])
		snprintf(with->template_, sizeof(with->template_), "%s", from.template_);
	if (!with->workspace_b)
		with->workspace_b = from.workspace_b;
	return 0;
}

static void on_filled(void *ctx, const struct ws_filled *now)
{
	struct sandbox *s = ctx;

	lock_take(&s->hub->lock);
	s->info.filled = *now;
	s->info.left_out = MAX(s->info.left_out, now->left_out);
	lock_drop(&s->hub->lock);
}

int from_lay_out(struct sandbox *s, const char *address, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	uint64_t began = clock_now();
	int r = link_dial_to(address, s->info.id, s->token, WIRE_FILL, clock_after_ms(HUB_START_MS), NULL, &fd, e);

	if (r == 0)
		r = ws_fill(&(struct ws_fill){ .store = s->hub->conf.store, .root = &s->from, .fd = fd,
					       .progress = on_filled, .ctx = s }, e);
	on_filled(s, &(struct ws_filled){ 0 });
	if (r == 0 && ws_expect(s->ws, &s->from) < 0)
		r = err_sys(e, -EIO, "read a tree");
	if (r == 0)
		log_info("sandbox", "laid out", "id=%s ms=%llu", s->info.id,
			 (unsigned long long)((clock_now() - began) / CLOCK_MS));
	return r;
}
