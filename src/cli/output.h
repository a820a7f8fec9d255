/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

/* What a process in a sandbox wrote, on its way to our own standard output or error: what does not go now waits here.
 */
#include "base/buf.h"

enum { OUTPUT_WAIT_MAX = 8 * 1024 * 1024 };

struct output {
	int fd;	 /* borrowed */
	int own; /* the same thing, nonblocking; -1: none */
	bool socket, may_wait;
	uint64_t written;
	struct buf wait;
};

/** output_init() - for the descriptor @fd, which is borrowed and left as it is. */
void output_init(struct output *o, int fd);
void output_fini(struct output *o);
/** output_ready() - a small write would not wait. */
bool output_ready(const struct output *o);
/** output_put() - write what goes, keep the rest. Return: 0; -errno (-EPIPE: nobody will ever read it): it is dropped;
 * -E2BIG: more than OUTPUT_WAIT_MAX would wait. */
int output_put(struct output *o, const void *data, size_t len);
/** output_flush() - write what waits, as far as it goes. Return: as output_put(). */
int output_flush(struct output *o);

#endif
