/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_VM_H
#define GUEST_VM_H

/** vm_init() - as the first process of a VM: mount what programs expect and is missing. Failures are logged only. */
void vm_init(void);

#endif
