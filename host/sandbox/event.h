/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SANDBOX_EVENT_H
#define HOST_SANDBOX_EVENT_H

/*
 * What happens to sandboxes, templates, keys and the store, as lines of JSON in a ring of bounded length. Every event
 * has a number; numbers ascend, over the end of a daemon too (they start at its start in microseconds since 1970), so
 * that a reader can say what he has seen. One who is too slow is told so by an event "lost".
 */
#include "base/follow.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct events;

enum { EVENTS_KEPT = 4096, EVENTS_NOW = 0 };

struct events *events_new(void);
/** events_free() - no reader may be left. */
void events_free(struct events **events);
/** events_emit() - @kind is "sandbox.created", "template.built", …; @name and @why may be "". Any thread; no lock of
 * LOCK_LEAF may be held. NULL events are fine: nobody listens. */
void events_emit(struct events *events, const char *kind, const char *id, const char *name, const char *why);
/** events_readers() - who follows them, for follow_tick() and follow_end(); borrowed. */
struct follow *events_readers(struct events *events);
uint64_t events_last(struct events *events);

/** events_follow() - a reader of all events behind number @since (0: of all that are kept); @wait: goes on with what
 * comes. */
struct follower *events_follow(struct events *events, uint64_t since, bool wait, const struct follow_waiter *waiter);

#endif
