/* SPDX-License-Identifier: Apache-2.0 */
/* A workspace with its store, loop and pools, and an agent that says whatever a test wants it to: the test's own thread
 * accepts the two connections and speaks frames. */
#ifndef TESTS_UNIT_WS_LAB_H
#define TESTS_UNIT_WS_LAB_H

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "host/ws/ws.h"
#include "store-lib.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#ifndef LAB_CALM_RATE
#define LAB_CALM_RATE 0
#endif

enum { LAB_ROOT = 2, LAB_MS = 10000, LAB_QUIET_MS = 300 };

struct lab {
	struct place place;
	struct loop *loop;
	pthread_t thread;
	struct pool *work, *notify, *dial;
	struct ws *ws;
	char path[96], address[112];
	uint8_t token[WIRE_TOKEN_LEN];
	int listener, control, ship;
	struct buf control_in, ship_in;
	uint64_t seq, replicate; /* call of the REPLICATE that was heard last */
	uint64_t disk;		 /* what HELLO names */
	unsigned generation;	 /* that it speaks; 0: the newest */
	struct msg_list records;
};

static inline void *lab_loop(void *ctx)
{
	(void)!loop_run(ctx);
	return NULL;
}

static inline struct ws_conf lab_conf(struct lab *l)
{
	return (struct ws_conf){ .store = l->place.store, .loop = l->loop, .work = l->work, .notify = l->notify,
				 .dial = l->dial, .calm_rate = LAB_CALM_RATE };
}

static inline void lab_make(struct lab *l)
{
	struct ws_conf conf;
	struct err e;

	memset(l, 0, sizeof(*l));
	log_setup(LOG_LVL_ERROR, LOG_FORM_TEXT, -1);
	place_make(&l->place, 64 << 20);
	cr_assert_eq(loop_new(&l->loop, &e), 0);
	cr_assert_eq(pool_new("work", 2, &l->work, &e), 0);
	cr_assert_eq(pool_new("notify", 1, &l->notify, &e), 0);
	cr_assert_eq(pool_new("dial", 1, &l->dial, &e), 0);
	pthread_create(&l->thread, NULL, lab_loop, l->loop);
	conf = lab_conf(l);
	cr_assert_eq(ws_open(&conf, "w1", true, &l->ws, &e), 0);
	snprintf(l->path, sizeof(l->path), "%s/sock", l->place.dir);
	snprintf(l->address, sizeof(l->address), "unix:%s", l->path);
	cr_assert_eq(io_unix_listen(l->path, 0600, &l->listener, &e), 0);
	memset(l->token, 7, sizeof(l->token));
	l->control = l->ship = -1;
	msg_list_init(&l->records, FRAME_MAX);
}

static inline struct frame lab_recv(int fd, struct buf *in)
{
	struct err e = ERR_NULL;
	struct frame f = { .type = 0 };

	cr_assert_eq(frame_recv(fd, in, &f, clock_after_ms(LAB_MS), &e), 0, "no frame came: %s", e.text);
	return f;
}

static inline void lab_greet(struct lab *l, int *ret_fd, struct buf *in, unsigned kind, uint64_t boot)
{
	struct pollfd p = { .fd = l->listener, .events = POLLIN };
	struct msg_HELLO m;
	struct frame f;
	int fd;

	cr_assert_eq(poll(&p, 1, LAB_MS), 1, "nobody dialled");
	fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(fd, 0);
	buf_init(in, FRAME_MAX + FRAME_HEADER);
	f = lab_recv(fd, in);
	cr_assert_eq(f.type, MSG_HELLO);
	cr_assert_eq(msg_decode(MSG_HELLO, f.payload, &m, NULL), 0);
	cr_assert_eq(m.kind, kind);
	m.boot = boot;
	m.disk = l->disk;
	if (l->generation)
		m.generation = l->generation;
	cr_assert_eq(frame_send(fd, MSG_HELLO, &m, clock_after_ms(LAB_MS)), 0);
	frame_consume(in, &f);
	*ret_fd = fd;
}

