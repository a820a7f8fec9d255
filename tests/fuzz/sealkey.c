/* SPDX-License-Identifier: Apache-2.0 */
/* A key file and a file of recipients. What is taken is written and read again. No passphrase: that costs a second. */
#include "seal/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(seal_key_free) struct seal_key *k = NULL, *again = NULL;
	AUTO(secret_free) struct secret *text = NULL, *written = NULL;
	struct seal_pub pubs[4], back;
	struct err e = ERR_NULL;
	int i, n;

	if (size > SEAL_KEY_FILE_MAX)
		return 0;
	text = secret_of(SPAN(data, size));
	if (!text)
		return 0;
	if (seal_key_parse(text, NULL, &k, &e) < 0) {
		if (!e.text[0])
			abort();
	} else if (seal_key_text(k, NULL, true, &written) < 0 || seal_key_parse(written, NULL, &again, &e) < 0 ||
		   memcmp(seal_key_pub(k), seal_key_pub(again), sizeof(struct seal_pub)) != 0) {
		abort();
	}
	n = seal_pub_list(SPAN(data, size), pubs, 4, &e);
	for (i = 0; i < n; i++) {
		AUTO(buf_fini) struct buf b;

		buf_init(&b, 0);
		seal_pub_text(&pubs[i], &b);
		if (seal_pub_parse(buf_span(&b), &back, &e) < 0 || memcmp(&back, &pubs[i], sizeof(back)) != 0)
			abort();
	}
	return 0;
}
