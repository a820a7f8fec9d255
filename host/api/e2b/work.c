/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps themselves, inside of a sandbox, and the way of its root to a template: tar inside writes what there is,
 * the privileged process unpacks it behind its fence. What is mounted in every sandbox (/proc, /tmp, /workspace, …) is
 * no part of a template.
 */
#include "host/api/e2b/work.h"

#include "base/io.h"
#include "base/str.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { GZIP_1 = 0x1f, GZIP_2 = 0x8b };

#define SHELL "[ -x /bin/bash ] && exec /bin/bash -l -c \"$1\"; exec /bin/sh -l -c \"$1\""

static const char user_script[] = "id -u \"$1\" >/dev/null 2>&1 || useradd -m -s /bin/bash \"$1\" || adduser -D \"$1\"";

static const char workdir_script[] = "[ -d \"$1\" ] || { mkdir -p \"$1\" && chown \"$2:\" \"$1\"; }";

/* $1 source in the archive, $2 where to, $3 whose, $4 mode or "", $5 the working directory, $6 "z" or "". */
static const char copy_script[] =
	"set -e\n"
	"[ -d /var/tmp ] || { mkdir -p /var/tmp && chmod 1777 /var/tmp; }\n"
	"all=$(mktemp -d /var/tmp/copy-XXXXXX)\n"
	"trap 'rm -rf \"$all\"' EXIT\n"
	"tar -x$6 -f - -C \"$all\"\n"
	"from=$all${1:+/$1} to=$2\n"
	"case $to in /*) ;; *) to=$5/$to ;; esac\n"
	"if [ ! -e \"$from\" ] && [ ! -L \"$from\" ]; then echo \"no $1 in what was uploaded\" >&2; exit 1; fi\n"
	"chown -hR \"$3\" \"$from\"\n"
	"if [ -n \"$4\" ]; then find \"$from\" ! -type l -exec chmod \"$4\" {} +; fi\n"
	"if [ -d \"$from\" ] && [ ! -L \"$from\" ]; then\n"
	"	if [ ! -d \"$to\" ]; then mkdir -p \"$to\"; chown \"$3\" \"$to\"; fi\n"
	"	cp -a \"$from/.\" \"$to/\"\n"
	"else\n"
	"	case $to in */) mkdir -p \"$to\" ;; *) mkdir -p \"$(dirname \"$to\")\" ;; esac\n"
	"	if [ -d \"$to\" ]; then to=${to%/}/${1##*/}; fi\n"
	"	rm -f \"$to\"\n"
	"	cp -a \"$from\" \"$to\"\n"
	"fi\n";

/* GNU's tar ends with 1 when a file changed while it was read; others have nothing between right and wrong. */
static const char pack_script[] =
	"cd / || exit 9\n"
	"set --\n"
	"for f in ./* ./.[!.]*; do\n"
	"	case $f in ./proc | ./sys | ./dev | ./run | ./tmp | ./workspace | ./.berth | './.[!.]*') ;;\n"
	"	*) set -- \"$@\" \"$f\" ;; esac\n"
	"done\n"
	"if tar --version 2>/dev/null | grep -q GNU; then\n"
	"	exec tar -c -f - --one-file-system --numeric-owner --sparse --xattrs '--xattrs-include=*'"
	" --warning=no-file-ignored \"$@\"\n"
	"fi\n"
	"tar -c -f - \"$@\" || exit 9\n";

/* --- what commands say -------------------------------------------------------------------------------------------- */

/* Lines are told when they are whole. */
struct talk {
	struct work *w;
	struct {
		char text[BUILD_LINE_MAX - 64];
		size_t len;
	} half[2];
};

static void tell(struct talk *t, bool is_error)
{
	size_t n = t->half[is_error].len;

	t->half[is_error].len = 0;
	while (n && t->half[is_error].text[n - 1] == '\r')
		n--;
	work_say(t->w, false, "%s [%s]: %.*s", t->w->prefix, is_error ? "stderr" : "stdout", (int)n,
		 t->half[is_error].text);
}

static int on_output(void *ctx, bool is_error, struct span data)
{
	struct talk *t = ctx;
	const char *p = data.p;
	size_t i;

	for (i = 0; i < data.len; i++) {
		if (p[i] == '\n' || t->half[is_error].len == sizeof(t->half[0].text)) {
			tell(t, is_error);
			if (p[i] == '\n')
				continue;
		}
		t->half[is_error].text[t->half[is_error].len++] = p[i] ? p[i] : ' ';
	}
	return 0;
}

static int told(const struct inside *run, struct err *e)
{
	if (run->how == WIRE_EXITED && run->code == 0)
		return 0;
	if (run->how == WIRE_EXITED)
		return err_set(e, -EIO, "step-failed", "exit status %u", run->code);
	if (run->how == WIRE_OOM)
		return err_set(e, -EIO, "step-failed", "out of memory: the kernel killed it");
	return err_set(e, -EIO, "step-failed", "signal: %u", run->code);
}

