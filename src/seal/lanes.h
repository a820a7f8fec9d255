/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_LANES_H
#define SEAL_LANES_H

/* What digest_many() is made of. For it and its test. */
#include "seal/digest.h"

#include <stdbool.h>
#include <stdint.h>

enum lanes { LANES_NONE, LANES_AVX2, LANES_AVX512, LANES_HOW_MANY };

/** lanes_has() - whether this processor can do it so. */
bool lanes_has(enum lanes how);
/** lanes_digest() - BLAKE2b-256 of DIGEST_MANY values of @len bytes, at least 1. @how: one that lanes_has(), not NONE.
 */
void lanes_digest(enum lanes how, const uint8_t personal[16], const uint8_t *const data[DIGEST_MANY], size_t len,
		  struct digest ret[DIGEST_MANY]);

#endif
