/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A process runs, is reaped (its status is known, the rest of its output is read, the barrier is under way), is
 * complete (output read and host told of its changes), and is forgotten when the host acknowledged its EXIT, or when
 * too many newer records push it out. Nothing of this depends on a connection: one may be attached at any time, and the
 * EXIT goes to whoever is attached when it is complete and all output was sent to him.
 */
#include "guest/proc.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/agent.h"
#include "guest/kill.h"
#include "guest/oom.h"
#include "wire/wire.h"

#include <errno.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAG_FIRST (1ULL << 62)

enum { GRACE_MS = 30, BARRIER_MS = 30000, ARGV_MAX = 4096 };

void procs_init(struct procs *ps, struct loop *loop, struct watch *watch, const char *cwd)
{
	uint32_t mine = 0;

	*ps = (struct procs){ .loop = loop, .watch = watch, .cwd = cwd };
	/* Where agents see each other's processes (no name space between them) their marks must differ. */
	(void)!getrandom(&mine, sizeof(mine), GRND_NONBLOCK);
	ps->last_tag = (uint64_t)mine << 24;
	ps->past = must_calloc(PROC_PAST_MAX, sizeof(*ps->past));
	list_init(&ps->all);
	list_init(&ps->sinks);
}

static void name_of(const struct proc *p, struct proc_name *ret)
{
	struct span words = msg_list_span(&p->argv), word = SPAN_NULL;

	*ret = (struct proc_name){ .id = "" };
	memcpy(ret->id, p->id, sizeof(ret->id));
	if (msg_strv_next(&words, &word))
		memcpy(ret->word, word.p, MIN(word.len, sizeof(ret->word) - 1));
}

static void proc_free(struct proc *p)
{
	struct proc_past *past = &p->procs->past[p->procs->n_past++ % PROC_PAST_MAX];

	past->tag = p->tag;
	name_of(p, &past->name);
	map_remove(&p->procs->by_id, span_str(p->id));
	list_remove(&p->node);
	if (p->reaped)
		p->procs->n_records--;
	else
		p->procs->n_running--;
	watch_unbarrier(&p->barrier);
	loop_untimer(&p->timeout);
	loop_untimer(&p->grace);
	loop_untimer(&p->hold);
	in_close(&p->in);
	out_close(&p->out[0]);
	out_close(&p->out[1]);
	msg_list_fini(&p->argv);
	free(p);
}

void procs_fini(struct procs *ps)
{
	while (!list_empty(&ps->all))
		proc_free(list_entry(ps->all.next, struct proc, node));
	sinks_fini(ps);
	map_fini(&ps->by_id);
	mem_free(&ps->past);
}

struct proc *procs_find(const struct procs *ps, struct span id)
{
	return map_get(&ps->by_id, id);
}

