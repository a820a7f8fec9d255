/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose a request is, who may come in, and how it is told no. A request for a sandbox says which one in the header
 * E2b-Sandbox-Id; older clients leave it out for files and health, there the access token tells it. Everything else
 * that is not berth's own is the control plane's.
 */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/str.h"
#include "host/api/e2b/template.h"
#include "host/api/e2b/volume.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ENVD_PORT = 49983, WOKEN_MS = 300 * 1000 /* at least, of one that traffic has woken */ };

/* Their method names are part of the paths. What is known and not there answers with its name. */
static const struct http_route control[] = {
	{ "POST", "/v2/sandboxes", e2b_create, ACCESS_RUN, NULL },
	{ "POST", "/sandboxes", e2b_create, ACCESS_RUN, NULL },
	{ "GET", "/v2/sandboxes", e2b_list, ACCESS_READ, NULL },
	{ "GET", "/sandboxes", e2b_list, ACCESS_READ, NULL },
	{ "GET", "/sandboxes/{}", e2b_get, ACCESS_READ, NULL },
	{ "DELETE", "/sandboxes/{}", e2b_kill, ACCESS_RUN, NULL },
	{ "POST", "/v2/sandboxes/{}/connect", e2b_connect, ACCESS_RUN, NULL },
	{ "POST", "/sandboxes/{}/connect", e2b_connect, ACCESS_RUN, NULL },
	{ "POST", "/sandboxes/{}/resume", e2b_resume, ACCESS_RUN, NULL },
	{ "POST", "/sandboxes/{}/timeout", e2b_timeout, ACCESS_RUN, NULL },
	{ "POST", "/sandboxes/{}/refreshes", e2b_refresh, ACCESS_RUN, NULL },
	{ "POST", "/sandboxes/{}/pause", e2b_pause, ACCESS_RUN, NULL },
	{ "GET", "/sandboxes/{}/metrics", e2b_metrics, ACCESS_READ, NULL },
	{ "GET", "/sandboxes/{}/logs", e2b_logs, ACCESS_READ, NULL },
	{ "GET", "/v2/sandboxes/{}/logs", e2b_logs, ACCESS_READ, NULL },
	{ "POST", "/sandboxes/{}/snapshots", e2b_snapshot, ACCESS_FILES, NULL },
	{ "GET", "/snapshots", e2b_snapshots, ACCESS_FILES, NULL },
	{ "GET", "/templates", e2b_template_list, ACCESS_READ, NULL },
	{ "GET", "/v2/templates", e2b_template_list, ACCESS_READ, NULL },
	{ "GET", "/templates/aliases/{}", e2b_template_alias, ACCESS_READ, NULL },
	{ "POST", "/templates/tags", e2b_tags_assign, ACCESS_RUN, NULL },
	{ "DELETE", "/templates/tags", e2b_tags_remove, ACCESS_RUN, NULL },
	{ "DELETE", "/templates/{}", e2b_template_remove, ACCESS_FILES, NULL },
	{ "GET", "/teams", e2b_teams, ACCESS_READ, NULL },
	{ "POST", "/sandboxes/{}/fork", e2b_fork, ACCESS_RUN, NULL },
	{ "PUT", "/sandboxes/{}/network", e2b_network, ACCESS_RUN, NULL },
	{ "POST", "/v3/templates", e2b_template_request, ACCESS_RUN, NULL },
	{ "POST", "/v2/templates", e2b_template_request, ACCESS_RUN, NULL },
	{ "POST", "/v2/templates/{}/builds/{}", e2b_template_trigger, ACCESS_RUN, NULL },
	{ "PATCH", "/v2/templates/{}", e2b_template_patch, ACCESS_RUN, NULL },
	{ "PATCH", "/templates/{}", e2b_template_patch, ACCESS_RUN, NULL },
	{ "POST", "/templates", e2b_missing, ACCESS_RUN, NULL },
	{ "GET", "/templates/{}", e2b_template_get, ACCESS_READ, NULL },
	{ "GET", "/templates/{}/tags", e2b_tags_list, ACCESS_READ, NULL },
	{ "GET", "/templates/{}/files/{}", e2b_file_link, ACCESS_RUN, NULL },
	{ "GET", "/templates/{}/builds/{}/status", e2b_build_status, ACCESS_READ, NULL },
	{ "GET", "/templates/{}/builds/{}/logs", e2b_build_logs, ACCESS_READ, NULL },
	{ "POST", "/volumes", e2b_volume_create, ACCESS_RUN, NULL },
	{ "GET", "/volumes", e2b_volume_list, ACCESS_READ, NULL },
	{ "GET", "/volumes/{}", e2b_volume_get, ACCESS_FILES, NULL },
	{ "DELETE", "/volumes/{}", e2b_volume_remove, ACCESS_RUN, NULL },
	{ "POST", "/secrets", e2b_secret_create, ACCESS_RUN, NULL },
	{ "GET", "/secrets", e2b_secret_list, ACCESS_READ, NULL },
	{ "GET", "/secrets/{}", e2b_secret_get, ACCESS_READ, NULL },
	{ "POST", "/secrets/{}", e2b_secret_update, ACCESS_RUN, NULL },
	{ "DELETE", "/secrets/{}", e2b_secret_remove, ACCESS_RUN, NULL },
};

