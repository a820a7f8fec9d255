/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a sandbox: lines of "key value" under meta "sandbox" of its workspace. Unknown keys are skipped, so
 * that an older daemon reads what a newer one wrote. */
#include "host/sandbox/state.h"

#include "base/str.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* @removed: as if it were SANDBOX_REMOVED already. */
static int put(struct sandbox *s, struct txn *t, bool removed, struct err *e)
{
	char token[2 * WIRE_TOKEN_LEN + 1], from[2 * DIGEST_LEN + 1], unsettled[BOOT_ID_MAX];
	struct hub_info i;
	struct buf b;
	uint32_t k, range;
	bool has_range;
	int r;

	lock_take(&s->hub->lock);
	i = s->info;
	memcpy(unsettled, s->unsettled, sizeof(unsettled));
	has_range = s->has_range;
	range = s->range;
	/* What is under way has not happened yet, but for a pause of which all but this is done. */
	if (removed)
		i.state = SANDBOX_REMOVED;
	else if (i.state == SANDBOX_PAUSING || i.state == SANDBOX_RESUMING)
		i.state = s->is_frozen ? SANDBOX_PAUSED : SANDBOX_RUNNING;
	else if (i.state == SANDBOX_CREATING && i.stopped_ns)
		i.state = SANDBOX_STOPPED; /* a fork: the commit makes it one */
	buf_init(&b, 8192 + HUB_META_MAX + HUB_DOOR_MAX + HUB_EGRESS_MAX + POLICY_TEXT_MAX);
	b.wipes = true;
	network_record(s, &b);
	if (s->egress && i.state < SANDBOX_STOPPED)
		buf_printf(&b, "egress %s\n", s->egress);
	lock_drop(&s->hub->lock);
	str_hex(s->token, WIRE_TOKEN_LEN, token);
	buf_printf(&b, "state %s\nname %s\ntemplate %s\nwhy %s\n", sandbox_state_name(i.state),
		   i.state == SANDBOX_REMOVED ? "" : i.name, i.template_, i.why);
	if (i.owner[0])
		buf_printf(&b, "owner %s\n", i.owner);
	buf_printf(&b, "created %lld\nends %lld\nstopped %lld\n", (long long)i.created_ns, (long long)i.ends_ns,
		   (long long)i.stopped_ns);
	buf_printf(&b, "memory %llu\nworkspace %llu\ncpu %u\npids %u\n", (unsigned long long)i.memory_b,
		   (unsigned long long)i.workspace_b, i.cpu_milli, i.pids);
	buf_printf(&b, "timeout %llu\non-timeout %s\n", (unsigned long long)i.timeout_ms,
		   i.on_timeout == HUB_TIMEOUT_KILL   ? "kill"
		   : i.on_timeout == HUB_TIMEOUT_REST ? "rest"
						      : "pause");
	if (i.secrets[0] && i.state < SANDBOX_STOPPED)
		buf_printf(&b, "secrets %s\n", i.secrets);
	if (s->meta)
		buf_printf(&b, "meta %s\n", s->meta);
	if (s->door && i.state < SANDBOX_STOPPED)
		buf_printf(&b, "door %s\n", s->door);
	if (i.state == SANDBOX_CREATING && s->has_from)
		buf_printf(&b, "filling 1\n");
	if (i.state > SANDBOX_CREATING && i.state < SANDBOX_STOPPED && s->has_from && s->no_wait) {
		str_hex(s->from.b, DIGEST_LEN, from);
		buf_printf(&b, "rest %s\n", from);
	}
	if (s->is_ready)
		buf_printf(&b, "ready 1\n");
	if (i.fill_why[0])
		buf_printf(&b, "fill-why %s\n", i.fill_why);
	for (k = 0; k < s->n_volumes && i.state < SANDBOX_STOPPED; k++)
		buf_printf(&b, "volume %s %s\n", s->volumes[k].box, s->volumes[k].path);
	if (s->root != PRIV_ROOT_PLAIN && i.state < SANDBOX_STOPPED)
		buf_printf(&b, "root kept\n");
	if (unsettled[0] && i.is_cold && i.state < SANDBOX_STOPPED)
		buf_printf(&b, "unsettled %s\n", unsettled);
	if (i.is_cold && i.state < SANDBOX_STOPPED)
		buf_printf(&b, "cold 1\ntoken %s\n", token); /* pid: of nobody */
	else if (i.state < SANDBOX_STOPPED)
		buf_printf(&b, "token %s\npid %llu\n", token, (unsigned long long)i.pid);
	if (has_range && i.state < SANDBOX_STOPPED) /* a cold one: some of its box may be left */
		buf_printf(&b, "range %u\n", range);
	r = b.failed ? err_set(e, -E2BIG, "record", "the sandbox's record is too long") : 0;
	if (r == 0)
		meta_put(t, "sandbox", buf_span(&b));
	buf_fini(&b);
	return r;
}

int record_put(struct sandbox *s, struct txn *t, struct err *e)
{
	return put(s, t, false, e);
}

int record_put_removed(struct sandbox *s, struct txn *t, struct err *e)
{
	return put(s, t, true, e);
}

