/* SPDX-License-Identifier: Apache-2.0 */
/* Values in streams: every form, every alignment, every border, and nothing else. */
#include "leak/forms.h"
#include "leak/leak.h"

#include "base/own.h"
#include "base/str.h"
#include "seal/digest.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FOUND_MAX = 4096 };

struct seen {
	struct leak_found found[FOUND_MAX];
	size_t n;
	uint8_t *star; /* put stars here, when it is there */
	size_t len;
};

static void note(void *ctx, const struct leak_found *found)
{
	struct seen *s = ctx;

	cr_assert_lt(s->n, (size_t)FOUND_MAX);
	s->found[s->n++] = *found;
	if (s->star)
		leak_star(found, s->star, s->len, 0);
}

static struct leaks *one(const char *value)
{
	struct leaks *l;

	cr_assert_eq(digest_setup(), 0);
	l = leaks_new();
	cr_assert_eq(leaks_add(l, "TOKEN", span_str(value)), 0);
	return l;
}

/* @text in pieces of @step bytes. */
static void look(struct leaks *l, const void *text, size_t len, size_t step, struct seen *s)
{
	struct leak_scan scan;
	size_t at;

	s->n = 0;
	leak_scan_init(&scan, l, 0);
	for (at = 0; at < len; at += step)
		leak_scan(&scan, SPAN((const char *)text + at, MIN(step, len - at)), note, s);
	leak_scan_fini(&scan);
}

static void expect(struct leaks *l, const char *text, enum leak_form form, size_t at, size_t len)
{
	static struct seen s;
	size_t step;

	for (step = 1; step <= strlen(text) + 1; step++) {
		look(l, text, strlen(text), step, &s);
		cr_assert_eq(s.n, 1U, "%zu found in steps of %zu: %s", s.n, step, text);
		cr_assert_eq(s.found[0].form, form, "%s: %s", leak_form_name(s.found[0].form), text);
		cr_assert_eq(s.found[0].offset, at, "at %zu in steps of %zu", (size_t)s.found[0].offset, step);
		cr_assert_eq(s.found[0].len, len);
		cr_assert_str_eq(s.found[0].name, "TOKEN");
	}
}

Test(leak, every_form_over_every_border)
{
	struct leaks *l = one("p4ss w/rd+x?Zq");

	expect(l, "say p4ss w/rd+x?Zq twice", LEAK_PLAIN, 4, 14);
	expect(l, "qZ?x+dr/w ss4p", LEAK_REVERSED, 0, 14);
	expect(l, "..7034737320772f72642b783f5a71", LEAK_HEX, 2, 28);
	expect(l, "p4ss%20w%2Frd%2Bx%3FZq", LEAK_URL, 0, 22);
	expect(l, "p4ss%20w%2frd%2bx%3fZq", LEAK_URL, 0, 22);
	expect(l, "p4ss%20w/rd%2Bx%3FZq", LEAK_URL, 0, 20);
	leaks_unref(&l);
}

Test(leak, base64_at_each_alignment)
{
	struct leaks *l = one("hunter2-hunter3?~>");
	static struct seen s;
	unsigned before, after;

	for (before = 0; before < 7; before++) {
		for (after = 0; after < 4; after++) {
			AUTO(buf_fini) struct buf raw, text;
			size_t i;

			buf_init(&raw, 256);
			buf_init(&text, 256);
			buf_append(&raw, "abcdefg", before);
			buf_append(&raw, "hunter2-hunter3?~>", 18);
			buf_append(&raw, "uvwx", after);
			base64_put(&text, buf_span(&raw), true);
			look(l, buf_span(&text).p, buf_len(&text), 5, &s);
			cr_assert_eq(s.n, 1U, "%u before, %u after: %zu", before, after, s.n);
			cr_assert_eq(s.found[0].form, LEAK_BASE64);
			for (i = 0; i < buf_len(&text); i++) {
				uint8_t *p = (uint8_t *)(uintptr_t)buf_span(&text).p;

				p[i] = p[i] == '+' ? '-' : p[i] == '/' ? '_' : p[i];
			}
			look(l, buf_span(&text).p, buf_len(&text), 3, &s);
			cr_assert_eq(s.n, 1U, "the other alphabet: %u before, %u after", before, after);
		}
	}
	leaks_unref(&l);
}

Test(leak, what_is_not_looked_for)
{
	struct leaks *l = one("abcdefgh");

	cr_assert_eq(leaks_add(l, "SHORT", span_str("1234567\n")), -EINVAL);
	cr_assert_eq(leaks_add(l, "DULL", span_str("xxxxxxxxxxxxxxxxxxx")), -EINVAL);
	cr_assert_eq(leaks_add(l, "TOKEN", span_str("abcdefgh\n")), 0);
	cr_assert_eq(leaks_count(l), 1U, "the same value twice");
	leaks_unref(&l);
}

