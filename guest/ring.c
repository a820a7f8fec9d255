/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets only grow; the place of a byte is its offset modulo the size. */
#include "guest/ring.h"

#include <assert.h>

void ring_init(struct ring *r, size_t size)
{
	assert(size && (size & (size - 1)) == 0);
	*r = (struct ring){ .size = size };
}

void ring_fini(struct ring *r)
{
	free(r->p);
	r->p = NULL;
}

size_t ring_space(struct ring *r, uint64_t keep, size_t want, void **ret)
{
	uint64_t oldest = MAX(keep, r->start);
	size_t at = (size_t)(r->end & (r->size - 1)), room;

	if (oldest > r->end)
		oldest = r->end;
	room = r->size - (size_t)(r->end - oldest);
	room = MIN(MIN(room, want), r->size - at);
	if (!r->p && room) {
		r->p = malloc(r->size);
		if (!r->p)
			return 0;
	}
	*ret = r->p + at;
	return room;
}

void ring_commit(struct ring *r, size_t len)
{
	r->end += len;
	if (r->end - r->start > r->size)
		r->start = r->end - r->size;
}

struct span ring_peek(const struct ring *r, uint64_t offset, size_t want)
{
	size_t at = (size_t)(offset & (r->size - 1)), have;

	assert(offset >= r->start && offset <= r->end);
	have = (size_t)(r->end - offset);
	have = MIN(MIN(have, want), r->size - at);
	return SPAN(have ? r->p + at : NULL, have);
}
