/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One name is one entry: asked for (a question is out, its timer runs), or known until a moment. IPv4 is asked for
 * first, IPv6 when there is none. As with the names of sandboxes, a question goes out of a socket of its own under a
 * random number. Who asks for what is known is called by a timer that is due at once, so that nobody is ever called
 * from within his own question.
 */
#include "host/net/lookup.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/list.h"
#include "base/str.h"
#include "host/net/message.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { TRIES = 3, TRY_MS = 2500, KEPT_MAX_S = 60, KEPT_MIN_S = 1, ENTRIES_MAX = 256 };

struct lookup {
	struct loop *loop;
	struct resolvers from;
	struct list entries;
	size_t n;
};

struct entry {
	struct list node, waits;
	struct lookup *of;
	char name[MESSAGE_NAME_MAX + 1];
	bool asking;
	uint64_t until;
	struct priv_prefix v[LOOKUP_ADDRESSES_MAX];
	size_t n;
	uint16_t type, id;
	unsigned tries;
	int fd;
	struct loop_watch *watch;
	struct loop_timer *timer;
};

struct lookup_wait {
	struct list node;
	lookup_fn *fn;
	void *ctx;
};

static void ask(struct entry *x);

static void stop_asking(struct entry *x)
{
	loop_unwatch(&x->watch);
	fd_close(&x->fd);
}

static void entry_free(struct entry *x)
{
	stop_asking(x);
	loop_untimer(&x->timer);
	list_remove(&x->node);
	x->of->n--;
	while (!list_empty(&x->waits)) {
		struct lookup_wait *w = list_entry(x->waits.next, struct lookup_wait, node);

		list_remove(&w->node);
		free(w);
	}
	free(x);
}

struct lookup *lookup_new(struct loop *loop, const struct resolvers *from)
{
	struct lookup *l = NEW(struct lookup);

	l->loop = loop;
	l->from = *from;
	list_init(&l->entries);
	return l;
}

void lookup_free(struct lookup **slot)
{
	struct lookup *l = take(slot);

	if (!l)
		return;
	while (!list_empty(&l->entries))
		entry_free(list_entry(l->entries.next, struct entry, node));
	free(l);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void tell(struct entry *x)
{
	while (!list_empty(&x->waits)) {
		struct lookup_wait *w = list_entry(x->waits.next, struct lookup_wait, node);
		lookup_fn *fn = w->fn;
		void *ctx = w->ctx;

		list_remove(&w->node);
		free(w);
		fn(ctx, x->v, x->n);
	}
}

static void settle(struct entry *x, uint64_t kept_s)
{
	stop_asking(x);
	x->asking = false;
	x->until = clock_now() + MIN(MAX(kept_s, (uint64_t)KEPT_MIN_S), (uint64_t)KEPT_MAX_S) * CLOCK_S;
	loop_rearm(x->timer, CLOCK_NEVER);
	tell(x);
}

static void see(void *ctx, const struct priv_prefix *p)
{
	struct entry *x = ctx;

	if (x->n < LOOKUP_ADDRESSES_MAX)
		x->v[x->n++] = *p;
}

static void on_answer(void *ctx, int fd, unsigned events)
{
	struct entry *x = ctx;
	uint8_t *m = must_calloc(1, MESSAGE_MAX);
	ssize_t len = recv(fd, m, MESSAGE_MAX, MSG_DONTWAIT);
	struct question q;
	int ttl = -1;

	(void)events;
	if (len < 0) {
		if (errno != EAGAIN && errno != EINTR)
			ask(x); /* nobody is there */
	} else if (message_question(SPAN(m, (size_t)len), true, &q) == 0 && message_id(m) == x->id &&
		   q.type == x->type && q.class_ == 1 && str_eq(q.name, x->name)) {
		memset(m + 8, 0, 4); /* what is not of the answer is of other names */
		x->n = 0;
		ttl = message_answers(m, (size_t)len, KEPT_MAX_S, see, x);
		if (ttl < 0)
			x->n = 0;
		if (x->n || x->type == MESSAGE_AAAA) {
			settle(x, ttl > 0 ? (uint64_t)ttl : 0);
		} else {
			x->type = MESSAGE_AAAA;
			x->tries = 0;
			ask(x);
		}
	} /* else somebody guesses: the right one may still come */
	free(m);
}

/* --- questions ---------------------------------------------------------------------------------------------------- */

static int ask_one(struct entry *x, const struct priv_prefix *at)
{
	uint8_t m[MESSAGE_ASK_MAX];
	size_t len;
	int r = resolvers_dial(&x->of->from, at, SOCK_DGRAM, &x->fd);

	random_bytes(&x->id, sizeof(x->id));
	len = message_ask(m, x->id, x->name, x->type);
	if (r == 0 && send(x->fd, m, len, MSG_NOSIGNAL) < 0)
		r = -errno;
	return r < 0 ? r : loop_watch(x->of->loop, x->fd, LOOP_READ, on_answer, x, &x->watch);
}

static void ask(struct entry *x)
{
	struct resolvers *from = &x->of->from;
	int r = -1;

	resolvers_look(from);
	while (r < 0 && from->n && x->tries < TRIES) {
		stop_asking(x);
		r = ask_one(x, &from->v[x->tries++ % from->n]);
	}
	if (r < 0) {
		x->n = 0;
		settle(x, 0);
	} else {
		loop_rearm(x->timer, clock_after_ms(TRY_MS));
	}
}

static void on_time(void *ctx)
{
	struct entry *x = ctx;

	if (!x->asking) {
		tell(x);
		return;
	}
	ask(x);
}

static struct entry *find(struct lookup *l, const char *name)
{
	struct list *p, *next;

	for (p = l->entries.next; p != &l->entries; p = next) {
		struct entry *x = list_entry(p, struct entry, node);

		next = p->next;
		if (str_eq(x->name, name))
			return x;
		/* One that nobody waits for goes when it is void, or in the place of another. */
		if (!x->asking && list_empty(&x->waits) && (clock_now() > x->until || l->n >= ENTRIES_MAX))
			entry_free(x);
	}
	return NULL;
}

struct lookup_wait *lookup_ask(struct lookup *l, const char *name, lookup_fn *fn, void *ctx)
{
	struct lookup_wait *w = NEW(struct lookup_wait);
	struct entry *x = find(l, name);

	w->fn = fn;
	w->ctx = ctx;
	if (!x) {
		x = NEW(struct entry);
		x->of = l;
		x->fd = -1;
		snprintf(x->name, sizeof(x->name), "%s", name);
		list_init(&x->waits);
		list_append(&l->entries, &x->node);
		l->n++;
		x->timer = loop_timer(l->loop, CLOCK_NEVER, on_time, x);
	}
	list_append(&x->waits, &w->node);
	if (!x->asking && clock_now() >= x->until) {
		x->asking = true;
		x->type = MESSAGE_A;
		x->tries = 0;
		loop_rearm(x->timer, 0); /* the first question, too, goes from there */
	} else if (!x->asking) {
		loop_rearm(x->timer, 0);
	}
	return w;
}

void lookup_forget(struct lookup_wait **slot)
{
	struct lookup_wait *w = take(slot);

	if (!w)
		return;
	list_remove(&w->node);
	free(w);
}
