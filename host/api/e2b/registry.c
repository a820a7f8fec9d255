/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of templates that clients build: names, tags, builds. A file of JSON for each, replaced as a whole. The
 * root file systems themselves are templates of the hub, named after a hash of all that they were made of; one that no
 * build names is removed. Names are each key's own: two keys may have the same one and never see the other's.
 */
#include "host/api/e2b/template.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/api/e2b/records.h"
#include "seal/digest.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { RECORD_MAX = 1024 * 1024 };

static const char *const states[] = { "waiting", "building", "ready", "error" };

/* --- names -------------------------------------------------------------------------------------------------------- */

bool templates_word_ok(const char *s)
{
	size_t n = strlen(s);

	return n && n <= TEMPLATE_NAME_MAX && isalnum((unsigned char)s[0]) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

int templates_split(const char *text, char name[TEMPLATE_NAME_MAX + 1], char tag[TEMPLATE_NAME_MAX + 1], struct err *e)
{
	const char *slash = strchr(text, '/'), *colon;
	AUTO(str_free) char *first = NULL;
	char *p;

	if (slash)
		text = slash + 1;
	colon = strchr(text, ':');
	first = colon ? span_dup(SPAN(text, (size_t)(colon - text))) : must_strdup(text);
	if (!templates_word_ok(first) || (colon && !templates_word_ok(colon + 1)))
		return err_set(e, -EINVAL, "bad-name",
			       "names and tags of templates are 1 to %d letters, digits and _ . -, not \"%.80s\"",
			       TEMPLATE_NAME_MAX, text);
	for (p = first; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	snprintf(name, TEMPLATE_NAME_MAX + 1, "%s", first);
	snprintf(tag, TEMPLATE_NAME_MAX + 1, "%s", colon ? colon + 1 : "");
	return 0;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

void build_free(struct build *b)
{
	size_t i;

	for (i = 0; i < b->tags.len; i++)
		free(b->tags.v[i]);
	for (i = 0; i < b->lines.len; i++)
		free(b->lines.v[i].text);
	vec_fini(&b->tags);
	vec_fini(&b->lines);
	str_free(&b->config);
	str_free(&b->why);
	free(b);
}

static void template_free(struct template *t)
{
	size_t i;

	for (i = 0; i < t->builds.len; i++)
		build_free(t->builds.v[i]);
	vec_fini(&t->builds);
	vec_fini(&t->tags);
	free(t);
}

void template_ref(struct template *t)
{
	t->refs++;
}

void template_unref(struct e2b *e2b, struct template *t)
{
	bool last;

	lock_take(&e2b->templates.lock);
	last = --t->refs == 0;
	lock_drop(&e2b->templates.lock);
	if (last)
		template_free(t);
}

struct template *templates_find(struct e2b *e2b, const char *owner, const char *id_or_name, bool any)
{
	struct template *found = NULL;
	size_t i;

	for (i = 0; i < e2b->templates.len; i++) {
		struct template *t = e2b->templates.v[i];
		bool ours = !owner[0] || str_eq(owner, t->owner);

		if (ours && (str_eq(t->id, id_or_name) || str_eq(t->name, id_or_name)))
			return t;
		if (any && t->is_public && str_eq(t->id, id_or_name))
			found = t;
	}
	return found;
}

struct build *template_find_build(struct template *t, const char *id)
{
	size_t i;

	for (i = 0; i < t->builds.len; i++)
		if (str_eq(t->builds.v[i]->id, id))
			return t->builds.v[i];
	return NULL;
}

struct build *template_tagged(struct template *t, const char *tag)
{
	size_t i;

	for (i = 0; i < t->tags.len; i++)
		if (str_eq(t->tags.v[i].name, tag[0] ? tag : "default"))
			return template_find_build(t, t->tags.v[i].build);
	/* Without a tag and without "default": the newest. */
	for (i = t->builds.len; i-- && !tag[0];)
		if (t->builds.v[i]->state == BUILD_READY)
			return t->builds.v[i];
	return tag[0] ? template_find_build(t, tag) : NULL;
}

static bool is_tagged(const struct template *t, const struct build *b)
{
	size_t i;

	for (i = 0; i < t->tags.len; i++)
		if (str_eq(t->tags.v[i].build, b->id))
			return true;
	return false;
}

/* The oldest of those that no tag names go; one that is under way stays. */
static void forget_old(struct template *t)
{
	size_t i, n = 0;

	for (i = 0; i < t->builds.len; i++)
		n += !is_tagged(t, t->builds.v[i]);
	for (i = 0; i < t->builds.len && n > TEMPLATE_UNTAGGED_MAX;) {
		struct build *b = t->builds.v[i];

		if (is_tagged(t, b) || b->state == BUILD_RUNNING) {
			i++;
			continue;
		}
		build_free(b);
		memmove(&t->builds.v[i], &t->builds.v[i + 1], (--t->builds.len - i) * sizeof(t->builds.v[0]));
		n--;
	}
}

void template_tag(struct template *t, const char *tag, const char *build)
{
	struct template_tag one = { .created_ns = clock_wall() };
	size_t i;

	snprintf(one.name, sizeof(one.name), "%s", tag);
	snprintf(one.build, sizeof(one.build), "%s", build);
	for (i = 0; i < t->tags.len && !str_eq(t->tags.v[i].name, tag);)
		i++;
	if (i < t->tags.len)
		t->tags.v[i] = one;
	else
		vec_push(&t->tags, one);
}

/* --- sizes -------------------------------------------------------------------------------------------------------- */

static void shape_of(const struct build *b, struct hub_shape *ret)
{
	snprintf(ret->template_, sizeof(ret->template_), "%s", b->disk);
	ret->memory_b = (uint64_t)b->memory_mb << 20;
	ret->cpu_milli = b->cpu * 1000;
}

/* The newest that is ready of this disk. The lock is held. */
static const struct build *build_of_disk(struct e2b *e2b, const char *disk)
{
	const struct build *found = NULL, *b;
	size_t i, k;

	for (i = 0; i < e2b->templates.len; i++) {
		const struct template *t = e2b->templates.v[i];

		for (k = 0; k < t->builds.len; k++) {
			b = t->builds.v[k];
			if (b->state == BUILD_READY && str_eq(b->disk, disk) &&
			    (!found || b->ended_ns > found->ended_ns))
				found = b;
		}
	}
	return found;
}

/* By its id; by its name the oldest that is ready: whatever other keys make, it stays the one that was meant. The lock
 * is held. */
static struct template *called(struct e2b *e2b, const char *name, unsigned *ret_n)
{
	struct template *found = NULL;
	const struct build *b;
	size_t i;

	*ret_n = 0;
	for (i = 0; i < e2b->templates.len; i++) {
		struct template *t = e2b->templates.v[i];
		bool is_id = str_eq(t->id, name);

		b = is_id || str_eq(t->name, name) ? template_tagged(t, "") : NULL;
		if (is_id)
			*ret_n = b && b->state == BUILD_READY;
		if (is_id)
			return *ret_n ? t : NULL;
		if (!b || b->state != BUILD_READY)
			continue;
		++*ret_n;
		if (!found || t->created_ns < found->created_ns)
			found = t;
	}
	return found;
}

static bool find_shape(void *ctx, const char *name, bool ours, struct hub_shape *ret)
{
	struct e2b *e2b = ctx;
	bool is_disk = str_starts(name, BUILD_DISK), tell = false;
	struct template *t = NULL;
	const struct build *found;
	char id[TEMPLATE_ID + 1] = "";
	unsigned n = 0;

	if (ours && !is_disk) /* the operator's */
		return false;
	lock_take(&e2b->templates.lock);
	if (!is_disk)
		t = called(e2b, name, &n);
	found = is_disk ? build_of_disk(e2b, name) : t ? template_tagged(t, "") : NULL;
	if (found)
		shape_of(found, ret);
	if (t && n > 1 && !t->told) {
		tell = t->told = true;
		snprintf(id, sizeof(id), "%s", t->id);
	}
	lock_drop(&e2b->templates.lock);
	if (tell)
		log_warn("e2b", "several templates have one name, the oldest counts", "name=%s id=%s", name, id);
	return found;
}

void template_size(struct e2b *e2b, uint32_t cpu, uint32_t memory_mb, struct hub_create *what)
{
	struct hub_template standard;

	hub_template_about(e2b->hub, NULL, &standard);
	what->memory_b = memory_mb ? (uint64_t)memory_mb << 20 : standard.memory_b;
	what->cpu_milli = cpu ? cpu * 1000 : standard.cpu_milli;
}

/* --- on the disk -------------------------------------------------------------------------------------------------- */

static void put_build(struct json_writer *w, const struct build *b)
{
	size_t i;

	jw_open(w, '{');
	jw_kstr(w, "id", b->id);
	jw_kstr(w, "state", states[b->state]);
	jw_kstr(w, "disk", b->disk);
	jw_kstr(w, "chain", b->chain);
	if (b->config) {
		jw_key(w, "config");
		jw_raw(w, span_str(b->config));
	}
	jw_ku64(w, "cpu", b->cpu);
	jw_ku64(w, "memory", b->memory_mb);
	jw_ku64(w, "created", (uint64_t)b->created_ns);
	jw_ku64(w, "ended", (uint64_t)b->ended_ns);
	if (b->why)
		jw_kstr(w, "why", b->why);
	jw_kstr(w, "step", b->step);
	jw_key(w, "tags");
	jw_open(w, '[');
	for (i = 0; i < b->tags.len; i++)
		jw_str(w, span_str(b->tags.v[i]));
	jw_close(w, ']');
	jw_close(w, '}');
}

static void put_record(struct json_writer *w, const struct template *t)
{
	size_t i;

	jw_open(w, '{');
	jw_kstr(w, "id", t->id);
	jw_kstr(w, "owner", t->owner);
	jw_kstr(w, "name", t->name);
	jw_key(w, "public");
	jw_bool(w, t->is_public);
	jw_ku64(w, "created", (uint64_t)t->created_ns);
	jw_ku64(w, "updated", (uint64_t)t->updated_ns);
	jw_ku64(w, "spawned", t->spawned);
	jw_key(w, "tags");
	jw_open(w, '[');
	for (i = 0; i < t->tags.len; i++) {
		jw_open(w, '{');
		jw_kstr(w, "name", t->tags.v[i].name);
		jw_kstr(w, "build", t->tags.v[i].build);
		jw_ku64(w, "created", (uint64_t)t->tags.v[i].created_ns);
		jw_close(w, '}');
	}
	jw_close(w, ']');
	jw_key(w, "builds");
	jw_open(w, '[');
	for (i = 0; i < t->builds.len; i++)
		put_build(w, t->builds.v[i]);
	jw_close(w, ']');
	jw_close(w, '}');
}

int template_save(struct e2b *e2b, struct template *t, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/templates/%s.json", e2b->build_dir, t->id);
	struct json_writer w;
	struct buf b;
	bool gone;
	int r;

	buf_init(&b, 4 * RECORD_MAX);
	w = (struct json_writer){ .b = &b };
	lock_take(&e2b->templates.save); /* what is newer is written later */
	lock_take(&e2b->templates.lock);
	forget_old(t);
	put_record(&w, t);
	gone = t->is_gone;
	lock_drop(&e2b->templates.lock);
	if (gone)
		r = unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	else
		r = b.failed ? -E2BIG : io_write_file(AT_FDCWD, path, buf_span(&b).p, buf_len(&b), 0600);
	lock_drop(&e2b->templates.save);
	buf_fini(&b);
	return r < 0 ? err_sys(e, r, "writing what is known of template %s", t->name) : 0;
}

static struct build *read_build(const struct json *j)
{
	struct build *b = NEW(struct build);
	const char *state = json_get_str(j, "state", ""), *why = json_get_str(j, "why", NULL);
	const struct json *tags = json_get(j, "tags"), *config = json_get(j, "config");
	struct step_state s = { .user = NULL };
	size_t i;

	snprintf(b->id, sizeof(b->id), "%s", json_get_str(j, "id", ""));
	snprintf(b->disk, sizeof(b->disk), "%s", json_get_str(j, "disk", ""));
	snprintf(b->chain, sizeof(b->chain), "%s", json_get_str(j, "chain", ""));
	snprintf(b->step, sizeof(b->step), "%s", json_get_str(j, "step", ""));
	b->cpu = (uint32_t)json_get_u64(j, "cpu", 0);
	b->memory_mb = (uint32_t)json_get_u64(j, "memory", 0);
	b->created_ns = json_get_i64(j, "created", 0);
	b->ended_ns = json_get_i64(j, "ended", 0);
	b->why = must_strdup(why);
	b->state = str_eq(state, "ready") ? BUILD_READY : BUILD_FAILED;
	if (b->state == BUILD_FAILED && !why)
		b->why = must_strdup("the daemon ended before the build did");
	for (i = 0; i < json_len(tags) && i < TEMPLATE_TAGS_MAX; i++)
		vec_push(&b->tags, must_strdup(json_text(json_at(tags, i))));
	if (config) {
		struct json_writer w;
		struct buf text;

		buf_init(&text, RECORD_MAX);
		w = (struct json_writer){ .b = &text };
		step_state_read(&s, config);
		jw_open(&w, '{');
		step_state_put(&s, &w);
		jw_kstr(&w, "start", json_get_str(config, "start", ""));
		jw_kstr(&w, "ready", json_get_str(config, "ready", ""));
		jw_close(&w, '}');
		b->config = span_dup(buf_span(&text));
		buf_fini(&text);
		step_state_fini(&s);
	}
	return b;
}

static struct template *read_record(const struct json *j)
{
	struct template *t = NEW(struct template);
	const struct json *builds = json_get(j, "builds"), *tags = json_get(j, "tags");
	size_t i;

	t->refs = 1;
	snprintf(t->id, sizeof(t->id), "%s", json_get_str(j, "id", ""));
	snprintf(t->owner, sizeof(t->owner), "%s", json_get_str(j, "owner", ""));
	snprintf(t->name, sizeof(t->name), "%s", json_get_str(j, "name", ""));
	t->is_public = json_get_bool(j, "public", false);
	t->created_ns = json_get_i64(j, "created", 0);
	t->updated_ns = json_get_i64(j, "updated", 0);
	t->spawned = json_get_u64(j, "spawned", 0);
	for (i = 0; i < json_len(builds); i++)
		vec_push(&t->builds, read_build(json_at(builds, i)));
	for (i = 0; i < json_len(tags); i++) {
		template_tag(t, json_get_str(json_at(tags, i), "name", ""),
			     json_get_str(json_at(tags, i), "build", ""));
		t->tags.v[t->tags.len - 1].created_ns = json_get_i64(json_at(tags, i), "created", 0);
	}
	return t;
}

static bool take_record(void *ctx, const struct json *j)
{
	struct e2b *e2b = ctx;

	if (!json_get_str(j, "id", "")[0])
		return false;
	vec_push(&e2b->templates, read_record(j));
	return true;
}

/* Sandboxes in which steps ran when the daemon before ended. */
struct left {
	struct e2b *e2b;
	VEC(char *) ids;
};

static int note_left(void *ctx, const struct hub_info *i)
{
	struct left *l = ctx;

	if (str_starts(i->name, BUILD_SANDBOX))
		vec_push(&l->ids, must_strdup(i->id));
	return 0;
}

static void tidy(void *ctx)
{
	struct left *l = ctx;
	struct e2b *e2b = l->e2b;
	struct err e = ERR_NULL;
	size_t i;

	for (i = 0; i < l->ids.len; i++) {
		(void)!hub_kill(e2b->hub, l->ids.v[i], 0, &e);
		if (hub_remove(e2b->hub, l->ids.v[i], true, NULL, &e) < 0)
			log_warn("e2b", "a sandbox of a build was left behind", "id=%s why=%s", l->ids.v[i], e.text);
		free(l->ids.v[i]);
	}
	vec_fini(&l->ids);
	free(l);
	templates_sweep(e2b);
	images_tidy(e2b);
}

int templates_begin(struct e2b *e2b, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/templates", e2b->build_dir);
	struct left *left;
	int r;

	lock_init(&e2b->templates.lock, "templates", LOCK_LEAF);
	lock_init(&e2b->templates.save, "templates-save", LOCK_SANDBOX);
	lock_init(&e2b->images.lock, "images", LOCK_LEAF);
	lock_cond_init(&e2b->images.cond);
	random_bytes(e2b->upload_secret, sizeof(e2b->upload_secret));
	r = records_each(path, "a template", 4 * RECORD_MAX, take_record, e2b, NULL, e);
	if (r < 0)
		return r;
	uploads_begin(e2b);
	r = pool_new("build", BUILDERS, &e2b->builders, e);
	if (r == 0)
		r = pool_new("starter", STARTERS, &e2b->starters, e);
	if (r == 0)
		r = pool_new("forker", FORKERS, &e2b->forkers, e);
	if (r < 0)
		return r;
	left = NEW(struct left);
	left->e2b = e2b;
	(void)hub_each(e2b->hub, true, note_left, left);
	pool_run(e2b->builders, tidy, left);
	hub_set_shapes(e2b->hub, find_shape, e2b);
	return 0;
}

void templates_stop(struct e2b *e2b)
{
	size_t i, k;

	lock_take(&e2b->templates.lock);
	for (i = 0; i < e2b->templates.len; i++)
		for (k = 0; k < e2b->templates.v[i]->builds.len; k++)
			__atomic_store_n(&e2b->templates.v[i]->builds.v[k]->stop, true, __ATOMIC_RELAXED);
	lock_drop(&e2b->templates.lock);
}

void templates_fini(struct e2b *e2b)
{
	size_t i;

	if (e2b->hub)
		hub_set_shapes(e2b->hub, NULL, NULL);
	pool_free(&e2b->forkers);
	pool_free(&e2b->starters);
	pool_free(&e2b->builders);
	for (i = 0; i < e2b->templates.len; i++)
		template_free(e2b->templates.v[i]);
	vec_fini(&e2b->templates);
}

/* --- disks -------------------------------------------------------------------------------------------------------- */

struct sweep {
	struct e2b *e2b;
	VEC(char *) names;
};

static int note_disk(void *ctx, const char *name)
{
	struct sweep *s = ctx;

	if (str_starts(name, BUILD_DISK) && strlen(name) == strlen(BUILD_DISK) + 40)
		vec_push(&s->names, must_strdup(name));
	return 0;
}

bool templates_names(struct e2b *e2b, const char *disk)
{
	bool yes = false;
	size_t i, k;

	lock_take(&e2b->templates.lock);
	for (i = 0; i < e2b->templates.len && !yes; i++)
		for (k = 0; k < e2b->templates.v[i]->builds.len && !yes; k++) {
			struct build *b = e2b->templates.v[i]->builds.v[k];

			yes = b->state != BUILD_FAILED && str_eq(b->disk, disk);
		}
	lock_drop(&e2b->templates.lock);
	return yes;
}

void templates_sweep(struct e2b *e2b)
{
	struct sweep s = { .e2b = e2b };
	struct err e = ERR_NULL;
	size_t i;

	(void)!hub_template_each(e2b->hub, note_disk, &s);
	for (i = 0; i < s.names.len; i++) {
		/* One that a sandbox stands on goes another time. */
		if (!templates_names(e2b, s.names.v[i]) && hub_template_remove(e2b->hub, s.names.v[i], &e) < 0 &&
		    e.code != -EBUSY)
			log_warn("e2b", "a template was not removed", "name=%s why=%s", s.names.v[i], e.text);
		free(s.names.v[i]);
	}
	vec_fini(&s.names);
}

/* --- for sandboxes ------------------------------------------------------------------------------------------------ */

int templates_use(struct e2b *e2b, const char *owner, const char *asked, struct template_use *ret, struct err *e)
{
	char name[TEMPLATE_NAME_MAX + 1], tag[TEMPLATE_NAME_MAX + 1];
	struct template *t = NULL;
	struct build *b = NULL;

	*ret = (struct template_use){ .cpu = 0 };
	lock_take(&e2b->templates.lock);
	if (templates_split(asked, name, tag, NULL) == 0)
		t = templates_find(e2b, owner, name, true);
	b = t ? template_tagged(t, tag) : NULL;
	if (b && b->state == BUILD_READY) {
		snprintf(ret->disk, sizeof(ret->disk), "%s", b->disk);
		snprintf(ret->id, sizeof(ret->id), "%s", t->id);
		snprintf(ret->name, sizeof(ret->name), "%s", t->name);
		ret->config = must_strdup(b->config);
		ret->cpu = b->cpu;
		ret->memory_mb = b->memory_mb;
		t->spawned++;
		t->spawned_ns = clock_wall();
	}
	lock_drop(&e2b->templates.lock);
	if (ret->disk[0])
		return 0;
	return err_set(e, -ENOENT, "no-such-template",
		       t ? "template '%.80s' has no finished build" : "template '%.80s' not found", asked);
}
