/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start and end of the daemon: what the store knows becomes the table, sandboxes that outlived the daemon before are
 * adopted; at the end they are left to the next one, or ended.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct found {
	struct hub *hub;
	VEC(char *) ids;
	VEC(const char *) unread; /* of these, those that are there and could not be read: all that they have stays */
	bool lacks_layers;	  /* not every snapshot could be asked which layer it has */
};

static int note_id(void *ctx, const char *id)
{
	struct found *f = ctx;

	vec_push(&f->ids, must_strdup(id));
	return 0;
}

/* One that lies without memory has no processes that could be missing; what may be left of its box goes when it is
 * started again, if not now. */
static void adopt_cold(struct sandbox *s)
{
	struct err e = ERR_NULL;

	s->is_found = true;
	if (pause_adopt(s, &e) < 0) {
		log_error("sandbox", "not cleaned up", "id=%s why=%s", s->info.id, e.text);
		s->is_found = !str_eq(e.slug, PRIV_NOT_SETTLED);
		return;
	}
	lock_take(&s->hub->lock);
	hub_drop_range(s->hub, s);
	lock_drop(&s->hub->lock);
}

/* A workspace of the store becomes an entry of the table and is shown; the agent of one that was running is dialled. */
static void load_one(struct found *f, const char *id)
{
	struct hub *hub = f->hub;
	const struct hub_conf *c = &hub->conf;
	struct ws_conf wc = {
		.store = c->store, .loop = c->loop, .work = c->work, .notify = c->notify, .dial = c->dial,
		.watchers = c->watchers, .log_commands = c->log_commands, .calm_rate = c->calm_rate
	};
	struct sandbox *s = NEW(struct sandbox);
	struct err e = ERR_NULL;
	struct box_started box = { .pidfd = -1 };
	bool is_half;
	int r;

	s->hub = hub;
	s->pidfd = -1;
	s->range = UINT32_MAX;
	list_init(&s->node);
	r = ws_open(&wc, id, false, &s->ws, &e);
	if (r == 0)
		r = record_load(s->ws, s);
	is_half = (s->has_from && !s->no_wait) || s->is_ready;
	if (r != 0 || is_half) {
		/* Made a moment before the daemon died: nobody was told of it, and there is nothing in it, or not all
		 * that it was to begin with. */
		bool is_husk = is_half || (r == STORE_E_NONE && s->ws && !ws_root(s->ws));

		if (is_half && c->kind->end(&hub->box_env, id, PRIV_DISK_NONE, &e) < 0)
			log_error("sandbox", "not cleaned up", "id=%s why=%s", id, e.text);

		ws_unref(&s->ws);
		if (is_husk)
			r = wsdb_remove(c->store, id, NULL);
		else
			vec_push(&f->unread, id);
		if (s->is_ready) /* nobody waits for it, and this daemon makes others */
			log_info("sandbox", "one that was ready is removed", "id=%s result=%d", id, r);
		else
			log_warn("sandbox",
				 is_husk ? "a workspace that was just being made is removed"
					 : "a workspace without a usable record is not shown",
				 "id=%s result=%d", id, r);
		hub_free_sandbox(&s);
		return;
	}
	if (s->no_wait && store_hold_tree(c->store, &s->from, &s->hold_from) < 0)
		log_error("sandbox", "the files that are to come cannot be read", "id=%s", id);
	if (layers_load(s) < 0) {
		log_error("sandbox", "its snapshots cannot be read", "id=%s", id);
		f->lacks_layers = true;
	}
	if (remove_is_over(s)) { /* a daemon died before it could go */
		hub_free_sandbox(&s);
		(void)!wsdb_remove(c->store, id, NULL);
		return;
	}
	ws_limit(s->ws, s->info.workspace_b);
	snprintf(s->info.mount, sizeof(s->info.mount), "%s/%s", hub->mount_dir, id);
	lock_take(&hub->lock);
	hub_insert(hub, s);
	lock_drop(&hub->lock);
	if (s->info.state == SANDBOX_REMOVED) {
		s->info.mount[0] = '\0';
		return;
	}
	life_show(s); /* before anything new is heard of it */
	if (s->info.state >= SANDBOX_STOPPED)
		return;
	if (s->info.is_cold) {
		adopt_cold(s);
		return;
	}
	if (!s->has_range || s->range >= c->sandboxes_max || c->kind->find(&hub->box_env, id, &box, &e) <= 0)
		return;
	s->pidfd = box.pidfd;
	s->info.pid = (uint64_t)box.pid; /* a daemon that died while it was made did not get to note it */
	r = network_adopt(s, &e);
	if (r == 0)
		r = pause_adopt(s, &e);
	if (r < 0)
		log_warn("sandbox", "neither frozen nor thawed", "id=%s why=%s", id, e.text);
	s->is_found = r == 0;
	if (r == 0 && s->info.state != SANDBOX_PAUSED)
		life_dial(s, box.address);
}

