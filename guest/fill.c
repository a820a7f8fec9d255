/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files are made as they come. The descriptor of the directory that was needed last is kept: entries of one directory
 * come together. Attributes of a file are set when the next thing begins, behind its last byte. Mostly nobody else
 * works in the workspace yet, and still no path leaves it.
 *
 * In a workspace that is in use ("over") everything but a directory is made under another name and renamed when it is
 * whole; until then the host is told nothing of it. What has the name gives way if it is of the same kind, and a link
 * to a file; nothing is followed. The end is answered when the host has acknowledged the names. Where what the workload
 * made is to be respected ("keep"), what has the name stays, and what became of the way to a name counts, too.
 */
#include "guest/fill.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "base/xattr.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

struct fill {
	const struct tree *tree; /* borrowed, as the next */
	struct conn *conn;
	struct watch *watch; /* NULL: nobody else works here */
	struct barrier *barrier;
	bool over, keep;
	bool is_left; /* the entry that came last: its bytes go nowhere */
	char temp[32]; /* in @dirfd, what is not whole yet; "": nothing */
	char *dir; /* path of @dirfd; NULL: none is open */
	int dirfd;
	int file; /* that is being written, -1: none */
	struct msg_FILL_ENTRY entry; /* of it; its spans are nobody's */
	uint64_t at;
	char *name; /* of it, for words */
	uint64_t made;
};

struct fill *fill_new(const struct tree *tree, struct conn *conn, struct watch *watch)
{
	struct fill *f = NEW(struct fill);

	f->tree = tree;
	f->conn = conn;
	f->watch = watch;
	f->dirfd = f->file = -1;
	return f;
}

static void forget_temp(struct fill *f)
{
	if (!f->temp[0])
		return;
	unlinkat(f->dirfd, f->temp, 0);
	kept_show(watch_kept(f->watch), f->temp);
	f->temp[0] = '\0';
}

void fill_free(struct fill **slot)
{
	struct fill *f = take(slot);

	if (!f)
		return;
	watch_unbarrier(&f->barrier);
	forget_temp(f);
	fd_close(&f->dirfd);
	fd_close(&f->file);
	str_free(&f->dir);
	str_free(&f->name);
	free(f);
}

/* --- over what is there ------------------------------------------------------------------------------------------- */

/* Where something of this name is made first. */
static const char *first_name(struct fill *f, const char *name)
{
	uint64_t salt = 0;

	if (!f->over)
		return name;
	(void)!getrandom(&salt, sizeof(salt), 0);
	snprintf(f->temp, sizeof(f->temp), ".berth-%016llx", (unsigned long long)salt);
	kept_hide(watch_kept(f->watch), f->temp);
	return f->temp;
}

/* It is whole: it gets its name. Two names of one file are not renamed, so the first is taken away in any case. */
static int name_it(struct fill *f, const char *name)
{
	int r;

	if (!f->temp[0])
		return 0;
	r = renameat2(f->dirfd, f->temp, f->dirfd, name, f->keep ? RENAME_NOREPLACE : 0) < 0 ? -errno : 0;
	forget_temp(f);
	return r;
}

/* Who cannot give files away keeps them. */
static void own(struct msg_FILL_ENTRY *en, const struct stat *as)
{
	bool can = geteuid() == 0;

	en->uid = can ? as->st_uid : geteuid();
	en->gid = can ? as->st_gid : getegid();
}

