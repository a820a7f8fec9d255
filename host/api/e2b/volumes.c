/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume is the workspace of a sandbox in which nothing runs but its agent; other sandboxes have the same file system
 * mounted where they asked for it. So what is written is told to the store and shown on the mount like any workspace,
 * by whomever it was written. The sandbox lives as long as the volume; one that did not outlive something (a reboot) is
 * followed by another that begins with its files.
 */
#include "host/api/e2b/volume.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/api/e2b/records.h"
#include "host/api/e2b/template.h"
#include "host/net/policy.h"
#include "seal/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { RECORD_MAX = 4096, PIDS = 64, CPU_MILLI = 1000 };

/* In what is remembered of their sandboxes: the volume's id. */
#define DOOR "volume"

static const uint64_t MEMORY_B = 256 * 1024 * 1024;

static int no_volume(const char *what, struct err *e)
{
	return err_set(e, -ENOENT, "no-such-volume", "volume '%.80s' not found", what);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

/* The lock is held. */
static struct volume *find(struct e2b *e2b, const char *owner, const char *what)
{
	size_t i;

	for (i = 0; i < e2b->volumes.len; i++) {
		struct volume *v = e2b->volumes.v[i];

		if ((!owner[0] || str_eq(owner, v->owner)) && (str_eq(v->id, what) || str_eq(v->name, what)))
			return v;
	}
	return NULL;
}

static unsigned owned(struct e2b *e2b, const char *owner)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < e2b->volumes.len; i++)
		n += str_eq(e2b->volumes.v[i]->owner, owner);
	return n;
}

static void take_out(struct e2b *e2b, struct volume *v)
{
	size_t i;

	lock_take(&e2b->volumes.lock);
	for (i = 0; i < e2b->volumes.len && e2b->volumes.v[i] != v;)
		i++;
	memmove(&e2b->volumes.v[i], &e2b->volumes.v[i + 1], (--e2b->volumes.len - i) * sizeof(e2b->volumes.v[0]));
	lock_drop(&e2b->volumes.lock);
}

static char *path_of(struct e2b *e2b, const char *id)
{
	return str_printf("%s/volumes/%s.json", e2b->build_dir, id);
}

static int save(struct e2b *e2b, const struct volume *v, struct err *e)
{
	AUTO(str_free) char *path = path_of(e2b, v->id);
	struct json_writer w;
	struct buf b;
	int r;

	buf_init(&b, RECORD_MAX);
	w = (struct json_writer){ .b = &b };
	jw_open(&w, '{');
	jw_kstr(&w, "id", v->id);
	jw_kstr(&w, "owner", v->owner);
	jw_kstr(&w, "name", v->name);
	jw_kstr(&w, "token", v->token);
	jw_kstr(&w, "box", v->box);
	jw_close(&w, '}');
	r = b.failed ? -E2BIG : io_write_file(AT_FDCWD, path, buf_span(&b).p, buf_len(&b), 0600);
	buf_fini(&b);
	return r < 0 ? err_sys(e, r, "writing what is known of volume %s", v->name) : 0;
}

static bool take_record(void *ctx, const struct json *j)
{
	struct e2b *e2b = ctx;
	struct volume *v = NEW(struct volume);

	snprintf(v->id, sizeof(v->id), "%s", json_get_str(j, "id", ""));
	snprintf(v->owner, sizeof(v->owner), "%s", json_get_str(j, "owner", ""));
	snprintf(v->name, sizeof(v->name), "%s", json_get_str(j, "name", ""));
	snprintf(v->token, sizeof(v->token), "%s", json_get_str(j, "token", ""));
	snprintf(v->box, sizeof(v->box), "%s", json_get_str(j, "box", ""));
	vec_push(&e2b->volumes, v);
	return true;
}

/* --- its sandbox -------------------------------------------------------------------------------------------------- */

/* What keys built is theirs. */
static int first_template(void *ctx, const char *name)
{
	if (str_starts(name, BUILD_DISK))
		return 0;
	snprintf(ctx, PRIV_ID_MAX + 1, "%s", name);
	return 1;
}

/* Which one does not matter: nothing of it runs but what changes owners. */
static int choose_template(struct e2b *e2b, char to[PRIV_ID_MAX + 1], struct err *e)
{
	to[0] = '\0';
	if (hub_template_mark(e2b->hub, "base"))
		snprintf(to, PRIV_ID_MAX + 1, "base");
	else
		(void)!hub_template_each(e2b->hub, first_template, to);
	return to[0] ? 0 : err_set(e, -ENOENT, "no-such-template", "a volume needs a template, and there is none");
}

