/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line, one write(2): lines of several threads and processes never mix. What guests say reaches the log only
 * escaped, so that a file name cannot forge a line.
 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static struct {
	enum log_level level;
	enum log_form form;
	int fd;
	void (*tee)(void *ctx, const char *line, size_t len);
	void *tee_ctx;
} out = { .level = LOG_LVL_INFO, .form = LOG_FORM_TEXT, .fd = STDERR_FILENO };

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const int priorities[] = { 3, 4, 6, 7 }; /* of syslog(3) */

void log_setup(enum log_level level, enum log_form form, int fd)
{
	out.level = level;
	out.form = form;
	if (fd >= 0)
		out.fd = fd;
}

void log_tee(void (*fn)(void *ctx, const char *line, size_t len), void *ctx)
{
	out.tee = fn;
	out.tee_ctx = ctx;
}

int log_parse_level(const char *word, enum log_level *ret)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(level_names); i++) {
		if (str_eq(word, level_names[i])) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool log_on(enum log_level level)
{
	return level <= out.level;
}

static void escape(struct buf *b, const char *s, bool json)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (json && (c == '"' || c == '\\'))
			buf_printf(b, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			buf_printf(b, json ? "\\u%04x" : "\\x%02x", c);
		else
			buf_append(b, &c, 1);
	}
}

void log_line(enum log_level level, const char *room, const char *words, const char *fields, ...)
{
	struct timespec ts = clock_timespec(clock_wall());
	char rest[1024] = "", when[32];
	struct buf b;
	va_list ap;

	if (!log_on(level))
		return;
	if (fields) {
		va_start(ap, fields);
		vsnprintf(rest, sizeof(rest), fields, ap);
		va_end(ap);
	}
	clock_utc(ts.tv_sec, when);
	buf_init(&b, 8192);
	if (out.form == LOG_FORM_JSON) {
		buf_printf(&b, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"room\":\"%s\",\"msg\":\"", when,
			   ts.tv_nsec / 1000000, level_names[level], room);
		escape(&b, words, true);
		buf_append(&b, "\",\"fields\":\"", 12);
		escape(&b, rest, true);
		buf_append(&b, "\"}\n", 3);
	} else if (out.form == LOG_FORM_JOURNAL) {
		buf_printf(&b, "<%d>%s: ", priorities[level], room);
		escape(&b, words, false);
		buf_append(&b, " ", rest[0] ? 1 : 0);
		escape(&b, rest, false);
		buf_append(&b, "\n", 1);
	} else {
		buf_printf(&b, "time=%s.%03ldZ level=%s room=%s msg=\"", when, ts.tv_nsec / 1000000,
			   level_names[level], room);
		escape(&b, words, false);
		buf_append(&b, "\" ", rest[0] ? 2 : 1);
		escape(&b, rest, false);
		buf_append(&b, "\n", 1);
	}
	(void)!write(out.fd, buf_span(&b).p, buf_len(&b));
	if (out.tee)
		out.tee(out.tee_ctx, buf_str(&b), buf_len(&b));
	buf_fini(&b);
}
