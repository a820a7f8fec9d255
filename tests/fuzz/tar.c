/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of anybody's: what is read keeps its promises, and written again it reads as the same. */
#include "base/str.h"
#include "base/vec.h"
#include "base/xattr.h"
#include "tar/tar.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
	const uint8_t *p;
	size_t left;
};

static ssize_t get(void *ctx, void *to, size_t max)
{
	struct source *s = ctx;
	size_t n = MIN(max, s->left);

	if (n)
		memcpy(to, s->p, n);
	s->p += n;
	s->left -= n;
	return (ssize_t)n;
}

static int put(void *ctx, const void *p, size_t len)
{
	return buf_append(ctx, p, len);
}

static uint64_t mix(uint64_t h, struct span s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		h = (h ^ ((const uint8_t *)s.p)[i]) * UINT64_C(0x100000001b3);
	return (h ^ s.len) * UINT64_C(0x100000001b3);
}

/* Reads all of it; a sum over everything that was yielded. With @w it is written as well. Return: how it ended. */
static int read_all(struct span all, struct tar_writer *w, uint64_t *sum)
{
	struct source s = { all.p, all.len };
	struct tar_reader *r = tar_reader_new(get, &s);
	struct tar_item it;
	struct err e = ERR_NULL;
	int n;

	*sum = 0;
	while ((n = tar_next(r, &it, &e)) == 0) {
		VEC(struct tar_range) map = { 0 };
		struct buf bytes;
		struct span piece;
		uint64_t at, end = 0;

		assert(it.path.len <= TAR_PATH_MAX && it.link.len <= TAR_PATH_MAX && xattrs_ok(it.xattrs));
		assert(it.size <= TAR_SIZE_MAX && (it.is_link || (it.mode & S_IFMT)));
		buf_init(&bytes, SIZE_MAX / 2);
		*sum = mix(mix(mix(*sum, it.path), it.link), it.xattrs);
		*sum = mix(*sum, SPAN(&it.mode, sizeof(it.mode)));
		*sum = mix(*sum, SPAN(&it.mtime_ns, sizeof(it.mtime_ns)));
		*sum = mix(*sum, SPAN(&it.size, sizeof(it.size)));
		while ((n = tar_read(r, &at, &piece, &e)) == 0) {
			struct tar_range range = { at, piece.len };

			assert(at >= end && piece.len > 0 && at + piece.len <= it.size);
			if (map.len && map.v[map.len - 1].at + map.v[map.len - 1].len == at)
				map.v[map.len - 1].len += piece.len;
			else
				vec_push(&map, range);
			end = at + piece.len;
			buf_append(&bytes, piece.p, piece.len);
			*sum = mix(mix(*sum, SPAN(&at, sizeof(at))), piece);
		}
		if (n == TAR_E_END && w && !S_ISCHR(it.mode) && !S_ISBLK(it.mode)) {
			int m = tar_put_item(w, &it, map.v, map.len);

			assert(m == 0);
			m = tar_put_data(w, buf_span(&bytes).p, buf_len(&bytes));
			assert(m == 0 && tar_put_done(w) == 0);
		}
		buf_fini(&bytes);
		vec_fini(&map);
		if (n < 0)
			break;
	}
	assert(n == TAR_E_END || (n < 0 && e.code == n));
	tar_reader_free(&r);
	return n;
}

/* What was changed in a header would be refused for its sum alone. */
static void mend(uint8_t *p, size_t size)
{
	size_t at, i;

	for (at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
		unsigned sum = 0;

		if (memcmp(p + at + 257, "ustar", 5) != 0)
			continue;
		memset(p + at + 148, ' ', 8);
		for (i = 0; i < TAR_BLOCK; i++)
			sum += p[at + i];
		for (i = 0; i < 6; i++)
			p[at + 148 + 5 - i] = (uint8_t)('0' + (sum >> (3 * i) & 7));
		p[at + 154] = 0;
	}
}

static void one(const uint8_t *data, size_t size)
{
	uint64_t first, again, third;
	struct buf copy, copy2;
	struct tar_writer w = { .put = put, .ctx = &copy }, w2 = { .put = put, .ctx = &copy2 };
	int n;

	buf_init(&copy, SIZE_MAX / 2);
	buf_init(&copy2, SIZE_MAX / 2);
	n = read_all(SPAN(data, size), &w, &first);
	if (n == TAR_E_END) {
		n = tar_put_end(&w);
		assert(n == 0);
		n = read_all(buf_span(&copy), &w2, &again);
		assert(n == TAR_E_END);
		n = tar_put_end(&w2);
		assert(n == 0 && read_all(buf_span(&copy2), NULL, &third) == TAR_E_END && again == third);
		assert(span_eq(buf_span(&copy), buf_span(&copy2)));
	}
	buf_fini(&copy);
	buf_fini(&copy2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(mem_free) uint8_t *mended = must_calloc(1, size + 1);

	one(data, size);
	memcpy(mended, data, size);
	mend(mended, size);
	one(mended, size);
	return 0;
}
