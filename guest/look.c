/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An inode with what users keep beside it. Almost none has any, so the question must be cheap: a name in a directory,
 * by way of the working directory, which is nobody's in an agent of one thread (children are given theirs). Names in
 * /proc/self/fd cost more than twice as much, and the calls that take a descriptor and a name are younger than the
 * filters of most containers.
 */
#include "guest/node.h"

#include "base/str.h"
#include "base/vec.h"
#include "base/xattr.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NAMES_LEN = 65536 };

static struct buf packed = { .limit = XATTR_PACKED_LEN };

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* @name: in the working directory. */
static void pack(const char *name)
{
	AUTO(mem_free) char *names = must_calloc(1, NAMES_LEN + 1);
	AUTO(mem_free) char *value = must_calloc(1, XATTR_PACKED_LEN);
	ssize_t len = llistxattr(name, names, NAMES_LEN), n;
	VEC(char *) sorted = { 0 };
	char *p;
	size_t i;

	for (p = names; p < names + len; p += strlen(p) + 1)
		if (xattr_is_user(span_str(p)))
			vec_push(&sorted, p);
	if (sorted.len)
		qsort(sorted.v, sorted.len, sizeof(*sorted.v), by_name);
	for (i = 0; i < sorted.len; i++) {
		n = lgetxattr(name, sorted.v[i], value, XATTR_PACKED_LEN);
		if (n == -1 && errno == ENODATA)
			continue;
		if (n < 0 || xattrs_add(&packed, span_str(sorted.v[i]), SPAN(value, (size_t)n)) < 0)
			break;
	}
	vec_fini(&sorted);
}

int node_look(int dirfd, const char *name, struct node *ret)
{
	int r = *name ? node_at(dirfd, name, ret) : node_of(dirfd, ret);

	if (r < 0 || (!S_ISREG(ret->st.st_mode) && !S_ISDIR(ret->st.st_mode)))
		return r;
	if (!*name && S_ISDIR(ret->st.st_mode))
		name = ".";
	buf_consume(&packed, buf_len(&packed));
	if (*name && fchdir(dirfd) == 0 && llistxattr(name, NULL, 0) > 0)
		pack(name);
	ret->xattrs = buf_span(&packed);
	return 0;
}
