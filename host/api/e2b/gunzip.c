/* SPDX-License-Identifier: Apache-2.0 */
#include "host/api/e2b/gunzip.h"

#include "base/io.h"

#include <errno.h>
#include <zlib.h>

enum { PIECE = 8192, WITH_GZIP = 16 + MAX_WBITS };

int gunzip_to(int fd, struct span data, uint64_t max, uint64_t *ret_n, struct err *e)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)data.p };
	size_t left = data.len;
	uint8_t piece[PIECE];
	int r = 0, status = Z_OK;

	*ret_n = 0;
	if (inflateInit2(&z, WITH_GZIP) != Z_OK)
		return err_sys(e, -ENOMEM, "unpacking a body");
	while (r == 0 && status != Z_STREAM_END) {
		if (!z.avail_in && left) {
			z.avail_in = (uInt)MIN(left, (size_t)1 << 30);
			left -= z.avail_in;
		}
		z.next_out = piece;
		z.avail_out = PIECE;
		status = inflate(&z, Z_NO_FLUSH);
		if (status != Z_OK && status != Z_STREAM_END)
			r = err_set(e, -EBADMSG, "bad-gzip", "the body is not what gzip makes");
		*ret_n += PIECE - z.avail_out;
		if (r == 0 && *ret_n > max)
			r = err_set(e, -E2BIG, "body-too-large", "the body unpacks to more than %llu bytes",
				    (unsigned long long)max);
		if (r == 0)
			r = io_write_full(fd, piece, PIECE - z.avail_out);
	}
	if (r == 0 && (left || z.avail_in))
		r = err_set(e, -EBADMSG, "bad-gzip", "there is something behind the gzip body");
	inflateEnd(&z);
	return r < 0 && !e->code ? err_sys(e, r, "unpacking a body") : r;
}
