/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAKE2b-256 with the domain word in the personalisation field: two kinds of bytes never share a name, and no prefix
 * has to be copied in front of the data. Comparison of digests need not be constant-time; that of secrets is.
 */
#include "seal/digest.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

_Static_assert(crypto_generichash_blake2b_PERSONALBYTES == 16, "a domain word is at most 16 characters");

int digest_setup(void)
{
	return sodium_init() < 0 ? -ENOSYS : 0;
}

struct digest digest_of(const char *domain, struct span data)
{
	uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = { 0 };
	size_t len = strlen(domain);
	struct digest d;
	int r;

	assert(len <= sizeof(personal));
	memcpy(personal, domain, len);
	r = crypto_generichash_blake2b_salt_personal(d.b, sizeof(d.b), data.p, data.len, NULL, 0, NULL, personal);
	assert(r == 0);
	(void)r;
	return d;
}

bool digest_eq(const struct digest *a, const struct digest *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool digest_is_zero(const struct digest *d)
{
	static const struct digest zero;

	return digest_eq(d, &zero);
}

void random_bytes(void *p, size_t len)
{
	randombytes_buf(p, len);
}

bool secret_eq(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

uint64_t hash_keyed(const uint8_t key[HASH_KEY_LEN], const void *p, size_t len)
{
	uint64_t h;

	_Static_assert(HASH_KEY_LEN == crypto_shorthash_KEYBYTES, "of SipHash-2-4");
	crypto_shorthash((unsigned char *)&h, p, len, key);
	return h;
}
