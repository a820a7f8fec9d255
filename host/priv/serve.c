/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The privileged process: one thread, one request at a time, a closed list. Each operation has a row that says how
 * large its request is, which descriptors must come with it, and what checks and does it. A request that does not fit
 * its row is answered with -EINVAL and changes nothing; the process never ends because of what it was sent.
 *
 * It ends when the socket hangs up, that is when the daemon is gone: then it leaves the mount to its keeper (or takes
 * it away) and the sandboxes alone, for the next daemon to adopt. The signals that a terminal sends to the whole group
 * are ignored, the daemon decides what they mean.
 */
#include "host/priv/serve.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/priv/base.h"
#include "host/priv/box.h"
#include "host/priv/broker.h"
#include "host/priv/fetch.h"
#include "host/priv/mount.h"
#include "host/priv/net.h"
#include "host/priv/req.h"
#include "host/priv/template.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_MS = 10000 };

struct job {
	struct host *host;
	const union req *req;
	const int *fds; /* borrowed: the loop closes them */
	size_t n_fds;
	struct reply *reply;
	int reply_fd; /* sent along when >= 0, then closed */
	int reply_fds[IO_FDS_MAX]; /* in its place, when there are n_reply */
	size_t n_reply;
};

#define FIELD_OK(field) (memchr(field, '\0', sizeof(field)) != NULL)

static const uint64_t MIB = 1024 * 1024;

static int refuse(struct err *e, const char *what)
{
	return err_set(e, -EINVAL, "bad-request", "bad request to the privileged process: %s", what);
}

/* What a person asked for, in words for them. */
static int refuse_size(struct err *e, const char *what)
{
	return err_set(e, -EINVAL, "bad-request", "%s", what);
}

static bool id_ok(const char *field, size_t size)
{
	return memchr(field, '\0', size) && str_is_id(field, PRIV_ID_MAX);
}

static int do_mount(struct job *j)
{
	struct priv_mounted m = PRIV_MOUNTED_NULL;
	int r = mount_fuse(j->host, &m, &j->reply->err);
	size_t i;

	if (r < 0)
		return r;
	j->reply->taken = m.taken;
	j->reply_fds[j->n_reply++] = m.fuse_fd;
	j->reply_fds[j->n_reply++] = m.table_fd;
	j->reply_fds[j->n_reply++] = m.life_fd;
	for (i = 0; i < PRIV_CHANNELS; i++)
		j->reply_fds[j->n_reply++] = m.channels[i];
	if (m.taken)
		j->reply_fds[j->n_reply++] = m.links_dirfd;
	return 0;
}

static int do_mount_notify(struct job *j)
{
	int channels[PRIV_CHANNELS];
	int r = mount_notify(j->host, channels, &j->reply->err);
	size_t i;

	for (i = 0; r == 0 && i < PRIV_CHANNELS; i++)
		j->reply_fds[j->n_reply++] = channels[i];
	return r;
}

static int do_mount_keep(struct job *j)
{
	uint32_t window_ms = j->req->mount_keep.window_ms;

	if (window_ms > PRIV_WINDOW_MAX_MS)
		return refuse(&j->reply->err, "time to wait for the next daemon");
	return mount_keep(j->host, window_ms, &j->reply->err);
}

static int do_mount_links(struct job *j)
{
	return mount_links(j->host, &j->reply_fd, &j->reply->err);
}

static int do_unmount(struct job *j)
{
	return mount_end(j->host, &j->reply->err);
}

static int check_limits(const struct priv_box_spec *s, struct err *e)
{
	if (s->memory_b < 16 * MIB || s->memory_b > 1024 * 1024 * MIB)
		return refuse_size(e, "memory must be 16M to 1T");
	if (s->workspace_b < 16 * MIB || s->workspace_b > 1024 * 1024 * MIB)
		return refuse_size(e, "the workspace must be 16M to 1T");
	if (s->cpu_milli < 10 || s->cpu_milli > 1024 * 1000)
		return refuse_size(e, "cpu must be 10 to 1024000 thousandths");
	if (s->pids < 8 || s->pids > 1024 * 1024)
		return refuse_size(e, "pids must be 8 to 1048576");
	return 0;
}

