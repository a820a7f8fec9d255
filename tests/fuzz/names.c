/* SPDX-License-Identifier: Apache-2.0 */
/* Questions of sandboxes and answers of resolvers. What is accepted lies inside of the message, and can be refused. */
#include "host/net/message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void see(void *ctx, const struct priv_prefix *p)
{
	if (p->len != 32 && p->len != 128)
		abort();
	++*(unsigned *)ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *m = must_memdup(data, size);
	struct question q;
	unsigned told = 0;
	bool answer;
	int ttl;

	for (answer = false;; answer = true) {
		if (message_question(SPAN(m, size), answer, &q) == 0) {
			if (q.end > size || strlen(q.name) >= sizeof(q.name) || strchr(q.name, ' '))
				abort();
		}
		if (answer)
			break;
	}
	ttl = message_answers(m, size, 3600, see, &told);
	if (ttl > 3600 || (size_t)told * 14 > size)
		abort();
	if (message_question(SPAN(m, size), false, &q) == 0 &&
	    (message_refuse(m, q.end, MESSAGE_SERVFAIL) != q.end || message_question(SPAN(m, q.end), true, &q) < 0))
		abort();
	mem_free(&m);
	return 0;
}
