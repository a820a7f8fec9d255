/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SECRET_INSIDE_H
#define HOST_SECRET_INSIDE_H

/* What the files of this room share. Not for other rooms. */
#include "base/lock.h"
#include "base/vec.h"
#include "host/secret/secret.h"

struct entry {
	struct seal_policy policy;
	uint32_t number;
	int64_t added_ns;
	uint64_t newest_ms; /* when the newest that ever was here was sealed */
	size_t n_past;
	struct digest past[SECRETS_PAST_MAX]; /* oldest first; the present one is the last */
	bool is_here, is_signed;
	char *note; /* of a key's own; NULL: none */
};

struct secrets {
	struct store *store;
	struct secrets_opener opener;
	struct lock lock;
	pthread_cond_t cond;
	bool busy;		    /* guarded by lock, as all below */
	VEC(struct entry *) all;    /* in the order of names */
	uint64_t seq;
	struct digest link;
};

void entry_free(struct entry **slot);

/* record.c: an entry as the store has it. @sealed empty: it was removed. */
struct record_parts {
	struct span note, sealed; /* of the record */
};
void record_pack(const struct entry *x, struct span sealed, struct buf *to);
/* Policy and note of @x are left alone. Return: 0; -EIO. */
int record_unpack(struct span record, struct entry *x, struct record_parts *ret) MUST_CHECK;

/* secret.c: changes are made one after the other, between these two; nobody else changes the table meanwhile. */
void secrets_begin(struct secrets *s);
void secrets_end(struct secrets *s);
/* The lock is held, or it is between those two; @ret_at: where it is, or would be. */
struct entry *secrets_find(struct secrets *s, const char *name, size_t *ret_at);
/* @sealed and its entry, which is taken over, come in the place of what has that name, or of nothing. Return: as
 * secrets_add(). */
int secrets_replace(struct secrets *s, struct span sealed, struct entry **slot, bool is_new, const char *who,
		    struct err *e) MUST_CHECK;

#endif
