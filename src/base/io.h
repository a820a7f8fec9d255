/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_IO_H
#define BASE_IO_H

/* Descriptors. Whatever the house opens is close-on-exec from birth. */
#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

/** fd_close() - destructor for an int slot: closes it when >= 0, sets it to -1, keeps errno. */
void fd_close(int *fd);
/** fd_take() - hand a descriptor over: yields it and sets the slot to -1. */
static inline int fd_take(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}
/** fd_nonblock() - set or clear O_NONBLOCK. Return: 0 or -errno. */
int fd_nonblock(int fd, bool on);
/** fd_cloexec() - set or clear FD_CLOEXEC. Return: 0 or -errno. */
int fd_cloexec(int fd, bool on);

/** fd_shed() - when no descriptor is left: take and close the connection that waits at @listener, for it would be
 * reported for ever. *@spare is an open descriptor that is kept for this, or -1. */
void fd_shed(int listener, int *spare);
/** io_read_full() - read exactly @len bytes of a blocking descriptor. Return: 0, -ENODATA at an early end, -errno. */
int io_read_full(int fd, void *p, size_t len) MUST_CHECK;
/** io_write_full() - write all of it. Return: 0 or -errno. Never raises SIGPIPE on sockets. */
int io_write_full(int fd, const void *p, size_t len) MUST_CHECK;
/** io_read_file() - a whole file (@path below @dirfd, AT_FDCWD) into @b, within its limit. Return: 0, -E2BIG, -errno.
 */
int io_read_file(int dirfd, const char *path, struct buf *b) MUST_CHECK;
/** io_write_file() - replace a file atomically: temporary name, fsync, rename, fsync of the directory. Return:
 * 0/-errno. */
int io_write_file(int dirfd, const char *path, const void *p, size_t len, mode_t mode) MUST_CHECK;
/** io_mkdir_p() - make a directory and its parents. Return: 0 (also when there), -errno. */
int io_mkdir_p(const char *path, mode_t mode) MUST_CHECK;

enum { IO_FDS_MAX = 8 };

/** io_send_fds() - one datagram or stream write of @len bytes with up to IO_FDS_MAX descriptors. Return: 0 or -errno.
 */
int io_send_fds(int sock, const void *p, size_t len, const int *fds, size_t n) MUST_CHECK;
/** io_recv_fds() - receive what io_send_fds() sent. Descriptors arrive close-on-exec and are yours; more than @max, or
 * a truncated control message, closes them all and fails.
 * @n: in: room in @fds; out: how many came.
 * Return: bytes received, 0 at the end of the stream, -errno. */
ssize_t io_recv_fds(int sock, void *p, size_t len, int *fds, size_t *n) MUST_CHECK;

/** io_unix_listen() - a listening stream socket at @path with @mode. A stale socket file that nobody answers is
 * replaced. Paths longer than sun_path go through /proc/self/fd. Return: 0; -EADDRINUSE (somebody answers); -errno. */
int io_unix_listen(const char *path, mode_t mode, int *ret_fd, struct err *e) MUST_CHECK;
/** io_unix_connect() - connect to @path (blocking, close-on-exec). Return: 0 or -errno. */
int io_unix_connect(const char *path, int *ret_fd, struct err *e) MUST_CHECK;

#endif
