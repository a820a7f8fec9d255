/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. An address has a word in front that chooses a row of a table. Every dial has a deadline, also the hybrid
 * handshake: back ends differ in everything but this: one write of "CONNECT PORT\n" and nothing with it, then one line
 * that begins with "OK ". It is read byte by byte, since what follows the newline already belongs to the stream.
 * When nobody listens inside yet, a back end closes without a byte or resets; all of that is -ECONNREFUSED.
 */
#include "wire/xport.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
/* sys/socket.h must come first */
#include <linux/vm_sockets.h>
#include <unistd.h>

enum { HYBRID_LINE_MAX = 64, BACKLOG = 128 };

typedef int xport_fn(const char *rest, uint64_t until, int *ret_fd, struct err *e);

static int bad_address(const char *rest, struct err *e)
{
	return err_set(e, -EINVAL, "bad-address", "not an address: %s", rest);
}

static int wait_for(int fd, short events, uint64_t until)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n;

	do
		n = poll(&p, 1, clock_left_ms(until));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

static int dial_unix(const char *path, uint64_t until, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	int r;

	(void)until; /* a connect on this machine answers at once */
	if (!*path)
		return bad_address(path, e);
	r = io_unix_connect(path, &fd, e);
	if (r == 0)
		r = fd_nonblock(fd, true);
	if (r < 0)
		return r == -ENOENT ? err_set(e, -ECONNREFUSED, "not-listening", "no socket at %s", path) : r;
	*ret_fd = fd_take(&fd);
	return 0;
}

/* Split "PATH:PORT" at the last colon. */
static int split_port(const char *rest, char **ret_head, uint64_t *ret_port, struct err *e)
{
	const char *colon = strrchr(rest, ':');

	if (!colon || colon == rest || num_u64(colon + 1, UINT32_MAX - 1, ret_port) < 0)
		return bad_address(rest, e);
	*ret_head = span_dup(SPAN(rest, (size_t)(colon - rest)));
	return 0;
}

static int refused(struct err *e, const char *path)
{
	return err_set(e, -ECONNREFUSED, "not-listening", "nobody listens behind %s yet", path);
}

static int hybrid_answer(int fd, const char *path, uint64_t until, struct err *e)
{
	char line[HYBRID_LINE_MAX];
	size_t got = 0;

	for (;;) {
		ssize_t n;
		int r = wait_for(fd, POLLIN, until);

		if (r < 0)
			return err_sys(e, r, "handshake with %s", path);
		n = read(fd, line + got, 1);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return refused(e, path);
		if (line[got] == '\n')
			break;
		if (++got == sizeof(line))
			return err_set(e, -EPROTO, "bad-handshake", "%s answers with a long line", path);
	}
	if (got < 3 || memcmp(line, "OK ", 3) != 0)
		return err_set(e, -EPROTO, "bad-handshake", "%s does not answer OK", path);
	return 0;
}

static int dial_hybrid(const char *rest, uint64_t until, int *ret_fd, struct err *e)
{
	AUTO(str_free) char *path = NULL;
	AUTO(fd_close) int fd = -1;
	char hello[HYBRID_LINE_MAX];
	uint64_t port = 0;
	int r, len;

	r = split_port(rest, &path, &port, e);
	if (r == 0)
		r = dial_unix(path, until, &fd, e);
	if (r < 0)
		return r;
	len = snprintf(hello, sizeof(hello), "CONNECT %u\n", (unsigned)port);
	if (send(fd, hello, (size_t)len, MSG_NOSIGNAL) != len)
		return refused(e, path);
	r = hybrid_answer(fd, path, until, e);
	if (r < 0)
		return r;
	*ret_fd = fd_take(&fd);
	return 0;
}

static int vsock_address(const char *rest, struct sockaddr_vm *ret, struct err *e)
{
	AUTO(str_free) char *cid_text = NULL;
	uint64_t port = 0, cid = UINT32_MAX; /* VMADDR_CID_ANY */
	int r = split_port(rest, &cid_text, &port, e);

	if (r < 0)
		return r;
	if (!str_eq(cid_text, "any") && num_u64(cid_text, UINT32_MAX, &cid) < 0)
		return bad_address(rest, e);
	*ret = (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = (unsigned)cid, .svm_port = (unsigned)port };
	return 0;
}

