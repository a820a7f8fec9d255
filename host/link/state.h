/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_LINK_STATE_H
#define HOST_LINK_STATE_H

/* What the files of this room share. Not for other rooms. */
#include "base/lock.h"
#include "base/map.h"
#include "host/link/link.h"
#include "wire/conn.h"
#include "wire/wire.h"

enum link_state { LINK_DIALLING, LINK_UP, LINK_WAITING, LINK_ASLEEP, LINK_CLOSED };

struct link {
	struct loop *loop;
	struct pool *pool;
	struct link_events events;
	char *address, *id;
	uint8_t token[WIRE_TOKEN_LEN];

	struct lock lock; /* guards the next five */
	pthread_cond_t cond;
	bool hung_up, is_up;
	int dialling; /* jobs that run */
	struct err why;

	uint64_t next_call; /* atomic */
	unsigned generation; /* atomic: spoken by the agent that answered last, 0: none yet */
	/* the loop's own */
	enum link_state state;
	struct conn *control, *ship;
	struct map calls;
	struct loop_timer *retry;
	unsigned retry_ms;
	uint64_t up_since;
	bool paused;
	struct map services; /* name -> struct link_service, owned */
};

/* service.c; all on the loop's thread. */
void services_ask(struct link *l, struct span payload);
void services_gone(struct link *l);

#endif
