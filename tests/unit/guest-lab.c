/* SPDX-License-Identifier: Apache-2.0 */
#include "guest-lab.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/node.h"
#include "keep/keep.h"
#include "wire/xport.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/fanotify.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

static int PRINTF(1, 2) sh(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return system(text);
}

static int make_group(const char *ws)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF | 0x200 | 0x400 | 0x800 | 0x1000 | FAN_UNLIMITED_QUEUE | FAN_NONBLOCK |
				       FAN_CLOEXEC,
			       O_RDONLY | O_LARGEFILE);
	uint64_t mask = FAN_CREATE | FAN_DELETE | 0x10000000 | FAN_CLOSE_WRITE | FAN_MODIFY | FAN_ATTRIB | FAN_ONDIR;

	if (fd >= 0 && fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, AT_FDCWD, ws) < 0)
		fd_close(&fd);
	return fd;
}

static void agent_main(struct lab *l, const char *watcher, int token)
{
	const char *agent = getenv("BERTH_AGENT") ? getenv("BERTH_AGENT") : "./berth-agent";
	int log = open(l->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	token = fcntl(token, F_DUPFD, 50); /* out of each other's way, and open over exec */
	l->fan = l->fan < 0 ? -1 : fcntl(l->fan, F_DUPFD, 50);
	dup2(log, 2);
	dup2(token, 8);
	if (l->fan >= 0)
		dup2(l->fan, 9);
	if (l->fan >= 0)
		execl(agent, agent, "--listen", l->address, "--token-fd", "8", "--id", "lab", "--workspace", l->ws,
		      "--fanotify-fd", "9", (char *)NULL);
	else
		execl(agent, agent, "--listen", l->address, "--token-fd", "8", "--id", "lab", "--workspace", l->ws,
		      "--watcher", watcher, (char *)NULL);
	_exit(99);
}

bool lab_unreadable;

static void no_listing(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getdents64, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { .len = ARRAY_LEN(code), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
		_exit(99);
}

bool lab_start(struct lab *l, const char *watcher)
{
	uint64_t until = clock_after_ms(WAIT_MS);
	int token[2], fd = -1;

	*l = (struct lab){ .fan = -1 };
	snprintf(l->dir, sizeof(l->dir), "/tmp/berth-lab-XXXXXX");
	cr_assert_not_null(mkdtemp(l->dir));
	snprintf(l->ws, sizeof(l->ws), "%s/ws", l->dir);
	snprintf(l->log, sizeof(l->log), "%s/log", l->dir);
	snprintf(l->address, sizeof(l->address), "unix:%s/agent.sock", l->dir);
	cr_assert_eq(mkdir(l->ws, 0755), 0);
	if (str_eq(watcher, "fanotify")) {
		l->mounted = geteuid() == 0 &&
			     sh("truncate -s 512M %s/img && /sbin/mkfs.ext4 -q -F -E lazy_itable_init=1 %s/img "
				">/dev/null 2>&1",
				l->dir, l->dir) == 0 &&
			     sh("mount -o loop %s/img %s 2>/dev/null", l->dir, l->ws) == 0;
		l->fan = l->mounted ? make_group(l->ws) : -1;
		if (l->fan < 0) {
			lab_stop(l);
			return false;
		}
	}
	cr_assert_eq(getrandom(l->token, sizeof(l->token), 0), (ssize_t)sizeof(l->token));
	cr_assert_eq(pipe(token), 0);
	cr_assert_eq(write(token[1], l->token, sizeof(l->token)), (ssize_t)sizeof(l->token));
	close(token[1]);
	l->pid = fork();
	if (l->pid == 0 && lab_unreadable)
		no_listing();
	if (l->pid == 0)
		agent_main(l, watcher, token[0]);
	close(token[0]);
	while (xport_connect(l->address, until, &fd, NULL) < 0) {
		cr_assert_lt(clock_now(), until, "the agent does not listen");
		cr_assert_eq(waitpid(l->pid, NULL, WNOHANG), 0, "the agent died");
		poll(NULL, 0, 2);
	}
	close(fd);
	return true;
}

void lab_stop(struct lab *l)
{
	if (l->pid > 0) {
		int status = -1;
		uint64_t until = clock_after_ms(WAIT_MS);

		kill(l->pid, SIGTERM);
		while (waitpid(l->pid, &status, WNOHANG) == 0 && clock_now() < until)
			poll(NULL, 0, 2);
		if (status != 0) {
			kill(l->pid, SIGKILL);
			waitpid(l->pid, NULL, 0);
			(void)sh("cat %s >&2", l->log);
			cr_expect_eq(status, 0, "the agent ended with status %#x", status);
		}
	}
	fd_close(&l->fan);
	if (l->mounted)
		(void)sh("umount -l %s", l->ws);
	(void)sh("rm -rf %s", l->dir);
	l->pid = 0;
}

const char *lab_path(const struct lab *l, const char *name)
{
	static char room[4][4096];
	static unsigned next;
	char *to = room[next++ % 4];

	snprintf(to, 4096, "%s%s%s", l->ws, *name ? "/" : "", name);
	return to;
}

/* --- connections ------------------------------------------------------------------------------------------------- */

unsigned lab_generation;

bool wire_dial(const struct lab *l, struct wire *w, enum wire_kind kind, const uint8_t *token)
{
	struct msg_HELLO m = { .generation = lab_generation ? lab_generation : WIRE_GENERATION,
			       .kind = kind,
			       .token = SPAN(token, WIRE_TOKEN_LEN),
			       .id = span_str("lab"), .wall_ns = clock_wall() };
	union {
		struct msg_HELLO hello;
		char room[512];
	} got;

	w->last = false;
	buf_init(&w->in, FRAME_HEADER + FRAME_MAX + 65536);
	cr_assert_eq(xport_connect(l->address, clock_after_ms(WAIT_MS), &w->fd, NULL), 0);
	wire_send(w, MSG_HELLO, &m);
	if (wire_next(w, &got) != MSG_HELLO)
		return false;
	cr_assert(span_eq(got.hello.token, SPAN(l->token, WIRE_TOKEN_LEN)));
	cr_assert_neq(got.hello.boot, 0);
	return true;
}

void wire_close(struct wire *w)
{
	fd_close(&w->fd);
	buf_fini(&w->in);
}

void wire_send(struct wire *w, enum msg_type type, const void *m)
{
	int r = frame_send(w->fd, type, m, clock_after_ms(WAIT_MS));

	cr_assert(r == 0 || r == -EPIPE || r == -ECONNRESET, "%s: %d", msg_name(type), r);
}

/* The frame handed out last is dropped only now, because spans of the message point into it. */
static void drop_last(struct wire *w)
{
	struct frame f;

	if (w->last) {
		w->last = false;
		cr_assert_eq(frame_parse(&w->in, &f, NULL), 0);
		frame_consume(&w->in, &f);
	}
}

bool wire_ready(struct wire *w, int ms)
{
	struct pollfd p = { .fd = w->fd, .events = POLLIN };
	struct frame f;

	drop_last(w);
	if (frame_parse(&w->in, &f, NULL) == 0)
		return true;
	return poll(&p, 1, ms) > 0;
}

unsigned wire_next(struct wire *w, void *m)
{
	struct err e = ERR_NULL;
	struct frame f;
	int r;

	drop_last(w);
	r = frame_recv(w->fd, &w->in, &f, clock_after_ms(WAIT_MS), &e);
	if (r == -ENODATA || r == -ECONNRESET)
		return 0;
	cr_assert_eq(r, 0, "%s", e.text);
	cr_assert_eq(msg_decode(f.type, f.payload, m, &e), 0, "%s", e.text);
	w->last = true;
	return f.type;
}

/* --- the model --------------------------------------------------------------------------------------------------- */

static struct span entry_key(uint64_t parent, struct span name, char room[264])
{
	memcpy(room, &parent, 8);
	memcpy(room + 8, name.p, name.len);
	return SPAN(room, 8 + name.len);
}

struct inode *inode_put(struct host *h, const struct msg_NODE *n)
{
	struct inode *i = map_get_u64(&h->inodes, n->fid);

	cr_assert_neq(n->fid, 0);
	if (!i) {
		i = NEW(struct inode);
		map_put_u64(&h->inodes, n->fid, i);
	}
	i->node = *n;
	i->node.target = SPAN_NULL;
	memcpy(i->target, n->target.p ? n->target.p : "", n->target.len);
	i->target[n->target.len] = '\0';
	return i;
}

static void only(struct host *h, uint64_t parent)
{
	struct map_slot *s;
	size_t pos = 0;

	while ((s = map_next(&h->entries, &pos)))
		if (((struct entry *)s->value)->parent == parent)
			((struct entry *)s->value)->unseen = true;
}

static void scan_end(struct host *h)
{
	VEC(struct entry *) gone = { 0 };
	struct map_slot *s;
	size_t pos = 0, i;
	char room[264];

	while ((s = map_next(&h->entries, &pos)))
		if (((struct entry *)s->value)->unseen)
			vec_push(&gone, (struct entry *)s->value);
	for (i = 0; i < gone.len; i++)
		free(map_remove(&h->entries, entry_key(gone.v[i]->parent, span_str(gone.v[i]->name), room)));
	vec_fini(&gone);
	h->scans++;
}

/* What hangs on no name is dropped, with its content. */
static void forget(struct host *h)
{
	bool again = true;

	while (again) {
		struct map_slot *s;
		size_t pos = 0;

		again = false;
		while (!again && (s = map_next(&h->inodes, &pos))) {
			struct inode *i = s->value;
			struct map_slot *t;
			size_t at = 0;
			bool named = i->node.fid == h->root;

			while (!named && (t = map_next(&h->entries, &at)))
				named = ((struct entry *)t->value)->fid == i->node.fid;
			if (named)
				continue;
			at = 0;
			while ((t = map_next(&h->entries, &at))) {
				struct entry *e = t->value;
				char room[264];

				if (e->parent != i->node.fid)
					continue;
				free(map_remove(&h->entries, entry_key(e->parent, span_str(e->name), room)));
				at = 0;
			}
			map_remove_u64(&h->inodes, i->node.fid);
			free(i->data);
			free(i);
			again = true;
		}
	}
}

/* A content that is not of this version is not kept when nobody asks for it. */
static void told_names(struct host *h, const struct msg_NODE *n, bool names)
{
	struct inode *i = map_get_u64(&h->inodes, n->fid);

	if (i && names && i->node.ctime_ns != n->ctime_ns &&
	    (i->node.size != n->size || i->node.mtime_ns != n->mtime_ns))
		i->absent = true;
}

static void change(struct host *h, const struct msg_CHANGE *c)
{
	struct span nodes = c->node;
	struct msg_NODE n;
	struct entry *e;
	char room[264];
	bool has = msg_rec_next(&nodes, MSG_NODE, &n);

	/* Names in a directory that was not told are nothing that a host can use. */
	if (c->parent && h->root && !(c->flags & WIRE_ENT_GONE))
		cr_assert(c->parent == h->root || map_get_u64(&h->inodes, c->parent), "%.*s in an unknown directory",
			  (int)c->name.len, (const char *)c->name.p);
	if (has && !c->parent && !map_get_u64(&h->inodes, n.fid))
		return; /* an inode alone that nobody has told the name of */
	if (has) {
		told_names(h, &n, c->flags & WIRE_ENT_NAMES);
		inode_put(h, &n)->names = c->flags & WIRE_ENT_NAMES;
	}
	if (c->flags & WIRE_ENT_ONLY) {
		cr_assert(has && n.fid == c->parent);
		if (!h->root)
			h->root = n.fid;
		only(h, c->parent);
		return;
	}
	if (!c->name.len) {
		cr_assert(has);
		return;
	}
	if (c->flags & WIRE_ENT_GONE) {
		free(map_remove(&h->entries, entry_key(c->parent, c->name, room)));
		return;
	}
	cr_assert(has);
	e = map_get(&h->entries, entry_key(c->parent, c->name, room));
	if (!e) {
		e = NEW(struct entry);
		e->parent = c->parent;
		memcpy(e->name, c->name.p, c->name.len);
		map_put(&h->entries, entry_key(c->parent, c->name, room), e);
	}
	e->fid = n.fid;
	e->unseen = false;
}

static void on_changes(struct host *h, const struct msg_CHANGES *m)
{
	struct span list = m->records;
	struct msg_CHANGE c;

	cr_assert_gt(m->seq, h->seq);
	h->seq = m->seq;
	h->overflows += (m->flags & WIRE_CHG_OVERFLOW) != 0;
	while (msg_rec_next(&list, MSG_CHANGE, &c))
		change(h, &c);
	if (m->flags & WIRE_CHG_SCAN_END)
		scan_end(h);
	if (h->keep)
		forget(h);
	if (!h->hold_acks)
		wire_send(&h->control, MSG_CHANGES_ACK, &(struct msg_CHANGES_ACK){ .seq = m->seq });
}

static void on_control(struct host *h)
{
	union {
		struct msg_CHANGES changes;
		struct msg_OK any;
		struct msg_ERROR error;
		struct msg_INFO_IS info;
		char room[512];
	} m;
	unsigned type = wire_next(&h->control, &m);

	cr_assert_neq(type, 0, "the control connection was closed");
	if (type == MSG_CHANGES) {
		on_changes(h, &m.changes);
		return;
	}
	if (type == MSG_COMMANDS)
		return;
	h->reply = type;
	h->reply_call = m.any.call;
	h->slug[0] = '\0';
	if (type == MSG_INFO_IS) {
		h->rules = m.info.rules;
		h->dirs = m.info.dirs;
	}
	if (type == MSG_INFO_IS)
		snprintf(h->slug, sizeof(h->slug), "%.*s", (int)m.info.watcher.len, (const char *)m.info.watcher.p);
	if (type == MSG_ERROR)
		snprintf(h->slug, sizeof(h->slug), "%.*s", (int)m.error.slug.len, (const char *)m.error.slug.p);
}

void host_serve(struct host *h, int ms)
{
	struct pollfd p[2] = { { .fd = h->control.fd, .events = POLLIN }, { .fd = h->ship.fd, .events = POLLIN } };
	bool any = true;

	if (!wire_ready(&h->control, 0) && (h->ship.fd < 0 || !wire_ready(&h->ship, 0)))
		poll(p, h->ship.fd < 0 ? 1 : 2, ms);
	while (any) {
		any = false;
		if (wire_ready(&h->control, 0)) {
			on_control(h);
			any = true;
		}
		if (h->ship.fd >= 0 && wire_ready(&h->ship, 0)) {
			host_on_ship(h);
			any = true;
		}
	}
}

unsigned host_call(struct host *h, enum msg_type type, void *m)
{
	uint64_t until = clock_after_ms(WAIT_MS), call = ++h->calls;

	memcpy(m, &call, sizeof(call));
	h->reply = 0;
	wire_send(&h->control, type, m);
	while (h->reply == 0 || h->reply_call != call) {
		cr_assert_lt(clock_now(), until, "no answer to %s", msg_name(type));
		h->reply = 0;
		host_serve(h, 100);
	}
	return h->reply;
}

static void dial_all(struct host *h, bool ship)
{
	struct msg_REPLICATE rep = { .root_fid = h->root, .rules = span_str(h->keep) };

	cr_assert(wire_dial(h->lab, &h->control, WIRE_CONTROL, h->lab->token));
	if (ship)
		cr_assert(wire_dial(h->lab, &h->ship, WIRE_SHIP, h->lab->token));
	cr_assert_eq(host_call(h, MSG_REPLICATE, &rep), MSG_OK);
}

void host_open(struct host *h, const struct lab *l, bool ship)
{
	host_open_keep(h, l, ship, NULL);
}

void host_open_keep(struct host *h, const struct lab *l, bool ship, const char *keep)
{
	unsigned scans;

	*h = (struct host){ .lab = l, .ship = { .fd = -1 }, .keep = keep };
	scans = h->scans;
	dial_all(h, ship);
	while (h->scans == scans)
		host_serve(h, 100);
}

void host_reopen(struct host *h)
{
	bool ship = h->ship.fd >= 0;
	unsigned scans = h->scans;

	wire_close(&h->control);
	if (ship)
		wire_close(&h->ship);
	h->now.is_open = h->aside.is_open = false;
	h->owed = 0;
	dial_all(h, ship);
	while (h->scans == scans)
		host_serve(h, 100);
}

void host_close(struct host *h)
{
	void *p;

	wire_close(&h->control);
	if (h->ship.fd >= 0)
		wire_close(&h->ship);
	while ((p = map_take_any(&h->entries)))
		free(p);
	while ((p = map_take_any(&h->inodes))) {
		free(((struct inode *)p)->data);
		free(p);
	}
	map_fini(&h->entries);
	map_fini(&h->inodes);
	free(h->now.data);
	free(h->aside.data);
}

static void differ(unsigned *n, const char *path, const char *what, uint64_t told, uint64_t is)
{
	if ((*n)++ < 10)
		fprintf(stderr, "%s: %s told %llu, is %llu\n", path, what, (unsigned long long)told,
			(unsigned long long)is);
}

static void check_data(const struct inode *i, const char *path, unsigned *n)
{
	AUTO(buf_fini) struct buf b;

	buf_init(&b, 256 * 1024 * 1024);
	cr_assert_eq(io_read_file(AT_FDCWD, path, &b), 0);
	if (!i->has_data || i->absent)
		differ(n, path, "shipped", 0, 1);
	else if (i->data_len != buf_len(&b))
		differ(n, path, "shipped size", i->data_len, buf_len(&b));
	else if (!span_eq(SPAN(i->data, i->data_len), buf_span(&b)))
		differ(n, path, "content", 0, 1);
}

static void check_node(const struct inode *i, const struct node *is, const char *path, bool contents, unsigned *n)
{
	struct msg_NODE w = node_wire(is);

#define SAME(field)                                                                            \
	if (i->node.field != w.field)                                                          \
		differ(n, path, #field, (uint64_t)i->node.field, (uint64_t)w.field);
	SAME(fid)
	SAME(mode)
	SAME(nlink)
	SAME(uid)
	SAME(size)
	SAME(mtime_ns)
	SAME(ctime_ns)
#undef SAME
	if (S_ISLNK(is->st.st_mode) && !str_eq(i->target, is->target))
		differ(n, path, "target", 0, 1);
	if (contents && S_ISREG(is->st.st_mode))
		check_data(i, path, n);
}

static size_t check_dir(struct host *h, uint64_t fid, const char *path, bool contents, unsigned *n,
			const struct keep *keep, enum keep_class above)
{
	struct node *is = NEW(struct node);
	DIR *dir = opendir(path);
	size_t count = 0;
	struct dirent *d;

	while ((d = readdir(dir))) {
		AUTO(str_free) char *sub = str_printf("%s/%s", path, d->d_name);
		enum keep_class c;
		char room[264];
		struct entry *e;

		if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
			continue;
		e = map_get(&h->entries, entry_key(fid, span_str(d->d_name), room));
		cr_assert_eq(node_at(dirfd(dir), d->d_name, is), 0);
		c = keep_entry(keep, above, span_str(sub + strlen(h->lab->ws) + 1), S_ISDIR(is->st.st_mode));
		if (c == KEEP_NONE)
			continue;
		count++;
		if (!e) {
			differ(n, sub, "name", 0, 1);
			continue;
		}
		if (e->fid != is->fid)
			differ(n, sub, "entry's fid", e->fid, is->fid);
		else
			check_node(map_get_u64(&h->inodes, e->fid), is, sub, contents && c == KEEP_FULL, n);
		if (S_ISDIR(is->st.st_mode))
			count += check_dir(h, is->fid, sub, contents, n, keep, c);
	}
	closedir(dir);
	free(is);
	return count;
}

static size_t reachable(const struct host *h, uint64_t fid)
{
	struct map_slot *s;
	size_t pos = 0, count = 0;

	while ((s = map_next(&h->entries, &pos))) {
		const struct entry *e = s->value;
		const struct inode *i = map_get_u64(&h->inodes, e->fid);

		if (e->parent == fid)
			count += 1 + (S_ISDIR((mode_t)i->node.mode) ? reachable(h, e->fid) : 0);
	}
	return count;
}

unsigned host_check(struct host *h, bool contents)
{
	struct node *root = NEW(struct node);
	int fd = open(h->lab->ws, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(keep_free) struct keep *keep = NULL;
	unsigned n = 0;
	size_t have, told;

	cr_assert_eq(keep_parse(span_str(h->keep), &keep, NULL), 0);
	cr_assert_eq(node_of(fd, root), 0);
	cr_assert_eq(root->fid, h->root);
	check_node(map_get_u64(&h->inodes, h->root), root, h->lab->ws, false, &n);
	have = check_dir(h, h->root, h->lab->ws, contents, &n, keep, KEEP_FULL);
	told = reachable(h, h->root);
	if (have != told)
		differ(&n, h->lab->ws, "number of names", told, have);
	close(fd);
	free(root);
	return n;
}

/* --- commands ---------------------------------------------------------------------------------------------------- */

void exec_send(const struct lab *l, struct wire *w, const struct spec *s, const char *const *argv)
{
	static unsigned count;
	struct msg_list args, env;
	struct msg_EXEC m = { .user = span_str(s->user ? s->user : "root"), .cwd = span_str(s->cwd),
			      .timeout_ms = s->timeout_ms, .stdin_mode = s->stdin_mode, .pty = s->pty,
			      .cols = s->cols, .rows = s->rows, .credit = s->credit ? s->credit : 65536 };
	char id[32];
	size_t i;

	snprintf(id, sizeof(id), "auto-%d-%u", (int)getpid(), ++count);
	m.id = span_str(s->id ? s->id : id);
	if (geteuid() != 0)
		m.user = SPAN_NULL;
	msg_list_init(&args, 0);
	msg_list_init(&env, 0);
	for (i = 0; argv[i]; i++)
		cr_assert_eq(msg_list_str(&args, span_str(argv[i])), 0);
	for (i = 0; s->env && s->env[i]; i++)
		cr_assert_eq(msg_list_str(&env, span_str(s->env[i])), 0);
	m.argv = msg_list_span(&args);
	m.env = msg_list_span(&env);
	cr_assert(wire_dial(l, w, WIRE_EXEC, l->token));
	wire_send(w, MSG_EXEC, &m);
	msg_list_fini(&args);
	msg_list_fini(&env);
}

static void on_started(struct wire *w, const struct spec *s, struct run *r, const struct msg_STARTED *m)
{
	r->pid = m->pid;
	if (s->input) {
		wire_send(w, MSG_STDIN, &(struct msg_STDIN){ .offset = 0, .data = span_str(s->input) });
		wire_send(w, MSG_STDIN_END, &(struct msg_STDIN_END){ .offset = strlen(s->input) });
	}
}

void exec_finish(struct wire *w, struct host *h, const struct spec *s, struct run *r)
{
	union {
		struct msg_STARTED started;
		struct msg_OUTPUT out;
		struct msg_EXIT exit;
		struct msg_ERROR error;
		char room[512];
	} m;
	uint64_t until = clock_after_ms(3 * WAIT_MS); /* of a thousand processes on a busy machine */

	r->how = r->code = -1;
	buf_init(&r->out, 64 * 1024 * 1024);
	buf_init(&r->err, 64 * 1024 * 1024);
	for (;;) {
		unsigned type;

		cr_assert_lt(clock_now(), until, "the process does not end");
		if (h && !wire_ready(w, 0)) {
			struct pollfd p[3] = { { w->fd, POLLIN, 0 },
					       { h->control.fd, POLLIN, 0 },
					       { h->ship.fd, POLLIN, 0 } };

			poll(p, h->ship.fd < 0 ? 2 : 3, 100);
			host_serve(h, 0);
			continue;
		}
		type = wire_next(w, &m);
		if (type == MSG_STARTED) {
			on_started(w, s, r, &m.started);
		} else if (type == MSG_OUTPUT) {
			struct buf *b = m.out.stream == WIRE_OUT ? &r->out : &r->err;

			cr_assert_eq(m.out.offset, buf_len(b));
			cr_assert_eq(buf_append(b, m.out.data.p, m.out.data.len), 0);
			wire_send(w, MSG_WINDOW,
				  &(struct msg_WINDOW){ .stream = m.out.stream, .bytes = m.out.data.len });
		} else if (type == MSG_EXIT) {
			r->how = (int)m.exit.how;
			r->code = (int)m.exit.code;
			cr_assert_eq(m.exit.out_end, buf_len(&r->out));
			cr_assert_eq(m.exit.err_end, buf_len(&r->err));
			wire_send(w, MSG_EXIT_ACK, &(struct msg_EXIT_ACK){ 0 });
			return;
		} else if (type == MSG_ERROR) {
			snprintf(r->slug, sizeof(r->slug), "%.*s", (int)m.error.slug.len, (const char *)m.error.slug.p);
			return;
		} else {
			cr_assert_eq(type, MSG_STDIN_ACK);
		}
	}
}

struct run run_it(const struct lab *l, struct host *h, const struct spec *s, const char *const *argv)
{
	struct run r = { .slug = "" };
	struct wire w;

	exec_send(l, &w, s, argv);
	exec_finish(&w, h, s, &r);
	wire_close(&w);
	return r;
}

void run_fini(struct run *r)
{
	buf_fini(&r->out);
	buf_fini(&r->err);
}
