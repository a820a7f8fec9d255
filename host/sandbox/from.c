/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes that begin with the files of a tree (docs/base.md). The first of a tree has them laid out by its agent.
 * When a second one of the same tree and size comes, it lays them out too, is ended at once, and its disk is kept as a
 * base; it and all that come later begin with a copy of that disk. Who comes while the base is being made waits for it.
 *
 * What bases there are is only on the disk, so that a new daemon knows what the last one had. Nobody stands on a base,
 * so the one that was used least recently may go at any time.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/ws/archive.h"
#include "seal/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static int begin_whole(struct hub *hub, const char *id, const char *snapshot, struct sandbox *s,
		       struct hub_create *with, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	struct snapshot snap;
	int r = hub_ws_past(hub, id, &ws, e);

	if (r == 0)
		r = txn_read(ws_db(ws), &t, e);
	if (r)
		return r;
	/* Its files were looked up before; it may have gone since, or be another. */
	r = snapshot_get(t, snapshot, &snap);
	if (r == STORE_E_NONE || (r == 0 && !digest_eq(&snap.root, &s->from)))
		return err_set(e, -ENOENT, "no-such-snapshot", "sandbox %s has no snapshot \"%.64s\" any more", id,
			       snapshot);
	return r < 0 ? err_sys(e, r, "read a snapshot") : layers_begin(s, t, snapshot, with, e);
}

int from_begin(struct hub *hub, const struct hub_create *what, struct sandbox *s, struct hub_create *with,
	       struct err *e)
{
	AUTO(str_free) char *id = NULL;
	const char *snapshot;
	struct hub_info from;
	int r = hub_state_split(what->from, &id, &snapshot, e);

	if (r == 0)
		r = hub_find_any(hub, id, &from, e);
	if (r == 0)
		r = hub_tree(hub, id, snapshot, &s->from, &s->hold_from, e);
	if (r == 0 && what->whole && snapshot[0])
		r = begin_whole(hub, id, snapshot, s, with, e);
	if (r)
		return r;
	s->has_from = true;
	if (!with->template_[0])
		snprintf(with->template_, sizeof(with->template_), "%s", from.template_);
	if (!with->workspace_b)
		with->workspace_b = from.workspace_b;
	return 0;
}

void from_progress(void *ctx, const struct ws_filled *now)
{
	struct sandbox *s = ctx;

	lock_take(&s->hub->lock);
	s->info.filled = *now;
	s->info.left_out = MAX(s->info.left_out, now->left_out);
	lock_drop(&s->hub->lock);
}

/* Before anybody works in it, and before its agent is told to replicate. */
static int lay_out(struct sandbox *s, const char *address, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	uint64_t began = clock_now();
	int r = link_dial_to(address, s->info.id, s->token, WIRE_FILL, clock_after_ms(HUB_START_MS), NULL, &fd, e);

	if (r == 0)
		r = ws_fill(&(struct ws_fill){ .store = s->hub->conf.store, .root = &s->from, .fd = fd,
					       .progress = from_progress, .ctx = s }, e);
	from_progress(s, &(struct ws_filled){ 0 });
	if (r == 0)
		log_info("sandbox", "laid out", "id=%s ms=%llu", s->info.id,
			 (unsigned long long)((clock_now() - began) / CLOCK_MS));
	return r;
}

/* --- bases -------------------------------------------------------------------------------------------------------- */

enum { USES_MAX = 256, NAME_LEN = 2 * DIGEST_LEN, WAIT_MS = 600000 };

struct base_use {
	unsigned times; /* that it was asked for */
	bool making;
};

/* The same tree on a disk of the same size. */
static void base_name(const struct sandbox *s, char to[NAME_LEN + 1])
{
	struct {
		struct digest tree;
		uint64_t size;
	} key = { .tree = s->from, .size = s->info.workspace_b };
	struct digest d = digest_of("base", SPAN(&key, sizeof(key)));

	str_hex(d.b, sizeof(d.b), to);
}

bool from_has_base(const struct hub *hub, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/bases/%s", hub->state_dir, name);
	struct stat st;

	return lstat(path, &st) == 0;
}

/* hub.lock is held. NULL: too many are being made. */
static struct base_use *use_of(struct hub *hub, const char *name)
{
	struct base_use *u = map_get(&hub->base_uses, span_str(name));
	struct map_slot *slot;
	size_t pos = 0;

	if (u)
		return u;
	while (hub->base_uses.len >= USES_MAX && (slot = map_next(&hub->base_uses, &pos))) {
		u = slot->value;
		if (u->making)
			continue;
		free(map_remove(&hub->base_uses, SPAN(slot->key, slot->num)));
		pos = 0;
	}
	if (hub->base_uses.len >= USES_MAX)
		return NULL;
	u = NEW(struct base_use);
	map_put(&hub->base_uses, span_str(name), u);
	return u;
}

enum base_way { BASE_NONE, BASE_MAKE, BASE_USE };

/* What to do for one more with this tree; waits while its base is being made. */
static enum base_way base_ask(struct hub *hub, const char *name)
{
	uint64_t until = clock_after_ms(WAIT_MS);
	enum base_way way = BASE_NONE;
	struct base_use *u;
	bool counted = false;

	lock_take(&hub->lock);
	for (;;) {
		if (from_has_base(hub, name)) {
			way = BASE_USE;
			break;
		}
		u = use_of(hub, name);
		if (!u)
			break;
		u->times += !counted;
		counted = true;
		if (!u->making) {
			way = u->times > 1 ? BASE_MAKE : BASE_NONE;
			u->making = way == BASE_MAKE;
			break;
		}
		if (clock_now() >= until)
			break;
		lock_wait(&hub->lock, &hub->cond, until);
	}
	lock_drop(&hub->lock);
	return way;
}

