/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests: any bytes as JSON, held against lists of members; what parses can be written again. */
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int put(void *ctx, const char *key, const struct json *value)
{
	struct json_writer *w = ctx;

	jw_key(w, key);
	jw_str(w, json_text(value) ? span_str(json_text(value)) : SPAN_NULL);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const specs[] = { "name:s id:s timeout_ms:u metadata:os replace:b", "argv:as env:os", "" };
	struct json *j = NULL, *again = NULL;
	AUTO(buf_fini) struct buf out;
	struct json_writer w = { .b = &out };
	struct err e = ERR_NULL;
	size_t i;

	buf_init(&out, 4 * 1024 * 1024);
	if (json_parse(SPAN(data, size), &j, &e) < 0) {
		if (!e.code || !*e.slug)
			abort();
		return 0;
	}
	for (i = 0; i < ARRAY_LEN(specs); i++)
		(void)!json_check(j, specs[i], &e);
	jw_open(&w, '{');
	(void)!json_each(j, put, &w);
	jw_close(&w, '}');
	for (i = 0; i < json_len(j); i++)
		(void)json_text(json_at(j, i));
	(void)json_get_u64(j, "timeout_ms", 0);
	if (!out.failed && json_parse(buf_span(&out), &again, NULL) < 0)
		abort(); /* what we write is JSON */
	json_free(&again);
	json_free(&j);
	return 0;
}
