/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. The lower rung: a watch on every directory. A directory is watched before it is listed, so what is made in it
 * between mkdir and the watch is found by the listing.
 * The kernel drops a watch together with its directory and says so with IN_IGNORED.
 */
#include "guest/source.h"

#include "base/io.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { READ_MAX = 64 * 1024 };

#define MASK                                                                                                         \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_ONLYDIR | \
	 IN_EXCL_UNLINK)

struct ino {
	struct source s;
	struct map by_wd; /* wd -> struct watched */
	char *room;
};

struct watched {
	uint64_t fid;
};

static void on_name(struct source_sink *k, uint64_t parent, const struct inotify_event *ev, struct span name)
{
	unsigned flags = ev->mask & (IN_CLOSE_WRITE | IN_MODIFY) ? (unsigned)DIRTY_WRITTEN : 0U;

	if (ev->mask & IN_MOVED_TO)
		flags |= DIRTY_WRITTEN; /* see dirty.h */
	if (ev->mask & IN_CREATE)
		flags |= DIRTY_CREATED;
	if (ev->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)) {
		flags |= DIRTY_ENTRY;
		dirty_mark(k->dirty, parent, SPAN_NULL, 0);
	}
	dirty_mark(k->dirty, parent, name, flags);
}

static void on_event(struct ino *i, struct source_sink *k, const struct inotify_event *ev, const char *name)
{
	struct watched *w;

	if (ev->mask & IN_Q_OVERFLOW) {
		k->overflowed = true;
		return;
	}
	w = map_get_u64(&i->by_wd, (uint64_t)(unsigned)ev->wd);
	if (!w)
		return;
	if (ev->mask & IN_IGNORED) {
		struct dir *dir = dirs_get(k->dirs, w->fid);

		if (dir && dir->wd == ev->wd) {
			dir->wd = -1;
			dirs_remove(k->dirs, w->fid);
		}
		free(map_remove_u64(&i->by_wd, (uint64_t)(unsigned)ev->wd));
		return;
	}
	if (ev->len)
		on_name(k, w->fid, ev, span_str(name));
	else
		dirty_mark(k->dirty, w->fid, SPAN_NULL, 0);
}

static bool ino_drain(struct source *s, struct source_sink *k)
{
	struct ino *i = container_of(s, struct ino, s);
	bool any = false;

	for (;;) {
		ssize_t n = read(s->fd, i->room, READ_MAX);
		size_t at = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return any;
		any = true;
		while (at + sizeof(struct inotify_event) <= (size_t)n) {
			struct inotify_event ev;

			memcpy(&ev, i->room + at, sizeof(ev));
			if (k)
				on_event(i, k, &ev, i->room + at + sizeof(ev));
			at += sizeof(ev) + ev.len;
		}
	}
}

static void ino_found(struct source *s, struct dir *dir, int fd)
{
	struct ino *i = container_of(s, struct ino, s);
	struct watched *w;
	char path[64];
	int wd;

	if (dir->wd >= 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	wd = inotify_add_watch(s->fd, path, MASK);
	if (wd < 0)
		return;
	dir->wd = wd;
	w = map_get_u64(&i->by_wd, (uint64_t)(unsigned)wd);
	if (!w) {
		w = NEW(struct watched);
		map_put_u64(&i->by_wd, (uint64_t)(unsigned)wd, w);
	}
	w->fid = dir->fid;
}

static void ino_lost(struct source *s, struct dir *dir)
{
	if (dir->wd >= 0)
		inotify_rm_watch(s->fd, dir->wd);
	dir->wd = -1;
}

static void ino_free(struct source *s)
{
	struct ino *i = container_of(s, struct ino, s);
	void *p;

	while ((p = map_take_any(&i->by_wd)))
		free(p);
	map_fini(&i->by_wd);
	fd_close(&s->fd);
	free(i->room);
	free(i);
}

int source_inotify(struct source **ret)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	struct ino *i;

	if (fd < 0)
		return -errno;
	i = NEW(struct ino);
	i->room = must_calloc(1, READ_MAX);
	i->s = (struct source){
		.kind = "inotify",
		.fd = fd,
		.needs_watches = true,
		.drain = ino_drain,
		.dir_found = ino_found,
		.dir_lost = ino_lost,
		.free = ino_free,
	};
	*ret = &i->s;
	return 0;
}

void source_free(struct source **slot)
{
	struct source *s = take(slot);

	if (s)
		s->free(s);
}
