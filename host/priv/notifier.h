/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_NOTIFIER_H
#define HOST_PRIV_NOTIFIER_H

#include "host/priv/host.h"

/** notifier_start() - fork a process that writes to the mount's descriptor what comes in on each of @n channels, and
 * answers each datagram with an int when it is done. It has the daemon's account and ends when all channels are closed.
 * A notification may wait in the kernel for an answer of the daemon and cannot be killed there: a daemon that wrote it
 * itself could not end. One that is there already is ended. Return: 0 and the daemon's ends; -errno. */
int notifier_start(struct host *h, int *channels, size_t n, struct err *e) MUST_CHECK;

#endif
