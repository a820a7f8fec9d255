/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox uses: what its agent sees inside, and what only the host sees, its control groups. These have the same
 * name in every tree (host/priv); anybody may read them, so the privileged process is not asked.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { STATS_MS = 10000 };

/* Read one file of a sandbox's group. @tree: "memory", a controller of version 1; "": version 2. Return: "" when it is
 * not there. */
static const char *group_file(struct hub *hub, const char *id, const char *tree, const char *file, struct buf *b)
{
	AUTO(str_free) char *state = str_printf("%s/..", hub->run_dir);
	AUTO(str_free) char *path = NULL;
	struct stat st;

	buf_consume(b, buf_len(b));
	if (stat(state, &st) < 0)
		return "";
	path = str_printf("/sys/fs/cgroup/%s/%s/berth-%llx-%llx/%s/%s", tree, hub->cgroup_parent,
			  (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, id, file);
	return io_read_file(AT_FDCWD, path, b) < 0 ? "" : buf_str(b);
}

static uint64_t number(const char *text, const char *word)
{
	const char *p = *word ? strstr(text, word) : text;
	unsigned long long v = 0;

	return p && sscanf(p + strlen(word), "%llu", &v) == 1 ? v : 0;
}

/* From version 2 if it is there, else from version 1. */
static uint64_t group_number(struct hub *hub, const char *id, const char *file2, const char *word2, const char *tree,
			     const char *file1, const char *word1)
{
	AUTO(buf_fini) struct buf b;
	const char *text;

	buf_init(&b, 65536);
	text = group_file(hub, id, "", file2, &b);
	if (*text)
		return number(text, word2);
	return tree ? number(group_file(hub, id, tree, file1, &b), word1) : 0;
}

uint64_t stats_oom_kills(struct sandbox *s)
{
	return group_number(s->hub, s->info.id, "memory.events", "oom_kill ", "memory", "memory.oom_control",
			    "oom_kill ");
}

uint64_t stats_cpu_ns(struct hub *hub, const char *id)
{
	uint64_t ns = 1000 * group_number(hub, id, "cpu.stat", "usage_usec ", NULL, "", "");

	return ns ? ns : group_number(hub, id, "none", "", "cpuacct", "cpuacct.usage", "");
}

uint64_t stats_memory_b(struct hub *hub, const char *id, uint64_t *ret_cache_b)
{
	*ret_cache_b = group_number(hub, id, "memory.stat", "file ", "memory", "memory.stat", "cache ");
	return group_number(hub, id, "memory.current", "", "memory", "memory.usage_in_bytes", "");
}

static void add_pressure(struct hub *hub, const char *id, struct hub_stats *ret)
{
	AUTO(buf_fini) struct buf b;
	const char *text;

	buf_init(&b, 4096);
	text = group_file(hub, id, "", "memory.pressure", &b);
	if (!*text)
		return;
	ret->pressure_is_own = true;
	ret->inside.mem_some_us = number(text, "total=");
	text = strstr(text, "full");
	ret->inside.mem_full_us = text ? number(text, "total=") : 0;
	ret->inside.cpu_some_us = number(group_file(hub, id, "", "cpu.pressure", &b), "total=");
	text = group_file(hub, id, "", "io.pressure", &b);
	ret->inside.io_some_us = number(text, "total=");
	text = strstr(text, "full");
	ret->inside.io_full_us = text ? number(text, "total=") : 0;
}

static void told(void *ctx, int result, unsigned type, const void *msg, const struct err *e)
{
	struct hub_stats *ret = ctx;

	(void)e;
	if (result == 0 && type == MSG_METRICS_IS)
		ret->inside = *(const struct msg_METRICS_IS *)msg;
}

int hub_stats(struct hub *hub, const char *id_or_name, struct hub_stats *ret, struct err *e)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	struct msg_METRICS m = { .call = 0 };
	struct hub_info info;
	uint64_t cpu;
	int r = hub_find(hub, id_or_name, &info, e);

	*ret = (struct hub_stats){ .memory_b = 0 };
	if (r == 0)
		r = hub_ws(hub, info.id, &ws, e);
	if (r < 0)
		return r;
	if (info.state != SANDBOX_RUNNING || !ws_link(ws))
		return err_set(e, -EAGAIN, "not-running", "sandbox %s is %s", info.id, sandbox_state_name(info.state));
	r = link_wait(ws_link(ws), MSG_METRICS, &m, clock_after_ms(STATS_MS), told, ret, e);
	if (r < 0)
		return r;
	ret->memory_limit_b = info.memory_b;
	ret->cpu_milli = info.cpu_milli;
	ret->pids_limit = info.pids;
	ret->memory_b = stats_memory_b(hub, info.id, &ret->cache_b);
	ret->memory_peak_b = group_number(hub, info.id, "memory.peak", "", "memory", "memory.max_usage_in_bytes", "");
	ret->pids = group_number(hub, info.id, "pids.current", "", "pids", "pids.current", "");
	cpu = stats_cpu_ns(hub, info.id);
	ret->throttled_us = group_number(hub, info.id, "cpu.stat", "throttled_usec ", NULL, "", "");
	if (!ret->throttled_us)
		ret->throttled_us =
			group_number(hub, info.id, "none", "", "cpu", "cpu.stat", "throttled_time ") / 1000;
	if (cpu)
		ret->inside.cpu_ns = cpu;
	if (!ret->memory_b)
		ret->memory_b = ret->inside.rss_b;
	ret->inside.oom_kills = MAX(ret->inside.oom_kills,
				    group_number(hub, info.id, "memory.events", "oom_kill ", "memory",
						 "memory.oom_control", "oom_kill "));
	add_pressure(hub, info.id, ret);
	return 0;
}
