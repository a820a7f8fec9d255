/* SPDX-License-Identifier: Apache-2.0 */
/* The client itself, sandboxes, templates, health. */
#include "client/inside.h"

#include "base/clock.h"
#include "base/str.h"
#include "wire/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define DEFAULT_URL "unix:/var/lib/berth/run/api.sock"

/* "127.0.0.1:7070", "[::1]:7070", "host:7070", with or without a slash behind it. */
static bool take_host(struct berth *b, const char *text)
{
	AUTO(str_free) char *all = must_strdup(text);
	size_t len = strlen(all);
	const char *p;
	char *colon;
	uint64_t port;

	if (len && all[len - 1] == '/')
		all[--len] = '\0';
	for (p = all; *p > ' ' && *p < 0x7f && !strchr("/@?#", *p);)
		p++;
	colon = strrchr(all, ':');
	if (*p || !colon || colon == all || num_u64(colon + 1, 65535, &port) < 0)
		return false;
	b->base = str_printf("http://%s", all);
	*colon = '\0';
	b->port = must_strdup(colon + 1);
	if (all[0] == '[' && str_ends(all, "]"))
		b->host = span_dup(SPAN(all + 1, strlen(all) - 2));
	else
		b->host = must_strdup(all);
	return true;
}

int berth_open(const char *address, struct berth **ret, struct berth_error *e)
{
	struct berth *b;

	if (!address)
		address = getenv("BERTH_URL");
	if (!address || !*address)
		address = DEFAULT_URL;
	b = NEW(struct berth);
	if (str_starts(address, "unix:/")) {
		b->socket = must_strdup(address + 5);
		b->base = must_strdup("http://berth");
	} else if (!str_starts(address, "http://") || !take_host(b, address + 7)) {
		berth_close(&b);
		return client_error(e, -EINVAL, "bad-address", "\"%.100s\": unix:/PATH or http://HOST:PORT is wanted",
				    address);
	}
	berth_set_key(b, getenv("BERTH_API_KEY"));
	*ret = b;
	return 0;
}

void berth_set_key(struct berth *b, const char *key)
{
	if (b->key)
		explicit_bzero(b->key, strlen(b->key));
	str_free(&b->key);
	b->key = must_strdup(key && *key ? key : NULL);
}

void berth_close(struct berth **slot)
{
	struct berth *b = take(slot);

	if (!b)
		return;
	client_close(b);
	berth_set_key(b, NULL);
	str_free(&b->socket);
	str_free(&b->host);
	str_free(&b->port);
	str_free(&b->base);
	free(b);
}

const char *berth_version(void)
{
	return PACKAGE_VERSION;
}

int berth_host(struct berth *b, int (*fn)(void *ctx, const struct berth_part *), void *ctx, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	const struct json *parts;
	int r = client_json(b, "GET", "/v1/host", SPAN_NULL, &j, e);
	size_t i;

	parts = r == 0 ? json_get(j, "parts") : NULL;
	for (i = 0; r == 0 && i < json_len(parts); i++) {
		const struct json *one = json_at(parts, i);
		struct berth_part part = { .group = json_get_str(one, "group", ""),
					   .name = json_get_str(one, "name", ""),
					   .state = json_get_str(one, "state", ""),
					   .words = json_get_str(one, "words", "") };

		r = fn(ctx, &part);
	}
	return r;
}

int berth_host_json(struct berth *b, char **ret_json, struct berth_error *e)
{
	return client_text(b, "GET", "/v1/host", SPAN_NULL, ret_json, e);
}

int berth_health(struct berth *b, char **ret_json, struct berth_error *e)
{
	return client_text(b, "GET", "/health", SPAN_NULL, ret_json, e);
}

int berth_status(struct berth *b, struct berth_status *ret, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	const struct json *store, *disk;
	int r = client_json(b, "GET", "/health", SPAN_NULL, &j, e);

	if (r < 0)
		return r;
	store = json_get(j, "store");
	disk = json_get(j, "disk");
	*ret = (struct berth_status){ .uptime_ms = json_get_u64(j, "uptime_ms", 0),
				      .workspaces = json_get_u64(store, "workspaces", 0),
				      .store_b = json_get_u64(store, "content_b", 0),
				      .store_used_b = json_get_u64(store, "content_used_b", 0),
				      .disk_free_b = json_get_u64(disk, "free_b", 0),
				      .disk_total_b = json_get_u64(disk, "total_b", 0) };
	snprintf(ret->status, sizeof(ret->status), "%s", json_get_str(j, "status", ""));
	snprintf(ret->version, sizeof(ret->version), "%s", json_get_str(j, "version", ""));
	snprintf(ret->mount, sizeof(ret->mount), "%s", json_get_str(j, "mount", ""));
	return 0;
}

