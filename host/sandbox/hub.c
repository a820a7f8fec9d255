/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of sandboxes. hub.lock guards the table and every info; nothing is called while it is held. Who wants to
 * end a sandbox first moves it to "stopping" under the lock, so that exactly one does; a sandbox object is only freed
 * by hub_remove() and hub_free(), from states in which nobody works on it.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/secret/watch.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* How long who comes waits for whoever works on the sandbox: longer than the longest step that cannot be broken off (a
 * sync), when it is to end. */
enum { WAIT_MS = 5000 };

const char *sandbox_state_name(enum sandbox_state s)
{
	static const char *const names[] = { "creating", "running",	"pausing", "paused",
					     "resuming", "stopping", "stopped", "failed", "removed" };

	return names[s];
}

struct sandbox *hub_get_any(struct hub *hub, const char *id_or_name)
{
	struct sandbox *s = map_get(&hub->by_id, span_str(id_or_name));

	return s ? s : map_get(&hub->by_name, span_str(id_or_name));
}

struct sandbox *hub_get(struct hub *hub, const char *id_or_name)
{
	struct sandbox *s = hub_get_any(hub, id_or_name);

	return s && s->info.state == SANDBOX_REMOVED ? NULL : s;
}

int hub_no_such(const char *what, struct err *e)
{
	return err_set(e, -ENOENT, "no-such-sandbox", "no sandbox is called \"%.64s\"", what);
}

void hub_job_done(struct sandbox *s)
{
	struct hub *hub = s->hub;

	lock_take(&hub->lock);
	s->jobs--;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
}

void hub_set_state(struct sandbox *s, enum sandbox_state state, const char *why)
{
	struct hub *hub = s->hub;
	struct store_hold *hold = NULL;
	enum sandbox_state was;
	struct hub_info now;

	lock_take(&hub->lock);
	was = s->info.state;
	s->info.state = state;
	snprintf(s->info.why, sizeof(s->info.why), "%s", why);
	if (state == SANDBOX_STOPPED || state == SANDBOX_FAILED) {
		s->info.is_cold = false;
		s->info.stopped_ns = clock_wall();
		s->info.ends_ns = 0;
		s->info.pid = 0;
		hub_drop_range(hub, s);
	}
	if (state >= SANDBOX_STOPPED && s->has_from && s->no_wait) {
		s->has_from = s->no_wait = s->info.fills = false;
		hold = take(&s->hold_from);
		snprintf(s->info.fill_why, sizeof(s->info.fill_why), "it ended before all of its files were there");
	}
	now = s->info;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
	store_hold_free(&hold);
	meter_state(hub, &now);
	if (was != state && state != SANDBOX_CREATING)
		hub_tell(s, was == SANDBOX_RESUMING && state == SANDBOX_RUNNING ? "resumed" : sandbox_state_name(state),
			 why);
}

