/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that fails, as a library to preload: while the file $FAIL_IO exists, what goes to files below "/store/" fails
 * with EIO. Its words choose what: "write", "sync", or both; a number makes one of so many calls fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static unsigned calls;

static bool must_fail(int fd, const char *what)
{
	const char *trigger = getenv("FAIL_IO"), *digit;
	char path[64], target[4096], words[64];
	int saved = errno, file;
	ssize_t n;
	bool yes = false;

	file = trigger ? open(trigger, O_RDONLY | O_CLOEXEC) : -1;
	if (file >= 0) {
		n = read(file, words, sizeof(words) - 1);
		words[n > 0 ? n : 0] = '\0';
		close(file);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		digit = strpbrk(words, "123456789");
		yes = strstr(target, "/store/") && strstr(words, what) &&
		      __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % (digit ? (unsigned)atoi(digit) : 1U) == 0;
	}
	errno = yes ? EIO : saved;
	return yes;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *p, size_t len, off_t at)
{
	return must_fail(fd, "write") ? -1 : REAL(pwrite)(fd, p, len, at);
}

ssize_t pwrite64(int fd, const void *p, size_t len, off64_t at)
{
	return must_fail(fd, "write") ? -1 : REAL(pwrite64)(fd, p, len, at);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
	return must_fail(fd, "write") ? -1 : REAL(pwritev)(fd, v, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
	return must_fail(fd, "write") ? -1 : REAL(pwritev64)(fd, v, n, at);
}

ssize_t write(int fd, const void *p, size_t len)
{
	return must_fail(fd, "write") ? -1 : REAL(write)(fd, p, len);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	return must_fail(fd, "write") ? -1 : REAL(writev)(fd, v, n);
}

int fsync(int fd)
{
	return must_fail(fd, "sync") ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return must_fail(fd, "sync") ? -1 : REAL(fdatasync)(fd);
}
