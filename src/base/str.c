/* SPDX-License-Identifier: Apache-2.0 */
/* Strings and numbers from people and peers: everything is checked to its last character. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

char *str_printf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	return s;
}

bool str_eq(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	return strcmp(a, b) == 0;
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t a = strlen(s), b = strlen(suffix);

	return a >= b && memcmp(s + a - b, suffix, b) == 0;
}

int str_copy(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len >= size) {
		to[0] = '\0';
		return -ENAMETOOLONG;
	}
	memcpy(to, from, len + 1);
	return 0;
}

bool str_is_id(const char *s, size_t max)
{
	size_t i, len = s ? strlen(s) : 0;

	if (len == 0 || len > max || s[0] == '-' || s[len - 1] == '-')
		return false;
	for (i = 0; i < len; i++)
		if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= '0' && s[i] <= '9') && s[i] != '-')
			return false;
	return true;
}

void str_base64(struct buf *to, struct span data)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len = (data.len + 2) / 3 * 4;
	const uint8_t *p = data.p, *end = p + data.len / 3 * 3;
	char *q = buf_reserve(to, len);
	uint32_t v;

	if (!q)
		return; /* which is marked failed */
	for (; p < end; p += 3, q += 4) {
		v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
		q[0] = digits[v >> 18];
		q[1] = digits[v >> 12 & 63];
		q[2] = digits[v >> 6 & 63];
		q[3] = digits[v & 63];
	}
	if (data.len % 3) {
		bool two = data.len % 3 == 2;

		v = (uint32_t)p[0] << 16 | (two ? (uint32_t)p[1] << 8 : 0);
		q[0] = digits[v >> 18];
		q[1] = digits[v >> 12 & 63];
		q[2] = two ? digits[v >> 6 & 63] : '=';
		q[3] = '=';
	}
	buf_commit(to, len);
}

void str_hex(const void *p, size_t len, char *to)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;
	size_t i;

	for (i = 0; i < len; i++) {
		to[2 * i] = digits[b[i] >> 4];
		to[2 * i + 1] = digits[b[i] & 15];
	}
	to[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int str_unhex(const char *hex, void *to, size_t len)
{
	uint8_t *out = to;
	size_t i;

	if (strlen(hex) != 2 * len)
		return -EINVAL;
	for (i = 0; i < len; i++) {
		int hi = hex_digit(hex[2 * i]), lo = hex_digit(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

void strv_free(char ***slot)
{
	char **v = *slot;

	for (; v && *v; v++)
		free(*v);
	free(*slot);
	*slot = NULL;
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

int num_u64(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10U, &v) || num_add(v, (uint64_t)(*s - '0'), &v))
			return -ERANGE;
	}
	if (v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int num_i64(const char *s, int64_t *ret)
{
	bool minus = *s == '-';
	uint64_t v;
	int r = num_u64(s + minus, (uint64_t)INT64_MAX, &v);

	if (r < 0)
		return r;
	*ret = minus ? -(int64_t)v : (int64_t)v;
	return 0;
}

/* A number followed by one of the suffixes of @table, whose factors are given; the empty suffix must be listed. */
struct unit {
	const char *suffix;
	uint64_t factor;
};

static int num_unit(const char *s, const struct unit *table, size_t n, uint64_t *ret)
{
	char digits[24];
	size_t i = 0, k;
	uint64_t v;
	int r;

	while (isdigit((unsigned char)s[i]) && i < sizeof(digits) - 1) {
		digits[i] = s[i];
		i++;
	}
	digits[i] = '\0';
	r = num_u64(digits, UINT64_MAX, &v);
	if (r < 0)
		return r;
	for (k = 0; k < n; k++)
		if (str_eq(s + i, table[k].suffix))
			return __builtin_mul_overflow(v, table[k].factor, ret) ? -ERANGE : 0;
	return -EINVAL;
}

int num_size(const char *s, uint64_t *ret)
{
	static const struct unit units[] = {
		{ "", 1 }, { "K", 1ULL << 10 }, { "M", 1ULL << 20 }, { "G", 1ULL << 30 }, { "T", 1ULL << 40 },
	};

	return num_unit(s, units, ARRAY_LEN(units), ret);
}

int num_duration_ms(const char *s, uint64_t *ret)
{
	static const struct unit units[] = {
		{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 },
	};

	return num_unit(s, units, ARRAY_LEN(units), ret);
}
