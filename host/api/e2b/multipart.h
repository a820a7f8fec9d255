/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_E2B_MULTIPART_H
#define HOST_API_E2B_MULTIPART_H

/* A body of multipart/form-data (RFC 7578) that is there as a whole. Everything borrows from it. */
#include "base/buf.h"

struct multipart {
	struct span rest;
	char mark[80]; /* "\r\n--BOUNDARY" */
	bool is_bad;   /* it is not what it should be from here on */
};

struct part {
	struct span name, filename; /* as they came: multipart_name() */
	struct span data;
};

/** multipart_begin() - @type: the header Content-Type. Return: 0; -EINVAL. */
int multipart_begin(struct multipart *m, const char *type, struct span body) MUST_CHECK;
/** multipart_next() - false: there is no other one, or the rest is bad. */
bool multipart_next(struct multipart *m, struct part *ret);
/** multipart_name() - what a name means: %22, %0D and %0A stand for what cannot be in it (WHATWG), a backslash for what
 * is behind it. On the heap. */
char *multipart_name(struct span name);

#endif
