/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store has of a secret: version (1), number (4), added (8), newest (8), how many digests (1), digests; in
 * version 2 the length of a note (4) and the note; the sealed file (none: removed).
 */
#include "host/secret/inside.h"

#include "base/str.h"

#include <errno.h>

enum { RECORD_HEAD = 1 + 4 + 8 + 8 + 1 };

static void put_be(uint8_t *p, uint64_t v, int n)
{
	while (n--) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

static uint64_t get_be(const uint8_t *p, int n)
{
	uint64_t v = 0;
	int i;

	for (i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

void record_pack(const struct entry *x, struct span sealed, struct buf *to)
{
	uint8_t head[RECORD_HEAD] = { x->note ? 2 : 1 }, len[4];
	size_t i;

	put_be(head + 1, x->number, 4);
	put_be(head + 5, (uint64_t)x->added_ns, 8);
	put_be(head + 13, x->newest_ms, 8);
	head[21] = (uint8_t)x->n_past;
	buf_append(to, head, sizeof(head));
	for (i = 0; i < x->n_past; i++)
		buf_append(to, x->past[i].b, DIGEST_LEN);
	if (x->note) {
		put_be(len, strlen(x->note), 4);
		buf_append(to, len, sizeof(len));
		buf_append(to, x->note, strlen(x->note));
	}
	buf_append(to, sealed.p, sealed.len);
}

int record_unpack(struct span record, struct entry *x, struct record_parts *ret)
{
	const uint8_t *p = record.p;
	size_t head, len = 0;

	if (record.len < RECORD_HEAD || p[0] < 1 || p[0] > 2 || p[21] > SECRETS_PAST_MAX)
		return -EIO;
	x->n_past = p[21];
	head = RECORD_HEAD + x->n_past * DIGEST_LEN + (p[0] == 2 ? 4 : 0);
	if (record.len < head)
		return -EIO;
	if (p[0] == 2)
		len = get_be(p + head - 4, 4);
	if (record.len - head < len)
		return -EIO;
	x->number = (uint32_t)get_be(p + 1, 4);
	x->added_ns = (int64_t)get_be(p + 5, 8);
	x->newest_ms = get_be(p + 13, 8);
	memcpy(x->past, p + RECORD_HEAD, x->n_past * DIGEST_LEN);
	*ret = (struct record_parts){ SPAN(p + head, len), SPAN(p + head + len, record.len - head - len) };
	return 0;
}

void entry_free(struct entry **slot)
{
	struct entry *x = *slot;

	if (!x)
		return;
	*slot = NULL;
	seal_policy_fini(&x->policy);
	str_free(&x->note);
	free(x);
}
