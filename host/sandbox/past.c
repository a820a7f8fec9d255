/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, going back to one, forks. Whoever works on a sandbox here holds it (is_held), so that it is neither ended
 * nor paused meanwhile, in whatever state it is. A running workload is frozen for as long as it takes; it is thawed
 * whatever comes of it.
 */
#include "host/sandbox/state.h"
#include "host/ws/archive.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

/* How long what was written may take to come home: while everything runs; while the workload stands still. How long one
 * caller waits for another's work on the same sandbox. */
enum {
	SEAL_TRIES = 10,
	NAME_TRIES = 100,
	STILL_MS = 20000,
	HOLD_MS = 10000,
	PUT_DIAL_MS = 10000
};

static const unsigned quiet =
	HUB_IN(SANDBOX_PAUSED) | HUB_IN(SANDBOX_STOPPED) | HUB_IN(SANDBOX_FAILED) | HUB_IN(SANDBOX_REMOVED);

/* @any: also one of which only snapshots are left. */
static int hold(struct hub *hub, const char *id_or_name, bool any, struct sandbox **ret, struct err *e)
{
	const unsigned between = HUB_IN(SANDBOX_PAUSING) | HUB_IN(SANDBOX_RESUMING);
	uint64_t until = clock_after_ms(HOLD_MS);
	struct sandbox *s;
	int r = 0;

	lock_take(&hub->lock);
	while ((s = any ? hub_get_any(hub, id_or_name) : hub_get(hub, id_or_name)) &&
	       ((HUB_IN(s->info.state) & between) || s->is_held) && clock_now() < until)
		lock_wait(&hub->lock, &hub->cond, until);
	if (!s || s->info.state == SANDBOX_CREATING || !s->ws)
		r = hub_no_such(id_or_name, e);
	else if (s->info.state == SANDBOX_STOPPING)
		r = err_set(e, -EAGAIN, "busy", "sandbox %s is ending", s->info.id);
	else if ((HUB_IN(s->info.state) & between) || s->is_held)
		r = err_set(e, -EAGAIN, "busy", "somebody else works on sandbox %s", s->info.id);
	else if (s->is_stalled)
		r = err_set(e, -ENOSPC, "disk-full", "sandbox %s stands still until the disk has room", s->info.id);
	else if (hub->ending)
		r = err_set(e, -ESHUTDOWN, "ending", "the daemon is ending");
	if (r == 0) {
		s->is_held = true;
		__atomic_store_n(&s->is_wanted, false, __ATOMIC_RELAXED);
		s->jobs++;
		*ret = s;
	}
	lock_drop(&hub->lock);
	return r;
}

int past_hold(struct hub *hub, const char *id_or_name, struct sandbox **ret, struct err *e)
{
	return hold(hub, id_or_name, false, ret, e);
}

void past_release(struct sandbox *s)
{
	lock_take(&s->hub->lock);
	s->is_held = false;
	pthread_cond_broadcast(&s->hub->cond);
	lock_drop(&s->hub->lock);
	hub_job_done(s);
}

static bool runs(const struct sandbox *s)
{
	return !(HUB_IN(s->info.state) & quiet); /* held: it cannot change */
}

static int freeze(struct sandbox *s, bool on, struct err *e)
{
	return s->hub->conf.kind->freeze(&s->hub->box_env, s->info.id, on ? PRIV_FREEZE_WORK : PRIV_FREEZE_NONE, e);
}

static void thaw(struct sandbox *s)
{
	struct err e = ERR_NULL;

	if (freeze(s, false, &e) < 0)
		log_error("sandbox", "not thawed", "id=%s why=%s", s->info.id, e.text);
}

/* What the guest wrote before this is here and durable, however much it is; who wants to end the sandbox does not
 * wait. */
static int come_home(struct sandbox *s, struct err *e)
{
	int r = runs(s) ? ws_sync_all(s->ws, HUB_SYNC_MS, &s->is_wanted, e) : 0;

	return r == -ECANCELED && e ? err_set(e, -EAGAIN, "busy", "sandbox %s is ending", s->info.id) : r;
}

/* The same while the workload stands still: most of it came before. */
static int come_soon(struct sandbox *s, struct err *e)
{
	return runs(s) ? ws_sync(s->ws, clock_after_ms(STILL_MS), e) : 0;
}

