/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4, as its authors describe it. */
#include "host/fs/cookie.h"

#include <endian.h>
#include <string.h>

struct sip {
	uint64_t a, b, c, d;
};

static uint64_t turn(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static uint64_t word(const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
	return le64toh(w);
}

static void rounds(struct sip *s, unsigned n)
{
	while (n-- > 0) {
		s->a += s->b;
		s->b = turn(s->b, 13) ^ s->a;
		s->a = turn(s->a, 32);
		s->c += s->d;
		s->d = turn(s->d, 16) ^ s->c;
		s->a += s->d;
		s->d = turn(s->d, 21) ^ s->a;
		s->c += s->b;
		s->b = turn(s->b, 17) ^ s->c;
		s->c = turn(s->c, 32);
	}
}

static void take_in(struct sip *s, uint64_t w)
{
	s->d ^= w;
	rounds(s, 2);
	s->a ^= w;
}

uint64_t cookie_hash(const uint8_t key[COOKIE_KEY_LEN], struct span name)
{
	uint64_t k0 = word(key), k1 = word(key + 8);
	struct sip s = {
		.a = k0 ^ 0x736f6d6570736575ULL,
		.b = k1 ^ 0x646f72616e646f6dULL,
		.c = k0 ^ 0x6c7967656e657261ULL,
		.d = k1 ^ 0x7465646279746573ULL,
	};
	const uint8_t *p = name.p;
	uint64_t last = (uint64_t)name.len << 56;
	size_t i, whole = name.len / 8 * 8;

	for (i = 0; i < whole; i += 8)
		take_in(&s, word(p + i));
	for (; i < name.len; i++)
		last |= (uint64_t)p[i] << 8 * (i - whole);
	take_in(&s, last);
	s.c ^= 0xff;
	rounds(&s, 4);
	return s.a ^ s.b ^ s.c ^ s.d;
}

uint64_t cookie_of(const uint8_t key[COOKIE_KEY_LEN], struct span name)
{
	uint64_t h = cookie_hash(key, name) & INT64_MAX;

	return h < COOKIE_FIRST ? h + COOKIE_FIRST : h;
}