static bool volumes_ok(const struct priv_box_spec *s)
{
	uint32_t i;

	for (i = 0; i < s->n_volumes && i < PRIV_VOLUMES_MAX; i++)
		if (!id_ok(s->volumes[i].box, sizeof(s->volumes[i].box)) || !FIELD_OK(s->volumes[i].path) ||
		    !priv_volume_path(s->volumes[i].path))
			return false;
	return s->n_volumes <= PRIV_VOLUMES_MAX;
}

static int check_box(const struct host *h, const struct priv_box_spec *s, struct err *e)
{
	if (!id_ok(s->id, sizeof(s->id)))
		return refuse(e, "id of the sandbox");
	if (s->laid > 1 || s->net > 1 || s->again > 1 || s->root > PRIV_ROOT_LAID ||
	    (s->again && s->root == PRIV_ROOT_PLAIN))
		return refuse(e, "workspace or network of the sandbox");
	if (s->kind == PRIV_BOX_FAKE)
		return h->conf.allow_fake ? 0 : err_set(e, -EPERM, "fake-refused", "fake sandboxes are switched off");
	if (s->kind != PRIV_BOX_OCI)
		return refuse(e, "kind of sandbox");
	if (!id_ok(s->template_, sizeof(s->template_)))
		return refuse(e, "name of the template");
	if (!volumes_ok(s))
		return refuse(e, "volumes of the sandbox");
	if (s->range >= h->conf.ranges)
		return refuse(e, "index of the id range");
	return check_limits(s, e);
}

static bool is_kind(int fd, mode_t a, mode_t b)
{
	struct stat st;

	return fstat(fd, &st) == 0 && ((st.st_mode & S_IFMT) == a || (st.st_mode & S_IFMT) == b);
}

/* Open for reading by whoever sent it: we read it as root, so a mere path to a file must not do. */
static bool is_readable(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_WRONLY;
}

static int do_box_start(struct job *j)
{
	const struct priv_box_spec *spec = &j->req->box_start.spec;
	struct priv_box_started got = {.pid = 0};
	int r = check_box(j->host, spec, &j->reply->err);

	if (r < 0)
		return r;
	if (!is_kind(j->fds[0], S_IFSOCK, S_IFSOCK) || !is_kind(j->fds[1], S_IFIFO, S_IFREG) || !is_readable(j->fds[1]))
		return refuse(&j->reply->err, "kinds of descriptors");
	r = box_start(j->host, spec, j->fds[0], j->fds[1], &got, &j->reply->err);
	if (r < 0)
		return r;
	j->reply->pid = got.pid;
	j->reply->fanotify = got.fanotify;
	j->reply->uid_base = got.uid_base;
	j->reply_fd = got.pidfd;
	return 0;
}

static int do_box_end(struct job *j)
{
	const struct req_box *q = &j->req->box;

	if (!id_ok(q->id, sizeof(q->id)) || q->keep > PRIV_DISK_BOTH)
		return refuse(&j->reply->err, "id of the sandbox");
	return box_end(j->host, q->id, (enum priv_disk)q->keep, &j->reply->err);
}

static int do_box_alive(struct job *j)
{
	const struct req_box *q = &j->req->box;
	int r;

	if (!id_ok(q->id, sizeof(q->id)))
		return refuse(&j->reply->err, "id of the sandbox");
	r = box_alive(j->host, q->id, &j->reply_fd, &j->reply->err);
	j->reply->alive = r > 0;
	j->reply->pid = MAX(r, 0);
	return r < 0 ? r : 0;
}

static int do_box_freeze(struct job *j)
{
	const struct req_box_freeze *q = &j->req->box_freeze;

	if (!id_ok(q->id, sizeof(q->id)) || q->level > PRIV_FREEZE_ALL)
		return refuse(&j->reply->err, "id of the sandbox");
	return box_freeze(j->host, q->id, (enum priv_freeze)q->level, &j->reply->err);
}

