/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_FINISH_H
#define HOST_PRIV_FINISH_H

/* The last touches that make a root file system a template. */
#include "base/err.h"

/** finish_root() - accounts root and user (1000, with sudo where sudo is), mount points, the name python, a
 * profile that asks no program. @root is a
 * descriptor of the root directory; links in it lead nowhere but into it. Return: 0 or -errno. */
int finish_root(int root, struct err *e) MUST_CHECK;

#endif
