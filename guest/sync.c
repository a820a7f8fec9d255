/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A sync is a census of what no event tells (stores into shared mappings), a barrier for names, and then
 * waiting until every request to ship that existed by then is settled. It has one deadline for all of it, because the
 * host may never come back with a connection to ship on; that counts from the last thing the host has acknowledged or
 * taken, for a backlog may be large.
 */
#include "guest/agent.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "guest/fields.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { SYNC_MS = 60000, SOON_MS = 2, SYNCS_MAX = 64 };

struct sync {
	struct list node;
	struct agent *agent;
	uint64_t call, ticket, until, seen;
	bool told;
	struct barrier *barrier;
	struct loop_timer *deadline;
};

static void sync_free(struct sync *s)
{
	list_remove(&s->node);
	watch_unbarrier(&s->barrier);
	loop_untimer(&s->deadline);
	free(s);
}

static void sync_end(struct sync *s, bool ok)
{
	struct conn *c = agent_control(s->agent);
	struct err e = ERR_NULL;

	if (c && ok) {
		(void)!conn_send(c, MSG_OK, &(struct msg_OK){ .call = s->call });
	} else if (c) {
		err_set(&e, -ETIMEDOUT, "timeout", "%s",
			s->told ? "contents could not be shipped in time" : "changes could not be told in time");
		reply_error(c, s->call, &e);
	}
	sync_free(s);
}

static void on_soon(void *ctx)
{
	struct agent *a = ctx;
	struct list *node, *tmp;

	list_each_safe(node, tmp, &a->syncs) {
		struct sync *s = list_entry(node, struct sync, node);

		if (s->told && ship_settled(a->ship, s->ticket))
			sync_end(s, true);
	}
}

void syncs_check(struct agent *a)
{
	if (list_empty(&a->syncs))
		return;
	if (!a->sync_soon)
		a->sync_soon = loop_timer(a->loop, CLOCK_NEVER, on_soon, a);
	loop_rearm(a->sync_soon, clock_after_ms(SOON_MS)); /* not for each of many small files */
}

static void on_told(void *ctx)
{
	struct sync *s = ctx;

	s->barrier = NULL;
	s->told = true;
	s->ticket = ship_ticket(s->agent->ship);
	syncs_check(s->agent);
}

static uint64_t so_far(const struct agent *a)
{
	return watch_acked(a->watch) + ship_moved(a->ship);
}

static void on_late(void *ctx)
{
	struct sync *s = ctx;
	uint64_t now = so_far(s->agent);

	if (now == s->seen) {
		sync_end(s, false);
		return;
	}
	s->seen = now;
	s->until = clock_after_ms(SYNC_MS);
	loop_rearm(s->deadline, s->until);
}

void sync_start(struct agent *a, uint64_t call)
{
	struct err e = ERR_NULL;
	struct list *node;
	struct sync *s;
	size_t n = 0;

	list_each(node, &a->syncs)
		n++;
	if (!watch_on(a->watch) || n >= SYNCS_MAX) {
		if (n >= SYNCS_MAX)
			err_set(&e, -EBUSY, "limits", "too many syncs at once");
		else
			err_set(&e, -ENOTCONN, "not-replicating", "nobody has asked for changes");
		reply_error(agent_control(a), call, &e);
		return;
	}
	census(a);
	s = NEW(struct sync);
	*s = (struct sync){ .agent = a, .call = call, .until = clock_after_ms(SYNC_MS), .seen = so_far(a) };
	list_init(&s->node);
	list_append(&a->syncs, &s->node);
	s->deadline = loop_timer(a->loop, s->until, on_late, s);
	s->barrier = watch_barrier(a->watch, CLOCK_NEVER, on_told, s);
}

void syncs_drop(struct agent *a)
{
	while (!list_empty(&a->syncs))
		sync_free(list_entry(a->syncs.next, struct sync, node));
}

/* --- census ------------------------------------------------------------------------------------------------------ */

static void census_path(struct agent *a, char *path)
{
	size_t root = strlen(a->o.workspace);
	struct node *n = NEW(struct node);
	char *slash = strrchr(path, '/');
	AUTO(fd_close) int dir = -1;

	if (strncmp(path, a->o.workspace, root) == 0 && path[root] == '/' && slash) {
		*slash = '\0';
		dir = node_open(a->o.tree->fd, slash > path + root ? path + root + 1 : "", O_RDONLY | O_DIRECTORY, 0,
				false);
		if (dir >= 0 && node_of(dir, n) == 0)
			watch_mark(a->watch, n->fid, span_str(slash + 1));
	}
	mem_free(&n);
}

static void census_process(struct agent *a, const char *pid)
{
	AUTO(str_free) char *name = str_printf("/proc/%s/maps", pid);
	FILE *maps = fopen(name, "re");
	char line[4096 + 128];

	if (!maps)
		return;
	while (fgets(line, sizeof(line), maps)) {
		const char *perms;
		char *path;

		line[strcspn(line, "\n")] = '\0';
		perms = field_at(line, 1);
		path = (char *)(uintptr_t)field_at(line, 5);
		if (path && strlen(perms) > 3 && perms[1] == 'w' && perms[3] == 's' && *path == '/')
			census_path(a, path);
	}
	fclose(maps);
}

void census(struct agent *a)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;

	if (!proc)
		return;
	while ((d = readdir(proc)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
			census_process(a, d->d_name);
	closedir(proc);
}
