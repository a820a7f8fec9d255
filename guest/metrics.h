/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_METRICS_H
#define GUEST_METRICS_H

/* What the sandbox uses, from what can be seen inside: /proc, and the file system of the workspace. */
#include "wire/msg.h"

/** metrics_fill() - everything but the call, the uptime and the kills. @root: a descriptor of the workspace. */
void metrics_fill(int root, struct msg_METRICS_IS *ret);

#endif
