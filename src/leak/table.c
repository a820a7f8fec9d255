/* SPDX-License-Identifier: Apache-2.0 */
#include "leak/table.h"

#include "base/lock.h"
#include "base/own.h"
#include "leak/forms.h"
#include "seal/secret.h"

#include <errno.h>
#include <string.h>

enum { MAP_BITS_LEAST = 15, MAP_BITS_MOST = 22, BITS_PER_ENTRY = 32, PRINTS_MAX = 1 << 16, FORMS_MOST = 13 };

struct leaks {
	unsigned refs; /* atomic */
	struct lock lock;
	struct leak_key key;
	struct leak_print *prints;
	size_t nprints, room;
	char **names;
	uint64_t *whole; /* hash_keyed() of each value */
	unsigned count, version;	 /* atomic where read without the lock */
	struct leak_table *table;
};

struct leaks *leaks_new(void)
{
	struct leaks *l = NEW(struct leaks);

	l->refs = 1;
	lock_init(&l->lock, "leaks", LOCK_LEAF);
	random_bytes(&l->key, sizeof(l->key));
	l->key.block |= 1;
	l->key.window |= 1;
	return l;
}

struct leaks *leaks_ref(struct leaks *l)
{
	__atomic_add_fetch(&l->refs, 1, __ATOMIC_RELAXED);
	return l;
}

void leaks_unref(struct leaks **slot)
{
	struct leaks *l = take(slot);
	unsigned i;

	if (!l || __atomic_sub_fetch(&l->refs, 1, __ATOMIC_ACQ_REL))
		return;
	leak_table_unref(&l->table);
	for (i = 0; i < l->count; i++)
		str_free(&l->names[i]);
	mem_free(&l->names);
	mem_free(&l->whole);
	mem_free(&l->prints);
	lock_fini(&l->lock);
	wipe(&l->key, sizeof(l->key));
	free(l);
}

unsigned leaks_count(const struct leaks *l)
{
	return __atomic_load_n(&l->count, __ATOMIC_ACQUIRE);
}

unsigned leaks_version(const struct leaks *l)
{
	return __atomic_load_n(&l->version, __ATOMIC_ACQUIRE);
}

/* --- a table ------------------------------------------------------------------------------------------------------ */

void leak_table_unref(struct leak_table **slot)
{
	struct leak_table *t = take(slot);

	if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
		return;
	wipe(&t->key, sizeof(t->key));
	mem_free(&t->bits);
	mem_free(&t->entries);
	mem_free(&t->prints);
	mem_free(&t->names);
	free(t);
}

struct leak_table *leaks_table(struct leaks *l)
{
	struct leak_table *t;

	lock_take(&l->lock);
	t = l->table;
	if (t)
		__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	lock_drop(&l->lock);
	return t;
}

/* The blocks of what is being added: their hashes are made while the bytes are there, and kept in the entries. */
struct adding {
	struct leaks *leaks;
	uint32_t (*blocks)[LEAK_STEP]; /* of each new print */
	size_t first;		       /* print that is new */
};

static struct leak_table *table_new(struct leaks *l, const struct leak_table *old, const struct adding *a)
{
	struct leak_table *t = NEW(struct leak_table);
	size_t n = l->nprints * LEAK_STEP, i, k;
	unsigned bits = MAP_BITS_LEAST;

	while (bits < MAP_BITS_MOST && (1UL << bits) < n * BITS_PER_ENTRY)
		bits++;
	t->refs = 1;
	t->version = l->version + 1;
	t->shift = 32 - bits;
	t->key = l->key;
	t->bits = must_calloc((1UL << bits) / 64, sizeof(*t->bits));
	t->entries = must_calloc(n, sizeof(*t->entries));
	t->prints = must_memdup(l->prints, l->nprints * sizeof(*l->prints));
	t->nprints = l->nprints;
	t->names = must_memdup(l->names, l->count * sizeof(*l->names));
	for (i = 0; i < l->nprints; i++) {
		for (k = 0; k < LEAK_STEP; k++) {
			struct leak_entry *e = &t->entries[i * LEAK_STEP + k];
			uint32_t bit;

			e->hash = i < a->first ? old->entries[i * LEAK_STEP + k].hash : a->blocks[i - a->first][k];
			e->print = (uint32_t)i;
			e->back = (uint32_t)(l->prints[i].at + k);
			e->next = t->heads[leak_head(e->hash)];
			t->heads[leak_head(e->hash)] = (uint32_t)(i * LEAK_STEP + k + 1);
			bit = e->hash >> t->shift;
			t->bits[bit / 64] |= 1UL << (bit % 64);
		}
	}
	return t;
}

/* --- a value ------------------------------------------------------------------------------------------------------ */

