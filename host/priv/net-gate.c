/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The router is a network namespace that must outlive the daemon as the sandboxes do, so a process of its own stands in
 * it and does nothing. Its way into the world is one of two: a pair of links to the host, which then forwards and
 * translates; or pasta, an ordinary program in the host's namespace that speaks for the router by making connections
 * itself, and changes nothing of the host.
 *
 * STATE/net/record says which processes these are, for the next daemon.
 */
#include "host/priv/host.h"
#include "host/priv/net-inside.h"
#include "host/priv/net-plan.h"
#include "host/priv/record.h"
#include "host/priv/run.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UPLINK_MS = 10000, POLL_MS = 5, END_MS = 2000, FD_ROUTER = 9 };

/* --- what is noted ------------------------------------------------------------------------------------------------ */

static int net_dir(const struct host *h, int *ret)
{
	if (mkdirat(h->state, "net", 0700) < 0 && errno != EEXIST)
		return -errno;
	*ret = openat(h->state, "net", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

int gate_note(struct host *h, const struct net *n)
{
	AUTO(fd_close) int dir = -1;
	char text[256];
	int len, r = net_dir(h, &dir);

	if (r < 0)
		return r;
	len = snprintf(text, sizeof(text), "berth-net 1 %u %u %d %" PRIu64 " %d %" PRIu64 "\n", (unsigned)n->mode,
		       n->at, (int)n->gate.pid, n->gate.start, (int)n->pasta.pid, n->pasta.start);
	return io_write_file(dir, "record", text, (size_t)len, 0600);
}

static bool read_note(const struct host *h, struct net *n, unsigned *ret_mode)
{
	AUTO(fd_close) int dir = -1;
	AUTO(buf_fini) struct buf b;
	struct net was = *n;

	buf_init(&b, 256);
	if (net_dir(h, &dir) < 0 || io_read_file(dir, "record", &b) < 0)
		return false;
	if (sscanf(buf_str(&b), "berth-net 1 %u %u %d %" SCNu64 " %d %" SCNu64, ret_mode, &was.at, &was.gate.pid,
		   &was.gate.start, &was.pasta.pid, &was.pasta.start) != 6 ||
	    was.at >= NET_PLACES)
		return false;
	n->at = was.at;
	n->gate = was.gate;
	n->pasta = was.pasta;
	return true;
}

bool gate_noted(const struct host *h)
{
	return faccessat(h->state, "net/record", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- processes ---------------------------------------------------------------------------------------------------- */

/* A descriptor of it, -1 when it is no more. */
static int process_open(const struct net_process *p)
{
	AUTO(fd_close) int pidfd = p->pid > 0 ? pidfd_open(p->pid, 0) : -1;
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	uint64_t start;

	if (pidfd < 0 || record_start_time(p->pid, &start) < 0 || start != p->start || poll(&ended, 1, 0) != 0)
		return -1;
	return fd_take(&pidfd);
}

bool process_lives(const struct net_process *p)
{
	AUTO(fd_close) int pidfd = process_open(p);

	return pidfd >= 0;
}

static void process_end(struct net_process *p)
{
	AUTO(fd_close) int pidfd = process_open(p);
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};

	if (pidfd >= 0 && pidfd_send_signal(pidfd, SIGKILL, NULL, 0) == 0)
		(void)!poll(&ended, 1, END_MS);
	*p = (struct net_process){.pid = 0};
	host_reap();
}

/* One that is not noted would be nobody's if we died now: it waits for the word that it is, and ends without it. */
static void await_word(int go)
{
	char c;

	if (read(go, &c, 1) != 1)
		_exit(1);
}

/* Everything that it was born with is closed: the daemon's lock must not be held by it. */
static NORETURN void stand_in_router(int ready, int go)
{
	int r, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	run_child();
	setsid();
	r = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		r = -errno;
	prctl(PR_SET_NAME, "berth-gate", 0, 0, 0);
	(void)!write(ready, &r, sizeof(r));
	if (r < 0)
		_exit(1);
	await_word(go);
	close_range(3, ~0U, 0);
	for (;;)
		pause();
}

/* The child is noted as @p, then it hears of it. */
static int note_child(struct host *h, struct net *n, struct net_process *p, pid_t pid, int go, struct err *e)
{
	int r = record_start_time(pid, &p->start);

	p->pid = pid;
	if (r == 0)
		r = gate_note(h, n);
	if (r == 0)
		r = io_write_full(go, "", 1);
	if (r < 0)
		p->pid = 0;
	return r < 0 ? err_sys(e, r, "noting the network") : 0;
}

static int start_gate(struct host *h, struct net *n, struct err *e)
{
	int ready[2], go[2], why = 0, r;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	if (pipe2(go, O_CLOEXEC) < 0) {
		r = -errno;
		close(ready[0]);
		close(ready[1]);
		return err_sys(e, r, "pipe");
	}
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		stand_in_router(ready[1], go[0]);
	}
	close(ready[1]);
	close(go[0]);
	r = pid < 0 ? -errno : io_read_full(ready[0], &why, sizeof(why));
	close(ready[0]);
	r = r < 0 ? r : why;
	r = r < 0 ? err_sys(e, r, "the router's network namespace") : note_child(h, n, &n->gate, pid, go[1], e);
	close(go[1]); /* one that is not noted ends now */
	return r;
}

static int open_router(struct net *n, struct err *e)
{
	struct stat mine, its;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)n->gate.pid);
	n->router = open(path, O_RDONLY | O_CLOEXEC);
	if (n->router < 0 || fstat(n->router, &its) < 0 || fstat(n->home, &mine) < 0)
		return err_sys(e, -errno, "the router's network namespace");
	return its.st_ino == mine.st_ino ? err_set(e, -EIO, "eio", "the router has no namespace of its own") : 0;
}

