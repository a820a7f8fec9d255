/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are written by who asks, not by the loop: all of them arrive whole and in order, also when the agent
 * does not read for a while, and each is ended once. */
#include "ws-lab.h"

static struct lab l;

enum { MANY = 300, PIECE = 64 * 1024 };

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned ended, times;
	int result;
} ends = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static void made(void)
{
	lab_make(&l);
	lab_start(&l);
}

static void ended(void)
{
	lab_free(&l);
}

TestSuite(ws_direct, .init = made, .fini = ended, .timeout = 60);

static void on_end(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	(void)type, (void)msg, (void)e;
	pthread_mutex_lock(&ends.lock);
	ends.ended++;
	ends.times += ++*(unsigned *)ctx > 1;
	ends.result = result;
	pthread_cond_broadcast(&ends.cond);
	pthread_mutex_unlock(&ends.lock);
}

static void await_ends(unsigned n)
{
	pthread_mutex_lock(&ends.lock);
	while (ends.ended < n)
		pthread_cond_wait(&ends.cond, &ends.lock);
	pthread_mutex_unlock(&ends.lock);
	cr_assert_eq(ends.ended, n);
	cr_assert_eq(ends.times, 0);
}

static void ask(unsigned i, uint64_t until, unsigned *times)
{
	AUTO(mem_free) uint8_t *data = must_calloc(1, PIECE);
	struct msg_FS_WRITE m = { .path = SPAN("f", 1), .offset = i };

	memset(data, (int)i, PIECE);
	m.data = SPAN(data, PIECE);
	link_call_now(ws_link(l.ws), MSG_FS_WRITE, &m, until, on_end, times);
}

/* The next one that was asked for; in between may be others. Return: its call. */
static uint64_t hear(unsigned i, unsigned *ret_others)
{
	struct msg_FS_WRITE m;
	struct frame f;

	for (f = lab_recv(l.control, &l.control_in); f.type != MSG_FS_WRITE;
	     f = lab_recv(l.control, &l.control_in)) {
		*ret_others += f.type == MSG_FETCH;
		frame_consume(&l.control_in, &f);
	}
	cr_assert_eq(msg_decode(MSG_FS_WRITE, f.payload, &m, NULL), 0);
	cr_assert_eq(m.offset, i, "%u came instead of %u", (unsigned)m.offset, i);
	cr_assert_eq(m.data.len, PIECE);
	cr_assert_eq(((const uint8_t *)m.data.p)[0], (uint8_t)i);
	cr_assert_eq(memcmp(m.data.p, (const uint8_t *)m.data.p + 1, PIECE - 1), 0);
	frame_consume(&l.control_in, &f);
	return m.call;
}

/* Much more than a socket holds. */
Test(ws_direct, nothing_is_lost_or_overtaken)
{
	static unsigned times[MANY];
	struct msg_FETCH fetch = { .fid = 1 };
	unsigned i, others = 0;

	for (i = 0; i < MANY; i++) {
		ask(i, clock_after_ms(LAB_MS), &times[i]);
		if (i % 10 == 0)
			link_send(ws_link(l.ws), MSG_FETCH, &fetch);
	}
	for (i = 0; i < MANY; i++)
		lab_ok(&l, hear(i, &others));
	await_ends(MANY);
	cr_assert_eq(ends.result, 0);
	cr_assert_eq(others, MANY / 10);
	/* And again, with nothing in the way. */
	for (i = 0; i < MANY; i++) {
		times[0] = 0;
		ask(i, clock_after_ms(LAB_MS), &times[0]);
		lab_ok(&l, hear(i, &others));
		await_ends(MANY + i + 1);
	}
}

Test(ws_direct, what_is_not_answered_ends)
{
	unsigned first = 0, second = 0;

	ask(0, clock_after_ms(1), &first);
	await_ends(1);
	cr_assert_eq(ends.result, -ETIMEDOUT);
	ask(1, clock_after_ms(LAB_MS), &second);
	lab_hangup(&l);
	await_ends(2);
	cr_assert_eq(ends.result, -EPIPE);
}
