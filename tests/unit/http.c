/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and percent-encoding: decoded once, an encoded slash makes no segment, malformed input matches nothing. */
#include "host/http/parse.h"

#include <criterion/criterion.h>

Test(parse, routes)
{
	struct parse_segments s;

	cr_assert(parse_route("/v1/sandboxes/{}/exec", "/v1/sandboxes/abc/exec", &s));
	cr_assert_str_eq(s.v[0], "abc");
	parse_segments_fini(&s);
	cr_assert(parse_route("/v1/t/{}", "/v1/t/a%2Fb%20c", &s));
	cr_assert_str_eq(s.v[0], "a/b c");
	parse_segments_fini(&s);
	cr_assert_not(parse_route("/v1/sandboxes/{}", "/v1/sandboxes/", &s));
	cr_assert_not(parse_route("/v1/sandboxes/{}", "/v1/sandboxes", &s));
	cr_assert_not(parse_route("/v1/sandboxes/{}", "/v1/sandboxes/a/b", &s));
	cr_assert_not(parse_route("/v1/sandboxes", "/v1/sandboxesx", &s));
	cr_assert_not(parse_route("/v1/{}", "/v1/%", &s));
	cr_assert_not(parse_route("/v1/{}", "/v1/%4", &s));
	cr_assert_not(parse_route("/v1/{}", "/v1/%zz", &s));
	cr_assert_not(parse_route("/v1/{}", "/v1/a%00b", &s));
	cr_assert_eq(s.n, 0);
}

Test(parse, decodes_once)
{
	char *s = parse_decode(SPAN("%2525", 5));

	cr_assert_str_eq(s, "%25");
	free(s);
	s = parse_decode(SPAN("a+b", 3));
	cr_assert_str_eq(s, "a+b");
	free(s);
}

/* A name that is asked for again and again takes one place: else the last ones of a request would seem not to be there.
 */
Test(parse, keeps_each_once)
{
	static const char raw[] = "a%20b";
	static const char others[20][2] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" };
	struct parse_kept k = { .n = 0 };
	const char *first = parse_keep(&k, raw);
	int i;

	cr_assert_str_eq(first, "a b");
	for (i = 0; i < 100; i++)
		cr_assert_eq(parse_keep(&k, raw), first);
	for (i = 0; i < 20; i++)
		cr_assert_eq(parse_keep(&k, others[i]) != NULL, i < 15);
	cr_assert_eq(parse_keep(&k, raw), first);
	parse_kept_fini(&k);
}

Test(parse, ranges)
{
	static const struct {
		const char *text;
		bool ok, is_tail;
		uint64_t first, last;
	} cases[] = {
		{ "bytes=0-0", true, false, 0, 0 },
		{ "bytes=5-", true, false, 5, INT64_MAX },
		{ "Bytes=3-9", true, false, 3, 9 },
		{ "bytes=-7", true, true, 7, INT64_MAX },
		{ "bytes=9-3", false, false, 0, 0 },
		{ "bytes=0-1,3-4", false, false, 0, 0 },
		{ "bytes=-", false, false, 0, 0 },
		{ "bytes=", false, false, 0, 0 },
		{ "bytes", false, false, 0, 0 },
		{ "bytes= 1-2", false, false, 0, 0 },
		{ "bytes=+1-2", false, false, 0, 0 },
		{ "bytes=--1", false, false, 0, 0 },
		{ "bytes=99999999999999999999-", false, false, 0, 0 },
		{ "lines=1-2", false, false, 0, 0 },
	};
	struct parsed_range got;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(parse_range(cases[i].text, &got), cases[i].ok, "%s", cases[i].text);
		if (!cases[i].ok)
			continue;
		cr_assert_eq(got.is_tail, cases[i].is_tail, "%s", cases[i].text);
		cr_assert_eq(got.first, cases[i].first, "%s", cases[i].text);
		cr_assert_eq(got.last, cases[i].last, "%s", cases[i].text);
	}
}
