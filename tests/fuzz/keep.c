/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of what is kept, and behind a line "--" paths that they are asked about. Nothing is more than its directory. */
#include "base/str.h"
#include "keep/keep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct keep *k, struct span path)
{
	const char *p = path.p;
	size_t at = path.len;
	enum keep_class c = keep_path(k, path, true), above = KEEP_FULL;

	if (path.len > 4095)
		return;
	while (at && p[at - 1] != '/')
		at--;
	if (at > 1)
		above = keep_path(k, SPAN(p, at - 1), true);
	if (c > above || c != keep_entry(k, above, path, true) || !keep_word(c))
		abort();
	(void)keep_path(k, path, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(keep_free) struct keep *k = NULL;
	AUTO(str_free) char *text = span_dup(SPAN(data, size));
	struct err e = ERR_NULL;
	char *cut = strstr(text, "\n--\n"), *line, *save = NULL;

	if (keep_parse(SPAN(data, cut ? (size_t)(cut - text) : size), &k, &e) < 0 && !e.text[0])
		abort(); /* a refusal has words */
	if (keep_count(k) > KEEP_RULES_MAX)
		abort();
	for (line = cut ? strtok_r(cut + 4, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
		ask(k, span_str(line));
	return 0;
}
