/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_CONN_H
#define WIRE_CONN_H

/*
 * One framed connection on a loop: reassembles frames on one side, queues and writes them on the other. Agent and
 *daemon use the same. Everything here belongs to the loop's thread.
 *
 *	static const struct conn_events events = { .on_frame = …, .on_close = … };
 *	conn_new(loop, fd, 1024 * 1024, &events, me, &me->conn, &e);
 *	conn_send(me->conn, MSG_PING, &(struct msg_PING){ .call = 1 });
 *
 * A callback may call anything of this header on its connection, conn_free() included.
 */
#include "base/err.h"
#include "loop/loop.h"
#include "wire/frame.h"

struct conn;

struct conn_events {
	/** A whole frame with a known type; its payload is not yet decoded, and is gone after the return. */
	void (*on_frame)(void *ctx, const struct frame *f);
	/** The connection is dead: called once, from the loop, never from inside conn_send(). @why->code is -ENODATA
	 * for an orderly end, -EBADMSG for a frame that is none, else -errno. Call conn_free() then or later. */
	void (*on_close)(void *ctx, const struct err *why);
	/** May be NULL. What waits to be written fell below the mark after it had been at or above it. */
	void (*on_drain)(void *ctx);
};

enum { CONN_MARK = 128 * 1024 };

/**
 * conn_new() - take over a connected stream socket
 * @fd:     non-blocking; the connection's from a return of 0 on
 * @limit:  most bytes that may wait to be written, 0 for FRAME_MAX and a bit; more than one frame fits in any case
 * @events: must outlive the connection
 * Return: 0 or -errno.
 */
int conn_new(struct loop *loop, int fd, size_t limit, const struct conn_events *events, void *ctx, struct conn **ret,
	     struct err *e) MUST_CHECK;
/** conn_free() - destructor of the slot: closes at once, what waits to be written is lost. No callback comes any more.
 */
void conn_free(struct conn **slot);

/**
 * conn_send() - queue one message and write what the socket takes
 * Return: 0; -EINVAL (a field breaks its limit); -E2BIG (the queue is full: nothing was queued); -ENOMEM; -EPIPE
 * (dead).
 */
int conn_send(struct conn *c, enum msg_type type, const void *m) MUST_CHECK;
/** conn_send_frame() - queue one whole frame that frame_put() made elsewhere. Return: as conn_send(). */
int conn_send_frame(struct conn *c, struct span frame) MUST_CHECK;
/** conn_send_rest() - the end of a frame whose beginning was written to the socket by other means. Return: as
 * conn_send(). */
int conn_send_rest(struct conn *c, struct span rest) MUST_CHECK;
/** conn_hold() - who sends many small frames: they go out together, some 32 KiB at a time, until conn_let_go(). In
 * between the loop must not run. */
void conn_hold(struct conn *c);
void conn_let_go(struct conn *c);
/** conn_pending() - bytes that wait to be written. */
size_t conn_pending(const struct conn *c);
/** conn_room() - true while less than CONN_MARK waits: a producer stops when it is false, and goes on in on_drain. */
bool conn_room(const struct conn *c);

/** conn_pause() - deliver no frames and read nothing until conn_resume(). */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);

/** conn_finish() - close by itself once everything that waits was written, the peer is gone, or five seconds have
 * passed; no more frames are delivered, on_close follows. */
void conn_finish(struct conn *c);

/** conn_set() - change who is called, for a connection whose purpose was only learned from its first message. */
void conn_set(struct conn *c, const struct conn_events *events, void *ctx);
/** conn_fd() - the descriptor, borrowed; -1 when the connection is dead. */
int conn_fd(const struct conn *c);

#endif
