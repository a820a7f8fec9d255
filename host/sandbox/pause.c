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
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* COLD_MAX: those without memory have no id range, which bounds all others; the next daemon has to be able to keep
 * them. */
enum { PAUSE_CALL_MS = 10000, COLD_MAX = 500 };

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
	int r;

	ws_refuse_changes(s->ws, true); /* also when an earlier daemon paused it */
	r = freeze(s, PRIV_FREEZE_WORK, e); /* the agent first: it may have to make room */
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

static void this_boot(char to[BOOT_ID_MAX])
{
	AUTO(buf_fini) struct buf b;

	buf_init(&b, BOOT_ID_MAX);
	if (io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &b) < 0)
		snprintf(to, BOOT_ID_MAX, "unknown");
	else
		snprintf(to, BOOT_ID_MAX, "%.36s", buf_str(&b));
}

/* What is left of its box goes; its disks stay, and have reached the disk. Return: as box_kind.end(), slug
 * PRIV_NOT_SETTLED: they have not, and never will. */
static int end_box(struct sandbox *s, struct err *e)
{
	struct hub *hub = s->hub;
	int r = hub->conf.kind->end(&hub->box_env, s->info.id, PRIV_DISK_BOTH, e);

	if (r < 0)
		return r;
	lock_take(&hub->lock);
	s->unsettled[0] = '\0';
	lock_drop(&hub->lock);
	return 0;
}

static bool is_torn(const struct err *e)
{
	return e->code && str_eq(e->slug, PRIV_NOT_SETTLED);
}

/* All of it is durable and stands still: its processes go, its disks stay. From the record on it is one that has no
 * memory, whatever of it is still there; who starts it again takes that away first. Until its disks are known to be
 * durable the record says in which boot that was: after a power loss they may be anything, and what is in the store
 * is all that is left of it. Return: 0; -errno, and it is paused as before, or failed. */
static int lie_down(struct sandbox *s, struct err *e)
{
	struct hub *hub = s->hub;
	struct err other = ERR_NULL;
	struct list *pos;
	unsigned n = 0;
	int r;

	lock_take(&hub->lock);
	this_boot(s->unsettled);
	list_each(pos, &hub->list)
		n += list_entry(pos, struct sandbox, node)->info.is_cold;
	s->info.is_cold = n < COLD_MAX;
	lock_drop(&hub->lock);
	if (!s->info.is_cold)
		return err_set(e, -EUSERS, "too-many-paused", "%u sandboxes are paused without memory", n);
	r = record_save(s, e);
	if (r < 0) {
		lock_take(&hub->lock);
		s->info.is_cold = false;
		lock_drop(&hub->lock);
		return r;
	}
	life_unwatch(s);
	if (end_box(s, &other) < 0)
		log_error("sandbox", "not cleaned up", "id=%s why=%s", s->info.id, other.text);
	if (is_torn(&other)) {
		life_fail(s, "its disks did not reach the disk while it was paused");
		return err_set(e, other.code, other.slug, "%s", other.text);
	}
	lock_take(&hub->lock);
	s->info.pid = 0;
	if (!other.code)
		hub_drop_range(hub, s);
	lock_drop(&hub->lock);
	if (!other.code && record_save(s, &other) < 0)
		log_warn("sandbox", "lost if the machine ends", "id=%s why=%s", s->info.id, other.text);
	ws_commands_end(s->ws);
	return 0;
}

/* Is it of a kind whose disks can lie by themselves? */
static bool can_lie(const struct sandbox *s)
{
	return s->root != PRIV_ROOT_PLAIN && s->hub->conf.kind->layer_keep;
}

int pause_run(struct sandbox *s, bool cold, struct err *e)
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
		if (cold && can_lie(s) && lie_down(s, &other) < 0) {
			if (s->info.state == SANDBOX_FAILED)
				return err_set(e, other.code, other.slug, "%s", other.text);
			log_warn("sandbox", "paused with its memory", "id=%s why=%s", s->info.id, other.text);
		}
		if (!s->info.is_cold)
			life_arm(s);
		log_info("sandbox", "paused", "id=%s memory=%d", s->info.id, !s->info.is_cold);
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

static int pause_one(struct hub *hub, const char *id_or_name, bool cold, struct err *e)
{
	struct sandbox *s = NULL;
	int r = hub_take(hub, id_or_name, HUB_IN(SANDBOX_RUNNING), SANDBOX_PAUSING, -EALREADY, "not-running", &s, e);

	if (r < 0)
		return r;
	if (cold && !can_lie(s)) {
		r = err_set(e, -ENOSYS, "no-layers", "sandbox %s is of a kind that is paused with its memory only",
			    s->info.id);
		lock_take(&hub->lock);
		s->info.state = SANDBOX_RUNNING;
		pthread_cond_broadcast(&hub->cond);
		lock_drop(&hub->lock);
	} else {
		r = pause_run(s, cold, e);
	}
	hub_job_done(s);
	return r;
}

int hub_pause(struct hub *hub, const char *id_or_name, struct err *e)
{
	return pause_one(hub, id_or_name, false, e);
}

int hub_rest(struct hub *hub, const char *id_or_name, struct err *e)
{
	return pause_one(hub, id_or_name, true, e);
}

