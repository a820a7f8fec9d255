/* SPDX-License-Identifier: Apache-2.0 */
/* Decoded exactly once, after the path was cut into segments, so that an encoded slash never makes a new segment. */
#include "host/http/parse.h"

#include "base/str.h"

#include <ctype.h>
#include <strings.h>

static int digit(char c)
{
	c = (char)tolower((unsigned char)c);
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *parse_decode(struct span raw)
{
	AUTO(str_free) char *to = must_calloc(raw.len + 1, 1);
	const char *p = raw.p;
	size_t i, n = 0;

	for (i = 0; i < raw.len; i++) {
		if (p[i] == '%') {
			int hi, lo;

			if (raw.len - i < 3)
				return NULL;
			hi = digit(p[i + 1]);
			lo = digit(p[i + 2]);
			if (hi < 0 || lo < 0 || hi + lo == 0)
				return NULL;
			to[n++] = (char)(hi << 4 | lo);
			i += 2;
		} else {
			to[n++] = p[i];
		}
	}
	return take(&to);
}

void parse_segments_fini(struct parse_segments *s)
{
	while (s->n)
		str_free(&s->v[--s->n]);
}

bool parse_route(const char *pattern, const char *path, struct parse_segments *ret)
{
	*ret = (struct parse_segments){ .n = 0 };
	while (*pattern == '/' && *path == '/') {
		size_t a = strcspn(++pattern, "/"), b = strcspn(++path, "/");

		if (a == 2 && memcmp(pattern, "{}", 2) == 0 && b > 0 && ret->n < PARSE_SEGMENTS_MAX) {
			char *seg = parse_decode(SPAN(path, b));

			if (!seg)
				break;
			ret->v[ret->n++] = seg;
		} else if (a != b || memcmp(pattern, path, a) != 0) {
			break;
		}
		pattern += a;
		path += b;
		if (!*pattern && !*path)
			return true;
	}
	parse_segments_fini(ret);
	return false;
}

const char *parse_keep(struct parse_kept *k, const char *raw)
{
	char *s;
	size_t i;

	for (i = 0; i < k->n; i++)
		if (k->raw[i] == raw)
			return k->v[i];
	if (k->n == ARRAY_LEN(k->v))
		return NULL;
	s = parse_decode(span_str(raw));
	if (!s)
		return NULL;
	k->raw[k->n] = raw;
	k->v[k->n++] = s;
	return s;
}

void parse_kept_fini(struct parse_kept *k)
{
	while (k->n)
		str_free(&k->v[--k->n]);
}

/* Digits only, up to @end. */
static bool number(const char *s, const char *end, uint64_t *ret)
{
	AUTO(str_free) char *text = span_dup(SPAN(s, (size_t)(end - s)));

	return num_u64(text, INT64_MAX, ret) == 0;
}

bool parse_range(const char *text, struct parsed_range *ret)
{
	const char *s = text + 6, *dash;

	*ret = (struct parsed_range){ .last = INT64_MAX };
	if (strncasecmp(text, "bytes=", 6) != 0 || !(dash = strchr(s, '-')))
		return false;
	if (dash == s) {
		ret->is_tail = true;
		return number(s + 1, s + strlen(s), &ret->first);
	}
	if (!number(s, dash, &ret->first))
		return false;
	return !dash[1] || (number(dash + 1, s + strlen(s), &ret->last) && ret->last >= ret->first);
}

bool parse_is_token(struct span name)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789"
				    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char *p = name.p;
	size_t i;

	for (i = 0; i < name.len && p[i] && strchr(token, p[i]);)
		i++;
	return name.len && i == name.len;
}
