/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berthd. The order of a start: configuration, directories, the lock on the state directory, the privileged process,
 * everything else without privileges: store, loop, mount, sandboxes, API. The end is the same list backwards, as one
 * job of its own while the loop still runs (stop_all); sandboxes go on unless it was told otherwise.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "host/api/e2b/e2b.h"
#include "host/api/v1/v1.h"
#include "host/accounts.h"
#include "host/conf.h"
#include "host/fs/fs.h"
#include "host/http/http.h"
#include "host/manager.h"
#include "host/net/network.h"
#include "host/priv/priv.h"
#include "host/restore.h"
#include "host/sandbox/hub.h"
#include "host/secret/watch.h"
#include "host/store/store.h"
#include "host/vault.h"
#include "json/json.h"
#include "tls/tls.h"
#include "wire/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <malloc.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	EXIT_USAGE = 2,
	WORKERS = 8,
	NOTIFIERS = 4,
	DIALLERS = 8,
	TICK_MS = 10000,
	LOCK_MS = 3000,
	MMAP_FROM = 256 * 1024,
	ARENAS = 4
};

struct berthd {
	struct conf conf;
	struct priv_conf priv_conf;
	struct priv *priv;
	struct store *store;
	struct loop *loop;
	struct pool *work, *notify, *dial, *api;
	struct fs *fs;
	struct network *network;
	struct hub *hub;
	struct hub_pool pools[CONF_POOLS_MAX];
	struct api front;
	struct e2b e2b;
	struct facts facts;
	struct keys *keys;
	struct vault vault;
	struct events *events;
	struct follow *watchers; /* of workspaces */
	struct loop_timer *ticker; /* the loop's */
	char *run_dir, *store_dir, *template_dir, *build_dir;
	struct priv_mounted mount;
	int lock_fd, listen_fd, tcp_fd, tls_fd, signal_fd;
	struct loop_watch *signal_watch, *priv_watch;
	bool mounted, stopping, priv_died;
	int failed; /* why it could not come up; the loop's once it is told */
};

/* --- before privileges go ----------------------------------------------------------------------------------------- */

static int own_dir(const char *path, uid_t uid, gid_t gid, mode_t mode, struct err *e)
{
	int r = io_mkdir_p(path, 0755);

	if (r < 0 || chown(path, uid, gid) < 0 || chmod(path, mode) < 0)
		return err_sys(e, r < 0 ? r : -errno, "cannot make %s", path);
	return 0;
}

static int directories(struct berthd *b, struct err *e)
{
	const struct priv_conf *p = &b->priv_conf;
	AUTO(str_free) char *tmp = str_printf("%s/tmp", b->conf.state_dir);
	AUTO(str_free) char *lock = str_printf("%s/lock", b->conf.state_dir);
	const struct timespec nap = { .tv_nsec = 5000000 };
	uint64_t until = clock_after_ms(LOCK_MS);
	int r = own_dir(b->conf.state_dir, 0, 0, 0755, e);

	if (r < 0)
		return r;
	b->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (b->lock_fd < 0)
		return err_sys(e, -errno, "cannot open %s", lock);
	/* One that was killed a moment ago may still be on its way out. */
	while (flock(b->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK || clock_now() > until)
			return err_set(e, -EBUSY, "state-in-use", "another berthd runs on %s", b->conf.state_dir);
		nanosleep(&nap, NULL);
	}
	b->run_dir = str_printf("%s/run", b->conf.state_dir);
	b->store_dir = str_printf("%s/store", b->conf.state_dir);
	b->template_dir = str_printf("%s/templates", b->conf.state_dir);
	b->build_dir = str_printf("%s/builds", b->conf.state_dir);
	r = own_dir(b->run_dir, p->uid, p->guest_gid, 0750, e);
	if (r == 0)
		r = own_dir(b->store_dir, p->uid, p->gid, 0700, e);
	if (r == 0)
		r = own_dir(b->template_dir, 0, 0, 0755, e);
	if (r == 0)
		r = own_dir(b->build_dir, p->uid, p->gid, 0700, e);
	if (r == 0)
		r = own_dir(tmp, p->uid, p->gid, 0700, e);
	return r;
}

