/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

/*
 * A hash table from byte strings (or 64-bit numbers) to pointers. Keys are copied in. The hash is keyed with a random
 * seed per process, so that a guest cannot choose names that collide. Values are borrowed: the map never frees them.
 */
#include "base/buf.h"

struct map_slot {
	uint64_t hash; /* 0: empty */
	void *key;     /* owned copy, NULL for number keys */
	uint64_t num;  /* the number, or the length of @key */
	void *value;
};

struct map {
	struct map_slot *slots;
	size_t cap; /* a power of two, or 0 */
	size_t len;
	size_t taken; /* where map_take_any() goes on */
};

#define MAP_NULL ((struct map){ .slots = NULL })

void map_fini(struct map *m);
/** map_get() - the value under a byte key; NULL when there is none. */
void *map_get(const struct map *m, struct span key);
/** map_put() - set a value (not NULL); returns the value that it replaced, or NULL. */
void *map_put(struct map *m, struct span key, void *value);
/** map_remove() - forget a key; returns its value, or NULL. */
void *map_remove(struct map *m, struct span key);
void *map_get_u64(const struct map *m, uint64_t key);
void *map_put_u64(struct map *m, uint64_t key, void *value);
void *map_remove_u64(struct map *m, uint64_t key);
/** map_next() - iterate: start with *@pos = 0, ends with NULL. The map must not change meanwhile. */
struct map_slot *map_next(const struct map *m, size_t *pos);
/** map_take_any() - remove any entry and return its value, NULL when the map is empty: for tearing down. */
void *map_take_any(struct map *m);

#endif
