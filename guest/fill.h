/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_FILL_H
#define GUEST_FILL_H

/* Files that the host lays into a workspace, a new one or one in use: a connection of kind FILL. */
#include "guest/watch.h"
#include "wire/conn.h"

struct fill;

/** fill_new() - @watch: of a workspace that is in use, NULL: nobody works in it yet. */
struct fill *fill_new(const struct tree *tree, struct conn *conn, struct watch *watch);
void fill_free(struct fill **f);
/** fill_frame() - Return: 0; -errno with words: it ends. */
int fill_frame(struct fill *f, const struct frame *frame, struct err *e) MUST_CHECK;
/** fill_wait() - before each frame: nothing; in a file of its own, for agents of tests take their time. */
void fill_wait(void);

#endif
