/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fields of a tag (one byte), a length (two, little-endian) and bytes, in the order of their tags. There is one way to
 * write a header: what was read is written again and must be the same, so that no two files mean the same and nothing
 * hides in an unknown field. A new field is a new version, and a header is of the oldest version that can say it.
 */
#include "seal/header.h"

#include "base/str.h"
#include "seal/sealed.h"

#include <errno.h>

static const uint8_t magic[7] = { 'B', 'E', 'R', 'T', 'H', 'S', 'F' };
enum { AT_VERSION = sizeof(magic), AT_LENGTH };

enum tag {
	TAG_CREATED = 1,
	TAG_NAME,
	TAG_DELIVERY,
	TAG_TEMPLATE,
	TAG_SANDBOX,
	TAG_HOST,
	TAG_EXPIRES,
	TAG_OWNER,
	TAG_SIGNER,
	TAG_RECIPIENT,
	TAG_COMMIT,
	TAG_STREAM,
	/* of version 2 */
	TAG_METHOD,
	TAG_PATH,
	TAG_PER_MINUTE,
	TAG_BODY_MAX,
	TAG_ANSWER_MAX,
	TAG_HEADER,
	TAG_PREFIX,
};

void header_free(struct header **slot)
{
	struct header *h = *slot;

	if (!h)
		return;
	*slot = NULL;
	seal_policy_fini(&h->policy);
	free(h);
}

