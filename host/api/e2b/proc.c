/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes as these clients see them: any number follow one, each from the moment when it joins; with nobody there the
 * output is read and dropped; the end is remembered for a while. The agent knows one follower of a process, so that one
 * is here: a struct proc holds the agent's connection, on the loop, and hands on what comes. Who reads an answer is a
 * struct reader; the server's thread takes bytes out of its buffer. A slow reader holds the process up, as a pipe
 * would.
 *
 * A process whose connection was lost (a pause, another daemon) is looked up at the agent by its pid and joined anew.
 */
#include "host/api/e2b/proc.h"

#include "host/api/e2b/template.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/api/leak.h"
#include "seal/digest.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

enum { ENDED_MS = 30000, INPUT_MAX_B = 4 * 1024 * 1024 };

/* --- who holds one ------------------------------------------------------------------------------------------------ */

void proc_unref(struct proc **slot)
{
	struct proc *p = take(slot);
	struct e2b *e2b;
	bool last;

	if (!p)
		return;
	e2b = p->e2b;
	lock_take(&e2b->lock);
	last = --p->refs == 0;
	lock_drop(&e2b->lock);
	if (!last)
		return;
	fd_close(&p->fd);
	buf_fini(&p->input);
	str_free(&p->tag);
	str_free(&p->config);
	out_leaks_free(&p->leaks);
	free(p);
}

static struct proc *proc_ref(struct proc *p)
{
	lock_take(&p->e2b->lock);
	p->refs++;
	lock_drop(&p->e2b->lock);
	return p;
}

/* Out of the table: nobody finds it any more. */
static void proc_leave(struct proc *p)
{
	struct proc *slot = p;
	bool was;

	lock_take(&p->e2b->lock);
	was = !p->is_over;
	p->is_over = true;
	list_remove(&p->node);
	list_init(&p->node);
	lock_drop(&p->e2b->lock);
	if (was)
		proc_unref(&slot);
}

/* --- what readers are told ---------------------------------------------------------------------------------------- */

/* It hears no more. On the loop. */
static void reader_done(struct proc_reader *r)
{
	loop_untimer(&r->keepalive);
	loop_untimer(&r->deadline);
	if (!r->node.next)
		return;
	list_remove(&r->node);
	r->node.next = NULL;
}

static void put_event(struct buf *b, const char *kind, struct json_writer *w)
{
	*w = (struct json_writer){ .b = b };
	jw_open(w, '{');
	jw_key(w, "event");
	jw_open(w, '{');
	jw_key(w, kind);
	jw_open(w, '{');
}

static void end_event(struct json_writer *w)
{
	jw_close(w, '}');
	jw_close(w, '}');
	jw_close(w, '}');
}

static void tell_start(struct proc_reader *r)
{
	struct json_writer w;
	struct buf b;

	buf_init(&b, 256);
	put_event(&b, "start", &w);
	jw_ku64(&w, "pid", r->proc->pid);
	end_event(&w);
	e2b_stream_give(r->out, buf_span(&b), false, NULL);
	buf_fini(&b);
}

static void tell_end(struct proc_reader *r)
{
	const struct msg_EXIT *x = &r->proc->exit;
	struct json_writer w;
	struct err late = ERR_NULL;
	struct buf b;
	char status[80];
	bool exited = x->how == WIRE_EXITED;

	if (x->how == WIRE_TIMED_OUT) {
		err_set(&late, -ETIMEDOUT, "timeout", "the command did not end in time");
		e2b_stream_give(r->out, SPAN_NULL, true, &late);
		return;
	}
	if (exited)
		snprintf(status, sizeof(status), "exit status %u", (unsigned)x->code);
	else if (x->how == WIRE_LOST)
		snprintf(status, sizeof(status), "its end was not seen");
	else
		snprintf(status, sizeof(status), "signal: %s", x->code == SIGKILL ? "killed"
							      : x->code == SIGTERM ? "terminated"
							      : strsignal((int)x->code));
	buf_init(&b, 512);
	put_event(&b, "end", &w);
	if (!exited || x->code) {
		jw_key(&w, "exitCode");
		jw_i64(&w, exited ? (int64_t)x->code : -1);
	}
	if (exited) {
		jw_key(&w, "exited");
		jw_bool(&w, true);
	}
	jw_kstr(&w, "status", status);
	if (!exited || x->code)
		jw_kstr(&w, "error", status);
	end_event(&w);
	e2b_stream_give(r->out, buf_span(&b), true, NULL);
	buf_fini(&b);
}