struct use {
	struct e2b *e2b;
	const char *id;
};

static int uses(void *ctx, const struct hub_info *i)
{
	struct use *u = ctx;
	AUTO(json_free) struct json *memory = NULL;
	const struct json *mounts;
	size_t k;

	if (e2b_memory(u->e2b, i->id, &memory, NULL) < 0)
		return 0;
	mounts = json_get(memory, "volumeMounts");
	for (k = 0; k < json_len(mounts); k++)
		if (str_eq(json_get_str(json_at(mounts, k), "id", ""), u->id))
			return 1;
	return 0;
}

static bool is_used(struct e2b *e2b, const char *id)
{
	struct use u = { .e2b = e2b, .id = id };

	return hub_each(e2b->hub, false, uses, &u) != 0;
}

static void set_box(struct e2b *e2b, struct volume *v, const char *box)
{
	lock_take(&e2b->volumes.lock);
	snprintf(v->box, sizeof(v->box), "%s", box);
	lock_drop(&e2b->volumes.lock);
}

static void drop_box(struct e2b *e2b, const char *box)
{
	struct err why = ERR_NULL;

	(void)!hub_kill(e2b->hub, box, 0, NULL);
	if (hub_remove(e2b->hub, box, true, NULL, &why) < 0)
		log_warn("e2b", "a sandbox of a volume was left behind", "id=%s why=%s", box, why.text);
}

/* Of one whose agent died, the disk that was kept may have more than the store: it stays. */
static void drop_old(struct e2b *e2b, const struct volume *v, const struct hub_info *was)
{
	if (was->state == SANDBOX_STOPPED)
		drop_box(e2b, was->id);
	else
		log_warn("e2b", "a volume goes on without its failed sandbox, which is kept with its disk",
			 "volume=%s id=%s", v->name, was->id);
}

static int make_box(struct e2b *e2b, struct volume *v, const struct hub_info *was, struct err *e)
{
	struct hub_create what = { .memory_b = MEMORY_B, .cpu_milli = CPU_MILLI, .pids = PIDS };
	AUTO(str_free) char *door = str_printf("{\"" DOOR "\":\"%s\"}", v->id);
	struct policy network = { .internet = false };
	struct hub_info info;
	uint8_t raw[8];
	char hex[2 * sizeof(raw) + 1], before[PRIV_ID_MAX + 1];
	int r = choose_template(e2b, what.template_, e);

	if (r < 0)
		return r;
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), hex);
	snprintf(before, sizeof(before), "%s", v->box);
	snprintf(what.name, sizeof(what.name), HUB_VOLUME "%s", hex);
	snprintf(what.owner, sizeof(what.owner), "%s", v->owner);
	if (v->owner[0])
		what.owner_max = keys_sandboxes(e2b->keys, v->owner);
	what.network = &network;
	what.door = span_str(door);
	if (was) {
		what.from = was->id;
		what.workspace_b = was->workspace_b;
	}
	r = hub_create(e2b->hub, &what, &info, e);
	if (r < 0)
		return r;
	r = hub_set_timeout(e2b->hub, info.id, 0, e);
	set_box(e2b, v, info.id);
	if (r == 0)
		r = save(e2b, v, e);
	if (r < 0) {
		set_box(e2b, v, before);
		drop_box(e2b, info.id);
	} else if (was) {
		drop_old(e2b, v, was);
	}
	return r;
}

/* @v is busy, so nobody else changes it. */
static int start(struct e2b *e2b, struct volume *v, struct err *e)
{
	struct hub_info was;
	bool there = v->box[0] && hub_find(e2b->hub, v->box, &was, NULL) == 0;

	if (there && (was.state == SANDBOX_PAUSING || was.state == SANDBOX_PAUSED || was.state == SANDBOX_RESUMING))
		return hub_resume(e2b->hub, was.id, 0, false, e);
	if (there && was.state < SANDBOX_STOPPED)
		return err_set(e, -EAGAIN, "busy", "the sandbox of volume '%s' is ending", v->name);
	/* They write to the disk of the old one: two would go apart. */
	if (v->box[0] && is_used(e2b, v->id))
		return err_set(e, -EBUSY, "volume-used",
			       "volume '%s' has ended below a sandbox that still uses it: end that first", v->name);
	if (v->box[0] && !there)
		log_warn("e2b", "the sandbox of a volume is gone, it begins empty", "volume=%s id=%s", v->name, v->box);
	return make_box(e2b, v, there ? &was : NULL, e);
}

