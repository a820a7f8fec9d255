/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEAK_LEAK_H
#define LEAK_LEAK_H

/*
 * Finding known values in streams of bytes without keeping the values: what is kept are keyed fingerprints. A value is
 * looked for as it is, reversed, in base64 (each alignment, both alphabets), in hexadecimal and URL-encoded, across the
 * borders of what a stream is handed over in, in constant memory. docs/leak-watch.md.
 */
#include "base/buf.h"

struct leaks;

enum {
	LEAK_MIN = 8,	      /* a shorter value is not looked for: it would be found everywhere */
	LEAK_PIECE = 32,      /* a longer value is looked for in pieces of this length */
	LEAK_PIECES_MAX = 32, /* of one value; of a value above 1 KiB they are spread over it */
	LEAK_VALUES_MAX = 1024,
	LEAK_NAME_MAX = 64,
	LEAK_LONGEST = 3 * LEAK_PIECE, /* of what is looked for, in bytes of the stream: URL-encoded */
};

enum leak_form { LEAK_PLAIN, LEAK_BASE64, LEAK_HEX, LEAK_URL, LEAK_REVERSED, LEAK_FORMS };

/** leak_form_name() - "plain", "base64" ... */
const char *leak_form_name(enum leak_form form);

/** leaks_new() - an empty set, with a key of its own. Any thread, as all of these. */
struct leaks *leaks_new(void);
struct leaks *leaks_ref(struct leaks *l);
/** leaks_unref() - destructor. */
void leaks_unref(struct leaks **slot);
/** leaks_add() - look for @value, called @name, from now on; streams that are under way look for it from their next
 * bytes on. A value that is there already is not added twice. @value is borrowed for the call; a line end behind it
 * does not count. Return: 0; -EINVAL: too short, or one byte again and again; -ENOSPC: LEAK_VALUES_MAX, or the memory
 * that fingerprints may have (about 6 MiB). */
int leaks_add(struct leaks *l, const char *name, struct span value) MUST_CHECK;
/** leaks_count() - how many values; no lock. */
unsigned leaks_count(const struct leaks *l);

/* One stream. Its memory does not grow. */
struct leak_scan {
	struct leaks *leaks;
	struct leak_table *table;
	uint64_t seen; /* bytes of the stream before the tail */
	unsigned tail_len;
	uint8_t tail[LEAK_LONGEST - 1];
};

struct leak_found {
	const char *name; /* borrowed for the call */
	enum leak_form form;
	uint64_t offset; /* of its first byte in the stream */
	unsigned len;
};

typedef void leak_found_fn(void *ctx, const struct leak_found *found);

/** leak_scan_init() - at the stream's byte @offset; keeps a reference to @l. leak_scan_fini(). */
void leak_scan_init(struct leak_scan *s, struct leaks *l, uint64_t offset);
void leak_scan_fini(struct leak_scan *s);
/** leak_scan() - the next bytes; @fn for each place that ends in them. One thread at a time. */
void leak_scan(struct leak_scan *s, struct span bytes, leak_found_fn *fn, void *ctx);
/** leak_scan_skip() - the stream goes on at @offset: what is before belongs to nothing behind it. */
void leak_scan_skip(struct leak_scan *s, uint64_t offset);

/** leak_star() - put stars over the part of @found that lies in @bytes, whose first is the stream's @offset. */
void leak_star(const struct leak_found *found, void *bytes, size_t len, uint64_t offset);
/** leak_hold() - how many of the last bytes may be the beginning of something that was not found yet, for whoever masks
 * a stream and must not hand these over before more came: an unbroken run of visible characters, fewer than
 * LEAK_LONGEST. */
size_t leak_hold(struct span bytes);

#endif
