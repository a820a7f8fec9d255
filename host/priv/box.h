/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_BOX_H
#define HOST_PRIV_BOX_H

/* Sandboxes: how one begins (box.c) and how it ends (end.c). */
#include "host/priv/host.h"

/** box_start() - see priv_box_start(); @spec was checked. */
int box_start(struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd,
	      struct priv_box_started *ret, struct err *e) MUST_CHECK;
/** box_end() - see priv_box_end(). */
int box_end(struct host *h, const char *id, enum priv_disk keep, struct err *e) MUST_CHECK;
/** box_freeze() - see priv_box_freeze(). */
int box_freeze(struct host *h, const char *id, enum priv_freeze level, struct err *e) MUST_CHECK;
/** box_alive() - see priv_box_alive(). */
int box_alive(struct host *h, const char *id, int *ret_pidfd, struct err *e) MUST_CHECK;
/** box_sweep() - see priv_sweep(). */
int box_sweep(struct host *h, const char (*keep)[PRIV_ID_MAX + 1], size_t n, struct err *e) MUST_CHECK;
/** box_uses_range() - whether a sandbox that was not ended has the id range with this index. */
bool box_uses_range(const struct host *h, uint32_t range);
/** box_uses_net() - the same, as net_settle() wants it. */
bool box_uses_net(struct host *h, uint32_t range);
/** box_uses_template() - whether a sandbox stands on the template directory with inode number @ino. */
bool box_uses_template(const struct host *h, uint64_t ino);

#endif
