/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox wrote outside of its workspace, as snapshots and forks have it: a copy of the disk of its writable
 * layer, made while all of it stands still (docs/snapshots.md). Nobody stands on one: whoever begins with it has a copy
 * of its own. Which snapshot has which is written down with the snapshot, in its transaction; what is on the disk and
 * in no snapshot was half made or half removed, and goes when the next daemon starts.
 */
#include "host/sandbox/state.h"

#include "base/log.h"
#include "base/str.h"
#include "seal/digest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { LAYERS_OF_ONE = 200, WORDS_MAX = 512 };

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

/* --- the table ---------------------------------------------------------------------------------------------------- */

static uint64_t blocks_of(const struct hub *hub, const char *dir, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/%s/%s", hub->state_dir, dir, name);
	struct stat st;

	return lstat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
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
static bool is_known(const struct hub *hub, const char *name)
{
	size_t i;

	for (i = 0; i < hub->layers.len; i++)
		if (str_eq(hub->layers.v[i].name, name))
			return true;
	return false;
}

static void drop(struct hub *hub, const char *name)
{
	struct err e = ERR_NULL;

	if (hub->conf.kind->layer_drop && hub->conf.kind->layer_drop(&hub->box_env, name, &e) < 0)
		log_warn("sandbox", "a layer was not removed", "name=%.16s why=%s", name, e.text);
}

static void drop_unknown(struct hub *hub, const char *name)
{
	bool known;

	lock_take(&hub->lock);
	known = is_known(hub, name);
	lock_drop(&hub->lock);
	if (known)
		return;
	log_info("sandbox", "a layer that nobody has is removed", "name=%.16s", name);
	drop(hub, name);
}

void layers_sweep(struct hub *hub)
{
	(void)each_on_disk(hub, drop_unknown);
}

static void enter(struct sandbox *s, const char *snapshot, const struct layer_words *w)
{
	struct layer l = { .name = "" };

	snprintf(l.name, sizeof(l.name), "%s", w->layer);
	snprintf(l.of, sizeof(l.of), "%s", s->info.id);
	snprintf(l.snapshot, sizeof(l.snapshot), "%s", snapshot);
	snprintf(l.owner, sizeof(l.owner), "%s", s->info.owner);
	snprintf(l.template_, sizeof(l.template_), "%s", w->template_);
	lock_take(&s->hub->lock);
	vec_push(&s->hub->layers, l);
	lock_drop(&s->hub->lock);
}

void layers_forget(struct hub *hub, const char *of)
{
	VEC(struct layer) gone = { 0 };
	size_t i, kept = 0;

	lock_take(&hub->lock);
	for (i = 0; i < hub->layers.len; i++) {
		struct layer *l = &hub->layers.v[i];

		if (str_eq(l->of, of))
			vec_push(&gone, *l);
		else
			hub->layers.v[kept++] = *l;
	}
	hub->layers.len = kept;
	lock_drop(&hub->lock);
	for (i = 0; i < gone.len; i++)
		drop(hub, gone.v[i].name);
	vec_fini(&gone);
}

static void leave_out(struct hub *hub, const char *layer)
{
	size_t i;

	lock_take(&hub->lock);
	for (i = 0; i < hub->layers.len; i++)
		if (str_eq(hub->layers.v[i].name, layer))
			hub->layers.v[i--] = hub->layers.v[--hub->layers.len];
	lock_drop(&hub->lock);
}

/* First the file, so that who enters it meanwhile sees that it is gone. By its own name: another snapshot may be called
 * as its one was. */
void layers_forget_one(struct hub *hub, const char *layer)
{
	drop(hub, layer);
	leave_out(hub, layer);
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
	*ret = (struct hub_layers){ .bytes = each_on_disk(hub, NULL), .max_b = hub->conf.layers_max_b };
	lock_take(&hub->lock);
	ret->n = hub->layers.len;
	lock_drop(&hub->lock);
}

/* --- what is written down ----------------------------------------------------------------------------------------- */

static void words_of(const struct sandbox *s, const char *layer, struct layer_words *ret)
{
	const struct hub_info *i = &s->info;

	*ret = (struct layer_words){ .memory_b = i->memory_b, .cpu_milli = i->cpu_milli, .pids = i->pids };
	snprintf(ret->layer, sizeof(ret->layer), "%s", layer);
	snprintf(ret->template_, sizeof(ret->template_), "%s", i->template_);
}

int layers_put(struct sandbox *s, struct txn *t, const char *snapshot, const char *layer, struct err *e)
{
	AUTO(str_free) char *words = key_of(WORDS, snapshot);
	AUTO(str_free) char *door = key_of(DOOR, snapshot);
	struct layer_words w;
	struct buf b;
	int r;

	words_of(s, layer, &w);
	buf_init(&b, WORDS_MAX);
	buf_printf(&b, "layer %s\ntemplate %s\nmemory %llu\ncpu %u\npids %u\n", w.layer, w.template_,
		   (unsigned long long)w.memory_b, w.cpu_milli, w.pids);
	r = b.failed ? err_set(e, -E2BIG, "record", "the snapshot's record is too long") : 0;
	if (r == 0)
		meta_put(t, words, buf_span(&b));
	if (r == 0 && s->door)
		meta_put(t, door, span_str(s->door));
	buf_fini(&b);
	return r;
}

void layers_noted(struct sandbox *s, const char *snapshot, const char *layer)
{
	struct layer_words w;

	words_of(s, layer, &w);
	enter(s, snapshot, &w);
	if (!blocks_of(s->hub, "layers", layer)) /* its snapshot was removed before this was heard of */
		leave_out(s->hub, layer);
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
	AUTO(str_free) char *all = NULL;
	char *line, *save = NULL;
	struct span v;
	uint64_t n = 0;
	int r = meta_get(t, words, &v);

	*ret = (struct layer_words){ .memory_b = 0 };
	if (r)
		return r;
	all = span_dup(v);
	for (line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (!value)
			continue;
		*value++ = '\0';
		if (str_eq(line, "layer"))
			(void)!str_copy(ret->layer, sizeof(ret->layer), value);
		else if (str_eq(line, "template"))
			(void)!str_copy(ret->template_, sizeof(ret->template_), value);
		else if (num_u64(value, UINT64_MAX, &n) < 0)
			continue;
		else if (str_eq(line, "memory"))
			ret->memory_b = n;
		else if (str_eq(line, "cpu"))
			ret->cpu_milli = (uint32_t)n;
		else if (str_eq(line, "pids"))
			ret->pids = (uint32_t)n;
	}
	return ret->layer[0] ? 0 : -EIO;
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

	if (r == 0 && blocks_of(l->s->hub, "layers", w.layer))
		enter(l->s, snap->name, &w);
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
	int r = hub_ws(hub, id_or_name, &ws, e);

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

/* As many and as large as there may be: of one key at most half of it. What is being copied counts, until it is there.
 * Return: 0, then ret_b is taken off layers_coming_b by the caller; or -errno. */
static int may_keep(struct sandbox *s, uint64_t *ret_b, struct err *e)
{
	AUTO(str_free) char *box = str_printf("boxes/%s", s->info.id);
	struct hub *hub = s->hub;
	uint64_t bytes = each_on_disk(hub, NULL), own = blocks_of(hub, box, "root.img"), max = hub->conf.layers_max_b;
	VEC(struct layer) theirs = { 0 };
	size_t i, n;
	bool low;

	*ret_b = own;
	lock_take(&hub->lock);
	for (i = 0; i < hub->layers.len; i++)
		if (str_eq(hub->layers.v[i].owner, s->info.owner))
			vec_push(&theirs, hub->layers.v[i]);
	lock_drop(&hub->lock);
	n = theirs.len;
	for (i = 0; i < n; i++) /* the disk is asked without the lock */
		own += blocks_of(hub, "layers", theirs.v[i].name);
	vec_fini(&theirs);
	lock_take(&hub->lock);
	bytes += hub->layers_coming_b + *ret_b;
	low = guard_is_low(hub, e);
	if (!low && n < LAYERS_OF_ONE && bytes <= max && (!s->info.owner[0] || own <= max / 2))
		hub->layers_coming_b += *ret_b;
	lock_drop(&hub->lock);
	if (low)
		return -ENOSPC;
	if (n >= LAYERS_OF_ONE)
		return err_set(e, -EUSERS, "too-many-snapshots", "a key may have %d snapshots of whole sandboxes",
			       LAYERS_OF_ONE);
	if (bytes > max || (s->info.owner[0] && own > max / 2))
		return err_set(
			e, -EDQUOT, "layers-full",
			"snapshots may keep %llu MiB of what is outside of workspaces, all together, those of a key "
			"half of it",
			(unsigned long long)max >> 20);
	return 0;
}

int layers_keep(struct sandbox *s, char layer[2 * DIGEST_LEN + 1], void (*copied)(void *ctx), void *ctx, struct err *e)
{
	uint8_t raw[DIGEST_LEN];
	uint64_t bytes;
	int r = may_keep(s, &bytes, e);

	if (r < 0)
		return r;
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), layer);
	r = s->hub->conf.kind->layer_keep(&s->hub->box_env, s->info.id, layer, copied, ctx, e);
	lock_take(&s->hub->lock);
	s->hub->layers_coming_b -= bytes;
	lock_drop(&s->hub->lock);
	if (r < 0) {
		drop(s->hub, layer); /* it may have got its name before the answer was lost */
		layer[0] = '\0';
	}
	return r;
}

void layers_drop(struct hub *hub, const char *layer)
{
	if (layer[0])
		drop(hub, layer);
}

int layers_begin(struct sandbox *s, struct txn *t, const char *snapshot, struct hub_create *with, struct err *e)
{
	struct layer_words w;
	int r = layers_get(t, snapshot, &w);

	if (r == STORE_E_NONE)
		return 0;
	if (r < 0)
		return err_sys(e, r, "what is known of snapshot %.64s", snapshot);
	if (!blocks_of(s->hub, "layers", w.layer))
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
