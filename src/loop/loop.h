/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

/*
 * One thread's waiting: descriptors (level-triggered epoll), timers, children (pidfd), mail from other threads.
 * Everything but loop_post() and loop_stop() belongs to the thread that runs the loop. A callback may remove any watch
 * or timer, its own included; removed ones never fire again.
 */
#include "base/err.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_watch;
struct loop_timer;

enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 }; /* HANGUP is reported always, wanted or not */
enum { LOOP_LEAVES = 8 }; /* to be watched for: the other side sends no more; told as LOOP_READ */

typedef void loop_watch_fn(void *ctx, int fd, unsigned events);
typedef void loop_timer_fn(void *ctx);
typedef void loop_mail_fn(void *ctx);

/** loop_new() - Return: 0 or -errno (descriptors are out). */
int loop_new(struct loop **ret, struct err *e) MUST_CHECK;
/** loop_free() - watches and timers still there are forgotten, mail still there is dropped; descriptors stay theirs. */
void loop_free(struct loop **loop);
/** loop_run() - wait and call back until loop_stop(). Return: 0 or -errno of epoll. */
int loop_run(struct loop *loop);
/** loop_once() - one round: wait at most @timeout_ms (-1: for ever), call back. Return: 0 or -errno. For tests. */
int loop_once(struct loop *loop, int timeout_ms);
/** loop_stop() - make loop_run() return soon. Any thread, also a signal handler. */
void loop_stop(struct loop *loop);

/** loop_watch() - call @fn when @fd is ready for @events (LOOP_READ|LOOP_WRITE|LOOP_LEAVES; 0 waits for hangup only).
 * @fd stays yours: unwatch before you close it. Return: 0 or -errno. */
int loop_watch(struct loop *loop, int fd, unsigned events, loop_watch_fn *fn, void *ctx,
	       struct loop_watch **ret) MUST_CHECK;
/** loop_rewatch() - change what is waited for; no system call when nothing changes. */
void loop_rewatch(struct loop_watch *w, unsigned events);
/** loop_unwatch() - destructor of the slot; NULL is fine. */
void loop_unwatch(struct loop_watch **w);

/** loop_timer() - call @fn once at @at (clock.h); the object stays, armed again by loop_rearm(). CLOCK_NEVER: not
 * armed. */
struct loop_timer *loop_timer(struct loop *loop, uint64_t at, loop_timer_fn *fn, void *ctx);
/** loop_rearm() - set the moment anew. */
void loop_rearm(struct loop_timer *t, uint64_t at);
/** loop_untimer() - destructor of the slot; NULL is fine. */
void loop_untimer(struct loop_timer **t);

/** loop_post() - have @fn(@ctx) called on the loop's thread, soon, in order of posting. Any thread. Aborts when memory
 * is out. What @ctx points to must live until then. */
void loop_post(struct loop *loop, loop_mail_fn *fn, void *ctx);
/** loop_sync() - block until everything posted before has been called back; not on the loop's thread, no locks held.
 * Returns at once when the loop does not run (it was stopped, or never started). */
void loop_sync(struct loop *loop);
/** loop_is_mine() - true on the thread that runs this loop (or, before it ran, on the one that made it). */
bool loop_is_mine(const struct loop *loop);

#endif
