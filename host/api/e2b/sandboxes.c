/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane. Their sandbox is ours; what they know of one and we do not (variables for every process, how it
 * was asked for) is remembered with it as a line of JSON. A sandbox that was killed is stopped here and keeps its
 * files; to them it is no more.
 */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/str.h"
#include "host/api/e2b/template.h"
#include "host/api/e2b/volume.h"

#include "host/net/policy.h"

#include <errno.h>
#include <stdio.h>

enum { TIMEOUT_S = 300, TIMEOUT_OLD_S = 15, TIMEOUT_MAX_S = 24 * 3600, BEGIN_MS = 55000, MCP_MAX_B = 64 * 1024 };

#define MCP_TEMPLATE "mcp-gateway" /* what their client asks for, and the program that it starts there */

void e2b_put_sandbox(struct e2b *e2b, struct json_writer *w, const struct hub_info *i, const char *template_,
		     const char *alias)
{
	char token[E2B_TOKEN + 1];

	jw_open(w, '{');
	jw_kstr(w, "templateID", template_);
	jw_kstr(w, "alias", alias);
	jw_kstr(w, "sandboxID", i->id);
	jw_kstr(w, "clientID", E2B_CLIENT);
	jw_kstr(w, "envdVersion", E2B_VERSION);
	if (e2b_token(e2b, i->id, token, NULL) == 0)
		jw_kstr(w, "envdAccessToken", token);
	e2b_put_traffic(e2b, w, i->id);
	if (e2b->domain[0])
		jw_kstr(w, "domain", e2b->domain);
	jw_close(w, '}');
}

static void put_sandbox(struct e2b *e2b, struct http_res *res, const struct hub_info *i, const char *template_,
			const char *alias)
{
	struct json_writer w = { .b = &res->body };

	e2b_put_sandbox(e2b, &w, i, template_, alias);
}

/* --- create ------------------------------------------------------------------------------------------------------- */

static int put_pair(void *ctx, const char *key, const struct json *value)
{
	if (!json_text(value))
		return -EINVAL;
	jw_kstr(ctx, key, json_text(value));
	return 0;
}

static int put_strings(struct json_writer *w, const struct json *j, const char *key, struct err *e)
{
	int r;

	jw_open(w, '{');
	r = json_each(json_get(j, key), put_pair, w);
	jw_close(w, '}');
	return r ? err_set(e, -EINVAL, "bad-request", "%s must be an object of strings", key) : 0;
}

/* What was asked for and would be silently left out. */
static int refuse_missing(const struct json *j, struct err *e)
{
	return json_is_empty(json_get(j, "iam"))
		       ? 0
		       : err_set(e, -EINVAL, "not-built", "berth does not have this yet: iam (docs/e2b.md)");
}

/*
 * Which servers a gateway of MCP is to have. Their client starts it itself, with this as one argument; so nothing is
 * done with it here and it is kept nowhere, for keys of other services are in it. What would be too long for the
 * kernel's bound of one argument is refused before there is a sandbox.
 */
static int look_at_mcp(const struct json *mcp, struct err *e)
{
	size_t size_b = json_object_b(mcp);

	if (!size_b && !json_is_empty(mcp))
		return err_set(e, -EINVAL, "bad-request", "mcp must be an object");
	return size_b <= MCP_MAX_B ? 0 : err_set(e, -EINVAL, "limit", "mcp: at most %d bytes", (int)MCP_MAX_B);
}

static int no_template(const char *asked, struct err *e)
{
	if (str_eq(asked, MCP_TEMPLATE))
		return err_set(e, -ENOENT, "no-such-template",
			       "template '" MCP_TEMPLATE "' not found: berth brings no gateway of MCP; make a template "
			       "of that name that has a program " MCP_TEMPLATE " (docs/e2b.md)");
	return err_set(e, -ENOENT, "no-such-template", "template '%.80s' not found", asked);
}

