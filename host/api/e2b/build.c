/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One build, on a thread of its own kind. What a step leaves depends on all before it, so each has the name of a chain
 * of hashes: of the base, of the key that builds, and of every step until there. Steps that do work run in a sandbox of
 * the base whose writable layer is kept under that name when the step has succeeded; the next step's sandbox begins
 * with a copy. At the end the whole root is read out of the last sandbox, from inside, and unpacked as a template of
 * the hub like any archive that somebody brought. Nothing of a build runs outside of a sandbox.
 *
 * Whatever ends it early takes the sandbox away; a layer, or a template, is only ever there as a whole.
 */
#include "host/api/e2b/work.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/net/policy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum { BUILD_MS = 3600 * 1000, READY_MS = 600 * 1000, SPARE_MS = 600 * 1000, CHAIN_MAX = 4 * 1024 * 1024 };

/* --- words -------------------------------------------------------------------------------------------------------- */

void work_say(struct work *w, bool is_error, const char *fmt, ...)
{
	struct build_line line = { .at_ns = clock_wall(), .is_error = is_error };
	struct build *b = w->build;
	char text[BUILD_LINE_MAX];
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	len = strlen(text);
	lock_take(&w->e2b->templates.lock);
	if (b->lines_b <= BUILD_LINES_B) {
		bool full = b->lines.len + 1 >= BUILD_LINES_MAX || b->lines_b + len > BUILD_LINES_B;

		b->lines_b = full ? BUILD_LINES_B + 1 : b->lines_b + len;
		line.text = must_strdup(full ? "more was said than is kept: the rest is left out" : text);
		vec_push(&b->lines, line);
	}
	lock_drop(&w->e2b->templates.lock);
}

/* --- names of layers ---------------------------------------------------------------------------------------------- */

static void chain_next(const char *before, const struct json *step, char to[2 * DIGEST_LEN + 1])
{
	const struct json *args = json_get(step, "args");
	struct digest d;
	struct buf b;
	size_t i;

	buf_init(&b, CHAIN_MAX);
	(void)!buf_printf(&b, "%s %s %s", before, json_get_str(step, "type", ""), json_get_str(step, "filesHash", ""));
	for (i = 0; i < json_len(args); i++)
		(void)!buf_printf(&b, " %zu:%s", strlen(json_text(json_at(args, i))), json_text(json_at(args, i)));
	d = digest_of("e2b-layer", buf_span(&b));
	buf_fini(&b);
	str_hex(d.b, sizeof(d.b), to);
}

static void chain_all(struct work *w)
{
	AUTO(str_free) char *text = str_printf("%s %s %llu", w->owner, w->base,
					       (unsigned long long)hub_template_mark(w->e2b->hub, w->base));
	struct digest d = digest_of("e2b-base", span_str(text));
	size_t i;

	w->chain = must_calloc(w->n + 1, sizeof(*w->chain));
	str_hex(d.b, sizeof(d.b), w->chain[0]);
	for (i = 0; i < w->n; i++)
		chain_next(w->chain[i], json_at(w->steps, i), w->chain[i + 1]);
}

/* From which step on nothing may come from the cache. */
static size_t forced_at(const struct work *w)
{
	size_t i = 0;

	if (json_get_bool(w->request, "force", false))
		return 0;
	while (i < w->n && !json_get_bool(json_at(w->steps, i), "force", false))
		i++;
	return i;
}

/* --- the base ----------------------------------------------------------------------------------------------------- */

