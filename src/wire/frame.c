/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. The header is checked as soon as its eight bytes are there, before a byte of payload is waited for: a length
 * over FRAME_MAX, a type that msg.def does not have or padding that is not zero ends the connection at once. So a
 * reader needs room for one frame and never believes more than that.
 */
#include "wire/frame.h"

#include "base/clock.h"
#include "base/str.h"
#include "wire/hide.h"
#include "wire/trace.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	TYPE_RECORD = 0x80, /* records never travel alone */
	LOOK_MS = 500
};

static size_t header_len(const uint8_t *h)
{
	return (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
}

int frame_parse(const struct buf *in, struct frame *ret, struct err *e)
{
	struct span all = buf_span(in);
	const uint8_t *h = all.p;
	size_t len;

	if (all.len < FRAME_HEADER)
		return FRAME_E_MORE;
	len = header_len(h);
	if (len > FRAME_MAX)
		return err_set(e, -EBADMSG, "bad-frame", "a frame of %zu bytes is too long", len);
	if (h[4] >= TYPE_RECORD || !msg_name(h[4]))
		return err_set(e, -EBADMSG, "bad-frame", "there is no message of type %u", (unsigned)h[4]);
	if (h[5] | h[6] | h[7])
		return err_set(e, -EBADMSG, "bad-frame", "the padding of a frame is not zero");
	if (all.len - FRAME_HEADER < len)
		return FRAME_E_MORE;
	*ret = (struct frame){ .type = h[4], .payload = SPAN(h + FRAME_HEADER, len) };
	return 0;
}

size_t frame_rest(const struct buf *in)
{
	struct span all = buf_span(in);
	size_t len = all.len < FRAME_HEADER ? 0 : header_len(all.p);

	return len <= FRAME_MAX && FRAME_HEADER + len > all.len ? FRAME_HEADER + len - all.len : 0;
}

void frame_consume(struct buf *in, const struct frame *f)
{
	buf_consume(in, FRAME_HEADER + f->payload.len);
}

static void put_header(uint8_t *h, enum msg_type type, size_t len)
{
	h[0] = (uint8_t)(len >> 24);
	h[1] = (uint8_t)(len >> 16);
	h[2] = (uint8_t)(len >> 8);
	h[3] = (uint8_t)len;
	h[4] = (uint8_t)type;
}

int frame_put(struct buf *out, enum msg_type type, const void *m)
{
	static const uint8_t none[FRAME_HEADER];
	size_t before = buf_len(out), len;
	bool failed = out->failed;
	int r;

	if ((unsigned)type >= TYPE_RECORD)
		return -EINVAL;
	r = buf_append(out, none, sizeof(none));
	if (r == 0)
		r = msg_encode(out, type, m);
	len = r == 0 ? buf_len(out) - before - FRAME_HEADER : 0;
	if (len > FRAME_MAX)
		r = -E2BIG;
	if (r < 0) {
		out->end = out->start + before;
		out->failed = failed;
		return r;
	}
	put_header(out->p + out->start + before, type, len);
	return 0;
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

int frame_send(int fd, enum msg_type type, const void *m, uint64_t until)
{
	return frame_send_unless(fd, type, m, until, NULL);
}

enum { SECRET_ROOM = 80 * 1024 };

/* A frame on its way. */
struct out {
	struct buf b;
	bool is_secret;
};

static void out_fini(struct out *o)
{
	if (o->is_secret && o->b.p)
		hide_wipe(o->b.p, o->b.cap);
	buf_fini(&o->b);
}

int frame_send_unless(int fd, enum msg_type type, const void *m, uint64_t until, const bool *stop)
{
	AUTO(out_fini) struct out o = { .is_secret = type == MSG_SECRET };
	int r;

	buf_init(&o.b, FRAME_HEADER + FRAME_MAX + FRAME_HEADER);
	if (o.is_secret && !buf_reserve(&o.b, SECRET_ROOM)) /* it is not moved, so all of it can be zeroed */
		return -ENOMEM;
	r = frame_put(&o.b, type, m);
	if (r < 0)
		return r;
	trace_frame((unsigned)fd, '>', type, SPAN(o.b.p + FRAME_HEADER, buf_len(&o.b) - FRAME_HEADER));
	while (buf_len(&o.b)) {
		struct span s = buf_span(&o.b);
		ssize_t n = send(fd, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			buf_consume(&o.b, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (stop && __atomic_load_n(stop, __ATOMIC_RELAXED))
			return -ECANCELED;
		r = wait_for(fd, POLLOUT, stop ? MIN(until, clock_after_ms(LOOK_MS)) : until);
		if (r < 0 && (r != -ETIMEDOUT || clock_now() >= until))
			return r;
	}
	return 0;
}

/* The head of a frame and of its array of one string of bytes, in the shortest form. Return: its length. */
static size_t bytes_head(uint8_t *h, enum msg_type type, size_t len)
{
	size_t n = len < 256 ? 1 : len < 65536 ? 2 : 4, i;
	uint8_t *p = h + FRAME_HEADER;

	memset(h, 0, FRAME_HEADER);
	*p++ = 0x91;
	*p++ = n == 1 ? 0xc4 : n == 2 ? 0xc5 : 0xc6;
	for (i = n; i > 0; i--)
		*p++ = (uint8_t)(len >> 8 * (i - 1));
	put_header(h, type, (size_t)(p - h) - FRAME_HEADER + len);
	return (size_t)(p - h);
}

/* What was not taken in one go: 0: again, now; -errno. */
static int not_taken(int fd, uint64_t until)
{
	return errno == EINTR ? 0 : errno == EAGAIN ? wait_for(fd, POLLOUT, until) : -errno;
}

int frame_send_file(int fd, enum msg_type type, int file, uint64_t at, size_t len, uint64_t until)
{
	uint8_t head[FRAME_HEADER + 6];
	size_t n, sent = 0;
	off_t from = (off_t)at;
	ssize_t took;
	int r = 0;

	if (!len || len > msg_bytes_max(type))
		return -EINVAL;
	n = bytes_head(head, type, len);
	while (r == 0 && sent < n) {
		took = send(fd, head + sent, n - sent, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE);
		if (took > 0)
			sent += (size_t)took;
		else
			r = not_taken(fd, until);
	}
	while (r == 0 && len) {
		took = sendfile(fd, file, &from, len);
		if (took > 0)
			len -= (size_t)took;
		else
			r = took == 0 ? -ENODATA : not_taken(fd, until);
	}
	return r;
}

int frame_recv(int fd, struct buf *in, struct frame *ret, uint64_t until, struct err *e)
{
	for (;;) {
		int r = frame_parse(in, ret, e);
		ssize_t n;
		void *to;

		if (r == 0)
			trace_frame((unsigned)fd, '<', ret->type, ret->payload);
		if (r != FRAME_E_MORE)
			return r;
		to = buf_reserve(in, MIN(buf_room(in), (size_t)65536));
		if (!to || !buf_room(in))
			return err_set(e, -EBADMSG, "bad-frame", "a frame is longer than the buffer for it");
		n = recv(fd, to, MIN(buf_room(in), (size_t)65536), MSG_DONTWAIT);
		if (n > 0) {
			buf_commit(in, (size_t)n);
			continue;
		}
		if (n == 0)
			return buf_len(in) ? err_set(e, -ECONNRESET, "closed", "the connection ended inside a frame") :
					     err_set(e, -ENODATA, "closed", "the connection was closed");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return err_sys(e, -errno, "recv");
		r = wait_for(fd, POLLIN, until);
		if (r < 0)
			return err_sys(e, r, "waiting for a message");
	}
}

static int recv_exact(int fd, struct buf *in, size_t len, uint64_t until)
{
	while (len) {
		void *to = buf_reserve(in, len);
		ssize_t n = to ? recv(fd, to, len, MSG_DONTWAIT) : 0;
		int r;

		if (!to)
			return -E2BIG;
		if (n == 0)
			return -ENODATA;
		if (n > 0) {
			buf_commit(in, (size_t)n);
			len -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = wait_for(fd, POLLIN, until);
		if (r < 0)
			return r;
	}
	return 0;
}

int frame_recv_one(int fd, struct buf *in, struct frame *ret, uint64_t until, struct err *e)
{
	uint8_t h[FRAME_HEADER] = { 0 };
	size_t len;
	int r = recv_exact(fd, in, FRAME_HEADER, until);

	if (r < 0)
		return r;
	memcpy(h, buf_str(in), sizeof(h));
	len = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
	if (len > buf_room(in))
		return err_set(e, -EBADMSG, "bad-frame", "a frame is longer than it may be here");
	r = recv_exact(fd, in, len, until);
	if (r == 0)
		r = frame_parse(in, ret, e);
	if (r == 0)
		trace_frame((unsigned)fd, '<', ret->type, ret->payload);
	return r == FRAME_E_MORE ? -EBADMSG : r;
}

int frame_refused(const struct frame *f, struct err *e)
{
	AUTO(str_free) char *name = NULL;
	AUTO(str_free) char *slug = NULL;
	AUTO(str_free) char *text = NULL;
	struct msg_ERROR m;
	int r = msg_decode(MSG_ERROR, f->payload, &m, e);

	if (r < 0)
		return r;
	name = span_dup(m.name);
	slug = span_dup(m.slug);
	text = span_dup(m.text);
	r = err_number(name);
	return err_set(e, r ? -r : -EIO, slug, "%s", text);
}

int frame_as(const struct frame *f, enum msg_type type, void *m, struct err *e)
{
	if (f->type != (unsigned)type)
		return err_set(e, -EPROTO, "bad-message", "%s has no place here", msg_name(f->type));
	return msg_decode(type, f->payload, m, e);
}