int record_save(struct sandbox *s, struct err *e)
{
	AUTO(txn_abort) struct txn *t = NULL;
	int r = txn_write(ws_db(s->ws), &t, e);

	if (r == 0)
		r = record_put(s, t, e);
	return r ? r : txn_commit(&t, e);
}

static uint64_t number(const char *v)
{
	uint64_t n;

	return num_u64(v, UINT64_MAX, &n) == 0 ? n : 0;
}

/* "BOX PATH" */
static void take_volume(struct sandbox *s, const char *v)
{
	const char *space = strchr(v, ' ');
	struct priv_volume one = { .box = "" };

	if (!space || s->n_volumes == PRIV_VOLUMES_MAX ||
	    snprintf(one.box, sizeof(one.box), "%.*s", (int)(space - v), v) >= (int)sizeof(one.box) ||
	    str_copy(one.path, sizeof(one.path), space + 1) < 0)
		return;
	s->volumes[s->n_volumes++] = one;
}

static void take_line(struct sandbox *s, const char *key, const char *v)
{
	struct hub_info *i = &s->info;

	if (str_eq(key, "state")) {
		for (i->state = SANDBOX_CREATING; i->state <= SANDBOX_REMOVED; i->state++)
			if (str_eq(v, sandbox_state_name(i->state)))
				break;
		i->state = i->state > SANDBOX_REMOVED ? SANDBOX_FAILED : i->state;
	} else if (str_eq(key, "name")) {
		snprintf(i->name, sizeof(i->name), "%s", v);
	} else if (str_eq(key, "template")) {
		snprintf(i->template_, sizeof(i->template_), "%s", v);
	} else if (str_eq(key, "owner")) {
		snprintf(i->owner, sizeof(i->owner), "%s", v);
	} else if (str_eq(key, "why")) {
		snprintf(i->why, sizeof(i->why), "%s", v);
	} else if (str_eq(key, "created")) {
		i->created_ns = (int64_t)number(v);
	} else if (str_eq(key, "ends")) {
		i->ends_ns = (int64_t)number(v);
	} else if (str_eq(key, "timeout")) {
		i->timeout_ms = number(v);
	} else if (str_eq(key, "on-timeout")) {
		i->on_timeout = str_eq(v, "pause")  ? HUB_TIMEOUT_PAUSE
				: str_eq(v, "rest") ? HUB_TIMEOUT_REST
						    : HUB_TIMEOUT_KILL;
	} else if (str_eq(key, "ready")) {
		s->is_ready = true;
	} else if (str_eq(key, "cold")) {
		i->is_cold = true;
	} else if (str_eq(key, "unsettled")) {
		snprintf(s->unsettled, sizeof(s->unsettled), "%s", v);
	} else if (str_eq(key, "root")) {
		s->root = PRIV_ROOT_KEPT;
	} else if (str_eq(key, "volume")) {
		take_volume(s, v);
	} else if (str_eq(key, "meta")) {
		str_free(&s->meta);
		s->meta = must_strdup(v);
	} else if (str_eq(key, "door")) {
		str_free(&s->door);
		s->door = must_strdup(v);
	} else if (str_eq(key, "egress")) {
		str_free(&s->egress);
		s->egress = must_strdup(v);
		i->has_egress = true;
	} else if (str_eq(key, "secrets")) {
		snprintf(i->secrets, sizeof(i->secrets), "%s", v);
	} else if (str_eq(key, "stopped")) {
		i->stopped_ns = (int64_t)number(v);
	} else if (str_eq(key, "memory")) {
		i->memory_b = number(v);
	} else if (str_eq(key, "workspace")) {
		i->workspace_b = number(v);
	} else if (str_eq(key, "cpu")) {
		i->cpu_milli = (uint32_t)number(v);
	} else if (str_eq(key, "pids")) {
		i->pids = (uint32_t)number(v);
	} else if (str_eq(key, "network")) {
		network_load(s, v, false);
	} else if (str_eq(key, "proxied")) {
		network_load(s, v, true);
	} else if (str_eq(key, "range")) {
		s->range = (uint32_t)number(v);
		s->has_range = true;
	} else if (str_eq(key, "filling")) {
		s->has_from = true;
	} else if (str_eq(key, "rest")) {
		rest_load(s, v);
	} else if (str_eq(key, "fill-why")) {
		snprintf(i->fill_why, sizeof(i->fill_why), "%s", v);
	} else if (str_eq(key, "pid")) {
		i->pid = number(v);
	} else if (str_eq(key, "token")) {
		(void)!str_unhex(v, s->token, WIRE_TOKEN_LEN);
	}
}

int record_load(struct ws *ws, struct sandbox *s)
{
	AUTO(txn_abort) struct txn *t = NULL;
	AUTO(str_free) char *all = NULL;
	struct span value;
	char *line, *save = NULL;
	int r = txn_read(ws_db(ws), &t, NULL);

	if (r == 0)
		r = meta_get(t, "sandbox", &value);
	if (r != 0)
		return r;
	all = span_dup(value);
	for (line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *space = strchr(line, ' ');

		if (!space)
			continue;
		*space = '\0';
		take_line(s, line, space + 1);
	}
	explicit_bzero(all, value.len); /* the proxy's password is a line of it */
	snprintf(s->info.id, sizeof(s->info.id), "%s", ws_id(ws));
	return 0;
}