/* --- sandboxes ---------------------------------------------------------------------------------------------------- */

static void info_from(const struct json *j, struct berth_info *i)
{
	size_t n;

	*i = (struct berth_info){ .memory_b = json_get_u64(j, "memory_b", 0) };
	snprintf(i->id, sizeof(i->id), "%s", json_get_str(j, "id", ""));
	snprintf(i->name, sizeof(i->name), "%s", json_get_str(j, "name", ""));
	snprintf(i->template_, sizeof(i->template_), "%s", json_get_str(j, "template", ""));
	snprintf(i->state, sizeof(i->state), "%s", json_get_str(j, "state", ""));
	snprintf(i->why, sizeof(i->why), "%s", json_get_str(j, "why", ""));
	snprintf(i->mount, sizeof(i->mount), "%s", json_get_str(j, "mount", ""));
	i->created_ns = (int64_t)json_get_u64(j, "created_ns", 0);
	i->ends_ns = (int64_t)json_get_u64(j, "ends_ns", 0);
	i->stopped_ns = (int64_t)json_get_u64(j, "stopped_ns", 0);
	i->workspace_b = json_get_u64(j, "workspace_b", 0);
	i->cpu_milli = json_get_u64(j, "cpu_milli", 0);
	i->pids = json_get_u64(j, "pids", 0);
	i->left_out = json_get_u64(j, "left_out", 0);
	i->fills = json_get(j, "filling") != NULL;
	snprintf(i->fill_why, sizeof(i->fill_why), "%s", json_get_str(j, "fill_why", ""));
	i->has_keep = json_get_str(j, "keep", "")[0];
	i->keep_ignored = !json_get_bool(j, "keep_followed", true);
	i->secrets[0] = '\0';
	for (n = 0; n < json_len(json_get(j, "secrets")); n++) {
		size_t len = strlen(i->secrets);

		snprintf(i->secrets + len, sizeof(i->secrets) - len, "%s%s", n ? "," : "",
			 json_text(json_at(json_get(j, "secrets"), n)));
	}
}

int berth_services(struct berth *b, const char *id, int (*fn)(void *ctx, const struct berth_service *), void *ctx,
		   struct berth_error *e)
{
	AUTO(str_free) char *text = NULL;
	AUTO(json_free) struct json *j = NULL;
	const struct json *list;
	int r = berth_info_json(b, id, &text, e);
	size_t n;

	if (r < 0 || json_parse(span_str(text), &j, NULL) < 0)
		return r;
	list = json_get(j, "services");
	for (n = 0; r == 0 && n < json_len(list); n++) {
		const struct json *one = json_at(list, n);

		r = fn(ctx, &(struct berth_service){ .name = json_get_str(one, "name", ""),
						     .secret = json_get_str(one, "secret", ""),
						     .url = json_get_str(one, "url", "") });
	}
	return r;
}

static void put_number(struct json_writer *w, const char *key, uint64_t v)
{
	if (v)
		jw_ku64(w, key, v);
}

static void put_metadata(struct json_writer *w, const char *const *pairs)
{
	if (!pairs || !*pairs)
		return;
	jw_key(w, "metadata");
	jw_open(w, '{');
	for (; *pairs; pairs++) {
		size_t len = strcspn(*pairs, "=");
		AUTO(str_free) char *key = span_dup(SPAN(*pairs, len));

		jw_kstr(w, key, *pairs + len + ((*pairs)[len] == '='));
	}
	jw_close(w, '}');
}

/* Somebody wants to see how far it is: asked beside the call that waits, on a connection of its own. */
struct filling {
	struct berth *b; /* borrowed */
	struct berth ask; /* a copy with a connection of its own */
	char path[96];
	uint64_t next;
};

enum { ASK_MS = 200 };

static void on_tick(void *ctx)
{
	AUTO(json_free) struct json *j = NULL;
	struct filling *f = ctx;
	const struct json *now;

	if (clock_now() < f->next || client_json(&f->ask, "GET", f->path, SPAN_NULL, &j, NULL) < 0)
		return;
	f->next = clock_after_ms(ASK_MS);
	now = json_get(j, "filling");
	if (now)
		f->b->progress(f->b->progress_ctx, json_get_u64(now, "bytes", 0), json_get_u64(now, "bytes_total", 0));
}

