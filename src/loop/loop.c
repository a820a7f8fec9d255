/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. epoll's user data points to a loop_watch. A callback may remove other watches whose events wait in the same
 * batch, so removal only marks the watch dead and moves it to a graveyard that is emptied when the batch is over.
 * Timers sit in a binary heap ordered by moment. Mail is a locked list and an eventfd; the list is taken whole, so a
 * callback that posts again cannot keep the loop from its descriptors.
 */
#include "loop/loop.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/vec.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BATCH = 64, NOT_IN_HEAP = -1 };

struct loop_watch {
	struct list node; /* in loop.watches, or loop.graveyard when dead */
	struct loop *loop;
	int fd;
	unsigned events;
	bool dead;
	loop_watch_fn *fn;
	void *ctx;
};

struct loop_timer {
	struct loop *loop;
	uint64_t at;
	ssize_t pos; /* in the heap, or NOT_IN_HEAP */
	loop_timer_fn *fn;
	void *ctx;
};

struct mail {
	struct list node;
	loop_mail_fn *fn;
	void *ctx;
};

struct loop {
	int epfd, mailfd;
	bool is_old; /* no epoll_pwait2 */
	pthread_t thread;
	int stop;    /* atomic */
	int running; /* atomic */
	struct list watches, graveyard;
	struct loop_watch *mail_watch;
	VEC(struct loop_timer *) heap;
	struct lock lock; /* guards inbox */
	struct list inbox;
};

static void heap_set(struct loop *l, size_t i, struct loop_timer *t)
{
	l->heap.v[i] = t;
	t->pos = (ssize_t)i;
}

