/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands. Two ways: a JSON request that waits for the end and answers everything at once (bounded), and an upgraded
 * connection on which client and agent speak the wire's frames with nothing but a relay between them: the agent reports
 * an end only after the host has acknowledged what the command changed, so the relay has nothing to add.
 */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/api/leak.h"
#include "json/json.h"
#include "loop/relay.h"
#include "seal/digest.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>

enum { DIAL_MS = 10000, STDIN_MAX = WIRE_STDIN_WINDOW };
enum { WAIT_MAX_MS = 3600 * 1000, LATE_MS = 30000 };

/* --- the upgraded stream ------------------------------------------------------------------------------------------ */

struct stream {
	struct loop *loop;
	int agent_fd;
	struct out_leaks *leaks;
	void *handle;
};

static void stream_over(void *ctx)
{
	struct stream *s = ctx;

	fd_close(&s->agent_fd);
	http_upgrade_end(s->handle);
	free(s);
}

static void stream_drop(void *ctx)
{
	struct stream *s = ctx;

	fd_close(&s->agent_fd);
	out_leaks_free(&s->leaks);
	free(s);
}

static void stream_begin(void *ctx, int fd, struct span first, void *handle)
{
	struct stream *s = ctx;

	s->handle = handle;
	relay_start_filtered(s->loop, fd, s->agent_fd, first.p, first.len, out_leaks_filter(&s->leaks), stream_over, s);
}

int v1_upgrade_wanted(struct http_req *req, struct err *e)
{
	if (str_eq(http_header(req, "Upgrade"), "berth-stream"))
		return 0;
	return err_set(e, -EINVAL, "upgrade-needed", "this resource needs the header Upgrade: berth-stream");
}

void v1_relay(struct api *api, struct http_res *res, int fd, struct out_leaks *leaks)
{
	struct stream *s = NEW(struct stream);

	s->loop = api->loop;
	s->agent_fd = fd;
	s->leaks = leaks;
	res->upgrade = stream_begin;
	res->upgrade_drop = stream_drop;
	res->ctx = s;
}

int v1_stream(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	bool attaches = str_eq(http_query(req, "attach"), "1");
	int fd, r = v1_upgrade_wanted(req, e);

	if (r == 0 && attaches && http_query(req, "secrets"))
		r = err_set(e, -EINVAL, "bad-request", "secrets are for a command that begins");
	if (r == 0)
		r = hub_dial(api->hub, http_segment(req, 0), clock_after_ms(DIAL_MS), &fd, e);
	if (r < 0)
		return r;
	if (!attaches) /* who comes back to a process gives it nothing */
		r = hub_send_secrets(api->hub, http_segment(req, 0), fd,
			     &(struct hub_secrets){ http_query(req, "secrets"), http_who(req)->id,
						    http_query(req, "command") },
			     e);
	if (r == 0)
		v1_relay(api, res, fd, out_leaks_new(api->hub, http_segment(req, 0)));
	else
		fd_close(&fd);
	return r;
}

/* --- a command in one request ------------------------------------------------------------------------------------- */

static int add_env(void *ctx, const char *key, const struct json *value)
{
	AUTO(str_free) char *pair = str_printf("%s=%s", key, json_text(value));

	return msg_list_str(ctx, span_str(pair));
}

static int send_exec(int fd, const struct json *j, uint64_t until, struct err *e)
{
	const struct json *argv = json_get(j, "argv");
	const char *in = json_get_str(j, "stdin", NULL);
	struct msg_list args, env, limits;
	struct msg_EXEC m = { .stdin_mode = in ? WIRE_STDIN_STREAM : WIRE_STDIN_NONE, .credit = 0x40000000 };
	uint64_t mask = json_get_u64(j, "umask", UINT64_MAX);
	uint8_t raw[12];
	char id[2 * sizeof(raw) + 1];
	size_t i;
	int r = 0;

	if (json_len(argv) == 0)
		return err_set(e, -EINVAL, "bad-request", "argv must name a program");
	if (mask != UINT64_MAX && mask > 0777)
		return err_set(e, -EINVAL, "bad-request", "umask is at most 511");
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), id);
	msg_list_init(&args, FRAME_MAX / 2);
	msg_list_init(&env, FRAME_MAX / 2);
	msg_list_init(&limits, 4096);
	for (i = 0; r == 0 && i < json_len(argv); i++)
		r = msg_list_str(&args, span_str(json_text(json_at(argv, i))));
	if (r == 0)
		r = json_each(json_get(j, "env"), add_env, &env);
	if (r == 0)
		r = json_each(json_get(j, "limits"), add_env, &limits);
	m.id = span_str(id);
	m.argv = msg_list_span(&args);
	m.env = msg_list_span(&env);
	m.cwd = span_str(json_get_str(j, "cwd", ""));
	m.user = span_str(json_get_str(j, "user", ""));
	m.timeout_ms = json_get_u64(j, "timeout_ms", 0);
	m.generation = WIRE_GENERATION;
	m.umask = mask == UINT64_MAX ? 0 : WIRE_UMASK_SET | mask;
	m.rlimits = msg_list_span(&limits);
	if (r == 0)
		r = frame_send(fd, MSG_EXEC, &m, until);
	msg_list_fini(&args);
	msg_list_fini(&env);
	msg_list_fini(&limits);
	return r < 0 ? err_set(e, r, "bad-request", "this command cannot be sent: %s", err_name(r)) : 0;
}

