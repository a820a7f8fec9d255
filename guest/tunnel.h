/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_TUNNEL_H
#define GUEST_TUNNEL_H

/* One tunnel: bytes between a connection of the host and a socket inside. docs/protocol.md has the rules. */
#include "loop/loop.h"
#include "wire/conn.h"

struct tunnel;
struct services;

/** tunnel_first() - the first frame of a connection of kind TUNNEL: begin to connect, or take what an ASK announced.
 * Return: 0 and the tunnel, yours; -errno with a slug that the host is told. */
int tunnel_first(struct loop *loop, struct services *services, struct conn *conn, const struct frame *f,
		 struct tunnel **ret, struct err *e) MUST_CHECK;
/** tunnel_frame() - a later one. Return: 0; -errno ends the connection. */
int tunnel_frame(struct tunnel *t, const struct frame *f, struct err *e) MUST_CHECK;
/** tunnel_drained() - the connection has room again. */
void tunnel_drained(struct tunnel *t);
/** tunnel_free() - destructor: closes the socket inside; the connection stays. */
void tunnel_free(struct tunnel **slot);

#endif
