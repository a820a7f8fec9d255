/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What E2B's code interpreter asks of port 49999: a program of ours that drives kernels of Jupyter. It is no part of a
 * template: its text goes in as an argument when the port is asked for and nothing listens there. So it is as new as
 * the daemon, and costs nobody anything who does not use it. Two that are started at a time are one: the second finds
 * the port taken and ends.
 */
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "host/api/e2b/e2b.h"
#include "seal/digest.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { DIAL_MS = 10000, READY_MS = 60000, TEXT_MAX = 256 * 1024, SAID_MAX = 4096 };

static int add_pair(void *ctx, const char *key, const struct json *value)
{
	AUTO(str_free) char *pair = str_printf("%s=%s", key, json_text(value) ? json_text(value) : "");

	return msg_list_str(ctx, span_str(pair));
}

static int add_text(struct e2b *e2b, const char *name, struct msg_list *to)
{
	AUTO(str_free) char *path = str_printf("%s/%s", e2b->interpreter_dir, name);
	AUTO(buf_fini) struct buf b;
	int r;

	buf_init(&b, TEXT_MAX);
	r = io_read_file(AT_FDCWD, path, &b);
	return r < 0 ? r : msg_list_str(to, buf_span(&b));
}

static int send_start(struct e2b *e2b, const char *sandbox, int fd, struct err *e)
{
	AUTO(json_free) struct json *memory = NULL;
	struct msg_list argv, env;
	struct msg_EXEC m = { .cwd = span_str("~/"), .stdin_mode = WIRE_STDIN_NONE, .credit = 0x40000000,
			      .generation = WIRE_GENERATION };
	uint8_t raw[12];
	char hex[2 * sizeof(raw) + 1], id[48];
	int r = e2b_memory(e2b, sandbox, &memory, e);

	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), hex);
	snprintf(id, sizeof(id), "interpreter-%s", hex);
	msg_list_init(&argv, FRAME_MAX / 2);
	msg_list_init(&env, FRAME_MAX / 2);
	if (r == 0)
		r = msg_list_str(&argv, span_str("/usr/bin/python3"));
	if (r == 0)
		r = msg_list_str(&argv, span_str("-c"));
	if (r == 0)
		r = add_text(e2b, "interpreter.py", &argv);
	if (r == 0)
		r = add_text(e2b, "kernel.py", &argv);
	if (r == 0)
		r = msg_list_str(&env, span_str("PYDEVD_DISABLE_FILE_VALIDATION=1"));
	if (r == 0)
		r = json_each(json_get(memory, "envs"), add_pair, &env);
	m.id = span_str(id);
	m.argv = msg_list_span(&argv);
	m.env = msg_list_span(&env);
	if (r == 0)
		r = frame_send(fd, MSG_EXEC, &m, clock_after_ms(DIAL_MS));
	msg_list_fini(&argv);
	msg_list_fini(&env);
	return r < 0 && !e->code ? err_sys(e, r, "starting the code interpreter") : r;
}

/* The last line of what it said is the reason. */
static int refused(const char *said, struct err *e)
{
	AUTO(str_free) char *copy = must_strdup(said);
	size_t n = strlen(copy);
	const char *line;

	while (n && copy[n - 1] == '\n')
		copy[--n] = '\0';
	line = strrchr(copy, '\n');
	return err_set(e, -ENOSYS, "no-interpreter",
		       "this sandbox has no code interpreter (its template needs python3-ipykernel, as "
		       "code-interpreter-v1 has): %.200s",
		       line ? line + 1 : copy);
}

static int await_ready(int fd, struct err *e)
{
	uint64_t until = clock_after_ms(READY_MS);
	char said[SAID_MAX + 1] = "";
	size_t len = 0;
	struct frame f;
	struct buf in;
	int r = 0;

	buf_init(&in, FRAME_MAX + FRAME_HEADER);
	while (r == 0 && !strstr(said, "listening\n")) {
		struct msg_OUTPUT out;

		r = frame_recv(fd, &in, &f, until, e);
		if (r == 0 && f.type == MSG_ERROR) {
			(void)!frame_refused(&f, e);
			snprintf(said, sizeof(said), "%s", e->text);
			*e = ERR_NULL;
			r = refused(said, e);
		} else if (r == 0 && f.type == MSG_EXIT) {
			r = refused(said, e);
		} else if (r == 0 && f.type == MSG_OUTPUT) {
			r = msg_decode(f.type, f.payload, &out, e);
			if (r == 0 && out.data.len + len > SAID_MAX)
				len = 0;
			if (r == 0) {
				size_t n = MIN(out.data.len, (size_t)SAID_MAX);

				memcpy(said + len, out.data.p, n);
				len += n;
				said[len] = '\0';
			}
		}
		if (r == 0)
			frame_consume(&in, &f);
	}
	buf_fini(&in);
	return r < 0 && !e->code ? err_sys(e, r, "starting the code interpreter") : r;
}

int e2b_interpreter(struct e2b *e2b, const char *sandbox, struct err *e)
{
	AUTO(fd_close) int fd = -1;
	int r = hub_dial_as(e2b->hub, sandbox, WIRE_EXEC, clock_after_ms(DIAL_MS), &fd, e);

	if (r == 0)
		r = send_start(e2b, sandbox, fd, e);
	return r < 0 ? r : await_ready(fd, e);
}
