/* SPDX-License-Identifier: Apache-2.0 */
/* A container that crun makes: namespaces with a private id range, a template below an overlay, the workspace on an
 * ext4 image of its own. docs/isolation.md has the whole; the work is done in host/priv. */
#include "host/box/local.h"

static int start(const struct box_env *env, const struct box_spec *spec, struct box_started *ret, struct err *e)
{
	return local_start(PRIV_BOX_OCI, env, spec, ret, e);
}

const struct box_kind box_oci = {
	.name = "oci",
	.can = BOX_ISOLATED | BOX_SIZED | BOX_LIMITED,
	.start = start,
	.end = local_end,
	.freeze = local_freeze,
	.find = local_find,
};