/* What was put over it is all of it, in a stream that is masked as the door does it: what may be a beginning waits. */
Test(leak, a_masked_stream_shows_nothing)
{
	static char value[1500], text[4096], shown[4096];
	static struct seen s;
	struct leaks *l;
	size_t i, step, len;

	srand(7);
	for (i = 0; i < 700; i++)
		value[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[rand() % 62];
	l = one(value);
	len = (size_t)snprintf(text, sizeof(text), "before %s after\n%s", value, value);
	for (step = 1; step < 200; step += 13) {
		struct leak_scan scan;
		size_t at, done = 0;

		memcpy(shown, text, len);
		s.star = (uint8_t *)shown;
		s.len = len;
		s.n = 0;
		leak_scan_init(&scan, l, 0);
		for (at = 0; at < len; at += step) {
			size_t n = MIN(step, len - at), i2;

			leak_scan(&scan, SPAN(text + at, n), note, &s);
			i2 = at + n - leak_hold(SPAN(text, at + n));
			for (; done < i2; done++)
				cr_assert(shown[done] == '*' || strchr("before \nafter", shown[done]),
					  "%c shown at %zu in steps of %zu", shown[done], done, step);
		}
		leak_scan_fini(&scan);
		cr_assert_eq(memcmp(shown, "before *", 8), 0);
		cr_assert_eq(memcmp(shown + 7 + 700, " after\n*", 8), 0);
		cr_assert_eq(shown[len - 1], '*');
		s.star = NULL;
	}
	leaks_unref(&l);
}

struct hay {
	uint8_t *text;
	size_t len, n;
};

static void count_form(void *ctx, enum leak_form form, struct span bytes)
{
	struct hay *h = ctx;
	const uint8_t *p = h->text;

	(void)form;
	while ((p = memmem(p, h->len - (size_t)(p - h->text), bytes.p, bytes.len))) {
		h->n++;
		p++;
	}
}

static void put_form(void *ctx, enum leak_form form, struct span bytes)
{
	struct hay *h = ctx;

	(void)form;
	if (h->n-- == 0)
		memcpy(h->text + (size_t)rand() % (h->len - bytes.len), bytes.p, bytes.len);
}

/* A hundred values; forms of them strewn over noise, some broken by the next: as many are found as memmem() finds. */
Test(leak, as_many_as_a_plain_search)
{
	enum { VALUES = 100, LEN = 200000, ROUNDS = 5 };
	static char values[VALUES][LEAK_PIECE + 1];
	static uint8_t text[LEN];
	static struct seen s;
	struct leaks *l = one("something-else");
	unsigned i, k, round;

	srand(11);
	for (i = 0; i < VALUES; i++) {
		size_t len = LEAK_MIN + (size_t)rand() % (LEAK_PIECE - LEAK_MIN + 1);

		for (k = 0; k < len; k++)
			values[i][k] = (char)(' ' + 1 + rand() % 94);
		cr_assert_eq(leaks_add(l, "V", span_str(values[i])), 0);
	}
	for (round = 0; round < ROUNDS; round++) {
		struct hay h = { .text = text, .len = LEN };
		size_t want = 0;

		for (i = 0; i < LEN; i++)
			text[i] = (uint8_t)(round ? rand() : "the quick brown fox "[i % 20]);
		for (i = 0; i < 1500; i++) {
			h.n = (size_t)rand() % 9;
			forms_each(span_str(values[rand() % VALUES]), put_form, &h);
		}
		h.n = 0;
		for (i = 0; i < VALUES; i++)
			forms_each(span_str(values[i]), count_form, &h);
		want = h.n;
		look(l, text, LEN, 1 + (size_t)rand() % 3000, &s);
		cr_assert_gt(want, (size_t)1000);
		/* forms that are the same text (a value without special characters in hex: "12" in both cases) count
		 * twice above */
		cr_assert_leq(s.n, want);
		cr_assert_geq(s.n * 10, want * 9, "%zu of %zu", s.n, want);
	}
	leaks_unref(&l);
}

Test(leak, a_value_that_comes_later_is_found_from_then_on)
{
	struct leaks *l = one("first-value-of-all");
	struct leak_scan scan;
	static struct seen s;

	leak_scan_init(&scan, l, 1000);
	leak_scan(&scan, span_str("second-value-of-all first-val"), note, &s);
	cr_assert_eq(s.n, 0U);
	cr_assert_eq(leaks_add(l, "SECOND", span_str("second-value-of-all")), 0);
	leak_scan(&scan, span_str("ue-of-all second-value-of-all"), note, &s);
	cr_assert_eq(s.n, 2U);
	cr_assert_eq(s.found[0].offset, 1020U);
	cr_assert_str_eq(s.found[1].name, "SECOND");
	leak_scan_skip(&scan, 0);
	leak_scan(&scan, span_str("second-val"), note, &s);
	leak_scan_skip(&scan, 100);
	leak_scan(&scan, span_str("ue-of-all"), note, &s);
	cr_assert_eq(s.n, 2U, "two ends that are not neighbours");
	leak_scan_fini(&scan);
	leaks_unref(&l);
}

Test(leak, the_armour_of_a_key_is_no_secret)
{
	static char value[1200];
	static struct seen s;
	struct leaks *l;
	size_t i, head = (size_t)snprintf(
			  value, sizeof(value),
			  "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ");

	srand(3);
	for (i = head; i < 1100; i++)
		value[i] = (char)(i % 65 == 0 ? '\n' : 'A' + rand() % 26);
	l = one(value);
	look(l, value, 76, 7, &s);
	cr_assert_eq(s.n, 0U);
	look(l, value, 1100, 7, &s);
	cr_assert_gt(s.n, 20U);
	leaks_unref(&l);
}
