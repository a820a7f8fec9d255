/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting and ending one sandbox, step by step; docs/sandbox.md says why in this order. The pidfd of the agent and the
 * timeout are watched on the loop, which only hands the news to a thread that may block.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* --- news --------------------------------------------------------------------------------------------------------- */

static bool begin_stopping(struct sandbox *s)
{
	bool mine;

	lock_take(&s->hub->lock);
	while (s->is_held) {
		__atomic_store_n(&s->is_wanted, true, __ATOMIC_RELAXED);
		lock_wait(&s->hub->lock, &s->hub->cond, CLOCK_NEVER);
	}
	mine = s->info.state == SANDBOX_RUNNING || s->info.state == SANDBOX_PAUSED;
	if (mine)
		s->info.state = SANDBOX_STOPPING;
	lock_drop(&s->hub->lock);
	return mine;
}

/* A job that names the sandbox keeps it from being freed until it has run. */
static void job_queue(struct sandbox *s, pool_job_fn *fn)
{
	lock_take(&s->hub->lock);
	s->jobs++;
	lock_drop(&s->hub->lock);
	pool_run(s->hub->conf.api, fn, s);
}

/* A deadline that was moved since the timer fired is none. */
static bool is_due(struct sandbox *s, enum hub_timeout *ret_what)
{
	bool due;

	lock_take(&s->hub->lock);
	while (s->is_held) {
		__atomic_store_n(&s->is_wanted, true, __ATOMIC_RELAXED);
		lock_wait(&s->hub->lock, &s->hub->cond, CLOCK_NEVER);
	}
	*ret_what = s->info.on_timeout;
	due = s->info.state == SANDBOX_RUNNING && s->info.ends_ns &&
	      s->info.ends_ns <= clock_wall() + (int64_t)CLOCK_MS;
	if (due)
		s->info.state = *ret_what == HUB_TIMEOUT_KILL ? SANDBOX_STOPPING : SANDBOX_PAUSING;
	lock_drop(&s->hub->lock);
	return due;
}

static void timed_out(void *ctx)
{
	struct sandbox *s = ctx;
	struct err e = ERR_NULL;
	enum hub_timeout what;

	if (!is_due(s, &what)) {
		life_arm(s);
	} else if (what == HUB_TIMEOUT_KILL) {
		hub_tell(s, "timeout", "its time was over");
		if (life_end(s, 2000, "its time was over", &e) < 0)
			log_warn("sandbox", "ended with loss", "id=%s why=%s", s->info.id, e.text);
	} else if (pause_run(s, what == HUB_TIMEOUT_REST, &e) < 0) {
		log_warn("sandbox", "not paused, its time begins anew", "id=%s why=%s", s->info.id, e.text);
		lock_take(&s->hub->lock);
		if (s->info.state == SANDBOX_RUNNING)
			life_deadline(s, s->info.timeout_ms);
		lock_drop(&s->hub->lock);
		life_arm(s);
	}
	hub_job_done(s);
}

static void on_timer(void *ctx)
{
	struct sandbox *s = ctx;

	job_queue(s, timed_out);
}

void life_fail(struct sandbox *s, const char *why)
{
	struct err e = ERR_NULL;

	life_unwatch(s);
	ws_stop(s->ws);
	if (s->hub->conf.kind->end(&s->hub->box_env, s->info.id, PRIV_DISK_WORKSPACE, &e) < 0)
		log_error("sandbox", "not cleaned up", "id=%s why=%s", s->info.id, e.text);
	hub_set_state(s, SANDBOX_FAILED, why);
	egress_forget(s);
	ws_commands_end(s->ws);
	(void)!record_save(s, NULL);
	ws_refuse_changes(s->ws, false);
	log_warn("sandbox", "failed", "id=%s why=%s", s->info.id, why);
}

/* The agent is gone: what it told is kept, what it did not tell is in the image. */
void life_bury(struct sandbox *s)
{
	uint64_t kills = stats_oom_kills(s); /* while the group is there */

	life_fail(s, kills ? "out of memory: the agent ended, after the kernel had killed for memory in this sandbox"
			   : "the agent ended unexpectedly (killed)");
}

static void died(void *ctx)
{
	struct sandbox *s = ctx;

	/* Who works on it must not wait for an agent that is gone; who pauses or ends it looks after it. */
	ws_stop(s->ws);
	if (begin_stopping(s))
		life_bury(s);
	hub_job_done(s);
}

