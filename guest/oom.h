/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_OOM_H
#define GUEST_OOM_H

/* How often the kernel has killed something here because memory was out. */
#include <stdbool.h>
#include <stdint.h>

/** oom_open() - @fd: the control group's count, handed down (memory.events or memory.oom_control), or -1: the one that
 * is seen here, if any; in a virtual machine of our own (@vm) the kernel's. */
void oom_open(int fd, bool vm);
/** oom_kills() - the count; 0 when it cannot be known. */
uint64_t oom_kills(void);

#endif
