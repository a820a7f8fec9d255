/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. A stack of directories, and one that is open and half listed. Each begins with a record flagged ONLY, which
 * tells the host that what it has there and is not told again is gone; the end of all listings is one END, so that jobs
 * that come while a full scan runs simply join it. Between two steps anything may be moved: a directory that went from
 * a part not yet listed into one already listed is met by its event, see watch.c.
 *
 * Entries of other file systems that are mounted below are told, but not entered.
 */
#include "guest/scan.h"

#include "base/io.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROOM = 32 * 1024, LOST_MAX = 4096 };

struct dent { /* as getdents64(2) has it */
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

void scan_stop(struct scan *s)
{
	while (s->todo.len) {
		struct dir *dir = dirs_get(s->dirs, s->todo.v[--s->todo.len].fid);

		if (dir)
			dir->queued = false;
	}
	vec_fini(&s->todo);
	fd_close(&s->fd);
	free(s->room);
	s->room = NULL;
	s->at = s->len = 0;
	s->running = s->full = s->fresh = s->known = s->lossy = false;
	s->broken = 0;
}

void scan_fini(struct scan *s)
{
	scan_stop(s);
	vec_fini(&s->lost);
}

void scan_dir(struct scan *s, uint64_t fid, bool deep, bool news)
{
	struct dir *dir = dirs_get(s->dirs, fid);

	if (!dir)
		return;
	dir->round = s->dirs->round;
	dir->stale = dir->relist = false;
	if (dir->queued && !deep && !news)
		return;
	dir->queued = true;
	vec_push(&s->todo, ((struct scan_job){ .fid = fid, .deep = deep, .news = news }));
	s->running = true;
}

void scan_full(struct scan *s, enum scan_for what)
{
	scan_stop(s);
	s->dirs->round++;
	s->full = s->fresh = true;
	s->known = what == SCAN_KNOWN;
	scan_dir(s, s->dirs->tree->fid, true, what == SCAN_NEWS);
}

void scan_lossy(struct scan *s)
{
	if (!s->lossy) {
		tell_flush(s->tell, 0);
		tell_flush(s->tell, WIRE_CHG_OVERFLOW);
	}
	s->lossy = true;
}

void scan_lost(struct scan *s, struct dir *dir, bool deep)
{
	if (!dir->stale && s->lost.len < LOST_MAX)
		vec_push(&s->lost, ((struct scan_job){ .fid = dir->fid, .deep = deep }));
	dir->stale = true;
}

void scan_retry(struct scan *s)
{
	size_t i = 0;

	while (i < s->lost.len) {
		struct scan_job *j = &s->lost.v[i];
		struct dir *dir = dirs_get(s->dirs, j->fid);
		bool due = dir && dir->stale;

		if (due && dirs_open(s->dirs, j->fid) >= 0) {
			scan_dir(s, j->fid, j->deep, true);
			due = false;
		}
		if (due)
			i++;
		else
			*j = s->lost.v[--s->lost.len];
	}
}

/* What a disk says that fails. A name that cannot be looked at for it is not gone, and neither is the rest of a
 * directory: to say the end of the scan would have the host remove them. */
static bool is_disk(int r)
{
	return r == -EIO || r == -EUCLEAN || r == -EBADMSG || r == -ENOMEM;
}

bool scan_is_listed(const struct scan *s)
{
	return s->running && s->fd < 0 && !s->todo.len;
}

void scan_settle(struct scan *s)
{
	s->settled = true;
}

static void begin(struct scan *s)
{
	struct dir *dir;
	int fd;

	s->fresh = s->settled = false;
	s->now = s->todo.v[--s->todo.len];
	dir = dirs_get(s->dirs, s->now.fid);
	if (dir)
		dir->queued = false;
	fd = dir ? dirs_open(s->dirs, s->now.fid) : -ENOENT;
	if (dir && (fd == -ESTALE || fd == -ENOENT || !dirs_is_told(s->dirs, dir))) {
		scan_lost(s, dir, s->now.deep); /* or the host has not heard of it: its own name comes first */
		return;
	}
	if (fd < 0)
		return;
	s->fd = node_open(fd, "", O_RDONLY | O_DIRECTORY, 0, false);
	if (s->fd < 0)
		return;
	if (s->source) /* before anything of it is looked at */
		s->source->dir_found(s->source, dir, s->fd);
	fd = node_look(s->fd, "", &s->scratch);
	if (fd < 0) {
		s->broken = is_disk(fd) ? fd : s->broken;
		fd_close(&s->fd);
		return;
	}
	tell_entry(s->tell, WIRE_CHG_SCAN, WIRE_ENT_ONLY, s->now.fid, SPAN_NULL, &s->scratch);
	if (!s->room)
		s->room = must_calloc(1, ROOM);
	s->at = s->len = 0;
}

/* Nothing of a directory that is not kept is remembered. */
static void forget(struct scan *s, uint64_t fid)
{
	struct dir *dir = dirs_get(s->dirs, fid);

	if (!dir)
		return;
	if (s->source)
		s->source->dir_lost(s->source, dir);
	dirs_remove(s->dirs, fid);
	s->dirs->dangling = true;
}

static void one(struct scan *s, const char *name)
{
	enum keep_class keep;
	struct dir *dir;
	bool is_new, is_dir;
	int r = node_look(s->fd, name, &s->scratch);

	if (r < 0) {
		s->broken = is_disk(r) ? r : s->broken;
		return;
	}
	is_dir = S_ISDIR(s->scratch.st.st_mode);
	keep = kept_class(s->kept, s->now.fid, span_str(name), is_dir);
	if (keep == KEEP_NONE) {
		if (is_dir)
			forget(s, s->scratch.fid);
		return;
	}
	if (is_dir && s->scratch.st.st_dev == s->dirs->tree->dev) {
		dir = dirs_put(s->dirs, s->scratch.fid, s->now.fid, span_str(name), &is_new);
		dir->keep = (uint8_t)keep;
		if (dir->away)
			dir->relist = true;
		dir->away = false;
		if (s->now.deep || is_new || dir->relist)
			scan_dir(s, s->scratch.fid, true, s->now.news || (is_new && !s->known));
	}
	s->entry(s->ctx, s->now.fid, span_str(name), &s->scratch, s->now.news, keep);
}

/* Return: false when the directory is done. */
static bool next(struct scan *s)
{
	struct dent d;
	const char *name;

	if (s->at >= s->len) {
		long n = syscall(SYS_getdents64, s->fd, s->room, ROOM);

		if (n < 0 && is_disk(-errno))
			s->broken = -errno;
		if (n <= 0)
			return false;
		s->at = 0;
		s->len = (size_t)n;
	}
	memcpy(&d, s->room + s->at, sizeof(d));
	name = s->room + s->at + offsetof(struct dent, name);
	s->at += d.reclen;
	if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		one(s, name);
	return true;
}

static void finish(struct scan *s, void (*drop)(void *ctx, struct dir *dir), void *ctx)
{
	bool full = s->full;

	if (!(s->tell->flags & WIRE_CHG_SCAN))
		tell_flush(s->tell, 0); /* live changes do not travel in a batch of the scan */
	tell_flush(s->tell, WIRE_CHG_SCAN | WIRE_CHG_SCAN_END);
	scan_stop(s);
	if (full)
		dirs_sweep(s->dirs, s->dirs->round, drop, ctx);
}

void scan_step(struct scan *s, unsigned budget, void (*drop)(void *ctx, struct dir *dir), void *ctx)
{
	while (s->running && budget && !s->broken && tell_can(s->tell)) {
		budget--;
		if (s->fd >= 0) {
			if (!next(s))
				fd_close(&s->fd);
		} else if (s->todo.len) {
			begin(s);
		} else if (s->settled) {
			finish(s, drop, ctx);
		} else {
			return;
		}
	}
}
