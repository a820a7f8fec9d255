/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All forms of a value lie one behind the other in one secret, which is opened for a look at a piece.
 *
 * Whoever reads the answer may also have written what the service says back, so neither how long a look takes nor what
 * is held back may tell how much of a text is right. Where a form could begin is known by a print of the first bytes
 * that every form has, keyed at random, and what follows is compared in constant time: nothing is to be seen below
 * eight bytes that are right. What is held back at the end of a piece is what could be the beginning of a form of that
 * length, whatever it says: all of it, but nothing in front of a control character, which no value has.
 */
#include "host/broker/mask.h"

#include "base/str.h"
#include "host/broker/weak.h"
#include "seal/digest.h"

#include <ctype.h>
#include <errno.h>

enum { FORMS_MAX = 50, FORMS_ROOM = 64 }; /* how many, and of how many bytes for each of a text's at most */
enum { PRINT_BITS = 12 };

/* What lies in the secret. */
struct forms {
	uint64_t key[3];
	uint8_t prints[(1 << PRINT_BITS) / 8]; /* a bit for that of each form */
	uint8_t text[]; /* one behind the other */
};

struct mask {
	struct secret *all;
	size_t n;
	struct form {
		size_t at, len;
		unsigned print; /* under a key that is in the secret */
	} *form;
	size_t longest, text_len;
};

static const char alphabet[2][65] = { "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" };

/* The characters that depend on the value alone when it stands @shift bytes behind a border of three. */
static size_t base64_of(const uint8_t *v, size_t len, size_t shift, const char *words, uint8_t *to)
{
	size_t first = (shift * 8 + 5) / 6, last = (shift + len) * 8 / 6, i, n = 0;

	for (i = first; i < last; i++) {
		unsigned six = 0, bit;

		for (bit = 0; bit < 6; bit++) {
			size_t at = i * 6 + bit - shift * 8;

			six = six << 1 | (v[at / 8] >> (7 - at % 8) & 1);
		}
		to[n++] = (uint8_t)words[six];
	}
	return n;
}

/* Who spells how: what stays besides letters and digits, and whether a space is a plus. */
static const struct spelling {
	const char *stays;
	bool plus;
} spellings[] = {
	{ "-._~", false },	 /* what must be, as we do */
	{ "-._~", true },	 /* Go's QueryEscape, Python's quote_plus */
	{ "-._*", true },	 /* forms of browsers, Java */
	{ "-._~/", false },	 /* Python's quote */
	{ "-._~!'()*", false }, /* encodeURIComponent */
};

static size_t url_of(const uint8_t *v, size_t len, bool upper, const struct spelling *how, uint8_t *to)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	size_t i, n = 0;

	for (i = 0; i < len; i++) {
		if (isalnum(v[i]) || (v[i] && strchr(how->stays, v[i]))) {
			to[n++] = v[i];
		} else if (how->plus && v[i] == ' ') {
			to[n++] = '+';
		} else {
			to[n++] = '%';
			to[n++] = (uint8_t)digits[v[i] >> 4];
			to[n++] = (uint8_t)digits[v[i] & 15];
		}
	}
	return n;
}

size_t mask_url(struct span value, char *to)
{
	return url_of(value.p, value.len, true, &spellings[0], (uint8_t *)to);
}

/* URL-encoded by someone who spares no byte. */
static size_t percent_of(const uint8_t *v, size_t len, const char *digits, uint8_t *to)
{
	size_t i;

	for (i = 0; i < len; i++) {
		to[3 * i] = '%';
		to[3 * i + 1] = (uint8_t)digits[v[i] >> 4];
		to[3 * i + 2] = (uint8_t)digits[v[i] & 15];
	}
	return 3 * len;
}

static size_t hex_of(const uint8_t *v, size_t len, const char *digits, uint8_t *to)
{
	size_t i;

	for (i = 0; i < len; i++) {
		to[2 * i] = (uint8_t)digits[v[i] >> 4];
		to[2 * i + 1] = (uint8_t)digits[v[i] & 15];
	}
	return 2 * len;
}

