/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_FENCE_H
#define HOST_PRIV_FENCE_H

/* Taking rights from a child that is root but works on what strangers made. */
#include "base/err.h"

/** fence_unpacking() - for the rest of this process and what it runs: only the capabilities that unpacking an archive
 * takes (none that makes device nodes), and, where the kernel can, no new writing anywhere but below @dirfd. Return: 0
 * or -errno. */
int fence_unpacking(int dirfd, struct err *e) MUST_CHECK;

#endif
