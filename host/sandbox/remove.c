/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a sandbox that does not run. Snapshots of all of it are whole things that others begin with, so they stay
 * until they are removed themselves: then its environment has nothing but their rows and the record, which says
 * "removed"; it has no name, no files, and no place on the mount. With the last of them it goes. Snapshots of its
 * workspace alone are a part of it and go with it.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* It is nobody's from now on: hidden, and no call works on it. @all: also what was removed before. */
static int take_away(struct hub *hub, const char *id_or_name, bool all, struct sandbox **ret, enum sandbox_state *was,
		     struct err *e)
{
	uint64_t until = clock_after_ms(END_WAIT_MS);
	struct sandbox *s;
	int r = 0;

	lock_take(&hub->lock);
	while ((s = all ? hub_get_any(hub, id_or_name) : hub_get(hub, id_or_name)) && s->is_held && clock_now() < until)
		lock_wait(&hub->lock, &hub->cond, until);
	if (s)
		*was = s->info.state;
	if (!s || s->info.state == SANDBOX_CREATING)
		r = hub_no_such(id_or_name, e);
	else if (s->info.state < SANDBOX_STOPPED)
		r = err_set(e, -EBUSY, "running", "sandbox %s is %s: kill it first", s->info.id,
			    sandbox_state_name(s->info.state));
	else if (s->is_held)
		r = hub_busy(s, e);
	else
		s->info.state = SANDBOX_CREATING; /* nobody sees it any more */
	while (r == 0 && s->jobs && clock_now() < until)
		lock_wait(&hub->lock, &hub->cond, until);
	if (r == 0 && s->jobs) {
		s->info.state = *was;
		r = hub_busy(s, e);
	}
	lock_drop(&hub->lock);
	*ret = s;
	return r;
}

static void give_back(struct sandbox *s, enum sandbox_state was)
{
	lock_take(&s->hub->lock);
	s->info.state = was;
	lock_drop(&s->hub->lock);
}

struct sorting {
	struct txn *t;
	unsigned whole;
	VEC(char *) others;
};

static int sort_one(void *ctx, const struct snapshot *snap)
{
	struct sorting *x = ctx;
	struct layer_words w;
	int r = layers_get(x->t, snap->name, &w);

	if (r == STORE_E_NONE)
		vec_push(&x->others, must_strdup(snap->name));
	else
		x->whole++; /* also one whose words are damaged */
	return 0;
}

static bool stays(const char *fact)
{
	return str_eq(fact, "sandbox") || str_eq(fact, "keep") || layers_own(fact);
}

/* Return: how many snapshots are left of it, then its record says that it is removed; 0: none, and nothing was done;
 * -errno. */
static int leave_snapshots(struct sandbox *s, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct sorting x = { .whole = 0 };
	size_t i;
	int r = txn_write(ws_db(s->ws), &t, e);

	x.t = t;
	if (r == 0)
		r = snapshot_each(t, sort_one, &x);
	for (i = 0; i < x.others.len; i++) {
		if (r == 0 && x.whole)
			r = snapshot_del(t, x.others.v[i], e);
		free(x.others.v[i]);
	}
	vec_fini(&x.others);
	if (r < 0 || !x.whole)
		return r < 0 && e && !e->code ? err_sys(e, r, "read the snapshots of sandbox %s", s->info.id) : r;
	r = txn_strip(t, stays, e);
	if (r == 0)
		r = record_put_removed(s, t, e);
	if (r == 0)
		r = txn_commit(&t, e);
	return r < 0 ? r : (int)x.whole;
}

/* The last that is done with it: from here on whoever removes its last snapshot frees it. Its name is another's as soon
 * as it is seen to be removed, and not before. */
static void become_removed(struct sandbox *s)
{
	struct hub *hub = s->hub;

	lock_take(&hub->lock);
	if (s->info.name[0])
		map_remove(&hub->by_name, span_str(s->info.name));
	s->info.name[0] = s->info.mount[0] = '\0';
	s->info.state = SANDBOX_REMOVED;
	snprintf(s->info.why, sizeof(s->info.why), "its snapshots stay");
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
}

static bool is_bare(struct ws *ws)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct sorting x = { .whole = 0 };
	bool none;
	size_t i;

	if (txn_read(ws_db(ws), &t, NULL) < 0)
		return false;
	x.t = t;
	none = snapshot_each(t, sort_one, &x) == 0 && !x.whole && !x.others.len;
	for (i = 0; i < x.others.len; i++)
		free(x.others.v[i]);
	vec_fini(&x.others);
	return none;
}

bool remove_is_over(const struct sandbox *s)
{
	return s->info.state == SANDBOX_REMOVED && is_bare(s->ws);
}

void remove_when_bare(struct hub *hub, const char *id)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	struct err e = ERR_NULL;
	struct hub_info i;

	if (hub_find_any(hub, id, &i, NULL) < 0 || i.state != SANDBOX_REMOVED || hub_ws_past(hub, id, &ws, NULL) < 0 ||
	    !is_bare(ws))
		return;
	ws_unref(&ws);
	if (hub_remove(hub, id, true, NULL, &e) < 0 && e.code != -ENOENT)
		log_warn("sandbox", "what is left of it goes when the daemon starts again", "id=%s why=%s", id, e.text);
}

int hub_remove(struct hub *hub, const char *id_or_name, bool snapshots, unsigned *ret_left, struct err *e)
{
	AUTO(str_free) char *id = NULL;
	enum sandbox_state was = SANDBOX_STOPPED;
	struct sandbox *s = NULL;
	int left = 0, r = take_away(hub, id_or_name, snapshots, &s, &was, e);

	if (ret_left)
		*ret_left = 0;
	if (r < 0)
		return r;
	id = must_strdup(s->info.id);
	r = hub->conf.kind->end(&hub->box_env, id, PRIV_DISK_NONE, e);
	if (r == 0 && !snapshots) {
		ws_refuse_changes(s->ws, true);
		r = left = leave_snapshots(s, e);
		ws_refuse_changes(s->ws, false);
	}
	if (r < 0) {
		give_back(s, was);
		return r;
	}
	views_drop_all(hub, id);
	fs_remove(hub->conf.fs, s->ws);
	if (hub->conf.links_dirfd >= 0 && s->info.name[0])
		unlinkat(hub->conf.links_dirfd, s->info.name, 0);
	if (was != SANDBOX_REMOVED)
		hub_tell(s, "removed", left ? "its snapshots stay" : "");
	follow_end(hub->conf.watchers, id);
	if (left) {
		become_removed(s);
		if (ret_left)
			*ret_left = (unsigned)left;
		remove_when_bare(hub, id); /* who removed the last one meanwhile did not see that */
		return 0;
	}
	hub_forget(hub, s);
	r = wsdb_remove(hub->conf.store, id, e);
	if (r == 0)
		layers_forget(hub, id);
	return r;
}
