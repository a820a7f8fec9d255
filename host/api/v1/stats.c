/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox uses and has room for, and what its agent said. */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "json/json.h"

#include <errno.h>

enum { LOGS_MS = 10000, STATFS_MS = 5000 };

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

static void put_room(struct json_writer *w, const char *of, const struct msg_FS_STATFS_IS *m)
{
	jw_open(w, '{');
	jw_kstr(w, "of", of);
	jw_ku64(w, "total_b", m->blocks * m->bsize);
	jw_ku64(w, "free_b", m->bfree * m->bsize);
	jw_ku64(w, "available_b", m->bavail * m->bsize);
	jw_ku64(w, "files", m->files);
	jw_ku64(w, "files_free", m->ffree);
	jw_close(w, '}');
}

static void put_statfs(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	(void)e;
	if (result == 0 && type == MSG_FS_STATFS_IS)
		put_room(ctx, "sandbox", msg);
}

/* Stopped: what the store takes of it, which is all that bounds it now. */
static int stored_room(struct ws *ws, struct msg_FS_STATFS_IS *ret)
{
	struct ws_usage u;
	int r = ws_usage(ws, &u);

	if (r < 0)
		return r;
	*ret = (struct msg_FS_STATFS_IS){ .bsize = 1, .blocks = u.brought_max_b, .files = u.entries_max };
	ret->bfree = ret->bavail = u.brought_max_b - MIN(u.charged_b, u.brought_max_b);
	ret->ffree = u.entries_max - MIN(u.entries, u.entries_max);
	return 0;
}

int v1_statfs(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct json_writer w = { .b = &res->body };
	struct api *api = ctx;
	AUTO(ws_unref) struct ws *ws = NULL;
	struct msg_FS_STATFS m = { .call = 0 };
	struct msg_FS_STATFS_IS room;
	struct link *link;
	int r = hub_ws(api->hub, http_segment(req, 0), &ws, e);

	if (r < 0)
		return r;
	link = ws_link(ws);
	if (link) {
		r = link_wait(link, MSG_FS_STATFS, &m, clock_after_ms(STATFS_MS), put_statfs, &w, e);
	} else if (ws_mode(ws) == WS_PAUSED) {
		r = err_set(e, -EBUSY, "paused", "sandbox %s is paused", ws_id(ws));
	} else {
		r = stored_room(ws, &room);
		if (r < 0)
			return err_sys(e, r, "reading what workspace %s has", ws_id(ws));
		put_room(&w, "store", &room);
	}
	buf_append(&res->body, "\n", 1);
	return r;
}
