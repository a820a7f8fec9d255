/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tunnels. One process listens and makes another one for each connection, so that a connection that breaks or a slow
 * one is nobody else's trouble.
 */
#include "cli/cli.h"

#include "base/io.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct forward {
	char *bind, *port, *path; /* where we listen or, in reverse, connect: bind and port, or path */
	char *socket, *address;	  /* inside: a socket, or an address (or NULL) and a port */
	uint64_t inside_port;
};

static void forward_fini(struct forward *f)
{
	str_free(&f->bind);
	str_free(&f->port);
	str_free(&f->path);
	str_free(&f->socket);
	str_free(&f->address);
}

static bool is_port(const char *s)
{
	uint64_t n;

	return num_u64(s, 65535, &n) == 0;
}

/* "PORT", "ADDRESS:PORT", "[V6]:PORT". Return: false when it is none of them. */
static bool split_port(const char *s, char **ret_address, char **ret_port)
{
	const char *colon = strrchr(s, ':');

	if (!colon) {
		*ret_port = must_strdup(s);
		return is_port(s);
	}
	*ret_port = must_strdup(colon + 1);
	*ret_address = *s == '[' && colon > s + 1 && colon[-1] == ']' ? span_dup(SPAN(s + 1, (size_t)(colon - s) - 2))
								      : span_dup(SPAN(s, (size_t)(colon - s)));
	return is_port(*ret_port) && **ret_address;
}

static bool parse_inside(const char *s, struct forward *f)
{
	AUTO(str_free) char *port = NULL;
	uint8_t in[sizeof(struct in6_addr)];

	if (*s == '/' || *s == '@') {
		f->socket = must_strdup(s);
		return true;
	}
	return split_port(s, &f->address, &port) && num_u64(port, 65535, &f->inside_port) == 0 && f->inside_port &&
	       (!f->address || inet_pton(AF_INET, f->address, in) == 1 || inet_pton(AF_INET6, f->address, in) == 1);
}

static bool parse_outside(const char *s, struct forward *f)
{
	if (*s == '/' || *s == '.') {
		f->path = must_strdup(s);
		return true;
	}
	return split_port(s, &f->bind, &f->port);
}

/* The colon between the two sides: behind a path, or behind the port that the first side ends with. */
static const char *middle(const char *s)
{
	const char *colon;

	if (*s == '/' || *s == '.' || *s == '@')
		return strchr(s, ':');
	for (colon = strchr(*s == '[' && strchr(s, ']') ? strchr(s, ']') : s, ':'); colon;
	     colon = strchr(colon + 1, ':')) {
		AUTO(str_free) char *left = span_dup(SPAN(s, (size_t)(colon - s)));
		const char *last = strrchr(left, ':');

		if (is_port(last ? last + 1 : left))
			return colon;
	}
	return NULL;
}

static bool parse(const char *s, bool reverse, struct forward *f)
{
	const char *colon = middle(s);
	AUTO(str_free) char *left = colon ? span_dup(SPAN(s, (size_t)(colon - s))) : NULL;

	if (!colon)
		return false;
	return reverse ? *left == '/' && parse_inside(left, f) && parse_outside(colon + 1, f)
		       : parse_outside(left, f) && parse_inside(colon + 1, f);
}

/* --- local sockets ------------------------------------------------------------------------------------------------ */

static int local_error(const char *what, int code, struct berth_error *e)
{
	*e = (struct berth_error){ .code = code };
	snprintf(e->text, sizeof(e->text), "%s: %s", what, strerror(-code));
	return code;
}

/* A TCP socket that listens, or is connected. */
static int tcp(const struct forward *f, bool listening, struct berth_error *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *all = NULL, *a;
	const char *host = f->bind ? f->bind : "127.0.0.1";
	int fd = -1, one = 1, code = -EADDRNOTAVAIL;

	if (getaddrinfo(host, f->port, &hints, &all) != 0)
		return local_error(host, -EADDRNOTAVAIL, e);
	for (a = all; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd < 0)
			continue;
		(void)!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (listening ? bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 128) == 0
			      : connect(fd, a->ai_addr, a->ai_addrlen) == 0)
			break;
		code = -errno;
		fd_close(&fd);
	}
	freeaddrinfo(all);
	return fd >= 0 ? fd : local_error(f->port, code, e);
}

