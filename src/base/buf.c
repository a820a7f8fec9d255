/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage grows by doubling up to the limit and is slid to the front when the consumed head is larger than what is
 * left, so a long-lived FIFO neither creeps nor copies on every read.
 */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

char *span_dup(struct span s)
{
	char *copy = must_calloc(s.len + 1, 1);

	if (s.len)
		memcpy(copy, s.p, s.len);
	return copy;
}

bool span_has_nul(struct span s)
{
	return s.len && memchr(s.p, 0, s.len);
}

void buf_init(struct buf *b, size_t limit)
{
	*b = (struct buf){ .limit = limit ? limit : BUF_LIMIT_DEFAULT };
}

static void wipe_from(struct buf *b, size_t from)
{
	if (b->wipes && b->end > from)
		explicit_bzero(b->p + from, b->end - from);
}

void buf_fini(struct buf *b)
{
	if (b->p)
		wipe_from(b, b->start);
	free(b->p);
	*b = (struct buf){ .limit = b->limit, .wipes = b->wipes };
}

size_t buf_room(const struct buf *b)
{
	size_t limit = b->limit ? b->limit : BUF_LIMIT_DEFAULT;

	return limit > buf_len(b) ? limit - buf_len(b) : 0;
}

void *buf_reserve(struct buf *b, size_t len)
{
	size_t used = buf_len(b), want, cap;
	uint8_t *p;

	if (len > buf_room(b)) {
		b->failed = true;
		return NULL;
	}
	if (b->cap - b->end >= len && b->p)
		return b->p + b->end;
	want = used + len;
	if (b->p && want <= b->cap && b->start >= used) {
		memcpy(b->p, b->p + b->start, used);
		wipe_from(b, b->start);
		b->start = 0;
		b->end = used;
		return b->p + b->end;
	}
	cap = b->cap ? b->cap : 64;
	while (cap < want)
		cap *= 2;
	p = malloc(cap);
	if (!p) {
		b->failed = true;
		return NULL;
	}
	if (used) {
		memcpy(p, b->p + b->start, used);
		wipe_from(b, b->start);
	}
	free(b->p);
	b->p = p;
	b->cap = cap;
	b->start = 0;
	b->end = used;
	return b->p + b->end;
}

void buf_commit(struct buf *b, size_t len)
{
	assert(len <= b->cap - b->end);
	b->end += len;
}

int buf_append(struct buf *b, const void *p, size_t len)
{
	void *to;

	if (len == 0)
		return 0;
	if (len > buf_room(b)) {
		b->failed = true;
		return -E2BIG;
	}
	to = buf_reserve(b, len);
	if (!to)
		return -ENOMEM;
	memcpy(to, p, len);
	buf_commit(b, len);
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	void *to;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	to = n < 0 ? NULL : buf_reserve(b, (size_t)n + 1);
	if (to) {
		vsnprintf(to, (size_t)n + 1, fmt, again);
		buf_commit(b, (size_t)n);
	}
	va_end(again);
	return to ? 0 : -E2BIG;
}

void buf_consume(struct buf *b, size_t len)
{
	assert(len <= buf_len(b));
	b->start += len;
	if (b->start == b->end)
		b->start = b->end = 0;
}

const char *buf_str(struct buf *b)
{
	size_t limit = b->limit;
	char *end;

	b->limit = SIZE_MAX / 4;
	end = buf_reserve(b, 1);
	b->limit = limit;
	if (!end)
		return "";
	*end = '\0';
	return (const char *)b->p + b->start;
}
