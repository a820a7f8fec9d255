/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAKE2b (RFC 7693) of eight values of the same length at once, for x86-64. Within one value each step needs the one
 * before, so a processor computes one with a quarter of its width. Side by side each step is done for eight: a row
 * holds the same word of all of them. The text is one; compiled for AVX-512 a row is one register, for AVX2 it is two.
 *
 * Nothing here is secret: these are names of contents. Keys and sealed files are libsodium's alone.
 */
#include "seal/lanes.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 128, WORDS = 16, ROUNDS = 12 };

typedef uint64_t row __attribute__((vector_size(8 * DIGEST_MANY)));

static const uint64_t iv[8] = { 0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
				0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179 };

static const uint8_t sigma[ROUNDS][WORDS] = {
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	{ 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
	{ 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4 },
	{ 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8 },
	{ 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13 },
	{ 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9 },
	{ 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11 },
	{ 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10 },
	{ 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5 },
	{ 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0 },
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	{ 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
};

/* One of each round's eight mixings of four rows with two words; all indexes are known when this is compiled. */
#define TURN(x, n) ((x) >> (n) | (x) << (64 - (n)))
#define MIX(v, m, a, b, c, d, r, i)                         \
	do {                                                \
		v[a] += v[b] + m[sigma[r][2 * (i)]];        \
		v[d] = TURN(v[d] ^ v[a], 32);               \
		v[c] += v[d];                               \
		v[b] = TURN(v[b] ^ v[c], 24);               \
		v[a] += v[b] + m[sigma[r][2 * (i) + 1]];    \
		v[d] = TURN(v[d] ^ v[a], 16);               \
		v[c] += v[d];                               \
		v[b] = TURN(v[b] ^ v[c], 63);               \
	} while (0)
#define ROUND(v, m, r)                            \
	do {                                      \
		MIX(v, m, 0, 4, 8, 12, r, 0);     \
		MIX(v, m, 1, 5, 9, 13, r, 1);     \
		MIX(v, m, 2, 6, 10, 14, r, 2);    \
		MIX(v, m, 3, 7, 11, 15, r, 3);    \
		MIX(v, m, 0, 5, 10, 15, r, 4);    \
		MIX(v, m, 1, 6, 11, 12, r, 5);    \
		MIX(v, m, 2, 7, 8, 13, r, 6);     \
		MIX(v, m, 3, 4, 9, 14, r, 7);     \
	} while (0)
#define INLINE static inline __attribute__((always_inline))

/* The block at @at of each value. @upto: bytes with this block; @is_last: of all. */
INLINE void compress(row h[8], const uint8_t *const data[DIGEST_MANY], size_t at, uint64_t upto, bool is_last)
{
	row m[WORDS], v[WORDS];
	size_t i, k;
	uint64_t w;

	for (i = 0; i < WORDS; i++)
		for (k = 0; k < DIGEST_MANY; k++) {
			memcpy(&w, data[k] + at + sizeof(w) * i, sizeof(w));
			m[i][k] = w;
		}
	for (i = 0; i < 8; i++) {
		v[i] = h[i];
		v[i + 8] = (row){ 0 } + iv[i];
	}
	v[12] ^= upto;
	if (is_last)
		v[14] = ~v[14];
	ROUND(v, m, 0);
	ROUND(v, m, 1);
	ROUND(v, m, 2);
	ROUND(v, m, 3);
	ROUND(v, m, 4);
	ROUND(v, m, 5);
	ROUND(v, m, 6);
	ROUND(v, m, 7);
	ROUND(v, m, 8);
	ROUND(v, m, 9);
	ROUND(v, m, 10);
	ROUND(v, m, 11);
	for (i = 0; i < 8; i++)
		h[i] ^= v[i] ^ v[i + 8];
}

INLINE void digest_rows(const uint8_t personal[16], const uint8_t *const data[DIGEST_MANY], size_t len,
			struct digest ret[DIGEST_MANY])
{
	uint8_t room[DIGEST_MANY][BLOCK] = { { 0 } };
	const uint8_t *last[DIGEST_MANY];
	uint64_t words[2], w;
	row h[8];
	size_t i, k, at;

	memcpy(words, personal, sizeof(words));
	for (i = 0; i < 8; i++)
		h[i] = (row){ 0 } + iv[i];
	h[0] ^= (uint64_t)(0x01010000 | DIGEST_LEN); /* no key, one leaf, depth 1 */
	h[6] ^= words[0];
	h[7] ^= words[1];
	for (at = 0; len - at > BLOCK; at += BLOCK)
		compress(h, data, at, at + BLOCK, false);
	for (k = 0; k < DIGEST_MANY; k++) {
		memcpy(room[k], data[k] + at, len - at);
		last[k] = room[k];
	}
	compress(h, last, 0, len, true);
	for (k = 0; k < DIGEST_MANY; k++)
		for (i = 0; i < DIGEST_LEN / sizeof(w); i++) {
			w = h[i][k];
			memcpy(ret[k].b + sizeof(w) * i, &w, sizeof(w));
		}
}

__attribute__((target("avx2"))) static void digest_avx2(const uint8_t personal[16],
							 const uint8_t *const data[DIGEST_MANY], size_t len,
							 struct digest ret[DIGEST_MANY])
{
	digest_rows(personal, data, len, ret);
}

__attribute__((target("avx512f"))) static void digest_avx512(const uint8_t personal[16],
							      const uint8_t *const data[DIGEST_MANY], size_t len,
							      struct digest ret[DIGEST_MANY])
{
	digest_rows(personal, data, len, ret);
}

bool lanes_has(enum lanes how)
{
	if (how == LANES_AVX512)
		return __builtin_cpu_supports("avx512f");
	return how == LANES_NONE || (how == LANES_AVX2 && __builtin_cpu_supports("avx2"));
}

void lanes_digest(enum lanes how, const uint8_t personal[16], const uint8_t *const data[DIGEST_MANY], size_t len,
		  struct digest ret[DIGEST_MANY])
{
	if (how == LANES_AVX512)
		digest_avx512(personal, data, len, ret);
	else if (how == LANES_AVX2)
		digest_avx2(personal, data, len, ret);
	else
		abort();
}
