/* SPDX-License-Identifier: Apache-2.0 */
/* What steps of a build are and mean, without doing them: RUN, COPY, ENV, WORKDIR, USER. All of it depends on nothing
 * but the request, so that steps that are taken from the cache need not be looked into. */
#include "host/api/e2b/template.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

enum { ARG_MAX_B = 128 * 1024, ARGS_MAX = 512, TITLE_MAX = 300, VALUE_MAX = 64 * 1024, ENVS_MAX = 512 };

#define PATH_WORD "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- the state ---------------------------------------------------------------------------------------------------- */

void step_state_fini(struct step_state *s)
{
	size_t i;

	str_free(&s->user);
	str_free(&s->workdir);
	for (i = 0; i < s->envs.len; i++)
		free(s->envs.v[i]);
	vec_fini(&s->envs);
}

void step_env_set(struct step_state *s, const char *name, const char *value)
{
	char *pair = str_printf("%s=%s", name, value);
	size_t i, n = strlen(name) + 1;

	for (i = 0; i < s->envs.len; i++) {
		if (strncmp(s->envs.v[i], pair, n) != 0)
			continue;
		free(s->envs.v[i]);
		s->envs.v[i] = pair;
		return;
	}
	if (s->envs.len < ENVS_MAX)
		vec_push(&s->envs, pair);
	else
		free(pair);
}

static int add_env(void *ctx, const char *key, const struct json *value)
{
	if (json_text(value))
		step_env_set(ctx, key, json_text(value));
	return 0;
}

void step_state_read(struct step_state *s, const struct json *config)
{
	const char *user = json_get_str(config, "user", "user");

	s->user = must_strdup(user);
	s->workdir = must_strdup(json_get_str(config, "workdir", str_eq(user, "root") ? "/root" : "/home/user"));
	(void)json_each(json_get(config, "envs"), add_env, s);
}

void step_state_put(const struct step_state *s, struct json_writer *w)
{
	size_t i;

	jw_kstr(w, "user", s->user);
	jw_kstr(w, "workdir", s->workdir);
	jw_key(w, "envs");
	jw_open(w, '{');
	for (i = 0; i < s->envs.len; i++) {
		const char *pair = s->envs.v[i], *eq = strchr(pair, '=');
		AUTO(str_free) char *name = span_dup(SPAN(pair, (size_t)(eq - pair)));

		jw_kstr(w, name, eq + 1);
	}
	jw_close(w, '}');
}

/* --- what they say ------------------------------------------------------------------------------------------------ */

bool uploads_ok(const char *hash)
{
	return strlen(hash) == 64 && strspn(hash, "0123456789abcdef") == 64;
}

static const char *arg(const struct json *step, size_t i)
{
	return json_text(json_at(json_get(step, "args"), i));
}

bool step_env_ok(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

	return n && n <= 256 && !s[n] && !isdigit((unsigned char)s[0]);
}

static bool is_user(const char *s)
{
	size_t n = strlen(s);

	return n && n <= 32 && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n &&
	       s[0] != '-';
}

static int check_args(const struct json *step, const char *type, size_t least, struct err *e)
{
	const struct json *args = json_get(step, "args");
	size_t i;

	if (json_len(args) < least || json_len(args) > ARGS_MAX)
		return err_set(e, -EINVAL, "bad-step", "%s needs at least %zu arguments, and at most %d", type, least,
			       ARGS_MAX);
	for (i = 0; i < json_len(args); i++)
		if (!arg(step, i) || strlen(arg(step, i)) > ARG_MAX_B)
			return err_set(e, -EINVAL, "bad-step", "%s: arguments are texts of at most %d bytes", type,
				       ARG_MAX_B);
	return 0;
}

int step_check(const struct json *step, struct err *e)
{
	const char *type = json_get_str(step, "type", ""), *mode;
	bool copies = str_eq(type, "COPY") || str_eq(type, "ADD");
	size_t i, n = json_len(json_get(step, "args"));
	int r;

	if (!copies && !str_eq(type, "RUN") && !str_eq(type, "ENV") && !str_eq(type, "ARG") &&
	    !str_eq(type, "WORKDIR") && !str_eq(type, "USER"))
		return err_set(e, -EINVAL, "bad-step", "steps are RUN, COPY, ENV, WORKDIR and USER, not \"%.40s\"",
			       type);
	r = check_args(step, type, copies || type[0] == 'E' ? 2 : 1, e);
	if (r < 0)
		return r;
	if (copies && !uploads_ok(json_get_str(step, "filesHash", "")))
		return err_set(e, -EINVAL, "bad-step", "COPY requires files hash to be set");
	mode = copies && n > 3 ? arg(step, 3) : "";
	if (strspn(mode, "01234567") != strlen(mode) || strlen(mode) > 5)
		return err_set(e, -EINVAL, "bad-step", "COPY: \"%.20s\" is no mode", mode);
	if (str_eq(type, "USER") && !is_user(arg(step, 0)))
		return err_set(e, -EINVAL, "bad-step", "USER: \"%.40s\" is no name of a user", arg(step, 0));
	for (i = 0; (type[0] == 'E' || str_eq(type, "ARG")) && i + 1 < n; i += 2)
		if (!step_env_ok(arg(step, i)))
			return err_set(e, -EINVAL, "bad-step", "ENV: \"%.40s\" is no name of a variable", arg(step, i));
	return 0;
}

