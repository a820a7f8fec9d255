/* SPDX-License-Identifier: Apache-2.0 */
/* The calls about processes. One whose connection was lost (a pause, another daemon) is looked up at the agent by its
 * pid and joined anew. */
#include "host/api/e2b/proc.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/ws/ws.h"
#include "seal/digest.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

enum { CALL_MS = 10000 };

/* --- finding one -------------------------------------------------------------------------------------------------- */

struct found {
	uint64_t pid;
	char id[32];
	char *config;
	bool is_pty;
	struct json_writer *all; /* instead: every one that runs and @known does not have */
	VEC(char *) known;
};

static void put_argv(struct json_writer *w, struct span argv)
{
	struct span arg = SPAN_NULL;

	jw_open(w, '{');
	jw_key(w, "cmd");
	(void)msg_strv_next(&argv, &arg);
	jw_str(w, arg);
	jw_key(w, "args");
	jw_open(w, '[');
	while (msg_strv_next(&argv, &arg))
		jw_str(w, arg);
	jw_close(w, ']');
	jw_close(w, '}');
}

static void look(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct found *f = ctx;
	const struct msg_PS_IS *m = msg;
	struct msg_PROC proc;
	struct span list;

	(void)e;
	if (result < 0 || type != MSG_PS_IS)
		return;
	for (list = m->procs; msg_rec_next(&list, MSG_PROC, &proc);) {
		AUTO(str_free) char *id = span_dup(proc.id);
		size_t i;

		for (i = 0; i < f->known.len && !str_eq(f->known.v[i], id);)
			i++;
		if (proc.state || !str_starts(id, "e2b-") || i < f->known.len)
			continue;
		if (f->all) {
			jw_open(f->all, '{');
			jw_key(f->all, "config");
			put_argv(f->all, proc.argv);
			jw_ku64(f->all, "pid", proc.pid);
			jw_close(f->all, '}');
		} else if (proc.pid == f->pid) {
			struct json_writer w;
			struct buf b;

			buf_init(&b, 65536);
			w = (struct json_writer){ .b = &b };
			put_argv(&w, proc.argv);
			str_free(&f->config); /* an agent may say one twice */
			f->config = b.failed ? must_strdup("{}") : span_dup(buf_span(&b));
			buf_fini(&b);
			snprintf(f->id, sizeof(f->id), "%s", id);
		}
	}
}

static int ask_agent(struct e2b *e2b, const char *sandbox, struct found *f, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	struct msg_PS m = { .call = 0 };
	int r = hub_ws(e2b->hub, sandbox, &ws, e);

	if (r == 0 && !ws_link(ws))
		r = err_set(e, -EAGAIN, "not-running", "the sandbox does not run");
	return r < 0 ? r : link_wait(ws_link(ws), MSG_PS, &m, clock_after_ms(CALL_MS), look, f, e);
}

/* Join again one that this daemon does not follow. */
static int rejoin(struct e2b *e2b, const char *sandbox, uint64_t pid, struct proc **ret, struct err *e)
{
	struct found f = { .pid = pid };
	struct msg_ATTACH m = { .credit = PROC_CREDIT_B, .generation = WIRE_GENERATION };
	struct proc *p;
	int fd = -1, r = ask_agent(e2b, sandbox, &f, e);

	if (r == 0 && !f.id[0])
		r = err_set(e, -ENOENT, "no-such-process", "process with pid %llu not found", (unsigned long long)pid);
	if (r == 0 && !proc_room(e2b, sandbox, e))
		r = -ENOSPC;
	if (r == 0)
		r = hub_dial(e2b->hub, sandbox, clock_after_ms(PROC_DIAL_MS), &fd, e);
	m.id = span_str(f.id);
	if (r == 0)
		r = frame_send(fd, MSG_ATTACH, &m, clock_after_ms(PROC_DIAL_MS));
	if (r < 0) {
		str_free(&f.config);
		fd_close(&fd);
		return e->code ? r : err_sys(e, r, "joining a process");
	}
	p = proc_new(e2b, sandbox, f.id, fd);
	p->config = f.config;
	p->has_stdin = true;
	p->pid = pid;
	proc_enter(p);
	*ret = p;
	return 0;
}

static int select_proc(struct e2b *e2b, struct http_req *req, const struct json *j, struct proc **ret, struct err *e)
{
	const struct json *which = json_get(j, "process");
	uint64_t pid = json_get_u64(which, "pid", 0);
	const char *tag = json_get_str(which, "tag", NULL);

	if (!pid && !tag)
		return err_set(e, -EINVAL, "bad-request", "a process is told by its pid or its tag");
	*ret = proc_known(e2b, e2b_sandbox(req), pid, tag);
	if (*ret)
		return 0;
	if (!pid)
		return err_set(e, -ENOENT, "no-such-process", "process with tag %.80s not found", tag);
	return rejoin(e2b, e2b_sandbox(req), pid, ret, e);
}

/* --- Start -------------------------------------------------------------------------------------------------------- */

static int add_env(void *ctx, const char *key, const struct json *value)
{
	AUTO(str_free) char *pair = str_printf("%s=%s", key, json_text(value) ? json_text(value) : "");

	return msg_list_str(ctx, span_str(pair));
}

