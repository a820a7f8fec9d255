/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SEAL_SEALED_H
#define SEAL_SEALED_H

/*
 * Sealed files, docs/seal-format.md: written and read as streams, in memory that does not grow with them. A sealed file
 * comes in three clothes, binary, lines of text, and one word for a line of an .env file; a reader takes any of them.
 */
#include "seal/policy.h"

#include <sys/types.h>

enum { SEAL_CHUNK = 65536, SEAL_HEADER_MAX = 65536 };

enum seal_form { SEAL_TEXT, SEAL_BINARY, SEAL_WORD };

/* Where bytes come from and go to. read: how many came, 0 at the end, -errno; write: 0 or -errno. */
struct seal_source {
	ssize_t (*read)(void *ctx, void *p, size_t len);
	void *ctx;
};
struct seal_sink {
	int (*write)(void *ctx, struct span data);
	void *ctx;
};

/** seal_source_fd() / seal_sink_fd() - of a descriptor, which is borrowed with its slot. */
struct seal_source seal_source_fd(int *fd);
struct seal_sink seal_sink_fd(int *fd);
/** seal_source_span() - bytes in memory; *@left shrinks. */
struct seal_source seal_source_span(struct span *left);
/** seal_sink_buf() - append to @b. */
struct seal_sink seal_sink_buf(struct buf *b);

struct seal_job {
	const struct seal_policy *policy;
	const struct seal_pub *to; /* one to SEAL_TO_MAX, none twice */
	size_t n_to;
	struct seal_key *signer; /* NULL: unsigned */
	enum seal_form form;
};

/** seal_stream() - seal all of @from. Return: 0; -EINVAL "bad-policy", "bad-key"; what @from and @to say. */
int seal_stream(const struct seal_job *job, struct seal_source from, struct seal_sink to, struct err *e) MUST_CHECK;
/** seal_secret() - seal one value. */
int seal_secret(const struct seal_job *job, struct secret *value, struct buf *to, struct err *e) MUST_CHECK;

struct sealed; /* one that is read */

/** sealed_open() - read the header; @from must stay until sealed_close(). Return: 0; -EBADMSG, slug "damaged";
 * -EPROTONOSUPPORT "unknown-version"; what @from says. */
int sealed_open(struct seal_source from, struct sealed **ret, struct err *e) MUST_CHECK;
void sealed_close(struct sealed **slot);
const struct seal_policy *sealed_policy(const struct sealed *s);
enum seal_form sealed_form(const struct sealed *s);
/** sealed_to() - whom it is sealed to. Return: how many; *@ret is borrowed. */
size_t sealed_to(const struct sealed *s, const struct seal_id **ret);
/** sealed_signer() - who signed it; NULL: nobody. Only sealed_body() and sealed_walk() tell whether that is true. */
const uint8_t *sealed_signer(const struct sealed *s);
/** sealed_body() - open the rest of it into @to (to.write NULL: only verify). All that was written is worth nothing
 * unless this returns 0: whoever gives it to others waits for that. Once. Return: 0; -ENOKEY "wrong-key"; -EBADMSG
 * "damaged"; -EKEYREJECTED "bad-signature"; what source and sink say. */
int sealed_body(struct sealed *s, struct seal_key *k, struct seal_sink to, struct err *e) MUST_CHECK;
/** sealed_walk() - without a key: read to the end, verify the lengths and the signature if there is one. Once.
 * @ret_len: of what is inside. Return: as sealed_body(). */
int sealed_walk(struct sealed *s, uint64_t *ret_len, struct err *e) MUST_CHECK;
/** sealed_value() - sealed_body() of at most @max bytes into a secret. Return: and -E2BIG. */
int sealed_value(struct sealed *s, struct seal_key *k, size_t max, struct secret **ret, struct err *e) MUST_CHECK;

#endif
