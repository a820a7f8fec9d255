/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_API_KEYS_H
#define HOST_API_KEYS_H

/*
 * API keys: "e2b_" and 48 hexadecimal digits, of which the first 8 are the key's id. All keys are in memory, so that
 * admitting a request never waits; the store has them for the next daemon. Any thread, unless it says otherwise.
 */
#include "host/http/http.h"
#include "host/store/store.h"

struct keys;

enum { KEYS_DIGITS = 48, KEYS_TEXT = 4 + KEYS_DIGITS, KEYS_MAX = 1000 };

/** keys_new() - read them from the store. Return: 0 or -errno. */
int keys_new(struct store *store, struct keys **ret, struct err *e) MUST_CHECK;
void keys_free(struct keys **keys);
/** keys_admit() - an http_gate's admit(); the context is a struct keys. Slugs key-needed, key-unknown, key-expired,
 * key-scope, rate-limit. */
int keys_admit(void *ctx, const char *credential, unsigned need, struct http_who *ret, struct err *e);
/** keys_create() - make one. @k: name, scopes, limits and expiry are given, the rest is filled. @text: the key itself,
 * shown this once. Return: 0; -EEXIST slug "name-taken"; -EUSERS slug "too-many-keys"; -errno. */
int keys_create(struct keys *keys, struct access_key *k, char text[KEYS_TEXT + 1], struct err *e) MUST_CHECK;
/** keys_revoke() - by id or name, at once and for good; @ret is what it was. Return: 0; -ENOENT slug "no-such-key". */
int keys_revoke(struct keys *keys, const char *id_or_name, struct access_key *ret, struct err *e) MUST_CHECK;
/** keys_each() - oldest first. @used_ns: when it last was admitted, 0: not since the daemon started. */
int keys_each(struct keys *keys, int (*fn)(void *ctx, const struct access_key *k, int64_t used_ns), void *ctx);
/** keys_sandboxes() - how many sandboxes this key may have at a time, 0: no limit. */
uint32_t keys_sandboxes(struct keys *keys, const char *id);

/* The words of scopes, NULL behind the last; scope i is the bit 1 << i. */
extern const char *const keys_scopes[];

#endif