/* Made by root, so that it may stand anywhere; the group may use it. */
static int api_socket(struct berthd *b, struct err *e)
{
	int r = io_unix_listen(b->conf.socket, 0660, &b->listen_fd, e);

	if (r == 0 && chown(b->conf.socket, b->priv_conf.uid, b->priv_conf.guest_gid) < 0)
		r = err_sys(e, -errno, "cannot give %s to the group %s", b->conf.socket, b->conf.group);
	return r;
}

static int network_conf(struct berthd *b, struct err *e)
{
	static const struct {
		const char *word;
		enum priv_net_mode mode;
	} modes[] = { { "auto", PRIV_NET_AUTO }, { "veth", PRIV_NET_VETH }, { "pasta", PRIV_NET_PASTA } };
	struct priv_conf *p = &b->priv_conf;
	AUTO(str_free) char *list = must_strdup(b->conf.net_private);
	char *word, *save = NULL;
	size_t i;

	for (i = 0; i < ARRAY_LEN(modes); i++)
		if (str_eq(b->conf.net_mode, modes[i].word))
			p->net_mode = modes[i].mode;
	if (p->allow_fake)
		p->net_mode = PRIV_NET_NONE;
	p->net_ready = (uint32_t)b->conf.net_ready;
	for (word = strtok_r(list, ", ", &save); word; word = strtok_r(NULL, ", ", &save))
		if (p->n_private == PRIV_PRIVATE_MAX || policy_prefix(word, &p->private_[p->n_private++]) < 0)
			return err_set(e, -EINVAL, "bad-config",
				       "network.private: \"%.60s\": up to %d addresses and ranges are wanted", word,
				       (int)PRIV_PRIVATE_MAX);
	return 0;
}

static int prepare(struct berthd *b, struct err *e)
{
	struct priv_conf *p = &b->priv_conf;
	struct rlimit files;
	int r;

	if (geteuid() != 0)
		return err_set(e, -EPERM, "not-root", "berthd is started as root; it gives that up at once");
	if (access(b->conf.agent, R_OK) < 0)
		return err_sys(e, -errno, "the agent program %s", b->conf.agent);
	r = accounts_find(&b->conf, p, e);
	if (r == 0)
		r = directories(b, e);
	if (r == 0)
		r = vault_conf(&b->conf, &b->priv_conf, e);
	if (r == 0)
		r = api_socket(b, e);
	if (r == 0 && b->conf.api_listen[0])
		r = http_listen(b->conf.api_listen, &b->tcp_fd, e);
	if (r == 0 && b->conf.tls_listen[0])
		r = http_listen(b->conf.tls_listen, &b->tls_fd, e);
	if (r < 0)
		return r;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	snprintf(p->state_dir, sizeof(p->state_dir), "%s", b->conf.state_dir);
	snprintf(p->mount_dir, sizeof(p->mount_dir), "%s", b->conf.mount_dir);
	snprintf(p->agent_path, sizeof(p->agent_path), "%s", b->conf.agent);
	snprintf(p->cgroup_parent, sizeof(p->cgroup_parent), "%s", b->conf.cgroup_parent);
	p->range_first = (uid_t)b->conf.ids_first;
	p->ranges = (uint32_t)b->conf.sandboxes;
	facts_look(&b->facts);
	p->allow_fake = str_eq(b->conf.box, "fake");
	return network_conf(b, e);
}

/* --- after -------------------------------------------------------------------------------------------------------- */

static int pools(struct berthd *b, struct err *e)
{
	int r = loop_new(&b->loop, e);

	if (r == 0)
		r = pool_new("work", WORKERS, &b->work, e);
	if (r == 0)
		r = pool_new("notify", NOTIFIERS, &b->notify, e);
	if (r == 0)
		r = pool_new("dial", DIALLERS, &b->dial, e);
	if (r == 0)
		r = pool_new("api", (unsigned)b->conf.api_threads, &b->api, e);
	return r;
}

