/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/head.h"

#include "base/str.h"
#include "host/broker/weak.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

enum { CHUNK_DIGITS = 15 };

static ssize_t bad(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "bad-request", "%s", what);
}

static bool is_token(struct span s)
{
	static const char more[] = "!#$%&'*+-.^_`|~";
	const char *p = s.p;
	size_t i;

	for (i = 0; i < s.len; i++)
		if (!isalnum((unsigned char)p[i]) && (!p[i] || !strchr(more, p[i])))
			return false;
	return s.len > 0;
}

bool head_is(struct span name, const char *word)
{
	return name.len == strlen(word) && strncasecmp(name.p, word, name.len) == 0;
}

struct span head_get(const struct head *h, const char *name)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		if (head_is(h->fields[i].name, name))
			return h->fields[i].value;
	return SPAN_NULL;
}

static struct span trim(struct span s)
{
	const char *p = s.p;

	for (; s.len && (*p == ' ' || *p == '\t'); s.len--)
		p++;
	while (s.len && (p[s.len - 1] == ' ' || p[s.len - 1] == '\t'))
		s.len--;
	return SPAN(p, s.len);
}

/* The bytes up to CR LF. A CR or LF alone, NUL and other control characters are none of anything. */
static int next_line(struct span *in, struct span *ret, struct err *e)
{
	const unsigned char *p = in->p;
	size_t i;

	for (i = 0; i + 1 < in->len; i++) {
		if (p[i] == '\r' && p[i + 1] == '\n') {
			*ret = SPAN(p, i);
			*in = SPAN(p + i + 2, in->len - i - 2);
			return 0;
		}
		if ((p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
			return (int)bad(e, "control characters in the head");
	}
	return (int)bad(e, "a line without an end");
}

/* "/path?query", or the whole URL of ours. */
static int read_target(struct span t, struct head *ret, struct err *e)
{
	static const char ours[] = "http://berth.internal/";
	const char *p = t.p, *q;
	size_t i;

	if (t.len > sizeof(ours) && strncasecmp(p, ours, sizeof(ours) - 1) == 0) {
		p += sizeof(ours) - 2;
		t.len -= sizeof(ours) - 2;
	}
	if (!t.len || *p != '/' || t.len > HEAD_TARGET_MAX)
		return (int)bad(e, "a target that is no path");
	for (i = 0; i < t.len; i++)
		if ((unsigned char)p[i] <= 0x20 || (unsigned char)p[i] >= 0x7f || p[i] == '#')
			return (int)bad(e, "a target with bytes that it may not have");
	q = memchr(p, '?', t.len);
	ret->path = SPAN(p, q ? (size_t)(q - p) : t.len);
	ret->query = q ? SPAN(q + 1, t.len - ret->path.len - 1) : SPAN_NULL;
	return 0;
}

static int read_first(struct span line, struct head *ret, struct err *e)
{
	static const char *const never[] = { "CONNECT", "TRACE", "TRACK", "PRI" };
	const char *p = line.p, *one = memchr(p, ' ', line.len);
	const char *two = one ? memchr(one + 1, ' ', line.len - (size_t)(one + 1 - p)) : NULL;
	struct span version;
	size_t i;

	if (!two || (size_t)(one - p) > HEAD_METHOD_MAX || !is_token(SPAN(p, (size_t)(one - p))))
		return (int)bad(e, "no request line");
	memcpy(ret->method, p, (size_t)(one - p));
	version = SPAN(two + 1, line.len - (size_t)(two + 1 - p));
	ret->is_10 = span_eq(version, span_str("HTTP/1.0"));
	if (!ret->is_10 && !span_eq(version, span_str("HTTP/1.1")))
		return (int)bad(e, "neither HTTP/1.1 nor HTTP/1.0");
	for (i = 0; i < ARRAY_LEN(never); i++)
		if (str_eq(ret->method, never[i]))
			return err_set(e, -EPERM, "method", "%s is never let through", ret->method);
	return read_target(SPAN(one + 1, (size_t)(two - one - 1)), ret, e);
}

static int read_field(struct span line, struct head *ret, struct err *e)
{
	const char *p = line.p, *colon = memchr(p, ':', line.len);
	struct head_field *f = &ret->fields[ret->n];

	if (*p == ' ' || *p == '\t')
		return (int)bad(e, "a folded line");
	if (!colon || !is_token(SPAN(p, (size_t)(colon - p))))
		return (int)bad(e, "a field without a name");
	if (ret->n == HEAD_FIELDS_MAX)
		return err_set(e, -EBADMSG, "head-too-large", "more than %d fields", HEAD_FIELDS_MAX);
	f->name = SPAN(p, (size_t)(colon - p));
	f->value = trim(SPAN(colon + 1, line.len - (size_t)(colon + 1 - p)));
	ret->n++;
	return 0;
}

/* Is a word among those of a field with commas? */
static bool has_word(struct span list, const char *word)
{
	const char *p = list.len ? list.p : "", *end = p + list.len;

	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;

		if (head_is(trim(SPAN(p, (size_t)(stop - p))), word))
			return true;
		p = comma ? comma + 1 : end;
	}
	return false;
}

static int read_length(struct span v, struct head *ret, struct err *e)
{
	AUTO(str_free) char *text = span_dup(v);

	if (span_has_nul(v) || v.len > 18 || num_u64(text, INT64_MAX, &ret->length) < 0)
		return (int)bad(e, "Content-Length is no number");
	ret->has_length = true;
	return 0;
}

static int read_framing(struct head *ret, struct err *e)
{
	size_t i, lengths = 0, codings = 0, hosts = 0;
	struct span connection = head_get(ret, "connection");
	int r = 0;

	for (i = 0; i < ret->n && r == 0; i++) {
		struct head_field *f = &ret->fields[i];

		if (head_is(f->name, "content-length")) {
			lengths++;
			r = read_length(f->value, ret, e);
		} else if (head_is(f->name, "transfer-encoding")) {
			codings++;
			ret->chunked = head_is(f->value, "chunked");
			if (!ret->chunked)
				r = (int)bad(e, "a transfer coding that is not chunked");
		} else if (head_is(f->name, "host")) {
			hosts++;
			if (!head_is(f->value, "berth.internal") && !head_is(f->value, "berth.internal:80"))
				r = (int)bad(e, "a host that is not berth.internal");
		} else if (head_is(f->name, "upgrade")) {
			r = err_set(e, -EPERM, "upgrade", "connections are not changed into others");
		} else if (head_is(f->name, "expect")) {
			ret->continue_ = head_is(f->value, "100-continue");
			if (!ret->continue_)
				r = (int)bad(e, "an expectation that is not 100-continue");
		}
	}
	if (r < 0)
		return r;
	if (lengths + codings > 1 && !broker_weak(BROKER_WEAK_PARSE))
		return (int)bad(e, "more than one framing of the body");
	if (codings && ret->is_10)
		return (int)bad(e, "a transfer coding in HTTP/1.0");
	if (hosts != 1 && !(hosts == 0 && ret->is_10))
		return (int)bad(e, "one Host is wanted");
	ret->keep = ret->is_10 ? false : !has_word(connection, "close");
	return 0;
}

ssize_t head_parse(struct span in, struct head *ret, struct err *e)
{
	const char *end = memmem(in.p, in.len, "\r\n\r\n", 4);
	size_t len = end ? (size_t)(end - (const char *)in.p) + 4 : 0;
	struct span rest, line;
	int r;

	*ret = (struct head){ .n = 0 };
	if (!end && in.len < HEAD_MAX) {
		/* What cannot become one is not waited for. */
		if (memmem(in.p, in.len, "\n\n", 2) || (in.len && *(const char *)in.p == '\n'))
			return bad(e, "lines without CR");
		return 0;
	}
	if (!end || len > HEAD_MAX)
		return err_set(e, -EBADMSG, "head-too-large", "a head of more than %d bytes", HEAD_MAX);
	rest = SPAN(in.p, len - 2);
	r = next_line(&rest, &line, e);
	if (r == 0)
		r = read_first(line, ret, e);
	while (r == 0 && rest.len) {
		r = next_line(&rest, &line, e);
		if (r == 0)
			r = line.len ? read_field(line, ret, e) : (int)bad(e, "an empty line");
	}
	if (r == 0)
		r = read_framing(ret, e);
	return r < 0 ? r : (ssize_t)len;
}

/* --- body --------------------------------------------------------------------------------------------------------- */

enum { IN_SIZE, IN_SIZE_LF, IN_DATA, IN_DATA_CR, IN_DATA_LF, IN_END_CR, IN_END_LF };

void body_init(struct body *b, const struct head *h)
{
	*b = (struct body){ .chunked = h->chunked, .left = h->has_length ? h->length : 0 };
	b->over = !b->chunked && !b->left;
}

/* One byte that is no content. Extensions of chunks and trailers are no use to anybody here, and refused. */
static int step(struct body *b, unsigned char c)
{
	switch (b->state) {
	case IN_SIZE:
		if (c == '\r' && b->line > 0) {
			b->state = IN_SIZE_LF;
			return 0;
		}
		if (!isxdigit(c) || b->line++ >= CHUNK_DIGITS)
			return -EBADMSG;
		b->left = b->left << 4 | (unsigned)(isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
		return 0;
	case IN_SIZE_LF:
		b->state = b->left ? IN_DATA : IN_END_CR;
		b->line = 0;
		return c == '\n' ? 0 : -EBADMSG;
	case IN_DATA_CR:
		b->state = IN_DATA_LF;
		return c == '\r' ? 0 : -EBADMSG;
	case IN_DATA_LF:
		b->state = IN_SIZE;
		return c == '\n' ? 0 : -EBADMSG;
	case IN_END_CR:
		b->state = IN_END_LF;
		return c == '\r' ? 0 : -EBADMSG;
	default:
		b->over = true;
		return c == '\n' ? 0 : -EBADMSG;
	}
}

ssize_t body_feed(struct body *b, struct span in, struct buf *to, struct err *e)
{
	const unsigned char *p = in.p;
	size_t at = 0;

	while (at < in.len && !b->over) {
		if (b->chunked && b->state != IN_DATA) {
			if (step(b, p[at++]) < 0)
				return bad(e, "a body whose chunks are not right");
			continue;
		}
		size_t n = MIN(MIN((uint64_t)(in.len - at), b->left), (uint64_t)buf_room(to));

		if (!n)
			break;
		if (buf_append(to, p + at, n) < 0)
			return bad(e, "no memory for a body");
		at += n;
		b->left -= n;
		b->all += n;
		if (!b->left && b->chunked)
			b->state = IN_DATA_CR;
		else if (!b->left)
			b->over = true;
	}
	return (ssize_t)at;
}
