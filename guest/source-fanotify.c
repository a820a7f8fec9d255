/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. The group has one mark, on the whole file system, so every event says by file handle in which directory it
 * was, under which name, and which inode it was about. Directories that are made, moved and removed are followed here,
 * in the order of the events: then a directory made by mkdir is known together with everything that happens in it and
 * needs no listing. Directories that we do not know are not below the workspace (or will be listed when they are
 * found), so what happens in them is ignored.
 *
 * link(2) says first, about the inode alone, that its count of links changed, and then that a name was created: so a
 * name that was made by linking is told from a new file. When it is gone again by the time that we look, the file lives
 * on under a name that we have to search.
 *
 * MODIFY is in the mask, although it costs the writer a merge in the queue: a truncate by path closes nothing, and a
 * writer that never closes would not be seen before a census.
 */
#include "guest/source.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/fanotify.h>
#include <unistd.h>

#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif
#ifndef FAN_REPORT_TARGET_FID
#define FAN_REPORT_TARGET_FID 0x00001000
#endif
#ifndef FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
#define FAN_EVENT_INFO_TYPE_OLD_DFID_NAME 10
#define FAN_EVENT_INFO_TYPE_NEW_DFID_NAME 12
#endif

enum { READ_MAX = 64 * 1024, COUNTED_MAX = 65536 };

#define MASK (FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_CLOSE_WRITE | FAN_MODIFY | FAN_ATTRIB | FAN_ONDIR)
#define INIT_FLAGS                                                                                              \
	(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_TARGET_FID | \
	 FAN_UNLIMITED_QUEUE | FAN_NONBLOCK | FAN_CLOEXEC)

struct fan {
	struct source s;
	char *room;
};

struct place {
	uint64_t fid; /* 0: the event did not say */
	struct span name;
};

struct event {
	uint64_t mask;
	struct place at, from, to;
	uint64_t target;
};

/* One info record: a file handle and for some types a name behind it. Return: false when it does not hold together. */
static bool read_place(const char *p, size_t len, bool named, struct place *ret)
{
	struct fanotify_event_info_fid head;
	unsigned int bytes;
	int type;
	size_t at = sizeof(head);

	if (len < at + 8)
		return false;
	memcpy(&bytes, p + at, 4);
	memcpy(&type, p + at + 4, 4);
	at += 8;
	if (bytes > len - at)
		return false;
	ret->fid = node_fid_of_handle(type, p + at, bytes);
	at += bytes;
	ret->name = named ? SPAN(p + at, strnlen(p + at, len - at)) : SPAN_NULL;
	return true;
}

static void read_infos(const char *p, size_t len, struct event *ev)
{
	while (len >= sizeof(struct fanotify_event_info_header)) {
		struct fanotify_event_info_header h;
		struct place target = { 0 };

		memcpy(&h, p, sizeof(h));
		if (h.len < sizeof(h) || h.len > len)
			return;
		if (h.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME)
			read_place(p, h.len, true, &ev->at);
		else if (h.info_type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME)
			read_place(p, h.len, true, &ev->from);
		else if (h.info_type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME)
			read_place(p, h.len, true, &ev->to);
		else if (h.info_type == FAN_EVENT_INFO_TYPE_DFID)
			read_place(p, h.len, false, &ev->at);
		else if (h.info_type == FAN_EVENT_INFO_TYPE_FID && read_place(p, h.len, false, &target))
			ev->target = target.fid;
		p += h.len;
		len -= h.len;
	}
}

static void mark_linked(void *ctx, uint64_t parent, struct span name)
{
	struct source_sink *k = ctx;

	dirty_mark(k->dirty, parent, name, k->flags);
}

static struct mark *mark_entry(struct source_sink *k, const struct place *p, unsigned flags)
{
	dirty_mark(k->dirty, p->fid, SPAN_NULL, 0);
	return dirty_mark(k->dirty, p->fid, p->name, flags | DIRTY_ENTRY);
}

static void on_rename(struct source_sink *k, const struct event *ev)
{
	bool was_in = dirs_get(k->dirs, ev->from.fid) != NULL, is_in = dirs_get(k->dirs, ev->to.fid) != NULL;

	if (was_in)
		mark_entry(k, &ev->from, 0);
	if (is_in)
		mark_entry(k, &ev->to, DIRTY_WRITTEN); /* see dirty.h */
	if (!(ev->mask & FAN_ONDIR) || !dirs_get(k->dirs, ev->target))
		return;
	if (is_in) {
		kept_moved(k->kept, ev->target, ev->to.fid, ev->to.name);
		return;
	}
	dirs_remove(k->dirs, ev->target); /* moved out; when it comes back it is listed as a new one */
	k->dirs->dangling = true;
}

