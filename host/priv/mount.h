/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_MOUNT_H
#define HOST_PRIV_MOUNT_H

/* The FUSE mount that people look at, and the small file system of links on it. */
#include "host/priv/host.h"

/** mount_fuse() - see priv_mount(). */
int mount_fuse(const struct host *h, int *ret_fd, struct err *e) MUST_CHECK;
/** mount_links() - see priv_mount_links(). */
int mount_links(const struct host *h, int *ret_dirfd, struct err *e) MUST_CHECK;
/** mount_end() - see priv_unmount(). */
int mount_end(const struct host *h, struct err *e) MUST_CHECK;

#endif