static int copy_pair(void *ctx, const char *key, const struct json *value)
{
	if (json_text(value))
		jw_kstr(ctx, key, json_text(value));
	return 0;
}

/* "config" as List tells it. */
static char *config_of(const struct json *c)
{
	const struct json *args = json_get(c, "args");
	struct json_writer w;
	struct buf b;
	char *text;
	size_t i;

	buf_init(&b, 2 * HTTP_BODY_MEMORY);
	w = (struct json_writer){ .b = &b };
	jw_open(&w, '{');
	jw_kstr(&w, "cmd", json_get_str(c, "cmd", ""));
	if (json_len(args)) {
		jw_key(&w, "args");
		jw_open(&w, '[');
		for (i = 0; i < json_len(args); i++)
			jw_str(&w, span_str(json_text(json_at(args, i))));
		jw_close(&w, ']');
	}
	jw_key(&w, "envs");
	jw_open(&w, '{');
	(void)json_each(json_get(c, "envs"), copy_pair, &w);
	jw_close(&w, '}');
	if (json_get_str(c, "cwd", NULL))
		jw_kstr(&w, "cwd", json_get_str(c, "cwd", ""));
	jw_close(&w, '}');
	text = b.failed ? must_strdup("{}") : span_dup(buf_span(&b));
	buf_fini(&b);
	return text;
}

static uint64_t stream_ms(struct http_req *req)
{
	const char *text = http_header(req, "Connect-Timeout-Ms");
	uint64_t ms;

	return text && num_u64(text, (uint64_t)INT32_MAX * 1000, &ms) == 0 ? ms : 0;
}

static int send_exec(struct e2b *e2b, struct http_req *req, const struct json *j, struct proc *p, int fd, struct err *e)
{
	const struct json *c = json_get(j, "process"), *size = json_get(json_get(j, "pty"), "size");
	const struct json *args = json_get(c, "args");
	AUTO(json_free) struct json *memory = NULL;
	AUTO(str_free) char *user = e2b_user(e2b, req);
	AUTO(str_free) char *where = NULL;
	const char *cwd;
	struct msg_list argv, env;
	struct msg_EXEC m = { .id = span_str(p->id), .credit = PROC_CREDIT_B, .generation = WIRE_GENERATION };
	size_t i;
	int r = e2b_memory(e2b, p->sandbox, &memory, e);

	msg_list_init(&argv, FRAME_MAX / 2);
	msg_list_init(&env, FRAME_MAX / 2);
	if (r == 0)
		r = msg_list_str(&argv, span_str(json_get_str(c, "cmd", "")));
	for (i = 0; r == 0 && i < json_len(args); i++)
		r = msg_list_str(&argv, span_str(json_text(json_at(args, i))));
	if (r == 0)
		r = json_each(json_get(memory, "envs"), add_env, &env);
	if (r == 0)
		r = json_each(json_get(c, "envs"), add_env, &env);
	m.argv = msg_list_span(&argv);
	m.env = msg_list_span(&env);
	cwd = json_get_str(c, "cwd", "");
	if (!*cwd)
		cwd = json_get_str(memory, "workdir", "");
	where = *cwd == '/' || *cwd == '~' ? must_strdup(cwd) : str_printf("~/%s", cwd);
	m.cwd = span_str(where);
	m.user = span_str(user);
	m.stdin_mode = p->is_pty || p->has_stdin ? WIRE_STDIN_STREAM : WIRE_STDIN_CLOSED;
	m.timeout_ms = stream_ms(req);
	m.pty = p->is_pty;
	m.cols = MIN(json_get_u64(size, "cols", 80), (uint64_t)65535);
	m.rows = MIN(json_get_u64(size, "rows", 24), (uint64_t)65535);
	if (r == 0)
		r = frame_send(fd, MSG_EXEC, &m, clock_after_ms(PROC_DIAL_MS));
	msg_list_fini(&argv);
	msg_list_fini(&env);
	return r < 0 && !e->code ? err_set(e, r, "bad-request", "this command cannot be sent: %s", err_name(r)) : r;
}

/* What fails before the first message is told in the stream all the same. */
static int end_early(struct http_res *res, const struct err *e)
{
	res->type = "application/connect+json";
	e2b_put_last(&res->body, e);
	return 0;
}

int e2b_proc_start(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct proc *p;
	uint8_t raw[12];
	char hex[2 * sizeof(raw) + 1], id[32];
	int fd = -1, r = e2b_envelope(req, &j, e);

	if (r == 0 && !json_get_str(json_get(j, "process"), "cmd", NULL))
		r = err_set(e, -EINVAL, "bad-request", "process.cmd is missing");
	if (r == 0 && !proc_room(e2b, e2b_sandbox(req), e))
		r = -ENOSPC;
	if (r == 0)
		r = hub_dial(e2b->hub, e2b_sandbox(req), clock_after_ms(PROC_DIAL_MS), &fd, e);
	if (r < 0)
		return end_early(res, e);
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), hex);
	snprintf(id, sizeof(id), "e2b-%s", hex);
	p = proc_new(e2b, e2b_sandbox(req), id, fd);
	p->is_pty = json_get(j, "pty") != NULL;
	p->has_stdin = json_get_bool(j, "stdin", true);
	p->tag = must_strdup(json_get_str(j, "tag", NULL));
	p->config = config_of(json_get(j, "process"));
	r = send_exec(e2b, req, j, p, fd, e);
	if (r < 0) {
		p->refs = 1;
		proc_unref(&p);
		return end_early(res, e);
	}
	proc_follow(p, req, res, 0);
	proc_enter(p);
	proc_unref(&p);
	return 0;
}

