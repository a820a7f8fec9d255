/* SPDX-License-Identifier: Apache-2.0 */
/* A strand is put on the pool's queue as one job whenever it has work and is not there yet; it then runs a bounded
 * number of its jobs and queues itself again, so that a busy strand does not starve the others. */
#include "loop/pool.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/str.h"
#include "base/vec.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>

enum { STRAND_TURN = 16, STRAND_TRIES = 4 };

struct job {
	struct list node;
	pool_job_fn *fn;
	void *ctx;
};

struct pool {
	struct lock lock;
	pthread_cond_t wake; /* work or end */
	pthread_cond_t idle; /* some strand became idle */
	struct list jobs;
	bool ending;
	unsigned busy; /* jobs that run */
	unsigned guests; /* jobs of strands that run on threads of others */
	VEC(pthread_t) threads;
};

struct strand {
	struct pool *pool; /* borrowed */
	struct list jobs;  /* guarded by pool.lock */
	bool queued;
};

static void *worker(void *ctx)
{
	struct pool *p = ctx;

	lock_take(&p->lock);
	for (;;) {
		struct list *node = list_shift(&p->jobs);
		struct job *j;

		if (!node) {
			if (p->ending)
				break;
			lock_wait(&p->lock, &p->wake, CLOCK_NEVER);
			continue;
		}
		p->busy++;
		lock_drop(&p->lock);
		j = list_entry(node, struct job, node);
		j->fn(j->ctx);
		assert(lock_held() == 0);
		free(j);
		lock_take(&p->lock);
		p->busy--;
		if (!p->busy && list_empty(&p->jobs))
			pthread_cond_broadcast(&p->idle);
	}
	lock_drop(&p->lock);
	return NULL;
}

int pool_new(const char *name, unsigned threads, struct pool **ret, struct err *e)
{
	AUTO(pool_free) struct pool *p = NEW(struct pool);
	unsigned i;

	lock_init(&p->lock, "pool", LOCK_POOL);
	lock_cond_init(&p->wake);
	lock_cond_init(&p->idle);
	list_init(&p->jobs);
	for (i = 0; i < threads; i++) {
		char title[16];
		pthread_t t;
		int r = pthread_create(&t, NULL, worker, p);

		if (r)
			return err_sys(e, -r, "cannot start a worker thread");
		snprintf(title, sizeof(title), "%.11s-%u", name, i % 100);
		pthread_setname_np(t, title);
		vec_push(&p->threads, t);
	}
	*ret = take(&p);
	return 0;
}

void pool_free(struct pool **slot)
{
	struct pool *p = take(slot);
	size_t i;

	if (!p)
		return;
	lock_take(&p->lock);
	p->ending = true;
	pthread_cond_broadcast(&p->wake);
	lock_drop(&p->lock);
	for (i = 0; i < p->threads.len; i++)
		pthread_join(p->threads.v[i], NULL);
	vec_fini(&p->threads);
	pthread_cond_destroy(&p->wake);
	pthread_cond_destroy(&p->idle);
	lock_fini(&p->lock);
	free(p);
}

void pool_drain(struct pool *p)
{
	lock_take(&p->lock);
	while (p->busy || !list_empty(&p->jobs))
		lock_wait(&p->lock, &p->idle, CLOCK_NEVER);
	lock_drop(&p->lock);
}

static struct job *job_new(pool_job_fn *fn, void *ctx)
{
	struct job *j = NEW(struct job);

	j->fn = fn;
	j->ctx = ctx;
	return j;
}

static void queue_locked(struct pool *p, struct job *j)
{
	list_append(&p->jobs, &j->node);
	pthread_cond_signal(&p->wake);
}

void pool_run(struct pool *p, pool_job_fn *fn, void *ctx)
{
	struct job *j = job_new(fn, ctx);

	lock_take(&p->lock);
	queue_locked(p, j);
	lock_drop(&p->lock);
}

struct strand *strand_new(struct pool *pool)
{
	struct strand *s = NEW(struct strand);

	s->pool = pool;
	list_init(&s->jobs);
	return s;
}

static void strand_turn(void *ctx);

/* Who had the strand lets go: what has come meanwhile gets its turn. */
static void turn_over_locked(struct strand *s)
{
	struct pool *p = s->pool;

	s->queued = !list_empty(&s->jobs);
	if (s->queued)
		queue_locked(p, job_new(strand_turn, s));
	else
		pthread_cond_broadcast(&p->idle);
}

static void strand_turn(void *ctx)
{
	struct strand *s = ctx;
	struct pool *p = s->pool;
	int left = STRAND_TURN;

	lock_take(&p->lock);
	while (left-- && !list_empty(&s->jobs)) {
		struct job *j = list_entry(list_shift(&s->jobs), struct job, node);

		lock_drop(&p->lock);
		j->fn(j->ctx);
		assert(lock_held() == 0);
		free(j);
		lock_take(&p->lock);
	}
	turn_over_locked(s);
	lock_drop(&p->lock);
}

void strand_run(struct strand *s, pool_job_fn *fn, void *ctx)
{
	struct pool *p = s->pool;
	struct job *j = job_new(fn, ctx);

	lock_take(&p->lock);
	list_append(&s->jobs, &j->node);
	if (!s->queued) {
		s->queued = true;
		queue_locked(p, job_new(strand_turn, s));
	}
	lock_drop(&p->lock);
}

bool strand_try(struct strand *s, pool_job_fn *fn, void *ctx)
{
	struct pool *p = s->pool;
	bool may = false;
	int i;

	/* A job that has given its answer may be asked for the next one before it has ended. */
	for (i = 0; !may && i < STRAND_TRIES; i++) {
		if (i)
			sched_yield();
		lock_take(&p->lock);
		may = !s->queued && p->guests < (p->threads.len + 1) / 2;
		if (may) {
			s->queued = true;
			p->guests++;
		}
		lock_drop(&p->lock);
	}
	if (!may)
		return false;
	fn(ctx);
	assert(lock_held() == 0);
	lock_take(&p->lock);
	p->guests--;
	turn_over_locked(s);
	lock_drop(&p->lock);
	return true;
}

void strand_free(struct strand **slot)
{
	struct strand *s = take(slot);

	if (!s)
		return;
	lock_take(&s->pool->lock);
	while (s->queued)
		lock_wait(&s->pool->lock, &s->pool->idle, CLOCK_NEVER);
	lock_drop(&s->pool->lock);
	free(s);
}
