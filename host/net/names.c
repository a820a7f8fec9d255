/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who asks is known by the address, which the filter believes only from the right link. What may not be asked for does
 * not leave this host, so that a sandbox without internet cannot speak through names to whoever serves them. A name
 * that is refused does not exist, as far as the sandbox is told: other answers make resolvers try again.
 */
#include "host/net/names-inside.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUND = 32, QUERY_MAX = 4096 };

static int range_of(struct names *n, const struct sockaddr_in *from, uint32_t *ret)
{
	struct priv_prefix p = { .family = AF_INET, .len = 32 };

	memcpy(p.addr, &from->sin_addr, 4);
	return n->conf.home(&p, ret) < 0 || *ret >= n->conf.ranges ? -ENOENT : 0;
}

void query_reply(struct query *q, uint8_t *m, size_t len)
{
	uint8_t head[2] = { (uint8_t)(len >> 8), (uint8_t)len };
	struct client *c = q->client;

	message_set_id(m, q->id);
	if (!c) { /* lost when there is no room, as datagrams are */
		(void)!sendto(q->names->conf.udp, m, len, MSG_DONTWAIT, (struct sockaddr *)&q->from, sizeof(q->from));
		return;
	}
	if (c->gone || buf_append(&c->out, head, 2) < 0 || buf_append(&c->out, m, len) < 0)
		return;
	loop_rewatch(c->watch, LOOP_READ | LOOP_WRITE);
}

/* One message of somebody; @m stays theirs. */
static void ask(struct names *n, uint32_t range, struct client *c, const struct sockaddr_in *from, const uint8_t *m,
		size_t len)
{
	struct query *q;
	struct question what;

	if (len > QUERY_MAX || message_question(SPAN(m, len), false, &what) < 0 || n->n_queries == QUERIES_MAX ||
	    n->asked[range] == QUERIES_EACH)
		return;
	q = NEW(struct query);
	q->names = n;
	q->range = range;
	q->client = c;
	q->fd = -1;
	q->q = what;
	q->id = message_id(m);
	q->len = len;
	q->m = must_calloc(1, len + 2);
	q->m[0] = (uint8_t)(len >> 8);
	q->m[1] = (uint8_t)len;
	memcpy(q->m + 2, m, len);
	if (from)
		q->from = *from;
	if (c)
		c->queries++;
	list_append(&n->queries, &q->node);
	n->n_queries++;
	n->asked[range]++;
	q->verdict = n->conf.judge(n->conf.ctx, range, what.name);
	if (q->verdict == POLICY_REFUSED || what.class_ != 1) {
		query_reply(q, q->m + 2, message_refuse(q->m + 2, what.end, MESSAGE_NXDOMAIN));
		query_end(q);
		return;
	}
	query_ask(q);
}

static void on_udp(void *ctx, int fd, unsigned events)
{
	struct names *n = ctx;
	uint8_t m[QUERY_MAX + 1];
	int round;

	(void)events;
	for (round = 0; round < ROUND; round++) {
		struct sockaddr_in from = { .sin_family = AF_INET };
		socklen_t size = sizeof(from);
		ssize_t len = recvfrom(fd, m, sizeof(m), MSG_DONTWAIT, (struct sockaddr *)&from, &size);
		uint32_t range;

		if (len < 0)
			return;
		if (range_of(n, &from, &range) == 0)
			ask(n, range, NULL, &from, m, (size_t)len);
	}
}

/* --- connections -------------------------------------------------------------------------------------------------- */

