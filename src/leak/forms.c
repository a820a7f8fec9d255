/* SPDX-License-Identifier: Apache-2.0 */
#include "leak/forms.h"

#include "seal/secret.h"

#include <string.h>

const char *leak_form_name(enum leak_form form)
{
	static const char *const names[LEAK_FORMS] = { "plain", "base64", "hex", "url", "reversed" };

	return form < LEAK_FORMS ? names[form] : "?";
}

static const char STANDARD[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Behind @before bytes of something else, which have a part in the first characters and in none that are ours; so has
 * what follows in the last ones. */
static void base64_form(struct span piece, unsigned before, leak_form_fn *fn, void *ctx)
{
	char text[LEAK_LONGEST];
	const uint8_t *p = piece.p;
	size_t first = (before * 8 + 5) / 6, last = (before + piece.len) * 8 / 6, i, k;
	bool differs = false;

	for (i = first; i < last; i++) {
		unsigned value = 0;

		for (k = 0; k < 6; k++) {
			size_t bit = i * 6 + k - before * (size_t)8;

			value = value << 1 | (p[bit / 8] >> (7 - bit % 8) & 1U);
		}
		text[i - first] = STANDARD[value];
	}
	fn(ctx, LEAK_BASE64, SPAN(text, last - first));
	for (i = 0; i < last - first; i++) {
		if (text[i] == '+' || text[i] == '/') {
			text[i] = text[i] == '+' ? '-' : '_';
			differs = true;
		}
	}
	if (differs)
		fn(ctx, LEAK_BASE64, SPAN(text, last - first));
	wipe(text, sizeof(text));
}

static void hex_form(struct span piece, const char *digits, leak_form_fn *fn, void *ctx)
{
	char text[2 * LEAK_PIECE];
	const uint8_t *p = piece.p;
	size_t i;

	for (i = 0; i < piece.len; i++) {
		text[2 * i] = digits[p[i] >> 4];
		text[2 * i + 1] = digits[p[i] & 15];
	}
	fn(ctx, LEAK_HEX, SPAN(text, 2 * piece.len));
	wipe(text, sizeof(text));
}

static bool is_unreserved(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       strchr("-._~", c ? c : 'x');
}

/* RFC 3986: letters, digits and "-._~" stay. Some writers leave @also as it is. */
static void url_form(struct span piece, const char *digits, const char *also, leak_form_fn *fn, void *ctx)
{
	char text[LEAK_LONGEST];
	const uint8_t *p = piece.p;
	size_t i, n = 0;

	for (i = 0; i < piece.len; i++) {
		if (is_unreserved(p[i]) || (p[i] && strchr(also, p[i]))) {
			text[n++] = (char)p[i];
			continue;
		}
		text[n++] = '%';
		text[n++] = digits[p[i] >> 4];
		text[n++] = digits[p[i] & 15];
	}
	if (n > piece.len) /* else it is the plain one */
		fn(ctx, LEAK_URL, SPAN(text, n));
	wipe(text, sizeof(text));
}

void forms_each(struct span piece, leak_form_fn *fn, void *ctx)
{
	static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
	uint8_t back[LEAK_PIECE];
	const uint8_t *p = piece.p;
	size_t i;

	fn(ctx, LEAK_PLAIN, piece);
	for (i = 0; i < piece.len; i++)
		back[i] = p[piece.len - 1 - i];
	fn(ctx, LEAK_REVERSED, SPAN(back, piece.len));
	wipe(back, sizeof(back));
	for (i = 0; i < 3; i++)
		base64_form(piece, (unsigned)i, fn, ctx);
	hex_form(piece, lower, fn, ctx);
	hex_form(piece, upper, fn, ctx);
	url_form(piece, upper, "", fn, ctx);
	url_form(piece, lower, "", fn, ctx);
	url_form(piece, upper, "/", fn, ctx);
}
