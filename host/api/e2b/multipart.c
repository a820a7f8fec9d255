/* SPDX-License-Identifier: Apache-2.0 */
/* The first mark has no line break before it; each other one ends the data of the part before. */
#include "host/api/e2b/multipart.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { BOUNDARY_MAX = 70, HEAD_MAX = 16384 };

int multipart_begin(struct multipart *m, const char *type, struct span body)
{
	const char *p = strcasestr(type, "boundary=");
	size_t len, mark;

	*m = (struct multipart){ .rest = body };
	if (!p)
		return -EINVAL;
	p += strlen("boundary=");
	if (*p == '"')
		len = strcspn(++p, "\"");
	else
		len = strcspn(p, "; \t");
	if (!len || len > BOUNDARY_MAX)
		return -EINVAL;
	snprintf(m->mark, sizeof(m->mark), "\r\n--%.*s", (int)len, p);
	mark = strlen(m->mark) - 2;
	if (body.len < mark || memcmp(body.p, m->mark + 2, mark) != 0)
		return -EINVAL;
	m->rest = SPAN((const char *)body.p + mark, body.len - mark);
	return 0;
}

/* The value of a parameter in "form-data; name=\"file\"; filename=\"a\"", whose line ends at @end. */
static struct span parameter(const char *line, const char *end, const char *name)
{
	size_t len = strlen(name);
	const char *p = line;

	while (p && p < end) {
		const char *semicolon = memchr(p, ';', (size_t)(end - p)), *value, *stop;

		p = semicolon ? semicolon + 1 : end;
		while (p < end && *p == ' ')
			p++;
		if ((size_t)(end - p) < len + 2 || strncasecmp(p, name, len) != 0 || p[len] != '=' || p[len + 1] != '"')
			continue;
		value = p + len + 2;
		for (stop = value; stop < end && *stop != '"'; stop++)
			stop += *stop == '\\' && stop + 1 < end;
		if (stop >= end)
			return SPAN_NULL;
		return SPAN(value, (size_t)(stop - value));
	}
	return SPAN_NULL;
}

static void read_head(struct span head, struct part *ret)
{
	static const char field[] = "content-disposition:";
	const char *p = head.p, *end = p + head.len;

	while (p < end) {
		const char *stop = memmem(p, (size_t)(end - p), "\r\n", 2);

		if (!stop)
			stop = end;
		if ((size_t)(stop - p) > strlen(field) && strncasecmp(p, field, strlen(field)) == 0) {
			ret->name = parameter(p, stop, "name");
			ret->filename = parameter(p, stop, "filename");
		}
		p = stop + (stop < end ? 2 : 0);
	}
}

bool multipart_next(struct multipart *m, struct part *ret)
{
	const char *p = m->rest.p, *end = p + m->rest.len, *head, *stop;

	*ret = (struct part){ .name = SPAN_NULL };
	if (m->is_bad || (m->rest.len >= 2 && memcmp(p, "--", 2) == 0))
		return false;
	m->is_bad = true;
	if (m->rest.len < 2 || memcmp(p, "\r\n", 2) != 0)
		return false;
	head = p + 2;
	stop = memmem(p, MIN((size_t)(end - p), (size_t)HEAD_MAX), "\r\n\r\n", 4);
	if (!stop)
		return false;
	if (stop > head)
		read_head(SPAN(head, (size_t)(stop - head)), ret);
	p = stop + 4;
	stop = memmem(p, (size_t)(end - p), m->mark, strlen(m->mark));
	/* A part without data may have its mark's line break behind the head alone. */
	if (!stop)
		return false;
	ret->data = SPAN(p, (size_t)(stop - p));
	p = stop + strlen(m->mark);
	m->rest = SPAN(p, (size_t)(end - p));
	m->is_bad = false;
	return true;
}

char *multipart_name(struct span name)
{
	char *out = span_dup(name), *to = out;
	const char *p = out;

	while (*p) {
		if (strncmp(p, "%22", 3) == 0 || strncasecmp(p, "%0d", 3) == 0 || strncasecmp(p, "%0a", 3) == 0) {
			*to++ = p[1] == '2' ? '"' : p[2] == 'd' || p[2] == 'D' ? '\r' : '\n';
			p += 3;
			continue;
		}
		p += *p == '\\' && (p[1] == '"' || p[1] == '\\');
		*to++ = *p++;
	}
	*to = '\0';
	return out;
}
