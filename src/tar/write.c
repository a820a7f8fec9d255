/* SPDX-License-Identifier: Apache-2.0 */
/* Members in pax format: a ustar header, and before it, where that is not enough, a header of records. */
#include "tar/tar.h"

#include "base/str.h"
#include "base/xattr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { NAME_MAX_B = 100, OCTAL_SIZE = 11, OCTAL_ID = 7, RECORDS_MAX = 512 * 1024 };

static const uint8_t zeros[TAR_BLOCK];

static int pad(struct tar_writer *w, uint64_t len)
{
	return len % TAR_BLOCK ? w->put(w->ctx, zeros, TAR_BLOCK - len % TAR_BLOCK) : 0;
}

/* Octal digits and a NUL; false: it does not fit, and zero is written. */
static bool octal(char *to, unsigned digits, uint64_t v)
{
	bool fits = v < 1ULL << (3 * digits);

	snprintf(to, digits + 1, "%0*llo", (int)digits, (unsigned long long)(fits ? v : 0));
	return fits;
}

static int head(struct tar_writer *w, char type, struct span name, struct span link, const struct tar_item *it,
		uint64_t size)
{
	char h[TAR_BLOCK] = { 0 };
	unsigned sum = 0, i;

	memcpy(h, name.p, MIN(name.len, (size_t)NAME_MAX_B));
	octal(h + 100, OCTAL_ID, it->mode & 07777);
	octal(h + 108, OCTAL_ID, it->uid);
	octal(h + 116, OCTAL_ID, it->gid);
	octal(h + 124, OCTAL_SIZE, size);
	octal(h + 136, OCTAL_SIZE, it->mtime_ns > 0 ? (uint64_t)it->mtime_ns / 1000000000 : 0);
	memset(h + 148, ' ', 8);
	h[156] = type;
	if (link.len)
		memcpy(h + 157, link.p, MIN(link.len, (size_t)NAME_MAX_B));
	memcpy(h + 257, "ustar\00000", 8);
	for (i = 0; i < sizeof(h); i++)
		sum += (uint8_t)h[i];
	octal(h + 148, 6, sum);
	return w->put(w->ctx, h, sizeof(h));
}

/* "LEN key=value\n", where LEN counts itself. */
static void record(struct buf *b, const char *key, struct span name, struct span value)
{
	size_t body = 1 + strlen(key) + name.len + 1 + value.len + 1, len = body + 1;
	char digits[24];

	while ((size_t)snprintf(digits, sizeof(digits), "%zu", len) + body != len)
		len = body + strlen(digits);
	buf_append(b, digits, strlen(digits));
	buf_append(b, " ", 1);
	buf_append(b, key, strlen(key));
	buf_append(b, name.p, name.len);
	buf_append(b, "=", 1);
	buf_append(b, value.p, value.len);
	buf_append(b, "\n", 1);
}

static void record_number(struct buf *b, const char *key, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	record(b, key, SPAN_NULL, span_str(text));
}

static bool is_plain(struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (((const uint8_t *)s.p)[i] >= 0x80)
			return false;
	return s.len <= NAME_MAX_B;
}

/* Others take what is not for such text; it is not checked as closely as those who show it should. */
static bool is_utf8(struct span s)
{
	const uint8_t *p = s.p;
	size_t i = 0, more;

	while (i < s.len) {
		more = p[i] < 0x80 ? 0 : p[i] >> 5 == 6 ? 1 : p[i] >> 4 == 14 ? 2 : p[i] >> 3 == 30 ? 3 : 9;
		if (more > 3 || more >= s.len - i)
			return false;
		for (i++; more; i++, more--)
			if (p[i] >> 6 != 2)
				return false;
	}
	return true;
}

static void record_time(struct buf *b, int64_t ns)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;
	char text[40];

	/* pax: a sign in front of the whole number. */
	snprintf(text, sizeof(text), "%s%lld.%09lld", ns < 0 ? "-" : "", (long long)(s < 0 ? -s : s),
		 (long long)(rest < 0 ? -rest : rest));
	record(b, "mtime", SPAN_NULL, span_str(text));
}

