/* SPDX-License-Identifier: Apache-2.0 */
/* The archive says itself that it is whole: behind the last line of its manifest, "end", there are zeros only. */
#include "client/inside.h"

#include "base/io.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { TAIL = 2048, ZEROS_MIN = 1024, PIECE = 256 * 1024, QUIET_MS = 120000 };

struct tail {
	char b[TAIL];
	size_t len;
};

static void keep(struct tail *t, const char *p, size_t n)
{
	size_t stay;

	if (n >= TAIL) {
		memcpy(t->b, p + n - TAIL, TAIL);
		t->len = TAIL;
		return;
	}
	stay = t->len + n > TAIL ? TAIL - n : t->len;
	memmove(t->b, t->b + t->len - stay, stay);
	memcpy(t->b + stay, p, n);
	t->len = stay + n;
}

static bool is_whole(const struct tail *t)
{
	size_t n = t->len;

	while (n && t->b[n - 1] == '\0')
		n--;
	return t->len - n >= ZEROS_MIN && n >= 4 && memcmp(t->b + n - 4, "end\n", 4) == 0;
}

static int take_all(int fd, int to_fd, struct tail *tail, struct berth_error *e)
{
	char *piece = must_calloc(PIECE, 1);
	ssize_t n = 0;
	int r = 0;

	while (r == 0) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };

		if (poll(&pfd, 1, QUIET_MS) == 0) {
			r = client_error(e, -ETIMEDOUT, "timeout", "the daemon says nothing any more");
			break;
		}
		n = read(fd, piece, PIECE);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			break;
		keep(tail, piece, (size_t)n);
		r = io_write_full(to_fd, piece, (size_t)n);
		if (r < 0)
			client_error(e, r, "write", "the backup cannot be written");
	}
	free(piece);
	return r;
}

int berth_backup(struct berth *b, int to_fd, struct berth_error *e)
{
	struct tail tail = { .len = 0 };
	struct buf in;
	int fd = -1, r;

	buf_init(&in, 1024 * 1024);
	r = client_upgrade(b, "GET", "/v1/backup", SPAN_NULL, -1, &fd, &in, e);
	if (r == 0) {
		struct span first = buf_span(&in);

		keep(&tail, (const char *)first.p, first.len);
		r = io_write_full(to_fd, first.p, first.len);
		if (r == 0)
			r = take_all(fd, to_fd, &tail, e);
		else
			client_error(e, r, "write", "the backup cannot be written");
	}
	if (r == 0 && !is_whole(&tail))
		r = client_error(e, -EPIPE, "cut-off", "the daemon broke off; its log says why");
	if (fd >= 0)
		close(fd);
	buf_fini(&in);
	return r;
}