bool procs_marked(const struct procs *ps, uint64_t tag, struct proc_name *ret)
{
	struct list *pos;
	size_t i;

	list_each(pos, &ps->all) {
		const struct proc *p = list_entry(pos, struct proc, node);

		if (p->tag == tag) {
			name_of(p, ret);
			return true;
		}
	}
	for (i = 0; i < MIN(ps->n_past, (size_t)PROC_PAST_MAX); i++)
		if (ps->past[i].tag == tag) {
			*ret = ps->past[i].name;
			return true;
		}
	return false;
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

/* Generation 1 knows a process that was killed for memory as one that was killed. */
static unsigned how_told(unsigned how, unsigned generation)
{
	return how == WIRE_OOM && generation < 2 ? WIRE_SIGNALED : how;
}

static void exit_send(struct proc *p)
{
	struct msg_EXIT m = {
		.how = how_told(p->how, p->generation), .code = p->code, .out_end = p->out[0].ring.end,
		.err_end = p->out[1].ring.end, .oom_kills = p->oom_after - p->oom_before,
	};

	if (!p->conn || p->exit_sent || !p->reaped || !p->settled || !p->out[0].done || !p->out[1].done ||
	    p->out[0].sent < m.out_end || p->out[1].sent < m.err_end)
		return;
	p->exit_sent = conn_send(p->conn, MSG_EXIT, &m) == 0;
}

void proc_pump(struct proc *p)
{
	out_send(&p->out[0]);
	out_send(&p->out[1]);
	exit_send(p);
}

/* Once, behind what it changed. */
static void tell_end(void *ctx)
{
	struct proc *p = ctx;

	if (p->end_told)
		return;
	p->end_told = true;
	p->procs->tell(p->procs->tell_ctx, p);
}

static void on_settled(void *ctx)
{
	struct proc *p = ctx;

	p->barrier = NULL;
	tell_end(p);
	p->settled = true;
	proc_pump(p);
}

static void on_grace(void *ctx)
{
	struct proc *p = ctx;

	p->out[0].last = true;
	out_read(&p->out[0]);
	proc_pump(p);
}

static void evict(struct procs *ps)
{
	struct list *node, *tmp;

	list_each_safe(node, tmp, &ps->all) {
		struct proc *p = list_entry(node, struct proc, node);

		if (ps->n_records <= PROC_RECORDS_MAX)
			return;
		if (p->reaped && p->settled && !p->conn)
			proc_free(p);
	}
}

/* Killed, not by us, and the kernel has killed since we looked last: nobody says whom, but it was not long ago. */
static bool was_oom(struct procs *ps, const struct proc *p, int status)
{
	uint64_t before = ps->oom_seen;

	ps->oom_seen = oom_kills();
	return WTERMSIG(status) == SIGKILL && !p->killed && ps->oom_seen > before;
}

static void reaped(struct proc *p, int status)
{
	bool oom = WIFSIGNALED(status) && was_oom(p->procs, p, status);

	p->reaped = true;
	p->oom_after = oom_kills();
	p->procs->n_running--;
	p->procs->n_records++;
	loop_untimer(&p->timeout);
	if (WIFSIGNALED(status)) {
		p->how = p->how == WIRE_TIMED_OUT ? WIRE_TIMED_OUT : oom ? WIRE_OOM : WIRE_SIGNALED;
		p->code = (unsigned)WTERMSIG(status);
	} else {
		p->how = WIRE_EXITED;
		p->code = (unsigned)WEXITSTATUS(status);
	}
	in_close(&p->in);
	out_reaped(&p->out[0]);
	out_reaped(&p->out[1]);
	if (p->pty && !p->out[0].done)
		p->grace = loop_timer(p->procs->loop, clock_after_ms(GRACE_MS), on_grace, p);
	p->barrier = watch_barrier(p->procs->watch, clock_after_ms(BARRIER_MS), on_settled, p);
	if (p->barrier)
		watch_barrier_told(p->barrier, tell_end);
	proc_pump(p);
}

bool procs_reap(struct procs *ps)
{
	for (;;) {
		int status = 0;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		struct list *node, *tmp;

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0) {
			evict(ps);
			return pid == 0;
		}
		list_each_safe(node, tmp, &ps->all) {
			struct proc *p = list_entry(node, struct proc, node);

			if (p->pid == pid && !p->reaped)
				reaped(p, status);
		}
	}
}

/* --- the beginning ----------------------------------------------------------------------------------------------- */

static void on_timeout(void *ctx)
{
	struct proc *p = ctx;

	if (p->procs->paused) {
		loop_rearm(p->timeout, CLOCK_NEVER); /* until procs_extend() */
		return;
	}
	p->how = WIRE_TIMED_OUT;
	kill(-p->pid, SIGKILL);
	kill_session(p->pid, SIGKILL);
}

static void keep_argv(struct proc *p, struct span argv)
{
	struct span s;

	msg_list_init(&p->argv, ARGV_MAX);
	while (msg_strv_next(&argv, &s))
		if (msg_list_str(&p->argv, s) < 0)
			return;
}

static int id_check(const struct procs *ps, struct span id, struct err *e)
{
	AUTO(str_free) char *word = span_dup(id);

	if (!str_is_id(word, PROC_ID_MAX))
		return err_set(e, -EINVAL, "bad-request", "not an id for a process");
	if (ps->n_running >= PROC_RUNNING_MAX || ps->stop)
		return err_set(e, -EAGAIN, "limits", "%s",
			       ps->stop ? "the sandbox is being stopped" : "too many processes");
	return 0;
}