/* One that was running goes on, or is failed. */
static void adopt(void *ctx)
{
	struct sandbox *s = ctx;
	struct hub *hub = s->hub;
	struct err e = ERR_NULL;
	int r = s->is_found	  ? 0
		: s->info.is_cold ? err_set(&e, -EIO, PRIV_NOT_SETTLED, "its disks are not what was written to them")
				  : err_set(&e, -EPIPE, "gone", "it did not outlive the daemon");

	if (r == 0 && s->info.state != SANDBOX_PAUSED)
		r = life_attach(s, &e);
	if (r == 0) {
		hub_set_state(s, s->info.state == SANDBOX_PAUSED ? SANDBOX_PAUSED : SANDBOX_RUNNING, "");
		if (!s->info.is_cold)
			life_watch(s);
		if (s->info.state == SANDBOX_RUNNING) {
			secret_files_again(s); /* the daemon may have died between a resume and this */
			broker_offer_again(s);
		}
		rest_go_on(s);
		log_info("sandbox", "adopted", "id=%s state=%s", s->info.id, sandbox_state_name(s->info.state));
	} else {
		ws_refuse_changes(s->ws, true);
		ws_stop(s->ws);
		if (hub->conf.kind->end(&hub->box_env, s->info.id, PRIV_DISK_WORKSPACE, NULL) < 0)
			log_error("sandbox", "not cleaned up", "id=%s", s->info.id);
		hub_set_state(s, SANDBOX_FAILED, e.text);
		ws_commands_end(s->ws);
		log_warn("sandbox", "not adopted", "id=%s why=%s", s->info.id, e.text);
	}
	(void)!record_save(s, NULL);
	ws_refuse_changes(s->ws, false);
	lock_take(&hub->lock);
	hub->adopting--;
	lock_drop(&hub->lock);
	hub_job_done(s);
}

/* All at a time: one that does not answer must not keep the others waiting. What goes on behind an adoption, files that
 * are still to come, is not waited for. */
static void adopt_all(struct hub *hub)
{
	struct list *pos;

	list_each(pos, &hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		if (s->info.state >= SANDBOX_STOPPED)
			continue;
		lock_take(&hub->lock);
		s->jobs++;
		hub->adopting++;
		lock_drop(&hub->lock);
		pool_run(hub->conf.api, adopt, s);
	}
	lock_take(&hub->lock);
	while (hub->adopting)
		(void)!lock_wait(&hub->lock, &hub->cond, CLOCK_NEVER);
	lock_drop(&hub->lock);
}

