/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question goes out of a socket of its own, connected to the resolver, under a number of its own: an answer that
 * somebody else made up has to guess port and number. Who asked by TCP is answered from TCP, since that is why they
 * did.
 */
#include "host/net/names-inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void stop_asking(struct query *q)
{
	loop_unwatch(&q->watch);
	fd_close(&q->fd);
	buf_fini(&q->in);
	q->sent = 0;
}

void query_end(struct query *q)
{
	struct names *n = q->names;
	struct client *c = q->client;

	stop_asking(q);
	loop_untimer(&q->timer);
	list_remove(&q->node);
	n->n_queries--;
	n->asked[q->range]--;
	free(q->m);
	free(q);
	if (c && --c->queries == 0 && c->gone)
		client_drop(c);
}

static void give_up(struct query *q, unsigned code)
{
	uint8_t *m = q->m + 2;

	query_reply(q, m, message_refuse(m, q->q.end, code));
	query_end(q);
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

struct told {
	struct names *names;
	uint32_t range;
	struct priv_prefix v[TOLD_MAX];
	size_t n;
	bool hidden;
};

static void see(void *ctx, const struct priv_prefix *p)
{
	struct told *t = ctx;

	t->hidden |= t->n == TOLD_MAX || t->names->conf.hides(t->names->conf.ctx, t->range, p);
	if (t->n < TOLD_MAX)
		t->v[t->n++] = *p;
}

/* Of the answer alone: an address in another part of the message is some other name's. */
static void tell(struct query *q, uint8_t *m, size_t len, uint32_t life, struct told *t)
{
	struct names *n = q->names;
	uint8_t others[4];

	memcpy(others, m + 8, sizeof(others));
	memset(m + 8, 0, sizeof(others));
	t->n = 0;
	if (message_answers(m, len, NAMES_TTL_MAX, see, t) >= 0 && t->n)
		n->conf.told(n->conf.ctx, q->range, q->q.name, life, t->v, t->n);
	memcpy(m + 8, others, sizeof(others));
}

/* Return: false when it may not be passed on. */
static bool pass(struct query *q, uint8_t *m, size_t len)
{
	struct names *n = q->names;
	struct told *t = NEW(struct told);
	uint32_t life;
	size_t at;
	bool ok;
	int ttl;

	t->names = n;
	t->range = q->range;
	ttl = message_answers(m, len, NAMES_TTL_MAX, see, t);
	ok = ttl >= 0 && !t->hidden;
	life = MAX((uint32_t)MAX(ttl, 0), (uint32_t)NAMES_LIFE_MIN) + NAMES_LIFE_MIN;
	if (t->hidden)
		log_debug("names", "an answer with addresses of no internet is not passed on", "name=%s range=%u",
			  q->q.name, q->range);
	/* The addresses outlive what the sandbox was told, so that what it keeps is not void before. */
	for (at = 0; ok && q->verdict == POLICY_ALLOWED && at < t->n; at += PRIV_NET_NAMES_MAX)
		ok = n->conf.learn(n->conf.ctx, q->range, life, t->v + at,
				   MIN(t->n - at, (size_t)PRIV_NET_NAMES_MAX)) == 0;
	if (ok && n->conf.told)
		tell(q, m, len, life, t);
	mem_free(&t);
	return ok;
}

/* Return: whether it was the answer. */
static bool take_answer(struct query *q, uint8_t *m, size_t len)
{
	struct question a;

	if (message_question(SPAN(m, len), true, &a) < 0 || message_id(m) != message_id(q->m + 2) ||
	    a.type != q->q.type || a.class_ != q->q.class_ || !str_eq(a.name, q->q.name))
		return false;
	if (!pass(q, m, len)) {
		give_up(q, MESSAGE_NXDOMAIN);
		return true;
	}
	message_set_id(m, q->id);
	query_reply(q, m, len);
	query_end(q);
	return true;
}

static void on_datagram(void *ctx, int fd, unsigned events)
{
	struct query *q = ctx;
	uint8_t *m = must_calloc(1, MESSAGE_MAX);
	ssize_t n = recv(fd, m, MESSAGE_MAX, MSG_DONTWAIT);

	(void)events;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		query_ask(q); /* nobody is there */
	else if (n > 0)
		(void)!take_answer(q, m, (size_t)n); /* else somebody guesses: the right one may still come */
	free(m);
}

static void on_stream(void *ctx, int fd, unsigned events)
{
	struct query *q = ctx;
	uint8_t b[4096];
	const uint8_t *p;
	ssize_t n = 0;

	if (q->sent < q->len + 2) {
		n = send(fd, q->m + q->sent, q->len + 2 - q->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			query_ask(q);
			return;
		}
		q->sent += n > 0 ? (size_t)n : 0;
		if (q->sent == q->len + 2)
			loop_rewatch(q->watch, LOOP_READ);
		return;
	}
	if (!(events & (LOOP_READ | LOOP_HANGUP)))
		return;
	n = recv(fd, b, sizeof(b), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buf_append(&q->in, b, (size_t)n) < 0) {
		query_ask(q);
		return;
	}
	p = q->in.p + q->in.start;
	if (buf_len(&q->in) < 2 || buf_len(&q->in) < 2U + (size_t)(p[0] << 8 | p[1]))
		return;
	if (!take_answer(q, q->in.p + q->in.start + 2, (size_t)(p[0] << 8 | p[1])))
		query_ask(q);
}

/* --- the question ------------------------------------------------------------------------------------------------- */

static int ask_one(struct query *q, const struct priv_prefix *at)
{
	struct names *n = q->names;
	uint16_t id;
	int r = resolvers_dial(&n->resolvers, at, q->client ? SOCK_STREAM : SOCK_DGRAM, &q->fd);

	random_bytes(&id, sizeof(id));
	message_set_id(q->m + 2, id);
	buf_init(&q->in, MESSAGE_MAX + 2);
	if (r == 0 && !q->client && send(q->fd, q->m + 2, q->len, MSG_NOSIGNAL) < 0)
		r = -errno;
	if (r == 0)
		r = loop_watch(n->loop, q->fd, q->client ? LOOP_READ | LOOP_WRITE : LOOP_READ,
			       q->client ? on_stream : on_datagram, q, &q->watch);
	return r;
}

static void on_late(void *ctx)
{
	query_ask(ctx);
}

void query_ask(struct query *q)
{
	struct names *n = q->names;
	int r = -1;

	resolvers_look(&n->resolvers);
	while (r < 0 && n->resolvers.n && q->tries < TRIES) {
		stop_asking(q);
		r = ask_one(q, &n->resolvers.v[q->tries++ % n->resolvers.n]);
	}
	if (r < 0) {
		give_up(q, MESSAGE_SERVFAIL);
		return;
	}
	if (!q->timer)
		q->timer = loop_timer(n->loop, CLOCK_NEVER, on_late, q);
	loop_rearm(q->timer, clock_after_ms(TRY_MS));
}