static void on_pidfd(void *ctx, int fd, unsigned events)
{
	struct sandbox *s = ctx;

	(void)fd;
	(void)events;
	loop_unwatch(&s->watch);
	job_queue(s, died);
}

void life_deadline(struct sandbox *s, uint64_t timeout_ms)
{
	s->info.timeout_ms = timeout_ms;
	s->info.ends_ns =
		timeout_ms ? clock_wall() + (int64_t)(MIN(timeout_ms, (uint64_t)INT64_MAX / CLOCK_S) * CLOCK_MS) : 0;
}

static uint64_t deadline(struct sandbox *s)
{
	uint64_t at = CLOCK_NEVER;
	int64_t left;

	lock_take(&s->hub->lock);
	if (s->info.ends_ns) {
		left = s->info.ends_ns - clock_wall();
		at = left <= 0 ? 0 : clock_now() + (uint64_t)left;
	}
	lock_drop(&s->hub->lock);
	return at;
}

static void arm_on_loop(void *ctx)
{
	struct sandbox *s = ctx;

	if (s->timer)
		loop_rearm(s->timer, deadline(s));
}

void life_arm(struct sandbox *s)
{
	loop_post(s->hub->conf.loop, arm_on_loop, s);
	loop_sync(s->hub->conf.loop);
}

static void watch_on_loop(void *ctx)
{
	struct sandbox *s = ctx;
	bool lives;

	/* Somebody ended it meanwhile: life_unwatch() was here already. */
	lock_take(&s->hub->lock);
	lives = s->info.state == SANDBOX_RUNNING || s->info.state == SANDBOX_PAUSED;
	lock_drop(&s->hub->lock);
	if (!lives)
		return;
	if (s->pidfd >= 0 && loop_watch(s->hub->conf.loop, s->pidfd, LOOP_READ, on_pidfd, s, &s->watch) < 0)
		log_error("sandbox", "its death will not be noticed", "id=%s", s->info.id);
	s->timer = loop_timer(s->hub->conf.loop, deadline(s), on_timer, s);
}

void life_watch(struct sandbox *s)
{
	loop_post(s->hub->conf.loop, watch_on_loop, s);
	loop_sync(s->hub->conf.loop);
}

static void unwatch_on_loop(void *ctx)
{
	struct sandbox *s = ctx;

	loop_unwatch(&s->watch);
	loop_untimer(&s->timer);
	fd_close(&s->pidfd);
}