static int run_in(struct work *w, const char *const *argv, const char *user, int in_fd, struct err *e)
{
	struct talk *t = NEW(struct talk);
	struct inside run = { .argv = argv, .user = user, .cwd = str_eq(user, w->state.user) ? w->state.workdir : "/",
			      .envs = w->state.envs.v, .n_envs = w->state.envs.len, .in_fd = in_fd, .until = w->until,
			      .stop = &w->build->stop, .output = on_output, .ctx = t };
	int r, i;

	t->w = w;
	r = inside_run(w->e2b, w->sandbox, &run, e);
	for (i = 0; i < 2; i++)
		if (t->half[i].len)
			tell(t, i == 1);
	free(t);
	return r < 0 ? r : told(&run, e);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static const char *arg(const struct json *step, size_t i, const char *otherwise)
{
	const char *s = json_text(json_at(json_get(step, "args"), i));

	return s && s[0] ? s : otherwise;
}

static int run_run(struct work *w, const struct json *step, struct err *e)
{
	const char *command = arg(step, 0, "true"), *user = arg(step, 1, w->state.user);
	const char *argv[] = { "/bin/sh", "-c", SHELL, "sh", command, NULL };
	char *was = w->state.user;
	int r;

	w->state.user = (char *)(uintptr_t)user; /* its directory is that of the steps, whoever it is */
	r = run_in(w, argv, user, -1, e);
	w->state.user = was;
	if (r < 0 && str_eq(e->slug, "unknown-user"))
		return err_set(
			e, r, e->slug,
			"failed to run command '%.100s': command failed: unauthenticated: invalid username: '%.40s'",
			command, user);
	return r < 0 && r != -ECANCELED ? err_wrap(e, "failed to run command '%.100s'", command) : r;
}

/* Is what was uploaded compressed? */
static bool is_gzip(int fd)
{
	unsigned char two[2];

	return pread(fd, two, 2, 0) == 2 && two[0] == GZIP_1 && two[1] == GZIP_2;
}

static int run_copy(struct work *w, const struct json *step, struct err *e)
{
	AUTO(fd_close) int fd = uploads_open(w->e2b, w->owner, json_get_str(step, "filesHash", ""));
	AUTO(str_free) char *source = step_source(arg(step, 0, "."));
	AUTO(str_free) char *owner = NULL;
	const char *asked = arg(step, 2, w->state.user);
	const char *argv[] = { "/bin/sh",  "-c", copy_script,	  "copy", source, arg(step, 1, "."), NULL,
			       arg(step, 3, ""), w->state.workdir, NULL,   NULL };
	int r;

	if (fd < 0)
		return err_set(e, fd, "no-files", "the files of COPY %.100s were not uploaded", arg(step, 0, "."));
	argv[6] = owner = strchr(asked, ':') ? must_strdup(asked) : str_printf("%s:", asked);
	argv[9] = is_gzip(fd) ? "z" : "";
	r = run_in(w, argv, "root", fd, e);
	return r < 0 && r != -ECANCELED ? err_wrap(e, "failed to copy '%.100s'", arg(step, 0, ".")) : r;
}

int work_step(struct work *w, const struct json *step, struct err *e)
{
	const char *type = json_get_str(step, "type", "");
	const char *argv[] = { "/bin/sh", "-c", user_script, "user", arg(step, 0, ""), NULL, NULL };
	struct step_state after = { .user = NULL };
	size_t i;
	int r;

	if (str_eq(type, "RUN"))
		return run_run(w, step, e);
	if (str_eq(type, "COPY") || str_eq(type, "ADD"))
		return run_copy(w, step, e);
	if (str_eq(type, "USER")) {
		r = run_in(w, argv, "root", -1, e);
		return r < 0 && r != -ECANCELED ? err_wrap(e, "failed to make user '%.40s'", argv[4]) : r;
	}
	after.user = must_strdup(w->state.user);
	after.workdir = must_strdup(w->state.workdir);
	for (i = 0; i < w->state.envs.len; i++)
		vec_push(&after.envs, must_strdup(w->state.envs.v[i]));
	step_apply(step, &after);
	argv[2] = workdir_script;
	argv[4] = after.workdir;
	argv[5] = after.user;
	r = run_in(w, argv, "root", -1, e);
	if (r < 0 && r != -ECANCELED)
		r = err_wrap(e, "failed to make the directory '%.100s'", after.workdir);
	step_state_fini(&after);
	return r;
}

/* --- the root as a template --------------------------------------------------------------------------------------- */

struct pack {
	struct unpack *to;
	struct talk talk; /* what tar inside complains of */
};

static int on_archive(void *ctx, bool is_error, struct span data)
{
	struct pack *p = ctx;

	return is_error ? on_output(&p->talk, true, data) : unpack_put(p->to, data.p, data.len);
}

static int pack(struct work *w, struct pack *p, struct err *e)
{
	const char *argv[] = { "/bin/sh", "-c", pack_script, NULL };
	struct inside run = { .argv = argv, .user = "root", .cwd = "/", .in_fd = -1, .until = w->until,
			      .stop = &w->build->stop, .output = on_archive, .ctx = p };
	int r = inside_run(w->e2b, w->sandbox, &run, e);

	if (r == -ENOSPC)
		return err_set(e, r, "disk-low", "the host's disk is too full for the result");
	if (r == -EPIPE) /* the reason is among its words */
		return 0;
	if (r < 0)
		return e->code ? r : err_sys(e, r, "reading the result");
	/* 1: a file changed while it was read. */
	if (run.how == WIRE_EXITED && run.code <= 1)
		return 0;
	return err_set(e, -EIO, "not-packed", "the result cannot be read: the template needs tar (exit status %u)",
		       run.code);
}

int work_pack(struct work *w, struct err *e)
{
	struct pack *p;
	struct unpack *to;
	int r;

	snprintf(w->prefix, sizeof(w->prefix), "[finalize]");
	work_say(w, false, "[finalize] keeping the result");
	r = unpack_begin(w, w->build->disk, &to, e);
	if (r < 0)
		return r;
	p = NEW(struct pack);
	*p = (struct pack){ .to = to, .talk = { .w = w } };
	r = pack(w, p, e);
	free(p);
	return unpack_end(&to, r, e);
}
