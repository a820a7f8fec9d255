/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_FETCH_H
#define HOST_PRIV_FETCH_H

/* Running the tool that fetches images of registries: docs/images.md. */
#include "host/priv/host.h"

/** fetch_name_ok() - a name that is no option and nothing but a name, whatever reads it. */
bool fetch_name_ok(const char *image);
/** fetch_start() - see priv_fetch_start(); @spec was checked. @fds: life, words, out, borrowed. */
int fetch_start(struct host *h, const struct priv_fetch_spec *spec, const int *fds, int auth_fd, int *ret_pidfd,
		struct err *e) MUST_CHECK;
/** fetch_sweep() - remove disks and control groups that one which was cut off has left. */
void fetch_sweep(struct host *h);

#endif