static const struct http_route content[] = {
	{ "GET", "/volumecontent/{}/dir", e2b_content_list, 0, NULL },
	{ "POST", "/volumecontent/{}/dir", e2b_content_make, 0, NULL },
	{ "GET", "/volumecontent/{}/path", e2b_content_stat, 0, NULL },
	{ "PATCH", "/volumecontent/{}/path", e2b_content_change, 0, NULL },
	{ "DELETE", "/volumecontent/{}/path", e2b_content_remove, 0, NULL },
	{ "GET", "/volumecontent/{}/file", e2b_content_read, 0, NULL },
	{ "PUT", "/volumecontent/{}/file", e2b_content_write, 0, NULL },
};

static const struct http_route door[] = {
	{ "GET", "/health", e2b_health, 0, NULL },
	{ "GET", "/envs", e2b_envs, 0, NULL },
	{ "GET", "/metrics", e2b_self_metrics, 0, NULL },
	{ "POST", "/process.Process/List", e2b_proc_list, 0, NULL },
	{ "POST", "/process.Process/Start", e2b_proc_start, 0, NULL },
	{ "POST", "/process.Process/Connect", e2b_proc_connect, 0, NULL },
	{ "POST", "/process.Process/Update", e2b_proc_update, 0, NULL },
	{ "POST", "/process.Process/SendInput", e2b_proc_input, 0, NULL },
	{ "POST", "/process.Process/CloseStdin", e2b_proc_close, 0, NULL },
	{ "POST", "/process.Process/SendSignal", e2b_proc_signal, 0, NULL },
	{ "POST", "/filesystem.Filesystem/Stat", e2b_stat, 0, NULL },
	{ "POST", "/filesystem.Filesystem/MakeDir", e2b_make_dir, 0, NULL },
	{ "POST", "/filesystem.Filesystem/Move", e2b_move, 0, NULL },
	{ "POST", "/filesystem.Filesystem/ListDir", e2b_list_dir, 0, NULL },
	{ "POST", "/filesystem.Filesystem/Remove", e2b_remove, 0, NULL },
	{ "POST", "/filesystem.Filesystem/WatchDir", e2b_watch_dir, 0, NULL },
	{ "POST", "/filesystem.Filesystem/CreateWatcher", e2b_watcher_create, 0, NULL },
	{ "POST", "/filesystem.Filesystem/GetWatcherEvents", e2b_watcher_events, 0, NULL },
	{ "POST", "/filesystem.Filesystem/RemoveWatcher", e2b_watcher_remove, 0, NULL },
	{ "GET", "/files", e2b_file_get, 0, NULL },
	{ "POST", "/files", e2b_file_put, 0, NULL },
};

/* --- whose it is -------------------------------------------------------------------------------------------------- */

/* Sandbox and port, as headers say them, or the name of the host: PORT-ID.anything. 0: neither does. */
static uint64_t aim(struct http_req *req, char id[72])
{
	const char *name = http_header(req, "E2b-Sandbox-Id"), *port = http_header(req, "E2b-Sandbox-Port");
	const char *host = http_header(req, "Host");
	char digits[8];
	uint64_t n = ENVD_PORT;
	size_t len;

	id[0] = '\0';
	if (name) {
		if (str_copy(id, 72, name) < 0 || (port && num_u64(port, 65535, &n) < 0))
			return 0;
		return n;
	}
	len = host ? strspn(host, "0123456789") : 0;
	if (!len || len >= sizeof(digits) || host[len] != '-' || !strchr(host, '.'))
		return 0;
	memcpy(digits, host, len);
	digits[len] = '\0';
	host += len + 1;
	len = strcspn(host, ".");
	if (!len || len >= 72 || num_u64(digits, 65535, &n) < 0)
		return 0;
	memcpy(id, host, len);
	id[len] = '\0';
	return n;
}

