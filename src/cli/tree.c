/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory out of a sandbox: one stream, an archive that is read while it comes and written file by file. Everything
 * of it was the guest's choice, and what stands at the destination may be what an earlier copy put there: so all work
 * is done with descriptors of directories, and no link below the place that was typed is ever followed.
 *
 * Members come in the order of a walk, so the directories that are open are those on the way to where we are. A
 * directory gets its time and mode when the walk leaves it. A file appears under its name when it is whole.
 */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "base/vec.h"
#include "base/xattr.h"
#include "tar/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { BUSY_MS = 60000, PIPE_B = 1 << 20, MODE = 01777 /* what sets ids is for the guest alone */ };

struct level {
	int fd;
	char *name; /* in the one before */
	uint32_t mode;
	int64_t mtime_ns;
	void *xattrs;
	size_t xattrs_len;
};

struct stream {
	struct berth *b;
	const char *id, *path;
	int fd; /* the archive goes in there */
	int result;
	uint64_t left_out;
	struct berth_error e;
};

struct unpack {
	struct cli_copy *c;
	struct tar_reader *tar;
	const char *shown;
	VEC(struct level) open; /* the first one is where the copy goes */
	char *skip; /* a directory that could not be: what is below it is left out */
	bool keep_top;
	unsigned temps;
};

/* From the daemon into the pipe, while the other end is unpacked. */
static void *stream_run(void *ctx)
{
	struct stream *s = ctx;
	uint64_t until = clock_after_ms(BUSY_MS);
	const struct timespec nap = { .tv_nsec = 100000000 };

	do
		s->result = berth_export_counted(s->b, s->id, s->path, s->fd, &s->left_out, &s->e);
	while (s->result == -EUSERS && str_eq(s->e.slug, "exports-run") && clock_now() < until &&
	       nanosleep(&nap, NULL) == 0);
	fd_close(&s->fd);
	return NULL;
}

static ssize_t get(void *ctx, void *to, size_t max)
{
	ssize_t n;

	do
		n = read(*(int *)ctx, to, max);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void complain(struct unpack *u, struct span path, const char *why)
{
	AUTO(str_free) char *shown = str_printf("%s/%.*s", u->shown, (int)path.len, (const char *)path.p);

	cli_copy_complain(u->c, shown, why);
}

static int set_xattrs(int fd, struct span packed)
{
	struct span name, value;

	while (xattrs_next(&packed, &name, &value)) {
		AUTO(str_free) char *word = span_dup(name);

		if (fsetxattr(fd, word, value.p, value.len, 0) < 0)
			return -errno;
	}
	return 0;
}

static int set_all(int fd, uint32_t mode, int64_t mtime_ns, struct span xattrs)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, clock_timespec(mtime_ns) };
	int r = set_xattrs(fd, xattrs);

	/* A file system that has none is told of; the rest is set all the same. */
	if (fchmod(fd, mode & MODE) < 0 || futimens(fd, times) < 0)
		return -errno;
	return r;
}

static void leave(struct unpack *u)
{
	struct level *l = &u->open.v[--u->open.len];
	bool kept = u->open.len == 0 && u->keep_top;
	int r = kept ? 0 : set_all(l->fd, l->mode, l->mtime_ns, SPAN(l->xattrs, l->xattrs_len));

	if (r < 0)
		complain(u, span_str(l->name), strerror(-r));
	fd_close(&l->fd);
	str_free(&l->name);
	free(l->xattrs);
}

/* Leave what is not on the way to @path; the directory that it is in, and its name there. Return: -1: left out. */
static int go(struct unpack *u, const char *path, const char **ret_name)
{
	size_t depth = 1;
	const char *slash;

	for (; (slash = strchr(path, '/')); path = slash + 1, depth++) {
		size_t len = (size_t)(slash - path);
		const char *name = depth < u->open.len ? u->open.v[depth].name : NULL;

		if (!name || strlen(name) != len || memcmp(name, path, len) != 0)
			return -1;
	}
	while (u->open.len > depth)
		leave(u);
	*ret_name = path;
	return u->open.v[depth - 1].fd;
}

static bool is_below(const char *dir, const char *path)
{
	size_t len = dir ? strlen(dir) : 0;

	return dir && strncmp(dir, path, len) == 0 && path[len] == '/';
}

