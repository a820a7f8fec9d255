/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane of templates: asking for a build, its state and words, names, tags, lists. What the operator made
 * is everybody's to use and nobody's to change here. */
#include "host/api/e2b/template.h"

#include "base/clock.h"
#include "base/str.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>

enum { CPU_MAX = 64, MEMORY_MAX_MB = 1024 * 1024, PAGE_LINES = 100, WORD_MAX = 4096 };

static int no_template(const char *name, struct err *e)
{
	return err_set(e, -ENOENT, "no-such-template", "template '%.80s' not found", name);
}

/* --- asking for one ----------------------------------------------------------------------------------------------- */

static void random_word(char *to, size_t n)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t b[64];
	size_t i;

	random_bytes(b, sizeof(b));
	for (i = 0; i < n; i++)
		to[i] = letters[b[i] % (i ? 36 : 26)];
	to[n] = '\0';
}

static void random_uuid(char to[BUILD_ID + 1])
{
	uint8_t b[16];
	char hex[33];

	random_bytes(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	str_hex(b, sizeof(b), hex);
	snprintf(to, BUILD_ID + 1, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

static unsigned owned(struct e2b *e2b, const char *owner)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < e2b->templates.len; i++)
		n += str_eq(e2b->templates.v[i]->owner, owner);
	return n;
}

/* The lock is held. */
static struct template *find_or_make(struct e2b *e2b, const char *owner, const char *name, struct err *e)
{
	struct template *t = templates_find(e2b, owner, name, false);

	if (t)
		return t;
	if (owned(e2b, owner) >= TEMPLATES_MAX) {
		err_set(e, -EUSERS, "too-many-templates", "a key may have %d templates", TEMPLATES_MAX);
		return NULL;
	}
	t = NEW(struct template);
	t->refs = 1;
	random_word(t->id, TEMPLATE_ID);
	snprintf(t->owner, sizeof(t->owner), "%s", owner);
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->created_ns = clock_wall();
	vec_push(&e2b->templates, t);
	return t;
}

/* Where the tags of a build are said: in the name, and in a list. */
static int tags_of(const struct json *j, const char *first, struct build *b, struct err *e)
{
	const struct json *tags = json_get(j, "tags");
	size_t i, k;

	if (first[0])
		vec_push(&b->tags, must_strdup(first));
	for (i = 0; i < json_len(tags); i++) {
		const char *tag = json_text(json_at(tags, i));

		if (!tag || !templates_word_ok(tag) || b->tags.len >= TEMPLATE_TAGS_MAX)
			return err_set(e, -EINVAL, "bad-name", "tags are up to %d words of letters, digits and _ . -",
				       TEMPLATE_TAGS_MAX);
		for (k = 0; k < b->tags.len && !str_eq(b->tags.v[k], tag);)
			k++;
		if (k == b->tags.len)
			vec_push(&b->tags, must_strdup(tag));
	}
	if (!b->tags.len)
		vec_push(&b->tags, must_strdup("default"));
	return 0;
}

static int size_of(const struct json *j, struct build *b, struct err *e)
{
	uint64_t cpu = json_get_u64(j, "cpuCount", 0), memory = json_get_u64(j, "memoryMB", 0);

	if (cpu > CPU_MAX || memory > MEMORY_MAX_MB || (memory && memory < 128))
		return err_set(e, -EINVAL, "limit", "cpuCount is at most %d, memoryMB 128 to %d", CPU_MAX,
			       MEMORY_MAX_MB);
	b->cpu = (uint32_t)cpu;
	b->memory_mb = (uint32_t)memory;
	return 0;
}

static void put_words(struct json_writer *w, const char *key, char *const *v, size_t n)
{
	size_t i;

	jw_key(w, key);
	jw_open(w, '[');
	for (i = 0; i < n; i++)
		jw_str(w, span_str(v[i]));
	jw_close(w, ']');
}

static void put_requested(struct json_writer *w, struct template *t, const struct build *b)
{
	char *name = t->name;

	jw_open(w, '{');
	jw_kstr(w, "templateID", t->id);
	jw_kstr(w, "buildID", b->id);
	jw_key(w, "public");
	jw_bool(w, t->is_public);
	put_words(w, "names", &name, 1);
	put_words(w, "aliases", &name, 1);
	put_words(w, "tags", b->tags.v, b->tags.len);
	jw_close(w, '}');
}

int e2b_template_request(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	char name[TEMPLATE_NAME_MAX + 1], tag[TEMPLATE_NAME_MAX + 1];
	struct json_writer w = { .b = &res->body };
	struct build *b = NEW(struct build);
	struct template *t = NULL;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = templates_split(json_get_str(j, "name", json_get_str(j, "alias", "")), name, tag, e);
	if (r == 0 && hub_template_mark(e2b->hub, name))
		r = err_set(e, -EEXIST, "name-taken", "'%s' is a template of the operator", name);
	if (r == 0)
		r = tags_of(j, tag, b, e);
	if (r == 0)
		r = size_of(j, b, e);
	random_uuid(b->id);
	b->created_ns = clock_wall();
	lock_take(&e2b->templates.lock);
	if (r == 0)
		t = find_or_make(e2b, http_who(req)->id, name, e);
	if (t) {
		template_ref(t);
		t->updated_ns = b->created_ns;
		put_requested(&w, t, b);
		vec_push(&t->builds, b);
	}
	lock_drop(&e2b->templates.lock);
	if (!t) {
		build_free(b);
		return r < 0 ? r : e->code;
	}
	res->status = 202;
	r = template_save(e2b, t, e);
	template_unref(e2b, t);
	return r;
}

int e2b_template_trigger(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	const struct json *steps;
	struct template *t;
	struct build *b = NULL;
	uint64_t size;
	int fd, r = e2b_body(req, &j, e);
	size_t i;

	steps = r == 0 ? json_get(j, "steps") : NULL;
	if (r == 0 && json_len(steps) > BUILD_STEPS_MAX)
		r = err_set(e, -EINVAL, "limit", "a build has at most %d steps", BUILD_STEPS_MAX);
	for (i = 0; r == 0 && i < json_len(steps); i++)
		r = step_check(json_at(steps, i), e);
	if (r == 0 &&
	    (strlen(json_get_str(j, "startCmd", "")) > WORD_MAX || strlen(json_get_str(j, "readyCmd", "")) > WORD_MAX))
		r = err_set(e, -EINVAL, "limit", "start and ready command: at most %d bytes", WORD_MAX);
	if (r < 0)
		return r;
	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, http_segment(req, 0), false);
	b = t ? template_find_build(t, http_segment(req, 1)) : NULL;
	if (!b)
		r = no_template(http_segment(req, 0), e);
	else if (b->state != BUILD_WAITING)
		r = err_set(e, -EINVAL, "bad-request", "build '%s' was started already", b->id);
	else
		b->state = BUILD_RUNNING;
	if (r == 0)
		template_ref(t);
	lock_drop(&e2b->templates.lock);
	if (r < 0)
		return r;
	build_start(e2b, t, b, http_body(req, &fd, &size)); /* takes the reference over */
	res->status = 202;
	return 0;
}

