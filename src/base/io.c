/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, writing and passing descriptors; everything retries EINTR and reports -errno. */
#include "base/io.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static int fd_flag(int fd, int get, int set, int flag, bool on)
{
	int flags = fcntl(fd, get);

	if (flags < 0)
		return -errno;
	flags = on ? flags | flag : flags & ~flag;
	return fcntl(fd, set, flags) < 0 ? -errno : 0;
}

int fd_nonblock(int fd, bool on)
{
	return fd_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_cloexec(int fd, bool on)
{
	return fd_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

void fd_shed(int listener, int *spare)
{
	int got;

	fd_close(spare);
	got = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	fd_close(&got);
	*spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int io_read_full(int fd, void *p, size_t len)
{
	char *to = p;

	while (len) {
		ssize_t n = read(fd, to, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		to += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_write_full(int fd, const void *p, size_t len)
{
	const char *from = p;

	while (len) {
		ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

		if (n < 0 && errno == ENOTSOCK)
			n = write(fd, from, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		from += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_read_file(int dirfd, const char *path, struct buf *b)
{
	AUTO(fd_close) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (;;) {
		size_t room = MIN(buf_room(b), (size_t)65536);
		char extra;
		void *to = room ? buf_reserve(b, room) : &extra;
		ssize_t n;

		if (!to)
			return -ENOMEM;
		n = read(fd, to, room ? room : 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		if (!room)
			return -E2BIG;
		buf_commit(b, (size_t)n);
	}
}

int io_write_file(int dirfd, const char *path, const void *p, size_t len, mode_t mode)
{
	AUTO(str_free) char *tmp = str_printf("%s.tmp-%d", path, (int)getpid());
	AUTO(str_free) char *copy = must_strdup(path);
	AUTO(fd_close) int fd = -1;
	AUTO(fd_close) int dir = -1;
	int r;

	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	r = io_write_full(fd, p, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, tmp, 0);
		return r;
	}
	dir = openat(dirfd, dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 || fsync(dir) < 0 ? -errno : 0;
}

int io_mkdir_p(const char *path, mode_t mode)
{
	AUTO(str_free) char *copy = must_strdup(path);
	char *p;

	for (p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

union fd_control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * IO_FDS_MAX)];
};

int io_send_fds(int sock, const void *p, size_t len, const int *fds, size_t n)
{
	union fd_control control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (n > IO_FDS_MAX)
		return -EINVAL;
	if (n) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	}
	do
		sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == len ? 0 : -EMSGSIZE;
}

ssize_t io_recv_fds(int sock, void *p, size_t len, int *fds, size_t *n)
{
	union fd_control control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = p, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t room = *n, got = 0, i;
	int all[IO_FDS_MAX];
	struct cmsghdr *c;
	ssize_t r;

	msg.msg_control = control.bytes;
	msg.msg_controllen = sizeof(control.bytes);
	do
		r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) && got < IO_FDS_MAX; i++)
			memcpy(&all[got++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	if (got > room || (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
		for (i = 0; i < got; i++)
			close(all[i]);
		return -EMSGSIZE;
	}
	if (got)
		memcpy(fds, all, got * sizeof(int));
	*n = got;
	return r;
}

/* Fill a socket address; long paths go through a descriptor of their directory, which the caller keeps until after
 * bind or connect. */
static int unix_address(const char *path, struct sockaddr_un *sa, int *dir, struct err *e)
{
	AUTO(str_free) char *copy = must_strdup(path);
	const char *slash = strrchr(path, '/');
	int n;

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof(sa->sun_path)) {
		memcpy(sa->sun_path, path, strlen(path));
		return 0;
	}
	*dir = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir < 0)
		return err_sys(e, -errno, "%s", path);
	n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", *dir, slash ? slash + 1 : path);
	if (n < 0 || (size_t)n >= sizeof(sa->sun_path))
		return err_set(e, -ENAMETOOLONG, "name-too-long", "socket name too long: %s", path);
	return 0;
}

int io_unix_connect(const char *path, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int dir = -1;
	AUTO(fd_close) int fd = -1;
	struct sockaddr_un sa;
	int r = unix_address(path, &sa, &dir, e);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, -errno, "socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_sys(e, -errno, "cannot connect to %s", path);
	*ret_fd = fd_take(&fd);
	return 0;
}

int io_unix_listen(const char *path, mode_t mode, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int dir = -1;
	AUTO(fd_close) int fd = -1;
	AUTO(fd_close) int probe = -1;
	struct sockaddr_un sa;
	struct stat st;
	int r = unix_address(path, &sa, &dir, e);

	if (r < 0)
		return r;
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(e, -EEXIST, "not-a-socket", "%s is there and is not a socket", path);
		if (io_unix_connect(path, &probe, NULL) == 0)
			return err_set(e, -EADDRINUSE, "socket-in-use", "somebody already answers on %s", path);
		if (unlink(path) < 0)
			return err_sys(e, -errno, "cannot remove the stale socket %s", path);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, -errno, "socket");
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_sys(e, -errno, "cannot bind %s", path);
	if (chmod(path, mode) < 0 || listen(fd, 128) < 0)
		return err_sys(e, -errno, "cannot listen on %s", path);
	*ret_fd = fd_take(&fd);
	return 0;
}
