/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Producers hash on their own threads and hand objects over; one thread writes them in groups. An fsync costs as much
 * as megabytes of data, so the thread takes all that is queued, up to GROUP_B, into one transaction: while it waits for
 * the disk the next group gathers by itself. It begins when somebody waits in settle or when EAGER_B have gathered.
 *
 * Fairness comes from two bounds and first-come-first-served. The queue holds QUEUE_B; a producer that finds it full
 * draws a ticket and blocks, so that a flood has one object waiting for room and everybody else stands right behind it.
 * settle waits for what was handed over before and for nothing that came later: never more than a queue and a group.
 *
 * Who settles "soon" waits for the commit only: a group for which nobody else waits is not synced (db_commit_soon()).
 * Then there is nothing to wait for but the work itself, which he does himself when the thread has none: that spares
 * two changes of threads, and is most of what a small file costs.
 *
 * A group that fails (map or disk full) takes the queue with it: its later objects may be lists of the parts that were
 * lost. The epoch is counted up; a content begun in an older epoch can hand nothing more over, a thread that finished
 * one in an older epoch is told when it settles, and the store goes on. Objects stay findable until they are durable,
 * so that there is no moment in which a reader can see them neither in the queue nor in the environment (it looks in
 * this order: environment, queue, environment).
 */
#include "host/store/writer.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/map.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { QUEUE_B = 16 << 20, GROUP_B = 8 << 20, EAGER_B = 2 << 20, SOON_B = 64 << 20 };

struct object {
	struct list link;
	uint8_t key[1 + DIGEST_LEN]; /* table, digest: the key in writer.objects */
	uint64_t number;
	size_t len;
	void *data;
};

struct writer {
	struct db *db; /* borrowed */
	struct lock lock;
	pthread_t thread;
	pthread_cond_t work, done, room;
	struct list queue;  /* of struct object, in order of number */
	struct map objects; /* queued or being written; borrowed: queue or the thread */
	uint64_t queued_b;
	uint64_t void_known; /* how often the environment went back, as far as the epoch says */
	uint64_t void_queue; /* the same when the first in the queue came */
	uint64_t soon_b; /* of groups since all was durable */
	uint64_t number_in, number_out; /* of the last object handed over; of the last one decided */
	uint64_t ticket_next, ticket_now;
	uint64_t epoch;
	int code;	  /* of the last failure */
	struct map since; /* thread -> the epoch, plus one, in which it finished its first content since it settled */
	unsigned settlers, soon; /* who waits in settle; how many of these only for the commit */
	bool is_writing; /* somebody has a group */
	bool stop;
};

static void object_key(uint8_t *to, enum content_table table, const struct digest *d)
{
	to[0] = (uint8_t)table;
	memcpy(to + 1, d->b, DIGEST_LEN);
}

static void object_free(struct object *o)
{
	free(o->data);
	free(o);
}

/* Up to GROUP_B from the front of the queue; they stay in the map. */
static void gather(struct writer *w, struct list *group)
{
	size_t b = 0;

	if (!db_lag(w->db))
		w->soon_b = 0;
	while (!list_empty(&w->queue) && b < GROUP_B) {
		struct list *node = list_shift(&w->queue);

		list_append(group, node);
		b += list_entry(node, struct object, link)->len;
	}
	w->soon_b += b;
}

/* Under the lock, before the epoch is looked at: when the environment went back, what was committed and not durable is
 * void, and an epoch ends. */
static void look_void(struct writer *w)
{
	uint64_t voided = db_went_back(w->db);

	if (w->void_known == voided)
		return;
	w->void_known = voided;
	w->epoch++;
	w->code = -EIO;
	if (!w->objects.len)
		w->void_queue = voided;
}

/* Has the environment gone back since the queue was begun? It cannot any more while we are in a transaction of it. */
static bool is_behind(struct writer *w)
{
	bool is;

	lock_take(&w->lock);
	look_void(w);
	is = w->void_queue != w->void_known;
	w->void_queue = w->void_known;
	lock_drop(&w->lock);
	return is;
}