void hub_tell(struct sandbox *s, const char *what, const char *why)
{
	AUTO(str_free) char *kind = str_printf("sandbox.%s", what);

	events_emit(s->hub->conf.events, kind, s->info.id, s->info.name, why);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

void hub_insert(struct hub *hub, struct sandbox *s)
{
	list_append(&hub->list, &s->node);
	map_put(&hub->by_id, span_str(s->info.id), s);
	if (s->info.name[0])
		map_put(&hub->by_name, span_str(s->info.name), s);
	if (s->has_range && s->range < hub->conf.sandboxes_max)
		hub->ranges[s->range] = true;
}

/* Those of a key that are not over. hub.lock is held. */
static unsigned owned(struct hub *hub, const char *owner)
{
	struct list *pos;
	unsigned n = 0;

	list_each(pos, &hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		n += s->info.state < SANDBOX_STOPPED && str_eq(s->info.owner, owner);
	}
	return n;
}

/* hub.lock is held. */
static int is_taken(struct hub *hub, const struct sandbox *s, struct err *e)
{
	if (hub_get_any(hub, s->info.id))
		return err_set(e, -EEXIST, "id-taken", "a sandbox with the id %s exists", s->info.id);
	if (s->info.name[0] && hub_get(hub, s->info.name))
		return err_set(e, -EEXIST, "name-taken", "a sandbox called %s exists", s->info.name);
	return 0;
}

void hub_drop_range(struct hub *hub, struct sandbox *s)
{
	if (!s->has_range)
		return;
	network_forget(hub->conf.network, s->range);
	if (s->range < hub->conf.sandboxes_max) /* of a record it may be more than there are now */
		hub->ranges[s->range] = false;
	s->has_range = false;
	s->range = UINT32_MAX;
}

/* hub.lock is held. */
static int take_range(struct hub *hub, struct sandbox *s, struct err *e)
{
	unsigned k;

	for (k = 0; k < hub->conf.sandboxes_max && hub->ranges[k];)
		k++;
	if (k == hub->conf.sandboxes_max)
		return err_set(e, -EAGAIN, "too-many-sandboxes", "%u sandboxes run, which is the limit", k);
	s->range = k;
	s->has_range = hub->ranges[k] = true;
	return 0;
}

int hub_claim_range(struct hub *hub, struct sandbox *s, struct err *e)
{
	int r;

	lock_take(&hub->lock);
	r = hub->ending ? err_set(e, -ESHUTDOWN, "ending", "the daemon is ending") : take_range(hub, s, e);
	lock_drop(&hub->lock);
	return r;
}

int hub_may_claim(struct hub *hub, const struct sandbox *s, unsigned owner_max, struct err *e)
{
	if (hub->ending)
		return err_set(e, -ESHUTDOWN, "ending", "the daemon is ending");
	if (is_taken(hub, s, e))
		return -EEXIST;
	if (owner_max && owned(hub, s->info.owner) >= owner_max)
		return err_set(e, -EUSERS, "key-limit", "this key may have %u sandboxes at a time", owner_max);
	return guard_is_low(hub, e) ? -ENOSPC : 0;
}

int hub_claim(struct hub *hub, struct sandbox *s, unsigned owner_max, struct err *e)
{
	int r;

	lock_take(&hub->lock);
	r = hub_may_claim(hub, s, owner_max, e);
	if (r == 0)
		r = take_range(hub, s, e);
	if (r == 0)
		hub_insert(hub, s);
	lock_drop(&hub->lock);
	return r;
}

int hub_may_store(struct hub *hub, struct err *e)
{
	if (hub->ending)
		return err_set(e, -ESHUTDOWN, "ending", "the daemon is ending");
	return guard_is_low(hub, e) ? -ENOSPC : 0;
}

int hub_claim_stored(struct hub *hub, struct sandbox *s, struct err *e)
{
	int r;

	lock_take(&hub->lock);
	r = hub_may_store(hub, e);
	if (r == 0)
		r = is_taken(hub, s, e);
	if (r == 0)
		hub_insert(hub, s);
	lock_drop(&hub->lock);
	return r;
}

void hub_forget(struct hub *hub, struct sandbox *s)
{
	lock_take(&hub->lock);
	map_remove(&hub->by_id, span_str(s->info.id));
	if (s->info.name[0])
		map_remove(&hub->by_name, span_str(s->info.name));
	hub_drop_range(hub, s);
	list_remove(&s->node);
	lock_drop(&hub->lock);
	hub_free_sandbox(&s);
}

/* --- making ------------------------------------------------------------------------------------------------------- */

static int pick(uint64_t asked, uint64_t standard, uint64_t max, const char *what, uint64_t *ret, struct err *e)
{
	if (asked > max)
		return err_set(e, -EINVAL, "limit", "%s: at most %llu", what, (unsigned long long)max);
	*ret = asked ? asked : standard;
	return 0;
}

void hub_random_id(char *to)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t b[16];
	size_t i;

	random_bytes(b, sizeof(b));
	for (i = 0; i < sizeof(b); i++)
		to[i] = letters[b[i] % (i ? 36 : 26)];
	to[i] = '\0';
}