static int mount_once(struct berthd *b, struct err *e)
{
	struct fs_conf fc = {
		.uid = b->priv_conf.guest_uid,
		.gid = b->priv_conf.guest_gid,
		.threads = (unsigned)b->conf.fuse_threads,
		.open_ms = (unsigned)b->conf.open_timeout,
		.statfs_dir = b->store_dir,
		.n_channels = PRIV_CHANNELS, .renew = priv_mount_notify, .renew_ctx = b->priv,
	};
	int r = priv_mount(b->priv, &b->mount, e);

	if (r < 0)
		return r;
	b->mounted = true;
	memcpy(fc.channels, b->mount.channels, sizeof(b->mount.channels));
	r = fs_new(&fc, &b->fs, e);
	if (r == 0)
		r = fs_open(b->fs, fd_take(&b->mount.fuse_fd), fd_take(&b->mount.table_fd), b->mount.taken, e);
	return r;
}

/* The mount of an earlier daemon when that is possible, else a new one. */
static int mount_up(struct berthd *b, struct err *e)
{
	int r = mount_once(b, e);

	if (r == -ESTALE && b->mount.taken) {
		log_warn("main", "the mount of the daemon before cannot be gone on with: it is made anew", "why=%s",
			 e->text);
		fs_free(&b->fs);
		priv_mounted_fini(&b->mount);
		r = priv_unmount(b->priv, e);
		b->mounted = false;
		if (r == 0)
			r = mount_once(b, e);
	}
	/* One that was taken over is served when its workspaces are here. */
	if (r == 0 && !b->mount.taken) {
		r = fs_serve(b->fs, e);
		if (r == 0)
			r = priv_mount_links(b->priv, &b->mount.links_dirfd, e);
	}
	return r;
}

/* Every workspace is known: from now on the mount is what it says. */
static int mount_serve(void *ctx, struct err *e)
{
	struct berthd *b = ctx;
	uint64_t window_ms = fs_survives(b->fs) ? b->conf.takeover : 0;
	int r = b->mount.taken ? fs_serve(b->fs, e) : 0;

	if (r == 0)
		r = priv_mount_keep(b->priv, (uint32_t)window_ms, e);
	if (r == 0)
		log_info("main", b->mount.taken ? "mount taken over" : "mounted", "survives=%s",
			 window_ms ? "yes" : "no");
	return r;
}

static void stop_all(void *ctx);
static void stop_for(void *ctx);

/* A line now and then to those who listen for events, so that who went away is noticed. */
static void tick(void *ctx)
{
	struct berthd *b = ctx;

	follow_tick(events_readers(b->events));
	follow_tick(b->watchers);
	if (manager_watched())
		manager_say("WATCHDOG=1"); /* the loop turns */
	loop_rearm(b->ticker, clock_after_ms(TICK_MS));
}