static int check_base(const struct req_base *q, bool with_id, struct err *e)
{
	if (!id_ok(q->name, sizeof(q->name)) || (with_id && !id_ok(q->id, sizeof(q->id))) ||
	    (q->disk != PRIV_DISK_WORKSPACE && q->disk != PRIV_DISK_ROOT))
		return refuse(e, "name of a base");
	return 0;
}

static int do_base_keep(struct job *j)
{
	const struct req_base *q = &j->req->base;
	int r = check_base(q, true, &j->reply->err);

	return r < 0 ? r : base_keep(j->host, q->id, q->name, (enum priv_disk)q->disk, &j->reply->err);
}

static int do_base_lay(struct job *j)
{
	const struct req_base *q = &j->req->base;
	int r = check_base(q, true, &j->reply->err);

	if (r == 0 && !is_kind(j->fds[0], S_IFIFO, S_IFIFO))
		r = refuse(&j->reply->err, "kinds of descriptors");
	return r < 0 ? r : base_lay(j->host, q->name, q->id, (enum priv_disk)q->disk, j->fds[0], &j->reply->err);
}

static int do_base_drop(struct job *j)
{
	const struct req_base *q = &j->req->base;
	int r = check_base(q, false, &j->reply->err);

	return r < 0 ? r : base_drop(j->host, q->name, &j->reply->err);
}

static int do_layer_keep(struct job *j)
{
	const struct req_base *q = &j->req->base;
	int r = check_base(q, true, &j->reply->err);

	if (r == 0 && !is_kind(j->fds[0], S_IFIFO, S_IFIFO))
		r = refuse(&j->reply->err, "kinds of descriptors");
	return r < 0 ? r : base_layer_keep(j->host, q->id, q->name, j->fds[0], &j->reply->err);
}

static int do_layer_lay(struct job *j)
{
	const struct req_base *q = &j->req->base;
	int r = check_base(q, true, &j->reply->err);

	if (r == 0 && !is_kind(j->fds[0], S_IFIFO, S_IFIFO))
		r = refuse(&j->reply->err, "kinds of descriptors");
	return r < 0 ? r : base_layer_lay(j->host, q->name, q->id, j->fds[0], &j->reply->err);
}

static int do_layer_drop(struct job *j)
{
	const struct req_base *q = &j->req->base;
	int r = check_base(q, false, &j->reply->err);

	return r < 0 ? r : base_layer_drop(j->host, q->name, &j->reply->err);
}

static int do_layer_open(struct job *j)
{
	const struct req_base *q = &j->req->base;
	int r = check_base(q, false, &j->reply->err);

	return r < 0 ? r : base_layer_open(j->host, q->name, &j->reply_fd, &j->reply->err);
}

static int do_broker_start(struct job *j)
{
	if (!is_kind(j->fds[0], S_IFSOCK, S_IFSOCK) || !is_kind(j->fds[1], S_IFSOCK, S_IFSOCK) ||
	    !is_kind(j->fds[2], S_IFREG, S_IFREG))
		return refuse(&j->reply->err, "kinds of descriptors");
	return broker_start(j->host, j->fds, &j->reply->err);
}

static int do_sweep(struct job *j)
{
	const struct req_sweep *q = &j->req->sweep;
	struct host *h = j->host;
	struct host_id one;
	uint32_t i;
	int r;

	if (q->n > REQ_KEEP_MAX || q->more > 1 || h->keep.len + q->n > REQ_KEEP_ALL_MAX)
		return refuse(&j->reply->err, "number of sandboxes");
	for (i = 0; i < q->n; i++)
		if (!id_ok(q->keep[i], sizeof(q->keep[i])))
			return refuse(&j->reply->err, "id of a sandbox");
	for (i = 0; i < q->n; i++) {
		memcpy(one.id, q->keep[i], sizeof(one.id));
		vec_push(&h->keep, one);
	}
	if (q->more)
		return 0;
	template_sweep(j->host);
	fetch_sweep(j->host);
	base_sweep(j->host);
	r = box_sweep(h, (const char(*)[PRIV_ID_MAX + 1])h->keep.v, h->keep.len, &j->reply->err);
	vec_fini(&h->keep);
	net_settle(j->host, box_uses_net);
	return r;
}

