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

	struct lock calls_lock; /* guards what goes out on the control connection, and the next six */
	struct map calls;
	int direct_fd;	  /* the control connection's own, once more: for link_call_now(); -1: it is down */
	unsigned trace_no;
	bool is_direct;	  /* nothing waits in the connection */
	size_t mailed;	  /* frames for it that the loop has not looked at yet */
	struct buf rest;  /* of a frame of which the socket took a part only */

	uint64_t next_call; /* atomic */
	unsigned generation; /* atomic: spoken by the agent that answered last, 0: none yet */
	/* the loop's own */
	enum link_state state;
	struct conn *control, *ship;
	struct loop_timer *retry;
	unsigned retry_ms;
	uint64_t up_since;
	bool paused;
	struct map services; /* name -> struct link_service, owned */
};

struct call {
	struct link *link;
	uint64_t id, until;
	link_reply_fn *fn;
	void *ctx;
	struct loop_timer *timer;
	struct buf frame;
	unsigned since; /* generation of the message */
	bool to_ship, several;
};

/* control.c; on the loop's thread, but for the last. A frame in its turn, while it is up: control_send() as
 * conn_send_frame(), link_say(). The connection is there, is to be closed. What was written has gone out by now. */
int control_send(struct link *l, struct span frame) MUST_CHECK;
void link_say(struct link *l, enum msg_type type, const void *msg);
void control_up(struct link *l);
void control_down(struct link *l);
void control_look(struct link *l);
/* From any thread. Return: whether it is on its way, and under way; else nothing was done. */
bool control_direct(struct link *l, struct call *c) MUST_CHECK;

/* service.c; all on the loop's thread. */
void services_ask(struct link *l, struct span payload);
void services_gone(struct link *l);

#endif
