/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck, a workspace's half. Four passes over one state: the inodes (form, content, target, links), the entries against
 * the inodes and the reverse index, the reverse index against the entries, then a walk from the root that finds what it
 * cannot reach. At last the journal and the facts. Memory: one map entry an inode.
 */
#include "host/store/check.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <sys/stat.h>

struct seen {
	uint32_t mode, nlink, names;
	bool reached, linked, stub, has_tree, xattrs, has_xattrs, pending, is_listed;
};

struct ws_check {
	struct check *c;
	struct txn *t;
	struct map nodes; /* fid -> struct seen, owned */
	uint64_t root, stub_names, attrs_b;
};

typedef int (*row_fn)(struct ws_check *w, struct span key, struct span v);

static int each_row(struct ws_check *w, enum ws_table table, row_fn fn)
{
	struct span key, v;
	enum db_step step = DB_AT_LEAST;
	int r = 0;

	while (r == 0 && (r = db_walk(w->t->t, table, step, SPAN_NULL, &key, &v)) == 0) {
		r = fn(w, key, v);
		step = DB_NEXT;
	}
	return r < 0 ? r : 0;
}

static unsigned long long n(uint64_t v)
{
	return v;
}

static struct seen *seen_of(struct ws_check *w, uint64_t fid)
{
	return map_get_u64(&w->nodes, fid);
}

static int check_file(struct ws_check *w, const struct node *node)
{
	const struct content *c = &node->content;
	int r;

	if (!content_ok(c)) {
		check_say(w->c, "inode %llu has an impossible content", n(node->fid));
		return 0;
	}
	if (c->depth == 0 || content_is_elsewhere(c))
		return 0;
	r = check_has(w->c, c->depth == 1 ? CT_CHUNK : CT_LIST, &c->root);
	if (r == 0)
		check_say(w->c, "the content of inode %llu is missing", n(node->fid));
	return r < 0 ? r : 0;
}

/* Forks have the same stubs. */
static uint64_t names_below(struct ws_check *w, const struct digest *dir)
{
	uint64_t *known = map_get(&w->c->counted, digest_span(dir));

	if (known)
		return *known;
	known = must_calloc(1, sizeof(*known));
	if (tree_names(w->c->store, dir, known))
		*known = 0; /* it is missing or damaged, and told as such */
	map_put(&w->c->counted, digest_span(dir), known);
	return *known;
}

static uint64_t names_in_stub(struct ws_check *w, uint64_t fid)
{
	struct digest d;
	struct span v;
	struct key k;

	key_u64(&k, fid);
	if (db_get(w->t->t, WT_TREE, key_span(&k), &v) || v.len != DIGEST_LEN)
		return 0;
	memcpy(d.b, v.p, DIGEST_LEN);
	return names_below(w, &d);
}

static int node_row(struct ws_check *w, struct span key, struct span v)
{
	struct seen *seen;
	struct span target;
	struct node node;
	uint64_t fid = 0;
	bool has_target;

	w->c->stats.nodes++;
	if (key_u64_parse(key, &fid) || !fid || node_unpack(v, fid, &node)) {
		check_say(w->c, "the record of inode %llu has a form that is unknown", n(fid));
		if (fid && !seen_of(w, fid))
			map_put_u64(&w->nodes, fid, NEW(struct seen));
		return 0;
	}
	seen = NEW(struct seen);
	seen->mode = node.mode;
	seen->nlink = node.nlink;
	seen->stub = node.flags & NODE_STUB;
	seen->xattrs = node.flags & NODE_XATTRS;
	seen->pending = node.flags & NODE_PENDING;
	if (seen->stub && !S_ISDIR(node.mode))
		check_say(w->c, "inode %llu is a stub and no directory", n(fid));
	map_put_u64(&w->nodes, fid, seen);
	if (seen->stub)
		w->stub_names += names_in_stub(w, fid);
	has_target = node_target(w->t, fid, &target) == 0;
	if (S_ISLNK(node.mode) != has_target)
		check_say(w->c, "inode %llu %s", n(fid),
			  has_target ? "has a target and is no link" : "is a link without target");
	return S_ISREG(node.mode) ? check_file(w, &node) : 0;
}

