/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. One descriptor is open at a time: the walk goes down into the first directory that it finds, and up again by
 * "..", checking that it arrives where it came from, because a process may move directories about while we remove.
 * Deep trees cost time, not descriptors or stack.
 */
#include "guest/files.h"

#include "base/io.h"
#include "base/str.h"
#include "base/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS_MAX = 4, DEPTH_MAX = 100000 };

struct level {
	dev_t dev;
	ino_t ino;
	char name[256]; /* in its parent */
};

typedef VEC(struct level) levels;

static int push(levels *l, int fd, const char *name)
{
	struct level level;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (l->len >= DEPTH_MAX)
		return -ELOOP;
	memset(&level, 0, sizeof(level));
	level.dev = st.st_dev;
	level.ino = st.st_ino;
	if (str_copy(level.name, sizeof(level.name), name) < 0)
		return -ENAMETOOLONG;
	vec_push(l, level);
	return 0;
}

/* Unlink all files of a directory. Return: 0; 1 and the name of a directory in it; -errno. */
static int empty_files(int fd, char ret[256])
{
	int copy = node_open(fd, "", O_RDONLY | O_DIRECTORY, 0, false);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = copy < 0 ? copy : -errno;
		fd_close(&copy);
		return r;
	}
	while (r == 0 && (d = readdir(dir))) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, d->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR) {
			r = -errno;
		} else {
			r = str_copy(ret, 256, d->d_name) < 0 ? -ENAMETOOLONG : 1;
		}
	}
	closedir(dir);
	return r;
}

static int go_up(int fd, const struct level *to)
{
	int up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (up < 0)
		return -errno;
	if (fstat(up, &st) < 0 || st.st_dev != to->dev || st.st_ino != to->ino) {
		close(up);
		return -EBUSY; /* somebody moved it while we were inside */
	}
	return up;
}

static int remove_dir(int dirfd, const char *name, levels *l)
{
	AUTO(fd_close) int at = node_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, false);
	char child[256];
	int r = at < 0 ? at : push(l, at, name);

	while (r == 0) {
		int next;

		r = empty_files(at, child);
		if (r < 0)
			return r;
		if (r == 1) {
			next = node_open(at, child, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, false);
			r = next < 0 ? next : push(l, next, child);
		} else if (l->len == 1) {
			return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
		} else {
			l->len--;
			(void)!str_copy(child, sizeof(child), l->v[l->len].name);
			next = go_up(at, &l->v[l->len - 1]);
			r = next < 0 ? next : 0;
			if (r == 0 && unlinkat(next, child, AT_REMOVEDIR) < 0 && errno != ENOENT && errno != ENOTEMPTY)
				r = -errno;
		}
		if (next >= 0) {
			fd_close(&at);
			at = next;
		}
	}
	return r;
}

int remove_tree(int dirfd, const char *name)
{
	int round, r = 0;

	for (round = 0; round < ROUNDS_MAX; round++) {
		levels l = { 0 };

		if (unlinkat(dirfd, name, 0) == 0)
			return 0;
		if (errno != EISDIR)
			return -errno;
		r = remove_dir(dirfd, name, &l);
		vec_fini(&l);
		if (r != -ENOTEMPTY && r != -ENOENT && r != -EBUSY)
			return r;
	}
	return r;
}
