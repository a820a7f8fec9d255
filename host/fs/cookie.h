/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_FS_COOKIE_H
#define HOST_FS_COOKIE_H

/* Positions in directories. Names are chosen by guests: without a key two of them could be made to share a position,
 * and the second would be missed by everybody whose buffer ended between them. */
#include "base/buf.h"

enum { COOKIE_KEY_LEN = 16, COOKIE_FIRST = 16 /* below: "." and ".." */ };

/** cookie_of() - the position of a name: SipHash-2-4, moved into COOKIE_FIRST to INT64_MAX. */
uint64_t cookie_of(const uint8_t key[COOKIE_KEY_LEN], struct span name);
/** cookie_hash() - the hash itself. */
uint64_t cookie_hash(const uint8_t key[COOKIE_KEY_LEN], struct span name);

#endif