static int fill(struct hub *hub, const struct hub_create *what, struct sandbox *s, struct err *e)
{
	const struct hub_conf *c = &hub->conf;
	struct hub_info *i = &s->info;
	uint64_t cpu = 0, pids = 0;
	struct hub_shape shape;
	int r;

	if ((what->name[0] && !str_is_id(what->name, HUB_NAME_MAX)) ||
	    (what->id[0] && !str_is_id(what->id, PRIV_ID_MAX)))
		return err_set(e, -EINVAL, "bad-name", "names are 1 to 64 of a-z, 0-9 and -, not - at an end");
	if (what->template_[0] && !str_is_id(what->template_, PRIV_ID_MAX))
		return err_set(e, -EINVAL, "bad-name", "not a template's name: %.64s", what->template_);
	snprintf(i->name, sizeof(i->name), "%s", what->name);
	snprintf(i->template_, sizeof(i->template_), "%s", what->template_[0] ? what->template_ : "base");
	if (what->id[0])
		snprintf(i->id, sizeof(i->id), "%s", what->id);
	else
		hub_random_id(i->id);
	snprintf(i->owner, sizeof(i->owner), "%s", what->owner);
	hub_shape(hub, i->template_, &shape);
	r = pick(what->memory_b, shape.memory_b, c->memory_max_b, "memory", &i->memory_b, e);
	if (r == 0)
		r = pick(what->workspace_b, c->workspace_b, c->workspace_max_b, "workspace", &i->workspace_b, e);
	if (r == 0)
		r = pick(what->cpu_milli, shape.cpu_milli, 64000, "cpu", &cpu, e);
	if (r == 0)
		r = pick(what->pids, c->pids, 32768, "pids", &pids, e);
	if (r < 0)
		return r;
	i->cpu_milli = (uint32_t)cpu;
	i->pids = (uint32_t)pids;
	i->state = SANDBOX_CREATING;
	i->created_ns = clock_wall();
	i->on_timeout = what->on_timeout;
	if (what->meta.len > HUB_META_MAX || memchr(what->meta.len ? what->meta.p : "", '\n', what->meta.len))
		return err_set(e, -E2BIG, "limit", "metadata: at most %d bytes", (int)HUB_META_MAX);
	s->meta = what->meta.len ? span_dup(what->meta) : NULL;
	if (what->door.len > HUB_DOOR_MAX || memchr(what->door.len ? what->door.p : "", '\n', what->door.len))
		return err_set(e, -E2BIG, "limit", "what is to be remembered of it: at most %d bytes",
			       (int)HUB_DOOR_MAX);
	s->door = what->door.len ? span_dup(what->door) : NULL;
	r = what->moment ? 0 : hub_rules(hub, i->template_, what->keep, &s->keep, e);
	if (r < 0)
		return r;
	r = network_begin(s, what->network, e);
	if (r < 0)
		return r;
	life_deadline(s, what->timeout_ms ? what->timeout_ms : c->timeout_ms);
	if (what->secrets && str_copy(i->secrets, sizeof(i->secrets), what->secrets) < 0)
		return err_set(e, -E2BIG, "limit", "the names of its secrets: at most %d bytes", HUB_SECRETS_MAX - 1);
	r = secret_check(hub, i, what->secrets, e);
	if (r == 0)
		r = egress_begin(s, what->egress, e);
	if (r < 0)
		return r;
	snprintf(i->mount, sizeof(i->mount), "%s/%s", hub->mount_dir, i->id);
	return 0;
}

void hub_free_sandbox(struct sandbox **slot)
{
	struct sandbox *s = take(slot);

	if (!s)
		return;
	ws_unref(&s->ws);
	str_free(&s->meta);
	str_free(&s->door);
	str_free(&s->egress);
	str_free(&s->keep);
	policy_fini(&s->network);
	store_hold_free(&s->hold_from);
	watch_unref(&s->leaks);
	free(s);
}

int hub_new_sandbox(struct hub *hub, const struct hub_create *what, struct sandbox **ret, struct err *e)
{
	struct sandbox *s = NEW(struct sandbox);
	struct hub_create with = *what;
	uint32_t i;
	int r;

	s->hub = hub;
	s->pidfd = -1;
	s->jobs = 1; /* of who asks */
	list_init(&s->node);
	random_bytes(s->token, sizeof(s->token));
	s->no_wait = what->no_wait && what->from;
	s->root = hub->conf.kind->layer_keep ? PRIV_ROOT_KEPT : PRIV_ROOT_PLAIN;
	r = what->moment ? moment_begin(what->moment, s, &with, e)
	    : what->from ? from_begin(hub, what, s, &with, e)
			 : 0;
	if (s->is_layered)
		s->root = PRIV_ROOT_LAID;
	for (i = 0; i < what->n_volumes && s->n_volumes < PRIV_VOLUMES_MAX; i++)
		s->volumes[s->n_volumes++] = what->volumes[i];
	if (r == 0 && what->root)
		r = layer_set(s, what->root, e);
	if (r == 0)
		r = fill(hub, &with, s, e);
	if (r < 0)
		hub_free_sandbox(&s);
	else
		*ret = s;
	return r;
}