int procs_start(struct procs *ps, const struct msg_EXEC *m, struct proc **ret, struct err *e)
{
	struct child c;
	struct proc *p;
	int r = id_check(ps, m->id, e);

	if (r == 0)
		r = child_start(m, ps->cwd, TAG_FIRST + ++ps->last_tag, &c, e);
	if (r < 0)
		return r;
	p = NEW(struct proc);
	*p = (struct proc){ .procs = ps, .pid = c.pid, .pty = c.pty, .start_ns = clock_wall() };
	p->tag = TAG_FIRST + ps->last_tag;
	p->oom_before = ps->oom_seen = oom_kills();
	memcpy(p->id, m->id.p, m->id.len);
	keep_argv(p, m->argv);
	list_init(&p->node);
	list_append(&ps->all, &p->node);
	map_put(&ps->by_id, span_str(p->id), p);
	ps->n_running++;
	r = in_open(&p->in, p, c.in);
	if (out_open(&p->out[0], p, WIRE_OUT, c.out) < 0 || out_open(&p->out[1], p, WIRE_ERR, c.err) < 0 || r < 0) {
		kill(-p->pid, SIGKILL);
		proc_free(p);
		return err_set(e, -ENOSPC, "limits", "too many descriptors are watched");
	}
	if (m->timeout_ms) {
		p->timeout_at = clock_after_ms(m->timeout_ms);
		p->timeout = loop_timer(ps->loop, p->timeout_at, on_timeout, p);
	}
	ps->tell(ps->tell_ctx, p);
	*ret = p;
	return 0;
}

/* --- the host ---------------------------------------------------------------------------------------------------- */

static uint64_t out_attach(struct out *o, uint64_t from, uint64_t credit)
{
	uint64_t at = MIN(MAX(from, o->ring.start), o->ring.end);

	o->sent = at;
	o->credit = o->window = credit;
	return at > from ? at - from : 0;
}

void proc_attach(struct proc *p, struct conn *conn, const struct msg_ATTACH *from)
{
	struct msg_STARTED m = { .pid = (uint64_t)p->pid, .in_at = p->in.at };
	struct err taken;

	if (p->conn && p->conn != conn) {
		(void)!err_set(&taken, -EPIPE, "taken", "somebody else has attached to the process");
		reply_error(p->conn, 0, &taken);
		conn_finish(p->conn);
	}
	p->conn = conn;
	p->hold_ms = from->hold_ms;
	p->out[0].holding = p->out[1].holding = false;
	loop_untimer(&p->hold);
	p->exit_sent = false;
	p->generation = (unsigned)from->generation;
	m.out_lost = out_attach(&p->out[0], from->out_from, from->credit);
	m.err_lost = out_attach(&p->out[1], from->err_from, from->credit);
	m.out_at = p->out[0].sent;
	m.err_at = p->out[1].sent;
	(void)!conn_send(conn, MSG_STARTED, &m);
	if (p->in.at)
		in_ack(p); /* the last one may be lost with its connection */
	proc_pump(p);
	out_read(&p->out[0]); /* what the one before had, but not confirmed, need not be kept any more */
	out_read(&p->out[1]);
	proc_pump(p);
}

static void on_held(void *ctx)
{
	struct proc *p = ctx;

	p->out[0].holding = p->out[1].holding = false;
	out_read(&p->out[0]); /* nobody holds the ring back any more */
	out_read(&p->out[1]);
	proc_pump(p);
}

void proc_detach(struct proc *p)
{
	out_hold(&p->out[0], p->hold_ms > 0);
	out_hold(&p->out[1], p->hold_ms > 0);
	p->conn = NULL;
	if (p->hold_ms)
		p->hold = loop_timer(p->procs->loop, clock_after_ms(p->hold_ms), on_held, p);
	else
		on_held(p);
}

