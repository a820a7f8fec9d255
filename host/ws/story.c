/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pass did to the names and inodes of a workspace, told as a person would: made, written, removed, renamed,
 * given another mode. The steps of a change note what they do, in order; before the commit the notes become rows of the
 * journal, in the same transaction. docs/workspace.md has the rules ("What is watched").
 */
#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"
#include "host/ws/state.h"

#include <sys/stat.h>

enum { NAMES_MAX = 16, STORY_MAX_B = 16 * 1024 * 1024, NONE = -1 };

/* A name that an inode got or lost. */
struct story_name {
	char *path;
	char *from; /* got by a rename from there */
	uint64_t fid;
	uint32_t mode;
	long next; /* of the same inode and kind */
	bool lost, replaced, untold;
};

struct story_inode {
	uint64_t fid;
	unsigned did; /* STORY_ */
	long got, got_last, lost, lost_last;
};

struct story {
	VEC(struct story_name) names;
	VEC(struct story_inode) inodes;
	struct map index; /* fid -> 1 + place in @inodes */
	struct map detached; /* fid of a directory without a name -> the path that it had */
	size_t bytes;
	bool is_cut; /* there was more than can be told */
};

static struct story *story_of(struct ws_pass *p)
{
	if (!p->story)
		p->story = NEW(struct story);
	return p->story;
}

void story_free(struct ws_pass *p)
{
	struct story *s = take(&p->story);
	void *path;
	size_t i;

	if (!s)
		return;
	for (i = 0; i < s->names.len; i++) {
		str_free(&s->names.v[i].path);
		str_free(&s->names.v[i].from);
	}
	while ((path = map_take_any(&s->detached)))
		free(path);
	map_fini(&s->detached);
	map_fini(&s->index);
	vec_fini(&s->names);
	vec_fini(&s->inodes);
	free(s);
}

static struct story_inode *inode_of(struct story *s, uint64_t fid)
{
	size_t at = (size_t)(uintptr_t)map_get_u64(&s->index, fid);
	struct story_inode fresh = { fid, 0, NONE, NONE, NONE, NONE };

	if (!at) {
		vec_push(&s->inodes, fresh);
		at = s->inodes.len;
		map_put_u64(&s->index, fid, (void *)(uintptr_t)at);
	}
	return &s->inodes.v[at - 1];
}

/* The path of a name, also below a directory that has lost its own in this pass. NULL: it cannot be told. */
static char *path_of(struct ws_pass *p, uint64_t parent, struct span name)
{
	char path[PATH_LEN_MAX + 1];
	size_t at = sizeof(path);
	uint64_t dir = parent, root = txn_root(p->txn);
	AUTO(str_free) char *tail = NULL;
	const char *head;

	for (;;) {
		if (name.len + 1 > at)
			return NULL;
		at -= name.len;
		memcpy(path + at, name.p, name.len);
		if (dir == root)
			return span_dup(SPAN(path + at, sizeof(path) - at));
		path[--at] = '/';
		head = map_get_u64(&p->story->detached, dir);
		if (head)
			break;
		if (entry_of(p->txn, dir, 0, SPAN_NULL, &dir, &name) != 0)
			return NULL;
	}
	tail = span_dup(SPAN(path + at, sizeof(path) - at));
	return strlen(head) + strlen(tail) <= PATH_LEN_MAX ? str_printf("%s%s", head, tail) : NULL;
}

static long note(struct ws_pass *p, const struct story_name *n, uint64_t parent, struct span name)
{
	struct story *s = story_of(p);
	struct story_name mine = *n;

	mine.next = NONE;
	mine.path = s->bytes < STORY_MAX_B ? path_of(p, parent, name) : NULL;
	if (!mine.path) {
		s->is_cut = true;
		return NONE;
	}
	s->bytes += sizeof(mine) + strlen(mine.path);
	vec_push(&s->names, mine);
	return (long)s->names.len - 1;
}

static void chain(struct story *s, long *first, long *last, long at)
{
	if (*last == NONE)
		*first = at;
	else
		s->names.v[*last].next = at;
	*last = at;
}

void story_got(struct ws_pass *p, uint64_t parent, struct span name, const struct node *n)
{
	struct story_name mine = { .fid = n->fid, .mode = n->mode };
	struct story_inode *i;
	long at = note(p, &mine, parent, name);

	if (S_ISDIR(n->mode))
		free(map_remove_u64(&p->story->detached, n->fid));
	if (at == NONE)
		return;
	i = inode_of(p->story, n->fid);
	chain(p->story, &i->got, &i->got_last, at);
}

void story_lost(struct ws_pass *p, uint64_t parent, struct span name, uint64_t fid, bool replaced)
{
	struct story_name mine = { .fid = fid, .lost = true, .replaced = replaced };
	struct story_inode *i;
	struct node n;
	long at;

	if (node_get(p->txn, fid, &n) == 0)
		mine.mode = n.mode;
	at = note(p, &mine, parent, name);
	if (at == NONE)
		return;
	if (S_ISDIR(mine.mode))
		free(map_put_u64(&p->story->detached, fid, must_strdup(p->story->names.v[at].path)));
	i = inode_of(p->story, fid);
	chain(p->story, &i->lost, &i->lost_last, at);
}

