/* SPDX-License-Identifier: Apache-2.0 */
/* The Connect protocol as far as these clients use it: JSON, unary and server streams. An envelope is a byte of flags
 * (2: the last one), a length of four bytes, and the message. */
#include "host/api/e2b/e2b.h"

#include "base/str.h"

#include <errno.h>

enum { LAST = 2, ENVELOPE = 5 };

const char *e2b_code_of(const struct err *e, int *ret_status)
{
	static const struct {
		int code;
		const char *word;
		int status;
	} table[] = {
		{ EINVAL, "invalid_argument", 400 },
		{ ENAMETOOLONG, "invalid_argument", 400 },
		{ ENOTDIR, "invalid_argument", 400 },
		{ EISDIR, "invalid_argument", 400 },
		{ EBADMSG, "invalid_argument", 400 },
		{ EUSERS, "resource_exhausted", 429 },
		{ E2BIG, "resource_exhausted", 429 },
		{ ENOKEY, "unauthenticated", 401 },
		{ EKEYREJECTED, "unauthenticated", 401 },
		{ EACCES, "permission_denied", 403 },
		{ EPERM, "permission_denied", 403 },
		{ ENOENT, "not_found", 404 },
		{ ESRCH, "not_found", 404 },
		{ EEXIST, "already_exists", 409 },
		{ ELOOP, "failed_precondition", 400 },
		{ ENOSPC, "resource_exhausted", 429 },
		{ EDQUOT, "resource_exhausted", 429 },
		{ ENOSYS, "unimplemented", 501 },
		{ EOPNOTSUPP, "unimplemented", 501 },
		{ EAGAIN, "unavailable", 503 },
		{ EPIPE, "unavailable", 503 },
		{ ESHUTDOWN, "unavailable", 503 },
		{ EBUSY, "unavailable", 503 },
		{ ETIMEDOUT, "deadline_exceeded", 504 },
	};
	static const struct {
		const char *slug, *word;
		int status;
	} slugs[] = { { "unknown-user", "unauthenticated", 401 },
		      { "bad-directory", "invalid_argument", 400 },
		      { "no-stdin", "internal", 500 },
		      { "is-pty", "internal", 500 } };
	size_t i;

	for (i = 0; i < ARRAY_LEN(slugs); i++) {
		if (!str_eq(slugs[i].slug, e->slug))
			continue;
		*ret_status = slugs[i].status;
		return slugs[i].word;
	}
	for (i = 0; i < ARRAY_LEN(table); i++) {
		if (table[i].code != -e->code)
			continue;
		*ret_status = table[i].status;
		return table[i].word;
	}
	*ret_status = 500;
	return "internal";
}

int e2b_envelope(struct http_req *req, struct json **ret, struct err *e)
{
	uint64_t size;
	int fd;
	struct span body = http_body(req, &fd, &size);
	const uint8_t *p = body.p;

	if (fd >= 0)
		return err_set(e, -E2BIG, "body-too-large", "a message of at most 1 MiB is expected here");
	if (body.len < ENVELOPE || p[0] != 0 ||
	    ((size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4]) != body.len - ENVELOPE)
		return err_set(e, -EINVAL, "bad-request", "one envelope, not compressed, is expected here");
	return json_parse(SPAN(p + ENVELOPE, body.len - ENVELOPE), ret, e);
}

static void put(struct buf *to, uint8_t flags, struct span json)
{
	uint8_t head[ENVELOPE] = { flags, (uint8_t)(json.len >> 24), (uint8_t)(json.len >> 16),
				   (uint8_t)(json.len >> 8), (uint8_t)json.len };

	buf_append(to, head, sizeof(head));
	buf_append(to, json.p, json.len);
}

void e2b_put_message(struct buf *to, struct span json)
{
	put(to, 0, json);
}

void e2b_put_last(struct buf *to, const struct err *e)
{
	struct json_writer w = { .b = NULL };
	struct buf text;
	int status;

	buf_init(&text, 4096);
	w.b = &text;
	jw_open(&w, '{');
	if (e) {
		jw_key(&w, "error");
		jw_open(&w, '{');
		jw_kstr(&w, "code", e2b_code_of(e, &status));
		jw_kstr(&w, "message", e->text);
		jw_close(&w, '}');
	}
	jw_close(&w, '}');
	put(to, LAST, buf_span(&text));
	buf_fini(&text);
}
