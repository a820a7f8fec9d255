/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_TRACE_H
#define WIRE_TRACE_H

/*
 * A capture of the wire: BERTH_TRACE=FILE makes every program of the house append each frame it sends or receives, as
 * a binary record (8-byte magic once, then per record: 8 bytes wall clock ns, 4 bytes connection number, 1 byte
 * direction
 * '>' or '<', 3 bytes zero, then the frame with its header). Tokens are zeroed in it. `berth dump wire FILE` prints it.
 */
#include "base/buf.h"
#include "base/err.h"

/** trace_open() - start capturing when the environment variable BERTH_TRACE is set. Errors are only said in @e. */
int trace_open(struct err *e);
/** trace_frame() - capture one frame; cheap when off. @dir is '>' (sent) or '<' (received). Any thread. */
void trace_frame(unsigned conn, char dir, unsigned type, struct span payload);
/** trace_dump() - print a capture file as text, one line a frame, to @out (a descriptor). Return: 0, -EBADMSG, -errno.
 */
int trace_dump(const char *path, int out, struct err *e) MUST_CHECK;

#endif
