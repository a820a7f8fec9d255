/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. The hash only answers "is this block what the host has?" about bytes of this sandbox, with a seed of this
 * agent's life; it is no name of a content, so sixty-four fast bits do: a chance of 2^-64 per block that a change is
 * overlooked. Four lanes let the multiplications overlap.
 */
#include "guest/blocks.h"

#include <string.h>

void blocks_init(struct blocks_store *s, uint64_t seed)
{
	*s = (struct blocks_store){ .seed = seed };
	list_init(&s->lru);
}

void blocks_fini(struct blocks_store *s)
{
	struct blocks *b;

	while ((b = map_take_any(&s->by_fid)))
		free(b);
	map_fini(&s->by_fid);
}

static uint64_t stir(uint64_t h, uint64_t w)
{
	h = (h ^ w) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 29;
}

uint64_t blocks_hash(const struct blocks_store *s, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t lane[4] = { s->seed, ~s->seed, s->seed << 1, s->seed >> 1 }, w;
	size_t i, k;

	for (i = 0; i + 32 <= len; i += 32)
		for (k = 0; k < 4; k++) {
			memcpy(&w, p + i + 8 * k, 8);
			lane[k] = stir(lane[k], w);
		}
	for (; i < len; i++)
		lane[i & 3] = stir(lane[i & 3], p[i] + 1ULL);
	w = stir(len, lane[0]);
	for (k = 1; k < 4; k++)
		w = stir(w, lane[k]);
	return stir(w, s->seed);
}

struct blocks *blocks_new(uint64_t fid, uint64_t ship, size_t n)
{
	struct blocks *b;

	if (n > BLOCKS_MAX)
		return NULL;
	b = must_calloc(1, sizeof(*b) + n * sizeof(uint64_t));
	b->fid = fid;
	b->ship = ship;
	b->n = n;
	list_init(&b->node);
	return b;
}

struct blocks *blocks_take(struct blocks_store *s, uint64_t fid)
{
	struct blocks *b = map_remove_u64(&s->by_fid, fid);

	if (b) {
		list_remove(&b->node);
		s->total -= b->n;
	}
	return b;
}

void blocks_forget(struct blocks_store *s, uint64_t fid)
{
	free(blocks_take(s, fid));
}

void blocks_put(struct blocks_store *s, struct blocks *b)
{
	blocks_forget(s, b->fid);
	while (s->total + b->n > BLOCKS_MAX)
		blocks_forget(s, list_entry(s->lru.next, struct blocks, node)->fid);
	map_put_u64(&s->by_fid, b->fid, b);
	list_append(&s->lru, &b->node);
	s->total += b->n;
}