void story_replaced(struct ws_pass *p)
{
	struct story *s = p->story;

	if (s && s->names.len)
		s->names.v[s->names.len - 1].replaced = true;
}

void story_did(struct ws_pass *p, uint64_t fid, unsigned did)
{
	inode_of(story_of(p), fid)->did |= did;
}

void story_attr(struct ws_pass *p, const struct node *old, const struct node *n, bool written)
{
	unsigned did = 0;

	if (old->mode != n->mode || old->uid != n->uid || old->gid != n->gid)
		did |= STORY_CHMOD;
	if (S_ISREG(n->mode) && (old->size != n->size || (written && old->mtime_ns != n->mtime_ns)))
		did |= STORY_WRITTEN;
	else if (S_ISREG(n->mode) && old->mtime_ns != n->mtime_ns)
		did |= STORY_CHMOD;
	if (did)
		story_did(p, n->fid, did);
}

/* --- the telling -------------------------------------------------------------------------------------------------- */

static void row(struct ws_pass *p, enum journal_kind kind, const struct node *n, const char *path, const char *from)
{
	AUTO(mem_free) char *both = NULL;
	size_t len = strlen(path), from_len = from ? strlen(from) : 0;
	struct journal_row r = { .kind = kind, .by = p->by, .wall_ns = clock_wall(), .name = SPAN(path, len) };

	if (n) {
		r.fid = n->fid;
		r.mode = n->mode;
		r.size = n->size;
		if (S_ISREG(n->mode) && !(n->flags & NODE_PENDING) && kind != JOURNAL_REMOVE)
			r.root = n->content.root;
	}
	if (from) {
		both = must_calloc(1, len + from_len + 1);
		memcpy(both, path, len);
		memcpy(both + len + 1, from, from_len);
		r.name = SPAN(both, len + 1 + from_len);
	}
	journal_append(p->txn, &r);
}

/* A name that was lost and one that was got are a rename; of a new inode the first name is not. */
static void pair_names(struct story *s, const struct story_inode *i)
{
	long got = i->got, lost = i->lost;

	if (got != NONE && (i->did & STORY_NEW))
		got = s->names.v[got].next;
	while (got != NONE && lost != NONE) {
		struct story_name *g = &s->names.v[got], *l = &s->names.v[lost];

		l->untold = true;
		if (str_eq(g->path, l->path))
			g->untold = true;
		else
			g->from = must_strdup(l->path);
		got = g->next;
		lost = l->next;
	}
}

/* Who takes a name by a rename is told, who had it is not. */
static bool is_renamed_over(const struct story *s, size_t at)
{
	size_t i;

	for (i = at + 1; i < s->names.len && i <= at + 2; i++)
		if (s->names.v[i].from && str_eq(s->names.v[i].path, s->names.v[at].path))
			return true;
	return false;
}

static void tell_names(struct ws_pass *p, struct story *s)
{
	size_t i;

	for (i = 0; i < s->names.len; i++) {
		const struct story_name *n = &s->names.v[i];
		struct node at = { .fid = n->fid, .mode = n->mode }, now;

		if (node_get(p->txn, n->fid, &now) == 0)
			at = now;
		if (n->untold || (n->replaced && is_renamed_over(s, i)))
			continue;
		row(p,
		    n->lost   ? JOURNAL_REMOVE
		    : n->from ? JOURNAL_RENAME
			      : JOURNAL_CREATE,
		    &at, n->path, n->from);
	}
}

static void tell_inode(struct ws_pass *p, const struct story_inode *i)
{
	struct span name = SPAN_NULL;
	char after[PATH_NAME_MAX];
	struct node n;
	uint64_t parent = 0;
	int names;
	unsigned did = i->did;

	if (!did || node_get(p->txn, i->fid, &n) != 0)
		return;
	if (did & STORY_NEW)
		did = S_ISREG(n.mode) && n.size ? STORY_WRITTEN : 0;
	if (i->fid == txn_root(p->txn) && (did & STORY_CHMOD))
		row(p, JOURNAL_CHMOD, &n, "", NULL);
	for (names = 0; did && names < NAMES_MAX; names++) {
		AUTO(str_free) char *path = NULL;

		if (entry_of(p->txn, i->fid, parent, name, &parent, &name) != 0)
			return;
		path = path_of(p, parent, name);
		memcpy(after, name.p, name.len); /* the rows move what it borrows */
		name = SPAN(after, name.len);
		if (!path) {
			p->story->is_cut = true;
			continue;
		}
		if (did & STORY_WRITTEN)
			row(p, JOURNAL_WRITE, &n, path, NULL);
		if (did & STORY_CHMOD)
			row(p, JOURNAL_CHMOD, &n, path, NULL);
	}
}

void story_tell(struct ws_pass *p)
{
	struct story *s = p->story;
	size_t i;

	if (!s)
		return;
	for (i = 0; i < s->inodes.len; i++)
		pair_names(s, &s->inodes.v[i]);
	tell_names(p, s);
	for (i = 0; i < s->inodes.len; i++)
		tell_inode(p, &s->inodes.v[i]);
	if (s->is_cut)
		row(p, JOURNAL_LOST, NULL, "", NULL);
}
