/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox's end of the broker (docs/broker.md). Inside, the agent listens on a port of a loopback address that is
 * called berth.internal; whoever connects there is announced, taken by a tunnel, and handed to the broker as one end of
 * a pair of sockets. Whose it is comes from the link on which it was announced, nothing from what is said on it.
 *
 * What a guest may hold here is few: connections, and asks that wait. One job of a sandbox is queued at a time, so that
 * an agent that does not answer costs the others a thread for a moment and not all of them.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/broker/client.h"
#include "host/broker/rules.h"
#include "host/link/pump.h"
#include "host/secret/secret.h"
#include "wire/frame.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

enum { THREADS = 8, DIAL_MS = 3000, CALL_MS = 10000, ASKS_MAX = 64, VARIABLES_MAX = 60 * 1024, GIT_MAX = 64 };

#define SERVICE "berth-broker"
#define ADDRESS "127.19.0.1"
#define HOST "berth.internal"

/* Of one sandbox and its link, from the first service that it has until the link is hung up. */
struct brokered {
	struct hub *hub;
	char id[PRIV_ID_MAX + 1], template_[PRIV_ID_MAX + 1], secrets[HUB_SECRETS_MAX], owner[20];
	struct lock lock; /* guards all below */
	struct ws *ws;	  /* borrowed; NULL: it is gone */
	uint64_t asks[ASKS_MAX];
	size_t n_asks, n_open;
	bool is_busy;	     /* a job is queued or runs */
	struct list streams; /* the loop's own, as the next */
	unsigned refs;
};

struct stream {
	struct list node; /* in brokered.streams, while it is pumped */
	struct brokered *b;
	struct pump *pump;
	int agent_fd, fd;
};

static const struct broker_who *who_of(const struct hub_info *i, struct broker_who *to)
{
	*to = (struct broker_who){ .sandbox = i->id, .template_ = i->template_, .secrets = i->secrets,
				   .key = i->owner[0] ? i->owner : NULL };
	return to;
}

/* --- one connection ----------------------------------------------------------------------------------------------- */

static void drop(struct brokered *b)
{
	if (__atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL))
		return;
	lock_fini(&b->lock);
	free(b);
}

/* One stream less. */
static void leave(struct brokered *b)
{
	share_leave(&b->hub->streams, b->owner);
	lock_take(&b->lock);
	b->n_open--;
	lock_drop(&b->lock);
	drop(b);
}

static void stream_end(struct stream *s)
{
	struct brokered *b = s->b;

	list_remove(&s->node);
	pump_free(&s->pump);
	fd_close(&s->agent_fd);
	fd_close(&s->fd);
	free(s);
	leave(b);
}

/* The pump is gone by itself. */
static void stream_over(void *ctx)
{
	struct stream *s = ctx;

	s->pump = NULL;
	stream_end(s);
}

static void stream_on_loop(void *ctx)
{
	struct stream *s = ctx;
	bool gone;

	lock_take(&s->b->lock);
	gone = !s->b->ws;
	lock_drop(&s->b->lock);
	if (gone || pump_new(s->b->hub->conf.loop, fd_take(&s->agent_fd), fd_take(&s->fd), stream_over, s,
			     &s->pump) < 0)
		stream_end(s);
	else
		list_append(&s->b->streams, &s->node);
}

/* What the agent says of it: words of a guest, which count for nothing but the audit. */
struct asker {
	char exec[65], word[129];
};

static int read_asker(const struct frame *f, struct asker *ret)
{
	struct msg_TUNNEL_OPENED m;
	int r = msg_decode(MSG_TUNNEL_OPENED, f->payload, &m, NULL);

	if (r < 0)
		return r;
	memcpy(ret->exec, m.exec.p, m.exec.len); /* both are as short as msg.def has it */
	memcpy(ret->word, m.word.p, m.word.len);
	return 0;
}

static int take_stream(struct link *link, uint64_t ask, int *ret_fd, struct asker *ret, struct err *e)
{
	struct msg_TUNNEL_TAKE m = { .ask = ask };
	uint64_t until = clock_after_ms(DIAL_MS);
	AUTO(fd_close) int fd = -1;
	AUTO(buf_fini) struct buf in;
	struct frame f;
	int r = link_dial(link, WIRE_TUNNEL, until, &fd, e);

	buf_init(&in, FRAME_MAX + FRAME_HEADER);
	if (r == 0)
		r = frame_send(fd, MSG_TUNNEL_TAKE, &m, until);
	if (r == 0)
		r = frame_recv_one(fd, &in, &f, until, e);
	if (r == 0 && f.type != MSG_TUNNEL_OPENED)
		r = f.type == MSG_ERROR ? frame_refused(&f, e) : -EBADMSG;
	if (r == 0)
		r = read_asker(&f, ret);
	if (r == 0)
		*ret_fd = fd_take(&fd);
	return r;
}