static bool runs(struct e2b *e2b, const char *box)
{
	struct hub_info i;

	return box[0] && hub_find(e2b->hub, box, &i, NULL) == 0 && i.state == SANDBOX_RUNNING;
}

/* By the id alone: another key's may be called so. */
static void let_go(struct e2b *e2b, const char *id)
{
	size_t i;

	lock_take(&e2b->volumes.lock);
	for (i = 0; i < e2b->volumes.len; i++) {
		struct volume *v = e2b->volumes.v[i];

		if (str_eq(v->id, id) && v->mounts)
			v->mounts--;
	}
	lock_drop(&e2b->volumes.lock);
}

/* It runs afterwards, as @ret->box, and is not removed until let_go(). */
static int ensure(struct e2b *e2b, const char *owner, const char *what, struct volume *ret, struct err *e)
{
	struct volume *v;
	bool mine;
	int r = 0;

	lock_take(&e2b->volumes.lock);
	v = find(e2b, owner, what);
	mine = v && !v->is_busy;
	if (mine) {
		v->mounts++;
		*ret = *v;
	}
	lock_drop(&e2b->volumes.lock);
	if (!v)
		return no_volume(what, e);
	if (!mine)
		return err_set(e, -EAGAIN, "busy", "somebody works on volume '%.80s'", what);
	if (runs(e2b, ret->box))
		return 0;
	lock_take(&e2b->volumes.lock);
	mine = !v->is_busy;
	if (mine)
		v->is_busy = true;
	else
		v->mounts--;
	lock_drop(&e2b->volumes.lock);
	if (!mine)
		return err_set(e, -EAGAIN, "busy", "volume '%s' is being started", ret->name);
	if (!runs(e2b, v->box))
		r = start(e2b, v, e);
	lock_take(&e2b->volumes.lock);
	*ret = *v;
	v->is_busy = false;
	v->mounts -= r < 0;
	lock_drop(&e2b->volumes.lock);
	return r;
}

/* --- at the start ------------------------------------------------------------------------------------------------- */

/* Sandboxes of volumes that no record names: of a daemon that died between the two. */
struct orphans {
	struct e2b *e2b;
	VEC(char *) ids;
};

static int is_orphan(void *ctx, const struct hub_info *i)
{
	struct orphans *o = ctx;
	AUTO(json_free) struct json *door = NULL;
	size_t k;

	/* One that has failed may be all that is left of something. */
	if (!str_starts(i->name, HUB_VOLUME) || i->state == SANDBOX_FAILED ||
	    e2b_memory(o->e2b, i->id, &door, NULL) < 0 || !json_get_str(door, DOOR, NULL))
		return 0;
	for (k = 0; k < o->e2b->volumes.len; k++)
		if (str_eq(o->e2b->volumes.v[k]->box, i->id))
			return 0;
	vec_push(&o->ids, must_strdup(i->id));
	return 0;
}

static void end_orphans(void *ctx)
{
	struct orphans *o = ctx;
	size_t i;

	for (i = 0; i < o->ids.len; i++) {
		if (!__atomic_load_n(&o->e2b->stopping, __ATOMIC_RELAXED)) {
			log_warn("e2b", "a sandbox of no volume is ended", "id=%s", o->ids.v[i]);
			drop_box(o->e2b, o->ids.v[i]);
		}
		free(o->ids.v[i]);
	}
	vec_fini(&o->ids);
	free(o);
}

/* Before anybody can make a volume. */
static void find_orphans(struct e2b *e2b)
{
	struct orphans *o = NEW(struct orphans);

	o->e2b = e2b;
	hub_each(e2b->hub, true, is_orphan, o);
	pool_run(e2b->starters, end_orphans, o);
}

