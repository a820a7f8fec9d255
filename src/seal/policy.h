/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_POLICY_H
#define SEAL_POLICY_H

/*
 * What is sealed together with a value: its name, where it may go and how, until when. All of it can be read without a
 * key and is authenticated with every chunk of the value. The layout is written and read in policy.c only;
 * docs/seal-format.md is normative.
 */
#include "seal/key.h"
#include "seal/request.h"

enum {
	SEAL_NAME_MAX = 128,
	SEAL_ID_WORD_MAX = 64,
	SEAL_HOST_MAX = 253 + 2 + 6,
	SEAL_OWNER_MAX = 32,
	SEAL_LIST_MAX = 32,
	SEAL_TO_MAX = 64,
	SEAL_PER_MINUTE_MAX = 1000000,
};
#define SEAL_BYTES_MAX ((uint64_t)1 << 50)

enum seal_delivery { SEAL_BROKER = 1, SEAL_FILE, SEAL_ENV };

struct seal_list {
	size_t n;
	char *v[SEAL_LIST_MAX]; /* sorted, none twice */
};

struct seal_policy {
	char name[SEAL_NAME_MAX + 1];
	enum seal_delivery delivery;
	uint64_t created_ms; /* since 1970 */
	uint64_t expires_ms; /* 0: never */
	struct seal_list templates, sandboxes, hosts; /* empty: any */
	char owner[SEAL_OWNER_MAX + 1]; /* of file delivery, an account of the sandbox; "": whoever runs commands */
	/* Of delivery by the broker, and of version 2: */
	struct seal_list methods, paths; /* empty: any; paths are of the host, from its root */
	uint64_t per_minute;		 /* requests of one sandbox; 0: any number */
	uint64_t body_max, answer_max;	 /* bytes of one request; 0: any number */
	char header[SEAL_PUT_NAME_MAX + 1], prefix[SEAL_PUT_PREFIX_MAX + 1]; /* it goes into this one only; "": any */
};

void seal_policy_fini(struct seal_policy *p);
/** seal_policy_add() - put a word into a list, in its order; one that is there is left alone. Return: 0; -EINVAL or
 * -E2BIG, slug "bad-policy". @kind is which of the lists. */
enum seal_scope { SEAL_TEMPLATE, SEAL_SANDBOX, SEAL_HOST, SEAL_METHOD, SEAL_PATH };
int seal_policy_add(struct seal_policy *p, enum seal_scope kind, const char *word, struct err *e) MUST_CHECK;
/** seal_policy_check() - whether it can be sealed. Return: 0; -EINVAL, slug "bad-policy". */
int seal_policy_check(const struct seal_policy *p, struct err *e) MUST_CHECK;
/** seal_policy_version() - the oldest format that can say it. */
uint8_t seal_policy_version(const struct seal_policy *p);
/** seal_policy_any_host() - is it for "*", whatever host the rules of a sandbox name? */
bool seal_policy_any_host(const struct seal_policy *p);
/** seal_policy_copy() - @to is as empty as after seal_policy_fini(). */
void seal_policy_copy(struct seal_policy *to, const struct seal_policy *from);

/* What a secret is called that a key of the API made for itself: of the key's id and the key's own word. */
#define SEAL_OWN_PREFIX "key."
#define SEAL_OWN_NAME SEAL_OWN_PREFIX "%.32s.%.64s"

/** seal_name_ok() - a secret's name: a letter or '_', then letters, digits, '_', '-', '.'. */
bool seal_name_ok(const char *name);
/** seal_delivery_word() / seal_delivery_of() - "broker", "file", "env"; 0 for no such word. */
const char *seal_delivery_word(enum seal_delivery d);
enum seal_delivery seal_delivery_of(const char *word);

/* For what a value is wanted. NULL: nobody said. */
struct seal_use {
	const char *name, *template, *sandbox, *host;
	bool any;	 /* do not ask about templates, sandboxes and hosts */
	bool ruled;	 /* a rule of this sandbox names the host, so that "*" is it too */
	uint64_t now_ms; /* since 1970 */
};

/** seal_policy_allows() - whether a value may be had for this. What the policy restricts must have been said.
 * Return: 0; -EXDEV, slug "wrong-name", "wrong-template", "wrong-sandbox" or "wrong-host"; -EKEYEXPIRED "expired". */
int seal_policy_allows(const struct seal_policy *p, const struct seal_use *use, struct err *e) MUST_CHECK;

/** seal_policy_permits() - whether it may be used for such a request. @path is from the root of the host, in the one
 * form of service_path_clean(). NULL: nobody said. Return: 0; -EXDEV, slug "method" or "path". */
int seal_policy_permits(const struct seal_policy *p, const char *method, const char *path, struct err *e) MUST_CHECK;
/** seal_policy_puts() - whether it may be put in this header, behind this; NULL: elsewhere. Return: 0; -EXDEV, slug
 * "header". */
int seal_policy_puts(const struct seal_policy *p, const char *header, const char *prefix, struct err *e) MUST_CHECK;

/** seal_host_matches() - @pattern "a.b", "a.b:8443" or "*.b" against a host, with its port where it is not 443. "*.b"
 * is not "b", and stands for one label; "*" is none by itself. */
bool seal_host_matches(const char *pattern, const char *host);

#endif
