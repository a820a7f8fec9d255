/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_HEARD_H
#define HOST_NET_HEARD_H

/*
 * Which names a sandbox was told the addresses of, so that a connection to an address can be asked of a proxy by name.
 * Of two names with one address the last that was told counts. The oldest are forgotten when there are too many.
 */
#include "host/priv/priv.h"

enum { HEARD_ENTRIES_MAX = 1024 };

struct heard {
	struct heard_entry *v;
	size_t n, next;
};

#define HEARD_NULL ((struct heard){ .v = NULL })

void heard_fini(struct heard *t);
void heard_add(struct heard *t, const struct priv_prefix *at, const char *name, uint64_t until);
/** heard_find() - borrowed until the next call; NULL: no name was told. */
const char *heard_find(const struct heard *t, const struct priv_prefix *at);

#endif
