/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_LEAK_H
#define HOST_API_LEAK_H

/*
 * The output of one command on its way to whoever reads it, looked through for what its sandbox was given
 * (docs/leak-watch.md). With masking on, a byte that may be the beginning of a value is handed over when it is known
 * not to be, at the latest LEAK_WAIT_MS later. One thread at a time.
 */
#include "host/sandbox/hub.h"
#include "loop/relay.h"

enum { LEAK_WAIT_MS = 20 };

struct out_leaks;

/** out_leaks_new() - NULL: nothing is looked for in this sandbox. */
struct out_leaks *out_leaks_new(struct hub *hub, const char *id);
void out_leaks_free(struct out_leaks **slot);
/** out_leaks_pid() - which process it is, for the reports. */
void out_leaks_pid(struct out_leaks *o, uint64_t pid);
/** out_leaks_put() - bytes of stream WIRE_OUT or WIRE_ERR come. Return: what may be handed over now, whose first byte
 * is the stream's *@ret_at; borrowed from here or from @data until the next call. */
struct span out_leaks_put(struct out_leaks *o, unsigned stream, uint64_t at, struct span data, uint64_t *ret_at);
/** out_leaks_rest() - what waits, because nothing more comes or has come for LEAK_WAIT_MS. */
struct span out_leaks_rest(struct out_leaks *o, unsigned stream, uint64_t *ret_at);
/** out_leaks_waits() - does something wait? */
bool out_leaks_waits(const struct out_leaks *o);

/** out_leaks_filter() - for a relay: the agent's frames on their way to a client. Takes @o. */
struct relay_filter *out_leaks_filter(struct out_leaks **o);

#endif