/* An image that is a template here: "debian:stable" is what the operator called debian-stable. */
static bool find_image(struct work *w, const char *image)
{
	static const char *const known[][2] = { { "e2bdev/base", "base" },
						{ "e2bdev/code-interpreter", "code-interpreter-v1" } };
	char name[PRIV_ID_MAX + 1];
	size_t i, n;

	for (i = 0; i < ARRAY_LEN(known); i++) {
		n = strlen(known[i][0]);
		if (strncmp(image, known[i][0], n) == 0 && (!image[n] || image[n] == ':'))
			image = known[i][1];
	}
	if (str_copy(name, sizeof(name), image) < 0)
		return false;
	for (i = 0; name[i]; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789", name[i]))
			name[i] = '-';
	if (str_starts(name, BUILD_DISK) || !hub_template_mark(w->e2b->hub, name))
		return false;
	snprintf(w->base, sizeof(w->base), "%s", name);
	return true;
}

static int from_image(struct work *w, const char *image, struct err *e)
{
	work_say(w, false, "[base] FROM %.200s", image);
	if (find_image(w, image))
		return 0;
	return work_image(w, image, e);
}

static int from_template(struct work *w, const char *name, struct err *e)
{
	AUTO(json_free) struct json *config = NULL;
	struct template_use use;

	work_say(w, false, "[base] FROM TEMPLATE %.200s", name);
	if (templates_use(w->e2b, w->owner, name, &use, NULL) == 0) {
		snprintf(w->base, sizeof(w->base), "%s", use.disk);
		if (json_parse(span_str(use.config), &config, NULL) == 0) {
			step_state_read(&w->state, config);
			w->start = must_strdup(json_get_str(config, "start", ""));
			w->ready = must_strdup(json_get_str(config, "ready", ""));
		}
		str_free(&use.config);
		return 0;
	}
	if (!hub_template_mark(w->e2b->hub, name) || str_starts(name, BUILD_DISK) ||
	    str_copy(w->base, sizeof(w->base), name) < 0)
		return err_set(e, -ENOENT, "no-such-template", "template '%.80s' not found", name);
	return 0;
}

static int find_base(struct work *w, struct err *e)
{
	const char *image = json_get_str(w->request, "fromImage", ""),
		   *from = json_get_str(w->request, "fromTemplate", "");
	const char *start = json_get_str(w->request, "startCmd", ""), *ready = json_get_str(w->request, "readyCmd", "");
	int r;

	if ((image[0] != '\0') == (from[0] != '\0'))
		r = err_set(e, -EINVAL, "bad-request", "exactly one of fromImage and fromTemplate is wanted");
	else
		r = image[0] ? from_image(w, image, e) : from_template(w, from, e);
	if (r < 0)
		return r;
	if (!w->state.user)
		step_state_read(&w->state, NULL);
	if (start[0] || ready[0] || !w->start) {
		str_free(&w->start);
		str_free(&w->ready);
		w->start = must_strdup(start);
		w->ready = must_strdup(ready);
	}
	return 0;
}

/* --- sandboxes ---------------------------------------------------------------------------------------------------- */

/* @root: as in hub_create. */
static int open_sandbox(struct work *w, const char *disk, const char *root, struct err *e)
{
	struct hub_create what = { .root = root, .timeout_ms = SPARE_MS };
	AUTO(json_free) struct json *nothing = NULL;
	struct policy network = POLICY_NULL;
	struct hub_info info;
	uint8_t raw[8];
	char hex[2 * sizeof(raw) + 1];
	int r = json_parse(span_str("{}"), &nothing, e);

	if (work_is_stopped(w))
		return err_set(e, -ECANCELED, "stopped", "the build was stopped");
	template_size(w->e2b, w->build->cpu, w->build->memory_mb, &what);
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), hex);
	snprintf(what.name, sizeof(what.name), BUILD_SANDBOX "%s", hex);
	snprintf(what.template_, sizeof(what.template_), "%s", disk);
	snprintf(what.owner, sizeof(what.owner), "%s", w->owner);
	what.timeout_ms += (uint64_t)MAX(clock_left_ms(w->until), 0);
	if (what.owner[0])
		what.owner_max = keys_sandboxes(w->e2b->keys, what.owner);
	if (r == 0)
		r = e2b_read_network(w->e2b, nothing, NULL, &network, NULL, e);
	what.network = &network;
	if (r == 0)
		r = hub_create(w->e2b->hub, &what, &info, e);
	policy_fini(&network);
	if (r == 0)
		snprintf(w->sandbox, sizeof(w->sandbox), "%s", info.id);
	return r;
}

static void drop_sandbox(struct work *w)
{
	struct err e = ERR_NULL;

	if (!w->sandbox[0])
		return;
	(void)!hub_kill(w->e2b->hub, w->sandbox, 0, &e);
	if (hub_remove(w->e2b->hub, w->sandbox, true, NULL, &e) < 0)
		log_warn("e2b", "a sandbox of a build was left behind", "id=%s why=%s", w->sandbox, e.text);
	w->sandbox[0] = '\0';
}

