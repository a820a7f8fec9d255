/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_VM_H
#define GUEST_VM_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/** vm_init() - as the first process of a VM: mount what programs expect and is missing. Failures are logged only. */
void vm_init(void);

/** vm_clock() - the host's time. @ours: the machine's clock is ours to set; else a difference is only said. */
void vm_clock(bool ours, int64_t wall_ns);
/** vm_entropy() - random bytes of the host, for the kernel's pool. */
void vm_entropy(bool ours, struct span bytes);

#endif
