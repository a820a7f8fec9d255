/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A connection is a stranger until its HELLO carries the token; strangers are few and have ten seconds. Then it
 * is control, shipping (one of each: a newer one takes the place of the older, whose other end is probably dead), the
 * stream of one process, or a tunnel. Everything that outlives connections hangs on struct agent.
 */
#include "guest/agent.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "guest/fill.h"
#include "guest/place.h"
#include "guest/tunnel.h"
#include "guest/secret.h"
#include "wire/xport.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>

enum { STRANGERS_MAX = 64, HELLO_MS = 10000, OUT_MAX = 8 * 1024 * 1024 };

struct peer {
	struct list node;
	struct agent *agent; /* borrowed: parent */
	struct conn *conn;
	struct loop_timer *deadline; /* for HELLO */
	unsigned kind;		     /* 0: a stranger */
	unsigned generation;	     /* spoken with it */
	struct proc *proc;	     /* of an EXEC connection; borrowed */
	struct tunnel *tunnel;	     /* of a TUNNEL connection */
	struct fill *fill;	     /* of a FILL connection */
	struct place *place;	     /* of a PLACE connection */
	struct secret_env *secrets;  /* that wait for the EXEC on this connection */
};

static bool token_ok(const struct agent *a, struct span given)
{
	const volatile uint8_t *p = given.p;
	uint8_t diff = 0;
	size_t i;

	if (given.len != WIRE_TOKEN_LEN)
		return false;
	for (i = 0; i < WIRE_TOKEN_LEN; i++)
		diff |= p[i] ^ a->o.token[i];
	return diff == 0;
}

/* The peer plays no role any more; its connection may still have to be written out. */
static void peer_retire(struct peer *p)
{
	struct agent *a = p->agent;

	if (!p->kind && p->deadline)
		a->n_strangers--;
	loop_untimer(&p->deadline);
	secret_env_free(&p->secrets);
	if (a->control == p) {
		a->control = NULL;
		watch_detach(a->watch);
		files_attach(&a->files, NULL);
		syncs_drop(a);
	}
	if (a->shipping == p) {
		a->shipping = NULL;
		ship_detach(a->ship);
	}
	if (p->proc && p->proc->conn == p->conn)
		proc_detach(p->proc);
	p->proc = NULL;
	tunnel_free(&p->tunnel);
	fill_free(&p->fill);
	place_free(&p->place);
}

static void peer_free(struct peer *p)
{
	peer_retire(p);
	list_remove(&p->node);
	conn_free(&p->conn);
	free(p);
}

/* Say why, then close. */
static void peer_refuse(struct peer *p, const struct err *e)
{
	reply_error(p->conn, 0, e);
	peer_retire(p);
	conn_finish(p->conn);
}

struct conn *agent_control(const struct agent *a)
{
	return a->control ? a->control->conn : NULL;
}

unsigned agent_generation(const struct agent *a)
{
	return a->control ? a->control->generation : 0;
}

bool agent_speaks(const struct agent *a, unsigned type)
{
	return agent_generation(a) >= wire_since(type);
}

bool agent_is_inside(const struct agent *a)
{
	return strcmp(a->o.workspace, "/workspace") == 0;
}

/* --- EXEC -------------------------------------------------------------------------------------------------------- */

static struct peer *peer_of(struct agent *a, const struct conn *c)
{
	struct list *node;

	list_each(node, &a->peers)
		if (list_entry(node, struct peer, node)->conn == c)
			return list_entry(node, struct peer, node);
	return NULL;
}

static void attach(struct peer *p, struct proc *proc, const struct msg_ATTACH *m)
{
	struct peer *old = proc->conn ? peer_of(p->agent, proc->conn) : NULL;

	if (old)
		old->proc = NULL;
	p->proc = proc;
	proc_attach(proc, p->conn, m);
}

/* With what came before it on this connection. */
static int exec_with_secrets(struct peer *p, struct msg_EXEC *m, struct proc **ret, struct err *e)
{
	struct msg_list env = { .n = 0 };
	int r = secret_merge(p->secrets, m->env, &env);

	m->env = msg_list_span(&env);
	r = r < 0 ? err_set(e, r, "bad-secret", "the environment is too long")
		  : procs_start(&p->agent->procs, m, ret, e);
	secret_wipe(&env);
	secret_env_free(&p->secrets);
	return r;
}