static int do_net_open(struct job *j)
{
	struct priv_net_state s;
	int r = net_state(j->host, &s, &j->reply->err);

	if (r < 0)
		return r;
	j->reply->net_mode = s.mode;
	memcpy(j->reply->words, s.why, sizeof(s.why));
	if (s.dns_udp >= 0) {
		j->reply_fds[j->n_reply++] = s.dns_udp;
		j->reply_fds[j->n_reply++] = s.dns_tcp;
		j->reply_fds[j->n_reply++] = s.proxy[0];
		if (s.proxy[1] >= 0)
			j->reply_fds[j->n_reply++] = s.proxy[1];
	}
	return 0;
}

static bool prefixes_ok(const struct priv_prefix *v, uint32_t n)
{
	static const uint8_t none[16];
	uint32_t i;

	for (i = 0; i < n; i++) {
		uint8_t whole = v[i].family == AF_INET ? 32 : 128, bytes = v[i].len / 8, rest = v[i].len % 8;

		if ((v[i].family != AF_INET && v[i].family != AF_INET6) || v[i].len > whole ||
		    (bytes < 16 && rest && (uint8_t)(v[i].addr[bytes] << rest)))
			return false;
		bytes = (uint8_t)(bytes + (rest != 0));
		if (memcmp(v[i].addr + bytes, none, 16U - bytes) != 0)
			return false;
	}
	return true;
}

static int do_net_policy(struct job *j)
{
	const struct priv_net_policy *p = &j->req->net_policy.policy;

	if (p->range >= j->host->conf.ranges || p->open > 1 || p->proxied > 1 || p->tag == 0 ||
	    p->n_allow > PRIV_NET_RULES_MAX || p->n_deny > PRIV_NET_RULES_MAX || !prefixes_ok(p->allow, p->n_allow) ||
	    !prefixes_ok(p->deny, p->n_deny))
		return refuse(&j->reply->err, "rules of a network");
	return net_policy(j->host, p, &j->reply->err);
}

static int do_net_names(struct job *j)
{
	const struct req_net_names *q = &j->req->net_names;
	uint32_t i;

	if (q->range >= j->host->conf.ranges || q->n == 0 || q->n > PRIV_NET_NAMES_MAX || q->life_s == 0 ||
	    q->life_s > PRIV_NET_LIFE_MAX_S || !prefixes_ok(q->v, q->n))
		return refuse(&j->reply->err, "addresses of a name");
	for (i = 0; i < q->n; i++)
		if (q->v[i].len != (q->v[i].family == AF_INET ? 32 : 128) || priv_net_fenced(&q->v[i]))
			return refuse(&j->reply->err, "addresses of a name");
	return net_names(j->host, q->range, q->life_s, q->v, q->n, &j->reply->err);
}

static int do_net_sockets(struct job *j)
{
	const struct req_net_sockets *q = &j->req->net_sockets;
	int r;

	if ((q->family != AF_INET && q->family != AF_INET6) || q->n == 0 || q->n > PRIV_NET_SOCKETS_MAX)
		return refuse(&j->reply->err, "sockets of the router");
	r = net_sockets(j->host, (int)q->family, j->reply_fds, q->n, &j->reply->err);
	if (r == 0)
		j->n_reply = q->n;
	return r;
}

