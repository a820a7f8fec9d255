/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A pattern becomes a list of segments, as a path is one of names; a segment is "**" or a list of tokens. There
 * are two matchers of the same shape, one over names and one over bytes: both go straight on, remember the last star,
 * and when they fail let that star take one more. A star before the last one need not be tried again, since what stands
 * between two stars takes exactly one name (or byte) each and was matched as early as it could be. So nothing grows
 * beyond the product of two lengths.
 */
#include "keep/glob.h"

#include "base/vec.h"

enum { TOK_BYTE, TOK_ANY, TOK_SET, TOK_STAR };

struct tok {
	uint8_t kind, byte;
	uint16_t set; /* number of the set */
};

struct set {
	uint8_t has[32]; /* a bit for each byte */
};

struct seg {
	size_t at, n; /* its tokens */
	bool any;     /* "**": any number of names */
};

struct glob {
	VEC(struct tok) toks;
	VEC(struct set) sets;
	VEC(struct seg) segs;
};

/* --- reading a pattern -------------------------------------------------------------------------------------------- */

static void set_add(struct set *s, unsigned char c)
{
	s->has[c / 8] |= (uint8_t)(1U << c % 8);
}

static bool set_has(const struct set *s, unsigned char c)
{
	return s->has[c / 8] & (1U << c % 8);
}

