/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers are read twice. First a tree is made of their names alone: a later member takes the place of an earlier one,
 * ".wh.x" takes x of the layers below away, ".wh..wh..opq" all that they have in its directory. Then they are read
 * again, and what is in the tree is written: each member that still has a name, under that, and behind it its other
 * names as hard links. So the archive that comes out has no name twice, none that leads through a link, and nothing
 * that was replaced; whoever unpacks it needs to know nothing about layers.
 *
 * Nothing is unpacked here. A name that leads through a symbolic link is followed in the tree, as a sandbox would, and
 * one with ".." is refused. Memory is bounded by the numbers of members and the length of their names.
 */
#include "host/image/image.h"

#include "base/map.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FOLLOWED_MAX = 40, DEPTH_MAX = 256, MEMBERS_MAX = 2 * FLAT_ENTRIES_MAX, ASK_EACH = 256 };

/* What a member of a layer is. It has as many names as it has nodes. */
struct item {
	struct node *names; /* linked by next_name; NULL: nobody sees it any more */
	mode_t kind;
	char *link; /* where a symbolic link leads */
};

struct node {
	struct node *parent, *children, *next, *before; /* of one directory */
	struct node *next_name, *name_before;
	struct item *item; /* NULL: a directory that no member is */
	uint32_t layer;	   /* the last that said something about it */
	uint32_t swept; /* 1 + a layer: when it is read, nothing of layers before it is below here any more */
	uint32_t len;
	char name[];
};

struct layer {
	VEC(struct item *) items; /* by the number of the member; NULL: none of its own */
};

struct flat {
	const struct flat_source *from;
	struct tar_reader *reader;
	struct layer layers[IMAGE_LAYERS_MAX];
	struct node *top;
	struct map nodes; /* of directory and name */
	uint32_t now;	  /* the layer that is read */
	size_t entries, members, names_b;
	uint64_t size_b;
	struct tar_writer to;
	char path[TAR_PATH_MAX + 1], other[TAR_PATH_MAX + 1]; /* of what is written now */
};

static int bad(struct err *e, const char *what, struct span path)
{
	return err_set(e, -EBADMSG, "bad-image", "%s: %.*s", what, (int)MIN(path.len, (size_t)100),
		       (const char *)path.p);
}

/* --- the tree ----------------------------------------------------------------------------------------------------- */

struct key {
	struct node *parent;
	char name[256];
};

static struct span key_of(struct key *k, struct node *parent, struct span name)
{
	k->parent = parent;
	memcpy(k->name, name.p, name.len);
	return SPAN(k, offsetof(struct key, name) + name.len);
}

static struct node *find(struct flat *f, struct node *parent, struct span name)
{
	struct key k;

	return map_get(&f->nodes, key_of(&k, parent, name));
}

static bool is_dir(const struct node *n)
{
	return !n->item || S_ISDIR(n->item->kind);
}

static int too_many(struct err *e)
{
	return err_set(e, -EFBIG, "image-large", "the image has more than %d files, or too many long names",
		       FLAT_ENTRIES_MAX);
}

static int add(struct flat *f, struct node *parent, struct span name, struct node **ret, struct err *e)
{
	struct node *n;
	struct key k;

	if (++f->entries > FLAT_ENTRIES_MAX || (f->names_b += name.len) > FLAT_NAMES_MAX_B)
		return too_many(e);
	n = must_calloc(1, sizeof(*n) + name.len);
	n->len = (uint32_t)name.len;
	memcpy(n->name, name.p, name.len);
	n->parent = parent;
	n->layer = f->now;
	n->swept = f->now + 1;
	n->next = parent->children;
	if (n->next)
		n->next->before = n;
	parent->children = n;
	map_put(&f->nodes, key_of(&k, parent, name), n);
	*ret = n;
	return 0;
}

/* It is no name of its item any more. */
static void unname(struct node *n)
{
	if (!n->item)
		return;
	if (n->name_before)
		n->name_before->next_name = n->next_name;
	else
		n->item->names = n->next_name;
	if (n->next_name)
		n->next_name->name_before = n->name_before;
	n->next_name = n->name_before = NULL;
	n->item = NULL;
}

static void name_it(struct node *n, struct item *it)
{
	unname(n);
	n->item = it;
	n->next_name = it->names;
	if (n->next_name)
		n->next_name->name_before = n;
	it->names = n;
}

/* It has no children. */
static void drop(struct flat *f, struct node *n)
{
	struct key k;

	unname(n);
	map_remove(&f->nodes, key_of(&k, n->parent, SPAN(n->name, n->len)));
	if (n->before)
		n->before->next = n->next;
	else
		n->parent->children = n->next;
	if (n->next)
		n->next->before = n->before;
	free(n);
}

