/* SPDX-License-Identifier: Apache-2.0 */
/* A struct json is a jansson value under another name: the pointer is cast at this door and nowhere else. */
#include "json/json.h"

#include "base/str.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

void json_wipes(void)
{
	json_set_alloc_funcs(malloc, free_wiped);
}

static const json_t *in(const struct json *j)
{
	return (const json_t *)(const void *)j;
}

static const struct json *out(const json_t *j)
{
	return (const struct json *)(const void *)j;
}

int json_parse(struct span text, struct json **ret, struct err *e)
{
	const char *p = text.p;
	char *near;
	json_error_t why;
	json_t *j;
	size_t i;
	int depth = 0;

	/* The parser recurses by nesting: count brackets first (those in strings count too, which only errs to safety).
	 */
	for (i = 0; i < text.len; i++) {
		depth += p[i] == '[' || p[i] == '{' ? 1 : p[i] == ']' || p[i] == '}' ? -1 : 0;
		if (depth > 64)
			return err_set(e, -EINVAL, "bad-json", "nested too deep");
	}
	j = json_loadb(text.len ? p : "", text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!j) {
		near = strstr(why.text, " near "); /* what it quotes may be a secret */
		if (near)
			*near = '\0';
		err_set(e, -EINVAL, "bad-json", "line %d: %s", why.line, why.text);
		explicit_bzero(&why, sizeof(why)); /* it quotes */
		return -EINVAL;
	}
	*ret = (struct json *)(void *)j;
	return 0;
}

void json_free(struct json **slot)
{
	json_decref((json_t *)(void *)*slot);
	*slot = NULL;
}

const struct json *json_get(const struct json *j, const char *key)
{
	return out(json_object_get(in(j), key));
}

uint64_t json_number(const struct json *j, uint64_t otherwise)
{
	const json_t *v = (const json_t *)j;

	return json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v) : otherwise;
}

const char *json_text(const struct json *j)
{
	return json_string_value(in(j));
}

const char *json_get_str(const struct json *j, const char *key, const char *otherwise)
{
	const char *s = json_text(json_get(j, key));

	return s ? s : otherwise;
}

uint64_t json_get_u64(const struct json *j, const char *key, uint64_t otherwise)
{
	const json_t *v = in(json_get(j, key));

	return json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v) : otherwise;
}

