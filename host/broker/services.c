/* SPDX-License-Identifier: Apache-2.0 */
/* All policies. Whether files have changed is seen by their names, times, sizes and numbers. */
#include "host/broker/rules.h"
#include "host/broker/service.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct kept {
	char name[SERVICE_NAME_MAX + 1];
	struct service *service; /* NULL: it is broken */
};

struct services {
	char *dirs;
	struct service *rules; /* that is in no file */
	struct kept all[SERVICES_MAX]; /* in the order of names */
	size_t n;
	uint64_t mark;	   /* of what was read */
	uint64_t looked;   /* when, clock_now() */
	bool has_looked;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
	return (h ^ v) * 0x9e3779b97f4a7c15ULL + (h >> 29);
}

/* Calls @fn for each file NAME.json, directory by directory. */
static void each_file(struct services *s, void (*fn)(struct services *s, int dir, const char *file, void *ctx),
		      void *ctx)
{
	AUTO(str_free) char *dirs = must_strdup(s->dirs);
	char *rest = dirs, *one;

	while ((one = strsep(&rest, ":"))) {
		DIR *d = *one ? opendir(one) : NULL;
		struct dirent *at;

		while (d && (at = readdir(d)))
			if (str_ends(at->d_name, ".json") && at->d_name[0] != '.')
				fn(s, dirfd(d), at->d_name, ctx);
		if (d)
			closedir(d);
	}
}

static void mark_one(struct services *s UNUSED, int dir, const char *file, void *ctx)
{
	uint64_t *mark = ctx, h = 0;
	struct stat st;

	if (fstatat(dir, file, &st, 0) < 0)
		return;
	h = mix(mix(h, (uint64_t)clock_ns(st.st_mtim)), (uint64_t)st.st_ino);
	h = mix(mix(h, (uint64_t)clock_ns(st.st_ctim)), (uint64_t)st.st_size);
	*mark += mix(h, (uint64_t)st.st_dev) | 1; /* in whatever order they are read */
}

static int read_one(int dir, const char *file, const char *name, struct service **ret, struct err *e)
{
	AUTO(service_unref) struct service *one = NULL;
	AUTO(str_free) char *ca = NULL;
	AUTO(buf_fini) struct buf text;
	int r;

	buf_init(&text, SERVICE_FILE_MAX);
	r = io_read_file(dir, file, &text);
	if (r < 0)
		return err_sys(e, r, "reading it");
	r = service_parse(name, buf_span(&text), &one, &ca, e);
	if (r == 0 && ca) {
		r = io_read_file(AT_FDCWD, ca, &one->ca);
		if (r == 0 && !buf_len(&one->ca))
			r = -ENODATA;
		if (r < 0)
			return err_sys(e, r, "its authority %s", ca);
	}
	if (r == 0)
		*ret = take(&one);
	return r;
}

static struct kept *place(struct services *s, const char *name)
{
	size_t i, at = 0;

	while (at < s->n && strcmp(s->all[at].name, name) < 0)
		at++;
	if (at < s->n && str_eq(s->all[at].name, name)) {
		service_unref(&s->all[at].service);
		return &s->all[at];
	}
	if (s->n == SERVICES_MAX)
		return NULL;
	for (i = s->n++; i > at; i--)
		s->all[i] = s->all[i - 1];
	s->all[at] = (struct kept){ .service = NULL };
	(void)!str_copy(s->all[at].name, sizeof(s->all[at].name), name);
	return &s->all[at];
}

static void load_one(struct services *s, int dir, const char *file, void *ctx UNUSED)
{
	AUTO(str_free) char *name = span_dup(SPAN(file, strlen(file) - strlen(".json")));
	struct err e = ERR_NULL;
	struct kept *k;

	if (strlen(name) > SERVICE_NAME_MAX || !(k = place(s, name)))
		return;
	if (read_one(dir, file, name, &k->service, &e) < 0)
		log_error("broker", "a service's policy cannot be used", "service=%s why=%s", name, e.text);
}

static void clear(struct services *s)
{
	while (s->n)
		service_unref(&s->all[--s->n].service);
}

void services_look(struct services *s)
{
	uint64_t mark = 0, now = clock_now();

	if (s->has_looked && now - s->looked < CLOCK_S)
		return;
	s->looked = now;
	each_file(s, mark_one, &mark);
	if (s->has_looked && mark == s->mark)
		return;
	s->has_looked = true;
	s->mark = mark;
	clear(s);
	each_file(s, load_one, NULL);
	if (!s->n)
		log_warn("broker", "no service is known: no secret can be used by way of the broker", "directories=%s",
			 s->dirs);
	else
		log_info("broker", "services read", "n=%zu", s->n);
}

struct services *services_new(const char *dirs)
{
	struct services *s = NEW(struct services);

	s->dirs = must_strdup(dirs);
	s->rules = service_rules();
	services_look(s);
	return s;
}

void services_free(struct services **slot)
{
	struct services *s = take(slot);

	if (!s)
		return;
	clear(s);
	service_unref(&s->rules);
	str_free(&s->dirs);
	free(s);
}

const struct service *services_find(struct services *s, const char *name, bool *ret_broken)
{
	size_t i;

	*ret_broken = false;
	if (str_eq(name, RULES_SERVICE))
		return s->rules;
	for (i = 0; i < s->n; i++) {
		if (!str_eq(s->all[i].name, name))
			continue;
		*ret_broken = !s->all[i].service;
		return s->all[i].service;
	}
	return NULL;
}

const struct service *services_at(struct services *s, size_t i, bool *ret_end)
{
	*ret_end = i >= s->n;
	return i < s->n ? s->all[i].service : NULL;
}

const struct service *services_leading(struct services *s, const char *host)
{
	size_t i, k;

	for (i = 0; i < s->n; i++)
		for (k = 0; s->all[i].service && s->all[i].service->leads && k < s->all[i].service->n_routes; k++)
			if (str_eq(s->all[i].service->routes[k].host, host))
				return s->all[i].service;
	return NULL;
}

bool services_claim(struct services *s, const char *secret)
{
	size_t i, k;

	for (i = 0; i < s->n; i++)
		for (k = 0; s->all[i].service && k < s->all[i].service->secrets.n; k++)
			if (str_eq(s->all[i].service->secrets.v[k], secret))
				return true;
	return false;
}