/* The next frame of a type; others are passed over. Decoded into @m, whose spans must not be used. */
static inline void lab_expect(int fd, struct buf *in, enum msg_type type, void *m)
{
	for (;;) {
		struct frame f = lab_recv(fd, in);
		bool hit = f.type == type;

		if (hit)
			cr_assert_eq(msg_decode(type, f.payload, m, NULL), 0);
		frame_consume(in, &f);
		if (hit)
			return;
	}
}

/* How many frames of a type come before it is quiet. */
static inline unsigned lab_count(int fd, struct buf *in, unsigned type)
{
	unsigned n = 0;
	struct frame f;

	while (frame_recv(fd, in, &f, clock_after_ms(LAB_QUIET_MS), NULL) == 0) {
		n += f.type == type;
		frame_consume(in, &f);
	}
	return n;
}

/* Accept both connections and hear what is asked for. */
static inline void lab_accept(struct lab *l, uint64_t boot)
{
	struct msg_REPLICATE m;

	lab_greet(l, &l->control, &l->control_in, WIRE_CONTROL, boot);
	lab_greet(l, &l->ship, &l->ship_in, WIRE_SHIP, boot);
	lab_expect(l->control, &l->control_in, MSG_REPLICATE, &m);
	l->replicate = m.call;
}

static inline void lab_hangup(struct lab *l)
{
	fd_close(&l->control);
	fd_close(&l->ship);
	buf_fini(&l->control_in);
	buf_fini(&l->ship_in);
}

static inline void lab_free(struct lab *l)
{
	struct msg_list *r = &l->records;

	ws_unref(&l->ws);
	pool_drain(l->work); /* who was answered there may have held the last reference, and needs the other pools */
	lab_hangup(l);
	loop_stop(l->loop);
	pthread_join(l->thread, NULL);
	pool_free(&l->dial);
	pool_free(&l->notify);
	pool_free(&l->work);
	loop_free(&l->loop);
	fd_close(&l->listener);
	msg_list_fini(r);
	place_free(&l->place);
}

static inline struct msg_NODE lab_node(uint64_t fid, uint32_t mode, uint64_t size, int64_t ctime)
{
	return (struct msg_NODE){ .fid = fid, .ino = fid, .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1, .size = size,
				  .blocks = (size + 4095) / 4096 * 8, .mtime_ns = ctime, .ctime_ns = ctime };
}

/* One more record for the next batch; @node NULL: none. */
static inline void lab_add(struct lab *l, unsigned flags, uint64_t parent, const char *name,
			   const struct msg_NODE *node)
{
	struct msg_CHANGE c = { .flags = flags, .parent = parent, .name = span_str(name) };
	struct msg_list nodes;

	msg_list_init(&nodes, FRAME_MAX);
	if (node)
		cr_assert_eq(msg_list_rec(&nodes, MSG_NODE, node), 0);
	c.node = msg_list_span(&nodes);
	cr_assert_eq(msg_list_rec(&l->records, MSG_CHANGE, &c), 0);
	msg_list_fini(&nodes);
}

static inline void lab_tell(struct lab *l, unsigned flags)
{
	struct msg_CHANGES m = { .seq = ++l->seq, .flags = flags };

	m.records = msg_list_span(&l->records);
	(void)!frame_send(l->control, MSG_CHANGES, &m, clock_after_ms(LAB_MS));
	msg_list_fini(&l->records);
	msg_list_init(&l->records, FRAME_MAX);
}

static inline void lab_acked(struct lab *l)
{
	struct msg_CHANGES_ACK ack;

	do
		lab_expect(l->control, &l->control_in, MSG_CHANGES_ACK, &ack);
	while (ack.seq < l->seq);
}

/* Records of one batch, told and acknowledged. */
static inline void lab_batch(struct lab *l, unsigned flags)
{
	lab_tell(l, flags);
	lab_acked(l);
}

static inline void lab_root(struct lab *l)
{
	struct msg_NODE root = lab_node(LAB_ROOT, S_IFDIR | 0755, 4096, 1);

	lab_add(l, WIRE_ENT_ONLY, LAB_ROOT, "", &root);
}

static inline void lab_ok(struct lab *l, uint64_t call)
{
	struct msg_OK ok = { .call = call };

	cr_assert_eq(frame_send(l->control, MSG_OK, &ok, clock_after_ms(LAB_MS)), 0);
}

