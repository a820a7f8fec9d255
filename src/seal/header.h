/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_HEADER_H
#define SEAL_HEADER_H

/* The header of a sealed file as bytes, inside this room only. */
#include "seal/digest.h"
#include "seal/policy.h"

enum { HEADER_VERSION = 2, HEADER_PRE = 12, HEADER_BOX = 80, HEADER_STREAM = 24 };

struct header {
	struct seal_policy policy;
	size_t n_to;
	struct seal_id to[SEAL_TO_MAX]; /* in order, none twice */
	uint8_t box[SEAL_TO_MAX][HEADER_BOX];
	bool is_signed;
	uint8_t signer[32];
	uint8_t commit[DIGEST_LEN];
	uint8_t stream[HEADER_STREAM];
};

void header_free(struct header **slot);
/** header_put() - append all of it, with magic, length and the version that its policy needs. Return: 0 or what the buf
 * says. */
int header_put(const struct header *h, struct buf *to) MUST_CHECK;
/** header_length() - from the first HEADER_PRE bytes, how many follow. Return: 0; -EBADMSG; -EPROTONOSUPPORT. */
int header_length(const uint8_t pre[HEADER_PRE], size_t *ret, struct err *e) MUST_CHECK;
/** header_get() - from all bytes, the first HEADER_PRE included. Only what header_put() would write is accepted.
 * Return: 0; -EBADMSG, slug "damaged". */
int header_get(struct span bytes, struct header **ret, struct err *e) MUST_CHECK;

#endif