/* It is freed when nothing of it is under way any more. */
void client_drop(struct client *c)
{
	struct names *n = c->names;

	if (!c->gone) {
		loop_unwatch(&c->watch);
		loop_untimer(&c->timer);
		fd_close(&c->fd);
		c->gone = true;
		list_remove(&c->node);
		n->n_clients--;
		n->connected[c->range]--;
	}
	if (c->queries)
		return;
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

static void on_idle(void *ctx)
{
	client_drop(ctx);
}

/* Return: false when it is gone. */
static bool send_out(struct client *c)
{
	struct span s = buf_span(&c->out);
	ssize_t n = s.len ? send(c->fd, s.p, s.len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		client_drop(c);
		return false;
	}
	if (n > 0)
		buf_consume(&c->out, (size_t)n);
	if (buf_len(&c->out) == 0)
		loop_rewatch(c->watch, LOOP_READ);
	return true;
}

static void on_client(void *ctx, int fd, unsigned events)
{
	struct client *c = ctx;
	uint8_t b[QUERY_MAX];
	ssize_t n;

	if ((events & LOOP_WRITE) && !send_out(c))
		return;
	if (!(events & (LOOP_READ | LOOP_HANGUP)))
		return;
	n = recv(fd, b, sizeof(b), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buf_append(&c->in, b, (size_t)n) < 0) {
		client_drop(c);
		return;
	}
	loop_rearm(c->timer, clock_after_ms(CLIENT_MS));
	c->queries++; /* it stays while we look at it */
	while (!c->gone && buf_len(&c->in) >= 2) {
		const uint8_t *p = c->in.p + c->in.start;
		size_t len = (size_t)(p[0] << 8 | p[1]);

		if (len > QUERY_MAX) {
			client_drop(c);
			break;
		}
		if (buf_len(&c->in) < len + 2)
			break;
		ask(c->names, c->range, c, NULL, p + 2, len);
		buf_consume(&c->in, len + 2);
	}
	c->queries--;
	if (c->gone)
		client_drop(c);
}

static void on_tcp(void *ctx, int listener, unsigned events)
{
	struct names *n = ctx;
	struct sockaddr_in from = { .sin_family = AF_INET };
	socklen_t size = sizeof(from);
	AUTO(fd_close) int fd = accept4(listener, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;
	uint32_t range;

	(void)events;
	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		fd_shed(listener, &n->spare);
	if (fd < 0 || range_of(n, &from, &range) < 0 || n->n_clients == CLIENTS_MAX ||
	    n->connected[range] == CLIENTS_EACH)
		return;
	c = NEW(struct client);
	c->names = n;
	c->range = range;
	c->fd = fd_take(&fd);
	buf_init(&c->in, 2 * (QUERY_MAX + 2));
	buf_init(&c->out, 4 * MESSAGE_MAX);
	list_append(&n->clients, &c->node);
	n->n_clients++;
	n->connected[range]++;
	c->timer = loop_timer(n->loop, clock_after_ms(CLIENT_MS), on_idle, c);
	if (loop_watch(n->loop, c->fd, LOOP_READ, on_client, c, &c->watch) < 0)
		client_drop(c);
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void *run(void *ctx)
{
	struct names *n = ctx;

	if (loop_run(n->loop) < 0)
		log_error("names", "nobody answers sandboxes that ask for names", NULL);
	return NULL;
}

static void names_free(struct names **slot)
{
	struct names *n = take(slot);

	while (!list_empty(&n->queries))
		query_end(list_entry(n->queries.next, struct query, node));
	while (!list_empty(&n->clients))
		client_drop(list_entry(n->clients.next, struct client, node));
	loop_unwatch(&n->udp);
	loop_unwatch(&n->tcp);
	loop_free(&n->loop);
	fd_close(&n->conf.udp);
	fd_close(&n->conf.tcp);
	fd_close(&n->spare);
	free(n->asked);
	free(n->connected);
	free(n);
}

int names_start(const struct names_conf *conf, struct names **ret, struct err *e)
{
	struct names *n = NEW(struct names);
	int r;

	n->conf = *conf;
	n->resolvers = (struct resolvers){ .dns = conf->dns, .file = conf->resolv, .port = conf->port };
	n->spare = -1;
	list_init(&n->queries);
	list_init(&n->clients);
	n->asked = must_calloc(conf->ranges, sizeof(*n->asked));
	n->connected = must_calloc(conf->ranges, sizeof(*n->connected));
	r = loop_new(&n->loop, e);
	if (r == 0)
		r = err_sys(e, loop_watch(n->loop, conf->udp, LOOP_READ, on_udp, n, &n->udp), "socket for names");
	if (r == 0)
		r = err_sys(e, loop_watch(n->loop, conf->tcp, LOOP_READ, on_tcp, n, &n->tcp), "socket for names");
	if (r == 0)
		r = err_sys(e, -pthread_create(&n->thread, NULL, run, n), "thread for names");
	if (r < 0) {
		names_free(&n);
		return r;
	}
	pthread_setname_np(n->thread, "names");
	*ret = n;
	return 0;
}

void names_stop(struct names **names)
{
	if (!*names)
		return;
	loop_stop((*names)->loop);
	pthread_join((*names)->thread, NULL);
	names_free(names);
}