static int do_template_build(struct job *j)
{
	const struct priv_template_spec *s = &j->req->template_build.spec;
	bool tar = j->n_fds == 2;

	if (!id_ok(s->name, sizeof(s->name)))
		return refuse(&j->reply->err, "name of the template");
	if (!FIELD_OK(s->packages) || s->replace > 1)
		return refuse(&j->reply->err, "list of packages");
	if (tar ? s->packages[0] != '\0' : !template_packages_ok(s->packages))
		return refuse(&j->reply->err, "list of packages");
	if (tar && (!is_readable(j->fds[1]) || !is_kind(j->fds[1], S_IFIFO, S_IFREG)))
		return refuse(&j->reply->err, "the archive must be a file or a pipe open for reading");
	return template_build(j->host, s, tar ? j->fds[1] : -1, j->fds[0], &j->reply_fd, &j->reply->err);
}

static int do_template_remove(struct job *j)
{
	const struct req_template *q = &j->req->template_;

	if (!id_ok(q->name, sizeof(q->name)))
		return refuse(&j->reply->err, "name of the template");
	return template_remove(j->host, q->name, &j->reply->err);
}

static int do_fetch_start(struct job *j)
{
	const struct priv_fetch_spec *s = &j->req->fetch_start.spec;
	bool auth = j->n_fds == 4;

	if (!FIELD_OK(s->image) || !fetch_name_ok(s->image))
		return refuse(&j->reply->err, "name of an image");
	if (s->op > PRIV_FETCH_IMAGE || s->tunnel > UINT16_MAX || s->seconds == 0 || s->seconds > PRIV_FETCH_S_MAX ||
	    s->room_b < 16 * MIB || s->room_b > 1024 * 1024 * MIB)
		return refuse(&j->reply->err, "bounds of an image");
	if (!is_kind(j->fds[0], S_IFSOCK, S_IFSOCK) || !is_kind(j->fds[1], S_IFIFO, S_IFIFO) ||
	    !is_kind(j->fds[2], S_IFIFO, S_IFIFO) ||
	    (auth && (!is_kind(j->fds[3], S_IFREG, S_IFREG) || !is_readable(j->fds[3]))))
		return refuse(&j->reply->err, "kinds of descriptors");
	return fetch_start(j->host, s, j->fds, auth ? j->fds[3] : -1, &j->reply_fd, &j->reply->err);
}

static const struct row {
	size_t size;
	size_t fds_min, fds_max;
	int (*fn)(struct job *j);
} rows[] = {
	[REQ_MOUNT] = {sizeof(struct req_plain), 0, 0, do_mount},
	[REQ_MOUNT_LINKS] = {sizeof(struct req_plain), 0, 0, do_mount_links},
	[REQ_MOUNT_KEEP] = {sizeof(struct req_mount_keep), 0, 0, do_mount_keep},
	[REQ_MOUNT_NOTIFY] = {sizeof(struct req_plain), 0, 0, do_mount_notify},
	[REQ_UNMOUNT] = {sizeof(struct req_plain), 0, 0, do_unmount},
	[REQ_BOX_START] = {sizeof(struct req_box_start), 2, 2, do_box_start},
	[REQ_BOX_END] = {sizeof(struct req_box), 0, 0, do_box_end},
	[REQ_BOX_ALIVE] = {sizeof(struct req_box), 0, 0, do_box_alive},
	[REQ_SWEEP] = {sizeof(struct req_sweep), 0, 0, do_sweep},
	[REQ_TEMPLATE_BUILD] = {sizeof(struct req_template_build), 1, 2, do_template_build},
	[REQ_TEMPLATE_REMOVE] = {sizeof(struct req_template), 0, 0, do_template_remove},
	[REQ_BASE_KEEP] = {sizeof(struct req_base), 0, 0, do_base_keep},
	[REQ_BASE_LAY] = {sizeof(struct req_base), 1, 1, do_base_lay},
	[REQ_BASE_DROP] = {sizeof(struct req_base), 0, 0, do_base_drop},
	[REQ_LAYER_KEEP] = {sizeof(struct req_base), 1, 1, do_layer_keep},
	[REQ_LAYER_LAY] = {sizeof(struct req_base), 1, 1, do_layer_lay},
	[REQ_LAYER_DROP] = {sizeof(struct req_base), 0, 0, do_layer_drop},
	[REQ_LAYER_OPEN] = {sizeof(struct req_base), 0, 0, do_layer_open},
	[REQ_BOX_FREEZE] = {sizeof(struct req_box_freeze), 0, 0, do_box_freeze},
	[REQ_NET_OPEN] = {sizeof(struct req_plain), 0, 0, do_net_open},
	[REQ_NET_POLICY] = {sizeof(struct req_net_policy), 0, 0, do_net_policy},
	[REQ_BROKER_START] = {sizeof(struct req_plain), 3, 3, do_broker_start},
	[REQ_NET_NAMES] = {sizeof(struct req_net_names), 0, 0, do_net_names},
	[REQ_NET_SOCKETS] = {sizeof(struct req_net_sockets), 0, 0, do_net_sockets},
	[REQ_FETCH_START] = {sizeof(struct req_fetch_start), 3, 4, do_fetch_start},
};