/* As a string of JSON has it. @slash: '/' is escaped too; @html: what HTML knows, as Go does. */
static size_t json_of(const uint8_t *v, size_t len, bool slash, bool html, uint8_t *to)
{
	size_t i, n = 0;

	for (i = 0; i < len; i++) {
		if (html && (v[i] == '&' || v[i] == '<' || v[i] == '>')) {
			memcpy(to + n, v[i] == '&' ? "\\u0026" : v[i] == '<' ? "\\u003c" : "\\u003e", 6);
			n += 6;
			continue;
		}
		if (v[i] == '"' || v[i] == '\\' || (slash && v[i] == '/'))
			to[n++] = '\\';
		to[n++] = v[i];
	}
	return n;
}

/* One more form, unless it is there already. */
static void add(struct mask *m, uint8_t *all, size_t *end, size_t len)
{
	size_t i;

	for (i = 0; i < m->n; i++)
		if (m->form[i].len == len && memcmp(all + m->form[i].at, all + *end, len) == 0)
			return;
	if (len < MASK_SHORTEST || m->n == FORMS_MAX)
		return;
	m->form[m->n].at = *end;
	m->form[m->n++].len = len;
	m->longest = MAX(m->longest, len);
	*end += len;
}

/* All forms of a text. */
static void add_forms(struct mask *m, uint8_t *all, size_t *end, const uint8_t *v, size_t len)
{
	size_t i, shift;

	if (len < MASK_SHORTEST)
		return;
	memcpy(all + *end, v, len);
	add(m, all, end, len);
	add(m, all, end, json_of(v, len, false, false, all + *end));
	add(m, all, end, json_of(v, len, true, false, all + *end));
	add(m, all, end, json_of(v, len, false, true, all + *end));
	for (i = 0; i < 2 * ARRAY_LEN(spellings); i++)
		add(m, all, end, url_of(v, len, i % 2, &spellings[i / 2], all + *end));
	for (i = 0; i < 2; i++) {
		const char *digits = i ? "0123456789ABCDEF" : "0123456789abcdef";

		add(m, all, end, percent_of(v, len, digits, all + *end));
		add(m, all, end, hex_of(v, len, digits, all + *end));
		for (shift = 0; shift < 3; shift++)
			add(m, all, end, base64_of(v, len, shift, alphabet[i], all + *end));
	}
}

/* Of the first MASK_SHORTEST bytes. */
static unsigned print_of(const struct forms *f, const uint8_t *p)
{
	uint64_t x;

	_Static_assert(MASK_SHORTEST == sizeof(x), "a print is of what every form has");
	memcpy(&x, p, sizeof(x));
	x = (x ^ f->key[0]) * f->key[1];
	x = (x ^ x >> 32) * f->key[2];
	return (unsigned)(x >> (64 - PRINT_BITS));
}

/* Room for texts; used until print_all(). */
static struct forms *make_room(struct mask *m, size_t len)
{
	m->all =
		secret_new((sizeof(struct forms) + len + 15) / 16 * 16); /* it ends with a page: so it begins aligned */
	m->text_len = len;
	return m->all ? (void *)secret_use(m->all) : NULL;
}

/* The texts and forms are there. */
static void print_all(struct mask *m, struct forms *f)
{
	size_t i;

	random_bytes(f->key, sizeof(f->key));
	f->key[1] |= 1;
	f->key[2] |= 1;
	for (i = 0; i < m->n; i++) {
		struct form *x = &m->form[i];

		x->print = print_of(f, f->text + x->at);
		f->prints[x->print / 8] |= (uint8_t)(1U << x->print % 8);
	}
	secret_rest(m->all);
}

int mask_new(struct secret *value, struct mask **ret)
{
	AUTO(mask_free) struct mask *m = NEW(struct mask);
	AUTO(secret_free) struct secret *room = secret_new(64 + 2 * FORMS_ROOM * (secret_len(value) + 4));
	size_t len = secret_len(value), end = 0;
	const uint8_t *v, *colon;
	struct forms *f;
	uint8_t *all;

	if (!room)
		return -ENOMEM;
	m->form = must_calloc(FORMS_MAX, sizeof(m->form[0]));
	v = secret_use(value);
	all = secret_use(room);
	if (!broker_weak(BROKER_WEAK_MASK)) {
		add_forms(m, all, &end, v, len);
		/* "user:password", of which a service may say the password alone */
		colon = len ? memchr(v, ':', len) : NULL;
		if (colon)
			add_forms(m, all, &end, colon + 1, len - (size_t)(colon + 1 - v));
	}
	secret_rest(value);
	/* Most texts look the same in many of them, so little of the room is kept. */
	f = make_room(m, end);
	if (f)
		memcpy(f->text, all, end);
	secret_rest(room);
	if (!f)
		return -ENOMEM;
	print_all(m, f);
	*ret = take(&m);
	return 0;
}

