/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text is base64 in lines of 76 characters between two lines that say what it is; a word is base64 without padding
 * behind a prefix. Both have one spelling: lines of another length, other white space or anything behind the end are
 * refused, so that a change of any byte of a file shows.
 */
#include "seal/form.h"

#include "seal/digest.h"

#include <errno.h>
#include <sodium.h>

static const char begin_line[] = "-----BEGIN BERTH SEALED FILE-----\n";
static const char end_line[] = "-----END BERTH SEALED FILE-----\n";
static const char word_prefix[] = "berth-sealed:";

static int put(struct dress *d, const void *p, size_t len)
{
	return d->to.write(d->to.ctx, SPAN(p, len));
}

static int put_line(struct dress *d, const uint8_t *p, size_t len)
{
	char text[FORM_LINE_TEXT + 2];
	bool lines = d->form == SEAL_TEXT;
	size_t n;

	sodium_bin2base64(text, sizeof(text), p, len,
			  lines ? sodium_base64_VARIANT_ORIGINAL : sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
	n = strlen(text);
	if (lines)
		text[n++] = '\n';
	return put(d, text, n);
}

int dress_begin(struct dress *d, enum seal_form form, struct seal_sink to)
{
	*d = (struct dress){ .form = form, .to = to };
	if (form == SEAL_BINARY)
		return 0;
	return form == SEAL_TEXT ? put(d, begin_line, strlen(begin_line)) : put(d, word_prefix, strlen(word_prefix));
}

int dress_write(struct dress *d, struct span data)
{
	const uint8_t *p = data.p;
	int r = 0;

	if (d->form == SEAL_BINARY)
		return put(d, p, data.len);
	while (data.len && r == 0) {
		size_t n = MIN(FORM_LINE - d->n, data.len);

		memcpy(d->part + d->n, p, n);
		d->n += n;
		p += n;
		data.len -= n;
		if (d->n == FORM_LINE) {
			r = put_line(d, d->part, FORM_LINE);
			d->n = 0;
		}
	}
	return r;
}

int dress_end(struct dress *d)
{
	int r = 0;

	if (d->form == SEAL_BINARY)
		return 0;
	if (d->n)
		r = put_line(d, d->part, d->n);
	if (r == 0 && d->form == SEAL_TEXT)
		r = put(d, end_line, strlen(end_line));
	return r;
}

/* At least one more byte in raw. Return: 1; 0 at the end; -errno. */
static int more(struct undress *u)
{
	ssize_t n;

	if (u->at < u->n)
		return 1;
	n = u->from.read(u->from.ctx, u->raw, sizeof(u->raw));
	if (n < 0)
		return (int)n;
	u->at = 0;
	u->n = (size_t)n;
	return n > 0;
}

static int expect(struct undress *u, const char *words)
{
	int r;

	for (; *words; words++) {
		r = more(u);
		if (r < 0)
			return r;
		if (r == 0 || u->raw[u->at] != (uint8_t)*words)
			return -EBADMSG;
		u->at++;
	}
	return 0;
}

int undress_begin(struct undress *u, struct seal_source from)
{
	int r;

	*u = (struct undress){ .from = from };
	r = more(u);
	if (r <= 0)
		return r < 0 ? r : -EBADMSG;
	if (u->raw[0] == 'B') {
		u->form = SEAL_BINARY;
		return 0;
	}
	u->form = u->raw[0] == '-' ? SEAL_TEXT : SEAL_WORD;
	return expect(u, u->form == SEAL_TEXT ? begin_line : word_prefix);
}

/* The characters of the next line (or what is next of a word): up to FORM_LINE_TEXT. */
static int get_line(struct undress *u, char *text, size_t *ret_n)
{
	size_t n = 0;
	int r;

	while (n < FORM_LINE_TEXT) {
		r = more(u);
		if (r < 0)
			return r;
		if (r == 0 || (u->form == SEAL_TEXT && (u->raw[u->at] == '\n' || (n == 0 && u->raw[u->at] == '-'))))
			break;
		text[n++] = (char)u->raw[u->at++];
	}
	*ret_n = n;
	return u->form == SEAL_TEXT && n ? expect(u, "\n") : 0;
}

static int at_end(struct undress *u)
{
	int r = u->form == SEAL_TEXT ? expect(u, end_line) : 0;

	if (r == 0)
		r = more(u);
	return r > 0 ? -EBADMSG : r;
}

static int refill(struct undress *u)
{
	char text[FORM_LINE_TEXT];
	size_t n;
	int r = u->is_over ? 0 : get_line(u, text, &n);

	if (u->is_over) /* it may be asked once more */
		return 0;

	if (r < 0)
		return r;
	u->part_at = u->part_n = 0;
	if (!n) {
		r = at_end(u);
		u->is_over = r == 0;
		return r;
	}
	if (u->last)
		return -EBADMSG;
	u->last = n < FORM_LINE_TEXT || text[FORM_LINE_TEXT - 1] == '=';
	if (!base64_plain(SPAN(text, n)) ||
	    sodium_base642bin(u->part, sizeof(u->part), text, n, NULL, &u->part_n, NULL,
			      u->form == SEAL_TEXT ? sodium_base64_VARIANT_ORIGINAL :
						     sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0 ||
	    !u->part_n)
		return -EBADMSG;
	return 0;
}

ssize_t undress_read(struct undress *u, void *p, size_t len)
{
	int r;
	size_t n;

	if (u->form == SEAL_BINARY) {
		r = more(u);
		if (r <= 0)
			return r;
		n = MIN(len, u->n - u->at);
		memcpy(p, u->raw + u->at, n);
		u->at += n;
		return (ssize_t)n;
	}
	if (u->part_at == u->part_n) {
		r = refill(u);
		if (r < 0)
			return r;
	}
	n = MIN(len, u->part_n - u->part_at);
	memcpy(p, u->part + u->part_at, n);
	u->part_at += n;
	return (ssize_t)n;
}