static int serve_one(struct job *j, size_t len)
{
	struct err *e = &j->reply->err;
	const struct req_head *head = &j->req->head;
	const struct row *row;

	if (len < sizeof(*head) || head->magic != REQ_MAGIC)
		return refuse(e, "no header");
	if (head->op == 0 || head->op >= ARRAY_LEN(rows))
		return refuse(e, "unknown operation");
	row = &rows[head->op];
	if (len != row->size)
		return refuse(e, "wrong size");
	if (j->n_fds < row->fds_min || j->n_fds > row->fds_max)
		return refuse(e, "wrong number of descriptors");
	return row->fn(j);
}

static int answer(int sock, struct job *j, int r)
{
	if (r < 0 && j->reply->err.code == 0)
		err_sys(&j->reply->err, r, "privileged process");
	if (r == 0)
		j->reply->err = ERR_NULL;
	if (j->reply_fd >= 0)
		j->reply_fds[j->n_reply++] = j->reply_fd;
	j->reply->n_fds = r == 0 ? (uint32_t)j->n_reply : 0;
	r = io_send_fds(sock, j->reply, sizeof(*j->reply), j->reply_fds, j->reply->n_fds);
	while (j->n_reply > 0)
		close(j->reply_fds[--j->n_reply]);
	return r;
}

/* Nothing was received: the end, or a datagram without a byte. */
static bool is_gone(int sock)
{
	struct pollfd p = {.fd = sock, .events = POLLRDHUP};

	return poll(&p, 1, 0) != 0;
}

/* Return: 0 to go on, or -errno when the daemon is gone. */
static int serve_request(struct host *h, int sock, union req *req)
{
	struct reply reply = {.pid = 0};
	int fds[IO_FDS_MAX];
	size_t n = ARRAY_LEN(fds), i;
	struct job j = {.host = h, .req = req, .fds = fds, .reply = &reply, .reply_fd = -1};
	ssize_t len;
	int r;

	memset(req, 0, sizeof(*req));
	len = io_recv_fds(sock, req, sizeof(*req), fds, &n);
	if (len == -EMSGSIZE) {
		r = refuse(&reply.err, "wrong size");
		return answer(sock, &j, r);
	}
	if (len < 0)
		return (int)len;
	if (len == 0 && is_gone(sock))
		return -EPIPE;
	j.n_fds = n;
	r = serve_one(&j, (size_t)len);
	for (i = 0; i < n; i++)
		close(fds[i]);
	return answer(sock, &j, r);
}

