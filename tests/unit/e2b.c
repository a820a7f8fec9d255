/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the door for E2B's clients that need no daemon: bodies of forms, what is prescribed of hashes, steps of
 * builds. */
#include "host/api/e2b/multipart.h"
#include "host/api/e2b/template.h"

#include "base/str.h"
#include "seal/digest.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static const char type[] = "multipart/form-data; boundary=xyz";

static struct part one(struct multipart *m)
{
	struct part p;

	cr_assert(multipart_next(m, &p));
	return p;
}

Test(multipart, parts_have_names_and_any_bytes)
{
	static const char body[] =
		"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"/a b/%22q%22\"\r\n"
		"Content-Type: x\r\n\r\nab\0\r\n--xy\r\n\r\n--xyz\r\n"
		"content-disposition: form-data; filename=\"f\"; name=\"file\"\r\n\r\n\r\n--xyz--\r\n";
	struct multipart m;
	struct part p;
	char *name;

	cr_assert_eq(multipart_begin(&m, type, SPAN(body, sizeof(body) - 1)), 0);
	p = one(&m);
	name = multipart_name(p.filename);
	cr_expect(span_eq(p.name, span_str("file")));
	cr_expect_str_eq(name, "/a b/\"q\"");
	cr_expect(span_eq(p.data, SPAN("ab\0\r\n--xy\r\n", 11)));
	str_free(&name);
	p = one(&m);
	cr_expect(span_eq(p.filename, span_str("f")));
	cr_expect_eq(p.data.len, 0);
	cr_expect(!multipart_next(&m, &p));
	cr_expect(!m.is_bad);
}

Test(multipart, what_is_cut_off_anywhere_is_bad)
{
	static const char body[] = "--xyz\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nab\r\n--xyz--\r\n";
	struct multipart m;
	struct part p;
	size_t len;
	int n;

	for (len = 0; len < strlen(body) - 4; len++) {
		char *copy = span_dup(SPAN(body, len)); /* so that a tool sees a read behind it */

		n = 0;
		if (multipart_begin(&m, type, SPAN(copy, len)) == 0)
			while (multipart_next(&m, &p))
				n++;
		cr_expect(n == 0 || len >= strlen(body) - 4, "%zu: %d parts", len, n);
		free(copy);
	}
	cr_expect_eq(multipart_begin(&m, "multipart/form-data", SPAN(body, sizeof(body) - 1)), -EINVAL);
	cr_expect_eq(multipart_begin(&m, "multipart/form-data; boundary=other", SPAN(body, sizeof(body) - 1)), -EINVAL);
}

static const char *encoded(const char *text, bool padded)
{
	static char room[128];
	struct buf b;

	buf_init(&b, 256);
	base64_put(&b, span_str(text), padded);
	snprintf(room, sizeof(room), "%s", buf_str(&b));
	buf_fini(&b);
	return room;
}

/* RFC 4648, section 10. */
Test(base64, both_ways)
{
	static const char *const plain[] = { "", "f", "fo", "foo", "foob", "fooba", "foobar" };
	static const char *const code[] = { "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
	struct buf b;
	size_t i;

	cr_assert_eq(digest_setup(), 0);
	for (i = 0; i < ARRAY_LEN(plain); i++) {
		cr_expect_str_eq(encoded(plain[i], true), code[i]);
		buf_init(&b, 64);
		cr_expect_eq(base64_take(&b, span_str(code[i])), 0);
		cr_expect(span_eq(buf_span(&b), span_str(plain[i])));
		buf_fini(&b);
	}
	buf_init(&b, 64);
	cr_expect_eq(base64_take(&b, span_str("Zg=x")), -EINVAL);
	buf_fini(&b);
}

/* The known answer that the clients' own tests have of a signed URL. */
Test(signature, known_answer)
{
	uint8_t hash[32];
	struct buf b;

	cr_assert_eq(digest_setup(), 0);
	sha256_of(span_str("hello.txt:read:user:0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0"), hash);
	buf_init(&b, 64);
	base64_put(&b, SPAN(hash, sizeof(hash)), false);
	cr_expect_str_eq(buf_str(&b), "gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E");
	buf_fini(&b);
}

/* --- steps of builds ---------------------------------------------------------------------------------------------- */

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	cr_assert_eq(json_parse(span_str(text), &j, NULL), 0, "%s", text);
	return j;
}

