/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/serve.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/map.h"
#include "base/str.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RATES_MAX = 16384 };

/* --- rates -------------------------------------------------------------------------------------------------------- */

struct rate {
	uint64_t at; /* when it was counted, clock_now() */
	double room; /* requests that are free now */
};

static void drop_rates(struct serve *s)
{
	struct rate *r;

	while ((r = map_take_any(&s->rates)))
		mem_free(&r);
}

/* One that may be @most in a minute, with what has become free since; NULL: any number may be. */
static struct rate *rate_of(struct serve *s, const char *sandbox, char kind, const char *name, uint64_t most)
{
	AUTO(str_free) char *key = str_printf("%s %c %s", sandbox, kind, name);
	struct rate *r = most ? map_get(&s->rates, span_str(key)) : NULL;
	uint64_t now = clock_now();

	if (!most)
		return NULL;
	if (!r) {
		r = NEW(struct rate);
		*r = (struct rate){ .at = now, .room = (double)most };
		map_put(&s->rates, span_str(key), r);
	}
	r->room = MIN((double)most, r->room + (double)(now - r->at) * (double)most / (60.0 * (double)CLOCK_S));
	r->at = now;
	return r;
}

bool serve_rate(struct serve *s, const struct say_who *who, const struct bound *b)
{
	struct rate *all[1 + RULE_SECRETS_MAX];
	size_t i, n = 0;

	if (s->rates.len + ARRAY_LEN(all) > RATES_MAX)
		drop_rates(s);
	all[n++] = rate_of(s, who->sandbox, 's', b->service->name, b->service->per_minute);
	for (i = 0; i < b->n_held; i++)
		all[n++] = rate_of(s, who->sandbox, 'k', bind_held(b, i)->policy.name,
				   bind_held(b, i)->policy.per_minute);
	for (i = 0; i < n; i++)
		if (all[i] && all[i]->room < 1.0)
			return false;
	for (i = 0; i < n; i++)
		if (all[i])
			all[i]->room -= 1.0;
	return true;
}

/* --- the daemon's questions --------------------------------------------------------------------------------------- */

static bool ask_ok(const struct say_ask *q)
{
	return q->magic == SAY_MAGIC && SAY_FIELD_OK(q->name) && SAY_FIELD_OK(q->who.sandbox) &&
	       SAY_FIELD_OK(q->who.template_) && SAY_FIELD_OK(q->who.key) && SAY_FIELD_OK(q->who.exec) &&
	       SAY_FIELD_OK(q->who.command) && SAY_FIELD_OK(q->who.secrets) && q->slot < SAY_SLOTS;
}