char *step_title(const struct json *step)
{
	const char *type = json_get_str(step, "type", "");
	struct buf b;
	char *text, *p;
	size_t i, n = json_len(json_get(step, "args"));

	buf_init(&b, TITLE_MAX);
	(void)!buf_printf(&b, "%s", type);
	for (i = 0; i < n; i++) {
		bool shown = str_eq(type, "RUN") ? i == 0 : str_eq(type, "COPY") ? i < 2 : true;

		if (shown)
			(void)!buf_printf(&b, type[0] == 'E' && i % 2 ? "=%.250s" : " %.250s", arg(step, i));
	}
	text = span_dup(buf_span(&b));
	buf_fini(&b);
	for (p = text; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	return text;
}

bool step_is_work(const struct json *step)
{
	const char *type = json_get_str(step, "type", "");

	return str_eq(type, "RUN") || str_eq(type, "COPY") || str_eq(type, "ADD");
}

void step_apply(const struct json *step, struct step_state *s)
{
	const char *type = json_get_str(step, "type", ""), *first = arg(step, 0);
	size_t i;
	char *dir;

	if (str_eq(type, "USER")) {
		str_free(&s->user);
		s->user = must_strdup(first);
	} else if (str_eq(type, "WORKDIR")) {
		dir = first[0] == '/' ? must_strdup(first)
				      : str_printf("%s%s%s", s->workdir, str_ends(s->workdir, "/") ? "" : "/", first);
		str_free(&s->workdir);
		s->workdir = dir;
	} else if (type[0] == 'E' || str_eq(type, "ARG")) {
		for (i = 0; arg(step, i) && arg(step, i + 1); i += 2) {
			AUTO(str_free) char *value = step_expand(arg(step, i + 1), s);

			step_env_set(s, arg(step, i), value);
		}
	}
}

static const char *look_up(const struct step_state *s, const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < s->envs.len; i++)
		if (strncmp(s->envs.v[i], name, len) == 0 && s->envs.v[i][len] == '=')
			return s->envs.v[i] + len + 1;
	if (len == 4 && memcmp(name, "PATH", 4) == 0)
		return PATH_WORD;
	if (len == 4 && memcmp(name, "HOME", 4) == 0)
		return str_eq(s->user, "root") ? "/root" : "/home/user";
	if (len == 4 && memcmp(name, "USER", 4) == 0)
		return s->user;
	return "";
}

/* The length of a name at @p that a '$' stands before, braces included; its name is at *@ret. 0: it is none. */
static size_t name_at(const char *p, const char **ret, size_t *ret_len)
{
	bool braced = p[0] == '{';

	*ret = p + braced;
	*ret_len = strspn(*ret, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
	if (!*ret_len || isdigit((unsigned char)**ret) || (braced && (*ret)[*ret_len] != '}'))
		return 0;
	return *ret_len + (braced ? 2U : 0U);
}

char *step_expand(const char *value, const struct step_state *s)
{
	struct buf b;
	char *text;

	buf_init(&b, VALUE_MAX);
	while (*value) {
		size_t n = strcspn(value, "$\\"), len;
		const char *name, *found;

		(void)!buf_append(&b, value, n);
		value += n;
		if (value[0] == '\\' && value[1] == '$') {
			(void)!buf_append(&b, "$", 1);
			value += 2;
		} else if (value[0] == '$' && (n = name_at(value + 1, &name, &len))) {
			found = look_up(s, name, len);
			(void)!buf_append(&b, found, strlen(found));
			value += 1 + n;
		} else if (value[0]) {
			(void)!buf_append(&b, value++, 1);
		}
	}
	text = span_dup(buf_span(&b));
	buf_fini(&b);
	return text;
}

char *step_source(const char *src)
{
	size_t keep, pattern;

	while (str_starts(src, "./") || src[0] == '/')
		src += src[0] == '/' ? 1 : 2;
	keep = strlen(src);
	pattern = strcspn(src, "*?[{");
	if (pattern < keep)
		for (keep = pattern; keep && src[keep - 1] != '/';)
			keep--;
	while (keep && src[keep - 1] == '/')
		keep--;
	return keep && !(keep == 1 && src[0] == '.') ? span_dup(SPAN(src, keep)) : must_strdup("");
}
