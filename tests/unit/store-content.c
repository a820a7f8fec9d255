/* SPDX-License-Identifier: Apache-2.0 */
/* Contents: whatever is written in whatever order reads back, and equal bytes have equal names. */
#include "store-lib.h"

#include <pthread.h>

enum { MODEL_MAX = 700 * 1024 };

static struct place place;

static void setup(void)
{
	place_make(&place, 1 << 30);
}

static void teardown(void)
{
	place_free(&place);
}

TestSuite(content, .init = setup, .fini = teardown);

static uint64_t dice_state = 42;

static uint64_t dice(uint64_t n)
{
	dice_state = dice_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (dice_state >> 20) % n;
}

static void check_same(const struct content *c, const uint8_t *model, size_t size)
{
	AUTO(mem_free) uint8_t *got = malloc(size + 1);

	cr_assert_eq(c->size, size);
	cr_assert(content_ok(c));
	cr_assert_eq(content_read(place.store, c, 0, got, size + 1, true), (ssize_t)size);
	cr_assert_eq(memcmp(got, model, size), 0);
}

Test(content, random_edits_follow_a_model_and_are_canonical)
{
	static uint8_t model[MODEL_MAX], bytes[200 * 1024];
	struct content c = { .size = 0 }, again;
	size_t size = 0;
	int round, step;

	for (round = 0; round < 60; round++) {
		AUTO(content_writer_free) struct content_writer *w = content_writer_new(place.store, &c);

		for (step = 0; step < 12; step++) {
			uint64_t at = dice(MODEL_MAX - sizeof(bytes)), len = 1 + dice(dice(4) ? 5000 : sizeof(bytes));

			switch (dice(6)) {
			case 0:
				at = dice(MODEL_MAX);
				if (at < size)
					memset(model + at, 0, size - at);
				size = at;
				cr_assert_eq(content_resize(w, at), 0);
				break;
			case 1:
				if (at < size)
					memset(model + at, 0, MIN(len, size - at));
				cr_assert_eq(content_hole(w, at, len), 0);
				break;
			default:
				fill(bytes, len, dice(1000));
				if (!dice(3))
					memset(bytes, 0, len);
				memcpy(model + at, bytes, len);
				size = MAX(size, at + len);
				cr_assert_eq(content_write(w, at, SPAN(bytes, len)), 0);
			}
		}
		cr_assert_eq(content_finish(w, &c), 0);
		check_same(&c, model, size);
		cr_assert_eq(put_content(place.store, model, size, &again), 0);
		cr_assert_eq(memcmp(&c, &again, sizeof(c)), 0, "round %d", round);
		if (round % 7 == 0)
			cr_assert_eq(store_settle(place.store, NULL), 0);
		check_same(&c, model, size);
	}
}

Test(content, deep_and_sparse)
{
	struct content c, cut;
	uint8_t got[16];
	uint64_t off, far = UINT64_C(1) << 41;
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(place.store, NULL);
	AUTO(content_writer_free) struct content_writer *v = NULL;

	cr_assert_eq(content_write(w, 100, span_str("near")), 0);
	cr_assert_eq(content_write(w, far, span_str("far")), 0);
	cr_assert_eq(content_write(w, 40 * 1024 * 1024, span_str("mid")), 0);
	cr_assert_eq(content_write(w, CONTENT_SIZE_MAX, span_str("x")), -EFBIG);
	cr_assert_eq(content_finish(w, &c), 0);
	cr_assert_eq(c.size, far + 3);
	cr_assert_eq(store_settle(place.store, NULL), 0);
	cr_assert_eq(content_read(place.store, &c, far - 1, got, 16, true), 4);
	cr_assert_eq(memcmp(got, "\0far", 4), 0);
	cr_assert_eq(content_read(place.store, &c, 40 * 1024 * 1024, got, 4, true), 4);
	cr_assert_eq(memcmp(got, "mid", 4), 0);
	cr_assert_eq(content_next_data(place.store, &c, 70000, &off), 0);
	cr_assert_eq(off, 40 * 1024 * 1024 / CHUNK_LEN * CHUNK_LEN);
	cr_assert_eq(content_next_hole(place.store, &c, 0, &off), 0);
	cr_assert_eq(off, CHUNK_LEN);
	cr_assert_eq(content_next_data(place.store, &c, off + 50 * 1024 * 1024, &off), 0);
	cr_assert_eq(off, far / CHUNK_LEN * CHUNK_LEN);
	cr_assert_eq(content_next_hole(place.store, &c, off, &off), 0);
	cr_assert_eq(off, c.size);
	cr_assert_eq(content_next_data(place.store, &c, c.size, &off), -ENXIO);

	v = content_writer_new(place.store, &c);
	cr_assert_eq(content_resize(v, 104), 0);
	cr_assert_eq(content_finish(v, &cut), 0);
	cr_assert_eq(cut.depth, 1);
	cr_assert_eq(put_content(place.store, "near", 4, &c), 0);
	cr_assert_eq(content_read(place.store, &cut, 100, got, 16, true), 4);
	cr_assert_eq(memcmp(got, "near", 4), 0);
}