/* As the answer to what it was asked, or was not; the other side may have hung up. */
static inline void lab_answer_node(struct lab *l, uint64_t call, const struct msg_NODE *node)
{
	struct msg_FS_NODE m = { .call = call };
	struct msg_list nodes;

	msg_list_init(&nodes, FRAME_MAX);
	cr_assert_eq(msg_list_rec(&nodes, MSG_NODE, node), 0);
	m.node = msg_list_span(&nodes);
	(void)!frame_send(l->control, MSG_FS_NODE, &m, clock_after_ms(LAB_MS));
	msg_list_fini(&nodes);
}

/* Live, with an empty root told and durable. */
static inline void lab_start(struct lab *l)
{
	struct err e;

	ws_start(l->ws, l->address, l->token);
	lab_accept(l, 1);
	lab_ok(l, l->replicate);
	lab_root(l);
	lab_batch(l, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	cr_assert_eq(ws_wait_ready(l->ws, clock_after_ms(LAB_MS), &e), 0);
}

static inline void lab_file(struct lab *l, const char *name, uint64_t fid, uint64_t size, int64_t ctime)
{
	struct msg_NODE n = lab_node(fid, S_IFREG | 0644, size, ctime);

	lab_add(l, WIRE_ENT_WRITTEN, LAB_ROOT, name, &n);
}

static inline void lab_send_ship(struct lab *l, enum msg_type type, const void *m)
{
	(void)!frame_send(l->ship, type, m, clock_after_ms(LAB_MS));
}

static inline void lab_ship_behind(struct lab *l, uint64_t ship, uint64_t base, const struct msg_NODE *node,
				   uint64_t behind)
{
	struct msg_SHIP m = { .ship = ship, .base = base, .behind = behind };
	struct msg_list nodes;

	msg_list_init(&nodes, FRAME_MAX);
	cr_assert_eq(msg_list_rec(&nodes, MSG_NODE, node), 0);
	m.node = msg_list_span(&nodes);
	lab_send_ship(l, MSG_SHIP, &m);
	msg_list_fini(&nodes);
}

static inline void lab_ship_begin(struct lab *l, uint64_t ship, uint64_t base, const struct msg_NODE *node)
{
	lab_ship_behind(l, ship, base, node, 0);
}

static inline void lab_ship_data(struct lab *l, uint64_t offset, struct span data)
{
	lab_send_ship(l, MSG_SHIP_DATA, &(struct msg_SHIP_DATA){ .offset = offset, .data = data });
}

static inline void lab_ship_end(struct lab *l, bool ok, bool gone)
{
	lab_send_ship(l, MSG_SHIP_END, &(struct msg_SHIP_END){ .ok = ok, .gone = gone });
}

/* A whole file in one piece. Yields whether it was taken. */
static inline bool lab_ship(struct lab *l, uint64_t ship, const struct msg_NODE *node, struct span data)
{
	struct msg_SHIP_ACK ack;

	lab_ship_begin(l, ship, 0, node);
	lab_ship_data(l, 0, data);
	lab_ship_end(l, true, false);
	do
		lab_expect(l->ship, &l->ship_in, MSG_SHIP_ACK, &ack);
	while (ack.ship != ship);
	return ack.ok;
}

static inline void lab_says(void *ctx, const char *words)
{
	(void)ctx;
	fprintf(stderr, "fsck: %s\n", words);
}

static inline void lab_fsck(struct lab *l)
{
	struct fsck_stats stats;
	struct err e;

	cr_assert_eq(store_fsck(l->place.store, lab_says, NULL, &stats, &e), 0);
	cr_assert_eq(stats.problems, 0);
}

/* Wait until the workspace says a reason. */
static inline void lab_wait_why(struct lab *l, const char *why, bool halted)
{
	uint64_t until = clock_after_ms(LAB_MS);
	struct ws_stats s;

	do {
		ws_stat(l->ws, &s);
		if (strstr(s.why, why) && s.halted == halted)
			return;
		(void)!poll(NULL, 0, 5);
	} while (clock_now() < until);
	cr_assert_fail("it says \"%s\" (halted %d)", s.why, s.halted);
}

#endif