/* With the variables of all commands, and with what came before it on this connection. */
static int exec_start(struct peer *p, struct msg_EXEC *m, struct proc **ret, struct err *e)
{
	struct msg_list env = { .n = 0 };
	int r = variables_merge(&p->agent->variables, m->env, &env);

	m->env = msg_list_span(&env);
	if (r < 0)
		r = err_set(e, r, "bad-request", "the environment is too long");
	else
		r = p->secrets ? exec_with_secrets(p, m, ret, e) : procs_start(&p->agent->procs, m, ret, e);
	msg_list_fini(&env);
	return r;
}

static int secret_first(struct peer *p, const struct frame *f, struct err *e)
{
	bool is_file = false;
	int r = secret_take(&p->secrets, f, agent_is_inside(p->agent), &is_file, e);

	if (r == 0 && is_file) {
		(void)!conn_send(p->conn, MSG_OK, &(struct msg_OK){ .call = 0 });
		conn_finish(p->conn);
	}
	return r;
}

static int exec_first(struct peer *p, const struct frame *f, struct err *e)
{
	struct agent *a = p->agent;
	struct msg_ATTACH at = { .credit = 0 };
	struct proc *proc;
	int r;

	if (a->is_paused)
		return err_set(e, -EBUSY, "paused", "the sandbox is paused");
	if (f->type == MSG_SECRET)
		return secret_first(p, f, e);
	if (f->type == MSG_EXEC) {
		struct msg_EXEC m;

		r = msg_decode(f->type, f->payload, &m, e);
		if (r < 0)
			return r;
		proc = procs_find(&a->procs, m.id);
		r = proc ? 0 : exec_start(p, &m, &proc, e);
		if (r < 0)
			return r;
		at.credit = m.credit;
		at.generation = m.generation;
		at.hold_ms = m.hold_ms;
	} else if (f->type == MSG_ATTACH) {
		r = msg_decode(f->type, f->payload, &at, e);
		if (r < 0)
			return r;
		proc = procs_find(&a->procs, at.id);
		if (!proc)
			return err_set(e, -ESRCH, "no-such-process", "no process of this id is known");
	} else {
		return err_set(e, -EPROTO, "bad-message", "an EXEC connection begins with EXEC or ATTACH");
	}
	attach(p, proc, &at);
	return 0;
}

static int exec_frame(struct peer *p, const struct frame *f, struct err *e)
{
	int r = p->proc ? proc_frame(p->proc, f, e) : exec_first(p, f, e);

	if (r != PROC_E_GONE)
		return r;
	p->proc = NULL;
	conn_finish(p->conn);
	return 0;
}

void agent_pause(struct agent *a)
{
	struct list *pos, *tmp;
	struct err e;

	a->is_paused = true;
	if (!a->frozen_at)
		a->frozen_at = clock_now();
	a->procs.paused = true;
	err_set(&e, -EBUSY, "paused", "the sandbox is paused");
	list_each_safe(pos, tmp, &a->peers) {
		struct peer *p = list_entry(pos, struct peer, node);

		if ((p->kind == WIRE_EXEC && p->proc) || p->tunnel)
			peer_refuse(p, &e);
	}
}

/* Processes stood still, and so did the time that they have. */
void agent_thawed(struct agent *a)
{
	if (a->frozen_at)
		procs_extend(&a->procs, clock_now() - a->frozen_at);
	a->frozen_at = 0;
}

/* A host is back. It looks at the workspace before it lets the workload go on; one of before does not say when. */
static void go_on(struct agent *a, unsigned generation)
{
	a->is_paused = false;
	if (generation < wire_since(MSG_THAWED))
		agent_thawed(a);
}

/* --- HELLO ------------------------------------------------------------------------------------------------------- */