int mask_join(struct mask *const *v, size_t n, struct mask **ret)
{
	AUTO(mask_free) struct mask *m = NEW(struct mask);
	size_t i, k, len = 0, forms = 0;
	struct forms *f;

	for (i = 0; i < n; i++) {
		len += v[i]->text_len;
		forms += v[i]->n;
	}
	f = make_room(m, len);
	if (!f)
		return -ENOMEM;
	m->form = must_calloc(forms, sizeof(m->form[0]));
	for (i = 0, len = 0; i < n; len += v[i++]->text_len) {
		memcpy(f->text + len, ((struct forms *)(void *)secret_use(v[i]->all))->text, v[i]->text_len);
		secret_rest(v[i]->all);
		for (k = 0; k < v[i]->n; k++)
			m->form[m->n++] = (struct form){ .at = len + v[i]->form[k].at, .len = v[i]->form[k].len };
		m->longest = MAX(m->longest, v[i]->longest);
	}
	print_all(m, f);
	*ret = take(&m);
	return 0;
}

void mask_free(struct mask **slot)
{
	struct mask *m = take(slot);

	if (!m)
		return;
	secret_free(&m->all);
	mem_free(&m->form);
	free(m);
}

/* Where what is held back begins: where a form could that is not all there. */
static size_t tail_of(const struct mask *m, const uint8_t *p, size_t len)
{
	size_t first = len - MIN(len, m->longest - 1), at;

	for (at = len; at > first; at--)
		if (p[at - 1] < 0x20 || p[at - 1] == 0x7f)
			break;
	return at;
}

/* The longest form that stands at the beginning of so many bytes. */
static size_t form_at(const struct mask *m, const struct forms *f, const uint8_t *p, size_t len)
{
	unsigned print = print_of(f, p);
	size_t i, longest = 0;

	for (i = 0; i < m->n; i++)
		if (m->form[i].print == print && m->form[i].len <= len &&
		    secret_eq(p, f->text + m->form[i].at, m->form[i].len))
			longest = MAX(longest, m->form[i].len);
	return longest;
}

/* Masks in place. Return: where the rest begins that may be the beginning of a form; @len when @is_last. */
static size_t look(struct mask *m, uint8_t *p, size_t len, bool is_last, size_t *found)
{
	const struct forms *f = (const void *)secret_use(m->all);
	size_t at = 0, rest = is_last ? len : tail_of(m, p, len);

	while (at < rest && len - at >= MASK_SHORTEST) {
		unsigned print = print_of(f, p + at);
		size_t n = f->prints[print / 8] >> print % 8 & 1 ? form_at(m, f, p + at, len - at) : 0;

		if (n)
			memset(p + at, '*', n);
		*found += n > 0;
		at += n ? n : 1;
	}
	secret_rest(m->all);
	return MAX(at, rest);
}

size_t mask_bytes(struct mask *m, void *p, size_t len)
{
	size_t found = 0;

	if (m && m->n)
		look(m, p, len, true, &found);
	return found;
}

void mask_stream_init(struct mask_stream *s, struct mask *m)
{
	*s = (struct mask_stream){ .mask = m && m->n ? m : NULL };
	buf_init(&s->held, 4 * 1024 * 1024);
}

void mask_stream_fini(struct mask_stream *s)
{
	if (s->held.p)
		wipe(s->held.p, s->held.cap);
	buf_fini(&s->held);
	s->mask = NULL;
}

int mask_feed(struct mask_stream *s, struct span in, struct buf *to)
{
	size_t go;
	int r;

	if (!s->mask)
		return buf_append(to, in.p, in.len);
	r = buf_append(&s->held, in.p, in.len);
	if (r < 0)
		return r;
	go = look(s->mask, s->held.p + s->held.start, buf_len(&s->held), false, &s->found);
	r = buf_append(to, buf_span(&s->held).p, go);
	buf_consume(&s->held, go);
	return r;
}

int mask_end(struct mask_stream *s, struct buf *to)
{
	int r;

	if (!buf_len(&s->held))
		return 0;
	look(s->mask, s->held.p + s->held.start, buf_len(&s->held), true, &s->found);
	r = buf_append(to, buf_span(&s->held).p, buf_len(&s->held));
	buf_consume(&s->held, buf_len(&s->held));
	return r;
}