/* "base", "base:default", "SANDBOX:SNAPSHOT", or what a client has built. */
static int choose(struct e2b *e2b, struct http_req *req, const char *asked, struct hub_create *what, char **ret_from,
		  struct template_use *use, struct err *e)
{
	const char *colon = strchr(asked, ':'), *slash = strchr(asked, '/');
	AUTO(str_free) char *name = NULL;
	struct hub_info i;

	if (slash && (!colon || slash < colon))
		asked = slash + 1;
	name = colon ? span_dup(SPAN(asked, (size_t)(colon - asked))) : must_strdup(asked);
	if (colon && hub_find_any(e2b->hub, name, &i, NULL) == 0 && e2b_is_ours(req, &i)) {
		*ret_from = str_printf("%s@%s", i.id, colon + 1);
		what->from = *ret_from;
		what->whole = true;
		return e2b_snapshot_config(e2b, i.id, colon + 1, &use->config, e);
	}
	if (templates_use(e2b, http_who(req)->id, asked, use, e) == 0) {
		snprintf(what->template_, sizeof(what->template_), "%s", use->disk);
		template_size(e2b, use->cpu, use->memory_mb, what);
		return 0;
	}
	/* The disks of what is built have names, too, but are reached through it alone. */
	if (str_starts(name, BUILD_DISK) || !hub_template_mark(e2b->hub, name) ||
	    str_copy(what->template_, sizeof(what->template_), name) < 0)
		return no_template(asked, e);
	if (e)
		*e = ERR_NULL;
	return 0;
}

static int timeout_of(const struct json *j, uint64_t otherwise, uint64_t *ret_ms, struct err *e)
{
	int64_t s = json_get_i64(j, "timeout", (int64_t)otherwise);

	if (s > TIMEOUT_MAX_S)
		return err_set(e, -EINVAL, "bad-request", "Timeout cannot be greater than %d hours",
			       TIMEOUT_MAX_S / 3600);
	*ret_ms = s > 0 ? (uint64_t)s * 1000 : 0;
	return 0;
}

int e2b_read_timeout(const struct json *j, uint64_t *ret_ms, struct err *e)
{
	int r = timeout_of(j, TIMEOUT_S, ret_ms, e);

	return r == 0 && !*ret_ms ? err_set(e, -EINVAL, "bad-request", "timeout must be more than nothing") : r;
}

static int add_env(void *ctx, const char *key, const struct json *value)
{
	if (!json_text(value))
		return -EINVAL;
	step_env_set(ctx, key, json_text(value));
	return 0;
}

/* One that is being made. */
struct making {
	struct e2b *e2b;
	struct http_req *req;
	struct http_res *res;
	char *asked, *from;
	struct json *body, *config; /* the latter of its template; NULL */
	struct template_use use;
	struct step_state state; /* of its template, with the variables that were asked for */
	struct buf meta, door;
	struct e2b_egress egress;
	struct policy network;
	struct hub_create what;
	struct volume_mounts volumes;
	struct buf mounts; /* JSON of them */
};

static void making_free(struct making *m)
{
	buf_fini(&m->meta);
	buf_fini(&m->door);
	buf_fini(&m->egress.text);
	buf_fini(&m->mounts);
	volumes_let_go(m->e2b, &m->volumes);
	policy_fini(&m->network);
	step_state_fini(&m->state);
	json_free(&m->body);
	json_free(&m->config);
	str_free(&m->asked);
	str_free(&m->from);
	str_free(&m->use.config);
	free(m);
}

