/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_FOLLOW_H
#define BASE_FOLLOW_H

/*
 * Readers that follow what somebody else writes down, line after line, without a thread of their own. Where the lines
 * are kept (in memory, in a journal) is the source's affair; here is who reads, who waits, and who must be woken.
 */
#include "base/own.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct follow;
struct follower;

struct follow *follow_new(void);
/** follow_free() - no follower may be left. */
void follow_free(struct follow **follow);
/** follow_publish() - there is more to read of @topic. Any thread; no lock of LOCK_LEAF may be held. NULL is fine. */
void follow_publish(struct follow *follow, const char *topic);
/** follow_tick() - an empty line to whoever waits, so that those who went away are noticed. */
void follow_tick(struct follow *follow);
/** follow_end() - whoever follows @topic comes to his end; NULL: everybody, now and later. */
void follow_end(struct follow *follow, const char *topic);

struct follow_source {
	const char *topic; /* copied */
	/* Lines from number *@at on, which moves; a heap string, NULL when there is nothing now. No lock is held. */
	char *(*next)(void *ctx, uint64_t *at);
	void (*end)(void *ctx); /* may be NULL */
	void *ctx;
};

/* Who waits: @suspend is called inside of follower_read() when it returns -EAGAIN, @resume once for each such call. */
struct follow_waiter {
	void (*suspend)(void *ctx);
	void (*resume)(void *ctx);
	void *ctx;
};

/** follower_new() - reads from number @at on; @wait: goes on with what comes. */
struct follower *follower_new(struct follow *follow, const struct follow_source *source, uint64_t at, bool wait,
			      const struct follow_waiter *waiter);
void follower_free(struct follower **follower);
/** follower_read() - Return: bytes put at @to; 0 at the end; -EAGAIN. */
ssize_t follower_read(struct follower *follower, void *to, size_t max);

#endif