static void add_form(void *ctx, enum leak_form form, struct span bytes)
{
	struct adding *a = ctx;
	struct leaks *l = a->leaks;
	struct leak_print print = { .mac = hash_keyed(l->key.mac, bytes.p, bytes.len),
				    .value = (uint16_t)l->count,
				    .len = (uint8_t)bytes.len,
				    .form = (uint8_t)form };
	const uint8_t *window;
	size_t i;

	for (i = a->first; i < l->nprints; i++)
		if (l->prints[i].mac == print.mac && l->prints[i].len == print.len)
			return;
	print.at = (uint8_t)((bytes.len - LEAK_MIN) / 2);
	window = (const uint8_t *)bytes.p + print.at;
	print.window = leak_window(&l->key, window);
	if (l->nprints == l->room) {
		l->room = l->room ? 2 * l->room : 64;
		l->prints = realloc(l->prints, l->room * sizeof(*l->prints));
		a->blocks = realloc(a->blocks, (l->room - a->first) * sizeof(*a->blocks));
		if (!l->prints || !a->blocks)
			abort();
	}
	for (i = 0; i < LEAK_STEP; i++)
		a->blocks[l->nprints - a->first][i] = leak_block(&l->key, window + i);
	l->prints[l->nprints++] = print;
}

/* The head of a key in PEM's armour is the same in every such key. */
static struct span without_armour(struct span value)
{
	static const char begin[] = "-----BEGIN ";
	const char *end;
	size_t skip;

	if (value.len < 256 || memcmp(value.p, begin, sizeof(begin) - 1) != 0)
		return value;
	end = memchr(value.p, '\n', value.len);
	skip = end ? (size_t)(end - (const char *)value.p) + 1 + 48 : 0;
	return skip && skip + LEAK_PIECE < value.len ? SPAN((const char *)value.p + skip, value.len - skip) : value;
}

static bool is_dull(struct span piece)
{
	const uint8_t *p = piece.p;

	return piece.len && memcmp(p, p + 1, piece.len - 1) == 0;
}

/* Whole where they reach, else spread; the last one ends with the value. */
static void add_pieces(struct adding *a, struct span value)
{
	size_t n = (value.len + LEAK_PIECE - 1) / LEAK_PIECE, i;
	size_t len = MIN(value.len, (size_t)LEAK_PIECE), last = value.len - len;
	size_t count = MIN(n, (size_t)LEAK_PIECES_MAX);

	for (i = 0; i < count; i++) {
		size_t at = n <= LEAK_PIECES_MAX ? MIN(i * LEAK_PIECE, last) : i * last / (count - 1);
		struct span piece = SPAN((const char *)value.p + at, len);

		if (!is_dull(piece))
			forms_each(piece, add_form, a);
	}
}

static int add(struct leaks *l, const char *name, struct span value)
{
	struct adding a = { .leaks = l, .first = l->nprints };
	uint64_t whole = hash_keyed(l->key.mac, value.p, value.len);
	struct leak_table *old = l->table;
	unsigned i;

	for (i = 0; i < l->count; i++)
		if (l->whole[i] == whole && strcmp(l->names[i], name) == 0)
			return 0;
	if (l->count == LEAK_VALUES_MAX || l->nprints + LEAK_PIECES_MAX * FORMS_MOST > PRINTS_MAX)
		return -ENOSPC;
	a.blocks = must_calloc(l->room - l->nprints + 1, sizeof(*a.blocks));
	add_pieces(&a, without_armour(value));
	if (l->nprints == a.first) {
		free(a.blocks);
		return -EINVAL;
	}
	if ((l->count & (l->count - 1)) == 0) { /* a power of two: the room is used up */
		l->names = realloc(l->names, MAX(2 * l->count, 1U) * sizeof(*l->names));
		l->whole = realloc(l->whole, MAX(2 * l->count, 1U) * sizeof(*l->whole));
		if (!l->names || !l->whole)
			abort();
	}
	l->names[l->count] = must_strdup(name);
	l->whole[l->count] = whole;
	__atomic_store_n(&l->count, l->count + 1, __ATOMIC_RELEASE);
	l->table = table_new(l, old, &a);
	__atomic_store_n(&l->version, l->table->version, __ATOMIC_RELEASE);
	leak_table_unref(&old);
	free(a.blocks);
	return 0;
}

int leaks_add(struct leaks *l, const char *name, struct span value)
{
	const char *p = value.p;
	int r;

	while (value.len && (p[value.len - 1] == '\n' || p[value.len - 1] == '\r'))
		value.len--;
	if (value.len < LEAK_MIN || strlen(name) > LEAK_NAME_MAX)
		return -EINVAL;
	lock_take(&l->lock);
	r = add(l, name, value);
	lock_drop(&l->lock);
	return r;
}
