/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/service.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTENERS_MAX = 64, ASKS_MAX = 64, ASK_MS = 10000, MODE = 0666 };

#define SERVICE_DIR "/run/berth"

struct listener {
	struct list node;
	struct services *services;
	char *name, *path;
	int fd;
	struct loop_watch *watch;
};

struct ask {
	struct list node;
	struct services *services;
	uint64_t number;
	int fd;
	struct loop_timer *late;
};

void services_init(struct services *s, struct agent *agent, struct loop *loop)
{
	*s = (struct services){ .agent = agent, .loop = loop };
	list_init(&s->listeners);
	list_init(&s->asks);
}

static void listener_free(struct listener *l)
{
	list_remove(&l->node);
	l->services->n_listeners--;
	loop_unwatch(&l->watch);
	if (l->fd >= 0)
		unlink(l->path);
	fd_close(&l->fd);
	str_free(&l->name);
	str_free(&l->path);
	free(l);
}

static void ask_free(struct ask *a)
{
	list_remove(&a->node);
	a->services->n_asks--;
	loop_untimer(&a->late);
	fd_close(&a->fd);
	free(a);
}

void services_fini(struct services *s)
{
	while (!list_empty(&s->listeners))
		listener_free(list_entry(s->listeners.next, struct listener, node));
	while (!list_empty(&s->asks))
		ask_free(list_entry(s->asks.next, struct ask, node));
}

static struct listener *find(struct services *s, struct span name)
{
	struct list *pos;

	list_each(pos, &s->listeners) {
		struct listener *l = list_entry(pos, struct listener, node);

		if (span_eq(span_str(l->name), name))
			return l;
	}
	return NULL;
}

static void on_late(void *ctx)
{
	ask_free(ctx);
}

static void on_connection(void *ctx, int fd, unsigned events)
{
	struct listener *l = ctx;
	struct services *s = l->services;
	AUTO(fd_close) int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct conn *control = agent_control(s->agent);
	struct msg_ASK m = { .ask = s->last_ask + 1, .name = span_str(l->name) };
	struct ask *a;

	(void)events;
	if (got < 0 && (errno == EMFILE || errno == ENFILE))
		fd_shed(fd, &s->agent->spare);
	/* Closed: who connects sees the end, as with a service that has too much to do. */
	if (got < 0 || !control || !agent_speaks(s->agent, MSG_ASK) || !conn_room(control) || s->n_asks >= ASKS_MAX ||
	    conn_send(control, MSG_ASK, &m) < 0)
		return;
	a = NEW(struct ask);
	*a = (struct ask){ .services = s, .number = ++s->last_ask, .fd = fd_take(&got) };
	a->late = loop_timer(s->loop, clock_after_ms(ASK_MS), on_late, a);
	list_init(&a->node);
	list_append(&s->asks, &a->node);
	s->n_asks++;
}

int services_listen(struct services *s, const struct msg_LISTEN *m, struct err *e)
{
	AUTO(str_free) char *name = span_dup(m->name);
	AUTO(str_free) char *path = span_dup(m->socket);
	struct listener *l = find(s, m->name);
	int r, fd = -1;

	if (!str_is_id(name, 64) || *path != '/')
		return err_set(e, -EINVAL, "bad-request", "a name and the absolute path of a socket are wanted");
	if (l)
		return str_eq(l->path, path) ? 0 : err_set(e, -EEXIST, "name-taken", "this service listens elsewhere");
	if (s->n_listeners >= LISTENERS_MAX)
		return err_set(e, -EAGAIN, "limits", "at most %d services listen", LISTENERS_MAX);
	if (str_starts(path, SERVICE_DIR "/"))
		(void)!mkdir(SERVICE_DIR, 0755);
	r = io_unix_listen(path, (mode_t)(m->mode ? m->mode : MODE), &fd, e);
	if (r < 0)
		return r;
	l = NEW(struct listener);
	*l = (struct listener){ .services = s, .name = take(&name), .path = take(&path), .fd = fd };
	list_init(&l->node);
	list_append(&s->listeners, &l->node);
	s->n_listeners++;
	r = fd_nonblock(fd, true);
	if (r == 0)
		r = loop_watch(s->loop, fd, LOOP_READ, on_connection, l, &l->watch);
	if (r < 0) {
		listener_free(l);
		return err_sys(e, r, "listening");
	}
	return 0;
}

void services_unlisten(struct services *s, struct span name)
{
	struct listener *l = find(s, name);

	if (l)
		listener_free(l);
}

static struct ask *ask_of(struct services *s, uint64_t number)
{
	struct list *pos;

	list_each(pos, &s->asks)
		if (list_entry(pos, struct ask, node)->number == number)
			return list_entry(pos, struct ask, node);
	return NULL;
}

int services_take(struct services *s, uint64_t number, int *ret_fd, struct err *e)
{
	struct ask *a = ask_of(s, number);

	if (!a)
		return err_set(e, -ESRCH, "no-such-stream", "nobody waits under this number any more");
	*ret_fd = fd_take(&a->fd);
	ask_free(a);
	return 0;
}

void services_refuse(struct services *s, uint64_t number)
{
	struct ask *a = ask_of(s, number);

	if (a)
		ask_free(a);
}
