/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a stream of frames, fed in pieces: each frame that parses is decoded and dumped. */
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(buf_fini) struct buf in, line;
	struct frame f;
	size_t i, step = size ? 1 + data[0] % 61 : 1;

	buf_init(&in, FRAME_HEADER + FRAME_MAX);
	buf_init(&line, 65536);
	for (i = 0; i < size; i += step) {
		int r = buf_append(&in, data + i, MIN(step, size - i));

		while (r == 0 && (r = frame_parse(&in, &f, NULL)) == 0) {
			msg_dump(&line, f.type, f.payload);
			buf_fini(&line);
			frame_consume(&in, &f);
		}
		if (r < 0)
			break;
	}
	return 0;
}
