/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what anybody may have made. A member is a header with what is in front of it: records (pax), long names
 * (GNU). Every length is held against a limit before anything is allocated for it; a number that does not parse, a
 * record that does not end, a sum that is wrong, a file that ends early: each refuses the archive.
 */
#include "tar/tar.h"

#include "base/str.h"
#include "base/xattr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OLD_SPARSE = 'S', XATTR_LIST_MAX = 65520 };

struct attr {
	char *name;
	struct buf value;
};

struct tar_reader {
	tar_get_fn *get;
	void *ctx;
	bool roots;
	uint64_t left, pad; /* of the member's stored data */
	uint8_t *piece;
	/* Of the member that is being read. */
	struct buf path, link, xattrs;
	bool has_size, has_mtime, has_uid, has_gid, has_real, has_name;
	uint64_t size, uid, gid, real;
	int64_t mtime_ns;
	unsigned major, minor;
	bool has_major, is_sparse;
	struct tar_range *map;
	size_t n_map, at_map, room;
	uint64_t at; /* in the file */
};

static int bad(struct err *e, const char *words)
{
	return err_set(e, -EBADMSG, "bad-archive", "the archive is damaged: %s", words);
}

struct tar_reader *tar_reader_new(tar_get_fn *get, void *ctx)
{
	struct tar_reader *r = NEW(struct tar_reader);

	r->get = get;
	r->ctx = ctx;
	r->piece = must_calloc(1, TAR_PIECE);
	buf_init(&r->path, TAR_PATH_MAX + 1);
	buf_init(&r->link, TAR_PATH_MAX + 1);
	buf_init(&r->xattrs, XATTR_LIST_MAX);
	return r;
}

void tar_reader_free(struct tar_reader **slot)
{
	struct tar_reader *r = take(slot);

	if (!r)
		return;
	buf_fini(&r->path);
	buf_fini(&r->link);
	buf_fini(&r->xattrs);
	free(r->map);
	free(r->piece);
	free(r);
}

void tar_reader_roots(struct tar_reader *r)
{
	r->roots = true;
}

/* All of it. Return: 0; TAR_E_END when there is nothing at all; -errno. */
static int get(struct tar_reader *r, void *to, size_t len, struct err *e)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = r->get(r->ctx, (char *)to + at, len - at);

		if (n < 0)
			return err_sys(e, (int)n, "reading the archive");
		if (n == 0)
			return at ? bad(e, "it ends early") : TAR_E_END;
		at += (size_t)n;
	}
	return 0;
}

static int must_get(struct tar_reader *r, void *to, size_t len, struct err *e)
{
	int n = len ? get(r, to, len, e) : 0;

	return n == TAR_E_END ? bad(e, "it ends early") : n;
}

static int skip(struct tar_reader *r, uint64_t len, struct err *e)
{
	int n = 0;

	while (n == 0 && len) {
		size_t part = (size_t)MIN(len, (uint64_t)TAR_PIECE);

		n = must_get(r, r->piece, part, e);
		len -= part;
	}
	return n;
}

/* Octal, or with the high bit of the first byte the rest as a big-endian number. */
static int number(const uint8_t *p, size_t len, uint64_t *ret, bool *ret_negative)
{
	uint64_t v = 0;
	size_t i = 0;

	*ret_negative = false;
	if (p[0] & 0x80) {
		*ret_negative = p[0] & 0x40;
		v = *ret_negative ? UINT64_MAX << 7 | (p[0] & 0x7f) : p[0] & 0x3f;
		for (i = 1; i < len; i++) {
			if (*ret_negative ? v >> 55 != 0x1ff : v >> 55)
				return -1;
			v = v << 8 | p[i];
		}
		*ret = v;
		return 0;
	}
	while (i < len && p[i] == ' ')
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(p[i] - '0'); /* 12 digits at most */
	if (i < len && p[i] != ' ' && p[i] != '\0')
		return -1;
	*ret = v;
	return 0;
}

static int field(const uint8_t *p, size_t len, uint64_t max, uint64_t *ret)
{
	bool negative;

	return number(p, len, ret, &negative) < 0 || negative || *ret > max ? -1 : 0;
}

