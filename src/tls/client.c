/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of plain bytes made one of TLS, on a loop. A piece each way is held at a time: who does not read stops who
 * writes. GnuTLS may hold bytes that the socket no longer has, so a turn goes on until both ways are stuck.
 *
 * Nothing of the other end is verified: it is a server inside of a sandbox, reached by a connection that nobody else
 * has an end of, and its certificate is one that it made for itself.
 */
#include "tls/tls.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/own.h"
#include "loop/loop.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE_B = 16384, DOWN_MAX_B = 1024 * 1024, SHAKE_MS = 10000, LEAVE_MS = 30000 };

struct wrap {
	struct loop *loop;
	gnutls_certificate_credentials_t nobody;
	gnutls_session_t session;
	int net, plain;
	struct loop_watch *net_watch, *plain_watch;
	struct loop_timer *late; /* for the handshake; for what is left when nobody has the plain side any more */
	struct buf up, down;	 /* on the way to the other end; from it */
	bool is_open, is_bye;	 /* the handshake is over; it was told that no more comes */
	bool plain_ended, net_ended, plain_hung, net_hung;
	bool is_full; /* the socket takes nothing now */
};

static void wrap_free(struct wrap *w)
{
	loop_unwatch(&w->net_watch);
	loop_unwatch(&w->plain_watch);
	loop_untimer(&w->late);
	if (w->session)
		gnutls_deinit(w->session);
	if (w->nobody)
		gnutls_certificate_free_credentials(w->nobody);
	buf_fini(&w->up);
	buf_fini(&w->down);
	fd_close(&w->net);
	fd_close(&w->plain);
	free(w);
}

/* Of what writes: it is to be done again. GnuTLS says which way it waits for, of the last call alone. */
static bool is_stuck(struct wrap *w, ssize_t r)
{
	bool is = r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;

	w->is_full = is && gnutls_record_get_direction(w->session) == 1;
	return is;
}

/* From the plain side to the other end. Return: whether anything moved. */
static bool go_up(struct wrap *w)
{
	bool moved = false;
	ssize_t n;

	if (!buf_len(&w->up) && !w->plain_ended) {
		n = recv(w->plain, buf_reserve(&w->up, PIECE_B), PIECE_B, MSG_DONTWAIT);
		if (n > 0)
			buf_commit(&w->up, (size_t)n);
		w->plain_ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
		moved = n > 0;
	}
	if (buf_len(&w->up)) {
		struct span s = buf_span(&w->up);

		n = gnutls_record_send(w->session, s.p, s.len);
		if (n > 0)
			buf_consume(&w->up, (size_t)n);
		if (!is_stuck(w, n) && n < 0) { /* it listens no more, but may have said something */
			buf_fini(&w->up);
			w->plain_ended = w->is_bye = true;
		}
		moved |= n > 0;
	} else if (w->plain_ended && !w->is_bye) {
		n = gnutls_bye(w->session, GNUTLS_SHUT_WR);
		w->is_bye = !is_stuck(w, n);
	}
	return moved;
}