static int write_group(struct writer *w, struct list *group, bool soon)
{
	struct db_txn *t = NULL;
	struct list *pos;
	int r = db_begin(w->db, true, &t, NULL);

	if (r == 0 && is_behind(w)) { /* it may be lists of parts that are void */
		db_abort(&t);
		r = -EIO;
	}
	if (r)
		return r;
	list_each(pos, group) {
		struct object *o = list_entry(pos, struct object, link);

		r = db_put(t, o->key[0], SPAN(o->key + 1, DIGEST_LEN), SPAN(o->data, o->len), DB_PUT_NEW);
		if (r < 0)
			break;
	}
	return soon ? db_commit_soon(&t) : db_commit(&t);
}

/* Under the lock: everything in @group is decided. */
static void forget(struct writer *w, struct list *group)
{
	struct list *node;

	while ((node = list_shift(group))) {
		struct object *o = list_entry(node, struct object, link);

		map_remove(&w->objects, SPAN(o->key, sizeof(o->key)));
		w->queued_b -= o->len;
		w->number_out = o->number;
		object_free(o);
	}
}

/* Nobody waits for the disk. But what is not durable is bounded. Under the lock. */
static bool is_soon(const struct writer *w)
{
	return w->settlers && w->settlers == w->soon && w->soon_b < SOON_B;
}

/* A group from the queue, which is not empty. Under the lock, which is dropped meanwhile. */
static void write_one(struct writer *w)
{
	struct list group;
	bool soon;
	int r;

	list_init(&group);
	gather(w, &group);
	soon = is_soon(w);
	w->is_writing = true;
	lock_drop(&w->lock);
	r = write_group(w, &group, soon);
	lock_take(&w->lock);
	w->is_writing = false;
	if (r) {
		w->epoch++;
		w->code = r;
		list_splice(&group, &w->queue);
	}
	forget(w, &group);
	pthread_cond_broadcast(&w->done);
	pthread_cond_broadcast(&w->room);
}

static bool has_work(const struct writer *w)
{
	return !w->is_writing && !list_empty(&w->queue) && (w->stop || w->settlers || w->queued_b >= EAGER_B);
}

static void *writer_main(void *ctx)
{
	struct writer *w = ctx;

	lock_take(&w->lock);
	for (;;) {
		if (has_work(w))
			write_one(w);
		else if (w->stop && list_empty(&w->queue))
			break;
		else
			lock_wait(&w->lock, &w->work, CLOCK_NEVER);
	}
	lock_drop(&w->lock);
	return NULL;
}

int writer_start(struct db *db, struct writer **ret, struct err *e)
{
	struct writer *w = NEW(struct writer);
	int r;

	w->db = db;
	lock_init(&w->lock, "content-writer", LOCK_STORE);
	lock_cond_init(&w->work);
	lock_cond_init(&w->done);
	lock_cond_init(&w->room);
	list_init(&w->queue);
	r = pthread_create(&w->thread, NULL, writer_main, w);
	if (r) {
		lock_fini(&w->lock);
		free(w);
		return err_sys(e, -r, "start the content writer");
	}
	(void)pthread_setname_np(w->thread, "store-writer");
	*ret = w;
	return 0;
}

void writer_stop(struct writer **slot)
{
	struct writer *w = take(slot);

	if (!w)
		return;
	lock_take(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->work);
	lock_drop(&w->lock);
	pthread_join(w->thread, NULL);
	map_fini(&w->objects);
	map_fini(&w->since);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->done);
	pthread_cond_destroy(&w->room);
	lock_fini(&w->lock);
	free(w);
}

uint64_t writer_epoch(struct writer *w)
{
	uint64_t epoch;

	lock_take(&w->lock);
	look_void(w);
	epoch = w->epoch;
	lock_drop(&w->lock);
	return epoch;
}

int writer_check(struct writer *w, uint64_t epoch)
{
	uint64_t thread = (uint64_t)gettid();
	int r;

	lock_take(&w->lock);
	look_void(w);
	r = w->epoch == epoch ? 0 : w->code;
	if (r == 0 && !map_get_u64(&w->since, thread))
		map_put_u64(&w->since, thread, (void *)(uintptr_t)(epoch + 1));
	lock_drop(&w->lock);
	return r;
}