static bool sum_is_right(const uint8_t *h)
{
	unsigned sum = 0, i;
	int with_signs = 0;
	uint64_t is;

	for (i = 0; i < TAR_BLOCK; i++) {
		uint8_t c = i >= 148 && i < 156 ? ' ' : h[i];

		sum += c;
		with_signs += (int8_t)c;
	}
	return field(h + 148, 8, UINT32_MAX, &is) == 0 && (is == sum || (int)is == with_signs);
}

static void forget(struct tar_reader *r)
{
	buf_fini(&r->path);
	buf_fini(&r->link);
	buf_fini(&r->xattrs);
	buf_init(&r->path, TAR_PATH_MAX + 1);
	buf_init(&r->link, TAR_PATH_MAX + 1);
	buf_init(&r->xattrs, XATTR_LIST_MAX);
	r->has_size = r->has_mtime = r->has_uid = r->has_gid = r->has_real = r->has_name = r->has_major = false;
	r->is_sparse = false;
	r->major = r->minor = 0;
	r->n_map = r->at_map = 0;
	r->at = 0;
}

static int set(struct buf *b, struct span v)
{
	buf_fini(b);
	buf_init(b, TAR_PATH_MAX + 1);
	buf_append(b, v.p, v.len);
	return b->failed || memchr(v.p ? v.p : "", '\0', v.len) ? -1 : 0;
}

/* --- records ------------------------------------------------------------------------------------------------------ */

static int decimal(struct span v, uint64_t max, uint64_t *ret)
{
	AUTO(str_free) char *text = span_dup(v);

	return v.len && v.len < 24 && strlen(text) == v.len && num_u64(text, max, ret) == 0 ? 0 : -1;
}

/* Seconds with a fraction, perhaps negative; of the fraction nine digits count. */
static int when(struct span v, int64_t *ret)
{
	const char *p = v.p, *end = p + v.len;
	bool negative = v.len && *p == '-';
	int64_t s = 0, ns = 0, unit = 100000000;

	p += negative;
	if (p == end)
		return -1;
	for (; p < end && *p >= '0' && *p <= '9'; p++)
		if ((s = s * 10 + (*p - '0')) > 9000000000)
			return -1;
	if (p < end && *p == '.')
		for (p++; p < end && *p >= '0' && *p <= '9'; p++, unit /= 10)
			ns += (*p - '0') * unit;
	if (p != end)
		return -1;
	*ret = s * 1000000000 + ns;
	if (negative)
		*ret = -*ret;
	return 0;
}

static int add_range(struct tar_reader *r, uint64_t at, uint64_t len)
{
	uint64_t before = r->n_map ? r->map[r->n_map - 1].at + r->map[r->n_map - 1].len : 0;

	if (at < before || len > TAR_SIZE_MAX || at > TAR_SIZE_MAX || r->n_map >= TAR_MAP_MAX)
		return -1;
	if (r->n_map == r->room) {
		struct tar_range *more = must_calloc(MAX(r->room * 2, (size_t)16), sizeof(*more));

		if (r->n_map)
			memcpy(more, r->map, r->n_map * sizeof(*more));
		free(r->map);
		r->map = more;
		r->room = MAX(r->room * 2, (size_t)16);
	}
	r->map[r->n_map++] = (struct tar_range){ at, len };
	return 0;
}

/* "0,512,1024,512": of GNU's second form. */
static int map_record(struct tar_reader *r, struct span v)
{
	const char *p = v.p, *end = p + v.len;
	uint64_t pair[2];
	int i;

	r->n_map = 0;
	while (p < end) {
		for (i = 0; i < 2; i++) {
			const char *comma = memchr(p, ',', (size_t)(end - p));
			size_t len = (size_t)((comma ? comma : end) - p);

			if (decimal(SPAN(p, len), TAR_SIZE_MAX, &pair[i]) < 0 || (!comma && i == 0))
				return -1;
			p += len + (comma != NULL);
		}
		if (add_range(r, pair[0], pair[1]) < 0)
			return -1;
	}
	r->is_sparse = true;
	return 0;
}