static int seal(struct sandbox *s, unsigned flags, struct digest *ret, struct err *e)
{
	int r = tree_seal(ws_db(s->ws), flags, ret, e);

	return r == -ENOENT ? err_set(e, -EAGAIN, "workspace-empty", "nothing of the workspace is known yet") : r;
}

/* Exactly, when nothing was changed behind the seal; else about. */
static int names_of(struct txn *t, struct snapshot *snap)
{
	struct txn_counts c;
	int r = txn_names_of(t, &snap->root, &snap->entries);

	if (r == 0)
		snap->flags |= SNAPSHOT_COUNTED;
	if (r != STORE_E_NONE)
		return r;
	r = txn_counts(t, &c);
	snap->entries = c.names;
	return r;
}

static int record(struct sandbox *s, const char *name, const struct stillness *of, uint32_t flags, struct snapshot *ret,
		  struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct snapshot snap = { .root = of->tree, .created_ns = clock_wall(), .flags = flags };
	time_t now = (time_t)(snap.created_ns / (int64_t)CLOCK_S);
	char stamp[32] = "now";
	struct tm tm;
	int i, r = txn_write(ws_db(s->ws), &t, e);

	if (r)
		return r;
	if (gmtime_r(&now, &tm))
		strftime(stamp, sizeof(stamp), "%Y-%m-%d-%H%M%S", &tm);
	snap.journal_seq = of->seq ? of->seq : journal_last(t);
	r = names_of(t, &snap);
	if (r < 0)
		return err_sys(e, r, "counting names");
	if (strlen(name) >= sizeof(snap.name))
		return err_set(e, -EINVAL, "bad-snapshot-name", "a snapshot's name has at most %d letters",
			       SNAPSHOT_NAME_MAX);
	snprintf(snap.name, sizeof(snap.name), "%s", name);
	/* A name that ends with - is a beginning: the time comes behind it. */
	for (i = 1; !name[0] || name[strlen(name) - 1] == '-'; i++) {
		struct snapshot there;

		if (i == 1)
			snprintf(snap.name, sizeof(snap.name), "%.20s%s", name, stamp);
		else
			snprintf(snap.name, sizeof(snap.name), "%.20s%s-%d", name, stamp, i);
		if (snapshot_get(t, snap.name, &there) != 0 || i == NAME_TRIES)
			break;
	}
	r = snapshot_put(t, &snap, e);
	if (r == 0 && of->layer.name[0])
		r = layers_put(s, t, snap.name, &of->layer, e);
	if (r == 0)
		r = txn_commit(&t, e);
	if (r)
		return r;
	fs_snapshots_changed(s->hub->conf.fs, s->ws, snap.name);
	*ret = snap;
	return 0;
}

/* What was read a moment ago may have been removed and collected since; that takes a snapshot that is removed. */
static int keep_tree(struct hub *hub, const struct digest *root, struct store_hold **ret, struct err *e)
{
	int r = store_hold_tree(hub->conf.store, root, ret);

	if (r == -ESTALE)
		return err_set(e, -ENOENT, "no-such-snapshot", "the snapshot was removed at this moment");
	return r ? err_sys(e, r, "keep a tree") : 0;
}

/* In a sandbox that is held and stands still, or does not run. */
static int keep(struct sandbox *s, const char *name, bool unfrozen, struct snapshot *ret, struct err *e)
{
	unsigned old = unfrozen || s->info.state == SANDBOX_FAILED ? SEAL_OLD_CONTENT : 0;
	uint32_t flags = (runs(s) ? SNAPSHOT_LIVE : 0) | (unfrozen && runs(s) ? SNAPSHOT_UNFROZEN : 0);
	AUTO(store_hold_free) struct store_hold *hold_it = NULL;
	struct stillness now = { .whole = false };
	int r = unfrozen ? come_home(s, e) : come_soon(s, e);

	if (r == 0)
		r = seal(s, old, &now.tree, e);
	if (r == 0)
		r = keep_tree(s->hub, &now.tree, &hold_it, e);
	return r ? r : record(s, name, &now, flags, ret, e);
}

struct standing {
	struct sandbox *s;
	bool stands;
};

static void go_on(void *ctx)
{
	struct standing *t = ctx;

	if (t->stands)
		thaw(t->s);
	t->stands = false;
}

