/* SPDX-License-Identifier: Apache-2.0 */
/* What happened in a directory before it was watched is not seen: what is found in a new one counts as created. */
#include "guest/seer.h"

#include "base/io.h"
#include "base/map.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { DIRS_MAX = 10000, PATH_ROOM = 4096 };

struct seer {
	int fd;
	struct loop_watch *watch;
	char *top;
	bool deep;
	struct map dirs; /* watch descriptor -> path below the top, "" is the top */
	seer_fn *fn;
	void *ctx;
};

static int look_into(struct seer *s, const char *below, bool tell);

static int add(struct seer *s, const char *below, bool tell)
{
	AUTO(str_free) char *path = str_printf("%s%s%s", s->top, *below ? "/" : "", below);
	const uint32_t mask = IN_CREATE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR |
			      (*below ? IN_DONT_FOLLOW : 0);
	int wd;

	if (s->dirs.len >= DIRS_MAX || strlen(path) >= PATH_ROOM)
		return 0;
	wd = inotify_add_watch(s->fd, path, mask);
	if (wd < 0)
		return -errno;
	free(map_put_u64(&s->dirs, (uint64_t)wd, must_strdup(below)));
	return s->deep ? look_into(s, below, tell) : 0;
}

static int look_into(struct seer *s, const char *below, bool tell)
{
	AUTO(str_free) char *path = str_printf("%s%s%s", s->top, *below ? "/" : "", below);
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		AUTO(str_free) char *name = NULL;

		if (str_eq(de->d_name, ".") || str_eq(de->d_name, ".."))
			continue;
		name = str_printf("%s%s%s", below, *below ? "/" : "", de->d_name);
		if (tell)
			s->fn(s->ctx, SEEN_CREATE, name);
		if (de->d_type == DT_DIR)
			(void)!add(s, name, tell);
	}
	if (d)
		closedir(d);
	return 0;
}

static void on_event(struct seer *s, const struct inotify_event *ev)
{
	const char *dir = map_get_u64(&s->dirs, (uint64_t)ev->wd);
	AUTO(str_free) char *name = NULL;
	unsigned kind;

	if (ev->mask & IN_IGNORED) {
		free(map_remove_u64(&s->dirs, (uint64_t)ev->wd));
		return;
	}
	if (!dir || !ev->len)
		return;
	name = str_printf("%s%s%s", dir, *dir ? "/" : "", ev->name);
	kind = ev->mask & (IN_CREATE | IN_MOVED_TO) ? SEEN_CREATE
	       : ev->mask & IN_MODIFY		    ? SEEN_WRITE
	       : ev->mask & IN_DELETE		    ? SEEN_REMOVE
	       : ev->mask & IN_MOVED_FROM	    ? SEEN_RENAME
						    : SEEN_CHMOD;
	s->fn(s->ctx, kind, name);
	if (s->deep && kind == SEEN_CREATE && ev->mask & IN_ISDIR)
		(void)!add(s, name, true);
}

static void on_readable(void *ctx, int fd, unsigned events)
{
	struct seer *s = ctx;
	char room[8192] __attribute__((aligned(8)));
	ssize_t n = read(fd, room, sizeof(room)), at;

	(void)events;
	for (at = 0; at < n;) {
		const struct inotify_event *ev = (const void *)(room + at);

		on_event(s, ev);
		at += (ssize_t)(sizeof(*ev) + ev->len);
	}
}

int seer_new(struct loop *loop, const char *path, bool deep, seer_fn *fn, void *ctx, struct seer **ret)
{
	struct seer *s = NEW(struct seer);
	int r;

	s->top = must_strdup(str_eq(path, "/") ? "" : path);
	s->deep = deep;
	s->fn = fn;
	s->ctx = ctx;
	s->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	r = s->fd < 0 ? -errno : add(s, "", false);
	if (r == 0)
		r = loop_watch(loop, s->fd, LOOP_READ, on_readable, s, &s->watch);
	if (r < 0)
		seer_free(&s);
	else
		*ret = s;
	return r;
}

void seer_free(struct seer **slot)
{
	struct seer *s = take(slot);
	char *path;

	if (!s)
		return;
	loop_unwatch(&s->watch);
	fd_close(&s->fd);
	while ((path = map_take_any(&s->dirs)))
		free(path);
	map_fini(&s->dirs);
	str_free(&s->top);
	free(s);
}