static int front_up(struct berthd *b, struct err *e)
{
	const struct conf *c = &b->conf;
	AUTO(str_free) char *tmp = str_printf("%s/tmp", c->state_dir);
	struct http_conf hc = {
		.listener = { { .fd = b->listen_fd } },
		.listeners = 1,
		.gate = { .admit = keys_admit, .ctx = b->keys },
		.loop = b->loop,
		.pool = b->api,
		.spool_dir = tmp,
		.body_max_b = c->body_max,
		.head_ms = c->head_timeout,
		.connections = (unsigned)c->connections,
		.failures = (unsigned)c->failures,
	};
	struct http_front fronts[E2B_FRONTS + 1];
	const struct http_route *routes;
	size_t n;
	int r;

	b->front = (struct api){ .hub = b->hub,
				 .store = b->store,
				 .loop = b->loop,
				 .pool = b->api,
				 .fs = b->fs,
				 .keys = b->keys,
				 .events = b->events,
				 .secrets = b->vault.secrets,
				 .watchers = b->watchers,
				 .facts = &b->facts,
				 .network = b->network,
				 .box = c->box,
				 .mount_dir = c->mount_dir,
				 .takeover_ms = c->takeover,
				 .started_ns = clock_wall() };
	v1_init(&b->front);
	routes = v1_routes(&n);
	b->e2b = (struct e2b){ .hub = b->hub, .network = b->network, .keys = b->keys, .secrets = b->vault.secrets,
				.loop = b->loop,
				.spool_dir = must_strdup(tmp),
				.interpreter_dir = c->interpreter,
				.domain = c->domain,
				.body_max_b = c->body_max,
				.build_dir = b->build_dir,
				.threads = (unsigned)c->api_threads,
				.images = { .conf = { .priv = b->priv_conf.image_uid ? b->priv : NULL,
						      .allow = c->image_allow,
						      .size_max_b = c->image_size,
						      .time_ms = c->image_timeout },
					    .room_b = c->image_room },
				.pool = b->api };
	r = e2b_init(&b->e2b, e);
	if (b->tcp_fd >= 0)
		hc.listener[hc.listeners++] = (struct http_listener){ .fd = b->tcp_fd, .keyed = true };
	if (b->tls_fd >= 0)
		hc.listener[hc.listeners++] = (struct http_listener){ .fd = b->tls_fd, .keyed = true,
								      .certificate = tls_retriever(),
								      .priorities = TLS_PRIORITIES };
	e2b_fronts(&b->e2b, fronts);
	fronts[E2B_FRONTS] = (struct http_front){ .routes = routes, .n = n, .ctx = &b->front, .prepare = v1_prepare };
	if (r == 0 && b->tls_fd >= 0)
		r = tls_serve(c->tls_cert, c->tls_key, e);
	if (r == 0)
		r = http_start(&hc, fronts, ARRAY_LEN(fronts), &b->front.http, e);
	b->e2b.http = b->front.http;
	if (r == 0)
		b->listen_fd = b->tcp_fd = b->tls_fd = -1;
	return r;
}

/* Everything is up but the loop does not run yet, so what needs it goes to a thread. */
static void bring_up(void *ctx)
{
	struct berthd *b = ctx;
	const struct conf *c = &b->conf;
	struct hub_conf conf = {
		.store = b->store,
		.loop = b->loop,
		.work = b->work,
		.notify = b->notify,
		.watchers = b->watchers,
		.log_commands = str_eq(c->log_commands, "off")	? WS_LOG_OFF
				: str_eq(c->log_commands, "name") ? WS_LOG_NAME
								   : WS_LOG_FULL,
		.calm_rate = c->calm_rate * (uint64_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L),
		.dial = b->dial,
		.api = b->api,
		.priv = b->priv,
		.fs = b->fs,
		.links_dirfd = b->mount.links_dirfd,
		.loaded = mount_serve,
		.loaded_ctx = b,
		.run_dir = b->run_dir,
		.cgroup_parent = c->cgroup_parent,
		.mount_dir = c->mount_dir,
		.state_dir = c->state_dir,
		.disk_low_b = c->disk_low,
		.disk_stop_b = c->disk_stop,
		.template_dir = b->template_dir,
		.kind = box_kind_find(c->box),
		.bases_max = (unsigned)c->bases,
		.bases_max_b = c->bases_size,
		.layers_max_b = c->layers_size,
		.pools = b->pools,
		.n_pools = c->n_pools,
		.sandboxes_max = (unsigned)c->sandboxes,
		.memory_b = c->memory,
		.memory_max_b = c->memory_max,
		.workspace_b = c->workspace,
		.workspace_max_b = c->workspace_max,
		.cpu_milli = (uint32_t)c->cpu,
		.pids = (uint32_t)c->pids,
		.timeout_ms = c->timeout,
		.gc_interval_ms = c->gc_interval,
		.keep_stopped_ms = c->keep_stopped,
		.keep_stopped_count = c->keep_stopped_count,
		.keep_snapshots_ms = c->keep_snapshots,
		.network = b->network,
		.events = b->events,
		.secrets = b->vault.secrets,
		.watch_output = str_eq(c->watch_output, "off")	  ? WATCH_OFF
				: str_eq(c->watch_output, "mask") ? WATCH_MASK
								  : WATCH_WARN,
		.watch_files = str_eq(c->watch_files, "warn"),
		.broker = b->vault.broker,
	};
	struct err e = ERR_NULL;
	unsigned i;
	int r;

	for (i = 0; i < c->n_pools; i++) {
		memcpy(b->pools[i].template_, c->pools[i].template_, sizeof(b->pools[i].template_));
		b->pools[i].want = c->pools[i].want;
	}
	r = hub_new(&conf, &b->hub, &e);

	if (r == 0)
		r = front_up(b, &e);
	if (r < 0) {
		log_error("main", "cannot start", "slug=%s why=%s", e.slug, e.text);
		b->failed = r;
		loop_post(b->loop, stop_for, b); /* this thread is one of those that the end waits for */
		return;
	}
	log_info("main", "ready", "version=%s socket=%s mount=%s%s%s", PACKAGE_VERSION, c->socket, c->mount_dir,
		 c->api_listen[0] ? " listen=" : "", c->api_listen);
	manager_say("READY=1\nSTATUS=serving");
}