static void hello_reply(struct peer *p, const struct msg_HELLO *m)
{
	struct agent *a = p->agent;
	struct msg_HELLO answer = {
		.generation = p->generation,
		.kind = m->kind,
		.token = SPAN(a->o.token, WIRE_TOKEN_LEN),
		.id = m->id,
		.boot = a->boot,
		.wall_ns = clock_wall(),
		.disk = a->o.tree->disk,
	};

	(void)!conn_send(p->conn, MSG_HELLO, &answer);
}

static void replace(struct peer **slot, struct peer *p)
{
	struct peer *old = *slot;

	if (old) {
		peer_retire(old);
		conn_finish(old->conn);
	}
	*slot = p;
}

static unsigned kind_newest(void)
{
	return agent_newest() < 2 ? WIRE_SHIP : agent_newest() < 4 ? WIRE_FILL : WIRE_PLACE;
}

static int hello(struct peer *p, const struct frame *f, struct err *e)
{
	struct agent *a = p->agent;
	struct msg_HELLO m;

	if (f->type != MSG_HELLO || msg_decode(f->type, f->payload, &m, e) < 0)
		return -EBADMSG;
	if (!token_ok(a, m.token))
		return -EACCES;
	if (m.generation < 1 || m.kind < WIRE_CONTROL || m.kind > kind_newest())
		return -EPROTO;
	if (m.id.len && !span_eq(m.id, span_str(a->o.id)))
		return err_set(e, -EPERM, "wrong-sandbox", "this is another sandbox");
	a->n_strangers--;
	loop_untimer(&p->deadline);
	p->kind = (unsigned)m.kind;
	p->generation = (unsigned)MIN(m.generation, (uint64_t)agent_newest());
	hello_reply(p, &m);
	if (p->kind == WIRE_CONTROL) {
		go_on(a, p->generation);
		replace(&a->control, p);
		files_attach(&a->files, p->conn);
	} else if (p->kind == WIRE_SHIP) {
		replace(&a->shipping, p);
		ship_attach(a->ship, p->conn, p->generation);
	} else if (p->kind == WIRE_FILL) {
		p->fill = fill_new(a->o.tree, p->conn, a->control ? a->watch : NULL);
	} else if (p->kind == WIRE_PLACE) {
		p->place = place_new(a->loop, p->conn, a->control ? a->watch : NULL);
	}
	return 0;
}

/* --- connections ------------------------------------------------------------------------------------------------- */

static void on_frame(void *ctx, const struct frame *f)
{
	struct peer *p = ctx;
	struct err e = ERR_NULL;
	int r = 0;

	if (!p->kind) {
		r = hello(p, f, &e);
		if (r < 0 && r != -EPERM && r != -EBUSY) { /* a stranger learns nothing */
			peer_retire(p);
			conn_finish(p->conn);
			return;
		}
	} else if (p->kind == WIRE_CONTROL && p == p->agent->control) {
		r = control_frame(p->agent, f, &e);
		if (!conn_room(p->conn))
			conn_pause(p->conn);
	} else if (p->kind == WIRE_SHIP && p == p->agent->shipping) {
		r = ship_frame(p->agent->ship, f);
		if (r < 0)
			err_set(&e, r, "bad-message", "%s has no place here", msg_name(f->type));
	} else if (p->kind == WIRE_EXEC) {
		r = exec_frame(p, f, &e);
	} else if (p->kind == WIRE_FILL) {
		r = p->fill ? fill_frame(p->fill, f, &e) : 0;
	} else if (p->kind == WIRE_PLACE) {
		r = p->place ? place_frame(p->place, f, &e) : 0;
	} else if (p->kind == WIRE_TUNNEL) {
		r = p->tunnel ? tunnel_frame(p->tunnel, f, &e)
			      : tunnel_first(p->agent->loop, &p->agent->services, p->conn, f, &p->tunnel, &e);
	}
	if (r < 0)
		peer_refuse(p, &e);
}

static void on_close(void *ctx, const struct err *why)
{
	(void)why;
	peer_free(ctx);
}