/* What was written until step @i (not included) is kept, the sandbox goes. */
static int keep_layer(struct work *w, size_t i, struct err *e)
{
	int r = hub_keep_root(w->e2b->hub, w->sandbox, w->chain[i], e);

	drop_sandbox(w);
	return r;
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

/* Where to begin: behind the last step whose layer is there. */
static size_t begin_at(struct work *w, size_t forced)
{
	size_t i = MIN(w->n, forced);

	while (i && !hub_has_root(w->e2b->hub, w->chain[i]))
		i--;
	return i;
}

static bool needs_sandbox(const struct json *step)
{
	const char *type = json_get_str(step, "type", "");

	return !str_eq(type, "ENV") && !str_eq(type, "ARG");
}

static int run_steps(struct work *w, size_t first, struct err *e)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < w->n; i++) {
		const struct json *step = json_at(w->steps, i);
		AUTO(str_free) char *title = step_title(step);

		snprintf(w->step, sizeof(w->step), "%u", (unsigned)(i + 1));
		snprintf(w->prefix, sizeof(w->prefix), "[builder %u/%u]", (unsigned)(i + 1), (unsigned)w->n);
		work_say(w, false, "%s%s %s", i < first ? "CACHED " : "", w->prefix, title);
		if (i >= first && needs_sandbox(step)) {
			if (!w->sandbox[0])
				r = open_sandbox(w, w->base, first || w->worked ? w->chain[w->kept] : "", e);
			w->worked = true;
			if (r == 0)
				r = work_step(w, step, e);
		}
		step_apply(step, &w->state);
		if (r == 0 && i >= first && step_is_work(step) && i + 1 < w->n) {
			r = keep_layer(w, i + 1, e);
			w->kept = i + 1;
		}
	}
	snprintf(w->step, sizeof(w->step), "finalize");
	return r;
}

/* --- the result --------------------------------------------------------------------------------------------------- */

static char *config_of(const struct work *w)
{
	struct json_writer j;
	struct buf b;
	char *text;

	buf_init(&b, 1024 * 1024);
	j = (struct json_writer){ .b = &b };
	jw_open(&j, '{');
	step_state_put(&w->state, &j);
	jw_kstr(&j, "start", w->start);
	jw_kstr(&j, "ready", w->ready);
	jw_close(&j, '}');
	text = b.failed ? NULL : span_dup(buf_span(&b));
	buf_fini(&b);
	return text;
}

/* The newest build of this key that was made of the same. The lock is held. */
static const struct build *same_build(struct work *w, const char *chain)
{
	const struct build *found = NULL;
	size_t i, k;

	for (i = 0; i < w->e2b->templates.len; i++) {
		struct template *t = w->e2b->templates.v[i];

		for (k = 0; str_eq(t->owner, w->owner) && k < t->builds.len; k++) {
			const struct build *b = t->builds.v[k];

			if (b->state == BUILD_READY && str_eq(b->chain, chain) &&
			    (!found || b->ended_ns > found->ended_ns))
				found = b;
		}
	}
	return found;
}

/* Which template it is going to be. Return: it is there already. */
static bool choose_disk(struct work *w, bool forced, char **ret_config)
{
	const struct build *same;
	uint8_t raw[20];
	char hex[2 * sizeof(raw) + 1];
	size_t i = 0;

	while (i < w->n && !needs_sandbox(json_at(w->steps, i)))
		i++;
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), hex);
	lock_take(&w->e2b->templates.lock);
	same = forced ? NULL : same_build(w, w->chain[w->n]);
	snprintf(w->build->chain, sizeof(w->build->chain), "%s", w->chain[w->n]);
	if (i == w->n)
		snprintf(w->build->disk, sizeof(w->build->disk), "%s", w->base);
	else if (same)
		snprintf(w->build->disk, sizeof(w->build->disk), "%s", same->disk);
	else
		snprintf(w->build->disk, sizeof(w->build->disk), BUILD_DISK "%s", hex);
	*ret_config = same ? must_strdup(same->config) : NULL;
	lock_drop(&w->e2b->templates.lock);
	if (hub_template_mark(w->e2b->hub, w->build->disk))
		return true;
	if (same || i == w->n) { /* somebody took it away */
		lock_take(&w->e2b->templates.lock);
		snprintf(w->build->disk, sizeof(w->build->disk), BUILD_DISK "%s", hex);
		lock_drop(&w->e2b->templates.lock);
	}
	return false;
}

/* Does it start, and does it become ready? */
static int try_it(struct work *w, const char *config, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	int r = json_parse(span_str(config), &j, e);

	if (r < 0 || !begin_is_wanted(j))
		return r;
	if (w->start[0])
		work_say(w, false, "[finalize] start command: %.500s", w->start);
	if (w->ready[0])
		work_say(w, false, "[finalize] waiting until the ready command succeeds: %.500s", w->ready);
	r = open_sandbox(w, w->build->disk, NULL, e);
	if (r == 0)
		r = begin_run(w->e2b, w->sandbox, j, &w->state,
			      MIN((uint64_t)READY_MS, (uint64_t)MAX(clock_left_ms(w->until), 1)), &w->build->stop, e);
	drop_sandbox(w);
	return r;
}