static int sparse_record(struct tar_reader *r, const char *key, struct span v)
{
	uint64_t n = 0;

	r->is_sparse = true;
	if (str_eq(key, "name")) {
		r->has_name = true;
		return set(&r->path, v);
	}
	if (str_eq(key, "map"))
		return map_record(r, v);
	if (decimal(v, TAR_SIZE_MAX, &n) < 0)
		return -1;
	if (str_eq(key, "major")) {
		r->has_major = true;
		r->major = (unsigned)MIN(n, (uint64_t)99);
	} else if (str_eq(key, "minor")) {
		r->minor = (unsigned)MIN(n, (uint64_t)99);
	} else if (str_eq(key, "realsize") || str_eq(key, "size")) {
		r->real = n;
		r->has_real = true;
	} else if (str_eq(key, "offset")) {
		return add_range(r, n, 0);
	} else if (str_eq(key, "numbytes")) {
		if (!r->n_map || r->map[r->n_map - 1].len)
			return -1;
		r->map[r->n_map - 1].len = n;
	}
	return 0;
}

static int xattr_record(struct tar_reader *r, struct span name, struct span value)
{
	struct buf next;
	int n;

	if (!xattr_is_user(name) && !(r->roots && span_eq(name, span_str("security.capability"))))
		return 0;
	buf_init(&next, XATTR_LIST_MAX);
	n = xattrs_with(buf_span(&r->xattrs), name, &value, 0, &next);
	buf_fini(&r->xattrs);
	r->xattrs = next;
	return n < 0 || next.failed ? -1 : 0;
}

static int record(struct tar_reader *r, struct span key, struct span v)
{
	static const char sparse[] = "GNU.sparse.", xattr[] = "SCHILY.xattr.";
	AUTO(str_free) char *word = span_dup(key);

	if (strlen(word) != key.len)
		return -1;
	if (strncmp(word, xattr, strlen(xattr)) == 0)
		return xattr_record(r, span_str(word + strlen(xattr)), v);
	if (strncmp(word, sparse, strlen(sparse)) == 0)
		return sparse_record(r, word + strlen(sparse), v);
	if (str_eq(word, "path"))
		return r->has_name ? 0 : set(&r->path, v);
	if (str_eq(word, "linkpath"))
		return set(&r->link, v);
	if (str_eq(word, "size")) {
		r->has_size = true;
		return decimal(v, TAR_SIZE_MAX, &r->size);
	}
	if (str_eq(word, "uid")) {
		r->has_uid = true;
		return decimal(v, UINT32_MAX - 1, &r->uid);
	}
	if (str_eq(word, "gid")) {
		r->has_gid = true;
		return decimal(v, UINT32_MAX - 1, &r->gid);
	}
	if (str_eq(word, "mtime")) {
		r->has_mtime = true;
		return when(v, &r->mtime_ns);
	}
	return 0;
}

static int records(struct tar_reader *r, struct span all)
{
	const char *p = all.p, *end = p + all.len;

	while (p < end) {
		const char *space = memchr(p, ' ', MIN((size_t)(end - p), (size_t)8)), *is;
		uint64_t len;

		if (!space || decimal(SPAN(p, (size_t)(space - p)), TAR_PAX_MAX, &len) < 0 ||
		    len > (uint64_t)(end - p) || p + len <= space + 1 || p[len - 1] != '\n')
			return -1;
		is = memchr(space + 1, '=', (size_t)(p + len - space - 1));
		if (!is || record(r, SPAN(space + 1, (size_t)(is - space - 1)),
				  SPAN(is + 1, (size_t)(p + len - 1 - is - 1))) < 0)
			return -1;
		p += len;
	}
	return 0;
}

/* --- headers ------------------------------------------------------------------------------------------------------ */

