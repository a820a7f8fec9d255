/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SECRET_SECRET_H
#define HOST_SECRET_SECRET_H

/*
 * The secrets that this daemon keeps: sealed files as they came, what was done with them, and opening one for whom its
 * policy allows. docs/secrets.md. Any thread that may block, unless it says otherwise.
 */
#include "host/store/store.h"
#include "seal/sealed.h"

struct secrets;

enum { SECRETS_MAX = 1000, SECRETS_SEALED_MAX = 64 * 1024, SECRETS_VALUE_MAX = 48 * 1024, SECRETS_PAST_MAX = 32 };
/* Of those that keys made for themselves: of one key, of all, bytes of a value, of a note, of a name. */
enum {
	SECRETS_OWN_MAX = 100, SECRETS_OWN_ALL = 800, SECRETS_OWN_VALUE_MAX = 8 * 1024, SECRETS_NOTE_MAX = 16 * 1024,
	SECRETS_WORD_MAX = 64
};

/* Whoever has the key. */
struct secrets_opener {
	void *ctx;
	struct seal_pub pub;
	/* Open a sealed file; @ret NULL: only say whether it opens. Return: as sealed_open() and sealed_value(). */
	int (*open)(void *ctx, struct span sealed, struct secret **ret, struct err *e);
	/* One that it uses itself, in the place of what has that name; empty: none. */
	void (*keep)(void *ctx, const char *name, struct span sealed);
};

/** secrets_new() - Return: 0 or -errno. */
int secrets_new(struct store *store, const struct secrets_opener *opener, struct secrets **ret,
		struct err *e) MUST_CHECK;
/** secrets_hand_over() - tell the opener all that it uses itself. */
void secrets_hand_over(struct secrets *s);
void secrets_free(struct secrets **slot);
/** secrets_pub() - append the public key, and its id. No lock. */
void secrets_pub(const struct secrets *s, struct buf *to, char id[SEAL_ID_TEXT]);

/* Of one secret; the policy is borrowed for the call. */
struct secrets_info {
	const struct seal_policy *policy;
	uint32_t number; /* 1, and one more with each rotation */
	int64_t added_ns;
	bool is_signed;
	const char *note; /* of one that a key made for itself, as it was given; else NULL */
};

/** secrets_add() - keep a sealed file under the name that is in it. It must open with our key. @who is for the audit.
 * Return: 0; -EEXIST slug "secret-exists", or "old-secret": this or a later version was here before; -EINVAL
 * "bad-secret" (damaged, too long), "wrong-key", "expired". */
int secrets_add(struct secrets *s, struct span sealed, const char *who, struct err *e) MUST_CHECK;
/** secrets_rotate() - put another one into its place, which must be newer, and be delivered as it was, or as @deliver
 * says (NULL: nothing is said). Return: as above; -ENOENT "no-such-secret"; -EINVAL "other-delivery". */
int secrets_rotate(struct secrets *s, const char *name, struct span sealed, const char *deliver, const char *who,
		   struct err *e) MUST_CHECK;
/** secrets_remove() - forget it; that older versions are old is remembered. Return: 0; -ENOENT. */
int secrets_remove(struct secrets *s, const char *name, const char *who, struct err *e) MUST_CHECK;
/** secrets_each() - in the order of names. @fn must not block. */
int secrets_each(struct secrets *s, int (*fn)(void *ctx, const struct secrets_info *info), void *ctx);
/** secrets_audit() - rows from this number on, oldest first. @fn must not block. */
int secrets_audit(struct secrets *s, uint64_t from, int (*fn)(void *ctx, const struct audit_row *row), void *ctx);

/* One that a key makes for itself: the value comes in clear text and is sealed here, to our own key, for the broker.
 * Its name here is key.ID.NAME, which no sealed file may have that comes. */
struct secrets_own {
	const char *owner;    /* id of the key; "": the socket */
	const char *word;     /* NAME */
	struct secret *value; /* borrowed */
	const char *hosts;    /* for these alone, "a.example,b.example"; NULL: for those that rules of sandboxes name */
	const char *note;     /* kept beside it in clear text */
};

/** secrets_own_put() - a new one, or the next version. Return: 0; -EEXIST "secret-exists", -ENOENT "no-such-secret";
 * -EUSERS "too-many-secrets"; -EINVAL "bad-secret", "bad-policy". */
int secrets_own_put(struct secrets *s, const struct secrets_own *o, bool is_new, struct err *e) MUST_CHECK;
/** secrets_own_forget() - all that this key made for itself. Return: how many; -errno: some are left. */
int secrets_own_forget(struct secrets *s, const char *owner, const char *who, struct err *e) MUST_CHECK;
/** secrets_own_name() - key.ID.NAME. Return: 0; -EINVAL: NAME is none. */
int secrets_own_name(const char *owner, const char *word, char to[SEAL_NAME_MAX + 1]) MUST_CHECK;
/** secrets_own_word() - NAME of one that a key made for itself, in @name; NULL: it is another. */
const char *secrets_own_word(const char *name);
/** secrets_own_may() - may whoever has this key use what has this name? Everybody, where it is nobody's own. */
bool secrets_own_may(const char *name, const char *who);

/* For whom one is wanted. */
struct secrets_wish {
	const char *name, *template_, *sandbox, *who;
	const char *command; /* NULL: none, it is for the sandbox */
};

/** secrets_look() - how it would be delivered, and whether it may be: scope and expiry. A refusal is audited.
 * Return: 0; -ENOENT "no-such-secret"; -EACCES "wrong-template", "wrong-sandbox", "expired". */
int secrets_look(struct secrets *s, const struct secrets_wish *w, enum seal_delivery *ret, struct err *e) MUST_CHECK;
/** secrets_deliver() - the same, and open it. Audited either way. @owner: whose file it is, "": nobody in particular.
 */
int secrets_deliver(struct secrets *s, const struct secrets_wish *w, enum seal_delivery how, struct secret **ret,
		    char owner[SEAL_OWNER_MAX + 1], struct err *e) MUST_CHECK;

/** secrets_seen() - a row of the audit: the value of @name was found in @where, as @form says. Return: 0 or -errno. */
int secrets_seen(struct secrets *s, const char *name, const char *sandbox, const char *who, const char *where,
		 const char *form, struct err *e) MUST_CHECK;

/* What was done with one that is used elsewhere. Texts are clean, "" when there is none. */
struct secrets_used {
	const char *secret, *service, *sandbox, *key, *method, *host, *path, *rule;
	const char *exec, *command; /* "": not known */
	bool first, refused;
	uint32_t status, count;
	uint64_t up_b, down_b;
};

/** secrets_told() - write it down: durable when this returns 0. */
int secrets_told(struct secrets *s, const struct secrets_used *u, struct err *e) MUST_CHECK;

#endif
