/* SPDX-License-Identifier: Apache-2.0 */
/* Each thread keeps a small stack of the ranks it holds; that is all the bookkeeping there is. */
#include "base/lock.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>

enum { HELD_MAX = 8 };

static __thread const struct lock *held[HELD_MAX];
static __thread int held_len;

void lock_init(struct lock *l, const char *name, enum lock_rank rank)
{
	pthread_mutex_init(&l->mutex, NULL);
	l->name = name;
	l->rank = rank;
}

void lock_fini(struct lock *l)
{
	pthread_mutex_destroy(&l->mutex);
}

static NORETURN void broken(const struct lock *l, const char *what)
{
	fprintf(stderr, "berth: lock %s: %s", l->name, what);
	if (held_len)
		fprintf(stderr, " (while holding %s)", held[held_len - 1]->name);
	fputc('\n', stderr);
	abort();
}

void lock_take(struct lock *l)
{
	int i;

	for (i = 0; i < held_len; i++)
		if (held[i]->rank >= l->rank)
			broken(l, "taken out of order");
	if (held_len == HELD_MAX)
		broken(l, "too many locks held");
	pthread_mutex_lock(&l->mutex);
	held[held_len++] = l;
}

void lock_drop(struct lock *l)
{
	int i;

	for (i = held_len - 1; i >= 0 && held[i] != l;)
		i--;
	if (i < 0)
		broken(l, "dropped but not held");
	for (; i + 1 < held_len; i++)
		held[i] = held[i + 1];
	held_len--;
	pthread_mutex_unlock(&l->mutex);
}

int lock_wait(struct lock *l, pthread_cond_t *cond, uint64_t until)
{
	struct timespec ts = { .tv_sec = (time_t)(until / CLOCK_S), .tv_nsec = (long)(until % CLOCK_S) };

	if (held_len != 1 || held[0] != l)
		broken(l, "waited on while other locks are held");
	if (until == CLOCK_NEVER)
		return pthread_cond_wait(cond, &l->mutex) ? -EINVAL : 0;
	return pthread_cond_timedwait(cond, &l->mutex, &ts) == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void lock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

int lock_held(void)
{
	return held_len;
}
