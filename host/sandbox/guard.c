/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk below the state directory holds the store and the workspaces' images, and the images are sparse: together
 * they may promise more than there is. When the disk is really full a guest's file system gets errors for what it has
 * taken long ago, and loses it. So it is not let come to that. Below `low` nothing new is made; below `stop` the
 * workloads of all sandboxes are frozen, agents and the daemon go on (what is under way becomes durable with the room
 * that is left), and what asks for a new process is told why. When there is room again everything goes on by itself.
 *
 * One thread looks once a second. A sandbox that it works on is "held": who wants to change its state waits.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { LOOK_MS = 1000 };

static const char *const words[] = { "ok", "low", "full" };

const char *hub_disk_word(enum hub_disk_state s)
{
	return words[s];
}

/* With some distance on the way back, so that it does not flutter. */
static enum hub_disk_state judge(const struct hub_disk *d)
{
	if (d->free_b < d->stop_b || (d->state == HUB_DISK_FULL && d->free_b < 2 * d->stop_b))
		return HUB_DISK_FULL;
	return d->free_b < d->low_b ? HUB_DISK_LOW : HUB_DISK_OK;
}

static bool measure(struct hub *hub, enum hub_disk_state *ret)
{
	struct statvfs st;
	struct hub_disk *d = &hub->disk;
	enum hub_disk_state was;
	char why[120];

	if (statvfs(hub->state_dir, &st) < 0)
		return false;
	lock_take(&hub->lock);
	d->total_b = (uint64_t)st.f_blocks * st.f_frsize;
	d->free_b = (uint64_t)st.f_bavail * st.f_frsize;
	was = d->state;
	d->state = *ret = judge(d);
	snprintf(why, sizeof(why), "%llu MiB of %llu MiB are free", (unsigned long long)d->free_b >> 20,
		 (unsigned long long)d->total_b >> 20);
	lock_drop(&hub->lock);
	if (was != *ret) {
		char kind[16];

		snprintf(kind, sizeof(kind), "disk.%s", words[*ret]);
		log_warn("sandbox", "the disk of the state directory", "state=%s why=%s", words[*ret], why);
		events_emit(hub->conf.events, kind, "", "", why);
	}
	return true;
}

/* Whether it is still in the state for this; if so it is ours until release(). */
static bool hold(struct sandbox *s, bool stall)
{
	bool ours;

	lock_take(&s->hub->lock);
	ours = !s->hub->ending && s->info.state == SANDBOX_RUNNING && !s->is_held && (stall || s->is_stalled);
	s->is_held |= ours;
	lock_drop(&s->hub->lock);
	return ours;
}

static void release(struct sandbox *s, bool stalled)
{
	lock_take(&s->hub->lock);
	s->is_held = false;
	s->is_stalled = stalled;
	snprintf(s->info.why, sizeof(s->info.why), "%s",
		 stalled ? "it stands still, because the host's disk is full" : "");
	pthread_cond_broadcast(&s->hub->cond);
	lock_drop(&s->hub->lock);
}

/* Also those that were frozen already: what was started since is not yet. */
static void apply(struct sandbox *s, bool stall)
{
	const struct hub *hub = s->hub;
	struct err e = ERR_NULL;
	bool was = s->is_stalled;
	int r;

	if (!hold(s, stall))
		return;
	r = hub->conf.kind->freeze(&hub->box_env, s->info.id, stall ? PRIV_FREEZE_WORK : PRIV_FREEZE_NONE, &e);
	if (r < 0)
		log_warn("sandbox", stall ? "not stopped for want of room" : "not let go on", "id=%s why=%s",
			 s->info.id, e.text);
	release(s, stall ? r == 0 : r < 0);
	if (was != (stall && r == 0))
		hub_tell(s, was ? "unstalled" : "stalled", "");
}

static void look(struct hub *hub)
{
	VEC(struct sandbox *) all = { 0 };
	enum hub_disk_state state;
	struct list *pos;
	size_t i;

	if (!measure(hub, &state))
		return;
	if (state != HUB_DISK_OK)
		from_drop_bases(hub);
	lock_take(&hub->lock);
	list_each(pos, &hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		if (s->info.state != SANDBOX_RUNNING || (state != HUB_DISK_FULL && !s->is_stalled))
			continue;
		s->jobs++;
		vec_push(&all, s);
	}
	lock_drop(&hub->lock);
	for (i = 0; i < all.len; i++) {
		apply(all.v[i], state == HUB_DISK_FULL);
		hub_job_done(all.v[i]);
	}
	vec_fini(&all);
}

static void *guard_main(void *ctx)
{
	struct hub *hub = ctx;
	uint64_t next = clock_now();

	lock_take(&hub->lock);
	while (!hub->guard_stop) {
		if (clock_now() < next) {
			(void)!lock_wait(&hub->lock, &hub->cond, next);
			continue;
		}
		lock_drop(&hub->lock);
		look(hub);
		next = clock_after_ms(LOOK_MS);
		lock_take(&hub->lock);
	}
	lock_drop(&hub->lock);
	return NULL;
}

int guard_start(struct hub *hub, struct err *e)
{
	enum hub_disk_state state;
	int r;

	hub->disk.low_b = hub->conf.disk_low_b;
	hub->disk.stop_b = hub->conf.disk_stop_b;
	(void)!measure(hub, &state);
	r = pthread_create(&hub->guard, NULL, guard_main, hub);
	if (r)
		return err_sys(e, -r, "the thread that watches the disk");
	(void)pthread_setname_np(hub->guard, "guard");
	hub->has_guard = true;
	return 0;
}

void guard_stop(struct hub *hub)
{
	if (!hub->has_guard)
		return;
	lock_take(&hub->lock);
	hub->guard_stop = true;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
	pthread_join(hub->guard, NULL);
	hub->has_guard = false;
}

void guard_unstall(struct sandbox *s)
{
	if (!s->is_stalled)
		return;
	(void)!s->hub->conf.kind->freeze(&s->hub->box_env, s->info.id, PRIV_FREEZE_NONE, NULL);
	lock_take(&s->hub->lock);
	s->is_stalled = false;
	lock_drop(&s->hub->lock);
}

bool guard_is_low(struct hub *hub, struct err *e)
{
	if (hub->disk.state == HUB_DISK_OK)
		return false;
	(void)!err_set(e, -ENOSPC, "disk-low", "only %llu MiB are free on the disk of the state directory",
		       (unsigned long long)hub->disk.free_b >> 20);
	return true;
}

static uint64_t size_on_disk(const struct hub *hub, const char *dir, const char *id, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/%s/%s/%s", hub->state_dir, dir, id, name);
	struct stat st;

	return lstat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

int hub_usage(struct hub *hub, const char *id_or_name, struct hub_usage *ret, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	int r = hub_ws_past(hub, id_or_name, &ws, e);

	if (r < 0)
		return r;
	r = ws_usage(ws, &ret->ws);
	if (r < 0)
		return err_sys(e, r, "looking at workspace %s", ws_id(ws));
	ret->store_b = size_on_disk(hub, "store/ws", ws_id(ws), "data.mdb");
	ret->image_b = size_on_disk(hub, "boxes", ws_id(ws), "ws.img") +
		       size_on_disk(hub, "boxes", ws_id(ws), "root.img");
	return 0;
}

void hub_disk(struct hub *hub, struct hub_disk *ret)
{
	lock_take(&hub->lock);
	*ret = hub->disk;
	lock_drop(&hub->lock);
}
