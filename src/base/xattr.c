/* SPDX-License-Identifier: Apache-2.0 */
#include "base/xattr.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

enum { HEAD = 6 };

static int by_name(struct span a, struct span b)
{
	int r = memcmp(a.p, b.p, MIN(a.len, b.len));

	return r ? r : a.len < b.len ? -1 : a.len > b.len;
}

bool xattr_is_user(struct span name)
{
	static const char user[] = "user.";
	size_t len = sizeof(user) - 1;

	return name.len > len && name.len <= XATTR_NAME_LEN && memcmp(name.p, user, len) == 0 &&
	       !memchr(name.p, '\0', name.len);
}

bool xattrs_next(struct span *packed, struct span *ret_name, struct span *ret_value)
{
	const uint8_t *p = packed->p;
	uint16_t name_len;
	uint32_t value_len;

	if (packed->len < HEAD)
		return false;
	memcpy(&name_len, p, 2);
	memcpy(&value_len, p + 2, 4);
	name_len = be16toh(name_len);
	value_len = be32toh(value_len);
	if (packed->len - HEAD < name_len || packed->len - HEAD - name_len < value_len)
		return false;
	*ret_name = SPAN(p + HEAD, name_len);
	*ret_value = SPAN(p + HEAD + name_len, value_len);
	*packed = SPAN(p + HEAD + name_len + value_len, packed->len - HEAD - name_len - value_len);
	return true;
}

bool xattrs_ok(struct span packed)
{
	struct span name, value, last = SPAN_NULL;

	if (packed.len > XATTR_PACKED_LEN)
		return false;
	while (xattrs_next(&packed, &name, &value)) {
		if (!xattr_is_user(name) || (last.len && by_name(last, name) >= 0))
			return false;
		last = name;
	}
	return packed.len == 0;
}

int xattrs_get(struct span packed, struct span name, struct span *ret)
{
	struct span one;

	while (xattrs_next(&packed, &one, ret))
		if (span_eq(one, name))
			return 0;
	return -ENODATA;
}

int xattrs_add(struct buf *to, struct span name, struct span value)
{
	uint16_t name_len = htobe16((uint16_t)name.len);
	uint32_t value_len = htobe32((uint32_t)value.len);

	if (name.len > XATTR_NAME_LEN || value.len > XATTR_PACKED_LEN ||
	    buf_len(to) + HEAD + name.len + value.len > XATTR_PACKED_LEN)
		return -ENOSPC;
	buf_append(to, &name_len, 2);
	buf_append(to, &value_len, 4);
	buf_append(to, name.p, name.len);
	if (value.len)
		buf_append(to, value.p, value.len);
	return 0;
}

int xattrs_with(struct span packed, struct span name, const struct span *value, int flags, struct buf *to)
{
	struct span one, its, unused;
	bool there = xattrs_get(packed, name, &unused) == 0, done = !value;
	int r = 0;

	if (there && (flags & XATTR_CREATE))
		return -EEXIST;
	if (!there && (!value || (flags & XATTR_REPLACE)))
		return -ENODATA;
	while (r == 0 && xattrs_next(&packed, &one, &its)) {
		int order = by_name(one, name);

		if (order >= 0 && !done) {
			r = xattrs_add(to, name, *value);
			done = true;
		}
		if (r == 0 && order != 0)
			r = xattrs_add(to, one, its);
	}
	return r == 0 && !done ? xattrs_add(to, name, *value) : r;
}