static void answer(struct serve *s, const struct err *e, struct span tail)
{
	struct say_answer a = { .err = *e };
	struct iovec iov[2] = { { &a, sizeof(a) }, { (void *)(uintptr_t)tail.p, tail.len } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

	if (sendmsg(s->ask, &m, MSG_NOSIGNAL) < 0)
		loop_stop(s->loop);
}

static void answer_value(struct serve *s, struct secret *value, const struct err *e, bool want)
{
	if (!value || !want) {
		answer(s, e, SPAN_NULL);
		return;
	}
	answer(s, e, SPAN(secret_use(value), secret_len(value)));
	secret_rest(value);
}

static void do_open(struct serve *s, struct span sealed, bool want)
{
	AUTO(secret_free) struct secret *value = NULL;
	struct err e = ERR_NULL;
	int r = want ? hold_give(s->hold, sealed, &value, &e) : hold_open(s->hold, sealed, &value, &e);

	if (r < 0 && !e.code)
		err_sys(&e, r, "opening a secret");
	answer_value(s, value, &e, want);
}

static void do_text(struct serve *s, const struct say_ask *q)
{
	const struct err none = ERR_NULL;
	struct err e = ERR_NULL;
	AUTO(buf_fini) struct buf b;

	buf_init(&b, SAY_TAIL_MAX);
	if (q->op == SAY_PUB)
		hold_pub(s->hold, &b);
	else
		offer_list(s->hold, s->services, s->ruled, &q->who, &b);
	if (b.failed)
		err_set(&e, -E2BIG, "too-many-services", "what there is to be told of services is too long");
	answer(s, b.failed ? &e : &none, b.failed ? SPAN_NULL : buf_span(&b));
}

static void on_question(struct serve *s, const struct say_ask *q, struct span tail, int *fd)
{
	struct err e = ERR_NULL;
	int r = 0;

	if (!ask_ok(q)) {
		err_set(&e, -EINVAL, "bad-request", "a question that is none");
		answer(s, &e, SPAN_NULL);
		return;
	}
	switch (q->op) {
	case SAY_PUB:
	case SAY_SERVICES:
		do_text(s, q);
		return;
	case SAY_OPEN:
	case SAY_CHECK:
		do_open(s, tail, q->op == SAY_OPEN);
		return;
	case SAY_KEEP:
		r = hold_keep(s->hold, q->name, tail, &e);
		break;
	case SAY_DROP:
		hold_drop(s->hold, q->name);
		break;
	case SAY_RULES:
		r = q->who.sandbox[0] ? ruled_set(s->ruled, q->who.sandbox, tail, &e) : -EINVAL;
		break;
	case SAY_TAKE:
		if (*fd < 0 || !q->who.sandbox[0])
			r = err_set(&e, -EINVAL, "bad-request", "no descriptor, or nobody's");
		else
			conn_new(s, &q->who, q->slot, fd_take(fd));
		break;
	default:
		r = err_set(&e, -EINVAL, "bad-request", "a question that is none");
	}
	if (r < 0 && !e.code)
		err_sys(&e, r, "the broker");
	answer(s, &e, SPAN_NULL);
}

static void on_ask(void *ctx, int fd, unsigned events UNUSED)
{
	AUTO(mem_free) uint8_t *in = must_calloc(1, sizeof(struct say_ask) + SAY_TAIL_MAX);
	AUTO(fd_close) int got = -1;
	struct serve *s = ctx;
	struct say_ask q;
	size_t n = 1;
	ssize_t len = io_recv_fds(fd, in, sizeof(q) + SAY_TAIL_MAX, &got, &n);

	if (len < (ssize_t)sizeof(q)) {
		loop_stop(s->loop); /* the daemon is gone */
		return;
	}
	if (n == 0)
		got = -1;
	memcpy(&q, in, sizeof(q));
	on_question(s, &q, SPAN(in + sizeof(q), (size_t)len - sizeof(q)), &got);
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

int serve_init(struct serve *s, const char *dirs, int ask, int tell, int slots, int key, struct err *e)
{
	void *p;
	int r;

	*s = (struct serve){ .ask = ask };
	list_init(&s->conns);
	list_init(&s->stalled);
	r = loop_new(&s->loop, e);
	if (r == 0)
		r = hold_new(key, &s->hold, e);
	if (r == 0)
		r = up_new(s->loop, &s->up, e);
	if (r < 0)
		return r;
	s->stall_timer = loop_timer(s->loop, CLOCK_NEVER, conn_cut_stalled, s);
	p = mmap(NULL, SAY_SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, slots, 0);
	if (p == MAP_FAILED)
		return err_sys(e, -errno, "the memory file");
	s->slots = p;
	s->services = services_new(dirs);
	s->ruled = ruled_new();
	s->teller = tell_new(s->loop, tell);
	r = s->teller ? loop_watch(s->loop, ask, LOOP_READ, on_ask, s, &s->ask_watch) : -ENOMEM;
	return r < 0 ? err_sys(e, r, "epoll") : 0;
}

void serve_fini(struct serve *s)
{
	conn_end_all(s);
	loop_untimer(&s->stall_timer);
	loop_unwatch(&s->ask_watch);
	tell_free(&s->teller);
	up_free(&s->up);
	services_free(&s->services);
	ruled_free(&s->ruled);
	hold_free(&s->hold);
	drop_rates(s);
	map_fini(&s->rates);
	if (s->slots)
		munmap((void *)(uintptr_t)s->slots, SAY_SLOTS);
	loop_free(&s->loop);
}
