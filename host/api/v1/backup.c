/* SPDX-License-Identifier: Apache-2.0 */
/* A backup: an upgraded connection on which the archive comes, written by a thread of its own. One at a time. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/log.h"
#include "host/store/backup.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

enum { WRITE_MS = 60000 };

struct backup {
	struct api *api;
	int fd;
	void *handle;
	uint64_t sent_b;
};

static unsigned running; /* atomic */

/* A client that takes nothing for a minute is given up. */
static int put(void *ctx, const void *p, size_t len)
{
	struct backup *b = ctx;
	const uint8_t *at = p;

	while (len) {
		struct pollfd pfd = { .fd = b->fd, .events = POLLOUT };
		ssize_t n = send(b->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
			b->sent_b += (uint64_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			return -errno;
		} else if (poll(&pfd, 1, WRITE_MS) == 0) {
			return -ETIMEDOUT;
		}
	}
	return 0;
}

static void *backup_thread(void *ctx)
{
	struct backup *b = ctx;
	struct err e = ERR_NULL;

	if (hub_backup(b->api->hub, put, b, &e) < 0)
		log_warn("api", "a backup broke off", "bytes=%llu why=%s", (unsigned long long)b->sent_b, e.text);
	else
		log_info("api", "a backup was made", "bytes=%llu", (unsigned long long)b->sent_b);
	/* Before the client sees the end: he may ask for the next one at once. */
	__atomic_store_n(&running, 0, __ATOMIC_RELEASE);
	http_upgrade_end(b->handle);
	free(b);
	return NULL;
}

static void backup_begin(void *ctx, int fd, struct span first, void *handle)
{
	struct backup *b = ctx;
	pthread_t t;

	(void)first;
	b->fd = fd;
	b->handle = handle;
	if (pthread_create(&t, NULL, backup_thread, b) == 0) {
		pthread_detach(t);
		return;
	}
	http_upgrade_end(handle);
	free(b);
	__atomic_store_n(&running, 0, __ATOMIC_RELEASE);
}

static void backup_drop(void *ctx)
{
	free(ctx);
	__atomic_store_n(&running, 0, __ATOMIC_RELEASE);
}

void v1_backup_end(void)
{
	const struct timespec nap = { .tv_nsec = 2000000 };

	while (__atomic_load_n(&running, __ATOMIC_ACQUIRE))
		nanosleep(&nap, NULL);
}

int v1_backup(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct backup *b;

	if (!http_header(req, "Upgrade"))
		return err_set(e, -EINVAL, "upgrade-needed", "this request needs the header Upgrade: berth-stream");
	if (__atomic_exchange_n(&running, 1, __ATOMIC_ACQ_REL))
		return err_set(e, -EBUSY, "backup-runs", "another backup is being made");
	b = NEW(struct backup);
	b->api = ctx;
	res->upgrade = backup_begin;
	res->upgrade_drop = backup_drop;
	res->ctx = b;
	return 0;
}
