/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SANDBOX_EVENT_H
#define HOST_SANDBOX_EVENT_H

/*
 * What happens to sandboxes, templates, keys and the store, as lines of JSON in a ring of bounded length. Every event
 * has a number; numbers ascend, over the end of a daemon too (they start at its start in microseconds since 1970), so
 * that a reader can say what he has seen. One who is too slow is told so by an event "lost".
 */
#include "base/own.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct events;
struct event_reader;

enum { EVENTS_KEPT = 4096, EVENTS_NOW = 0 };

struct events *events_new(void);
/** events_free() - no reader may be left. */
void events_free(struct events **events);
/** events_emit() - @kind is "sandbox.created", "template.built", …; @name and @why may be "". Any thread; no lock of
 * LOCK_LEAF may be held. NULL events are fine: nobody listens. */
void events_emit(struct events *events, const char *kind, const char *id, const char *name, const char *why);
/** events_tick() - an empty line to whoever waits, so that those who went away are noticed. */
void events_tick(struct events *events);
/** events_end() - every reader comes to its end, now and later. */
void events_end(struct events *events);
uint64_t events_last(struct events *events);

/** event_reader_new() - of all events behind number @since (0: of all that are kept). @follow: wait for more; @suspend
 * is called with @ctx inside of event_reader_read() when it returns -EAGAIN, @resume once for each such call. */
struct event_reader *event_reader_new(struct events *events, uint64_t since, bool follow, void (*suspend)(void *ctx),
				      void (*resume)(void *ctx), void *ctx);
void event_reader_free(struct event_reader **reader);
/** event_reader_read() - Return: bytes put at @to; 0 at the end; -EAGAIN. */
ssize_t event_reader_read(struct event_reader *reader, void *to, size_t max);

#endif
