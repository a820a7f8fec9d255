/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open, inspect, verify, exec. Nothing that was inside goes anywhere before the whole file was verified: into a file it
 * is written while that has no name; for a pipe a small one waits in memory, and of a large one the sealed bytes wait
 * in a file without a name and are opened twice.
 */
#include "sealtool/tool.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

static int open_spooled(struct tool *t, struct tool_in *in, struct seal_key *key, int out, struct err *e)
{
	AUTO(fd_close) int spool = -1;
	int pass, r = tool_spool(tool_in_source(in), &spool, e);

	for (pass = 0; pass < 2 && r == 0; pass++) {
		AUTO(sealed_close) struct sealed *s = NULL;

		if (lseek(spool, 0, SEEK_SET) < 0)
			return err_sys(e, -errno, "a temporary file");
		r = sealed_open(seal_source_fd(&spool), &s, e);
		if (r == 0)
			r = tool_allowed(t, s, NULL, e);
		if (r == 0)
			r = sealed_body(s, key, pass ? seal_sink_fd(&out) : (struct seal_sink){ 0 }, e);
	}
	return r;
}

static int open_one(struct tool *t, struct tool_in *in, struct seal_key *key, struct err *e)
{
	AUTO(tool_out_fini) struct tool_out out = { .fd = -1 };
	AUTO(sealed_close) struct sealed *s = NULL;
	int r = tool_out(t->output, &out, e);

	if (r < 0)
		return r;
	if (!out.plain_file)
		return open_spooled(t, in, key, out.fd, e);
	r = sealed_open(tool_in_source(in), &s, e);
	if (r == 0)
		r = tool_allowed(t, s, NULL, e);
	if (r == 0)
		r = sealed_body(s, key, seal_sink_fd(&out.fd), e);
	return r < 0 ? r : tool_out_done(&out, e);
}

/* --- files of variables ------------------------------------------------------------------------------------------- */

/* One sealed value of a line; @ret NULL: only whether it opens. */
static int env_value(struct tool *t, struct seal_key *key, const struct env_line *line, struct secret **ret,
		     struct err *e)
{
	AUTO(sealed_close) struct sealed *s = NULL;
	AUTO(str_free) char *name = span_dup(line->name);
	struct span left = line->value;
	int r = sealed_open(seal_source_span(&left), &s, e);

	if (r == 0)
		r = tool_allowed(t, s, name, e);
	if (r == 0)
		r = sealed_value(s, key, TOOL_ENV_MAX, ret, e);
	return r < 0 ? err_wrap(e, "%s", name) : 0;
}

static size_t put(uint8_t *to, size_t at, struct span s)
{
	if (s.len)
		memcpy(to + at, s.p, s.len);
	return at + s.len;
}

/* Sealed text is longer than twice what is in it, so @to has room for quotes. */
static int env_open_lines(struct tool *t, struct seal_key *key, struct span text, uint8_t *to, size_t *ret_len,
			  struct err *e)
{
	struct env_line line;
	unsigned number = 0;
	size_t at = 0, sealed = 0;
	int r;

	while ((r = env_next_sealed(&text, &line, &number, e)) > 0) {
		AUTO(secret_free) struct secret *value = NULL;

		at = put(to, at, line.head);
		if (line.is_value && env_is_sealed(line.value)) {
			r = env_value(t, key, &line, &value, e);
			if (r < 0)
				return r;
			at += env_quote(SPAN(secret_use(value), secret_len(value)), to + at);
			secret_rest(value);
			sealed++;
		} else if (line.is_value) {
			at = put(to, at, line.value);
		}
		at = put(to, at, line.tail);
		if (line.newline)
			to[at++] = '\n';
	}
	*ret_len = at;
	if (r == 0 && !sealed)
		return err_set(e, -EBADMSG, "damaged",
			       "this is no sealed file, and no file of variables that are sealed");
	return r;
}

