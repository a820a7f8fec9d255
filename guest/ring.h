/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_RING_H
#define GUEST_RING_H

/* The last bytes of one output stream, by offset since its beginning. */
#include "base/buf.h"

struct ring {
	uint8_t *p;	/* NULL until the first byte */
	size_t size;	/* a power of two */
	uint64_t start; /* offset of the oldest byte that is kept */
	uint64_t end;	/* one past the newest */
};

void ring_init(struct ring *r, size_t size);
void ring_fini(struct ring *r);
/** ring_space() - where the next bytes go: a contiguous piece. At most @want; bytes from @keep on are not overwritten.
 * Return: its length, 0 when there is no room. */
size_t ring_space(struct ring *r, uint64_t keep, size_t want, void **ret);
/** ring_commit() - @len bytes were put where ring_space() said; the oldest give way. */
void ring_commit(struct ring *r, size_t len);
/** ring_peek() - bytes from @offset on (start <= @offset <= end): a contiguous piece of at most @want bytes. */
struct span ring_peek(const struct ring *r, uint64_t offset, size_t want);

#endif
