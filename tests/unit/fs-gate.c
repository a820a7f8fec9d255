/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that wait for requests: one is enough for who asks one after the other, and nobody waits in vain. */
#include "base/clock.h"
#include "host/fs/gate.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

enum { THREADS = 8, OFTEN = 2000, LATEST_MS = 20000 };
enum { HOLD = 'h', GO = 'g', END = 'e' };

static struct {
	struct gate gate;
	int ask[2], answer[2];
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned held, went, changes;
	int last;
} s = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER, .last = -1 };

/* Until so many hold a request at once: with fewer threads inside it would never be. */
static void hold(void)
{
	pthread_mutex_lock(&s.lock);
	s.held++;
	pthread_cond_broadcast(&s.cond);
	while (s.held < THREADS - 1)
		pthread_cond_wait(&s.cond, &s.lock);
	pthread_mutex_unlock(&s.lock);
}

static void *serve(void *ctx)
{
	int me = (int)(intptr_t)ctx;
	bool waited;
	char what;

	while (gate_read(&s.gate, s.ask[0], &what, 1, &waited) == 1 && what != END) {
		gate_feel(&s.gate, waited, 1, false);
		if (what == HOLD)
			hold();
		pthread_mutex_lock(&s.lock);
		s.went++;
		s.changes += s.last != me;
		s.last = me;
		pthread_mutex_unlock(&s.lock);
		cr_assert_eq(write(s.answer[1], &what, 1), 1);
	}
	return NULL;
}

static void ask(char what)
{
	cr_assert_eq(write(s.ask[1], &what, 1), 1);
}

static void await_answer(void)
{
	struct pollfd p = { .fd = s.answer[0], .events = POLLIN };
	char what;

	cr_assert_eq(poll(&p, 1, LATEST_MS), 1, "a request was not taken");
	cr_assert_eq(read(s.answer[0], &what, 1), 1);
}

static void start(pthread_t *threads)
{
	int i;

	gate_init(&s.gate);
	cr_assert_eq(pipe(s.ask), 0);
	cr_assert_eq(pipe(s.answer), 0);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, serve, (void *)(intptr_t)i);
}

static void end(pthread_t *threads)
{
	int i;

	for (i = 0; i < THREADS; i++)
		ask(END);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	gate_fini(&s.gate);
}

Test(gate, who_asks_one_after_the_other_is_served_by_few, .timeout = 60)
{
	pthread_t threads[THREADS];
	int i;

	start(threads);
	for (i = 0; i < OFTEN; i++) {
		ask(GO);
		await_answer();
	}
	cr_assert_eq(s.went, OFTEN);
	cr_assert_lt(s.changes, OFTEN / 2, "another thread %u times", s.changes);
	end(threads);
}

/* All but one are at work and do not come back until the last has come; the one that is left serves others meanwhile.
 * Again and again, with a calm between, in which nobody looks. */
Test(gate, threads_that_do_not_come_back_keep_nobody, .timeout = 60)
{
	pthread_t threads[THREADS];
	int i, k;

	start(threads);
	for (k = 0; k < 5; k++) {
		for (i = 0; i < THREADS - 1; i++)
			ask(HOLD);
		for (i = 0; i < THREADS - 1; i++)
			await_answer();
		pthread_mutex_lock(&s.lock);
		s.held = 0;
		pthread_mutex_unlock(&s.lock);
		while (__atomic_load_n(&s.gate.is_watched, __ATOMIC_SEQ_CST))
			(void)!poll(NULL, 0, 1);
		ask(GO);
		await_answer();
	}
	end(threads);
}
