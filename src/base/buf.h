/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

/*
 * span: borrowed bytes. buf: owned bytes with a hard limit, a FIFO (append at the end, consume from the front).
 * A buf never grows past its limit and never allocates by an announced length, only for bytes that are there.
 */
#include "base/own.h"

#include <stdbool.h>
#include <string.h>

struct span {
	const void *p;
	size_t len;
};

#define SPAN(ptr, length) ((struct span){ .p = (ptr), .len = (length) })
#define SPAN_NULL ((struct span){ .p = NULL, .len = 0 })
/** span_str() - a span over a C string without its NUL; NULL gives an empty span. */
static inline struct span span_str(const char *s)
{
	return SPAN(s, s ? strlen(s) : 0);
}
/** span_eq() - true when both hold the same bytes. */
static inline bool span_eq(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}
/** span_dup() - a NUL-terminated copy on the heap, or abort. Free with str_free(). Embedded NULs are kept. */
char *span_dup(struct span s);
/** span_has_nul() - true when a zero byte is inside, so that it cannot be a C string. */
bool span_has_nul(struct span s);

struct buf {
	uint8_t *p;   /* storage */
	size_t start; /* first unread byte */
	size_t end;   /* one past the last byte */
	size_t cap;   /* bytes allocated */
	size_t limit; /* most bytes it may hold unread; 0 means 1 MiB */
	bool failed;  /* sticky: an append was refused */
	bool wipes;   /* what was not consumed is zeroed where it lay, when it grows, moves or goes */
};

enum { BUF_LIMIT_DEFAULT = 1024 * 1024 };

/** buf_init() - an empty buffer that may hold @limit unread bytes. Nothing is allocated yet. */
void buf_init(struct buf *b, size_t limit);
/** buf_fini() - release the storage; the buffer is empty and usable again with the same limit. */
void buf_fini(struct buf *b);
/** buf_len() - unread bytes. */
static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}
/** buf_span() - the unread bytes; valid until the next change of the buffer. */
static inline struct span buf_span(const struct buf *b)
{
	return SPAN(b->p ? b->p + b->start : NULL, b->end - b->start);
}
/** buf_room() - how many more bytes may be appended before the limit. */
size_t buf_room(const struct buf *b);
/** buf_append() - Return: 0, or -E2BIG past the limit, -ENOMEM; then nothing was appended and @b is marked failed. */
int buf_append(struct buf *b, const void *p, size_t len);
/** buf_printf() - append formatted text without a NUL. Return: as buf_append(). */
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
/** buf_reserve() - make @len writable bytes at the end and return their place, NULL when refused; then buf_commit(). */
void *buf_reserve(struct buf *b, size_t len);
/** buf_commit() - @len of the reserved bytes were filled. */
void buf_commit(struct buf *b, size_t len);
/** buf_consume() - drop @len bytes from the front; @len must not exceed buf_len(). */
void buf_consume(struct buf *b, size_t len);
/** buf_str() - the unread bytes as a C string (a NUL is put behind them); "" when it is empty or memory is out. */
const char *buf_str(struct buf *b);

#endif
