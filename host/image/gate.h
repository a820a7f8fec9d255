/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_IMAGE_GATE_H
#define HOST_IMAGE_GATE_H

/* The image tool's only way out. One thread's, which waits in gate_wait(). */
#include "host/image/ref.h"

#include <poll.h>

struct gate;

/** gate_new() - @gate: a listening socket at which the tool asks for connections (CONNECT); @tunnel: one that leads to
 * the registry @ref on this machine's loopback, or -1. Both are its own then. @named: the operator has named this
 * registry, so it may be where it likes. */
struct gate *gate_new(int gate, int tunnel, const struct image_ref *ref, bool named);
void gate_free(struct gate **g);
enum { GATE_OTHERS_MAX = 4 };
/** gate_wait() - pass on what comes, until something happens at one of @others (revents are set) or @ms have passed. */
void gate_wait(struct gate *g, struct pollfd *others, size_t n, int ms);
/** gate_why() - a sentence about the last connection that was not made; "". */
const char *gate_why(const struct gate *g);

#endif
