/* SPDX-License-Identifier: Apache-2.0 */
/* See err.h for the idea. Names cross machines, numbers do not: the wire carries "ENOENT". */
#include "base/err.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static PRINTF(4, 0) int err_fill(struct err *e, int code, const char *slug, const char *fmt, va_list ap)
{
	if (code > 0)
		code = -code;
	if (!e)
		return code;
	e->code = code;
	snprintf(e->slug, sizeof(e->slug), "%s", slug);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	return code;
}

int err_set(struct err *e, int code, const char *slug, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	code = err_fill(e, code, slug, fmt, ap);
	va_end(ap);
	return code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char old[ERR_TEXT_MAX];
	va_list ap;
	int n;

	if (!e)
		return 0;
	memcpy(old, e->text, sizeof(old));
	va_start(ap, fmt);
	n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(e->text))
		snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s", old);
	return e->code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
	char what[ERR_TEXT_MAX], slug[ERR_SLUG_MAX];
	va_list ap;
	size_t i;

	if (code > 0)
		code = -code;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(slug, sizeof(slug), "%s", err_name(code));
	for (i = 0; slug[i]; i++)
		slug[i] = (char)tolower((unsigned char)slug[i]);
	return err_set(e, code, slug, "%.180s: %s", what, strerror(-code));
}

const char *err_name(int code)
{
	const char *name = strerrorname_np(code < 0 ? -code : code);

	return name ? name : "EUNKNOWN";
}

int err_number(const char *name)
{
	int i;

	for (i = 1; i < 134; i++) {
		const char *known = strerrorname_np(i);

		if (known && strcmp(known, name) == 0)
			return i;
	}
	return 0;
}
