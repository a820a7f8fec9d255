/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes out on the control connection. The loop writes it, or who asks (link_call_now()), by way of a descriptor of
 * the link's own, since the connection closes its when it breaks. Frames leave in the order in which they were made: so
 * another thread writes only when none is on its way to the loop or waits in the connection, which the loop notes each
 * time that it has sent something or heard a reply. What the socket did not take of a frame goes to the connection
 * before anything else.
 */
#include "host/link/state.h"

#include "base/io.h"
#include "wire/frame.h"
#include "wire/trace.h"

#include <fcntl.h>
#include <sys/socket.h>

/* calls_lock is held: what is left of an earlier frame, then this one. */
static int control_put(struct link *l, struct span frame)
{
	int r = 0;

	if (buf_len(&l->rest)) {
		r = conn_send_rest(l->control, buf_span(&l->rest));
		buf_fini(&l->rest);
	}
	if (r == 0 && frame.len)
		r = conn_send_frame(l->control, frame);
	l->is_direct = r == 0 && !conn_pending(l->control);
	return r;
}

int control_send(struct link *l, struct span frame)
{
	int r;

	lock_take(&l->calls_lock);
	r = control_put(l, frame);
	lock_drop(&l->calls_lock);
	return r;
}

void link_say(struct link *l, enum msg_type type, const void *msg)
{
	AUTO(buf_fini) struct buf frame;

	buf_init(&frame, FRAME_MAX + FRAME_HEADER);
	if (frame_put(&frame, type, msg) == 0)
		(void)!control_send(l, buf_span(&frame));
}

static void rest_on_loop(void *ctx)
{
	struct link *l = ctx;

	if (l->state == LINK_UP && l->control)
		(void)!control_send(l, SPAN_NULL);
}

void control_look(struct link *l)
{
	lock_take(&l->calls_lock);
	l->is_direct = !buf_len(&l->rest) && !conn_pending(l->control);
	lock_drop(&l->calls_lock);
}

void control_up(struct link *l)
{
	lock_take(&l->calls_lock);
	l->direct_fd = fcntl(conn_fd(l->control), F_DUPFD_CLOEXEC, 0);
	l->trace_no = (unsigned)conn_fd(l->control);
	l->is_direct = l->direct_fd >= 0 && !conn_pending(l->control);
	lock_drop(&l->calls_lock);
}

void control_down(struct link *l)
{
	lock_take(&l->calls_lock);
	fd_close(&l->direct_fd);
	buf_fini(&l->rest);
	l->is_direct = false;
	lock_drop(&l->calls_lock);
	conn_free(&l->control);
}

bool control_direct(struct link *l, struct call *c)
{
	struct span frame = buf_span(&c->frame);
	bool sent = false;
	ssize_t n = -1;

	lock_take(&l->calls_lock);
	if (l->direct_fd >= 0 && l->is_direct && !l->mailed && l->calls.len < LINK_CALLS_MAX) {
		map_put_u64(&l->calls, c->id, c);
		n = send(l->direct_fd, frame.p, frame.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		sent = n > 0;
		if (!sent)
			map_remove_u64(&l->calls, c->id);
	}
	if (sent)
		trace_frame(l->trace_no, '>', ((const uint8_t *)frame.p)[4],
			    SPAN((const uint8_t *)frame.p + FRAME_HEADER, frame.len - FRAME_HEADER));
	if (sent && (size_t)n < frame.len) {
		l->is_direct = false;
		(void)!buf_append(&l->rest, (const uint8_t *)frame.p + n, frame.len - (size_t)n);
		loop_post(l->loop, rest_on_loop, l);
	}
	lock_drop(&l->calls_lock);
	return sent;
}
