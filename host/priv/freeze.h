/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_FREEZE_H
#define HOST_PRIV_FREEZE_H

/* What freezing and the rest of the control groups share. cgroup.h has the call for others. */
#include "host/priv/cgroup.h"

/** freeze_thaw() - let the group @dir and its work go on, if this tree can freeze at all. */
void freeze_thaw(const char *dir);

/* cgroup.c */
int cgroup_write(const char *dir, const char *file, const char *text);
/** cgroup_dir() - of sandbox @id in tree @i; yours. */
char *cgroup_dir(const struct cgroups *c, unsigned i, const char *id);

#endif