static int target_row(struct ws_check *w, struct span key, UNUSED struct span v)
{
	uint64_t fid = 0;

	if (key_u64_parse(key, &fid) || !seen_of(w, fid))
		check_say(w->c, "there is a target of inode %llu, which is missing", n(fid));
	return 0;
}

static int entry_row(struct ws_check *w, struct span key, struct span v)
{
	struct seen *parent_seen, *seen;
	uint64_t parent, fid;
	struct span name, row;
	struct key reverse;

	w->c->stats.entries++;
	if (key_entry_parse(key, &parent, &name) || key_u64_parse(v, &fid)) {
		check_say(w->c, "an entry has a form that is unknown");
		return 0;
	}
	seen = seen_of(w, fid);
	parent_seen = seen_of(w, parent);
	if (!seen)
		check_say(w->c, "an entry of directory %llu names inode %llu, which is missing", n(parent), n(fid));
	else
		seen->names++;
	if (!parent_seen)
		check_say(w->c, "an entry is in directory %llu, which is missing", n(parent));
	else if (parent_seen->stub)
		check_say(w->c, "an entry is in directory %llu, which was not unpacked", n(parent));
	else if (parent_seen->mode && !S_ISDIR(parent_seen->mode))
		check_say(w->c, "an entry is in inode %llu, which is no directory", n(parent));
	key_name(&reverse, fid, parent, name);
	if (db_get(w->t->t, WT_NAME, key_span(&reverse), &row))
		check_say(w->c, "an entry of directory %llu for inode %llu is not in the reverse index", n(parent),
			  n(fid));
	return 0;
}

static int name_row(struct ws_check *w, struct span key, UNUSED struct span v)
{
	uint64_t fid, parent, is = 0;
	struct span name;

	if (key_name_parse(key, &fid, &parent, &name))
		check_say(w->c, "a row of the reverse index has a form that is unknown");
	else if (entry_get(w->t, parent, name, &is) || is != fid)
		check_say(w->c, "the reverse index names inode %llu in directory %llu, where it is not", n(fid),
			  n(parent));
	return 0;
}

static int linked_row(struct ws_check *w, struct span key, UNUSED struct span v)
{
	struct seen *seen;
	uint64_t fid = 0;

	seen = key_u64_parse(key, &fid) ? NULL : seen_of(w, fid);
	if (!seen || S_ISDIR(seen->mode) || seen->nlink < 2)
		check_say(w->c, "inode %llu is listed as having several names and has not", n(fid));
	else
		seen->linked = true;
	return 0;
}

static int pending_row(struct ws_check *w, struct span key, UNUSED struct span v)
{
	uint64_t fid = 0;
	struct seen *seen = key_u64_parse(key, &fid) ? NULL : seen_of(w, fid);

	if (!seen || !seen->pending)
		check_say(w->c, "inode %llu is listed as pending and is not", n(fid));
	else
		seen->is_listed = true;
	return 0;
}

static int tree_row(struct ws_check *w, struct span key, struct span v)
{
	struct digest d = { .b = { 0 } };
	uint64_t fid = 0;
	int r;

	if (key_u64_parse(key, &fid) || v.len != DIGEST_LEN || !seen_of(w, fid)) {
		check_say(w->c, "a kept tree of directory %llu is damaged", n(fid));
		return 0;
	}
	memcpy(d.b, v.p, DIGEST_LEN);
	seen_of(w, fid)->has_tree = true;
	r = check_has(w->c, CT_TREE, &d);
	if (r == 0)
		check_say(w->c, "the kept tree of directory %llu is missing", n(fid));
	return r < 0 ? r : 0;
}

static int snap_row(struct ws_check *w, struct span key, struct span v)
{
	struct snapshot s;
	int r;

	if (snapshot_unpack(key, v, &s)) {
		check_say(w->c, "a snapshot's row has a form that is unknown");
		return 0;
	}
	r = check_has(w->c, CT_TREE, &s.root);
	if (r == 0)
		check_say(w->c, "the tree of snapshot %s is missing", s.name);
	return r < 0 ? r : 0;
}

static int xattr_row(struct ws_check *w, struct span key, struct span v)
{
	uint64_t fid = 0;
	struct seen *seen = key_u64_parse(key, &fid) ? NULL : seen_of(w, fid);

	if (!seen || v.len == 0 || v.len > XATTRS_MAX)
		check_say(w->c, "there are extended attributes of inode %llu, which %s", n(fid),
			  seen ? "make no sense" : "is missing");
	else
		seen->has_xattrs = true;
	w->attrs_b += v.len;
	return 0;
}

