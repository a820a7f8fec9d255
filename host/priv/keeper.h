/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_KEEPER_H
#define HOST_PRIV_KEEPER_H

/*
 * A mount lives as long as somebody holds its descriptor. The keeper is a small process that does, and no more: it
 * outlives the daemon and the privileged process, gives descriptor, table and links to the next ones, and takes the
 * mount away when none come in time. docs/mount.md has the theory.
 */
#include "host/priv/host.h"

/** keeper_start() - fork one for h->mount. Return: 0 and h->mount.keeper, a connection that hangs up when it is gone.
 */
int keeper_start(struct host *h, struct err *e) MUST_CHECK;
/** keeper_take() - ask the one of an earlier privileged process for its mount; waits while an earlier daemon is still
 * ending. @life is the read end of a pipe whose other end only a living daemon has.
 * Return: 0 and h->mount; -ENOENT (nobody is there, or it had nothing and has ended); -EBUSY slug "mount-busy"; -errno.
 */
int keeper_take(struct host *h, int life, struct err *e) MUST_CHECK;
/** keeper_lives() - somebody answers. */
bool keeper_lives(const struct host *h);
/** keeper_tell() - h->mount.links and h->mount.window_ms as they are now. Return: 0 or -errno. */
int keeper_tell(struct host *h) MUST_CHECK;
/** keeper_end() - let it go: the mount is aborted and taken away. Return: 0, also when none was there; -errno. */
int keeper_end(struct host *h);

#endif
