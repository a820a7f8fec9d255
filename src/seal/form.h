/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_FORM_H
#define SEAL_FORM_H

/* The three clothes of a sealed file, as filters over a sink and a source; inside this room only. */
#include "seal/sealed.h"

enum { FORM_LINE = 57, FORM_LINE_TEXT = 76 };

struct dress {
	enum seal_form form;
	struct seal_sink to;
	uint8_t part[FORM_LINE]; /* bytes that make no full line yet */
	size_t n;
};

int dress_begin(struct dress *d, enum seal_form form, struct seal_sink to) MUST_CHECK;
int dress_write(struct dress *d, struct span data) MUST_CHECK;
int dress_end(struct dress *d) MUST_CHECK;

struct undress {
	enum seal_form form;
	struct seal_source from;
	uint8_t raw[8192]; /* as it came */
	size_t at, n;
	uint8_t part[FORM_LINE]; /* of a line, decoded */
	size_t part_at, part_n;
	bool last; /* nothing may follow the line in part */
	bool is_over; /* the end was met, and in order */
};

/** undress_begin() - find out what it is. Return: 0; -EBADMSG; what the source says. */
int undress_begin(struct undress *u, struct seal_source from) MUST_CHECK;
/** undress_read() - up to @len bytes; 0 at an end that is in order. Return: bytes; -EBADMSG; what the source says. */
ssize_t undress_read(struct undress *u, void *p, size_t len) MUST_CHECK;

#endif