/* Everything that can be reached from the root. A directory that is met again has several parents or contains itself.
 */
static int walk_down(struct ws_check *w)
{
	VEC(uint64_t) todo = { 0 };
	struct seen *root = seen_of(w, w->root);
	int r = 0;

	if (root) {
		root->reached = true;
		vec_push(&todo, w->root);
	}
	while (todo.len && r == 0) {
		uint64_t dir = todo.v[--todo.len], fid;
		struct span name = SPAN_NULL;

		while ((r = entry_next(w->t, dir, name, &name, &fid)) == 0) {
			struct seen *seen = seen_of(w, fid);

			if (!seen)
				continue;
			if (seen->reached && S_ISDIR(seen->mode))
				check_say(w->c, "directory %llu has several names or contains itself", n(fid));
			else if (S_ISDIR(seen->mode))
				vec_push(&todo, fid);
			seen->reached = true;
		}
		r = r < 0 ? r : 0;
	}
	vec_fini(&todo);
	return r;
}

static void check_seen(struct ws_check *w)
{
	struct map_slot *slot;
	size_t pos = 0;

	while ((slot = map_next(&w->nodes, &pos))) {
		struct seen *seen = slot->value;
		uint64_t fid = slot->num;

		if (!seen->mode)
			continue;
		if (seen->stub && !seen->has_tree)
			check_say(w->c, "directory %llu is a stub and has no tree", n(fid));
		if (seen->xattrs != seen->has_xattrs)
			check_say(w->c, "inode %llu %s", n(fid),
				  seen->xattrs ? "should have extended attributes"
					       : "has extended attributes and does not say so");
		if (!S_ISDIR(seen->mode) && seen->nlink != seen->names)
			check_say(w->c, "inode %llu has %u names and says %u", n(fid), seen->names, seen->nlink);
		if (!S_ISDIR(seen->mode) && seen->nlink > 1 && !seen->linked)
			check_say(w->c, "inode %llu has several names and is not listed so", n(fid));
		if (seen->pending && !seen->is_listed)
			check_say(w->c, "inode %llu is pending and is not listed so", n(fid));
		if (seen->reached)
			continue;
		w->c->stats.orphans++;
		/* Deleted and still kept by somebody: nothing is wrong with that. */
		if (seen->names || seen->nlink)
			check_say(w->c, "inode %llu cannot be reached from the root", n(fid));
	}
}

static int check_counts(struct ws_check *w)
{
	uint64_t stubs, attrs;
	int r = count_kept(w->t, &stubs, &attrs);

	if (r)
		return MIN(r, 0);
	if (stubs != w->stub_names)
		check_say(w->c, "%llu names should be in directories that were not unpacked, and %llu are", n(stubs),
			  n(w->stub_names));
	if (attrs != w->attrs_b)
		check_say(w->c, "extended attributes should have %llu bytes and have %llu", n(attrs), n(w->attrs_b));
	return 0;
}

static struct digest link_fact(struct ws_check *w, const char *key)
{
	struct digest d = { .b = { 0 } };
	struct span v;

	if (meta_get(w->t, key, &v) == 0 && v.len == DIGEST_LEN)
		memcpy(d.b, v.p, DIGEST_LEN);
	return d;
}

/* Rows from before there were links are followed by the first that has one. */
static void check_link(struct ws_check *w, const struct journal_row *row, struct digest *link)
{
	struct digest is = journal_link(link, row);

	if (digest_is_zero(&row->link) && digest_is_zero(link))
		return;
	if (!digest_eq(&is, &row->link))
		check_say(w->c, "row %llu of the journal was changed, or the one before it was", n(row->seq));
	*link = row->link;
}

static int check_running(struct ws_check *w, uint64_t last)
{
	struct running one;
	size_t at = 0;
	int r;

	while ((r = running_next(w->t, &at, &one)) == 0)
		if (!one.seq || one.seq > last)
			check_say(w->c, "a command runs since row %llu of the journal, which is not there", n(one.seq));
	if (r == -EIO)
		check_say(w->c, "the list of running commands has a form that is unknown");
	return r == -EIO ? 0 : MIN(r, 0);
}