int proc_signal(struct proc *p, int sig, bool tree)
{
	p->killed |= sig == SIGKILL;
	if (tree)
		return kill_tree(p->tag, p->pid, sig) ? 0 : -ESRCH;
	if (p->reaped)
		return -ESRCH;
	return kill(-p->pid, sig) < 0 && kill(p->pid, sig) < 0 ? -errno : 0;
}

static int on_window(struct proc *p, const struct frame *f, struct err *e)
{
	struct msg_WINDOW m;
	struct out *o;
	int r = msg_decode(f->type, f->payload, &m, e);

	if (r < 0)
		return r;
	if (m.stream != WIRE_OUT && m.stream != WIRE_ERR)
		return err_set(e, -EPROTO, "bad-message", "WINDOW for a stream that is none");
	o = &p->out[m.stream - 1];
	o->credit = MIN(o->credit + m.bytes, (uint64_t)INT64_MAX);
	out_send(o);
	out_read(o);
	proc_pump(p);
	return 0;
}

int proc_frame(struct proc *p, const struct frame *f, struct err *e)
{
	struct msg_SIGNAL sig;
	struct msg_RESIZE size;
	int r = 0;

	switch (f->type) {
	case MSG_STDIN:
	case MSG_STDIN_END:
		return in_frame(p, f, e);
	case MSG_WINDOW:
		return on_window(p, f, e);
	case MSG_SIGNAL:
		r = msg_decode(f->type, f->payload, &sig, e);
		if (r == 0)
			(void)proc_signal(p, (int)sig.signal, sig.tree); /* it may have ended meanwhile: EXIT says so */
		return r;
	case MSG_RESIZE:
		r = msg_decode(f->type, f->payload, &size, e);
		if (r == 0 && p->pty && p->out[0].fd >= 0)
			child_resize(p->out[0].fd, (unsigned)size.cols, (unsigned)size.rows);
		return r;
	case MSG_LEAVE:
		p->hold_ms = 0;
		return 0;
	case MSG_EXIT_ACK:
		if (!p->exit_sent)
			return err_set(e, -EPROTO, "bad-message", "EXIT_ACK before EXIT");
		proc_free(p);
		return PROC_E_GONE;
	default:
		return err_set(e, -EPROTO, "bad-message", "%s has no place here", msg_name(f->type));
	}
}

void procs_extend(struct procs *ps, uint64_t ns)
{
	struct list *pos;

	ps->paused = false;
	list_each(pos, &ps->all) {
		struct proc *p = list_entry(pos, struct proc, node);

		if (!p->timeout)
			continue;
		p->timeout_at += ns;
		loop_rearm(p->timeout, p->timeout_at);
	}
}

static void shorten(struct span argv, size_t max, struct msg_list *words)
{
	struct span s;
	size_t len = 0;

	while (msg_strv_next(&argv, &s) && len < max) {
		s.len = MIN(s.len, max - len);
		len += s.len + 1;
		if (msg_list_str(words, s) < 0)
			return;
	}
}

void proc_record(const struct proc *p, unsigned generation, size_t argv_max, struct msg_list *words,
		 struct msg_PROC *ret)
{
	msg_list_init(words, ARGV_MAX);
	shorten(msg_list_span(&p->argv), argv_max, words);
	*ret = (struct msg_PROC){
		.id = span_str(p->id),
		.pid = (uint64_t)p->pid,
		.state = p->end_told,
		.how = p->reaped ? how_told(p->how, generation) : 0,
		.code = p->code,
		.argv = msg_list_span(words),
		.start_ns = p->start_ns,
	};
}

void procs_list(const struct procs *ps, unsigned generation, struct msg_list *to)
{
	struct list *node;

	list_each(node, &ps->all) {
		struct proc *p = list_entry(node, struct proc, node);
		struct msg_PROC m = {
			.id = span_str(p->id),
			.pid = (uint64_t)p->pid,
			.state = p->reaped,
			.how = p->reaped ? how_told(p->how, generation) : 0,
			.code = p->code,
			.argv = msg_list_span(&p->argv),
			.start_ns = p->start_ns,
		};

		if (msg_list_rec(to, MSG_PROC, &m) < 0)
			return;
	}
}
