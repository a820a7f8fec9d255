/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes that run before all the files that they begin with are there (docs/snapshots.md, "Without waiting"). The
 * files come as into any workspace in use, but what the workload made meanwhile stays. The tree is in the record until
 * all are there, and its objects are held, so that the next daemon goes on.
 *
 * Whoever wants to end or pause the sandbox makes it break off; when it runs on, or again, it begins anew and leaves
 * what it finds. So a file that the workload removed may come back once, after such a break.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "loop/pool.h"

#include <errno.h>
#include <stdio.h>

/* TOGETHER: a sandbox that takes its files slowly, as it may, is not to keep all others waiting. */
enum { TOGETHER = 4, TRIES = 3, AGAIN_MS = 1000 };

void rest_load(struct sandbox *s, const char *hex)
{
	s->no_wait = s->has_from = str_unhex(hex, s->from.b, DIGEST_LEN) == 0;
}

int rest_begin(struct hub *hub, struct err *e)
{
	return pool_new("rest", TOGETHER, &hub->rest, e);
}

void rest_end(struct hub *hub)
{
	pool_free(&hub->rest);
}

static int lay(struct sandbox *s, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	int r = link_dial(ws_link(s->ws), WIRE_FILL, clock_after_ms(HUB_START_MS), &fd, e);

	if (r == 0)
		r = ws_fill(&(struct ws_fill){ .store = s->hub->conf.store, .root = &s->from, .fd = fd, .over = true,
					       .keep = true, .below = "", .stop = &s->is_wanted,
					       .progress = from_progress, .ctx = s }, e);
	from_progress(s, &(struct ws_filled){ 0 });
	return r;
}

/* All there (@why empty), or never. */
static void settle(struct sandbox *s, const char *why)
{
	lock_take(&s->hub->lock);
	s->no_wait = s->has_from = s->info.fills = false;
	snprintf(s->info.fill_why, sizeof(s->info.fill_why), "%.*s", (int)sizeof(s->info.fill_why) - 1, why);
	lock_drop(&s->hub->lock);
	store_hold_free(&s->hold_from);
	if (record_save(s, NULL) < 0)
		log_error("sandbox", "its state was not written", "id=%s", s->info.id);
	hub_tell(s, *why ? "fill-failed" : "filled", why);
}

static bool is_wanted(const struct sandbox *s)
{
	return __atomic_load_n(&s->is_wanted, __ATOMIC_RELAXED);
}

/* Held. Return: whether that was all of it. */
static bool work(struct sandbox *s)
{
	uint64_t began = clock_now();
	struct err e = ERR_NULL;
	int r = -EPIPE, tries;

	for (tries = 0; r == -EPIPE || r == -ECONNRESET || r == -ENODATA; tries++) {
		if (tries == TRIES || is_wanted(s))
			break;
		e = ERR_NULL;
		r = lay(s, &e);
	}
	if (r == -ECANCELED || (r < 0 && (is_wanted(s) || !life_agent_lives(s))))
		return false;
	if (r < 0)
		log_warn("sandbox", "not all of its files were laid out", "id=%s why=%s", s->info.id, e.text);
	else
		log_info("sandbox", "laid out", "id=%s ms=%llu running=1", s->info.id,
			 (unsigned long long)((clock_now() - began) / CLOCK_MS));
	settle(s, r == 0 ? "" : e.text);
	return true;
}

/* While it runs, and while the daemon does: somebody else may hold it. */
static bool goes_on(struct sandbox *s, unsigned ms)
{
	uint64_t until = clock_after_ms(ms);
	bool yes;

	lock_take(&s->hub->lock);
	while ((yes = s->info.state == SANDBOX_RUNNING && !s->hub->ending) && clock_now() < until)
		lock_wait(&s->hub->lock, &s->hub->cond, until);
	lock_drop(&s->hub->lock);
	return yes;
}

static void run(void *ctx)
{
	struct sandbox *s = ctx, *held = NULL;
	bool over = false;

	while (!over && goes_on(s, 0)) {
		if (past_hold(s->hub, s->info.id, &held, NULL) == 0) {
			over = s->info.state != SANDBOX_RUNNING || !s->has_from || work(s);
			past_release(held);
		}
		if (!over && !goes_on(s, AGAIN_MS))
			break;
	}
	hub_job_done(s);
}

void rest_go_on(struct sandbox *s)
{
	bool mine;

	lock_take(&s->hub->lock);
	mine = s->has_from && s->no_wait && s->info.state == SANDBOX_RUNNING;
	s->info.fills |= mine;
	s->jobs += mine;
	lock_drop(&s->hub->lock);
	if (mine)
		pool_run(s->hub->rest, run, s);
}
