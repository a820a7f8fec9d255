/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is committed "soon" (txn_commit_soon(), store_settle_soon()) is durable after LATE_MS, or when there is much of
 * it, or when somebody asks. One thread does it for all workspaces. CALM_MS after its last one, an environment is
 * calmed: from then on a commit costs its own two syncs and no file beside it has to be looked at.
 */
#include "base/clock.h"
#include "host/store/inside.h"

#include <stdio.h>

enum { LATE_MS = 100, CALM_MS = 2000, MAPPED_MOST = 512 };

struct late {
	struct store *store; /* borrowed */
	struct lock lock;
	pthread_t thread;
	pthread_cond_t cond;
	uint64_t sync_at, calm_at; /* 0: not at all */
	bool stop;
};

static int settle_all(struct store *store, bool calm)
{
	uint64_t now = clock_now(), quiet_since = now - MIN(now, (uint64_t)CALM_MS * CLOCK_MS);
	struct wsdb *all[MAPPED_MOST];
	size_t i, n = wsdb_mapped(store, all, MAPPED_MOST);
	int r = 0, q;

	for (i = 0; i < n; i++) {
		q = wsdb_settle(all[i], calm ? CLOCK_NEVER : quiet_since);
		r = r ? r : q;
		wsdb_close(&all[i]);
	}
	q = store_sync_contents(store);
	if (q == 0 && calm)
		q = db_calm(store->content);
	return r ? r : q;
}

int store_sync(struct store *store, struct err *e)
{
	int r = store->writer ? settle_all(store, false) : 0;

	return r ? err_sys(e, r, "make the store durable") : 0;
}

static void *late_main(void *ctx)
{
	struct late *l = ctx;

	lock_take(&l->lock);
	while (!l->stop) {
		uint64_t at = l->sync_at ? l->sync_at : l->calm_at ? l->calm_at : CLOCK_NEVER;
		bool calm = !l->sync_at;

		if (clock_now() < at) {
			(void)!lock_wait(&l->lock, &l->cond, at);
			continue;
		}
		l->sync_at = 0;
		l->calm_at = calm ? 0 : clock_after_ms(CALM_MS);
		lock_drop(&l->lock);
		(void)!settle_all(l->store, calm); /* whom it concerns is told */
		lock_take(&l->lock);
	}
	lock_drop(&l->lock);
	return NULL;
}

int late_start(struct store *store, struct late **ret, struct err *e)
{
	struct late *l = NEW(struct late);
	int r;

	l->store = store;
	lock_init(&l->lock, "store-late", LOCK_LEAF);
	lock_cond_init(&l->cond);
	r = pthread_create(&l->thread, NULL, late_main, l);
	if (r) {
		pthread_cond_destroy(&l->cond);
		lock_fini(&l->lock);
		free(l);
		return err_sys(e, -r, "start a thread of the store");
	}
	(void)pthread_setname_np(l->thread, "store-late");
	*ret = l;
	return 0;
}

void late_stop(struct late **slot)
{
	struct late *l = take(slot);

	if (!l)
		return;
	lock_take(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->cond);
	lock_drop(&l->lock);
	pthread_join(l->thread, NULL);
	pthread_cond_destroy(&l->cond);
	lock_fini(&l->lock);
	free(l);
}

void late_tell(struct late *l, bool now)
{
	uint64_t at = clock_after_ms(now ? 0 : LATE_MS);

	lock_take(&l->lock);
	if (!l->sync_at || at < l->sync_at) {
		l->sync_at = at;
		pthread_cond_signal(&l->cond);
	}
	lock_drop(&l->lock);
}
