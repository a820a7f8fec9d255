/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_MASK_H
#define HOST_BROKER_MASK_H

/*
 * A value in what comes back is replaced by as many asterisks: as it is, in strings of JSON, in base64 of both
 * alphabets wherever it begins in the encoded text, URL-encoded in several ways, and as hexadecimal digits; and what
 * is behind its first colon in the same forms, for it may be a user and a password. Lengths stay, so the framing does.
 * A stream is looked at across its pieces: held back is as much as a form is long, but nothing in front of a control
 * character, so that lines and events pass at once. Neither that nor the time it takes tells how much of a text is
 * right.
 */
#include "seal/secret.h"

/* Shorter ones are not masked: they would be found where they are not. */
enum { MASK_SHORTEST = 8 };

struct mask;

/** mask_new() - Return: 0; -ENOMEM. @value is only read now. */
int mask_new(struct secret *value, struct mask **ret) MUST_CHECK;
/** mask_join() - of several values at once; @v is only read now. Return: as mask_new(). */
int mask_join(struct mask *const *v, size_t n, struct mask **ret) MUST_CHECK;
void mask_free(struct mask **slot);
/** mask_url() - write @value as it goes into a URL, in a form that is masked, to @to, which has room for three times as
 * many bytes. Return: how many it became. */
size_t mask_url(struct span value, char *to);
/** mask_bytes() - mask whole bytes in place. Return: how many were found. */
size_t mask_bytes(struct mask *m, void *p, size_t len);

/* One stream. */
struct mask_stream {
	struct mask *mask; /* borrowed; NULL: nothing is masked */
	struct buf held;
	size_t found;
};

void mask_stream_init(struct mask_stream *s, struct mask *m);
void mask_stream_fini(struct mask_stream *s);
/** mask_feed() - append what can go on of what came so far to @to. Return: 0; what buf_append() says. */
int mask_feed(struct mask_stream *s, struct span in, struct buf *to) MUST_CHECK;
/** mask_end() - append what was held back: nothing follows. */
int mask_end(struct mask_stream *s, struct buf *to) MUST_CHECK;

#endif