static void on_event(struct source_sink *k, const struct event *ev)
{
	unsigned flags = ev->mask & (FAN_CLOSE_WRITE | FAN_MODIFY) ? (unsigned)DIRTY_WRITTEN : 0U;
	bool on_dir = (ev->mask & FAN_ONDIR) != 0;
	struct mark *m;

	if (ev->mask & FAN_RENAME) {
		on_rename(k, ev);
		return;
	}
	if (!ev->at.fid) {
		k->flags = map_get_u64(&k->written, ev->target) ? DIRTY_WRITTEN : 0;
		links_each(k->links, ev->target, mark_linked, k);
		if (ev->target && k->counted.len < COUNTED_MAX)
			map_put_u64(&k->counted, ev->target, k);
		return;
	}
	if (!dirs_get(k->dirs, ev->at.fid)) { /* of what is not kept; the file may have another name, which is */
		k->flags = flags;
		links_each(k->links, ev->target, mark_linked, k);
		return;
	}
	if (flags && k->written.len < COUNTED_MAX)
		map_put_u64(&k->written, ev->target, k);
	/* Whoever opened it by a name that is gone makes events of that name, and the file may have another. */
	if (flags && ev->target && !links_is(k->links, ev->at.fid, ev->at.name, ev->target)) {
		k->flags = flags;
		links_each(k->links, ev->target, mark_linked, k);
	}
	if (ev->at.name.len == 0 || span_eq(ev->at.name, span_str("."))) {
		dirty_mark(k->dirty, ev->at.fid, SPAN_NULL, 0);
		return;
	}
	if (!(ev->mask & (FAN_CREATE | FAN_DELETE))) {
		dirty_mark(k->dirty, ev->at.fid, ev->at.name, flags);
		return;
	}
	m = mark_entry(k, &ev->at, flags | (ev->mask & FAN_CREATE ? (unsigned)DIRTY_CREATED : 0U));
	if ((ev->mask & FAN_CREATE) && map_get_u64(&k->counted, ev->target)) {
		if (m)
			m->tag = ev->target;
		else /* its other names are found by listing everything */
			k->dirty->overflowed = true;
	}
	if (on_dir && ev->target && (ev->mask & FAN_CREATE))
		kept_made(k->kept, ev->target, ev->at.fid, ev->at.name);
	if (on_dir && ev->target && (ev->mask & FAN_DELETE))
		dirs_remove(k->dirs, ev->target);
}

static void fan_parse(struct source_sink *k, const char *p, size_t len)
{
	while (len >= sizeof(struct fanotify_event_metadata)) {
		struct fanotify_event_metadata m;
		struct event ev;

		memcpy(&m, p, sizeof(m));
		if (m.event_len < sizeof(m) || m.event_len > len || m.vers != FANOTIFY_METADATA_VERSION)
			return;
		ev = (struct event){ .mask = m.mask };
		if (m.fd >= 0)
			close(m.fd);
		if (m.mask & FAN_Q_OVERFLOW)
			k->overflowed = true;
		read_infos(p + m.metadata_len, m.event_len - MIN(m.event_len, (unsigned)m.metadata_len), &ev);
		on_event(k, &ev);
		p += m.event_len;
		len -= m.event_len;
	}
}

static bool fan_drain(struct source *s, struct source_sink *k)
{
	struct fan *f = container_of(s, struct fan, s);
	bool any = false;

	for (;;) {
		ssize_t n = read(s->fd, f->room, READ_MAX);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return any;
		any = true;
		if (k)
			fan_parse(k, f->room, (size_t)n);
	}
}

static void fan_nothing(struct source *s, struct dir *dir)
{
	(void)s, (void)dir;
}

static void fan_found(struct source *s, struct dir *dir, int fd)
{
	(void)s, (void)dir, (void)fd;
}

/* An inode's mark of a group may be set by whoever has the group; that of the whole file system only by its maker. */
static int fan_silence(struct source *s, int fd, bool on)
{
	unsigned how = on ? FAN_MARK_ADD | FAN_MARK_IGNORED_SURV_MODIFY : FAN_MARK_REMOVE;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fanotify_mark(s->fd, how | FAN_MARK_IGNORED_MASK, FAN_MODIFY, AT_FDCWD, path) < 0 ? -errno : 0;
}

static void fan_free(struct source *s)
{
	struct fan *f = container_of(s, struct fan, s);

	fd_close(&s->fd);
	free(f->room);
	free(f);
}

int source_fanotify(int fd, const struct tree *tree, struct source **ret)
{
	AUTO(fd_close) int own = fd;
	struct fan *f;

	if (own < 0) {
		own = fanotify_init(INIT_FLAGS, O_RDONLY | O_LARGEFILE | O_CLOEXEC);
		if (own < 0)
			return -errno;
		if (fanotify_mark(own, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, MASK, tree->fd, NULL) < 0)
			return -errno;
	}
	if (fd_nonblock(own, true) < 0 || fd_cloexec(own, true) < 0)
		return -EBADF;
	f = NEW(struct fan);
	f->room = must_calloc(1, READ_MAX);
	f->s = (struct source){
		.kind = "fanotify-fs",
		.fd = fd_take(&own),
		.drain = fan_drain,
		.dir_found = fan_found,
		.dir_lost = fan_nothing,
		.silence = fan_silence,
		.free = fan_free,
	};
	*ret = &f->s;
	return 0;
}