/* The other way. *@ret_over: nothing more will come. */
static bool go_down(struct wrap *w, bool *ret_over)
{
	size_t max = w->net_hung ? DOWN_MAX_B : 1; /* a socket that hangs is told of until all is read */
	bool moved = false;
	ssize_t n;

	if (buf_len(&w->down) < max && !w->net_ended) {
		n = gnutls_record_recv(w->session, buf_reserve(&w->down, PIECE_B), PIECE_B);
		if (n > 0)
			buf_commit(&w->down, (size_t)n);
		w->net_ended = n == 0 || (n < 0 && (w->net_hung || gnutls_error_is_fatal((int)n)));
		moved = n > 0;
	}
	if (buf_len(&w->down)) {
		struct span s = buf_span(&w->down);

		n = send(w->plain, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			buf_consume(&w->down, (size_t)n);
		*ret_over |= n < 0 && errno != EAGAIN && errno != EINTR;
		moved |= n > 0;
	}
	*ret_over |= w->net_ended && !buf_len(&w->down);
	return moved && !*ret_over;
}

static void wait_for_more(struct wrap *w)
{
	bool reads = !w->is_open || (!buf_len(&w->down) && !w->net_ended);

	if (w->net_ended || (w->net_hung && buf_len(&w->down)))
		loop_unwatch(&w->net_watch);
	else
		loop_rewatch(w->net_watch, (reads ? LOOP_READ : 0U) | (w->is_full ? LOOP_WRITE : 0U));
	if (w->plain_hung) /* that is told for ever: it goes on when the other end takes something, or is too late */
		loop_unwatch(&w->plain_watch);
	else
		loop_rewatch(w->plain_watch, (w->is_open && !buf_len(&w->up) && !w->plain_ended ? LOOP_READ : 0U) |
					     (buf_len(&w->down) ? LOOP_WRITE : 0U));
}

static void turn(struct wrap *w)
{
	bool over = false;
	int r;

	if (!w->is_open) {
		r = gnutls_handshake(w->session);
		w->is_open = r == GNUTLS_E_SUCCESS;
		over = !is_stuck(w, r) && gnutls_error_is_fatal(r);
		if (w->is_open)
			loop_rearm(w->late, CLOCK_NEVER);
	}
	while (w->is_open && !over) {
		bool up = go_up(w), down = go_down(w, &over);

		if (!up && !down)
			break;
	}
	/* Nobody hears what comes, and all that he sent is gone. */
	over |= w->plain_hung && w->plain_ended && w->is_bye;
	if (over)
		wrap_free(w);
	else
		wait_for_more(w);
}

static void on_net(void *ctx, int fd, unsigned events)
{
	struct wrap *w = ctx;

	(void)fd;
	w->net_hung |= (events & LOOP_HANGUP) != 0;
	turn(w);
}

/* Who has the plain side has gone: what he sent before still goes up, of what comes down nobody hears. */
static void on_plain(void *ctx, int fd, unsigned events)
{
	struct wrap *w = ctx;

	(void)fd;
	w->plain_hung |= (events & LOOP_HANGUP) != 0;
	if (w->plain_hung && (w->plain_ended || !w->is_open)) {
		wrap_free(w);
		return;
	}
	if (w->plain_hung)
		loop_rearm(w->late, clock_after_ms(LEAVE_MS));
	turn(w);
}

static void too_late(void *ctx)
{
	wrap_free(ctx);
}

static void begin(void *ctx)
{
	struct wrap *w = ctx;

	if (loop_watch(w->loop, w->net, LOOP_READ, on_net, w, &w->net_watch) < 0 ||
	    loop_watch(w->loop, w->plain, 0, on_plain, w, &w->plain_watch) < 0) {
		wrap_free(w);
		return;
	}
	w->late = loop_timer(w->loop, clock_after_ms(SHAKE_MS), too_late, w);
	turn(w);
}

static int speak(struct wrap *w)
{
	int r = gnutls_init(&w->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

	if (r == 0)
		r = gnutls_priority_set_direct(w->session, TLS_PRIORITIES, NULL);
	if (r == 0)
		r = gnutls_certificate_allocate_credentials(&w->nobody);
	if (r == 0)
		r = gnutls_credentials_set(w->session, GNUTLS_CRD_CERTIFICATE, w->nobody);
	if (r == 0)
		gnutls_transport_set_int(w->session, w->net);
	return r;
}

int tls_wrap(struct loop *loop, int fd, int *ret_fd, struct err *e)
{
	struct wrap *w = NEW(struct wrap);
	int pair[2], r;

	w->loop = loop;
	w->net = fd;
	w->plain = -1;
	buf_init(&w->up, 2 * PIECE_B);
	buf_init(&w->down, DOWN_MAX_B + 2 * PIECE_B);
	r = fd_nonblock(fd, true);
	if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		r = -errno;
	if (r < 0) {
		wrap_free(w);
		return err_sys(e, r, "a connection with TLS");
	}
	w->plain = pair[0];
	r = speak(w);
	if (r < 0) {
		close(pair[1]);
		wrap_free(w);
		return err_set(e, -EIO, "tls", "a connection with TLS: %s", gnutls_strerror(r));
	}
	*ret_fd = pair[1];
	loop_post(loop, begin, w);
	return 0;
}