/* Return: whether it is on its way; else nothing is left of it. */
static bool begin(struct brokered *b, struct ws *ws, uint64_t ask)
{
	struct hub_info i = { .id = "" };
	struct broker_who who;
	struct err e = ERR_NULL;
	int agent_fd, pair[2] = { -1, -1 };
	struct asker asker = { .exec = "" };
	struct stream *s;
	int r = take_stream(ws_link(ws), ask, &agent_fd, &asker, &e);

	if (r < 0) {
		log_debug("broker", "not taken", "sandbox=%s why=%s", b->id, e.code ? e.text : err_name(r));
		return false;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		r = err_sys(&e, -errno, "a pair of sockets");
	memcpy(i.id, b->id, sizeof(i.id));
	memcpy(i.template_, b->template_, sizeof(i.template_));
	memcpy(i.secrets, b->secrets, sizeof(i.secrets));
	memcpy(i.owner, b->owner, sizeof(i.owner));
	who_of(&i, &who);
	who.exec = asker.exec;
	who.command = asker.word;
	if (r == 0)
		r = broker_take(b->hub->conf.broker, &who, fd_take(&pair[1]), &e);
	if (r < 0) {
		log_debug("broker", "not handed over", "sandbox=%s why=%s", b->id, e.text);
		fd_close(&pair[0]);
		fd_close(&agent_fd);
		return false;
	}
	s = NEW(struct stream);
	*s = (struct stream){ .b = b, .agent_fd = agent_fd, .fd = pair[0] };
	list_init(&s->node);
	loop_post(b->hub->conf.loop, stream_on_loop, s);
	return true;
}

/* The oldest ask, then the next one behind whatever other sandboxes wait for. */
static void job(void *ctx)
{
	struct brokered *b = ctx;
	struct ws *ws = NULL;
	uint64_t ask = 0;
	bool more;

	lock_take(&b->lock);
	if (b->ws && b->n_asks) {
		ws = ws_ref(b->ws);
		ask = b->asks[0];
		memmove(b->asks, b->asks + 1, --b->n_asks * sizeof(*b->asks));
	}
	lock_drop(&b->lock);
	if (ws && (!ws_link(ws) || !begin(b, ws, ask)))
		leave(b);
	ws_unref(&ws);
	lock_take(&b->lock);
	more = b->is_busy = b->ws && b->n_asks;
	lock_drop(&b->lock);
	if (more)
		pool_run(b->hub->brokered, job, b);
	else
		drop(b);
}

static void on_ask(void *ctx, uint64_t ask)
{
	struct brokered *b = ctx;
	bool shared = share_take(&b->hub->streams, b->owner), mine, starts = false;

	lock_take(&b->lock);
	mine = shared && b->ws && b->n_asks < ASKS_MAX && b->n_open < HUB_BROKERED_MAX;
	if (mine) {
		b->asks[b->n_asks++] = ask;
		b->n_open++;
		__atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
		starts = !b->is_busy;
		b->is_busy = true;
	}
	lock_drop(&b->lock);
	if (shared && !mine)
		share_leave(&b->hub->streams, b->owner);
	if (!mine && b->ws)
		link_refuse(ws_link(b->ws), ask);
	if (starts) {
		__atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
		pool_run(b->hub->brokered, job, b);
	}
}

static void on_gone(void *ctx)
{
	struct brokered *b = ctx;
	size_t n;

	lock_take(&b->lock);
	b->ws = NULL;
	n = b->n_asks;
	b->n_asks = 0;
	lock_drop(&b->lock);
	while (n--)
		leave(b);
	while (!list_empty(&b->streams))
		stream_end(list_entry(b->streams.next, struct stream, node));
	drop(b);
}

/* --- what its commands are told ----------------------------------------------------------------------------------- */

struct told {
	struct msg_list list;
	size_t n_git, n_vars;
	int r;
};

static void tell(struct told *t, const char *name, const char *value)
{
	AUTO(str_free) char *pair = str_printf("%s=%s", name, value);
	struct span left = msg_list_span(&t->list), one;

	while (msg_strv_next(&left, &one)) /* of two services the first */
		if (one.len > strlen(name) && memcmp(one.p, pair, strlen(name) + 1) == 0)
			return;
	if (t->r == 0)
		t->r = msg_list_str(&t->list, span_str(pair));
	t->n_vars++;
}

/* git reads these behind its files: whoever sets the count himself has his own instead. */
static void tell_git(struct told *t, const struct broker_service *s)
{
	AUTO(str_free) char *key = str_printf("GIT_CONFIG_KEY_%zu", t->n_git);
	AUTO(str_free) char *value = str_printf("GIT_CONFIG_VALUE_%zu", t->n_git);
	AUTO(str_free) char *what = str_printf("url.%s.insteadOf", s->git_to);

	if (t->n_git == GIT_MAX)
		return;
	tell(t, key, what);
	tell(t, value, s->git_from);
	t->n_git++;
}

/* Where the hosts are that rules name: "api.example.com=http://berth.internal/rules/api.example.com/ …". */
static void tell_rules(struct told *t, const struct broker_services *all)
{
	AUTO(buf_fini) struct buf b;
	size_t i;

	buf_init(&b, VARIABLES_MAX);
	for (i = 0; i < all->n; i++)
		if (str_starts(all->v[i].name, RULES_SERVICE "/"))
			buf_printf(&b, "%s%s=http://" HOST "/%s/", buf_len(&b) ? " " : "",
				   all->v[i].name + strlen(RULES_SERVICE "/"), all->v[i].name);
	if (buf_len(&b))
		tell(t, "BERTH_RULES", buf_str(&b));
}

static int variables(const struct broker_services *all, struct msg_list *ret, struct err *e)
{
	struct told t = { .n_git = 0 };
	char count[16];
	size_t i, k;

	msg_list_init(&t.list, VARIABLES_MAX);
	for (i = 0; i < all->n; i++) {
		for (k = 0; k < all->v[i].n_vars; k++)
			tell(&t, all->v[i].vars[k].name, all->v[i].vars[k].value);
		if (all->v[i].git_from && all->v[i].git_to)
			tell_git(&t, &all->v[i]);
	}
	tell_rules(&t, all);
	snprintf(count, sizeof(count), "%zu", t.n_git);
	if (t.n_git)
		tell(&t, "GIT_CONFIG_COUNT", count);
	*ret = t.list;
	return t.r < 0 ? err_set(e, t.r, "too-many-services", "its services have too many variables") : 0;
}

static int serve(struct hub *hub, const struct hub_info *i, struct ws *ws, struct err *e)
{
	struct link_service service = { .ask = on_ask, .gone = on_gone };
	struct msg_LISTEN_AT m = { .name = span_str(SERVICE), .address = span_str(ADDRESS), .port = 80,
				   .host = span_str(HOST) };
	struct brokered *b = NEW(struct brokered);
	int r;

	b->hub = hub;
	b->ws = ws;
	b->refs = 1;
	memcpy(b->id, i->id, sizeof(b->id));
	memcpy(b->template_, i->template_, sizeof(b->template_));
	memcpy(b->secrets, i->secrets, sizeof(b->secrets));
	memcpy(b->owner, i->owner, sizeof(b->owner));
	lock_init(&b->lock, "brokered", LOCK_LEAF);
	list_init(&b->streams);
	service.ctx = b;
	r = link_serve(ws_link(ws), SERVICE, &service, e);
	if (r < 0)
		drop(b);
	if (r == -EEXIST) { /* from before a pause, or of another command a moment ago */
		*e = ERR_NULL;
		r = 0;
	}
	return r < 0 ? r : link_wait(ws_link(ws), MSG_LISTEN_AT, &m, clock_after_ms(CALL_MS), NULL, NULL, e);
}

/* What is in use now, remembered so that it is told once. Return: whether it was something else. */
static bool note(struct hub *hub, const char *id, const struct digest *now)
{
	struct sandbox *s;
	bool is_new = false;

	lock_take(&hub->lock);
	s = hub_get(hub, id);
	if (s) {
		is_new = !digest_eq(&s->told, now);
		s->told = *now;
	}
	lock_drop(&hub->lock);
	return is_new;
}

/* @again: an agent that may not know what was told before; @others: there may be less than before. */
static int offer(struct hub *hub, const struct hub_info *i, struct ws *ws, bool again, bool others, struct err *e)
{
	AUTO(broker_services_fini) struct broker_services all = { .n = 0 };
	struct digest none = { { 0 } }, now = none;
	struct msg_VARIABLES m = { .call = 0 };
	struct broker_who who;
	struct msg_list list;
	int r = 0;

	if ((!i->secrets[0] && !i->has_egress && !others) || !hub->conf.broker)
		return 0;
	if (again && i->has_egress)
		r = egress_tell(hub, i->id, e);
	if (r == 0)
		r = broker_services(hub->conf.broker, who_of(i, &who), &all, e);
	if (r < 0)
		return r;
	if (!ws_link(ws))
		return err_set(e, -EPIPE, "agent-gone", "no connection to the agent");
	if (!link_speaks(ws_link(ws), MSG_VARIABLES) && !all.n)
		return 0;
	if (!link_speaks(ws_link(ws), MSG_VARIABLES))
		return err_set(e, -ENOSYS, "agent-too-old",
			       "the agent of this sandbox is of an older version and knows no broker");
	r = variables(&all, &list, e);
	if (r == 0 && all.n)
		now = digest_of("variables", msg_list_span(&list));
	if (r == 0 && (note(hub, i->id, &now) || again)) {
		m.env = msg_list_span(&list);
		r = all.n ? serve(hub, i, ws, e) : 0;
		if (r == 0)
			r = link_wait(ws_link(ws), MSG_VARIABLES, &m, clock_after_ms(CALL_MS), NULL, NULL, e);
		if (r < 0)
			note(hub, i->id, &none); /* it is tried again */
	}
	msg_list_fini(&list);
	return r;
}

int broker_offer(struct sandbox *s, struct err *e)
{
	return offer(s->hub, &s->info, s->ws, true, false, e);
}

int broker_offer_others(struct sandbox *s, struct err *e)
{
	return offer(s->hub, &s->info, s->ws, false, true, e);
}

void broker_offer_again(struct sandbox *s)
{
	struct err e = ERR_NULL;

	if (offer(s->hub, &s->info, s->ws, true, false, &e) < 0)
		log_warn("broker", "its services are not offered", "id=%s why=%s", s->info.id, e.text);
}

void broker_refresh(struct hub *hub, const struct hub_info *i, struct ws *ws)
{
	struct err e = ERR_NULL;

	if (offer(hub, i, ws, false, false, &e) < 0)
		log_debug("broker", "its services are not offered", "id=%s why=%s", i->id, e.text);
}

int broker_check(struct hub *hub, const struct hub_info *i, const char *name, struct err *e)
{
	AUTO(broker_services_fini) struct broker_services all = { .n = 0 };
	struct broker_who who;
	size_t k;
	int r;

	who_of(i, &who);
	who.secrets = name;
	r = hub->conf.broker ? broker_services(hub->conf.broker, &who, &all, e)
			     : err_set(e, -EOPNOTSUPP, "no-broker", "this daemon has no broker");
	for (k = 0; r == 0 && k < all.n; k++)
		if (str_eq(all.v[k].secret, name))
			return 0;
	return r < 0 ? r
		     : err_set(e, -EINVAL, "no-service",
			       "secret %s is for the broker, and not exactly one of its services leads to its hosts",
			       name);
}

int hub_services(struct hub *hub, const char *id_or_name, struct broker_services *ret, struct err *e)
{
	struct broker_who who;
	struct hub_info i;
	int r = hub_find_any(hub, id_or_name, &i, e);

	*ret = (struct broker_services){ .n = 0 };
	return r < 0 || (!i.secrets[0] && !i.has_egress) || !hub->conf.broker
		       ? r
		       : broker_services(hub->conf.broker, who_of(&i, &who), ret, e);
}

int hub_secret_services(struct hub *hub, const char *name, struct broker_services *ret, struct err *e)
{
	struct broker_who who = { .secrets = name };

	*ret = (struct broker_services){ .n = 0 };
	return hub->conf.broker ? broker_services(hub->conf.broker, &who, ret, e) : 0;
}

int broker_begin(struct hub *hub, struct err *e)
{
	return pool_new("broker", THREADS, &hub->brokered, e);
}

void broker_end(struct hub *hub)
{
	pool_free(&hub->brokered);
}
