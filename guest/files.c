/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A path is split into its directory and its last name. The directory is opened with openat2 below the root,
 * where symlinks may lead around inside and nowhere else; the last name is then used with calls that do not follow. So
 * nothing that runs inside can swap a symlink between check and use: there is no check, only the kernel's walk.
 *
 * A call is a row of a table: its message, and a function that performs it and answers. Long listings are told in
 * pieces, as the connection takes them.
 */
#include "guest/files.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"
#include "wire/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { LISTINGS_MAX = 64, ENTRIES_B = 64 * 1024, READ_MAX = 1024 * 1024, DEPTH_OPEN = 64 };

struct listing {
	struct list node;
	uint64_t call;
	DIR *dir;
};

static const struct {
	int code;
	const char *slug;
} slugs[] = {
	{ ENOENT, "not-found" },     { EEXIST, "exists" },	      { ENOTEMPTY, "not-empty" },
	{ ENOTDIR, "not-directory" }, { EISDIR, "is-directory" },     { EXDEV, "outside" },
	{ ELOOP, "outside" },	     { EACCES, "permission" },	      { EPERM, "permission" },
	{ ENOSPC, "no-space" },	     { EDQUOT, "no-space" },	      { EINVAL, "bad-request" },
	{ EROFS, "read-only" },	     { EBUSY, "busy" },
};

void files_error(struct files *f, uint64_t call, int code, const char *what)
{
	const char *slug = "failed";
	char text[240];
	size_t i;

	for (i = 0; i < ARRAY_LEN(slugs); i++)
		if (slugs[i].code == -code)
			slug = slugs[i].slug;
	snprintf(text, sizeof(text), "%s: %s", what, err_name(code));
	(void)!conn_send(f->conn, MSG_ERROR,
			 &(struct msg_ERROR){ .call = call, .name = span_str(err_name(code)), .slug = span_str(slug),
					      .text = span_str(text) });
}

static int node_record(const struct node *n, struct buf *b)
{
	struct msg_NODE rec = node_wire(n);

	return msg_encode(b, MSG_NODE, &rec);
}

/* The directory that a path's last name is in, as it is behind a call. */
static void add_dir(const struct files *f, struct span path, struct msg_list *to)
{
	struct node *n = NEW(struct node);
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, path, room, &name);
	struct msg_NODE rec;

	if (dir >= 0 && node_look(dir, "", n) == 0) {
		rec = node_wire(n);
		(void)!msg_list_rec(to, MSG_NODE, &rec);
	}
	mem_free(&n);
}

void files_ok(struct files *f, uint64_t call, int r, const char *what)
{
	if (r < 0)
		files_error(f, call, r, what);
	else
		(void)!conn_send(f->conn, MSG_OK, &(struct msg_OK){ .call = call });
}

/* Answer with an inode; @r: how it went to look at it. */
static void send_node(struct files *f, uint64_t call, int r, const struct node *n, const struct msg_list *dirs)
{
	struct msg_FS_NODE m = { .call = call };
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 8192 + XATTR_PACKED_LEN);
	if (r == 0)
		r = node_record(n, &b);
	m.node = buf_span(&b);
	if (dirs)
		m.dirs = msg_list_span(dirs);
	if (r < 0)
		files_error(f, call, r, "stat");
	else
		(void)!conn_send(f->conn, MSG_FS_NODE, &m);
}

/* Of a name, or of the descriptor itself when there is no name. */
static void tell_node(struct files *f, uint64_t call, int dirfd, const char *name, const struct msg_list *dirs)
{
	struct node *n = NEW(struct node);
	int r = node_look(dirfd, name ? name : "", n);

	send_node(f, call, r, n, dirs);
	mem_free(&n);
}

/* What was done was done to what is open, whoever has the path by now: the host takes the answer for that. It is closed
 * first, so that its event is there before the answer. */
void files_done(struct files *f, uint64_t call, struct span path, int *fd, uint64_t fid)
{
	struct node *n = NEW(struct node);
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, path, room, &name);
	int r = node_look_meant(dir, name, *fd, fid, n);

	fd_close(fd);
	send_node(f, call, r, n, NULL);
	mem_free(&n);
}

