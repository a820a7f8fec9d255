/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_FAKE_H
#define HOST_PRIV_FAKE_H

/* A sandbox that is none: for tests and for trying the daemon out where no runtime is. */
#include "host/priv/record.h"

/** fake_start() - the agent as a plain process of the daemon's account with a directory @dir/ws as its workspace.
 * Fills @rec->pid. Return: 0 or -errno. */
int fake_start(const struct host *h, const struct priv_box_spec *spec, int listen_fd, int token_fd, int dir,
	       struct record *rec, struct err *e) MUST_CHECK;

#endif
