/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing is lost. A write that began before the kernel was silent has made an event, or is over when the file is
 * looked at the next time. A file is given up when it has not changed since a look that was late enough: the kernel
 * speaks again, and then the file is looked at once more whatever its times say, since a write has its time when it
 * begins and its bytes when it ends. For the same reason a barrier looks at all of them. Clocks of files may be coarse:
 * what was looked at within RECENT_NS of its last change counts as changed.
 *
 * A file is known by an open descriptor, and by the name under which it was looked at last: a rename is an event, and
 * makes the watcher look at the new name, which is noted then. One that nobody looks at any more (its new name is not
 * kept) is given up after TURNS. One with several names is not taken, and given up when it gets another.
 */
#include "guest/hot.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { RECENT_NS = 20000000, SOON_MS = 100, TIMES = 2, TURNS = 25 };

void hot_init(struct hot *h, struct source *source, hot_fn *fn, void *ctx)
{
	*h = (struct hot){ .source = source && source->silence ? source : NULL, .fn = fn, .ctx = ctx };
}

uint64_t hot_times(const struct stat *st)
{
	return (uint64_t)clock_ns(st->st_ctim) * 31 + (uint64_t)clock_ns(st->st_mtim) * 7 + (uint64_t)st->st_size;
}

static void forget(struct hot *h, struct hot_file *f)
{
	fd_close(&f->fd);
	str_free(&f->name);
	*f = h->file[--h->n];
}

void hot_fini(struct hot *h)
{
	while (h->n)
		forget(h, &h->file[0]);
}

static struct hot_file *find(struct hot *h, uint64_t fid)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		if (h->file[i].fid == fid)
			return &h->file[i];
	return NULL;
}

/* The kernel is silent about what is behind the name that was looked at, and nothing else. */
static void take_file(struct hot *h, int dirfd, uint64_t parent, struct span name, const struct node *n)
{
	struct hot_file *f = &h->file[h->n];
	AUTO(str_free) char *at = span_dup(name);
	AUTO(fd_close) int fd = openat(dirfd, at, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || node_of(fd, &h->scratch) < 0 || h->scratch.fid != n->fid)
		return;
	if (h->source->silence(h->source, fd, true) < 0) {
		h->off = true; /* nor will it another time */
		return;
	}
	*f = (struct hot_file){ .fd = fd_take(&fd), .fid = n->fid, .parent = parent, .name = take(&at) };
	h->n++;
}

static void note_look(struct hot_file *f, const struct stat *st, int64_t at)
{
	f->times = hot_times(st);
	f->looked_at = at;
	f->told = 0;
}

void hot_note(struct hot *h, int dirfd, uint64_t parent, struct span name, const struct node *n, int64_t at)
{
	struct hot_file *f = h->n ? find(h, n->fid) : NULL;
	struct hot_seen *s = &h->seen[n->fid * 0x9e3779b97f4a7c15ULL >> 56];
	uint64_t now;

	if (f) {
		if (f->parent != parent || !span_eq(span_str(f->name), name)) {
			str_free(&f->name);
			f->name = span_dup(name);
			f->parent = parent;
		}
		note_look(f, &n->st, at);
		return;
	}
	if (!h->source || h->off || n->st.st_nlink != 1)
		return;
	now = clock_now();
	s->n = s->fid == n->fid && now - s->when < SOON_MS * CLOCK_MS ? s->n + 1 : 1;
	s->fid = n->fid;
	s->when = now;
	if (s->n < TIMES || h->n == HOT_FILES)
		return;
	s->n = 0;
	take_file(h, dirfd, parent, name, n);
	f = find(h, n->fid);
	if (f)
		note_look(f, &n->st, at);
}

/* May it have changed since it was looked at? */
static bool has_changed(const struct hot_file *f, const struct stat *st)
{
	/* Of the times that a write sets the one that nobody can choose: one in the future would be recent for ever. */
	return hot_times(st) != f->times || f->looked_at - clock_ns(st->st_ctim) < RECENT_NS;
}

static void tell(struct hot *h, const struct hot_file *f)
{
	h->fn(h->ctx, f->fid, f->parent, span_str(f->name));
}

void hot_ask(struct hot *h)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		tell(h, &h->file[i]);
}

/* Its writes make events again. Return: 0; -errno: they do not yet. */
static int give_up(struct hot *h, const struct hot_file *f)
{
	int r = h->source->silence(h->source, f->fd, false);

	return r == -ENOENT ? 0 : r; /* there was no mark (any more) */
}

void hot_removed(struct hot *h)
{
	struct stat st;
	size_t i = 0;

	while (i < h->n)
		if (fstat(h->file[i].fd, &st) == 0 && st.st_nlink == 0)
			forget(h, &h->file[i]);
		else
			i++;
}

void hot_turn(struct hot *h)
{
	struct stat st;
	size_t i = 0;

	while (i < h->n) {
		struct hot_file *f = &h->file[i];
		bool stays = fstat(f->fd, &st) == 0 && st.st_nlink == 1 && has_changed(f, &st) && f->told++ < TURNS;

		if (!stays)
			stays = give_up(h, f) < 0;
		tell(h, f);
		if (stays)
			i++;
		else
			forget(h, f);
	}
}
