/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NET_NETWORK_H
#define HOST_NET_NETWORK_H

/*
 * The networks of all sandboxes, as the daemon sees them: what each may reach, told to the privileged process, and the
 * names that they ask for, answered on a thread of its own (docs/network.md). Any thread; calls wait for the privileged
 * process.
 */
#include "host/net/policy.h"

struct network;

struct network_conf {
	struct priv *priv;
	uint32_t ranges;
	bool internet;			/* of those that do not say */
	struct policy_private private_; /* borrowed */
	const char *dns;		/* addresses of resolvers, by commas; "": those of /etc/resolv.conf */
};

/** network_new() - Return: 0, also when sandboxes have none here (network_has()); -errno. */
int network_new(const struct network_conf *conf, struct network **ret, struct err *e) MUST_CHECK;
void network_free(struct network **network);
/** network_has() - do sandboxes have one? NULL: no. */
bool network_has(const struct network *n);
/** network_words() - "veth", "pasta" or "none"; @why in words, borrowed. */
const char *network_words(const struct network *n, const char **why);
/** network_default() - what holds for who does not say; network_private() - what may be allowed. */
bool network_default(const struct network *n);
const struct policy_private *network_private(const struct network *n);
/** network_apply() - @p holds for sandbox @id with @range from now on. Return: 0; -errno, then nothing changed. */
int network_apply(struct network *n, uint32_t range, const char *id, const struct policy *p, struct err *e) MUST_CHECK;
/** network_forget() - it is gone. Any lock may be held. */
void network_forget(struct network *n, uint32_t range);

#endif