Test(content, only_a_hole)
{
	struct content c, back;
	uint64_t off;
	uint8_t got[8] = { 1, 1 };
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(place.store, NULL);
	AUTO(content_writer_free) struct content_writer *v = NULL;

	cr_assert_eq(content_resize(w, 1 << 20), 0);
	cr_assert_eq(content_finish(w, &c), 0);
	cr_assert_eq(c.depth, 0);
	cr_assert(digest_is_zero(&c.root));
	cr_assert_eq(content_read(place.store, &c, 5, got, 2, true), 2);
	cr_assert_eq(got[0] | got[1], 0);
	cr_assert_eq(content_next_data(place.store, &c, 0, &off), -ENXIO);
	cr_assert_eq(content_next_hole(place.store, &c, 7, &off), 0);
	cr_assert_eq(off, 7);
	v = content_writer_new(place.store, &c);
	cr_assert_eq(content_write(v, 70000, span_str("z")), 0);
	cr_assert_eq(content_finish(v, &back), 0);
	cr_assert(content_ok(&back));
	cr_assert_eq(content_read(place.store, &back, 70000, got, 1, true), 1);
	cr_assert_eq(got[0], 'z');
}

Test(content, what_is_there_is_not_stored_again)
{
	static uint8_t bytes[5 << 20];
	struct store_stats a, b;
	struct content c, d;

	fill(bytes, sizeof(bytes), 7);
	cr_assert_eq(put_content(place.store, bytes, sizeof(bytes), &c), 0);
	cr_assert_eq(store_settle(place.store, NULL), 0);
	cr_assert_eq(store_stat(place.store, &a, NULL), 0);
	cr_assert_eq(put_content(place.store, bytes, sizeof(bytes), &d), 0);
	cr_assert_eq(store_settle(place.store, NULL), 0);
	cr_assert_eq(store_stat(place.store, &b, NULL), 0);
	cr_assert_eq(a.chunks, b.chunks);
	cr_assert_eq(a.content_used_b, b.content_used_b);
	cr_assert_eq(b.queued_b, 0);
	cr_assert_lt(b.content_used_b, sizeof(bytes) * 102 / 100 + 300000);
}

static void *flood(void *ctx)
{
	AUTO(content_writer_free) struct content_writer *w = content_writer_new(place.store, NULL);
	AUTO(mem_free) uint8_t *bytes = malloc(1 << 20);
	struct content c;
	intptr_t seed = (intptr_t)ctx;
	int i;

	for (i = 0; i < 40; i++) {
		fill(bytes, 1 << 20, (uint64_t)(seed * 1000 + i));
		if (content_write(w, (uint64_t)i << 20, SPAN(bytes, 1 << 20)))
			return (void *)1;
	}
	if (content_finish(w, &c) || store_settle(place.store, NULL))
		return (void *)1;
	for (i = 0; i < 40; i++) {
		static __thread uint8_t got[1 << 20];

		fill(bytes, 1 << 20, (uint64_t)(seed * 1000 + i));
		if (content_read(place.store, &c, (uint64_t)i << 20, got, sizeof(got), false) != sizeof(got) ||
		    memcmp(got, bytes, sizeof(got)))
			return (void *)1;
	}
	return NULL;
}

Test(content, several_producers_share_the_writer)
{
	pthread_t threads[4];
	void *bad;
	intptr_t i;

	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, flood, (void *)(i % 3));
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], &bad);
		cr_assert_null(bad);
	}
}

