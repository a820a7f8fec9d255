/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_LOOKUP_H
#define HOST_NET_LOOKUP_H

/*
 * Addresses of a few names, asked of resolvers on a loop and remembered for as long as the answer says, a minute at
 * most. Who asks for a name that is being asked for waits with the others. Everything on the loop's thread.
 */
#include "host/net/resolvers.h"
#include "loop/loop.h"

struct lookup;
struct lookup_wait;

enum { LOOKUP_ADDRESSES_MAX = 4 };

/** Called once, never from within lookup_ask(), and asks for nothing itself. @n 0: it has none, or nobody answers. */
typedef void lookup_fn(void *ctx, const struct priv_prefix *v, size_t n);

struct lookup *lookup_new(struct loop *loop, const struct resolvers *from);
/** lookup_free() - nobody waits any more. */
void lookup_free(struct lookup **slot);
/** lookup_ask() - @name as policy_name_ok() lets it pass. */
struct lookup_wait *lookup_ask(struct lookup *l, const char *name, lookup_fn *fn, void *ctx);
/** lookup_forget() - destructor of the slot; NULL is fine: @fn is not called any more. The slot of who was called is
 * his to null before that. */
void lookup_forget(struct lookup_wait **wait);

#endif
