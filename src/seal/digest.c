/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAKE2b-256 with the domain word in the personalisation field: two kinds of bytes never share a name, and no prefix
 * has to be copied in front of the data. Comparison of digests need not be constant-time; that of secrets is.
 */
#include "seal/digest.h"
#include "seal/lanes.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

_Static_assert(crypto_generichash_blake2b_PERSONALBYTES == 16, "a domain word is at most 16 characters");

int digest_setup(void)
{
	return sodium_init() < 0 ? -ENOSYS : 0;
}

static void personalise(const char *domain, uint8_t ret[crypto_generichash_blake2b_PERSONALBYTES])
{
	size_t len = strlen(domain);

	assert(len <= crypto_generichash_blake2b_PERSONALBYTES);
	memset(ret, 0, crypto_generichash_blake2b_PERSONALBYTES);
	memcpy(ret, domain, len);
}

struct digest digest_of(const char *domain, struct span data)
{
	uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES];
	struct digest d;
	int r;

	personalise(domain, personal);
	r = crypto_generichash_blake2b_salt_personal(d.b, sizeof(d.b), data.p, data.len, NULL, 0, NULL, personal);
	assert(r == 0);
	(void)r;
	return d;
}

/* Lanes without a value of their own repeat the first one; with few values that would be slower. */
static void side_by_side(enum lanes how, const char *domain, const struct span *data, size_t n, struct digest *ret)
{
	uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES];
	const uint8_t *at[DIGEST_MANY];
	struct digest all[DIGEST_MANY];
	size_t i;

	personalise(domain, personal);
	for (i = 0; i < DIGEST_MANY; i++)
		at[i] = data[i < n ? i : 0].p;
	lanes_digest(how, personal, at, data->len, all);
	memcpy(ret, all, n * sizeof(*ret));
}

void digest_many(const char *domain, const struct span *data, size_t n, struct digest *ret)
{
	enum { WORTH_IT = 3 };
	enum lanes how = lanes_has(LANES_AVX512) ? LANES_AVX512 : lanes_has(LANES_AVX2) ? LANES_AVX2 : LANES_NONE;
	size_t i;

	assert(n <= DIGEST_MANY);
	for (i = 0; i < n; i++)
		assert(data[i].len && data[i].len == data->len);
	if (how != LANES_NONE && n >= WORTH_IT) {
		side_by_side(how, domain, data, n, ret);
		return;
	}
	for (i = 0; i < n; i++)
		ret[i] = digest_of(domain, data[i]);
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

void sha256_of(struct span data, uint8_t ret[32])
{
	_Static_assert(crypto_hash_sha256_BYTES == 32, "of SHA-256");
	crypto_hash_sha256(ret, data.p, data.len);
}

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct sha256), "room for a state");

void sha256_begin(struct sha256 *s)
{
	crypto_hash_sha256_init((crypto_hash_sha256_state *)s);
}

void sha256_add(struct sha256 *s, const void *p, size_t len)
{
	crypto_hash_sha256_update((crypto_hash_sha256_state *)s, p, len);
}

void sha256_end(struct sha256 *s, uint8_t ret[32])
{
	crypto_hash_sha256_final((crypto_hash_sha256_state *)s, ret);
}

void base64_put(struct buf *to, struct span data, bool padded)
{
	int variant = padded ? sodium_base64_VARIANT_ORIGINAL : sodium_base64_VARIANT_ORIGINAL_NO_PADDING;
	size_t len = sodium_base64_encoded_len(data.len, variant);
	char *p = buf_reserve(to, len);

	if (!p)
		return; /* which is marked failed */
	sodium_bin2base64(p, len, data.p, data.len, variant);
	buf_commit(to, len - 1);
}

bool base64_plain(struct span text)
{
	const uint8_t *p = text.p;
	uint8_t all = 0;
	size_t i;

	for (i = 0; i < text.len; i++)
		all |= p[i];
	return all < 0x80;
}

int base64_take(struct buf *to, struct span text)
{
	const char *s = text.p;
	size_t room, len = 0;
	uint8_t *p;

	while (text.len && s[text.len - 1] == '=')
		text.len--;
	room = text.len / 4 * 3 + 3;
	p = buf_reserve(to, room);
	if (!p)
		return -E2BIG;
	if (!base64_plain(text) ||
	    sodium_base642bin(p, room, s, text.len, NULL, &len, NULL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0)
		return -EINVAL;
	buf_commit(to, len);
	return 0;
}
