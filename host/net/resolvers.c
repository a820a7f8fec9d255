/* SPDX-License-Identifier: Apache-2.0 */
#include "host/net/resolvers.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/net/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

size_t names_resolvers(const char *text, bool file, struct priv_prefix *v, size_t max)
{
	AUTO(str_free) char *copy = must_strdup(text);
	char *line, *save = NULL, *inside = NULL;
	size_t n = 0;

	for (line = strtok_r(copy, file ? "\n" : ", ", &save); line && n < max;
	     line = strtok_r(NULL, file ? "\n" : ", ", &save)) {
		char *word = line;

		if (file) {
			word = strtok_r(line, " \t", &inside);
			word = str_eq(word, "nameserver") ? strtok_r(NULL, " \t", &inside) : NULL;
		}
		if (word && policy_prefix(word, &v[n]) == 0 && !strchr(word, '/'))
			n++;
	}
	return n;
}

void resolvers_look(struct resolvers *r)
{
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 65536);
	if (r->dns && r->dns[0]) {
		if (!r->looked)
			r->n = names_resolvers(r->dns, false, r->v, RESOLVERS_MAX);
		r->looked = 1;
		return;
	}
	if (r->looked && clock_now() - r->looked < CLOCK_S)
		return;
	r->looked = clock_now();
	if (io_read_file(AT_FDCWD, r->file ? r->file : "/etc/resolv.conf", &b) == 0)
		r->n = names_resolvers(buf_str(&b), true, r->v, RESOLVERS_MAX);
}

int resolvers_dial(const struct resolvers *r, const struct priv_prefix *at, int type, int *ret)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(r->port ? r->port : 53) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = in4.sin_port };
	AUTO(fd_close) int fd = socket(at->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int done;

	memcpy(&in4.sin_addr, at->addr, 4);
	memcpy(&in6.sin6_addr, at->addr, 16);
	if (fd < 0)
		return -errno;
	done = at->family == AF_INET ? connect(fd, (struct sockaddr *)&in4, sizeof(in4))
				     : connect(fd, (struct sockaddr *)&in6, sizeof(in6));
	if (done < 0 && errno != EINPROGRESS)
		return -errno;
	*ret = fd_take(&fd);
	return 0;
}