/* What stands before a member: @size bytes of records or of a name. */
static int extension(struct tar_reader *r, char type, uint64_t size, struct err *e)
{
	AUTO(mem_free) char *text = NULL;
	uint64_t whole = (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
	int n;

	if (size > (type == 'L' || type == 'K' ? TAR_PATH_MAX + 1 : TAR_PAX_MAX))
		return bad(e, "a header that is too long");
	text = must_calloc(1, whole + 1);
	n = must_get(r, text, whole, e);
	if (n)
		return n;
	if (type == 'L' && !r->has_name)
		n = set(&r->path, span_str(text));
	else if (type == 'K')
		n = set(&r->link, span_str(text));
	else if (type == 'x' || type == 'X')
		n = records(r, SPAN(text, size));
	return n < 0 ? bad(e, "a header that makes no sense") : 0;
}

static struct span text_of(const uint8_t *p, size_t max)
{
	return SPAN(p, strnlen((const char *)p, max));
}

static int names(struct tar_reader *r, const uint8_t *h)
{
	struct span prefix = memcmp(h + 257, "ustar\0", 6) == 0 ? text_of(h + 345, 155) : SPAN_NULL;
	struct span name = text_of(h, 100);
	char both[257];

	if (!buf_len(&r->link) && set(&r->link, text_of(h + 157, 100)) < 0)
		return -1;
	if (buf_len(&r->path))
		return 0;
	if (prefix.len) {
		memcpy(both, prefix.p, prefix.len);
		both[prefix.len] = '/';
		memcpy(both + prefix.len + 1, name.p, name.len);
		name = SPAN(both, prefix.len + 1 + name.len);
	}
	return set(&r->path, name);
}

/* GNU's first form: four ranges in the header, more in blocks behind it. */
static int old_sparse(struct tar_reader *r, const uint8_t *h, struct err *e)
{
	const uint8_t *p = h + 386;
	bool more = h[482];
	uint8_t block[TAR_BLOCK];
	uint64_t at, len;
	int i, n = 4;

	if (field(h + 483, 12, TAR_SIZE_MAX, &r->real) < 0)
		return bad(e, "a size that is none");
	r->has_real = r->is_sparse = true;
	for (;;) {
		for (i = 0; i < n; i++, p += 24) {
			if (!p[0])
				break;
			if (field(p, 12, TAR_SIZE_MAX, &at) < 0 || field(p + 12, 12, TAR_SIZE_MAX, &len) < 0 ||
			    add_range(r, at, len) < 0)
				return bad(e, "a hole that is none");
		}
		if (!more)
			return 0;
		i = must_get(r, block, sizeof(block), e);
		if (i)
			return i;
		p = block;
		n = 21;
		more = block[504];
	}
}

static int map_number(struct tar_reader *r, uint8_t *block, size_t *at, uint64_t *ret, struct err *e)
{
	uint64_t v = 0;
	int digits = 0, n;

	for (;; (*at)++, digits++) {
		if (*at == TAR_BLOCK) {
			if (r->left < TAR_BLOCK)
				return bad(e, "a list of holes that does not end");
			n = must_get(r, block, TAR_BLOCK, e);
			if (n)
				return n;
			r->left -= TAR_BLOCK;
			*at = 0;
		}
		if (block[*at] == '\n' && digits)
			break;
		if (block[*at] < '0' || block[*at] > '9' || digits > 14)
			return bad(e, "a list of holes that makes no sense");
		v = v * 10 + (uint64_t)(block[*at] - '0');
	}
	(*at)++;
	*ret = v;
	return 0;
}

/* GNU's third form: the list is in front of the data. */
static int map_in_data(struct tar_reader *r, struct err *e)
{
	uint8_t block[TAR_BLOCK];
	size_t at = TAR_BLOCK;
	uint64_t count, from, len;
	int n = map_number(r, block, &at, &count, e);

	r->n_map = 0;
	while (n == 0 && count--) {
		n = map_number(r, block, &at, &from, e);
		if (n == 0)
			n = map_number(r, block, &at, &len, e);
		if (n == 0 && add_range(r, from, len) < 0)
			n = bad(e, "a list of holes that makes no sense");
	}
	return n;
}

/* The map and the sizes must say the same. */
static int check_map(struct tar_reader *r, struct err *e)
{
	uint64_t sum = 0;
	size_t i;

	if (!r->is_sparse) {
		r->n_map = 0;
		return r->left && add_range(r, 0, r->left) < 0 ? bad(e, "a size that is none") : 0;
	}
	for (i = 0; i < r->n_map; i++)
		sum += r->map[i].len;
	if (!r->has_real || sum != r->left ||
	    (r->n_map && r->map[r->n_map - 1].at + r->map[r->n_map - 1].len > r->real))
		return bad(e, "holes that do not fit the size of their file");
	return 0;
}

static uint32_t mode_of(char type, bool slash)
{
	switch (type) {
	case '0':
	case '\0':
	case '7':
		return slash ? S_IFDIR : S_IFREG;
	case OLD_SPARSE:
		return S_IFREG;
	case '2':
		return S_IFLNK;
	case '3':
		return S_IFCHR;
	case '4':
		return S_IFBLK;
	case '5':
	case 'D':
		return S_IFDIR;
	case '6':
		return S_IFIFO;
	default:
		return 0;
	}
}

static int attributes(struct tar_reader *r, const uint8_t *h, struct tar_item *it)
{
	uint64_t v;
	bool negative;

	if (field(h + 100, 8, UINT32_MAX, &v) < 0)
		return -1;
	it->mode |= v & 07777;
	if (!r->has_uid && field(h + 108, 8, UINT32_MAX - 1, &r->uid) < 0)
		return -1;
	if (!r->has_gid && field(h + 116, 8, UINT32_MAX - 1, &r->gid) < 0)
		return -1;
	it->uid = (uint32_t)r->uid;
	it->gid = (uint32_t)r->gid;
	if (r->has_mtime) {
		it->mtime_ns = r->mtime_ns;
		return 0;
	}
	if (number(h + 136, 12, &v, &negative) < 0 || (int64_t)v > 9000000000 || (int64_t)v < -9000000000)
		return -1;
	it->mtime_ns = (int64_t)v * 1000000000;
	return 0;
}

static int member(struct tar_reader *r, const uint8_t *h, uint64_t size, struct tar_item *ret, struct err *e)
{
	char type = (char)h[156];
	struct tar_item it = { .is_link = type == '1' };
	const char *path;
	size_t len;
	int n = 0;

	if (names(r, h) < 0 || !buf_len(&r->path))
		return bad(e, "a name that is none");
	path = buf_span(&r->path).p;
	len = buf_len(&r->path);
	it.mode = mode_of(type, len && path[len - 1] == '/');
	if (!it.mode && !it.is_link)
		return bad(e, "a member of a kind that is unknown");
	if (attributes(r, h, &it) < 0)
		return bad(e, "a header that makes no sense");
	r->left = r->has_size ? r->size : size;
	/* A hard link may have the data once more; other kinds have none, whatever their size says. */
	if (!S_ISREG(it.mode) && !it.is_link && type != 'D')
		r->left = 0;
	r->pad = (TAR_BLOCK - r->left % TAR_BLOCK) % TAR_BLOCK;
	if (S_ISREG(it.mode)) {
		if (type == OLD_SPARSE)
			n = old_sparse(r, h, e);
		else if (r->has_major && r->major == 1)
			n = map_in_data(r, e);
		else if (r->has_major && r->major)
			n = bad(e, "holes in a form that is unknown");
		if (n == 0)
			n = check_map(r, e);
		it.size = r->is_sparse ? r->real : r->left;
	}
	while (len > 1 && path[len - 1] == '/')
		len--;
	it.path = SPAN(path, len);
	it.link = S_ISLNK(it.mode) || it.is_link ? buf_span(&r->link) : SPAN_NULL;
	it.xattrs = buf_span(&r->xattrs);
	*ret = it;
	return n;
}

int tar_next(struct tar_reader *r, struct tar_item *ret, struct err *e)
{
	uint8_t h[TAR_BLOCK];
	uint64_t size;
	int n = skip(r, r->left + r->pad, e);

	r->left = r->pad = 0;
	forget(r);
	while (n == 0) {
		bool named = buf_len(&r->path) || buf_len(&r->link);

		n = must_get(r, h, sizeof(h), e); /* what ends without an end mark was cut off */
		if (n)
			break;
		if (!h[0] && !h[156] && !h[148]) /* zeros: the end */
			return named ? bad(e, "it ends early") : TAR_E_END;
		if (!sum_is_right(h))
			return bad(e, "a header whose sum is wrong");
		if (field(h + 124, 12, TAR_SIZE_MAX, &size) < 0)
			return bad(e, "a size that is none");
		if (!strchr("xXgLKV", h[156]) || !h[156])
			return member(r, h, size, ret, e);
		n = extension(r, (char)h[156], h[156] == 'V' ? 0 : size, e);
	}
	return n;
}

int tar_read(struct tar_reader *r, uint64_t *ret_at, struct span *ret, struct err *e)
{
	const struct tar_range *range;
	size_t len;
	int n;

	while (r->at_map < r->n_map &&
	       (!r->map[r->at_map].len || r->at >= r->map[r->at_map].at + r->map[r->at_map].len))
		r->at_map++;
	if (r->at_map == r->n_map)
		return TAR_E_END;
	range = &r->map[r->at_map];
	r->at = MAX(r->at, range->at);
	len = (size_t)MIN(range->at + range->len - r->at, (uint64_t)TAR_PIECE);
	n = must_get(r, r->piece, len, e);
	if (n)
		return n;
	r->left -= len;
	*ret_at = r->at;
	*ret = SPAN(r->piece, len);
	r->at += len;
	return 0;
}