/* Under the lock: until there is room, first come, first served. */
static void wait_for_room(struct writer *w)
{
	uint64_t mine = w->ticket_next++;

	while (w->ticket_now != mine || w->queued_b >= QUEUE_B) {
		pthread_cond_signal(&w->work);
		lock_wait(&w->lock, &w->room, CLOCK_NEVER);
	}
	w->ticket_now++;
	pthread_cond_broadcast(&w->room);
}

static int enqueue(struct writer *w, const uint8_t *key, struct span data, uint64_t epoch, bool *ret_new)
{
	struct span name = SPAN(key, 1 + DIGEST_LEN);
	struct object *o;

	look_void(w);
	if (w->epoch == epoch && map_get(&w->objects, name))
		return 0;
	if (w->queued_b >= QUEUE_B || w->ticket_next != w->ticket_now)
		wait_for_room(w);
	if (w->epoch != epoch)
		return w->code;
	if (map_get(&w->objects, name))
		return 0;
	o = NEW(struct object);
	memcpy(o->key, key, sizeof(o->key));
	o->len = data.len;
	o->data = must_memdup(data.p, data.len);
	o->number = ++w->number_in;
	list_append(&w->queue, &o->link);
	map_put(&w->objects, name, o);
	w->queued_b += o->len;
	if (ret_new)
		*ret_new = true;
	if (w->settlers || w->queued_b >= EAGER_B)
		pthread_cond_signal(&w->work);
	return 0;
}

int writer_submit(struct writer *w, enum content_table table, const struct digest *d, struct span data, uint64_t epoch,
		  bool *ret_new)
{
	uint8_t key[1 + DIGEST_LEN];
	struct db_txn *t = NULL;
	struct span there;
	int r = db_begin(w->db, false, &t, NULL);

	if (ret_new)
		*ret_new = false;
	if (r)
		return r;
	r = db_get(t, table, digest_span(d), &there);
	db_abort(&t);
	if (r != DB_E_NONE)
		return r;
	object_key(key, table, d);
	lock_take(&w->lock);
	r = enqueue(w, key, data, epoch, ret_new);
	lock_drop(&w->lock);
	return r;
}

/* Under the lock: has something failed since this thread finished what it settles now? */
static int tell(struct writer *w)
{
	uint64_t thread = (uint64_t)gettid(), since = (uint64_t)(uintptr_t)map_get_u64(&w->since, thread);

	look_void(w);
	map_remove_u64(&w->since, thread);
	return since && since != w->epoch + 1 ? w->code : 0;
}

int writer_settle(struct writer *w, bool soon)
{
	uint64_t mine;
	int r;

	lock_take(&w->lock);
	mine = w->number_in;
	w->settlers++;
	w->soon += soon;
	while (w->number_out < mine) {
		if (!w->is_writing && is_soon(w)) {
			write_one(w);
			continue;
		}
		pthread_cond_signal(&w->work);
		lock_wait(&w->lock, &w->done, CLOCK_NEVER);
	}
	w->settlers--;
	w->soon -= soon;
	if (has_work(w))
		pthread_cond_signal(&w->work);
	r = tell(w);
	lock_drop(&w->lock);
	return r;
}

int writer_find(struct writer *w, enum content_table table, const struct digest *d, void **ret, size_t *ret_len)
{
	uint8_t key[1 + DIGEST_LEN];
	struct object *o;

	object_key(key, table, d);
	lock_take(&w->lock);
	o = map_get(&w->objects, SPAN(key, sizeof(key)));
	if (o) {
		*ret = must_memdup(o->data, o->len);
		*ret_len = o->len;
	}
	lock_drop(&w->lock);
	return o ? 0 : DB_E_NONE;
}

uint64_t writer_queued(struct writer *w)
{
	uint64_t b;

	lock_take(&w->lock);
	b = w->queued_b;
	lock_drop(&w->lock);
	return b;
}
