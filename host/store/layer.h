/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_LAYER_H
#define HOST_STORE_LAYER_H

/*
 * Layers: images beside the store that snapshots of whole sandboxes have (docs/snapshots.md). The store knows what is
 * written down of one, verifies that it is that one, and carries it in backups; where it lies others know.
 */
#include "host/store/store.h"

#include <sys/types.h>

/* LAYER_CELL: of an image all is looked at in cells; those of zeros are as if they were not there. */
enum { LAYER_CELL = 65536, LAYER_RUN = 64, LAYER_NAME_LEN = 2 * DIGEST_LEN, LAYER_WORDS_MAX = 512 };
#define LAYER_SIZE_MAX (1ULL << 42)

/* The fact "layer/SNAPSHOT" of a workspace. */
struct layer_words {
	char layer[LAYER_NAME_LEN + 1], template_[STORE_ID_MAX + 1];
	uint64_t memory_b;
	uint32_t cpu_milli, pids;
	uint64_t size; /* of the image; 0: of an earlier version, that did not write it down, as the next */
	struct digest digest; /* layer_digest(); zeros: not known */
};

/** layer_words_put() / layer_words_read() - to text and back. Return of the latter: 0; -EIO: it names no layer. */
void layer_words_put(struct buf *to, const struct layer_words *w);
int layer_words_read(struct span text, struct layer_words *ret) MUST_CHECK;

/** layer_digest() - of an image's size and of all in it that is not zero, wherever holes are. @stop may be NULL; it is
 * read atomically: whether to break off. Return: 0; -ECANCELED; -errno. */
int layer_digest(int fd, const bool *stop, uint64_t *ret_size, struct digest *ret) MUST_CHECK;
/** layer_run() - the first cells from *@cell on that are not all zeros, LAYER_RUN at most, into @to, which has room for
 * them. Return: 1: *@cell is the first of them, *@ret_len their bytes (the last cell of an image may be a short one);
 * 0: there are none; -errno. */
int layer_run(int fd, uint64_t *cell, uint8_t *to, size_t *ret_len) MUST_CHECK;

/* Where they lie. */
struct store_layers {
	/* Return: a descriptor for reading, the caller's; -ENOENT; -errno. */
	int (*open)(void *ctx, const char *name);
	/* Those that a backup takes along. Stops when @fn returns other than 0 and returns that. */
	int (*each)(void *ctx, int (*fn)(void *to, const char *name), void *to);
	void *ctx;
	bool may_lack; /* that one is not there is told and is no problem */
};

/** store_fsck_with() - store_fsck(), and what snapshots have of layers. */
int store_fsck_with(struct store *store, const struct store_layers *layers, void (*say)(void *ctx, const char *words),
		    void *ctx, struct fsck_stats *ret, struct err *e) MUST_CHECK;

#endif
