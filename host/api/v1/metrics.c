/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures in Prometheus' text form, version 0.0.4. Labels are routes, methods, statuses and states, all of them from
 * tables of ours: no name that a client or a guest chose is ever one.
 */
#include "host/api/v1/v1.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { STATES_MAX = 12 };

struct sums {
	unsigned by_state[STATES_MAX];
	uint64_t queued_b, shipped_b, records, halted;
};

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP berth_%s %s\n# TYPE berth_%s %s\n", name, help, name, type);
}

static void one(struct buf *b, const char *name, const char *type, const char *help, uint64_t v)
{
	head(b, name, type, help);
	buf_printf(b, "berth_%s %llu\n", name, (unsigned long long)v);
}

static int add_sandbox(void *ctx, const struct hub_info *i)
{
	struct sums *s = ctx;

	if ((unsigned)i->state < STATES_MAX)
		s->by_state[i->state]++;
	s->queued_b += i->ws.queued_b;
	s->shipped_b += i->ws.ship_b;
	s->records += i->ws.records;
	s->halted += i->ws.halted;
	return 0;
}

struct pools {
	struct buf *b;
	enum { POOL_READY, POOL_TAKEN, POOL_MISSED } what;
};

static void put_pool(void *ctx, const struct hub_pool_state *s)
{
	static const char *const names[] = { "ready", "ready_taken_total", "ready_missed_total" };
	const struct pools *p = ctx;
	unsigned long long n = p->what == POOL_READY   ? s->ready
			       : p->what == POOL_TAKEN ? s->taken
						       : s->missed;

	buf_printf(p->b, "berth_%s{template=\"%s\"} %llu\n", names[p->what], s->template_, n);
}

static void put_pools(struct buf *b, struct hub *hub)
{
	head(b, "ready", "gauge", "Sandboxes that are started ahead and nobody's.");
	hub_pools(hub, put_pool, &(struct pools){ .b = b, .what = POOL_READY });
	head(b, "ready_taken_total", "counter", "Sandboxes that began with one that was ready.");
	hub_pools(hub, put_pool, &(struct pools){ .b = b, .what = POOL_TAKEN });
	head(b, "ready_missed_total", "counter", "Sandboxes of such a template that did not.");
	hub_pools(hub, put_pool, &(struct pools){ .b = b, .what = POOL_MISSED });
}

static void put_sandboxes(struct buf *b, struct hub *hub)
{
	struct sums s = { .queued_b = 0 };
	unsigned i;

	(void)!hub_each(hub, true, add_sandbox, &s);
	head(b, "sandboxes", "gauge", "Sandboxes by state.");
	for (i = 0; i <= SANDBOX_REMOVED && i < STATES_MAX; i++)
		buf_printf(b, "berth_sandboxes{state=\"%s\"} %u\n", sandbox_state_name((enum sandbox_state)i),
			   s.by_state[i]);
	one(b, "replication_queued_bytes", "gauge", "Bytes that agents sent and that are not applied yet.", s.queued_b);
	one(b, "replication_halted", "gauge", "Workspaces whose replication has halted.", s.halted);
	one(b, "replication_shipped_bytes", "gauge", "Bytes of contents that the agents of present sandboxes sent.",
	    s.shipped_b);
	one(b, "replication_records", "gauge", "Changes that the agents of present sandboxes told.", s.records);
}

static int put_store(struct buf *b, struct store *store, struct err *e)
{
	struct store_stats s;
	struct gc_stats g;
	int r = store_stat(store, &s, e);

	if (r < 0)
		return r;
	one(b, "store_content_bytes", "gauge", "Size of the file of contents.", s.content_b);
	one(b, "store_content_used_bytes", "gauge", "Bytes of it that are used.", s.content_used_b);
	one(b, "store_queued_bytes", "gauge", "Bytes that wait to be written.", s.queued_b);
	one(b, "store_chunks", "gauge", "Stored chunks.", s.chunks);
	store_gc_last(store, &g);
	one(b, "gc_runs_total", "counter", "Collections of the store that came to their end.", g.runs);
	one(b, "gc_failed_total", "counter", "Collections that did not.", g.failed);
	one(b, "gc_freed_objects_total", "counter", "Objects that were deleted.", g.freed_ever);
	one(b, "gc_freed_bytes_total", "counter", "Bytes of those.", g.freed_ever_b);
	one(b, "gc_last_milliseconds", "gauge", "How long the last collection took.", g.took_ms);
	one(b, "gc_live_bytes", "gauge", "Bytes that something referred to when it began.", g.live_b);
	one(b, "gc_saved_bytes", "gauge", "What sharing between workspaces saved then.", g.saved_b);
	one(b, "store_workspaces", "gauge", "Stored workspaces.", s.workspaces);
	return 0;
}