/* --- how it goes -------------------------------------------------------------------------------------------------- */

static void put_line(struct json_writer *w, const struct build_line *l, bool whole)
{
	if (!whole) {
		jw_str(w, span_str(l->text));
		return;
	}
	jw_open(w, '{');
	e2b_time(w, "timestamp", l->at_ns);
	jw_kstr(w, "level", l->is_error ? "error" : "info");
	jw_kstr(w, "message", l->text);
	jw_close(w, '}');
}

static void put_lines(struct json_writer *w, const char *key, const struct build *b, uint64_t from, uint64_t limit,
		      bool whole)
{
	uint64_t i;

	jw_key(w, key);
	jw_open(w, '[');
	for (i = from; i < b->lines.len && i < from + limit; i++)
		put_line(w, &b->lines.v[i], whole);
	jw_close(w, ']');
}

static int number(struct http_req *req, const char *key, uint64_t otherwise, uint64_t max, uint64_t *ret, struct err *e)
{
	const char *text = http_query(req, key);

	*ret = otherwise;
	return text && num_u64(text, max, ret) < 0 ? err_set(e, -EINVAL, "bad-request", "%s is a number, at most %llu",
							     key, (unsigned long long)max)
						   : 0;
}

static void put_reason(struct json_writer *w, const struct build *b)
{
	jw_key(w, "reason");
	jw_open(w, '{');
	jw_kstr(w, "message", b->why ? b->why : "");
	if (b->step[0])
		jw_kstr(w, "step", b->step);
	jw_key(w, "logEntries");
	jw_open(w, '[');
	jw_close(w, ']');
	jw_close(w, '}');
}

