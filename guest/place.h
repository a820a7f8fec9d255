/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_PLACE_H
#define GUEST_PLACE_H

/* Files anywhere in the sandbox: a connection of kind PLACE. */
#include "guest/watch.h"
#include "wire/conn.h"

struct place;

/** place_new() - @watch: whom to ask that the host knows of a change; NULL: there is no host that listens. */
struct place *place_new(struct loop *loop, struct conn *conn, struct watch *watch);
void place_free(struct place **p);
/** place_frame() - Return: 0; -errno with words: it ends. */
int place_frame(struct place *p, const struct frame *frame, struct err *e) MUST_CHECK;
/** place_go_on() - the connection takes more. */
void place_go_on(struct place *p);

#endif
