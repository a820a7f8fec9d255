/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_BROKER_RULED_H
#define HOST_BROKER_RULED_H

/* The rules of all sandboxes, as the daemon told them, and requests that go by them. One thread. */
#include "host/broker/bind.h"
#include "host/broker/rules.h"

struct ruled;

enum { RULED_MAX = 8192 };

struct ruled *ruled_new(void);
void ruled_free(struct ruled **slot);
/** ruled_set() - in the place of what this sandbox had; empty: it has none. Return: 0; -EINVAL "bad-rules", then it has
 * what it had; -EUSERS. */
int ruled_set(struct ruled *all, const char *sandbox, struct span text, struct err *e) MUST_CHECK;
/** ruled_of() - borrowed; NULL: it has none. */
struct rules *ruled_of(const struct ruled *all, const char *sandbox);

/** ruled_allows() - may requests go by this rule? Not where the sandbox's network does not allow the host. */
bool ruled_allows(struct services *services, const struct rule *r);

/** ruled_bind() - for bind_request(): host and path of @b are known. */
int ruled_bind(struct hold *h, struct services *services, const struct ruled *all, const struct say_who *who,
	       const char *method, struct bound *b, struct err *e) MUST_CHECK;
/** ruled_headers() - the headers of its rule, with the values, which are open. @add: a header in pieces, which are
 * borrowed; what it returns. Return: 0; -E2BIG. */
int ruled_headers(const struct bound *b, int (*add)(void *ctx, const struct span *v, size_t n), void *ctx) MUST_CHECK;

#endif
