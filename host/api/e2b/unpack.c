/* SPDX-License-Identifier: Apache-2.0 */
/* An archive that comes in pieces becomes a template of the hub: the privileged process unpacks it behind its fence,
 * here it is told what, and when the host's disk is too full for more. */
#include "host/api/e2b/work.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { PIPE_LOOK_MS = 300, WORDS_MAX = 64 * 1024, WORDS_TOLD = 10, UNPACK_END_MS = 600 * 1000 };

static const uint64_t DISK_LOOK_B = 16 * 1024 * 1024;

struct unpack {
	struct work *w;
	int to, words, pidfd; /* its input, what it says, its end */
	uint64_t bytes, looked;
	struct buf said;
	bool is_gone; /* it takes nothing any more: the reason is among its words */
};

static void unpack_free(struct unpack **slot)
{
	struct unpack *u = take(slot);

	if (!u)
		return;
	fd_close(&u->to);
	fd_close(&u->words);
	fd_close(&u->pidfd);
	buf_fini(&u->said);
	free(u);
}

int unpack_begin(struct work *w, const char *name, struct unpack **ret, struct err *e)
{
	AUTO(unpack_free) struct unpack *u = NEW(struct unpack);
	struct priv_template_spec spec = { .replace = 0 };
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, r = 0;

	*u = (struct unpack){ .w = w, .to = -1, .words = -1, .pidfd = -1 };
	buf_init(&u->said, 2 * WORDS_MAX);
	snprintf(spec.name, sizeof(spec.name), "%s", name);
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		r = err_sys(e, -errno, "pipe");
	u->to = in[1];
	u->words = out[0];
	if (r == 0)
		r = hub_template_build(w->e2b->hub, &spec, in[0], out[1], &u->pidfd, e);
	fd_close(&in[0]);
	fd_close(&out[1]);
	if (r == 0 && (fd_nonblock(u->to, true) < 0 || fd_nonblock(u->words, true) < 0))
		r = err_sys(e, -EIO, "pipe");
	if (r == 0)
		*ret = take(&u);
	return r;
}

/* What the unpacking says; the last of it is kept. */
static void hear(struct unpack *u)
{
	char piece[4096];
	ssize_t n;

	while ((n = read(u->words, piece, sizeof(piece))) > 0) {
		if (buf_len(&u->said) + (size_t)n > WORDS_MAX)
			buf_consume(&u->said, buf_len(&u->said));
		buf_append(&u->said, piece, (size_t)n);
	}
}

int unpack_put(void *ctx, const void *p, size_t len)
{
	struct unpack *u = ctx;
	const char *at = p;
	size_t left = len;
	struct hub_disk disk;

	while (left) {
		struct pollfd fds[] = { { .fd = u->to, .events = POLLOUT }, { .fd = u->words, .events = POLLIN } };
		ssize_t n;

		if (work_is_stopped(u->w))
			return -ECANCELED;
		(void)!poll(fds, 2, PIPE_LOOK_MS);
		hear(u);
		n = write(u->to, at, left);
		if (n < 0 && errno == EPIPE)
			u->is_gone = true;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		at += MAX(n, (ssize_t)0);
		left -= (size_t)MAX(n, (ssize_t)0);
	}
	u->bytes += len;
	if (u->bytes - u->looked < DISK_LOOK_B)
		return 0;
	u->looked = u->bytes;
	hub_disk(u->w->e2b->hub, &disk);
	return disk.state == HUB_DISK_OK ? 0 : -ENOSPC;
}

/* Cut the last line off. NULL: there is none. */
static char *last_line(char *all)
{
	size_t n = strlen(all);
	char *nl;

	while (n && all[n - 1] == '\n')
		all[--n] = '\0';
	nl = strrchr(all, '\n');
	if (!nl)
		return NULL;
	*nl = '\0';
	return nl + 1;
}

/* Its last line says how it ended, those before why. */
static int judge(struct unpack *u, struct err *e)
{
	AUTO(str_free) char *all = str_printf("\n%s", buf_str(&u->said));
	const char *last = last_line(all), *before, *why = NULL;
	unsigned n = 0;

	if (str_eq(last, "berth: ok"))
		return 0;
	while ((before = last_line(all)) && n++ < WORDS_TOLD) {
		work_say(u->w, true, "%s %.500s", u->w->prefix, before);
		why = before;
	}
	return err_set(e, -EIO, "not-unpacked", "the result could not be kept: %.160s",
		       why ? why : last ? last : "the unpacking was cut off");
}

/* To its end, whatever becomes of what goes in. */
static void await(struct unpack *u)
{
	uint64_t until = clock_after_ms(UNPACK_END_MS);

	for (;;) {
		struct pollfd fds[] = { { .fd = u->pidfd, .events = POLLIN }, { .fd = u->words, .events = POLLIN } };

		hear(u);
		if (clock_now() >= until || (poll(fds, 2, PIPE_LOOK_MS) > 0 && fds[0].revents))
			break;
	}
	hear(u);
}

int unpack_end(struct unpack **slot, int r, struct err *e)
{
	AUTO(unpack_free) struct unpack *u = take(slot);
	struct err why = ERR_NULL;
	int q;

	/* What comes of half an archive may look like a whole tree: whoever called must not use it. */
	fd_close(&u->to);
	await(u);
	q = r == 0 || u->is_gone ? judge(u, &why) : 0;
	if (q < 0) {
		*e = why;
		return q;
	}
	return r;
}
