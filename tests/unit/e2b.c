/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the door for E2B's clients that need no daemon: bodies of forms, and what is prescribed of hashes. */
#include "host/api/e2b/multipart.h"

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
