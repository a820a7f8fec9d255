/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that two readers could understand differently are refused; bodies come out as they were, however they come.
 */
#include "host/broker/head.h"

#include <criterion/criterion.h>
#include <errno.h>

#define TOP "GET /svc/a?b=c HTTP/1.1\r\n"
#define HOST "Host: berth.internal\r\n"

static struct head head;

static ssize_t parse(const char *text)
{
	return head_parse(span_str(text), &head, NULL);
}

Test(broker_head, what_is_taken)
{
	const char *text = TOP HOST "Content-Length: 5\r\nX-A:  b c \t\r\nAccept:\r\n\r\nhello";

	cr_assert_eq(parse(text), (ssize_t)strlen(text) - 5);
	cr_assert_str_eq(head.method, "GET");
	cr_assert(span_eq(head.path, span_str("/svc/a")));
	cr_assert(span_eq(head.query, span_str("b=c")));
	cr_assert(head.has_length && head.length == 5 && head.keep && !head.chunked);
	cr_assert(span_eq(head_get(&head, "x-a"), span_str("b c")));
	cr_assert_eq(parse("GET http://berth.internal/svc HTTP/1.1\r\n" HOST "\r\n") > 0, 1);
	cr_assert(span_eq(head.path, span_str("/svc")));
	cr_assert(parse("GET / HTTP/1.0\r\n\r\n") > 0 && !head.keep);
	cr_assert(parse(TOP HOST "Connection: x, Close\r\n\r\n") > 0 && !head.keep);
	cr_assert(parse(TOP HOST "Transfer-Encoding: Chunked\r\n\r\n") > 0 && head.chunked);
	cr_assert_eq(parse(TOP HOST), 0, "more is waited for");
	cr_assert_eq(parse(""), 0);
}

Test(broker_head, what_is_refused)
{
	static const char *const bad[] = {
		TOP HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
		TOP HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		TOP HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		TOP HOST "Transfer-Encoding: chunked, identity\r\n\r\n",
		TOP HOST "Transfer-Encoding: xchunked\r\n\r\n",
		TOP HOST "Transfer-Encoding:\x0b" "chunked\r\n\r\n",
		TOP HOST "Content-Length: +5\r\n\r\n",
		TOP HOST "Content-Length: 5, 5\r\n\r\n",
		TOP HOST "Content-Length: 0x5\r\n\r\n",
		TOP HOST "Content-Length: -1\r\n\r\n",
		TOP HOST "Content-Length:\r\n\r\n",
		TOP HOST "Content-Length: 99999999999999999999\r\n\r\n",
		TOP HOST "Content-Length : 5\r\n\r\n",
		TOP HOST "X-A: b\r\n c\r\n\r\n",
		TOP HOST "X-A: b\r\n\tc\r\n\r\n",
		TOP HOST "X-A: b\rX-B: c\r\n\r\n",
		TOP HOST "X-A: b\nX-B: c\r\n\r\n",
		TOP HOST ": b\r\n\r\n",
		TOP HOST "X A: b\r\n\r\n",
		TOP HOST "nothing\r\n\r\n",
		TOP HOST HOST "\r\n",
		TOP "\r\n",
		TOP "Host: api.github.com\r\n\r\n",
		TOP "Host: berth.internal@evil\r\n\r\n",
		TOP HOST "Expect: 200-ok\r\n\r\n",
		" GET /a HTTP/1.1\r\n" HOST "\r\n",
		"GET  /a HTTP/1.1\r\n" HOST "\r\n",
		"GET /a  HTTP/1.1\r\n" HOST "\r\n",
		"GET /a\tb HTTP/1.1\r\n" HOST "\r\n",
		"GET /a HTTP/2.0\r\n" HOST "\r\n",
		"GET /a HTTP/1.1 \r\n" HOST "\r\n",
		"GET /a\r\n" HOST "\r\n",
		"GET a HTTP/1.1\r\n" HOST "\r\n",
		"GET /a#b HTTP/1.1\r\n" HOST "\r\n",
		"GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n",
		"GET https://api.github.com/ HTTP/1.1\r\n" HOST "\r\n",
		"G\\T /a HTTP/1.1\r\n" HOST "\r\n",
		"GET /a HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
		"GET /a HTTP/1.1\n" "Host: berth.internal\n\n",
		"\nGET /a HTTP/1.1\r\n" HOST "\r\n",
	};
	struct err e = ERR_NULL;
	char nul[] = TOP HOST "X-A: b?c\r\n\r\n";
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(parse(bad[i]), -EBADMSG, "taken: %s", bad[i]);
	*strstr(nul, "b?c") = '\0';
	cr_assert_eq(head_parse(SPAN(nul, sizeof(nul) - 1), &head, NULL), -EBADMSG, "NUL");
	cr_assert_eq(head_parse(span_str("CONNECT /a HTTP/1.1\r\n" HOST "\r\n"), &head, &e), -EPERM);
	cr_assert_str_eq(e.slug, "method");
	cr_assert_eq(parse("TRACE /a HTTP/1.1\r\n" HOST "\r\n"), -EPERM);
	cr_assert_eq(head_parse(span_str(TOP HOST "Upgrade: websocket\r\n\r\n"), &head, &e), -EPERM);
	cr_assert_str_eq(e.slug, "upgrade");
}

