/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the control connection: a table from message to function; FS_* calls have a table of their own in files.c.
 */
#include "guest/agent.h"

#include "base/clock.h"
#include "base/str.h"
#include "guest/fields.h"
#include "guest/metrics.h"
#include "guest/oom.h"
#include "guest/secret.h"
#include "guest/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"

enum { PS_MAX = 900 * 1024, COMMANDS_MAX = 256 * 1024, COMMAND_WORDS_MAX = 1024 };

void reply_error(struct conn *c, uint64_t call, const struct err *e)
{
	struct msg_ERROR m = {
		.call = call,
		.name = span_str(err_name(e->code)),
		.slug = span_str(*e->slug ? e->slug : "failed"),
		.text = span_str(e->text),
	};

	(void)!conn_send(c, MSG_ERROR, &m);
}

static void reply_ok(struct agent *a, uint64_t call)
{
	(void)!conn_send(agent_control(a), MSG_OK, &(struct msg_OK){ .call = call });
}

static int on_ping(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_PING *m = msg;

	(void)e;
	(void)!conn_send(agent_control(a), MSG_PONG, &(struct msg_PONG){ .call = m->call });
	return 0;
}

static int on_ps(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_PS *m = msg;
	struct msg_PS_IS is = { .call = m->call };
	struct msg_list list;

	(void)e;
	msg_list_init(&list, PS_MAX);
	procs_list(&a->procs, agent_generation(a), &list);
	is.procs = msg_list_span(&list);
	(void)!conn_send(agent_control(a), MSG_PS_IS, &is);
	msg_list_fini(&list);
	return 0;
}

static int on_kill(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_KILL *m = msg;
	struct proc *p = procs_find(&a->procs, m->id);
	int r = p ? proc_signal(p, (int)m->signal, m->tree) : -ESRCH;

	if (r < 0) {
		err_set(e, r, r == -ESRCH ? "no-such-process" : "failed", "the signal could not be sent");
		reply_error(agent_control(a), m->call, e);
	} else {
		reply_ok(a, m->call);
	}
	return 0;
}

static void on_stopped(void *ctx, uint64_t call)
{
	struct agent *a = ctx;

	if (agent_control(a))
		reply_ok(a, call);
}

static int on_stop(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_STOP *m = msg;
	int r = procs_stop(&a->procs, m->grace_ms, m->call, on_stopped, a);

	if (r < 0) {
		err_set(e, r, "already", "the sandbox is being stopped already");
		reply_error(agent_control(a), m->call, e);
	}
	return 0;
}

