/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. One list of rules in the order of the text; a heading says what class the lines below it give, a "!" before
 * a pattern takes that back. The last rule that matches a path decides it. What a directory is bounds what is in it,
 * which is gitignore's "it is not possible to re-include a file if a parent directory is excluded", for each class.
 */
#include "keep/keep.h"

#include "base/str.h"
#include "base/vec.h"
#include "keep/glob.h"

#include <errno.h>

#define TEMPORARY ".berth-"

struct rule {
	struct glob *glob; /* NULL: nothing matches it */
	enum keep_class gives;
	bool dirs_only, by_name;
};

struct keep {
	VEC(struct rule) rules;
	bool local;
	size_t tries; /* glob_tries() of all */
};

static const char *const words[] = { [KEEP_NONE] = "none", [KEEP_NAMES] = "names", [KEEP_FULL] = "full" };

const char *keep_word(enum keep_class c)
{
	return words[c];
}

void keep_free(struct keep **slot)
{
	struct keep *k = take(slot);
	size_t i;

	if (!k)
		return;
	for (i = 0; i < k->rules.len; i++)
		glob_free(&k->rules.v[i].glob);
	vec_fini(&k->rules);
	free(k);
}

/* Spaces at the end do not count, unless a backslash stands before them. */
static struct span trim(struct span line)
{
	const char *p = line.p;
	size_t at, end = 0;

	for (at = 0; at < line.len; at++) {
		if (p[at] == '\\') {
			at++;
			end = MIN(at + 1, line.len);
		} else if (p[at] != ' ') {
			end = at + 1;
		}
	}
	return SPAN(p, end);
}

static bool heading(struct span line, enum keep_class *ret)
{
	const char *p = line.p;
	int c;

	if (line.len < 3 || p[0] != '[' || p[line.len - 1] != ']')
		return false;
	for (c = KEEP_NONE; c <= KEEP_FULL; c++)
		if (span_eq(SPAN(p + 1, line.len - 2), span_str(words[c]))) {
			*ret = (enum keep_class)c;
			return true;
		}
	return false;
}

static void add(struct keep *k, struct span pattern, enum keep_class gives)
{
	struct rule r = { .gives = gives };
	const char *p = pattern.p;

	if (pattern.len && *p == '!') {
		r.gives = KEEP_FULL;
		pattern = SPAN(++p, pattern.len - 1);
	}
	if (pattern.len && p[pattern.len - 1] == '/') {
		r.dirs_only = true;
		pattern.len--;
	}
	/* A name anywhere is a name. */
	if (pattern.len > 3 && memcmp(p, "**/", 3) == 0 && !memchr(p + 3, '/', pattern.len - 3)) {
		p += 3;
		pattern = SPAN(p, pattern.len - 3);
	}
	r.by_name = !pattern.len || !memchr(p, '/', pattern.len);
	if (pattern.len && *p == '/')
		pattern = SPAN(p + 1, pattern.len - 1);
	r.glob = pattern.len ? glob_new(pattern) : NULL;
	k->tries += r.glob ? glob_tries(r.glob) : 0;
	k->local = k->local && r.by_name;
	vec_push(&k->rules, r);
}

struct reading {
	struct keep *k;
	enum keep_class gives;
	bool has_heading;
	unsigned line;
};

static int take_line(struct reading *r, struct span line, struct err *e)
{
	const char *p = line.p;

	r->line++;
	if (line.len && p[line.len - 1] == '\r')
		line.len--;
	if (span_has_nul(line))
		return err_set(e, -EINVAL, "bad-rules", "line %u has a NUL in it", r->line);
	if (!line.len || *p == '#')
		return 0;
	line = trim(line);
	if (heading(line, &r->gives)) {
		r->has_heading = true;
		return 0;
	}
	if (!line.len)
		return 0;
	if (!r->has_heading)
		return err_set(e, -EINVAL, "bad-rules", "line %u: a pattern before [none], [names] or [full]", r->line);
	if (line.len > KEEP_PATTERN_MAX)
		return err_set(e, -EINVAL, "bad-rules", "line %u: a pattern of more than %d bytes", r->line,
			       KEEP_PATTERN_MAX);
	if (r->k->rules.len == KEEP_RULES_MAX)
		return err_set(e, -E2BIG, "bad-rules", "more than %d rules", KEEP_RULES_MAX);
	add(r->k, line, r->gives);
	if (r->k->tries > KEEP_TRIES_MAX)
		return err_set(e, -E2BIG, "bad-rules", "line %u: more than %d names behind \"**\" in all patterns",
			       r->line, KEEP_TRIES_MAX);
	return 0;
}

int keep_parse(struct span text, struct keep **ret, struct err *e)
{
	AUTO(keep_free) struct keep *k = NEW(struct keep);
	struct reading r = { .k = k };
	const char *p = text.p, *end;
	int code = 0;

	*ret = NULL;
	k->local = true;
	if (text.len > KEEP_TEXT_MAX)
		return err_set(e, -E2BIG, "bad-rules", "rules of more than %d bytes", KEEP_TEXT_MAX);
	if (text.len >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		text = SPAN(p + 3, text.len - 3);
	while (code == 0 && text.len) {
		p = text.p;
		end = memchr(p, '\n', text.len);
		code = take_line(&r, SPAN(p, end ? (size_t)(end - p) : text.len), e);
		text = end ? SPAN(end + 1, text.len - (size_t)(end + 1 - p)) : SPAN_NULL;
	}
	if (code == 0 && k->rules.len)
		*ret = take(&k);
	return code;
}

int keep_join(struct span first, struct span second, struct buf *to)
{
	if (first.len && buf_append(to, first.p, first.len) < 0)
		return -E2BIG;
	if (first.len && second.len && buf_append(to, "\n", 1) < 0)
		return -E2BIG;
	return !second.len || buf_append(to, second.p, second.len) == 0 ? 0 : -E2BIG;
}

static struct span last_name(struct span path)
{
	const char *p = path.p;
	size_t at = path.len;

	while (at && p[at - 1] != '/')
		at--;
	return SPAN(p + at, path.len - at);
}

enum keep_class keep_entry(const struct keep *k, enum keep_class above, struct span path, bool is_dir)
{
	struct span name;
	size_t i;

	if (!k || above == KEEP_NONE || !path.len)
		return above;
	name = last_name(path);
	/* What berth makes on its way to another name is not to be lost on it. */
	if (name.len > sizeof(TEMPORARY) - 1 && memcmp(name.p, TEMPORARY, sizeof(TEMPORARY) - 1) == 0)
		return above;
	for (i = k->rules.len; i-- > 0;) {
		const struct rule *r = &k->rules.v[i];

		if (r->glob && (is_dir || !r->dirs_only) && glob_match(r->glob, r->by_name ? name : path))
			return MIN(above, r->gives);
	}
	return above;
}

enum keep_class keep_path(const struct keep *k, struct span path, bool is_dir)
{
	enum keep_class c = KEEP_FULL;
	const char *p = path.p;
	size_t at;

	for (at = 0; k && c != KEEP_NONE && at < path.len; at++)
		if (p[at] == '/')
			c = keep_entry(k, c, SPAN(p, at), true);
	return keep_entry(k, c, path, is_dir);
}

bool keep_is_local(const struct keep *k)
{
	return !k || k->local;
}

size_t keep_count(const struct keep *k)
{
	return k ? k->rules.len : 0;
}