static int open_env(struct tool *t, struct tool_in *in, struct seal_key *key, struct err *e)
{
	AUTO(secret_free) struct secret *text = NULL, *plain = NULL;
	AUTO(tool_out_fini) struct tool_out out = { .fd = -1 };
	size_t len = 0;
	int r = tool_in_secret(in, TOOL_ENV_MAX, &text, e);

	if (r < 0)
		return r;
	plain = secret_new(2 * secret_len(text) + 2);
	if (!plain)
		return err_sys(e, -ENOMEM, "opening");
	r = env_open_lines(t, key, SPAN(secret_use(text), secret_len(text)), secret_use(plain), &len, e);
	secret_rest(text);
	if (r == 0)
		r = tool_out(t->output, &out, e);
	if (r == 0) {
		r = seal_sink_fd(&out.fd).write(&out.fd, SPAN(secret_use(plain), len));
		secret_rest(plain);
		if (r < 0)
			err_sys(e, r, "writing");
	}
	secret_rest(plain);
	return r < 0 ? r : tool_out_done(&out, e);
}

int verb_open(struct tool *t)
{
	AUTO(seal_key_free) struct seal_key *key = NULL;
	AUTO(tool_in_fini) struct tool_in in = { .fd = -1 };
	const char *path = t->argc ? t->argv[0] : NULL;
	struct err e = ERR_NULL;
	int r;

	if (t->argc > 1)
		return tool_usage(t, "one file at a time");
	r = tool_my_key(t, &key, &e);
	if (r == 0)
		r = tool_in(path, &in, &e);
	if (r == 0 && !t->output && isatty(1))
		tool_note(t, "the value is going onto this terminal: its window and its logs will have it");
	if (r == 0)
		r = in.is_env ? open_env(t, &in, key, &e) : open_one(t, &in, key, &e);
	return r < 0 ? tool_fail(t, path, &e) : TOOL_OK;
}

/* --- inspect and verify ------------------------------------------------------------------------------------------- */

typedef int look_fn(struct tool *t, const char *file, struct sealed *s, const char *name, struct err *e);

static int look_env(struct tool *t, const char *file, struct tool_in *in, look_fn *look, struct err *e)
{
	AUTO(secret_free) struct secret *text = NULL;
	struct env_line line;
	struct span left;
	unsigned number = 0;
	size_t sealed = 0;
	int r = tool_in_secret(in, TOOL_ENV_MAX, &text, e);

	if (r < 0)
		return r;
	left = SPAN(secret_use(text), secret_len(text));
	while ((r = env_next_sealed(&left, &line, &number, e)) > 0) {
		AUTO(sealed_close) struct sealed *s = NULL;
		AUTO(str_free) char *name = NULL;
		struct span value = line.value;

		if (!line.is_value || !env_is_sealed(line.value))
			continue;
		name = span_dup(line.name);
		r = sealed_open(seal_source_span(&value), &s, e);
		if (r == 0)
			r = look(t, file, s, name, e);
		if (r < 0) {
			err_wrap(e, "%s", name);
			break;
		}
		sealed++;
	}
	secret_rest(text);
	if (r == 0 && !sealed)
		return err_set(e, -EBADMSG, "damaged",
			       "this is no sealed file, and no file of variables that are sealed");
	return r;
}

/* All files; the status is that of the first that is not in order. */
static int look_all(struct tool *t, look_fn *look)
{
	static char *standard[] = { (char *)(uintptr_t) "-" };
	char **files = t->argc ? t->argv : standard;
	int i, n = t->argc ? t->argc : 1, status = TOOL_OK;

	for (i = 0; i < n; i++) {
		AUTO(tool_in_fini) struct tool_in in = { .fd = -1 };
		AUTO(sealed_close) struct sealed *s = NULL;
		struct err e = ERR_NULL;
		int r = tool_in(files[i], &in, &e), failed;

		if (r == 0 && in.is_env) {
			r = look_env(t, in.name, &in, look, &e);
		} else if (r == 0) {
			r = sealed_open(tool_in_source(&in), &s, &e);
			if (r == 0)
				r = look(t, in.name, s, NULL, &e);
		}
		if (r < 0) {
			failed = tool_fail(t, files[i], &e);
			status = status ? status : failed;
		}
	}
	return status;
}

