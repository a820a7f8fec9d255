/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Events mark names; a pump looks at each marked name as it is now and tells it. The pump runs lazily, a few
 * milliseconds after the first event, so that the kernel can merge; at a barrier it runs at once. It stops while the
 * host has not acknowledged enough, and gives the loop back after a bounded number of names.
 *
 * A name is looked at through its directory, found by the map and checked by its identity. When the directory is not
 * where the map says, it was moved by something that is still to be looked at, or whose event we have not read yet: the
 * name is looked at again behind the others, and when that fails the directory is noted as stale and listed as soon as
 * it can be opened again. So nothing is lost, whatever the order.
 *
 * A host forgets a directory that has no name at the end of a batch, with all that is in it. Where it was last told to
 * be is remembered, so that its new place is told before its old name is told as gone.
 *
 * The barrier: events of a system call that has returned are in the queue. So a drain, then a ticket (the ordinal of
 * the newest mark); when every mark up to the ticket and every listing is told, the number of the last batch; when that
 * batch is acknowledged, done.
 *
 * Clocks of files may be coarse: a file that was looked at within 20 ms of its last change is looked at once more a
 * little later, and told again when its times or size are different.
 */
#include "guest/watch.h"

#include "base/clock.h"
#include "guest/agent.h"
#include "guest/hot.h"
#include "guest/scan.h"
#include "guest/search.h"
#include "guest/tell.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>

enum { SOON_NS = 300000, LAZY_MS = 8, CALM_MS = 20, RECHECK_MS = 25, RECENT_NS = 20000000, RECENT_MAX = 4096 };
enum { TURN = 512, TRIM_AFTER = 4096, TRIM_MS = 2000, DEPTH_MAX = 2048 };

struct watch {
	struct loop *loop;		    /* borrowed, like the next four */
	const struct tree *tree;
	struct source *source;
	const struct watch_events *events;
	void *ctx;
	struct dirs dirs;
	struct kept kept;
	struct dirty dirty, recent;
	struct dirty later;   /* names whose directory was not where we thought */
	uint64_t later_until; /* ordinal of the mark after which they are looked at again */
	struct links links;
	struct hot hot;
	struct search search;
	struct tell tell;
	struct scan scan;
	struct loop_watch *readable;
	struct loop_timer *lazy, *turn, *recheck, *trim, *warm;
	uint64_t looked_at; /* when events were read last */
	size_t looked; /* names since memory was last given back */
	size_t held;   /* the same, since what they made to be shipped was shipped */
	struct list barriers;
	bool ever;	    /* a host asked for changes */
	bool has_lost;	    /* a name, since let_go() */
	unsigned passed_on; /* flags that mark_again() gives */
	int64_t look_at;    /* when the last look at a name began */
	struct node scratch;
};

struct barrier {
	struct list node;
	struct watch *w;
	uint64_t ticket, seq;
	bool told;
	struct loop_timer *deadline;
	watch_barrier_fn *fn, *on_told;
	void *ctx;
};

/* --- looking at names -------------------------------------------------------------------------------------------- */

/* A name that follows from one that was looked at: who waits for that one waits for this one, too. */
static void mark_again(void *ctx, uint64_t parent, struct span name)
{
	struct watch *w = ctx;
	struct list *node;

	dirty_mark(&w->dirty, parent, name, w->passed_on);
	list_each(node, &w->barriers)
		list_entry(node, struct barrier, node)->ticket = w->dirty.ord;
}

static void links_note(struct watch *w, uint64_t parent, struct span name, const struct node *now, bool linked,
		       bool written)
{
	w->passed_on = written ? DIRTY_WRITTEN : 0; /* under this name, and so under all */
	search_add(&w->search, links_seen(&w->links, parent, name, now, linked, mark_again, w));
}

/* Clocks of files may be too coarse to show a change that comes right behind this look. */
static void note_recent(struct watch *w, uint64_t parent, struct span name, const struct stat *st)
{
	struct mark *m;

	if (w->look_at - MAX(clock_ns(st->st_ctim), clock_ns(st->st_mtim)) > RECENT_NS ||
	    dirty_len(&w->recent) >= RECENT_MAX)
		return;
	m = dirty_mark(&w->recent, parent, name, 0);
	if (m)
		m->tag = hot_times(st);
	if (dirty_len(&w->recent) == 1)
		loop_rearm(w->recheck, clock_after_ms(RECHECK_MS));
}