/* Does the mount wait for the next daemon? */
static bool hands_over(const struct berthd *b)
{
	return b->mounted && !b->priv_died && b->conf.takeover && fs_survives(b->fs) &&
	       !str_eq(b->conf.at_stop, "kill");
}

/* stop accepting, stop serving the mount, leave or end sandboxes, unmount when nobody is to go on */
static void stop_all(void *ctx)
{
	struct berthd *b = ctx;
	struct err e = ERR_NULL;
	bool kill = str_eq(b->conf.at_stop, "kill");

	if (b->front.loop) {
		v1_end(&b->front);
		e2b_end(&b->e2b);
	}
	follow_end(events_readers(b->events), NULL);
	follow_end(b->watchers, NULL);
	if (b->hub)
		hub_hurry(b->hub);
	http_stop(&b->front.http);
	if (b->front.loop)
		e2b_fini(&b->e2b);
	v1_backup_end();
	v1_export_end();
	if (kill)
		hub_free(&b->hub, true);
	else if (b->hub)
		hub_settle(b->hub);
	fs_pause(b->fs);
	/* Notifications may wait for what is unanswered from here on. Everything is durable: there is nothing to undo.
	 */
	if (hands_over(b)) {
		priv_close(&b->priv);
		log_info("main", "ended, the mount waits", "ms=%llu", (unsigned long long)b->conf.takeover);
		_exit(0);
	}
	if (b->mounted && !b->priv_died && priv_unmount(b->priv, &e) < 0)
		log_warn("main", "not unmounted", "why=%s", e.text);
	hub_free(&b->hub, false);
	pool_drain(b->work); /* its jobs may hold a workspace's last reference, and need what ends next */
	pool_drain(b->dial); /* a link is only freed when its dial was heard of, which needs the loop */
	loop_sync(b->loop);
	loop_stop(b->loop);
}

static void *stop_thread(void *ctx)
{
	stop_all(ctx);
	return NULL;
}

static void stop(struct berthd *b)
{
	pthread_t t;

	if (b->stopping)
		return;
	b->stopping = true;
	manager_say("STOPPING=1\nSTATUS=ending in order");
	if (pthread_create(&t, NULL, stop_thread, b) == 0)
		pthread_detach(t);
	else
		loop_stop(b->loop);
}

static void stop_for(void *ctx)
{
	stop(ctx);
}

static void on_signal(void *ctx, int fd, unsigned events)
{
	struct berthd *b = ctx;
	struct signalfd_siginfo info;

	(void)events;
	if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	log_info("main", "ending", "signal=%u", info.ssi_signo);
	stop(b);
}

static void on_priv(void *ctx, int fd, unsigned events)
{
	struct berthd *b = ctx;

	(void)fd;
	(void)events;
	loop_unwatch(&b->priv_watch);
	if (b->stopping)
		return;
	log_error("main", "the privileged process ended", NULL);
	b->priv_died = true;
	_exit(1); /* the store needs no goodbye, and nothing can be unmounted from here */
}