/* The agent stands still, too, while its disk is copied: it writes for others. */
static int keep_layer(struct sandbox *s, struct stillness *still, struct standing *t, struct err *e)
{
	int r = t->stands ? s->hub->conf.kind->freeze(&s->hub->box_env, s->info.id, PRIV_FREEZE_ALL, e) : 0;

	return r < 0 ? r : layers_keep(s, &still->layer, go_on, t, e);
}

static int last_row(struct sandbox *s, uint64_t *ret, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r = txn_read(ws_db(s->ws), &t, e);

	if (r == 0)
		*ret = journal_last(t);
	return r;
}

int past_still(struct sandbox *s, struct stillness *still, struct err *e)
{
	struct standing t = { .s = s };
	/* Most of it comes home while everything runs: what is left for the frozen moment is little. */
	int r = come_home(s, e);

	if (r == 0 && runs(s)) {
		r = freeze(s, true, e);
		t.stands = true;
	}
	if (r == 0)
		r = come_soon(s, e);
	if (r == 0)
		r = seal(s, s->info.state == SANDBOX_FAILED ? SEAL_OLD_CONTENT : 0, &still->tree, e);
	if (r == 0)
		r = keep_tree(s->hub, &still->tree, &still->hold, e);
	if (r == 0)
		r = last_row(s, &still->seq, e);
	if (r == 0 && still->whole && layers_can(s))
		r = keep_layer(s, still, &t, e);
	go_on(&t);
	if (r < 0)
		store_hold_free(&still->hold);
	return r;
}

static int snapshot(struct sandbox *s, const char *name, bool whole, struct snapshot *ret, struct err *e)
{
	struct stillness still = { .whole = whole };
	bool live = runs(s);
	int r = past_still(s, &still, e);

	if (r < 0)
		return r;
	layers_measure(s->hub, &still.layer);
	r = record(s, name, &still, live ? SNAPSHOT_LIVE : 0, ret, e);
	if (r == 0 && still.layer.name[0])
		layers_noted(s, ret, &still.layer);
	else if (r < 0)
		layers_drop(s->hub, still.layer.name);
	store_hold_free(&still.hold);
	return r;
}

int hub_snapshot(struct hub *hub, const char *id_or_name, const char *name, enum hub_how how, struct snapshot *ret,
		 struct err *e)
{
	struct sandbox *s = NULL;
	int r = past_hold(hub, id_or_name, &s, e);

	if (r)
		return r;
	r = how == HUB_UNFROZEN ? keep(s, name, true, ret, e) : snapshot(s, name, how == HUB_WHOLE, ret, e);
	if (r == 0) {
		log_info("sandbox", "snapshot", "id=%s name=%s", s->info.id, ret->name);
		hub_tell(s, "snapshot", ret->name);
	}
	past_release(s);
	return r;
}

int hub_snapshot_each(struct hub *hub, const char *id_or_name, int (*fn)(void *ctx, const struct snapshot *s),
		      void *ctx, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	int r = hub_ws_past(hub, id_or_name, &ws, e);

	if (r == 0)
		r = txn_read(ws_db(ws), &t, e);
	return r ? r : snapshot_each(t, fn, ctx);
}

int hub_snapshot_remove(struct hub *hub, const char *id_or_name, const char *name, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	struct snapshot was = { .name = "" };
	struct layer_words words = { .layer = "" };
	struct ws_stats stats;
	int r = hub_ws_past(hub, id_or_name, &ws, e);

	if (r == 0)
		r = txn_write(ws_db(ws), &t, e);
	if (r == 0 && layers_get(t, name, &words) != 0)
		words.layer[0] = '\0';
	if (r == 0 && snapshot_get(t, name, &was) < 0)
		was.name[0] = '\0'; /* damaged: it can be removed all the same */
	if (r == 0)
		r = snapshot_del(t, name, e);
	if (r == 0 && layers_del(t, name) < 0)
		r = err_sys(e, -EIO, "what is known of snapshot %.64s", name);
	if (r == 0)
		r = txn_commit(&t, e);
	if (r)
		return r;
	if (words.layer[0])
		layers_forget_one(hub, words.layer);
	if (was.name[0])
		views_drop(hub, ws_id(ws), &was);
	fs_snapshots_changed(hub->conf.fs, ws, name);
	ws_stat(ws, &stats);
	if (stats.halted) /* it may have been for what this one held */
		store_gc_ask(hub->conf.store);
	remove_when_bare(hub, ws_id(ws));
	return 0;
}

