/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox says of itself on its door. */
#include "host/api/e2b/e2b.h"

#include "base/clock.h"
#include "base/str.h"

int e2b_health(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	(void)ctx;
	(void)req;
	(void)e;
	res->status = 204;
	return 0;
}

static int put_pair(void *ctx, const char *key, const struct json *value)
{
	if (json_text(value))
		jw_kstr(ctx, key, json_text(value));
	return 0;
}

int e2b_envs(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	AUTO(json_free) struct json *memory = NULL;
	struct json_writer w = { .b = &res->body };
	int r = e2b_memory(ctx, e2b_sandbox(req), &memory, e);

	jw_open(&w, '{');
	if (r == 0)
		(void)json_each(json_get(memory, "envs"), put_pair, &w);
	jw_close(&w, '}');
	return r;
}

int e2b_self_metrics(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	struct json_writer w = { .b = &res->body };
	struct hub_stats s;
	int r = hub_stats(e2b->hub, e2b_sandbox(req), &s, e);

	if (r < 0)
		return r;
	jw_open(&w, '{');
	jw_ku64(&w, "ts", (uint64_t)(clock_wall() / (int64_t)CLOCK_S));
	jw_ku64(&w, "cpu_count", MAX((s.cpu_milli + 999) / 1000, (uint64_t)1));
	jw_ku64(&w, "cpu_used_pct", 0);
	jw_ku64(&w, "mem_total", s.memory_limit_b);
	jw_ku64(&w, "mem_used", s.memory_b);
	jw_ku64(&w, "mem_cache", 0);
	jw_ku64(&w, "mem_total_mib", s.memory_limit_b >> 20);
	jw_ku64(&w, "mem_used_mib", s.memory_b >> 20);
	jw_ku64(&w, "disk_used", s.inside.disk_total_b - MIN(s.inside.disk_free_b, s.inside.disk_total_b));
	jw_ku64(&w, "disk_total", s.inside.disk_total_b);
	jw_close(&w, '}');
	return 0;
}
