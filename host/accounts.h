/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_ACCOUNTS_H
#define HOST_ACCOUNTS_H

/* Accounts of the host that the configuration names, but the broker's (vault.h). */
#include "host/conf.h"
#include "host/priv/priv.h"

/** accounts_find() - the daemon's, the mount's owner and group, the image tool's; before privileges go. Return: 0;
 * -ENOENT slug "no-account"; -EINVAL. */
int accounts_find(const struct conf *c, struct priv_conf *p, struct err *e) MUST_CHECK;

#endif
