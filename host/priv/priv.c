/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's end. One lock makes requests queue up: a reply belongs to the request before it, so there is nothing to
 * match. A reply that does not come is the death of the other process, which the daemon watches for on the same socket.
 */
#include "host/priv/priv.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/str.h"
#include "host/priv/confine.h"
#include "host/priv/host.h"
#include "host/priv/req.h"
#include "host/priv/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BASE_MS = 600000 };

struct priv {
	int sock;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	struct lock lock; /* sock: one request and its reply */
};

/* @fds, @n: in: room; out: what came. */
static int receive(struct priv *p, struct reply *reply, int *fds, size_t *n, struct err *e)
{
	ssize_t len = io_recv_fds(p->sock, reply, sizeof(*reply), fds, n);

	if (len != (ssize_t)sizeof(*reply)) {
		while (len > 0 && *n > 0)
			close(fds[--*n]);
		return err_set(e, -EPIPE, "priv-gone", "the privileged process is gone");
	}
	if (reply->err.code) {
		while (*n > 0)
			close(fds[--*n]);
		if (e)
			*e = reply->err;
		return reply->err.code < 0 ? reply->err.code : -EIO;
	}
	return 0;
}

static int call_many(struct priv *p, enum req_op op, void *req, size_t len, const int *fds, size_t n,
		     struct reply *reply, int *ret_fds, size_t *ret_n, struct err *e)
{
	struct req_head head = {.magic = REQ_MAGIC, .op = (uint32_t)op};
	int r;

	memcpy(req, &head, sizeof(head));
	lock_take(&p->lock);
	r = io_send_fds(p->sock, req, len, fds, n);
	if (r < 0)
		r = err_set(e, -EPIPE, "priv-gone", "the privileged process is gone (%s)", err_name(r));
	else
		r = receive(p, reply, ret_fds, ret_n, e);
	lock_drop(&p->lock);
	return r;
}

static int call(struct priv *p, enum req_op op, void *req, size_t len, const int *fds, size_t n, struct reply *reply,
		int *ret_fd, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	size_t got = 1;
	int r = call_many(p, op, req, len, fds, n, reply, &fd, &got, e);

	if (r < 0)
		return r;
	if (ret_fd) {
		if (fd < 0 && op != REQ_BOX_ALIVE)
			return err_set(e, -EIO, "eio", "the privileged process sent no descriptor");
		*ret_fd = fd_take(&fd);
	}
	return 0;
}

static int plain(struct priv *p, enum req_op op, int *ret_fd, struct err *e)
{
	struct req_plain q = {.head = {.op = 0}};
	struct reply reply;

	return call(p, op, &q, sizeof(q), NULL, 0, &reply, ret_fd, e);
}

int priv_fork(const struct priv_conf *conf, struct priv **ret, struct err *e)
{
	struct priv *p;
	struct reply reply;
	int pair[2], fd = -1, r;
	size_t n = 1;

	if (geteuid() != 0)
		return err_set(e, -EPERM, "not-root", "berthd must be started as root (it gives root up by itself)");
	r = host_check_conf(conf, e);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "socketpair");
	p = NEW(struct priv);
	*p = (struct priv){.sock = pair[0], .uid = conf->uid, .gid = conf->gid};
	lock_init(&p->lock, "priv", LOCK_PRIV);
	p->pid = fork();
	if (p->pid == 0) {
		close(pair[0]);
		serve_run(conf, pair[1]);
	}
	r = p->pid < 0 ? -errno : 0;
	close(pair[1]);
	r = r < 0 ? err_sys(e, r, "fork") : receive(p, &reply, &fd, &n, e);
	fd_close(&fd);
	if (r < 0)
		priv_close(&p);
	else
		*ret = p;
	return r;
}

int priv_broker_start(struct priv *priv, const int fds[3], struct err *e)
{
	struct req_plain q = {.head = {.op = 0}};
	struct reply reply;

	return call(priv, REQ_BROKER_START, &q, sizeof(q), fds, 3, &reply, NULL, e);
}

int priv_confine(struct priv *priv, struct err *e)
{
	return confine_self(priv->uid, priv->gid, e);
}

void priv_close(struct priv **priv)
{
	struct priv *p = *priv;

	*priv = NULL;
	if (!p)
		return;
	fd_close(&p->sock);
	if (p->pid > 0)
		while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
			;
	lock_fini(&p->lock);
	mem_free(&p);
}

int priv_fd(const struct priv *priv)
{
	return priv->sock;
}

