/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state as a tar archive. A thread of its own walks the tree and writes; what it writes waits in a bounded buffer for
 * the server's thread, which sends it. A client that takes nothing for a minute is given up. An archive that cannot be
 * finished is cut off, so that nobody takes it for whole.
 */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "host/ws/archive.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { BUFFER_B = 2 * 1024 * 1024, STALL_MS = 60000, EXPORTS_MAX = 8, EXPORTS_OF_ONE = 4 };

struct export {
	struct store *store;
	struct digest root;
	struct store_hold *hold; /* on it */
	char *path, *what;
	void *connection;
	struct lock lock; /* guards what follows */
	pthread_cond_t cond;
	struct buf ready;
	bool is_over, is_left, waits;
	int result;
	unsigned users; /* the thread and the server */
	int place;	/* in running */
};

/* Whose the exports are that run, atomic: 0 is a free place. One key, or the socket, cannot have all of them. */
static uint64_t running[EXPORTS_MAX];

/* Return: the place; -EUSERS. Of two who come at once for the last place both may be refused. */
static int claim(const char *owner, struct err *e)
{
	uint64_t who = strtoull(owner, NULL, 16) + 1, none = 0;
	unsigned i, k, of_one = 0;

	for (i = 0; i < EXPORTS_MAX; i++, none = 0)
		if (__atomic_compare_exchange_n(&running[i], &none, who, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			break;
	for (k = 0; k < EXPORTS_MAX; k++)
		of_one += __atomic_load_n(&running[k], __ATOMIC_ACQUIRE) == who;
	if (i < EXPORTS_MAX && of_one <= EXPORTS_OF_ONE)
		return (int)i;
	if (i < EXPORTS_MAX)
		__atomic_store_n(&running[i], 0, __ATOMIC_RELEASE);
	return err_set(e, -EUSERS, "exports-run", "%u exports of yours run: at most %d at a time, and %d of all",
		       of_one - (i < EXPORTS_MAX), EXPORTS_OF_ONE, EXPORTS_MAX);
}

static void drop(struct export *x)
{
	bool last;
	int place;

	lock_take(&x->lock);
	last = --x->users == 0;
	lock_drop(&x->lock);
	if (!last)
		return;
	store_hold_free(&x->hold);
	buf_fini(&x->ready);
	pthread_cond_destroy(&x->cond);
	lock_fini(&x->lock);
	str_free(&x->path);
	str_free(&x->what);
	place = x->place;
	free(x);
	__atomic_store_n(&running[place], 0, __ATOMIC_RELEASE);
}

/* x.lock is held. */
static void wake(struct export *x)
{
	if (x->waits)
		http_resume(x->connection);
	x->waits = false;
}

static int put(void *ctx, const void *p, size_t len)
{
	struct export *x = ctx;
	uint64_t until = clock_after_ms(STALL_MS);
	int r = 0;

	lock_take(&x->lock);
	while (r == 0 && !x->is_left && buf_len(&x->ready) && buf_len(&x->ready) + len > BUFFER_B)
		r = lock_wait(&x->lock, &x->cond, until);
	if (x->is_left)
		r = -EPIPE;
	if (r == 0)
		r = buf_append(&x->ready, p, len);
	if (r == 0)
		wake(x);
	lock_drop(&x->lock);
	return r;
}

static void *export_thread(void *ctx)
{
	struct export *x = ctx;
	struct err e = ERR_NULL;
	int r = ws_export(x->store, &x->root, x->path, put, x, &e);

	if (r < 0)
		log_warn("api", "an export broke off", "of=%s why=%s", x->what, e.text);
	lock_take(&x->lock);
	x->is_over = true;
	x->result = r;
	if (!x->is_left)
		wake(x);
	lock_drop(&x->lock);
	drop(x);
	return NULL;
}

static ssize_t export_read(void *ctx, uint64_t at, void *to, size_t max)
{
	struct export *x = ctx;
	struct span all;
	ssize_t n;

	(void)at;
	lock_take(&x->lock);
	all = buf_span(&x->ready);
	n = (ssize_t)MIN(all.len, max);
	if (n > 0) {
		memcpy(to, all.p, (size_t)n);
		buf_consume(&x->ready, (size_t)n);
		pthread_cond_broadcast(&x->cond);
	} else if (x->is_over) {
		n = x->result;
	} else {
		x->waits = true;
		http_suspend(x->connection);
		n = -EAGAIN;
	}
	lock_drop(&x->lock);
	return n;
}

static void export_end(void *ctx)
{
	struct export *x = ctx;

	lock_take(&x->lock);
	x->is_left = true;
	x->waits = false;
	pthread_cond_broadcast(&x->cond);
	lock_drop(&x->lock);
	drop(x);
}

void v1_export_end(void)
{
	const struct timespec nap = { .tv_nsec = 2000000 };
	unsigned i;

	for (i = 0; i < EXPORTS_MAX; i++)
		while (__atomic_load_n(&running[i], __ATOMIC_ACQUIRE))
			nanosleep(&nap, NULL);
}

/* What can be told as an error is told before the first byte. */
static int look(struct export *x, struct err *e)
{
	struct tree_item it;
	int r = *x->path ? tree_resolve(x->store, &x->root, x->path, &it) : 0;

	if (r == -ENOENT || r == -ENOTDIR)
		return err_set(e, -ENOENT, "no-such-path", "there is no /workspace/%s in it", x->path);
	return r < 0 ? err_sys(e, r, "reading the tree") : 0;
}

int v1_left_out(struct api *api, const char *id, const struct digest *root, const char *path, uint64_t *ret,
		struct err *e)
{
	AUTO(buf_fini) struct buf rules;
	int r;

	*ret = 0;
	buf_init(&rules, 65536);
	r = hub_keep(api->hub, id, &rules, e);
	if (r < 0 || !buf_len(&rules))
		return r;
	r = ws_left_out(api->store, root, path, ret);
	return r < 0 ? err_sys(e, r, "reading the tree") : 0;
}

static int count(struct api *api, const char *from, const struct export *x, uint64_t *ret, struct err *e)
{
	AUTO(str_free) char *id = NULL;
	const char *snapshot;
	int r = hub_state_split(from, &id, &snapshot, e);

	return r < 0 ? r : v1_left_out(api, id, &x->root, x->path, ret, e);
}

int v1_export(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	const char *from = http_query(req, "from"), *typed = http_query(req, "path");
	struct export *x;
	pthread_t t;
	int r;

	r = v1_check_own(api, req, from, e);
	if (r == 0)
		r = claim(http_who(req)->id, e);
	if (r < 0)
		return r;
	x = NEW(struct export);
	x->place = r;
	x->store = api->store;
	x->what = must_strdup(from ? from : "");
	x->connection = http_connection(req);
	x->users = 1;
	lock_init(&x->lock, "export", LOCK_LEAF);
	lock_cond_init(&x->cond);
	buf_init(&x->ready, BUFFER_B + TAR_MAP_MAX * 40ULL);
	r = path_normalise(typed ? typed : "", "/workspace", &x->path) < 0
		    ? err_set(e, -EINVAL, "bad-path", "a path below /workspace is needed, without \"..\"")
		    : v1_tree_of(api, from, &x->root, &x->hold, e);
	if (r == 0)
		r = look(x, e);
	if (r == 0)
		r = count(api, from, x, &res->left_out, e);
	if (r == 0) {
		x->users = 2;
		r = -pthread_create(&t, NULL, export_thread, x);
		if (r < 0) {
			x->users = 1;
			err_sys(e, r, "starting an export");
		}
	}
	if (r < 0) {
		drop(x);
		return r;
	}
	pthread_detach(t);
	res->type = "application/x-tar";
	res->read = export_read;
	res->read_end = export_end;
	res->size = HTTP_SIZE_UNKNOWN;
	res->ctx = x;
	return 0;
}