/* Takes @s. */
static int begin(struct hub *hub, struct sandbox *s, unsigned owner_max, struct sandbox **ret, struct err *e)
{
	int r = hub_claim(hub, s, owner_max, e);

	while (r == -EAGAIN && ahead_give(hub)) {
		*e = ERR_NULL;
		r = hub_claim(hub, s, owner_max, e);
	}
	if (r < 0) {
		hub_free_sandbox(&s);
		return r;
	}
	hub_tell(s, "created", "");
	*ret = s;
	return life_begin(s, e);
}

/* What was ready already, and is somebody's from now on. */
static int go_ahead(struct sandbox *s, struct err *e)
{
	int r;

	hub_tell(s, "created", "");
	r = s->has_network ? network_apply(s->hub->conf.network, s->range, s->info.id, &s->network, e) : 0;
	if (r < 0)
		life_undo(s);
	return r;
}

/* Return: 1: it was ready; 0; -errno. */
static int make(struct hub *hub, const struct hub_create *what, struct sandbox **ret, struct err *e)
{
	struct sandbox *asked = NULL, *s = NULL;
	int r = hub_new_sandbox(hub, what, &asked, e);
	bool ready;

	if (r < 0)
		return r;
	r = ahead_take(hub, what, asked, &s, e);
	ready = s;
	if (ready || r < 0)
		hub_free_sandbox(&asked);
	if (r == 0)
		r = ready ? go_ahead(s, e) : begin(hub, asked, what->owner_max, &s, e);
	if (r == 0)
		r = life_finish(s, e);
	if (r < 0 && s) {
		hub_tell(s, "removed", "it could not be started");
		hub_forget(hub, s);
	}
	*ret = s;
	return r < 0 ? r : ready;
}

