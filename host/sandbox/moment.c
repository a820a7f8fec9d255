/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running sandbox at one moment, held for others to begin with: its files, what it wrote outside of its workspace,
 * and what it was made with. Nothing of it is written down: when the daemon dies the files are its alone again, and the
 * layer is one that nobody has.
 */
#include "host/sandbox/state.h"

#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

struct hub_moment {
	struct hub *hub;
	struct digest tree;
	struct store_hold *hold;
	char layer[2 * DIGEST_LEN + 1]; /* "": none */
	struct hub_info info;
	char *meta, *door, *keep, *egress;
	bool has_network;
	struct policy network;
	struct priv_volume volumes[PRIV_VOLUMES_MAX];
	uint32_t n_volumes;
};

static void note(struct hub_moment *m, struct sandbox *s)
{
	uint32_t i;

	lock_take(&m->hub->lock);
	m->info = s->info;
	m->has_network = s->has_network;
	if (s->has_network)
		policy_copy(&m->network, &s->network);
	m->egress = must_strdup(s->egress);
	lock_drop(&m->hub->lock);
	m->meta = must_strdup(s->meta);
	m->door = must_strdup(s->door);
	m->keep = must_strdup(ws_keep(s->ws));
	for (i = 0; i < s->n_volumes; i++)
		m->volumes[m->n_volumes++] = s->volumes[i];
}

int hub_moment_take(struct hub *hub, const char *id_or_name, struct hub_moment **ret, struct err *e)
{
	AUTO(hub_moment_free) struct hub_moment *m = NEW(struct hub_moment);
	struct stillness still = { .whole = true };
	struct sandbox *s = NULL;
	int r = past_hold(hub, id_or_name, &s, e);

	m->hub = hub;
	m->network = POLICY_NULL;
	if (r < 0)
		return r;
	if (s->info.state == SANDBOX_PAUSED)
		r = err_set(e, -EBUSY, "paused", "sandbox %s is paused: resume it first", s->info.id);
	else if (s->info.state != SANDBOX_RUNNING)
		r = err_set(e, -EAGAIN, "not-running", "sandbox %s is %s", s->info.id,
			    sandbox_state_name(s->info.state));
	if (r == 0)
		r = past_still(s, &still, e);
	if (r == 0) {
		m->tree = still.tree;
		m->hold = take(&still.hold);
		memcpy(m->layer, still.layer.name, sizeof(m->layer));
		note(m, s);
	}
	past_release(s);
	if (r == 0)
		*ret = take(&m);
	return r;
}

void hub_moment_free(struct hub_moment **slot)
{
	struct hub_moment *m = take(slot);

	if (!m)
		return;
	layers_drop(m->hub, m->layer);
	store_hold_free(&m->hold);
	policy_fini(&m->network);
	str_free(&m->meta);
	str_free(&m->door);
	str_free(&m->keep);
	str_free(&m->egress);
	free(m);
}

int moment_begin(const struct hub_moment *m, struct sandbox *s, struct hub_create *with, struct err *e)
{
	uint32_t i;
	int r = store_hold_tree(m->hub->conf.store, &m->tree, &s->hold_from);

	if (r < 0)
		return err_sys(e, r, "keep a tree");
	s->from = m->tree;
	s->has_from = true;
	s->is_layered = m->layer[0];
	snprintf(s->root_from, sizeof(s->root_from), "%s", m->layer);
	s->keep = must_strdup(m->keep);
	for (i = 0; i < m->n_volumes; i++)
		s->volumes[s->n_volumes++] = m->volumes[i];
	snprintf(with->template_, sizeof(with->template_), "%s", m->info.template_);
	with->memory_b = m->info.memory_b;
	with->workspace_b = m->info.workspace_b;
	with->cpu_milli = m->info.cpu_milli;
	with->pids = m->info.pids;
	with->on_timeout = m->info.on_timeout;
	with->secrets = m->info.secrets[0] ? m->info.secrets : NULL;
	with->egress = span_str(m->egress);
	with->network = m->has_network ? &m->network : NULL;
	with->meta = span_str(m->meta);
	with->door = span_str(m->door);
	return 0;
}
