/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/tell.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

struct queued {
	struct list node;
	struct say_tell tell;
};

struct waiting {
	void (*fn)(void *ctx, int code);
	void *ctx;
	char *who; /* becomes known */
};

struct teller {
	struct loop *loop;
	struct loop_watch *watch;
	struct loop_timer *timer;
	int fd;
	struct list queue;
	size_t queued;
	struct map known;   /* "sandbox secret" whose first use was told */
	struct map waiting; /* struct waiting by number */
	int64_t id;
	struct say_tell kinds[TELL_KINDS];
	size_t n_kinds;
};

static void flush(struct teller *t)
{
	while (!list_empty(&t->queue)) {
		struct queued *q = list_entry(t->queue.next, struct queued, node);

		if (send(t->fd, &q->tell, sizeof(q->tell), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			if (errno != EINTR)
				break;
			continue;
		}
		list_remove(&q->node);
		t->queued--;
		mem_free(&q);
	}
	loop_rewatch(t->watch, list_empty(&t->queue) ? LOOP_READ : LOOP_READ | LOOP_WRITE);
}

static bool put(struct teller *t, const struct say_tell *what, bool always)
{
	struct queued *q;

	if (t->queued >= TELL_QUEUE && !always)
		return false;
	q = NEW(struct queued);
	q->tell = *what;
	q->tell.magic = SAY_MAGIC;
	memset(q->tell.who.secrets, 0, sizeof(q->tell.who.secrets));
	list_init(&q->node);
	list_append(&t->queue, &q->node);
	t->queued++;
	flush(t);
	return true;
}

static void waiting_free(struct waiting **slot)
{
	struct waiting *w = take(slot);

	if (w)
		str_free(&w->who);
	free(w);
}

static void on_heard(struct teller *t, const struct say_heard *h)
{
	AUTO(waiting_free) struct waiting *w = map_remove_u64(&t->waiting, h->id);

	if (!w)
		return;
	if (h->code == 0) {
		if (t->known.len >= TELL_KNOWN)
			map_fini(&t->known); /* their next use is a first one again */
		map_put(&t->known, span_str(w->who), t);
	}
	if (w->fn)
		w->fn(w->ctx, h->code);
}

static void on_ready(void *ctx, int fd, unsigned events)
{
	struct teller *t = ctx;
	struct say_heard h;
	ssize_t n;

	if (events & LOOP_WRITE)
		flush(t);
	while ((n = recv(fd, &h, sizeof(h), MSG_DONTWAIT)) == (ssize_t)sizeof(h))
		on_heard(t, &h);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		loop_stop(t->loop); /* the daemon is gone */
}

static void on_time(void *ctx)
{
	struct teller *t = ctx;
	size_t i;

	for (i = 0; i < t->n_kinds; i++)
		(void)!put(t, &t->kinds[i], false);
	t->n_kinds = 0;
}

struct teller *tell_new(struct loop *loop, int fd)
{
	struct teller *t = NEW(struct teller);

	t->loop = loop;
	t->fd = fd;
	list_init(&t->queue);
	t->timer = loop_timer(loop, CLOCK_NEVER, on_time, t);
	if (loop_watch(loop, fd, LOOP_READ, on_ready, t, &t->watch) < 0)
		tell_free(&t);
	return t;
}

void tell_free(struct teller **slot)
{
	struct teller *t = take(slot);
	struct waiting *w;
	struct list *node;

	if (!t)
		return;
	loop_unwatch(&t->watch);
	loop_untimer(&t->timer);
	while ((node = list_shift(&t->queue)))
		free(list_entry(node, struct queued, node));
	while ((w = map_take_any(&t->waiting)))
		waiting_free(&w);
	map_fini(&t->waiting);
	map_fini(&t->known);
	free(t);
}

int64_t tell_first(struct teller *t, const struct say_tell *what, void (*fn)(void *ctx, int code), void *ctx)
{
	AUTO(str_free) char *who = str_printf("%s %s", what->who.sandbox, what->secret);
	struct say_tell first = *what;
	struct waiting *w;

	if (map_get(&t->known, span_str(who)))
		return 0;
	first.kind = SAY_FIRST;
	first.id = (uint64_t)++t->id;
	if (!put(t, &first, false))
		return -EAGAIN;
	w = NEW(struct waiting);
	*w = (struct waiting){ .fn = fn, .ctx = ctx, .who = take(&who) };
	map_put_u64(&t->waiting, first.id, w);
	return t->id;
}

void tell_forget(struct teller *t, int64_t id)
{
	struct waiting *w = id > 0 ? map_get_u64(&t->waiting, (uint64_t)id) : NULL;

	if (w)
		w->fn = NULL; /* that it was told stays true */
}

static bool same_kind(const struct say_tell *a, const struct say_tell *b)
{
	return a->kind == b->kind && a->status == b->status && str_eq(a->who.sandbox, b->who.sandbox) &&
	       str_eq(a->who.exec, b->who.exec) && str_eq(a->secret, b->secret) && str_eq(a->service, b->service) &&
	       str_eq(a->method, b->method) && str_eq(a->host, b->host) && str_eq(a->path, b->path) &&
	       str_eq(a->rule, b->rule);
}

/* When there are too many kinds, the paths are left out, and at last the methods, hosts and commands. */
static struct say_tell *find_kind(struct teller *t, struct say_tell *what)
{
	size_t i, tries;

	for (tries = 0; tries < 3; tries++) {
		for (i = 0; i < t->n_kinds; i++)
			if (same_kind(&t->kinds[i], what))
				return &t->kinds[i];
		if (t->n_kinds < (tries + 1) * TELL_KINDS / 4) {
			t->kinds[t->n_kinds] = *what;
			return &t->kinds[t->n_kinds++];
		}
		snprintf(what->path, sizeof(what->path), "*");
		if (tries)
			snprintf(what->method, sizeof(what->method), "*");
		if (tries)
			snprintf(what->host, sizeof(what->host), "*");
		if (tries)
			what->who.exec[0] = what->who.command[0] = '\0';
	}
	return &t->kinds[0];
}

void tell_count(struct teller *t, const struct say_tell *what)
{
	struct say_tell one = *what, *k;

	one.count = 0;
	one.up_b = one.down_b = 0;
	if (t->n_kinds == 0)
		loop_rearm(t->timer, clock_after_ms(TELL_PAUSE_MS));
	k = find_kind(t, &one);
	k->count++;
	k->up_b += what->up_b;
	k->down_b += what->down_b;
}

void tell_gone(struct teller *t, uint32_t slot)
{
	const struct say_tell gone = { .kind = SAY_GONE, .slot = slot };

	(void)!put(t, &gone, true);
}