int e2b_build_status(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	static const char *const words[] = { "waiting", "building", "ready", "error" };
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	struct template *t;
	struct build *b;
	uint64_t from, limit;
	int r = number(req, "logsOffset", 0, UINT32_MAX, &from, e);

	if (r == 0)
		r = number(req, "limit", PAGE_LINES, PAGE_LINES, &limit, e);
	if (r < 0)
		return r;
	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, http_segment(req, 0), false);
	b = t ? template_find_build(t, http_segment(req, 1)) : NULL;
	if (b) {
		jw_open(&w, '{');
		jw_kstr(&w, "templateID", t->id);
		jw_kstr(&w, "buildID", b->id);
		jw_kstr(&w, "status", words[b->state]);
		put_lines(&w, "logs", b, from, limit, false);
		put_lines(&w, "logEntries", b, from, limit, true);
		if (b->state == BUILD_FAILED)
			put_reason(&w, b);
		jw_close(&w, '}');
	}
	lock_drop(&e2b->templates.lock);
	return b ? 0 : no_template(http_segment(req, 0), e);
}

int e2b_build_logs(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	bool back = str_eq(http_query(req, "direction"), "backward");
	struct template *t;
	struct build *b;
	uint64_t limit, cursor, i, n = 0;
	int r = number(req, "limit", PAGE_LINES, PAGE_LINES, &limit, e);

	if (r == 0)
		r = number(req, "cursor", back ? INT64_MAX / CLOCK_MS : 0, INT64_MAX / CLOCK_MS, &cursor, e);
	if (r < 0)
		return r;
	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, http_segment(req, 0), false);
	b = t ? template_find_build(t, http_segment(req, 1)) : NULL;
	if (b) {
		jw_open(&w, '{');
		jw_key(&w, "logs");
		jw_open(&w, '[');
		for (i = 0; i < b->lines.len && n < limit; i++) {
			const struct build_line *l = &b->lines.v[back ? b->lines.len - 1 - i : i];
			uint64_t at = (uint64_t)l->at_ns / CLOCK_MS;

			if (back ? at > cursor : at < cursor)
				continue;
			put_line(&w, l, true);
			n++;
		}
		jw_close(&w, ']');
		jw_close(&w, '}');
	}
	lock_drop(&e2b->templates.lock);
	return b ? 0 : no_template(http_segment(req, 0), e);
}

/* --- names and tags ----------------------------------------------------------------------------------------------- */

int e2b_template_alias(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	char name[TEMPLATE_NAME_MAX + 1], tag[TEMPLATE_NAME_MAX + 1], id[TEMPLATE_NAME_MAX + 1] = "";
	struct template *t = NULL;
	bool open = true;

	if (templates_split(http_segment(req, 0), name, tag, NULL) < 0)
		return no_template(http_segment(req, 0), e);
	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, name, true);
	if (t && tag[0] && !template_tagged(t, tag))
		t = NULL;
	if (t)
		snprintf(id, sizeof(id), "%s", t->id);
	open = !t || t->is_public;
	lock_drop(&e2b->templates.lock);
	if (!t && !tag[0] && hub_template_mark(e2b->hub, name))
		snprintf(id, sizeof(id), "%s", name);
	if (!id[0])
		return no_template(http_segment(req, 0), e);
	jw_open(&w, '{');
	jw_kstr(&w, "templateID", id);
	jw_key(&w, "public");
	jw_bool(&w, open);
	jw_close(&w, '}');
	return 0;
}

