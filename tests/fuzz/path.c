/* SPDX-License-Identifier: Apache-2.0 */
/* What a client writes as a path: routes, percent-encoding, and paths of a workspace. Whatever is accepted stays below
 * the root. */
#include "base/path.h"
#include "base/str.h"
#include "host/http/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *path)
{
	const char *p = path;

	if (!path_ok(span_str(path)))
		abort();
	while (*p) { /* no component leads up or out */
		size_t len = strcspn(p, "/");

		if (!len || (len == 2 && p[0] == '.' && p[1] == '.') || (len == 1 && p[0] == '.'))
			abort();
		p += len + (p[len] == '/');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const patterns[] = { "/v1/sandboxes/{}/files", "/v1/sandboxes/{}/processes/{}/signal",
						"/health" };
	AUTO(str_free) char *raw = NULL;
	AUTO(str_free) char *decoded = NULL;
	AUTO(str_free) char *path = NULL;
	struct parse_segments s;
	size_t i;

	if (memchr(data, 0, size))
		return 0; /* a string of C ends there */
	raw = span_dup(SPAN(data, size));
	for (i = 0; i < ARRAY_LEN(patterns); i++)
		if (parse_route(patterns[i], raw, &s))
			parse_segments_fini(&s);
	decoded = parse_decode(SPAN(data, size));
	if (decoded && path_normalise(decoded, "/workspace", &path) == 0)
		check(path);
	(void)path_name_ok(SPAN(data, size));
	if (path_ok(SPAN(data, size)))
		check(raw);
	return 0;
}
