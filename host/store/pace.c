/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both functions are weak: a test that stands between LMDB and its file defines its own. The C library's, or those of a
 * preloaded library, are looked up once.
 */
#include "host/store/pace.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEEN_BY_LIBRARIES __attribute__((weak, visibility("default")))

static struct {
	ssize_t (*pwrite)(int, const void *, size_t, off_t);
	ssize_t (*write)(int, const void *, size_t);
	ssize_t (*writev)(int, const struct iovec *, int);
} next;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local bool paced;

static void find_next(void)
{
	*(void **)&next.pwrite = dlsym(RTLD_NEXT, "pwrite");
	*(void **)&next.write = dlsym(RTLD_NEXT, "write");
	*(void **)&next.writev = dlsym(RTLD_NEXT, "writev");
}

void pace_begin(void)
{
	paced = true;
}

void pace_end(void)
{
	paced = false;
}

/* As pwrite(), or as write() where @at is negative: a short count when a later piece fails or is short. */
static ssize_t in_pieces(int fd, const char *p, size_t len, off_t at)
{
	size_t done = 0, piece;
	ssize_t n;

	do {
		piece = len - done < PACE_PIECE_B ? len - done : PACE_PIECE_B;
		n = at < 0 ? next.write(fd, p + done, piece) : next.pwrite(fd, p + done, piece, at + (off_t)done);
		if (n < 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
	} while ((size_t)n == piece && done < len);
	return (ssize_t)done;
}

SEEN_BY_LIBRARIES ssize_t pwrite(int fd, const void *p, size_t len, off_t at)
{
	pthread_once(&once, find_next);
	if (!paced || at < 0)
		return next.pwrite(fd, p, len, at);
	return in_pieces(fd, p, len, at);
}

/* How many of @parts fit into a piece, and what they come to. */
static int fit(const struct iovec *parts, int n_parts, size_t *ret_len)
{
	size_t len = 0;
	int n = 0;

	while (n < n_parts && len + parts[n].iov_len <= PACE_PIECE_B)
		len += parts[n++].iov_len;
	*ret_len = len;
	return n;
}

SEEN_BY_LIBRARIES ssize_t writev(int fd, const struct iovec *parts, int n_parts)
{
	ssize_t total = 0, n;
	size_t len;
	int i = 0, k;

	pthread_once(&once, find_next);
	if (!paced)
		return next.writev(fd, parts, n_parts);
	do {
		k = fit(parts + i, n_parts - i, &len);
		if (k > 0 || n_parts == 0) {
			n = next.writev(fd, parts + i, k);
		} else {
			k = 1;
			len = parts[i].iov_len;
			n = in_pieces(fd, parts[i].iov_base, len, -1);
		}
		if (n < 0)
			return total ? total : n;
		total += n;
		i += k;
	} while (i < n_parts && (size_t)n == len);
	return total;
}
