/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A capture is for the whole process and is asked for by the environment, so its descriptor is one of the few
 * variables of file scope. The file is opened for appending and each record is one writev(2): records of several
 * threads and of several programs with the same file never mix. A HELLO is written with a zeroed token; one that does
 * not decode is written with a zeroed payload, because nobody knows where its token is.
 */
#include "wire/trace.h"

#include "base/clock.h"
#include "base/io.h"
#include "wire/frame.h"
#include "wire/hide.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RECORD_HEAD = 16, LINE_MAX_B = 64 * 1024 };

static const char magic[8] = "berthwt1";
static int trace_fd = -1; /* set once at start, before any thread */

int trace_open(struct err *e)
{
	const char *path = getenv("BERTH_TRACE");
	AUTO(fd_close) int fd = -1;
	struct stat st;

	if (!path || !*path || trace_fd >= 0)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "cannot trace to %s", path);
	if (st.st_size == 0 && write(fd, magic, sizeof(magic)) != (ssize_t)sizeof(magic))
		return err_sys(e, -errno, "cannot trace to %s", path);
	trace_fd = fd_take(&fd);
	return 0;
}

static void put32(uint8_t *to, uint32_t v)
{
	to[0] = (uint8_t)(v >> 24);
	to[1] = (uint8_t)(v >> 16);
	to[2] = (uint8_t)(v >> 8);
	to[3] = (uint8_t)v;
}

/* The payload as it may be written: a HELLO loses its token, a SECRET all that is in it. */
static struct span without_token(unsigned type, struct span payload, struct buf *scratch)
{
	static const uint8_t zero[64];
	struct msg_HELLO m;
	size_t i;

	if (type != MSG_HELLO && !hide_in_captures(type))
		return payload;
	if (type == MSG_HELLO && msg_decode(MSG_HELLO, payload, &m, NULL) == 0) {
		m.token = SPAN(zero, MIN(m.token.len, sizeof(zero)));
		if (msg_encode(scratch, MSG_HELLO, &m) == 0)
			return buf_span(scratch);
	}
	for (i = 0; i < payload.len; i++)
		(void)buf_append(scratch, zero, 1);
	return buf_span(scratch);
}

static void capture(unsigned conn, char dir, unsigned type, struct span payload)
{
	uint8_t head[RECORD_HEAD + FRAME_HEADER] = { 0 };
	AUTO(buf_fini) struct buf scratch;
	uint64_t now;
	struct iovec iov[2];

	buf_init(&scratch, FRAME_MAX);
	payload = without_token(type, payload, &scratch);
	now = (uint64_t)clock_wall();
	put32(head, (uint32_t)(now >> 32));
	put32(head + 4, (uint32_t)now);
	put32(head + 8, conn);
	head[12] = (uint8_t)dir;
	put32(head + RECORD_HEAD, (uint32_t)payload.len);
	head[RECORD_HEAD + 4] = (uint8_t)type;
	iov[0] = (struct iovec){ .iov_base = head, .iov_len = sizeof(head) };
	iov[1] = (struct iovec){ .iov_base = (void *)(uintptr_t)payload.p, .iov_len = payload.len };
	(void)!writev(trace_fd, iov, 2);
}

void trace_frame(unsigned conn, char dir, unsigned type, struct span payload)
{
	if (trace_fd >= 0)
		capture(conn, dir, type, payload);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v = 0;
	size_t i;

	for (i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static int dump_record(const uint8_t *head, const struct frame *f, int out)
{
	AUTO(buf_fini) struct buf line;
	uint64_t ns = get64(head);

	buf_init(&line, LINE_MAX_B);
	(void)buf_printf(&line, "%" PRIu64 ".%06" PRIu64 " %" PRIu64 " %c ", (uint64_t)(ns / CLOCK_S),
			 (uint64_t)(ns % CLOCK_S / 1000),
			 get64(head + 4) & UINT32_MAX, head[12] == '>' ? '>' : '<');
	msg_dump(&line, f->type, f->payload);
	line.limit += 1; /* the newline is always there, also behind a line that was cut */
	(void)buf_append(&line, "\n", 1);
	return io_write_full(out, buf_span(&line).p, buf_len(&line));
}

/* Bring at least @len bytes into @b. Return: 0, -ENODATA at a clean end, -EBADMSG inside a record, -errno. */
static int fill(int fd, struct buf *b, size_t len)
{
	while (buf_len(b) < len) {
		void *to = buf_reserve(b, 65536);
		ssize_t n = to ? read(fd, to, 65536) : -1;

		if (n < 0)
			return to ? -errno : -ENOMEM;
		if (n == 0)
			return buf_len(b) ? -EBADMSG : -ENODATA;
		buf_commit(b, (size_t)n);
	}
	return 0;
}

static int dump_next(int fd, struct buf *b, int out, struct err *e)
{
	uint8_t head[RECORD_HEAD];
	struct frame f;
	int r = fill(fd, b, RECORD_HEAD + FRAME_HEADER);

	if (r < 0)
		return r;
	if (!buf_span(b).p)
		return -EBADMSG;
	memcpy(head, buf_span(b).p, sizeof(head));
	buf_consume(b, RECORD_HEAD);
	while ((r = frame_parse(b, &f, e)) == FRAME_E_MORE) {
		r = fill(fd, b, buf_len(b) + 1);
		if (r < 0)
			return r == -ENODATA ? -EBADMSG : r;
	}
	if (r == 0)
		r = dump_record(head, &f, out);
	if (r == 0)
		frame_consume(b, &f);
	return r;
}

int trace_dump(const char *path, int out, struct err *e)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO(buf_fini) struct buf b;
	int r;

	buf_init(&b, RECORD_HEAD + FRAME_HEADER + FRAME_MAX + 2 * 65536);
	if (fd < 0)
		return err_sys(e, -errno, "%s", path);
	r = fill(fd, &b, sizeof(magic));
	if (r < 0 || memcmp(buf_span(&b).p, magic, sizeof(magic)) != 0)
		return err_set(e, -EBADMSG, "not-a-capture", "%s is not a capture of the wire", path);
	buf_consume(&b, sizeof(magic));
	while (r == 0)
		r = dump_next(fd, &b, out, e);
	if (r == -ENODATA)
		return 0;
	if (r == -EBADMSG)
		return err_set(e, r, "broken-capture", "%s ends inside a record or is damaged", path);
	return err_sys(e, r, "dump of %s", path);
}
