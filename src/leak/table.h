/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEAK_TABLE_H
#define LEAK_TABLE_H

/*
 * Fingerprints, laid out for being asked once in five bytes of a stream. Of each thing that is looked for a window of
 * eight bytes in its middle is chosen; each of the five blocks of four bytes in it has a bit in a map, so whichever of
 * them a step of five meets, the map says "perhaps"; then the window's hash is compared, then the whole by SipHash.
 */
#include "leak/leak.h"
#include "seal/digest.h"

enum { LEAK_BLOCK = 4, LEAK_STEP = LEAK_MIN - LEAK_BLOCK + 1, LEAK_HEADS = 1 << 14 };

struct leak_print {
	uint64_t mac;	 /* hash_keyed() of all its bytes */
	uint32_t window; /* leak_window() */
	uint16_t value;
	uint8_t len, at, form; /* the window begins at @at */
};

struct leak_key {
	uint8_t mac[HASH_KEY_LEN];
	uint64_t block, window; /* odd */
};

struct leak_entry {
	uint32_t next; /* 1 + index of the next one of the same head; 0: none */
	uint32_t hash; /* of the block */
	uint32_t print;
	uint32_t back; /* from the block to the beginning */
};

struct leak_table {
	unsigned refs; /* atomic */
	unsigned shift, version;
	struct leak_key key;
	uint64_t *bits;
	uint32_t heads[LEAK_HEADS];
	struct leak_entry *entries;
	struct leak_print *prints;
	size_t nprints;
	char **names; /* by value; the strings are the set's */
};

/* 22 bits: what is kept of four bytes does not tell them. */
static inline uint32_t leak_block(const struct leak_key *k, const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return (uint32_t)((v * k->block) >> 32) & ~0x3ffU;
}

static inline uint32_t leak_window(const struct leak_key *k, const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	v *= k->window;
	return (uint32_t)((v ^ v >> 29) * k->block >> 32);
}

static inline bool leak_table_perhaps(const struct leak_table *t, uint32_t hash)
{
	uint32_t bit = hash >> t->shift;

	return t->bits[bit / 64] >> (bit % 64) & 1;
}

static inline uint32_t leak_head(uint32_t hash)
{
	return hash >> 18;
}

/** leaks_table() - the newest table, a reference; NULL while nothing is looked for. */
struct leak_table *leaks_table(struct leaks *l);
/** leaks_version() - of the newest; no lock. 0: nothing is looked for. */
unsigned leaks_version(const struct leaks *l);
/** leak_table_unref() - destructor. */
void leak_table_unref(struct leak_table **slot);

#endif
