/* SPDX-License-Identifier: Apache-2.0 */
/* A plain child of the daemon with a directory: no isolation at all. For tests of everything around a box; the
 * configuration must say sandbox.box = fake, and the privileged process refuses it otherwise. */
#include "host/box/local.h"

static int start(const struct box_env *env, const struct box_spec *spec, struct box_started *ret, struct err *e)
{
	return local_start(PRIV_BOX_FAKE, env, spec, ret, e);
}

const struct box_kind box_fake = {
	.name = "fake",
	.start = start,
	.end = local_end,
	.freeze = local_freeze,
	.find = local_find,
};
