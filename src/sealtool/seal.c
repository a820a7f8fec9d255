/* SPDX-License-Identifier: Apache-2.0 */
/* seal and rewrap: single values and files as streams, files of variables value by value. */
#include "sealtool/tool.h"

#include "base/str.h"

#include <errno.h>
#include <libgen.h>
#include <unistd.h>

/* What both need: to whom, and who signs. */
struct makers {
	struct seal_pub to[SEAL_TO_MAX];
	size_t n_to;
	struct seal_key *signer;
};

static void makers_fini(struct makers *m)
{
	seal_key_free(&m->signer);
}

static int get_makers(struct tool *t, struct makers *ret, struct err *e)
{
	int n = tool_pubs(&t->to, ret->to, e);

	if (n < 0)
		return n;
	ret->n_to = (size_t)n;
	return t->sign ? tool_key(t, t->sign, &ret->signer, e) : 0;
}

static struct seal_job job_of(const struct makers *m, const struct seal_policy *p, enum seal_form form)
{
	return (struct seal_job){ .policy = p, .to = m->to, .n_to = m->n_to, .signer = m->signer, .form = form };
}

/* Says with --json what was made. */
static int report(struct tool *t, const char *path)
{
	AUTO(sealed_close) struct sealed *s = NULL;
	AUTO(tool_in_fini) struct tool_in in = { .fd = -1 };
	struct err e = ERR_NULL;
	uint64_t len = 0;

	if (!t->json)
		return 0;
	if (tool_in(path, &in, &e) < 0 || in.is_env || sealed_open(tool_in_source(&in), &s, &e) < 0 ||
	    sealed_walk(s, &len, &e) < 0)
		return in.is_env ? 0 : tool_fail(t, path, &e);
	tool_show_json(stdout, path, s, len);
	putchar('\n');
	return 0;
}

/* The last byte that went by, for a hint. */
struct tail {
	struct seal_source from;
	uint64_t len;
	uint8_t last;
};

static ssize_t read_tail(void *ctx, void *p, size_t len)
{
	struct tail *t = ctx;
	ssize_t n = t->from.read(t->from.ctx, p, len);

	if (n > 0) {
		t->len += (uint64_t)n;
		t->last = ((uint8_t *)p)[n - 1];
	}
	return n;
}

static const char *name_of(struct tool *t, const char *path, char *copy, size_t size)
{
	if (t->name)
		return t->name;
	if (!path || str_eq(path, "-") || str_copy(copy, size, path) < 0)
		return NULL;
	copy = basename(copy);
	return seal_name_ok(copy) ? copy : NULL;
}

static int seal_one(struct tool *t, const char *path, struct makers *m, struct err *e)
{
	AUTO(seal_policy_fini) struct seal_policy policy = { .name = "" };
	AUTO(tool_out_fini) struct tool_out out = { .fd = -1 };
	AUTO(tool_in_fini) struct tool_in in = { .fd = -1 };
	AUTO(secret_free) struct secret *typed = NULL;
	struct tail tail = { .len = 0 };
	struct seal_job job;
	struct span left;
	char copy[4096];
	const char *name = name_of(t, path, copy, sizeof(copy));
	bool standard = !path || str_eq(path, "-");
	int r = name ? tool_policy(t, name, &policy, e) : err_set(e, -EINVAL, "no-name", "--name NAME is needed");

	if (r < 0 || (r = tool_out(t->output, &out, e)) < 0)
		return r;
	if (standard && isatty(0) && tool_type("value: ", &typed) == 0) {
		left = SPAN(secret_use(typed), secret_len(typed));
		tail.from = seal_source_span(&left);
	} else {
		r = tool_in(path, &in, e);
		if (r < 0)
			return r;
		tail.from = tool_in_source(&in);
	}
	job = job_of(m, &policy, t->binary ? SEAL_BINARY : SEAL_TEXT);
	r = seal_stream(&job, (struct seal_source){ read_tail, &tail }, seal_sink_fd(&out.fd), e);
	if (r == 0)
		r = tool_out_done(&out, e);
	if (r == 0 && standard && !typed && tail.last == '\n' && tail.len < 1024)
		tool_note(t, "the value ends with a newline, which is part of it now (printf %%s \"$VALUE\" leaves it "
			     "away)");
	return r;
}

/* --- files of variables ------------------------------------------------------------------------------------------- */

