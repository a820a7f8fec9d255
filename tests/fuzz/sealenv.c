/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of variables: the pieces of a line are the line, and a value that is quoted is read back as it was. */
#include "sealtool/tool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(struct span value)
{
	uint8_t *plain = must_calloc(1, value.len + 1), *quoted = must_calloc(2, value.len + 2);
	uint8_t *back = must_calloc(2, value.len + 2);
	size_t n = env_plain(value, plain), q = env_quote(SPAN(plain, n), quoted);
	struct span whole;
	struct env_line line;
	unsigned number = 0;
	struct buf b;

	if (n > value.len || q > 2 * value.len + 2)
		abort();
	buf_init(&b, 0);
	buf_append(&b, "A=", 2);
	buf_append(&b, quoted, q);
	whole = buf_span(&b);
	/* a control character outside of quotes stays what it is */
	if (n && (env_next(&whole, &line, &number, NULL) != 1 || !line.is_value || line.tail.len ||
		  env_plain(line.value, back) != n || memcmp(back, plain, n) != 0))
		abort();
	buf_fini(&b);
	free(plain);
	free(quoted);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = SPAN(data, size);
	struct env_line line;
	struct err e = ERR_NULL;
	unsigned number = 0;
	struct buf b;
	int r;

	if (size > 65536)
		return 0;
	buf_init(&b, 0);
	while ((r = env_next(&text, &line, &number, &e)) > 0) {
		buf_append(&b, line.head.p, line.head.len);
		if (line.is_value) {
			buf_append(&b, line.value.p, line.value.len);
			buf_append(&b, line.tail.p, line.tail.len);
			again(line.value);
		}
		if (line.newline)
			buf_append(&b, "\n", 1);
	}
	if (r < 0 ? !e.text[0] : !span_eq(buf_span(&b), SPAN(data, size)))
		abort();
	buf_fini(&b);
	return 0;
}