/* @id: chosen here, so that it is known before the answer. */
static int create_watched(struct berth *b, const char *id, struct span body, struct json **ret, struct berth_error *e)
{
	struct filling f = { .b = b, .ask = *b, .next = clock_after_ms(ASK_MS) };
	struct client_call c = { .method = "POST", .path = "/v1/sandboxes", .json = body, .from_fd = -1, .to_fd = -1,
				 .tick = on_tick, .ctx = &f };
	int r;

	f.ask.curl = NULL;
	f.ask.progress = NULL;
	snprintf(f.path, sizeof(f.path), "/v1/sandboxes/%s", id);
	r = client_call_json(b, &c, ret, e);
	client_close(&f.ask);
	return r;
}

static void random_id(char to[17])
{
	uint8_t b[16] = { 0 };
	size_t i;

	(void)!getrandom(b, sizeof(b), 0);
	for (i = 0; i < sizeof(b); i++)
		to[i] = (char)('a' + b[i] % 26);
	to[i] = '\0';
}

int berth_create(struct berth *b, const struct berth_create *what, struct berth_info *ret, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	bool watched = what->from && !what->no_wait && b->progress;
	char id[17] = "";
	struct buf body;
	struct json_writer w = { .b = &body };
	int r;

	buf_init(&body, 256 * 1024);
	jw_open(&w, '{');
	if (what->template_)
		jw_kstr(&w, "template", what->template_);
	if (what->name)
		jw_kstr(&w, "name", what->name);
	if (what->from)
		jw_kstr(&w, "from", what->from);
	if (watched) {
		random_id(id);
		jw_kstr(&w, "id", id);
	}
	if (what->keep)
		jw_kstr(&w, "keep", what->keep);
	if (what->from && what->no_wait) {
		jw_key(&w, "no_wait");
		jw_bool(&w, true);
	}
	put_number(&w, "timeout_ms", what->timeout_ms);
	put_number(&w, "memory_b", what->memory_b);
	put_number(&w, "workspace_b", what->workspace_b);
	put_number(&w, "cpu_milli", what->cpu_milli);
	put_number(&w, "pids", what->pids);
	if (what->on_timeout)
		jw_kstr(&w, "on_timeout", what->on_timeout);
	put_metadata(&w, what->metadata);
	if (what->secrets && what->secrets[0]) {
		const char *const *name;

		jw_key(&w, "secrets");
		jw_open(&w, '[');
		for (name = what->secrets; *name; name++)
			jw_str(&w, span_str(*name));
		jw_close(&w, ']');
	}
	if (what->internet) {
		jw_key(&w, "internet");
		jw_bool(&w, str_eq(what->internet, "on"));
	}
	if (what->allow && *what->allow)
		client_put_list(&w, "allow", what->allow);
	if (what->deny && *what->deny)
		client_put_list(&w, "deny", what->deny);
	jw_close(&w, '}');
	r = watched ? create_watched(b, id, buf_span(&body), &j, e)
		    : client_json(b, "POST", "/v1/sandboxes", buf_span(&body), &j, e);
	buf_fini(&body);
	if (r == 0)
		info_from(j, ret);
	return r;
}

/* "/v1/sandboxes/ID" and what follows. */
static char *path_of(const char *id, const char *rest)
{
	AUTO(str_free) char *safe = client_encode(id);

	return str_printf("/v1/sandboxes/%s%s", safe, rest);
}

int berth_info(struct berth *b, const char *id, struct berth_info *ret, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *path = path_of(id, "");
	int r = client_json(b, "GET", path, SPAN_NULL, &j, e);

	if (r == 0)
		info_from(j, ret);
	return r;
}

int berth_keep(struct berth *b, const char *id, char **ret, struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, "");
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", path, SPAN_NULL, &j, e);

	if (r == 0)
		*ret = must_strdup(json_get_str(j, "keep", ""));
	return r;
}

int berth_info_json(struct berth *b, const char *id, char **ret_json, struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, "");

	return client_text(b, "GET", path, SPAN_NULL, ret_json, e);
}