static void tell_all_done(struct proc *p)
{
	struct list *pos, *next;

	for (pos = p->readers.next; pos != &p->readers; pos = next) {
		struct proc_reader *r = list_entry(pos, struct proc_reader, node);

		next = pos->next;
		if (p->is_ended)
			tell_end(r);
		else
			e2b_stream_give(r->out, SPAN_NULL, true, &p->why);
		reader_done(r);
	}
}

/* --- the agent's side, on the loop -------------------------------------------------------------------------------- */

static void consume(struct proc *p, unsigned stream, uint64_t n)
{
	struct msg_WINDOW more = { .stream = stream, .bytes = n };

	if (n && p->conn)
		(void)!conn_send(p->conn, MSG_WINDOW, &more);
}

static bool is_full(struct proc *p)
{
	struct list *pos;

	list_each(pos, &p->readers)
		if (e2b_stream_full(list_entry(pos, struct proc_reader, node)->out))
			return true;
	return false;
}

/* Credit goes back as soon as nobody is full. */
static void let_flow(struct proc *p)
{
	unsigned k;

	if (is_full(p))
		return;
	for (k = 0; k < 2; k++) {
		consume(p, k ? WIRE_ERR : WIRE_OUT, p->held[k]);
		p->held[k] = 0;
	}
}

static void give_output(struct proc *p, unsigned stream, struct span data)
{
	const char *key = p->is_pty ? "pty" : stream == WIRE_ERR ? "stderr" : "stdout";
	struct json_writer w;
	struct list *pos;
	struct buf b;

	if (!list_empty(&p->readers) && data.len) {
		buf_init(&b, 2 * data.len + 256);
		put_event(&b, "data", &w);
		jw_key(&w, key);
		buf_append(&b, "\"", 1);
		str_base64(&b, data);
		buf_append(&b, "\"", 1);
		end_event(&w);
		list_each(pos, &p->readers)
			e2b_stream_give(list_entry(pos, struct proc_reader, node)->out, buf_span(&b), false, NULL);
		buf_fini(&b);
	}
}

/* What was kept back because it may have been the beginning of a value. */
static void give_rest(struct proc *p)
{
	uint64_t at;

	if (!p->leaks)
		return;
	give_output(p, WIRE_OUT, out_leaks_rest(p->leaks, WIRE_OUT, &at));
	give_output(p, WIRE_ERR, out_leaks_rest(p->leaks, WIRE_ERR, &at));
}

static void on_late(void *ctx)
{
	give_rest(ctx);
}

static void on_output(struct proc *p, const struct msg_OUTPUT *m)
{
	struct span data = m->data;
	uint64_t at;

	p->held[m->stream == WIRE_ERR] += m->data.len;
	if (p->leaks) {
		data = out_leaks_put(p->leaks, (unsigned)m->stream, m->offset, m->data, &at);
		if (!p->late && out_leaks_waits(p->leaks))
			p->late = loop_timer(p->e2b->loop, CLOCK_NEVER, on_late, p);
		if (p->late)
			loop_rearm(p->late, out_leaks_waits(p->leaks) ? clock_after_ms(LEAK_WAIT_MS) : CLOCK_NEVER);
	}
	give_output(p, (unsigned)m->stream, data);
	let_flow(p);
}

