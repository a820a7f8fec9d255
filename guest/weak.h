/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_WEAK_H
#define GUEST_WEAK_H

/* As host/priv/weak.h: the agent is built with weak-none.c; weak.c is in berth-agent-weak, which only tests have. */
#include <stdbool.h>

/** guest_is_weak() - paths may leave the workspace, and users are read as strtoul() does. */
bool guest_is_weak(void);

#endif