struct env_job {
	struct tool *t;
	struct makers *m;
	struct seal_key *key; /* rewrap: opens what is there */
	struct buf *out;      /* of sealed values: nothing in it is secret but comments, which are not */
	size_t sealed, kept;
};

static int put(struct buf *b, struct span s)
{
	return s.len ? buf_append(b, s.p, s.len) : 0;
}

static int env_seal_value(struct env_job *j, const struct env_line *line, struct err *e)
{
	AUTO(seal_policy_fini) struct seal_policy policy = { .name = "" };
	AUTO(secret_free) struct secret *value = secret_new(line->value.len);
	AUTO(str_free) char *name = span_dup(line->name);
	struct seal_job job;
	size_t n;
	int r;

	if (!value)
		return err_sys(e, -ENOMEM, "sealing");
	n = env_plain(line->value, secret_use(value));
	secret_rest(value);
	secret_cut(value, n);
	r = tool_policy(j->t, name, &policy, e);
	if (r < 0)
		return err_wrap(e, "%s", name);
	job = job_of(j->m, &policy, SEAL_WORD);
	j->sealed++;
	return seal_secret(&job, value, j->out, e);
}

/* The same value to other keys. @want_name: of its line, NULL: any. */
static int rewrap_value(struct env_job *j, struct sealed *s, const char *want_name, enum seal_form form, struct err *e)
{
	AUTO(secret_free) struct secret *value = NULL;
	struct seal_use use = { .name = want_name, .any = true };
	struct seal_job job = job_of(j->m, sealed_policy(s), form);
	int r;

	if (sealed_signer(s) && !j->m->signer && !j->t->unsigned_)
		return err_set(e, -EINVAL, "signed",
			       "it is signed, and a new signature is needed: --sign KEYFILE or --unsigned");
	use.now_ms = 0; /* what has expired stays expired */
	r = seal_policy_allows(sealed_policy(s), &use, e);
	if (r == 0)
		r = sealed_value(s, j->key, SECRET_MAX, &value, e);
	if (r == 0)
		r = seal_secret(&job, value, j->out, e);
	j->sealed++;
	return r;
}

static int env_rewrap_value(struct env_job *j, const struct env_line *line, struct err *e)
{
	AUTO(sealed_close) struct sealed *s = NULL;
	AUTO(str_free) char *name = span_dup(line->name);
	struct span left = line->value;
	int r = sealed_open(seal_source_span(&left), &s, e);

	if (r == 0)
		r = rewrap_value(j, s, name, SEAL_WORD, e);
	return r < 0 ? err_wrap(e, "%s", name) : 0;
}

static int env_lines(struct env_job *j, struct span text, struct err *e)
{
	struct env_line line;
	unsigned number = 0;
	int r;

	while ((r = (j->key ? env_next_sealed : env_next)(&text, &line, &number, e)) > 0) {
		bool sealed = line.is_value && env_is_sealed(line.value);

		put(j->out, line.head);
		r = 0;
		if (line.is_value && sealed == !!j->key) {
			r = j->key ? env_rewrap_value(j, &line, e) : env_seal_value(j, &line, e);
		} else if (line.is_value) {
			put(j->out, line.value);
			j->kept++;
		}
		if (r < 0)
			return r;
		put(j->out, line.tail);
		if (line.newline)
			buf_append(j->out, "\n", 1);
	}
	return r < 0 ? r : j->out->failed ? err_sys(e, -E2BIG, "the sealed file") : 0;
}

/* What buf @b has becomes the output. */
static int write_out(struct tool *t, struct buf *b, struct err *e)
{
	AUTO(tool_out_fini) struct tool_out out = { .fd = -1 };
	int r = tool_out(t->output, &out, e);

	if (r == 0) {
		r = seal_sink_fd(&out.fd).write(&out.fd, buf_span(b));
		if (r < 0)
			err_sys(e, r, "writing");
	}
	return r < 0 ? r : tool_out_done(&out, e);
}