/* --- the router --------------------------------------------------------------------------------------------------- */

/* In it. */
static int furnish(struct host *h, struct net *n, bool adopted, struct err *e)
{
	struct priv_prefix gate = net_plan_gate(AF_INET), proxies = net_plan_proxies(AF_INET6);
	int r = nl_open(&n->in_router, e);

	if (r == 0)
		r = rules_open(&n->of_router, e);
	if (r == 0) /* before anything can pass */
		r = rules_router(n->of_router, h->conf.private_, h->conf.n_private, e);
	if (r == 0 && !adopted)
		r = nl_up(&n->in_router, "lo", e);
	if (r == 0)
		r = nl_address(&n->in_router, "lo", &gate, e);
	if (r == 0 && n->v6)
		r = nl_address(&n->in_router, "lo", &proxies, e);
	if (r < 0 || adopted)
		return r;
	if (n->v6) {
		(void)!net_sysctl("ipv6/conf/all/accept_ra", "0");
		(void)!net_sysctl("ipv6/conf/default/accept_ra", "0");
		(void)!net_sysctl("ipv6/conf/all/forwarding", "1");
	}
	(void)!net_sysctl("ipv4/conf/all/send_redirects", "0");
	(void)!net_sysctl("ipv4/conf/default/send_redirects", "0");
	r = net_sysctl("ipv4/ip_forward", "1");
	return r < 0 ? err_sys(e, r, "forwarding in the router") : 0;
}

