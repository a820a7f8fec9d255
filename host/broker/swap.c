/* SPDX-License-Identifier: Apache-2.0 */
#include "host/broker/swap.h"

#include "base/str.h"

#include <errno.h>

void swap_init(struct swap *s, const struct service *service)
{
	*s = (struct swap){ .service = service };
	buf_init(&s->held, 1024 * 1024);
}

void swap_fini(struct swap *s)
{
	buf_fini(&s->held);
	s->service = NULL;
}

/* Return: how long the match at @p is, 0: none; *@ret_maybe: it could be one if more came. */
static size_t match(const struct service *s, const char *p, size_t len, const char **ret_to, bool *ret_maybe)
{
	size_t i;

	for (i = 0; i < s->rewrite.n; i++) {
		const char *from = s->rewrite.v[i], *equal = strchr(from, '=');
		size_t want = (size_t)(equal - from), have = MIN(want, len);

		if (memcmp(p, from, have) != 0)
			continue;
		if (have == want) {
			*ret_to = equal + 1;
			return want;
		}
		*ret_maybe = true;
	}
	return 0;
}

static void put(const struct service *s, const char *text, struct buf *to)
{
	const char *at = strstr(text, "{base}");

	if (!at) {
		buf_append(to, text, strlen(text));
		return;
	}
	buf_append(to, text, (size_t)(at - text));
	buf_printf(to, "http://berth.internal/%s%s", s->name, at + strlen("{base}"));
}

int swap_feed(struct swap *s, struct span in, bool is_last, struct buf *to)
{
	const char *p, *end, *from, *text;
	int r = buf_append(&s->held, in.p, in.len);

	p = from = buf_span(&s->held).p;
	end = p + buf_len(&s->held);
	/* All begin with "https://". */
	while (r == 0 && p < end && (p = memchr(p, 'h', (size_t)(end - p)))) {
		bool maybe = false;
		size_t n = match(s->service, p, (size_t)(end - p), &text, &maybe);

		if (!n && maybe && !is_last)
			break;
		if (n) {
			buf_append(to, from, (size_t)(p - from));
			put(s->service, text, to);
			from = p + n;
		}
		p += n ? n : 1;
	}
	if (!p || p > end)
		p = end;
	buf_append(to, from, (size_t)(p - from));
	buf_consume(&s->held, buf_len(&s->held) - (size_t)(end - p));
	return r < 0 ? r : to->failed ? -E2BIG : 0;
}
