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
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NAMES_LEN = 65536 };

static struct buf packed = { .limit = XATTR_PACKED_LEN };

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef ssize_t list_fn(const char *path, char *list, size_t size);
typedef ssize_t get_fn(const char *path, const char *name, void *value, size_t size);

/* @name: in the working directory, or a path. */
static void pack(const char *name, list_fn *list, get_fn *get)
{
	AUTO(mem_free) char *names = must_calloc(1, NAMES_LEN + 1);
	AUTO(mem_free) char *value = must_calloc(1, XATTR_PACKED_LEN);
	ssize_t len = list(name, names, NAMES_LEN), n;
	VEC(char *) sorted = { 0 };
	char *p;
	size_t i;

	for (p = names; p < names + len; p += strlen(p) + 1)
		if (xattr_is_user(span_str(p)))
			vec_push(&sorted, p);
	if (sorted.len)
		qsort(sorted.v, sorted.len, sizeof(*sorted.v), by_name);
	for (i = 0; i < sorted.len; i++) {
		n = get(name, sorted.v[i], value, XATTR_PACKED_LEN);
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
		pack(name, llistxattr, lgetxattr);
	ret->xattrs = buf_span(&packed);
	return 0;
}

int node_look_meant(int dirfd, const char *name, int fd, uint64_t fid, struct node *ret)
{
	int r = dirfd < 0 ? dirfd : node_look(dirfd, name, ret);
	char self[64];

	if (!fid || (r == 0 && ret->fid == fid))
		return r;
	r = node_of(fd, ret);
	if (r < 0 || (!S_ISREG(ret->st.st_mode) && !S_ISDIR(ret->st.st_mode)))
		return r;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	buf_consume(&packed, buf_len(&packed));
	pack(self, listxattr, getxattr);
	ret->xattrs = buf_span(&packed);
	return 0;
}
