/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_WATCH_H
#define GUEST_WATCH_H

/* Replication of names and attributes: from events to acknowledged batches of changes, and the barrier. */
#include "guest/dirs.h"
#include "guest/scan.h"
#include "guest/source.h"
#include "loop/loop.h"
#include "wire/conn.h"

struct watch;

struct watch_events {
	/** The content of a regular file may have changed. Return: false when it cannot be queued for shipping. */
	bool (*written)(void *ctx, uint64_t parent, struct span name, const struct node *node);
	/** A regular file has this name, whatever else happened. */
	void (*seen)(void *ctx, uint64_t parent, struct span name, const struct node *node);
	/** A name is gone; whatever it named may have no other. */
	void (*lost)(void *ctx);
};

typedef void watch_barrier_fn(void *ctx);
struct barrier;

/** watch_new() - @source may be NULL (then only scans tell something); it and @tree stay the caller's. */
struct watch *watch_new(struct loop *loop, const struct tree *tree, struct source *source,
			const struct watch_events *events, void *ctx);
void watch_free(struct watch **slot);
/** watch_replicate() - tell changes to @control from now on, beginning with a full scan. */
void watch_replicate(struct watch *w, struct conn *control, enum scan_for what);
/** watch_detach() - the control connection is gone; changes are collected until the next watch_replicate(). */
void watch_detach(struct watch *w);
/** watch_ack() - Return: 0; -EPROTO. */
int watch_ack(struct watch *w, uint64_t seq) MUST_CHECK;
/** watch_go_on() - the control connection takes more. */
void watch_go_on(struct watch *w);
/** watch_mark() - treat a file as written, for the census. */
void watch_mark(struct watch *w, uint64_t parent, struct span name);
struct dirs *watch_dirs(struct watch *w);
/** watch_kept() - the rules; they are changed before watch_replicate(). */
struct kept *watch_kept(struct watch *w);
/** watch_dirty() - names seen and not yet told. */
size_t watch_dirty(const struct watch *w);
/** watch_trim() - contents of files that were told have been shipped, too: what all that needed is given back, soon. */
void watch_trim(struct watch *w);
/** watch_acked() - batches that hosts have acknowledged: it goes up while things come along. */
uint64_t watch_acked(const struct watch *w);
/** watch_told() - where the number of the newest batch that was told is; lives as long as @w. */
const uint64_t *watch_told(const struct watch *w);
/** watch_on() - true when a host has asked for changes in the agent's life: then barriers wait. */
bool watch_on(const struct watch *w);

/**
 * watch_barrier() - call @fn when everything that happened before now was told and acknowledged, at the latest @until
 * It is called from here when there is nothing to wait for. Return: NULL when @fn was called already.
 */
struct barrier *watch_barrier(struct watch *w, uint64_t until, watch_barrier_fn *fn, void *ctx);
/** watch_barrier_told() - also call @told as soon as everything is told, before it is acknowledged. */
void watch_barrier_told(struct barrier *b, watch_barrier_fn *told);
/** watch_unbarrier() - destructor of the slot: @fn will not be called. */
void watch_unbarrier(struct barrier **slot);

#endif