static void start_all(void *ctx)
{
	struct e2b *e2b = ctx;
	struct err e = ERR_NULL;
	char owner[sizeof(((struct volume *)NULL)->owner)];
	struct volume v;
	size_t i;

	for (i = 0;; i++) {
		lock_take(&e2b->volumes.lock);
		if (i < e2b->volumes.len)
			v = *e2b->volumes.v[i];
		else
			v.id[0] = '\0';
		lock_drop(&e2b->volumes.lock);
		if (!v.id[0] || __atomic_load_n(&e2b->stopping, __ATOMIC_RELAXED))
			return;
		snprintf(owner, sizeof(owner), "%s", v.owner);
		if (ensure(e2b, owner, v.id, &v, &e) < 0)
			log_warn("e2b", "a volume does not run", "name=%s why=%s", v.name, e.text);
		else
			let_go(e2b, v.id);
	}
}

int volumes_begin(struct e2b *e2b, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/volumes", e2b->build_dir);
	bool all;
	int r;

	lock_init(&e2b->volumes.lock, "volumes", LOCK_LEAF);
	r = records_each(path, "a volume", RECORD_MAX, take_record, e2b, &all, e);
	if (r < 0)
		return r;
	if (all) /* else it may be the one that cannot be read */
		find_orphans(e2b);
	if (e2b->volumes.len)
		pool_run(e2b->starters, start_all, e2b);
	return 0;
}

void volumes_fini(struct e2b *e2b)
{
	size_t i;

	for (i = 0; i < e2b->volumes.len; i++)
		free(e2b->volumes.v[i]);
	vec_fini(&e2b->volumes);
}

/* --- the control plane -------------------------------------------------------------------------------------------- */

static bool name_ok(const char *s)
{
	size_t n = strlen(s);

	return n && n <= VOLUME_NAME_MAX &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;
}

static void put(struct e2b *e2b, struct json_writer *w, const struct volume *v, bool all)
{
	jw_open(w, '{');
	jw_kstr(w, "volumeID", v->id);
	jw_kstr(w, "name", v->name);
	if (all) {
		jw_kstr(w, "token", v->token);
		if (e2b->domain[0])
			jw_kstr(w, "domain", e2b->domain);
	}
	jw_close(w, '}');
}

int e2b_volume_create(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct json_writer w = { .b = &res->body };
	struct volume *v;
	struct digest d;
	uint8_t raw[DIGEST_LEN];
	const char *name, *owner = http_who(req)->id;
	size_t i;
	int r = e2b_body(req, &j, e);

	if (r < 0)
		return r;
	name = json_get_str(j, "name", "");
	if (!name_ok(name))
		return err_set(e, -EINVAL, "bad-name", "a volume's name is 1 to %d letters, digits, _ and -",
			       VOLUME_NAME_MAX);
	v = NEW(struct volume);
	random_bytes(raw, sizeof(raw));
	d = digest_of("e2b-volume", SPAN(raw, sizeof(raw)));
	str_hex(d.b, VOLUME_ID / 2, v->id);
	v->id[0] = (char)('a' + d.b[0] % 26);
	random_bytes(raw, sizeof(raw));
	str_hex(raw, VOLUME_TOKEN / 2, v->token);
	snprintf(v->owner, sizeof(v->owner), "%s", owner);
	snprintf(v->name, sizeof(v->name), "%s", name);
	v->is_busy = true;
	lock_take(&e2b->volumes.lock);
	for (i = 0; i < e2b->volumes.len; i++)
		if (str_eq(e2b->volumes.v[i]->owner, owner) && str_eq(e2b->volumes.v[i]->name, name))
			r = err_set(e, -EEXIST, "name-taken", "a volume called '%s' exists", name);
	if (r == 0 && owned(e2b, owner) >= VOLUMES_MAX)
		r = err_set(e, -EUSERS, "too-many-volumes", "a key may have %d volumes", VOLUMES_MAX);
	if (r == 0)
		vec_push(&e2b->volumes, v);
	lock_drop(&e2b->volumes.lock);
	if (r < 0) {
		free(v);
		return r;
	}
	r = start(e2b, v, e);
	if (r < 0) {
		take_out(e2b, v);
		free(v);
		return r == -EAGAIN ? err_set(e, -EUSERS, "too-many-sandboxes", "as many sandboxes run as may") : r;
	}
	res->status = 201;
	put(e2b, &w, v, true);
	lock_take(&e2b->volumes.lock);
	v->is_busy = false;
	lock_drop(&e2b->volumes.lock);
	return 0;
}

