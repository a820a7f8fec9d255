/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_HOLD_H
#define HOST_BROKER_HOLD_H

/* What the process holds: the key, sealed files that are for it, and the values of those that were used. One thread. */
#include "host/broker/mask.h"
#include "seal/sealed.h"

enum { HOLD_MAX = 1000, HOLD_SEALED_MAX = 64 * 1024, HOLD_VALUE_MAX = 8 * 1024, HOLD_ANY_MAX = 48 * 1024 };

struct hold;

/* One secret. References are kept by requests under way, so that a rotation does not take the value away from them. */
struct held {
	struct seal_policy policy;
	struct buf sealed;
	struct secret *value; /* NULL: not opened yet */
	struct mask *mask;    /* with the value */
	unsigned refs;
};

/** hold_new() - read the key of @fd, which is made and written when the file is empty. Return: 0; as seal_key_parse();
 * -errno. */
int hold_new(int fd, struct hold **ret, struct err *e) MUST_CHECK;
void hold_free(struct hold **slot);
void hold_pub(struct hold *h, struct buf *to);
/** hold_open() - any sealed file. Return: as sealed_open() and sealed_value(). */
int hold_open(struct hold *h, struct span sealed, struct secret **ret, struct err *e) MUST_CHECK;
/** hold_give() - the value of a sealed file that is delivered as a file or a variable. Return: as hold_open(); -EACCES,
 * slug "wrong-delivery": it is for the broker alone; -EKEYEXPIRED "expired". */
int hold_give(struct hold *h, struct span sealed, struct secret **ret, struct err *e) MUST_CHECK;
/** hold_keep() - a sealed file that is for the broker, in the place of the one of its name. */
int hold_keep(struct hold *h, const char *name, struct span sealed, struct err *e) MUST_CHECK;
void hold_drop(struct hold *h, const char *name);
/** hold_find() - borrowed; NULL: none. */
struct held *hold_find(struct hold *h, const char *name);
/** hold_value() - see that the value is open. Return: 0; as hold_open(); -E2BIG "secret-too-long"; -EINVAL
 * "bad-value": it has bytes that no header may have. */
int hold_value(struct hold *h, struct held *x, struct err *e) MUST_CHECK;
struct held *held_ref(struct held *x);
void held_unref(struct held **slot);

#endif
