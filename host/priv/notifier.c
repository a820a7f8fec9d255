/* SPDX-License-Identifier: Apache-2.0 */
/* One thread for each channel; nothing is read in what passes but the length of each notification. */
#include "host/priv/notifier.h"

#include "base/io.h"
#include "host/priv/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NOTIFIER_MAX = 8, DATAGRAM_MAX = 64 * 1024, FIRST_FD = 512 };

struct channel {
	int sock, fuse;
	pthread_t thread;
};

static void *serve(void *ctx)
{
	struct channel *c = ctx;
	uint8_t *bytes = malloc(DATAGRAM_MAX);
	struct fuse_out_header h;
	ssize_t len, at;
	int done = 0;

	while (bytes && ((len = recv(c->sock, bytes, DATAGRAM_MAX, 0)) > 0 || (len < 0 && errno == EINTR))) {
		for (at = 0; len - at >= (ssize_t)sizeof(h); at += h.len) {
			memcpy(&h, bytes + at, sizeof(h));
			if (h.len < sizeof(h) || h.len > len - at)
				break;
			(void)!write(c->fuse, bytes + at, h.len); /* what the kernel does not know needs no telling */
		}
		if (len > 0 && send(c->sock, &done, sizeof(done), MSG_NOSIGNAL) < 0)
			break;
	}
	free(bytes);
	shutdown(c->sock, SHUT_RDWR);
	return NULL;
}

static NORETURN void notifier_run(const struct host *h, const int *socks, size_t n)
{
	struct channel c[NOTIFIER_MAX] = {{.sock = -1}};
	struct err e = ERR_NULL;
	size_t i;

	prctl(PR_SET_NAME, "berth-notify", 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	for (i = 0; i < n; i++) {
		c[i].sock = fcntl(socks[i], F_DUPFD_CLOEXEC, FIRST_FD);
		c[i].fuse = i ? c[0].fuse : fcntl(h->mount.fuse, F_DUPFD_CLOEXEC, FIRST_FD);
	}
	close_range(3, FIRST_FD - 1, 0);
	close_range(FIRST_FD + (unsigned)n + 1, ~0U, 0);
	if (confine_self(h->conf.uid, h->conf.gid, &e) < 0)
		_exit(1);
	for (i = 0; i < n; i++)
		if (pthread_create(&c[i].thread, NULL, serve, &c[i]) != 0)
			_exit(1);
	for (i = 0; i < n; i++)
		pthread_join(c[i].thread, NULL);
	_exit(0);
}

int notifier_start(struct host *h, int *channels, size_t n, struct err *e)
{
	int mine[NOTIFIER_MAX], pair[2], r = 0;
	size_t i, made = 0;
	pid_t pid = -1;

	if (n > NOTIFIER_MAX)
		return err_sys(e, -EINVAL, "channels");
	if (h->mount.notifier >= 0)
		(void)!pidfd_send_signal(h->mount.notifier, SIGKILL, NULL, 0);
	fd_close(&h->mount.notifier);
	for (i = 0; i < n && r == 0; i++) {
		r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
		if (r < 0)
			break;
		channels[made] = pair[0];
		mine[made++] = pair[1];
	}
	if (r == 0)
		pid = fork();
	if (pid == 0)
		notifier_run(h, mine, n);
	if (r == 0 && pid < 0)
		r = -errno;
	if (pid > 0)
		h->mount.notifier = pidfd_open(pid, 0);
	for (i = 0; i < made; i++) {
		close(mine[i]);
		if (r < 0)
			fd_close(&channels[i]);
	}
	return r < 0 ? err_sys(e, r, "the process for notifications") : 0;
}
