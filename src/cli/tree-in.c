/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory into a sandbox: one stream, an archive that is written while it goes. A thread walks and packs; the
 * caller sends, and says at the end what was wrong on the way. No link below the place that was typed is followed. What
 * cannot be read is told of and the others go on.
 */
#include "cli/cli.h"

#include "base/io.h"
#include "base/map.h"
#include "base/path.h"
#include "base/str.h"
#include "base/vec.h"
#include "base/xattr.h"
#include "tar/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { PIPE_B = 1 << 20, GATHER = 256 * 1024, NAMES_MAX = 65536, COMPLAINTS_MAX = 1000, OPEN_MAX_FTW = 32 };

struct complaint {
	char *path;
	const char *why;
};

struct pack {
	struct tar_writer w;
	const char *shown;
	int top, fd;
	char *out; /* what is small is gathered */
	size_t out_len;
	char *piece;
	struct tar_range *map;
	struct map names; /* of files with several: device and number -> the path that has the data; owned */
	VEC(struct complaint) complaints;
};

static void complain(struct pack *p, const char *path, int r)
{
	const char *why = r == -ESTALE ? "it changed while it was read" :
			  r == -EINVAL ? "neither file, directory, link nor pipe: left out" : strerror(-r);
	struct complaint c = { .why = why };

	if (p->complaints.len >= COMPLAINTS_MAX)
		return;
	c.path = str_eq(path, ".") ? must_strdup(p->shown) : path_join(p->shown, path);
	vec_push(&p->complaints, c);
}