static void send_input(struct proc *p)
{
	while (p->conn && p->is_started && buf_len(&p->input) && p->in_credit) {
		struct span s = buf_span(&p->input);
		struct msg_STDIN m = { .offset = p->in_sent };

		m.data = SPAN(s.p, MIN(MIN(s.len, (size_t)32768), p->in_credit));
		if (conn_send(p->conn, MSG_STDIN, &m) < 0)
			return;
		p->in_sent += m.data.len;
		p->in_credit -= m.data.len;
		buf_consume(&p->input, m.data.len);
	}
	if (p->conn && p->is_started && p->in_ends && !p->in_ended && !buf_len(&p->input)) {
		struct msg_STDIN_END m = { .offset = p->in_sent };

		p->in_ended = conn_send(p->conn, MSG_STDIN_END, &m) == 0;
	}
}

static void forget(void *ctx)
{
	struct proc *p = ctx;

	loop_untimer(&p->forget);
	proc_leave(p);
}

/* The connection is of no more use. */
static void agent_over(struct proc *p)
{
	conn_free(&p->conn);
	loop_untimer(&p->late);
	give_rest(p);
	tell_all_done(p);
	if (p->is_ended && !p->forget && !p->e2b->ending)
		p->forget = loop_timer(p->e2b->loop, clock_after_ms(ENDED_MS), forget, p);
	else
		proc_leave(p);
}

static void on_started(struct proc *p, const struct msg_STARTED *m)
{
	struct list *pos;

	lock_take(&p->e2b->lock);
	p->pid = m->pid;
	lock_drop(&p->e2b->lock);
	p->is_started = true;
	if (p->leaks)
		out_leaks_pid(p->leaks, m->pid);
	list_each(pos, &p->readers)
		tell_start(list_entry(pos, struct proc_reader, node));
	send_input(p);
}

static void on_frame(void *ctx, const struct frame *f)
{
	struct proc *p = ctx;
	union {
		struct msg_STARTED started;
		struct msg_OUTPUT output;
		struct msg_STDIN_ACK ack;
		struct msg_EXIT exit;
		struct msg_ERROR error;
	} m;
	struct msg_EXIT_ACK seen = { 0 };

	if (f->type == MSG_ERROR) {
		p->why = ERR_NULL;
		(void)!frame_refused(f, &p->why);
		agent_over(p);
		return;
	}
	if (f->type != MSG_STARTED && f->type != MSG_OUTPUT && f->type != MSG_STDIN_ACK && f->type != MSG_EXIT) {
		err_set(&p->why, -EPROTO, "bad-message", "%s has no place here", msg_name(f->type));
		agent_over(p);
		return;
	}
	if (msg_decode((enum msg_type)f->type, f->payload, &m, &p->why) < 0) {
		agent_over(p);
		return;
	}
	if (f->type == MSG_STARTED) {
		on_started(p, &m.started);
	} else if (f->type == MSG_OUTPUT) {
		on_output(p, &m.output);
	} else if (f->type == MSG_STDIN_ACK) {
		p->in_credit = m.ack.offset + WIRE_STDIN_WINDOW - MIN(p->in_sent, m.ack.offset + WIRE_STDIN_WINDOW);
		send_input(p);
	} else if (f->type == MSG_EXIT) {
		p->exit = m.exit;
		p->is_ended = true;
		(void)!conn_send(p->conn, MSG_EXIT_ACK, &seen);
		conn_finish(p->conn);
		give_rest(p);
		tell_all_done(p);
	}
}

static void on_close(void *ctx, const struct err *why)
{
	struct proc *p = ctx;

	(void)why;
	if (!p->is_ended)
		err_set(&p->why, -EPIPE, "agent-gone", "the connection to the process was lost");
	agent_over(p);
}

static const struct conn_events agent_events = { .on_frame = on_frame, .on_close = on_close };

static void begin(void *ctx)
{
	struct proc *p = ctx;

	if (p->e2b->ending)
		err_set(&p->why, -ESHUTDOWN, "ending", "the daemon is ending");
	else if (conn_new(p->e2b->loop, p->fd, 0, &agent_events, p, &p->conn, &p->why) == 0)
		p->fd = -1;
	if (!p->conn)
		agent_over(p);
	proc_unref(&p);
}

