/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our standard output and error without ever waiting in a write. Whoever started us shares their open files, so these
 * must not be made nonblocking: a pipe or a terminal is opened once more by way of /proc, a socket has a flag for it,
 * and where neither works a write of at most what poll(2) promises does. Files do not wait.
 */
#include "cli/output.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void output_init(struct output *o, int fd)
{
	char path[32];
	struct stat st;

	*o = (struct output){ .fd = fd, .own = -1 };
	buf_init(&o->wait, OUTPUT_WAIT_MAX);
	if (fstat(fd, &st) < 0 || S_ISREG(st.st_mode))
		return;
	o->may_wait = !S_ISSOCK(st.st_mode);
	o->socket = S_ISSOCK(st.st_mode);
	(void)!snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (S_ISFIFO(st.st_mode) || isatty(fd))
		o->own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	o->may_wait &= o->own < 0;
}

void output_fini(struct output *o)
{
	fd_close(&o->own);
	buf_fini(&o->wait);
}

bool output_ready(const struct output *o)
{
	struct pollfd p = { .fd = o->fd, .events = POLLOUT };

	return poll(&p, 1, 0) > 0 && (p.revents & POLLOUT);
}

/* Return: bytes written, 0 when it would wait, -errno. */
static ssize_t some(struct output *o, const void *p, size_t len)
{
	ssize_t n;

	if (o->may_wait && !output_ready(o))
		return 0;
	do
		n = o->socket ? send(o->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT)
			      : write(o->own >= 0 ? o->own : o->fd, p, o->may_wait ? MIN(len, (size_t)PIPE_BUF) : len);
	while (n < 0 && errno == EINTR);
	return n >= 0 ? n : errno == EAGAIN ? 0 : -errno;
}

int output_flush(struct output *o)
{
	while (buf_len(&o->wait)) {
		struct span rest = buf_span(&o->wait);
		ssize_t n = some(o, rest.p, rest.len);

		if (n < 0)
			buf_fini(&o->wait);
		if (n <= 0)
			return (int)n;
		o->written += (uint64_t)n;
		buf_consume(&o->wait, (size_t)n);
	}
	return 0;
}

int output_put(struct output *o, const void *data, size_t len)
{
	const char *p = data;
	int r = output_flush(o);

	while (r == 0 && len && !buf_len(&o->wait)) {
		ssize_t n = some(o, p, len);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		o->written += (uint64_t)n;
		p += n;
		len -= (size_t)n;
	}
	return r < 0 || !len ? r : buf_append(&o->wait, p, len);
}