static void base_made(struct hub *hub, const char *name)
{
	struct base_use *u;

	lock_take(&hub->lock);
	u = map_get(&hub->base_uses, span_str(name));
	if (u)
		u->making = false;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
}

struct bases {
	char oldest[NAME_LEN + 1];
	int64_t oldest_ns;
	uint64_t n, bytes;
};

static void bases_look(const struct hub *hub, const char *but, struct bases *ret)
{
	AUTO(str_free) char *path = str_printf("%s/bases", hub->state_dir);
	DIR *d = opendir(path);
	struct dirent *de;
	struct stat st;

	*ret = (struct bases){ .oldest_ns = INT64_MAX };
	while (d && (de = readdir(d))) {
		if (strlen(de->d_name) != NAME_LEN || fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		ret->n++;
		ret->bytes += (uint64_t)st.st_blocks * 512;
		if (clock_ns(st.st_mtim) >= ret->oldest_ns || str_eq(de->d_name, but))
			continue;
		ret->oldest_ns = clock_ns(st.st_mtim);
		snprintf(ret->oldest, sizeof(ret->oldest), "%s", de->d_name);
	}
	if (d)
		closedir(d);
}

/* Until no more than @max of them, with @max_b bytes, are left; @but stays. */
static void bases_trim(struct hub *hub, const char *but, uint64_t max, uint64_t max_b)
{
	struct bases b;

	for (bases_look(hub, but, &b); (b.n > max || b.bytes > max_b) && b.oldest[0]; bases_look(hub, but, &b)) {
		if (hub->conf.kind->base_drop(&hub->box_env, b.oldest, NULL) < 0)
			return;
		log_info("sandbox", "base removed", "name=%.16s", b.oldest);
	}
}

void from_trim_bases(struct hub *hub, const char *but)
{
	bases_trim(hub, but, hub->conf.bases_max, hub->conf.bases_max_b);
}

void from_drop_bases(struct hub *hub)
{
	if (hub->conf.kind->base_drop)
		bases_trim(hub, "", 0, 0);
}

void from_end(struct hub *hub)
{
	void *u;

	while ((u = map_take_any(&hub->base_uses)))
		free(u);
	map_fini(&hub->base_uses);
}

/* A box of this sandbox whose disk is kept once its files are there. */
static int base_make(struct sandbox *s, const char *name, char *address, size_t size, struct err *e)
{
	struct hub *hub = s->hub;
	const struct box_kind *kind = hub->conf.kind;
	int r = life_start_box(s, address, size, e);

	if (r < 0)
		return r;
	r = lay_out(s, address, e);
	fd_close(&s->pidfd);
	if (r < 0)
		return r;
	r = kind->end(&hub->box_env, s->info.id, PRIV_DISK_WORKSPACE, e);
	if (r == 0)
		r = kind->base_keep(&hub->box_env, s->info.id, name, PRIV_DISK_WORKSPACE, e);
	if (r < 0) { /* it can begin without one */
		log_warn("sandbox", "a base could not be kept", "id=%s why=%s", s->info.id, e->text);
		*e = ERR_NULL;
		return kind->end(&hub->box_env, s->info.id, PRIV_DISK_NONE, e);
	}
	log_info("sandbox", "base made", "name=%.16s id=%s", name, s->info.id);
	from_trim_bases(hub, name);
	return 0;
}

static int base_use(struct sandbox *s, const char *name, struct err *e)
{
	uint64_t began = clock_now(), left_out;
	int r = s->hub->conf.kind->base_lay(&s->hub->box_env, name, s->info.id, PRIV_DISK_WORKSPACE, e);

	s->is_laid = r == 0;
	if (r == 0 && ws_left_out(s->hub->conf.store, &s->from, "", &left_out) == 0)
		s->info.left_out = left_out;
	if (r == 0)
		log_info("sandbox", "base copied", "id=%s ms=%llu", s->info.id,
			 (unsigned long long)((clock_now() - began) / CLOCK_MS));
	return r;
}

int from_start(struct sandbox *s, char *address, size_t size, struct err *e)
{
	struct hub *hub = s->hub;
	char name[NAME_LEN + 1];
	enum base_way way = BASE_NONE;
	struct err why = ERR_NULL;
	int r = 0;

	base_name(s, name);
	if (s->no_wait) /* nobody waits for one to be made */
		way = hub->conf.bases_max && from_has_base(hub, name) ? BASE_USE : BASE_NONE;
	else if (hub->conf.bases_max && hub->conf.kind->base_keep)
		way = base_ask(hub, name);
	if (way == BASE_MAKE) {
		r = base_make(s, name, address, size, e);
		base_made(hub, name);
	}
	if (r < 0)
		return r;
	/* It may have gone meanwhile, or have no room: then as the first one does. */
	if (way != BASE_NONE && base_use(s, name, &why) < 0)
		log_warn("sandbox", "a base could not be used", "id=%s why=%s", s->info.id, why.text);
	r = life_start_box(s, address, size, e);
	if (s->is_laid)
		s->no_wait = false;
	if (r < 0 || s->no_wait)
		return r;
	if (!s->is_laid)
		r = lay_out(s, address, e);
	if (r == 0 && ws_expect(s->ws, &s->from) < 0)
		r = err_sys(e, -EIO, "read a tree");
	return r;
}
