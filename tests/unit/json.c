/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is written can be read, whatever bytes a guest put into a name; wrong requests are named. */
#include "json/json.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(json, any_bytes_can_be_written)
{
	struct buf b;
	struct json_writer w = { .b = &b };
	struct json *j = NULL;
	char raw[256];
	int i;

	for (i = 0; i < 256; i++)
		raw[i] = (char)i;
	buf_init(&b, 65536);
	jw_open(&w, '{');
	jw_key(&w, "raw");
	jw_str(&w, SPAN(raw + 1, 255));
	jw_kstr(&w, "utf8", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
	jw_ku64(&w, "n", 7);
	jw_close(&w, '}');
	cr_assert_eq(json_parse(buf_span(&b), &j, NULL), 0);
	cr_assert_str_eq(json_get_str(j, "utf8", ""), "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
	cr_assert_eq(json_get_u64(j, "n", 0), 7);
	json_free(&j);
	buf_fini(&b);
}

Test(json, wrong_requests_are_named)
{
	struct json *j = NULL;
	struct err e = ERR_NULL;

	cr_assert_eq(json_parse(span_str("{\"a\":[\"x\",1],\"b\":2}"), &j, &e), 0);
	cr_assert_eq(json_check(j, "a:as b:u", &e), -EINVAL);
	cr_assert(strstr(e.text, "member a"));
	cr_assert_eq(json_check(j, "b:u", &e), -EINVAL);
	cr_assert(strstr(e.text, "unknown member a"));
	json_free(&j);
	cr_assert_eq(json_parse(span_str("{\"a\":"), &j, &e), -EINVAL);
	cr_assert_eq(json_parse(span_str(""), &j, &e), -EINVAL);
	cr_assert_eq(json_parse(span_str("{\"password\":\"word\" x}"), &j, &e), -EINVAL);
	cr_assert_not(strstr(e.text, "word"), "no answer quotes what may be a secret: %s", e.text);
	char deep[200];
	memset(deep, '[', sizeof(deep));
	cr_assert_eq(json_parse(SPAN(deep, sizeof(deep)), &j, &e), -EINVAL);
}

Test(json, bytes_that_are_no_text)
{
	struct buf b;
	struct json_writer w = { .b = &b };

	cr_assert(json_is_text(span_str("a\xc3\xa4\xf0\x9f\x98\x80")));
	cr_assert_not(json_is_text(span_str("x\xff")));
	cr_assert_not(json_is_text(span_str("\xc0\xae")));
	cr_assert_not(json_is_text(span_str("\xed\xa0\x80")));
	buf_init(&b, 1000);
	jw_open(&w, '{');
	jw_khex(&w, "fine", span_str("text"));
	jw_khex(&w, "name", span_str("x\xff"));
	jw_close(&w, '}');
	cr_assert_str_eq(buf_str(&b), "{\"name_hex\":\"78ff\"}");
	buf_fini(&b);
}

Test(json, how_long_an_object_is)
{
	static const char text[] = " { \"k\" : [ 1, { \"gr\xc3\xbc\xc3\x9f\": \"a \\n b\" } ], \"n\": null } ";
	static const char same[] = "{\"k\":[1,{\"gr\xc3\xbc\xc3\x9f\":\"a \\n b\"}],\"n\":null}";
	struct json *j = NULL;

	cr_assert_eq(json_parse(span_str(text), &j, NULL), 0);
	cr_assert_eq(json_object_b(j), strlen(same));
	cr_assert_eq(json_object_b(json_get(j, "k")), 0);
	cr_assert_eq(json_object_b(json_get(j, "n")), 0);
	cr_assert_eq(json_object_b(json_get(j, "none")), 0);
	json_free(&j);
	cr_assert_eq(json_parse(span_str("{}"), &j, NULL), 0);
	cr_assert_eq(json_object_b(j), 2);
	json_free(&j);
}
