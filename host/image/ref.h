/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_IMAGE_REF_H
#define HOST_IMAGE_REF_H

/* What an image is called, and whose registry that is. */
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { REF_HOST_MAX = 128, REF_PATH_MAX = 200, REF_TAG_MAX = 128, REF_DIGEST = 64 };

struct image_ref {
	char host[REF_HOST_MAX + 1]; /* of the registry, in small letters, with its port if one is said: "docker.io" */
	char path[REF_PATH_MAX + 1]; /* "library/debian" */
	char tag[REF_TAG_MAX + 1];   /* "" with a digest */
	char digest[REF_DIGEST + 1]; /* of SHA-256; "": a tag */
	uint16_t port;		     /* 443 when none is said */
	bool is_here;		     /* this machine's loopback */
};

/** ref_read() - "debian", "debian:12", "me/x@sha256:…", "host:5000/me/x:y", as docker understands them. Return: 0;
 * -EINVAL slug "bad-image-name". */
int ref_read(const char *text, struct image_ref *ret, struct err *e) MUST_CHECK;
enum ref_allowed { REF_NOT, REF_BY_STAR, REF_BY_NAME };
/** ref_allowed() - is its registry in this list? This machine's loopback is never meant by "*". */
enum ref_allowed ref_allowed(const struct image_ref *ref, const char *list);
/** ref_name() - the host without its port. */
void ref_name(const struct image_ref *ref, char to[REF_HOST_MAX + 1]);

#endif
