/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_TELL_H
#define HOST_BROKER_TELL_H

/*
 * What the daemon is told for its audit. The first use of a secret by a sandbox is answered before it happens; later
 * ones, and refusals, are counted and told each second, a row for each kind. One thread, the loop's.
 */
#include "host/broker/say.h"
#include "loop/loop.h"

struct teller;

enum { TELL_KINDS = 256, TELL_QUEUE = 8192, TELL_KNOWN = 8192, TELL_PAUSE_MS = 1000 };

/** tell_new() - @fd, which does not block, is borrowed. */
struct teller *tell_new(struct loop *loop, int fd);
void tell_free(struct teller **slot);

/** tell_first() - has this sandbox used this secret before? Return: 0: yes, go on; > 0: @fn will be called with what
 * became of it, the number is for tell_forget(); -EAGAIN: too much waits to be told. */
int64_t tell_first(struct teller *t, const struct say_tell *what, void (*fn)(void *ctx, int code), void *ctx);
void tell_forget(struct teller *t, int64_t id);
/** tell_count() - @what with kind, names, status and bytes is one more of its kind. */
void tell_count(struct teller *t, const struct say_tell *what);
/** tell_gone() - a connection has ended. */
void tell_gone(struct teller *t, uint32_t slot);

#endif
