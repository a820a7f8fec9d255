/* SPDX-License-Identifier: Apache-2.0 */
/* The socket is connected by root and before the filter; from then on it is send(2) on one descriptor. */
#include "host/manager.h"

#include "base/io.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int manager_fd = -1;
static int watched;

void manager_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;
	AUTO(fd_close) int fd = -1;

	watched = getenv("WATCHDOG_USEC") != NULL;
	if (len > 1 && len < sizeof(at.sun_path) && (*path == '/' || *path == '@')) {
		memcpy(at.sun_path, path, len);
		if (*path == '@') /* a name without a file */
			at.sun_path[0] = '\0';
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		len += offsetof(struct sockaddr_un, sun_path);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&at, (socklen_t)len) == 0)
			manager_fd = fd_take(&fd);
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void manager_say(const char *lines)
{
	if (manager_fd >= 0)
		(void)!send(manager_fd, lines, strlen(lines), MSG_NOSIGNAL);
}

int manager_watched(void)
{
	return watched && manager_fd >= 0;
}
