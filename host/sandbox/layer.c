/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written outside of a workspace goes with its sandbox, unless the sandbox is a step of a template's build:
 * then the disk of its writable layer is kept as a base, and the next step begins with a copy of it. Bases of both
 * kinds are one cache: what was used least recently goes first (from.c).
 */
#include "host/sandbox/state.h"

#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

static bool is_name(const char *name)
{
	uint8_t raw[DIGEST_LEN];

	return str_unhex(name, raw, sizeof(raw)) == 0;
}

int layer_set(struct sandbox *s, const char *root, struct err *e)
{
	if (!s->hub->conf.kind->base_keep)
		return err_set(e, -ENOSYS, "no-layers",
			       "sandboxes of this kind keep nothing outside of their workspace");
	if (root[0] && !is_name(root))
		return err_set(e, -EINVAL, "bad-request", "that is no name of what was kept");
	s->root = root[0] ? PRIV_ROOT_LAID : PRIV_ROOT_KEPT;
	snprintf(s->root_from, sizeof(s->root_from), "%s", root);
	return 0;
}

int layer_begin(struct sandbox *s, struct err *e)
{
	if (s->root != PRIV_ROOT_LAID || s->is_again)
		return 0;
	if (s->is_layered)
		return s->hub->conf.kind->layer_lay(&s->hub->box_env, s->root_from, s->info.id, e);
	return s->hub->conf.kind->base_lay(&s->hub->box_env, s->root_from, s->info.id, PRIV_DISK_ROOT, e);
}

void layer_keep(struct sandbox *s)
{
	struct hub *hub = s->hub;
	struct err e = ERR_NULL;

	if (hub->conf.kind->base_keep(&hub->box_env, s->info.id, s->root_to, PRIV_DISK_ROOT, &e) < 0) {
		log_warn("sandbox", "a layer could not be kept", "id=%s why=%s", s->info.id, e.text);
		if (hub->conf.kind->end(&hub->box_env, s->info.id, PRIV_DISK_NONE, &e) < 0)
			log_error("sandbox", "not cleaned up", "id=%s why=%s", s->info.id, e.text);
		return;
	}
	log_info("sandbox", "layer kept", "name=%.16s id=%s", s->root_to, s->info.id);
	from_trim_bases(hub, s->root_to);
}

int hub_keep_root(struct hub *hub, const char *id, const char *name, struct err *e)
{
	struct sandbox *s = NULL;
	int r;

	if (!is_name(name))
		return err_set(e, -EINVAL, "bad-request", "that is no name of what is kept");
	r = hub_take(hub, id, HUB_IN(SANDBOX_RUNNING), SANDBOX_STOPPING, -EALREADY, "not-running", &s, e);
	if (r < 0)
		return r;
	if (s->root == PRIV_ROOT_PLAIN)
		r = err_set(e, -EINVAL, "bad-request", "sandbox %s was not made to be kept", id);
	else
		snprintf(s->root_to, sizeof(s->root_to), "%s", name);
	if (life_end(s, 0, "kept", r < 0 ? NULL : e) < 0 && r == 0)
		r = -EIO;
	if (r == 0 && !hub_has_root(hub, name))
		r = err_set(e, -EIO, "not-kept", "what sandbox %s wrote could not be kept", id);
	hub_job_done(s);
	return r;
}

bool hub_has_root(struct hub *hub, const char *name)
{
	return is_name(name) && from_has_base(hub, name);
}