static int find(struct sandbox *s, const char *name, struct snapshot *ret, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r = txn_read(ws_db(s->ws), &t, e);

	if (r)
		return r;
	r = snapshot_get(t, name, ret);
	if (r == STORE_E_NONE)
		return err_set(e, -ENOENT, "no-such-snapshot", "sandbox %s has no snapshot \"%.64s\"", s->info.id,
			       name);
	return r ? err_sys(e, r, "read a snapshot") : 0;
}

/* The present, as if it were a snapshot. */
static int present(struct sandbox *s, struct snapshot *ret, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r = come_home(s, e);

	*ret = (struct snapshot){ .created_ns = clock_wall() };
	if (r == 0)
		r = seal(s, SEAL_OLD_CONTENT, &ret->root, e);
	if (r == 0)
		r = txn_read(ws_db(s->ws), &t, e);
	return r ? r : names_of(t, ret);
}

int hub_tree(struct hub *hub, const char *id_or_name, const char *name, struct digest *ret,
	     struct store_hold **ret_hold, struct err *e)
{
	struct sandbox *s = NULL;
	struct snapshot snap;
	int r = hold(hub, id_or_name, name[0], &s, e);

	if (r)
		return r;
	r = name[0] ? find(s, name, &snap, e) : present(s, &snap, e);
	if (r == 0)
		r = keep_tree(hub, &snap.root, ret_hold, e);
	past_release(s);
	if (r == 0)
		*ret = snap.root;
	return r;
}

/* --- going back --------------------------------------------------------------------------------------------------- */

static int restore_stored(struct sandbox *s, const struct digest *to, const char *path, const char *words,
			  struct err *e)
{
	struct ws_wait *wait;
	struct digest now;
	int i, r = 0;

	ws_refuse_changes(s->ws, true);
	/* What was on its way when changes began to be refused may come between the seal and us. */
	for (i = 0; i < SEAL_TRIES; i++) {
		r = seal(s, SEAL_OLD_CONTENT, &now, e);
		if (r < 0)
			break;
		wait = ws_wait_new();
		ws_restore(s->ws, &now, to, path, words, ws_wait_done, wait);
		r = ws_wait_end(&wait, NULL);
		if (r != -EAGAIN)
			break;
	}
	ws_refuse_changes(s->ws, false);
	return r < 0 && !(e && e->code) ? err_sys(e, r, "going back") : r;
}

static int restore_live(struct sandbox *s, const struct digest *to, const char *path, struct err *e)
{
	struct digest now;
	int r = come_soon(s, e);

	if (r == 0)
		r = seal(s, SEAL_OLD_CONTENT, &now, e);
	if (r == 0)
		r = ws_restore_live(s->ws, &now, to, path, &s->is_wanted, e);
	if (r == 0)
		r = come_soon(s, e);
	return r;
}

static int restore(struct sandbox *s, const char *name, const char *path, bool keep_it, struct snapshot *ret_kept,
		   struct err *e)
{
	AUTO(str_free) char *words = str_printf("restored %s from %s", path[0] ? path : "everything", name);
	AUTO(store_hold_free) struct store_hold *hold_it = NULL;
	struct snapshot kept, to;
	struct tree_item it;
	int r = find(s, name, &to, e);

	if (r == 0)
		r = keep_tree(s->hub, &to.root, &hold_it, e);
	if (r == 0 && s->info.state == SANDBOX_PAUSED)
		r = err_set(e, -EBUSY, "paused", "sandbox %s is paused: resume it first", s->info.id);
	if (r == 0 && tree_resolve(s->hub->conf.store, &to.root, path, &it) != 0)
		r = err_set(e, -ENOENT, "no-such-path", "%s has no %.160s", name, path);
	if (r == 0 && runs(s))
		r = freeze(s, true, e);
	if (r)
		return r;
	if (keep_it)
		r = keep(s, "before-restore-", false, ret_kept ? ret_kept : &kept, e);
	if (r == 0)
		r = runs(s) ? restore_live(s, &to.root, path, e) : restore_stored(s, &to.root, path, words, e);
	if (runs(s))
		thaw(s);
	return r;
}

