/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

/*
 * A frame is an 8-byte header and a payload: length of the payload (4 bytes, big endian, at most FRAME_MAX), type of
 * the message (1 byte), zero (3 bytes). struct frames is one direction's reassembly and the other's queue on one
 * non-blocking socket.
 */
#include "base/buf.h"
#include "base/err.h"
#include "wire/msg.h"

enum { FRAME_HEADER = 8, FRAME_MAX = 1024 * 1024 + 16 * 1024 };

struct frame {
	unsigned type;
	struct span payload; /* borrows from the input buffer until the next frames_* call on it */
};

enum { FRAME_E_MORE = 1 };

/** frame_parse() - the first frame in @in, left there: frame_consume() it when done.
 * Return: 0; FRAME_E_MORE; -EBADMSG (too long, unknown type, bad padding). */
int frame_parse(const struct buf *in, struct frame *ret, struct err *e) MUST_CHECK;
/** frame_rest() - bytes that the frame at the front lacks, or its header. 0: it is whole, or too long. */
size_t frame_rest(const struct buf *in);
/** frame_consume() - drop the frame that frame_parse() returned. */
void frame_consume(struct buf *in, const struct frame *f);
/** frame_put() - append a whole frame with this message. Return: as msg_encode(); on failure nothing was appended. */
int frame_put(struct buf *out, enum msg_type type, const void *m) MUST_CHECK;

/** frame_send() - blocking: one message on a socket, until @until (clock.h). For clients and tests. Return: 0, -errno.
 */
int frame_send(int fd, enum msg_type type, const void *m, uint64_t until) MUST_CHECK;
/** frame_send_unless() - the same; -ECANCELED within half a second of *@stop (atomic; NULL: never) becoming true, which
 * may leave a part of the frame sent. */
int frame_send_unless(int fd, enum msg_type type, const void *m, uint64_t until, const bool *stop) MUST_CHECK;
/** frame_send_file() - as frame_send() of a message that is one field of bytes (msg_bytes_max()): @len of those of the
 * file @file from @at on. The kernel hands them over without a copy of ours, so nobody may change them before the other
 * end has read them. @fd is non-blocking. Return: also -EINVAL (another message, or too many), -ENODATA (the file ends
 * before). */
int frame_send_file(int fd, enum msg_type type, int file, uint64_t at, size_t len, uint64_t until) MUST_CHECK;
/** frame_as() - msg_decode() of a frame that must be of this type: what another one holds has no room at @m. Return:
 * also -EPROTO slug "bad-message". */
int frame_as(const struct frame *f, enum msg_type type, void *m, struct err *e) MUST_CHECK;
/** frame_refused() - the error that the other end's ERROR tells. Return: its code. */
int frame_refused(const struct frame *f, struct err *e);
/** frame_recv() - blocking: read until a whole frame is in @in. @ret borrows from @in; frame_consume() it afterwards.
 * Return: 0; -ENODATA (orderly end between frames); -ECONNRESET (inside one); -ETIMEDOUT; -EBADMSG; -errno. */
int frame_recv(int fd, struct buf *in, struct frame *ret, uint64_t until, struct err *e) MUST_CHECK;
/** frame_recv_one() - the same, but reads nothing behind the frame: what comes next stays in the socket, for somebody
 * else. @in is empty, its limit is that of the frame: a longer one is -EBADMSG. */
int frame_recv_one(int fd, struct buf *in, struct frame *ret, uint64_t until, struct err *e) MUST_CHECK;

#endif
