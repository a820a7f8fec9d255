/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_SERVE_H
#define HOST_BROKER_SERVE_H

/* What the process has, and answering the daemon. */
#include "host/broker/ruled.h"
#include "host/broker/tell.h"
#include "host/broker/upstream.h"
#include "base/list.h"
#include "base/map.h"

#include <stdatomic.h>


struct serve {
	struct loop *loop;
	struct hold *hold;
	struct services *services;
	struct ruled *ruled;
	struct teller *teller;
	struct up *up;
	struct map rates; /* struct rate, by sandbox and service or secret */
	_Atomic uint8_t *slots;
	struct list conns;
	struct list stalled; /* those whose reader takes nothing while the service sends ahead, longest first */
	struct loop_timer *stall_timer;
	int ask;
	struct loop_watch *ask_watch;
};

/** serve_init() - @ask, @tell and @slots are kept; @key is read. */
int serve_init(struct serve *s, const char *dirs, int ask, int tell, int slots, int key, struct err *e) MUST_CHECK;
void serve_fini(struct serve *s);
/** serve_rate() - may this sandbox ask this service, and use this secret, once more in this minute? */
bool serve_rate(struct serve *s, const struct say_who *who, const struct bound *b);

/** conn_new() - speak HTTP with a sandbox on @fd, which is taken over, until one side ends it. */
void conn_new(struct serve *s, const struct say_who *who, uint32_t slot, int fd);
void conn_end_all(struct serve *s);
/** conn_cut_stalled() - where too many readers stand still, cut off those of whoever has most of them. */
void conn_cut_stalled(void *serve);

#endif
