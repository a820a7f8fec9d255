/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key has 160 random bits behind its id, so a plain hash at rest is enough: there is nothing to guess. The id only
 * finds the row; what decides is a comparison of hashes in constant time, also when there is no such row.
 */
#include "host/api/keys.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/str.h"
#include "base/vec.h"
#include "seal/digest.h"

#include <errno.h>
#include <stdio.h>

const char *const keys_scopes[] = { "read", "files", "run", "admin", "others", NULL };

struct entry {
	struct access_key k;
	int64_t used_ns;
	uint64_t tokens_us, filled; /* the bucket: a request takes 1 s / per_second out of it */
};

struct keys {
	struct store *store;
	struct lock lock;
	VEC(struct entry) all;
};

static int load_one(void *ctx, const struct access_key *k)
{
	struct keys *keys = ctx;

	vec_push(&keys->all, ((struct entry){ .k = *k }));
	return 0;
}

static int older(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->k.created_ns < y->k.created_ns ? -1 : x->k.created_ns > y->k.created_ns;
}

int keys_new(struct store *store, struct keys **ret, struct err *e)
{
	AUTO(keys_free) struct keys *keys = NEW(struct keys);
	int r;

	keys->store = store;
	lock_init(&keys->lock, "keys", LOCK_LEAF);
	r = store_access_each(store, load_one, keys);
	if (r < 0)
		return err_sys(e, r, "reading the API keys");
	if (keys->all.len)
		qsort(keys->all.v, keys->all.len, sizeof(keys->all.v[0]), older);
	*ret = take(&keys);
	return 0;
}

void keys_free(struct keys **slot)
{
	struct keys *keys = take(slot);

	if (!keys)
		return;
	vec_fini(&keys->all);
	lock_fini(&keys->lock);
	free(keys);
}

static struct entry *find(struct keys *keys, const char *id_or_name)
{
	size_t i;

	for (i = 0; i < keys->all.len; i++)
		if (str_eq(keys->all.v[i].k.id, id_or_name))
			return &keys->all.v[i];
	for (i = 0; i < keys->all.len; i++)
		if (str_eq(keys->all.v[i].k.name, id_or_name))
			return &keys->all.v[i];
	return NULL;
}

static struct digest hash(const char *text)
{
	return digest_of("api-key", SPAN(text, KEYS_TEXT));
}

/* A bucket holds what a second brings. */
static bool take_token(struct entry *x)
{
	uint64_t now = clock_now(), cost;

	if (!x->k.per_second)
		return true;
	cost = 1000000 / x->k.per_second;
	x->tokens_us = x->filled ? MIN(x->tokens_us + (now - x->filled) / 1000, (uint64_t)1000000) : 1000000;
	x->filled = now;
	if (x->tokens_us < cost)
		return false;
	x->tokens_us -= cost;
	return true;
}

static struct entry *by_id(struct keys *keys, const char *id)
{
	struct entry *x = NULL;
	size_t i;

	for (i = 0; i < keys->all.len; i++)
		if (memcmp(keys->all.v[i].k.id, id, ACCESS_ID_LEN) == 0)
			x = &keys->all.v[i];
	return x;
}

static int admit(struct keys *keys, const char *text, unsigned need, struct http_who *ret, struct err *e)
{
	struct digest is = hash(text), none = { { 0 } };
	struct entry *x = by_id(keys, text + 4);

	if (!secret_eq(is.b, x ? x->k.hash.b : none.b, DIGEST_LEN) || !x)
		return err_set(e, -EKEYREJECTED, "key-unknown", "this key is not known, or not any more");
	if (x->k.expires_ns && x->k.expires_ns <= clock_wall())
		return err_set(e, -EKEYEXPIRED, "key-expired", "the key %s has expired", x->k.name);
	/* Known from here on: refusals are logged with its name. */
	snprintf(ret->id, sizeof(ret->id), "%s", x->k.id);
	snprintf(ret->name, sizeof(ret->name), "%s", x->k.name);
	ret->sees_all = x->k.scopes & (ACCESS_ADMIN | ACCESS_OTHERS);
	if (need != HTTP_ANY && !(x->k.scopes & ACCESS_ADMIN) && !(need && (x->k.scopes & need) == need))
		return err_set(e, -EACCES, "key-scope", "the key %s may not do this", x->k.name);
	if (!take_token(x))
		return err_set(e, -EUSERS, "rate-limit", "the key %s may ask %u times a second", x->k.name,
			       x->k.per_second);
	x->used_ns = clock_wall();
	return 0;
}