int e2b_tags_assign(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	char name[TEMPLATE_NAME_MAX + 1], tag[TEMPLATE_NAME_MAX + 1];
	struct json_writer w = { .b = &res->body };
	struct build wanted = { .why = NULL }, *b = NULL;
	struct template *t = NULL;
	size_t i;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = templates_split(json_get_str(j, "target", ""), name, tag, e);
	if (r == 0 && json_is_empty(json_get(j, "tags")))
		r = err_set(e, -EINVAL, "bad-request", "tags are missing");
	if (r == 0)
		r = tags_of(j, "", &wanted, e);
	lock_take(&e2b->templates.lock);
	t = r == 0 ? templates_find(e2b, http_who(req)->id, name, false) : NULL;
	b = t ? template_tagged(t, tag) : NULL;
	if (r == 0 && (!b || b->state != BUILD_READY))
		r = no_template(json_get_str(j, "target", ""), e);
	if (r == 0 && t->tags.len + wanted.tags.len > TEMPLATE_TAGS_MAX)
		r = err_set(e, -EUSERS, "too-many-tags", "a template has at most %d tags", TEMPLATE_TAGS_MAX);
	if (r == 0) {
		template_ref(t);
		for (i = 0; i < wanted.tags.len; i++)
			template_tag(t, wanted.tags.v[i], b->id);
		jw_open(&w, '{');
		put_words(&w, "tags", wanted.tags.v, wanted.tags.len);
		jw_kstr(&w, "buildID", b->id);
		jw_close(&w, '}');
	}
	lock_drop(&e2b->templates.lock);
	for (i = 0; i < wanted.tags.len; i++)
		free(wanted.tags.v[i]);
	vec_fini(&wanted.tags);
	if (r < 0)
		return r;
	res->status = 201;
	r = template_save(e2b, t, e);
	template_unref(e2b, t);
	return r;
}

static bool untag(struct template *t, const char *tag)
{
	size_t i;

	for (i = 0; i < t->tags.len; i++) {
		if (!str_eq(t->tags.v[i].name, tag))
			continue;
		memmove(&t->tags.v[i], &t->tags.v[i + 1], (--t->tags.len - i) * sizeof(t->tags.v[0]));
		return true;
	}
	return false;
}

int e2b_tags_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	char name[TEMPLATE_NAME_MAX + 1], tag[TEMPLATE_NAME_MAX + 1];
	struct template *t = NULL;
	size_t i;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = templates_split(json_get_str(j, "name", ""), name, tag, e);
	lock_take(&e2b->templates.lock);
	t = r == 0 ? templates_find(e2b, http_who(req)->id, name, false) : NULL;
	if (r == 0 && !t)
		r = no_template(name, e);
	for (i = 0; r == 0 && i < json_len(json_get(j, "tags")); i++) {
		const char *one = json_text(json_at(json_get(j, "tags"), i));

		if (!untag(t, one ? one : ""))
			r = err_set(e, -ENOENT, "no-such-tag", "template '%s' has no tag '%.64s'", name,
				    one ? one : "");
	}
	if (r == 0)
		template_ref(t);
	lock_drop(&e2b->templates.lock);
	if (r < 0)
		return r;
	res->status = 204;
	r = template_save(e2b, t, e);
	template_unref(e2b, t);
	templates_sweep(e2b);
	return r;
}

