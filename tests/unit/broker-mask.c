/* SPDX-License-Identifier: Apache-2.0 */
/* A value is masked in every form, wherever a stream is cut; what is none passes at once and as it is. */
#include "host/broker/mask.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char value[] = "s3cr3t/tok+en=\"0123\" \\x";

static struct mask *make(const char *text)
{
	struct secret *s = secret_of(span_str(text));
	struct mask *m = NULL;

	cr_assert_eq(mask_new(s, &m), 0);
	secret_free(&s);
	return m;
}

/* Through a stream in pieces of @size. */
static void feed(struct mask *m, const char *text, size_t size, struct buf *to)
{
	struct mask_stream s;
	size_t len = strlen(text), at;

	mask_stream_init(&s, m);
	for (at = 0; at < len; at += size)
		cr_assert_eq(mask_feed(&s, SPAN(text + at, MIN(size, len - at)), to), 0);
	cr_assert_eq(mask_end(&s, to), 0);
	mask_stream_fini(&s);
}

static void base64(const char *in, size_t len, const char *more, char *to)
{
	char words[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t i, n = 0;

	strcat(words, more);
	for (i = 0; i < len; i += 3) {
		unsigned three = (unsigned)(unsigned char)in[i] << 16 |
				 (i + 1 < len ? (unsigned)(unsigned char)in[i + 1] << 8 : 0) |
				 (i + 2 < len ? (unsigned char)in[i + 2] : 0);

		to[n++] = words[three >> 18];
		to[n++] = words[three >> 12 & 63];
		to[n++] = i + 1 < len ? words[three >> 6 & 63] : '=';
		to[n++] = i + 2 < len ? words[three & 63] : '=';
	}
	to[n] = '\0';
}

/* Masked, whatever the pieces, and what is around it stays. */
static void check(struct mask *m, const char *form, size_t least)
{
	char text[512], first[512] = "";
	size_t size;

	snprintf(text, sizeof(text), "before %s behind s3cr3t/ s3cr", form);
	for (size = 1; size <= strlen(text); size++) {
		struct buf to;
		const char *got;
		size_t stars = 0, i;

		buf_init(&to, 0);
		feed(m, text, size, &to);
		got = buf_str(&to);
		for (i = 0; got[i]; i++)
			stars += got[i] == '*';
		cr_assert_eq(strlen(got), strlen(text));
		cr_assert_geq(stars, least, "in pieces of %zu: %s", size, got);
		cr_assert_eq(strncmp(got, "before ", 7), 0);
		cr_assert(strstr(got, " behind s3cr3t/ s3cr"), "%s", got);
		if (first[0])
			cr_assert_str_eq(got, first, "pieces of %zu", size);
		snprintf(first, sizeof(first), "%s", got);
		buf_fini(&to);
	}
}

Test(broker_mask, every_form_in_any_pieces)
{
	struct mask *m = make(value);
	char form[256], longer[128];
	size_t i, shift;

	check(m, value, strlen(value));
	for (i = 0; i < strlen(value); i++)
		snprintf(form + 2 * i, 3, "%02x", value[i]);
	check(m, form, 2 * strlen(value));
	for (i = 0; i < strlen(value); i++)
		snprintf(form + 2 * i, 3, "%02X", value[i]);
	check(m, form, 2 * strlen(value));
	for (i = 0; i < strlen(value); i++)
		snprintf(form + 3 * i, 4, "%%%02X", value[i]);
	check(m, form, 3 * strlen(value));
	for (i = 0; i < strlen(value); i++)
		snprintf(form + 3 * i, 4, "%%%02x", value[i]);
	check(m, form, 3 * strlen(value));
	form[mask_url(span_str(value), form)] = '\0';
	check(m, form, strlen(form));
	cr_assert_str_eq(form, "s3cr3t%2Ftok%2Ben%3D%220123%22%20%5Cx");
	check(m, "s3cr3t%2Ftok%2Ben%3D%220123%22%20%5Cx", 20);
	check(m, "s3cr3t%2ftok%2ben%3d%220123%22%20%5cx", 20);
	check(m, "s3cr3t%2Ftok%2Ben%3D%220123%22+%5Cx", 20);
	check(m, "s3cr3t/tok+en=\\\"0123\\\" \\\\x", strlen(value) + 3);
	check(m, "s3cr3t\\/tok+en=\\\"0123\\\" \\\\x", strlen(value) + 4);
	for (shift = 0; shift < 6; shift++) {
		snprintf(longer, sizeof(longer), "%.*s%s!!", (int)(shift % 3), "xyz", value);
		base64(longer, strlen(longer), shift < 3 ? "+/" : "-_", form);
		check(m, form, strlen(value) * 8 / 6 - 1);
	}
	mask_free(&m);
}

Test(broker_mask, as_others_spell_it)
{
	struct mask *m = make("a b/c!'()*~<d>&e");
	static const char *const forms[] = {
		"a%20b/c%21%27%28%29%2A~%3Cd%3E%26e",	/* Python's quote */
		"a%20b%2Fc!'()*~%3Cd%3E%26e",		/* encodeURIComponent */
		"a+b%2Fc%21%27%28%29*%7E%3Cd%3E%26e",	/* a form's */
		"a+b%2fc%21%27%28%29%2a~%3cd%3e%26e",
		"a b/c!'()*~\\u003cd\\u003e\\u0026e",	/* Go's JSON */
		"a b\\/c!'()*~<d>&e",
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(forms); i++)
		check(m, forms[i], strlen(forms[i]));
	mask_free(&m);
}

Test(broker_mask, a_password_alone)
{
	struct mask *m = make("me:pass/word:9");
	char form[64], text[] = "me: pass/word, me:pass/word:9, me";

	check(m, "pass/word:9", 11);
	check(m, "pass%2Fword%3A9", 15);
	base64("pass/word:9", 11, "+/", form);
	check(m, form, 14);
	cr_assert_eq(mask_bytes(m, text, strlen(text)), 1);
	cr_assert_str_eq(text, "me: pass/word, **************, me");
	mask_free(&m);
	m = make("somebody:short");
	check(m, "somebody:short", 14);
	strcpy(text, "it is short: somebody");
	cr_assert_eq(mask_bytes(m, text, strlen(text)), 0, "it would be found everywhere");
	mask_free(&m);
	m = make("somebody:");
	check(m, "somebody:", 9);
	mask_free(&m);
}

/* Of the longest value, made of what becomes most. */
Test(broker_mask, every_form_has_room)
{
	char *longest = must_calloc(8193, 1), *form = must_calloc(6 * 8192 + 1, 1);
	struct mask *m;
	size_t i;

	for (i = 0; i < 8192; i++)
		longest[i] = i == 1 ? ':' : i % 2 ? '<' : '\"';
	m = make(longest);
	for (i = 0; i < 8190; i++)
		snprintf(form + 3 * i, 4, "%%%02x", longest[i + 2]);
	cr_assert_eq(mask_bytes(m, form, 3 * 8190), 1);
	cr_assert_eq(strspn(form, "*"), 3 * 8190);
	mask_free(&m);
	free(form);
	free(longest);
}

Test(broker_mask, lines_and_events_pass_at_once)
{
	struct mask *m = make(value);
	struct mask_stream s;
	struct buf to;

	buf_init(&to, 0);
	mask_stream_init(&s, m);
	cr_assert_eq(mask_feed(&s, span_str("data: one event\n\n"), &to), 0);
	cr_assert_str_eq(buf_str(&to), "data: one event\n\n", "nothing is held back");
	cr_assert_eq(mask_feed(&s, span_str("data: s3cr3t/tok\rand"), &to), 0);
	cr_assert_str_eq(buf_str(&to), "data: one event\n\ndata: s3cr3t/tok\r", "a part of one is none");
	mask_stream_fini(&s);
	buf_fini(&to);
	mask_free(&m);
}

/* What goes on of a piece that ends with @len bytes of @tail. */
static size_t passes(struct mask *m, const char *tail, size_t len)
{
	struct mask_stream s;
	char text[1500];
	struct buf to;
	size_t n;

	memset(text, '.', sizeof(text));
	memcpy(text + sizeof(text) - len, tail, len);
	buf_init(&to, 0);
	mask_stream_init(&s, m);
	cr_assert_eq(mask_feed(&s, SPAN(text, sizeof(text)), &to), 0);
	n = buf_len(&to);
	mask_stream_fini(&s);
	buf_fini(&to);
	return n;
}

/* Whoever makes a service say what he likes, piece by piece, does not see from what is held back how much of it is
 * right. */
Test(broker_mask, what_is_held_back_tells_nothing)
{
	struct mask *m = make(value);
	char form[256], other[256];
	size_t i, len;

	memset(other, 'z', sizeof(other));
	len = mask_url(span_str(value), form);
	for (i = 0; i < strlen(value); i++)
		cr_assert_eq(passes(m, value, i), passes(m, other, i), "%zu bytes of it", i);
	for (i = 0; i < len; i++)
		cr_assert_eq(passes(m, form, i), passes(m, other, i), "%zu bytes of a form", i);
	mask_free(&m);
}

Test(broker_mask, several_at_once)
{
	struct mask *m[2] = { make("first-of-two"), make("user:second/of/two") }, *both = NULL;
	char text[] = "a first-of-two, second/of/two and second%2Fof%2Ftwo, first-of";

	cr_assert_eq(mask_join(m, 2, &both), 0);
	mask_free(&m[0]);
	mask_free(&m[1]);
	cr_assert_eq(mask_bytes(both, text, strlen(text)), 3);
	cr_assert_str_eq(text, "a ************, ************* and *****************, first-of");
	check(both, "user:second/of/two", 18);
	mask_free(&both);
}

Test(broker_mask, twice_inside_itself_and_short_ones)
{
	struct mask *m = make("abababab");
	char text[] = "xababababababy";

	cr_assert_eq(mask_bytes(m, text, strlen(text)), 1);
	cr_assert_str_eq(text, "x********ababy");
	mask_free(&m);
	m = make("short");
	strcpy(text, "it is short");
	cr_assert_eq(mask_bytes(m, text, strlen(text)), 0, "it would be found everywhere");
	mask_free(&m);
}

Test(mask, of_several_values_each_is_found)
{
	static const char other[] = "another-one/0123456789";
	struct mask *both[2] = { make(value), make(other) }, *m = NULL;
	char hex[2 * sizeof(other)];
	char in_base64[64];
	size_t i;

	cr_assert_eq(mask_join(both, 2, &m), 0);
	mask_free(&both[0]); /* what was joined needs them no more */
	mask_free(&both[1]);
	check(m, value, strlen(value));
	check(m, other, strlen(other));
	for (i = 0; i < strlen(other); i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned char)other[i]);
	check(m, hex, 2 * strlen(other));
	base64(value, strlen(value), "+/", in_base64);
	check(m, in_base64, strlen(value));
	mask_free(&m);
}
