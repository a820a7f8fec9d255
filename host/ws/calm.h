/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WS_CALM_H
#define HOST_WS_CALM_H

/*
 * How fast large files are shipped while somebody looks into other workspaces: docs/workspace.md, "Calm". The rules
 * alone, without threads and with the clock given in; what they mean for one workspace is in shipment.c.
 */
#include <stdbool.h>
#include <stdint.h>

enum {
	CALM_LOOK_MS = 1000, /* so long after the last look of others it is calm */
	CALM_AHEAD_S = 16, /* what comes at the rate in this time may come at once, after as long a pause */
	CALM_PIECE_B = 256 * 1024, /* credit is given in pieces of a block of the agent's */
};

/* Who looked last, and who else before: two words, so that a look costs no lock. */
struct looks {
	uint64_t last, other; /* tag of the workspace << 32 | moment in ms; atomic */
};

/** looks_note() - somebody looks into the workspace @tag (not 0). Any thread. */
void looks_note(struct looks *l, uint32_t tag, uint64_t now);
/** looks_by_others() - has anybody looked into another workspace than @tag within CALM_LOOK_MS? Any thread. */
bool looks_by_others(const struct looks *l, uint32_t tag, uint64_t now);

/* The credit that one workspace's agent has not got back yet. */
struct calm {
	uint64_t rate;	/* bytes a second; 0: as fast as it can */
	uint64_t owed;
	uint64_t paid;	 /* the moment until which the rate is used up: in the past, or up to CALM_AHEAD_S from now */
	uint64_t held_b; /* whose credit was not given at once, for the statistics */
};

/** calm_came() - @b bytes of a large file came. @is_calm: they are to wait. Return: the credit to give now. */
uint64_t calm_came(struct calm *c, uint64_t now, uint64_t b, bool is_calm);
/** calm_due() - what is to be given by now; all of it when it is calm no longer. */
uint64_t calm_due(struct calm *c, uint64_t now, bool is_calm);
/** calm_next() - when calm_due() yields something; CLOCK_NEVER: nothing is owed. */
uint64_t calm_next(const struct calm *c);

#endif
