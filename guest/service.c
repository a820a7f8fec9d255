/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/service.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTENERS_MAX = 64, ASKS_MAX = 64, ASK_MS = 10000, MODE = 0666, BACKLOG = 512, HOSTS_MAX = 256 * 1024 };

#define SERVICE_DIR "/run/berth"

struct listener {
	struct list node;
	struct services *services;
	char *name, *path; /* a path, or ADDRESS:PORT */
	int fd;
	struct loop_watch *watch;
};

struct ask {
	struct list node;
	struct services *services;
	uint64_t number;
	int fd;
	struct proc_name asker;
	struct loop_timer *late;
};

void services_init(struct services *s, struct agent *agent, struct loop *loop)
{
	*s = (struct services){ .agent = agent, .loop = loop, .hosts = "/etc/hosts" };
	list_init(&s->listeners);
	list_init(&s->asks);
}

static bool is_port(const struct listener *l)
{
	return *l->path != '/';
}

static void on_connection(void *ctx, int fd, unsigned events);

/* Those that wait are as many as may, or fewer again. */
static void set_full(struct services *s, bool on)
{
	struct list *pos;

	s->is_full = on;
	list_each(pos, &s->listeners) {
		struct listener *l = list_entry(pos, struct listener, node);

		if (!is_port(l))
			continue;
		if (on)
			loop_unwatch(&l->watch);
		else if (!l->watch)
			(void)!loop_watch(s->loop, l->fd, LOOP_READ, on_connection, l, &l->watch);
	}
}

static void listener_free(struct listener *l)
{
	list_remove(&l->node);
	l->services->n_listeners--;
	loop_unwatch(&l->watch);
	if (l->fd >= 0 && !is_port(l))
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
	if (a->services->is_full)
		set_full(a->services, false);
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
	if (++s->n_asks == ASKS_MAX)
		set_full(s, true);
	(void)procs_marked(&s->agent->procs, whose_tag(&s->whose, a->fd), &a->asker); /* while the host dials */
}

/* What a service of this name has already. Return: 1: the same; 0: nothing. */
static int look(struct services *s, struct span name, const char *path, struct err *e)
{
	AUTO(str_free) char *word = span_dup(name);
	struct listener *l = find(s, name);

	if (!str_is_id(word, 64))
		return err_set(e, -EINVAL, "bad-request", "a service has a name");
	if (l)
		return str_eq(l->path, path) ? 1
					     : err_set(e, -EEXIST, "name-taken", "this service listens elsewhere");
	if (s->n_listeners >= LISTENERS_MAX)
		return err_set(e, -EAGAIN, "limits", "at most %d services listen", LISTENERS_MAX);
	return 0;
}

/* @fd and *@path are taken. */
static int add(struct services *s, struct span name, char **path, int fd, struct err *e)
{
	struct listener *l = NEW(struct listener);
	int r;

	*l = (struct listener){ .services = s, .name = span_dup(name), .path = take(path), .fd = fd };
	list_init(&l->node);
	list_append(&s->listeners, &l->node);
	s->n_listeners++;
	r = fd_nonblock(fd, true);
	if (r == 0 && !(s->is_full && is_port(l)))
		r = loop_watch(s->loop, fd, LOOP_READ, on_connection, l, &l->watch);
	if (r < 0) {
		listener_free(l);
		return err_sys(e, r, "listening");
	}
	return 0;
}

int services_listen(struct services *s, const struct msg_LISTEN *m, struct err *e)
{
	AUTO(str_free) char *path = span_dup(m->socket);
	int fd = -1, r;

	if (*path != '/')
		return err_set(e, -EINVAL, "bad-request", "the absolute path of a socket is wanted");
	r = look(s, m->name, path, e);
	if (r)
		return r < 0 ? r : 0;
	if (str_starts(path, SERVICE_DIR "/"))
		(void)!mkdir(SERVICE_DIR, 0755);
	r = io_unix_listen(path, (mode_t)(m->mode ? m->mode : MODE), &fd, e);
	return r < 0 ? r : add(s, m->name, &path, fd, e);
}

/* Root inside may have put anything into the place of this file: no link is followed, nothing is waited for. */
static int put_host(struct services *s, const char *address, const char *host, struct err *e)
{
	AUTO(fd_close)
	int fd = openat(AT_FDCWD, s->hosts, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	AUTO(str_free) char *line = str_printf("%s\t%s\n", address, host);
	AUTO(buf_fini) struct buf text;
	struct stat st;
	char piece[4096];
	const char *there;
	ssize_t n = 0;

	buf_init(&text, HOSTS_MAX);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", s->hosts);
	if (!S_ISREG(st.st_mode) || st.st_size >= HOSTS_MAX)
		return err_set(e, -EINVAL, "bad-hosts", "%s is no file of names", s->hosts);
	while ((n = read(fd, piece, sizeof(piece))) > 0 && buf_append(&text, piece, (size_t)n) == 0)
		;
	if (n < 0)
		return err_sys(e, -errno, "%s", s->hosts);
	there = strstr(buf_str(&text), line);
	if (there && (there == buf_str(&text) || there[-1] == '\n'))
		return 0;
	if (buf_len(&text) && buf_str(&text)[buf_len(&text) - 1] != '\n' && io_write_full(fd, "\n", 1) < 0)
		return err_sys(e, -EIO, "%s", s->hosts);
	n = io_write_full(fd, line, strlen(line));
	return n < 0 ? err_sys(e, (int)n, "%s", s->hosts) : 0;
}

static int port_listen(const char *address, unsigned port, int *ret_fd, struct err *e)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	AUTO(fd_close) int fd = -1;
	int one = 1;

	if (inet_pton(AF_INET, address, &at.sin_addr) != 1 || ntohl(at.sin_addr.s_addr) >> 24 != 127 || !port)
		return err_set(e, -EINVAL, "bad-request", "a port of an address of the loopback is wanted");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return err_sys(e, -errno, "a socket");
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, BACKLOG) < 0)
		return errno == EADDRINUSE ? err_set(e, -errno, "port-in-use",
						     "port %u of the sandbox is in use by another program", port)
					   : err_sys(e, -errno, "listening on %s port %u", address, port);
	*ret_fd = fd_take(&fd);
	return 0;
}

int services_listen_at(struct services *s, const struct msg_LISTEN_AT *m, struct err *e)
{
	AUTO(str_free) char *address = span_dup(m->address);
	AUTO(str_free) char *host = span_dup(m->host);
	AUTO(str_free) char *path = str_printf("%s:%u", address, (unsigned)m->port);
	int fd = -1, r;

	if (*address < '0' || *address > '9' || strpbrk(host, " \t\n#"))
		return err_set(e, -EINVAL, "bad-request", "an address in digits is wanted, and a name");
	r = look(s, m->name, path, e);
	if (r == 0) {
		r = port_listen(address, (unsigned)m->port, &fd, e);
		if (r == 0)
			r = add(s, m->name, &path, fd, e);
	}
	return r >= 0 && *host ? put_host(s, address, host, e) : r < 0 ? r : 0;
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

int services_take(struct services *s, uint64_t number, int *ret_fd, struct proc_name *ret, struct err *e)
{
	struct ask *a = ask_of(s, number);

	if (!a)
		return err_set(e, -ESRCH, "no-such-stream", "nobody waits under this number any more");
	*ret_fd = fd_take(&a->fd);
	*ret = a->asker;
	ask_free(a);
	return 0;
}

void services_refuse(struct services *s, uint64_t number)
{
	struct ask *a = ask_of(s, number);

	if (a)
		ask_free(a);
}