/* --- the client's side -------------------------------------------------------------------------------------------- */

static void on_keepalive(void *ctx)
{
	static const char text[] = "{\"event\":{\"keepalive\":{}}}";
	struct proc_reader *r = ctx;

	e2b_stream_give(r->out, span_str(text), false, NULL);
	loop_rearm(r->keepalive, clock_after_ms(r->keepalive_s * 1000));
}

static void on_deadline(void *ctx)
{
	struct proc_reader *r = ctx;
	struct err e = ERR_NULL;

	err_set(&e, -ETIMEDOUT, "timeout", "the time of this stream is over");
	e2b_stream_give(r->out, SPAN_NULL, true, &e);
	reader_done(r);
}

static void join(void *ctx)
{
	struct proc_reader *r = ctx;
	struct proc *p = r->proc;

	list_append(&p->readers, &r->node);
	if (p->e2b->ending || (!p->conn && p->fd < 0)) {
		if (p->is_ended && p->is_started)
			tell_start(r);
		if (p->is_ended)
			tell_end(r);
		else
			e2b_stream_give(r->out, SPAN_NULL, true, &p->why);
		reader_done(r);
		return;
	}
	r->keepalive = loop_timer(p->e2b->loop, clock_after_ms(r->keepalive_s * 1000), on_keepalive, r);
	if (r->until != CLOCK_NEVER)
		r->deadline = loop_timer(p->e2b->loop, r->until, on_deadline, r);
	if (p->is_started)
		tell_start(r);
}

static void let_flow_again(void *ctx)
{
	struct proc *p = ctx;

	let_flow(p);
	proc_unref(&p);
}

static void drained(void *ctx)
{
	struct proc_reader *r = ctx;

	loop_post(r->proc->e2b->loop, let_flow_again, proc_ref(r->proc));
}

static void part(void *ctx)
{
	struct proc_reader *r = ctx;

	reader_done(r);
	let_flow(r->proc);
	proc_unref(&r->proc);
	e2b_stream_free(&r->out);
	free(r);
}

static void gone(void *ctx)
{
	struct proc_reader *r = ctx;

	loop_post(r->proc->e2b->loop, part, r);
}

void proc_follow(struct proc *p, struct http_req *req, struct http_res *res, uint64_t ms)
{
	static const struct e2b_stream_events events = { .drained = drained, .gone = gone };
	struct proc_reader *r = NEW(struct proc_reader);

	r->proc = proc_ref(p);
	r->keepalive_s = e2b_keepalive_s(req);
	r->until = ms ? clock_after_ms(ms) : CLOCK_NEVER;
	r->out = e2b_stream_new(req, res, &events, r);
	loop_post(p->e2b->loop, join, r);
}

/* --- in the table ------------------------------------------------------------------------------------------------- */

bool proc_room(struct e2b *e2b, const char *sandbox, struct err *e)
{
	struct list *pos;
	size_t n = 0;

	lock_take(&e2b->lock);
	list_each(pos, &e2b->procs)
		n += str_eq(list_entry(pos, struct proc, node)->sandbox, sandbox);
	lock_drop(&e2b->lock);
	if (n >= PROCS_MAX)
		(void)!err_set(e, -ENOSPC, "too-many-processes", "the sandbox has, or just had, %d processes",
			       (int)PROCS_MAX);
	return n < PROCS_MAX;
}

struct proc *proc_new(struct e2b *e2b, const char *sandbox, const char *id, int fd)
{
	struct proc *p = NEW(struct proc);

	p->e2b = e2b;
	p->refs = 3; /* the table's, begin()'s, the caller's */
	p->fd = fd;
	snprintf(p->sandbox, sizeof(p->sandbox), "%s", sandbox);
	snprintf(p->id, sizeof(p->id), "%s", id);
	list_init(&p->readers);
	list_init(&p->node);
	buf_init(&p->input, INPUT_MAX_B);
	err_set(&p->why, -ENOENT, "no-such-process", "the process is gone");
	p->in_credit = WIRE_STDIN_WINDOW;
	p->leaks = out_leaks_new(e2b->hub, sandbox);
	return p;
}

