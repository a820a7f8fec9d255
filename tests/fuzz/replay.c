/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libFuzzer: runs every file of a directory and a fixed number of seeded mutations of each. */
#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MUTATIONS = 3000, LONG_TIMES = 100, BYTES_MAX = 1024 * 1024 };

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void mutate(const uint8_t *p, size_t len, uint64_t *state)
{
	uint8_t *copy = must_memdup(p, len);
	size_t i, edits = 1 + next_random(state) % 4, n = len;

	for (i = 0; i < edits && n; i++) {
		static const uint8_t hot[] = { 0x00, 0xff, 0x7f, 0x80, 0xc4, 0xc6, 0xcf,
					       0xd3, 0xdb, 0xdd, 0xdf, 0x91, 0xc9 };
		uint64_t r = next_random(state);

		if (r % 8 == 0)
			n = r / 8 % (n + 1);
		else if (n)
			copy[r / 8 % n] = r % 8 < 4 ? hot[r / 64 % sizeof(hot)] : (uint8_t)(r >> 40);
	}
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : ".";
	DIR *dir = opendir(path);
	uint64_t state = 88172645463325252ULL;
	struct dirent *d;
	int files = 0, i, times = getenv("BERTH_LONG") ? MUTATIONS * LONG_TIMES : MUTATIONS;

	if (!dir)
		return 77;
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	while ((d = readdir(dir))) {
		AUTO(buf_fini) struct buf b;
		AUTO(str_free) char *file = str_printf("%s/%s", path, d->d_name);

		buf_init(&b, BYTES_MAX);
		if (d->d_name[0] == '.' || io_read_file(AT_FDCWD, file, &b) < 0)
			continue;
		files++;
		LLVMFuzzerTestOneInput(buf_span(&b).p, buf_len(&b));
		for (i = 0; i < times; i++)
			mutate(buf_span(&b).p, buf_len(&b), &state);
	}
	closedir(dir);
	printf("%d files replayed\n", files);
	return files ? 0 : 1;
}