void priv_mounted_fini(struct priv_mounted *m)
{
	size_t i;

	fd_close(&m->fuse_fd);
	fd_close(&m->table_fd);
	fd_close(&m->life_fd);
	fd_close(&m->links_dirfd);
	for (i = 0; i < PRIV_CHANNELS; i++)
		fd_close(&m->channels[i]);
}

int priv_mount(struct priv *priv, struct priv_mounted *ret, struct err *e)
{
	struct req_plain q = {.head = {.op = 0}};
	struct reply reply;
	int fds[IO_FDS_MAX];
	size_t n = ARRAY_LEN(fds), i;
	int r = call_many(priv, REQ_MOUNT, &q, sizeof(q), NULL, 0, &reply, fds, &n, e);

	if (r < 0)
		return r;
	*ret = PRIV_MOUNTED_NULL;
	ret->taken = reply.taken;
	if (n != 3U + PRIV_CHANNELS + (reply.taken ? 1 : 0)) {
		while (n > 0)
			close(fds[--n]);
		return err_set(e, -EIO, "eio", "the privileged process sent no descriptors");
	}
	ret->fuse_fd = fds[0];
	ret->table_fd = fds[1];
	ret->life_fd = fds[2];
	for (i = 0; i < PRIV_CHANNELS; i++)
		ret->channels[i] = fds[3 + i];
	if (ret->taken)
		ret->links_dirfd = fds[3 + PRIV_CHANNELS];
	return 0;
}

int priv_mount_notify(void *priv, int *channels, struct err *e)
{
	struct req_plain q = {.head = {.op = 0}};
	int fds[IO_FDS_MAX], r;
	struct reply reply;
	size_t n = ARRAY_LEN(fds);

	r = call_many(priv, REQ_MOUNT_NOTIFY, &q, sizeof(q), NULL, 0, &reply, fds, &n, e);
	if (r == 0 && n == PRIV_CHANNELS) {
		memcpy(channels, fds, PRIV_CHANNELS * sizeof(int));
		return 0;
	}
	while (r == 0 && n > 0)
		close(fds[--n]);
	return r < 0 ? r : err_set(e, -EIO, "eio", "the privileged process sent no descriptors");
}

int priv_mount_keep(struct priv *priv, uint32_t window_ms, struct err *e)
{
	struct req_mount_keep q = {.window_ms = window_ms};
	struct reply reply;

	return call(priv, REQ_MOUNT_KEEP, &q, sizeof(q), NULL, 0, &reply, NULL, e);
}

int priv_mount_links(struct priv *priv, int *ret_dirfd, struct err *e)
{
	return plain(priv, REQ_MOUNT_LINKS, ret_dirfd, e);
}

int priv_unmount(struct priv *priv, struct err *e)
{
	return plain(priv, REQ_UNMOUNT, NULL, e);
}

int priv_box_start(struct priv *priv, const struct priv_box_spec *spec, int listen_fd, int token_fd,
		   struct priv_box_started *ret, struct err *e)
{
	struct req_box_start q = {.spec = *spec};
	int fds[2] = {listen_fd, token_fd}, fd = -1, r;
	struct reply reply;

	r = call(priv, REQ_BOX_START, &q, sizeof(q), fds, 2, &reply, &fd, e);
	if (r < 0)
		return r;
	*ret = (struct priv_box_started){
		.pid = reply.pid, .pidfd = fd, .fanotify = reply.fanotify, .uid_base = reply.uid_base};
	return 0;
}

static int put_id(char *to, const char *id, struct err *e)
{
	return str_copy(to, PRIV_ID_MAX + 1, id) < 0 ? err_set(e, -EINVAL, "bad-request", "name too long") : 0;
}

int priv_box_end(struct priv *priv, const char *id, enum priv_disk keep, struct err *e)
{
	struct req_box q = {.keep = keep};
	struct reply reply;
	int r = put_id(q.id, id, e);

	return r < 0 ? r : call(priv, REQ_BOX_END, &q, sizeof(q), NULL, 0, &reply, NULL, e);
}

int priv_box_alive(struct priv *priv, const char *id, int *ret_pidfd, struct err *e)
{
	struct req_box q = {.keep = PRIV_DISK_NONE};
	AUTO(fd_close) int fd = -1;
	struct reply reply;
	int r = put_id(q.id, id, e);

	if (r == 0)
		r = call(priv, REQ_BOX_ALIVE, &q, sizeof(q), NULL, 0, &reply, &fd, e);
	if (r < 0)
		return r;
	if (!reply.alive || fd < 0)
		return 0;
	*ret_pidfd = fd_take(&fd);
	return MAX(reply.pid, 1);
}

