/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_BODY_H
#define SEAL_BODY_H

/* What writer and reader of sealed files share; inside this room only. */
#include "seal/digest.h"

enum { BODY_OVER = 17, BODY_SIGNATURE = 64, BODY_KEY = 32 };

/** body_keys() - from a file key, the one of the stream (32 bytes, which the caller wipes) and the commitment. */
void body_keys(const uint8_t file[BODY_KEY], uint8_t stream[BODY_KEY], uint8_t commit[DIGEST_LEN]);
/** body_ad() - what every chunk is bound to: the digest of the header with its first bytes. */
static inline struct digest body_ad(struct span header)
{
	return digest_of("berth-seal-head", header);
}
/** What a signature begins with. */
#define BODY_SIGNED "berth sealed file 1\n"

#endif