/* Names that an earlier daemon showed of sandboxes that are no more. */
static void tidy_links(struct hub *hub)
{
	int fd =
		hub->conf.links_dirfd < 0 ? -1 : openat(hub->conf.links_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *one;

	if (!d)
		fd_close(&fd);
	while (d && (one = readdir(d))) {
		if (one->d_name[0] != '.' && !map_get(&hub->by_name, span_str(one->d_name)))
			unlinkat(hub->conf.links_dirfd, one->d_name, 0);
	}
	if (d)
		closedir(d);
}

/* What belongs to nobody goes; what may belong to one that could not be read stays until it can be. */
static void sweep_layers(struct found *f)
{
	if (!f->lacks_layers && !f->unread.len)
		layers_sweep(f->hub);
	else
		log_warn("sandbox", "layers that nobody has are not looked for", "unread=%zu", f->unread.len);
}

static int sweep_boxes(struct found *f, struct err *e)
{
	char (*keep)[PRIV_ID_MAX + 1] = must_calloc(f->ids.len, sizeof(*keep));
	struct list *pos;
	size_t i, n = 0;
	int r;

	list_each(pos, &f->hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		fs_snapshots_changed(f->hub->conf.fs, s->ws, NULL); /* what the daemon before did not get to tell */
		/* A stopped one has no box; what its end may have left goes. */
		if (n < f->ids.len && s->info.state < SANDBOX_REMOVED &&
		    s->info.state != SANDBOX_STOPPED)
			memcpy(keep[n++], s->info.id, sizeof(*keep));
	}
	for (i = 0; i < f->unread.len && n < f->ids.len; i++)
		if (str_copy(keep[n], sizeof(*keep), f->unread.v[i]) == 0)
			n++;
	r = priv_sweep(f->hub->conf.priv, (const char(*)[PRIV_ID_MAX + 1])keep, n, e);
	free(keep);
	return r;
}

int hub_new(const struct hub_conf *conf, struct hub **ret, struct err *e)
{
	struct hub *hub = NEW(struct hub);
	struct found f = { .hub = hub };
	size_t i;
	int r;

	hub->conf = *conf;
	hub->run_dir = must_strdup(conf->run_dir);
	hub->cgroup_parent = must_strdup(conf->cgroup_parent ? conf->cgroup_parent : "");
	hub->box_env = (struct box_env){ .priv = conf->priv, .run_dir = hub->run_dir };
	hub->mount_dir = must_strdup(conf->mount_dir);
	hub->template_dir = must_strdup(conf->template_dir);
	hub->state_dir = must_strdup(conf->state_dir);
	lock_init(&hub->lock, "hub", LOCK_HUB);
	lock_init(&hub->view_lock, "views", LOCK_SANDBOX);
	lock_cond_init(&hub->cond);
	list_init(&hub->list);
	share_init(&hub->streams, HUB_BROKERED_ALL);
	hub->ranges = must_calloc(conf->sandboxes_max, sizeof(bool));
	*ret = hub;
	r = store_each_ws(conf->store, note_id, &f);
	if (r < 0)
		err_sys(e, r, "listing the workspaces");
	if (r >= 0)
		r = rest_begin(hub, e);
	if (r >= 0)
		r = broker_begin(hub, e);
	for (i = 0; i < f.ids.len; i++) {
		if (r >= 0)
			load_one(&f, f.ids.v[i]);
	}
	if (r >= 0)
		r = meter_begin(hub, e);
	if (r >= 0) {
		sweep_layers(&f);
		tidy_links(hub);
		views_load(hub);
		r = conf->loaded ? conf->loaded(conf->loaded_ctx, e) : 0;
	}
	if (r >= 0) {
		adopt_all(hub);
		r = sweep_boxes(&f, e);
	}
	for (i = 0; i < f.ids.len; i++)
		free(f.ids.v[i]);
	vec_fini(&f.ids);
	vec_fini(&f.unread);
	if (r == 0)
		r = guard_start(hub, e);
	if (r == 0)
		r = meter_start(hub, e);
	if (r == 0)
		r = collect_start(hub, e);
	return r < 0 ? r : ahead_start(hub, e);
}

void hub_hurry(struct hub *hub)
{
	struct list *pos;

	lock_take(&hub->lock);
	__atomic_store_n(&hub->ending, true, __ATOMIC_RELAXED);
	list_each(pos, &hub->list)
		__atomic_store_n(&list_entry(pos, struct sandbox, node)->is_wanted, true, __ATOMIC_RELAXED);
	lock_drop(&hub->lock);
}

void hub_settle(struct hub *hub)
{
	uint64_t until = clock_after_ms(LEAVE_SYNC_MS);
	VEC(struct ws *) all = { 0 };
	struct err e = ERR_NULL;
	struct list *pos;
	size_t i;

	lock_take(&hub->lock);
	__atomic_store_n(&hub->ending, true, __ATOMIC_RELAXED);
	lock_drop(&hub->lock);
	ahead_stop(hub); /* the next daemon makes its own */
	lock_take(&hub->lock);
	list_each(pos, &hub->list) {
		struct sandbox *s = list_entry(pos, struct sandbox, node);

		if (s->info.state == SANDBOX_RUNNING && s->ws)
			vec_push(&all, ws_ref(s->ws));
	}
	lock_drop(&hub->lock);
	for (i = 0; i < all.len; i++) {
		if (ws_sync(all.v[i], until, &e) < 0)
			log_warn("sandbox", "left without a sync", "id=%s why=%s", ws_id(all.v[i]), e.text);
		ws_unref(&all.v[i]);
	}
	vec_fini(&all);
}

/* The sandbox goes on without us. */
static void leave(struct sandbox *s)
{
	life_unwatch(s);
	ws_stop(s->ws);
}

void hub_free(struct hub **slot, bool end)
{
	struct hub *hub = take(slot);
	struct list *pos;

	if (!hub)
		return;
	hub_hurry(hub);
	ahead_stop(hub);
	rest_end(hub);
	guard_stop(hub);
	meter_stop(hub);
	collect_stop(hub);
	for (;;) {
		struct sandbox *s = NULL;
		bool wait = false;

		lock_take(&hub->lock);
		list_each(pos, &hub->list) {
			struct sandbox *at = list_entry(pos, struct sandbox, node);

			wait |= at->info.state == SANDBOX_CREATING || at->info.state == SANDBOX_PAUSING ||
				at->info.state == SANDBOX_RESUMING || (end && at->info.state == SANDBOX_STOPPING);
			if ((at->info.state == SANDBOX_RUNNING || (end && at->info.state == SANDBOX_PAUSED)) &&
			    (!s || str_starts(s->info.name, HUB_VOLUME)))
				s = at;
		}
		if (s && end && wait && str_starts(s->info.name, HUB_VOLUME))
			s = NULL; /* whoever may write to it ends first */
		if (s)
			s->info.state = SANDBOX_STOPPING;
		else if (wait)
			lock_wait(&hub->lock, &hub->cond, clock_after_ms(1000));
		lock_drop(&hub->lock);
		if (s && end)
			life_end(s, 2000, "the daemon ended", NULL);
		else if (s)
			leave(s);
		else if (!wait)
			break;
	}
	pool_drain(hub->conf.api);
	meter_end(hub);
	list_each(pos, &hub->list) {
		struct sandbox *at = list_entry(pos, struct sandbox, node);

		if (at->info.state == SANDBOX_PAUSED)
			life_unwatch(at);
	}
	while (!list_empty(&hub->list))
		hub_forget(hub, list_entry(hub->list.next, struct sandbox, node));
	broker_end(hub);
	views_end(hub);
	from_end(hub);
	vec_fini(&hub->layers);
	map_fini(&hub->by_id);
	map_fini(&hub->by_name);
	free(hub->ranges);
	share_fini(&hub->streams);
	pthread_cond_destroy(&hub->cond);
	lock_fini(&hub->view_lock);
	lock_fini(&hub->lock);
	str_free(&hub->run_dir);
	str_free(&hub->cgroup_parent);
	str_free(&hub->mount_dir);
	str_free(&hub->template_dir);
	str_free(&hub->state_dir);
	free(hub);
}