/* Unique on this machine for each state directory, and the same after a restart. */
static void name_things(const struct host *h, struct net *n)
{
	struct stat st = {.st_ino = 0};
	unsigned long long mix;

	(void)!fstat(h->state, &st);
	mix = (unsigned long long)st.st_dev * 2654435761U ^ (unsigned long long)st.st_ino * 40503U;
	snprintf(n->table, sizeof(n->table), "berth-%llx-%llx", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	snprintf(n->link, sizeof(n->link), "bt%08x", (unsigned)(mix ^ mix >> 32));
	n->at = (uint32_t)(mix % NET_PLACES);
}

struct taken {
	struct net *net;
	bool found;
};

static void see_taken(void *ctx, const struct priv_prefix *p)
{
	struct taken *t = ctx;
	struct priv_prefix mine = net_plan_uplink(t->net->at, AF_INET, true);

	mine.len = 32;
	t->found |= p->len <= 32 && net_plan_within(&mine, p);
}

/* Another daemon's uplink may have the place that this one would. */
static int choose_place(struct net *n, struct err *e)
{
	unsigned tries;

	for (tries = 0; tries < 256; tries++) {
		struct taken t = {.net = n};
		int r = nl_addresses(&n->in_home, see_taken, &t);

		if (r < 0)
			return err_sys(e, r, "addresses of the host");
		if (!t.found)
			return 0;
		n->at = (n->at + 1) % NET_PLACES;
	}
	return err_set(e, -EADDRINUSE, "no-address", "no free addresses in 198.18.0.0/16");
}

int gate_open(struct host *h, struct net *n, bool *ret_adopted, struct err *e)
{
	unsigned mode = PRIV_NET_NONE;
	bool known, adopted;
	int r;

	name_things(h, n);
	known = read_note(h, n, &mode);
	adopted = known && mode == (unsigned)n->mode && process_lives(&n->gate);
	if (!adopted) {
		gate_close(h, n);
		name_things(h, n);
	}
	*ret_adopted = adopted;
	if (n->mode == PRIV_NET_NONE)
		return 0;
	r = adopted ? 0 : start_gate(h, n, e);
	if (r == 0)
		r = open_router(n, e);
	if (r == 0)
		r = err_sys(e, net_enter(n->router), "the router's network namespace");
	if (r < 0)
		return r;
	r = furnish(h, n, adopted, e);
	if (net_enter(n->home) < 0)
		_exit(1);
	return r;
}

/* Whoever made it: by what is noted and by name. */
void gate_close(struct host *h, struct net *n)
{
	AUTO(fd_close) int dir = -1;

	process_end(&n->pasta);
	fd_close(&n->pasta_fd);
	if (n->in_home.fd >= 0 && nl_delete(&n->in_home, n->link) < 0)
		log_warn("priv", "a link stays", "name=%s", n->link);
	if (n->of_home)
		(void)!rules_drop(n->of_home, n->table);
	process_end(&n->gate);
	if (net_dir(h, &dir) == 0)
		unlinkat(dir, "record", 0);
}

/* --- by way of the host ------------------------------------------------------------------------------------------- */

static bool sysctl_is(const char *path, char value)
{
	AUTO(str_free) char *full = str_printf("/proc/sys/net/%s", path);
	AUTO(fd_close) int fd = open(full, O_RDONLY | O_CLOEXEC);
	char c = 0;

	return fd >= 0 && read(fd, &c, 1) == 1 && c == value;
}

/* A host that forwards IPv6 stops listening to its own router, unless it is told to go on. */
static void keep_router_heard(void *ctx, const char *link)
{
	AUTO(str_free) char *path = str_printf("ipv6/conf/%s/accept_ra", link);

	(void)ctx;
	if (sysctl_is(path, '1'))
		(void)!net_sysctl(path, "2");
}

static int forward(struct net *n, struct err *e)
{
	int r = 0;

	if (!sysctl_is("ipv4/ip_forward", '1'))
		r = net_sysctl("ipv4/ip_forward", "1");
	if (r < 0)
		return err_sys(e, r, "the host does not forward, and it cannot be switched on");
	if (!n->v6 || !nl_has_default(&n->in_home, AF_INET6) || sysctl_is("ipv6/conf/all/forwarding", '1'))
		return 0;
	(void)!nl_links(&n->in_home, keep_router_heard, NULL);
	if (net_sysctl("ipv6/conf/all/forwarding", "1") < 0)
		log_warn("priv", "no forwarding of IPv6: sandboxes have IPv4 only", NULL);
	return 0;
}

static int uplink_side(struct net *n, struct nl *nl, const char *link, bool host, struct err *e)
{
	const struct priv_prefix at4 = net_plan_uplink(n->at, AF_INET, host);
	const struct priv_prefix at6 = net_plan_uplink(n->at, AF_INET6, host);
	int r = nl_address(nl, link, &at4, e);

	if (r == 0 && n->v6)
		r = nl_address(nl, link, &at6, e);
	return r == 0 ? nl_up(nl, link, e) : r;
}

static int make_uplink(struct net *n, struct err *e)
{
	const struct priv_prefix all4 = {.family = AF_INET}, all6 = {.family = AF_INET6};
	const struct priv_prefix via4 = net_plan_uplink(n->at, AF_INET, true);
	const struct priv_prefix via6 = net_plan_uplink(n->at, AF_INET6, true);
	int r = err_sys(e, nl_delete(&n->in_home, n->link), "an old link");

	if (r == 0)
		r = nl_veth(&n->in_router, RULES_UPLINK, n->link, n->home, e);
	if (r == 0)
		r = uplink_side(n, &n->in_home, n->link, true, e);
	if (r == 0)
		r = uplink_side(n, &n->in_router, RULES_UPLINK, false, e);
	if (r == 0)
		r = nl_route(&n->in_router, RULES_UPLINK, &all4, &via4, e);
	if (r == 0 && n->v6)
		r = nl_route(&n->in_router, RULES_UPLINK, &all6, &via6, e);
	return r;
}

struct addresses {
	struct priv_prefix v[1024];
	size_t n;
};

static void see_own(void *ctx, const struct priv_prefix *p)
{
	struct addresses *a = ctx;

	if (a->n == ARRAY_LEN(a->v))
		return;
	a->v[a->n] = *p;
	a->v[a->n++].len = p->family == AF_INET ? 32 : 128;
}

/* pasta's connections are the host's own: without this they could lead to what listens on it. */
int own_addresses(struct net *n, struct err *e)
{
	struct addresses *a = NEW(struct addresses);
	int r = nl_addresses(&n->in_home, see_own, a);

	if (r < 0)
		err_sys(e, r, "addresses of the host");
	else if (a->n == ARRAY_LEN(a->v))
		r = err_set(e, -E2BIG, "limit", "the host has too many addresses to fence them off");
	if (r == 0)
		r = rules_own(n->of_router, a->v, a->n, e);
	mem_free(&a);
	return r;
}

static int watch_addresses(struct net *n, struct err *e)
{
	struct sockaddr_nl me = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};

	n->watch = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (n->watch < 0 || bind(n->watch, (struct sockaddr *)&me, sizeof(me)) < 0)
		return err_sys(e, -errno, "watching the host's addresses");
	return own_addresses(n, e);
}