void files_node(struct files *f, uint64_t call, int dirfd, const char *name)
{
	tell_node(f, call, dirfd, name, NULL);
}

int files_parent(const struct files *f, struct span path, char room[4096], const char **ret_name)
{
	char *slash;

	if (!path_ok(path) || path.len >= 4096)
		return -EINVAL;
	if (path.len)
		memcpy(room, path.p, path.len);
	room[path.len] = '\0';
	slash = strrchr(room, '/');
	if (slash)
		*slash = '\0';
	*ret_name = slash ? slash + 1 : room;
	return node_open(f->tree->fd, slash ? room : "", O_RDONLY | O_DIRECTORY, 0, true);
}

/* --- calls that only look ---------------------------------------------------------------------------------------- */

static void do_stat(struct files *f, const void *msg)
{
	const struct msg_FS_STAT *m = msg;
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, m->path, room, &name);

	if (dir < 0)
		files_error(f, m->call, dir, "stat");
	else
		files_node(f, m->call, dir, name);
}

static void listing_free(struct files *f, struct listing *l)
{
	list_remove(&l->node);
	f->n_listings--;
	closedir(l->dir);
	free(l);
}

/* Fill a message with entries. Return: true when there are more. */
static bool listing_fill(struct listing *l, struct msg_list *list)
{
	struct node *n = NEW(struct node);
	AUTO(buf_fini) struct buf b;
	struct dirent *d = NULL;

	buf_init(&b, 8192);
	while (buf_len(&list->b) < ENTRIES_B && (d = readdir(l->dir))) {
		struct msg_DIRENT rec = { .name = span_str(d->d_name) };

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
		    node_at(dirfd(l->dir), d->d_name, n) < 0 || node_record(n, &b) < 0)
			continue;
		rec.node = buf_span(&b);
		(void)!msg_list_rec(list, MSG_DIRENT, &rec);
		buf_consume(&b, buf_len(&b));
	}
	mem_free(&n);
	return d != NULL;
}

static void listing_run(struct files *f, struct listing *l)
{
	bool more = true;

	while (more && conn_room(f->conn)) {
		struct msg_FS_ENTRIES m = { .call = l->call };
		struct msg_list list;

		msg_list_init(&list, ENTRIES_B + 8192);
		more = listing_fill(l, &list);
		m.more = more;
		m.entries = msg_list_span(&list);
		(void)!conn_send(f->conn, MSG_FS_ENTRIES, &m);
		msg_list_fini(&list);
	}
	if (!more)
		listing_free(f, l);
}

static void do_list(struct files *f, const void *msg)
{
	const struct msg_FS_LIST *m = msg;
	AUTO(str_free) char *path = span_dup(m->path);
	AUTO(fd_close) int fd = -1;
	struct listing *l;

	if (!path_ok(m->path) || f->n_listings >= LISTINGS_MAX) {
		files_error(f, m->call, path_ok(m->path) ? -EBUSY : -EINVAL, "list");
		return;
	}
	fd = node_open(f->tree->fd, path, O_RDONLY | O_DIRECTORY, 0, true);
	if (fd < 0) {
		files_error(f, m->call, fd, "list");
		return;
	}
	l = NEW(struct listing);
	l->call = m->call;
	l->dir = fdopendir(fd_take(&fd));
	list_init(&l->node);
	list_append(&f->listings, &l->node);
	f->n_listings++;
	listing_run(f, l);
}

static ssize_t read_at(int fd, void *to, size_t len, uint64_t offset)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, (char *)to + got, len - got, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Open for reading or writing; only regular files, so that a FIFO never blocks us. */
static int open_regular(const struct files *f, struct span path, int flags, mode_t mode)
{
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, path, room, &name);
	AUTO(fd_close) int fd = -1;
	struct stat st;

	if (dir < 0)
		return dir;
	if (!*name)
		return -EISDIR;
	fd = node_open(dir, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode, false);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? fd_take(&fd) : S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
}