static void put_label(struct buf *b, const char *name, const struct http_stat *s)
{
	buf_printf(b, "berth_http_%s{method=\"%s\",route=\"%s\"", name, s->route ? s->route->method : "",
		   s->route ? s->route->pattern : "");
}

static void put_histogram(struct buf *b, const struct http_stat *s)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < HTTP_BUCKETS; i++) {
		uint64_t us = http_bucket_us[i];

		sum += s->bucket[i];
		put_label(b, "request_seconds_bucket", s);
		if (us == UINT64_MAX)
			buf_printf(b, ",le=\"+Inf\"} %llu\n", (unsigned long long)sum);
		else
			buf_printf(b, ",le=\"%llu.%04llu\"} %llu\n", (unsigned long long)us / 1000000,
				   (unsigned long long)us % 1000000 / 100, (unsigned long long)sum);
	}
	put_label(b, "request_seconds_sum", s);
	buf_printf(b, "} %llu.%06llu\n", (unsigned long long)s->sum_us / 1000000,
		   (unsigned long long)s->sum_us % 1000000);
	put_label(b, "request_seconds_count", s);
	buf_printf(b, "} %llu\n", (unsigned long long)s->n);
}

static void put_http(struct buf *b, struct http *http)
{
	struct http_load load;
	size_t n, i, k;
	struct http_stat *all = http_stats(http, &n, &load);

	head(b, "http_requests_total", "counter", "Answered requests; without a route: nothing of that name.");
	for (i = 0; i < n; i++) {
		for (k = 0; k < HTTP_STATUSES && all[i].by_status[k].n; k++) {
			put_label(b, "requests_total", &all[i]);
			buf_printf(b, ",status=\"%d\"} %llu\n", all[i].by_status[k].status,
				   (unsigned long long)all[i].by_status[k].n);
		}
	}
	head(b, "http_request_seconds", "histogram", "Time until the answer began.");
	for (i = 0; i < n; i++)
		if (all[i].n)
			put_histogram(b, &all[i]);
	one(b, "http_connections", "gauge", "Open connections.", load.connections);
	one(b, "http_streams", "gauge", "Open streams.", load.streams);
	one(b, "http_running", "gauge", "Requests that are worked on.", load.running);
	free(all);
}

static uint64_t open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *x;
	uint64_t n = 0;

	while (d && (x = readdir(d)))
		n += x->d_name[0] != '.';
	if (d)
		closedir(d);
	return n ? n - 1 : 0; /* the one that looks */
}

static void put_process(struct buf *b, const struct api *api)
{
	unsigned long long pages = 0, resident = 0;
	struct timespec cpu = { .tv_sec = 0 };
	struct buf statm;

	buf_init(&statm, 4096);
	if (io_read_file(AT_FDCWD, "/proc/self/statm", &statm) == 0)
		(void)!sscanf(buf_str(&statm), "%llu %llu", &pages, &resident);
	buf_fini(&statm);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	one(b, "process_open_fds", "gauge", "Open descriptors of the daemon.", open_files());
	one(b, "process_resident_bytes", "gauge", "Resident memory of the daemon.",
	    resident * (uint64_t)sysconf(_SC_PAGESIZE));
	head(b, "process_cpu_seconds_total", "counter", "Processor time of the daemon.");
	buf_printf(b, "berth_process_cpu_seconds_total %lld.%03ld\n", (long long)cpu.tv_sec, cpu.tv_nsec / 1000000);
	one(b, "start_time_seconds", "gauge", "When the daemon was ready, in seconds since 1970.",
	    (uint64_t)api->started_ns / CLOCK_S);
	head(b, "build_info", "gauge", "Always 1; the version is a label.");
	buf_printf(b, "berth_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
}

int v1_metrics(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	int r = put_store(&res->body, api->store, e);

	(void)req;
	if (r < 0)
		return r;
	res->type = "text/plain; version=0.0.4; charset=utf-8";
	put_sandboxes(&res->body, api->hub);
	put_pools(&res->body, api->hub);
	put_http(&res->body, api->http);
	put_process(&res->body, api);
	return 0;
}