int e2b_tags_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	struct template *t;
	size_t i;

	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, http_segment(req, 0), true);
	jw_open(&w, '[');
	for (i = 0; t && i < t->tags.len; i++) {
		jw_open(&w, '{');
		jw_kstr(&w, "tag", t->tags.v[i].name);
		jw_kstr(&w, "buildID", t->tags.v[i].build);
		e2b_time(&w, "createdAt", t->tags.v[i].created_ns);
		jw_close(&w, '}');
	}
	jw_close(&w, ']');
	lock_drop(&e2b->templates.lock);
	return t ? 0 : no_template(http_segment(req, 0), e);
}

/* --- lists -------------------------------------------------------------------------------------------------------- */

struct listing {
	struct json_writer w;
	struct hub *hub;
};

/* What it has where its build says nothing. */
static void put_sizes(struct json_writer *w, const struct hub_template *about, const struct build *b)
{
	jw_ku64(w, "cpuCount", b && b->cpu ? b->cpu : MAX((about->cpu_milli + 999) / 1000, 1U));
	jw_ku64(w, "memoryMB", b && b->memory_mb ? b->memory_mb : about->memory_b >> 20);
	jw_ku64(w, "diskSizeMB", about->workspace_b >> 20);
}

static void put_common(struct json_writer *w, const char *id, const char *build, const char *state, const char *name,
		       bool open)
{
	char *one = (char *)(uintptr_t)name;

	jw_kstr(w, "templateID", id);
	jw_kstr(w, "buildID", build);
	jw_kstr(w, "buildStatus", state);
	jw_key(w, "public");
	jw_bool(w, open);
	put_words(w, "aliases", &one, 1);
	put_words(w, "names", &one, 1);
	jw_kstr(w, "envdVersion", E2B_VERSION);
}

static int put_operators(void *ctx, const char *name)
{
	struct listing *l = ctx;
	struct json_writer *w = &l->w;
	struct hub_template about;

	if (str_starts(name, BUILD_DISK))
		return 0;
	hub_template_about(l->hub, name, &about);
	jw_open(w, '{');
	put_common(w, name, "00000000-0000-0000-0000-000000000000", "ready", name, true);
	put_sizes(w, &about, NULL);
	e2b_time(w, "createdAt", about.made_ns);
	e2b_time(w, "updatedAt", about.made_ns);
	jw_ku64(w, "spawnCount", 0);
	jw_ku64(w, "buildCount", 1);
	jw_close(w, '}');
	return 0;
}

static void put_built(struct listing *l, struct template *t)
{
	static const char *const words[] = { "waiting", "building", "ready", "error" };
	struct build *b = template_tagged(t, "");
	struct json_writer *w = &l->w;
	struct hub_template about;

	hub_template_about(l->hub, NULL, &about);
	if (!b && t->builds.len)
		b = t->builds.v[t->builds.len - 1];
	jw_open(w, '{');
	put_common(w, t->id, b ? b->id : "00000000-0000-0000-0000-000000000000", b ? words[b->state] : "waiting",
		   t->name, t->is_public);
	put_sizes(w, &about, b);
	e2b_time(w, "createdAt", t->created_ns);
	e2b_time(w, "updatedAt", t->updated_ns);
	if (t->spawned_ns)
		e2b_time(w, "lastSpawnedAt", t->spawned_ns);
	jw_ku64(w, "spawnCount", t->spawned);
	jw_ku64(w, "buildCount", t->builds.len);
	jw_close(w, '}');
}

int e2b_template_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	const char *owner = http_who(req)->id;
	struct listing l = { .w = { .b = &res->body }, .hub = e2b->hub };
	size_t i;
	int r;

	jw_open(&l.w, '[');
	r = hub_template_each(e2b->hub, put_operators, &l);
	lock_take(&e2b->templates.lock);
	for (i = 0; i < e2b->templates.len; i++)
		if (!owner[0] || str_eq(owner, e2b->templates.v[i]->owner))
			put_built(&l, e2b->templates.v[i]);
	lock_drop(&e2b->templates.lock);
	jw_close(&l.w, ']');
	return r < 0 ? err_sys(e, r, "listing the templates") : 0;
}