static void do_read(struct files *f, const void *msg)
{
	const struct msg_FS_READ *m = msg;
	AUTO(fd_close) int fd = open_regular(f, m->path, O_RDONLY, 0);
	AUTO(buf_fini) struct buf b;
	ssize_t n = fd;

	buf_init(&b, READ_MAX);
	if (fd >= 0 && m->len)
		n = buf_reserve(&b, m->len) ? read_at(fd, b.p, m->len, m->offset) : -ENOMEM;
	else if (fd >= 0)
		n = 0;
	if (n < 0)
		files_error(f, m->call, (int)n, "read");
	else
		(void)!conn_send(f->conn, MSG_FS_DATA,
				 &(struct msg_FS_DATA){ .call = m->call, .data = SPAN(n ? b.p : NULL, (size_t)n) });
}

static void do_statfs(struct files *f, const void *msg)
{
	const struct msg_FS_STATFS *m = msg;
	struct msg_FS_STATFS_IS is;
	struct statvfs v;

	if (fstatvfs(f->tree->fd, &v) < 0) {
		files_error(f, m->call, -errno, "statfs");
		return;
	}
	is = (struct msg_FS_STATFS_IS){
		.call = m->call, .bsize = v.f_bsize, .blocks = v.f_blocks, .bfree = v.f_bfree,
		.bavail = v.f_bavail, .files = v.f_files, .ffree = v.f_ffree,
	};
	(void)!conn_send(f->conn, MSG_FS_STATFS_IS, &is);
}

/* --- calls that change ------------------------------------------------------------------------------------------- */

