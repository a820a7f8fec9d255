/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox uses, and what its agent said. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "json/json.h"

enum { LOGS_MS = 10000 };

static void put_pressure(struct json_writer *w, const struct hub_stats *s)
{
	jw_key(w, "pressure");
	jw_open(w, '{');
	jw_kstr(w, "of", s->pressure_is_own ? "sandbox" : "machine");
	jw_ku64(w, "cpu_some_us", s->inside.cpu_some_us);
	jw_ku64(w, "memory_some_us", s->inside.mem_some_us);
	jw_ku64(w, "memory_full_us", s->inside.mem_full_us);
	jw_ku64(w, "io_some_us", s->inside.io_some_us);
	jw_ku64(w, "io_full_us", s->inside.io_full_us);
	jw_close(w, '}');
}

int v1_stats(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct json_writer w = { .b = &res->body };
	struct api *api = ctx;
	struct hub_stats s;
	int r = hub_stats(api->hub, http_segment(req, 0), &s, e);

	if (r < 0)
		return r;
	jw_open(&w, '{');
	jw_ku64(&w, "uptime_ms", s.inside.uptime_ms);
	jw_ku64(&w, "cpu_ns", s.inside.cpu_ns);
	jw_ku64(&w, "cpu_milli", s.cpu_milli);
	jw_ku64(&w, "cpu_throttled_us", s.throttled_us);
	jw_ku64(&w, "memory_b", s.memory_b);
	jw_ku64(&w, "memory_peak_b", s.memory_peak_b);
	jw_ku64(&w, "memory_limit_b", s.memory_limit_b);
	jw_ku64(&w, "resident_b", s.inside.rss_b);
	jw_ku64(&w, "oom_kills", s.inside.oom_kills);
	jw_ku64(&w, "processes", s.inside.procs);
	jw_ku64(&w, "threads", s.inside.threads);
	jw_ku64(&w, "pids", s.pids);
	jw_ku64(&w, "pids_limit", s.pids_limit);
	jw_ku64(&w, "disk_total_b", s.inside.disk_total_b);
	jw_ku64(&w, "disk_free_b", s.inside.disk_free_b);
	jw_ku64(&w, "disk_files", s.inside.disk_files);
	jw_ku64(&w, "read_b", s.inside.read_b);
	jw_ku64(&w, "written_b", s.inside.written_b);
	jw_ku64(&w, "network_rx_b", s.inside.rx_b);
	jw_ku64(&w, "network_tx_b", s.inside.tx_b);
	put_pressure(&w, &s);
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return 0;
}

static void put_logs(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct json_writer *w = ctx;
	const struct msg_LOGS_IS *m = msg;

	(void)e;
	if (result < 0 || type != MSG_LOGS_IS)
		return;
	jw_open(w, '{');
	jw_ku64(w, "start", m->start);
	jw_ku64(w, "next", m->start + m->data.len);
	jw_key(w, "text");
	jw_str(w, m->data);
	jw_close(w, '}');
}

int v1_logs(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct json_writer w = { .b = &res->body };
	AUTO(ws_unref) struct ws *ws = NULL;
	struct msg_LOGS m = { .call = 0 };
	struct link *link;
	int r = v1_query_u64(req, "from", 0, &m.from, e);

	if (r == 0)
		r = v1_link(ctx, req, &ws, &link, e);
	if (r == 0)
		r = link_wait(link, MSG_LOGS, &m, clock_after_ms(LOGS_MS), put_logs, &w, e);
	buf_append(&res->body, "\n", 1);
	return r;
}
