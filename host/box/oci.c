/* SPDX-License-Identifier: Apache-2.0 */
/* A container that crun makes: namespaces with a private id range, a template below an overlay, the workspace on an
 * ext4 image of its own. docs/isolation.md has the whole; the work is done in host/priv. */
#include "host/box/local.h"

static int start(const struct box_env *env, const struct box_spec *spec, struct box_started *ret, struct err *e)
{
	return local_start(PRIV_BOX_OCI, env, spec, ret, e);
}

static int base_keep(const struct box_env *env, const char *id, const char *name, enum priv_disk disk, struct err *e)
{
	return priv_base_keep(env->priv, id, name, disk, e);
}

static int base_lay(const struct box_env *env, const char *name, const char *id, enum priv_disk disk, struct err *e)
{
	return priv_base_lay(env->priv, name, id, disk, e);
}

static int base_drop(const struct box_env *env, const char *name, struct err *e)
{
	return priv_base_drop(env->priv, name, e);
}

static int layer_keep(const struct box_env *env, const char *id, const char *name, void (*copied)(void *ctx), void *ctx,
		      struct err *e)
{
	return priv_layer_keep(env->priv, id, name, copied, ctx, e);
}

static int layer_lay(const struct box_env *env, const char *name, const char *id, struct err *e)
{
	return priv_layer_lay(env->priv, name, id, e);
}

static int layer_drop(const struct box_env *env, const char *name, struct err *e)
{
	return priv_layer_drop(env->priv, name, e);
}

static int layer_open(const struct box_env *env, const char *name, int *ret_fd, struct err *e)
{
	return priv_layer_open(env->priv, name, ret_fd, e);
}

const struct box_kind box_oci = {
	.name = "oci",
	.can = BOX_ISOLATED | BOX_SIZED | BOX_LIMITED | BOX_NETWORK,
	.start = start,
	.end = local_end,
	.freeze = local_freeze,
	.base_keep = base_keep,
	.base_lay = base_lay,
	.base_drop = base_drop,
	.layer_keep = layer_keep,
	.layer_lay = layer_lay,
	.layer_drop = layer_drop,
	.layer_open = layer_open,
	.find = local_find,
};
