/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_RECORDS_H
#define HOST_API_E2B_RECORDS_H

/* What must outlive the daemon of things that only E2B's clients know: a directory for each kind, a file of JSON for
 * each thing. */
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct json;

/** records_each() - make the directory @dir when it is missing and hand each record in it, of at most @max_b bytes, to
 * @fn, which returns false for one that makes no sense. Such a one, and what cannot be read, is warned of as @what
 * ("a volume") and stays where it is. @ret_all: whether all were taken; may be NULL. Return: 0 or -errno. */
int records_each(const char *dir, const char *what, size_t max_b, bool (*fn)(void *ctx, const struct json *j),
		 void *ctx, bool *ret_all, struct err *e) MUST_CHECK;

#endif
