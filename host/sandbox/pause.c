/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pause and resume. The order is what keeps the promise that nothing of a paused sandbox is unacknowledged, and that
 * its memory goes on where it was: streams are told and cut, the workload is frozen, what it wrote is brought home by
 * the agent and made durable, the connections are closed (some transports do not survive a peer that stands still), and
 * only then is the agent frozen. Until that moment any failure thaws everything and the sandbox runs on.
 *
 * The record says "running" until everything stands still and "paused" from then on, and is changed back before
 * anything is thawed: a daemon that dies in between leaves a sandbox that the next one brings to what the record says.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#include <errno.h>

enum { PAUSE_CALL_MS = 10000 };

static int freeze(struct sandbox *s, enum priv_freeze level, struct err *e)
{
	return s->hub->conf.kind->freeze(&s->hub->box_env, s->info.id, level, e);
}

static int stand_still(struct sandbox *s, struct err *e)
{
	struct msg_PAUSE m = { .call = 0 };
	struct link *link = ws_link(s->ws);
	int r = link ? link_wait_up(link, clock_after_ms(PAUSE_CALL_MS), e)
		     : err_set(e, -EPIPE, "agent-gone", "no connection to the agent");

	if (r == 0)
		r = link_wait(link, MSG_PAUSE, &m, clock_after_ms(PAUSE_CALL_MS), NULL, NULL, e);
	ws_refuse_changes(s->ws, true);
	if (r == 0)
		r = freeze(s, PRIV_FREEZE_WORK, e);
	if (r == 0)
		secret_files_drop(s);
	if (r == 0)
		r = ws_sync_all(s->ws, HUB_SYNC_MS, NULL, e);
	if (r < 0)
		return r;
	ws_pause(s->ws);
	return freeze(s, PRIV_FREEZE_ALL, e);
}

/* The agent died meanwhile: whoever watched it found the sandbox in the middle of something and left it to us. */
static int gone(struct sandbox *s, struct err *e)
{
	hub_set_state(s, SANDBOX_STOPPING, "");
	life_bury(s);
	return err_set(e, -EPIPE, "agent-gone", "the agent of the sandbox ended");
}

/* Everything goes on. A new control connection is what makes the agent take commands again. */
static int go_on(struct sandbox *s, struct err *e)
{
	struct box_started box = { .pidfd = -1 };
	int r = freeze(s, PRIV_FREEZE_WORK, e); /* the agent first: it may have to make room */

	if (r == 0)
		r = s->hub->conf.kind->find(&s->hub->box_env, s->info.id, &box, e);
	fd_close(&box.pidfd);
	if (r == 0)
		r = err_set(e, -EPIPE, "agent-gone", "the agent of the sandbox ended");
	if (r > 0) {
		life_dial(s, box.address);
		r = life_attach(s, e);
	}
	if (r == 0) {
		secret_files_again(s);
		broker_offer_again(s);
	}
	/* Thawed also when the agent does not answer: whoever ends the sandbox needs processes that can die. */
	if (freeze(s, PRIV_FREEZE_NONE, r == 0 ? e : NULL) < 0 && r == 0)
		r = -EIO;
	return r;
}

static void set_frozen(struct sandbox *s, bool on, int64_t ends_ns)
{
	lock_take(&s->hub->lock);
	s->is_frozen = on;
	s->is_stalled = false; /* whoever watches the disk says it again when it goes on */
	s->info.ends_ns = ends_ns;
	lock_drop(&s->hub->lock);
}

int pause_run(struct sandbox *s, struct err *e)
{
	struct err other = ERR_NULL;
	int64_t ends_ns = s->info.ends_ns;
	int r = stand_still(s, e);

	if (r == 0) {
		set_frozen(s, true, 0);
		r = record_save(s, e);
	}
	if (!life_agent_lives(s))
		return gone(s, e);
	if (r == 0) {
		life_arm(s);
		log_info("sandbox", "paused", "id=%s", s->info.id);
		hub_set_state(s, SANDBOX_PAUSED, "");
		return 0;
	}
	set_frozen(s, false, ends_ns);
	(void)!record_save(s, NULL);
	ws_pause(s->ws); /* its agent waits for a new connection */
	if (go_on(s, &other) == 0) {
		ws_refuse_changes(s->ws, false);
		hub_set_state(s, SANDBOX_RUNNING, "");
		rest_go_on(s);
		return r;
	}
	log_warn("sandbox", "did not go on after a pause that failed", "id=%s why=%s", s->info.id, other.text);
	if (!life_agent_lives(s))
		return gone(s, e);
	hub_set_state(s, SANDBOX_STOPPING, "");
	(void)!life_end(s, 1000, "it did not go on after a pause that failed", NULL);
	return r;
}

int hub_pause(struct hub *hub, const char *id_or_name, struct err *e)
{
	struct sandbox *s = NULL;
	int r = hub_take(hub, id_or_name, HUB_IN(SANDBOX_RUNNING), SANDBOX_PAUSING, -EALREADY, "not-running", &s, e);

	if (r < 0)
		return r;
	r = pause_run(s, e);
	hub_job_done(s);
	return r;
}

int hub_resume(struct hub *hub, const char *id_or_name, uint64_t timeout_ms, struct err *e)
{
	struct sandbox *s = NULL;
	int r = hub_take(hub, id_or_name, HUB_IN(SANDBOX_PAUSED), SANDBOX_RESUMING, -EALREADY, "not-paused", &s, e);

	if (r < 0)
		return r;
	lock_take(&hub->lock);
	s->is_frozen = false;
	life_deadline(s, timeout_ms ? timeout_ms : s->info.timeout_ms);
	lock_drop(&hub->lock);
	r = record_save(s, e); /* before anything moves */
	if (r == 0)
		r = go_on(s, e);
	if (!life_agent_lives(s)) {
		r = gone(s, e);
	} else if (r < 0) {
		hub_set_state(s, SANDBOX_STOPPING, "");
		(void)!life_end(s, 1000, "it could not be resumed", NULL);
	} else {
		ws_refuse_changes(s->ws, false);
		hub_set_state(s, SANDBOX_RUNNING, "");
		rest_go_on(s);
		life_arm(s);
		log_info("sandbox", "resumed", "id=%s", s->info.id);
	}
	hub_job_done(s);
	return r;
}

int pause_adopt(struct sandbox *s, struct err *e)
{
	if (s->info.state != SANDBOX_PAUSED)
		return freeze(s, PRIV_FREEZE_NONE, e);
	ws_pause(s->ws);
	set_frozen(s, true, 0);
	return freeze(s, PRIV_FREEZE_ALL, e);
}
