/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that run, as far as the journal tells: those that began and have not ended. Their first rows may be
 * forgotten long before they end, so they are kept in meta "running": of each u64 number of the row, u16 length, then
 * what the row says (an id, and words behind a NUL each).
 */
#include "host/store/inside.h"

#include "base/str.h"

#include <errno.h>

enum { HEAD = 10 };

void running_put(struct txn *t, const struct running *v, size_t n)
{
	struct buf b;
	size_t i;

	buf_init(&b, RUNNING_MAX * (HEAD + RUNNING_ID_MAX) + RUNNING_WORDS_MAX_B);
	for (i = 0; i < n && i < RUNNING_MAX; i++) {
		struct span text = v[i].text;
		uint8_t head[HEAD];

		/* Of too many words only those that came first are kept. */
		if (buf_len(&b) + text.len > RUNNING_WORDS_MAX_B)
			text.len = strnlen(text.p, text.len);
		put_u64(head, v[i].seq);
		put_u16(head + 8, (uint16_t)text.len);
		buf_append(&b, head, sizeof(head));
		buf_append(&b, text.p, text.len);
	}
	db_put(t->t, WT_META, span_str("running"), buf_span(&b), DB_PUT_SET); /* longer than meta_put() takes */
	buf_fini(&b);
}

int running_next(struct txn *t, size_t *at, struct running *ret)
{
	struct span v;
	const uint8_t *p;
	size_t len;
	int r = meta_get(t, "running", &v);

	if (r != 0)
		return r;
	if (*at == v.len)
		return STORE_E_NONE;
	if (*at + HEAD > v.len)
		return -EIO;
	p = (const uint8_t *)v.p + *at;
	len = get_u16(p + 8);
	if (!len || *at + HEAD + len > v.len)
		return -EIO;
	*ret = (struct running){ .seq = get_u64(p), .text = SPAN(p + HEAD, len) };
	*at += HEAD + len;
	return 0;
}