/* One with its memory: the record changes first, then everything goes on. */
static int resume(struct sandbox *s, struct err *e)
{
	int r;

	lock_take(&s->hub->lock);
	s->is_frozen = false;
	lock_drop(&s->hub->lock);
	r = record_save(s, e); /* before anything moves */
	if (r == 0)
		r = go_on(s, e);
	if (!life_agent_lives(s))
		return gone(s, e);
	if (r < 0) {
		hub_set_state(s, SANDBOX_STOPPING, "");
		(void)!life_end(s, 1000, "it could not be resumed", NULL);
		return r;
	}
	ws_refuse_changes(s->ws, false);
	hub_set_state(s, SANDBOX_RUNNING, "");
	life_arm(s);
	return 0;
}

/* Its box with the disks that it had. */
static int box_again(struct sandbox *s, struct err *e)
{
	char address[sizeof(((struct box_started *)NULL)->address)];
	int r;

	s->is_again = true;
	r = life_start_box(s, address, sizeof(address), e);
	if (r == 0) {
		life_dial(s, address);
		r = life_attach(s, e);
	}
	s->is_again = false;
	if (r == 0) {
		secret_files_again(s);
		broker_offer_again(s);
	}
	return r;
}

/* It lies as before; what was begun of its box goes. @r: why. */
static int not_again(struct sandbox *s, int r)
{
	struct hub *hub = s->hub;
	struct err why = ERR_NULL;
	int ended;

	if (s->info.state == SANDBOX_FAILED)
		return r;
	ws_pause(s->ws);
	fd_close(&s->pidfd);
	ended = end_box(s, &why);
	if (ended < 0)
		log_error("sandbox", "not cleaned up", "id=%s why=%s", s->info.id, why.text);
	if (is_torn(&why)) {
		life_fail(s, why.text);
		return r;
	}
	lock_take(&hub->lock);
	s->is_frozen = s->info.is_cold = true;
	s->info.ends_ns = 0;
	s->info.pid = 0;
	if (ended == 0) /* else some of it may run: nobody else gets its range */
		hub_drop_range(hub, s);
	lock_drop(&hub->lock);
	hub_set_state(s, SANDBOX_PAUSED, "");
	return r;
}

/* One without: until it runs the record says that it lies, so that a daemon that dies leaves what the next one knows.
 * Nothing but its agent has run in it then. */
static int start_again(struct sandbox *s, struct err *e)
{
	struct hub *hub = s->hub;
	struct err why = ERR_NULL;
	int r = end_box(s, &why);

	if (is_torn(&why))
		life_fail(s, why.text);
	if (r < 0)
		return not_again(s, err_set(e, r, why.slug, "%s", why.text));
	if (!s->has_range)
		r = hub_claim_range(hub, s, e);
	while (r == -EAGAIN && !s->has_range && ahead_give(hub)) {
		*e = ERR_NULL;
		r = hub_claim_range(hub, s, e);
	}
	s->has_network = s->has_network && network_has(hub->conf.network); /* it may have been switched off meanwhile */
	if (r == 0)
		r = box_again(s, e);
	if (r == 0) {
		lock_take(&hub->lock);
		s->is_frozen = s->info.is_cold = false;
		lock_drop(&hub->lock);
		r = record_save(s, e);
	}
	if (r == 0) {
		ws_refuse_changes(s->ws, false);
		hub_set_state(s, SANDBOX_RUNNING, "");
		life_watch(s);
		return 0;
	}
	return not_again(s, r);
}

int hub_resume(struct hub *hub, const char *id_or_name, uint64_t timeout_ms, bool anew, struct err *e)
{
	struct sandbox *s = NULL;
	int r = hub_take(hub, id_or_name, HUB_IN(SANDBOX_PAUSED), SANDBOX_RESUMING, -EALREADY, "not-paused", &s, e);

	if (r < 0)
		return r;
	if (anew && !s->info.is_cold && can_lie(s))
		r = lie_down(s, e);
	if (r < 0) {
		if (s->info.state != SANDBOX_FAILED)
			hub_set_state(s, SANDBOX_PAUSED, "");
		hub_job_done(s);
		return r;
	}
	lock_take(&hub->lock);
	life_deadline(s, timeout_ms ? timeout_ms : s->info.timeout_ms);
	lock_drop(&hub->lock);
	if (s->info.is_cold) {
		ahead_others(hub, 1);
		r = start_again(s, e);
		ahead_others(hub, -1);
	} else {
		r = resume(s, e);
	}
	if (r == 0) {
		rest_go_on(s);
		log_info("sandbox", "resumed", "id=%s", s->info.id);
	}
	hub_job_done(s);
	return r;
}

int pause_adopt(struct sandbox *s, struct err *e)
{
	char now[BOOT_ID_MAX];

	if (s->info.state != SANDBOX_PAUSED)
		return freeze(s, PRIV_FREEZE_NONE, e);
	ws_pause(s->ws);
	set_frozen(s, true, 0);
	if (!s->info.is_cold)
		return freeze(s, PRIV_FREEZE_ALL, e);
	this_boot(now);
	if (s->unsettled[0] && !str_eq(s->unsettled, now))
		return err_set(e, -EIO, PRIV_NOT_SETTLED, "the machine ended before its disks had reached the disk");
	return end_box(s, e);
}
