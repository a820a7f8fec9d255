/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots as they are looked at on the mount. Each becomes a workspace of its own, made from the tree when somebody
 * looks it up the first time; its environment in the store is a cache, which goes with the snapshot, and at a start of
 * the daemon when the kernel knows nothing of it. Its name follows from what it shows, so that a snapshot that was
 * removed and made anew is another one.
 *
 * view_lock is held while one is made: its first lookup waits for the store, not for an agent.
 */
#include "host/sandbox/state.h"

#include "base/log.h"
#include "base/str.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>

enum { VIEWS_MAX = 256, HEX_B = 16 };

static const char of_key[] = "view-of";

static void id_of(const char *ws, const struct snapshot *s, char to[64])
{
	AUTO(str_free) char *what = str_printf("%s@%s@%lld@", ws, s->name, (long long)s->created_ns);
	char hex[2 * HEX_B + 1];
	struct digest d;
	size_t n = strlen(what);
	AUTO(mem_free) uint8_t *text = must_calloc(1, n + DIGEST_LEN);

	memcpy(text, what, n);
	memcpy(text + n, s->root.b, DIGEST_LEN);
	d = digest_of("view", SPAN(text, n + DIGEST_LEN));
	str_hex(d.b, HEX_B, hex);
	snprintf(to, 64, STORE_VIEW_PREFIX "%s", hex);
}

static struct ws_conf conf_of(const struct hub *hub)
{
	const struct hub_conf *c = &hub->conf;

	return (struct ws_conf){
		.store = c->store, .loop = c->loop, .work = c->work, .notify = c->notify, .dial = c->dial
	};
}

static int plant(struct hub *hub, struct ws *ws, const char *of, const struct digest *root)
{
	AUTO(store_hold_free) struct store_hold *hold = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	int r = store_hold_tree(hub->conf.store, root, &hold);

	if (r == -ESTALE)
		return -ENOENT; /* the snapshot was removed at this moment */
	if (r == 0)
		r = txn_write(ws_db(ws), &t, NULL);
	if (r == 0)
		r = txn_plant(t, root, 1, NULL);
	if (r)
		return r;
	meta_put(t, of_key, span_str(of));
	return txn_commit(&t, NULL);
}

/* view_lock is held. */
static void show(struct hub *hub, struct ws *ws, const char *of)
{
	struct view *v = NEW(struct view);

	v->ws = ws;
	snprintf(v->of, sizeof(v->of), "%s", of);
	ws_set_past(ws);
	ws_on_change(ws, &fs_listener, hub->conf.fs);
	fs_add(hub->conf.fs, ws);
	map_put(&hub->views, span_str(ws_id(ws)), v);
}

/* view_lock is held. */
static void drop(struct hub *hub, const char *id)
{
	struct view *v = map_remove(&hub->views, span_str(id));
	AUTO(str_free) char *copy = must_strdup(id);

	if (!v)
		return;
	fs_remove(hub->conf.fs, v->ws);
	(void)!wsdb_remove(hub->conf.store, copy, NULL);
	ws_unref(&v->ws);
	free(v);
}

/* Those that nobody looks at, when there are many. view_lock is held. */
static void make_room(struct hub *hub)
{
	struct map_slot *slot;
	size_t pos = 0;

	while (hub->views.len >= VIEWS_MAX && (slot = map_next(&hub->views, &pos))) {
		struct view *v = slot->value;

		if (fs_needs(hub->conf.fs, ws_id(v->ws)))
			continue;
		drop(hub, ws_id(v->ws));
		pos = 0;
	}
}

/* view_lock is held. */
static int make(struct hub *hub, const char *id, const char *of, const struct digest *root)
{
	struct ws_conf wc = conf_of(hub);
	AUTO(ws_unref) struct ws *ws = NULL;
	int r;

	make_room(hub);
	if (hub->views.len >= VIEWS_MAX)
		return -EMFILE;
	/* One that is there was left half made, or was not needed any more. */
	(void)!wsdb_remove(hub->conf.store, id, NULL);
	r = ws_open(&wc, id, true, &ws, NULL);
	if (r)
		return r;
	r = plant(hub, ws, of, root);
	if (r)
		(void)!wsdb_remove(hub->conf.store, id, NULL);
	else
		show(hub, take(&ws), of);
	return r;
}

static int find(struct ws *ws, const char *name, struct snapshot *ret)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r = txn_read(ws_db(ws), &t, NULL);

	if (r == 0)
		r = snapshot_get(t, name, ret);
	return r == STORE_E_NONE ? -ENOENT : r;
}

int views_open(void *ctx, struct ws *ws, const char *name, struct ws **ret)
{
	struct hub *hub = ctx;
	struct snapshot s;
	struct view *v;
	char id[64];
	int r = find(ws, name, &s);

	if (r)
		return r;
	id_of(ws_id(ws), &s, id);
	lock_take(&hub->view_lock);
	if (!map_get(&hub->views, span_str(id)))
		r = make(hub, id, ws_id(ws), &s.root);
	v = map_get(&hub->views, span_str(id));
	if (v)
		*ret = ws_ref(v->ws);
	lock_drop(&hub->view_lock);
	return r;
}

void views_drop(struct hub *hub, const char *of, const struct snapshot *s)
{
	char id[64];

	id_of(of, s, id);
	lock_take(&hub->view_lock);
	drop(hub, id);
	lock_drop(&hub->view_lock);
}

void views_drop_all(struct hub *hub, const char *of)
{
	struct map_slot *slot;
	size_t pos = 0;

	lock_take(&hub->view_lock);
	while ((slot = map_next(&hub->views, &pos))) {
		struct view *v = slot->value;

		if (!str_eq(v->of, of))
			continue;
		drop(hub, ws_id(v->ws));
		pos = 0;
	}
	lock_drop(&hub->view_lock);
}

/* --- start and end ------------------------------------------------------------------------------------------------ */

struct views {
	VEC(char *) ids;
};

static int note(void *ctx, const char *id)
{
	struct views *f = ctx;

	vec_push(&f->ids, must_strdup(id));
	return 0;
}

/* What it was made of: it must be a snapshot still, or nothing is known of it. */
static bool load_one(struct hub *hub, const char *id)
{
	struct ws_conf wc = conf_of(hub);
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	AUTO(str_free) char *of = NULL;
	struct span v;

	if (!fs_needs(hub->conf.fs, id) || ws_open(&wc, id, false, &ws, NULL) != 0 ||
	    txn_read(ws_db(ws), &t, NULL) != 0 || meta_get(t, of_key, &v) != 0)
		return false;
	of = span_dup(v);
	txn_abort(&t);
	show(hub, take(&ws), of);
	return true;
}

void views_load(struct hub *hub)
{
	struct views f = { .ids = { 0 } };
	size_t i;

	(void)!store_each_view(hub->conf.store, note, &f);
	lock_take(&hub->view_lock);
	for (i = 0; i < f.ids.len; i++) {
		if (!load_one(hub, f.ids.v[i]))
			(void)!wsdb_remove(hub->conf.store, f.ids.v[i], NULL);
		free(f.ids.v[i]);
	}
	lock_drop(&hub->view_lock);
	vec_fini(&f.ids);
	fs_on_past(hub->conf.fs, views_open, hub);
}

void views_end(struct hub *hub)
{
	struct view *v;

	while ((v = map_take_any(&hub->views))) {
		ws_unref(&v->ws);
		free(v);
	}
	map_fini(&hub->views);
}
