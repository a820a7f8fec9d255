/* SPDX-License-Identifier: Apache-2.0 */
/* A sealed file from anywhere, with the key that the corpus is sealed to: what opens was not changed. */
#include "seal/sealed.h"

#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct seal_key *key(void)
{
	static struct seal_key *k;
	AUTO(secret_free) struct secret *seed = NULL;
	int i;

	if (k)
		return k;
	seed = secret_new(32);
	for (i = 0; i < 32; i++) {
		secret_use(seed)[i] = (uint8_t)i;
		secret_rest(seed);
	}
	if (seal_key_of(seed, &k) < 0)
		abort();
	return k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(sealed_close) struct sealed *s = NULL, *again = NULL;
	AUTO(secret_free) struct secret *v = NULL;
	struct span in = SPAN(data, size), twice = in;
	struct seal_use use = { .any = true };
	struct err e = ERR_NULL;
	uint64_t len;
	int r;

	if (sealed_open(seal_source_span(&in), &s, &e) < 0) {
		if (!e.text[0])
			abort(); /* a refusal has words */
		return 0;
	}
	if (seal_policy_check(sealed_policy(s), &e) < 0)
		abort();
	(void)!seal_policy_allows(sealed_policy(s), &use, &e);
	r = sealed_value(s, key(), SECRET_MAX, &v, &e);
	if (sealed_open(seal_source_span(&twice), &again, &e) < 0)
		abort();
	if (sealed_walk(again, &len, &e) < 0 ? r == 0 : (r == 0 && len != secret_len(v)))
		abort(); /* what opens can be walked */
	if (r == 0 && secret_len(v) == 20 && memcmp(secret_use(v), "ghp_0123456789abcdef", 20) != 0)
		abort();
	return 0;
}
