/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trees removed here are templates and directories of ours, but strangers chose what templates hold. Everything
 * goes through openat2, which refuses links and mount points by itself; a path is never put together. Recursion is
 * bounded: it holds two descriptors a level.
 */
#include "host/priv/tree.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GONE ".gone-"

enum { DEPTH_MAX = 256 };

static int remove_entry(int dirfd, const char *name, int depth);

static int open_below(int dirfd, const char *name)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
	long fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static bool is_among(const char *const *names, const char *name)
{
	while (names && *names)
		if (str_eq(*names++, name))
			return true;
	return false;
}

static int empty_dir(int dirfd, const char *const *except, int depth)
{
	int fd = open_below(dirfd, "."), r = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!d)
		return fd < 0 ? fd : -ENOMEM;
	while (r == 0 && (de = readdir(d))) {
		if (str_eq(de->d_name, ".") || str_eq(de->d_name, "..") || is_among(except, de->d_name))
			continue;
		r = remove_entry(dirfd, de->d_name, depth);
		r = r == -ENOENT ? 0 : r; /* somebody else did it */
	}
	closedir(d);
	return r;
}

static int remove_entry(int dirfd, const char *name, int depth)
{
	AUTO(fd_close) int fd = -1;
	int r;

	if (unlinkat(dirfd, name, 0) == 0)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth >= DEPTH_MAX)
		return -ELOOP;
	fd = open_below(dirfd, name);
	if (fd < 0)
		return fd;
	r = empty_dir(fd, NULL, depth + 1);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int tree_empty(int dirfd, const char *const *except)
{
	return empty_dir(dirfd, except, 0);
}

int tree_remove(int dirfd, const char *name)
{
	return remove_entry(dirfd, name, 0);
}

static void remove_in_child(int dirfd, const char *name)
{
	pid_t pid = fork();

	if (pid > 0)
		return;
	/* The lock on the state directory and the socket are open in it, too, and it may take longer than its parent.
	 */
	if (pid == 0 && (dirfd < 4 || close_range(3, (unsigned)dirfd - 1, 0) == 0))
		close_range((unsigned)dirfd + 1, ~0U, 0);
	(void)!tree_remove(dirfd, name);
	if (pid == 0)
		_exit(0);
}

int tree_remove_later(int dirfd, const char *name)
{
	char gone[NAME_MAX + 1];
	int n = snprintf(gone, sizeof(gone), "%s%s-%llx", GONE, name, (unsigned long long)clock_now());

	if (n < 0 || (size_t)n >= sizeof(gone))
		return -ENAMETOOLONG;
	if (renameat(dirfd, name, dirfd, gone) < 0)
		return -errno;
	remove_in_child(dirfd, gone);
	return 0;
}

void tree_sweep(int dirfd)
{
	int fd = open_below(dirfd, ".");
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, GONE))
			remove_in_child(dirfd, de->d_name);
	if (d)
		closedir(d);
}
