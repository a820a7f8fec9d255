/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_KEY_H
#define SEAL_KEY_H

/*
 * Keys that things are sealed to, and signed with: one seed makes an X25519 pair for opening and an Ed25519 pair for
 * signatures. As text they are one line each; docs/seal-format.md, "Keys".
 */
#include "seal/secret.h"

enum { SEAL_ID_LEN = 8, SEAL_ID_TEXT = 17, SEAL_KEY_FILE_MAX = 16384, SEAL_PASS_MAX = 1024 };

struct seal_pub {
	uint8_t box[32], sign[32];
};

struct seal_id {
	uint8_t b[SEAL_ID_LEN];
};

struct seal_key; /* has the secret half */

/** seal_key_new() - from the kernel's random generator. Return: 0 or -ENOMEM. */
int seal_key_new(struct seal_key **ret) MUST_CHECK;
/** seal_key_of() - the key of a seed of 32 bytes: for test vectors. Return: 0; -EINVAL; -ENOMEM. */
int seal_key_of(struct secret *seed, struct seal_key **ret) MUST_CHECK;
void seal_key_free(struct seal_key **slot);
const struct seal_pub *seal_key_pub(const struct seal_key *k);

/** seal_pub_id() - the name of a key: the first bytes of the digest of its public half. */
struct seal_id seal_pub_id(const struct seal_pub *p);
void seal_id_text(const struct seal_id *id, char ret[SEAL_ID_TEXT]);
/** seal_pub_text() - append "berth-pub-1:…", without a newline. */
void seal_pub_text(const struct seal_pub *p, struct buf *to);
/** seal_pub_parse() - the reverse, one line without spaces. Return: 0; -EINVAL, slug "bad-key". */
int seal_pub_parse(struct span text, struct seal_pub *ret, struct err *e) MUST_CHECK;
/** seal_pub_list() - the keys of a file of recipients: one a line, empty lines and lines with '#' are comments. At most
 * @max are put to @ret. Return: how many; -EINVAL, -E2BIG. */
int seal_pub_list(struct span text, struct seal_pub *ret, size_t max, struct err *e) MUST_CHECK;

/** seal_key_text() - what a key file has, with comments, under @pass when that is not NULL: argon2id, about a second of
 * a processor and 256 MiB; @quick is for tests. Return: 0 or -ENOMEM. */
int seal_key_text(struct seal_key *k, struct secret *pass, bool quick, struct secret **ret) MUST_CHECK;
/** seal_key_parse() - the key of such a file. @pass may be NULL. Return: 0; -ENOKEY, slug "passphrase-needed" or
 * "passphrase-wrong"; -EINVAL "bad-key"; -ENOMEM. */
int seal_key_parse(struct secret *text, struct secret *pass, struct seal_key **ret, struct err *e) MUST_CHECK;
/** seal_key_load() - seal_key_parse() of a file. One that others than its owner may read is refused: -EPERM "key-open".
 * One that is protected by something that is not known here is -EPROTO "key-kind". */
int seal_key_load(const char *path, struct secret *pass, struct seal_key **ret, struct err *e) MUST_CHECK;

/* For the rest of this room: */
/** seal_key_unwrap() - open a sealed box of @len bytes. Return: 0 or -EBADMSG. */
int seal_key_unwrap(struct seal_key *k, const uint8_t *box, size_t len, uint8_t *ret) MUST_CHECK;
/** seal_key_seed() - borrowed; for signing. */
struct secret *seal_key_seed(struct seal_key *k);
/** seal_key_sign_pair() - the Ed25519 secret key of a seed into @ret, 64 bytes, which the caller wipes. */
void seal_key_sign_pair(struct seal_key *k, uint8_t ret[64]);

#endif
