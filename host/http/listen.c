/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP address, always in numbers: which interface is reached must not depend on a resolver. */
#include "host/http/http.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { BACKLOG = 512 };

int http_address(const char *text, struct sockaddr_storage *ret, unsigned *ret_len, struct err *e)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
					.ai_socktype = SOCK_STREAM };
	AUTO(str_free) char *host = must_strdup(text);
	struct addrinfo *found = NULL;
	char *colon = strrchr(host, ':'), *name = host;
	uint64_t port;

	if (colon)
		*colon++ = '\0';
	if (name[0] == '[' && str_ends(name, "]")) {
		name[strlen(name) - 1] = '\0';
		name++;
	} else if (strchr(name, ':')) {
		colon = NULL;
	}
	if (!colon || num_u64(colon, 65535, &port) < 0 || !*name || getaddrinfo(name, colon, &hints, &found) != 0)
		return err_set(e, -EINVAL, "bad-config",
			       "\"%.60s\": ADDRESS:PORT in numbers is wanted, 127.0.0.1:7070 or [::1]:7070", text);
	memcpy(ret, found->ai_addr, found->ai_addrlen);
	*ret_len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int http_listen(const char *text, int *ret_fd, struct err *e)
{
	struct sockaddr_storage at;
	AUTO(fd_close) int fd = -1;
	unsigned len;
	int on = 1, r = http_address(text, &at, &len, e);

	if (r < 0)
		return r;
	fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (at.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, BACKLOG) < 0)
		return err_sys(e, -errno, "cannot listen on %s", text);
	*ret_fd = fd_take(&fd);
	return 0;
}