int e2b_proc_connect(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	struct proc *p = NULL;
	int r = e2b_envelope(req, &j, e);

	if (r == 0)
		r = select_proc(ctx, req, j, &p, e);
	if (r < 0)
		return end_early(res, e);
	proc_follow(p, req, res, stream_ms(req));
	proc_unref(&p);
	return 0;
}

/* --- the other calls ---------------------------------------------------------------------------------------------- */

int e2b_proc_list(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	struct found f = { .all = &w };
	struct list *pos;
	size_t i;
	int r;

	jw_open(&w, '{');
	jw_key(&w, "processes");
	jw_open(&w, '[');
	lock_take(&e2b->lock);
	list_each(pos, &e2b->procs) {
		struct proc *p = list_entry(pos, struct proc, node);

		if (!str_eq(p->sandbox, e2b_sandbox(req)))
			continue;
		vec_push(&f.known, must_strdup(p->id));
		if (p->is_ended || !p->pid)
			continue;
		jw_open(&w, '{');
		jw_key(&w, "config");
		jw_raw(&w, span_str(p->config));
		jw_ku64(&w, "pid", p->pid);
		if (p->tag)
			jw_kstr(&w, "tag", p->tag);
		jw_close(&w, '}');
	}
	lock_drop(&e2b->lock);
	r = ask_agent(e2b, e2b_sandbox(req), &f, e);
	jw_close(&w, ']');
	jw_close(&w, '}');
	for (i = 0; i < f.known.len; i++)
		free(f.known.v[i]);
	vec_fini(&f.known);
	return r;
}

static int do_it(struct deed *d, struct http_res *res, struct err *e)
{
	(void)!proc_do(d);
	proc_unref(&d->p);
	if (d->r < 0)
		*e = d->e;
	if (d->r < 0 && !e->code)
		err_sys(e, d->r, "telling the process");
	if (d->r == 0)
		buf_append(&res->body, "{}", 2);
	return d->r;
}

static int begin_deed(void *ctx, struct http_req *req, struct json **ret, struct deed *d, struct err *e)
{
	int r = e2b_body(req, ret, e);

	return r < 0 ? r : select_proc(ctx, req, *ret, &d->p, e);
}

int e2b_proc_input(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(buf_fini) struct buf data;
	struct deed d = { .what = DEED_INPUT };
	const char *text;
	int r = begin_deed(ctx, req, &j, &d, e);

	buf_init(&data, HTTP_BODY_MEMORY);
	if (r < 0)
		return r;
	text = json_get_str(json_get(j, "input"), d.p->is_pty ? "pty" : "stdin", "");
	if (base64_take(&data, span_str(text)) < 0) {
		proc_unref(&d.p);
		return err_set(e, -EINVAL, "bad-request", "input is base64");
	}
	d.data = buf_span(&data);
	return do_it(&d, res, e);
}

int e2b_proc_close(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	struct deed d = { .what = DEED_CLOSE };
	int r = begin_deed(ctx, req, &j, &d, e);

	if (r == 0 && d.p->is_pty) {
		proc_unref(&d.p);
		r = err_set(e, -EIO, "is-pty", "a terminal's input is not closed");
	}
	return r < 0 ? r : do_it(&d, res, e);
}

int e2b_proc_signal(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	struct deed d = { .what = DEED_SIGNAL };
	const char *word;
	int r = begin_deed(ctx, req, &j, &d, e);

	if (r < 0)
		return r;
	word = json_get_str(j, "signal", "");
	d.a = str_eq(word, "SIGNAL_SIGKILL") ? SIGKILL : str_eq(word, "SIGNAL_SIGTERM") ? SIGTERM
							: json_get_u64(j, "signal", 0);
	if (d.a != SIGKILL && d.a != SIGTERM) {
		proc_unref(&d.p);
		return err_set(e, -EINVAL, "bad-request", "signals are SIGNAL_SIGTERM and SIGNAL_SIGKILL");
	}
	return do_it(&d, res, e);
}

int e2b_proc_update(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	struct deed d = { .what = DEED_RESIZE };
	const struct json *size;
	int r = begin_deed(ctx, req, &j, &d, e);

	if (r < 0)
		return r;
	size = json_get(json_get(j, "pty"), "size");
	d.a = MIN(json_get_u64(size, "cols", 80), (uint64_t)65535);
	d.b = MIN(json_get_u64(size, "rows", 24), (uint64_t)65535);
	return do_it(&d, res, e);
}
