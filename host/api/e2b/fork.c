/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of a running sandbox, all made from one moment of it, each with an answer of its own. Whoever asks makes them,
 * and threads of a small pool help him: each takes the next that nobody has taken. A helper that comes late, because
 * others are helped, finds nothing left; nobody waits for it. */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/str.h"
#include "loop/pool.h"

#include <errno.h>
#include <stdio.h>

enum { FORKS_MAX = 100, HELPERS = 3 };

struct forking {
	struct e2b *e2b;
	struct hub_create what;
	const struct json *door; /* borrowed, as all that @what has: there until all are made */
	struct lock lock; /* guards what follows */
	pthread_cond_t cond;
	uint64_t n, next, done;
	unsigned refs;
	struct fork {
		struct hub_info info;
		struct err e; /* code 0: made */
	} forks[];
};

static void unref(struct forking *f)
{
	bool last;

	lock_take(&f->lock);
	last = --f->refs == 0;
	lock_drop(&f->lock);
	if (!last)
		return;
	lock_fini(&f->lock);
	pthread_cond_destroy(&f->cond);
	free(f);
}

static void work(struct forking *f)
{
	struct hub_create what;
	struct fork *one;

	lock_take(&f->lock);
	while (f->next < f->n) {
		one = &f->forks[f->next++];
		lock_drop(&f->lock);
		what = f->what; /* each may change its own */
		(void)!hub_create(f->e2b->hub, &what, &one->info, &one->e);
		lock_take(&f->lock);
		f->done++;
		pthread_cond_broadcast(&f->cond);
	}
	lock_drop(&f->lock);
}

static void help(void *ctx)
{
	work(ctx);
	unref(ctx);
}

static void make_all(struct forking *f)
{
	unsigned i, helpers = (unsigned)MIN(f->n - 1, (uint64_t)HELPERS);

	f->refs = 1 + helpers;
	for (i = 0; i < helpers; i++)
		pool_run(f->e2b->forkers, help, f);
	work(f);
	lock_take(&f->lock);
	while (f->done < f->n)
		(void)!lock_wait(&f->lock, &f->cond, CLOCK_NEVER);
	lock_drop(&f->lock);
}

static void put_error(struct json_writer *w, const struct err *e)
{
	jw_key(w, "error");
	jw_open(w, '{');
	jw_ku64(w, "code", (uint64_t)(e->code == -EAGAIN ? 429 : http_status_of(e->code)));
	jw_kstr(w, "message", e->text);
	jw_close(w, '}');
}

static void put_fork(struct forking *f, struct json_writer *w, const struct fork *one)
{
	const char *name = json_get_str(f->door, "template", one->info.template_);

	jw_open(w, '{');
	if (one->e.code) {
		put_error(w, &one->e);
	} else {
		jw_key(w, "sandbox");
		e2b_put_sandbox(f->e2b, w, &one->info, name, json_get_str(f->door, "alias", name));
	}
	jw_close(w, '}');
}

static void answer(struct forking *f, struct http_res *res)
{
	struct json_writer w = { .b = &res->body };
	uint64_t i;

	jw_open(&w, '[');
	for (i = 0; i < f->n; i++)
		put_fork(f, &w, &f->forks[i]);
	jw_close(&w, ']');
	res->status = 201;
}

int e2b_fork(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(hub_moment_free) struct hub_moment *moment = NULL;
	AUTO(json_free) struct json *j = NULL, *door = NULL;
	struct hub_create what = { .moment = NULL };
	struct e2b *e2b = ctx;
	struct forking *f;
	struct hub_info i;
	uint64_t n = 0;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = e2b_read_timeout(j, &what.timeout_ms, e);
	if (r == 0) {
		n = json_get_u64(j, "count", 1);
		if (!n || n > FORKS_MAX)
			r = err_set(e, -EINVAL, "bad-request", "count is 1 to %d", FORKS_MAX);
	}
	if (r == 0)
		r = e2b_find(e2b, req, &i, e);
	if (r == 0)
		r = e2b_memory(e2b, i.id, &door, e);
	if (r == 0)
		r = hub_moment_take(e2b->hub, i.id, &moment, e);
	if (r < 0)
		return r;
	what.moment = moment;
	snprintf(what.owner, sizeof(what.owner), "%s", i.owner);
	if (i.owner[0])
		what.owner_max = keys_sandboxes(e2b->keys, i.owner);
	f = must_calloc(1, sizeof(*f) + n * sizeof(f->forks[0]));
	lock_init(&f->lock, "forks", LOCK_LEAF);
	lock_cond_init(&f->cond);
	f->e2b = e2b;
	f->what = what;
	f->door = door;
	f->n = n;
	make_all(f);
	answer(f, res);
	unref(f);
	return 0;
}
