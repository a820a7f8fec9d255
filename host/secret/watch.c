/* SPDX-License-Identifier: Apache-2.0 */
#include "host/secret/watch.h"

#include "base/lock.h"
#include "base/log.h"
#include "base/own.h"
#include "base/str.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>

struct watch {
	unsigned refs; /* atomic */
	struct watch_conf conf;
	char *sandbox, *owner;
	struct leaks *leaks;
	struct lock lock;
	uint64_t told[WATCH_TOLD_MAX]; /* hashes of what was reported */
	size_t ntold;
	bool is_short_told;
	uint8_t key[HASH_KEY_LEN];
};

struct report {
	struct watch *watch; /* a reference */
	char name[SEAL_NAME_MAX + 1], where[WATCH_WHERE_MAX];
	enum leak_form form;
	bool is_last;
};

struct watch *watch_new(const struct watch_conf *conf)
{
	struct watch *w = NEW(struct watch);

	w->refs = 1;
	w->conf = *conf;
	w->sandbox = must_strdup(conf->sandbox);
	w->owner = must_strdup(conf->owner);
	w->leaks = leaks_new();
	lock_init(&w->lock, "watch", LOCK_LEAF);
	random_bytes(w->key, sizeof(w->key));
	return w;
}

struct watch *watch_ref(struct watch *w)
{
	__atomic_add_fetch(&w->refs, 1, __ATOMIC_RELAXED);
	return w;
}

void watch_unref(struct watch **slot)
{
	struct watch *w = take(slot);

	if (!w || __atomic_sub_fetch(&w->refs, 1, __ATOMIC_ACQ_REL))
		return;
	leaks_unref(&w->leaks);
	str_free(&w->sandbox);
	str_free(&w->owner);
	lock_fini(&w->lock);
	free(w);
}

void watch_add(struct watch *w, const char *name, struct span value)
{
	int r = leaks_add(w->leaks, name, value);
	bool first;

	if (r == 0)
		return;
	lock_take(&w->lock);
	first = !w->is_short_told;
	w->is_short_told = true;
	lock_drop(&w->lock);
	if (first)
		log_warn("secret", "not looked for in what the sandbox puts out", "id=%s name=%s why=%s", w->sandbox,
			 name, r == -EINVAL ? "too short" : "too many");
}

enum watch_mode watch_output(const struct watch *w)
{
	return leaks_count(w->leaks) ? w->conf.output : WATCH_OFF;
}

bool watch_files(const struct watch *w)
{
	return w->conf.files && leaks_count(w->leaks);
}

struct leaks *watch_leaks(struct watch *w)
{
	return w->leaks;
}

/* On a thread of the pool. */
static void report(void *ctx)
{
	struct report *r = ctx;
	struct watch *w = r->watch;
	char text[SEAL_NAME_MAX + WATCH_WHERE_MAX + 64];
	struct err e = ERR_NULL;

	snprintf(text, sizeof(text), "%s, %s, in %s%s", r->name, leak_form_name(r->form), r->where,
		 r->is_last ? "; no more is told of this sandbox" : "");
	if (secrets_seen(w->conf.secrets, r->name, w->sandbox, w->owner, r->where, leak_form_name(r->form), &e) < 0)
		log_warn("secret", "not written down", "id=%s name=%s why=%s", w->sandbox, r->name, e.text);
	if (w->conf.told)
		w->conf.told(w->conf.ctx, w->sandbox, text);
	watch_unref(&r->watch);
	free(r);
}

void watch_tell(struct watch *w, const char *where, const char *name, enum leak_form form)
{
	AUTO(str_free) char *all = str_printf("%s\n%d\n%s", name, (int)form, where);
	uint64_t hash = hash_keyed(w->key, all, strlen(all));
	struct report *r;
	size_t i;

	lock_take(&w->lock);
	for (i = 0; i < w->ntold && w->told[i] != hash; i++)
		;
	if (i < w->ntold || w->ntold == WATCH_TOLD_MAX) {
		lock_drop(&w->lock);
		return;
	}
	w->told[w->ntold++] = hash;
	lock_drop(&w->lock);
	r = NEW(struct report);
	r->watch = watch_ref(w);
	r->form = form;
	r->is_last = i + 1 == WATCH_TOLD_MAX;
	snprintf(r->name, sizeof(r->name), "%s", name);
	snprintf(r->where, sizeof(r->where), "%s", where);
	pool_run(w->conf.pool, report, r);
}
