/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the store share: a store in a directory of its own, removed at the end. */
#ifndef TESTS_UNIT_STORE_LIB_H
#define TESTS_UNIT_STORE_LIB_H

#include "base/str.h"
#include "host/store/inside.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
	char dir[64];
	struct store *store;
};

static inline int place_rm(const char *path, UNUSED const struct stat *st, UNUSED int type, UNUSED struct FTW *f)
{
	return remove(path);
}

static inline int place_open(struct place *p, uint64_t map_size_b)
{
	struct store_conf conf = { .create = true, .map_size_b = map_size_b };
	struct err e = ERR_NULL;
	int r = store_open(p->dir, &conf, &p->store, &e);

	if (r)
		fprintf(stderr, "store_open: %s: %s\n", e.slug, e.text);
	return r;
}

static inline void place_make(struct place *p, uint64_t map_size_b)
{
	snprintf(p->dir, sizeof(p->dir), "/tmp/berth-store-XXXXXX");
	cr_assert_not_null(mkdtemp(p->dir));
	cr_assert_eq(place_open(p, map_size_b), 0);
}

static inline void place_free(struct place *p)
{
	store_close(&p->store);
	nftw(p->dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
}

/* Bytes that follow from a seed, without long runs of zeros. */
static inline void fill(uint8_t *p, size_t len, uint64_t seed)
{
	size_t i;

	for (i = 0; i < len; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		p[i] = (uint8_t)(seed >> 56);
	}
}

static inline int put_content(struct store *s, const void *p, size_t len, struct content *ret)
{
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(s, NULL);
	int r = content_write(w, 0, SPAN(p, len));

	return r ? r : content_finish(w, ret);
}

static inline struct node make_node(uint64_t fid, uint32_t mode)
{
	return (struct node){ .fid = fid,
			      .ino = fid + 1000,
			      .mode = mode,
			      .nlink = S_ISDIR(mode) ? 2 : 1,
			      .uid = 1000,
			      .gid = 1000,
			      .mtime_ns = 1700000000000000000 + (int64_t)fid };
}

#endif
