/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_MOUNT_H
#define HOST_PRIV_MOUNT_H

/* The FUSE mount that people look at, and the small file system of links on it. */
#include "host/priv/host.h"

/** mount_fuse() - see priv_mount(). h->mount has it from then on. Return: 1 when it was taken over. */
int mount_fuse(struct host *h, struct priv_mounted *ret, struct err *e) MUST_CHECK;
/** mount_notify() - see priv_mount_notify(). */
int mount_notify(struct host *h, int *channels, struct err *e) MUST_CHECK;
/** mount_keep() - see priv_mount_keep(). */
int mount_keep(struct host *h, uint32_t window_ms, struct err *e) MUST_CHECK;
/** mount_abort() - everything in the file system @dev at the mount point is answered ENOTCONN, and it goes. */
void mount_abort(const struct host *h, uint64_t dev);
/** mount_tend() - when the keeper has died: another one. */
void mount_tend(struct host *h);
/** mount_links() - see priv_mount_links(). */
int mount_links(struct host *h, int *ret_dirfd, struct err *e) MUST_CHECK;
/** mount_leave() - this process ends: the mount is left to the keeper, or taken away. */
void mount_leave(struct host *h);
/** mount_end() - see priv_unmount(). */
int mount_end(struct host *h, struct err *e) MUST_CHECK;

#endif
