/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of sealing, one JSON line each as bench-store's. Values have 40 bytes and one recipient. The peer is
 * libsodium's sealed box alone, without policy, stream and guarded memory; that of the throughput is its secretstream
 * alone.
 */
#include "base/clock.h"
#include "seal/sealed.h"

#include <sodium.h>
#include <stdio.h>

enum { TIMES = 3000, BIG_MIB = 256, MIB = 1024 * 1024 };

static void tell(const char *name, const char *goal, const char *unit, double figure, double peer)
{
	printf("{\"name\":\"%s\",\"goal\":\"%s\",\"unit\":\"%s\",\"figure\":%.1f,\"peer\":%.1f,\"ratio\":%.3f}\n", name,
	       goal, unit, figure, peer, peer > 0 ? figure / peer : 0);
}

static double since(uint64_t t)
{
	return (double)(clock_now() - t) / 1e9;
}

static void must(bool ok)
{
	if (!ok)
		abort();
}

static ssize_t zeroes(void *ctx, void *p, size_t len)
{
	uint64_t *left = ctx;
	size_t n = MIN(len, *left);

	memset(p, 0, n);
	*left -= n;
	return (ssize_t)n;
}

static int nowhere(void *ctx, struct span data)
{
	*(uint64_t *)ctx += data.len;
	return 0;
}

static double stream_of_peer(void)
{
	crypto_secretstream_xchacha20poly1305_state st;
	uint8_t head[24], key[32] = { 0 }, *in = must_calloc(1, SEAL_CHUNK), *out = must_calloc(1, SEAL_CHUNK + 17);
	uint64_t t = clock_now();
	int i;

	crypto_secretstream_xchacha20poly1305_init_push(&st, head, key);
	for (i = 0; i < BIG_MIB * (MIB / SEAL_CHUNK); i++)
		crypto_secretstream_xchacha20poly1305_push(&st, out, NULL, in, SEAL_CHUNK, NULL, 0, 0);
	free(in);
	free(out);
	return BIG_MIB / since(t);
}

static void boxes_of_peer(double *seals, double *opens)
{
	uint8_t pk[32], sk[32], in[40] = { 0 }, box[40 + crypto_box_SEALBYTES];
	uint64_t t;
	int i;

	crypto_box_keypair(pk, sk);
	t = clock_now();
	for (i = 0; i < TIMES; i++)
		must(crypto_box_seal(box, in, sizeof(in), pk) == 0);
	*seals = TIMES / since(t);
	t = clock_now();
	for (i = 0; i < TIMES; i++)
		must(crypto_box_seal_open(in, box, sizeof(box), pk, sk) == 0);
	*opens = TIMES / since(t);
}

int main(void)
{
	struct seal_policy p = { .name = "TOKEN", .delivery = SEAL_FILE, .created_ms = 1 };
	struct seal_key *k = NULL;
	struct secret *value;
	struct seal_pub pub;
	struct seal_job job = { .policy = &p, .to = &pub, .n_to = 1, .form = SEAL_BINARY };
	double seals, opens;
	uint64_t t, left = (uint64_t)BIG_MIB * MIB, out = 0;
	struct buf b;
	int i;

	must(secret_process() == 0 && seal_key_new(&k) == 0);
	pub = *seal_key_pub(k);
	value = secret_of(span_str("0123456789012345678901234567890123456789"));
	boxes_of_peer(&seals, &opens);
	buf_init(&b, 0);
	t = clock_now();
	for (i = 0; i < TIMES; i++) {
		buf_consume(&b, buf_len(&b));
		must(seal_secret(&job, value, &b, NULL) == 0);
	}
	tell("seal.seals", "-", "values/s", TIMES / since(t), seals);
	t = clock_now();
	for (i = 0; i < TIMES; i++) {
		struct sealed *s = NULL;
		struct secret *v = NULL;
		struct span in = buf_span(&b);

		must(sealed_open(seal_source_span(&in), &s, NULL) == 0 && sealed_value(s, k, 1000, &v, NULL) == 0);
		secret_free(&v);
		sealed_close(&s);
	}
	tell("seal.opens", "-", "values/s", TIMES / since(t), opens);
	t = clock_now();
	must(seal_stream(&job, (struct seal_source){ zeroes, &left }, (struct seal_sink){ nowhere, &out }, NULL) == 0);
	tell("seal.stream", "-", "MiB/s", BIG_MIB / since(t), stream_of_peer());
	secret_free(&value);
	seal_key_free(&k);
	buf_fini(&b);
	return 0;
}