uint64_t e2b_port(struct http_req *req)
{
	char id[72];

	return aim(req, id);
}

static bool is_of_port(void *ctx, struct http_req *req)
{
	char id[72];
	uint64_t port = aim(req, id);

	(void)ctx;
	return port && port != ENVD_PORT;
}

static bool is_of_door(void *ctx, struct http_req *req)
{
	const char *path = http_path(req);
	char id[72];

	(void)ctx;
	return aim(req, id) || http_header(req, "E2b-Sandbox-Id") || http_header(req, "X-Access-Token") ||
	       str_eq(path, "/files") || str_starts(path, "/process.Process/") ||
	       str_starts(path, "/filesystem.Filesystem/");
}

static bool is_of_control(void *ctx, struct http_req *req)
{
	static const char *const tops[] = { "/sandboxes",   "/v2/sandboxes", "/v3/templates", "/v2/templates",
					    "/templates",   "/volumes",	     "/secrets",      "/snapshots",
					    "/teams" };
	const char *path = http_path(req);
	size_t i, len;

	(void)ctx;
	for (i = 0; i < ARRAY_LEN(tops); i++) {
		len = strlen(tops[i]);
		if (strncmp(path, tops[i], len) == 0 && (!path[len] || path[len] == '/'))
			return true;
	}
	return false;
}

const char *e2b_sandbox(struct http_req *req)
{
	return http_who(req)->of;
}

/* A URL for one file that needs nothing else: signed with the token. Expiry is looked at behind that. */
static bool is_signed(struct http_req *req, const char *token)
{
	const char *path = http_query(req, "path"), *user = http_query(req, "username");
	const char *given = http_query(req, "signature"), *expiry = http_query(req, "signature_expiration");
	AUTO(str_free) char *text = NULL;
	uint8_t hash[32];
	struct buf b;
	bool yes;

	if (!str_eq(http_path(req), "/files") || !given)
		return false;
	text = str_printf("%s:%s:%s:%s%s%s", path ? path : "", str_eq(http_method(req), "POST") ? "write" : "read",
			  user ? user : "", token, expiry ? ":" : "", expiry ? expiry : "");
	sha256_of(span_str(text), hash);
	explicit_bzero(text, strlen(text));
	buf_init(&b, 64);
	buf_append(&b, "v1_", 3);
	base64_put(&b, SPAN(hash, sizeof(hash)), false);
	yes = buf_len(&b) == strlen(given) && secret_eq(buf_span(&b).p, given, buf_len(&b));
	buf_fini(&b);
	return yes;
}

static bool is_expired(struct http_req *req)
{
	const char *expiry = http_query(req, "signature_expiration");
	uint64_t s;

	return expiry && (num_u64(expiry, UINT64_MAX, &s) < 0 || (int64_t)s < clock_wall() / (int64_t)CLOCK_S);
}

struct by_token {
	struct e2b *e2b;
	struct http_req *req;
	const char *token; /* NULL: by a signature */
	char *id; /* room for one */
};

static int is_its_token(void *ctx, const struct hub_info *i)
{
	struct by_token *b = ctx;
	char token[E2B_TOKEN + 1];

	if (e2b_token(b->e2b, i->id, token, NULL) < 0 ||
	    !(b->token ? secret_eq(token, b->token, E2B_TOKEN) : is_signed(b->req, token)))
		return 0;
	snprintf(b->id, PRIV_ID_MAX + 1, "%s", i->id);
	return 1;
}

/* Does it go on when somebody asks for something? Only to be asked whether it runs wakes nobody. */
static bool is_woken(struct e2b *e2b, struct http_req *req, const char *id)
{
	AUTO(json_free) struct json *memory = NULL;

	return !str_eq(http_path(req), "/health") && e2b_memory(e2b, id, &memory, NULL) == 0 &&
	       json_get_bool(memory, "autoResume", false);
}

/* An agent may be slow on purpose: it never has more than half of the threads, and all of them no more than three
 * quarters, so that whoever ends them is always heard. */