static void note_hot(struct watch *w, uint64_t parent, struct span name, const struct node *n)
{
	bool any = w->hot.n;
	int fd = w->hot.source || any ? dirs_open(&w->dirs, parent) : -1;

	if (fd < 0)
		return;
	hot_note(&w->hot, fd, parent, name, n, w->look_at);
	if (!any && w->hot.n)
		loop_rearm(w->warm, clock_after_ms(HOT_MS));
}

/* Where a directory is, and whether the host must be told what is in it. */
static void place_dir(struct watch *w, uint64_t parent, struct span name, const struct node *n, enum keep_class keep)
{
	struct dir *dir;
	bool is_new;

	if (n->st.st_dev != w->tree->dev)
		return;
	kept_moved(&w->kept, n->fid, parent, name);
	dir = dirs_put(&w->dirs, n->fid, parent, name, &is_new);
	if (is_new)
		dir->keep = (uint8_t)keep;
	if (dir->away)
		dir->relist = true; /* the host was told that its name is gone, and then all that was in it */
	dir->away = false;
	if (dir->relist)
		scan_dir(&w->scan, n->fid, true, is_new);
	else if (is_new || (w->scan.full && dir->round != w->dirs.round))
		scan_dir(&w->scan, n->fid, true, is_new);
	else if (dir->stale)
		scan_dir(&w->scan, n->fid, false, true);
}

/* Tell what a name is now. */
static void entry_is(struct watch *w, uint64_t parent, struct span name, const struct node *n, unsigned batch,
		     bool linked, bool written, enum keep_class keep)
{
	unsigned ent = 0;

	links_note(w, parent, name, n, linked, written);
	if (S_ISREG(n->st.st_mode)) {
		w->events->seen(w->ctx, parent, name, n);
		if (n->st.st_nlink > 1 && keep != KEEP_FULL)
			keep = kept_most(&w->kept, &w->links, n->fid, keep);
		if (keep == KEEP_NAMES)
			ent = WIRE_ENT_NAMES | (written ? (unsigned)WIRE_ENT_WRITTEN : 0U);
		else if (written && w->events->written(w->ctx, parent, name, n))
			ent = WIRE_ENT_WRITTEN;
		note_recent(w, parent, name, &n->st);
		if (written && keep == KEEP_FULL)
			note_hot(w, parent, name, n);
	}
	if (S_ISDIR(n->st.st_mode)) {
		struct dir *dir = dirs_get(&w->dirs, n->fid);

		if (dir)
			dirs_told(&w->dirs, dir, parent, name, w->tell.seq + 1);
	}
	tell_entry(&w->tell, batch, ent, parent, name, n);
}

static void on_scanned(void *ctx, uint64_t parent, struct span name, const struct node *n, bool news,
		       enum keep_class keep)
{
	struct watch *w = ctx;

	entry_is(w, parent, name, n, WIRE_CHG_SCAN, false, news, keep);
}

static void on_dropped(void *ctx, struct dir *dir)
{
	struct watch *w = ctx;

	if (w->source)
		w->source->dir_lost(w->source, dir);
}

/* A name is gone. A file that was linked to it, unknown to us until then, may live on under its old name. */
static void entry_lost(struct watch *w, const struct mark *m)
{
	links_note(w, m->parent, SPAN(m->name, m->len), NULL, false, m->flags & DIRTY_WRITTEN);
	search_add(&w->search, node_ino_of(m->tag));
	w->has_lost = true;
}

/* A file that lost its last name keeps its space while we have it open: before anyone is told that it is gone. */
static void let_go(struct watch *w)
{
	w->has_lost = false;
	hot_removed(&w->hot);
	w->events->lost(w->ctx);
}

/* The directory is not where we thought: something that moved it is still to be looked at, or its event to be read. */
static void look_later(struct watch *w, const struct mark *m, struct dir *dir, bool again)
{
	struct mark *l;

	if (!again) {
		l = dirty_mark(&w->later, m->parent, SPAN(m->name, m->len), m->flags);
		w->later_until = w->dirty.ord;
		if (l) {
			l->tag = m->tag;
			return;
		}
	}
	scan_lost(&w->scan, dir, false);
}

