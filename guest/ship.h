/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SHIP_H
#define GUEST_SHIP_H

/* Contents on their way to the host: a queue of files, one at a time, each checked to have been at rest while it was
 * read. */
#include "guest/dirs.h"
#include "loop/loop.h"
#include "wire/conn.h"

struct ship;

typedef void ship_progress_fn(void *ctx);

/** ship_new() - @progress is called when something was settled. @dirs is borrowed, and so is @told: the number of the
 * newest batch of changes that was told. */
struct ship *ship_new(struct loop *loop, const struct tree *tree, struct dirs *dirs, const uint64_t *told,
		      ship_progress_fn *progress, void *ctx);
void ship_free(struct ship **slot);
/** ship_attach() - a connection to ship on, to a host that speaks @generation; what was not acknowledged on the last
 * one is queued again. */
void ship_attach(struct ship *s, struct conn *conn, unsigned generation);
void ship_detach(struct ship *s);
/** ship_add() - a file was written. Return: false when the queue is full. */
bool ship_add(struct ship *s, uint64_t parent, struct span name, uint64_t fid);
/** ship_seen() - a file has this name now: remembered when it is queued. */
void ship_seen(struct ship *s, uint64_t parent, struct span name, uint64_t fid);
/** ship_lost() - a file lost a name. When it was the last one of the file that is being read, that is given up: while
 * we hold it open its blocks are not free, and a guest that removes a file to make room wants the room at once. */
void ship_lost(struct ship *s);
/** ship_fetch() - the host waits for it; @path is a name that it may have. */
void ship_fetch(struct ship *s, uint64_t fid, struct span path);
/** ship_frame() - WINDOW and SHIP_ACK. Return: 0; -EBADMSG. */
int ship_frame(struct ship *s, const struct frame *f) MUST_CHECK;
/** ship_go_on() - the connection takes more. */
void ship_go_on(struct ship *s);
/** ship_ticket() - the number of the newest request to ship. */
uint64_t ship_ticket(const struct ship *s);
/** ship_settled() - true when all requests up to @ticket are stored by the host, or void. */
bool ship_settled(const struct ship *s, uint64_t ticket);
/** ship_moved() - bytes that were read to be shipped, and shipments that were acknowledged: it goes up while things
 * come along. */
uint64_t ship_moved(const struct ship *s);
/** ship_backlog() - files queued or not acknowledged. */
size_t ship_backlog(const struct ship *s);

#endif