static int take_turn(struct e2b *e2b, const char *id, struct err *e)
{
	uintptr_t mine;
	bool ok;

	lock_take(&e2b->lock);
	mine = (uintptr_t)map_get(&e2b->working_for, span_str(id));
	ok = mine < MAX(e2b->threads / 2, 1U) && e2b->working < MAX(e2b->threads * 3 / 4, 1U);
	if (ok) {
		e2b->working++;
		(void)map_put(&e2b->working_for, span_str(id), (void *)(mine + 1));
	}
	lock_drop(&e2b->lock);
	return ok ? 0 : err_set(e, -EUSERS, "busy", "too many requests for this sandbox are under way");
}

static void end_turn(void *ctx, const char *id)
{
	struct e2b *e2b = ctx;
	uintptr_t mine;

	lock_take(&e2b->lock);
	e2b->working--;
	mine = (uintptr_t)map_remove(&e2b->working_for, span_str(id));
	if (mine > 1)
		(void)map_put(&e2b->working_for, span_str(id), (void *)(mine - 1));
	lock_drop(&e2b->lock);
}

/* Or on its way there or back. */
static bool is_asleep(const struct hub_info *i)
{
	return i->state == SANDBOX_PAUSED || i->state == SANDBOX_PAUSING || i->state == SANDBOX_RESUMING;
}

static int wake(struct e2b *e2b, struct http_req *req, struct err *e)
{
	struct hub_info i;
	int r = hub_find(e2b->hub, e2b_sandbox(req), &i, e);

	if (r < 0 || !is_asleep(&i))
		return r;
	r = hub_resume(e2b->hub, i.id, i.timeout_ms && i.timeout_ms < WOKEN_MS ? WOKEN_MS : 0, false, e);
	if (r == -EALREADY) { /* somebody else has woken it */
		*e = ERR_NULL;
		r = 0;
	}
	return r;
}

static int prepare(void *ctx, struct http_req *req, struct err *e)
{
	int r = take_turn(ctx, e2b_sandbox(req), e);

	if (r < 0)
		return r;
	r = wake(ctx, req, e);
	if (r < 0)
		end_turn(ctx, e2b_sandbox(req));
	return r;
}

/* Which sandbox, and may he? One that is not there is 502, whatever token comes with it: clients tell so that it ended.
 */
static int admit(void *ctx, struct http_req *req, struct http_who *ret, struct err *e)
{
	struct e2b *e2b = ctx;
	const char *id = NULL, *token = http_header(req, "X-Access-Token");
	char aimed[72];
	uint64_t port = aim(req, aimed);
	char right[E2B_TOKEN + 1];
	struct hub_info i;

	*ret = (struct http_who){ .id = "" };
	if (aimed[0])
		id = aimed;
	if (!id && (token ? strlen(token) == E2B_TOKEN : http_query(req, "signature") != NULL)) {
		struct by_token by = { .e2b = e2b, .req = req, .token = token, .id = ret->of };

		if (!hub_each(e2b->hub, false, is_its_token, &by) && !token)
			return err_set(e, -EKEYREJECTED, "bad-token", "invalid signature");
		id = ret->of;
	}
	if (!id || hub_find(e2b->hub, id, &i, NULL) < 0 || !str_eq(i.id, id) ||
	    (i.state != SANDBOX_RUNNING && !(is_asleep(&i) && is_woken(e2b, req, i.id))))
		return err_set(e, -EPIPE, "sandbox-gone", "The sandbox was not found");
	snprintf(ret->of, sizeof(ret->of), "%s", i.id);
	if (port && port != ENVD_PORT) { /* before anything is woken */
		int r = e2b_admit_traffic(e2b, req, i.id, e);

		if (r < 0)
			return r;
	}
	/* Whatever listens there asks for itself, but for what is ours. */
	if (port && port != ENVD_PORT && !(port == E2B_INTERPRETER_PORT && str_eq(http_path(req), "/execute")))
		return 0;
	if (str_eq(http_path(req), "/health") || str_eq(http_method(req), "OPTIONS"))
		return 0;
	if (e2b_token(e2b, i.id, right, e) < 0)
		return e->code;
	if (!token && http_query(req, "signature"))
		return !is_signed(req, right)  ? err_set(e, -EKEYREJECTED, "bad-token", "invalid signature")
		       : is_expired(req) ? err_set(e, -EKEYREJECTED, "bad-token", "signature is already expired")
					 : 0;
	if (!token || strlen(token) != E2B_TOKEN || !secret_eq(token, right, E2B_TOKEN))
		return err_set(e, -EKEYREJECTED, "bad-token",
			       "unauthorized access, please provide a valid access token");
	return 0;
}

