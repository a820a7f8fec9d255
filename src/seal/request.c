/* SPDX-License-Identifier: Apache-2.0 */
#include "seal/request.h"

#include "base/str.h"

#include <ctype.h>
#include <strings.h>

/* Letters, digits and @more. */
static bool is_plain(const char *s, size_t max, const char *more)
{
	if (!*s || strlen(s) > max)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(more, *s))
			return false;
	return true;
}

bool seal_method_ok(const char *s)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };
	size_t i;

	for (i = 0; i < ARRAY_LEN(known); i++)
		if (str_eq(s, known[i]))
			return true;
	return false;
}

bool seal_path_ok(const char *s)
{
	return *s == '/' && is_plain(s, SEAL_PATH_MAX, "/-._~!$&'()*+,;=:@%") && !strstr(s, "//") && !strstr(s, "***");
}

bool seal_path_matches(const char *pattern, const char *path)
{
	while (*pattern == '/' && *path == '/') {
		size_t a = strcspn(++pattern, "/"), b = strcspn(++path, "/");

		if (a == 2 && memcmp(pattern, "**", 2) == 0 && !pattern[2])
			return true;
		if (!(a == 1 && *pattern == '*' && b > 0)) {
			const char *star = memchr(pattern, '*', a);
			size_t head = star ? (size_t)(star - pattern) : a, tail = star ? a - head - 1 : 0;

			/* A star within a segment stands for one or more characters, "*.git". */
			if (star ? b < head + tail + 1 || memcmp(pattern, path, head) != 0 ||
					   memcmp(star + 1, path + b - tail, tail) != 0
				 : a != b || memcmp(pattern, path, a) != 0)
				return false;
		}
		pattern += a;
		path += b;
	}
	return !*pattern && !*path;
}

bool seal_header_ok(const char *s)
{
	static const char *const framing[] = { "host",	     "connection", "content-length", "transfer-encoding",
					       "upgrade",    "te",	   "trailer",	     "expect",
					       "keep-alive", "range",	   "accept-encoding" };
	size_t i;

	for (i = 0; i < ARRAY_LEN(framing); i++)
		if (strcasecmp(s, framing[i]) == 0)
			return false;
	return is_plain(s, SEAL_PUT_NAME_MAX, "-_");
}

bool seal_prefix_ok(const char *s)
{
	size_t i;

	for (i = 0; s[i]; i++)
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] >= 0x7f)
			return false;
	return i <= SEAL_PUT_PREFIX_MAX;
}