static int local(const struct forward *f, bool listening, struct berth_error *e)
{
	struct err why = ERR_NULL;
	int fd = -1, r;

	if (!f->path)
		return tcp(f, listening, e);
	r = listening ? io_unix_listen(f->path, 0600, &fd, &why) : io_unix_connect(f->path, &fd, &why);
	return r < 0 ? local_error(f->path, r, e) : fd;
}

/* --- one connection ----------------------------------------------------------------------------------------------- */

static int relay(struct berth *b, const char *id, const struct berth_target *to, int from, int out)
{
	AUTO(berth_tunnel_close) struct berth_tunnel *t = NULL;
	struct berth_error e;

	if (berth_tunnel(b, id, to, &t, &e) < 0 || berth_tunnel_relay(t, from, out, &e) < 0)
		return cli_fail("tunnel", &e);
	return CLI_OK;
}

/* In a process of its own, with a client of its own. */
static NORETURN void child(const char *id, const struct berth_target *to, int fd)
{
	struct berth *b = NULL;
	struct berth_error e;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (berth_open(NULL, &b, &e) < 0)
		_exit(cli_fail("tunnel", &e));
	_exit(relay(b, id, to, fd, fd));
}

static struct berth_target target_of(const struct forward *f)
{
	return (struct berth_target){ .socket = f->socket, .address = f->address, .port = (unsigned)f->inside_port };
}

static void say_port(int fd)
{
	struct sockaddr_storage at;
	socklen_t len = sizeof(at);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getsockname(fd, (struct sockaddr *)&at, &len) == 0 && at.ss_family != AF_UNIX &&
	    getnameinfo((struct sockaddr *)&at, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		printf("%s:%s\n", host, port);
	else
		puts("listening");
	fflush(stdout);
}

static int forward(const char *id, const struct forward *f)
{
	struct berth_target to = target_of(f);
	struct berth_error e;
	AUTO(fd_close) int listener = local(f, true, &e);

	if (listener < 0)
		return cli_fail("tunnel", &e);
	say_port(listener);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			local_error("accept", -errno, &e);
			return cli_fail("tunnel", &e);
		}
		if (fork() == 0) {
			fd_close(&listener);
			child(id, &to, fd);
		}
		close(fd);
	}
}

static NORETURN void reverse_child(struct berth_listener *l, const char *id, const struct forward *f, uint64_t ask)
{
	struct berth_target to = { .ask = ask };
	struct berth_error e;
	int fd = local(f, false, &e);

	if (fd >= 0)
		child(id, &to, fd);
	cli_fail("tunnel", &e);
	_exit(berth_listener_refuse(l, ask, &e) < 0 ? cli_fail("tunnel", &e) : CLI_FAILED);
}

static int reverse(struct berth *b, const char *id, const struct forward *f)
{
	AUTO(berth_listener_close) struct berth_listener *l = NULL;
	struct berth_error e;
	uint64_t ask;
	int r = berth_listen(b, id, f->socket, 0, &l, &e);

	if (r < 0)
		return cli_fail("tunnel", &e);
	puts("listening");
	fflush(stdout);
	while ((r = berth_listener_next(l, -1, &ask, &e)) == 0)
		if (fork() == 0)
			reverse_child(l, id, f, ask);
	return cli_fail("tunnel", &e);
}

int cli_tunnel(struct berth *b, int argc, char **argv)
{
	const char *stdio = NULL, *back = NULL;
	const struct cli_option options[] = { { "--stdio", &stdio, NULL }, { "--reverse", &back, NULL } };
	AUTO(forward_fini) struct forward f = { .bind = NULL };
	struct berth_target to;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);
	bool ok;

	if (n < 0)
		return CLI_USAGE;
	if (n + (stdio != NULL) + (back != NULL) != 2 || n < 1)
		return cli_usage("tunnel", "a sandbox and what to connect are wanted");
	ok = stdio ? parse_inside(stdio, &f) : parse(back ? back : rest[1], back != NULL, &f);
	if (!ok)
		return cli_usage("tunnel", "\"%s\" is not understood", stdio ? stdio : back ? back : rest[1]);
	to = target_of(&f);
	if (stdio)
		return relay(b, rest[0], &to, STDIN_FILENO, STDOUT_FILENO);
	signal(SIGCHLD, SIG_IGN); /* nobody waits for them */
	return back ? reverse(b, rest[0], &f) : forward(rest[0], &f);
}
