/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_DIGEST_H
#define SEAL_DIGEST_H

/* Hashes, random bytes and comparison of secrets: what others need of libsodium. BLAKE2b-256. */
#include "base/buf.h"

enum { DIGEST_LEN = 32, DIGEST_MANY = 8, HASH_KEY_LEN = 16 };

struct digest {
	uint8_t b[DIGEST_LEN];
};

/** digest_setup() - once per process before anything else of this room. Return: 0 or -ENOSYS. */
int digest_setup(void) MUST_CHECK;
/** digest_of() - the hash of some bytes under a domain word of at most 16 characters ("chunk", "tree"), so that bytes
 * of one kind never have the name of another kind. */
struct digest digest_of(const char *domain, struct span data);
/** digest_many() - digest_of() of @n values, at most DIGEST_MANY, all of the same length, at least one byte: where the
 * processor can, side by side, which is several times as fast. */
void digest_many(const char *domain, const struct span *data, size_t n, struct digest *ret);
bool digest_eq(const struct digest *a, const struct digest *b);
bool digest_is_zero(const struct digest *d);
/** random_bytes() - from the kernel's generator. */
void random_bytes(void *p, size_t len);
/** hash_keyed() - 64 bits that nobody can aim at who does not know the key: for tables, not for names. */
uint64_t hash_keyed(const uint8_t key[HASH_KEY_LEN], const void *p, size_t len);
/** sha256_of() - for what others prescribe it; berth's own names are digest_of(). */
void sha256_of(struct span data, uint8_t ret[32]);
/* The same of what comes in pieces. */
struct sha256 {
	uint64_t state[16];
};

void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t len);
void sha256_end(struct sha256 *s, uint8_t ret[32]);
/** base64_put() - append @data in the standard alphabet, with padding when @padded. */
void base64_put(struct buf *to, struct span data, bool padded);
/** base64_take() - append what @text stands for; padding may be missing. Return: 0; -EINVAL; -E2BIG. */
int base64_take(struct buf *to, struct span text) MUST_CHECK;
/** base64_plain() - whether no byte of @text is above 127: libsodium takes those for '+' or '/'. */
bool base64_plain(struct span text);
/** secret_eq() - constant-time comparison of @len bytes. */
bool secret_eq(const void *a, const void *b, size_t len);

#endif