static int send_all(int fd, const char *from, size_t len)
{
	while (len) {
		ssize_t n = write(fd, from, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		n = MAX(n, (ssize_t)0);
		from += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_out(struct pack *p)
{
	size_t len = p->out_len;

	p->out_len = 0;
	return send_all(p->fd, p->out, len);
}

static int put(void *ctx, const void *from, size_t len)
{
	struct pack *p = ctx;
	int r = p->out_len + len > GATHER ? send_out(p) : 0;

	if (r < 0 || len > GATHER)
		return r < 0 ? r : send_all(p->fd, from, len);
	memcpy(p->out + p->out_len, from, len);
	p->out_len += len;
	return 0;
}

/* Those of users, packed into @to. */
static int xattrs_of(int fd, struct buf *to)
{
	AUTO(mem_free) char *names = must_calloc(1, NAMES_MAX);
	AUTO(mem_free) char *value = must_calloc(1, XATTR_PACKED_LEN + 1);
	ssize_t n = flistxattr(fd, names, NAMES_MAX), len;
	const char *name;
	int r = n < 0 && errno != EOPNOTSUPP ? -errno : 0;

	for (name = names; r == 0 && n > 0 && name < names + n; name += strlen(name) + 1) {
		AUTO(mem_free) void *old = NULL;
		size_t old_len = buf_len(to);
		struct span is;

		if (!xattr_is_user(span_str(name)))
			continue;
		len = fgetxattr(fd, name, value, XATTR_PACKED_LEN);
		if (len < 0)
			return errno == ENODATA ? 0 : -errno;
		old = must_memdup(buf_span(to).p, old_len);
		buf_consume(to, old_len);
		is = SPAN(value, (size_t)len);
		r = xattrs_with(SPAN(old, old_len), span_str(name), &is, 0, to);
	}
	return r;
}

/* Where the data is, in whole blocks. A file with too many holes gets those behind the last range as zeros. */
static size_t map_of(struct pack *p, int fd, uint64_t size)
{
	uint64_t at = 0;
	size_t n = 0;

	while (at < size) {
		off_t from = lseek(fd, (off_t)at, SEEK_DATA), to;
		uint64_t start;

		if (from < 0 && errno == ENXIO)
			break;
		from = from < 0 ? (off_t)at : from; /* a file system that does not know */
		to = n + 1 < TAR_MAP_MAX ? lseek(fd, from, SEEK_HOLE) : -1;
		start = (uint64_t)from - (uint64_t)from % TAR_BLOCK;
		at = to < 0 ? size : MIN(((uint64_t)to + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK, size);
		if (start >= size)
			break;
		if (n && start <= p->map[n - 1].at + p->map[n - 1].len)
			p->map[n - 1].len = at - p->map[n - 1].at;
		else
			p->map[n++] = (struct tar_range){ start, at - start };
	}
	return n;
}

/* What the file has not any more becomes zeros: the head is said already. */
static int put_range(struct pack *p, int fd, const struct tar_range *range, int *ret_bad)
{
	uint64_t at = range->at, end = range->at + range->len;
	int r = 0;

	while (r == 0 && at < end) {
		size_t len = (size_t)MIN(end - at, (uint64_t)TAR_PIECE);
		ssize_t n = *ret_bad < 0 ? 0 : pread(fd, p->piece, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*ret_bad = *ret_bad < 0 ? *ret_bad : n < 0 ? -errno : -ESTALE;
			memset(p->piece, 0, len);
			n = (ssize_t)len;
		}
		r = tar_put_data(&p->w, p->piece, (size_t)n);
		at += (uint64_t)n;
	}
	return r;
}

/* The path of the same file that went before; or this one is it from now on. */
static const char *earlier(struct pack *p, const struct stat *st, const char *path)
{
	const uint64_t key[2] = { st->st_dev, st->st_ino };
	const char *was = st->st_nlink > 1 ? map_get(&p->names, SPAN(key, sizeof(key))) : NULL;

	if (st->st_nlink > 1 && !was)
		map_put(&p->names, SPAN(key, sizeof(key)), must_strdup(path));
	return was;
}

static struct tar_item item_of(const char *path, const struct stat *st)
{
	return (struct tar_item){ .path = span_str(path), .mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid,
				  .mtime_ns = st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec };
}

/* Return: 0, also when it was complained of; -errno ends it. So the next. */
static int put_file(struct pack *p, int dir, const char *name, const char *path)
{
	AUTO(fd_close) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	AUTO(buf_fini) struct buf xattrs;
	struct tar_item it;
	struct stat st;
	size_t n, i;
	int r, bad = 0;

	buf_init(&xattrs, XATTR_PACKED_LEN);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		complain(p, path, fd < 0 ? -errno : -ESTALE);
		return 0;
	}
	r = xattrs_of(fd, &xattrs);
	if (r < 0) {
		complain(p, path, r);
		return 0;
	}
	it = item_of(path, &st);
	it.size = (uint64_t)st.st_size;
	it.xattrs = buf_span(&xattrs);
	n = map_of(p, fd, it.size);
	r = tar_put_item(&p->w, &it, p->map, n);
	for (i = 0; r == 0 && i < n; i++)
		r = put_range(p, fd, &p->map[i], &bad);
	if (bad < 0)
		complain(p, path, bad);
	else
		(void)earlier(p, &st, path);
	return r ? r : tar_put_done(&p->w);
}

static int put_other(struct pack *p, int dir, const char *name, const char *path, const struct stat *st)
{
	char target[PATH_LEN_MAX + 1];
	struct tar_item it = item_of(path, st);
	ssize_t n = 0;

	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(dir, name, target, sizeof(target));
		if (n < 0 || n == sizeof(target)) {
			complain(p, path, n < 0 ? -errno : -ENAMETOOLONG);
			return 0;
		}
		it.link = SPAN(target, (size_t)n);
	} else if (!S_ISFIFO(st->st_mode)) {
		complain(p, path, -EINVAL);
		return 0;
	}
	(void)earlier(p, st, path);
	return tar_put_item(&p->w, &it, NULL, 0);
}

static int put_dir(struct pack *p, int fd, const char *path);

static int put_one(struct pack *p, int dir, const char *name, const char *path)
{
	AUTO(fd_close) int fd = -1;
	const char *was;
	struct stat st;

	if (strlen(path) > PATH_LEN_MAX || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		complain(p, path, strlen(path) > PATH_LEN_MAX ? -ENAMETOOLONG : -errno);
		return 0;
	}
	if (S_ISDIR(st.st_mode)) {
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			return put_dir(p, fd, path);
		complain(p, path, -errno);
		return 0;
	}
	was = st.st_nlink > 1 ? map_get(&p->names, SPAN(((uint64_t[]){ st.st_dev, st.st_ino }), 16)) : NULL;
	if (was) {
		struct tar_item it = item_of(path, &st);

		it.is_link = true;
		it.link = span_str(was);
		return tar_put_item(&p->w, &it, NULL, 0);
	}
	return S_ISREG(st.st_mode) ? put_file(p, dir, name, path) : put_other(p, dir, name, path, &st);
}

/* The directory itself, then what is in it. @path: "." is the top. */
static int put_dir(struct pack *p, int fd, const char *path)
{
	AUTO(buf_fini) struct buf xattrs;
	struct tar_item it;
	struct dirent *one;
	struct stat st;
	DIR *d;
	int r;

	buf_init(&xattrs, XATTR_PACKED_LEN);
	r = fstat(fd, &st) < 0 ? -errno : xattrs_of(fd, &xattrs);
	if (r < 0) {
		complain(p, path, r);
		return 0;
	}
	it = item_of(path, &st);
	it.xattrs = buf_span(&xattrs);
	r = tar_put_item(&p->w, &it, NULL, 0);
	if (r < 0)
		return r;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		complain(p, path, -errno);
		fd_close(&fd);
		return 0;
	}
	while (r == 0 && (one = readdir(d))) {
		AUTO(str_free) char *below = path_join(str_eq(path, ".") ? "" : path, one->d_name);

		if (!str_eq(one->d_name, ".") && !str_eq(one->d_name, ".."))
			r = put_one(p, dirfd(d), one->d_name, below);
	}
	closedir(d);
	return r;
}

/* When the other end was left, the daemon has said why. An archive that is cut off is refused. */
static void *pack_run(void *ctx)
{
	struct pack *p = ctx;
	int r = put_dir(p, p->top, ".");

	if (r == 0)
		r = tar_put_end(&p->w);
	if (r == 0)
		r = send_out(p);
	if (r < 0 && r != -EPIPE)
		complain(p, ".", r);
	fd_close(&p->fd);
	return NULL;
}

/* For the bar alone. */
static uint64_t bar_all;

static int count(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)path;
	(void)at;
	if (type == FTW_F)
		bar_all += MIN((uint64_t)st->st_size, (uint64_t)st->st_blocks * 512);
	return 0;
}

