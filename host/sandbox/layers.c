/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox wrote outside of its workspace, as snapshots and forks have it: a copy of the disk of its writable
 * layer, made while all of it stands still (docs/snapshots.md). Nobody stands on one: whoever begins with it has a copy
 * of its own. Which snapshot has which is written down with the snapshot, in its transaction; what is on the disk and
 * in no snapshot was half made or half removed, and goes when the next daemon starts.
 *
 * The table has those of snapshots, and those that are being made or that a fork has: what they take counts from before
 * they are copied until their file is gone.
 */
#include "host/sandbox/state.h"

#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "seal/digest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { LAYERS_OF_ONE = 200 };

#define WORDS "layer/"	/* facts of a snapshot in its workspace: what a layer is called, and what it was made of */
#define DOOR "door/"	/* what the front door remembered of the sandbox */

static char *key_of(const char *kind, const char *snapshot)
{
	return str_printf("%s%s", kind, snapshot);
}

bool layers_can(const struct sandbox *s)
{
	return s->hub->conf.kind->layer_keep && s->root != PRIV_ROOT_PLAIN && s->info.state < SANDBOX_STOPPED;
}

bool layers_own(const char *fact)
{
	return str_starts(fact, WORDS) || str_starts(fact, DOOR);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

/* Return: 0; -ENOENT; -errno: nothing is known of it. */
static int look(const struct hub *hub, const char *dir, const char *name, uint64_t *ret_b)
{
	AUTO(str_free) char *path = str_printf("%s/%s/%s", hub->state_dir, dir, name);
	struct stat st;

	*ret_b = 0;
	if (lstat(path, &st) < 0)
		return -errno;
	*ret_b = (uint64_t)st.st_blocks * 512;
	return 0;
}

static uint64_t blocks_of(const struct hub *hub, const char *dir, const char *name)
{
	uint64_t bytes;

	(void)!look(hub, dir, name, &bytes);
	return bytes;
}

/* What cannot be looked at is there: only who hears that it is not may forget it. */
static bool is_there(const struct hub *hub, const char *layer)
{
	uint64_t bytes;

	return look(hub, "layers", layer, &bytes) != -ENOENT;
}

/* All of them, also those that forks under way have. @fn may be NULL. */
static uint64_t each_on_disk(struct hub *hub, void (*fn)(struct hub *hub, const char *name))
{
	AUTO(str_free) char *path = str_printf("%s/layers", hub->state_dir);
	DIR *d = opendir(path);
	struct dirent *de;
	uint64_t bytes = 0;

	while (d && (de = readdir(d))) {
		if (strlen(de->d_name) != 2 * DIGEST_LEN)
			continue;
		bytes += blocks_of(hub, "layers", de->d_name);
		if (fn)
			fn(hub, de->d_name);
	}
	if (d)
		closedir(d);
	return bytes;
}

/* hub.lock is held. */
static struct layer *known(struct hub *hub, const char *name)
{
	size_t i;

	for (i = 0; i < hub->layers.len; i++)
		if (str_eq(hub->layers.v[i].name, name))
			return &hub->layers.v[i];
	return NULL;
}

/* No snapshot has it any more; as long as its file is there it counts for who owned it. hub.lock is held. */
static void nobodys(struct layer *l)
{
	l->of[0] = l->snapshot[0] = l->template_[0] = '\0';
}

/* While somebody reads them (carry.c) none goes: it is put off until he is done. */
static bool put_off(struct hub *hub, const char *name)
{
	struct layer *l, new = { .is_late = true };
	bool stays;

	lock_take(&hub->lock);
	stays = hub->layers_stay > 0;
	l = stays ? known(hub, name) : NULL;
	if (l) {
		nobodys(l);
		l->is_late = true;
	} else if (stays) {
		snprintf(new.name, sizeof(new.name), "%s", name);
		vec_push(&hub->layers, new);
	}
	lock_drop(&hub->lock);
	return stays;
}

static void leave_out(struct hub *hub, const char *name)
{
	struct layer *l;

	lock_take(&hub->lock);
	l = known(hub, name);
	if (l)
		*l = hub->layers.v[--hub->layers.len];
	lock_drop(&hub->lock);
}

/* First the file, so that who enters it meanwhile sees that it is gone. By its own name: another snapshot may be called
 * as its one was. */
void layers_forget_one(struct hub *hub, const char *layer)
{
	struct err e = ERR_NULL;

	if (put_off(hub, layer))
		return;
	if (hub->conf.kind->layer_drop && hub->conf.kind->layer_drop(&hub->box_env, layer, &e) < 0)
		log_warn("sandbox", "a layer was not removed", "name=%.16s why=%s", layer, e.text);
	leave_out(hub, layer);
}

/* Those that @fn says of are no snapshot's from now on, and go. */
static void forget_those(struct hub *hub, bool (*fn)(const struct layer *l, const char *of), const char *of)
{
	VEC(struct layer) gone = { 0 };
	size_t i;

	lock_take(&hub->lock);
	for (i = 0; i < hub->layers.len; i++) {
		struct layer *l = &hub->layers.v[i];

		if (!fn(l, of))
			continue;
		nobodys(l);
		l->is_late = false; /* nobody else drops it, too */
		vec_push(&gone, *l);
	}
	lock_drop(&hub->lock);
	for (i = 0; i < gone.len; i++)
		layers_forget_one(hub, gone.v[i].name);
	vec_fini(&gone);
}

static bool is_of(const struct layer *l, const char *of)
{
	return str_eq(l->of, of);
}

void layers_forget(struct hub *hub, const char *of)
{
	forget_those(hub, is_of, of);
}

static bool is_late(const struct layer *l, const char *of)
{
	(void)of;
	return l->is_late;
}

void layers_stay(struct hub *hub, bool on)
{
	bool none;

	lock_take(&hub->lock);
	hub->layers_stay += on ? 1 : -1U;
	none = !hub->layers_stay;
	lock_drop(&hub->lock);
	if (none)
		forget_those(hub, is_late, NULL);
}

static void drop_unknown(struct hub *hub, const char *name)
{
	bool has;

	lock_take(&hub->lock);
	has = known(hub, name);
	lock_drop(&hub->lock);
	if (has)
		return;
	log_info("sandbox", "a layer that nobody has is removed", "name=%.16s", name);
	layers_forget_one(hub, name);
}

void layers_sweep(struct hub *hub)
{
	(void)each_on_disk(hub, drop_unknown);
}

/* @made: by this daemon, so that it is in the table; if it is not any more, or late, its snapshot was removed
 * already. */
static void enter(struct sandbox *s, const struct snapshot *snap, const struct layer_words *w, bool made)
{
	struct hub *hub = s->hub;
	struct layer l = { .created_ns = snap->created_ns, .bytes = blocks_of(hub, "layers", w->layer) }, *is;

	snprintf(l.name, sizeof(l.name), "%s", w->layer);
	snprintf(l.of, sizeof(l.of), "%s", s->info.id);
	snprintf(l.snapshot, sizeof(l.snapshot), "%s", snap->name);
	snprintf(l.owner, sizeof(l.owner), "%s", s->info.owner);
	snprintf(l.template_, sizeof(l.template_), "%s", w->template_);
	lock_take(&hub->lock);
	is = known(hub, l.name);
	if (is && !is->is_late)
		*is = l;
	else if (!is && !made)
		vec_push(&hub->layers, l);
	lock_drop(&hub->lock);
}

bool layers_use_template(const struct hub *hub, const char *template_)
{
	size_t i;

	for (i = 0; i < hub->layers.len; i++)
		if (str_eq(hub->layers.v[i].template_, template_))
			return true;
	return false;
}

void hub_layers(struct hub *hub, struct hub_layers *ret)
{
	size_t i;

	*ret = (struct hub_layers){ .bytes = each_on_disk(hub, NULL), .max_b = hub->conf.layers_max_b };
	lock_take(&hub->lock);
	for (i = 0; i < hub->layers.len; i++)
		ret->n += hub->layers.v[i].snapshot[0] != '\0'; /* else of a fork that is under way */
	lock_drop(&hub->lock);
}

/* --- what is written down ----------------------------------------------------------------------------------------- */

static void words_of(const struct sandbox *s, const struct kept_layer *layer, struct layer_words *ret)
{
	const struct hub_info *i = &s->info;

	*ret = (struct layer_words){ .memory_b = i->memory_b,
				     .cpu_milli = i->cpu_milli,
				     .pids = i->pids,
				     .size = layer->size,
				     .digest = layer->digest };
	snprintf(ret->layer, sizeof(ret->layer), "%s", layer->name);
	snprintf(ret->template_, sizeof(ret->template_), "%s", i->template_);
}

int layers_put(struct sandbox *s, struct txn *t, const char *snapshot, const struct kept_layer *layer, struct err *e)
{
	AUTO(str_free) char *words = key_of(WORDS, snapshot);
	AUTO(str_free) char *door = key_of(DOOR, snapshot);
	struct layer_words w;
	struct buf b;
	int r;

	words_of(s, layer, &w);
	buf_init(&b, LAYER_WORDS_MAX);
	layer_words_put(&b, &w);
	r = b.failed ? err_set(e, -E2BIG, "record", "the snapshot's record is too long") : 0;
	if (r == 0)
		meta_put(t, words, buf_span(&b));
	if (r == 0 && s->door)
		meta_put(t, door, span_str(s->door));
	buf_fini(&b);
	return r;
}

void layers_noted(struct sandbox *s, const struct snapshot *snapshot, const struct kept_layer *layer)
{
	struct layer_words w;

	words_of(s, layer, &w);
	enter(s, snapshot, &w, true);
}

int layers_del(struct txn *t, const char *snapshot)
{
	AUTO(str_free) char *words = key_of(WORDS, snapshot);
	AUTO(str_free) char *door = key_of(DOOR, snapshot);
	int r = meta_del(t, words), q = meta_del(t, door);

	return r < 0 ? r : MIN(q, 0);
}

int layers_get(struct txn *t, const char *snapshot, struct layer_words *ret)
{
	AUTO(str_free) char *words = key_of(WORDS, snapshot);
	struct span v;
	int r = meta_get(t, words, &v);

	*ret = (struct layer_words){ .memory_b = 0 };
	return r ? r : layer_words_read(v, ret);
}

struct loading {
	struct sandbox *s;
	struct txn *t;
};

static int load_one(void *ctx, const struct snapshot *snap)
{
	struct loading *l = ctx;
	struct layer_words w;
	int r = layers_get(l->t, snap->name, &w);

	if (r == 0 && is_there(l->s->hub, w.layer))
		enter(l->s, snap, &w, false);
	return MIN(r, 0);
}

int layers_load(struct sandbox *s)
{
	AUTO(txn_abort) struct txn *t = NULL;
	struct loading l = { .s = s };
	int r = s->hub->conf.kind->layer_keep ? txn_read(ws_db(s->ws), &t, NULL) : 0;

	if (r < 0 || !t)
		return r;
	l.t = t;
	return snapshot_each(t, load_one, &l);
}

int hub_snapshot_door(struct hub *hub, const char *id_or_name, const char *snapshot, struct buf *to, struct err *e)
{
	AUTO(str_free) char *door = key_of(DOOR, snapshot);
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	struct span v;
	int r = hub_ws_past(hub, id_or_name, &ws, e);

	if (r == 0)
		r = txn_read(ws_db(ws), &t, e);
	if (r)
		return r;
	r = meta_get(t, door, &v);
	if (r == 0)
		r = buf_append(to, v.p, v.len);
	return r < 0 ? err_sys(e, r, "what is known of snapshot %.64s", snapshot) : 0;
}

/* --- making and using --------------------------------------------------------------------------------------------- */

/* hub.lock is held. */
static int fits(const struct sandbox *s, uint64_t more, struct err *e)
{
	struct hub *hub = s->hub;
	uint64_t all = more, own = more, max = hub->conf.layers_max_b;
	size_t i, n = 0;

	for (i = 0; i < hub->layers.len; i++) {
		const struct layer *l = &hub->layers.v[i];
		bool is_own = str_eq(l->owner, s->info.owner);

		all += l->bytes;
		own += is_own ? l->bytes : 0;
		n += is_own;
	}
	if (guard_is_low(hub, e))
		return -ENOSPC;
	if (n >= LAYERS_OF_ONE)
		return err_set(e, -EUSERS, "too-many-snapshots", "a key may have %d snapshots of whole sandboxes",
			       LAYERS_OF_ONE);
	if (all <= max && (!s->info.owner[0] || own <= max / 2))
		return 0;
	return err_set(e, -EDQUOT, "layers-full",
		       "snapshots may keep %llu MiB of what is outside of workspaces, all together, those of a key "
		       "half of it",
		       (unsigned long long)max >> 20);
}

/* As many and as large as there may be: of one key at most half of it. From here on it counts, as large as its disk is
 * now, so that two at once do not both find the same room. */
static int reserve(struct sandbox *s, const char *name, struct err *e)
{
	AUTO(str_free) char *box = str_printf("boxes/%s", s->info.id);
	struct layer l = { .bytes = blocks_of(s->hub, box, "root.img") };
	int r;

	snprintf(l.name, sizeof(l.name), "%s", name);
	snprintf(l.owner, sizeof(l.owner), "%s", s->info.owner);
	snprintf(l.template_, sizeof(l.template_), "%s", s->info.template_);
	lock_take(&s->hub->lock);
	r = fits(s, l.bytes, e);
	if (r == 0)
		vec_push(&s->hub->layers, l);
	lock_drop(&s->hub->lock);
	return r;
}

int layers_keep(struct sandbox *s, struct kept_layer *layer, void (*copied)(void *ctx), void *ctx, struct err *e)
{
	uint8_t raw[DIGEST_LEN];
	int r;

	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), layer->name);
	r = reserve(s, layer->name, e);
	if (r < 0) {
		layer->name[0] = '\0';
		return r;
	}
	r = s->hub->conf.kind->layer_keep(&s->hub->box_env, s->info.id, layer->name, copied, ctx, e);
	if (r < 0) { /* it may have got its name before the answer was lost */
		layers_forget_one(s->hub, layer->name);
		layer->name[0] = '\0';
	}
	return r;
}