static int check(const char *text)
{
	AUTO(json_free) struct json *j = parse(text);
	struct err e = ERR_NULL;

	return step_check(j, &e);
}

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

Test(steps, what_cannot_be_done_is_refused)
{
	static const char *const good[] = {
		"{\"type\": \"RUN\", \"args\": [\"true\"]}",
		"{\"type\": \"COPY\", \"args\": [\"a\", \"b\", \"\", \"0755\"], \"filesHash\": \"" HASH "\"}",
		"{\"type\": \"ENV\", \"args\": [\"A_1\", \"b\", \"C\", \"\"]}",
		"{\"type\": \"USER\", \"args\": [\"some-body\"]}",
	};
	static const char *const bad[] = {
		"{}",
		"{\"type\": \"EXPOSE\", \"args\": [\"1\"]}",
		"{\"type\": \"RUN\"}",
		"{\"type\": \"RUN\", \"args\": [1]}",
		"{\"type\": \"COPY\", \"args\": [\"a\", \"b\"]}",
		"{\"type\": \"COPY\", \"args\": [\"a\", \"b\"], \"filesHash\": \"../../etc/passwd\"}",
		"{\"type\": \"COPY\", \"args\": [\"a\", \"b\", \"\", \"u+x\"], \"filesHash\": \"" HASH "\"}",
		"{\"type\": \"ENV\", \"args\": [\"1A\", \"b\"]}",
		"{\"type\": \"ENV\", \"args\": [\"A\", \"b\", \"C=D\", \"e\"]}",
		"{\"type\": \"USER\", \"args\": [\"-x\"]}",
		"{\"type\": \"USER\", \"args\": [\"a;b\"]}",
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(good); i++)
		cr_expect_eq(check(good[i]), 0, "%s", good[i]);
	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(check(bad[i]), -EINVAL, "%s", bad[i]);
}

Test(steps, variables_are_what_they_stand_for)
{
	static const char *const table[][2] = {
		{ "$A", "one" },       { "x${A}y", "xoney" },	      { "$AB", "" },	   { "\\$A", "$A" },
		{ "$", "$" },	       { "${A", "${A" },	      { "a\\b", "a\\b" }, { "$1", "$1" },
		{ "$HOME", "/home/user" }, { "$A$A", "oneone" }, { "$A-$USER", "one-user" },
	};
	struct step_state s = { .user = NULL };
	size_t i;

	step_state_read(&s, NULL);
	step_env_set(&s, "A", "zero");
	step_env_set(&s, "A", "one");
	for (i = 0; i < ARRAY_LEN(table); i++) {
		AUTO(str_free) char *got = step_expand(table[i][0], &s);

		cr_expect_str_eq(got, table[i][1], "%s: %s", table[i][0], got);
	}
	step_state_fini(&s);
}

Test(steps, each_finds_what_those_before_have_set)
{
	AUTO(json_free)
	struct json *all =
		parse("[{\"type\": \"WORKDIR\", \"args\": [\"a\"]}, {\"type\": \"ENV\", \"args\": [\"X\", \"1\", "
		      "\"Y\", \"${X}2\"]},"
		      " {\"type\": \"WORKDIR\", \"args\": [\"/srv/\"]}, {\"type\": \"WORKDIR\", \"args\": [\"b\"]},"
		      " {\"type\": \"USER\", \"args\": [\"root\"]}]");
	struct step_state s = { .user = NULL };
	size_t i;

	step_state_read(&s, NULL);
	cr_expect_str_eq(s.workdir, "/home/user");
	for (i = 0; i < json_len(all); i++)
		step_apply(json_at(all, i), &s);
	cr_expect_str_eq(s.workdir, "/srv/b");
	cr_expect_str_eq(s.user, "root");
	cr_assert_eq(s.envs.len, 2);
	cr_expect_str_eq(s.envs.v[1], "Y=12");
	step_state_fini(&s);
}

Test(steps, a_source_ends_before_its_pattern)
{
	static const char *const table[][2] = {
		{ "app", "app" }, { "./app/", "app" },	  { ".", "" },	 { "a/b*.txt", "a" },
		{ "*.txt", "" },  { "a/b/{c,d}", "a/b" }, { "/a", "a" }, { "a/b?/c", "a" },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(table); i++) {
		AUTO(str_free) char *got = step_source(table[i][0]);

		cr_expect_str_eq(got, table[i][1], "%s: %s", table[i][0], got);
	}
}