void life_unwatch(struct sandbox *s)
{
	loop_post(s->hub->conf.loop, unwatch_on_loop, s);
	loop_sync(s->hub->conf.loop);
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

int life_start_box(struct sandbox *s, char *address, size_t size, struct err *e)
{
	struct hub *hub = s->hub;
	struct box_started started = { .pidfd = -1 };
	struct box_spec spec = {
		.id = s->info.id,
		.template_ = s->info.template_,
		.token = s->token,
		.range = s->range,
		.memory_b = s->info.memory_b,
		.workspace_b = s->info.workspace_b,
		.cpu_milli = s->info.cpu_milli,
		.pids = s->info.pids,
		.net = s->has_network,
		.laid = s->is_laid,
		.again = s->is_again,
		.root = s->root,
		.volumes = s->volumes,
		.n_volumes = s->n_volumes,
	};
	int r = layer_begin(s, e);

	/* What it may reach is there before it is. */
	if (r == 0)
		r = s->has_network ? network_apply(hub->conf.network, s->range, s->info.id, &s->network, e) : 0;

	if (r == 0)
		r = hub->conf.kind->start(&hub->box_env, &spec, &started, e);

	if (r < 0)
		return r;
	s->info.pid = (uint64_t)started.pid;
	s->pidfd = started.pidfd;
	snprintf(address, size, "%s", started.address);
	return 0;
}

static void info_told(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct hub_info *i = ctx;
	const struct msg_INFO_IS *m = msg;

	(void)e;
	if (result < 0 || type != MSG_INFO_IS)
		return;
	i->keep_ignored = m->rules == 0; /* of the one who asked: there are some or it does not matter */
	snprintf(i->watcher, sizeof(i->watcher), "%.*s", (int)m->watcher.len, (const char *)m->watcher.p);
	snprintf(i->agent, sizeof(i->agent), "%.*s", (int)m->version.len, (const char *)m->version.p);
}

void life_dial(struct sandbox *s, const char *address)
{
	ws_on_change(s->ws, &fs_listener, s->hub->conf.fs);
	ws_start(s->ws, address, s->token);
}

/* All of a workspace as it was left takes as long as it is large: it has time while somebody is there to tell it. */
static int await_scan(struct sandbox *s, struct err *e)
{
	uint64_t until = clock_after_ms(s->is_again ? HUB_AGAIN_MS : HUB_START_MS);
	struct err why = ERR_NULL;
	bool ending;
	int r;

	do {
		why = ERR_NULL;
		r = ws_wait_ready(s->ws, s->is_again ? clock_after_ms(1000) : until, &why);
		lock_take(&s->hub->lock);
		ending = s->hub->ending;
		lock_drop(&s->hub->lock);
	} while (r == -ETIMEDOUT && s->is_again && !ending && life_agent_lives(s) && clock_now() < until);
	return r < 0 ? err_set(e, r, why.slug, "%s", why.text) : r;
}

int life_attach(struct sandbox *s, struct err *e)
{
	uint64_t until = clock_after_ms(HUB_START_MS);
	struct msg_INFO info = { .call = 0 };
	int r;

	r = link_wait_up(ws_link(s->ws), until, e);
	if (r == 0)
		r = await_scan(s, e);
	if (r == 0)
		r = link_wait(ws_link(s->ws), MSG_INFO, &info, clock_after_ms(HUB_START_MS), info_told, &s->info, e);
	s->info.keep_ignored = s->info.keep_ignored && ws_keep_count(s->ws);
	if (r == 0 && s->info.keep_ignored)
		log_warn("sandbox", "its agent is too old for rules of what is kept", "id=%s", s->info.id);
	return r;
}

void life_show(struct sandbox *s)
{
	struct hub *hub = s->hub;
	AUTO(str_free) char *target = str_printf("../%s", s->info.id);
	char there[PRIV_ID_MAX + 8];
	ssize_t len;

	ws_on_change(s->ws, &fs_listener, hub->conf.fs);
	fs_add(hub->conf.fs, s->ws);
	if (hub->conf.links_dirfd < 0 || !s->info.name[0])
		return;
	/* One that an earlier daemon made stays: somebody may be walking through it. */
	len = readlinkat(hub->conf.links_dirfd, s->info.name, there, sizeof(there));
	if (len == (ssize_t)strlen(target) && memcmp(there, target, (size_t)len) == 0)
		return;
	unlinkat(hub->conf.links_dirfd, s->info.name, 0);
	if (symlinkat(target, hub->conf.links_dirfd, s->info.name) < 0)
		log_warn("sandbox", "no link by name", "name=%s errno=%s", s->info.name, err_name(errno));
}

void life_undo(struct sandbox *s)
{
	struct hub *hub = s->hub;
	struct ws *ws = s->ws;

	hub_set_state(s, SANDBOX_CREATING, "");
	egress_forget(s);
	ws_stop(ws);
	if (hub->conf.kind->end(&hub->box_env, s->info.id, PRIV_DISK_NONE, NULL) < 0)
		log_error("sandbox", "a failed start was not cleaned up", "id=%s", s->info.id);
	fd_close(&s->pidfd);
	lock_take(&hub->lock);
	s->ws = NULL;
	lock_drop(&hub->lock);
	ws_unref(&ws);
	if (wsdb_remove(hub->conf.store, s->info.id, NULL) < 0)
		log_warn("sandbox", "an empty workspace was left behind", "id=%s", s->info.id);
}

int life_begin(struct sandbox *s, struct err *e)
{
	struct hub *hub = s->hub;
	const struct hub_conf *c = &hub->conf;
	struct ws_conf wc = {
		.store = c->store, .loop = c->loop, .work = c->work, .notify = c->notify, .dial = c->dial,
		.watchers = c->watchers, .log_commands = c->log_commands, .calm_rate = c->calm_rate
	};
	char address[sizeof(((struct box_started *)NULL)->address)];
	struct ws *ws = NULL;
	int r = ws_open(&wc, s->info.id, true, &ws, e);

	if (r < 0)
		return r;
	ws_limit(ws, s->info.workspace_b);
	lock_take(&hub->lock);
	s->ws = ws;
	lock_drop(&hub->lock);
	r = ws_set_keep(ws, s->keep, e);
	if (r == 0)
		r = record_save(s, e);
	if (r == 0)
		r = s->has_from ? from_start(s, address, sizeof(address), e)
				: life_start_box(s, address, sizeof(address), e);
	if (!s->no_wait)
		store_hold_free(&s->hold_from); /* the workspace has one of its own until the first scan was told */
	if (r == 0)
		life_dial(s, address);
	if (r == 0)
		r = life_attach(s, e);
	s->has_from = s->no_wait;
	if (r < 0)
		life_undo(s);
	return r;
}

int life_finish(struct sandbox *s, struct err *e)
{
	int r = secret_files(s, e);

	if (r == 0)
		r = broker_offer(s, e);
	if (r == 0) {
		hub_set_state(s, SANDBOX_RUNNING, "");
		r = record_save(s, e);
	}
	if (r < 0) {
		life_undo(s);
		return r;
	}
	life_show(s);
	life_watch(s);
	rest_go_on(s);
	return 0;
}

/* --- ending ------------------------------------------------------------------------------------------------------- */

/* The last state as a tree. Only a content that never came is a loss: what is here is durable without it. */
static int seal(struct sandbox *s, struct err *e)
{
	struct err why = ERR_NULL;
	struct digest tree;
	int r = tree_seal(ws_db(s->ws), 0, &tree, &why);

	if (r < 0)
		log_warn("sandbox", "no tree", "id=%s why=%s", s->info.id, why.text);
	if (r == -EAGAIN)
		*e = why;
	return r == -EAGAIN ? r : 0;
}

bool life_agent_lives(const struct sandbox *s)
{
	struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

	return s->pidfd < 0 || poll(&p, 1, 0) == 0;
}

int life_end(struct sandbox *s, uint64_t grace_ms, const char *why, struct err *e)
{
	struct hub *hub = s->hub;
	struct msg_STOP stop = { .grace_ms = MIN(grace_ms, 60000U) };
	struct err lost = ERR_NULL, other = ERR_NULL;
	struct link *link = ws_link(s->ws);
	bool alive = life_agent_lives(s), paused = ws_mode(s->ws) == WS_PAUSED;
	int r = paused ? 0 : -EPIPE; /* all of a paused one is durable, and nobody answers there */

	ws_refuse_changes(s->ws, true);
	guard_unstall(s);
	if (link && alive) /* a connection that just broke comes back */
		r = link_wait_up(link, clock_after_ms(END_UP_MS), &lost);
	if (r == 0 && !paused)
		r = link_wait(link, MSG_STOP, &stop, clock_after_ms(grace_ms + 10000), NULL, NULL, &lost);
	if (r == 0 && !paused)
		r = ws_sync_all(s->ws, HUB_SYNC_MS, NULL, &lost);
	if (r == 0 && ws_mode(s->ws) == WS_STOPPED) /* by died(): the agent did not live to say all */
		r = err_set(&lost, -EPIPE, "agent-gone", "the agent ended meanwhile");
	life_unwatch(s);
	if (ws_mode(s->ws) == WS_LIVE)
		ws_pause(s->ws);
	if (r == 0)
		r = seal(s, &lost);
	if (hub->conf.kind->end(&hub->box_env, s->info.id,
				r < 0		 ? PRIV_DISK_WORKSPACE
				: s->root_to[0] ? PRIV_DISK_ROOT
						: PRIV_DISK_NONE,
				&other) < 0)
		log_error("sandbox", "not cleaned up", "id=%s why=%s", s->info.id, other.text);
	else if (r == 0 && s->root_to[0])
		layer_keep(s);
	if (r < 0) {
		if (!lost.code)
			err_set(&lost, r, "agent-gone", "the agent does not answer");
		err_wrap(&lost, "%s, not all of the workspace could be kept", why);
	}
	hub_set_state(s, r < 0 ? SANDBOX_FAILED : SANDBOX_STOPPED, r < 0 ? lost.text : why);
	egress_forget(s);
	ws_commands_end(s->ws);
	if (record_save(s, &other) < 0)
		log_error("sandbox", "its state was not written", "id=%s why=%s", s->info.id, other.text);
	ws_stop(s->ws);
	ws_refuse_changes(s->ws, false); /* a daemon that dies from now on leaves a record that says whose turn it is */
	log_info("sandbox", "ended", "id=%s why=%s", s->info.id, why);
	if (r < 0 && e)
		*e = lost;
	return r;
}