/* --- how it says no ----------------------------------------------------------------------------------------------- */

static void put_plain(struct http_res *res, const char *message, const char *sandbox, uint64_t port)
{
	struct json_writer w = { .b = &res->body };

	jw_open(&w, '{');
	if (sandbox)
		jw_kstr(&w, "sandboxId", sandbox);
	if (port)
		jw_ku64(&w, "port", port);
	jw_ku64(&w, "code", (uint64_t)res->status);
	jw_kstr(&w, "message", message);
	jw_close(&w, '}');
}

static void control_error(void *ctx, struct http_req *req, struct http_res *res, const struct err *e)
{
	(void)ctx;
	(void)req;
	put_plain(res, e->text, NULL, 0);
}

static bool is_call(struct http_req *req)
{
	const char *path = http_path(req);

	return str_starts(path, "/process.Process/") || str_starts(path, "/filesystem.Filesystem/");
}

/* The edge's words where the sandbox is not reached, Connect's for calls, and plain ones. */
static void door_error(void *ctx, struct http_req *req, struct http_res *res, const struct err *e)
{
	struct json_writer w = { .b = &res->body };
	const char *id = http_header(req, "E2b-Sandbox-Id"), *code;
	uint64_t port;
	int status;

	(void)ctx;
	if (str_eq(e->slug, "sandbox-gone") || str_eq(e->slug, "port-closed") || str_eq(e->slug, "traffic-token")) {
		char aimed[72];

		port = aim(req, aimed);
		put_plain(res, e->text, id ? id : aimed, str_eq(e->slug, "port-closed") ? port : 0);
		return;
	}
	if (!is_call(req)) {
		if (str_eq(e->slug, "unknown-user"))
			res->status = 401;
		put_plain(res, e->text, NULL, 0);
		return;
	}
	code = e2b_code_of(e, &status);
	res->status = status;
	jw_open(&w, '{');
	jw_kstr(&w, "code", code);
	jw_kstr(&w, "message", e->text);
	jw_close(&w, '}');
}

static void dress(void *ctx, struct http_req *req, struct http_res *res)
{
	(void)ctx;
	(void)req;
	http_answer_header(res, "Access-Control-Allow-Origin", "*");
	http_answer_header(res, "Access-Control-Expose-Headers", "*");
}

void e2b_fronts(struct e2b *e, struct http_front ret[E2B_FRONTS])
{
	static const struct http_route any = { "*", "/*", e2b_proxy, 0, NULL };
	static const struct http_route uploads = { "PUT", "/templates/{}/files/{}", e2b_file_upload, 0, NULL };

	ret[0] = (struct http_front){ .routes = &any,
				      .n = 1,
				      .ctx = e,
				      .is_mine = is_of_port,
				      .admit = admit,
				      .prepare = prepare,
				      .finish = end_turn,
				      .put_error = door_error,
				      .fallback = &any,
				      .lenient = true };
	ret[1] = (struct http_front){ .routes = door,
				      .n = ARRAY_LEN(door),
				      .ctx = e,
				      .is_mine = is_of_door,
				      .admit = admit,
				      .prepare = prepare, .finish = end_turn,
				      .put_error = door_error,
				      .dress = dress,
				      .lenient = true };
	ret[2] = (struct http_front){ .routes = &uploads, .n = 1, .ctx = e, .is_mine = e2b_is_upload,
				      .admit = e2b_admit_upload, .put_error = control_error, .lenient = true };
	ret[4] = (struct http_front){ .routes = content, .n = ARRAY_LEN(content), .ctx = e,
				      .is_mine = e2b_is_content, .admit = e2b_admit_content, .prepare = prepare,
				      .finish = end_turn, .put_error = e2b_content_error, .lenient = true };
	ret[3] = (struct http_front){ .routes = control, .n = ARRAY_LEN(control), .ctx = e, .is_mine = is_of_control,
				      .put_error = control_error, .lenient = true };
}

/* --- shared ------------------------------------------------------------------------------------------------------- */

int e2b_body(struct http_req *req, struct json **ret, struct err *e)
{
	uint64_t size;
	int fd;
	struct span body = http_body(req, &fd, &size);

	if (fd >= 0)
		return err_set(e, -E2BIG, "body-too-large", "a JSON body of at most 1 MiB is expected here");
	return json_parse(body.len ? body : span_str("{}"), ret, e);
}