static void finish(struct pack *p, struct cli_copy *c)
{
	size_t i;
	void *one;

	for (i = 0; i < p->complaints.len; i++) {
		cli_copy_complain(c, p->complaints.v[i].path, p->complaints.v[i].why);
		free(p->complaints.v[i].path);
	}
	vec_fini(&p->complaints);
	while ((one = map_take_any(&p->names)))
		free(one);
	map_fini(&p->names);
	free(p->out);
	free(p->piece);
	free(p->map);
}

void cli_copy_tree_in(struct cli_copy *c, const char *from, const char *to, bool keep_top)
{
	struct pack p = { .shown = from, .fd = -1 };
	struct berth_error e;
	uint64_t left_out = 0;
	pthread_t thread;
	int pipe_fd[2], r;

	p.top = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p.top < 0 || pipe2(pipe_fd, O_CLOEXEC) < 0) {
		cli_copy_complain(c, from, strerror(errno));
		fd_close(&p.top);
		return;
	}
	(void)!fcntl(pipe_fd[1], F_SETPIPE_SZ, PIPE_B);
	p.fd = pipe_fd[1];
	p.w = (struct tar_writer){ .put = put, .ctx = &p };
	p.out = must_calloc(1, GATHER);
	p.piece = must_calloc(1, TAR_PIECE);
	p.map = must_calloc(TAR_MAP_MAX, sizeof(*p.map));
	bar_all = 0;
	if (!c->quiet && isatty(STDERR_FILENO))
		(void)!nftw(from, count, OPEN_MAX_FTW, FTW_PHYS);
	cli_progress(c->b, c->quiet, from, bar_all);
	r = pthread_create(&thread, NULL, pack_run, &p);
	if (r) {
		cli_copy_complain(c, from, strerror(r));
		fd_close(&p.fd);
	} else {
		r = berth_put_archive(c->b, c->id, to, keep_top, pipe_fd[0], &left_out, &e);
		close(pipe_fd[0]);
		pipe_fd[0] = -1;
		pthread_join(thread, NULL);
		if (r < 0)
			cli_copy_complain(c, from, e.text);
	}
	fd_close(&pipe_fd[0]);
	fd_close(&p.top);
	finish(&p, c);
}
