/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are laid out: an agent that takes them slowly, or not at all, and what is told meanwhile. */
#include "store-lib.h"

#include "base/clock.h"
#include "base/io.h"
#include "host/ws/fill.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

enum { FILES = 40, FILE_B = 60000, PATIENCE_MS = 400 };

static struct place place;
static struct digest root;

/* A tree of some files that are small each and more than a socket holds together. */
static void setup(void)
{
	AUTO(mem_free) uint8_t *bytes = must_calloc(1, FILE_B);
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct node n;
	char name[16];
	unsigned i;

	place_make(&place, 1 << 30);
	cr_assert_eq(wsdb_open(place.store, "ws", true, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	n = make_node(1, S_IFDIR | 0755);
	node_put(t, &n);
	meta_put_u64(t, "root-fid", 1);
	for (i = 0; i < FILES; i++) {
		n = make_node(100 + i, S_IFREG | 0644);
		fill(bytes, FILE_B, i);
		cr_assert_eq(put_content(place.store, bytes, FILE_B, &n.content), 0);
		n.size = FILE_B;
		n.content_ctime_ns = 1;
		node_put(t, &n);
		snprintf(name, sizeof(name), "f%u", i);
		entry_put(t, 1, span_str(name), n.fid);
	}
	cr_assert_eq(txn_commit(&t, NULL), 0);
	cr_assert_eq(tree_seal(ws, 0, &root, NULL), 0);
	wsdb_close(&ws);
}

static void teardown(void)
{
	place_free(&place);
}

TestSuite(fill, .init = setup, .fini = teardown);

struct peer {
	int fd;
	size_t piece;	/* bytes that are taken at a time */
	uint64_t every_ms;
	bool stop;
};

/* Takes a piece each time; never answers. */
static void *slow(void *ctx)
{
	struct peer *p = ctx;
	AUTO(mem_free) char *room = must_calloc(1, p->piece);
	const struct timespec nap = { .tv_nsec = (long)p->every_ms * 1000000 };

	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED) && recv(p->fd, room, p->piece, 0) > 0)
		nanosleep(&nap, NULL);
	return NULL;
}

/* An agent that says that it has made what it was told to. */
static void *good(void *ctx)
{
	struct peer *p = ctx;
	struct msg_FILLED done = { .entries = 0 };
	struct frame frame;
	struct buf in;

	buf_init(&in, 4 << 20);
	while (frame_recv(p->fd, &in, &frame, clock_after_ms(10000), NULL) == 0) {
		struct msg_FILL_ENTRY en;
		struct msg_FILL m;
		bool end = frame.type == MSG_FILL_END;

		if (frame.type == MSG_FILL && msg_decode(MSG_FILL, frame.payload, &m, NULL) == 0)
			while (msg_rec_next(&m.entries, MSG_FILL_ENTRY, &en))
				done.entries += !en.again;
		frame_consume(&in, &frame);
		if (end) {
			(void)!frame_send(p->fd, MSG_FILLED, &done, clock_after_ms(10000));
			break;
		}
	}
	buf_fini(&in);
	return NULL;
}

/* Takes all at once and never answers; meanwhile somebody wants the sandbox. */
static bool wanted;

static void *mute(void *ctx)
{
	struct peer *p = ctx;
	struct frame frame;
	struct buf in;

	buf_init(&in, 4 << 20);
	while (frame_recv(p->fd, &in, &frame, clock_after_ms(10000), NULL) == 0) {
		if (frame.type == MSG_FILL_END)
			__atomic_store_n(&wanted, true, __ATOMIC_RELAXED);
		frame_consume(&in, &frame);
	}
	buf_fini(&in);
	return NULL;
}

struct seen {
	struct ws_filled last;
	unsigned calls;
	bool back; /* it went backwards */
};

static void on_progress(void *ctx, const struct ws_filled *now)
{
	struct seen *s = ctx;

	s->back |= now->files < s->last.files || now->bytes < s->last.bytes;
	s->last = *now;
	s->calls++;
}

static int run(void *(*agent)(void *), struct peer *p, struct seen *seen, struct err *e)
{
	int pair[2], r, small = 65536;
	pthread_t thread;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	cr_assert_eq(fd_nonblock(pair[0], true), 0);
	p->fd = pair[1];
	if (agent != slow)
		cr_assert_eq(fd_nonblock(pair[1], true), 0);
	pthread_create(&thread, NULL, agent, p);
	r = ws_fill(&(struct ws_fill){ .store = place.store,
				       .root = &root,
				       .fd = pair[0],
				       .patience_ms = agent == mute ? 0 : PATIENCE_MS,
				       .stop = &wanted,
				       .progress = on_progress,
				       .ctx = seen },
		    e);
	__atomic_store_n(&p->stop, true, __ATOMIC_RELAXED);
	close(pair[0]);
	pthread_join(thread, NULL);
	close(pair[1]);
	return r;
}

Test(fill, says_how_far_it_is)
{
	struct err e = ERR_NULL;
	struct seen seen = { .calls = 0 };
	struct peer p = { .piece = 0 };

	cr_assert_eq(run(good, &p, &seen, &e), 0, "%s", e.text);
	cr_assert_eq(seen.last.files, FILES);
	cr_assert_eq(seen.last.files_all, FILES);
	cr_assert_eq(seen.last.bytes, FILES * FILE_B);
	cr_assert_eq(seen.last.bytes_all, FILES * FILE_B);
	cr_assert_gt(seen.calls, 2);
	cr_assert(!seen.back);
}

/* Each piece is taken well within the patience, and all of it would take a hundred times as long. */
Test(fill, who_takes_it_piece_by_piece_is_given_up, .timeout = 60)
{
	struct err e = ERR_NULL;
	struct seen seen = { .calls = 0 };
	struct peer p = { .piece = 8192, .every_ms = PATIENCE_MS / 4 };

	cr_assert_eq(run(slow, &p, &seen, &e), -ETIMEDOUT);
	cr_assert_str_eq(e.slug, "fill-slow");
	cr_assert_lt(seen.last.files, FILES);
}

Test(fill, who_takes_nothing_is_given_up, .timeout = 60)
{
	struct err e = ERR_NULL;
	struct seen seen = { .calls = 0 };
	struct peer p = { .piece = 1, .every_ms = PATIENCE_MS };

	cr_assert_eq(run(slow, &p, &seen, &e), -ETIMEDOUT);
	cr_assert_str_eq(e.slug, "fill-slow");
}

/* The patience is a minute: it breaks off because it is told to. */
Test(fill, who_never_answers_does_not_hold_up_the_end, .timeout = 40)
{
	struct err e = ERR_NULL;
	struct seen seen = { .calls = 0 };
	struct peer p = { .piece = 0 };

	cr_assert_eq(run(mute, &p, &seen, &e), -ECANCELED);
	cr_assert_eq(seen.last.files, FILES);
}