/* A name that the host is to know nothing of; it may know it from something of another kind. */
static void not_kept(struct watch *w, const struct mark *m, const struct node *n)
{
	struct dir *dir = S_ISDIR(n->st.st_mode) ? dirs_get(&w->dirs, n->fid) : NULL;
	struct span name = SPAN(m->name, m->len);

	if (dir) {
		on_dropped(w, dir);
		dirs_remove(&w->dirs, n->fid);
		w->dirs.dangling = true;
	}
	if (kept_class(&w->kept, m->parent, name, !S_ISDIR(n->st.st_mode)) == KEEP_NONE)
		return;
	entry_lost(w, m);
	tell_entry(&w->tell, 0, WIRE_ENT_GONE, m->parent, name, NULL);
}

/*
 * The host has a directory at this name that is not there any more. It must hear first of where it is now, and only
 * then that the name is gone: what has no name at the end of a batch is forgotten there with all that is in it. So the
 * name is looked at once more behind the others; a directory that was not met by then is lost to the host.
 * Return: true when it is looked at later.
 */
static bool is_elsewhere(struct watch *w, const struct mark *m, uint64_t now, bool again)
{
	struct dir *dir = dirs_told_at(&w->dirs, m->parent, SPAN(m->name, m->len));
	struct mark *l = NULL;

	if (!dir || dir->fid == now)
		return false;
	if (!again) {
		l = dirty_mark(&w->later, m->parent, SPAN(m->name, m->len), m->flags);
		w->later_until = w->dirty.ord;
	}
	if (l)
		l->tag = m->tag;
	else
		kept_lost(&w->kept, dir);
	return l;
}

static void look(struct watch *w, const struct mark *m, bool again);

/* The one above @dir, or itself, that the host is to hear of first; NULL: it is not below the workspace (any more). */
static struct dir *first_untold(struct watch *w, struct dir *dir)
{
	struct dir *up = dirs_get(&w->dirs, dir->parent);
	unsigned depth = 0;

	while (up && !dirs_is_told(&w->dirs, up) && depth++ < DEPTH_MAX) {
		dir = up;
		up = dirs_get(&w->dirs, dir->parent);
	}
	return up && dirs_is_told(&w->dirs, up) ? dir : NULL;
}

/*
 * A directory that was made, filled and renamed at once is marked under its first name, then what is in it, and then
 * the name that it has. The host knows nothing of names in a directory that it has not heard of, and would ask for
 * all of the workspace: so such a directory is looked at before what is in it. Return: whether the host knows it.
 */
static bool tell_dir_first(struct watch *w, uint64_t fid, bool again)
{
	for (;;) {
		struct dir *dir = dirs_get(&w->dirs, fid), *top;
		struct mark *m;
		uint64_t top_fid;
		size_t len;

		if (!dir || dirs_is_told(&w->dirs, dir))
			return dir;
		top = first_untold(w, dir);
		if (!top)
			return false;
		top_fid = top->fid;
		len = strlen(top->name);
		m = must_calloc(1, sizeof(*m) + len + 1);
		m->parent = top->parent;
		m->len = (unsigned)len;
		memcpy(m->name, top->name, len);
		look(w, m, again);
		free(m);
		top = dirs_get(&w->dirs, top_fid);
		if (!top || !dirs_is_told(&w->dirs, top))
			return false;
	}
}

static void look(struct watch *w, const struct mark *m, bool again)
{
	enum keep_class keep = KEEP_FULL;
	struct span name = SPAN(m->name, m->len);
	bool is_known = !m->len || tell_dir_first(w, m->parent, again);
	struct dir *dir = dirs_get(&w->dirs, m->parent);
	struct node *n = &w->scratch;
	int fd, r;

	if (!dir) { /* gone with all that was in it */
		if (m->len)
			entry_lost(w, m);
		return;
	}
	if (!is_known) {
		look_later(w, m, dir, again);
		return;
	}
	fd = dirs_open(&w->dirs, m->parent);
	if (fd == -ESTALE || fd == -ENOENT)
		look_later(w, m, dir, again);
	if (fd < 0)
		return;
	if (!m->len) {
		if (node_look(fd, "", n) == 0)
			tell_entry(&w->tell, 0, 0, 0, SPAN_NULL, n);
		if (m->flags & DIRTY_LIST)
			scan_dir(&w->scan, m->parent, false, false);
		return;
	}
	w->look_at = clock_wall();
	r = node_look(fd, m->name, n);
	if (r == 0)
		keep = kept_class(&w->kept, m->parent, name, S_ISDIR(n->st.st_mode));
	if ((r == 0 || r == -ENOENT) && is_elsewhere(w, m, r == 0 ? n->fid : 0, again))
		return;
	if (r == -ENOENT) {
		entry_lost(w, m);
		tell_entry(&w->tell, 0, WIRE_ENT_GONE, m->parent, name, NULL);
	} else if (r == 0 && keep == KEEP_NONE) {
		not_kept(w, m, n);
	} else if (r == 0) {
		bool linked = n->st.st_nlink > 1;

		if (m->tag && m->tag != n->fid)
			search_add(&w->search, node_ino_of(m->tag));
		if (S_ISDIR(n->st.st_mode))
			place_dir(w, m->parent, name, n, keep);
		entry_is(w, m->parent, name, n, 0, m->tag == n->fid,
			 (m->flags & DIRTY_WRITTEN) || ((m->flags & DIRTY_CREATED) && !linked), keep);
	}
}