int berth_list_json(struct berth *b, bool all, char **ret_json, struct berth_error *e)
{
	return client_text(b, "GET", all ? "/v1/sandboxes?all=1" : "/v1/sandboxes", SPAN_NULL, ret_json, e);
}

int berth_list(struct berth *b, bool all, struct berth_info **ret, size_t *ret_n, struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", all ? "/v1/sandboxes?all=1" : "/v1/sandboxes", SPAN_NULL, &j, e);
	size_t i;

	if (r < 0)
		return r;
	*ret_n = json_len(j);
	*ret = must_calloc(*ret_n, sizeof(**ret));
	for (i = 0; i < *ret_n; i++)
		info_from(json_at(j, i), &(*ret)[i]);
	return 0;
}

static int post_number(struct berth *b, const char *id, const char *what, const char *key, uint64_t v,
		       struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, what);
	AUTO(str_free) char *body = str_printf("{\"%s\":%llu}", key, (unsigned long long)v);

	return client_json(b, "POST", path, span_str(body), NULL, e);
}

int berth_kill(struct berth *b, const char *id, uint64_t grace_ms, struct berth_error *e)
{
	return post_number(b, id, "/kill", "grace_ms", grace_ms, e);
}

int berth_timeout(struct berth *b, const char *id, uint64_t timeout_ms, struct berth_error *e)
{
	return post_number(b, id, "/timeout", "timeout_ms", timeout_ms, e);
}

int berth_pause(struct berth *b, const char *id, struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, "/pause");

	return client_json(b, "POST", path, SPAN_NULL, NULL, e);
}

int berth_pause_no_memory(struct berth *b, const char *id, struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, "/pause");

	return client_json(b, "POST", path, span_str("{\"memory\":false}"), NULL, e);
}

int berth_resume(struct berth *b, const char *id, uint64_t timeout_ms, struct berth_error *e)
{
	return post_number(b, id, "/resume", "timeout_ms", timeout_ms, e);
}

int berth_resume_no_memory(struct berth *b, const char *id, uint64_t timeout_ms, struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, "/resume");
	AUTO(str_free) char *body =
		str_printf("{\"memory\":false,\"timeout_ms\":%llu}", (unsigned long long)timeout_ms);

	return client_json(b, "POST", path, span_str(body), NULL, e);
}

int berth_remove(struct berth *b, const char *id, struct berth_error *e)
{
	return berth_remove_counted(b, id, false, NULL, e);
}

int berth_remove_counted(struct berth *b, const char *id, bool snapshots, uint64_t *ret_left, struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, snapshots ? "?snapshots=1" : "");
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "DELETE", path, SPAN_NULL, &j, e);

	if (r == 0 && ret_left)
		*ret_left = json_get_u64(j, "snapshots_left", 0);
	return r;
}

int berth_sync(struct berth *b, const char *id, struct berth_error *e)
{
	AUTO(str_free) char *path = path_of(id, "/sync");

	return client_json(b, "POST", path, SPAN_NULL, NULL, e);
}

/* --- templates ---------------------------------------------------------------------------------------------------- */

int berth_template_list(struct berth *b, char **ret_json, struct berth_error *e)
{
	return client_text(b, "GET", "/v1/templates", SPAN_NULL, ret_json, e);
}

static char *rules_path(const char *name)
{
	AUTO(str_free) char *safe = client_encode(name);

	return str_printf("/v1/templates/%s/keep", safe);
}

int berth_template_keep(struct berth *b, const char *name, char **ret, struct berth_error *e)
{
	AUTO(str_free) char *path = rules_path(name);
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", path, SPAN_NULL, &j, e);

	if (r == 0)
		*ret = must_strdup(json_get_str(j, "keep", ""));
	return r;
}

int berth_template_set_keep(struct berth *b, const char *name, const char *rules, struct berth_error *e)
{
	AUTO(str_free) char *path = rules_path(name);
	struct buf body;
	struct json_writer w = { .b = &body };
	int r;

	buf_init(&body, 256 * 1024);
	jw_open(&w, '{');
	jw_kstr(&w, "keep", rules);
	jw_close(&w, '}');
	r = client_json(b, "PUT", path, buf_span(&body), NULL, e);
	buf_fini(&body);
	return r;
}

int berth_template_remove(struct berth *b, const char *name, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(name);
	AUTO(str_free) char *path = str_printf("/v1/templates/%s", safe);

	return client_json(b, "DELETE", path, SPAN_NULL, NULL, e);
}

