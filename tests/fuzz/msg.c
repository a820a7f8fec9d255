/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: a type. Rest: its payload. What decodes must encode again, and decode to something that encodes alike. */
#include "wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	union {
		char room[512];
		uint64_t align;
	} m, again;
	AUTO(buf_fini) struct buf one, two;

	buf_init(&one, 2 * 1024 * 1024);
	buf_init(&two, 2 * 1024 * 1024);
	if (!size || !msg_name(data[0]) || msg_decode(data[0], SPAN(data + 1, size - 1), &m, NULL) < 0)
		return 0;
	if (msg_encode(&one, data[0], &m) < 0 || msg_decode(data[0], buf_span(&one), &again, NULL) < 0 ||
	    msg_encode(&two, data[0], &again) < 0 || !span_eq(buf_span(&one), buf_span(&two)))
		abort();
	msg_dump(&two, data[0], SPAN(data + 1, size - 1));
	return 0;
}