static void enter(struct unpack *u, const struct tar_item *it, const char *path, int dir, const char *name)
{
	struct level l = { .mode = it->mode, .mtime_ns = it->mtime_ns, .xattrs_len = it->xattrs.len };

	bool is_new = mkdirat(dir, name, 0700) == 0;
	struct stat st;

	if (!is_new && errno != EEXIST)
		complain(u, span_str(path), strerror(errno));
	l.fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (l.fd < 0) {
		complain(u, it->path,
			 errno == EMFILE ? strerror(errno) : "there is something else than a directory");
		str_free(&u->skip);
		u->skip = must_strdup(path);
		return;
	}
	if (!is_new && fstat(l.fd, &st) == 0) /* who may enter one of our own is not a guest's choice */
		l.mode = st.st_mode;
	l.name = must_strdup(name);
	l.xattrs = it->xattrs.len ? must_memdup(it->xattrs.p, it->xattrs.len) : NULL;
	vec_push(&u->open, l);
}

/* What cannot be written is complained of. Return: 0, or what ends the archive. */
static int write_file(struct unpack *u, const struct tar_item *it, int fd, bool *ret_whole, struct err *e)
{
	struct span piece;
	uint64_t at;
	int r, bad = 0;

	while ((r = tar_read(u->tar, &at, &piece, e)) == 0) {
		const char *p = piece.p;

		while (bad == 0 && piece.len) {
			ssize_t n = pwrite(fd, p, piece.len, (off_t)at);

			if (n < 0 && errno != EINTR)
				bad = -errno;
			n = MAX(n, (ssize_t)0);
			p += n;
			at += (uint64_t)n;
			piece.len -= (size_t)n;
		}
	}
	if (r != TAR_E_END)
		return r;
	if (bad == 0 && ftruncate(fd, (off_t)it->size) < 0)
		bad = -errno;
	*ret_whole = bad == 0;
	if (bad == 0)
		bad = set_all(fd, it->mode, it->mtime_ns, it->xattrs);
	if (bad < 0)
		complain(u, it->path, strerror(-bad));
	return 0;
}

/* Under its name, in the place of a file or link that has it. */
static void name_it(struct unpack *u, const struct tar_item *it, int dir, const char *temp, const char *name)
{
	if (cli_copy_is_special(dir, name, AT_SYMLINK_NOFOLLOW))
		complain(u, it->path, "there is something else than a file");
	else if (renameat(dir, temp, dir, name) < 0)
		complain(u, it->path, strerror(errno));
	unlinkat(dir, temp, 0); /* also where both were names of one file: then nothing was renamed */
}

/* Return: 0, or what ends the archive. */
static int put_file(struct unpack *u, const struct tar_item *it, int dir, const char *name, struct err *e)
{
	AUTO(str_free) char *temp = str_printf(".berth-%d-%u", (int)getpid(), u->temps++);
	AUTO(fd_close) int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool whole = false;
	int r;

	if (fd < 0) {
		complain(u, it->path, strerror(errno));
		return 0;
	}
	r = write_file(u, it, fd, &whole, e);
	if (r == 0 && whole)
		name_it(u, it, dir, temp, name);
	else
		unlinkat(dir, temp, 0);
	return r;
}