Test(content, a_full_store_says_so_and_goes_on)
{
	struct place small;
	AUTO(mem_free) uint8_t *bytes = malloc(1 << 20);
	struct content first, c;
	struct fsck_stats st;
	struct err e = ERR_NULL;
	int i, r = 0;

	place_make(&small, 8 << 20);
	fill(bytes, 1 << 20, 1);
	cr_assert_eq(put_content(small.store, bytes, 1 << 20, &first), 0);
	cr_assert_eq(store_settle(small.store, &e), 0);
	for (i = 2; i < 30 && r == 0; i++) {
		fill(bytes, 1 << 20, (uint64_t)i);
		r = put_content(small.store, bytes, 1 << 20, &c);
		if (r == 0)
			r = store_settle(small.store, &e);
	}
	cr_assert_eq(r, -ENOSPC);
	cr_assert_str_eq(e.slug, "store-full");
	cr_assert_eq(store_settle(small.store, &e), 0);
	cr_assert_eq(put_content(small.store, "small", 5, &c), 0);
	cr_assert_eq(store_settle(small.store, &e), 0);
	cr_assert_eq(content_read(small.store, &first, 0, bytes, 1 << 20, true), 1 << 20);
	store_close(&small.store);
	cr_assert_eq(place_open(&small, 64 << 20), 0);
	cr_assert_eq(content_read(small.store, &first, 0, bytes, 1 << 20, true), 1 << 20);
	cr_assert_eq(content_read(small.store, &c, 0, bytes, 9, true), 5);
	cr_assert_eq(store_fsck(small.store, NULL, NULL, &st, NULL), 0);
	cr_assert_eq(st.problems, 0);
	fill(bytes, 1 << 20, 99);
	cr_assert_eq(put_content(small.store, bytes, 1 << 20, &c), 0);
	cr_assert_eq(store_settle(small.store, &e), 0);
	place_free(&small);
}

Test(content, a_store_is_used_by_one_process)
{
	struct store_conf conf = { .create = true };
	struct store *second = NULL;
	struct err e = ERR_NULL;

	cr_assert_eq(store_open(place.dir, &conf, &second, &e), -EBUSY);
	cr_assert_str_eq(e.slug, "store-in-use");
	conf.create = false;
	cr_assert_eq(store_open("/tmp/berth-no-such-dir", &conf, &second, &e), -ENOENT);
	cr_assert_str_eq(e.slug, "no-store");
}

enum { BLOCKS = 300 };

/* A file far bigger than memory would like, known by the blocks that are not zero. */
struct block {
	uint64_t at;
	uint64_t seed;
};

static void put_blocks(struct content_writer *w, const struct block *blocks, size_t step, size_t start)
{
	uint8_t bytes[4096];
	size_t i;

	for (i = 0; i < BLOCKS; i++) {
		const struct block *b = &blocks[(start + i * step) % BLOCKS];

		fill(bytes, sizeof(bytes), b->seed);
		cr_assert_eq(content_write(w, b->at, SPAN(bytes, sizeof(bytes))), 0);
	}
}

Test(content, a_huge_file_is_the_same_in_any_order)
{
	struct content_writer *w = content_writer_new(place.store, NULL), *v = content_writer_new(place.store, NULL);
	uint64_t size = UINT64_C(100) << 30, cut = size / 3;
	static struct block blocks[BLOCKS];
	struct content a, b;
	uint8_t want[4096], got[4096];
	size_t i;

	for (i = 0; i < BLOCKS; i++)
		blocks[i] = (struct block){ .at = dice(size / 4096) * 4096, .seed = i + 1 };
	cr_assert_eq(content_resize(w, size), 0);
	put_blocks(w, blocks, 1, 0);
	cr_assert_eq(content_finish(w, &a), 0);
	/* Another order, with a cut in between that is filled again, and a hole that is. */
	put_blocks(v, blocks, 7, 3);
	cr_assert_eq(content_resize(v, cut), 0);
	cr_assert_eq(content_hole(v, 12345, cut / 2), 0);
	put_blocks(v, blocks, 11, 5);
	cr_assert_eq(content_resize(v, size * 5), 0);
	cr_assert_eq(content_write(v, size * 4, span_str("far out")), 0);
	cr_assert_eq(content_resize(v, size), 0);
	cr_assert_eq(content_finish(v, &b), 0);
	cr_assert_eq(memcmp(&a, &b, sizeof(a)), 0);
	cr_assert_eq(store_settle(place.store, NULL), 0);
	for (i = 0; i < BLOCKS; i++) {
		fill(want, sizeof(want), blocks[i].seed);
		cr_assert_eq(content_read(place.store, &a, blocks[i].at, got, sizeof(got), true), 4096);
		cr_assert_eq(memcmp(got, want, sizeof(got)), 0);
	}
	content_writer_free(&w);
	content_writer_free(&v);
}
