/* SPDX-License-Identifier: Apache-2.0 */
/* The memory file: its layout, and slots of each kind. */
#include "host/fs/table.h"

#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLE_MAGIC 0x0031627468747262ULL
#define PAGE 4096ULL

/* Where each part begins; every part starts on a page. */
struct layout {
	uint64_t spaces, nodes, handles, intents, blocks, end;
};

static uint64_t pages(uint64_t b)
{
	return (b + PAGE - 1) / PAGE * PAGE;
}

static struct layout layout(void)
{
	struct layout l;

	l.spaces = pages(sizeof(struct table_head));
	l.nodes = l.spaces + pages(sizeof(struct table_space) * TABLE_SPACES);
	l.handles = l.nodes + pages(sizeof(struct table_node) * (uint64_t)TABLE_NODES);
	l.intents = l.handles + pages(sizeof(struct table_handle) * (uint64_t)TABLE_HANDLES);
	l.blocks = l.intents + pages(sizeof(struct table_intent) * TABLE_INTENTS);
	l.end = l.blocks + sizeof(struct table_block) * (uint64_t)TABLE_BLOCKS;
	return l;
}

static_assert(sizeof(struct table_node) == 128, "a node is what docs/mount.md says");
static_assert(sizeof(struct table_block) == TABLE_BLOCK_B, "a block is a page");

static void find_free(struct table *t)
{
	uint32_t i;

	for (i = t->head->nodes_top; i-- > 0;)
		if (!t->nodes[i].space)
			vec_push(&t->free_nodes, i);
	for (i = t->head->handles_top; i-- > 0;)
		if (!t->handles[i].used)
			vec_push(&t->free_handles, i);
	/* Intents of two processes ago: their requests were answered, or have come again, long since. */
	for (i = 0; i < TABLE_INTENTS; i++)
		if (t->intents[i].unique && t->intents[i].takeovers + 1 < t->head->takeovers)
			t->intents[i].unique = 0;
}

static bool is_sane(const struct table_head *h)
{
	return h->magic == TABLE_MAGIC && h->version == TABLE_VERSION && h->nodes_top <= TABLE_NODES &&
	       h->handles_top <= TABLE_HANDLES && h->spaces_top <= TABLE_SPACES && h->blocks_top <= TABLE_BLOCKS &&
	       h->init_len > 0 && h->init_len <= TABLE_INIT_MAX && h->flags == (TABLE_SERVED | TABLE_CAN_RESEND);
}

static void *part(uint8_t *map, uint64_t at)
{
	return map + at;
}

int table_map(struct table *t, int fd, bool fresh, struct err *e)
{
	struct layout l = layout();
	struct stat st;
	uint8_t *p;

	*t = (struct table){ .nodes_max = TABLE_NODES, .handles_max = TABLE_HANDLES };
	if (fresh && ftruncate(fd, (off_t)l.end) < 0)
		return err_sys(e, -errno, "the table of the mount");
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != l.end)
		return err_set(e, -ESTALE, "mount-format", "the mount was made by another version");
	p = mmap(NULL, l.end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, -errno, "the table of the mount");
	t->map = p;
	t->head = part(p, 0);
	t->spaces = part(p, l.spaces);
	t->nodes = part(p, l.nodes);
	t->handles = part(p, l.handles);
	t->intents = part(p, l.intents);
	t->blocks = part(p, l.blocks);
	if (fresh) {
		*t->head = (struct table_head){ .magic = TABLE_MAGIC, .version = TABLE_VERSION };
		if (getrandom(t->head->dir_key, sizeof(t->head->dir_key), 0) != sizeof(t->head->dir_key)) {
			table_unmap(t);
			return err_sys(e, -EIO, "random bytes for the mount");
		}
	} else if (!is_sane(t->head)) {
		table_unmap(t);
		return err_set(e, -ESTALE, "mount-format", "the mount was left in a state that cannot be gone on from");
	} else {
		t->head->takeovers++;
		find_free(t);
	}
	return 0;
}

void table_unmap(struct table *t)
{
	if (t->map)
		munmap(t->map, layout().end);
	vec_fini(&t->free_nodes);
	vec_fini(&t->free_handles);
	vec_fini(&t->free_blocks);
	*t = (struct table){ .map = NULL };
}

/* A free slot: a used one again, or the next. */
#define SLOT_TAKE(t, list, top, max)                                               \
	((t)->list.len ? (t)->list.v[--(t)->list.len] : (t)->head->top < (max) ? (t)->head->top++ : UINT32_MAX)

/* --- nodes -------------------------------------------------------------------------------------------------------- */