/* Lines until the daemon hangs up; the last one says how it ended. */
static int follow_words(int fd, struct buf *in, berth_line_fn *say, void *ctx, struct berth_error *e)
{
	char last[512] = "";
	ssize_t n = 1;

	while (n > 0) {
		const char *all = buf_str(in), *end;

		while ((end = strchr(all, '\n'))) {
			snprintf(last, sizeof(last), "%.*s", (int)(end - all), all);
			say(ctx, last);
			buf_consume(in, (size_t)(end - all) + 1);
			all = buf_str(in);
		}
		if (buf_room(in) < 4096)
			buf_consume(in, buf_len(in)); /* a line without an end */
		n = read(fd, buf_reserve(in, 4096), 4096);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			buf_commit(in, (size_t)n);
	}
	if (str_eq(last, "berth: ok"))
		return 0;
	if (str_starts(last, "berth: failed: "))
		return client_error(e, -EIO, "template-failed", "%s", last + 15);
	return client_error(e, -EPIPE, "cut-off", "the build's end was not told");
}

int berth_template_build(struct berth *b, const char *name, const char *const *packages, int tar_fd, bool replace,
			 berth_line_fn *say, void *ctx, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(name);
	AUTO(str_free) char *path = packages ? must_strdup("/v1/templates")
					     : str_printf("/v1/templates/%s?replace=%d", safe, replace);
	struct buf body, in;
	struct json_writer w = { .b = &body };
	int fd = -1, r;

	buf_init(&body, 65536);
	buf_init(&in, 256 * 1024);
	if (packages) {
		jw_open(&w, '{');
		jw_kstr(&w, "name", name);
		jw_key(&w, "replace");
		jw_bool(&w, replace);
		jw_key(&w, "packages");
		jw_open(&w, '[');
		for (; *packages; packages++)
			jw_str(&w, span_str(*packages));
		jw_close(&w, ']');
		jw_close(&w, '}');
		r = client_upgrade(b, "POST", path, buf_span(&body), -1, &fd, &in, e);
	} else {
		r = client_upgrade(b, "PUT", path, SPAN_NULL, tar_fd, &fd, &in, e);
	}
	if (r == 0)
		r = follow_words(fd, &in, say, ctx, e);
	if (fd >= 0)
		close(fd);
	buf_fini(&body);
	buf_fini(&in);
	return r;
}

/* --- health ------------------------------------------------------------------------------------------------------- */

int berth_fsck(struct berth *b, berth_line_fn *say, void *ctx, uint64_t *ret_problems, char **ret_json,
	       struct berth_error *e)
{
	AUTO(json_free) struct json *j = NULL;
	AUTO(str_free) char *text = NULL;
	const struct json *findings;
	size_t i;
	int r = client_text(b, "POST", "/v1/fsck", SPAN_NULL, &text, e);

	if (r < 0)
		return r;
	if (json_parse(span_str(text), &j, NULL) < 0)
		return client_error(e, -EPROTO, "bad-answer", "the daemon's answer is no JSON");
	findings = json_get(j, "findings");
	for (i = 0; say && i < json_len(findings); i++)
		say(ctx, json_text(json_at(findings, i)));
	*ret_problems = json_get_u64(j, "problems", 0);
	if (ret_json)
		*ret_json = take(&text);
	return 0;
}

int berth_dump_wire(const char *file, int to_fd, struct berth_error *e)
{
	struct err why = ERR_NULL;
	int r = trace_dump(file, to_fd, &why);

	return r < 0 ? client_from_err(e, &why, r) : 0;
}

int berth_stats_json(struct berth *b, const char *id, char **ret_json, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(id);
	AUTO(str_free) char *path = str_printf("/v1/sandboxes/%s/stats", safe);

	return client_text(b, "GET", path, SPAN_NULL, ret_json, e);
}

int berth_logs(struct berth *b, const char *id, uint64_t *at, char **ret_text, struct berth_error *e)
{
	AUTO(str_free) char *safe = client_encode(id);
	AUTO(str_free) char *path = str_printf("/v1/sandboxes/%s/logs?from=%llu", safe, (unsigned long long)*at);
	AUTO(json_free) struct json *j = NULL;
	int r = client_json(b, "GET", path, SPAN_NULL, &j, e);

	if (r < 0)
		return r;
	*at = json_get_u64(j, "next", *at);
	*ret_text = must_strdup(json_get_str(j, "text", ""));
	return 0;
}