int e2b_volume_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	const char *owner = http_who(req)->id;
	struct json_writer w = { .b = &res->body };
	size_t i;

	(void)e;
	jw_open(&w, '[');
	lock_take(&e2b->volumes.lock);
	for (i = 0; i < e2b->volumes.len; i++)
		if (!owner[0] || str_eq(owner, e2b->volumes.v[i]->owner))
			put(e2b, &w, e2b->volumes.v[i], false);
	lock_drop(&e2b->volumes.lock);
	jw_close(&w, ']');
	return 0;
}

int e2b_volume_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	struct volume *v;

	lock_take(&e2b->volumes.lock);
	v = find(e2b, http_who(req)->id, http_segment(req, 0));
	if (v)
		put(e2b, &w, v, true);
	lock_drop(&e2b->volumes.lock);
	return v ? 0 : no_volume(http_segment(req, 0), e);
}

int e2b_volume_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(str_free) char *path = NULL;
	struct volume *v;
	char id[VOLUME_ID + 1] = "";
	bool busy = false, used = false;
	int r = 0;

	lock_take(&e2b->volumes.lock);
	v = find(e2b, http_who(req)->id, http_segment(req, 0));
	if (v) {
		snprintf(id, sizeof(id), "%s", v->id);
		busy = v->is_busy;
		used = v->mounts > 0;
		v->is_busy |= !used;
	}
	lock_drop(&e2b->volumes.lock);
	if (!v)
		return no_volume(http_segment(req, 0), e);
	if (busy)
		return err_set(e, -EBUSY, "busy", "somebody works on volume '%s'", id);
	if (used || is_used(e2b, id))
		r = err_set(e, -EBUSY, "volume-used", "a sandbox uses volume '%s'", id);
	if (r == 0) {
		(void)!hub_kill(e2b->hub, v->box, 0, NULL);
		r = hub_remove(e2b->hub, v->box, true, NULL, e);
		if (r == -ENOENT) {
			*e = ERR_NULL;
			r = 0;
		}
	}
	/* The record last: who dies before can be asked once more. */
	path = path_of(e2b, id);
	if (r == 0 && unlink(path) < 0 && errno != ENOENT)
		r = err_sys(e, -errno, "%s", path);
	if (r < 0) {
		if (!used) {
			lock_take(&e2b->volumes.lock);
			v->is_busy = false;
			lock_drop(&e2b->volumes.lock);
		}
		return r;
	}
	take_out(e2b, v);
	free(v);
	res->status = 204;
	return 0;
}

/* --- for sandboxes ------------------------------------------------------------------------------------------------ */

int volumes_mount(struct e2b *e2b, const char *owner, const struct json *mounts, struct hub_create *what,
		  struct volume_mounts *m, struct buf *to, struct err *e)
{
	struct json_writer w = { .b = to };
	size_t i, k;
	int r = 0;

	if (json_len(mounts) > PRIV_VOLUMES_MAX)
		return err_set(e, -EINVAL, "bad-request", "a sandbox has at most %d volumes", PRIV_VOLUMES_MAX);
	jw_open(&w, '[');
	for (i = 0; r == 0 && i < json_len(mounts); i++) {
		const char *name = json_get_str(json_at(mounts, i), "name", "");
		const char *path = json_get_str(json_at(mounts, i), "path", "");
		struct volume v = { .id = "" };

		if (!priv_volume_path(path))
			r = err_set(e, -EINVAL, "bad-request", "no volume can be mounted at '%.100s'", path);
		for (k = 0; k < i; k++)
			if (str_eq(m->room[k].path, path))
				r = err_set(e, -EINVAL, "bad-request", "two volumes at '%.100s'", path);
		if (r == 0)
			r = ensure(e2b, owner, name, &v, e);
		if (r < 0)
			break;
		snprintf(m->ids[m->n++], sizeof(m->ids[0]), "%s", v.id);
		snprintf(m->room[i].box, sizeof(m->room[i].box), "%s", v.box);
		snprintf(m->room[i].path, sizeof(m->room[i].path), "%s", path);
		jw_open(&w, '{');
		jw_kstr(&w, "name", v.name);
		jw_kstr(&w, "path", path);
		jw_kstr(&w, "id", v.id);
		jw_close(&w, '}');
	}
	jw_close(&w, ']');
	what->volumes = m->room;
	what->n_volumes = (uint32_t)json_len(mounts);
	if (r == -ENOENT) /* to them a mistake of the request */
		e->code = r = -EINVAL;
	return r;
}

void volumes_let_go(struct e2b *e2b, struct volume_mounts *m)
{
	while (m->n)
		let_go(e2b, m->ids[--m->n]);
}