int hub_restore(struct hub *hub, const char *id_or_name, const char *name, const char *path, bool keep_it,
		struct snapshot *ret_kept, struct err *e)
{
	struct sandbox *s = NULL;
	int r;

	if (!path_ok(span_str(path)))
		return err_set(e, -EINVAL, "bad-path", "not a path below /workspace");
	r = past_hold(hub, id_or_name, &s, e);
	if (r)
		return r;
	r = restore(s, name, path, keep_it, ret_kept, e);
	if (r == 0) {
		log_info("sandbox", "restored", "id=%s from=%s", s->info.id, name);
		hub_tell(s, "restored", name);
	}
	past_release(s);
	return r;
}

int hub_state_split(const char *what, char **ret_id, const char **ret_snapshot, struct err *e)
{
	AUTO(str_free) char *id = must_strdup(what ? what : "");
	char *at = strchr(id, '@');

	if (!id[0] || at == id || (at && !at[1]))
		return err_set(e, -EINVAL, "bad-request", "a state is ID or ID@SNAPSHOT");
	if (at)
		*at++ = '\0';
	*ret_snapshot = at ? at : "";
	*ret_id = take(&id);
	return 0;
}

/* --- forks -------------------------------------------------------------------------------------------------------- */

/* The workspace and its record in one transaction: a daemon that dies leaves both or an empty environment. */
static int plant(struct sandbox *s, const struct snapshot *of, struct err *e)
{
	const struct hub_conf *c = &s->hub->conf;
	AUTO(txn_abort) struct txn *t = NULL;
	struct ws_conf wc = {
		.store = c->store, .loop = c->loop, .work = c->work, .notify = c->notify, .dial = c->dial,
		.watchers = c->watchers, .log_commands = c->log_commands, .calm_rate = c->calm_rate
	};
	struct journal_row row = { .kind = JOURNAL_NOTE, .wall_ns = clock_wall(), .name = span_str(s->info.why) };
	struct ws *ws = NULL;
	int r = ws_open(&wc, s->info.id, true, &ws, e);

	if (r)
		return r;
	ws_limit(ws, s->info.workspace_b);
	lock_take(&s->hub->lock);
	s->ws = ws;
	lock_drop(&s->hub->lock);
	r = ws_set_keep(ws, s->keep, e);
	if (r == 0)
		r = txn_write(ws_db(ws), &t, e);
	if (r == 0)
		r = txn_plant(t, &of->root, of->flags & SNAPSHOT_COUNTED ? of->entries : 0, e);
	if (r)
		return r;
	journal_append(t, &row);
	r = record_put(s, t, e);
	return r ? r : txn_commit(&t, e);
}

static void inherit(struct sandbox *s, const struct sandbox *from, const struct hub_fork *what)
{
	struct hub_info *i = &s->info;

	*i = (struct hub_info){ .state = SANDBOX_CREATING,
				.created_ns = clock_wall(),
				.memory_b = from->info.memory_b,
				.workspace_b = from->info.workspace_b,
				.cpu_milli = from->info.cpu_milli,
				.pids = from->info.pids };
	i->stopped_ns = i->created_ns;
	snprintf(i->template_, sizeof(i->template_), "%s", from->info.template_);
	snprintf(i->name, sizeof(i->name), "%s", what->name);
	snprintf(i->owner, sizeof(i->owner), "%s", what->owner);
	snprintf(i->why, sizeof(i->why), "a fork of %s%s%.64s", from->info.id, what->snapshot[0] ? "@" : "",
		 what->snapshot);
	if (what->id[0])
		snprintf(i->id, sizeof(i->id), "%s", what->id);
	else
		hub_random_id(i->id);
	snprintf(i->mount, sizeof(i->mount), "%s/%s", s->hub->mount_dir, i->id);
}

/* Nothing of it is left. */
static void forget(struct sandbox *s)
{
	struct hub *hub = s->hub;
	AUTO(str_free) char *id = must_strdup(s->info.id);

	hub_forget(hub, s);
	(void)!wsdb_remove(hub->conf.store, id, NULL);
}

static struct sandbox *stored_new(struct hub *hub)
{
	struct sandbox *s = NEW(struct sandbox);

	s->hub = hub;
	s->pidfd = -1;
	s->jobs = 1; /* this call */
	list_init(&s->node);
	return s;
}