static int remember(struct making *m, struct err *e)
{
	struct json_writer w = { .b = &m->door };
	const struct json *envs = json_get(m->body, "envVars");
	AUTO(json_free) struct json *config = NULL;
	bool built = m->use.id[0], of_built;
	size_t i;

	if (m->use.config) {
		int r = json_parse(span_str(m->use.config), &config, e);

		if (r < 0)
			return r;
		step_state_read(&m->state, config);
	}
	of_built = json_get_str(config, "user", "")[0]; /* or a snapshot of such a one */
	if (built) /* what a snapshot's template would start was there */
		m->config = take(&config);
	if (json_each(envs, add_env, &m->state))
		return err_set(e, -EINVAL, "bad-request", "envVars must be an object of strings");
	jw_open(&w, '{');
	jw_kstr(&w, "template", built ? m->use.id : m->asked);
	jw_kstr(&w, "alias", built ? m->use.name : m->asked);
	if (of_built) {
		step_state_put(&m->state, &w);
	} else {
		jw_key(&w, "envs");
		jw_open(&w, '{');
		for (i = 0; i < m->state.envs.len; i++) {
			const char *pair = m->state.envs.v[i], *eq = strchr(pair, '=');
			AUTO(str_free) char *name = span_dup(SPAN(pair, (size_t)(eq - pair)));

			jw_kstr(&w, name, eq + 1);
		}
		jw_close(&w, '}');
	}
	jw_key(&w, "volumeMounts");
	jw_raw(&w, buf_span(&m->mounts));
	jw_key(&w, "autoResume");
	jw_bool(&w, json_get_bool(json_get(m->body, "autoResume"), "enabled", false));
	if (e2b_read_ingress(json_get(m->body, "network"), &w, e) < 0)
		return e->code;
	jw_close(&w, '}');
	return m->door.failed ? err_set(e, -E2BIG, "limit", "envVars are too long") : 0;
}

/* Everything that is asked for, looked at. */
static int read_request(struct making *m, struct err *e)
{
	struct e2b *e2b = m->e2b;
	struct json_writer w = { .b = &m->meta };
	const struct json *j;
	int r = e2b_body(m->req, &m->body, e);

	j = m->body;
	if (r == 0 && !json_get_str(j, "templateID", NULL))
		r = err_set(e, -EINVAL, "bad-request", "templateID is missing");
	if (r == 0)
		r = refuse_missing(j, e);
	if (r == 0)
		r = look_at_mcp(json_get(j, "mcp"), e);
	if (r < 0)
		return r;
	m->asked = must_strdup(json_get_str(j, "templateID", ""));
	r = choose(e2b, m->req, m->asked, &m->what, &m->from, &m->use, e);
	if (r == 0)
		r = timeout_of(j, str_starts(http_path(m->req), "/v2/") ? TIMEOUT_S : TIMEOUT_OLD_S,
			       &m->what.timeout_ms, e);
	if (r == 0 && !m->what.timeout_ms)
		r = err_set(e, -EINVAL, "bad-request", "timeout must be more than nothing");
	if (r == 0)
		r = put_strings(&w, j, "metadata", e);
	if (r == 0 && m->meta.failed)
		r = err_set(e, -EINVAL, "limit", "metadata: at most %d bytes", (int)HUB_META_MAX);
	if (r == 0)
		r = volumes_mount(e2b, http_who(m->req)->id, json_get(j, "volumeMounts"), &m->what, &m->volumes,
				  &m->mounts, e);
	if (r == 0)
		r = remember(m, e);
	if (r == 0)
		r = e2b_read_network(e2b, j, json_get(j, "network"), &m->network, &m->egress, e);
	m->what.on_timeout = !json_get_bool(j, "autoPause", false)    ? HUB_TIMEOUT_KILL
			     : json_get_bool(j, "autoPauseMemory", true) ? HUB_TIMEOUT_PAUSE
									 : HUB_TIMEOUT_REST;
	m->what.meta = buf_span(&m->meta);
	m->what.door = buf_span(&m->door);
	m->what.network = &m->network;
	m->what.egress = buf_span(&m->egress.text);
	snprintf(m->what.owner, sizeof(m->what.owner), "%s", http_who(m->req)->id);
	if (m->what.owner[0])
		m->what.owner_max = keys_sandboxes(e2b->keys, m->what.owner);
	return r;
}

static int make(struct making *m, struct err *e)
{
	struct hub_info info;
	int r = hub_create(m->e2b->hub, &m->what, &info, e);

	volumes_let_go(m->e2b, &m->volumes); /* from now on it is seen that it uses them */
	if (r == -EAGAIN)
		return err_set(e, -EUSERS, "too-many-sandboxes", "as many sandboxes run as may");
	if (r == 0 && begin_is_wanted(m->config)) {
		r = begin_run(m->e2b, info.id, m->config, &m->state, BEGIN_MS, &m->e2b->stopping, e);
		if (r < 0) {
			(void)!hub_kill(m->e2b->hub, info.id, 0, NULL);
			(void)!hub_remove(m->e2b->hub, info.id, true, NULL, NULL);
		}
	}
	if (r < 0)
		return r;
	m->res->status = 201;
	put_sandbox(m->e2b, m->res, &info, m->use.id[0] ? m->use.id : m->asked, m->use.id[0] ? m->use.name : m->asked);
	return 0;
}