static void put_hard(struct unpack *u, const struct tar_item *it, int dir, const char *name)
{
	AUTO(str_free) char *temp = str_printf(".berth-%d-%u", (int)getpid(), u->temps++);
	AUTO(str_free) char *to = span_dup(it->link);
	AUTO(fd_close) int at = dup(u->open.v[0].fd);
	char *p = to, *slash;

	while (at >= 0 && (slash = strchr(p, '/'))) {
		int next;

		*slash = '\0';
		next = path_name_ok(span_str(p)) ? openat(at, p, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
		fd_close(&at);
		at = next;
		p = slash + 1;
	}
	if (at < 0 || !path_name_ok(span_str(p)) || linkat(at, p, dir, temp, 0) < 0)
		complain(u, it->path, "its other name is not there");
	else
		name_it(u, it, dir, temp, name);
}

static void put_other(struct unpack *u, const struct tar_item *it, int dir, const char *name)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, clock_timespec(it->mtime_ns) };
	AUTO(str_free) char *target = span_dup(it->link);
	bool is_link = S_ISLNK(it->mode);
	struct stat st;
	int r;

	/* A link replaces a link, and nothing else. */
	if (is_link && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		unlinkat(dir, name, 0);
	r = is_link ? symlinkat(target, dir, name) : mkfifoat(dir, name, it->mode & MODE);
	if (r < 0 && !(errno == EEXIST && !is_link && cli_copy_is_special(dir, name, AT_SYMLINK_NOFOLLOW)))
		complain(u, it->path, strerror(errno));
	else if (utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		complain(u, it->path, strerror(errno));
}

static int member(struct unpack *u, const struct tar_item *it, struct err *e)
{
	AUTO(str_free) char *path = span_dup(it->path);
	const char *name = NULL;
	int dir;

	if (str_eq(path, ".")) {
		u->open.v[0].mode = it->mode;
		u->open.v[0].mtime_ns = it->mtime_ns;
		u->open.v[0].xattrs_len = it->xattrs.len;
		u->open.v[0].xattrs = it->xattrs.len ? must_memdup(it->xattrs.p, it->xattrs.len) : NULL;
		return 0;
	}
	if (is_below(u->skip, path))
		return 0;
	dir = path_ok(it->path) ? go(u, path, &name) : -1;
	if (dir < 0 || !path_name_ok(span_str(name))) {
		complain(u, it->path, "an impossible name: left out");
		return 0;
	}
	if (it->is_link)
		put_hard(u, it, dir, name);
	else if (S_ISDIR(it->mode))
		enter(u, it, path, dir, name);
	else if (S_ISREG(it->mode))
		return put_file(u, it, dir, name, e);
	else if (S_ISLNK(it->mode) || S_ISFIFO(it->mode))
		put_other(u, it, dir, name);
	return 0;
}

static int unpack(struct unpack *u, struct err *e)
{
	struct tar_item it;
	int r = 0;

	while (r == 0 && (r = tar_next(u->tar, &it, e)) == 0)
		r = member(u, &it, e);
	while (u->open.len)
		leave(u);
	vec_fini(&u->open);
	str_free(&u->skip);
	return r == TAR_E_END ? 0 : r;
}

void cli_copy_tree(struct cli_copy *c, const char *from, int dir, const char *shown, bool keep_top)
{
	struct stream s = { .b = c->b, .id = c->id, .path = from };
	struct level top = { .fd = fcntl(dir, F_DUPFD_CLOEXEC, 3), .mode = 0755 };
	struct unpack u = { .c = c, .shown = shown, .keep_top = keep_top };
	struct err e = ERR_NULL;
	pthread_t thread;
	char rest[4096];
	int p[2], r;

	if (top.fd < 0 || pipe2(p, O_CLOEXEC) < 0) {
		cli_copy_complain(c, shown, strerror(errno));
		fd_close(&top.fd);
		return;
	}
	(void)!fcntl(p[1], F_SETPIPE_SZ, PIPE_B);
	s.fd = p[1];
	cli_progress(c->b, c->quiet, from, 0);
	r = pthread_create(&thread, NULL, stream_run, &s);
	if (r) {
		cli_copy_complain(c, shown, strerror(r));
		close(p[0]);
		close(p[1]);
		fd_close(&top.fd);
		return;
	}
	top.name = must_strdup("");
	vec_push(&u.open, top);
	u.tar = tar_reader_new(get, &p[0]);
	r = unpack(&u, &e);
	tar_reader_free(&u.tar);
	while (r == 0 && get(&p[0], rest, sizeof(rest)) > 0)
		; /* the zeros behind the end: nobody is to write into a pipe that is closed */
	close(p[0]);
	pthread_join(thread, NULL);
	/* What the daemon says is the reason why an archive was cut off. */
	if (s.result < 0 && (r < 0 || s.result != -EIO))
		cli_copy_complain(c, *from ? from : "/workspace", s.e.text);
	else if (r < 0)
		cli_copy_complain(c, shown, e.text);
	if (s.left_out)
		fprintf(stderr, "berth cp: %llu files were left out, only their names were kept\n",
			(unsigned long long)s.left_out);
}