static int send_stdin(int fd, const char *in, uint64_t until)
{
	struct msg_STDIN_END end = { .offset = strlen(in) };
	struct msg_STDIN m = { .offset = 0 };
	int r = 0;

	while (r == 0 && m.offset < end.offset) {
		m.data = SPAN(in + m.offset, MIN(end.offset - m.offset, (size_t)65536));
		r = frame_send(fd, MSG_STDIN, &m, until);
		m.offset += m.data.len;
	}
	return r < 0 ? r : frame_send(fd, MSG_STDIN_END, &end, until);
}

static int send_secrets(struct api *api, struct http_req *req, const struct json *j, int fd, struct err *e)
{
	AUTO(buf_fini) struct buf names;
	const struct json *list = json_get(j, "secrets");
	struct hub_secrets what = { .who = http_who(req)->id, .command = json_text(json_at(json_get(j, "argv"), 0)) };
	size_t i;

	buf_init(&names, 16384);
	for (i = 0; i < json_len(list); i++)
		buf_printf(&names, "%s%s", i ? "," : "", json_text(json_at(list, i)));
	if (names.failed)
		return err_set(e, -E2BIG, "bad-request", "too many secrets");
	what.names = buf_str(&names);
	return hub_send_secrets(api->hub, http_segment(req, 0), fd, &what, e);
}

/* Only the start needs a thread; the end is waited for on the loop (wait.c). */
int v1_exec(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	AUTO(json_free) struct json *j = NULL;
	AUTO(fd_close) int fd = -1;
	uint64_t until = clock_after_ms(WAIT_MAX_MS), soon = clock_after_ms(DIAL_MS), timeout_ms;
	const char *in;
	int r = v1_body(req, "argv:as env:os cwd:s user:s stdin:s timeout_ms:u umask:u limits:os secrets:as", &j, e);

	if (r < 0)
		return r;
	timeout_ms = json_get_u64(j, "timeout_ms", 0);
	/* An agent that never says the end must not keep a request for an hour. */
	if (timeout_ms && timeout_ms < WAIT_MAX_MS)
		until = clock_after_ms((unsigned)timeout_ms + LATE_MS);
	in = json_get_str(j, "stdin", NULL);
	if (in && strlen(in) > STDIN_MAX)
		return err_set(e, -E2BIG, "stdin-too-long", "stdin of at most %d bytes; stream longer ones", STDIN_MAX);
	r = hub_dial(api->hub, http_segment(req, 0), soon, &fd, e);
	if (r == 0)
		r = send_secrets(api, req, j, fd, e);
	if (r == 0)
		r = send_exec(fd, j, soon, e);
	if (r == 0 && in)
		r = send_stdin(fd, in, clock_after_ms(LATE_MS));
	if (r < 0)
		return r;
	wait_begin(api, req, res, fd_take(&fd), out_leaks_new(api->hub, http_segment(req, 0)), until);
	return HTTP_LATER;
}

/* --- what runs ---------------------------------------------------------------------------------------------------- */

int v1_link(struct api *api, struct http_req *req, struct ws **ret_ws, struct link **ret, struct err *e)
{
	int r = hub_ws(api->hub, http_segment(req, 0), ret_ws, e);

	if (r < 0)
		return r;
	*ret = ws_link(*ret_ws);
	return *ret ? 0 : err_set(e, -EAGAIN, "not-running", "the sandbox does not run");
}

static void put_procs(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct json_writer *w = ctx;
	const struct msg_PS_IS *m = msg;
	struct msg_PROC proc;
	struct span list, arg;

	(void)e;
	if (result < 0 || type != MSG_PS_IS)
		return;
	for (list = m->procs; msg_rec_next(&list, MSG_PROC, &proc);) {
		jw_open(w, '{');
		jw_key(w, "id");
		jw_str(w, proc.id);
		jw_ku64(w, "pid", proc.pid);
		jw_kstr(w, "state", proc.state ? "ended" : "running");
		jw_ku64(w, "code", proc.code);
		jw_key(w, "start_ns");
		jw_i64(w, proc.start_ns);
		jw_key(w, "argv");
		jw_open(w, '[');
		while (msg_strv_next(&proc.argv, &arg))
			jw_str(w, arg);
		jw_close(w, ']');
		jw_close(w, '}');
	}
}

int v1_ps(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct json_writer w = { .b = &res->body };
	AUTO(ws_unref) struct ws *ws = NULL;
	struct msg_PS m = { .call = 0 };
	struct link *link;
	int r = v1_link(ctx, req, &ws, &link, e);

	if (r < 0)
		return r;
	jw_open(&w, '[');
	r = link_wait(link, MSG_PS, &m, clock_after_ms(DIAL_MS), put_procs, &w, e);
	jw_close(&w, ']');
	buf_append(&res->body, "\n", 1);
	return r;
}

int v1_signal(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(ws_unref) struct ws *ws = NULL;
	struct msg_KILL m = { .id = span_str(http_segment(req, 1)) };
	struct link *link;
	int r = v1_body(req, "signal:u tree:b", &j, e);

	if (r == 0)
		r = v1_link(ctx, req, &ws, &link, e);
	if (r < 0)
		return r;
	m.signal = json_get_u64(j, "signal", 15);
	m.tree = json_get_bool(j, "tree", false);
	if (m.signal > 64)
		return err_set(e, -EINVAL, "bad-request", "signals are 0 to 64");
	r = link_wait(link, MSG_KILL, &m, clock_after_ms(DIAL_MS), NULL, NULL, e);
	if (r == 0)
		buf_append(&res->body, "{}\n", 3);
	return r;
}