static void put_le(uint8_t *p, uint64_t v, int n)
{
	int i;

	for (i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, int n)
{
	uint64_t v = 0;
	int i;

	for (i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static void put_field(struct buf *b, enum tag tag, const void *p, size_t len)
{
	uint8_t head[3] = { (uint8_t)tag };

	put_le(head + 1, len, 2);
	buf_append(b, head, sizeof(head));
	buf_append(b, p, len);
}

static void put_number(struct buf *b, enum tag tag, uint64_t v)
{
	uint8_t raw[8];

	put_le(raw, v, 8);
	put_field(b, tag, raw, sizeof(raw));
}

static void put_list(struct buf *b, enum tag tag, const struct seal_list *l)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		put_field(b, tag, l->v[i], strlen(l->v[i]));
}

static void put_request(const struct seal_policy *p, struct buf *b)
{
	put_list(b, TAG_METHOD, &p->methods);
	put_list(b, TAG_PATH, &p->paths);
	if (p->per_minute)
		put_number(b, TAG_PER_MINUTE, p->per_minute);
	if (p->body_max)
		put_number(b, TAG_BODY_MAX, p->body_max);
	if (p->answer_max)
		put_number(b, TAG_ANSWER_MAX, p->answer_max);
	if (p->header[0])
		put_field(b, TAG_HEADER, p->header, strlen(p->header));
	if (p->prefix[0])
		put_field(b, TAG_PREFIX, p->prefix, strlen(p->prefix));
}

static void put_fields(const struct header *h, struct buf *b)
{
	const struct seal_policy *p = &h->policy;
	uint8_t delivery = (uint8_t)p->delivery, recipient[SEAL_ID_LEN + HEADER_BOX];
	size_t i;

	put_number(b, TAG_CREATED, p->created_ms);
	put_field(b, TAG_NAME, p->name, strlen(p->name));
	put_field(b, TAG_DELIVERY, &delivery, 1);
	put_list(b, TAG_TEMPLATE, &p->templates);
	put_list(b, TAG_SANDBOX, &p->sandboxes);
	put_list(b, TAG_HOST, &p->hosts);
	if (p->expires_ms)
		put_number(b, TAG_EXPIRES, p->expires_ms);
	if (p->owner[0])
		put_field(b, TAG_OWNER, p->owner, strlen(p->owner));
	if (h->is_signed)
		put_field(b, TAG_SIGNER, h->signer, sizeof(h->signer));
	for (i = 0; i < h->n_to; i++) {
		memcpy(recipient, h->to[i].b, SEAL_ID_LEN);
		memcpy(recipient + SEAL_ID_LEN, h->box[i], HEADER_BOX);
		put_field(b, TAG_RECIPIENT, recipient, sizeof(recipient));
	}
	put_field(b, TAG_COMMIT, h->commit, sizeof(h->commit));
	put_field(b, TAG_STREAM, h->stream, sizeof(h->stream));
	put_request(p, b);
}

int header_put(const struct header *h, struct buf *to)
{
	AUTO(buf_fini) struct buf fields;
	uint8_t pre[HEADER_PRE];

	buf_init(&fields, SEAL_HEADER_MAX);
	put_fields(h, &fields);
	if (fields.failed)
		return -E2BIG;
	memcpy(pre, magic, sizeof(magic));
	pre[AT_VERSION] = seal_policy_version(&h->policy);
	put_le(pre + AT_LENGTH, buf_len(&fields), 4);
	buf_append(to, pre, sizeof(pre));
	return buf_append(to, buf_span(&fields).p, buf_len(&fields));
}

static int damaged(struct err *e, const char *why)
{
	return err_set(e, -EBADMSG, "damaged", "%s", why);
}

int header_length(const uint8_t pre[HEADER_PRE], size_t *ret, struct err *e)
{
	uint64_t len = get_le(pre + AT_LENGTH, 4);

	if (memcmp(pre, magic, sizeof(magic)) != 0)
		return damaged(e, "this is no sealed file");
	if (pre[AT_VERSION] < 1 || pre[AT_VERSION] > HEADER_VERSION)
		return err_set(e, -EPROTONOSUPPORT, "unknown-version",
			       "a sealed file of version %u; versions 1 to %d are what is known here", pre[AT_VERSION],
			       HEADER_VERSION);
	if (len > SEAL_HEADER_MAX)
		return damaged(e, "the header is damaged");
	*ret = (size_t)len;
	return 0;
}

static bool get_text(const uint8_t *p, size_t len, char *to, size_t max)
{
	if (len < 1 || len > max || memchr(p, 0, len))
		return false;
	memcpy(to, p, len);
	to[len] = 0;
	return true;
}

static bool get_word(struct header *h, enum seal_scope kind, const uint8_t *p, size_t len)
{
	char word[SEAL_PATH_MAX + 1];

	return get_text(p, len, word, kind == SEAL_PATH ? SEAL_PATH_MAX : SEAL_HOST_MAX) &&
	       seal_policy_add(&h->policy, kind, word, NULL) == 0;
}

/* There is no field for 0. */
static bool get_number(const uint8_t *p, size_t len, uint64_t *to)
{
	*to = len == 8 ? get_le(p, 8) : 0;
	return *to > 0;
}

static bool get_bytes(const uint8_t *p, size_t len, void *to, size_t want)
{
	if (len != want)
		return false;
	memcpy(to, p, len);
	return true;
}

/* Sets what a field says; order, repetition and absence show when it is written again. */
static bool get_field(struct header *h, enum tag tag, const uint8_t *p, size_t len)
{
	struct seal_policy *q = &h->policy;

	switch (tag) {
	case TAG_CREATED:
		q->created_ms = len == 8 ? get_le(p, 8) : 0;
		return len == 8;
	case TAG_NAME:
		return get_text(p, len, q->name, SEAL_NAME_MAX);
	case TAG_DELIVERY:
		q->delivery = len == 1 ? (enum seal_delivery)p[0] : (enum seal_delivery)0;
		return len == 1;
	case TAG_TEMPLATE:
		return get_word(h, SEAL_TEMPLATE, p, len);
	case TAG_SANDBOX:
		return get_word(h, SEAL_SANDBOX, p, len);
	case TAG_HOST:
		return get_word(h, SEAL_HOST, p, len);
	case TAG_EXPIRES:
		q->expires_ms = len == 8 ? get_le(p, 8) : 0;
		return len == 8;
	case TAG_OWNER:
		return get_text(p, len, q->owner, SEAL_OWNER_MAX);
	case TAG_SIGNER:
		h->is_signed = true;
		return get_bytes(p, len, h->signer, sizeof(h->signer));
	case TAG_RECIPIENT:
		if (len != SEAL_ID_LEN + HEADER_BOX || h->n_to == SEAL_TO_MAX)
			return false;
		memcpy(h->to[h->n_to].b, p, SEAL_ID_LEN);
		memcpy(h->box[h->n_to], p + SEAL_ID_LEN, HEADER_BOX);
		h->n_to++;
		return h->n_to < 2 || memcmp(h->to[h->n_to - 2].b, p, SEAL_ID_LEN) < 0;
	case TAG_COMMIT:
		return get_bytes(p, len, h->commit, sizeof(h->commit));
	case TAG_STREAM:
		return get_bytes(p, len, h->stream, sizeof(h->stream));
	case TAG_METHOD:
		return get_word(h, SEAL_METHOD, p, len);
	case TAG_PATH:
		return get_word(h, SEAL_PATH, p, len);
	case TAG_PER_MINUTE:
		return get_number(p, len, &q->per_minute);
	case TAG_BODY_MAX:
		return get_number(p, len, &q->body_max);
	case TAG_ANSWER_MAX:
		return get_number(p, len, &q->answer_max);
	case TAG_HEADER:
		return get_text(p, len, q->header, SEAL_PUT_NAME_MAX);
	case TAG_PREFIX:
		return get_text(p, len, q->prefix, SEAL_PUT_PREFIX_MAX);
	}
	return false;
}

int header_get(struct span bytes, struct header **ret, struct err *e)
{
	AUTO(header_free) struct header *h = NEW(struct header);
	AUTO(buf_fini) struct buf again;
	const uint8_t *p = (const uint8_t *)bytes.p + HEADER_PRE;
	size_t left = bytes.len - HEADER_PRE;

	buf_init(&again, HEADER_PRE + SEAL_HEADER_MAX);
	while (left) {
		size_t len = left >= 3 ? (size_t)get_le(p + 1, 2) : 0;

		if (left < 3 || left - 3 < len || !get_field(h, (enum tag)p[0], p + 3, len))
			return damaged(e, "the header is damaged");
		p += 3 + len;
		left -= 3 + len;
	}
	if (header_put(h, &again) < 0 || !span_eq(buf_span(&again), bytes) || !h->n_to ||
	    seal_policy_check(&h->policy, NULL) < 0)
		return damaged(e, "the header is damaged");
	*ret = take(&h);
	return 0;
}
