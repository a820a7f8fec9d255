/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/ahead.h"

#include "base/io.h"
#include "guest/node.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COLD_FILES = 256 };

ssize_t ahead_read(struct ahead *a, int fd, void *to, size_t len, off_t at)
{
	struct iovec v = { .iov_base = to, .iov_len = len };
	ssize_t n;

	if (!a->blind) {
		n = preadv2(fd, &v, 1, at, RWF_NOWAIT);
		if (n >= 0 || errno == EINTR)
			return n;
		if (errno == EAGAIN)
			a->cold = COLD_FILES;
		else
			a->blind = true;
	}
	return pread(fd, to, len, at);
}

bool ahead_due(struct ahead *a)
{
	if (!a->cold)
		return false;
	a->cold--;
	return a->n < AHEAD_FILES / 2;
}

void ahead_of(int dirfd, const char *name)
{
	AUTO(fd_close)
	int fd = node_open(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_NOATIME, 0, false);

	if (fd >= 0)
		(void)!posix_fadvise(fd, 0, AHEAD_LEN, POSIX_FADV_WILLNEED);
}
