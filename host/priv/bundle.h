/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_PRIV_BUNDLE_H
#define HOST_PRIV_BUNDLE_H

/* The description of a sandbox that the runtime reads. */
#include "base/buf.h"
#include "host/priv/json.h"

#include <stdbool.h>
#include "host/priv/priv.h"

#include <stdint.h>

enum { BUNDLE_OOM_SCORE = 500 };

struct bundle {
	const char *id;	  /* also the host name */
	const char *root; /* absolute paths on the host, in the namespace of the maker */
	const char *workspace;
	const char *agent;
	const char *userns; /* path of the user namespace to join */
	const char *netns;  /* of the network namespace; NULL: a new one with a loopback alone */
	const char *box; /* in which the volumes are, vol0 and on */
	const struct priv_volume *volumes;
	uint32_t n_volumes;
	uint32_t uid_base;
	uint64_t memory_b;
	bool fanotify, oom; /* descriptors 5 and 6 are there */
};

/** bundle_write() - append the whole of config.json to @b. Return: 0 or -E2BIG, -ENOMEM. */
int bundle_write(const struct bundle *bundle, struct buf *b) MUST_CHECK;
/** profile_write() - append the member "seccomp": which system calls programs inside may make. */
void profile_write(struct json *j);

#endif
