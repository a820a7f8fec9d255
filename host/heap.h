/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_HEAP_H
#define HOST_HEAP_H

/*
 * How the C library's allocator is to behave. A large file passes through the daemon in pieces of 256 KiB, each of
 * which is allocated and freed several times on its way. Given back to the kernel each time, such memory comes back
 * page by page, zeroed, and that cost two thirds of all the processor time of a shipment. So what was freed stays,
 * HEAP_KEPT_B at the end of an arena, and goes when there is much of it and the work is over.
 */
#include "loop/pool.h"

#include <stddef.h>

struct heap {
	struct pool *pool; /* borrowed */
	size_t used, spare; /* bytes, when it was last looked at */
	bool is_looking;
};

/** heap_setup() - before there are threads. */
void heap_setup(void);
/** heap_tick() - now and then, always on the same thread: has a job of the pool give back what is too much. @h lives
 * longer than the pool's threads. */
void heap_tick(struct heap *h);

#endif