bool e2b_is_ours(struct http_req *req, const struct hub_info *i)
{
	const struct http_who *who = http_who(req);

	return (!who->id[0] || str_eq(who->id, i->owner)) && !str_starts(i->name, BUILD_SANDBOX) &&
	       !str_starts(i->name, HUB_VOLUME);
}

int e2b_find(struct e2b *e2b, struct http_req *req, struct hub_info *ret, struct err *e)
{
	const char *id = http_segment(req, 0), *dash = strchr(id, '-');
	AUTO(str_free) char *bare = dash && str_eq(dash + 1, E2B_CLIENT) ? span_dup(SPAN(id, (size_t)(dash - id)))
									    : must_strdup(id);
	int r = hub_find(e2b->hub, bare, ret, e);

	if (r < 0 || !str_eq(ret->id, bare) || !e2b_is_ours(req, ret) || ret->state >= SANDBOX_STOPPING) {
		*e = ERR_NULL;
		return err_set(e, -ENOENT, "no-such-sandbox", "sandbox \"%.64s\" not found", bare);
	}
	return 0;
}

int e2b_token(struct e2b *e2b, const char *id, char ret[E2B_TOKEN + 1], struct err *e)
{
	struct digest d;
	int r = hub_derive(e2b->hub, id, "envd", &d, e);

	if (r == 0)
		str_hex(d.b, E2B_TOKEN / 2, ret);
	return r;
}

void e2b_time(struct json_writer *w, const char *key, int64_t ns)
{
	time_t s = (time_t)(ns / (int64_t)CLOCK_S);
	char text[40], whole[64];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(whole, sizeof(whole), "%s.%03dZ", text, (int)(ns % (int64_t)CLOCK_S / (int64_t)CLOCK_MS));
	jw_kstr(w, key, whole);
}

int e2b_memory(struct e2b *e2b, const char *id, struct json **ret, struct err *e)
{
	struct buf b;
	int r;

	buf_init(&b, HUB_DOOR_MAX + 1);
	r = hub_door(e2b->hub, id, &b, e);
	if (r == 0)
		r = json_parse(buf_len(&b) ? buf_span(&b) : span_str("{}"), ret, e);
	buf_fini(&b);
	return r;
}

char *e2b_user(struct e2b *e2b, struct http_req *req)
{
	AUTO(json_free) struct json *memory = NULL;
	const char *s = http_header(req, "Authorization");
	struct buf b;
	char *user = NULL, *colon;

	buf_init(&b, 256);
	if (s && strncasecmp(s, "Basic ", 6) == 0 && base64_take(&b, span_str(s + 6)) == 0) {
		user = span_dup(buf_span(&b));
		colon = strchr(user, ':');
		if (colon)
			*colon = '\0';
	}
	buf_fini(&b);
	if (user && !*user)
		str_free(&user);
	if (user)
		return user;
	(void)!e2b_memory(e2b, e2b_sandbox(req), &memory, NULL);
	return must_strdup(json_get_str(memory, "user", "user"));
}

int e2b_missing(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	(void)ctx;
	(void)res;
	return err_set(e, -ENOSYS, "not-built", "berth does not have this yet: %s %.100s (docs/e2b.md)",
		       http_method(req), http_path(req));
}

bool e2b_open_add(struct e2b *e2b, struct e2b_open *o)
{
	list_init(&o->node);
	if (e2b->ending)
		return false;
	list_append(&e2b->opens, &o->node);
	return true;
}

void e2b_open_remove(struct e2b_open *o)
{
	list_remove(&o->node);
	list_init(&o->node);
}

int e2b_init(struct e2b *e2b, struct err *e)
{
	int r;

	lock_init(&e2b->lock, "e2b", LOCK_SANDBOX);
	list_init(&e2b->procs);
	list_init(&e2b->waiting);
	list_init(&e2b->opens);
	list_init(&e2b->watchers);
	r = templates_begin(e2b, e);
	return r < 0 ? r : volumes_begin(e2b, e);
}

void e2b_fini(struct e2b *e)
{
	templates_fini(e);
	volumes_fini(e);
	loop_sync(e->loop); /* who followed a process is let go of there */
	e2b_watchers_end(e);
	map_fini(&e->working_for);
	str_free(&e->spool_dir);
	lock_fini(&e->lock);
}
