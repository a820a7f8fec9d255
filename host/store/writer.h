/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_WRITER_H
#define HOST_STORE_WRITER_H

/* The one thread that writes the content environment: a bounded queue in, durable groups out. */
#include "host/store/db.h"
#include "host/store/key.h"

struct writer;

/** writer_start() - @db is borrowed until writer_stop(). Return: 0 or -errno. */
int writer_start(struct db *db, struct writer **ret, struct err *e) MUST_CHECK;
/** writer_stop() - destructor: write what is queued, end the thread. */
void writer_stop(struct writer **w);
/** writer_epoch() - how many groups have failed so far. What was begun in one epoch cannot be continued in another. */
uint64_t writer_epoch(struct writer *w);
/** writer_check() - Return: 0 while @epoch lasts, else the code of the failure that ended it. */
int writer_check(struct writer *w, uint64_t epoch) MUST_CHECK;
/** writer_submit() - hand an object over (copied); nothing happens when it is durable or queued already. Blocks while
 * the queue is full. Objects become durable in the order of submission, so that no list is there without its parts.
 * @ret_new: whether it was not there yet; may be NULL. Return: 0; the code of the failure when @epoch has passed. */
int writer_submit(struct writer *w, enum content_table table, const struct digest *d, struct span data, uint64_t epoch,
		  bool *ret_new) MUST_CHECK;
/** writer_settle() - wait until all that was submitted before is durable; with @soon, until it is committed and will be
 * durable soon, or at the next db_sync(). Return: 0; the code of a failure since this thread's first successful
 * writer_check() after its last call. */
int writer_settle(struct writer *w, bool soon) MUST_CHECK;
/** writer_find() - a copy of an object that is still queued. Return: 0 and *@ret is yours (mem_free()); DB_E_NONE. */
int writer_find(struct writer *w, enum content_table table, const struct digest *d, void **ret,
		size_t *ret_len) MUST_CHECK;
/** writer_queued() - bytes waiting or being written. */
uint64_t writer_queued(struct writer *w);

#endif
