/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_IMAGE_H
#define HOST_PRIV_IMAGE_H

/* File systems in files: formatted once per size, copied sparse, mounted through loop devices. */
#include "host/priv/host.h"

enum image_kind { IMAGE_WORKSPACE, IMAGE_ROOT };

/** image_make() - file @name in @dirfd, a copy of the empty file system of @size bytes (formatted now if it is the
 * first of this size). Return: 0; -ENOSPC; -errno. */
int image_make(const struct host *h, enum image_kind kind, uint64_t size, int dirfd, const char *name,
	       struct err *e) MUST_CHECK;
/** image_copy() - an image of @size bytes into the empty file @to: by sharing its blocks where the file system can,
 * else what is data in it. Return: 0; -ENOSPC; -errno. */
int image_copy(int from, int to, off_t size) MUST_CHECK;
/** image_mount() - attach file @name of @dirfd to a loop device and mount it, not yet attached anywhere. When the mount
 * and all its copies are gone, so is the loop device. @ret_loop: number of the device. Return: 0 or -errno. */
int image_mount(enum image_kind kind, int dirfd, const char *name, int *ret_mount, int *ret_loop,
		struct err *e) MUST_CHECK;
/** image_share() - one more mount of an image that is mounted already from loop device @loop: the same file system.
 * Return: 0; -ENOENT slug "not-mounted": that device does not hold this file; -errno. */
int image_share(int dirfd, const char *name, int loop, int *ret_mount, struct err *e) MUST_CHECK;
/** image_release() - wait until no loop device holds file @name of @dirfd; after half a second it is left to go with
 * its last mount. @loop: the number that image_mount() gave, or -1. Return: 0 (also when there is no such file);
 * -EBUSY; -errno. */
int image_release(int dirfd, const char *name, int loop, struct err *e) MUST_CHECK;

#endif