static int env_file(struct env_job *j, struct tool_in *in, struct err *e)
{
	AUTO(secret_free) struct secret *text = NULL;
	AUTO(buf_fini) struct buf out;
	int r;

	buf_init(&out, 64 * 1024 * 1024);
	r = tool_in_secret(in, TOOL_ENV_MAX * (j->key ? 3 : 1), &text, e);
	if (r < 0)
		return r;
	j->out = &out;
	r = env_lines(j, SPAN(secret_use(text), secret_len(text)), e);
	secret_rest(text);
	if (r == 0 && j->key && !j->sealed)
		r = err_set(e, -EBADMSG, "damaged", "this is no sealed file, and no file of variables that are sealed");
	return r < 0 ? r : write_out(j->t, &out, e);
}

static int seal_env(struct tool *t, const char *path, struct makers *m, struct err *e)
{
	AUTO(tool_in_fini) struct tool_in in = { .fd = -1 };
	struct env_job j = { .t = t, .m = m };
	int r;

	if (t->name)
		return err_set(e, -EINVAL, "bad-name", "with --env each value has the name of its variable");
	if (!t->deliver)
		t->deliver = t->hosts.n ? "broker" : "env";
	r = tool_in(path, &in, e);
	if (r == 0)
		r = env_file(&j, &in, e);
	if (r == 0)
		tool_note(t, "%zu values sealed%s", j.sealed, j.kept ? ", the others were and are as they were" : "");
	return r;
}

/* An operand that is no file looks like the value itself. */
static bool is_value(const char *path)
{
	return path && !str_eq(path, "-") && access(path, F_OK) < 0 && errno == ENOENT;
}

int verb_seal(struct tool *t)
{
	AUTO(makers_fini) struct makers m = { .n_to = 0 };
	const char *path = t->argc ? t->argv[0] : NULL;
	struct err e = ERR_NULL;
	int r;

	if (t->argc > 1)
		return tool_usage(t, "one file at a time");
	if (is_value(path))
		return tool_usage(
			t, "there is no such file. If it is the value: that does not belong on a command line, where "
			   "the shell's history and ps have it. Pipe it: printf %%s \"$VALUE\" | berth-seal …");
	if (!t->to.n)
		return tool_usage(t, "--to KEY: to whom?");
	if (t->json && !t->output)
		return tool_usage(t, "--json needs -o OUT");
	r = get_makers(t, &m, &e);
	if (r == 0)
		r = t->env ? seal_env(t, path, &m, &e) : seal_one(t, path, &m, &e);
	return r < 0 ? tool_fail(t, path, &e) : report(t, t->output);
}

/* A large file is opened into a pipe's place: it is verified whole before the first byte is sealed again. */
static int rewrap_stream(struct tool *t, struct sealed *s, struct env_job *j, struct err *e)
{
	AUTO(buf_fini) struct buf out;
	int r;

	buf_init(&out, 2 * SECRET_MAX);
	j->out = &out;
	r = rewrap_value(j, s, NULL, sealed_form(s), e);
	if (r == -E2BIG)
		err_set(e, r, "too-large", "it is over %d MiB: open it and seal it again", SECRET_MAX / 1024 / 1024);
	return r < 0 ? r : write_out(t, &out, e);
}

int verb_rewrap(struct tool *t)
{
	AUTO(makers_fini) struct makers m = { .n_to = 0 };
	AUTO(seal_key_free) struct seal_key *key = NULL;
	AUTO(tool_in_fini) struct tool_in in = { .fd = -1 };
	AUTO(sealed_close) struct sealed *s = NULL;
	const char *path = t->argc ? t->argv[0] : NULL;
	struct env_job j = { .t = t, .m = &m };
	struct err e = ERR_NULL;
	int r;

	if (t->argc > 1)
		return tool_usage(t, "one file at a time");
	if (!t->to.n)
		return tool_usage(t, "--to KEY: to whom?");
	if (t->json && !t->output)
		return tool_usage(t, "--json needs -o OUT");
	if ((r = get_makers(t, &m, &e)) < 0 || (r = tool_my_key(t, &key, &e)) < 0 || (r = tool_in(path, &in, &e)) < 0)
		return tool_fail(t, path, &e);
	j.key = key;
	r = in.is_env ? env_file(&j, &in, &e) : sealed_open(tool_in_source(&in), &s, &e);
	if (r == 0 && !in.is_env)
		r = rewrap_stream(t, s, &j, &e);
	if (r < 0)
		return tool_fail(t, path, &e);
	tool_note(t, "sealed to other keys. The secret itself is what it was: whoever could open the old file still "
		     "can, and "
		     "when a key was lost, the value must be changed where it came from");
	return report(t, t->output);
}
