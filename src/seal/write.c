/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing sealed files. A chunk is written when it is known whether it is the last, since the last one is tagged: a
 * file that is cut off behind any chunk does not open.
 */
#include "seal/body.h"
#include "seal/form.h"
#include "seal/header.h"
#include "seal/sealed.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <unistd.h>

struct writer {
	struct dress dress;
	struct digest ad;
	struct seal_key *signer;
	crypto_sign_state signature;
	crypto_secretstream_xchacha20poly1305_state stream;
	uint8_t *out; /* SEAL_CHUNK + BODY_OVER at most */
};

void body_keys(const uint8_t file[BODY_KEY], uint8_t stream[BODY_KEY], uint8_t commit[DIGEST_LEN])
{
	static const uint8_t words[2][crypto_generichash_blake2b_PERSONALBYTES + 1] = { "berth-seal-body",
											"berth-seal-key" };

	crypto_generichash_blake2b_salt_personal(stream, BODY_KEY, NULL, 0, file, BODY_KEY, NULL, words[0]);
	crypto_generichash_blake2b_salt_personal(commit, DIGEST_LEN, NULL, 0, file, BODY_KEY, NULL, words[1]);
}

static int emit(struct writer *w, const void *p, size_t len)
{
	if (w->signer)
		crypto_sign_update(&w->signature, p, len);
	return dress_write(&w->dress, SPAN(p, len));
}

static int compare_ids(const void *a, const void *b)
{
	const struct seal_pub *const *p = a, *const *q = b;
	struct seal_id x = seal_pub_id(*p), y = seal_pub_id(*q);

	return memcmp(x.b, y.b, sizeof(x.b));
}

static int wrap_for_all(const struct seal_job *job, const uint8_t file[BODY_KEY], struct header *h, struct err *e)
{
	const struct seal_pub *to[SEAL_TO_MAX];
	size_t i;

	_Static_assert(HEADER_BOX == BODY_KEY + crypto_box_SEALBYTES, "a sealed box of a key");
	if (job->n_to < 1 || job->n_to > SEAL_TO_MAX)
		return err_set(e, -EINVAL, "bad-key", "one to %d recipients are needed", SEAL_TO_MAX);
	for (i = 0; i < job->n_to; i++)
		to[i] = &job->to[i];
	qsort(to, job->n_to, sizeof(to[0]), compare_ids);
	for (i = 0; i < job->n_to; i++) {
		struct seal_id id = seal_pub_id(to[i]);

		if (h->n_to && memcmp(h->to[h->n_to - 1].b, id.b, sizeof(id.b)) == 0)
			continue; /* the same key twice */
		h->to[h->n_to] = id;
		if (crypto_box_seal(h->box[h->n_to++], file, BODY_KEY, to[i]->box) != 0)
			return err_set(e, -EINVAL, "bad-key", "a public key is not usable");
	}
	return 0;
}

static int begin(struct writer *w, const struct seal_job *job, struct seal_sink to, struct err *e)
{
	AUTO(header_free) struct header *h = NEW(struct header);
	AUTO(buf_fini) struct buf bytes;
	uint8_t file[BODY_KEY], stream[BODY_KEY];
	int r = seal_policy_check(job->policy, e);

	buf_init(&bytes, HEADER_PRE + SEAL_HEADER_MAX);
	if (r < 0)
		return r;
	seal_policy_copy(&h->policy, job->policy);
	randombytes_buf(file, sizeof(file));
	body_keys(file, stream, h->commit);
	r = wrap_for_all(job, file, h, e);
	crypto_secretstream_xchacha20poly1305_init_push(&w->stream, h->stream, stream);
	wipe(file, sizeof(file));
	wipe(stream, sizeof(stream));
	if (r < 0)
		return r;
	w->signer = job->signer;
	if (job->signer) {
		h->is_signed = true;
		memcpy(h->signer, seal_key_pub(job->signer)->sign, sizeof(h->signer));
		crypto_sign_init(&w->signature);
		crypto_sign_update(&w->signature, (const uint8_t *)BODY_SIGNED, strlen(BODY_SIGNED));
	}
	r = header_put(h, &bytes);
	if (r < 0)
		return err_set(e, r, "bad-policy", "the header would be over %d bytes", SEAL_HEADER_MAX);
	w->ad = body_ad(buf_span(&bytes));
	r = dress_begin(&w->dress, job->form, to);
	return r < 0 ? r : emit(w, buf_span(&bytes).p, buf_len(&bytes));
}