static void make_later(void *ctx)
{
	struct making *m = ctx;
	struct err e = ERR_NULL;
	int r = make(m, &e);

	http_later(m->req, r, &e);
	making_free(m);
}

int e2b_create(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct making *m = NEW(struct making);
	int r;

	*m = (struct making){ .e2b = e2b, .req = req, .res = res, .network = POLICY_NULL };
	buf_init(&m->meta, HUB_META_MAX);
	buf_init(&m->door, HUB_DOOR_MAX);
	m->egress = (struct e2b_egress){ .owner = http_who(req)->id, .given = "" };
	buf_init(&m->egress.text, HUB_EGRESS_MAX);
	buf_init(&m->mounts, HUB_DOOR_MAX / 2);
	r = read_request(m, e);
	if (r == 0 && begin_is_wanted(m->config)) {
		pool_run(e2b->starters, make_later, m);
		return HTTP_LATER;
	}
	if (r == 0)
		r = make(m, e);
	making_free(m);
	return r;
}

/* --- one that is there -------------------------------------------------------------------------------------------- */

static void put_mounts(struct json_writer *w, const struct json *mounts)
{
	size_t i;

	jw_key(w, "volumeMounts");
	jw_open(w, '[');
	for (i = 0; i < json_len(mounts); i++) {
		jw_open(w, '{');
		jw_kstr(w, "name", json_get_str(json_at(mounts, i), "name", ""));
		jw_kstr(w, "path", json_get_str(json_at(mounts, i), "path", ""));
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

static void put_details(struct e2b *e2b, struct json_writer *w, const struct hub_info *i, bool all)
{
	AUTO(json_free) struct json *memory = NULL;
	struct buf meta;
	char token[E2B_TOKEN + 1];
	const char *asked = i->template_;

	if (e2b_memory(e2b, i->id, &memory, NULL) == 0)
		asked = json_get_str(memory, "template", asked);
	jw_open(w, '{');
	jw_kstr(w, "templateID", asked);
	jw_kstr(w, "alias", json_get_str(memory, "alias", asked));
	jw_kstr(w, "sandboxID", i->id);
	jw_kstr(w, "clientID", E2B_CLIENT);
	e2b_time(w, "startedAt", i->created_ns);
	e2b_time(w, "endAt", i->ends_ns ? i->ends_ns : clock_wall() + (int64_t)TIMEOUT_MAX_S * (int64_t)CLOCK_S);
	jw_ku64(w, "cpuCount", MAX((i->cpu_milli + 999) / 1000, 1U));
	jw_ku64(w, "memoryMB", i->memory_b >> 20);
	jw_ku64(w, "diskSizeMB", i->workspace_b >> 20);
	jw_kstr(w, "state", i->state == SANDBOX_PAUSED || i->state == SANDBOX_PAUSING ? "paused" : "running");
	jw_kstr(w, "envdVersion", E2B_VERSION);
	put_mounts(w, json_get(memory, "volumeMounts"));
	jw_key(w, "metadata");
	buf_init(&meta, HUB_META_MAX + 1);
	if (hub_meta(e2b->hub, i->id, &meta, NULL) < 0 || !buf_len(&meta))
		buf_append(&meta, "{}", 2);
	jw_raw(w, buf_span(&meta));
	buf_fini(&meta);
	if (all) {
		if (e2b_token(e2b, i->id, token, NULL) == 0)
			jw_kstr(w, "envdAccessToken", token);
		e2b_put_network(e2b, w, i->id, memory);
		jw_key(w, "lifecycle");
		jw_open(w, '{');
		jw_key(w, "autoResume");
		jw_bool(w, json_get_bool(memory, "autoResume", false));
		jw_kstr(w, "onTimeout", i->on_timeout == HUB_TIMEOUT_KILL ? "kill" : "pause");
		jw_close(w, '}');
	}
	jw_close(w, '}');
}

void e2b_put_listed(struct e2b *e2b, struct json_writer *w, const struct hub_info *i)
{
	put_details(e2b, w, i, false);
}

int e2b_get(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	struct hub_info i;
	int r = e2b_find(e2b, req, &i, e);

	if (r == 0)
		put_details(e2b, &w, &i, true);
	return r;
}

static int nothing(struct http_res *res)
{
	res->status = 204;
	return 0;
}

int e2b_kill(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct hub_info i;
	int r = e2b_find(e2b, req, &i, e);

	if (r == 0)
		r = hub_kill(e2b->hub, i.id, 0, e);
	if (r < 0)
		return r == -EALREADY ? err_set(e, -ENOENT, "no-such-sandbox", "sandbox \"%s\" not found", i.id) : r;
	http_cut(e2b->http, i.id);
	return nothing(res);
}

/* Ends at least then; never sooner than it would have. */
static int extend(struct e2b *e2b, const struct hub_info *i, uint64_t ms, struct err *e)
{
	if (i->ends_ns && i->ends_ns >= clock_wall() + (int64_t)(ms * CLOCK_MS))
		return 0;
	return i->ends_ns ? hub_set_timeout(e2b->hub, i->id, ms, e) : 0;
}

static int connect_to(struct e2b *e2b, struct http_req *req, struct http_res *res, bool resumes, struct err *e)
{
	AUTO(json_free) struct json *j = NULL, *memory = NULL;
	struct hub_info i = { .id = "" };
	uint64_t ms = 0;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = timeout_of(j, TIMEOUT_S, &ms, e);
	if (r == 0)
		r = e2b_find(e2b, req, &i, e);
	if (r == 0 && i.state == SANDBOX_RUNNING && resumes)
		r = err_set(e, -EBUSY, "running", "sandbox \"%s\" is already running", i.id);
	if (r == 0 && i.state == SANDBOX_RUNNING) {
		r = extend(e2b, &i, ms, e);
	} else if (r == 0) {
		r = hub_resume(e2b->hub, i.id, ms, !json_get_bool(j, "memory", true), e);
		res->status = 201;
		if (r == -EALREADY) {
			*e = ERR_NULL;
			r = extend(e2b, &i, ms, e);
			res->status = 200;
		}
	}
	if (r == 0)
		r = e2b_memory(e2b, i.id, &memory, e);
	if (r == 0)
		put_sandbox(e2b, res, &i, json_get_str(memory, "template", i.template_),
			    json_get_str(memory, "alias", json_get_str(memory, "template", i.template_)));
	return r;
}

int e2b_connect(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return connect_to(ctx, req, res, false, e);
}

int e2b_resume(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	return connect_to(ctx, req, res, true, e);
}

int e2b_timeout(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct hub_info i;
	uint64_t ms = 0;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = timeout_of(j, 0, &ms, e);
	if (r == 0)
		r = e2b_find(e2b, req, &i, e);
	if (r == 0 && i.state == SANDBOX_PAUSED)
		r = err_set(e, -ENOENT, "paused", "sandbox \"%s\" is paused", i.id);
	if (r == 0)
		r = hub_set_timeout(e2b->hub, i.id, MAX(ms, (uint64_t)1), e);
	return r < 0 ? r : nothing(res);
}

int e2b_refresh(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct hub_info i;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = e2b_find(e2b, req, &i, e);
	if (r == 0)
		r = extend(e2b, &i, MIN(json_get_u64(j, "duration", TIMEOUT_OLD_S), (uint64_t)3600) * 1000, e);
	return r < 0 ? r : nothing(res);
}

int e2b_pause(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct hub_info i;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = e2b_find(e2b, req, &i, e);
	if (r == 0)
		r = json_get_bool(j, "memory", true) ? hub_pause(e2b->hub, i.id, e) : hub_rest(e2b->hub, i.id, e);
	return r < 0 ? r : nothing(res);
}

/* --- figures and words -------------------------------------------------------------------------------------------- */

void e2b_put_metric(struct json_writer *w, const struct hub_stats *s)
{
	jw_ku64(w, "cpuCount", MAX((s->cpu_milli + 999) / 1000, (uint64_t)1));
	jw_ku64(w, "memUsed", s->memory_b);
	jw_ku64(w, "memTotal", s->memory_limit_b);
	jw_ku64(w, "memCache", s->cache_b);
	jw_ku64(w, "diskUsed", s->inside.disk_total_b - MIN(s->inside.disk_free_b, s->inside.disk_total_b));
	jw_ku64(w, "diskTotal", s->inside.disk_total_b);
}

static void put_percent(struct json_writer *w, double percent)
{
	char text[32];

	snprintf(text, sizeof(text), "%.2f", percent);
	jw_key(w, "cpuUsedPct");
	jw_raw(w, span_str(text));
}

struct samples {
	struct json_writer w;
	const struct hub_info *i;
	double cpu_percent; /* of the newest, and its second */
	int64_t second;
};

static void put_sample(void *ctx, const struct hub_sample *s)
{
	struct samples *all = ctx;
	struct json_writer *w = &all->w;
	uint64_t cpus = MAX((all->i->cpu_milli + 999) / 1000, 1U);

	all->cpu_percent = s->cpu_percent / (double)cpus;
	all->second = s->wall_ns / (int64_t)CLOCK_S;
	jw_open(w, '{');
	e2b_time(w, "timestamp", s->wall_ns);
	jw_ku64(w, "timestampUnix", (uint64_t)(s->wall_ns / (int64_t)CLOCK_S));
	jw_ku64(w, "cpuCount", cpus);
	put_percent(w, all->cpu_percent);
	jw_ku64(w, "memUsed", s->memory_b);
	jw_ku64(w, "memTotal", all->i->memory_b);
	jw_ku64(w, "memCache", s->cache_b);
	jw_ku64(w, "diskUsed", s->disk_b);
	jw_ku64(w, "diskTotal", all->i->workspace_b);
	jw_close(w, '}');
}

static int seconds_of(struct http_req *req, const char *name, int64_t otherwise, int64_t *ret_ns, struct err *e)
{
	const char *text = http_query(req, name);
	uint64_t s = 0;

	*ret_ns = otherwise;
	if (!text)
		return 0;
	if (num_u64(text, UINT32_MAX, &s) < 0)
		return err_set(e, -EINVAL, "bad-request", "%s must be a number of seconds", name);
	*ret_ns = (int64_t)(s * CLOCK_S);
	return 0;
}

/* The last hour of it, and the present. */
int e2b_metrics(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	int64_t now = clock_wall(), from = 0, to = INT64_MAX;
	struct samples all = { .w = { .b = &res->body } };
	struct json_writer *w = &all.w;
	struct hub_stats stats;
	struct hub_info i;
	int r = e2b_find(e2b, req, &i, e);

	if (r == 0)
		r = seconds_of(req, "start", 0, &from, e);
	if (r == 0)
		r = seconds_of(req, "end", INT64_MAX, &to, e);
	if (r < 0)
		return r;
	if (to != INT64_MAX)
		to += (int64_t)CLOCK_S - 1; /* all of that second */
	all.i = &i;
	jw_open(w, '[');
	hub_samples(e2b->hub, i.id, from, to, put_sample, &all);
	if (now >= from && now <= to && now / (int64_t)CLOCK_S != all.second && i.state == SANDBOX_RUNNING &&
	    hub_stats(e2b->hub, i.id, &stats, NULL) == 0) {
		jw_open(w, '{');
		e2b_time(w, "timestamp", now);
		jw_ku64(w, "timestampUnix", (uint64_t)(now / (int64_t)CLOCK_S));
		e2b_put_metric(w, &stats);
		put_percent(w, all.cpu_percent);
		jw_close(w, '}');
	}
	jw_close(w, ']');
	return 0;
}
