/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of variables: NAME=VALUE, with "export" before and a comment behind if one likes. Whatever is not a value is
 * kept to the letter. Complaints name lines by their number: what is in them may be a secret.
 */
#include "sealtool/tool.h"

#include <errno.h>

static bool is_name(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static size_t skip_white(const char *p, size_t len, size_t at)
{
	while (at < len && (p[at] == ' ' || p[at] == '\t'))
		at++;
	return at;
}

/* Where the value ends that begins at @at; 0 when its quotes do not. */
static size_t value_end(const char *p, size_t len, size_t at)
{
	size_t i = at, end;
	char quote = at < len ? p[at] : 0;

	if (quote == '\'' || quote == '"') {
		for (i++; i < len && p[i] != quote; i++)
			if (quote == '"' && p[i] == '\\')
				i++;
		return i < len ? i + 1 : 0;
	}
	for (end = at; i < len; i++) {
		if (p[i] == '#' && (i == at || p[i - 1] == ' ' || p[i - 1] == '\t'))
			break;
		if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
			end = i + 1;
	}
	return end;
}

static int bad(struct err *e, unsigned number, const char *why)
{
	return err_set(e, -EINVAL, "bad-line", "line %u: %s", number, why);
}

int env_next(struct span *text, struct env_line *ret, unsigned *number, struct err *e)
{
	const char *p = text->p, *newline;
	size_t len, at, name, end, rest;

	if (!text->len)
		return 0;
	++*number;
	newline = memchr(p, '\n', text->len);
	len = newline ? (size_t)(newline - p) : text->len;
	*text = SPAN(p + len + !!newline, text->len - len - !!newline);
	*ret = (struct env_line){ .head = SPAN(p, len), .newline = newline };
	if (memchr(p, 0, len))
		return bad(e, *number, "a zero byte");
	at = skip_white(p, len, 0);
	if (at == len || p[at] == '#' || p[at] == '\r')
		return 1;
	if (len - at > 7 && memcmp(p + at, "export ", 7) == 0)
		at = skip_white(p, len, at + 7);
	for (name = at; at < len && is_name(p[at], at == name);)
		at++;
	if (at == name || at == len || p[at] != '=')
		return bad(e, *number, "neither NAME=VALUE nor a comment");
	if (at - name > SEAL_NAME_MAX)
		return bad(e, *number, "the name is too long");
	ret->is_value = true;
	ret->name = SPAN(p + name, at - name);
	ret->head = SPAN(p, at + 1);
	end = at + 1 < len ? value_end(p, len, at + 1) : len;
	if (!end)
		return bad(e, *number, "the quotes do not end; a value of several lines is written with \\n in \"…\"");
	rest = skip_white(p, len, end);
	if (rest < len && p[rest] != '#' && p[rest] != '\r')
		return bad(e, *number, "something stands behind the quotes");
	ret->value = SPAN(p + at + 1, end - at - 1);
	ret->tail = SPAN(p + end, len - end);
	return 1;
}

int env_next_sealed(struct span *text, struct env_line *ret, unsigned *number, struct err *e)
{
	int r = env_next(text, ret, number, e);

	return r == -EINVAL ? err_set(e, -EBADMSG, "damaged", "this is no sealed file, and no file of variables") : r;
}

bool env_is_sealed(struct span value)
{
	return value.len > 13 && memcmp(value.p, "berth-sealed:", 13) == 0;
}

size_t env_plain(struct span value, uint8_t *to)
{
	const char *p = value.p;
	size_t i, n = 0;

	if (value.len < 2 || (p[0] != '\'' && p[0] != '"')) {
		memcpy(to, p, value.len);
		return value.len;
	}
	for (i = 1; i + 1 < value.len; i++) {
		char c = p[i];

		if (p[0] == '"' && c == '\\') {
			c = p[++i];
			if (c != '"' && c != '\\' && c != '$' && c != '`' && c != 'n')
				to[n++] = '\\';
			c = c == 'n' ? '\n' : c;
		}
		to[n++] = (uint8_t)c;
	}
	return n;
}

size_t env_quote(struct span value, uint8_t *to)
{
	const char *p = value.p;
	bool plain = true, single = true;
	size_t i, n = 0;

	for (i = 0; i < value.len; i++) {
		plain = plain && (is_name(p[i], false) || strchr("./:@%+,=-", p[i]));
		single = single && p[i] != '\'' && p[i] != '\n';
	}
	if (plain) {
		memcpy(to, p, value.len);
		return value.len;
	}
	to[n++] = single ? '\'' : '"';
	for (i = 0; i < value.len; i++) {
		if (!single && strchr("\"\\$`\n", p[i]))
			to[n++] = '\\';
		to[n++] = !single && p[i] == '\n' ? 'n' : (uint8_t)p[i];
	}
	to[n++] = single ? '\'' : '"';
	return n;
}