int keys_admit(void *ctx, const char *credential, unsigned need, struct http_who *ret, struct err *e)
{
	struct keys *keys = ctx;
	int r;

	if (!credential)
		return err_set(e, -ENOKEY, "key-needed", "an API key is needed: X-API-Key, or Authorization: Bearer");
	if (strlen(credential) != KEYS_TEXT || !str_starts(credential, "e2b_"))
		return err_set(e, -EKEYREJECTED, "key-unknown", "a key is e2b_ and %d digits", KEYS_DIGITS);
	lock_take(&keys->lock);
	r = admit(keys, credential, need, ret, e);
	lock_drop(&keys->lock);
	return r;
}

static int check_new(struct keys *keys, const struct access_key *k, struct err *e)
{
	if (!str_is_id(k->name, ACCESS_NAME_MAX))
		return err_set(e, -EINVAL, "bad-name", "names are 1 to 64 of a-z, 0-9 and -, not - at an end");
	if (find(keys, k->name))
		return err_set(e, -EEXIST, "name-taken", "a key called %s exists", k->name);
	if (keys->all.len >= KEYS_MAX)
		return err_set(e, -EUSERS, "too-many-keys", "there are %d keys, which is the limit", KEYS_MAX);
	return 0;
}

int keys_create(struct keys *keys, struct access_key *k, char text[KEYS_TEXT + 1], struct err *e)
{
	uint8_t raw[KEYS_DIGITS / 2];
	int r;

	memcpy(text, "e2b_", 4);
	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), text + 4);
	memcpy(k->id, text + 4, ACCESS_ID_LEN);
	k->id[ACCESS_ID_LEN] = '\0';
	k->hash = hash(text);
	k->created_ns = clock_wall();
	lock_take(&keys->lock);
	r = check_new(keys, k, e);
	if (r == 0 && find(keys, k->id))
		r = err_set(e, -EAGAIN, "again", "a key with this id exists: try again");
	if (r == 0) /* takes the name; nobody has the key yet */
		vec_push(&keys->all, ((struct entry){ .k = *k }));
	lock_drop(&keys->lock);
	if (r < 0)
		return r;
	r = store_access_put(keys->store, k, e);
	if (r < 0) {
		(void)!keys_revoke(keys, k->id, NULL, NULL);
		return r;
	}
	lock_take(&keys->lock); /* revoked by its name before its row was there? */
	if (!find(keys, k->id))
		r = err_set(e, -ENOENT, "no-such-key", "the key %s was revoked meanwhile", k->name);
	lock_drop(&keys->lock);
	return r < 0 && store_access_del(keys->store, k->id, NULL) < 0 ? -EIO : r;
}

int keys_revoke(struct keys *keys, const char *id_or_name, struct access_key *ret, struct err *e)
{
	struct access_key was = { .scopes = 0 };
	struct entry *x;

	lock_take(&keys->lock);
	x = find(keys, id_or_name);
	if (x) {
		was = x->k;
		memmove(x, x + 1, (size_t)(keys->all.v + keys->all.len - x - 1) * sizeof(*x));
		keys->all.len--;
	}
	lock_drop(&keys->lock);
	if (!was.scopes)
		return err_set(e, -ENOENT, "no-such-key", "no key is called \"%.64s\"", id_or_name);
	if (ret)
		*ret = was;
	return store_access_del(keys->store, was.id, e);
}

int keys_each(struct keys *keys, int (*fn)(void *ctx, const struct access_key *k, int64_t used_ns), void *ctx)
{
	struct entry *copy;
	size_t i, n;
	int r = 0;

	lock_take(&keys->lock);
	n = keys->all.len;
	copy = must_calloc(n + 1, sizeof(*copy));
	for (i = 0; i < n; i++)
		copy[i] = keys->all.v[i];
	lock_drop(&keys->lock);
	for (i = 0; r == 0 && i < n; i++)
		r = fn(ctx, &copy[i].k, copy[i].used_ns);
	free(copy);
	return r;
}

uint32_t keys_sandboxes(struct keys *keys, const char *id)
{
	struct entry *x;
	uint32_t n;

	lock_take(&keys->lock);
	x = find(keys, id);
	n = x ? x->k.sandboxes : 0;
	lock_drop(&keys->lock);
	return n;
}