static int veth_uplink(struct host *h, struct net *n, bool adopted, struct err *e)
{
	bool there = adopted && nl_ifindex(&n->in_router, RULES_UPLINK) && nl_ifindex(&n->in_home, n->link);
	char other[80];
	int r = 0;

	if (rules_blocked(n->of_home, other, sizeof(other))) {
		if (h->conf.net_mode == PRIV_NET_AUTO)
			return err_set(e, -EPERM, "forward-blocked", "%s of this host drops what is forwarded", other);
		log_warn("priv", "a firewall of this host may drop what sandboxes send", "rules=%s", other);
	}
	if (!there)
		r = choose_place(n, e);
	/* The wall first: there is no moment in which the host could be reached. */
	if (r == 0)
		r = rules_host(n->of_home, n->table, n->link, n->at, e);
	if (r == 0)
		r = forward(n, e);
	if (r == 0 && !there)
		r = make_uplink(n, e);
	/* Once more, from the other side: somebody may flush the rules of the host. */
	if (r == 0)
		r = watch_addresses(n, e);
	snprintf(n->why, sizeof(n->why), "a link to this host, which forwards and translates addresses");
	return r;
}

/* --- by way of pasta ---------------------------------------------------------------------------------------------- */

/* No port is open in either direction, no address stands for the host; by itself it drops what it does not need, takes
 * a root directory that is empty and filters its system calls. As another user it cannot enter the router. */
