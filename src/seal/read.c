/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading sealed files. A window of the file is kept that is longer than a chunk and a signature together: what does
 * not fill it is the end. Every chunk is authenticated before it is given on, the number of chunks with the last one,
 * and the signature after it; so the caller keeps what he got to himself until the end.
 */
#include "seal/body.h"
#include "seal/form.h"
#include "seal/header.h"
#include "seal/sealed.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

enum { WINDOW = SEAL_CHUNK + BODY_OVER + BODY_SIGNATURE + 1 };

struct sealed {
	struct undress from;
	struct header *header;
	struct digest ad;
	crypto_sign_state signature;
	uint8_t *window;
	size_t have;
	bool done;
};

static int damaged(struct err *e, const char *why)
{
	return err_set(e, -EBADMSG, "damaged", "%s", why);
}

static int read_failed(struct err *e, int r)
{
	return r == -EBADMSG ? damaged(e, "the file is damaged or cut off") : err_sys(e, r, "reading it");
}

static int read_full(struct sealed *s, uint8_t *p, size_t len, struct err *e)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = undress_read(&s->from, p + have, len - have);

		if (n < 0)
			return read_failed(e, (int)n);
		if (n == 0)
			return damaged(e, "the file is cut off");
		have += (size_t)n;
	}
	return 0;
}

static int read_header(struct sealed *s, struct err *e)
{
	AUTO(buf_fini) struct buf b;
	uint8_t pre[HEADER_PRE];
	size_t len;
	uint8_t *p;
	int r;

	buf_init(&b, HEADER_PRE + SEAL_HEADER_MAX);
	r = read_full(s, pre, sizeof(pre), e);
	if (r == 0)
		r = header_length(pre, &len, e);
	if (r < 0)
		return r;
	buf_append(&b, pre, sizeof(pre));
	p = buf_reserve(&b, len ? len : 1);
	if (!p)
		return err_sys(e, -ENOMEM, "reading it");
	r = read_full(s, p, len, e);
	if (r < 0)
		return r;
	buf_commit(&b, len);
	r = header_get(buf_span(&b), &s->header, e);
	if (r < 0)
		return r;
	s->ad = body_ad(buf_span(&b));
	crypto_sign_init(&s->signature);
	crypto_sign_update(&s->signature, (const uint8_t *)BODY_SIGNED, strlen(BODY_SIGNED));
	crypto_sign_update(&s->signature, buf_span(&b).p, buf_len(&b));
	return 0;
}

int sealed_open(struct seal_source from, struct sealed **ret, struct err *e)
{
	AUTO(sealed_close) struct sealed *s = NEW(struct sealed);
	int r = sodium_init() < 0 ? -ENOSYS : undress_begin(&s->from, from);

	if (r < 0)
		return r == -EBADMSG ? damaged(e, "this is no sealed file") : err_sys(e, r, "reading it");
	r = read_header(s, e);
	if (r == 0)
		*ret = take(&s);
	return r;
}

void sealed_close(struct sealed **slot)
{
	struct sealed *s = *slot;

	if (!s)
		return;
	*slot = NULL;
	header_free(&s->header);
	free(s->window);
	free(s);
}

const struct seal_policy *sealed_policy(const struct sealed *s)
{
	return &s->header->policy;
}

enum seal_form sealed_form(const struct sealed *s)
{
	return s->from.form;
}

size_t sealed_to(const struct sealed *s, const struct seal_id **ret)
{
	*ret = s->header->to;
	return s->header->n_to;
}

const uint8_t *sealed_signer(const struct sealed *s)
{
	return s->header->is_signed ? s->header->signer : NULL;
}

/* The next chunk is at the beginning of the window; what is in front of it is dropped first. */
static int next_chunk(struct sealed *s, size_t used, size_t *ret_len, bool *ret_last, struct err *e)
{
	size_t tail = s->header->is_signed ? BODY_SIGNATURE : 0;

	memmove(s->window, s->window + used, s->have - used);
	s->have -= used;
	while (s->have < WINDOW) {
		ssize_t n = undress_read(&s->from, s->window + s->have, WINDOW - s->have);

		if (n < 0)
			return read_failed(e, (int)n);
		if (n == 0)
			break;
		s->have += (size_t)n;
	}
	*ret_last = s->have <= SEAL_CHUNK + BODY_OVER + tail;
	*ret_len = *ret_last ? s->have - MIN(s->have, tail) : SEAL_CHUNK + BODY_OVER;
	if (*ret_len < BODY_OVER || (used && *ret_len == BODY_OVER))
		return damaged(e, "the file is cut off");
	return 0;
}

static int check_signature(struct sealed *s, struct err *e)
{
	if (s->header->is_signed &&
	    crypto_sign_final_verify(&s->signature, s->window + s->have - BODY_SIGNATURE, s->header->signer) != 0)
		return err_set(e, -EKEYREJECTED, "bad-signature", "the signature is not that of the key that it names");
	return 0;
}