Test(broker_head, limits)
{
	struct buf b;
	size_t i;

	buf_init(&b, 1 << 20);
	buf_printf(&b, TOP HOST);
	for (i = 0; i < HEAD_FIELDS_MAX; i++)
		buf_printf(&b, "X-%zu: y\r\n", i);
	buf_printf(&b, "\r\n");
	cr_assert_eq(head_parse(buf_span(&b), &head, NULL), -EBADMSG, "one field too many");
	buf_consume(&b, buf_len(&b));
	buf_printf(&b, TOP HOST "X: ");
	while (buf_len(&b) < HEAD_MAX - 1)
		buf_append(&b, "x", 1);
	cr_assert_eq(head_parse(buf_span(&b), &head, NULL), 0);
	buf_append(&b, "x", 1);
	cr_assert_eq(head_parse(buf_span(&b), &head, NULL), -EBADMSG, "it is never complete");
	buf_fini(&b);
}

/* In pieces of @size. Return: 0; -EBADMSG. */
static int feed(const char *text, size_t size, struct buf *to, struct body *b)
{
	size_t len = strlen(text), at = 0;

	head = (struct head){ .chunked = true };
	body_init(b, &head);
	while (at < len && !b->over) {
		ssize_t n = body_feed(b, SPAN(text + at, MIN(size, len - at)), to, NULL);

		if (n < 0)
			return (int)n;
		at += (size_t)n;
	}
	return 0;
}

Test(broker_head, chunks_in_any_pieces)
{
	static const char text[] = "5\r\nhello\r\n00b\r\n, world and\r\n0\r\n\r\n";
	static const char *const bad[] = {
		"5\r\nhelloX\r\n", "5\nhello\r\n",	    "5;a=b\r\nhello\r\n", "\r\nhello",
		"x\r\n",	   "5 \r\nhello\r\n",	    "0\r\nX: y\r\n\r\n",  "1000000000000000\r\n",
		"-1\r\n",	   "5\r\nhello\r0\r\n\r\n", "0x5\r\nhello\r\n"
	};
	struct body b;
	size_t size, i;

	for (size = 1; size <= sizeof(text); size++) {
		struct buf to;

		buf_init(&to, 0);
		cr_assert_eq(feed(text, size, &to, &b), 0);
		cr_assert(b.over);
		cr_assert_str_eq(buf_str(&to), "hello, world and");
		buf_fini(&to);
	}
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		struct buf to;

		buf_init(&to, 0);
		cr_expect_eq(feed(bad[i], 3, &to, &b), -EBADMSG, "taken: %s", bad[i]);
		buf_fini(&to);
	}
}

Test(broker_head, a_length_is_kept_and_what_is_behind_is_left)
{
	struct body b;
	struct buf to;

	buf_init(&to, 4);
	head = (struct head){ .has_length = true, .length = 5 };
	body_init(&b, &head);
	cr_assert_eq(body_feed(&b, span_str("helloGET /"), &to, NULL), 4, "as much as there is room for");
	buf_consume(&to, 4);
	cr_assert_eq(body_feed(&b, span_str("oGET /"), &to, NULL), 1);
	cr_assert(b.over);
	buf_fini(&to);
}