static uint64_t resident(void)
{
	AUTO(buf_fini) struct buf b;
	uint64_t pages = 0;

	buf_init(&b, 4096);
	if (io_read_file(AT_FDCWD, "/proc/self/statm", &b) < 0 || !field_u64(buf_str(&b), 1, &pages))
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int on_info(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_INFO *m = msg;
	struct msg_INFO_IS is = {
		.call = m->call,
		.version = span_str(PACKAGE_VERSION),
		.watcher = span_str(a->o.source ? a->o.source->kind : "none"),
		.rss_b = resident(),
		.procs = a->procs.n_running + a->procs.n_records,
		.dirty = watch_dirty(a->watch),
		.backlog = ship_backlog(a->ship),
		.rules = keep_count(watch_kept(a->watch)->rules),
		.dirs = watch_dirs(a->watch)->by_fid.len,
	};

	(void)e;
	(void)!conn_send(agent_control(a), MSG_INFO_IS, &is);
	return 0;
}

static void commands_send(struct agent *a, unsigned flags, struct msg_list *list)
{
	struct msg_COMMANDS m = { .flags = flags, .procs = msg_list_span(list) };

	(void)!conn_send(agent_control(a), MSG_COMMANDS, &m);
	msg_list_fini(list);
	msg_list_init(list, COMMANDS_MAX);
}

static void command_put(struct agent *a, const struct proc *p, struct msg_list *list)
{
	struct msg_list words;
	struct msg_PROC m;

	proc_record(p, agent_generation(a), COMMAND_WORDS_MAX, &words, &m);
	(void)!msg_list_rec(list, MSG_PROC, &m);
	msg_list_fini(&words);
}

void control_command(void *agent, const struct proc *p)
{
	struct agent *a = agent;
	struct msg_list list;

	if (!agent_control(a) || !agent_speaks(a, MSG_COMMANDS))
		return;
	msg_list_init(&list, COMMANDS_MAX);
	command_put(a, p, &list);
	commands_send(a, 0, &list);
	msg_list_fini(&list);
}

/* Before the scan: a host that was away does not know of them, or of their ends. */
static void commands_all(struct agent *a)
{
	unsigned flags = WIRE_CMD_FIRST;
	struct msg_list list;
	struct list *pos;

	if (!agent_speaks(a, MSG_COMMANDS))
		return;
	msg_list_init(&list, COMMANDS_MAX);
	list_each(pos, &a->procs.all) {
		command_put(a, list_entry(pos, struct proc, node), &list);
		if (buf_len(&list.b) < COMMANDS_MAX / 2)
			continue;
		commands_send(a, flags, &list);
		flags = 0;
	}
	commands_send(a, flags | WIRE_CMD_LAST, &list);
	msg_list_fini(&list);
}

static int on_replicate(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_REPLICATE *m = msg;

	if (m->root_fid && m->root_fid != a->o.tree->fid) {
		err_set(e, -ESTALE, "root-changed", "the root of the workspace is not the one that the host knows");
		reply_error(agent_control(a), m->call, e);
		return 0;
	}
	/* The first generation had no rules: a host must do with an agent that does not look at them. */
	if (kept_set(watch_kept(a->watch), agent_newest() > 1 ? m->rules : SPAN_NULL, e) < 0) {
		reply_error(agent_control(a), m->call, e);
		return 0;
	}
	reply_ok(a, m->call);
	commands_all(a);
	watch_replicate(a->watch, agent_control(a), m->root_fid ? SCAN_COMPARE : m->known ? SCAN_KNOWN : SCAN_NEWS);
	return 0;
}

static int on_changes_ack(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_CHANGES_ACK *m = msg;

	if (watch_ack(a->watch, m->seq) < 0)
		return err_set(e, -EPROTO, "bad-message", "a batch is acknowledged that was never told");
	return 0;
}

static int on_fetch(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_FETCH *m = msg;

	(void)e;
	if (m->fid)
		ship_fetch(a->ship, m->fid, m->path);
	return 0;
}

static int on_sync(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_SYNC *m = msg;

	(void)e;
	sync_start(a, m->call);
	return 0;
}

static int on_pause(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_PAUSE *m = msg;

	(void)e;
	agent_pause(a);
	reply_ok(a, m->call);
	return 0;
}

static int on_thawed(struct agent *a, const void *msg, struct err *e)
{
	(void)msg, (void)e;
	agent_thawed(a);
	return 0;
}

static int on_listen(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_LISTEN *m = msg;

	if (services_listen(&a->services, m, e) < 0)
		reply_error(agent_control(a), m->call, e);
	else
		reply_ok(a, m->call);
	return 0;
}

static int on_listen_at(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_LISTEN_AT *m = msg;
	int r = agent_is_inside(a) ? services_listen_at(&a->services, m, e)
				   : err_set(e, -EOPNOTSUPP, "not-inside",
					     "this kind of sandbox has no address of its own");

	if (r < 0)
		reply_error(agent_control(a), m->call, e);
	else
		reply_ok(a, m->call);
	return 0;
}

static int on_variables(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_VARIABLES *m = msg;

	if (variables_set(&a->variables, m->env, e) < 0)
		reply_error(agent_control(a), m->call, e);
	else
		reply_ok(a, m->call);
	return 0;
}

static int on_unlisten(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_UNLISTEN *m = msg;

	(void)e;
	services_unlisten(&a->services, m->name);
	reply_ok(a, m->call);
	return 0;
}

static int on_refuse(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_REFUSE *m = msg;

	(void)e;
	services_refuse(&a->services, m->ask);
	return 0;
}

static int on_metrics(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_METRICS *m = msg;
	struct msg_METRICS_IS is = { .call = m->call };

	(void)e;
	metrics_fill(a->o.tree->fd, &is);
	is.uptime_ms = (clock_now() - a->started) / CLOCK_MS;
	is.oom_kills = oom_kills();
	(void)!conn_send(agent_control(a), MSG_METRICS_IS, &is);
	return 0;
}

static int on_clock(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_CLOCK *m = msg;

	(void)e;
	vm_clock(a->o.vm, m->wall_ns);
	vm_entropy(a->o.vm, m->entropy);
	return 0;
}

static int on_logs(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_LOGS *m = msg;
	struct msg_LOGS_IS is = { .call = m->call };
	AUTO(buf_fini) struct buf room;

	(void)e;
	buf_init(&room, 0);
	console_read(&a->console, m->from, &is, &room);
	(void)!conn_send(agent_control(a), MSG_LOGS_IS, &is);
	return 0;
}

static int on_secrets_drop(struct agent *a, const void *msg, struct err *e)
{
	const struct msg_SECRETS_DROP *m = msg;
	int r = secret_drop();

	if (r < 0) {
		err_sys(e, r, "removing files of secrets");
		reply_error(agent_control(a), m->call, e);
	} else {
		reply_ok(a, m->call);
	}
	return 0;
}

static const struct {
	unsigned type;
	int (*fn)(struct agent *a, const void *m, struct err *e);
} calls[] = {
	{ MSG_PING, on_ping },
	{ MSG_PS, on_ps },
	{ MSG_KILL, on_kill },
	{ MSG_STOP, on_stop },
	{ MSG_INFO, on_info },
	{ MSG_REPLICATE, on_replicate },
	{ MSG_CHANGES_ACK, on_changes_ack },
	{ MSG_FETCH, on_fetch },
	{ MSG_SYNC, on_sync },
	{ MSG_PAUSE, on_pause },
	{ MSG_THAWED, on_thawed },
	{ MSG_LISTEN, on_listen },
	{ MSG_LISTEN_AT, on_listen_at },
	{ MSG_VARIABLES, on_variables },
	{ MSG_UNLISTEN, on_unlisten },
	{ MSG_REFUSE, on_refuse },
	{ MSG_METRICS, on_metrics },
	{ MSG_CLOCK, on_clock },
	{ MSG_LOGS, on_logs },
	{ MSG_SECRETS_DROP, on_secrets_drop },
};

int control_frame(struct agent *a, const struct frame *f, struct err *e)
{
	union {
		struct msg_LISTEN_AT listen_at; /* the largest of them */
		struct msg_KILL kill;
		struct msg_FETCH fetch;
		struct msg_STOP stop;
	} m;
	size_t i;
	int r;

	if (!agent_speaks(a, f->type))
		return err_set(e, -EPROTO, "bad-message", "%s is not known here", msg_name(f->type));
	for (i = 0; i < ARRAY_LEN(calls); i++) {
		if (calls[i].type != f->type)
			continue;
		r = msg_decode(f->type, f->payload, &m, e);
		return r < 0 ? r : calls[i].fn(a, &m, e);
	}
	r = files_frame(&a->files, f, e);
	return r == -ENOSYS ? err_set(e, -EPROTO, "bad-message", "%s has no place here", msg_name(f->type)) : r;
}