static NORETURN void become_pasta(int router, int words, int go)
{
	static const char *const argv[] = {"pasta",	  "--foreground", "--runas",   "0:0",	 "--netns-only",
					   "--config-net", "--ns-ifname", RULES_UPLINK, "--address", "198.18.0.2",
					   "--netmask",	  "30",		  "--gateway", "198.18.0.1", "--no-map-gw",
					   "--no-dhcp",	  "--no-dhcpv6",  "--no-ra",   "--tcp-ports", "none",
					   "--udp-ports", "none",	  "--tcp-ns",  "none",	 "--udp-ns",
					   "none",	  "--netns",	  "/proc/self/fd/9", NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	run_child();
	setsid();
	await_word(go);
	if (dup2(null, 0) < 0 || dup2(words, 1) < 0 || dup2(words, 2) < 0 || dup2(router, FD_ROUTER) < 0)
		_exit(126);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* It is ready when the link is there. */
static int await_uplink(struct net *n, pid_t pid, int words, struct err *e)
{
	uint64_t until = clock_after_ms(UPLINK_MS);
	struct pollfd p = {.fd = n->pasta_fd, .events = POLLIN};
	char text[160];
	int status;

	while (!nl_ifindex(&n->in_router, RULES_UPLINK) || !nl_has_default(&n->in_router, AF_INET)) {
		if (poll(&p, 1, POLL_MS) != 0) {
			status = waitpid(pid, &status, WNOHANG) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
			run_last_words(words, text, sizeof(text));
			return status == 127 ? err_set(e, -ENOENT, "no-pasta", "pasta is not installed (package passt)")
					     : err_set(e, -EIO, "no-pasta", "pasta ended with %d: %s", status, text);
		}
		if (clock_now() > until)
			return err_set(e, -ETIMEDOUT, "no-pasta", "pasta makes no link");
	}
	return 0;
}

int pasta_start(struct host *h, struct net *n, struct err *e)
{
	AUTO(fd_close) int words = memfd_create("words", MFD_CLOEXEC);
	int go[2], r;
	pid_t pid;

	(void)!nl_delete(&n->in_router, RULES_UPLINK);
	if (words < 0 || pipe2(go, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "starting pasta");
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		become_pasta(n->router, words, go[0]);
	}
	close(go[0]);
	n->pasta_fd = pid < 0 ? -1 : pidfd_open(pid, 0);
	r = n->pasta_fd < 0 ? err_sys(e, -errno, "starting pasta") : note_child(h, n, &n->pasta, pid, go[1], e);
	close(go[1]);
	if (r == 0)
		r = await_uplink(n, pid, words, e);
	if (r < 0 && pid > 0) {
		n->pasta.pid = 0;
		kill(pid, SIGKILL); /* ours, and not reaped unless it had ended */
		fd_close(&n->pasta_fd);
	}
	return r;
}

static int pasta_uplink(struct host *h, struct net *n, bool adopted, struct err *e)
{
	int r = watch_addresses(n, e);

	snprintf(n->why, sizeof(n->why), "pasta, a program that makes the connections");
	if (r < 0)
		return r;
	n->pasta_fd = adopted ? process_open(&n->pasta) : -1;
	return n->pasta_fd >= 0 ? 0 : pasta_start(h, n, e);
}

int gate_uplink(struct host *h, struct net *n, bool adopted, struct err *e)
{
	return n->mode == PRIV_NET_VETH ? veth_uplink(h, n, adopted, e) : pasta_uplink(h, n, adopted, e);
}