void table_node_shown(struct table *t, uint32_t slot, const struct node *n)
{
	struct table_node *s = &t->nodes[slot];

	s->ino = n->ino;
	s->rdev = n->rdev;
	s->size = n->size;
	s->blocks = n->blocks;
	s->mtime_ns = n->mtime_ns;
	s->ctime_ns = n->ctime_ns;
	s->atime_ns = n->atime_ns;
	s->mode = n->mode;
	s->nlink = n->nlink;
}

uint32_t table_node_new(struct table *t, uint32_t space, const struct node *n)
{
	uint32_t slot = SLOT_TAKE(t, free_nodes, nodes_top, t->nodes_max);
	struct table_node *s;

	if (slot == UINT32_MAX)
		return slot;
	s = &t->nodes[slot];
	/* Never 0, so that no node id is one of the two that the mount itself has. */
	s->gen = (s->gen & 0x3fffffff) + 1;
	s->fid = n->fid;
	s->lookups = 1;
	table_node_shown(t, slot, n);
	__atomic_store_n(&s->space, space + 1, __ATOMIC_RELEASE);
	return slot;
}

void table_node_free(struct table *t, uint32_t slot)
{
	__atomic_store_n(&t->nodes[slot].space, 0, __ATOMIC_RELEASE);
	vec_push(&t->free_nodes, slot);
}

uint32_t table_node_slot(const struct table *t, uint64_t id)
{
	uint32_t slot = (uint32_t)id;

	if (slot >= TABLE_NODES || !t->nodes[slot].space || t->nodes[slot].gen != id >> 32)
		return UINT32_MAX;
	return slot;
}

/* --- handles ------------------------------------------------------------------------------------------------------ */

uint64_t table_handle_new(struct table *t, uint64_t ino, int flags, const struct content *c)
{
	uint32_t slot = SLOT_TAKE(t, free_handles, handles_top, t->handles_max);
	struct table_handle *h;

	if (slot == UINT32_MAX)
		return 0;
	h = &t->handles[slot];
	h->gen = (h->gen & 0x3fffffff) + 1;
	h->ino = ino;
	h->flags = flags;
	h->content = *c;
	__atomic_store_n(&h->used, 1, __ATOMIC_RELEASE);
	return (uint64_t)h->gen << 32 | slot;
}

struct table_handle *table_handle(const struct table *t, uint64_t fh)
{
	uint32_t slot = (uint32_t)fh;
	struct table_handle *h = slot < TABLE_HANDLES ? &t->handles[slot] : NULL;

	return h && h->used && h->gen == fh >> 32 ? h : NULL;
}

void table_handle_free(struct table *t, uint64_t fh)
{
	struct table_handle *h = table_handle(t, fh);

	if (!h)
		return;
	__atomic_store_n(&h->used, 0, __ATOMIC_RELEASE);
	vec_push(&t->free_handles, (uint32_t)fh);
}

/* --- spaces ------------------------------------------------------------------------------------------------------- */

uint32_t table_space(struct table *t, const char *id, bool make)
{
	uint32_t i, slot = UINT32_MAX;

	for (i = 0; i < t->head->spaces_top; i++) {
		uint32_t state = t->spaces[i].state;

		if ((state == SPACE_NEW || state == SPACE_SHOWN) && str_eq(t->spaces[i].id, id))
			return i;
		if (state == SPACE_FREE && slot == UINT32_MAX)
			slot = i;
	}
	if (!make)
		return UINT32_MAX;
	if (slot == UINT32_MAX && t->head->spaces_top < TABLE_SPACES)
		slot = t->head->spaces_top++;
	if (slot == UINT32_MAX)
		return slot;
	snprintf(t->spaces[slot].id, sizeof(t->spaces[slot].id), "%s", id);
	__atomic_store_n(&t->spaces[slot].state, SPACE_NEW, __ATOMIC_RELEASE);
	return slot;
}

/* --- intents ------------------------------------------------------------------------------------------------------ */

uint32_t table_intend(struct table *t, uint64_t unique, uint64_t fid)
{
	uint32_t i, at = (uint32_t)(unique / 2) % TABLE_INTENTS;

	for (i = 0; i < 64; i++, at = (at + 1) % TABLE_INTENTS) {
		struct table_intent *n = &t->intents[at];

		if (n->unique)
			continue;
		n->fid = fid;
		n->takeovers = t->head->takeovers;
		__atomic_store_n(&n->unique, unique, __ATOMIC_RELEASE);
		return at + 1;
	}
	return 0;
}

void table_intend_done(struct table *t, uint32_t intent)
{
	if (intent)
		__atomic_store_n(&t->intents[intent - 1].unique, 0, __ATOMIC_RELEASE);
}

uint32_t table_intended(const struct table *t, uint64_t unique, uint64_t *ret_fid)
{
	uint32_t i;

	for (i = 0; i < TABLE_INTENTS; i++)
		if (t->intents[i].unique == unique) {
			*ret_fid = t->intents[i].fid;
			return i + 1;
		}
	return 0;
}