/* --- barriers ---------------------------------------------------------------------------------------------------- */

static void barrier_fire(struct barrier *b)
{
	watch_barrier_fn *fn = b->fn;
	void *ctx = b->ctx;

	watch_unbarrier(&b);
	fn(ctx);
}

static bool all_told(const struct watch *w, uint64_t ticket)
{
	const struct mark *m = dirty_first(&w->dirty);

	return w->tell.on && !w->scan.running && !search_due(&w->search) && (!m || m->ord > ticket) &&
	       !dirty_len(&w->later) && !w->dirty.overflowed;
}

/* Return: true when it was fired: the list has changed. */
static bool barrier_check(struct watch *w, struct barrier *b)
{
	if (!b->told && all_told(w, b->ticket)) {
		tell_flush(&w->tell, 0);
		b->told = true;
		b->seq = w->tell.seq;
		if (b->on_told)
			b->on_told(b->ctx);
	}
	if (!b->told || w->tell.acked < b->seq)
		return false;
	barrier_fire(b);
	return true;
}

static void barriers_check(struct watch *w)
{
	struct list *node = w->barriers.next;

	while (node != &w->barriers) {
		struct barrier *b = list_entry(node, struct barrier, node);

		node = barrier_check(w, b) ? w->barriers.next : node->next;
	}
}

/* --- the pump ---------------------------------------------------------------------------------------------------- */

static void drain(struct watch *w)
{
	struct source_sink sink = {
		.tree = w->tree, .dirs = &w->dirs, .kept = &w->kept, .dirty = &w->dirty, .links = &w->links,
	};

	if (!w->source)
		return;
	if (!w->ever) { /* nobody was told anything yet: the first scan does */
		w->source->drain(w->source, NULL);
		return;
	}
	w->source->drain(w->source, &sink);
	map_fini(&sink.counted);
	map_fini(&sink.written);
	if (sink.overflowed)
		w->dirty.overflowed = true;
}

/* What was put off, when everything has been looked at that was there at that time. */
static void pump_later(struct watch *w)
{
	struct mark *m = dirty_first(&w->dirty);

	if (m && m->ord <= w->later_until)
		return;
	while (tell_can(&w->tell) && (m = dirty_first(&w->later))) {
		m = dirty_take(&w->later, m);
		look(w, m, true);
		free(m);
	}
	scan_retry(&w->scan);
}

/* The disk does not say what is there: the host keeps what it has, and comes back to ask again. */
static void give_up(struct watch *w)
{
	struct conn *control = w->tell.control;
	struct err e = ERR_NULL;

	err_set(&e, w->scan.broken, "unreadable", "a directory of the workspace cannot be read: %s",
		err_name(w->scan.broken));
	tell_detach(&w->tell);
	scan_stop(&w->scan);
	if (!control)
		return;
	reply_error(control, 0, &e);
	conn_finish(control);
}