/* The key of the stream, with the first of our sealed boxes. */
static int find_key(struct sealed *s, struct seal_key *k, uint8_t stream[BODY_KEY], struct err *e)
{
	struct seal_id mine = seal_pub_id(seal_key_pub(k));
	uint8_t file[BODY_KEY], commit[DIGEST_LEN];
	char text[SEAL_ID_TEXT];
	size_t i;
	int r;

	for (i = 0; i < s->header->n_to && memcmp(mine.b, s->header->to[i].b, sizeof(mine.b)) != 0;)
		i++;
	seal_id_text(&mine, text);
	if (i == s->header->n_to)
		return err_set(e, -ENOKEY, "wrong-key", "it is not sealed to the key %s", text);
	r = seal_key_unwrap(k, s->header->box[i], HEADER_BOX, file);
	if (r == 0)
		body_keys(file, stream, commit);
	wipe(file, sizeof(file));
	if (r < 0 || !secret_eq(commit, s->header->commit, sizeof(commit)))
		return damaged(e, "the part for this key is damaged");
	return 0;
}

/* One chunk into a secret that is as long as it. */
static int pull(struct sealed *s, crypto_secretstream_xchacha20poly1305_state *stream, size_t len, bool last,
		struct secret *to)
{
	unsigned char tag = 0xff;
	unsigned long long n = 0;
	int r;

	r = crypto_secretstream_xchacha20poly1305_pull(stream, secret_use(to), &n, &tag, s->window, len, s->ad.b,
						       sizeof(s->ad.b));
	secret_rest(to);
	return r == 0 && tag == (last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0) ? 0 : -EBADMSG;
}

static int give(struct secret *plain, size_t len, struct seal_sink to)
{
	int r = to.write ? to.write(to.ctx, SPAN(secret_use(plain), len)) : 0;

	if (to.write)
		secret_rest(plain);
	return r;
}

/* From the first chunk to the signature; @stream NULL: nothing is opened. */
static int body(struct sealed *s, crypto_secretstream_xchacha20poly1305_state *stream, struct seal_sink to,
		uint64_t *ret_len, struct err *e)
{
	AUTO(secret_free) struct secret *plain = NULL;
	size_t len = 0;
	bool last = false;
	int r = 0;

	assert(!s->done);
	s->done = true;
	s->window = must_calloc(1, WINDOW);
	*ret_len = 0;
	while (!last) {
		r = next_chunk(s, len, &len, &last, e);
		if (r < 0)
			return r;
		if (s->header->is_signed)
			crypto_sign_update(&s->signature, s->window, len);
		*ret_len += len - BODY_OVER;
		if (!stream)
			continue;
		if (!plain)
			plain = secret_new(len - BODY_OVER);
		if (!plain)
			return err_set(e, -ENOMEM, "enomem", "no memory that can be guarded is left");
		if (pull(s, stream, len, last, plain) < 0)
			return damaged(e, "it is damaged: a byte was changed, or it is not whole");
		r = give(plain, len - BODY_OVER, to);
		if (r < 0)
			return err_sys(e, r, "writing what is inside");
	}
	return check_signature(s, e);
}

int sealed_body(struct sealed *s, struct seal_key *k, struct seal_sink to, struct err *e)
{
	crypto_secretstream_xchacha20poly1305_state stream;
	uint8_t key[BODY_KEY];
	uint64_t len;
	int r = find_key(s, k, key, e);

	if (r < 0)
		return r;
	r = crypto_secretstream_xchacha20poly1305_init_pull(&stream, s->header->stream, key);
	assert(r == 0);
	wipe(key, sizeof(key));
	r = body(s, &stream, to, &len, e);
	wipe(&stream, sizeof(stream));
	return r;
}

int sealed_walk(struct sealed *s, uint64_t *ret_len, struct err *e)
{
	return body(s, NULL, (struct seal_sink){ 0 }, ret_len, e);
}

struct value {
	struct secret *s;
	size_t len, max;
};

/* The first chunk makes the room: most values are one chunk. */
static int write_value(void *ctx, struct span data)
{
	struct value *v = ctx;
	struct secret *more;

	if (data.len > v->max - v->len)
		return -E2BIG;
	if (!v->s || v->len + data.len > secret_len(v->s)) {
		more = secret_new(v->s ? MIN(v->max, 2 * v->len + data.len) : data.len);
		if (!more)
			return -ENOMEM;
		if (v->s) {
			memcpy(secret_use(more), secret_use(v->s), v->len);
			secret_rest(v->s);
			secret_rest(more);
		}
		secret_free(&v->s);
		v->s = more;
	}
	if (data.len)
		memcpy(secret_use(v->s) + v->len, data.p, data.len);
	if (data.len)
		secret_rest(v->s);
	v->len += data.len;
	return 0;
}

int sealed_value(struct sealed *s, struct seal_key *k, size_t max, struct secret **ret, struct err *e)
{
	struct value v = { .max = MIN(max, (size_t)SECRET_MAX) };
	int r = sealed_body(s, k, (struct seal_sink){ write_value, &v }, e);

	if (r == 0) {
		secret_cut(v.s, v.len);
		*ret = take(&v.s);
	}
	secret_free(&v.s);
	return r;
}