/* --- what others gave to be kept ---------------------------------------------------------------------------------- */

/* hub.lock is held. */
static struct sandbox *made(struct hub *hub, const char *id_or_name, struct err *e)
{
	struct sandbox *s = hub_get(hub, id_or_name);

	if (s && s->info.state != SANDBOX_CREATING)
		return s;
	err_set(e, -ENOENT, "no-such-sandbox", "no sandbox is called \"%.64s\"", id_or_name);
	return NULL;
}

int hub_meta(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e)
{
	struct sandbox *s;

	lock_take(&hub->lock);
	s = made(hub, id_or_name, e);
	if (s && s->meta)
		buf_append(to, s->meta, strlen(s->meta));
	lock_drop(&hub->lock);
	return s ? 0 : -ENOENT;
}

int hub_door(struct hub *hub, const char *id_or_name, struct buf *to, struct err *e)
{
	struct sandbox *s;

	lock_take(&hub->lock);
	s = made(hub, id_or_name, e);
	if (s && s->door)
		buf_append(to, s->door, strlen(s->door));
	lock_drop(&hub->lock);
	return s ? 0 : -ENOENT;
}

int hub_derive(struct hub *hub, const char *id_or_name, const char *word, struct digest *ret, struct err *e)
{
	uint8_t from[WIRE_TOKEN_LEN + PRIV_ID_MAX + 1] = { 0 };
	struct sandbox *s;

	lock_take(&hub->lock);
	s = made(hub, id_or_name, e);
	if (s) {
		memcpy(from, s->token, WIRE_TOKEN_LEN);
		memcpy(from + WIRE_TOKEN_LEN, s->info.id, sizeof(s->info.id));
	}
	lock_drop(&hub->lock);
	if (!s)
		return -ENOENT;
	*ret = digest_of(word, SPAN(from, sizeof(from)));
	explicit_bzero(from, sizeof(from));
	return 0;
}

/* --- after a backup ----------------------------------------------------------------------------------------------- */

struct restoring {
	struct store *store;
	struct err *e;
};

/* The lines that are kept, and those that are true now. */
static void rewrite(const char *text, struct buf *to)
{
	bool over = str_starts(text, "state stopped\n") || str_starts(text, "state failed\n") ||
		    str_starts(text, "state removed\n");
	size_t len;

	if (!over)
		buf_printf(to, "state failed\nwhy restored from a backup\n");
	for (; *text; text += len + (text[len] == '\n')) {
		len = strcspn(text, "\n");
		if (str_starts(text, "token ") || str_starts(text, "door ") || str_starts(text, "rest ") ||
		    str_starts(text, "pid ") || str_starts(text, "range ") || str_starts(text, "cold ") ||
		    str_starts(text, "unsettled ") ||
		    str_starts(text, "volume ") || str_starts(text, "egress ") ||
		    str_starts(text, "proxied "))
			continue;
		if (!over && (str_starts(text, "state ") || str_starts(text, "why ")))
			continue;
		buf_printf(to, "%.*s\n", (int)len, text);
	}
}

/* What was known to have changed and had not come yet never will: such a file is what came last, at its length. */
static int settle_pending(struct txn *t)
{
	struct node n;
	uint64_t after = 0;
	int r;

	while ((r = node_next_pending(t, after, &n)) == 0) {
		after = n.fid;
		n.size = n.content.size;
		n.flags &= ~(uint32_t)NODE_PENDING;
		node_put(t, &n);
	}
	return r < 0 ? r : 0;
}

static int restored_one(void *ctx, const char *id)
{
	struct restoring *job = ctx;
	AUTO(wsdb_close) struct wsdb *db = NULL;
	AUTO(txn_abort) struct txn *t = NULL;
	AUTO(str_free) char *text = NULL;
	struct span value;
	struct buf b;
	int r = wsdb_open(job->store, id, false, &db, job->e);

	if (r == 0)
		r = txn_write(db, &t, job->e);
	if (r == 0)
		r = settle_pending(t);
	if (r)
		return r;
	if (meta_get(t, "sandbox", &value) != 0)
		return txn_commit(&t, job->e);
	text = span_dup(value); /* the transaction changes what it borrows from */
	if (strstr(text, "\nready 1\n")) /* it was nobody's, and goes when the daemon starts */
		return txn_commit(&t, job->e);
	buf_init(&b, 8192 + HUB_META_MAX);
	rewrite(text, &b);
	meta_put(t, "sandbox", buf_span(&b));
	r = b.failed ? -E2BIG : txn_commit(&t, job->e);
	buf_fini(&b);
	return r;
}

int hub_restored(struct store *store, struct err *e)
{
	struct restoring job = { .store = store, .e = e };
	int r = store_each_ws(store, restored_one, &job);

	return r < 0 && e && !e->code ? err_sys(e, r, "the sandboxes of the backup") : r;
}
