/* SPDX-License-Identifier: Apache-2.0 */
/* Syntax of names only; what they point to is decided by openat2() where they are used. */
#include "base/path.h"

#include "base/str.h"

#include <errno.h>

bool path_name_ok(struct span name)
{
	const char *p = name.p;

	if (name.len == 0 || name.len > PATH_NAME_MAX)
		return false;
	if (memchr(p, '/', name.len) || memchr(p, 0, name.len))
		return false;
	if (p[0] == '.' && (name.len == 1 || (name.len == 2 && p[1] == '.')))
		return false;
	return true;
}

bool path_ok(struct span path)
{
	const char *p = path.p, *end = p + path.len, *slash;

	if (path.len == 0)
		return true;
	if (path.len > PATH_LEN_MAX)
		return false;
	for (;; p = slash + 1) {
		slash = memchr(p, '/', (size_t)(end - p));
		if (!path_name_ok(SPAN(p, (size_t)((slash ? slash : end) - p))))
			return false;
		if (!slash)
			return true;
	}
}

char *path_join(const char *dir, const char *name)
{
	return *dir ? str_printf("%s/%s", dir, name) : must_strdup(name);
}

int path_normalise(const char *typed, const char *root, char **ret)
{
	AUTO(str_free) char *out = must_calloc(strlen(typed) + 1, 1);
	size_t rlen = strlen(root), n = 0, len;

	if (typed[0] == '/') {
		if (strncmp(typed, root, rlen) != 0 || (typed[rlen] && typed[rlen] != '/'))
			return -EINVAL;
		typed += rlen;
	}
	while (*typed) {
		len = strcspn(typed, "/");
		if (len && !(len == 1 && typed[0] == '.')) {
			if (!path_name_ok(SPAN(typed, len)))
				return -EINVAL;
			if (n)
				out[n++] = '/';
			memcpy(out + n, typed, len);
			n += len;
		}
		typed += len;
		while (*typed == '/')
			typed++;
	}
	if (n > PATH_LEN_MAX)
		return -EINVAL;
	*ret = take(&out);
	return 0;
}

static int walk_rank(unsigned char c)
{
	return c == '/' ? 1 : c ? c + 1 : 0;
}

int path_walk_order(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return walk_rank((unsigned char)*a) - walk_rank((unsigned char)*b);
}