static int signals(struct berthd *b, struct err *e)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	b->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (b->signal_fd < 0)
		return err_sys(e, -errno, "signalfd");
	r = loop_watch(b->loop, b->signal_fd, LOOP_READ, on_signal, b, &b->signal_watch);
	if (r == 0)
		r = loop_watch(b->loop, priv_fd(b->priv), 0, on_priv, b, &b->priv_watch);
	return r < 0 ? err_sys(e, r, "epoll_ctl") : 0;
}

static int network_up(struct berthd *b, struct err *e)
{
	const struct network_conf nc = { .priv = b->priv,
					 .ranges = b->priv_conf.ranges,
					 .internet = str_eq(b->conf.net_internet, "on"),
					 .private_ = { .v = b->priv_conf.private_, .n = b->priv_conf.n_private },
					 .dns = b->conf.net_dns };

	return network_new(&nc, &b->network, e);
}

static int start(struct berthd *b, struct err *e)
{
	struct store_conf sc = { .map_size_b = b->conf.map_size, .create = true };
	int r = prepare(b, e);

	if (r == 0)
		r = priv_fork(&b->priv_conf, &b->priv, e);
	if (r == 0)
		r = priv_confine(b->priv, e);
	if (r == 0)
		r = store_open(b->store_dir, &sc, &b->store, e);
	if (r == 0)
		r = pools(b, e);
	if (r == 0)
		r = keys_new(b->store, &b->keys, e);
	if (r == 0)
		r = vault_open(&b->vault, b->priv, b->store, e);
	if (r == 0) {
		b->events = events_new();
		b->watchers = follow_new();
		b->ticker = loop_timer(b->loop, clock_after_ms(TICK_MS), tick, b);
	}
	if (r == 0)
		r = network_up(b, e);
	if (r == 0)
		r = mount_up(b, e);
	if (r == 0)
		r = signals(b, e);
	return r;
}

static void finish(struct berthd *b)
{
	if (b->loop) {
		loop_unwatch(&b->signal_watch);
		loop_unwatch(&b->priv_watch);
		loop_untimer(&b->ticker);
	}
	/* A start that failed takes away what it made; what it took over stays for the next one, for its time. */
	if (b->mounted && !b->stopping && !b->priv_died && !b->mount.taken)
		(void)!priv_unmount(b->priv, NULL);
	network_free(&b->network);
	fs_free(&b->fs);
	pool_free(&b->api);
	pool_free(&b->dial);
	pool_free(&b->notify);
	pool_free(&b->work);
	loop_free(&b->loop);
	keys_free(&b->keys);
	vault_close(&b->vault);
	events_free(&b->events);
	follow_free(&b->watchers);
	store_close(&b->store);
	fd_close(&b->signal_fd);
	if (b->listen_fd >= 0)
		unlink(b->conf.socket);
	fd_close(&b->listen_fd);
	fd_close(&b->tcp_fd);
	tls_end();
	fd_close(&b->tls_fd);
	priv_close(&b->priv);
	priv_mounted_fini(&b->mount);
	fd_close(&b->lock_fd);
	str_free(&b->run_dir);
	str_free(&b->store_dir);
	str_free(&b->template_dir);
	str_free(&b->build_dir);
}

/* --- the command line --------------------------------------------------------------------------------------------- */

static void help_one(void *ctx, const char *section, const char *key, const char *value, const char *doc)
{
	const char **last = ctx;

	if (!str_eq(*last, section))
		printf("\n[%s]\n", section);
	*last = section;
	printf("  %-14s = %-28s %s\n", key, value, doc);
}

static void help(const struct conf *c)
{
	const char *last = NULL;
	unsigned i;

	printf("usage: berthd [--config FILE] [--set SECTION.KEY=VALUE]... [--check | --restore BACKUP | --version | "
	       "--help]\n\n"
	       "Runs the berth daemon in the foreground. Options, with their present values:\n");
	conf_each(c, help_one, &last);
	printf("\n[pool]\n  %-14s = %-28s %s\n", "TEMPLATE", "0", "how many started sandboxes of it are kept ready");
	for (i = 0; i < c->n_pools; i++)
		printf("  %-14s = %u\n", c->pools[i].template_, c->pools[i].want);
	printf("\nEach can also be set by an environment variable BERTHD_SECTION_KEY (dashes as underscores).\n");
}

