/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_BLOCKS_H
#define GUEST_BLOCKS_H

/* What the host has of large files: a 64-bit hash per block, so that of a changed file only changed blocks are shipped.
 */
#include "base/list.h"
#include "base/map.h"

enum { BLOCK = 256 * 1024, BLOCKS_MAX = 128 * 1024 }; /* hashes kept over all files: 1 MiB */

struct blocks {
	struct list node; /* least recently used first */
	uint64_t fid, ship;
	size_t n;
	uint64_t hash[];
};

struct blocks_store {
	struct map by_fid;
	struct list lru;
	size_t total;
	uint64_t seed;
};

void blocks_init(struct blocks_store *s, uint64_t seed);
void blocks_fini(struct blocks_store *s);
/** blocks_hash() - of up to BLOCK bytes; length counts. */
uint64_t blocks_hash(const struct blocks_store *s, const void *p, size_t len);
/** blocks_new() - an empty table for @n blocks; NULL when it is larger than all tables together may be. */
struct blocks *blocks_new(uint64_t fid, uint64_t ship, size_t n);
/** blocks_take() - the table of the last acknowledged shipment, no longer kept: yours, or to be put back. NULL. */
struct blocks *blocks_take(struct blocks_store *s, uint64_t fid);
/** blocks_put() - keep a table, instead of an older one of the file; drops others that were not used for long. */
void blocks_put(struct blocks_store *s, struct blocks *b);
void blocks_forget(struct blocks_store *s, uint64_t fid);

#endif