int priv_box_freeze(struct priv *priv, const char *id, enum priv_freeze level, struct err *e)
{
	struct req_box_freeze q = {.level = level};
	struct reply reply;
	int r = put_id(q.id, id, e);

	return r < 0 ? r : call(priv, REQ_BOX_FREEZE, &q, sizeof(q), NULL, 0, &reply, NULL, e);
}

static int base_call(struct priv *priv, enum req_op op, const char *name, const char *id, enum priv_disk disk,
		     const int *fd, struct err *e)
{
	struct req_base q = {.disk = disk};
	struct reply reply;
	int r = put_id(q.name, name, e);

	if (r == 0)
		r = put_id(q.id, id, e);
	return r < 0 ? r : call(priv, op, &q, sizeof(q), fd, fd ? 1 : 0, &reply, NULL, e);
}

int priv_base_keep(struct priv *priv, const char *id, const char *name, enum priv_disk disk, struct err *e)
{
	return base_call(priv, REQ_BASE_KEEP, name, id, disk, NULL, e);
}

/* The child's words are the number of what went wrong, 0 when nothing did; none when it was killed. */
static int base_end(int fd, struct err *e)
{
	uint64_t until = clock_after_ms(BASE_MS), code;
	char word[16] = "";
	size_t len = 0;

	while (len < sizeof(word) - 1 && !memchr(word, '\n', len)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, clock_left_ms(until));
		ssize_t n = ready > 0 ? read(fd, word + len, 1) : 0; /* there may be another word */

		if ((ready < 0 || n < 0) && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, ready == 0 ? -ETIMEDOUT : -EPIPE, "base-lost", "a base was not copied");
		len += (size_t)n;
	}
	word[strcspn(word, "\n")] = '\0';
	if (num_u64(word, 4095, &code) < 0)
		return err_set(e, -EPROTO, "base-lost", "a base was not copied");
	return code ? err_sys(e, -(int)code, "copying a base") : 0;
}

/* What a child does: its end is waited for here, so that other requests are not kept waiting. */
static int base_child(struct priv *priv, enum req_op op, const char *name, const char *id, enum priv_disk disk,
		      void (*copied)(void *ctx), void *ctx, struct err *e)
{
	AUTO(fd_close) int from = -1;
	AUTO(fd_close) int to = -1;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	from = fds[0];
	to = fds[1];
	r = base_call(priv, op, name, id, disk, &to, e);
	fd_close(&to);
	if (r == 0)
		r = base_end(from, e);
	if (r < 0 || !copied)
		return r;
	copied(ctx);
	return base_end(from, e);
}

int priv_base_lay(struct priv *priv, const char *name, const char *id, enum priv_disk disk, struct err *e)
{
	return base_child(priv, REQ_BASE_LAY, name, id, disk, NULL, NULL, e);
}

int priv_base_drop(struct priv *priv, const char *name, struct err *e)
{
	return base_call(priv, REQ_BASE_DROP, name, "-", PRIV_DISK_WORKSPACE, NULL, e);
}

int priv_layer_keep(struct priv *priv, const char *id, const char *name, void (*copied)(void *ctx), void *ctx,
		    struct err *e)
{
	return base_child(priv, REQ_LAYER_KEEP, name, id, PRIV_DISK_ROOT, copied, ctx, e);
}

int priv_layer_lay(struct priv *priv, const char *name, const char *id, struct err *e)
{
	return base_child(priv, REQ_LAYER_LAY, name, id, PRIV_DISK_ROOT, NULL, NULL, e);
}

int priv_layer_drop(struct priv *priv, const char *name, struct err *e)
{
	return base_call(priv, REQ_LAYER_DROP, name, "-", PRIV_DISK_ROOT, NULL, e);
}

int priv_layer_open(struct priv *priv, const char *name, int *ret_fd, struct err *e)
{
	struct req_base q = {.disk = PRIV_DISK_ROOT};
	struct reply reply;
	int r = put_id(q.name, name, e);

	return r < 0 ? r : call(priv, REQ_LAYER_OPEN, &q, sizeof(q), NULL, 0, &reply, ret_fd, e);
}

int priv_sweep(struct priv *priv, const char (*keep)[PRIV_ID_MAX + 1], size_t n, struct err *e)
{
	struct req_sweep *q;
	struct reply reply;
	size_t at = 0;
	int r;

	q = NEW(struct req_sweep);
	do {
		q->n = (uint32_t)MIN(n - at, (size_t)REQ_KEEP_MAX);
		if (q->n)
			memcpy(q->keep, keep + at, q->n * sizeof(*keep));
		at += q->n;
		q->more = at < n;
		r = call(priv, REQ_SWEEP, q, sizeof(*q), NULL, 0, &reply, NULL, e);
	} while (r == 0 && at < n);
	mem_free(&q);
	return r;
}