static int chunk(struct writer *w, const uint8_t *p, size_t len, bool last)
{
	unsigned long long n = 0;
	int r;

	r = crypto_secretstream_xchacha20poly1305_push(&w->stream, w->out, &n, p, len, w->ad.b, sizeof(w->ad.b),
						       last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0);
	assert(r == 0 && n == len + BODY_OVER);
	(void)r;
	return emit(w, w->out, (size_t)n);
}

static int end(struct writer *w)
{
	uint8_t pair[64], signature[BODY_SIGNATURE];

	if (w->signer) {
		seal_key_sign_pair(w->signer, pair);
		crypto_sign_final_create(&w->signature, signature, NULL, pair);
		wipe(pair, sizeof(pair));
		if (dress_write(&w->dress, SPAN(signature, sizeof(signature))) < 0)
			return -EIO;
	}
	return dress_end(&w->dress);
}

static int fill(struct seal_source from, uint8_t *p, size_t *ret)
{
	size_t have = 0;

	while (have < SEAL_CHUNK) {
		ssize_t n = from.read(from.ctx, p + have, SEAL_CHUNK - have);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	*ret = have;
	return 0;
}

static int stream(struct writer *w, struct seal_source from, struct secret *buffers[2])
{
	uint8_t *p[2] = { secret_use(buffers[0]), secret_use(buffers[1]) };
	size_t have[2] = { 0, 0 };
	int now = 0, r = fill(from, p[0], &have[0]);

	while (r == 0) {
		have[!now] = 0;
		if (have[now] == SEAL_CHUNK)
			r = fill(from, p[!now], &have[!now]);
		if (r == 0)
			r = chunk(w, p[now], have[now], !have[!now]);
		if (!have[!now])
			break;
		now = !now;
	}
	secret_rest(buffers[0]);
	secret_rest(buffers[1]);
	return r;
}

static void writer_fini(struct writer *w)
{
	wipe(&w->stream, sizeof(w->stream));
	free(w->out);
}

int seal_stream(const struct seal_job *job, struct seal_source from, struct seal_sink to, struct err *e)
{
	AUTO(secret_free) struct secret *a = secret_new(SEAL_CHUNK);
	AUTO(secret_free) struct secret *b = secret_new(SEAL_CHUNK);
	AUTO(writer_fini) struct writer w = { .out = must_calloc(1, SEAL_CHUNK + BODY_OVER) };
	int r;

	if (!a || !b)
		return err_set(e, -ENOMEM, "enomem", "no memory that can be guarded is left");
	r = begin(&w, job, to, e);
	if (r == 0)
		r = stream(&w, from, (struct secret *[2]){ a, b });
	if (r == 0)
		r = end(&w);
	return r < 0 && e && !e->code ? err_sys(e, r, "sealing") : r;
}

int seal_secret(const struct seal_job *job, struct secret *value, struct buf *to, struct err *e)
{
	AUTO(writer_fini)
	struct writer w = { .out = must_calloc(1, MIN(secret_len(value), (size_t)SEAL_CHUNK) + BODY_OVER) };
	size_t at = 0, len = secret_len(value);
	int r = begin(&w, job, seal_sink_buf(to), e);

	do {
		size_t n = MIN(len - at, (size_t)SEAL_CHUNK);

		if (r < 0)
			break;
		r = chunk(&w, secret_use(value) + at, n, at + n == len);
		secret_rest(value);
		at += n;
	} while (at < len);
	if (r == 0)
		r = end(&w);
	return r < 0 && e && !e->code ? err_sys(e, r, "sealing") : r;
}

/* --- where bytes come from and go to ------------------------------------------------------------------------------ */

static ssize_t read_fd(void *ctx, void *p, size_t len)
{
	ssize_t n;

	do {
		n = read(*(int *)ctx, p, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int write_fd(void *ctx, struct span data)
{
	const uint8_t *p = data.p;

	while (data.len) {
		ssize_t n = write(*(int *)ctx, p, data.len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			data.len -= (size_t)n;
		}
	}
	return 0;
}

static ssize_t read_span(void *ctx, void *p, size_t len)
{
	struct span *left = ctx;
	size_t n = MIN(len, left->len);

	memcpy(p, left->p, n);
	*left = SPAN((const uint8_t *)left->p + n, left->len - n);
	return (ssize_t)n;
}

static int write_buf(void *ctx, struct span data)
{
	return buf_append(ctx, data.p, data.len);
}

struct seal_source seal_source_fd(int *fd)
{
	return (struct seal_source){ read_fd, fd };
}

struct seal_sink seal_sink_fd(int *fd)
{
	return (struct seal_sink){ write_fd, fd };
}

struct seal_source seal_source_span(struct span *left)
{
	return (struct seal_source){ read_span, left };
}

struct seal_sink seal_sink_buf(struct buf *b)
{
	return (struct seal_sink){ write_buf, b };
}
