/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BOX_LOCAL_H
#define HOST_BOX_LOCAL_H

/* What the kinds that the privileged process makes on this host have in common: a Unix socket whose descriptor goes
 * down to the agent. Not for other rooms. */
#include "host/box/box.h"

int local_start(enum priv_box_kind kind, const struct box_env *env, const struct box_spec *spec,
		struct box_started *ret, struct err *e);
int local_end(const struct box_env *env, const char *id, enum priv_disk keep, struct err *e);
int local_freeze(const struct box_env *env, const char *id, enum priv_freeze level, struct err *e);
int local_find(const struct box_env *env, const char *id, struct box_started *ret, struct err *e);

#endif
