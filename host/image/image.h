/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_IMAGE_IMAGE_H
#define HOST_IMAGE_IMAGE_H

/*
 * Images of registries: what one is called, fetching it with the image tool, and its layers as one archive.
 * docs/images.md is the theory. Everything here works on the caller's thread and blocks as long as it takes.
 */
#include "base/vec.h"
#include "host/image/ref.h"
#include "host/priv/priv.h"
#include "tar/tar.h"

enum { IMAGE_LAYERS_MAX = 128, IMAGE_ENVS_MAX = 256, IMAGE_DIGEST = 64 };

struct image_conf {
	struct priv *priv; /* NULL: images are not fetched */
	const char *allow; /* registries, by blanks or commas; "*": any of the internet */
	uint64_t size_max_b; /* of one, unpacked */
	uint64_t time_ms;
};

/* One that is asked for. */
struct image_job {
	const struct image_conf *conf;
	const struct image_ref *ref;
	struct span auth; /* what image_auth() wrote; empty: none */
	uint64_t until; /* of the tool, and of reading what it has fetched */
	int (*go_on)(void *ctx); /* asked about each 300 ms; other than 0 ends it */
	void *ctx;
};

/* What the registry says it is, held against its digest. */
struct image {
	char digest[IMAGE_DIGEST +
		    1]; /* SHA-256 of the manifest that the name stands for: equal ones are equal images */
	char fetched[IMAGE_DIGEST + 1]; /* of that for this machine, where the name stands for several */
	char config[IMAGE_DIGEST + 1];
	size_t n_layers;
};

/* What its configuration says. */
struct image_config {
	VEC(char *) envs; /* "NAME=VALUE" */
	VEC(char *) layers; /* digests of the archives, the lowest first */
};

void image_config_fini(struct image_config *c);

/** image_may() - may images be fetched from there? Return: 0; -ENOENT slug "no-image" (its registry is not allowed),
 * "no-image-tool". */
int image_may(const struct image_conf *conf, const struct image_ref *ref, struct err *e) MUST_CHECK;
/** image_auth() - credentials for the tool, in @to, which wipes. Return: 0; -EINVAL. */
int image_auth(const struct image_ref *ref, const char *user, const char *password, struct buf *to,
	       struct err *e) MUST_CHECK;
/** image_look() - ask the registry. Return: 0; slugs "no-image", "bad-image", "image-large"; that of go_on(). */
int image_look(const struct image_job *job, struct image *ret, struct err *e) MUST_CHECK;
/** image_fetch() - get it and write all that is in it, layers laid over each other, as one archive. @ret_size_b: of its
 * files. Return: as image_look(); that of @put. */
int image_fetch(const struct image_job *job, const struct image *image, tar_put_fn *put, void *ctx,
		struct image_config *ret, uint64_t *ret_size_b, struct err *e) MUST_CHECK;

/* --- manifest.c --------------------------------------------------------------------------------------------------- */

/** manifest_read() - @ret has its digest then; what is in it for one image, or for this machine of several
 * (@ret_other: true, another manifest is to be read). Return: 0; -EBADMSG slug "bad-image"; "no-image": not for this
 * machine; "image-large". */
int manifest_read(struct span text, uint64_t size_max_b, struct image *ret, bool *ret_other, struct err *e) MUST_CHECK;
/** manifest_config() - Return: as manifest_read(). */
int manifest_config(struct span text, struct image_config *ret, struct err *e) MUST_CHECK;
/** manifest_machine() - what images call the architecture of this machine: "amd64". */
const char *manifest_machine(void);

/* --- flat.c ------------------------------------------------------------------------------------------------------- */

enum { FLAT_ENTRIES_MAX = 600 * 1000, FLAT_NAMES_MAX_B = 64 * 1024 * 1024 };

/* Where layers come from: read from its beginning, twice. */
struct flat_source {
	int (*open)(void *ctx, size_t i, struct err *e); /* makes layer @i what get() reads; 0 or -errno */
	tar_get_fn *get;
	int (*go_on)(void *ctx); /* asked every few hundred members; other than 0 ends it. NULL: nobody is asked */
	void *ctx;
	size_t n;
	uint64_t max_b; /* most that its files may have together */
};

/** flat_put() - lay them over each other and write what is there then: what later layers replace or take away (".wh.")
 * is not. Return: 0; -EBADMSG slug "bad-image"; slug "image-large"; that of @put; that
 * of go_on(). */
int flat_put(const struct flat_source *from, tar_put_fn *put, void *ctx, uint64_t *ret_size_b,
	     struct err *e) MUST_CHECK;

#endif