static int vsock_socket(int *ret, struct err *e)
{
	*ret = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return *ret < 0 ? err_sys(e, -errno, "vsock socket") : 0;
}

static int dial_vsock(const char *rest, uint64_t until, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	struct sockaddr_vm sa;
	socklen_t len = sizeof(int);
	int failed = 0, r;

	r = vsock_address(rest, &sa, e);
	if (r == 0)
		r = vsock_socket(&fd, e);
	if (r < 0)
		return r;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno != EINPROGRESS)
			return err_sys(e, errno == ECONNRESET ? -ECONNREFUSED : -errno, "vsock:%s", rest);
		r = wait_for(fd, POLLOUT, until);
		if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) < 0)
			r = -errno;
		if (r == 0)
			r = failed == ECONNRESET ? -ECONNREFUSED : -failed;
		if (r < 0)
			return err_sys(e, r, "vsock:%s", rest);
	}
	*ret_fd = fd_take(&fd);
	return 0;
}

/* A descriptor that was handed down: ours from now on. */
static int take_fd(const char *rest, uint64_t until, int *ret_fd, struct err *e)
{
	uint64_t n = 0;
	int r;

	(void)until;
	if (num_u64(rest, INT32_MAX, &n) < 0)
		return bad_address(rest, e);
	r = fd_nonblock((int)n, true);
	if (r == 0)
		r = fd_cloexec((int)n, true);
	if (r < 0)
		return err_sys(e, r, "descriptor %d", (int)n);
	*ret_fd = (int)n;
	return 0;
}

static int listen_unix(const char *path, uint64_t until, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	int r;

	(void)until;
	if (!*path)
		return bad_address(path, e);
	r = io_unix_listen(path, 0600, &fd, e);
	if (r == 0)
		r = fd_nonblock(fd, true);
	if (r < 0)
		return r;
	*ret_fd = fd_take(&fd);
	return 0;
}

static int listen_vsock(const char *rest, uint64_t until, int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	struct sockaddr_vm sa;
	int r;

	(void)until;
	r = vsock_address(rest, &sa, e);
	if (r == 0)
		r = vsock_socket(&fd, e);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, BACKLOG) < 0)
		return err_sys(e, -errno, "cannot listen on vsock:%s", rest);
	*ret_fd = fd_take(&fd);
	return 0;
}

static const struct {
	const char *prefix;
	xport_fn *dial, *listen;
} kinds[] = {
	{ "unix:", dial_unix, listen_unix },
	{ "hybrid:", dial_hybrid, NULL },
	{ "vsock:", dial_vsock, listen_vsock },
	{ "fd:", take_fd, take_fd },
};

static int open_address(const char *address, bool dial, uint64_t until, int *ret_fd, struct err *e)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		xport_fn *fn = dial ? kinds[i].dial : kinds[i].listen;

		if (str_starts(address, kinds[i].prefix) && fn)
			return fn(address + strlen(kinds[i].prefix), until, ret_fd, e);
	}
	return bad_address(address, e);
}

int xport_connect(const char *address, uint64_t until, int *ret_fd, struct err *e)
{
	return open_address(address, true, until, ret_fd, e);
}

int xport_listen(const char *address, int *ret_fd, struct err *e)
{
	return open_address(address, false, 0, ret_fd, e);
}

int xport_accept(int listener, int *ret_fd)
{
	struct sockaddr_storage sa = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(sa);
	AUTO(fd_close) int fd = -1;

	do
		fd = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	if (sa.ss_family == AF_VSOCK) {
		struct sockaddr_vm vm;

		memcpy(&vm, &sa, sizeof(vm));
		if (vm.svm_cid != VMADDR_CID_HOST)
			return -EPERM;
	}
	*ret_fd = fd_take(&fd);
	return 0;
}
