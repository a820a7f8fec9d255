/* SPDX-License-Identifier: Apache-2.0 */
/* FS_XATTR calls: what users keep beside a file. Whatever decides who may do what is not theirs. */
#include "guest/files.h"

#include "base/io.h"
#include "base/str.h"
#include "base/xattr.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum { VALUE_MAX = 65536, NAMES_MAX_B = 65536 };

/* The name as a string, in @room. Return: 0; -EINVAL; -EPERM. */
static int name_of(struct span name, char room[256])
{
	if (name.len > 255 || span_has_nul(name))
		return -EINVAL;
	if (!xattr_is_user(name))
		return -EPERM;
	memcpy(room, name.p, name.len);
	room[name.len] = '\0';
	return 0;
}

/* A regular file or directory. Return: a descriptor; -EPERM (it has none); -errno. */
static int open_it(const struct files *f, struct span path)
{
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, path, room, &name);
	AUTO(fd_close) int at = -1;
	struct stat st;

	if (dir < 0)
		return dir;
	at = node_open(dir, name, O_PATH | O_NOFOLLOW, 0, false);
	if (at < 0)
		return at == -ELOOP ? -EPERM : at;
	if (fstat(at, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EPERM;
	fd_close(&at);
	at = node_open(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, false);
	return at < 0 ? at : fd_take(&at);
}

static void is(struct files *f, uint64_t call, struct span data)
{
	(void)!conn_send(f->conn, MSG_FS_XATTR_IS, &(struct msg_FS_XATTR_IS){ .call = call, .data = data });
}

void xattr_get(struct files *f, const void *msg)
{
	const struct msg_FS_XATTR_GET *m = msg;
	AUTO(mem_free) char *value = must_calloc(1, VALUE_MAX);
	AUTO(fd_close) int fd = -1;
	char name[256];
	ssize_t n = name_of(m->name, name);

	if (n == 0)
		n = fd = open_it(f, m->path);
	if (n >= 0) {
		n = fgetxattr(fd, name, value, VALUE_MAX);
		n = n < 0 ? -errno : n;
	}
	if (n < 0)
		files_error(f, m->call, (int)n, "extended attribute");
	else
		is(f, m->call, SPAN(value, (size_t)n));
}

/* @m->value NULL: take it away. */
static void change(struct files *f, const struct msg_FS_XATTR_SET *m)
{
	AUTO(fd_close) int fd = -1;
	char name[256];
	int flags = (m->flags & WIRE_XATTR_CREATE ? XATTR_CREATE : 0) |
		    (m->flags & WIRE_XATTR_REPLACE ? XATTR_REPLACE : 0);
	int r = name_of(m->name, name);

	if (r == 0)
		r = fd = open_it(f, m->path);
	if (r >= 0)
		r = files_meant(fd, m->fid);
	if (r >= 0 && m->value.p)
		r = fsetxattr(fd, name, m->value.p, m->value.len, flags) < 0 ? -errno : 0;
	else if (r >= 0)
		r = fremovexattr(fd, name) < 0 ? -errno : 0;
	if (r < 0)
		files_error(f, m->call, r, "extended attribute");
	else if (m->flags & WIRE_XATTR_NODE)
		files_done(f, m->call, m->path, &fd, m->fid);
	else
		files_ok(f, m->call, 0, "extended attribute");
}

void xattr_set(struct files *f, const void *msg)
{
	struct msg_FS_XATTR_SET m = *(const struct msg_FS_XATTR_SET *)msg;

	if (!m.value.len)
		m.value = SPAN("", 0);
	change(f, &m);
}

void xattr_remove(struct files *f, const void *msg)
{
	const struct msg_FS_XATTR_REMOVE *m = msg;

	change(f, &(struct msg_FS_XATTR_SET){ .call = m->call, .path = m->path, .name = m->name, .flags = m->flags,
					      .fid = m->fid });
}

void xattr_list(struct files *f, const void *msg)
{
	const struct msg_FS_XATTR_LIST *m = msg;
	AUTO(mem_free) char *names = must_calloc(1, NAMES_MAX_B);
	AUTO(fd_close) int fd = open_it(f, m->path);
	ssize_t n = fd, at, kept = 0;

	if (n >= 0) {
		n = flistxattr(fd, names, NAMES_MAX_B);
		n = n < 0 ? -errno : n;
	}
	if (n < 0) {
		files_error(f, m->call, (int)n, "extended attributes");
		return;
	}
	for (at = 0; at < n;) {
		size_t len = strlen(names + at) + 1;

		if (xattr_is_user(span_str(names + at))) {
			memmove(names + kept, names + at, len);
			kept += (ssize_t)len;
		}
		at += (ssize_t)len;
	}
	is(f, m->call, SPAN(names, (size_t)kept));
}
