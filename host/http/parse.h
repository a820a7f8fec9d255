/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_HTTP_PARSE_H
#define HOST_HTTP_PARSE_H

/* Paths and their percent-encoding. */
#include "base/buf.h"

enum { PARSE_SEGMENTS_MAX = 4 };

struct parse_segments {
	size_t n;
	char *v[PARSE_SEGMENTS_MAX];
};

/** parse_route() - does @path match @pattern, segment by segment ("{}" takes one that is not empty)? True, and the
 * decoded segments are in @ret; false, and it is empty. Bad encoding and encoded NULs match nothing. */
bool parse_route(const char *pattern, const char *path, struct parse_segments *ret);
void parse_segments_fini(struct parse_segments *s);

/** parse_is_token() - may these bytes be the name of a header (RFC 9110, 5.6.2)? */
bool parse_is_token(struct span name);

/** parse_decode() - percent-decoding, on the heap; NULL when it is malformed or holds a NUL. */
char *parse_decode(struct span raw);

/* Decoded strings that live as long as a request. */
struct parse_kept {
	size_t n;
	char *v[16];
	const char *raw[16]; /* what each was made of; borrowed */
};
/** parse_keep() - decode and keep; the same @raw again takes no more room. NULL when malformed or too many are kept. */
const char *parse_keep(struct parse_kept *k, const char *raw);
void parse_kept_fini(struct parse_kept *k);

/* One range of bytes: from @first to @last, or (is_tail) the last @first bytes. */
struct parsed_range {
	uint64_t first, last;
	bool is_tail;
};
/** parse_range() - "bytes=A-B", "bytes=A-", "bytes=-N". False: something else, or several. */
bool parse_range(const char *text, struct parsed_range *ret);

#endif