static bool in_class(const char *name, unsigned char c)
{
	bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z', digit = c >= '0' && c <= '9';
	bool print = c >= 0x20 && c < 0x7f;
	const struct {
		const char *name;
		bool in;
	} classes[] = {
		{ "alnum", lower || upper || digit },
		{ "alpha", lower || upper },
		{ "blank", c == ' ' || c == '\t' },
		{ "cntrl", c < 0x20 || c == 0x7f },
		{ "digit", digit },
		{ "graph", print && c != ' ' },
		{ "lower", lower },
		{ "print", print },
		{ "punct", print && c != ' ' && !lower && !upper && !digit },
		{ "space", c == ' ' || (c >= '\t' && c <= '\r') },
		{ "upper", upper },
		{ "xdigit", digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(classes); i++)
		if (strcmp(classes[i].name, name) == 0)
			return classes[i].in;
	return false;
}

static bool is_class(const char *name)
{
	int c;

	for (c = 0; c < 256; c++)
		if (in_class(name, (unsigned char)c))
			return true;
	return false;
}

/* "[:name:]" at @p, of which "[:" was seen. Return: bytes that it has; 0: it is no class, but two letters of the set;
 * -1: there is no such class, or no end. */
static int read_class(const char *p, size_t left, struct set *s)
{
	const char *end = memchr(p + 2, ']', left - 2);
	char name[16];
	size_t len;
	int c;

	if (!end)
		return -1;
	if (end == p + 2 || end[-1] != ':')
		return 0;
	len = (size_t)(end - 1 - (p + 2));
	if (len >= sizeof(name))
		return -1;
	memcpy(name, p + 2, len);
	name[len] = '\0';
	if (!is_class(name))
		return -1;
	for (c = 0; c < 256; c++)
		if (in_class(name, (unsigned char)c))
			set_add(s, (unsigned char)c);
	return (int)(end + 1 - p);
}

/* What stands between brackets. @from: the letter before, 0: none that a range could begin with. Return: bytes read of
 * @p; -1: the pattern matches nothing. */
static int read_member(const char *p, size_t left, unsigned char *from, struct set *s)
{
	size_t at = 0;
	unsigned char c = (unsigned char)p[0];
	int n;

	if (c == '-' && *from && left > 1 && p[1] != ']') {
		at = p[1] == '\\' ? 2 : 1;
		if (at >= left)
			return -1;
		for (n = *from; n <= (unsigned char)p[at]; n++)
			set_add(s, (unsigned char)n);
		*from = 0;
		return (int)at + 1;
	}
	if (c == '[' && left > 1 && p[1] == ':') {
		n = read_class(p, left, s);
		if (n > 0)
			*from = 0;
		if (n)
			return n;
	}
	if (c == '\\') {
		at = 1;
		if (at >= left)
			return -1;
		c = (unsigned char)p[1];
	}
	set_add(s, c);
	*from = c;
	return (int)at + 1;
}

/* Return: bytes of the set at @p, which begins with "["; -1: it has no end. A set never has the slash. */
static int read_set(const char *p, size_t len, struct set *s)
{
	size_t at = 1, i;
	bool no = len > 1 && (p[1] == '!' || p[1] == '^'), first = true;
	unsigned char from = 0;
	int n;

	for (at += no; at < len && (first || p[at] != ']'); at += (size_t)n) {
		n = read_member(p + at, len - at, &from, s);
		if (n < 0)
			return -1;
		first = false;
	}
	if (at >= len)
		return -1;
	for (i = 0; no && i < sizeof(s->has); i++)
		s->has[i] = (uint8_t)~s->has[i];
	s->has['/' / 8] &= (uint8_t)~(1U << '/' % 8);
	return (int)at + 1;
}

static bool only_stars(const struct glob *g, size_t from, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (g->toks.v[from + i].kind != TOK_STAR)
			return false;
	return n >= 2;
}

static void seg_end(struct glob *g, size_t from)
{
	struct seg s = { .at = from, .n = g->toks.len - from };

	s.any = only_stars(g, s.at, s.n);
	if (!s.any || !g->segs.len || !g->segs.v[g->segs.len - 1].any) /* two of them are one */
		vec_push(&g->segs, s);
}

/* One token at @p. Return: bytes of it; -1: the pattern matches nothing. */
static int read_tok(struct glob *g, const char *p, size_t len)
{
	struct tok t = { .kind = TOK_BYTE, .byte = (uint8_t)p[0] };
	struct set s = { .has = { 0 } };
	int n = 1;

	if (*p == '*') {
		t.kind = TOK_STAR;
	} else if (*p == '?') {
		t.kind = TOK_ANY;
	} else if (*p == '\\') {
		if (len < 2)
			return -1;
		t.byte = (uint8_t)p[1];
		n = 2;
	} else if (*p == '[') {
		n = read_set(p, len, &s);
		if (n < 0)
			return -1;
		t.kind = TOK_SET;
		t.set = (uint16_t)g->sets.len;
		vec_push(&g->sets, s);
	}
	vec_push(&g->toks, t);
	return n;
}

struct glob *glob_new(struct span text)
{
	AUTO(glob_free) struct glob *g = NEW(struct glob);
	const char *p = text.p;
	size_t at = 0, from = 0;
	int n;

	while (at < text.len) {
		bool escaped = p[at] == '\\' && at + 1 < text.len && p[at + 1] == '/';

		if (p[at] == '/' || escaped) {
			seg_end(g, from);
			from = g->toks.len;
			at += escaped ? 2 : 1;
			continue;
		}
		n = read_tok(g, p + at, text.len - at);
		if (n < 0)
			return NULL;
		at += (size_t)n;
	}
	seg_end(g, from);
	for (at = 0; at < g->segs.len; at++)
		if (!g->segs.v[at].n)
			return NULL; /* no name is empty */
	return take(&g);
}

void glob_free(struct glob **slot)
{
	struct glob *g = take(slot);

	if (!g)
		return;
	vec_fini(&g->toks);
	vec_fini(&g->sets);
	vec_fini(&g->segs);
	free(g);
}

/* --- matching ----------------------------------------------------------------------------------------------------- */

static bool tok_is(const struct glob *g, const struct tok *t, unsigned char c)
{
	return t->kind == TOK_ANY || (t->kind == TOK_BYTE ? t->byte == c : set_has(&g->sets.v[t->set], c));
}

static bool name_match(const struct glob *g, const struct seg *s, const unsigned char *name, size_t len)
{
	const struct tok *t = g->toks.v + s->at;
	size_t i = 0, at = 0, star = SIZE_MAX, star_at = 0;

	while (at < len) {
		if (i < s->n && t[i].kind == TOK_STAR) {
			star = i++;
			star_at = at;
		} else if (i < s->n && tok_is(g, &t[i], name[at])) {
			i++;
			at++;
		} else if (star != SIZE_MAX) {
			i = star + 1;
			at = ++star_at;
		} else {
			return false;
		}
	}
	while (i < s->n && t[i].kind == TOK_STAR)
		i++;
	return i == s->n;
}

static size_t name_len(const unsigned char *p, size_t left)
{
	const unsigned char *slash = memchr(p, '/', left);

	return slash ? (size_t)(slash - p) : left;
}

bool glob_match(const struct glob *g, struct span path)
{
	const unsigned char *p = path.p;
	const struct seg *s = g->segs.v;
	size_t n = g->segs.len, i = 0, at = 0, star = SIZE_MAX, star_at = 0, len;

	/* "**" at the end is everything inside: there must be something. Elsewhere it may be nothing at all. */
	while (at < path.len) {
		len = name_len(p + at, path.len - at);
		if (i + 1 == n && s[i].any)
			return true;
		if (i < n && s[i].any) {
			star = i++;
			star_at = at;
		} else if (i < n && name_match(g, &s[i], p + at, len)) {
			i++;
			at += len + (at + len < path.len);
		} else if (star != SIZE_MAX) {
			len = name_len(p + star_at, path.len - star_at);
			star_at += len + (star_at + len < path.len);
			i = star + 1;
			at = star_at;
		} else {
			return false;
		}
	}
	return i == n;
}

size_t glob_tries(const struct glob *g)
{
	size_t i;

	for (i = 0; i + 1 < g->segs.len; i++)
		if (g->segs.v[i].any)
			return g->segs.len - i - 1;
	return 0;
}
