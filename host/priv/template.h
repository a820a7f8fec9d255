/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_TEMPLATE_H
#define HOST_PRIV_TEMPLATE_H

/* Root file systems that sandboxes stand on. */
#include "host/priv/host.h"

/** template_packages_ok() - names of Debian packages separated by single spaces. */
bool template_packages_ok(const char *packages);
/** template_build() - see priv_template_build(); @spec was checked. */
int template_build(struct host *h, const struct priv_template_spec *spec, int tar_fd, int log_fd, int *ret_pidfd,
		   struct err *e) MUST_CHECK;
/** template_remove() - see priv_template_remove(). */
int template_remove(struct host *h, const char *name, struct err *e) MUST_CHECK;
/** template_open() - a path descriptor of the root of template @name, and its identity.
 * Return: 0; -ENOENT slug "no-such-template"; -errno. */
int template_open(const struct host *h, const char *name, int *ret_fd, uint64_t *ret_ino, struct err *e) MUST_CHECK;
/** template_sweep() - remove what builds that did not end and replaced templates left. */
void template_sweep(struct host *h);
/** template_stop() - end the builds under way. */
void template_stop(struct host *h);

#endif
