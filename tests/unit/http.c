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