int64_t json_get_i64(const struct json *j, const char *key, int64_t otherwise)
{
	const json_t *v = in(json_get(j, key));

	return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

bool json_is_empty(const struct json *j)
{
	const json_t *v = in(j);

	return !v || json_is_null(v) || (json_is_object(v) && json_object_size(v) == 0) ||
	       (json_is_array(v) && json_array_size(v) == 0);
}

size_t json_object_b(const struct json *j)
{
	return json_is_object(in(j)) ? json_dumpb(in(j), NULL, 0, JSON_COMPACT) : 0;
}

bool json_get_bool(const struct json *j, const char *key, bool otherwise)
{
	const json_t *v = in(json_get(j, key));

	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

size_t json_len(const struct json *j)
{
	return json_array_size(in(j));
}

const struct json *json_at(const struct json *j, size_t i)
{
	return out(json_array_get(in(j), i));
}

int json_each(const struct json *j, int (*fn)(void *ctx, const char *key, const struct json *value), void *ctx)
{
	json_t *obj = (json_t *)(uintptr_t)j; /* jansson iterates over non-const objects but does not change them */
	void *it;
	int r = 0;

	for (it = json_object_iter(obj); r == 0 && it; it = json_object_iter_next(obj, it))
		r = fn(ctx, json_object_iter_key(it), out(json_object_iter_value(it)));
	return r;
}

/* --- holding an object against a list ----------------------------------------------------------------------------- */

static int not_text(void *ctx, const char *key, const struct json *value)
{
	(void)ctx;
	(void)key;
	return json_text(value) ? 0 : 1;
}

static bool has_kind(const struct json *v, const char *kind, size_t len)
{
	size_t i;

	if (len == 1 && kind[0] == 's')
		return json_text(v) != NULL;
	if (len == 1 && kind[0] == 'u')
		return json_is_integer(in(v)) && json_integer_value(in(v)) >= 0;
	if (len == 1 && kind[0] == 'b')
		return json_is_boolean(in(v));
	if (kind[0] == 'o')
		return json_is_object(in(v)) && json_each(v, not_text, NULL) == 0;
	if (!json_is_array(in(v)))
		return false;
	for (i = 0; i < json_len(v); i++)
		if (len == 2 && kind[1] == 'o' ? !json_is_object(in(json_at(v, i))) : !json_text(json_at(v, i)))
			return false;
	return true;
}

struct check {
	const char *spec;
	struct err *e;
};

static int check_one(void *ctx, const char *key, const struct json *value)
{
	struct check *c = ctx;
	const char *p = c->spec;
	size_t klen = strlen(key);

	while (*p) {
		size_t len = strcspn(p, ":"), kind;

		kind = strcspn(p + len + 1, " ");
		if (len == klen && memcmp(p, key, len) == 0)
			return has_kind(value, p + len + 1, kind)
				       ? 0
				       : err_set(c->e, -EINVAL, "bad-request", "member %.64s has the wrong type", key);
		p += len + 1 + kind;
		p += *p == ' ';
	}
	return err_set(c->e, -EINVAL, "bad-request", "unknown member %.64s (known: %.120s)", key, c->spec);
}

int json_check(const struct json *j, const char *spec, struct err *e)
{
	struct check c = { .spec = spec, .e = e };

	if (!json_is_object(in(j)))
		return err_set(e, -EINVAL, "bad-request", "the body must be a JSON object");
	return json_each(j, check_one, &c);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static void before(struct json_writer *w)
{
	if (w->comma)
		buf_append(w->b, ",", 1);
	w->comma = true;
}

void jw_raw(struct json_writer *w, struct span json)
{
	before(w);
	buf_append(w->b, json.p, json.len);
}

void jw_open(struct json_writer *w, char bracket)
{
	before(w);
	buf_append(w->b, &bracket, 1);
	w->comma = false;
}

void jw_close(struct json_writer *w, char bracket)
{
	buf_append(w->b, &bracket, 1);
	w->comma = true;
}

void jw_key(struct json_writer *w, const char *key)
{
	jw_str(w, span_str(key));
	buf_append(w->b, ":", 1);
	w->comma = false;
}

/* Length of the valid UTF-8 sequence at @p, 0 when there is none. */
static size_t utf8_len(const uint8_t *p, size_t left)
{
	uint32_t c;
	size_t n, i;

	if (p[0] < 0x80)
		return 1;
	n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
	if (!n || n > left)
		return 0;
	c = p[0] & (0xffU >> (n + 1));
	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	return n;
}

void jw_str(struct json_writer *w, struct span s)
{
	const uint8_t *p = s.p;
	size_t i, n;

	before(w);
	buf_append(w->b, "\"", 1);
	for (i = 0; i < s.len; i += n) {
		n = utf8_len(p + i, s.len - i);
		if (p[i] == '"' || p[i] == '\\')
			buf_printf(w->b, "\\%c", p[i]);
		else if (p[i] < 0x20 || p[i] == 0x7f)
			buf_printf(w->b, "\\u%04x", p[i]);
		else if (n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0) /* controls, too: the text may end on a terminal */
			buf_printf(w->b, "\\u%04x", p[i + 1]);
		else if (n)
			buf_append(w->b, p + i, n);
		else
			buf_append(w->b, "\xef\xbf\xbd", 3);
		n = n ? n : 1;
	}
	buf_append(w->b, "\"", 1);
}

bool json_is_text(struct span s)
{
	const uint8_t *p = s.p;
	size_t i, n;

	for (i = 0; i < s.len; i += n) {
		n = utf8_len(p + i, s.len - i);
		if (!n)
			return false;
	}
	return true;
}

void jw_khex(struct json_writer *w, const char *key, struct span s)
{
	AUTO(str_free) char *name = NULL;
	AUTO(str_free) char *hex = NULL;

	if (json_is_text(s))
		return;
	name = str_printf("%s_hex", key);
	hex = must_calloc(2 * s.len + 1, 1);
	str_hex(s.p, s.len, hex);
	jw_kstr(w, name, hex);
}

void jw_u64(struct json_writer *w, uint64_t v)
{
	before(w);
	buf_printf(w->b, "%llu", (unsigned long long)v);
}

void jw_i64(struct json_writer *w, int64_t v)
{
	before(w);
	buf_printf(w->b, "%lld", (long long)v);
}

void jw_bool(struct json_writer *w, bool v)
{
	before(w);
	buf_printf(w->b, "%s", v ? "true" : "false");
}