static int inspect(struct tool *t, const char *file, struct sealed *s, const char *name, struct err *e)
{
	uint64_t len;
	int r = sealed_walk(s, &len, e);

	(void)name;
	if (r < 0)
		return r;
	if (t->json) {
		tool_show_json(stdout, file, s, len);
		putchar('\n');
		return 0;
	}
	if (t->argc > 1)
		printf("file       %s\n", file);
	tool_show(stdout, s, len);
	putchar('\n');
	return 0;
}

int verb_inspect(struct tool *t)
{
	return look_all(t, inspect);
}

static struct seal_key *verify_key; /* of this one command */

static int verify(struct tool *t, const char *file, struct sealed *s, const char *name, struct err *e)
{
	uint64_t len;
	int r;

	if (!t->for_what.n && !t->hosts.n)
		t->any_scope = true;
	r = tool_allowed(t, s, name, e);
	if (r == 0)
		r = verify_key ? sealed_body(s, verify_key, (struct seal_sink){ 0 }, e) : sealed_walk(s, &len, e);
	if (r < 0)
		return r;
	if (t->json) {
		fputs("{\"file\":", stdout);
		tool_quote(stdout, file);
		printf(",\"name\":\"%s\",\"opens\":%s,\"signed\":%s}\n", sealed_policy(s)->name,
		       verify_key ? "true" : "null", sealed_signer(s) ? "true" : "false");
		return 0;
	}
	printf("%s: %s %s%s\n", file, sealed_policy(s)->name, verify_key ? "opens" : "is whole",
	       sealed_signer(s) ? ", and its signature is right" : "");
	return 0;
}

int verb_verify(struct tool *t)
{
	struct err e = ERR_NULL;
	int status;

	if ((t->key.n || getenv("BERTH_SEAL_KEY")) && tool_my_key(t, &verify_key, &e) < 0)
		return tool_fail(t, NULL, &e);
	status = look_all(t, verify);
	seal_key_free(&verify_key);
	return status;
}

/* --- exec --------------------------------------------------------------------------------------------------------- */

static int set_variable(const char *name, struct secret *value, struct err *e)
{
	size_t len = secret_len(value);
	char *copy = span_dup(SPAN(secret_use(value), len)); /* the command will have it in clear anyway */
	int r = 0;

	secret_rest(value);
	if (strchr(name, '-') || strchr(name, '.'))
		r = err_set(e, -EINVAL, "bad-name", "%s is no name of a variable", name);
	else if (strlen(copy) != len)
		r = err_set(e, -EINVAL, "bad-value", "%s: a variable cannot have a zero byte", name);
	else if (setenv(name, copy, 1) < 0)
		r = err_sys(e, -errno, "%s", name);
	wipe(copy, len);
	free(copy);
	return r;
}

static int exec_value(struct tool *t, const char *file, struct sealed *s, const char *name, struct err *e)
{
	AUTO(secret_free) struct secret *value = NULL;
	int r = tool_allowed(t, s, name, e);

	(void)file;
	if (r == 0)
		r = sealed_value(s, verify_key, 128 * 1024 - 1, &value, e);
	return r < 0 ? r : set_variable(sealed_policy(s)->name, value, e);
}

int verb_exec(struct tool *t)
{
	struct rlimit core;
	struct err e = ERR_NULL;
	int r;

	if (!t->argc || !t->command || !t->command[0])
		return tool_usage(t, "which files, and which command?");
	if (tool_my_key(t, &verify_key, &e) < 0)
		return tool_fail(t, NULL, &e);
	r = look_all(t, exec_value);
	seal_key_free(&verify_key);
	if (r)
		return r;
	if (getrlimit(RLIMIT_CORE, &core) == 0) { /* the command's own affair */
		core.rlim_cur = core.rlim_max;
		(void)!setrlimit(RLIMIT_CORE, &core);
	}
	unsetenv("BERTH_SEAL_KEY");
	execvp(t->command[0], t->command);
	tool_note(t, "%s: %s", t->command[0], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
