/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_GC_SET_H
#define HOST_STORE_GC_SET_H

/*
 * Sets of objects as a collection needs them: keys of one width, three numbers beside each, nothing is removed. A key
 * of 32 bytes is a digest, one of 8 bytes a keyed hash of one. Two digests with the same 8 bytes are taken for one,
 * which is right where that only keeps garbage. 1.3 to 2.6 times 44 or 20 bytes for each.
 */
#include "base/own.h"
#include "seal/digest.h"

#include <stdbool.h>

struct gc_item {
	uint32_t owner; /* who came by last */
	uint32_t n;	/* how many came by; 0: the slot is empty */
	uint32_t first; /* who came by first; 0: nobody yet that is told apart */
};

struct gc_set {
	uint8_t key[HASH_KEY_LEN]; /* of the place in the table, and of keys of 8 bytes */
	size_t width;
	uint8_t *keys;
	struct gc_item *items;
	size_t cap, len; /* cap: a power of two, or 0 */
};

/** gc_set_init() - @width: 8 or DIGEST_LEN. */
void gc_set_init(struct gc_set *s, size_t width, const uint8_t key[HASH_KEY_LEN]);
void gc_set_fini(struct gc_set *s);
/** gc_set_find() - NULL when it is not in; borrowed until the next gc_set_add(). @p: @width bytes. */
struct gc_item *gc_set_find(const struct gc_set *s, const void *p);
/** gc_set_add() - the item, new (n is 0, the caller sets it) or there. */
struct gc_item *gc_set_add(struct gc_set *s, const void *p);
/** gc_set_next() - all items, in no order: start with *@pos = 0; NULL at the end. */
struct gc_item *gc_set_next(const struct gc_set *s, size_t *pos, const uint8_t **ret_key);
/** gc_set_bytes() - memory that it takes. */
size_t gc_set_bytes(const struct gc_set *s);

#endif