int priv_net_open(struct priv *priv, struct priv_net_state *ret, struct err *e)
{
	struct req_plain q = {.head = {.op = 0}};
	struct reply reply;
	int fds[4] = {-1, -1, -1, -1};
	size_t n = ARRAY_LEN(fds);
	int r = call_many(priv, REQ_NET_OPEN, &q, sizeof(q), NULL, 0, &reply, fds, &n, e);

	if (r < 0)
		return r;
	ret->mode = (enum priv_net_mode)reply.net_mode;
	snprintf(ret->why, sizeof(ret->why), "%.199s", reply.words);
	ret->dns_udp = fds[0];
	ret->dns_tcp = fds[1];
	ret->proxy[0] = fds[2];
	ret->proxy[1] = fds[3];
	return 0;
}

int priv_net_policy(struct priv *priv, const struct priv_net_policy *policy, struct err *e)
{
	struct req_net_policy *q = NEW(struct req_net_policy);
	struct reply reply;
	int r;

	q->policy = *policy;
	r = call(priv, REQ_NET_POLICY, q, sizeof(*q), NULL, 0, &reply, NULL, e);
	mem_free(&q);
	return r;
}

int priv_net_names(struct priv *priv, uint32_t range, uint32_t life_s, const struct priv_prefix *v, size_t n,
		   struct err *e)
{
	struct req_net_names q = {.range = range, .life_s = life_s, .n = (uint32_t)n};
	struct reply reply;

	if (n > PRIV_NET_NAMES_MAX)
		return err_set(e, -E2BIG, "limit", "too many addresses of a name");
	memcpy(q.v, v, n * sizeof(*v));
	return call(priv, REQ_NET_NAMES, &q, sizeof(q), NULL, 0, &reply, NULL, e);
}

int priv_net_sockets(struct priv *priv, int family, int *fds, size_t n, struct err *e)
{
	struct req_net_sockets q = {.family = (uint32_t)family, .n = (uint32_t)n};
	struct reply reply;
	size_t got = n;
	int r = call_many(priv, REQ_NET_SOCKETS, &q, sizeof(q), NULL, 0, &reply, fds, &got, e);

	if (r == 0 && got != n) {
		while (got > 0)
			close(fds[--got]);
		r = err_set(e, -EIO, "eio", "the privileged process sent no sockets");
	}
	return r;
}

int priv_template_build(struct priv *priv, const struct priv_template_spec *spec, int tar_fd, int log_fd,
			int *ret_pidfd, struct err *e)
{
	struct req_template_build q = {.spec = *spec};
	int fds[2] = {log_fd, tar_fd};
	struct reply reply;

	return call(priv, REQ_TEMPLATE_BUILD, &q, sizeof(q), fds, tar_fd >= 0 ? 2 : 1, &reply, ret_pidfd, e);
}

int priv_template_remove(struct priv *priv, const char *name, struct err *e)
{
	struct req_template q = {.name = ""};
	struct reply reply;
	int r = put_id(q.name, name, e);

	return r < 0 ? r : call(priv, REQ_TEMPLATE_REMOVE, &q, sizeof(q), NULL, 0, &reply, NULL, e);
}

int priv_fetch_start(struct priv *priv, const struct priv_fetch_spec *spec, int life_fd, int words_fd, int out_fd,
		     int auth_fd, int *ret_pidfd, struct err *e)
{
	struct req_fetch_start q = {.spec = *spec};
	int fds[4] = {life_fd, words_fd, out_fd, auth_fd};
	struct reply reply;

	return call(priv, REQ_FETCH_START, &q, sizeof(q), fds, auth_fd >= 0 ? 4 : 3, &reply, ret_pidfd, e);
}

bool priv_volume_path(const char *path)
{
	static const char *const taken[] = {"/proc", "/sys", "/dev", "/run", "/.berth", "/workspace"};
	size_t i, n = strlen(path);
	const char *p;

	if (path[0] != '/' || n < 2 || n > PRIV_PATH_MAX || path[n - 1] == '/')
		return false;
	for (i = 0; i < ARRAY_LEN(taken); i++)
		if (str_starts(path, taken[i]) &&
		    (path[strlen(taken[i])] == '\0' || path[strlen(taken[i])] == '/'))
			return false;
	for (p = path; *p; p += strcspn(p, "/")) {
		n = strcspn(++p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
	}
	return true;
}
