/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handle with its bytes elsewhere: sodium_malloc() puts them at the end of their own pages with a page that faults
 * behind and a canary before, locks them and marks them MADV_DONTDUMP. Between uses the pages have no access at all, so
 * that a stray read faults instead of telling. Locking fails above RLIMIT_MEMLOCK, which is asked for here a second
 * time, because sodium_malloc() does not tell: the secret is then still of use, only the swap could see it.
 */
#include "seal/secret.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

struct secret {
	uint8_t *p;
	size_t len, room;
	unsigned users;
};

static atomic_bool unlocked; /* once a page could not be locked */
/* The host's key is used by many threads at a time: access goes when the last of them rests. */
static pthread_mutex_t users_lock = PTHREAD_MUTEX_INITIALIZER;

int secret_process(void)
{
	struct rlimit core;

	if (sodium_init() < 0)
		return -ENOSYS;
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || getrlimit(RLIMIT_CORE, &core) < 0)
		return -errno;
	core.rlim_cur = 0;
	if (setrlimit(RLIMIT_CORE, &core) < 0)
		return -errno;
	return 0;
}

struct secret *secret_new(size_t len)
{
	struct secret *s;
	uint8_t *p;

	if (len > SECRET_MAX || sodium_init() < 0)
		return NULL;
	p = sodium_malloc(len ? len : 1);
	if (!p)
		return NULL;
	if (mlock(p, len ? len : 1) < 0)
		atomic_store(&unlocked, true);
	madvise((void *)((uintptr_t)p & ~(uintptr_t)4095), len, MADV_WIPEONFORK);
	memset(p, 0, len ? len : 1);
	s = NEW(struct secret);
	s->p = p;
	s->len = s->room = len;
	sodium_mprotect_noaccess(p);
	return s;
}

struct secret *secret_of(struct span data)
{
	struct secret *s = secret_new(data.len);

	if (s && data.len) {
		memcpy(secret_use(s), data.p, data.len);
		secret_rest(s);
	}
	return s;
}

void secret_free(struct secret **slot)
{
	struct secret *s = *slot;

	if (!s)
		return;
	*slot = NULL;
	sodium_free(s->p); /* which zeroes */
	free(s);
}

size_t secret_len(const struct secret *s)
{
	return s->len;
}

uint8_t *secret_use(struct secret *s)
{
	pthread_mutex_lock(&users_lock);
	if (s->users++ == 0)
		sodium_mprotect_readwrite(s->p);
	pthread_mutex_unlock(&users_lock);
	return s->p;
}

void secret_rest(struct secret *s)
{
	pthread_mutex_lock(&users_lock);
	assert(s->users > 0);
	if (--s->users == 0)
		sodium_mprotect_noaccess(s->p);
	pthread_mutex_unlock(&users_lock);
}

void secret_cut(struct secret *s, size_t len)
{
	uint8_t *p = secret_use(s);

	assert(len <= s->len);
	sodium_memzero(p + len, s->len - len);
	s->len = len;
	secret_rest(s);
}

bool secret_same(struct secret *a, struct secret *b)
{
	bool same;

	if (a->len != b->len)
		return false;
	same = sodium_memcmp(secret_use(a), secret_use(b), a->len) == 0;
	secret_rest(a);
	secret_rest(b);
	return same;
}

/* Room is doubled by copying, and what it was copied from is zeroed. */
static int grow(struct secret **slot, size_t room)
{
	struct secret *more = secret_new(room), *old = *slot;

	if (!more)
		return -ENOMEM;
	memcpy(secret_use(more), secret_use(old), old->len);
	secret_rest(more);
	secret_rest(old);
	secret_free(slot);
	*slot = more;
	return 0;
}

int secret_read(int fd, size_t max, struct secret **ret)
{
	AUTO(secret_free) struct secret *s = secret_new(MIN(max, (size_t)4096) + 1);
	size_t have = 0;

	assert(max < SECRET_MAX);
	if (!s)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read(fd, secret_use(s) + have, s->room - have);
		int r = n < 0 ? -errno : 0;

		secret_rest(s);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return r;
		if (n == 0)
			break;
		have += (size_t)n;
		if (have > max)
			return -E2BIG;
		if (have == s->room) {
			r = grow(&s, MIN(2 * have, max + 1));
			if (r < 0)
				return r;
		}
	}
	secret_cut(s, have);
	*ret = take(&s);
	return 0;
}

bool secret_is_locked(void)
{
	return !atomic_load(&unlocked);
}

void wipe(void *p, size_t len)
{
	sodium_memzero(p, len);
}
