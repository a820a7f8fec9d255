/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_GUNZIP_H
#define HOST_API_E2B_GUNZIP_H

/* Bodies that come compressed: zlib's only home. */
#include "base/buf.h"
#include "base/err.h"

/** gunzip_to() - what @data (gzip, RFC 1952) unpacks to, appended to a file; at most @max bytes. *@ret_n: how many.
 * Return: 0; -EBADMSG slug "bad-gzip"; -E2BIG; -errno of writing. */
int gunzip_to(int fd, struct span data, uint64_t max, uint64_t *ret_n, struct err *e) MUST_CHECK;

#endif
