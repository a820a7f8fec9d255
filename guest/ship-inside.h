/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SHIP_INSIDE_H
#define GUEST_SHIP_INSIDE_H

/* What ship.c and ship-queue.c share. Not for others. */
#include "base/list.h"
#include "base/map.h"
#include "guest/ahead.h"
#include "guest/blocks.h"
#include "guest/ship.h"

struct request {
	struct list node;
	uint64_t ord, fid, parent;
	char *name, *path; /* last known; from a FETCH, may be NULL */
	uint64_t not_before;
	unsigned tries;
	bool hinted; /* see ahead.h */
	bool is_large; /* as it was found while another large one rested: its turn is behind that one */
	bool shrank; /* changed in another way than growing, in some try */
};

struct sent {
	struct list node;
	uint64_t ship;
	struct request *req;
	struct blocks *blocks; /* of what was sent; may be NULL */
};

struct under_way {
	struct request *req; /* NULL: nothing is */
	int fd;
	uint64_t ship, at, data_end;
	struct node before;
	struct blocks *blocks, *base;
	bool dense, broken, waited;
	bool full; /* it has as many blocks as bytes: perhaps there is no hole in it */
};

struct ship {
	struct loop *loop;	 /* borrowed, like the next four */
	const struct tree *tree;
	struct dirs *dirs;
	const uint64_t *told;
	struct conn *conn;
	ship_progress_fn *progress;
	void *ctx;
	struct map by_fid; /* queued requests */
	struct map in_air;  /* fids of `sent`: the host knows one shipment of a file, so one at a time may be a base */
	struct list queue, sent;
	size_t n_sent;
	uint64_t ord, ships, credit;
	uint64_t progress_n; /* see ship_moved() */
	bool can_rest; /* the host knows SHIP_ASIDE */
	struct under_way now, aside; /* aside: a large one that rests */
	struct blocks_store store;
	struct ahead ahead;
	struct loop_timer *turn;
	uint8_t *room;
};

void request_free(struct request **slot);
/* Back into the queue; joined with a newer request for the same file. */
void ship_requeue(struct ship *s, struct request *r);

#endif
