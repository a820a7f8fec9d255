/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_HIDE_H
#define WIRE_HIDE_H

/* What is done so that a value which passes through leaves nothing behind; in a file of its own, because a test has
 * programs in which it is not done, to see that it would find what is left. */
#include <stdbool.h>
#include <stddef.h>

/** hide_in_captures() - a message whose payload no capture has. */
bool hide_in_captures(unsigned type);
/** hide_wipe() - zero what held a value. */
void hide_wipe(void *p, size_t len);

#endif