static void heap_up(struct loop *l, size_t i)
{
	struct loop_timer *t = l->heap.v[i];

	while (i && l->heap.v[(i - 1) / 2]->at > t->at) {
		heap_set(l, i, l->heap.v[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_set(l, i, t);
}

static void heap_down(struct loop *l, size_t i)
{
	struct loop_timer *t = l->heap.v[i];

	for (;;) {
		size_t kid = 2 * i + 1;

		if (kid >= l->heap.len)
			break;
		if (kid + 1 < l->heap.len && l->heap.v[kid + 1]->at < l->heap.v[kid]->at)
			kid++;
		if (l->heap.v[kid]->at >= t->at)
			break;
		heap_set(l, i, l->heap.v[kid]);
		i = kid;
	}
	heap_set(l, i, t);
}

static void heap_remove(struct loop *l, struct loop_timer *t)
{
	size_t i = (size_t)t->pos;
	struct loop_timer *last;

	if (t->pos == NOT_IN_HEAP)
		return;
	t->pos = NOT_IN_HEAP;
	last = l->heap.v[--l->heap.len];
	if (last == t)
		return;
	heap_set(l, i, last);
	heap_up(l, i);
	heap_down(l, (size_t)last->pos);
}

static void mail_read(void *ctx, int fd, unsigned events)
{
	struct loop *l = ctx;
	struct list mine, *node;
	uint64_t n;

	(void)events;
	(void)!read(fd, &n, sizeof(n));
	list_init(&mine);
	lock_take(&l->lock);
	list_splice(&mine, &l->inbox);
	lock_drop(&l->lock);
	while ((node = list_shift(&mine))) {
		struct mail *m = list_entry(node, struct mail, node);
		loop_mail_fn *fn = m->fn;
		void *arg = m->ctx;

		free(m);
		fn(arg);
	}
}

int loop_new(struct loop **ret, struct err *e)
{
	AUTO(loop_free) struct loop *l = NEW(struct loop);
	int r;

	list_init(&l->watches);
	list_init(&l->graveyard);
	list_init(&l->inbox);
	lock_init(&l->lock, "loop-mail", LOCK_LOOP);
	l->thread = pthread_self();
	l->mailfd = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		return err_sys(e, -errno, "epoll_create");
	l->mailfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->mailfd < 0)
		return err_sys(e, -errno, "eventfd");
	r = loop_watch(l, l->mailfd, LOOP_READ, mail_read, l, &l->mail_watch);
	if (r < 0)
		return err_sys(e, r, "epoll_ctl");
	*ret = take(&l);
	return 0;
}

static void bury(struct loop *l)
{
	struct list *node;

	while ((node = list_shift(&l->graveyard)))
		free(list_entry(node, struct loop_watch, node));
}

void loop_free(struct loop **slot)
{
	struct loop *l = take(slot);
	struct list *node;

	if (!l)
		return;
	list_splice(&l->graveyard, &l->watches);
	bury(l);
	while (l->heap.len)
		free(l->heap.v[--l->heap.len]);
	vec_fini(&l->heap);
	while ((node = list_shift(&l->inbox)))
		free(list_entry(node, struct mail, node));
	lock_fini(&l->lock);
	fd_close(&l->mailfd);
	fd_close(&l->epfd);
	free(l);
}

static uint32_t to_epoll(unsigned events)
{
	return (events & LOOP_READ ? EPOLLIN | EPOLLRDHUP : 0U) | (events & LOOP_WRITE ? (unsigned)EPOLLOUT : 0U) |
	       (events & LOOP_LEAVES ? (unsigned)EPOLLRDHUP : 0U);
}

int loop_watch(struct loop *l, int fd, unsigned events, loop_watch_fn *fn, void *ctx, struct loop_watch **ret)
{
	struct loop_watch *w = NEW(struct loop_watch);
	struct epoll_event ev = { .events = to_epoll(events), .data.ptr = w };

	*w = (struct loop_watch){ .loop = l, .fd = fd, .events = events, .fn = fn, .ctx = ctx };
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int r = -errno;

		free(w);
		return r;
	}
	list_init(&w->node);
	list_append(&l->watches, &w->node);
	*ret = w;
	return 0;
}

void loop_rewatch(struct loop_watch *w, unsigned events)
{
	struct epoll_event ev = { .events = to_epoll(events), .data.ptr = w };

	if (w->events == events)
		return;
	w->events = events;
	epoll_ctl(w->loop->epfd, EPOLL_CTL_MOD, w->fd, &ev);
}

void loop_unwatch(struct loop_watch **slot)
{
	struct loop_watch *w = take(slot);

	if (!w)
		return;
	epoll_ctl(w->loop->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	w->dead = true;
	list_remove(&w->node);
	list_append(&w->loop->graveyard, &w->node);
}

struct loop_timer *loop_timer(struct loop *l, uint64_t at, loop_timer_fn *fn, void *ctx)
{
	struct loop_timer *t = NEW(struct loop_timer);

	*t = (struct loop_timer){ .loop = l, .pos = NOT_IN_HEAP, .fn = fn, .ctx = ctx, .at = CLOCK_NEVER };
	loop_rearm(t, at);
	return t;
}

void loop_rearm(struct loop_timer *t, uint64_t at)
{
	struct loop *l = t->loop;

	heap_remove(l, t);
	t->at = at;
	if (at == CLOCK_NEVER)
		return;
	vec_push(&l->heap, t);
	t->pos = (ssize_t)l->heap.len - 1;
	heap_up(l, l->heap.len - 1);
}

void loop_untimer(struct loop_timer **slot)
{
	struct loop_timer *t = take(slot);

	if (!t)
		return;
	heap_remove(t->loop, t);
	free(t);
}

void loop_post(struct loop *l, loop_mail_fn *fn, void *ctx)
{
	struct mail *m = NEW(struct mail);
	uint64_t one = 1;
	bool first;

	m->fn = fn;
	m->ctx = ctx;
	lock_take(&l->lock);
	first = list_empty(&l->inbox);
	list_append(&l->inbox, &m->node);
	lock_drop(&l->lock);
	if (first)
		(void)!write(l->mailfd, &one, sizeof(one));
}

void loop_stop(struct loop *l)
{
	uint64_t one = 1;

	__atomic_store_n(&l->stop, 1, __ATOMIC_RELEASE);
	(void)!write(l->mailfd, &one, sizeof(one));
}

struct sync {
	struct lock lock;
	pthread_cond_t cond;
	bool done;
};

static void sync_hit(void *ctx)
{
	struct sync *s = ctx;

	lock_take(&s->lock);
	s->done = true;
	pthread_cond_broadcast(&s->cond);
	lock_drop(&s->lock);
}

void loop_sync(struct loop *l)
{
	struct sync s = { .done = false };

	if (!__atomic_load_n(&l->running, __ATOMIC_ACQUIRE))
		return;
	lock_init(&s.lock, "loop-sync", LOCK_LEAF);
	lock_cond_init(&s.cond);
	loop_post(l, sync_hit, &s);
	lock_take(&s.lock);
	while (!s.done)
		lock_wait(&s.lock, &s.cond, CLOCK_NEVER);
	lock_drop(&s.lock);
	pthread_cond_destroy(&s.cond);
	lock_fini(&s.lock);
}

bool loop_is_mine(const struct loop *l)
{
	return pthread_equal(l->thread, pthread_self()) != 0;
}

static void run_timers(struct loop *l)
{
	uint64_t now = clock_now();

	while (l->heap.len && l->heap.v[0]->at <= now) {
		struct loop_timer *t = l->heap.v[0];

		heap_remove(l, t);
		t->at = CLOCK_NEVER;
		t->fn(t->ctx);
	}
}

static unsigned from_epoll(uint32_t ev)
{
	return (ev & (EPOLLIN | EPOLLRDHUP) ? LOOP_READ : 0U) | (ev & EPOLLOUT ? LOOP_WRITE : 0U) |
	       (ev & (EPOLLHUP | EPOLLERR) ? LOOP_HANGUP : 0U);
}

/* Until the first timer, to the nanosecond; the kernels before 5.11 know milliseconds. */
static int wait_until(struct loop *l, struct epoll_event ev[BATCH], uint64_t until)
{
	uint64_t now = clock_now(), left = until > now ? until - now : 0;
	struct timespec at = { .tv_sec = (time_t)(left / CLOCK_S), .tv_nsec = (long)(left % CLOCK_S) };
	int n = -1;

	if (!l->is_old)
		n = epoll_pwait2(l->epfd, ev, BATCH, until == CLOCK_NEVER ? NULL : &at, NULL);
	l->is_old |= n < 0 && (errno == ENOSYS || errno == EPERM); /* a filter that does not know it says the latter */
	return l->is_old ? epoll_wait(l->epfd, ev, BATCH, clock_left_ms(until)) : n;
}

int loop_once(struct loop *l, int timeout_ms)
{
	struct epoll_event ev[BATCH];
	uint64_t until = timeout_ms < 0 ? CLOCK_NEVER : clock_after_ms((uint64_t)timeout_ms);
	int n, i;

	n = wait_until(l, ev, l->heap.len ? MIN(until, l->heap.v[0]->at) : until);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (i = 0; i < n; i++) {
		struct loop_watch *w = ev[i].data.ptr;

		if (!w->dead)
			w->fn(w->ctx, w->fd, from_epoll(ev[i].events));
	}
	run_timers(l);
	bury(l);
	return 0;
}

int loop_run(struct loop *l)
{
	l->thread = pthread_self();
	__atomic_store_n(&l->running, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		int r = loop_once(l, -1);

		if (r < 0)
			return r;
	}
	__atomic_store_n(&l->running, 0, __ATOMIC_RELEASE);
	loop_once(l, 0);
	return 0;
}