static void put_builds(struct json_writer *w, const struct hub_template *about, const struct template *t)
{
	static const char *const words[] = { "waiting", "building", "ready", "error" };
	size_t i;

	jw_key(w, "builds");
	jw_open(w, '[');
	for (i = t->builds.len; i--;) {
		const struct build *b = t->builds.v[i];

		jw_open(w, '{');
		jw_kstr(w, "buildID", b->id);
		jw_kstr(w, "status", words[b->state]);
		e2b_time(w, "createdAt", b->created_ns);
		e2b_time(w, "updatedAt", b->ended_ns ? b->ended_ns : b->created_ns);
		if (b->ended_ns)
			e2b_time(w, "finishedAt", b->ended_ns);
		put_sizes(w, about, b);
		jw_kstr(w, "envdVersion", E2B_VERSION);
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

int e2b_template_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	struct hub_template about;
	struct template *t;
	char *name;

	hub_template_about(e2b->hub, NULL, &about);
	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, http_segment(req, 0), false);
	if (t) {
		name = t->name;
		jw_open(&w, '{');
		jw_kstr(&w, "templateID", t->id);
		jw_key(&w, "public");
		jw_bool(&w, t->is_public);
		put_words(&w, "aliases", &name, 1);
		put_words(&w, "names", &name, 1);
		e2b_time(&w, "createdAt", t->created_ns);
		e2b_time(&w, "updatedAt", t->updated_ns);
		jw_ku64(&w, "spawnCount", t->spawned);
		put_builds(&w, &about, t);
		jw_close(&w, '}');
	}
	lock_drop(&e2b->templates.lock);
	return t ? 0 : no_template(http_segment(req, 0), e);
}

int e2b_template_patch(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct json_writer w = { .b = &res->body };
	struct template *t = NULL;
	char *name;
	int r = e2b_body(req, &j, e);

	if (r < 0)
		return r;
	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, http_segment(req, 0), false);
	if (t) {
		template_ref(t);
		t->is_public = json_get_bool(j, "public", t->is_public);
		name = t->name;
		jw_open(&w, '{');
		put_words(&w, "names", &name, 1);
		jw_close(&w, '}');
	}
	lock_drop(&e2b->templates.lock);
	if (!t)
		return no_template(http_segment(req, 0), e);
	r = template_save(e2b, t, e);
	template_unref(e2b, t);
	return r;
}

/* Builds that run are told to end; who works on one has a reference. */
static struct template *take_out(struct e2b *e2b, const char *owner, const char *what)
{
	struct template *t;
	size_t i, k;

	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, owner, what, false);
	for (i = 0; t && i < e2b->templates.len; i++) {
		if (e2b->templates.v[i] != t)
			continue;
		memmove(&e2b->templates.v[i], &e2b->templates.v[i + 1],
			(--e2b->templates.len - i) * sizeof(e2b->templates.v[0]));
		t->is_gone = true;
		for (k = 0; k < t->builds.len; k++)
			__atomic_store_n(&t->builds.v[k]->stop, true, __ATOMIC_RELAXED);
	}
	lock_drop(&e2b->templates.lock);
	return t;
}

/* Snapshots are templates to them; those of the operator stay. */
int e2b_template_remove(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	const char *what = http_segment(req, 0);
	struct template *t;
	int r = e2b_snapshot_remove(e2b, req, what, e);

	res->status = 204;
	if (r == 1)
		templates_sweep(e2b); /* it may have been the last that stood on a template which is gone */
	if (r)
		return MIN(r, 0);
	t = strchr(what, ':') ? NULL : take_out(e2b, http_who(req)->id, what);
	if (!t)
		return no_template(what, e);
	r = template_save(e2b, t, e);
	template_unref(e2b, t);
	templates_sweep(e2b);
	return r;
}