static void records(struct buf *b, const struct tar_item *it, struct span path, bool sparse, uint64_t stored)
{
	struct span list = it->xattrs, name, value;

	if (!is_utf8(path) || !is_utf8(it->link))
		record(b, "hdrcharset", SPAN_NULL, span_str("BINARY"));
	if (!sparse && !is_plain(path))
		record(b, "path", SPAN_NULL, path);
	if (!is_plain(it->link))
		record(b, "linkpath", SPAN_NULL, it->link);
	if (it->mtime_ns < 0 || it->mtime_ns % 1000000000 || it->mtime_ns / 1000000000 >= 1LL << 33)
		record_time(b, it->mtime_ns);
	if (it->uid > 07777777)
		record_number(b, "uid", it->uid);
	if (it->gid > 07777777)
		record_number(b, "gid", it->gid);
	if (stored >= 1ULL << 33)
		record_number(b, "size", stored);
	if (sparse) {
		record(b, "GNU.sparse.major", SPAN_NULL, span_str("1"));
		record(b, "GNU.sparse.minor", SPAN_NULL, span_str("0"));
		record(b, "GNU.sparse.name", SPAN_NULL, path);
		record_number(b, "GNU.sparse.realsize", it->size);
	}
	while (xattrs_next(&list, &name, &value))
		record(b, "SCHILY.xattr.", name, value);
}

static int put_records(struct tar_writer *w, const struct tar_item *it, struct span path, bool sparse,
		       uint64_t stored)
{
	struct tar_item mine = { .mode = 0600 };
	struct buf b;
	int r = 0;

	buf_init(&b, RECORDS_MAX);
	records(&b, it, path, sparse, stored);
	if (b.failed)
		r = -E2BIG;
	if (r == 0 && buf_len(&b)) {
		r = head(w, 'x', span_str("PaxHeaders/x"), SPAN_NULL, &mine, buf_len(&b));
		if (r == 0)
			r = w->put(w->ctx, buf_span(&b).p, buf_len(&b));
		if (r == 0)
			r = pad(w, buf_len(&b));
	}
	buf_fini(&b);
	return r;
}

static char type_of(const struct tar_item *it)
{
	if (it->is_link)
		return '1';
	return S_ISDIR(it->mode) ? '5' : S_ISLNK(it->mode) ? '2' : S_ISFIFO(it->mode) ? '6' : '0';
}

static void map_text(struct buf *b, const struct tar_range *map, size_t n, uint64_t size)
{
	bool end = !n || map[n - 1].at + map[n - 1].len < size; /* GNU tar ends the file with an empty range */
	size_t i;

	buf_printf(b, "%zu\n", n + end);
	for (i = 0; i < n; i++)
		buf_printf(b, "%llu\n%llu\n", (unsigned long long)map[i].at, (unsigned long long)map[i].len);
	if (end)
		buf_printf(b, "%llu\n0\n", (unsigned long long)size);
	while (buf_len(b) % TAR_BLOCK && !b->failed)
		buf_append(b, zeros, TAR_BLOCK - buf_len(b) % TAR_BLOCK);
}

int tar_put_item(struct tar_writer *w, const struct tar_item *it, const struct tar_range *map, size_t n)
{
	bool file = S_ISREG(it->mode) && !it->is_link;
	bool sparse = file && it->size && !(n == 1 && map[0].at == 0 && map[0].len == it->size);
	char path[TAR_PATH_MAX + 2];
	struct span name = SPAN(path, it->path.len);
	uint64_t stored = 0;
	struct buf text;
	size_t i;
	int r;

	if (it->path.len > TAR_PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(path, it->path.p, it->path.len);
	if (S_ISDIR(it->mode))
		path[name.len++] = '/';
	buf_init(&text, (size_t)TAR_MAP_MAX * 40 + 4096);
	if (sparse)
		map_text(&text, map, n, it->size);
	for (i = 0; file && i < n; i++)
		stored += map[i].len;
	stored += buf_len(&text);
	w->member_b = buf_len(&text);
	r = text.failed ? -E2BIG : put_records(w, it, name, sparse, stored);
	if (r == 0)
		r = head(w, type_of(it), name, it->link, it, stored);
	if (r == 0 && sparse)
		r = w->put(w->ctx, buf_span(&text).p, buf_len(&text));
	buf_fini(&text);
	return r;
}

int tar_put_data(struct tar_writer *w, const void *p, size_t len)
{
	w->member_b += len;
	return w->put(w->ctx, p, len);
}

int tar_put_done(struct tar_writer *w)
{
	return pad(w, w->member_b);
}

int tar_put_end(struct tar_writer *w)
{
	int r = w->put(w->ctx, zeros, TAR_BLOCK);

	return r ? r : w->put(w->ctx, zeros, TAR_BLOCK);
}