/* From here on others see it. Takes @s. */
static int settle(struct sandbox *s, const struct snapshot *of, struct hub_info *ret, struct err *e)
{
	struct hub *hub = s->hub;
	int r = hub_claim_stored(hub, s, e);

	if (r) {
		str_free(&s->keep);
		free(s);
		return r;
	}
	r = plant(s, of, e);
	if (r) {
		forget(s);
		return r;
	}
	life_show(s);
	hub_set_state(s, SANDBOX_STOPPED, s->info.why);
	lock_take(&hub->lock);
	*ret = s->info;
	lock_drop(&hub->lock);
	hub_job_done(s);
	return 0;
}

int hub_fork(struct hub *hub, const struct hub_fork *what, struct hub_info *ret, struct err *e)
{
	AUTO(store_hold_free) struct store_hold *hold_it = NULL;
	struct sandbox *from = NULL, *s;
	struct snapshot of;
	int r;

	if ((what->name[0] && !str_is_id(what->name, HUB_NAME_MAX)) ||
	    (what->id[0] && !str_is_id(what->id, PRIV_ID_MAX)))
		return err_set(e, -EINVAL, "bad-name", "names are 1 to 64 of a-z, 0-9 and -, not - at an end");
	r = hold(hub, what->from, what->snapshot[0], &from, e);
	if (r)
		return r;
	r = what->snapshot[0] ? find(from, what->snapshot, &of, e) : present(from, &of, e);
	if (r == 0)
		r = keep_tree(hub, &of.root, &hold_it, e);
	s = stored_new(hub);
	inherit(s, from, what);
	s->keep = must_strdup(ws_keep(from->ws)); /* by which its files were chosen */
	past_release(from);
	if (r) {
		str_free(&s->keep);
		free(s);
		return r;
	}
	return settle(s, &of, ret, e);
}

/* --- archives ----------------------------------------------------------------------------------------------------- */

static int same_limits(struct hub *hub, const struct hub_import *what, struct ws_import *io, struct err *e)
{
	uint64_t size = what->workspace_b ? what->workspace_b : hub->conf.workspace_b;

	if (size > hub->conf.workspace_max_b)
		return err_set(e, -EINVAL, "limit", "a workspace of at most %llu bytes may be asked for",
			       (unsigned long long)hub->conf.workspace_max_b);
	io->bytes_max = size;
	io->entries_max = ws_entries_max(size);
	return 0;
}

static int may_import(void *ctx, struct err *e)
{
	struct hub *hub = ctx;
	int r;

	lock_take(&hub->lock);
	r = hub_may_store(hub, e);
	lock_drop(&hub->lock);
	return r;
}

int hub_import(struct hub *hub, struct hub_import *what, tar_get_fn *get, void *ctx, struct hub_info *ret,
	       struct err *e)
{
	struct ws_import io = { .may = may_import, .may_ctx = hub };
	AUTO(store_hold_free) struct store_hold *hold_it = NULL;
	struct snapshot of = { .flags = 0 };
	struct sandbox *s;
	struct hub_info *i;
	int r = same_limits(hub, what, &io, e);

	if (r == 0 && what->name[0] && !str_is_id(what->name, HUB_NAME_MAX))
		r = err_set(e, -EINVAL, "bad-name", "names are 1 to 64 of a-z, 0-9 and -, not - at an end");
	if (r == 0)
		r = ws_import(hub->conf.store, get, ctx, &io, e);
	hold_it = io.hold;
	if (r)
		return r;
	of.root = what->tree = io.tree;
	of.entries = io.entries;
	of.flags = SNAPSHOT_COUNTED;
	what->left_out = io.left_out;
	s = stored_new(hub);
	i = &s->info;
	*i = (struct hub_info){ .state = SANDBOX_CREATING, .created_ns = clock_wall(), .memory_b = hub->conf.memory_b,
				.workspace_b = io.bytes_max, .cpu_milli = hub->conf.cpu_milli, .pids = hub->conf.pids };
	i->stopped_ns = i->created_ns;
	snprintf(i->template_, sizeof(i->template_), "base");
	snprintf(i->name, sizeof(i->name), "%s", what->name);
	snprintf(i->owner, sizeof(i->owner), "%s", what->owner);
	snprintf(i->why, sizeof(i->why), "imported from an archive");
	hub_random_id(i->id);
	snprintf(i->mount, sizeof(i->mount), "%s/%s", hub->mount_dir, i->id);
	return settle(s, &of, ret, e);
}

