/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing and backward-shift deletion: no tombstones, at most 3/4 full. */
#include "base/map.h"

#include <sys/random.h>

static uint64_t seed(void)
{
	static uint64_t value;
	uint64_t v = __atomic_load_n(&value, __ATOMIC_RELAXED);

	if (!v) {
		if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != (ssize_t)sizeof(v))
			v = (uint64_t)(uintptr_t)&v;
		v |= 1;
		uint64_t zero = 0;
		if (!__atomic_compare_exchange_n(&value, &zero, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			v = zero;
	}
	return v;
}

/* The finaliser of a 64-bit mixer: every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	return x;
}

static uint64_t hash_num(uint64_t num)
{
	return mix(num ^ seed()) | 1;
}

static uint64_t hash_key(struct span key)
{
	const uint8_t *p = key.p;
	uint64_t h = seed() ^ key.len, w;
	size_t i;

	for (i = 0; i + 8 <= key.len; i += 8) {
		memcpy(&w, p + i, 8);
		h = mix(h ^ w) + seed();
	}
	w = 0;
	if (i < key.len)
		memcpy(&w, p + i, key.len - i);
	return mix(h ^ w) | 1;
}

static bool slot_is(const struct map_slot *s, uint64_t hash, struct span key, uint64_t num)
{
	if (s->hash != hash || (s->key != NULL) != (key.p != NULL))
		return false;
	if (!key.p)
		return s->num == num;
	return s->num == key.len && memcmp(s->key, key.p, key.len) == 0;
}

static struct map_slot *find(const struct map *m, uint64_t hash, struct span key, uint64_t num)
{
	size_t i;

	if (!m->cap)
		return NULL;
	for (i = hash & (m->cap - 1); m->slots[i].hash; i = (i + 1) & (m->cap - 1))
		if (slot_is(&m->slots[i], hash, key, num))
			return &m->slots[i];
	return NULL;
}

static void grow(struct map *m)
{
	struct map old = *m;
	size_t i, k;

	m->cap = old.cap ? old.cap * 2 : 8;
	m->slots = must_calloc(m->cap, sizeof(*m->slots));
	for (i = 0; i < old.cap; i++) {
		if (!old.slots[i].hash)
			continue;
		for (k = old.slots[i].hash & (m->cap - 1); m->slots[k].hash;)
			k = (k + 1) & (m->cap - 1);
		m->slots[k] = old.slots[i];
	}
	free(old.slots);
}

static void *put(struct map *m, uint64_t hash, struct span key, uint64_t num, void *value)
{
	struct map_slot *s = find(m, hash, key, num);
	void *old;
	size_t i;

	if (s) {
		old = s->value;
		s->value = value;
		return old;
	}
	if ((m->len + 1) * 4 > m->cap * 3)
		grow(m);
	for (i = hash & (m->cap - 1); m->slots[i].hash;)
		i = (i + 1) & (m->cap - 1);
	m->slots[i] = (struct map_slot){
		.hash = hash,
		.key = key.p ? must_memdup(key.p, key.len) : NULL,
		.num = key.p ? key.len : num,
		.value = value,
	};
	m->len++;
	return NULL;
}

static void *drop(struct map *m, struct map_slot *s)
{
	size_t hole, i, home;
	void *old;

	if (!s)
		return NULL;
	old = s->value;
	free(s->key);
	hole = (size_t)(s - m->slots);
	for (i = (hole + 1) & (m->cap - 1); m->slots[i].hash; i = (i + 1) & (m->cap - 1)) {
		home = m->slots[i].hash & (m->cap - 1);
		if (((i - home) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole] = (struct map_slot){ .hash = 0 };
	m->len--;
	return old;
}

/* A key of length zero still needs a pointer, to tell it from a number key. */
static struct span solid(struct span key)
{
	return key.p ? key : SPAN("", 0);
}

void *map_get(const struct map *m, struct span key)
{
	struct map_slot *s = find(m, hash_key(solid(key)), solid(key), 0);

	return s ? s->value : NULL;
}

void *map_put(struct map *m, struct span key, void *value)
{
	return put(m, hash_key(solid(key)), solid(key), 0, value);
}

void *map_remove(struct map *m, struct span key)
{
	return drop(m, find(m, hash_key(solid(key)), solid(key), 0));
}

void *map_get_u64(const struct map *m, uint64_t key)
{
	struct map_slot *s = find(m, hash_num(key), SPAN_NULL, key);

	return s ? s->value : NULL;
}

void *map_put_u64(struct map *m, uint64_t key, void *value)
{
	return put(m, hash_num(key), SPAN_NULL, key, value);
}

void *map_remove_u64(struct map *m, uint64_t key)
{
	return drop(m, find(m, hash_num(key), SPAN_NULL, key));
}

struct map_slot *map_next(const struct map *m, size_t *pos)
{
	while (*pos < m->cap) {
		struct map_slot *s = &m->slots[(*pos)++];

		if (s->hash)
			return s;
	}
	return NULL;
}

void *map_take_any(struct map *m)
{
	struct map_slot *s;
	size_t pos = m->taken;

	if (!m->len)
		return NULL;
	/* On from the last one, so that to take all costs one walk; what came before it since is found by a second. */
	s = map_next(m, &pos);
	if (!s) {
		pos = 0;
		s = map_next(m, &pos);
	}
	m->taken = (size_t)(s - m->slots);
	return drop(m, s);
}

void map_fini(struct map *m)
{
	size_t i;

	for (i = 0; i < m->cap; i++)
		free(m->slots[i].key);
	free(m->slots);
	*m = MAP_NULL;
}