void proc_enter(struct proc *p)
{
	lock_take(&p->e2b->lock);
	list_append(&p->e2b->procs, &p->node);
	lock_drop(&p->e2b->lock);
	loop_post(p->e2b->loop, begin, p);
}

struct proc *proc_known(struct e2b *e2b, const char *sandbox, uint64_t pid, const char *tag)
{
	struct proc *ret = NULL;
	struct list *pos;

	lock_take(&e2b->lock);
	list_each(pos, &e2b->procs) {
		struct proc *p = list_entry(pos, struct proc, node);

		if (!str_eq(p->sandbox, sandbox) || (tag ? !str_eq(p->tag, tag) : p->pid != pid || !pid))
			continue;
		ret = p; /* the newest: numbers come again */
	}
	if (ret)
		ret->refs++;
	lock_drop(&e2b->lock);
	return ret;
}

/* --- what is done to one ------------------------------------------------------------------------------------------ */

static int do_input(struct deed *d)
{
	struct proc *p = d->p;

	if (!p->is_pty && !p->has_stdin)
		return err_set(&d->e, -EIO, "no-stdin", "stdin is not enabled for this process");
	if (p->in_ends)
		return err_set(&d->e, -EIO, "no-stdin", "stdin is closed");
	if (buf_append(&p->input, d->data.p, d->data.len) < 0) {
		p->input.failed = false;
		return err_set(&d->e, -ENOSPC, "stdin-full", "the process does not read its standard input");
	}
	send_input(p);
	return 0;
}

static void act(void *ctx)
{
	struct deed *d = ctx;
	struct proc *p = d->p;
	struct msg_SIGNAL sig = { .signal = d->a };
	struct msg_RESIZE size = { .cols = d->a, .rows = d->b };

	if (p->is_ended || !p->conn) {
		d->r = err_set(&d->e, -ENOENT, "no-such-process", "the process has ended");
		return;
	}
	switch (d->what) {
	case DEED_INPUT:
		d->r = do_input(d);
		break;
	case DEED_CLOSE:
		p->in_ends = true;
		send_input(p);
		break;
	case DEED_SIGNAL:
		d->r = conn_send(p->conn, MSG_SIGNAL, &sig);
		break;
	case DEED_RESIZE:
		d->r = conn_send(p->conn, MSG_RESIZE, &size);
		break;
	}
}

int proc_do(struct deed *d)
{
	loop_post(d->p->e2b->loop, act, d);
	loop_sync(d->p->e2b->loop);
	return d->r;
}

/* --- the end of the daemon ---------------------------------------------------------------------------------------- */

static void end_all(void *ctx)
{
	struct e2b *e2b = ctx;

	e2b->ending = true;
	e2b_proxy_end(e2b);
	while (!list_empty(&e2b->opens)) {
		struct e2b_open *o = list_entry(e2b->opens.next, struct e2b_open, node);

		e2b_open_remove(o);
		o->end(o);
	}
	for (;;) {
		struct proc *p = NULL;

		lock_take(&e2b->lock);
		if (!list_empty(&e2b->procs)) {
			p = list_entry(e2b->procs.next, struct proc, node);
			p->refs++;
		}
		lock_drop(&e2b->lock);
		if (!p)
			return;
		if (!p->is_ended)
			err_set(&p->why, -ESHUTDOWN, "ending", "the daemon is ending; the process goes on");
		loop_untimer(&p->forget);
		agent_over(p);
		proc_unref(&p);
	}
}

void e2b_end(struct e2b *e2b)
{
	__atomic_store_n(&e2b->stopping, true, __ATOMIC_RELAXED);
	templates_stop(e2b);
	loop_post(e2b->loop, end_all, e2b);
	loop_sync(e2b->loop);
}