/* One without a digest is as good, but that nobody can tell what became of it: the daemon's end does not wait. */
void layers_measure(struct hub *hub, struct kept_layer *layer)
{
	AUTO(fd_close) int fd = -1;
	struct err e = ERR_NULL;
	int r;

	if (!layer->name[0])
		return;
	r = hub->conf.kind->layer_open(&hub->box_env, layer->name, &fd, &e);
	if (r == 0)
		r = layer_digest(fd, &hub->ending, &layer->size, &layer->digest);
	if (r < 0)
		log_warn("sandbox", "a layer has no digest", "name=%.16s why=%s", layer->name,
			 e.code ? e.text : err_name(-r));
}

void layers_drop(struct hub *hub, const char *layer)
{
	if (layer[0])
		layers_forget_one(hub, layer);
}

int layers_begin(struct sandbox *s, struct txn *t, const char *snapshot, struct hub_create *with, struct err *e)
{
	struct layer_words w;
	int r = layers_get(t, snapshot, &w);

	if (r == STORE_E_NONE)
		return 0;
	if (r < 0)
		return err_sys(e, r, "what is known of snapshot %.64s", snapshot);
	if (!is_there(s->hub, w.layer))
		return err_set(e, -ENOENT, "no-layer",
			       "what was written outside of the workspace is not there any more for snapshot %.64s",
			       snapshot);
	s->is_layered = true;
	snprintf(s->root_from, sizeof(s->root_from), "%s", w.layer);
	snprintf(with->template_, sizeof(with->template_), "%s", w.template_);
	with->memory_b = with->memory_b ? with->memory_b : w.memory_b;
	with->cpu_milli = with->cpu_milli ? with->cpu_milli : w.cpu_milli;
	with->pids = with->pids ? with->pids : w.pids;
	return 0;
}
