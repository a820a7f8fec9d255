/* SPDX-License-Identifier: Apache-2.0 */
/* The store and the layers of its snapshots together: verified, and carried in a backup. Meanwhile no layer goes, so
 * that whatever a snapshot that is read names is there. */
#include "host/sandbox/state.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

static int open_one(void *ctx, const char *name)
{
	struct hub *hub = ctx;
	int fd = -1,
	    r = hub->conf.kind->layer_open ? hub->conf.kind->layer_open(&hub->box_env, name, &fd, NULL) : -ENOENT;

	return r < 0 ? r : fd;
}

/* Those that went meanwhile are among them: a workspace that was read before may name them. */
static int each(void *ctx, int (*fn)(void *to, const char *name), void *to)
{
	struct hub *hub = ctx;
	VEC(char *) names = { 0 };
	size_t i;
	int r = 0;

	lock_take(&hub->lock);
	for (i = 0; i < hub->layers.len; i++)
		vec_push(&names, must_strdup(hub->layers.v[i].name));
	lock_drop(&hub->lock);
	for (i = 0; i < names.len; i++) {
		if (r == 0)
			r = fn(to, names.v[i]);
		free(names.v[i]);
	}
	vec_fini(&names);
	return r;
}

int hub_fsck(struct hub *hub, void (*say)(void *ctx, const char *words), void *ctx, struct fsck_stats *ret,
	     struct err *e)
{
	const struct store_layers layers = { .open = open_one, .ctx = hub };
	int r;

	layers_stay(hub, true);
	r = store_fsck_with(hub->conf.store, &layers, say, ctx, ret, e);
	layers_stay(hub, false);
	return r;
}

int hub_backup(struct hub *hub, backup_fn *fn, void *ctx, struct err *e)
{
	const struct store_layers layers = { .open = open_one, .each = each, .ctx = hub };
	int r;

	layers_stay(hub, true);
	r = store_backup(hub->conf.store, &layers, fn, ctx, e);
	layers_stay(hub, false);
	return r;
}