static void serve_loop(struct host *h, int sock, int signals)
{
	struct pollfd p[5] = {{.fd = sock, .events = POLLIN},
			      {.fd = signals, .events = POLLIN},
			      {.events = POLLIN},
			      {.events = POLLIN},
			      {.events = POLLIN}};
	int net[2], ready;
	union req *req = NEW(union req);
	struct signalfd_siginfo info;

	for (;;) {
		p[2].fd = h->mount.keeper;
		net_fds(h, net);
		p[3].fd = net[0];
		p[4].fd = net[1];
		ready = poll(p, ARRAY_LEN(p), net_pause(h));
		if (ready < 0 && errno != EINTR)
			break;
		if (ready == 0 || p[3].revents || p[4].revents)
			net_tend(h);
		if (ready == 0) /* nobody waits for us */
			net_work(h);
		if (p[1].revents && read(signals, &info, sizeof(info)) > 0)
			host_reap();
		if (p[2].revents)
			mount_tend(h);
		if (p[0].revents && serve_request(h, sock, req) < 0)
			break;
	}
	mem_free(&req);
}

static void clean_environment(void)
{
	static const char *const kept[] = {"http_proxy", "https_proxy", "no_proxy",
					   "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"};
	char *values[ARRAY_LEN(kept)];
	size_t i;

	for (i = 0; i < ARRAY_LEN(kept); i++)
		values[i] = must_strdup(getenv(kept[i]));
	clearenv();
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
	setenv("HOME", "/root", 1);
	for (i = 0; i < ARRAY_LEN(kept); i++) {
		if (values[i])
			setenv(kept[i], values[i], 1);
		str_free(&values[i]);
	}
}

/* Only the socket and the standard descriptors stay; the standard ones must exist, so that nothing else takes their
 * numbers. Return: the socket's new number. */
static int tidy_descriptors(int sock)
{
	int null, i;

	for (i = 0; i < 3; i++)
		if (fcntl(i, F_GETFD) < 0 && (null = open("/dev/null", O_RDWR)) != i && null >= 0)
			close(null);
	if (sock != 3) {
		if (dup3(sock, 3, O_CLOEXEC) < 0)
			_exit(1);
		sock = 3;
	}
	close_range(4, ~0U, 0);
	return sock;
}

/* Only one privileged process works on a state directory. The one of a daemon that was killed may still be taking its
 * mounts away: a new one that mounted meanwhile would see its own mount go. The descriptor is kept until the end. */
static int lock_state(const struct priv_conf *conf, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/priv.lock", conf->state_dir);
	uint64_t until = clock_after_ms(LOCK_MS);
	struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
	int fd, r = io_mkdir_p(conf->state_dir, 0755);

	if (r < 0)
		return err_sys(e, r, "making %s", conf->state_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(e, -errno, "opening %s", path);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK || clock_left_ms(until) == 0)
			return err_set(e, -EBUSY, "state-in-use", "another daemon's privileged process works on %s",
				       conf->state_dir);
		nanosleep(&pause, NULL);
	}
	return 0;
}

NORETURN void serve_run(const struct priv_conf *conf, int sock)
{
	struct job j = {.reply = &(struct reply){.pid = 0}, .reply_fd = -1};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct host h = HOST_NULL;
	sigset_t chld;
	int signals, r;

	prctl(PR_SET_NAME, "berth-priv", 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sock = tidy_descriptors(sock);
	sigaction(SIGINT, &ignore, NULL);
	sigaction(SIGTERM, &ignore, NULL);
	sigaction(SIGHUP, &ignore, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_SETMASK, &chld, NULL);
	umask(022);
	clean_environment();
	if (chdir("/") < 0)
		_exit(1);
	signals = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	r = signals < 0 ? -errno : host_init(&h, conf, &j.reply->err);
	if (r == 0)
		r = lock_state(conf, &j.reply->err);
	if (r == 0) /* whoever had the lock may have removed ours when he ended */
		r = host_find_cgroups(&h, &j.reply->err);
	if (r == 0)
		r = net_init(&h, &j.reply->err);
	if (answer(sock, &j, r) < 0 || r < 0)
		_exit(1);
	h.sock = sock;
	serve_loop(&h, sock, signals);
	template_stop(&h);
	mount_leave(&h);
	net_leave(&h);
	cgroup_fini(&h.cgroups);
	_exit(0);
}