int hub_create(struct hub *hub, const struct hub_create *what, struct hub_info *ret, struct err *e)
{
	struct sandbox *s = NULL;
	int r;

	ahead_others(hub, 1);
	r = make(hub, what, &s, e);
	ahead_others(hub, -1);
	if (r < 0)
		return r;
	lock_take(&hub->lock);
	*ret = s->info;
	lock_drop(&hub->lock);
	hub_job_done(s);
	log_info("sandbox", "created", "id=%s template=%s ready=%d", ret->id, ret->template_, r);
	return 0;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* @any: also one that is being made, and one of which only snapshots are left. */
static int look(struct hub *hub, const char *what, bool any, struct hub_info *ret, struct ws **ret_ws,
		struct err *e)
{
	struct sandbox *s;
	struct ws *ws = NULL;

	lock_take(&hub->lock);
	s = any ? hub_get_any(hub, what) : hub_get(hub, what);
	if (s && (s->info.state != SANDBOX_CREATING || (any && s->info.filled.files_all)) && s->ws) {
		*ret = s->info;
		ws = ws_ref(s->ws);
	}
	lock_drop(&hub->lock);
	if (!ws)
		return hub_no_such(what, e);
	ws_stat(ws, &ret->ws);
	*ret_ws = ws;
	return 0;
}

int hub_find(struct hub *hub, const char *id_or_name, struct hub_info *ret, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;

	return look(hub, id_or_name, false, ret, &ws, e);
}

int hub_find_any(struct hub *hub, const char *id_or_name, struct hub_info *ret, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;

	return look(hub, id_or_name, true, ret, &ws, e);
}

int hub_ws(struct hub *hub, const char *id_or_name, struct ws **ret, struct err *e)
{
	struct hub_info info;

	return look(hub, id_or_name, false, &info, ret, e);
}

int hub_ws_past(struct hub *hub, const char *id_or_name, struct ws **ret, struct err *e)
{
	struct hub_info info;

	return look(hub, id_or_name, true, &info, ret, e);
}

int hub_each(struct hub *hub, bool all, int (*fn)(void *ctx, const struct hub_info *info), void *ctx)
{
	VEC(struct hub_info) found = { 0 };
	struct list *pos;
	size_t i;
	int r = 0;

	lock_take(&hub->lock);
	list_each(pos, &hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		if (s->info.state != SANDBOX_CREATING && (all || s->info.state < SANDBOX_STOPPED))
			vec_push(&found, s->info);
	}
	lock_drop(&hub->lock);
	for (i = 0; r == 0 && i < found.len; i++)
		r = fn(ctx, &found.v[i]);
	vec_fini(&found);
	return r;
}

static int running_ws(struct hub *hub, const char *what, struct ws **ret, struct err *e)
{
	struct hub_info info;
	int r = look(hub, what, false, &info, ret, e);

	if (r == 0 && info.state != SANDBOX_RUNNING) {
		ws_unref(ret);
		r = err_set(e, -EAGAIN, "not-running", "sandbox %s is %s", info.id, sandbox_state_name(info.state));
	}
	return r;
}

int hub_dial_as(struct hub *hub, const char *id_or_name, unsigned kind, uint64_t until, int *ret_fd, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	struct hub_disk disk;
	struct link *link;
	int r = running_ws(hub, id_or_name, &ws, e);

	hub_disk(hub, &disk);
	if (r == 0 && disk.state == HUB_DISK_FULL)
		r = err_set(e, -ENOSPC, "disk-full",
			    "the host's disk is full: sandboxes stand still until there is room");

	if (r < 0)
		return r;
	link = ws_link(ws);
	if (!link)
		return err_set(e, -EAGAIN, "agent-gone", "no connection to the agent");
	return link_dial(link, kind, until, ret_fd, e);
}

int hub_dial(struct hub *hub, const char *id_or_name, uint64_t until, int *ret_fd, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	struct hub_info i;

	if (hub->conf.broker && look(hub, id_or_name, false, &i, &ws, NULL) == 0 &&
	    (i.secrets[0] || i.has_egress) && i.state == SANDBOX_RUNNING)
		broker_refresh(hub, &i, ws);
	return hub_dial_as(hub, id_or_name, WIRE_EXEC, until, ret_fd, e);
}

int hub_sync(struct hub *hub, const char *id_or_name, uint64_t quiet_ms, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	int r = hub_ws(hub, id_or_name, &ws, e);

	return r < 0 ? r : ws_sync_all(ws, quiet_ms, NULL, e);
}

int hub_busy(const struct sandbox *s, struct err *e)
{
	return err_set(e, -EAGAIN, "busy", "somebody else works on sandbox %s, which is %s", s->info.id,
		       sandbox_state_name(s->info.state));
}

/* --- ending ------------------------------------------------------------------------------------------------------- */

int hub_take(struct hub *hub, const char *id_or_name, unsigned from, enum sandbox_state to, int otherwise,
	     const char *slug, struct sandbox **ret, struct err *e)
{
	const unsigned between = HUB_IN(SANDBOX_PAUSING) | HUB_IN(SANDBOX_RESUMING);
	uint64_t until = clock_after_ms(to == SANDBOX_STOPPING ? END_WAIT_MS : WAIT_MS);
	bool stays = from == HUB_IN(to);
	struct sandbox *s;
	int r = 0;

	lock_take(&hub->lock);
	while ((s = hub_get(hub, id_or_name)) &&
	       ((HUB_IN(s->info.state) & between) || (s->is_held && !stays)) && clock_now() < until) {
		if (to == SANDBOX_STOPPING)
			__atomic_store_n(&s->is_wanted, true, __ATOMIC_RELAXED);
		lock_wait(&hub->lock, &hub->cond, until);
	}
	if (!s || s->info.state == SANDBOX_CREATING) {
		r = hub_no_such(id_or_name, e);
	} else if ((HUB_IN(s->info.state) & between) || (s->is_held && !stays)) {
		r = hub_busy(s, e);
	} else if (!(HUB_IN(s->info.state) & from)) {
		r = err_set(e, otherwise, slug, "sandbox %s is %s", s->info.id, sandbox_state_name(s->info.state));
	} else {
		s->info.state = to;
		s->jobs++;
		*ret = s;
	}
	lock_drop(&hub->lock);
	return r;
}

int hub_kill(struct hub *hub, const char *id_or_name, uint64_t grace_ms, struct err *e)
{
	struct sandbox *s = NULL;
	int r = hub_take(hub, id_or_name, HUB_IN(SANDBOX_RUNNING) | HUB_IN(SANDBOX_PAUSED), SANDBOX_STOPPING, -EALREADY,
			 "not-running", &s, e);

	if (r < 0)
		return r;
	r = life_end(s, grace_ms, "killed", e);
	hub_job_done(s);
	return r;
}

int hub_set_timeout(struct hub *hub, const char *id_or_name, uint64_t timeout_ms, struct err *e)
{
	struct sandbox *s = NULL;
	int r = hub_take(hub, id_or_name, HUB_IN(SANDBOX_RUNNING), SANDBOX_RUNNING, -EAGAIN, "not-running", &s, e);

	if (r < 0)
		return r;
	lock_take(&hub->lock);
	life_deadline(s, timeout_ms);
	lock_drop(&hub->lock);
	life_arm(s);
	r = record_save(s, e);
	hub_job_done(s);
	return r;
}
