/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOOP_POOL_H
#define LOOP_POOL_H

/*
 * A fixed set of threads that do work which may block for a short while. A strand is a queue whose jobs run one at a
 * time and in order, on whatever thread is free: what one workspace does never overtakes itself, and never holds up
 * another workspace as long as a thread is free.
 */
#include "base/err.h"

#include <stdbool.h>

struct pool;
struct strand;

typedef void pool_job_fn(void *ctx);

/** pool_new() - @threads workers named "@name-N" (@name at most 11 bytes). Return: 0 or -errno. */
int pool_new(const char *name, unsigned threads, struct pool **ret, struct err *e) MUST_CHECK;
/** pool_free() - finish all queued jobs, join the threads. All strands must be freed first. */
void pool_free(struct pool **pool);
/** pool_drain() - block until no job is queued or running. Not from a job. */
void pool_drain(struct pool *pool);
/** pool_run() - run @fn(@ctx) on some worker. Any thread. */
void pool_run(struct pool *pool, pool_job_fn *fn, void *ctx);

/** strand_new() - an empty strand on @pool. */
struct strand *strand_new(struct pool *pool);
/** strand_free() - wait until its queued jobs have run, then release it. Not from one of its own jobs. */
void strand_free(struct strand **strand);
/** strand_run() - run @fn(@ctx) after everything queued before on this strand. Any thread. */
void strand_run(struct strand *strand, pool_job_fn *fn, void *ctx);
/** strand_try() - run @fn(@ctx) as a job of the strand on the caller's thread, which spares two changes of threads,
 * when nothing of it is queued or runs. Half as many callers as the pool has threads may be in here at once, so that
 * what blocks keeps no more of them than that. No lock may be held. Return: whether it has run. */
bool strand_try(struct strand *strand, pool_job_fn *fn, void *ctx) MUST_CHECK;

#endif