/* What is below @top goes; @old: only what layers before this one have put there. Depth first, without recursion: names
 * are as deep as somebody likes. A directory is walked once in a layer, however often the layer says it: what is put
 * there afterwards is the layer's own. */
static void prune(struct flat *f, struct node *top, bool old)
{
	struct node *n = top->children, *next;

	if (old && top->swept == f->now + 1)
		return;
	top->swept = f->now + 1;
	while (n) {
		if (n->children && !(old && n->swept == f->now + 1)) {
			n->swept = f->now + 1;
			n = n->children;
			continue;
		}
		for (;;) {
			struct node *parent = n->parent;

			next = n->next;
			if (!n->children && (!old || n->layer != f->now)) {
				drop(f, n);
			} else if (n->layer != f->now) { /* something of this layer is in it */
				unname(n);
				n->layer = f->now;
			}
			if (next) {
				n = next;
				break;
			}
			if (parent == top)
				return;
			n = parent;
		}
	}
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static struct span part(struct span *path)
{
	const char *p = path->p, *end = p + path->len, *to;
	struct span one;

	while (p < end && *p == '/')
		p++;
	to = memchr(p, '/', (size_t)(end - p));
	one = SPAN(p, (size_t)((to ? to : end) - p));
	*path = SPAN(p + one.len, (size_t)(end - p) - one.len);
	return one;
}

static bool is_text(struct span s, const char *text)
{
	return span_eq(s, span_str(text));
}

/* Where to go on when @n is in the way: what a link leads to, before the rest of the path. */
static int follow(const struct node *n, struct span rest, char **text, unsigned *followed)
{
	char *next;

	if (++*followed > FOLLOWED_MAX || strlen(n->item->link) + rest.len > TAR_PATH_MAX)
		return -ELOOP;
	next = str_printf("%s/%.*s", n->item->link, (int)rest.len, (const char *)rest.p);
	free(*text);
	*text = next;
	return 0;
}

/* The directory that the parts of @path before the last lead to, and the last one. Directories that are missing are
 * made, and what is no directory gives way. "..", which may only come out of a link, does not leave the root. */
static int walk(struct flat *f, struct span path, struct node **ret, struct span *ret_last, struct err *e)
{
	AUTO(str_free) char *text = NULL;
	struct span rest = path, one, last = SPAN_NULL;
	struct node *at = f->top, *n;
	unsigned followed = 0, depth = 0;
	int r = 0;

	/* The last part is taken off first: it is never followed. */
	while (rest.len && ((const char *)rest.p)[rest.len - 1] == '/')
		rest.len--;
	while (rest.len && ((const char *)rest.p)[rest.len - 1] != '/')
		rest.len--;
	last = SPAN((const char *)path.p + rest.len, path.len - rest.len);
	while (last.len && ((const char *)last.p)[last.len - 1] == '/')
		last.len--;
	*ret_last = last;
	while (r == 0 && (one = part(&rest)).len) {
		if (is_text(one, "."))
			continue;
		if (is_text(one, "..")) {
			if (!text)
				return bad(e, "a name with '..' in the image", path);
			at = at->parent ? at->parent : at;
			continue;
		}
		if (one.len > 255 || ++depth > DEPTH_MAX)
			return bad(e, "a name that is too long in the image", path);
		n = find(f, at, one);
		if (n && n->item && S_ISLNK(n->item->kind)) {
			const char *link = n->item->link;

			if (follow(n, rest, &text, &followed) < 0)
				return bad(e, "a name that leads in circles in the image", path);
			if (link[0] == '/')
				at = f->top;
			rest = span_str(text);
			continue;
		}
		if (!n)
			r = add(f, at, one, &n, e);
		if (r == 0 && !is_dir(n)) { /* a file: it becomes a directory of nobody's */
			unname(n);
			n->layer = f->now;
		}
		at = n;
	}
	*ret = at;
	return r;
}

static int check_last(struct span last, struct span path, struct err *e)
{
	if (is_text(last, ".."))
		return bad(e, "a name with '..' in the image", path);
	if (last.len > 255)
		return bad(e, "a name that is too long in the image", path);
	return 0;
}

/* --- the first time ----------------------------------------------------------------------------------------------- */

/* Return: true when it is a word about what layers below have. */
static bool take_away(struct flat *f, struct node *dir, struct span last)
{
	static const char word[] = ".wh.";
	struct node *n;

	if (last.len <= 4 || memcmp(last.p, word, 4) != 0)
		return false;
	if (is_text(last, ".wh..wh..opq")) {
		prune(f, dir, true);
		return true;
	}
	last = SPAN((const char *)last.p + 4, last.len - 4);
	n = find(f, dir, last);
	if (!n)
		return true;
	prune(f, n, true);
	if (n->layer != f->now && !n->children) {
		drop(f, n);
	} else if (n->layer != f->now) {
		unname(n);
		n->layer = f->now;
	}
	return true;
}

/* Below /dev sandboxes have their own; what is there is left out whatever it is. */
static bool is_of_dev(const struct flat *f, const struct node *dir)
{
	while (dir->parent && dir->parent != f->top)
		dir = dir->parent;
	return dir->parent && dir->len == 3 && memcmp(dir->name, "dev", 3) == 0;
}

static int link_to(struct flat *f, struct node *n, const struct tar_item *it, struct err *e)
{
	struct node *dir, *to;
	struct span last;
	int r = walk(f, it->link, &dir, &last, e);

	if (r == 0)
		r = check_last(last, it->link, e);
	if (r < 0)
		return r;
	to = last.len ? find(f, dir, last) : NULL;
	if (!to || !to->item || S_ISDIR(to->item->kind))
		return bad(e, "a hard link to nothing in the image", it->path);
	if (to != n)
		name_it(n, to->item);
	return 0;
}

static int place(struct flat *f, struct node *dir, struct span last, const struct tar_item *it, struct item *item,
		 struct err *e)
{
	struct node *n = find(f, dir, last);
	int r = n ? 0 : add(f, dir, last, &n, e);

	if (r < 0)
		return r;
	if (!it->is_link && S_ISDIR(it->mode)) {
		name_it(n, item); /* what is in it stays, if it was one */
	} else {
		prune(f, n, false);
		r = it->is_link ? link_to(f, n, it, e) : 0;
		if (!it->is_link)
			name_it(n, item);
	}
	n->layer = f->now;
	return r;
}

static int note(struct flat *f, const struct tar_item *it, struct err *e)
{
	struct item *item = NULL;
	struct node *dir;
	struct span last;
	int r = walk(f, it->path, &dir, &last, e);

	if (r == 0)
		r = check_last(last, it->path, e);
	if (r == 0 && (!last.len || is_text(last, ".") || take_away(f, dir, last) || is_of_dev(f, dir)))
		r = 1; /* nothing to be written */
	if (r == 0 && !it->is_link && (S_ISCHR(it->mode) || S_ISBLK(it->mode)))
		r = bad(e, "a device in the image", it->path);
	if (r == 0 && !it->is_link) {
		item = NEW(struct item);
		item->kind = it->mode & S_IFMT;
		if (S_ISLNK(it->mode)) {
			f->names_b += it->link.len;
			item->link = span_dup(it->link);
		}
	}
	vec_push(&f->layers[f->now].items, item);
	if (++f->members > MEMBERS_MAX || f->names_b > FLAT_NAMES_MAX_B)
		return too_many(e);
	return r == 0 ? place(f, dir, last, it, item, e) : MIN(r, 0);
}

static int go_on(const struct flat *f)
{
	return f->from->go_on ? f->from->go_on(f->from->ctx) : 0;
}

/* Whatever the archive does, this ends: layers are files, and reading one takes from it. */
static int each_member(struct flat *f, int (*fn)(struct flat *f, const struct tar_item *it, size_t i, struct err *e),
		       struct err *e)
{
	struct tar_item it;
	size_t i;
	int r = 0;

	for (f->now = 0; r == 0 && f->now < f->from->n; f->now++) {
		r = f->from->open(f->from->ctx, f->now, e);
		if (r < 0)
			break;
		tar_reader_free(&f->reader);
		f->reader = tar_reader_new(f->from->get, f->from->ctx);
		tar_reader_roots(f->reader);
		for (i = 0; r == 0 && (r = tar_next(f->reader, &it, e)) == 0; i++)
			r = i % ASK_EACH == 0 && (r = go_on(f)) != 0 ? r : fn(f, &it, i, e);
		if (r == TAR_E_END)
			r = 0;
	}
	return r;
}

static int first_time(struct flat *f, const struct tar_item *it, size_t i, struct err *e)
{
	(void)i;
	return note(f, it, e);
}

/* --- the second time ---------------------------------------------------------------------------------------------- */

static int path_of(const struct node *n, char to[TAR_PATH_MAX + 1], struct span *ret)
{
	size_t at = TAR_PATH_MAX;

	for (; n->parent; n = n->parent) {
		if (at < n->len + 1U)
			return -ENAMETOOLONG;
		if (at < TAR_PATH_MAX)
			to[--at] = '/';
		at -= n->len;
		memcpy(to + at, n->name, n->len);
	}
	*ret = SPAN(to + at, TAR_PATH_MAX - at);
	return 0;
}

/* Holes are filled: files of images have none, but for those who make a little look like a lot. */
static int put_zeros(struct flat *f, uint64_t *done, uint64_t until)
{
	static const uint8_t zeros[64 * 1024];
	int r = 0;

	while (r == 0 && *done < until) {
		size_t n = (size_t)MIN(until - *done, (uint64_t)sizeof(zeros));

		r = go_on(f);
		if (r == 0)
			r = tar_put_data(&f->to, zeros, n);
		*done += n;
	}
	return r;
}

static int put_file(struct flat *f, const struct tar_item *it, struct err *e)
{
	uint64_t at;
	struct span data;
	struct tar_range whole = { 0, it->size };
	uint64_t done = 0;
	int r;

	r = tar_put_item(&f->to, it, &whole, 1);
	while (r == 0 && (r = tar_read(f->reader, &at, &data, e)) == 0) {
		r = put_zeros(f, &done, at);
		if (r == 0)
			r = tar_put_data(&f->to, data.p, data.len);
		done += data.len;
	}
	r = r == TAR_E_END ? 0 : r;
	if (r == 0)
		r = put_zeros(f, &done, it->size);
	return r == 0 ? tar_put_done(&f->to) : r;
}

static int put_names(struct flat *f, const struct item *item, const struct tar_item *first, struct err *e)
{
	struct tar_item it = *first;
	const struct node *n;
	int r = 0;

	it.is_link = true;
	it.link = first->path;
	it.mode = first->mode & 07777;
	it.xattrs = SPAN_NULL;
	for (n = item->names->next_name; n && r == 0; n = n->next_name) {
		r = path_of(n, f->other, &it.path);
		if (r == 0)
			r = tar_put_item(&f->to, &it, NULL, 0);
	}
	return r < 0 && !(e && e->code) ? err_sys(e, r, "writing the image's files") : r;
}

static int second_time(struct flat *f, const struct tar_item *it, size_t i, struct err *e)
{
	const struct layer *l = &f->layers[f->now];
	const struct item *item = i < l->items.len ? l->items.v[i] : NULL;
	struct tar_item mine = *it;
	int r;

	if (i >= l->items.len || (item && (it->is_link || item->kind != (it->mode & S_IFMT))))
		return bad(e, "a layer that changes while it is read", it->path);
	if (!item || !item->names)
		return 0;
	r = path_of(item->names, f->path, &mine.path);
	if (r < 0)
		return bad(e, "a name that is too long in the image", it->path);
	if (num_add(f->size_b, TAR_BLOCK + it->size, &f->size_b) || f->size_b > f->from->max_b)
		return err_set(e, -EFBIG, "image-large", "the image is larger than %llu MB",
			       (unsigned long long)(f->from->max_b >> 20));
	if (S_ISREG(it->mode))
		r = put_file(f, &mine, e);
	else
		r = tar_put_item(&f->to, &mine, NULL, 0);
	return r == 0 ? put_names(f, item, &mine, e) : r;
}

static void flat_free(struct flat **slot)
{
	struct flat *f = take(slot);
	struct node *n;
	size_t i, k;

	if (!f)
		return;
	tar_reader_free(&f->reader);
	while ((n = map_take_any(&f->nodes)))
		free(n);
	map_fini(&f->nodes);
	for (i = 0; i < ARRAY_LEN(f->layers); i++) {
		for (k = 0; k < f->layers[i].items.len; k++) {
			if (f->layers[i].items.v[k])
				free(f->layers[i].items.v[k]->link);
			free(f->layers[i].items.v[k]);
		}
		vec_fini(&f->layers[i].items);
	}
	free(f->top);
	free(f);
}

int flat_put(const struct flat_source *from, tar_put_fn *put, void *ctx, uint64_t *ret_size_b, struct err *e)
{
	AUTO(flat_free) struct flat *f = NULL;
	int r;

	if (!from->n || from->n > IMAGE_LAYERS_MAX)
		return err_set(e, -EBADMSG, "bad-image", "an image has 1 to %d layers", IMAGE_LAYERS_MAX);
	f = NEW(struct flat);
	f->from = from;
	f->to = (struct tar_writer){ .put = put, .ctx = ctx };
	f->top = must_calloc(1, sizeof(*f->top));
	r = each_member(f, first_time, e);
	if (r == 0)
		r = each_member(f, second_time, e);
	if (r == 0)
		r = tar_put_end(&f->to);
	*ret_size_b = f->size_b;
	return r;
}