static int write_all(int fd, const struct msg_FS_WRITE *m)
{
	const char *p = m->data.p;
	size_t done = 0;

	while (done < m->data.len) {
		ssize_t n = m->flags & WIRE_FS_APPEND ?
				    write(fd, p + done, m->data.len - done) :
				    pwrite(fd, p + done, m->data.len - done, (off_t)(m->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

/* Owner and mode of what was just made; the mode last, chown takes bits away. */
static int adopt(int fd, uint64_t uid, uint64_t gid, uint64_t mode)
{
	if (geteuid() == 0 && fchown(fd, (uid_t)uid, (gid_t)gid) < 0)
		return -errno;
	return fchmod(fd, (mode_t)mode & 07777) < 0 ? -errno : 0;
}

/* Open the file itself. @ret_made: it did not exist before. */
static int open_target(const struct files *f, const struct msg_FS_WRITE *m, bool *ret_made)
{
	int flags = O_WRONLY | (m->flags & WIRE_FS_TRUNC ? O_TRUNC : 0) | (m->flags & WIRE_FS_APPEND ? O_APPEND : 0);
	int fd = m->flags & WIRE_FS_EXCL ? -ENOENT : open_regular(f, m->path, flags, 0);

	*ret_made = false;
	if (fd != -ENOENT || !(m->flags & WIRE_FS_CREATE))
		return fd;
	fd = open_regular(f, m->path, flags | O_CREAT | O_EXCL, 0600);
	if (fd == -EEXIST && !(m->flags & WIRE_FS_EXCL))
		return open_regular(f, m->path, flags, 0);
	*ret_made = fd >= 0;
	return fd;
}

int files_meant(int fd, uint64_t fid)
{
	struct node n;
	int r = fid ? node_of(fd, &n) : 0;

	if (r < 0)
		return r;
	return fid && n.fid != fid ? -ESTALE : 0;
}

static int write_in_place(struct files *f, const struct msg_FS_WRITE *m, int *ret_fd)
{
	bool made = false;
	int fd = *ret_fd = open_target(f, m, &made);
	int r = fd < 0 ? fd : files_meant(fd, m->fid);

	if (r == 0 && made)
		r = adopt(fd, m->uid, m->gid, m->mode);
	return r == 0 ? write_all(fd, m) : r;
}

/* Write a file of another name and rename it over: never leaves the other name behind. An existing file keeps its owner
 * and mode. */
static int write_replacing(struct files *f, const struct msg_FS_WRITE *m)
{
	char room[4096], tmp[64];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, m->path, room, &name);
	AUTO(fd_close) int fd = -1;
	struct stat st;
	uint64_t salt = 0;
	bool there;
	int r;

	if (dir < 0)
		return dir;
	if (!*name)
		return -EISDIR;
	there = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (there && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EEXIST;
	if (there ? (m->flags & WIRE_FS_EXCL) != 0 : !(m->flags & WIRE_FS_CREATE))
		return there ? -EEXIST : -ENOENT;
	(void)!getrandom(&salt, sizeof(salt), GRND_NONBLOCK);
	snprintf(tmp, sizeof(tmp), ".berth-%llx-%llx", (unsigned long long)salt, (unsigned long long)++f->serial);
	fd = node_open(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, false);
	if (fd < 0)
		return fd;
	r = there ? adopt(fd, st.st_uid, st.st_gid, st.st_mode) : adopt(fd, m->uid, m->gid, m->mode);
	if (r == 0)
		r = write_all(fd, m);
	if (r == 0 && renameat(dir, tmp, dir, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir, tmp, 0);
	return r;
}

static void answer_path(struct files *f, uint64_t call, struct span path, const struct msg_list *dirs)
{
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, path, room, &name);

	if (dir < 0)
		files_error(f, call, dir, "stat");
	else
		tell_node(f, call, dir, name, dirs);
}

/* A name in the directory of @path came or went; and in that of @from, when it is not empty. */
static void answer_name(struct files *f, uint64_t call, struct span path, struct span from)
{
	struct msg_list dirs;

	msg_list_init(&dirs, 2 * (XATTR_PACKED_LEN + 8192));
	add_dir(f, path, &dirs);
	if (from.len)
		add_dir(f, from, &dirs);
	answer_path(f, call, path, &dirs);
	msg_list_fini(&dirs);
}

static void do_write(struct files *f, const void *msg)
{
	const struct msg_FS_WRITE *m = msg;
	AUTO(fd_close) int fd = -1;
	int r = m->flags & WIRE_FS_REPLACE ? write_replacing(f, m) : write_in_place(f, m, &fd);

	if (r < 0)
		files_error(f, m->call, r, "write");
	else
		files_done(f, m->call, m->path, &fd, fd < 0 ? 0 : m->fid);
}

static int own(int dir, const char *name, const struct msg_FS_MAKE *m, bool link)
{
	if (geteuid() == 0 && fchownat(dir, name, (uid_t)m->uid, (gid_t)m->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!link && fchmodat(dir, name, (mode_t)m->mode & 07777, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static int make_one(int dir, const char *name, const struct msg_FS_MAKE *m)
{
	AUTO(str_free) char *target = span_dup(m->target);
	mode_t mode = (mode_t)m->mode;
	int r;

	if (!*name)
		return -EEXIST;
	if (S_ISDIR(mode))
		r = mkdirat(dir, name, 0700);
	else if (S_ISLNK(mode))
		r = m->target.len && !span_has_nul(m->target) ? symlinkat(target, dir, name) : (errno = EINVAL, -1);
	else if (S_ISREG(mode) || S_ISFIFO(mode) || S_ISSOCK(mode))
		r = mknodat(dir, name, (mode & S_IFMT) | 0600, 0);
	else
		return -EPERM;
	return r < 0 ? -errno : own(dir, name, m, S_ISLNK(mode));
}

/* Make the directories that are missing on the way to the last name. */
static int make_parents(const struct files *f, const struct msg_FS_MAKE *m)
{
	AUTO(fd_close) int at = node_open(f->tree->fd, "", O_RDONLY | O_DIRECTORY, 0, true);
	AUTO(str_free) char *path = span_dup(m->path);
	char *rest = path, *slash;

	for (; at >= 0 && (slash = strchr(rest, '/')); rest = slash + 1) {
		int next;

		*slash = '\0';
		next = node_open(at, rest, O_RDONLY | O_DIRECTORY, 0, true);
		if (next == -ENOENT) {
			int r = make_one(at, rest, m);

			if (r < 0 && r != -EEXIST)
				return r;
			next = node_open(at, rest, O_RDONLY | O_DIRECTORY, 0, true);
		}
		fd_close(&at);
		at = next;
	}
	return at < 0 ? at : 0;
}

static void do_make(struct files *f, const void *msg)
{
	const struct msg_FS_MAKE *m = msg;
	bool parents = m->parents && S_ISDIR((mode_t)m->mode);
	char room[4096];
	const char *name = "";
	AUTO(fd_close) int dir = -1;
	int r = path_ok(m->path) && parents ? make_parents(f, m) : 0;

	if (r == 0) {
		dir = files_parent(f, m->path, room, &name);
		r = dir < 0 ? dir : make_one(dir, name, m);
	}
	if (r == -EEXIST && parents && dir >= 0) {
		AUTO(fd_close) int there = node_open(dir, name, O_RDONLY | O_DIRECTORY, 0, true);

		r = there < 0 ? -EEXIST : 0;
	}
	if (r < 0)
		files_error(f, m->call, r, "make");
	else
		answer_name(f, m->call, m->path, SPAN_NULL);
}

/* Two paths and a call that takes both. */
static int on_pair(struct files *f, struct span from, struct span to,
		   int (*fn)(int, const char *, int, const char *, unsigned), unsigned flags)
{
	char room[2][4096];
	const char *a, *b;
	AUTO(fd_close) int one = files_parent(f, from, room[0], &a);
	AUTO(fd_close) int two = one < 0 ? one : files_parent(f, to, room[1], &b);

	if (two < 0)
		return two;
	if (!*a || !*b)
		return -EBUSY;
	return fn(one, a, two, b, flags) < 0 ? -errno : 0;
}

static int link_one(int a, const char *from, int b, const char *to, unsigned flags)
{
	(void)flags;
	return linkat(a, from, b, to, 0);
}

static int rename_one(int a, const char *from, int b, const char *to, unsigned flags)
{
	return renameat2(a, from, b, to, flags);
}

static void do_link(struct files *f, const void *msg)
{
	const struct msg_FS_LINK *m = msg;
	int r = on_pair(f, m->from, m->to, link_one, 0);

	if (r < 0)
		files_error(f, m->call, r, "link");
	else
		answer_name(f, m->call, m->to, SPAN_NULL);
}

static void do_rename(struct files *f, const void *msg)
{
	const struct msg_FS_RENAME *m = msg;
	int r = on_pair(f, m->from, m->to, rename_one, (unsigned)m->flags);

	if (r < 0)
		files_error(f, m->call, r, "rename");
	else
		answer_name(f, m->call, m->to, m->from);
}

static void do_remove(struct files *f, const void *msg)
{
	const struct msg_FS_REMOVE *m = msg;
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, m->path, room, &name);
	struct msg_list dirs;
	int r = dir < 0 ? dir : 0;

	if (r == 0 && !*name)
		r = -EBUSY;
	else if (r == 0 && (m->flags & WIRE_FS_TREE))
		r = remove_tree(dir, name);
	else if (r == 0)
		r = unlinkat(dir, name, m->flags & WIRE_FS_DIR ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
	if (r < 0) {
		files_error(f, m->call, r, "remove");
		return;
	}
	msg_list_init(&dirs, XATTR_PACKED_LEN + 8192);
	add_dir(f, m->path, &dirs);
	(void)!conn_send(f->conn, MSG_OK, &(struct msg_OK){ .call = m->call, .dirs = msg_list_span(&dirs) });
	msg_list_fini(&dirs);
}

static struct timespec when(const struct msg_FS_ATTR *m, unsigned set, unsigned now, int64_t ns)
{
	struct timespec ts = { .tv_nsec = UTIME_OMIT };

	if (m->which & set)
		ts = clock_timespec(ns);
	if (m->which & now)
		ts.tv_nsec = UTIME_NOW;
	return ts;
}

/* Of what @at has open as a path. */
static int set_attributes(int at, const struct msg_FS_ATTR *m)
{
	struct timespec ts[2] = {
		when(m, WIRE_ATTR_ATIME, WIRE_ATTR_ATIME_NOW, m->atime_ns),
		when(m, WIRE_ATTR_MTIME, WIRE_ATTR_MTIME_NOW, m->mtime_ns),
	};
	uid_t uid = m->which & WIRE_ATTR_UID ? (uid_t)m->uid : (uid_t)-1;
	gid_t gid = m->which & WIRE_ATTR_GID ? (gid_t)m->gid : (gid_t)-1;
	char self[64];
	struct stat st;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	if (fstat(at, &st) < 0)
		return -errno;
	if (m->which & WIRE_ATTR_SIZE) {
		AUTO(fd_close) int fd = open(self, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

		if (fd < 0 || ftruncate(fd, (off_t)m->size) < 0)
			return -errno;
	}
	if ((m->which & (WIRE_ATTR_UID | WIRE_ATTR_GID)) && fchownat(at, "", uid, gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (m->which & WIRE_ATTR_MODE) {
		if (S_ISLNK(st.st_mode))
			return -EOPNOTSUPP;
		if (chmod(self, (mode_t)m->mode) < 0)
			return -errno;
	}
	if ((ts[0].tv_nsec != UTIME_OMIT || ts[1].tv_nsec != UTIME_OMIT) && utimensat(AT_FDCWD, self, ts, 0) < 0)
		return -errno;
	return 0;
}

static void do_attr(struct files *f, const void *msg)
{
	const struct msg_FS_ATTR *m = msg;
	char room[4096];
	const char *name;
	AUTO(fd_close) int dir = files_parent(f, m->path, room, &name);
	AUTO(fd_close) int at = dir < 0 ? dir : node_open(dir, *name ? name : ".", O_PATH | O_NOFOLLOW, 0, false);
	int r = at < 0 ? at : files_meant(at, m->fid);

	if (r == 0)
		r = set_attributes(at, m);
	if (r < 0)
		files_error(f, m->call, r, "attributes");
	else
		files_done(f, m->call, m->path, &at, m->fid);
}

static void do_alloc(struct files *f, const void *msg)
{
	const struct msg_FS_ALLOC *m = msg;
	AUTO(fd_close) int fd = open_regular(f, m->path, O_WRONLY, 0);
	int r = fd < 0 ? fd : files_meant(fd, m->fid);

	if (r == 0 && (m->mode & ~(uint64_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		r = -EOPNOTSUPP;
	if (r == 0 && fallocate(fd, (int)m->mode, (off_t)m->offset, (off_t)m->len) < 0)
		r = -errno;
	if (r < 0)
		files_error(f, m->call, r, "allocate");
	else
		files_done(f, m->call, m->path, &fd, m->fid);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

static const struct {
	unsigned type;
	void (*fn)(struct files *f, const void *m);
} calls[] = {
	{ MSG_FS_STAT, do_stat },     { MSG_FS_LIST, do_list },	    { MSG_FS_READ, do_read },
	{ MSG_FS_WRITE, do_write },   { MSG_FS_MAKE, do_make },	    { MSG_FS_LINK, do_link },
	{ MSG_FS_REMOVE, do_remove }, { MSG_FS_RENAME, do_rename }, { MSG_FS_ATTR, do_attr },
	{ MSG_FS_STATFS, do_statfs }, { MSG_FS_XATTR_GET, xattr_get },	    { MSG_FS_XATTR_SET, xattr_set },
	{ MSG_FS_XATTR_LIST, xattr_list }, { MSG_FS_XATTR_REMOVE, xattr_remove }, { MSG_FS_ALLOC, do_alloc },
};

int files_frame(struct files *f, const struct frame *frame, struct err *e)
{
	union {
		struct msg_FS_WRITE write; /* the largest ones */
		struct msg_FS_ATTR attr;
		struct msg_FS_MAKE make;
		struct msg_FS_RENAME rename;
		struct msg_FS_XATTR_SET xattr;
	} m;
	size_t i;

	for (i = 0; i < ARRAY_LEN(calls); i++) {
		int r;

		if (calls[i].type != frame->type)
			continue;
		r = msg_decode(frame->type, frame->payload, &m, e);
		if (r == 0)
			calls[i].fn(f, &m);
		return r;
	}
	return -ENOSYS;
}

void files_init(struct files *f, const struct tree *tree)
{
	*f = (struct files){ .tree = tree };
	list_init(&f->listings);
}

void files_attach(struct files *f, struct conn *conn)
{
	while (!list_empty(&f->listings))
		listing_free(f, list_entry(f->listings.next, struct listing, node));
	f->conn = conn;
}

void files_go_on(struct files *f)
{
	while (!list_empty(&f->listings) && conn_room(f->conn))
		listing_run(f, list_entry(f->listings.next, struct listing, node));
}
