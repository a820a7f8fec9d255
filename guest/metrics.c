/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a container the machine's counters are the host's, so what belongs to the sandbox is summed over the processes
 * that are seen; those that are dead are in what their parents, in the end we, have collected.
 */
#include "guest/metrics.h"

#include "base/io.h"
#include "base/str.h"
#include "guest/fields.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char *slurp(const char *path, struct buf *b)
{
	buf_consume(b, buf_len(b));
	return io_read_file(AT_FDCWD, path, b) < 0 ? "" : buf_str(b);
}

/* The number behind a word at the beginning of a line or field. */
static uint64_t number(const char *text, const char *word)
{
	const char *p = strstr(text, word);
	uint64_t v = 0;

	return p && field_u64(p + strlen(word), 0, &v) ? v : 0;
}

static void one_process(const char *pid, struct buf *b, struct msg_METRICS_IS *m)
{
	AUTO(str_free) char *stat = str_printf("/proc/%s/stat", pid);
	AUTO(str_free) char *io = str_printf("/proc/%s/io", pid);
	uint64_t user, sys, dead_user, dead_sys, threads, pages;
	const char *text = strrchr(slurp(stat, b), ')'); /* the name before may hold anything */
	uint64_t tick = 1000000000ULL / (uint64_t)sysconf(_SC_CLK_TCK);

	text = text ? text + 1 : "";
	if (!field_u64(text, 11, &user) || !field_u64(text, 12, &sys) || !field_u64(text, 13, &dead_user) ||
	    !field_u64(text, 14, &dead_sys) || !field_u64(text, 17, &threads) || !field_u64(text, 21, &pages))
		return;
	m->procs++;
	m->threads += threads;
	m->cpu_ns += (user + sys + dead_user + dead_sys) * tick;
	m->rss_b += pages * (uint64_t)sysconf(_SC_PAGESIZE);
	text = slurp(io, b);
	m->read_b += number(text, "\nread_bytes:");
	m->written_b += number(text, "\nwrite_bytes:");
}

static void processes(struct buf *b, struct msg_METRICS_IS *m)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	uint64_t pid;

	if (!dir)
		return;
	while ((d = readdir(dir)))
		if (num_u64(d->d_name, INT32_MAX, &pid) == 0)
			one_process(d->d_name, b, m);
	closedir(dir);
}

static void network(struct buf *b, struct msg_METRICS_IS *m)
{
	const char *line = slurp("/proc/net/dev", b);
	uint64_t rx, tx;

	for (; line; line = strchr(line, '\n')) {
		const char *end;

		line += *line == '\n';
		line += strspn(line, " ");
		end = line + strcspn(line, ":\n");
		if (*end != ':' || !field_u64(end + 1, 0, &rx) || !field_u64(end + 1, 8, &tx) ||
		    str_starts(line, "lo:"))
			continue;
		m->rx_b += rx;
		m->tx_b += tx;
	}
}

static uint64_t pressure(const char *what, bool full, struct buf *b)
{
	AUTO(str_free) char *path = str_printf("/proc/pressure/%s", what);
	const char *line = strstr(slurp(path, b), full ? "full" : "some");

	return line ? number(line, "total=") : 0;
}

void metrics_fill(int root, struct msg_METRICS_IS *m)
{
	AUTO(buf_fini) struct buf b;
	struct statvfs fs;
	const char *text;

	buf_init(&b, 65536);
	m->cpus = (uint64_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	text = slurp("/proc/meminfo", &b);
	m->mem_total_b = number(text, "MemTotal:") * 1024;
	m->mem_available_b = number(text, "MemAvailable:") * 1024;
	processes(&b, m);
	network(&b, m);
	m->cpu_some_us = pressure("cpu", false, &b);
	m->mem_some_us = pressure("memory", false, &b);
	m->mem_full_us = pressure("memory", true, &b);
	m->io_some_us = pressure("io", false, &b);
	m->io_full_us = pressure("io", true, &b);
	if (fstatvfs(root, &fs) < 0)
		return;
	m->disk_total_b = (uint64_t)fs.f_blocks * fs.f_frsize;
	m->disk_free_b = (uint64_t)fs.f_bavail * fs.f_frsize;
	m->disk_files = (uint64_t)(fs.f_files - fs.f_ffree);
}
