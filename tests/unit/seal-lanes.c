/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of several values side by side: each way that this processor has says what libsodium says. */
#include "base/buf.h"
#include "seal/lanes.h"

#include <criterion/criterion.h>

/* Around the ends of blocks, and a chunk of the store. */
static const size_t lane_lens[] = { 1, 2, 7, 8, 9, 63, 127, 128, 129, 255, 256, 257, 1000, 4096, 65519, 65520, 65521 };

Test(digest, of_many_is_that_of_each)
{
	static uint8_t room[DIGEST_MANY][65600];
	const uint8_t *at[DIGEST_MANY];
	struct digest ret[DIGEST_MANY], one;
	struct span data[DIGEST_MANY];
	uint8_t personal[16] = "chunk";
	size_t i, k, n;
	unsigned how;

	cr_assert_eq(digest_setup(), 0);
	cr_assert(lanes_has(LANES_NONE));
	for (i = 0; i < ARRAY_LEN(lane_lens); i++) {
		random_bytes(room, sizeof(room));
		for (k = 0; k < DIGEST_MANY; k++) {
			at[k] = room[k] + k;
			data[k] = SPAN(at[k], lane_lens[i]);
		}
		for (n = 1; n <= DIGEST_MANY; n++) {
			digest_many(&"a word of sixteen"[1], data, n, ret);
			for (k = 0; k < n; k++) {
				one = digest_of(&"a word of sixteen"[1], data[k]);
				cr_assert(digest_eq(&one, &ret[k]), "%zu bytes, %zu of %zu", lane_lens[i], k, n);
			}
		}
		for (how = LANES_NONE + 1; how < LANES_HOW_MANY; how++) {
			if (!lanes_has((enum lanes)how))
				continue;
			lanes_digest((enum lanes)how, personal, at, lane_lens[i], ret);
			for (k = 0; k < DIGEST_MANY; k++) {
				one = digest_of("chunk", data[k]);
				cr_assert(digest_eq(&one, &ret[k]), "way %u, %zu bytes, lane %zu", how, lane_lens[i],
					  k);
			}
		}
	}
}
