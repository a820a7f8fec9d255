/* SPDX-License-Identifier: Apache-2.0 */
/* What is written down of a layer, and its bytes: in cells, so that a copy with other holes is the same. */
#include "host/store/layer.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void layer_words_put(struct buf *to, const struct layer_words *w)
{
	char hex[2 * DIGEST_LEN + 1];

	buf_printf(to, "layer %s\ntemplate %s\nmemory %llu\ncpu %u\npids %u\n", w->layer, w->template_,
		   (unsigned long long)w->memory_b, w->cpu_milli, w->pids);
	if (!w->size)
		return;
	str_hex(w->digest.b, DIGEST_LEN, hex);
	buf_printf(to, "size %llu\n", (unsigned long long)w->size);
	if (!digest_is_zero(&w->digest))
		buf_printf(to, "digest %s\n", hex);
}

static void take_line(struct layer_words *w, const char *key, const char *value)
{
	uint64_t n = 0;

	if (str_eq(key, "layer"))
		(void)!str_copy(w->layer, sizeof(w->layer), value);
	else if (str_eq(key, "template"))
		(void)!str_copy(w->template_, sizeof(w->template_), value);
	else if (str_eq(key, "digest"))
		(void)!str_unhex(value, w->digest.b, DIGEST_LEN);
	else if (num_u64(value, UINT64_MAX, &n) < 0)
		return;
	else if (str_eq(key, "memory"))
		w->memory_b = n;
	else if (str_eq(key, "cpu"))
		w->cpu_milli = (uint32_t)n;
	else if (str_eq(key, "pids"))
		w->pids = (uint32_t)n;
	else if (str_eq(key, "size"))
		w->size = n;
}

int layer_words_read(struct span text, struct layer_words *ret)
{
	AUTO(str_free) char *all = span_dup(text);
	char *line, *save = NULL;
	uint8_t raw[DIGEST_LEN];

	*ret = (struct layer_words){ .size = 0 };
	for (line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (!value)
			continue;
		*value++ = '\0';
		take_line(ret, line, value);
	}
	return str_unhex(ret->layer, raw, sizeof(raw)) == 0 ? 0 : -EIO;
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* One cell; fewer bytes at the end of the image. Return: how many; -errno. */
static ssize_t read_cell(int fd, uint64_t cell, uint8_t *to)
{
	size_t len = 0;

	while (len < LAYER_CELL) {
		ssize_t n = pread(fd, to + len, LAYER_CELL - len, (off_t)(cell * LAYER_CELL + len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

/* Return: 1: *@cell is one that has data; 0: there is none any more; -errno. */
static int seek_data(int fd, uint64_t *cell)
{
	off_t at = lseek(fd, (off_t)(*cell * LAYER_CELL), SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? 0 : -errno;
	*cell = (uint64_t)at / LAYER_CELL;
	return 1;
}

int layer_run(int fd, uint64_t *cell, uint8_t *to, size_t *ret_len)
{
	uint64_t at = *cell;
	size_t len = 0;
	ssize_t n = 0;
	int r;

	for (r = seek_data(fd, &at); r > 0; r = seek_data(fd, &at)) {
		n = read_cell(fd, at, to);
		if (n <= 0 || !is_zero(to, (size_t)n))
			break;
		at++;
	}
	if (r <= 0)
		return r;
	if (n <= 0)
		return (int)n;
	*cell = at;
	for (len = (size_t)n; n == LAYER_CELL && len < LAYER_RUN * LAYER_CELL; len += (size_t)n) {
		n = read_cell(fd, ++at, to + len);
		if (n < 0)
			return (int)n;
		if (is_zero(to + len, (size_t)n))
			break;
	}
	*ret_len = len;
	return 1;
}

/* Each cell is chained to those before. */
static void chain(struct digest *d, uint64_t cell, struct span data)
{
	struct {
		struct digest before, is;
		uint8_t cell[8];
	} link = { .before = *d, .is = digest_of("layer", data) };
	int i;

	for (i = 0; i < 8; i++)
		link.cell[i] = (uint8_t)(cell >> (56 - 8 * i));
	*d = digest_of("layer", SPAN(&link, sizeof(link)));
}

int layer_digest(int fd, const bool *stop, uint64_t *ret_size, struct digest *ret)
{
	AUTO(mem_free) uint8_t *run = must_calloc(LAYER_RUN, LAYER_CELL);
	struct digest d = { .b = { 0 } };
	uint64_t cell = 0, size;
	struct stat st;
	size_t len, at;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	while ((r = layer_run(fd, &cell, run, &len)) > 0) {
		if (stop && __atomic_load_n(stop, __ATOMIC_RELAXED))
			return -ECANCELED;
		for (at = 0; at < len; at += LAYER_CELL)
			chain(&d, cell++, SPAN(run + at, MIN((size_t)LAYER_CELL, len - at)));
	}
	if (r < 0)
		return r;
	size = (uint64_t)st.st_size;
	chain(&d, size, SPAN_NULL);
	*ret_size = size;
	*ret = d;
	return 0;
}