/* --- archives into a workspace ------------------------------------------------------------------------------------ */

/* Where the top goes: a directory (whose attributes stay when the archive says nothing of it), or a name in one. */
static int place_of(struct sandbox *s, const struct hub_put *what, const struct ws_import *io, bool *ret_keep,
		    struct err *e)
{
	const char *slash = strrchr(what->path, '/');
	AUTO(str_free) char *dir = span_dup(SPAN(what->path, slash ? (size_t)(slash - what->path) : 0));
	struct node n;
	int r = ws_resolve(s->ws, what->path, &n);

	*ret_keep = r == 0 && (what->keep_top || !io->has_top);
	if (r == 0 && !S_ISDIR(n.mode))
		return err_set(e, -ENOTDIR, "not-directory", "/workspace/%s is no directory", what->path);
	if (r == -ENOENT)
		r = ws_resolve(s->ws, dir, &n);
	return r < 0 ? err_sys(e, r, "/workspace/%s", dir) : 0;
}

static int put_live(struct sandbox *s, const struct hub_put *what, const struct ws_import *io, bool keep,
		    struct err *e)
{
	AUTO(fd_close) int fd = -1;
	int r = link_dial(ws_link(s->ws), WIRE_FILL, clock_after_ms(PUT_DIAL_MS), &fd, e);

	if (r == 0)
		r = ws_fill(&(struct ws_fill){ .store = s->hub->conf.store, .root = &io->tree, .fd = fd, .over = true,
					       .below = what->path, .keep_top = keep,.stop = &s->is_wanted }, e);
	if (r == 0) /* the archive is let go of: its bytes must be here by way of the files */
		r = come_home(s, e);
	if (r == -ECANCELED) {
		*e = ERR_NULL;
		return err_set(e, -EAGAIN, "busy", "sandbox %s is ending", s->info.id);
	}
	return r;
}

static int put_stored(struct sandbox *s, const struct hub_put *what, const struct ws_import *io, bool keep,
		      struct err *e)
{
	AUTO(str_free) char *place = NULL;
	struct ws_wait *wait = ws_wait_new();
	const char *at;
	int r;

	ws_graft(s->ws, &io->tree, what->path, keep, io->new_b, io->handed_b, &place, ws_wait_done, wait);
	r = ws_wait_end(&wait, NULL);
	at = place ? place : what->path;
	if (r == -EISDIR)
		return err_set(e, r, "failed", "/workspace/%s: a directory is there", at);
	if (r == -EEXIST || r == -ENOTDIR)
		return err_set(e, r, "failed", "/workspace/%s: something else is there", at);
	if (r == -EDQUOT)
		return err_set(e, r, "quota-exceeded", "/workspace/%s: more than the workspace may hold", at);
	return r < 0 ? err_sys(e, r, "/workspace/%s", at) : 0;
}

int hub_put(struct hub *hub, const char *id_or_name, struct hub_put *what, tar_get_fn *get, void *ctx, struct err *e)
{
	struct ws_import io = { .may = may_import, .may_ctx = hub };
	AUTO(store_hold_free) struct store_hold *hold_it = NULL;
	struct sandbox *s = NULL;
	struct hub_info info;
	bool keep = false;
	int r = hub_find(hub, id_or_name, &info, e);

	if (r)
		return r;
	io.bytes_max = info.workspace_b;
	io.entries_max = ws_entries_max(info.workspace_b);
	r = ws_import(hub->conf.store, get, ctx, &io, e);
	hold_it = io.hold;
	if (r == 0)
		r = past_hold(hub, info.id, &s, e);
	if (r)
		return r;
	if (s->info.state == SANDBOX_PAUSED)
		r = err_set(e, -EBUSY, "paused", "sandbox %s is paused: resume it first", s->info.id);
	if (r == 0)
		r = place_of(s, what, &io, &keep, e);
	if (r == 0)
		r = runs(s) ? put_live(s, what, &io, keep, e) : put_stored(s, what, &io, keep, e);
	past_release(s);
	what->files = io.entries;
	what->bytes = io.bytes;
	what->left_out = io.left_out;
	return r;
}