static void pump(struct watch *w)
{
	unsigned left = TURN;
	struct mark *m;

	if (w->later.overflowed) /* what was put off is forgotten, too */
		w->dirty.overflowed = true;
	w->later.overflowed = false;
	if (w->dirty.overflowed && w->tell.on) {
		w->dirty.overflowed = false;
		scan_full(&w->scan, SCAN_COMPARE);
		scan_lossy(&w->scan);
	}
	if ((w->dirty.crowded || w->later.crowded) && w->tell.on) {
		w->dirty.crowded = w->later.crowded = false;
		scan_lossy(&w->scan);
	}
	if (w->scan.fresh)
		scan_step(&w->scan, 1, on_dropped, w); /* the root is the first that a host hears of */
	while (left && tell_can(&w->tell) && (m = dirty_first(&w->dirty))) {
		m = dirty_take(&w->dirty, m);
		look(w, m, false);
		free(m);
		left--;
	}
	w->looked += TURN - left;
	w->held += TURN - left;
	if (w->looked > TRIM_AFTER)
		loop_rearm(w->trim, clock_after_ms(TRIM_MS));
	pump_later(w);
	if (tell_can(&w->tell) && !dirty_first(&w->dirty) && !dirty_len(&w->later))
		kept_tidy(&w->kept, on_dropped, w);
	w->passed_on = DIRTY_WRITTEN; /* nobody knows what was done under the name that is gone */
	if (tell_can(&w->tell) && !dirty_first(&w->dirty))
		search_run(&w->search, &w->dirs, mark_again, w);
	scan_step(&w->scan, left, on_dropped, w);
	dirs_uncache(&w->dirs);
	if (w->scan.broken) {
		give_up(w);
		return;
	}
	if (scan_is_listed(&w->scan) && !w->scan.settled) {
		drain(w);
		scan_settle(&w->scan);
	}
	if (left < TURN || w->has_lost)
		let_go(w);
	tell_flush(&w->tell, 0);
	barriers_check(w);
	if (tell_can(&w->tell) && (dirty_first(&w->dirty) || w->scan.running || dirty_len(&w->later)))
		loop_rearm(w->turn, 0);
}

static void on_lazy(void *ctx)
{
	struct watch *w = ctx;

	drain(w);
	w->looked_at = clock_now();
	loop_rewatch(w->readable, LOOP_READ);
	pump(w);
}

/* A burst has left holes in the heap; an idle agent is a small one. */
static void on_trim(void *ctx)
{
	((struct watch *)ctx)->looked = 0;
	malloc_trim(0);
}

static void on_turn(void *ctx)
{
	pump(ctx);
}

static void on_readable(void *ctx, int fd, unsigned events)
{
	struct watch *w = ctx;
	uint64_t now = clock_now();

	(void)fd, (void)events;
	loop_rewatch(w->readable, 0);
	/* One change is told soon; of many a few milliseconds are looked at together. */
	loop_rearm(w->lazy, now + (now - w->looked_at > CALM_MS * CLOCK_MS ? SOON_NS : LAZY_MS * CLOCK_MS));
}

