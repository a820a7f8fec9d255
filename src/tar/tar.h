/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAR_TAR_H
#define TAR_TAR_H

/*
 * Archives in tar's format, as streams. Written: pax, so that names are any bytes, times have nanoseconds, and extended
 * attributes and holes are in it. Read: pax, GNU and ustar, holes of both kinds. Names are bytes here and go through
 * unchanged; whether a path is one that may be used is for whoever reads to say. Memory is bounded whatever comes.
 *
 * Why no library: they convert names between character sets, and compose letters while they are at it.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

enum {
	TAR_BLOCK = 512,
	TAR_PATH_MAX = 8191,
	TAR_PAX_MAX = 1024 * 1024, /* extended header of a member */
	TAR_MAP_MAX = 1024 * 1024, /* ranges of data in a file with holes */
	TAR_PIECE = 256 * 1024,
};
#define TAR_SIZE_MAX (1ULL << 44)

struct tar_range {
	uint64_t at, len;
};

struct tar_item {
	struct span path; /* as it is written; without a slash at the end */
	struct span link; /* of a symbolic link its text; else of a hard link the path */
	struct span xattrs; /* packed (xattr.h), users' alone */
	uint32_t mode;	    /* with the type; of a hard link without */
	bool is_link;	    /* a hard link */
	uint32_t uid, gid;
	int64_t mtime_ns;
	uint64_t size; /* of a regular file */
};

/* Return: 0; -errno, which ends it. */
typedef int tar_put_fn(void *ctx, const void *p, size_t len);
struct tar_writer {
	tar_put_fn *put;
	void *ctx;
	uint64_t member_b; /* of the data that was put */
};

/** tar_put_item() - a member's head. @map: where a regular file has data, ascending; what is not in it is a hole. Then
 * exactly that data follows, with tar_put_data(), then tar_put_done(). */
int tar_put_item(struct tar_writer *w, const struct tar_item *it, const struct tar_range *map, size_t n) MUST_CHECK;
int tar_put_data(struct tar_writer *w, const void *p, size_t len) MUST_CHECK;
int tar_put_done(struct tar_writer *w) MUST_CHECK;
/** tar_put_end() - behind the last one. */
int tar_put_end(struct tar_writer *w) MUST_CHECK;

struct tar_reader;
/* Return: bytes, 0 at the end, -errno. */
typedef ssize_t tar_get_fn(void *ctx, void *to, size_t max);

struct tar_reader *tar_reader_new(tar_get_fn *get, void *ctx);
void tar_reader_free(struct tar_reader **r);
/** tar_reader_roots() - of whole root file systems: attributes that give a program rights ("security.capability") are
 * among the xattrs, too. Before the first member. */
void tar_reader_roots(struct tar_reader *r);
enum { TAR_E_END = 1 };
/** tar_next() - the next member; what was not read of the one before is skipped. @ret borrows until the next call.
 * Return: 0; TAR_E_END; -EBADMSG slug "bad-archive" with words; -errno of the source. */
int tar_next(struct tar_reader *r, struct tar_item *ret, struct err *e) MUST_CHECK;
/** tar_read() - a piece of a regular file's data, ascending; the rest are holes. Borrows until the next call.
 * Return: 0; TAR_E_END; as tar_next(). */
int tar_read(struct tar_reader *r, uint64_t *ret_at, struct span *ret, struct err *e) MUST_CHECK;

#endif