static int run(struct work *w, struct err *e)
{
	AUTO(str_free) char *before = NULL;
	AUTO(str_free) char *config = NULL;
	size_t forced, first;
	bool there;
	int r;

	snprintf(w->step, sizeof(w->step), "base");
	r = find_base(w, e);
	if (r < 0)
		return r;
	chain_all(w);
	forced = forced_at(w);
	there = choose_disk(w, forced < w->n || (w->n == 0 && json_get_bool(w->request, "force", false)), &before);
	first = there ? w->n : begin_at(w, forced);
	w->kept = first;
	r = run_steps(w, first, e);
	if (r < 0)
		return r;
	if (!there) {
		if (!w->sandbox[0])
			r = open_sandbox(w, w->base, w->kept ? w->chain[w->kept] : "", e);
		if (r == 0)
			r = work_pack(w, e);
		if (r == 0 && w->worked) /* a cache: it need not be */
			(void)!keep_layer(w, w->n, NULL);
		drop_sandbox(w);
	}
	config = r == 0 ? config_of(w) : NULL;
	if (r == 0 && !config)
		r = err_set(e, -E2BIG, "limit", "the variables of the environment are too long");
	if (r == 0 && !str_eq(before, config))
		r = try_it(w, config, e);
	if (r == 0) {
		lock_take(&w->e2b->templates.lock);
		w->build->config = take(&config);
		lock_drop(&w->e2b->templates.lock);
	}
	return r;
}

static void end(struct work *w, int r, struct err *e)
{
	struct build *b = w->build;
	struct err ee = ERR_NULL;
	size_t i;

	drop_sandbox(w);
	explicit_bzero(w->text, strlen(w->text)); /* it may have a registry's credentials */
	if (r < 0 && !e->code)
		err_sys(e, r, "the build");
	work_say(w, r < 0, r < 0 ? "Build failed: %s" : "Build finished", e->text);
	lock_take(&w->e2b->templates.lock);
	b->ended_ns = clock_wall();
	b->state = r < 0 ? BUILD_FAILED : BUILD_READY;
	if (r < 0) {
		b->why = must_strdup(e->text);
		snprintf(b->step, sizeof(b->step), "%s", w->step);
	}
	w->t->updated_ns = b->ended_ns;
	for (i = 0; r == 0 && i < b->tags.len; i++)
		template_tag(w->t, b->tags.v[i], b->id);
	lock_drop(&w->e2b->templates.lock);
	log_info("e2b", r < 0 ? "build failed" : "build finished", "template=%s build=%s disk=%s why=%s", w->t->name,
		 b->id, b->disk, e->text);
	if (template_save(w->e2b, w->t, &ee) < 0)
		log_error("e2b", "what is known of a template was not written", "id=%s why=%s", w->t->id, ee.text);
	templates_sweep(w->e2b);
	image_done(w);
}

bool work_is_stopped(struct work *w)
{
	return __atomic_load_n(&w->build->stop, __ATOMIC_RELAXED);
}

static void work(void *ctx)
{
	struct work *w = ctx;
	struct err e = ERR_NULL;
	int r = json_parse(span_str(w->text), &w->request, &e);

	if (__atomic_load_n(&w->e2b->stopping, __ATOMIC_RELAXED))
		__atomic_store_n(&w->build->stop, true, __ATOMIC_RELAXED);
	w->until = clock_after_ms(BUILD_MS);
	w->steps = json_get(w->request, "steps");
	w->n = json_len(w->steps);
	if (r == 0)
		r = run(w, &e);
	if (r < 0 && __atomic_load_n(&w->e2b->stopping, __ATOMIC_RELAXED))
		err_set(&e, r, "stopped", "the daemon ended before the build did");
	else if (r < 0 && __atomic_load_n(&w->build->stop, __ATOMIC_RELAXED))
		err_set(&e, r, "stopped", "the template was deleted while it was built");
	end(w, r, &e);
	template_unref(w->e2b, w->t);
	json_free(&w->request);
	step_state_fini(&w->state);
	str_free(&w->text);
	str_free(&w->start);
	str_free(&w->ready);
	free(w->chain);
	free(w);
}

void build_start(struct e2b *e2b, struct template *t, struct build *b, struct span text)
{
	struct work *w = NEW(struct work);

	w->e2b = e2b;
	w->t = t;
	w->build = b;
	w->text = text.len ? span_dup(text) : must_strdup("{}");
	snprintf(w->owner, sizeof(w->owner), "%s", t->owner);
	pool_run(e2b->builders, work, w);
}
