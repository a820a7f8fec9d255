/* SPDX-License-Identifier: Apache-2.0 */
#include "host/heap.h"

#include <malloc.h>

enum {
	/* LMDB reserves 1 and 2 MiB for each environment and uses little of it. Taken from the kernel that costs
	 * nothing; the heap, which glibc would come to use for sizes like these after a while, is filled with zeros
	 * first. What a frame is read into is smaller. */
	MMAP_FROM_B = 768 * 1024,
	HEAP_KEPT_B = 16 * 1024 * 1024,
	ARENAS = 4,
	SPARE_B = 4 * 1024 * 1024,
	SPARE_OF_USED = 4
};

void heap_setup(void)
{
	mallopt(M_MMAP_THRESHOLD, MMAP_FROM_B);
	mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_B);
	mallopt(M_ARENA_MAX, ARENAS);
}

/* A heap with many holes looks as if there were much to give back; so nothing is tried while nothing has happened. */
static void look(void *ctx)
{
	struct heap *h = ctx;
	struct mallinfo2 now = mallinfo2();

	if ((now.uordblks != h->used || now.fordblks != h->spare) &&
	    now.fordblks > SPARE_B + now.uordblks / SPARE_OF_USED) {
		malloc_trim(0);
		now = mallinfo2();
	}
	h->used = now.uordblks;
	h->spare = now.fordblks;
	__atomic_store_n(&h->is_looking, false, __ATOMIC_RELEASE);
}

void heap_tick(struct heap *h)
{
	if (!h->pool || __atomic_exchange_n(&h->is_looking, true, __ATOMIC_ACQUIRE))
		return;
	pool_run(h->pool, look, h);
}