static int check_journal(struct ws_check *w)
{
	struct digest link = link_fact(w, "journal-base"), end = link_fact(w, "journal-link");
	struct journal_row row = { .seq = 0 };
	uint64_t last = 0, first = 0, want = 1;
	int r = meta_get_u64(w->t, "journal-seq", &last);

	if (r >= 0)
		r = meta_get_u64(w->t, "journal-first", &first);

	if (r < 0)
		return r;
	if (last > JOURNAL_ROWS)
		first = MAX(first, last - JOURNAL_ROWS + 1);
	if (first && journal_next(w->t, 0, &row) == 0 && row.seq <= first)
		want = row.seq;
	while ((r = journal_next(w->t, want - 1, &row)) == 0) {
		if (row.seq != want)
			check_say(w->c, "the journal goes from row %llu to row %llu", n(want - 1), n(row.seq));
		want = row.seq + 1;
		check_link(w, &row, &link);
	}
	if (r == -EIO) {
		check_say(w->c, "row %llu of the journal has a form that is unknown", n(want));
		return 0;
	}
	if (r < 0)
		return r;
	if (last != want - 1)
		check_say(w->c, "the journal ends at row %llu and should at %llu", n(want - 1), n(last));
	else if (!digest_eq(&link, &end))
		check_say(w->c, "the end of the journal is not the one that was written");
	return check_running(w, last);
}

static int check_facts(struct ws_check *w)
{
	struct seen *root = seen_of(w, w->root);
	struct digest tree;
	struct span v;
	int r;

	if (store_format_check(w->t->t, WT_META))
		check_say(w->c, "the format is missing or unknown");
	if (w->root && (!root || !S_ISDIR(root->mode)))
		check_say(w->c, "the root, inode %llu, is %s", n(w->root), root ? "no directory" : "missing");
	if (!w->root && w->nodes.len)
		check_say(w->c, "there are inodes and no root");
	r = meta_get(w->t, "tree", &v);
	if (r)
		return r < 0 ? r : 0;
	if (v.len != DIGEST_LEN) {
		check_say(w->c, "the root of the sealed tree has %zu bytes", v.len);
		return 0;
	}
	memcpy(tree.b, v.p, DIGEST_LEN);
	r = check_has(w->c, CT_TREE, &tree);
	if (r == 0)
		check_say(w->c, "the root of the sealed tree is missing");
	return r < 0 ? r : 0;
}

static int check_state(struct ws_check *w)
{
	static const struct {
		enum ws_table table;
		row_fn fn;
	} passes[] = { { WT_NODE, node_row }, { WT_TARGET, target_row }, { WT_ENTRY, entry_row },
		       { WT_NAME, name_row }, { WT_LINKED, linked_row }, { WT_TREE, tree_row },
		       { WT_SNAP, snap_row }, { WT_XATTR, xattr_row },
		       { WT_PENDING, pending_row } };
	size_t i;
	int r = 0;

	w->root = txn_root(w->t);
	for (i = 0; i < ARRAY_LEN(passes) && r == 0; i++)
		r = each_row(w, passes[i].table, passes[i].fn);
	if (r == 0)
		r = walk_down(w);
	if (r)
		return r;
	check_seen(w);
	r = check_counts(w);
	if (r == 0)
		r = check_facts(w);
	if (r == 0)
		r = check_layers(w->c, w->t);
	return r ? r : check_journal(w);
}

int check_ws(struct check *c, const char *id)
{
	struct ws_check w = { .c = c };
	struct wsdb *ws = NULL;
	struct err e = ERR_NULL;
	struct map_slot *slot;
	size_t pos = 0;
	int r = wsdb_open(c->store, id, false, &ws, &e);

	if (r == -EPROTO || r == -EIO) {
		check_say(c, "cannot be opened: %s", e.text);
		return 0;
	}
	if (r == 0)
		r = txn_read(ws, &w.t, &e);
	if (r == 0)
		r = db_begin(c->store->content, false, &c->content, &e);
	if (r == 0)
		r = check_state(&w);
	db_abort(&c->content);
	txn_abort(&w.t);
	wsdb_close(&ws);
	while ((slot = map_next(&w.nodes, &pos)))
		free(slot->value);
	map_fini(&w.nodes);
	return r;
}
