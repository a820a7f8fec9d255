/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_BROKER_H
#define HOST_PRIV_BROKER_H

/* Starting the process that holds values of secrets: docs/broker.md. */
#include "host/priv/host.h"

/** broker_start() - end the one that is there and start another with the daemon's three descriptors (borrowed) and the
 * key's file, which is made, empty, when it is not there. Return: 0; -ENOSYS, slug "no-broker": this daemon has none;
 * -errno. */
int broker_start(struct host *h, const int *fds, struct err *e) MUST_CHECK;

#endif