static int configure(struct conf *c, int argc, char **argv, bool *ret_check, const char **ret_backup,
		     bool *ret_over, struct err *e)
{
	static const struct option flags[] = {
		{ "config", required_argument, NULL, 'c' }, { "set", required_argument, NULL, 's' },
		{ "restore", required_argument, NULL, 'R' },
		{ "check", no_argument, NULL, 'C' },	    { "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },	    { NULL, 0, NULL, 0 },
	};
	int r, o;

	conf_default(c);
	while ((o = getopt_long(argc, argv, "c:s:h", flags, NULL)) != -1) {
		if (o == 'c') {
			r = conf_file(c, optarg, e);
			if (r < 0)
				return r;
		} else if (o == 'V' || o == '?') {
			if (o == 'V')
				printf("berthd %s\n", PACKAGE_VERSION);
			*ret_over = true;
			return o == 'V' ? 0 : err_set(e, -EINVAL, "usage", "berthd --help tells the options");
		} else if (o == 'C') {
			*ret_check = true;
		} else if (o == 'R') {
			*ret_backup = optarg;
		} else if (o == 'h') {
			*ret_over = true;
		}
	}
	if (optind < argc)
		return err_set(e, -EINVAL, "usage", "\"%s\" is no option; berthd --help tells them", argv[optind]);
	r = conf_environment(c, environ, e);
	optind = 1;
	while (r == 0 && (o = getopt_long(argc, argv, "c:s:h", flags, NULL)) != -1)
		if (o == 's')
			r = conf_set(c, optarg, e);
	if (r == 0)
		r = conf_finish(c, e);
	if (r == 0 && *ret_over)
		help(c);
	return r;
}

static enum log_form log_form(const char *word)
{
	if (str_eq(word, "json"))
		return LOG_FORM_JSON;
	return str_eq(word, "journal") ? LOG_FORM_JOURNAL : LOG_FORM_TEXT;
}

int main(int argc, char **argv)
{
	struct berthd b = {
		.lock_fd = -1, .listen_fd = -1, .tcp_fd = -1, .tls_fd = -1, .mount = PRIV_MOUNTED_NULL, .signal_fd = -1
	};
	enum log_level level = LOG_LVL_INFO;
	bool check = false, over = false;
	struct err e = ERR_NULL;
	sigset_t set;
	const char *backup = NULL;
	int r = configure(&b.conf, argc, argv, &check, &backup, &over, &e);

	if (r < 0) {
		fprintf(stderr, "berthd: %s\n", e.text);
		return EXIT_USAGE;
	}
	if (check)
		puts("berthd: the configuration is right");
	if (check || over)
		return 0;
	json_wipes();
	if (backup) {
		r = restore(&b.conf, backup, &e);
		if (r < 0)
			fprintf(stderr, "berthd: %s\n", e.text);
		return r < 0 ? 1 : 0;
	}
	/* LMDB reserves 3 MiB for each environment and uses little of it. Taken from the kernel that costs nothing; the
	 * heap, which glibc would come to use for sizes like these after a while, is filled with zeros first. */
	mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
	mallopt(M_ARENA_MAX, ARENAS);
	(void)!log_parse_level(b.conf.log_level, &level);
	log_setup(level, log_form(b.conf.log_form), -1);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	(void)!chdir("/"); /* whoever started us may stand in the mount */
	manager_open();
	manager_say("STATUS=starting");
	r = start(&b, &e);
	if (r == 0) {
		(void)!trace_open(NULL);
		pool_run(b.api, bring_up, &b);
		r = loop_run(b.loop);
		r = r == 0 ? b.failed : r;
	} else {
		log_error("main", "cannot start", "slug=%s why=%s", e.slug, e.text);
	}
	finish(&b);
	log_info("main", "ended", "result=%d", r);
	return r == 0 ? 0 : 1;
}