/* May it have the name, and whose will it be? */
static int look(struct fill *f, const char *name, struct msg_FILL_ENTRY *en)
{
	mode_t mode = (mode_t)en->mode;
	struct stat dir, st;

	if (f->keep) {
		if (fstatat(f->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return errno == ENOENT && !en->again ? 0 : -errno;
		return S_ISDIR(mode) && S_ISDIR(st.st_mode) ? 0 : -EEXIST;
	}
	if (fstat(f->dirfd, &dir) < 0)
		return -errno;
	own(en, &dir);
	if (fstatat(f->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if ((st.st_mode & S_IFMT) != (mode & S_IFMT) && !(S_ISREG(mode) && S_ISLNK(st.st_mode)))
		return S_ISDIR(mode) ? -ENOTDIR : S_ISDIR(st.st_mode) ? -EISDIR : -EEXIST;
	own(en, &st);
	return 0;
}

/* --- one thing ---------------------------------------------------------------------------------------------------- */

static int to_dir(struct fill *f, struct span path, char room[4096], const char **ret_name)
{
	const char *slash;
	size_t len;

	if (!path_ok(path) || path.len == 0 || path.len >= 4096)
		return -EINVAL;
	memcpy(room, path.p, path.len);
	room[path.len] = '\0';
	slash = strrchr(room, '/');
	len = slash ? (size_t)(slash - room) : 0;
	*ret_name = slash ? slash + 1 : room;
	if (f->dir && strlen(f->dir) == len && memcmp(f->dir, room, len) == 0)
		return 0;
	str_free(&f->dir);
	fd_close(&f->dirfd);
	f->dir = span_dup(SPAN(room, len));
	f->dirfd = node_open(f->tree->fd, f->dir, O_RDONLY | O_DIRECTORY, 0, false);
	if (f->dirfd >= 0)
		return 0;
	str_free(&f->dir);
	return f->dirfd;
}

static int set_xattrs(int fd, struct span packed)
{
	struct span name, value;

	if (!xattrs_ok(packed))
		return -EINVAL;
	while (xattrs_next(&packed, &name, &value)) {
		AUTO(str_free) char *word = span_dup(name);

		if (fsetxattr(fd, word, value.p, value.len, 0) < 0)
			return -errno;
	}
	return 0;
}

static void times_of(const struct msg_FILL_ENTRY *en, struct timespec to[2])
{
	to[0] = to[1] = clock_timespec(en->mtime_ns);
}

/* Owner first: a change of it takes away what set the mode's special bits. */
static int set_fd(int fd, const struct msg_FILL_ENTRY *en)
{
	struct timespec times[2];

	times_of(en, times);
	if (fchown(fd, (uid_t)en->uid, (gid_t)en->gid) < 0 || fchmod(fd, (mode_t)en->mode & 07777) < 0 ||
	    futimens(fd, times) < 0)
		return -errno;
	return 0;
}

/* The workload was there first, or has taken away what this one needs. */
static bool is_theirs(const struct fill *f, int r)
{
	return f->keep && (r == -EEXIST || r == -ENOENT || r == -ENOTDIR || r == -ELOOP);
}

static int end_file(struct fill *f)
{
	const char *slash = f->name ? strrchr(f->name, '/') : NULL;
	int r = 0;

	if (f->file < 0)
		return 0;
	if (f->at < f->entry.size && ftruncate(f->file, (off_t)f->entry.size) < 0)
		r = -errno;
	if (r == 0)
		r = set_fd(f->file, &f->entry);
	fd_close(&f->file);
	if (r == 0 && f->over)
		r = name_it(f, slash ? slash + 1 : f->name);
	return is_theirs(f, r) ? 0 : r;
}

static int put(struct fill *f, uint64_t offset, struct span data)
{
	const char *p = data.p;
	size_t done = 0;

	if (offset < f->at || offset + data.len > f->entry.size)
		return -EINVAL;
	while (done < data.len) {
		ssize_t n = pwrite(f->file, p + done, data.len - done, (off_t)(offset + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	f->at = offset + data.len;
	return 0;
}

static int make_file(struct fill *f, const char *name, const struct msg_FILL_ENTRY *en)
{
	int r;

	f->file = openat(f->dirfd, first_name(f, name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (f->file < 0)
		return -errno;
	f->entry = *en;
	f->at = 0;
	r = put(f, 0, en->data);
	return r == 0 && en->xattrs.len ? set_xattrs(f->file, en->xattrs) : r;
}

static int make_dir(struct fill *f, const char *name, const struct msg_FILL_ENTRY *en)
{
	AUTO(fd_close) int fd = -1;
	int r;

	if (!en->again && mkdirat(f->dirfd, name, 0700) < 0)
		return f->over && errno == EEXIST ? 0 : -errno; /* what else it could be was looked at */
	if (!en->again && f->over && fchownat(f->dirfd, name, (uid_t)en->uid, (gid_t)en->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!en->again)
		return 0;
	fd = openat(f->dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = en->xattrs.len ? set_xattrs(fd, en->xattrs) : 0;
	return r ? r : set_fd(fd, en);
}

static int make_other(struct fill *f, const char *name, const struct msg_FILL_ENTRY *en)
{
	AUTO(str_free) char *target = span_dup(en->target);
	const char *last = name;
	struct timespec times[2];
	int r;

	times_of(en, times);
	name = first_name(f, last);
	if (S_ISLNK(en->mode))
		r = symlinkat(target, f->dirfd, name);
	else if (S_ISFIFO(en->mode) || S_ISSOCK(en->mode))
		r = mknodat(f->dirfd, name, (mode_t)en->mode & (S_IFMT | 07777), 0);
	else
		return -EPERM;
	if (r < 0 || fchownat(f->dirfd, name, (uid_t)en->uid, (gid_t)en->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISLNK(en->mode) && fchmodat(f->dirfd, name, (mode_t)en->mode & 07777, AT_SYMLINK_NOFOLLOW) < 0) ||
	    utimensat(f->dirfd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return name_it(f, last);
}

static int make_link(struct fill *f, const char *last, struct span to)
{
	const char *name;
	char room[4096], proc[64];
	AUTO(fd_close) int fd = -1;

	if (!path_ok(to) || to.len == 0 || to.len >= sizeof(room))
		return -EINVAL;
	memcpy(room, to.p, to.len);
	room[to.len] = '\0';
	fd = node_open(f->tree->fd, room, O_PATH | O_NOFOLLOW, 0, false);
	if (fd < 0)
		return fd;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	name = first_name(f, last);
	if (linkat(fd, "", f->dirfd, name, AT_EMPTY_PATH) < 0 &&
	    linkat(AT_FDCWD, proc, f->dirfd, name, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return name_it(f, last);
}

/* The workspace's own attributes. */
static int set_root(struct fill *f, struct msg_FILL_ENTRY *en)
{
	AUTO(fd_close) int fd = node_open(f->tree->fd, "", O_RDONLY | O_DIRECTORY, 0, false);
	int r = fd < 0 ? fd : en->xattrs.len ? set_xattrs(fd, en->xattrs) : 0;
	struct stat st;

	if (r == 0 && f->over && !f->keep) {
		if (fstat(fd, &st) < 0)
			return -errno;
		own(en, &st);
	}
	return r ? r : set_fd(fd, en);
}

static int make(struct fill *f, struct msg_FILL_ENTRY *en)
{
	char room[4096];
	const char *name;
	int r = to_dir(f, en->path, room, &name);

	if (r == 0 && f->over)
		r = look(f, name, en);
	if (r < 0)
		return r;
	if (en->link.len)
		return make_link(f, name, en->link);
	if (S_ISREG(en->mode))
		return make_file(f, name, en);
	return S_ISDIR(en->mode) ? make_dir(f, name, en) : make_other(f, name, en);
}

static int one(struct fill *f, struct msg_FILL_ENTRY *en)
{
	int r;

	f->is_left = false;
	if (en->path.len == 0)
		return en->again ? set_root(f, en) : -EINVAL;
	r = make(f, en);
	f->is_left = is_theirs(f, r);
	f->made += !en->again && (r == 0 || f->is_left);
	return f->is_left ? 0 : r;
}

static int failed(struct err *e, int r, struct span path)
{
	const char *why = r == -EISDIR ? "a directory is there" :
			  r == -EEXIST || r == -ENOTDIR ? "something else is there" : err_name(r);

	return err_set(e, r, r == -ENOSPC || r == -EDQUOT ? "no-space" : "failed", "/workspace/%.*s: %s",
		       (int)MIN(path.len, (size_t)160), path.len ? (const char *)path.p : "", why);
}

static int on_entries(struct fill *f, const struct frame *frame, struct err *e)
{
	struct msg_FILL_ENTRY en;
	struct msg_FILL m;
	struct span list;
	int r = msg_decode(frame->type, frame->payload, &m, e);

	if (r < 0)
		return r;
	if (f->watch && !m.over) /* it would be told as changes of the guest's */
		return err_set(e, -EBUSY, "busy", "the workspace is in use");
	if (!f->watch && m.over)
		return err_set(e, -EAGAIN, "not-replicating", "nobody has asked for changes");
	f->over = m.over != 0;
	f->keep = m.over == 2;
	list = m.entries;
	while (msg_rec_next(&list, MSG_FILL_ENTRY, &en)) {
		r = end_file(f);
		if (r < 0)
			return failed(e, r, span_str(f->name ? f->name : ""));
		r = one(f, &en);
		if (r < 0)
			return failed(e, r, en.path);
		str_free(&f->name);
		f->name = span_dup(en.path);
	}
	return 0;
}

static int on_data(struct fill *f, const struct frame *frame, struct err *e)
{
	struct msg_FILL_DATA m;
	int r = msg_decode(frame->type, frame->payload, &m, e);

	if (r < 0)
		return r;
	r = f->is_left ? 0 : f->file < 0 ? -EPROTO : put(f, m.offset, m.data);
	return r < 0 ? failed(e, r, span_str(f->name ? f->name : "")) : 0;
}

static void on_told(void *ctx)
{
	struct fill *f = ctx;

	f->barrier = NULL;
	(void)!conn_send(f->conn, MSG_FILLED, &(struct msg_FILLED){ .entries = f->made });
}

/* For how long to wait is the host's to say: it hangs up. */
static int on_end(struct fill *f, struct err *e)
{
	int r = end_file(f);

	if (r < 0)
		return failed(e, r, span_str(f->name ? f->name : ""));
	if (f->barrier)
		return err_set(e, -EPROTO, "bad-message", "there is one end");
	if (f->over)
		f->barrier = watch_barrier(f->watch, CLOCK_NEVER, on_told, f);
	else
		on_told(f);
	return 0;
}

int fill_frame(struct fill *f, const struct frame *frame, struct err *e)
{
	fill_wait();
	switch (frame->type) {
	case MSG_FILL:
		return on_entries(f, frame, e);
	case MSG_FILL_DATA:
		return on_data(f, frame, e);
	case MSG_FILL_END:
		return on_end(f, e);
	default:
		return err_set(e, -EPROTO, "bad-message", "%s has no place here", msg_name(frame->type));
	}
}