static void on_recheck(void *ctx)
{
	struct watch *w = ctx;
	struct mark *m;

	while ((m = dirty_first(&w->recent))) {
		int fd = dirs_open(&w->dirs, m->parent);
		struct stat st;

		m = dirty_take(&w->recent, m);
		if (fd >= 0 && fstatat(fd, m->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && hot_times(&st) != m->tag)
			dirty_mark(&w->dirty, m->parent, SPAN(m->name, m->len), DIRTY_WRITTEN);
		free(m);
	}
	pump(w);
}

static void mark_written(void *ctx, uint64_t parent, struct span name)
{
	struct watch *w = ctx;

	dirty_mark(&w->dirty, parent, name, DIRTY_WRITTEN);
}

/* The name may be gone, and the file have another one. */
static void mark_hot(void *ctx, uint64_t fid, uint64_t parent, struct span name)
{
	struct watch *w = ctx;

	mark_written(w, parent, name);
	links_each(&w->links, fid, mark_written, w);
}

static void on_warm(void *ctx)
{
	struct watch *w = ctx;

	hot_turn(&w->hot);
	if (w->hot.n)
		loop_rearm(w->warm, clock_after_ms(HOT_MS));
	pump(w);
}

/* --- the face ---------------------------------------------------------------------------------------------------- */

struct watch *watch_new(struct loop *loop, const struct tree *tree, struct source *source,
			const struct watch_events *events, void *ctx)
{
	struct watch *w = NEW(struct watch);

	*w = (struct watch){ .loop = loop, .tree = tree, .source = source, .events = events, .ctx = ctx };
	dirs_init(&w->dirs, tree);
	kept_init(&w->kept, &w->dirs);
	dirty_init(&w->dirty, dirty_max());
	dirty_init(&w->recent, RECENT_MAX);
	dirty_init(&w->later, dirty_max());
	tell_init(&w->tell);
	w->scan = (struct scan){
		.dirs = &w->dirs,
		.source = source,
		.kept = &w->kept,
		.tell = &w->tell,
		.entry = on_scanned,
		.ctx = w,
		.fd = -1,
	};
	list_init(&w->barriers);
	w->lazy = loop_timer(loop, CLOCK_NEVER, on_lazy, w);
	w->turn = loop_timer(loop, CLOCK_NEVER, on_turn, w);
	w->recheck = loop_timer(loop, CLOCK_NEVER, on_recheck, w);
	w->trim = loop_timer(loop, CLOCK_NEVER, on_trim, w);
	w->warm = loop_timer(loop, CLOCK_NEVER, on_warm, w);
	if (source && loop_watch(loop, source->fd, LOOP_READ, on_readable, w, &w->readable) < 0)
		w->source = w->scan.source = NULL;
	hot_init(&w->hot, w->source, mark_hot, w);
	return w;
}

void watch_free(struct watch **slot)
{
	struct watch *w = take(slot);
	struct list *node;

	if (!w)
		return;
	while ((node = list_shift(&w->barriers))) {
		struct barrier *b = list_entry(node, struct barrier, node);

		loop_untimer(&b->deadline);
		free(b);
	}
	loop_unwatch(&w->readable);
	loop_untimer(&w->lazy);
	loop_untimer(&w->turn);
	loop_untimer(&w->recheck);
	loop_untimer(&w->trim);
	loop_untimer(&w->warm);
	hot_fini(&w->hot);
	scan_fini(&w->scan);
	tell_fini(&w->tell);
	search_fini(&w->search);
	links_fini(&w->links);
	dirty_fini(&w->dirty);
	dirty_fini(&w->recent);
	dirty_fini(&w->later);
	kept_fini(&w->kept);
	dirs_fini(&w->dirs);
	free(w);
}

void watch_replicate(struct watch *w, struct conn *control, enum scan_for what)
{
	struct list *node;

	drain(w);
	w->ever = true;
	dirs_untell(&w->dirs, w->tell.acked);
	tell_attach(&w->tell, control);
	w->dirty.overflowed = false;
	list_each(node, &w->barriers)
		list_entry(node, struct barrier, node)->told = false; /* what was told to the last host may be lost */
	scan_full(&w->scan, what);
	loop_rearm(w->turn, 0);
}

void watch_detach(struct watch *w)
{
	tell_detach(&w->tell);
	scan_stop(&w->scan);
}

int watch_ack(struct watch *w, uint64_t seq)
{
	int r = tell_ack(&w->tell, seq);

	if (r == 0) {
		barriers_check(w);
		watch_go_on(w);
	}
	return r;
}

void watch_go_on(struct watch *w)
{
	if (dirty_first(&w->dirty) || w->scan.running || search_due(&w->search) || dirty_len(&w->later))
		loop_rearm(w->turn, 0);
}

void watch_mark(struct watch *w, uint64_t parent, struct span name)
{
	dirty_mark(&w->dirty, parent, name, DIRTY_WRITTEN);
}

struct kept *watch_kept(struct watch *w)
{
	return &w->kept;
}

struct dirs *watch_dirs(struct watch *w)
{
	return &w->dirs;
}

size_t watch_dirty(const struct watch *w)
{
	return dirty_len(&w->dirty);
}

void watch_trim(struct watch *w)
{
	if (w->held > TRIM_AFTER)
		loop_rearm(w->trim, clock_after_ms(TRIM_MS));
	w->held = 0;
}

uint64_t watch_acked(const struct watch *w)
{
	return w->tell.acked;
}

const uint64_t *watch_told(const struct watch *w)
{
	return &w->tell.seq;
}

bool watch_on(const struct watch *w)
{
	return w->ever;
}

static void on_deadline(void *ctx)
{
	barrier_fire(ctx);
}

struct barrier *watch_barrier(struct watch *w, uint64_t until, watch_barrier_fn *fn, void *ctx)
{
	struct barrier *b;

	if (!w->ever) {
		fn(ctx);
		return NULL;
	}
	drain(w);
	hot_ask(&w->hot);
	b = NEW(struct barrier);
	*b = (struct barrier){ .w = w, .ticket = w->dirty.ord, .fn = fn, .ctx = ctx };
	b->deadline = loop_timer(w->loop, until, on_deadline, b);
	list_init(&b->node);
	/* Looked at once more from the loop: the caller has not got the slot yet, so nothing may fire here. */
	list_append(&w->barriers, &b->node);
	loop_rearm(w->turn, 0);
	return b;
}

void watch_barrier_told(struct barrier *b, watch_barrier_fn *told)
{
	b->on_told = told;
}

void watch_unbarrier(struct barrier **slot)
{
	struct barrier *b = take(slot);

	if (!b)
		return;
	list_remove(&b->node);
	loop_untimer(&b->deadline);
	free(b);
}
