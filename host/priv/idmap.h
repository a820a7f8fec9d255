/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_IDMAP_H
#define HOST_PRIV_IDMAP_H

/* User namespaces for a range of ids. */
#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

enum { IDMAP_LEN = 65536 };

/** idmap_new() - a user namespace in which 0 to 65535 are the host's @base to @base + 65535, made under the name of
 * @base, so that what the kernel counts per user is not counted against root. Yields its descriptor, and with
 * @ret_netns one of a network namespace that belongs to it. Return: 0 or -errno. */
int idmap_new(uid_t base, int *ret_fd, int *ret_netns, struct err *e) MUST_CHECK;
/** idmap_disk() - one for a disk with the guest's own ids that an overlay writes to: as idmap_new(), and 65536 is the
 * host's 0, who makes the files of the overlay's own. */
int idmap_disk(uid_t base, int *ret_fd, struct err *e) MUST_CHECK;

#endif