static void on_drain(void *ctx)
{
	struct peer *p = ctx;
	struct agent *a = p->agent;

	if (p == a->control) {
		files_go_on(&a->files);
		watch_go_on(a->watch);
		conn_resume(p->conn);
	} else if (p == a->shipping) {
		ship_go_on(a->ship);
	} else if (p->place) {
		place_go_on(p->place);
	} else if (p->tunnel) {
		tunnel_drained(p->tunnel);
	} else if (p->proc) {
		proc_pump(p->proc);
		out_read(&p->proc->out[0]);
		out_read(&p->proc->out[1]);
		proc_pump(p->proc);
	}
}

static const struct conn_events peer_events = { .on_frame = on_frame, .on_close = on_close, .on_drain = on_drain };

static void on_hello_late(void *ctx)
{
	peer_free(ctx);
}

static void on_accept(void *ctx, int fd, unsigned events)
{
	struct agent *a = ctx;
	AUTO(fd_close) int got = -1;
	struct peer *p;
	int r = xport_accept(fd, &got);

	(void)events;
	if (r == -EMFILE || r == -ENFILE)
		fd_shed(fd, &a->spare);
	if (r < 0)
		return;
	if (a->n_strangers >= STRANGERS_MAX)
		return; /* closed: who has the token tries again */
	p = NEW(struct peer);
	p->agent = a;
	if (conn_new(a->loop, got, OUT_MAX, &peer_events, p, &p->conn, NULL) < 0) {
		free(p);
		return;
	}
	(void)fd_take(&got);
	p->deadline = loop_timer(a->loop, clock_after_ms(HELLO_MS), on_hello_late, p);
	a->n_strangers++;
	list_init(&p->node);
	list_append(&a->peers, &p->node);
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

static bool on_written(void *ctx, uint64_t parent, struct span name, const struct node *n)
{
	return ship_add(((struct agent *)ctx)->ship, parent, name, n->fid);
}

static void on_seen(void *ctx, uint64_t parent, struct span name, const struct node *n)
{
	ship_seen(((struct agent *)ctx)->ship, parent, name, n->fid);
}

static void on_lost(void *ctx)
{
	ship_lost(((struct agent *)ctx)->ship);
}

static const struct watch_events watch_events = { .written = on_written, .seen = on_seen, .lost = on_lost };

static void on_progress(void *ctx)
{
	struct agent *a = ctx;

	if (ship_backlog(a->ship) == 0)
		watch_trim(a->watch);
	syncs_check(ctx);
}

int agent_new(struct loop *loop, const struct agent_options *o, struct agent **ret, struct err *e)
{
	struct agent *a = NEW(struct agent);
	int r;

	*a = (struct agent){ .loop = loop, .o = *o, .spare = open("/dev/null", O_RDONLY | O_CLOEXEC) };
	list_init(&a->peers);
	list_init(&a->syncs);
	a->started = clock_now();
	console_init(&a->console);
	if (o->vm)
		console_kernel(&a->console, loop);
	(void)!getrandom(&a->boot, sizeof(a->boot), GRND_NONBLOCK);
	a->watch = watch_new(loop, o->tree, o->source, &watch_events, a);
	a->ship = ship_new(loop, o->tree, watch_dirs(a->watch), watch_told(a->watch), on_progress, a);
	files_init(&a->files, o->tree);
	procs_init(&a->procs, loop, a->watch, o->workspace);
	a->procs.tell = control_command;
	a->procs.tell_ctx = a;
	services_init(&a->services, a, loop);
	r = loop_watch(loop, o->listener, LOOP_READ, on_accept, a, &a->accepting);
	if (r < 0) {
		agent_free(&a);
		return err_sys(e, r, "cannot wait for connections");
	}
	*ret = a;
	return 0;
}

void agent_free(struct agent **slot)
{
	struct agent *a = take(slot);

	if (!a)
		return;
	while (!list_empty(&a->peers))
		peer_free(list_entry(a->peers.next, struct peer, node));
	syncs_drop(a);
	loop_unwatch(&a->accepting);
	fd_close(&a->o.listener);
	fd_close(&a->spare);
	services_fini(&a->services);
	variables_fini(&a->variables);
	procs_fini(&a->procs);
	ship_free(&a->ship);
	watch_free(&a->watch);
	source_free(&a->o.source);
	loop_untimer(&a->sync_soon);
	console_fini(&a->console);
	free(a);
}
