/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All threads that wait in read(2) stand in a queue in the kernel, and each request wakes the next of them: a program
 * that does one thing after the other is served by all in turn, each of which has to be woken, on a processor that has
 * forgotten it, while the one that has just answered goes to sleep. That is half of what a small request costs. So one
 * thread waits inside and the others here, outside: who has answered comes back before the next request.
 *
 * More are let in when they are of use:
 *  - a request was there already when a thread came back, and of another program than the one before, several times:
 *    they come in faster than one serves them. Then one more may wait inside; when for a while none was there, one
 *    less. (Of the same one it only says that it is fast: it has not asked before it was answered.)
 *  - nobody is inside, since all that were are at work: one of those outside looks every GATE_LOOK_MS, as long as there
 *    are requests, and goes in. So whoever waits for the disk, or for anything else, keeps others no longer than that.
 *
 * Threads are cancelled in here at the end, so there is no lock: numbers that are a little wrong for a moment do no
 * harm. Nobody inside, a request, and nobody who looks is what must not be: who takes a request sees to it that
 * somebody outside looks, before it is worked on.
 */
#include "host/fs/gate.h"

#include "base/clock.h"
#include "base/own.h"

#include <poll.h>
#include <unistd.h>

enum { PRESSED_MOST = 4, CALM_MOST = 64, WANTED_MOST = 64, LOOKS = 5 };

void gate_init(struct gate *g)
{
	*g = (struct gate){ .wanted = 1 };
	sem_init(&g->call, 0, 0);
}

void gate_fini(struct gate *g)
{
	sem_destroy(&g->call);
}

static unsigned get(const unsigned *n)
{
	return __atomic_load_n(n, __ATOMIC_SEQ_CST);
}

static void let_in(struct gate *g)
{
	if (get(&g->outside))
		sem_post(&g->call);
}

static bool go_in(struct gate *g)
{
	unsigned n = get(&g->inside);

	while (n < get(&g->wanted))
		if (__atomic_compare_exchange_n(&g->inside, &n, n + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return true;
	return false;
}

/* Return: whether somebody called. */
static bool is_called(struct gate *g)
{
	struct timespec until = clock_timespec((int64_t)clock_after_ms(GATE_LOOK_MS));

	return sem_clockwait(&g->call, CLOCK_MONOTONIC, &until) == 0;
}

/* As the one who looks. Return: false: there were no requests for a while. */
static bool look(struct gate *g)
{
	unsigned taken = get(&g->taken), now, i;

	for (i = 0; i < LOOKS; i++) {
		if (is_called(g) || get(&g->inside) == 0)
			return true;
		now = get(&g->taken);
		if (now != taken)
			i = 0;
		taken = now;
	}
	return false;
}

static void wait_outside(struct gate *g)
{
	bool is_busy;

	if (!__atomic_exchange_n(&g->is_watched, true, __ATOMIC_SEQ_CST)) {
		is_busy = look(g);
		__atomic_store_n(&g->is_watched, false, __ATOMIC_SEQ_CST);
		if (is_busy || get(&g->inside) == 0)
			return;
	}
	(void)!sem_wait(&g->call);
}

static void enter(struct gate *g)
{
	bool is_in = go_in(g);

	if (is_in)
		return;
	__atomic_add_fetch(&g->outside, 1, __ATOMIC_SEQ_CST);
	while (!(is_in = go_in(g)))
		wait_outside(g);
	__atomic_sub_fetch(&g->outside, 1, __ATOMIC_SEQ_CST);
}

ssize_t gate_read(struct gate *g, int fd, void *to, size_t size, bool *ret_waited)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	enter(g);
	*ret_waited = poll(&p, 1, 0) > 0;
	n = read(fd, to, size);
	__atomic_add_fetch(&g->taken, 1, __ATOMIC_SEQ_CST);
	__atomic_sub_fetch(&g->inside, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&g->is_watched, __ATOMIC_SEQ_CST))
		let_in(g); /* who is called and finds no place begins to look */
	return n;
}

void gate_feel(struct gate *g, bool waited, unsigned who, bool several)
{
	bool is_other = __atomic_exchange_n(&g->last, who, __ATOMIC_RELAXED) != who;
	unsigned wanted = get(&g->wanted);

	if (waited && (is_other || several)) {
		__atomic_store_n(&g->calm, 0, __ATOMIC_RELAXED);
		if (__atomic_add_fetch(&g->pressed, 1, __ATOMIC_RELAXED) < PRESSED_MOST || wanted >= WANTED_MOST)
			return;
		__atomic_store_n(&g->pressed, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&g->wanted, wanted + 1, __ATOMIC_SEQ_CST);
		let_in(g);
	} else if (__atomic_add_fetch(&g->calm, 1, __ATOMIC_RELAXED) >= CALM_MOST) {
		__atomic_store_n(&g->calm, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&g->pressed, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&g->wanted, MAX(wanted, 2U) - 1, __ATOMIC_SEQ_CST);
	}
}
